//! Values that can be written in more than one way, each read into one type.
//!
//! Error messages name what was expected. They never quote a secret.

use super::{
    Audiences, ClaimPath, DurationValue, Entries, HeaderValue, NameConditions, SecretFile, SecretSource,
    SecretSources, Sharing, StringOrList, SubjectToken, TokenBinding,
};
use crate::config::path_deserializer::{EMPTY_OBJECT, MAY_BE_EMPTY};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// A year. More is likely a typing error, and could overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// A free-form JSON object: it is not empty itself, values within it may be empty, and none is
/// `null`.
pub(super) fn free_form<'de, D: Deserializer<'de>, T: From<Map<String, Value>>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct FreeFormVisitor;

    impl<'de> Visitor<'de> for FreeFormVisitor {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
            let members = Map::deserialize(de::value::MapAccessDeserializer::new(members))?;
            if members.is_empty() {
                return Err(de::Error::custom(EMPTY_OBJECT));
            }
            Ok(members)
        }
    }

    deserializer.deserialize_newtype_struct(MAY_BE_EMPTY, FreeFormVisitor).map(T::from)
}

/// A string that may be empty.
pub(super) fn maybe_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct MaybeEmptyVisitor;

    impl Visitor<'_> for MaybeEmptyVisitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
            Ok(value.to_owned())
        }
    }

    deserializer.deserialize_newtype_struct(MAY_BE_EMPTY, MaybeEmptyVisitor).map(Some)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = members.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = DurationValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"500ms\", \"60s\", \"5m\", \"24h\", or a number of seconds")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<DurationValue, E> {
                Self::bounded(Duration::from_secs(seconds))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
            }

            // A `Struct` in Envoy's YAML holds every number as a double.
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<DurationValue, E> {
                Duration::try_from_secs_f64(seconds)
                    .ok()
                    .and_then(Self::bounded)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<DurationValue, E> {
                let digits =
                    value.len().saturating_sub(value.trim_start_matches(|c: char| c.is_ascii_digit()).len());
                let (number, unit) = value.split_at(digits);
                let number: Option<u64> = number.parse().ok();
                let duration = match (number, unit) {
                    (Some(number), "ms") => Some(Duration::from_millis(number)),
                    (Some(number), "s") => Some(Duration::from_secs(number)),
                    (Some(number), "m") => number.checked_mul(60).map(Duration::from_secs),
                    (Some(number), "h") => number.checked_mul(3600).map(Duration::from_secs),
                    _ => None,
                };
                duration
                    .and_then(Self::bounded)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }

        impl DurationVisitor {
            fn bounded(duration: Duration) -> Option<DurationValue> {
                (duration <= MAX_DURATION).then_some(DurationValue(duration))
            }
        }

        deserializer.deserialize_any(DurationVisitor)
    }
}

impl<'de> Deserialize<'de> for NameConditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "an object")]
        struct NamesObject {
            all_of: Option<Vec<String>>,
            any_of: Option<Vec<String>>,
            none_of: Option<Vec<String>>,
            glob: bool,
        }
        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = NameConditions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of names (all of them), or an object with all_of, any_of, none_of")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<NameConditions, A::Error> {
                let all = Vec::deserialize(de::value::SeqAccessDeserializer::new(elements))?;
                Ok(NameConditions { all_of: Some(all), ..NameConditions::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<NameConditions, A::Error> {
                let NamesObject { all_of, any_of, none_of, glob } =
                    NamesObject::deserialize(de::value::MapAccessDeserializer::new(members))?;
                Ok(NameConditions { all_of, any_of, none_of, glob })
            }
        }

        deserializer.deserialize_any(NamesVisitor)
    }
}

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "an object")]
        struct AudiencesObject {
            any_of: Option<Vec<String>>,
            all_of: Option<Vec<String>>,
        }
        struct AudiencesVisitor;

        impl<'de> Visitor<'de> for AudiencesVisitor {
            type Value = Audiences;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of audiences (any of them), or an object with any_of, all_of")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<Audiences, A::Error> {
                let any = Vec::deserialize(de::value::SeqAccessDeserializer::new(elements))?;
                Ok(Audiences { any_of: Some(any), all_of: None })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<Audiences, A::Error> {
                let AudiencesObject { any_of, all_of } =
                    AudiencesObject::deserialize(de::value::MapAccessDeserializer::new(members))?;
                Ok(Audiences { any_of, all_of })
            }
        }

        deserializer.deserialize_any(AudiencesVisitor)
    }
}

impl<'de> Deserialize<'de> for TokenBinding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "an object")]
        #[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
        struct TokenBindingObject {
            dpop: bool,
            mtls: bool,
            danger_xfcc: bool,
            optional: bool,
        }
        struct TokenBindingVisitor;

        impl<'de> Visitor<'de> for TokenBindingVisitor {
            type Value = TokenBinding;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"dpop\", \"mtls\", or an object with dpop, mtls, danger_xfcc, optional")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<TokenBinding, E> {
                match value {
                    "dpop" => Ok(TokenBinding { dpop: true, ..TokenBinding::default() }),
                    "mtls" => Ok(TokenBinding { mtls: true, ..TokenBinding::default() }),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<TokenBinding, A::Error> {
                let TokenBindingObject { dpop, mtls, danger_xfcc, optional } =
                    TokenBindingObject::deserialize(de::value::MapAccessDeserializer::new(members))?;
                Ok(TokenBinding { dpop, mtls, danger_xfcc, optional })
            }
        }

        deserializer.deserialize_any(TokenBindingVisitor)
    }
}

