//! The JSON Schema of the values that `values.rs` deserializes by hand; all others are derived. For
//! the command-line tool only.

use super::{
    Audiences, ClaimPath, DurationValue, Entries, HeaderValue, NameConditions, Operand, Scalar, SecretSource,
    SecretSources, Setting, Sharing, StringOrList, SubjectToken, TokenBinding,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A type whose schema is written here, with its description for the manual.
macro_rules! written {
    ($($name:ident: $description:literal, $schema:tt;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("description".to_owned(), $description.into());
                schema
            }
        })*
    };
}

written! {
    DurationValue: "A duration: `500ms`, `60s`, `5m`, `24h`, or a number of seconds; at most \
        366 days.", {
        "anyOf": [
            { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" },
            { "type": "number", "minimum": 0, "maximum": 31_622_400 },
        ],
    };
    NameConditions: "Names of roles or scopes: an array means all of them. An object has the \
        names that are all required (`all_of`), of which at least one is required (`any_of`), \
        and of which none may be present (`none_of`). `glob: true`: `*` in them matches any \
        string.", {
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
    Audiences: "The audiences that a token must have: an array means any of them; an object \
        has `any_of`, `all_of` or both.", {
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
    TokenBinding: "Required token binding: `dpop`, `mtls`, or an object. `dpop: true`: to the \
        key that signs the request's `DPoP` header. `mtls: true`: to the client certificate of \
        the connection. `danger_xfcc: true`: to the certificate that `x-forwarded-client-cert` \
        names, which anyone who can set that header can choose. `optional: true`: tokens \
        without a binding are accepted too. If several are enabled, a token must be bound to \
        at least one, and possession of each key that it is bound to must be proved.", {
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
    Sharing: "Whether workers share what they fetch. YAML 1.1, which Envoy reads, parses `on` \
        and `off` as booleans.", {
        "enum": ["on", "off", "sealed", true, false],
    };
    HeaderValue: "What a header must be: a string is its exact value; `{ prefix: … }` is its \
        beginning; `{ present: true }` is any value; `{ present: false }` means absent.", {
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
    SubjectToken: "A token in a token request: `caller`, `{ header: NAME }`, `{ credential: NAME }`, \
        or `{ cluster: NAME, path: /PATH }`.", {
        "anyOf": [
            { "const": "caller" },
            {
                "type": "object",
                "properties": { "header": { "type": "string" }, "credential": { "type": "string" } },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
            { "$ref": "#/$defs/SecretFile" },
        ],
    };
    StringOrList: "A string, or an array of strings.", {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    };
    ClaimPath: "The path of a claim: dotted (`realm_access.roles`), or an array of names if \
        names contain dots.", {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    };
    Scalar: "A string, a number or a boolean.", { "type": ["string", "number", "boolean"], "minLength": 1 };
    Operand: "A string, a number or a boolean; or a value of the request: `{ header: NAME }`, \
        `{ path: NAME }` (a placeholder of the rule's `path_template`), `{ host: true }`.", {
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
    Json: "Any JSON value but `null`, which is rejected at every depth.", {
        "type": ["string", "number", "boolean", "array", "object"],
        "items": { "$ref": "#/$defs/Json" },
        "additionalProperties": { "$ref": "#/$defs/Json" },
    };
    Setting: "A string, or `{ env: NAME }`: an environment variable of Envoy that \
        `host_env_keys` passes on, for settings that differ between environments.", {
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
    SecretSource: "Where a secret comes from: `{ env: NAME }`, an environment variable of \
        Envoy that `host_env_keys` passes on (Istio: `valueFrom: HOST`), `{ cluster: NAME, path: \
        /PATH }`, a file that an internal listener of Envoy serves, or `{ inline: … }`, which is \
        visible in Envoy's `/config_dump`: only for demos.", {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
                    "inline": { "type": "string", "minLength": 1 },
                },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
            { "$ref": "#/$defs/SecretFile" },
        ],
    };
}

/// Any JSON value within a free-form object.
struct Json;

/// A JSON object whose content this schema does not restrict.
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
            "description": "One secret, or an array of secrets, in the order in which they are tried.",
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
