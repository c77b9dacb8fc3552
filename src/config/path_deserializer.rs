//! Reads a [`Value`] through serde, and records the path of a value that cannot be read.
//!
//! `null` is rejected everywhere, and so are an empty string, array, object and name, so that
//! `scopes:` without a value is an error and not "no scopes". One function checks this for every
//! value of a document, whatever type reads it; see [`MAY_BE_EMPTY`] for the exceptions.
//!
//! One deserializer for one input type, so that every type of the configuration is compiled once.
//! (`serde_path_to_error` wraps any deserializer, at 90 KB of module.) It is independent of what it
//! reads.

use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::fmt;

/// One step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// Into a member of an object.
    Name(String),
    /// Into an element of an array.
    Index(usize),
}

/// The path of a value in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<PathSegment>);

impl Path {
    /// The path of the member `name`.
    #[inline(never)]
    pub fn name(&self, name: &str) -> Self {
        self.step(PathSegment::Name(name.to_owned()))
    }

    /// The path of the element `index`.
    #[inline(never)]
    pub fn index(&self, index: usize) -> Self {
        self.step(PathSegment::Index(index))
    }

    /// Prepends the member that contains this path.
    pub fn prepend_name(&mut self, name: &str) {
        self.0.insert(0, PathSegment::Name(name.to_owned()));
    }

    /// Prepends the element that contains this path.
    pub fn prepend_index(&mut self, index: usize) {
        self.0.insert(0, PathSegment::Index(index));
    }

    /// This path, extended by `step`.
    pub fn step(&self, step: PathSegment) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The index, if this is directly an element of `array`.
    pub fn element_of(&self, array: &Self) -> Option<usize> {
        match self.0.split_last() {
            Some((PathSegment::Index(index), parent)) if parent == array.0 => Some(*index),
            _ => None,
        }
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[PathSegment] {
        &self.0
    }

    /// Whether this is `other`, or within it.
    pub fn is_in(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this is the object at that dotted path, or one that contains it.
    pub fn contains(&self, object: &str) -> bool {
        let mut names = object.split('.');
        self.0.iter().all(|step| matches!(step, PathSegment::Name(name) if names.next() == Some(name)))
    }

    /// The name, if this is directly a member of the object at that dotted path.
    pub fn member_of(&self, object: &str) -> Option<&str> {
        let (PathSegment::Name(name), parents) = self.0.split_last()? else {
            return None;
        };
        let mut names = object.split('.');
        let same =
            parents.iter().all(|step| matches!(step, PathSegment::Name(name) if names.next() == Some(name)));
        (same && names.next().is_none()).then_some(name)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                PathSegment::Index(index) => write!(f, "[{index}]")?,
                PathSegment::Name(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    let plain = !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    if plain {
                        write!(f, "{dot}{name}")?;
                    } else {
                        write!(f, "[{name:?}]")?;
                    }
                }
            }
        }
        if self.0.is_empty() { f.write_str("configuration") } else { Ok(()) }
    }
}

/// What was found and what was expected, in JSON's terms.
///
/// A separate error type, since that of `serde_json` includes the formatting of floating-point
/// numbers: 20 KB of module.
#[derive(Debug)]
pub struct DeserializeError(pub String);

impl fmt::Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DeserializeError {}

impl de::Error for DeserializeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            de::Unexpected::Str(value) => Self(format!("{value:?}, expected {expected}")),
            found => Self::invalid_type(found, expected),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Bool(value) => value.to_string(),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(_) => "a fraction".to_owned(),
            // The value is hidden: it may be a misplaced secret.
            de::Unexpected::Str(_) => "a string".to_owned(),
            de::Unexpected::Unit => "null".to_owned(),
            de::Unexpected::Seq => "an array".to_owned(),
            _ => "an object".to_owned(),
        };
        let expected = expected.to_string();
        let expected = match expected.as_str() {
            "a sequence" => "an array",
            "usize" | "u32" => "a non-negative integer",
            "a JSON number" => "a number",
            other => other,
        };
        Self(format!("{found}, expected {expected}"))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("unknown, expected one of: {}", expected.join(", ")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("{variant:?}, expected one of: {}", expected.join(", ")))
    }
}

/// Reads `value`; an error has the path of the value that caused it.
pub fn read<'de, T: de::Deserialize<'de>>(value: &'de Value) -> Result<T, (Path, DeserializeError)> {
    let (path, may_be_empty) = (RefCell::default(), Cell::new(false));
    let deserializer = PathDeserializer { value, path: &path, may_be_empty: &may_be_empty, free: false };
    T::deserialize(deserializer).map_err(|error| (path.take(), error))
}

