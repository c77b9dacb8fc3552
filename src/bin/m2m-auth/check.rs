//! `check`: every error of every configuration and of its deployment, with file, plugin and path.

use crate::deployment::DeployedPlugin;
use crate::document::{self, PluginConfig};
use crate::environment;
use crate::finding::{Finding, FindingName, Severity};
use crate::{CommandError, CommandOutput, EXIT_UNDETERMINED, Format, read};
use m2m_auth::config::errors::ConfigError;
use m2m_auth::config::path_deserializer::Path;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Report every error of a configuration, and of its deployment in Envoy or Istio: that it fails
/// open, never runs, or sends secrets in plain text. Reads Envoy's configuration (bootstrap,
/// listener, cluster, `/config_dump`), Istio's manifests (`WasmPlugin`, `TrafficExtension`,
/// `EnvoyFilter`) and Envoy Gateway's, or the bare configuration, YAML or JSON.
///
/// Exit code: 0 OK, 1 errors, 2 cannot be determined: a file cannot be read or has no configuration
/// of this filter.
#[derive(clap::Args)]
#[command(
    after_help = "Nothing is fetched, and no key set is needed. To explain a decision with a key set: m2m-auth explain --help"
)]
pub(crate) struct CheckArguments {
    /// The files; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Environment variables that the configuration names must be set here. Default: they are
    /// assumed to be set.
    #[arg(long)]
    env_strict: bool,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
    /// Accept this finding; may be given several times.
    #[arg(long, value_name = "NAME")]
    allow: Vec<FindingName>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result for one file.
struct File<'a> {
    name: &'a str,
    plugins: Result<Vec<Checked>, String>,
    others: Vec<String>,
}

struct Checked {
    plugin: PluginConfig,
    errors: Vec<ConfigError>,
    findings: Vec<Finding>,
    needs: Vec<String>,
}

pub(crate) fn run(arguments: &CheckArguments) -> CommandOutput {
    let files: Vec<File<'_>> = arguments.files.iter().map(|name| file(name, arguments)).collect();
    let undetermined = files.iter().any(|file| file.plugins.is_err());
    let has_errors =
        files.iter().flat_map(|file| file.plugins.iter().flatten()).any(|plugin| !plugin.is_ok());
    let code = if undetermined { EXIT_UNDETERMINED } else { u8::from(has_errors) };
    let output = match arguments.format {
        Format::Json => {
            json!({ "ok": code == 0, "files": files.iter().map(File::json).collect::<Vec<_>>() }).to_string()
                + "\n"
        }
        Format::Text => files.iter().map(File::text).collect(),
    };
    CommandOutput { output, code }
}

fn file<'a>(name: &'a str, arguments: &CheckArguments) -> File<'a> {
    let found = read(name).map_err(|CommandError(why)| why).and_then(|text| document::find(&text));
    let (plugins, others) = match found {
        Err(why) => (Err(why), Vec::new()),
        Ok(found) if found.plugins.is_empty() => (
            Err("no configuration of this filter, expected Envoy's, Istio's or a bare one".to_owned()),
            found.others,
        ),
        Ok(found) => {
            let checked = |plugin: PluginConfig| {
                let document = found.documents.get(plugin.document).unwrap_or(&Value::Null);
                Checked::of(plugin, document, arguments)
            };
            (Ok(found.plugins.into_iter().map(checked).collect()), found.others)
        }
    };
    File { name, plugins, others }
}

impl Checked {
    fn of(plugin: PluginConfig, document: &Value, arguments: &CheckArguments) -> Self {
        let (policy, errors, needs) = match &plugin.configuration {
            Err(why) => (None, vec![ConfigError::new(&Path::default(), why.clone())], Vec::new()),
            Ok(configuration) => {
                let read = environment::read(&plugin, configuration, arguments.env_strict);
                match read.policy {
                    Err(errors) => (None, errors, read.needs),
                    Ok(policy) => {
                        let vm_id = plugin.vm_id.as_deref().map(str::as_bytes);
                        let errors = policy.sharing_scope(vm_id).err().into_iter().collect();
                        (Some(policy), errors, read.needs)
                    }
                }
            }
        };
        let bytes = plugin.configuration.as_deref().unwrap_or_default();
        let configuration = serde_json::from_slice(bytes).unwrap_or_default();
        let deployed = DeployedPlugin {
            document,
            plugin: &plugin,
            configuration: &configuration,
            policy: policy.as_ref(),
        };
        let mut findings = deployed.findings();
        findings.retain(|finding| !arguments.allow.contains(&finding.name));
        if arguments.strict {
            for finding in &mut findings {
                finding.severity = Severity::Error;
            }
        }
        Self { plugin, errors, findings, needs }
    }

    fn is_ok(&self) -> bool {
        self.errors.is_empty() && self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

impl File<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        match &self.plugins {
            Err(why) => {
                let name = format!("{}: ", self.name);
                _ = writeln!(text, "{name}{}", why.trim_start_matches(&name));
            }
            Ok(plugins) => plugins.iter().for_each(|plugin| plugin.text(self.name, &mut text)),
        }
        for other in &self.others {
            _ = writeln!(text, "{}: {other}: skipped, configuration of another filter", self.name);
        }
        text
    }

    fn json(&self) -> Value {
        let plugins: Vec<Value> = self.plugins.iter().flatten().map(Checked::json).collect();
        json!({ "file": self.name, "error": self.plugins.as_ref().err(), "plugins": plugins, "passed_over": self.others })
    }
}

impl Checked {
    fn text(&self, file: &str, text: &mut String) {
        let name =
            if self.plugin.name.is_empty() { String::new() } else { format!("{}: ", self.plugin.name) };
        if self.is_ok() {
            let needs = if self.needs.is_empty() {
                String::new()
            } else {
                format!(" (needs {})", self.needs.join(", "))
            };
            _ = writeln!(text, "{file}: {name}OK{needs}");
        }
        for error in &self.errors {
            _ = writeln!(text, "{file}: {name}{error}");
        }
        for Finding { name: kind, severity, path, message } in &self.findings {
            let (severity, kind) = (severity.label(), kind.label());
            _ = writeln!(text, "{file}: {name}{severity}: {path}: {message} [{kind}]");
        }
    }

    fn json(&self) -> Value {
        let errors = self
            .errors
            .iter()
            .map(|error| json!({ "path": error.path.to_string(), "message": error.message }));
        json!({
            "plugin": self.plugin.name,
            "at": self.plugin.at(),
            "ok": self.is_ok(),
            "errors": errors.collect::<Vec<_>>(),
            "findings": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "environment": self.needs,
        })
    }
}
