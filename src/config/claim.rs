//! Conditions on claims, as written in the configuration.

use super::ClaimPath;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Number, Value};

/// A condition on one claim. All given tests must hold. Values match exactly, and by their type:
/// `"3"` is not `3`, and `*` is a wildcard only in `glob`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ClaimCondition {
    /// The claim: `tenant`, `address.country`, or an array of names if names contain dots,
    /// `[kubernetes.io, namespace]`.
    pub claim: Option<ClaimPath>,
    /// The claim equals this string, number or boolean. Or it equals a value of the request: `{
    /// header: x-tenant }` (never equal if the request has no such header), `{ path: id }` (the
    /// segment that `{id}` of the rule's `path_template` matches, decoded), `{ host: true }`
    /// (without its port).
    pub equals: Option<Operand>,
    /// The claim equals one of these.
    pub one_of: Option<Vec<Scalar>>,
    /// The claim is an array that contains this.
    pub contains: Option<Scalar>,
    /// The claim is a string with this prefix.
    pub prefix: Option<String>,
    /// The claim is a string that matches this pattern, in which `*` matches any string:
    /// `https://*.example.com`.
    pub glob: Option<String>,
    /// `true`: the claim is present and not null. `false`: the claim is absent.
    pub exists: Option<bool>,
    /// The claim is a number, equal to this or greater.
    pub at_least: Option<Number>,
    /// The claim is a number, equal to this or less.
    pub at_most: Option<Number>,
}

/// A string, a number or a boolean.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(pub Value);

/// The value with which a claim is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// This value.
    Literal(Value),
    /// The value of a header.
    Header(String),
    /// The value of a placeholder of the path.
    Path(String),
    /// The host.
    Host,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) => Ok(Self(value)),
            other => Err(type_error(&other, "a string, a number or a boolean")),
        }
    }
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let members = value.as_object().filter(|members| members.len() == 1);
        let entry = members.and_then(|members| members.iter().next());
        match (entry.map(|(name, value)| (name.as_str(), value)), &value) {
            (Some(("header", Value::String(name))), _) => Ok(Self::Header(name.clone())),
            (Some(("path", Value::String(name))), _) => Ok(Self::Path(name.clone())),
            (Some(("host", Value::Bool(true))), _) => Ok(Self::Host),
            (_, Value::String(_) | Value::Number(_) | Value::Bool(_)) => Ok(Self::Literal(value)),
            (_, other) => Err(type_error(
                other,
                r#"a string, a number or a boolean, or one of {"header": "NAME"}, {"path": "NAME"} and {"host": true}"#,
            )),
        }
    }
}

fn type_error<E: de::Error>(value: &Value, expected: &str) -> E {
    let found = match value {
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
        _ => de::Unexpected::Unit,
    };
    E::invalid_type(found, &expected)
}
