//! Reads a [`Value`] through serde, and remembers where it stood when something was wrong.
//!
//! One deserializer for one input type: every type of the configuration is compiled once. (`serde_path_to_error` wraps any
//! deserializer, at 90 KB of module.) It does not know what it reads.

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Value};
use std::cell::RefCell;
use std::fmt;

/// One step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a member of an object.
    Name(String),
    /// Into an element of an array.
    Index(usize),
}

/// Where in a configuration something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// The member `name` of what stands here.
    pub fn name(&self, name: &str) -> Self {
        self.step(Step::Name(name.to_owned()))
    }

    /// The element `index` of what stands here.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// This, seen from one member further out.
    pub fn prepend_name(&mut self, name: &str) {
        self.0.insert(0, Step::Name(name.to_owned()));
    }

    /// This, seen from one element further out.
    pub fn prepend_index(&mut self, index: usize) {
        self.0.insert(0, Step::Index(index));
    }

    /// What `step` leads to from here.
    pub fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The index, if this is directly an element of `array`.
    pub fn element_of(&self, array: &Self) -> Option<usize> {
        match self.0.split_last() {
            Some((Step::Index(index), parent)) if parent == array.0 => Some(*index),
            _ => None,
        }
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether one of the two is in the other.
    pub fn touches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    if plain { write!(f, "{dot}{name}")? } else { write!(f, "[{name:?}]")? }
                }
            }
        }
        if self.0.is_empty() { f.write_str("configuration") } else { Ok(()) }
    }
}

/// Reads `value`; an error comes with its place.
pub fn read<'v, T: de::Deserialize<'v>>(value: &'v Value) -> Result<T, (Path, Error)> {
    let place = RefCell::default();
    T::deserialize(Located { value, place: &place }).map_err(|error| (place.take(), error))
}

/// A value, and the place that is told when something in it is wrong.
#[derive(Clone, Copy)]
struct Located<'v, 'p> {
    value: &'v Value,
    place: &'p RefCell<Path>,
}

impl<'v, 'p> Located<'v, 'p> {
    /// The error has just passed this step on its way out.
    fn failed_in_name(self, name: &str) {
        self.place.borrow_mut().prepend_name(name);
    }

    fn map(self, members: &'v Map<String, Value>) -> Members<'v, 'p> {
        Members { outer: self, rest: members.iter(), present: None }
    }
}

macro_rules! by_value {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
            self.deserialize_any(visitor)
        })*
    };
}

impl<'v> Deserializer<'v> for Located<'v, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(elements) => visitor.visit_seq(Elements { outer: self, rest: elements.iter(), next: 0 }),
            Value::Object(members) => visitor.visit_map(self.map(members)),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'v>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'v>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // An object only: serde would take a list of the members' values too.
        match self.value {
            Value::Object(members) => visitor.visit_map(self.map(members)),
            Value::Array(_) => Err(Error::invalid_type(de::Unexpected::Seq, &visitor)),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    by_value! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }
}

struct Elements<'v, 'p> {
    outer: Located<'v, 'p>,
    rest: std::slice::Iter<'v, Value>,
    next: usize,
}

impl<'v> SeqAccess<'v> for Elements<'v, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.rest.next() else { return Ok(None) };
        let index = self.next;
        self.next = index.saturating_add(1);
        let read = seed.deserialize(Located { value, ..self.outer });
        if read.is_err() {
            self.outer.place.borrow_mut().prepend_index(index);
        }
        read.map(Some)
    }
}

struct Members<'v, 'p> {
    outer: Located<'v, 'p>,
    rest: serde_json::map::Iter<'v>,
    present: Option<(&'v str, &'v Value)>,
}

impl<'v> MapAccess<'v> for Members<'v, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.present = Some((name, value));
        let read = seed.deserialize(name.as_str().into_deserializer());
        if read.is_err() {
            self.outer.failed_in_name(name);
        }
        read.map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (name, value) = self.present.take().ok_or_else(|| Error::custom("a value without a name"))?;
        let read = seed.deserialize(Located { value, ..self.outer });
        if read.is_err() {
            self.outer.failed_in_name(name);
        }
        read
    }
}
