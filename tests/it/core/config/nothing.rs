//! Empty values are refused: `null` everywhere, and whatever else is empty. The fields are those of
//! the generated schema, so that none can be forgotten, and the schema refuses the same documents.

use super::{errors, read, structure};
use crate::core::cli::{root, run};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;

/// What may be empty, and why. All else is refused.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("outbound.rules[0].scheme", "the token without a scheme before it, which no other value says"),
    ("issuers.x.jwks.x", "the provider's own data, copied; `jwk` judges it"),
    ("outbound.credentials.x.assertion_claims.x", "a claim as the provider wants it; nothing here reads it"),
];

/// One step to a value.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    First,
}

/// A location in the configuration: its path and its schema.
#[derive(Clone, Debug)]
struct Location<'s> {
    steps: Vec<Step>,
    schema: &'s Value,
}

impl Location<'_> {
    /// As messages have it.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::First => path.push_str("[0]"),
                Step::Name(name) if path.is_empty() => path.push_str(name),
                Step::Name(name) => path.extend([".", name]),
            }
        }
        path
    }

    /// A document with nothing but this value in it.
    fn document(&self, value: &Value) -> Value {
        self.steps.iter().rev().fold(value.clone(), |inner, step| match step {
            Step::First => json!([inner]),
            Step::Name(name) => json!({ (name): inner }),
        })
    }
}

fn schema() -> Value {
    serde_json::from_str(&run(&["schema"]).says).unwrap()
}

/// What a schema refers to, and each of its alternatives.
fn alternatives<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    let mut found = vec![schema];
    if let Some(name) = schema["$ref"].as_str() {
        found = alternatives(root, root.pointer(name.trim_start_matches('#')).unwrap());
    }
    let inner = schema["anyOf"].as_array().into_iter().chain(schema["oneOf"].as_array()).flatten();
    found.extend(inner.flat_map(|inner| alternatives(root, inner)));
    found
}

/// Every location in the configuration; a type that contains itself is visited once.
fn locations<'s>(
    root: &'s Value,
    location: &Location<'s>,
    within: &[&'s str],
    found: &mut Vec<Location<'s>>,
) {
    let mut within = within.to_vec();
    if let Some(name) = location.schema["$ref"].as_str() {
        if within.iter().filter(|own| **own == name).count() > 1 {
            return;
        }
        within.push(name);
    }
    for schema in alternatives(root, location.schema) {
        let named = schema["properties"].as_object().into_iter().flatten();
        let named = named.map(|(name, schema)| (Step::Name(name.clone()), schema));
        let any = Some(&schema["additionalProperties"]).filter(|inner| inner.is_object());
        let any = any.map(|inner| (Step::Name("x".to_owned()), inner));
        let first =
            Some(&schema["items"]).filter(|inner| inner.is_object()).map(|inner| (Step::First, inner));
        for (step, schema) in named.chain(any).chain(first) {
            let steps = location.steps.iter().cloned().chain([step]).collect();
            let inner = Location { steps, schema };
            if !found.iter().any(|own| own.path() == inner.path()) {
                found.push(inner.clone());
            }
            locations(root, &inner, &within, found);
        }
    }
}

fn every_location(root: &Value) -> Vec<Location<'_>> {
    let mut found = Vec::new();
    locations(root, &Location { steps: Vec::new(), schema: root }, &[], &mut found);
    found
}

/// Some value that the schema takes.
fn sample(root: &Value, schema: &Value) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(name) = schema["$ref"].as_str() {
        return sample(root, root.pointer(name.trim_start_matches('#')).unwrap());
    }
    if let Some(first) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)) {
        return sample(root, first);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str()).unwrap();
    match kind {
        "string" if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms")) => json!("5m"),
        "string" => json!("x"),
        "boolean" => json!(true),
        "integer" | "number" => json!(1),
        "array" => json!([sample(root, &schema["items"])]),
        _ => match schema["properties"].as_object().and_then(|members| members.iter().next_back()) {
            Some((name, inner)) => json!({ (name): sample(root, inner) }),
            None => json!({ "x": sample(root, &schema["additionalProperties"]) }),
        },
    }
}

/// Whether a value of this type is allowed there, so that the message is about its emptiness alone.
fn takes(root: &Value, location: &Location<'_>, kind: &str) -> bool {
    let is = |schema: &&Value| {
        schema["type"] == kind || schema["type"].as_array().is_some_and(|own| own.contains(&json!(kind)))
    };
    alternatives(root, location.schema).iter().any(is)
}

