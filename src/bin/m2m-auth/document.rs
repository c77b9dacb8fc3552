//! Finds plugin configurations in Envoy's configuration, in Istio's manifests, or in a bare
//! document.
//!
//! In: one or several documents, YAML or JSON. Out: each configuration of this filter, with its
//! path. Other Wasm plugins are listed only by name. A plugin is this filter if its `name`, its
//! `root_id` or its module's file or URL contains `m2m_auth` or `m2m-auth`, or if its configuration
//! has a member `issuers`, `inbound` or `outbound`.

use crate::proto::{fields, located, string, type_of};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use m2m_auth::config::path_deserializer::Path;
use serde::Deserialize as _;
use serde_json::{Map, Value};

/// The platform that reads a plugin's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Envoy, by `envoy.extensions.wasm.v3.PluginConfig`.
    Envoy,
    /// Istio, by a manifest.
    Istio,
    /// Envoy Gateway, by an `EnvoyExtensionPolicy`.
    EnvoyGateway,
    /// The document is the filter's own configuration.
    Bare,
}

/// One plugin.
pub(crate) struct PluginConfig {
    /// `name` (Istio: the manifest's), or empty.
    pub name: String,
    pub host: Platform,
    /// The index of its document in the file.
    pub document: usize,
    /// The path of the object that contains the configuration: `PluginConfig`, the manifest's
    /// `spec`, an element of its `wasm`.
    pub settings: Path,
    /// The path of its configuration in the document.
    pub at: Path,
    /// The configuration as passed to the filter, or the error if there is none.
    pub configuration: Result<Vec<u8>, String>,
    /// The environment variables that Envoy passes on, with their values if the document has them.
    /// `None`: unknown.
    pub passes: Option<Vec<(String, Option<String>)>>,
    /// `vm_id`, if the document has it.
    pub vm_id: Option<String>,
}

impl PluginConfig {
    /// The path of its configuration; empty if it is the whole document.
    pub(crate) fn at(&self) -> String {
        if self.at.steps().is_empty() { String::new() } else { self.at.to_string() }
    }
}

/// The content of a file.
#[derive(Default)]
pub(crate) struct FoundPlugins {
    /// The documents of the file.
    pub documents: Vec<Value>,
    /// Plugins of this filter.
    pub plugins: Vec<PluginConfig>,
    /// The names of other Wasm plugins.
    pub others: Vec<String>,
}

/// Every plugin configuration in a file's content.
pub(crate) fn find(text: &str) -> Result<FoundPlugins, String> {
    let mut found = FoundPlugins::default();
    for mut document in documents(text)? {
        once(&mut document);
        let before = found.plugins.len() + found.others.len();
        walk(&document, &Path::default(), &mut found);
        if found.plugins.len() + found.others.len() == before && is_bare(&document) {
            found.plugins.push(PluginConfig {
                name: String::new(),
                host: Platform::Bare,
                document: found.documents.len(),
                settings: Path::default(),
                at: Path::default(),
                configuration: Ok(document.to_string().into_bytes()),
                passes: None,
                vm_id: None,
            });
        }
        found.documents.push(document);
    }
    Ok(found)
}

/// `/config_dump` has static resources twice: in the bootstrap, and among the listeners and
/// clusters. Removes the bootstrap.
fn once(document: &mut Value) {
    let Some(dumps) = document.get_mut("configs").and_then(Value::as_array_mut) else { return };
    let has = |dumps: &[Value], kind: &str| dumps.iter().any(|dump| type_of(dump) == kind);
    if has(dumps, "ListenersConfigDump") && has(dumps, "ClustersConfigDump") {
        dumps
            .iter_mut()
            .filter(|dump| type_of(dump) == "BootstrapConfigDump")
            .for_each(|dump| *dump = Value::Null);
    }
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with('{') {
        // The filter's own parser rejects duplicate members.
        if let Ok(json) = m2m_auth::json::parse(text.as_bytes()) {
            return Ok(vec![json]);
        }
    }
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let yaml = serde_norway::Value::deserialize(document).map_err(|error| error.to_string())?;
        let json = serde_json::to_value(yaml).map_err(|error| error.to_string())?;
        if !json.is_null() {
            documents.push(json);
        }
    }
    if documents.is_empty() { Err("the file is empty".to_owned()) } else { Ok(documents) }
}