impl<'de> Deserialize<'de> for Sharing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SharingVisitor;

        impl Visitor<'_> for SharingVisitor {
            type Value = Sharing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on, off or sealed")
            }

            // YAML 1.1, which Envoy reads, parses `on` and `off` as booleans.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Sharing, E> {
                Ok(if on { Sharing::On } else { Sharing::Off })
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Sharing, E> {
                match value {
                    "on" => Ok(Sharing::On),
                    "off" => Ok(Sharing::Off),
                    "sealed" => Ok(Sharing::Sealed),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(SharingVisitor)
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderValueVisitor;

        impl<'de> Visitor<'de> for HeaderValueVisitor {
            type Value = HeaderValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with exactly one of exact, prefix and present")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Exact(value.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<HeaderValue, A::Error> {
                let entry: Option<(String, Value)> = members.next_entry()?;
                let more = members.next_key::<de::IgnoredAny>()?.is_some();
                let entry = entry.filter(|_| !more);
                let value = match entry.as_ref().map(|(name, value)| (name.as_str(), value)) {
                    Some(("exact", Value::String(exact))) => Some(HeaderValue::Exact(exact.clone())),
                    Some(("prefix", Value::String(prefix))) => Some(HeaderValue::Prefix(prefix.clone())),
                    Some(("present", Value::Bool(present))) => Some(HeaderValue::Present(*present)),
                    _ => None,
                };
                value.ok_or_else(|| de::Error::invalid_type(de::Unexpected::Map, &self))
            }
        }

        deserializer.deserialize_any(HeaderValueVisitor)
    }
}

impl<'de> Deserialize<'de> for SubjectToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SubjectTokenVisitor;

        impl<'de> Visitor<'de> for SubjectTokenVisitor {
            type Value = SubjectToken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("caller, {\"header\": \"NAME\"}, {\"credential\": \"NAME\"}, or {\"cluster\": \"NAME\", \"path\": \"/PATH\"}")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<SubjectToken, E> {
                match value {
                    "caller" => Ok(SubjectToken::Caller),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<SubjectToken, A::Error> {
                let members: Map<String, Value> =
                    Map::deserialize(de::value::MapAccessDeserializer::new(members))?;
                let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
                let only = |name: &str| text(name).filter(|_| members.len() == 1);
                let named = only("header").map(SubjectToken::Header);
                let named = named.or_else(|| only("credential").map(SubjectToken::Credential));
                named
                    .or_else(|| SecretFile::of(&members).map(SubjectToken::File))
                    .ok_or_else(|| de::Error::invalid_type(de::Unexpected::Map, &self))
            }
        }

        deserializer.deserialize_any(SubjectTokenVisitor)
    }
}

impl<'de> Deserialize<'de> for StringOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrListVisitor;

        impl<'de> Visitor<'de> for StringOrListVisitor {
            type Value = StringOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an array of strings")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<StringOrList, E> {
                Ok(StringOrList(vec![value.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<StringOrList, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(elements)).map(StringOrList)
            }
        }

        deserializer.deserialize_any(StringOrListVisitor)
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimPathVisitor;

        impl<'de> Visitor<'de> for ClaimPathVisitor {
            type Value = ClaimPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a claim, dotted (\"realm_access.roles\") or as an array of names")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<ClaimPath, E> {
                Ok(ClaimPath(value.split('.').map(str::to_owned).collect()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<ClaimPath, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(elements)).map(ClaimPath)
            }
        }

        deserializer.deserialize_any(ClaimPathVisitor)
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?)
    }
}

impl SecretSource {
    /// Written by hand, since serde's own messages quote the value.
    fn read<E: de::Error>(value: &Value) -> Result<Self, E> {
        const EXPECTED: &str = "{\"env\": \"NAME\"}, {\"cluster\": \"NAME\", \"path\": \"/PATH\"} or {\"inline\": \"…\"}, with a variable name or a string that is not empty";
        if value.is_null() {
            return Err(E::custom(format_args!("null, expected {EXPECTED}")));
        }
        if let Some(file) = value.as_object().and_then(SecretFile::of) {
            return Ok(Self::File(file));
        }
        let pair =
            value.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
        match pair.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())) {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("inline", secret)) if !secret.is_empty() => Ok(Self::Inline(secret.to_owned())),
            _ => Err(E::custom(format_args!("invalid secret (value hidden), expected {EXPECTED}"))),
        }
    }
}

impl SecretFile {
    /// A cluster and a path, if these are the only members.
    fn of(members: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| Some(members.get(name)?.as_str()?.to_owned()).filter(|text| !text.is_empty());
        let file = Self { cluster: text("cluster")?, path: text("path")? };
        (members.len() == 2).then_some(file)
    }
}

impl<'de> Deserialize<'de> for SecretSources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Array(list) => {
                list.iter().map(SecretSource::read).collect::<Result<_, _>>().map(Self::AnyOf)
            }
            value => SecretSource::read(&value).map(Self::One),
        }
    }
}

/// Whether every shell can set a variable of this name (POSIX, "Environment Variable Definition").
pub(super) fn is_variable(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(sound)
}
