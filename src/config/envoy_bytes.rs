//! Parses the bytes of a configuration to JSON, in each form in which Envoy passes them.
//!
//! A `StringValue` or `BytesValue` arrives as the JSON text that it contains. A
//! `google.protobuf.Struct`, which can be written as plain YAML in Envoy's own configuration,
//! arrives in the wire format of protocol buffers. Nothing here interprets the configuration.

use crate::json;
use serde_json::{Map, Number, Value};

/// Reads JSON, or an encoded `google.protobuf.Struct`; the error is that of the JSON parser.
pub fn read(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    json::parse(bytes).or_else(|error| structure(bytes, json::MAX_DEPTH).map(Value::Object).ok_or(error))
}

/// `Struct { map<string, Value> fields = 1; }`
fn structure(bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    for field in ProtoFields(bytes) {
        let ProtoField::Bytes(1, entry) = field? else {
            return None;
        };
        let (mut name, mut member) = (String::new(), Value::Null);
        for part in ProtoFields(entry) {
            match part? {
                ProtoField::Bytes(1, text) => name = String::from_utf8(text.to_vec()).ok()?,
                ProtoField::Bytes(2, inner) => member = value(inner, depth.checked_sub(1)?)?,
                _ => return None,
            }
        }
        members.insert(name, member);
    }
    (!members.is_empty()).then_some(members)
}

/// `Value { oneof kind { null = 1; double number = 2; string = 3; bool = 4; Struct = 5; ListValue =
/// 6; } }`
fn value(bytes: &[u8], depth: usize) -> Option<Value> {
    let inner = depth.checked_sub(1)?;
    match ProtoFields(bytes).next()?? {
        ProtoField::Varint(1, _) => Some(Value::Null),
        ProtoField::Fixed(2, bits) => number(f64::from_bits(bits)),
        ProtoField::Bytes(3, text) => String::from_utf8(text.to_vec()).ok().map(Value::String),
        ProtoField::Varint(4, flag) => Some(Value::Bool(flag != 0)),
        ProtoField::Bytes(5, []) => Some(Value::Object(Map::new())),
        ProtoField::Bytes(5, members) => structure(members, inner).map(Value::Object),
        ProtoField::Bytes(6, list) => {
            let elements = ProtoFields(list).map(|field| match field? {
                ProtoField::Bytes(1, element) => value(element, inner),
                _ => None,
            });
            elements.collect::<Option<_>>().map(Value::Array)
        }
        _ => None,
    }
}

/// Every number of a `Struct` is a double; a whole one becomes an integer.
fn number(double: f64) -> Option<Value> {
    let whole = Number::from(json::floor(double));
    let number = if whole.as_f64() == Some(double) { Some(whole) } else { Number::from_f64(double) };
    number.map(Value::Number)
}

/// One field of a message: its number, and what it holds.
enum ProtoField<'a> {
    Varint(u64, u64),
    Fixed(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// The fields of a message in order; it ends at a malformed one.
struct ProtoFields<'a>(&'a [u8]);

impl<'a> Iterator for ProtoFields<'a> {
    type Item = Option<ProtoField<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> ProtoFields<'a> {
    fn field(&mut self) -> Option<ProtoField<'a>> {
        let key = self.varint()?;
        match key & 7 {
            0 => Some(ProtoField::Varint(key >> 3, self.varint()?)),
            1 => Some(ProtoField::Fixed(key >> 3, u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Some(ProtoField::Bytes(key >> 3, self.bytes(length)?))
            }
            _ => None,
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn length_delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut rest = bytes.len();
        while rest >= 0x80 {
            field.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        field.push(u8::try_from(rest).unwrap());
        [field, bytes.to_vec()].concat()
    }

    fn encoded(value: &Value) -> Vec<u8> {
        match value {
            Value::Null => vec![0x08, 0],
            Value::Number(number) => [vec![0x11], number.as_f64().unwrap().to_le_bytes().to_vec()].concat(),
            Value::String(text) => length_delimited(3, text.as_bytes()),
            Value::Bool(flag) => vec![0x20, (*flag).into()],
            Value::Object(members) => length_delimited(5, &encoded_members(members)),
            Value::Array(list) => length_delimited(
                6,
                &list.iter().flat_map(|entry| length_delimited(1, &encoded(entry))).collect::<Vec<_>>(),
            ),
        }
    }

    fn encoded_members(members: &Map<String, Value>) -> Vec<u8> {
        let entry = |(name, value): (&String, &Value)| {
            length_delimited(
                1,
                &[length_delimited(1, name.as_bytes()), length_delimited(2, &encoded(value))].concat(),
            )
        };
        members.iter().flat_map(entry).collect()
    }

    #[test]
    fn a_struct_reads_as_the_json_it_was_written_as() {
        let document = json!({
            "text": "ü".repeat(200), "whole": 3600, "negative": -1, "part": 0.5, "yes": true, "nothing": null,
            "list": [1, [], {}, "x"], "object": { "a": { "b": [false] } },
        });
        assert_eq!(read(&encoded_members(document.as_object().unwrap())).unwrap(), document);
        assert_eq!(read(document.to_string().as_bytes()).unwrap(), document);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = (0..json::MAX_DEPTH * 2).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(read(&encoded_members(deep.as_object().unwrap())).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
