//! `docs/explanation/why-these-defaults.md` has the default of every setting, as the schema has it.

use super::tree::{code, read, rows};
use serde_json::Value;
use std::collections::BTreeSet;

const DOCUMENT: &str = "docs/explanation/why-these-defaults.md";

fn schema() -> Value {
    serde_json::from_str(&read("envoy/config.schema.json")).unwrap()
}

/// What a schema refers to, with the name of that definition.
fn resolved<'s>(schema: &'s Value, node: &'s Value) -> (&'s str, &'s Value) {
    match node["$ref"].as_str() {
        Some(reference) => {
            let target = schema.pointer(reference.trim_start_matches('#')).unwrap();
            (reference.rsplit('/').next().unwrap(), target)
        }
        None => ("", node),
    }
}

/// The schema of a setting, `inbound.rules[].mode`, and its name within its definition,
/// `InboundRule.mode`.
fn setting<'s>(schema: &'s Value, path: &str) -> (&'s Value, String) {
    let (mut node, mut name) = (schema, String::new());
    for step in path.split('.') {
        let (definition, own) = resolved(schema, node);
        if step == "<name>" {
            node = &own["additionalProperties"];
            continue;
        }
        let property = step.trim_end_matches("[]");
        name = format!("{definition}.{property}");
        node = &own["properties"][property];
        assert!(node.is_object(), "{path}: there is no {name}");
        if step.ends_with("[]") {
            node = &resolved(schema, node).1["items"];
        }
    }
    (node, name)
}

/// The sentences of a description that state a default, without the word.
fn defaults(description: &str) -> Vec<String> {
    let stated = description.split("Default").skip(1);
    let mut found: Vec<String> = stated
        .map(|rest| rest.split(". ").next().unwrap().trim_start_matches([':', ' ', ',']).to_owned())
        .collect();
    if let Some((before, _)) = description.split_once(" (the default)") {
        found.push(before.rsplit(' ').next().unwrap().to_owned());
    }
    found
}

/// The values of such sentences, in their order: what is written as code, and a number at the
/// beginning.
fn values(defaults: &[String]) -> Vec<String> {
    let of = |sentence: &String| {
        let number: String = sentence.chars().take_while(char::is_ascii_digit).collect();
        let first = (!number.is_empty()).then_some(number);
        first.into_iter().chain(code(sentence).into_iter().map(str::to_owned)).collect::<Vec<_>>()
    };
    defaults.iter().flat_map(of).collect()
}

/// Each setting of the page with its default.
fn documented() -> Vec<(String, String)> {
    let rows = rows(&read(DOCUMENT), "setting").into_iter();
    rows.flat_map(|row| {
        let settings: Vec<String> = code(&row[0]).into_iter().map(str::to_owned).collect();
        assert!(!settings.is_empty() && row.len() >= 2, "{row:?}");
        settings.into_iter().map(move |setting| (setting, row[1].clone()))
    })
    .collect()
}

#[test]
fn every_default_of_the_page_is_that_of_the_schema() {
    let (schema, documented) = (schema(), documented());
    assert!(documented.len() > 60, "{}", documented.len());
    for (path, default) in documented {
        let (node, _) = setting(&schema, &path);
        let sentences = defaults(node["description"].as_str().unwrap());
        assert!(!sentences.is_empty(), "{path}: the schema states no default");
        let stated: Vec<&str> = code(&default);
        if stated.is_empty() {
            assert!(sentences.concat().contains(&default), "{path}: {default:?} is not in {sentences:?}");
            continue;
        }
        let values = values(&sentences);
        assert!(
            values.len() >= stated.len() && values[..stated.len()] == stated,
            "{path}: {stated:?}, the schema has {values:?}"
        );
        if let Some(value) = node.get("default") {
            assert_eq!(value.to_string(), stated[0], "{path}");
        }
    }
}

#[test]
fn no_default_of_the_schema_is_missing_in_the_page() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap().iter().map(|(name, own)| (name.as_str(), own));
    let mut missing = BTreeSet::new();
    for (definition, own) in definitions.chain([("", &schema)]) {
        for (name, property) in own["properties"].as_object().into_iter().flatten() {
            if !defaults(property["description"].as_str().unwrap_or_default()).is_empty() {
                missing.insert(format!("{definition}.{name}"));
            }
        }
    }
    assert!(missing.len() > 60, "{}", missing.len());
    for (path, _) in documented() {
        missing.remove(&setting(&schema, &path).1);
    }
    assert!(missing.is_empty(), "{DOCUMENT} lacks {missing:?}");
}
