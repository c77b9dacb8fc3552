//! `schema`: the JSON Schema of the configuration, or its manual; both from the doc comments of
//! `src/config.rs`.

use crate::CommandOutput;
use m2m_auth::config::Config;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Print the JSON Schema of the configuration.
#[derive(clap::Args)]
pub(crate) struct SchemaArguments {
    /// Print the manual instead.
    #[arg(long)]
    markdown: bool,
}

/// The source, for the order of the members, which a JSON object does not have.
const SOURCE: &str = concat!(include_str!("../../config.rs"), include_str!("../../config/claim.rs"));

const INTRODUCTION: &str = "# Configuration

This page is generated from the doc comments of `src/config.rs`. To change it, edit them and run
`make schema`, which also writes [the JSON Schema](../../envoy/config.schema.json) for editors. A test
fails if either is stale. `m2m-auth check` also reports what a schema cannot: names that are not
defined, settings that contradict each other, secrets that are not set.

Unknown fields and values of the wrong type are rejected; nothing is guessed.

**`null` is rejected everywhere, and so is every empty value** (`\"\"`, `[]`, `{}`, an empty name). In
YAML, a field without a value is `null`, such as `scopes:` above an array that is commented out. If
`null` counted as absent, the requirement would be gone without an error. To require nothing, remove
the field. Three values may be empty: `scheme` of an outbound rule, for a token without a scheme,
and the values within `jwks` and within `assertion_claims`, which the filter passes on or reads as
the provider wrote them. `null` is rejected there too, since a key without its `alg` is accepted for
more algorithms.
";

pub(crate) fn run(arguments: &SchemaArguments) -> CommandOutput {
    let schema = schema();
    let output = if arguments.markdown { manual(&schema) } else { format!("{schema:#}\n") };
    CommandOutput { output, code: 0 }
}

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    tidy(&mut schema);
    remove_null(&mut schema);
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), "The configuration of m2m-auth".into());
    }
    schema
}

/// Removes what the derivation adds and no reader needs, and adds what it does not know.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let empty = |value: &Value| *value == json!(null) || *value == json!([]) || *value == json!({});
            if members.get("default").is_some_and(empty) {
                members.remove("default");
            }
            if members.get("format").is_some_and(|format| format == "uint") {
                members.remove("format");
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                let paragraphs: Vec<String> =
                    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            if let Some(Value::Array(names)) = members.get_mut("enum")
                && names.contains(&json!("EdDSA"))
            {
                names.push("Ed25519".into()); // RFC 9864 section 2.2
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(elements) => elements.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Removes `null`, which the derivation allows for every optional field, and sets a minimum length
/// of 1 for every string, array and object without one: as `path_deserializer` reads them.
fn remove_null(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(remove_null);
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [kind] = types.as_slice() {
                    let kind = kind.clone();
                    members.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| *choice != json!({ "type": "null" }));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    members.remove("anyOf");
                    for (name, value) in only {
                        members.entry(name).or_insert(value);
                    }
                }
            }
            let least = match members.get("type").and_then(Value::as_str) {
                Some("string")
                    if !["enum", "const", "pattern"].iter().any(|name| members.contains_key(*name)) =>
                {
                    "minLength"
                }
                Some("array") => "minItems",
                Some("object") => "minProperties",
                _ => return,
            };
            members.entry(least).or_insert(json!(1));
        }
        Value::Array(elements) => elements.iter_mut().for_each(remove_null),
        _ => {}
    }
}

/// The manual: a section for each type, in the order of their first reference.
fn manual(schema: &Value) -> String {
    let types = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "Config", schema);
    let mut order = Vec::new();
    named(schema, "Config", &types, &mut order);
    for name in order {
        if let Some(schema) = types.get(&name) {
            section(&mut text, &name, schema);
        }
    }
    text
}

/// The types that a type references, each before those that it references itself.
fn named(schema: &Value, name: &str, types: &Map<String, Value>, order: &mut Vec<String>) {
    let before = order.len();
    for (_, member) in members(name, schema) {
        references(member, order);
    }
    if schema.get("properties").is_none() {
        references(schema, order);
    }
    for name in order.get(before..).unwrap_or_default().to_vec() {
        if let Some(schema) = types.get(&name) {
            named(schema, &name, types, order);
        }
    }
}

fn references(value: &Value, order: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| match (name.as_str(), reference(value)) {
                ("$ref", Some(name)) if !order.contains(&name) => order.push(name),
                ("$defs", _) => {}
                _ => references(value, order),
            });
        }
        Value::Array(elements) => elements.iter().for_each(|value| references(value, order)),
        _ => {}
    }
}

fn reference(value: &Value) -> Option<String> {
    value.as_str()?.strip_prefix("#/$defs/").map(str::to_owned)
}

fn section(text: &mut String, name: &str, schema: &Value) {
    _ = write!(text, "\n## {name}\n\n{}\n", described(schema));
    let members = members(name, schema);
    if !members.is_empty() {
        text.push('\n');
    }
    for (member, schema) in members {
        let description = described(schema).replace("\n\n", " ");
        _ = writeln!(text, "- **`{member}`** ({}): {description}", kind(schema));
    }
    let choices: Vec<&Value> = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().collect();
    if !choices.is_empty() {
        text.push('\n');
    }
    for choice in choices {
        for value in choice
            .get("const")
            .into_iter()
            .chain(choice.get("enum").and_then(Value::as_array).into_iter().flatten())
        {
            _ = writeln!(text, "- `{}`: {}", value.as_str().unwrap_or_default(), described(choice));
        }
    }
    let names: Vec<String> = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|name| format!("`{}`", plain(name)))
        .collect();
    if !names.is_empty() {
        _ = write!(text, "\nOne of: {}.\n", names.join(", "));
    }
}

fn described(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The members of a type, in the order of their source.
fn members<'s>(name: &str, schema: &'s Value) -> Vec<(&'s String, &'s Value)> {
    let mut members: Vec<_> =
        schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
    let source =
        SOURCE.split_once(&format!("pub struct {name} {{")).and_then(|(_, rest)| rest.split("\n}").next());
    let position = |member: &String| {
        let field = |prefix: &str| source?.find(&format!("    pub {prefix}{member}: "));
        field("").or_else(|| field("r#")).unwrap_or(usize::MAX)
    };
    members.sort_by_key(|(member, _)| position(member));
    members
}

/// The type of a value, for readers.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(reference) {
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<String> = choices.iter().map(kind).filter(|kind| kind != "null").collect();
        return kinds.join(" or ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", plain(value));
    }
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        other => other.and_then(Value::as_str),
    };
    let inner = |name: &str| schema.get(name).filter(|inner| inner.is_object()).map(plural_kind);
    match types {
        Some("array") => format!("array of {}", inner("items").unwrap_or_else(|| "any values".to_owned())),
        Some("object") => inner("additionalProperties")
            .map_or_else(|| "object".to_owned(), |inner| format!("map of {inner}")),
        Some(other) => other.to_owned(),
        None => "any value".to_owned(),
    }
}

/// The type of the elements of an array or a map.
fn plural_kind(schema: &Value) -> String {
    let kind = kind(schema);
    let is_basic = ["string", "boolean", "integer", "number", "object"].contains(&kind.as_str());
    if is_basic { kind + "s" } else { kind }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