/// The name that a type passes to `deserialize_newtype_struct` so that its value, and every value
/// within it, may be empty. None of them may be `null`.
pub const MAY_BE_EMPTY: &str = "$may_be_empty";

/// A value, and its path for error messages.
#[derive(Clone, Copy)]
struct PathDeserializer<'de, 'path> {
    value: &'de Value,
    path: &'path RefCell<Path>,
    /// Set by the type that reads a value, if it takes an empty one.
    may_be_empty: &'path Cell<bool>,
    /// Whether this is within such a value.
    free: bool,
}

impl<'de, 'path> PathDeserializer<'de, 'path> {
    /// Adds this member to the path of an error that passes through it.
    fn prepend_to_path(self, name: &str) {
        self.path.borrow_mut().prepend_name(name);
    }

    /// Reads a value within this one, and rejects it if it is empty; `kind` is what can then be
    /// removed.
    fn inner<T: DeserializeSeed<'de>>(
        self,
        value: &'de Value,
        seed: T,
        kind: &str,
    ) -> Result<T::Value, DeserializeError> {
        self.may_be_empty.set(self.free);
        let read = seed.deserialize(PathDeserializer { value, ..self });
        match self.empty_value_error(value, kind, read.as_ref().err()) {
            Some(error) => Err(error),
            None => read,
        }
    }

    /// The error for an empty value. Separate from [`Self::inner`], which is compiled once for
    /// every type.
    #[inline(never)]
    fn empty_value_error(
        self,
        value: &Value,
        kind: &str,
        failed: Option<&DeserializeError>,
    ) -> Option<DeserializeError> {
        let empty = empty_value(value)?;
        let message = match failed {
            None if self.may_be_empty.get() && !value.is_null() => return None,
            None => empty,
            Some(error) => &error.0,
        };
        Some(DeserializeError(format!("{message}; remove the {kind} if nothing is meant")))
    }

    fn members(self, members: &'de Map<String, Value>) -> ObjectAccess<'de, 'path> {
        ObjectAccess { outer: self, rest: members.iter(), present: None }
    }

    fn elements(self, elements: &'de [Value]) -> ArrayAccess<'de, 'path> {
        ArrayAccess { outer: self, rest: elements.iter(), next: 0 }
    }
}

/// The error for an object without fields.
pub const EMPTY_OBJECT: &str = "an empty object, expected at least one field";

/// The error for `null` or an empty value.
fn empty_value(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => Some("null, expected a value"),
        Value::String(text) if text.is_empty() => Some("an empty string, expected at least one character"),
        Value::Array(elements) if elements.is_empty() => {
            Some("an empty array, expected at least one element")
        }
        Value::Object(members) if members.is_empty() => Some(EMPTY_OBJECT),
        _ => None,
    }
}

/// The found value, for a message.
fn unexpected(value: &Value) -> de::Unexpected<'_> {
    match value {
        Value::Null => de::Unexpected::Unit,
        Value::Bool(value) => de::Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => de::Unexpected::Unsigned(number),
            (None, Some(number)) => de::Unexpected::Signed(number),
            (None, None) => de::Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => de::Unexpected::Str(text),
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
    }
}