#[test]
fn null_is_refused_in_every_field_with_its_path_by_the_filter_and_by_the_schema() {
    let root = schema();
    let validator = jsonschema::validator_for(&root).unwrap();
    let locations = every_location(&root);
    for location in &locations {
        let (path, document) = (location.path(), location.document(&Value::Null));
        let reported = errors(&document);
        let line = reported.iter().find(|line| line.starts_with(&format!("{path}: null, expected ")));
        let what = if path.ends_with(']') { "element" } else { "field" };
        let hint = format!("; remove the {what} if nothing is meant");
        assert!(line.is_some_and(|line| line.ends_with(&hint)), "{document}\n{reported:#?}");
        assert!(!validator.is_valid(&document), "the schema takes {document}");
        let sound = location.document(&sample(&root, location.schema));
        assert!(validator.is_valid(&sound), "the schema refuses {sound}");
        // A `Struct` says it with `null_value`.
        assert_eq!(read(&structure(document.as_object().unwrap())).unwrap_err(), reported, "{document}");
    }
    assert!(locations.len() > 200, "{}", locations.len());
    assert!(!root.to_string().contains("\"null\""), "a type of the schema is null");
}

#[test]
fn what_is_empty_is_refused_in_every_field_or_in_the_list_of_those_that_may_be() {
    let root = schema();
    let validator = jsonschema::validator_for(&root).unwrap();
    let mut may_be: BTreeSet<&str> = BTreeSet::new();
    let mut refused = 0;
    for location in &every_location(&root) {
        for (kind, empty) in [("string", json!("")), ("array", json!([])), ("object", json!({}))] {
            let (path, document) = (location.path(), location.document(&empty));
            let reported = errors(&document);
            let reported = reported.iter().find(|line| line.starts_with(&format!("{path}: ")));
            let free = MAY_BE_EMPTY.iter().find(|(own, _)| {
                path == *own || path.starts_with(&format!("{own}.")) || path.starts_with(&format!("{own}["))
            });
            if let Some((own, _)) = free.filter(|_| takes(&root, location, kind)) {
                may_be.insert(own);
                assert!(validator.is_valid(&document), "the schema refuses {document}");
                assert!(reported.is_none_or(|line| !line.contains("empty")), "{reported:?}");
                continue;
            }
            let line = reported.unwrap_or_else(|| panic!("not refused: {document}"));
            assert!(line.contains(", expected ") && line.ends_with(" if nothing is meant"), "{line}");
            assert!(!validator.is_valid(&document), "the schema takes {document}");
            refused += 1;
        }
    }
    assert_eq!(may_be.len(), MAY_BE_EMPTY.len(), "what is in the list may be empty: {may_be:?}");
    assert!(refused > 500, "{refused}");
}

/// For each requirement of a rule, a valid document that would allow more without it.
#[test]
fn no_requirement_disappears_because_its_value_is_empty() {
    let sound = super::sound();
    let nothing = [Value::Null, json!({}), json!([]), json!("")];
    let members = schema();
    let fields = |name: &str| -> Vec<String> {
        let of: &Map<String, Value> = members["$defs"][name]["properties"].as_object().unwrap();
        of.keys().cloned().collect()
    };
    for (pointer, names) in [
        ("", members["properties"].as_object().unwrap().keys().cloned().collect()),
        ("/issuers/idp", fields("Issuer")),
        ("/inbound", fields("Inbound")),
        ("/inbound/rules/0", fields("InboundRule")),
        ("/inbound/rules/0/match", fields("Match")),
        ("/inbound/rules/0/require", fields("Require")),
        ("/outbound", fields("Outbound")),
        ("/outbound/credentials/order", fields("Credential")),
        ("/outbound/rules/0", fields("OutboundRule")),
    ] {
        for name in names {
            for value in &nothing {
                let mut configuration = sound.clone();
                configuration.pointer_mut(pointer).unwrap()[&name] = value.clone();
                if (pointer, name.as_str()) == ("/outbound/rules/0", "scheme") && value == "" {
                    assert_eq!(errors(&configuration), [""; 0]);
                    continue;
                }
                let location = format!("{pointer}/{name}").replace("/rules/0", "/rules[0]").replace('/', ".");
                let location = location.trim_start_matches('.');
                let reported = errors(&configuration);
                // One thing is wrong, and its consequences are not reported.
                assert_eq!(reported.len(), 1, "{configuration}\n{reported:#?}");
                assert!(reported[0].starts_with(&format!("{location}: ")), "{location}: {reported:?}");
            }
        }
    }
}

