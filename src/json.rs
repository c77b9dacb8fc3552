//! Bytes to a JSON value, strictly: UTF-8, one value, no duplicate member, bounded depth.
//!
//! `serde_json` alone keeps the last of two members with one name, so that two readers of the same
//! token could see different claims (RFC 8725 section 2.4; RFC 7515 section 4 and RFC 7519 section
//! 4 let a reader refuse them). It does not interpret the value.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// How deep arrays and objects may nest. Tokens of real providers nest 4 deep; Envoy's own parser
/// stops near 100.
pub const MAX_DEPTH: usize = 32;

/// Reads exactly one JSON value. The error never quotes a value, only a position or a member's
/// name.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    // Check UTF-8 once (RFC 8725 section 3.7): parsing a `str` does not check its strings again.
    let text = std::str::from_utf8(bytes).map_err(de::Error::custom)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Strict { depth_left: MAX_DEPTH }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// Reads exactly one JSON object (RFC 7519 section 7.2).
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match parse(bytes)? {
        Value::Object(members) => Ok(members),
        _ => Err(de::Error::custom("not a JSON object")),
    }
}

/// Reads the one JSON object of a provider's document. A leading byte order mark is ignored (RFC
/// 8259 section 8.1), unlike in a token.
pub fn parse_document(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    parse_object(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// The message, if the error is a duplicate member.
pub fn duplicate(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let (text, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    text.starts_with(DUPLICATE).then(|| text.to_owned())
}

/// Whether the error is nesting deeper than [`MAX_DEPTH`].
pub fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with(TOO_DEEP)
}

const TOO_DEEP: &str = "nested too deep";

const DUPLICATE: &str = "duplicate member";

/// The longest name of a member that an error quotes: those of RFC 8414 have up to 54 characters.
const QUOTED_NAME_BYTES: usize = 64;

/// The name of a member for an error. A name with unusual characters is not quoted, since it may be
/// part of a secret.
fn quoted(name: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/#$@".contains(&byte);
    let sound = !name.is_empty() && name.len() <= QUOTED_NAME_BYTES && name.bytes().all(usual);
    if sound && !name.contains("eyJ") { format!(" {name:?}") } else { String::new() }
}

/// The largest integer that is not above `number`, or the nearest representable one.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "`as` saturates, which is what we want"
)]
pub fn floor(number: f64) -> i64 {
    number.floor() as i64
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1);
        depth_left.map(|depth_left| Self { depth_left }).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("{DUPLICATE}{}", quoted(&name))));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_members_are_refused_at_every_depth() {
        assert!(parse(br#"{"a":1,"a":2}"#).is_err());
        assert!(parse(br#"[{"b":{"a":1,"\u0061":2}}]"#).is_err());
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn the_member_that_occurs_twice_is_named_if_a_name_is_what_it_has() {
        let twice = |name: &str| {
            let name = Value::from(name).to_string();
            duplicate(&parse(format!("{{{name}:1,{name}:2}}").as_bytes()).unwrap_err())
        };
        assert_eq!(twice("jwks_uri").as_deref(), Some("duplicate member \"jwks_uri\""));
        assert_eq!(twice("x5t#S256").as_deref(), Some("duplicate member \"x5t#S256\""));
        for odd in ["", "a b", "a\r\nb", "\u{fc}", "eyJhbGciOi", &"x".repeat(QUOTED_NAME_BYTES + 1)] {
            assert_eq!(twice(odd).as_deref(), Some("duplicate member"), "{odd}");
        }
        assert_eq!(duplicate(&parse(b"{").unwrap_err()), None);
    }

    #[test]
    fn a_byte_order_mark_is_ignored_before_a_document_and_nowhere_else() {
        assert!(parse_document(b"\xef\xbb\xbf{\"a\":1}").is_ok());
        assert!(parse_object(b"\xef\xbb\xbf{\"a\":1}").is_err(), "a part of a token has none");
        for odd in [&b"\xef\xbb\xbf\xef\xbb\xbf{}"[..], b"{}\xef\xbb\xbf", b"\xef\xbb{}", b"\xff\xfe{\0}\0"] {
            assert!(parse_document(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn depth_is_bounded_on_both_sides_of_the_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 100_000] {
            assert!(is_too_deep(&parse(nested(depth).as_bytes()).unwrap_err()));
        }
        for other in ["[", "", r#"{"nested too deep":1,"nested too deep":2}"#, "[1,]"] {
            assert!(!is_too_deep(&parse(other.as_bytes()).unwrap_err()), "{other}");
        }
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(parse(b"{} {}").is_err());
        assert!(parse(b"{}\n ").is_ok());
        assert!(parse(b"\xff").is_err());
    }

    #[test]
    fn whole_numbers_stay_exact() {
        let value = parse(b"12345678901234567").unwrap();
        assert_eq!(value.as_u64(), Some(12_345_678_901_234_567));
    }
}
