//! Istio's custom resource definitions, as a cluster applies them to what `kubectl apply` sends.

use super::{KINDS, documents};
use jsonschema::Validator;
use m2m_auth_kit::tools::istio_crds;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;

/// Kind and version, and what validates it.
struct Schemas(BTreeMap<(String, String), Validator>);

impl Schemas {
    fn of_istio() -> Self {
        let text = fs::read_to_string(istio_crds()).unwrap();
        let mut schemas = BTreeMap::new();
        for document in serde_norway::Deserializer::from_str(&text) {
            let Value::Object(definition) = Value::deserialize(document).unwrap() else { continue };
            let spec = &definition["spec"];
            let kind = spec["names"]["kind"].as_str().unwrap();
            if !["WasmPlugin", "TrafficExtension", "ServiceEntry", "DestinationRule"].contains(&kind) {
                continue;
            }
            for version in spec["versions"].as_array().unwrap() {
                assert_eq!(version["served"], true);
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                closed(&mut schema);
                for (member, own) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
                    schema["properties"][member] = json!({ "type": own });
                }
                let api =
                    format!("{}/{}", spec["group"].as_str().unwrap(), version["name"].as_str().unwrap());
                schemas.insert((api, kind.to_owned()), jsonschema::validator_for(&schema).unwrap());
            }
        }
        Self(schemas)
    }

    fn errors(&self, manifest: &Value) -> Vec<String> {
        let text = |name: &str| manifest[name].as_str().unwrap().to_owned();
        let Some(validator) = self.0.get(&(text("apiVersion"), text("kind"))) else {
            return vec![format!("no kind {} of {}", text("kind"), text("apiVersion"))];
        };
        validator.iter_errors(manifest).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

/// A cluster rejects a member that is not in the schema (`kubectl` requests it,
/// `--validate=strict`); JSON Schema has to be configured so.
fn closed(schema: &mut Value) {
    let Value::Object(members) = schema else {
        if let Value::Array(elements) = schema {
            elements.iter_mut().for_each(closed);
        }
        return;
    };
    if members.get("type") == Some(&json!("object"))
        && members.contains_key("properties")
        && members.get("x-kubernetes-preserve-unknown-fields") != Some(&json!(true))
    {
        members.insert("additionalProperties".to_owned(), json!(false));
    }
    if members.get("nullable") == Some(&json!(true)) {
        let kind = members["type"].clone();
        members.insert("type".to_owned(), json!([kind, "null"]));
    }
    members.values_mut().for_each(closed);
}

#[test]
fn istios_own_schemas_allow_every_manifest() {
    let schemas = Schemas::of_istio();
    for (file, _) in KINDS {
        for document in documents(file) {
            assert_eq!(schemas.errors(&document), Vec::<String>::new(), "{file}: {}", document["kind"]);
            let names = document["metadata"].as_object().map(Map::len);
            assert_eq!(names, Some(2), "a name and a namespace");
        }
    }
}

/// Proves that the check can fail.
#[test]
fn and_refuse_what_could_be_wrong_with_them() {
    let schemas = Schemas::of_istio();
    for (kind, pointer, member, wrong) in [
        ("WasmPlugin", "/spec", "failstrategy", json!("FAIL_RELOAD")),
        ("WasmPlugin", "/spec", "failStrategy", json!("FAIL_CLOSED")),
        ("WasmPlugin", "/spec", "sha256", json!("abc")),
        ("WasmPlugin", "/spec", "phase", json!("FIRST")),
        ("WasmPlugin", "/spec", "url", json!("")),
        ("WasmPlugin", "/spec/match/0", "mode", json!("INBOUND")),
        ("WasmPlugin", "/spec/vmConfig/env/0", "valueFrom", json!("SECRET")),
        ("WasmPlugin", "/spec/vmConfig/env/0", "secretKeyRef", json!({})),
        ("TrafficExtension", "/spec", "url", json!("oci://x")),
        ("TrafficExtension", "/spec", "lua", json!({ "inlineCode": "x" })),
        ("TrafficExtension", "/spec/wasm", "failStrategy", json!("FAIL_CLOSED")),
        ("TrafficExtension", "/spec/wasm", "sha256", json!("ABC")),
        ("TrafficExtension", "/spec/wasm", "pluginConfig", json!("a string")),
        ("ServiceEntry", "/spec", "resolution", json!("dns")),
        ("ServiceEntry", "/spec/ports/0", "number", json!("80")),
        ("DestinationRule", "/spec/trafficPolicy/portLevelSettings/0/tls", "mode", json!("TLS")),
        ("DestinationRule", "/spec/trafficPolicy/portLevelSettings/0", "sni", json!("x")),
        ("DestinationRule", "", "apiVersion", json!("networking.istio.io/v2")),
    ] {
        let file = if kind == "TrafficExtension" { "trafficextension" } else { "wasmplugin" };
        let mut manifest = documents(file).into_iter().find(|own| own["kind"] == kind).unwrap();
        manifest.pointer_mut(pointer).unwrap()[member] = wrong;
        assert!(!schemas.errors(&manifest).is_empty(), "{kind} {pointer} {member}");
    }
}