/// Whether an object is neither Envoy's nor Kubernetes', so that a misspelt field is reported.
fn is_bare(document: &Value) -> bool {
    let foreign = ["static_resources", "staticResources", "dynamic_resources", "admin", "kind", "configs"];
    document.as_object().is_some_and(|members| !foreign.iter().any(|name| members.contains_key(*name)))
}

fn walk(value: &Value, path: &Path, found: &mut FoundPlugins) {
    match value {
        Value::Object(members) => {
            if let Some(vm) = member(members, "vm_config", "vmConfig")
                .filter(|_| members.contains_key("configuration") || is_named(members))
            {
                take(
                    envoys(members, vm, path, found.documents.len()),
                    is_named(members) || vm_is_named(vm),
                    found,
                );
            } else if let Some(plugin) = istios(members, path, found.documents.len()) {
                take(plugin, members.get("spec").is_some_and(says_m2m_auth), found);
            } else if members.get("kind").is_some_and(|kind| kind == "EnvoyExtensionPolicy") {
                for (path, wasm) in fields(value, "spec")
                    .into_iter()
                    .flat_map(|spec| located(spec, &path.name("spec"), "wasm"))
                {
                    take(gateways(wasm, path, found.documents.len()), says_m2m_auth(wasm), found);
                }
            } else {
                members.iter().for_each(|(name, value)| walk(value, &path.name(name), found));
            }
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, value)| walk(value, &path.index(index), found));
        }
        _ => {}
    }
}

fn take(plugin: PluginConfig, named: bool, found: &mut FoundPlugins) {
    let shaped = plugin.configuration.as_deref().is_ok_and(|bytes| {
        let members = ["issuers", "inbound", "outbound"];
        serde_json::from_slice::<Value>(bytes)
            .is_ok_and(|json| members.iter().any(|name| json.get(name).is_some()))
    });
    if named || shaped {
        found.plugins.push(plugin);
    } else {
        found.others.push(plugin.name);
    }
}

/// `envoy.extensions.wasm.v3.PluginConfig`.
fn envoys(members: &Map<String, Value>, vm: &Value, path: &Path, document: usize) -> PluginConfig {
    let vm = vm.as_object();
    let variables =
        vm.and_then(|vm| member(vm, "environment_variables", "environmentVariables")?.as_object());
    let keys = variables.and_then(|variables| member(variables, "host_env_keys", "hostEnvKeys")?.as_array());
    let values = variables.and_then(|variables| member(variables, "key_values", "keyValues")?.as_object());
    let passed = texts(keys).map(|name| (name, None));
    let given =
        values.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)));
    let vm_id = vm.and_then(|vm| member(vm, "vm_id", "vmId")?.as_str()).unwrap_or_default();
    PluginConfig {
        name: text(members, "name"),
        host: Platform::Envoy,
        document,
        settings: path.clone(),
        at: path.name("configuration"),
        configuration: members.get("configuration").map_or_else(|| Err("missing".to_owned()), any),
        passes: Some(passed.chain(given).collect()),
        vm_id: Some(vm_id.to_owned()),
    }
}

