//! A text that may stand in the environment instead.

use super::values::is_variable;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;

/// A text as it is, or the name of the environment variable that holds it: for what differs between environments, as the
/// secret does.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The text.
    Literal(String),
    /// An environment variable of Envoy, passed on as those of secrets are.
    Env(String),
}

impl<'de> Deserialize<'de> for Setting {
    /// Written by hand, since serde's own messages quote what stands there, and a secret may have slipped in here.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "not a text, expected one, or {\"env\": \"NAME\"} with a variable's name";
        const NAMED: &str = "a text, or {\"env\": \"NAME\"} with a variable's name";
        let named = |members: &serde_json::Map<String, Value>| {
            let name = members.get("env").filter(|_| members.len() == 1)?.as_str()?;
            is_variable(name).then(|| Self::Env(name.to_owned()))
        };
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Literal(text)),
            Value::Object(members) => named(&members).ok_or_else(|| de::Error::custom(EXPECTED)),
            Value::Null => Err(de::Error::invalid_type(de::Unexpected::Unit, &NAMED)),
            _ => Err(de::Error::custom(EXPECTED)),
        }
    }
}
