//! The JSON Schema of the values that `read.rs` reads by hand; that of all others is derived. For the command-line tool only.

use super::{
    Audiences, ClaimPath, DurationValue, Entries, HeaderValue, NameConditions, Operand, Scalar, SecretSource,
    SecretSources, Setting, Sharing, StringOrList, SubjectToken, TokenBinding,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A type whose schema is written here, with what the manual says of it.
macro_rules! written {
    ($($name:ident: $says:literal, $schema:tt;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("description".to_owned(), $says.into());
                schema
            }
        })*
    };
}

written! {
    DurationValue: "A span of time: `500ms`, `60s`, `5m`, `24h`, or a number of seconds; a year at most.", {
        "anyOf": [
            { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" },
            { "type": "number", "minimum": 0, "maximum": 31_622_400 },
        ],
    };
    NameConditions: "Names of roles or scopes: a list means all of them; an object says which are needed (`all_of`), of which one is \
            enough (`any_of`), and which must not be there (`none_of`). `glob: true`: a `*` in them stands for any text.", {
        "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            {
                "type": "object",
                "properties": {
                    "all_of": { "type": "array", "items": { "type": "string" } },
                    "any_of": { "type": "array", "items": { "type": "string" } },
                    "none_of": { "type": "array", "items": { "type": "string" } },
                    "glob": { "type": "boolean" },
                },
                "additionalProperties": false,
            },
        ],
    };
    Audiences: "For whom a token must be: a list of which one is enough, or `any_of` and `all_of`.", {
        "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            {
                "type": "object",
                "properties": {
                    "any_of": { "type": "array", "items": { "type": "string" } },
                    "all_of": { "type": "array", "items": { "type": "string" } },
                },
                "additionalProperties": false,
            },
        ],
    };
    TokenBinding: "To which keys tokens must be bound: `dpop`, `mtls`, or an object. `dpop: true`: to the key that signs the request's `DPoP` \
            header. `mtls: true`: to the certificate of the connection. `danger_xfcc: true`: to that which the last element of \
            `x-forwarded-client-cert` names, which everybody who can send that header can choose. `optional: true`: tokens that \
            are not bound are taken too. Of several, a token must be bound to one, and each key that it is bound to must be \
            shown.", {
        "anyOf": [
            { "enum": ["dpop", "mtls"] },
            {
                "type": "object",
                "properties": {
                    "dpop": { "type": "boolean" },
                    "mtls": { "type": "boolean" },
                    "danger_xfcc": { "type": "boolean" },
                    "optional": { "type": "boolean" },
                },
                "additionalProperties": false,
            },
        ],
    };
    Sharing: "Whether workers share what they fetch. To YAML 1.1, which Envoy reads, `on` and `off` are truth values.", {
        "enum": ["on", "off", "sealed", true, false],
    };
    HeaderValue: "What a header must be: a text is its exact value; `{ prefix: … }` is how it begins; `{ present: true }` is any \
                  value, `{ present: false }` that it is not there.", {
        "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": {
                    "exact": { "type": "string" },
                    "prefix": { "type": "string" },
                    "present": { "type": "boolean" },
                },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    };
    SubjectToken: "The token that is exchanged: `caller`, or `{ header: NAME }`.", {
        "anyOf": [
            { "const": "caller" },
            {
                "type": "object",
                "properties": { "header": { "type": "string" } },
                "required": ["header"],
                "additionalProperties": false,
            },
        ],
    };
    StringOrList: "A text, or a list of texts.", {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    };
    ClaimPath: "The way to a claim: dotted (`realm_access.roles`), or a list of names where names hold dots.", {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    };
    Scalar: "A text, a number or a truth value.", { "type": ["string", "number", "boolean"], "minLength": 1 };
    Operand: "A text, a number or a truth value; or something of the request: `{ header: NAME }`, `{ path: NAME }` (a place in \
              the rule's `path_template`), `{ host: true }`.", {
        "anyOf": [
            { "type": ["string", "number", "boolean"], "minLength": 1 },
            {
                "type": "object",
                "properties": {
                    "header": { "type": "string" },
                    "path": { "type": "string" },
                    "host": { "const": true },
                },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    };
    Json: "Any JSON value but `null`, which is refused within it too.", {
        "type": ["string", "number", "boolean", "array", "object"],
        "items": { "$ref": "#/$defs/Json" },
        "additionalProperties": { "$ref": "#/$defs/Json" },
    };
    Setting: "A text, or `{ env: NAME }`: an environment variable of Envoy that `host_env_keys` passes on, for what differs \
              between environments.", {
        "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" } },
                "required": ["env"],
                "additionalProperties": false,
            },
        ],
    };
    SecretSource: "Where a secret comes from: `{ env: NAME }`, an environment variable of Envoy that `host_env_keys` passes on \
             (Istio: `valueFrom: HOST`), or `{ inline: … }`, which anybody can see in Envoy's `/config_dump`: for demos.", {
        "type": "object",
        "properties": {
            "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "inline": { "type": "string", "minLength": 1 },
        },
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    };
}

/// A value of JSON, within an object that is not ours to judge.
struct Json;

/// An object of JSON that is not ours to judge.
pub(super) struct FreeForm;

impl JsonSchema for FreeForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FreeForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<Json>() })
    }
}

impl JsonSchema for SecretSources {
    fn schema_name() -> Cow<'static, str> {
        "SecretSources".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretSource>();
        json_schema!({
            "description": "One secret, or a list of which any may be the right one, in the order in which they are tried.",
            "anyOf": [secret, { "type": "array", "items": secret }],
        })
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Entries_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "minLength": 1 },
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}