/// `google.protobuf.Any` of a `StringValue`, a `BytesValue` or a `Struct`.
fn any(configuration: &Value) -> Result<Vec<u8>, String> {
    let kind = configuration.get("@type").and_then(Value::as_str).unwrap_or_default();
    let value = configuration.get("value");
    match (kind.rsplit('.').next().unwrap_or_default(), value) {
        ("Struct", Some(value @ Value::Object(_))) => Ok(value.to_string().into_bytes()),
        ("StringValue", Some(Value::String(text))) => Ok(text.clone().into_bytes()),
        ("BytesValue", Some(Value::String(text))) => {
            STANDARD.decode(text).map_err(|_| "a BytesValue that is not base64".to_owned())
        }
        (kind, _) => {
            Err(format!("{kind:?}, expected a StringValue, a BytesValue or a Struct with its value"))
        }
    }
}

/// `WasmPlugin`, or the `TrafficExtension` that supersedes it.
fn istios(members: &Map<String, Value>, path: &Path, document: usize) -> Option<PluginConfig> {
    let (spec, path) = (members.get("spec")?, path.name("spec"));
    let (spec, path) = match members.get("kind")?.as_str()? {
        "WasmPlugin" => (spec.as_object()?, path),
        "TrafficExtension" => (spec.get("wasm")?.as_object()?, path.name("wasm")),
        _ => return None,
    };
    let name = members.get("metadata").and_then(Value::as_object).map(|metadata| text(metadata, "name"));
    let variables = spec.get("vmConfig").and_then(|vm| vm.get("env")?.as_array());
    let passes = variables.into_iter().flatten().filter_map(|variable| {
        let name = variable.get("name")?.as_str()?.to_owned();
        let host = variable.get("valueFrom").is_some_and(|from| from == "HOST");
        let value = variable.get("value").and_then(Value::as_str).map(str::to_owned);
        Some((name, if host { None } else { Some(value.unwrap_or_default()) }))
    });
    Some(PluginConfig {
        name: name.unwrap_or_default(),
        host: Platform::Istio,
        document,
        at: path.name("pluginConfig"),
        settings: path,
        configuration: spec
            .get("pluginConfig")
            .map_or_else(|| Err("missing".to_owned()), |config| Ok(config.to_string().into_bytes())),
        passes: Some(passes.collect()),
        // Istio gives every plugin the empty one.
        vm_id: Some(String::new()),
    })
}

/// An element of the `wasm` of Envoy Gateway's `EnvoyExtensionPolicy`.
fn gateways(wasm: &Value, path: Path, document: usize) -> PluginConfig {
    let passed = fields(wasm, "env.host_keys").and_then(Value::as_array);
    PluginConfig {
        name: string(wasm, "name").to_owned(),
        host: Platform::EnvoyGateway,
        document,
        at: path.name("config"),
        settings: path,
        configuration: wasm
            .get("config")
            .map_or_else(|| Err("missing".to_owned()), |config| Ok(config.to_string().into_bytes())),
        passes: Some(texts(passed).map(|name| (name, None)).collect()),
        // It gives each plugin its own.
        vm_id: Some("envoy-gateway".to_owned()),
    }
}

fn is_named(members: &Map<String, Value>) -> bool {
    ["name", "root_id", "rootId"].iter().any(|name| members.get(*name).is_some_and(says_m2m_auth))
}

fn vm_is_named(vm: &Value) -> bool {
    vm.get("code").is_some_and(says_m2m_auth)
}

/// Whether it mentions this filter, outside of its plugin configuration.
fn says_m2m_auth(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("m2m_auth") || text.contains("m2m-auth"),
        Value::Array(elements) => elements.iter().any(says_m2m_auth),
        Value::Object(members) => {
            let configuration = ["pluginConfig", "config"];
            members
                .iter()
                .any(|(name, value)| !configuration.contains(&name.as_str()) && says_m2m_auth(value))
        }
        _ => false,
    }
}

/// A member, by either of its spellings in protocol buffers.
fn member<'v>(members: &'v Map<String, Value>, snake: &str, camel: &str) -> Option<&'v Value> {
    members.get(snake).or_else(|| members.get(camel))
}

fn text(members: &Map<String, Value>, name: &str) -> String {
    members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(list: Option<&Vec<Value>>) -> impl Iterator<Item = String> {
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}