macro_rules! typed {
    ($($method:ident: $pattern:pat => $visit:expr,)*) => {
        $(#[inline(never)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
            match self.value {
                $pattern => $visit(self, visitor),
                other => Err(DeserializeError::invalid_type(unexpected(other), &visitor)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for PathDeserializer<'de, '_> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(elements) => visitor.visit_seq(self.elements(elements)),
            Value::Object(members) => visitor.visit_map(self.members(members)),
        }
    }

    /// Absent fields are not read at all, so there is always a value here.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        let free = self.free || name == MAY_BE_EMPTY;
        self.may_be_empty.set(free);
        Self { free, ..self }.deserialize_any(visitor)
    }

    // Only the requested type is compiled; `deserialize_any` would be several times as much code.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.deserialize_map(visitor)
    }

    /// The configuration's enums are plain strings.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        match self.value {
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            other => Err(DeserializeError::invalid_type(unexpected(other), &visitor)),
        }
    }

    typed! {
        deserialize_bool: Value::Bool(value) => |_: Self, visitor: V| visitor.visit_bool(*value),
        deserialize_str: Value::String(text) => |_: Self, visitor: V| visitor.visit_borrowed_str(text),
        deserialize_string: Value::String(text) => |_: Self, visitor: V| visitor.visit_borrowed_str(text),
        deserialize_seq: Value::Array(elements) => |this: Self, visitor: V| visitor.visit_seq(this.elements(elements)),
        deserialize_map: Value::Object(members) => |this: Self, visitor: V| visitor.visit_map(this.members(members)),
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct ArrayAccess<'de, 'path> {
    outer: PathDeserializer<'de, 'path>,
    rest: std::slice::Iter<'de, Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for ArrayAccess<'de, '_> {
    type Error = DeserializeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeserializeError> {
        let Some(value) = self.rest.next() else {
            return Ok(None);
        };
        let index = self.next;
        self.next = index.saturating_add(1);
        let read = self.outer.inner(value, seed, "element");
        if read.is_err() {
            self.outer.path.borrow_mut().prepend_index(index);
        }
        read.map(Some)
    }
}

struct ObjectAccess<'de, 'path> {
    outer: PathDeserializer<'de, 'path>,
    rest: serde_json::map::Iter<'de>,
    present: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for ObjectAccess<'de, '_> {
    type Error = DeserializeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeserializeError> {
        let Some((name, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.present = Some((name, value));
        let read = match name.as_str() {
            "" if !self.outer.free => {
                Err(DeserializeError::custom("an empty name, expected at least one character"))
            }
            name => seed.deserialize(name.into_deserializer()),
        };
        if read.is_err() {
            self.outer.prepend_to_path(name);
        }
        read.map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeserializeError> {
        let (name, value) =
            self.present.take().ok_or_else(|| DeserializeError::custom("a value without a name"))?;
        let read = self.outer.inner(value, seed, "field");
        if read.is_err() {
            self.outer.prepend_to_path(name);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    /// A type that accepts any value, and an empty one.
    #[derive(Debug)]
    struct Free;

    impl<'de> Deserialize<'de> for Free {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Any;

            impl<'de> Visitor<'de> for Any {
                type Value = Free;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("anything")
                }

                fn visit_str<E>(self, _: &str) -> Result<Free, E> {
                    Ok(Free)
                }

                fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Free, A::Error> {
                    while members.next_entry::<String, Value>()?.is_some() {}
                    Ok(Free)
                }
            }

            deserializer.deserialize_newtype_struct(MAY_BE_EMPTY, Any)
        }
    }

    #[derive(Debug, Deserialize)]
    struct Both {
        #[serde(default)]
        _free: Option<Free>,
        #[serde(default)]
        _plain: Option<String>,
    }

    fn fault<T: fmt::Debug + for<'de> Deserialize<'de>>(value: &Value) -> String {
        let (path, fault) = read::<T>(value).unwrap_err();
        format!("{path}: {fault}")
    }

    /// With a type that accepts `null`, and one that does not; nested, and in an array.
    #[test]
    fn null_is_refused_whatever_the_type_would_take() {
        assert_eq!(
            fault::<Value>(&json!({ "a": [1, { "b": null }] })),
            "a[1].b: null, expected a value; remove the field if nothing is meant"
        );
        assert_eq!(
            fault::<Value>(&json!([1, null])),
            "[1]: null, expected a value; remove the element if nothing is meant"
        );
        let plain = json!({ "_plain": null });
        assert_eq!(
            fault::<Both>(&plain),
            "_plain: null, expected a string; remove the field if nothing is meant"
        );
        let free = json!({ "_free": null });
        assert_eq!(
            fault::<Both>(&free),
            "_free: null, expected anything; remove the field if nothing is meant"
        );
        let inner = json!({ "_free": { "a": { "b": null } } });
        assert_eq!(
            fault::<Both>(&inner),
            "_free.a.b: null, expected a value; remove the field if nothing is meant"
        );
    }

    #[test]
    fn what_is_empty_is_refused_but_where_the_type_takes_it() {
        for (value, expected) in [
            (json!({ "a": "" }), "a: an empty string, expected at least one character; remove the field"),
            (json!({ "a": {} }), "a: an empty object, expected at least one field; remove the field"),
            (json!([[]]), "[0]: an empty array, expected at least one element; remove the element"),
            (json!({ "": 1 }), "[\"\"]: an empty name, expected at least one character"),
        ] {
            assert!(fault::<Value>(&value).starts_with(expected), "{}", fault::<Value>(&value));
        }
        for free in [json!(""), json!({}), json!({ "a": "", "": [], "b": { "c": {} } })] {
            read::<Both>(&json!({ "_free": free })).unwrap();
            // It applies to this value only.
            let after = fault::<Both>(&json!({ "_free": free, "_plain": "" }));
            assert!(after.starts_with("_plain: an empty string, "), "{after}");
        }
    }
}
