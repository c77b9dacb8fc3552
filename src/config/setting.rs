//! A string that may come from an environment variable.

use super::values::is_variable;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;

/// A literal string, or the name of an environment variable: for settings that differ between
/// environments.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The string.
    Literal(String),
    /// An environment variable of Envoy, passed on by `host_env_keys`.
    Env(String),
}

impl<'de> Deserialize<'de> for Setting {
    /// Written by hand, since serde's own messages quote the value. It may be a misplaced secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a string, or {\"env\": \"NAME\"} with a variable name";
        let from_env = |members: &serde_json::Map<String, Value>| {
            let name = members.get("env").filter(|_| members.len() == 1)?.as_str()?;
            is_variable(name).then(|| Self::Env(name.to_owned()))
        };
        let hidden = || de::Error::custom(format_args!("invalid value (hidden), expected {EXPECTED}"));
        match Value::deserialize(deserializer)? {
            Value::String(value) => Ok(Self::Literal(value)),
            Value::Object(members) => from_env(&members).ok_or_else(hidden),
            Value::Null => Err(de::Error::invalid_type(de::Unexpected::Unit, &EXPECTED)),
            _ => Err(hidden()),
        }
    }
}