#[test]
fn null_within_what_is_written_in_two_ways_is_reported_with_its_path() {
    for (pointer, value, says) in [
        (
            "/inbound/rules/0/require/client_roles",
            json!({ "svc": null }),
            "client_roles.svc: null, expected an array of names (all of them), or an object with all_of, any_of, none_of",
        ),
        (
            "/inbound/rules/0/require/client_roles",
            json!({ "svc": [] }),
            "client_roles.svc: an empty array, expected at least one element",
        ),
        (
            "/inbound/rules/0/require/client_roles",
            json!({ "": ["a"] }),
            "client_roles[\"\"]: an empty name, expected at least one character",
        ),
        (
            "/inbound/rules/0/require/scopes",
            json!({ "any_of": null }),
            "scopes.any_of: null, expected an array",
        ),
        (
            "/inbound/rules/0/require/any",
            json!([{ "scopes": ["a"] }, {}]),
            "any[1]: an empty object, expected at least one field; remove the element",
        ),
        (
            "/inbound/rules/0/require/any",
            json!([{ "scopes": ["a"] }, null]),
            "any[1]: null, expected an object; remove the element",
        ),
        (
            "/inbound/rules/0/require/claims",
            json!([{ "claim": "a", "equals": null }]),
            "claims[0].equals: null, expected a string, a number or a boolean, or one of",
        ),
        (
            "/inbound/rules/0/require/claims",
            json!([{ "claim": "a", "equals": "" }]),
            "claims[0].equals: an empty string, expected",
        ),
        (
            "/inbound/rules/0/require/claims",
            json!([{ "claim": "a", "one_of": ["b", null] }]),
            "claims[0].one_of[1]: null, expected a string, a number or a boolean",
        ),
        (
            "/inbound/rules/0/require/token_binding",
            json!({ "dpop": null }),
            "token_binding.dpop: null, expected a boolean",
        ),
        (
            "/inbound/rules/0/match/headers",
            json!({ "x-a": { "exact": null } }),
            "match.headers.x-a.exact: null, expected a value",
        ),
        (
            "/outbound/credentials/order/client_secret",
            json!({ "env": null }),
            "client_secret.env: null, expected a value",
        ),
        (
            "/outbound/credentials/order/client_secret",
            json!(null),
            "client_secret: null, expected {\"env\": \"NAME\"}, {\"cluster\": \"NAME\", \"path\": \"/PATH\"} or",
        ),
        (
            "/outbound/credentials/order/client_id",
            json!(null),
            "client_id: null, expected a string, or {\"env\": \"NAME\"}",
        ),
        (
            "/outbound/credentials/order/parameters",
            json!({ "a": null }),
            "parameters.a: null, expected a string",
        ),
        (
            "/outbound/credentials/order/assertion_claims",
            json!({ "a": { "b": [1, null] } }),
            "assertion_claims.a.b[1]: null, expected a value",
        ),
        (
            "/issuers/idp/jwks",
            json!({ "keys": [{ "kty": "EC", "alg": null }] }),
            "jwks.keys[0].alg: null, expected a value",
        ),
    ] {
        let mut configuration = super::sound();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        configuration.pointer_mut(parent).unwrap()[name] = value.clone();
        let reported = errors(&configuration);
        assert!(reported.iter().any(|line| line.contains(says)), "{pointer} {value}\n{reported:#?}");
    }
}

#[test]
fn every_empty_value_is_reported_at_once() {
    let mut configuration = super::sound();
    let require = &mut configuration["inbound"]["rules"][0]["require"];
    for name in ["scopes", "roles", "client_roles", "any", "clients"] {
        require[name] = Value::Null;
    }
    configuration["inbound"]["rules"][1]["match"]["methods"] = json!([null, ""]);
    assert_eq!(errors(&configuration).len(), 7, "{:#?}", errors(&configuration));
}

#[test]
fn the_files_that_are_read_have_the_schema_that_is_tested() {
    let there = fs::read_to_string(root().join("envoy/config.schema.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&there).unwrap(), schema());
}
