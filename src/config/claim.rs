//! Conditions on claims, as the operator writes them.

use super::ClaimPath;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Number, Value};

/// A condition on one claim. All that is given must hold; what is written is meant to the letter, and by its type: `"3"` is
/// not `3`, and `*` is a star but for `glob`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ClaimCondition {
    /// The claim: `tenant`, `address.country`, or a list of names where names hold dots, `[kubernetes.io, namespace]`.
    pub claim: Option<ClaimPath>,
    /// It is this text, number or truth value. Or it is the same as something of the request: `{ header: x-tenant }` (a
    /// request without that header has nothing that is the same), `{ path: id }` (what stands in `{id}` of the rule's
    /// `path_template`, decoded), `{ host: true }` (without its port).
    pub equals: Option<Operand>,
    /// It is one of these.
    pub one_of: Option<Vec<Scalar>>,
    /// It is an array with this in it.
    pub contains: Option<Scalar>,
    /// It is a text that begins so.
    pub prefix: Option<String>,
    /// It is a text of this form, in which `*` stands for any text: `https://*.example.com`.
    pub glob: Option<String>,
    /// `true`: it is there, and not null. `false`: it is not there at all.
    pub exists: Option<bool>,
    /// It is a number, this or above.
    pub at_least: Option<Number>,
    /// It is a number, this or below.
    pub at_most: Option<Number>,
}

/// A text, a number or a truth value.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(pub Value);

/// What a claim is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// This.
    Literal(Value),
    /// The value of a header.
    Header(String),
    /// What stands in a place of the path.
    Path(String),
    /// The host.
    Host,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) => Ok(Self(value)),
            other => Err(unfit(&other, "a text, a number, true or false")),
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
            (_, other) => Err(unfit(
                other,
                r#"a text, a number, true or false, or one of {"header": "NAME"}, {"path": "NAME"} and {"host": true}"#,
            )),
        }
    }
}

fn unfit<E: de::Error>(value: &Value, expected: &str) -> E {
    let found = match value {
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
        _ => de::Unexpected::Unit,
    };
    E::invalid_type(found, &expected)
}
