//! Envoy's configuration as JSON: fields in either spelling, and the values along a path.

use m2m_auth::config::path_deserializer::{Path, PathSegment};
use serde_json::Value;

/// A field by its `snake_case` name; JSON of protocol buffers may also write `lowerCamelCase`.
pub(crate) fn field<'v>(value: &'v Value, snake: &str) -> Option<&'v Value> {
    value.get(snake).or_else(|| value.get(camel(snake))).filter(|value| !value.is_null())
}

/// The same for a chain of fields, `static_resources.clusters`.
pub(crate) fn fields<'v>(value: &'v Value, snake: &str) -> Option<&'v Value> {
    snake.split('.').try_fold(value, field)
}

/// A string field, or an empty string.
pub(crate) fn string<'v>(value: &'v Value, snake: &str) -> &'v str {
    field(value, snake).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of an array field.
pub(crate) fn list<'v>(value: &'v Value, snake: &str) -> &'v [Value] {
    field(value, snake).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The elements of an array field, with their paths.
pub(crate) fn located<'v>(
    value: &'v Value,
    path: &Path,
    snake: &str,
) -> impl Iterator<Item = (Path, &'v Value)> + use<'v> {
    let path = path.name(&spelled(value, snake));
    list(value, snake).iter().enumerate().map(move |(index, element)| (path.index(index), element))
}

/// The field's name as spelled in the document.
pub(crate) fn spelled(value: &Value, snake: &str) -> String {
    let camel = camel(snake);
    if value.get(snake).is_none() && value.get(&camel).is_some() { camel } else { snake.to_owned() }
}

/// The last part of the type of an `Any`, without its version: `Router`.
pub(crate) fn type_of(value: &Value) -> &str {
    let kind = value.get("@type").and_then(Value::as_str).unwrap_or_default();
    kind.rsplit('.').next().unwrap_or_default()
}

/// Whether some object in it, at any depth, has one of these fields.
pub(crate) fn mentions(value: &Value, names: &[&str]) -> bool {
    any(value, &|value| names.iter().any(|name| field(value, name).is_some()))
}

/// Whether the test holds for some object in it, at any depth, itself included.
pub(crate) fn any(value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Object(members) => test(value) || members.values().any(|value| any(value, test)),
        Value::Array(elements) => elements.iter().any(|value| any(value, test)),
        _ => false,
    }
}

/// Each object in it that has this field, with the path of the field.
pub(crate) fn holders<'v>(value: &'v Value, path: &Path, snake: &str, found: &mut Vec<(Path, &'v Value)>) {
    match value {
        Value::Object(members) => {
            if field(value, snake).is_some() {
                found.push((path.name(&spelled(value, snake)), value));
            }
            members.iter().for_each(|(name, value)| holders(value, &path.name(name), snake, found));
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, value)| {
                holders(value, &path.index(index), snake, found);
            });
        }
        _ => {}
    }
}

/// Every value along a path, outermost first, with the paths.
pub(crate) fn along<'v>(document: &'v Value, path: &Path) -> Vec<(Path, &'v Value)> {
    let (mut value, mut here) = (document, Path::default());
    let mut through = vec![(here.clone(), value)];
    for step in path.steps() {
        let next = match step {
            PathSegment::Name(name) => value.get(name),
            PathSegment::Index(index) => value.get(index),
        };
        let Some(next) = next else { break };
        (value, here) = (next, here.step(step.clone()));
        through.push((here.clone(), value));
    }
    through
}

fn camel(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut upper = false;
    for letter in snake.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}
