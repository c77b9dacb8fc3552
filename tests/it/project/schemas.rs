//! Custom resource definitions, as a cluster applies them to what `kubectl apply` sends.

use jsonschema::Validator;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Kind and version, and what validates it.
pub(crate) struct Schemas(BTreeMap<(String, String), Validator>);

impl Schemas {
    /// Of these kinds, from a file of definitions.
    pub(crate) fn read(file: &Path, kinds: &[&str]) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let mut schemas = BTreeMap::new();
        for document in serde_norway::Deserializer::from_str(&text) {
            let Value::Object(definition) = Value::deserialize(document).unwrap() else { continue };
            let spec = &definition["spec"];
            let Some(kind) = spec["names"]["kind"].as_str().filter(|kind| kinds.contains(kind)) else {
                continue;
            };
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
        for kind in kinds {
            assert!(schemas.keys().any(|(_, own)| own == kind), "no definition of {kind}");
        }
        Self(schemas)
    }

    pub(crate) fn errors(&self, manifest: &Value) -> Vec<String> {
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
