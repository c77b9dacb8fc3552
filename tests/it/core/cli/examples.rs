//! The examples of the manual: each type has one, each is a value of that type, and each is part of
//! a configuration that compiles.

use super::{Folder, root, run_with};
use m2m_auth::policy::Policy;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

struct Example {
    type_name: String,
    /// Whether it is the whole value, or some of its fields.
    is_whole: bool,
    place: Vec<String>,
    value: Value,
}

fn examples() -> Vec<Example> {
    let text = fs::read_to_string(root().join("src/bin/m2m-auth/examples.yaml")).unwrap();
    let each = text.split("\n---\n").skip(1).map(|example| {
        let (head, yaml) = example.split_once('\n').unwrap();
        let mut words = head.trim_start_matches("# ").splitn(3, ' ');
        Example {
            type_name: words.next().unwrap().to_owned(),
            is_whole: match words.next().unwrap() {
                "=" => true,
                "+" => false,
                other => panic!("{head}: {other}"),
            },
            place: words.next().into_iter().flat_map(|place| place.split('.')).map(str::to_owned).collect(),
            value: serde_norway::from_str(yaml).unwrap_or_else(|error| panic!("{head}: {error}")),
        }
    });
    each.collect()
}

/// A configuration with a place for each of them.
fn base() -> Value {
    json!({
        "issuers": { "keycloak": { "issuer": "https://keycloak.example.com/realms/demo", "cluster": "keycloak" } },
        "inbound": { "rules": [{
            "match": { "path_prefix": "/inventory" },
            "require": { "issuer": "keycloak", "audiences": ["inventory-service"] },
        }] },
        "outbound": {
            "credentials": { "order-service": {
                "issuer": "keycloak", "client_id": "order-service", "client_secret": { "env": "ORDER_SERVICE_SECRET" },
            } },
            "rules": [{ "match": { "host": "inventory-service" }, "credential": "order-service" }],
        },
    })
}

fn within(example: &Example) -> Value {
    let mut configuration = base();
    let mut place = &mut configuration;
    for step in &example.place {
        place = match place {
            Value::Array(elements) => &mut elements[step.parse::<usize>().unwrap()],
            other => &mut other[step.as_str()],
        };
    }
    if example.is_whole {
        *place = example.value.clone();
    } else {
        place.as_object_mut().unwrap().extend(example.value.as_object().unwrap().clone());
    }
    configuration
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("envoy/config.schema.json")).unwrap()).unwrap()
}

#[test]
fn each_example_compiles_within_a_whole_configuration_and_is_what_the_schema_takes() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let secret = |_: &str| Some("a-secret-of-more-than-32-characters".to_owned());
    let mut wrong = Vec::new();
    for example in examples() {
        let configuration = within(&example);
        let read = Policy::read(configuration.to_string().as_bytes(), &secret);
        if let Err(errors) = read {
            wrong.push(format!("{}: {errors:?}", example.type_name));
        }
        let refused = validator.iter_errors(&configuration);
        wrong.extend(refused.map(|error| format!("{}: {error}", example.type_name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn check_finds_nothing_to_say_about_the_examples() {
    let folder = Folder::new();
    let secret = "a-secret-of-more-than-32-characters";
    let names =
        ["ORDER_SERVICE_SECRET", "ORDER_SERVICE_SECRET_NEXT", "INVENTORY_SECRET", "SHARING_KEY", "CLIENT_ID"];
    let mut wrong = Vec::new();
    for example in examples() {
        let file = folder.file("example.json", within(&example).to_string());
        let ran = run_with(&["check", &file], &names.map(|name| (name, secret)));
        if ran.code != 0 {
            wrong.push(format!("{}: {ran:?}", example.type_name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_type_that_has_more_than_a_list_of_values_has_one_example() {
    let schema = schema();
    let is_list = |own: &Value| {
        let choices = own["oneOf"].as_array().into_iter().flatten();
        own["enum"].is_array()
            || choices.clone().count() > 0
                && choices.clone().all(|choice| choice["const"].is_string() || choice["enum"].is_array())
    };
    let mut expected: BTreeSet<&str> = BTreeSet::from(["Config"]);
    for (name, own) in schema["$defs"].as_object().unwrap() {
        if !is_list(own) || name == "Sharing" {
            expected.insert(name);
        }
    }
    let examples = examples();
    let named: Vec<&str> = examples.iter().map(|example| example.type_name.as_str()).collect();
    assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(named.len(), expected.len(), "one each: {named:?}");
    let manual = fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap();
    assert_eq!(manual.matches("\nExample").count(), named.len());
}
