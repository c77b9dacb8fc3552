//! `check`: every mistake of every configuration, with its file, its plugin and its place.

use crate::document::{self, Plugin};
use crate::environment;
use crate::{Done, Failed, Format, UNDONE, read};
use m2m_auth::located::Path;
use m2m_auth::mistake::Mistake;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Tell every mistake of a configuration: of Envoy (bootstrap, listener, cluster, `/config_dump`), of Istio (`WasmPlugin`,
/// `TrafficExtension`), or bare; YAML or JSON.
///
/// Exit code: 0 all is well, 1 there are mistakes, 2 a file cannot be read or holds no configuration of this filter.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The files; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Environment variables that the configuration names must be set here. Without it they are taken as set.
    #[arg(long)]
    env_strict: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What was found in one file.
struct File<'a> {
    name: &'a str,
    plugins: Result<Vec<Checked>, String>,
    others: Vec<String>,
}

struct Checked {
    plugin: Plugin,
    mistakes: Vec<Mistake>,
    needs: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let files: Vec<File<'_>> = arguments.files.iter().map(|name| file(name, arguments.env_strict)).collect();
    let undone = files.iter().any(|file| file.plugins.is_err());
    let wrong =
        files.iter().flat_map(|file| file.plugins.iter().flatten()).any(|own| !own.mistakes.is_empty());
    let code = if undone { UNDONE } else { u8::from(wrong) };
    let says = match arguments.format {
        Format::Json => {
            json!({ "ok": code == 0, "files": files.iter().map(File::json).collect::<Vec<_>>() }).to_string()
                + "\n"
        }
        Format::Text => files.iter().map(File::text).collect(),
    };
    Done { says, code }
}

fn file(name: &str, strict: bool) -> File<'_> {
    let found = read(name).map_err(|Failed(why)| why).and_then(|text| document::find(&text));
    let (plugins, others) = match found {
        Err(why) => (Err(why), Vec::new()),
        Ok(found) if found.plugins.is_empty() => (
            Err("no configuration of this filter, expected Envoy's, Istio's or the bare one".to_owned()),
            found.others,
        ),
        Ok(found) => {
            (Ok(found.plugins.into_iter().map(|plugin| Checked::of(plugin, strict)).collect()), found.others)
        }
    };
    File { name, plugins, others }
}

impl Checked {
    fn of(plugin: Plugin, strict: bool) -> Self {
        let (mistakes, needs) = match &plugin.configuration {
            Err(why) => (vec![Mistake::new(&Path::default(), why.clone())], Vec::new()),
            Ok(configuration) => {
                let read = environment::read(&plugin, configuration, strict);
                let vm_id = plugin.vm_id.as_deref().map(str::as_bytes);
                let told =
                    read.policy.and_then(|policy| policy.reach(vm_id).map_err(|mistake| vec![mistake]));
                (told.err().unwrap_or_default(), read.needs)
            }
        };
        Self { plugin, mistakes, needs }
    }
}

impl File<'_> {
    fn text(&self) -> String {
        let mut says = String::new();
        match &self.plugins {
            Err(why) => {
                let name = format!("{}: ", self.name);
                _ = writeln!(says, "{name}{}", why.trim_start_matches(&name));
            }
            Ok(plugins) => plugins.iter().for_each(|own| own.text(self.name, &mut says)),
        }
        for other in &self.others {
            _ = writeln!(says, "{}: {other}: another filter's, passed over", self.name);
        }
        says
    }

    fn json(&self) -> Value {
        let plugins: Vec<Value> = self.plugins.iter().flatten().map(Checked::json).collect();
        json!({ "file": self.name, "error": self.plugins.as_ref().err(), "plugins": plugins, "passed_over": self.others })
    }
}

impl Checked {
    fn text(&self, file: &str, says: &mut String) {
        let name =
            if self.plugin.name.is_empty() { String::new() } else { format!("{}: ", self.plugin.name) };
        if self.mistakes.is_empty() {
            let needs = if self.needs.is_empty() {
                String::new()
            } else {
                format!(" (needs {})", self.needs.join(", "))
            };
            _ = writeln!(says, "{file}: {name}good{needs}");
        }
        for mistake in &self.mistakes {
            _ = writeln!(says, "{file}: {name}{mistake}");
        }
    }

    fn json(&self) -> Value {
        let mistakes =
            self.mistakes.iter().map(|own| json!({ "path": own.path.to_string(), "fault": own.fault }));
        json!({
            "plugin": self.plugin.name,
            "at": self.plugin.at,
            "ok": self.mistakes.is_empty(),
            "mistakes": mistakes.collect::<Vec<_>>(),
            "environment": self.needs,
        })
    }
}
