//! The manifests for Istio: what its own schemas say of them, what the command-line tool says, and
//! what Envoy does with what Istio generates from them.

mod schemas;
mod tutorial;

use crate::core::cli;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::fs;

pub(crate) const KINDS: [(&str, &str); 2] =
    [("wasmplugin", "WasmPlugin"), ("trafficextension", "TrafficExtension")];

pub(crate) fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(cli::root().join(format!("examples/istio/{file}.yaml"))).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

pub(crate) fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Vec<&'d Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// The `spec` of a `WasmPlugin`; of a `TrafficExtension` what is below its `wasm` comes up, which
/// is how they differ.
pub(crate) fn flat(plugin: &Value) -> Value {
    let mut spec = plugin["spec"].clone();
    if let Some(Value::Object(below)) = spec.as_object_mut().unwrap().remove("wasm") {
        spec.as_object_mut().unwrap().extend(below);
    }
    spec
}

#[test]
fn both_kinds_say_the_same() {
    let [old, new] = KINDS.map(|(file, kind)| {
        let documents = documents(file);
        let plugins: Vec<Value> =
            of_kind(&documents, kind).into_iter().map(|own| json!([own["metadata"], flat(own)])).collect();
        let others: Vec<Value> = documents.into_iter().filter(|own| own["kind"] != kind).collect();
        assert_eq!((plugins.len(), others.len()), (2, 2), "{file}");
        (plugins, others)
    });
    assert_eq!(old, new);
}

#[test]
fn each_direction_has_its_plugin_and_neither_fails_open() {
    let documents = documents("wasmplugin");
    let plugins = of_kind(&documents, "WasmPlugin");
    for (plugin, mode, direction) in [(plugins[0], "SERVER", "inbound"), (plugins[1], "CLIENT", "outbound")] {
        let spec = &plugin["spec"];
        assert_eq!(spec["match"], json!([{ "mode": mode }]));
        assert_eq!(spec["failStrategy"], "FAIL_RELOAD");
        assert_eq!(spec["pluginName"], format!("m2m_auth_{direction}"));
        assert!(spec["pluginConfig"].get(direction).is_some());
        assert_eq!(spec["url"], format!("oci://{}", m2m_auth_oci::IMAGE));
        assert_eq!(spec["sha256"], m2m_auth_oci::DIGEST);
        for variable in spec["vmConfig"]["env"].as_array().unwrap() {
            assert_eq!(
                variable["valueFrom"], "HOST",
                "a value would stand in the cluster's store and in every dump"
            );
            assert!(variable.get("value").is_none());
        }
    }
    // Envoy before 1.39 gives the second of them the environment of the first.
    assert_eq!(plugins[0]["spec"]["vmConfig"], plugins[1]["spec"]["vmConfig"]);
}

#[test]
fn the_plugins_cluster_is_the_entrys_port_that_tls_is_made_for() {
    let documents = documents("wasmplugin");
    let entry = &of_kind(&documents, "ServiceEntry")[0]["spec"];
    let rule = &of_kind(&documents, "DestinationRule")[0]["spec"];
    let host = entry["hosts"][0].as_str().unwrap();
    assert_eq!(rule["host"], host);
    let level = &rule["trafficPolicy"]["portLevelSettings"][0];
    assert_eq!((&level["tls"]["mode"], &level["tls"]["sni"]), (&json!("SIMPLE"), &json!(host)));
    let port = &level["port"]["number"];
    let ports = entry["ports"].as_array().unwrap();
    let known = ports.iter().find(|known| known["number"] == *port).unwrap();
    assert_eq!((&known["protocol"], &known["targetPort"]), (&json!("HTTP"), &json!(443)));
    for plugin in of_kind(&documents, "WasmPlugin") {
        let issuer = &plugin["spec"]["pluginConfig"]["issuers"]["keycloak"];
        assert_eq!(issuer["cluster"], format!("outbound|{port}||{host}"));
        assert!(issuer["issuer"].as_str().unwrap().starts_with(&format!("https://{host}/")));
    }
}

#[test]
fn the_command_line_tool_takes_them() {
    let files = KINDS.map(|(file, _)| format!("examples/istio/{file}.yaml"));
    let ran = cli::run(&["check", &files[0], &files[1]]);
    let expected: String = files
        .iter()
        .flat_map(|file| {
            [
                "m2m-auth-inbound: OK (needs M2M_AUTH_SHARING_KEY)",
                "m2m-auth-outbound: OK (needs INVENTORY_SERVICE_SECRET, M2M_AUTH_SHARING_KEY)",
            ]
            .map(|line| format!("{file}: {line}\n"))
        })
        .collect();
    assert_eq!((ran.code, ran.says), (0, expected));
}
