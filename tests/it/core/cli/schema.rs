//! The schema and the manual are those of the code, and the schema takes what the filter takes.

use super::{root, run};
use crate::core::{config, sim};
use serde_json::{Value, json};
use std::fs;

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("envoy/config.schema.json")).unwrap()).unwrap()
}

#[test]
fn the_schema_and_the_manual_are_not_stale() {
    for (file, arguments) in [
        ("envoy/config.schema.json", &["schema"][..]),
        ("docs/reference/configuration.md", &["schema", "--markdown"]),
        ("docs/reference/reasons.md", &["reasons", "--markdown"]),
    ] {
        let there = fs::read_to_string(root().join(file)).unwrap();
        assert!(run(arguments).says == there, "{file} is stale: run `make schema`");
    }
}

/// Every plugin configuration in the repository's own files, and the tests' sound ones.
fn good() -> Vec<(String, Value)> {
    let mut good = vec![
        ("config".to_owned(), config::sound()),
        ("both".to_owned(), sim::world::both()),
        ("without discovery".to_owned(), sim::world::without_discovery(sim::world::both())),
    ];
    let mut files = vec![root().join("envoy/envoy.yaml"), root().join("tests/data/cli/config.yaml")];
    files.extend(fs::read_dir(root().join("examples/envoy")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files {
        let document = serde_norway::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut found = Vec::new();
        configurations(&document, &mut found);
        assert!(!found.is_empty(), "{}", file.display());
        good.extend(found.into_iter().map(|own| (file.display().to_string(), own)));
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for block in readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        configurations(&serde_norway::from_str(block).unwrap(), &mut Vec::new());
        let example: Value = serde_norway::from_str(block).unwrap();
        if example.get("issuers").is_some() {
            good.push((block.to_owned(), example));
        }
    }
    good
}

fn configurations(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(members) if members.contains_key("issuers") => found.push(value.clone()),
        Value::Object(members) => members.values().for_each(|value| configurations(value, found)),
        Value::Array(elements) => elements.iter().for_each(|value| configurations(value, found)),
        _ => {}
    }
}

#[test]
fn the_schema_takes_every_good_configuration() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, configuration) in good() {
        let errors: Vec<String> = validator
            .iter_errors(&configuration)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn the_schema_refuses_every_unknown_member_and_what_is_of_the_wrong_type() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut refused = 0;
    for case in config::cases() {
        // Of these two kinds; `check` reports what a schema cannot express.
        if [
            ": unknown, expected one of",
            ", expected an object",
            ", expected a boolean",
            ", expected a string",
            ", expected an array",
        ]
        .iter()
        .any(|kind| case.says.contains(kind))
        {
            assert!(!validator.is_valid(&case.configuration), "{}", case.says);
            refused += 1;
        }
    }
    assert!(refused > 5, "{refused}");
    for (_, configuration) in good() {
        let mut misspelt = configuration;
        misspelt["isuers"] = json!({});
        assert!(!validator.is_valid(&misspelt));
    }
}

#[test]
fn every_member_is_described() {
    let schema = schema();
    let types = schema["$defs"].as_object().unwrap().iter().map(|(name, own)| (name.as_str(), own));
    let mut members = 0;
    for (name, own) in types.chain([("Config", &schema)]) {
        // The values that are written by hand are described as a whole.
        let derived = own["properties"].as_object().filter(|_| name != "SecretSource");
        for (member, says) in derived.into_iter().flatten() {
            members += 1;
            assert!(says["description"].as_str().is_some_and(|text| text.len() > 5), "{name}.{member}");
        }
    }
    assert!(members > 50, "{members}");
}
