//! Reads a [`Value`] through serde, and remembers where it stood when something was wrong.
//!
//! A value that is there says something: `null` is refused everywhere, and so are an empty string, array, object and name, so
//! that `scopes:` with nothing behind it is an error and not "no scopes". This is decided in one function for every value of
//! a document, whatever reads it; see [`MAY_BE_EMPTY`] for the exceptions.
//!
//! One deserializer for one input type: every type of the configuration is compiled once. (`serde_path_to_error` wraps any
//! deserializer, at 90 KB of module.) It does not know what it reads.

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

/// Where in a configuration something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<PathSegment>);

impl Path {
    /// The member `name` of what stands here.
    #[inline(never)]
    pub fn name(&self, name: &str) -> Self {
        self.step(PathSegment::Name(name.to_owned()))
    }

    /// The element `index` of what stands here.
    #[inline(never)]
    pub fn index(&self, index: usize) -> Self {
        self.step(PathSegment::Index(index))
    }

    /// This, seen from one member further out.
    pub fn prepend_name(&mut self, name: &str) {
        self.0.insert(0, PathSegment::Name(name.to_owned()));
    }

    /// This, seen from one element further out.
    pub fn prepend_index(&mut self, index: usize) {
        self.0.insert(0, PathSegment::Index(index));
    }

    /// What `step` leads to from here.
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

    /// Whether this is the object at that dotted path, or one that it stands in.
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

/// What is wrong: what stands there, and what was expected, in the words of JSON.
///
/// An error type of its own, since `serde_json`'s brings the formatting of floating-point numbers along: 20 KB of module.
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
            de::Unexpected::Str(text) => Self(format!("{text:?}, expected {expected}")),
            found => Self::invalid_type(found, expected),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Bool(value) => value.to_string(),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(_) => "a fraction".to_owned(),
            // Not what it says: it may be a secret in the wrong place.
            de::Unexpected::Str(_) => "a text".to_owned(),
            de::Unexpected::Unit => "null".to_owned(),
            de::Unexpected::Seq => "an array".to_owned(),
            _ => "an object".to_owned(),
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

/// Reads `value`; a fault comes with its place.
pub fn read<'de, T: de::Deserialize<'de>>(value: &'de Value) -> Result<T, (Path, DeserializeError)> {
    let (place, may_be_empty) = (RefCell::default(), Cell::new(false));
    let located = PathDeserializer { value, path: &place, may_be_empty: &may_be_empty, free: false };
    T::deserialize(located).map_err(|error| (place.take(), error))
}

/// The name with which a type asks for `deserialize_newtype_struct` so that its value, and every value in it, may be empty.
/// None of them may be `null`.
pub const MAY_BE_EMPTY: &str = "$may_be_empty";

/// A value, and its path for error messages.
#[derive(Clone, Copy)]
struct PathDeserializer<'de, 'place> {
    value: &'de Value,
    path: &'place RefCell<Path>,
    /// Set by the type that reads a value, if it takes an empty one.
    may_be_empty: &'place Cell<bool>,
    /// Whether this stands within such a value.
    free: bool,
}

impl<'de, 'place> PathDeserializer<'de, 'place> {
    /// The error has just passed this step on its way out.
    fn failed_in_name(self, name: &str) {
        self.path.borrow_mut().prepend_name(name);
    }

    /// Reads a value that stands in this one, which is refused if it says nothing; `kind` is what can be removed then.
    fn inner<T: DeserializeSeed<'de>>(
        self,
        value: &'de Value,
        seed: T,
        kind: &str,
    ) -> Result<T::Value, DeserializeError> {
        self.may_be_empty.set(self.free);
        let read = seed.deserialize(PathDeserializer { value, ..self });
        match self.empty_value_error(value, kind, read.as_ref().err()) {
            Some(fault) => Err(fault),
            None => read,
        }
    }

    /// What is wrong with a value that says nothing. Apart from [`Self::inner`], which is compiled once for every type.
    #[inline(never)]
    fn empty_value_error(
        self,
        value: &Value,
        kind: &str,
        failed: Option<&DeserializeError>,
    ) -> Option<DeserializeError> {
        let empty = empty_value(value)?;
        let fault = match failed {
            None if self.may_be_empty.get() && !value.is_null() => return None,
            None => empty,
            Some(fault) => &fault.0,
        };
        Some(DeserializeError(format!("{fault}; remove the {kind} if nothing is meant")))
    }

    fn members(self, members: &'de Map<String, Value>) -> ObjectAccess<'de, 'place> {
        ObjectAccess { outer: self, rest: members.iter(), present: None }
    }

    fn elements(self, elements: &'de [Value]) -> ArrayAccess<'de, 'place> {
        ArrayAccess { outer: self, rest: elements.iter(), next: 0 }
    }
}

/// What is wrong with an object that has no fields.
pub const EMPTY_OBJECT: &str = "an empty object, expected at least one field";

/// What is wrong with a value that says nothing.
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

/// What stands there, for a message.
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

macro_rules! strictly {
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

    /// What is absent is not read at all, so that there is always something here.
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

    // What a type asks for is all that is compiled for it; `deserialize_any` would be several times as much.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.deserialize_map(visitor)
    }

    /// Our enums are names, nothing more.
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

    strictly! {
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

struct ArrayAccess<'de, 'place> {
    outer: PathDeserializer<'de, 'place>,
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

struct ObjectAccess<'de, 'place> {
    outer: PathDeserializer<'de, 'place>,
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
            self.outer.failed_in_name(name);
        }
        read.map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeserializeError> {
        let (name, value) =
            self.present.take().ok_or_else(|| DeserializeError::custom("a value without a name"))?;
        let read = self.outer.inner(value, seed, "field");
        if read.is_err() {
            self.outer.failed_in_name(name);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    /// Reads as anything; empty where `free`.
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

    /// A type that takes `null`, and one that does not; nested, and in a list.
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
        for (value, says) in [
            (json!({ "a": "" }), "a: an empty string, expected at least one character; remove the field"),
            (json!({ "a": {} }), "a: an empty object, expected at least one field; remove the field"),
            (json!([[]]), "[0]: an empty array, expected at least one element; remove the element"),
            (json!({ "": 1 }), "[\"\"]: an empty name, expected at least one character"),
        ] {
            assert!(fault::<Value>(&value).starts_with(says), "{}", fault::<Value>(&value));
        }
        for free in [json!(""), json!({}), json!({ "a": "", "": [], "b": { "c": {} } })] {
            read::<Both>(&json!({ "_free": free })).unwrap();
            // It holds for this value alone.
            let after = fault::<Both>(&json!({ "_free": free, "_plain": "" }));
            assert!(after.starts_with("_plain: an empty string, "), "{after}");
        }
    }
}
