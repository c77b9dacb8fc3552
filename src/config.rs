//! The configuration as the operator wrote it. `policy` turns it into what the operator meant.
//!
//! These doc comments are the manual: what a member is for, its default and why, an example. Every member may be absent
//! here; what must be there, and what contradicts what, is `policy`'s to say.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The whole configuration of the plugin.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Config {
    /// The identity providers, by a name of your choice.
    pub issuers: Entries<Issuer>,
    /// What callers must show. Absent: requests are not checked.
    pub inbound: Option<Inbound>,
    /// Which tokens are attached to requests. Absent: none.
    pub outbound: Option<Outbound>,
    /// The most that waiting may take.
    pub waiting: Waiting,
    /// Whether the workers of an Envoy process share key sets and tokens, so that one of them fetches for all: `on`, `off` or
    /// `sealed`. Default: `on` where the plugin's `vm_config` has a `vm_id`, else `off`. The `vm_id` is all that keeps plugins
    /// apart there: with the empty one (which Istio gives every plugin) any other plugin of the proxy could read the tokens
    /// or plant a key set. `sealed` shares there too, and believes only what was sealed with `sealing_key`.
    pub sharing: Option<Sharing>,
    /// The key for `sharing: sealed`, at least 32 characters, the same for every plugin that shares, e.g. from
    /// `openssl rand -base64 32`.
    pub sealing_key: Option<Secret>,
}

/// Whether the workers of a process share what they fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each worker fetches for itself.
    Off,
    /// One worker fetches for all.
    On,
    /// The same, under `sealing_key`.
    Sealed,
}

/// An identity provider: who signs tokens, and where its endpoints are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Issuer {
    /// The exact `iss` of its tokens, e.g. `https://keycloak.example.com/realms/my-realm`. The endpoints that are not
    /// given below come from its discovery document (`OpenID` Connect Discovery, else RFC 8414).
    pub issuer: Option<String>,
    /// The Envoy cluster that reaches it. Not needed with `jwks` inline and no credential.
    pub cluster: Option<String>,
    /// Its key set. Default: what discovery says. Must be on the issuer's host unless named here.
    pub jwks_uri: Option<String>,
    /// The key set itself, for issuers without one to fetch. It never changes then.
    pub jwks: Option<Map<String, Value>>,
    /// Its token endpoint. Default: what discovery says.
    pub token_endpoint: Option<String>,
    /// Further hosts (`host` or `host:port`) that discovery may name. Default: none but the issuer's own, so that a
    /// tampered discovery document cannot send our secrets elsewhere.
    pub allowed_hosts: Vec<String>,
    /// Signature algorithms that are accepted. Default: all asymmetric ones that its keys fit (RS256, RS384, RS512,
    /// PS256, PS384, PS512, ES256, ES384, ES512, `EdDSA`). `none` and `HS*` cannot be allowed.
    pub algorithms: Vec<Algorithm>,
    /// Tolerance for `exp`, `nbf` and `iat`. Default `60s`: clocks of one fleet differ by less, and RFC 7519 asks for
    /// "no more than a few minutes". `0s` means none.
    pub clock_skew: Option<Span>,
    /// How long a fetched key set is used before it is renewed in the background. Default `5m`: how long a withdrawn
    /// key may still be believed. A key that is not in the set is looked for at once.
    pub refresh: Option<Span>,
    /// How long keys stay in use while the provider cannot be reached. Default `24h`: an outage of the provider must
    /// not become one of every service.
    pub max_stale: Option<Span>,
    /// How long one request to the provider may take. Default `5s`.
    pub timeout: Option<Span>,
}

/// JOSE signature algorithms.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    #[serde(alias = "Ed25519")]
    EdDSA,
}

/// What callers must show.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Inbound {
    /// `realm` of the challenge (RFC 9110 section 11.5). Default `m2m`. Never the request's URL.
    pub realm: Option<String>,
    /// The rules; the first that matches decides. A request that matches none is refused.
    pub rules: Vec<InboundRule>,
}

/// Requests, and what they need.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct InboundRule {
    /// Its name in metrics and logs. Default: its position, `rule-0`, `rule-1`, …
    pub name: Option<String>,
    /// Which requests. Default: all.
    pub r#match: Match,
    /// What the caller must show. Exactly one of `require` and `allow`.
    pub require: Option<Require>,
    /// `true`: everybody may, without a token.
    pub allow: bool,
    /// Claims to hand to the service: header name to claim path (`sub`, `realm_access.roles`; a list where names hold
    /// dots). A client's own copies of these headers are removed from every request, whatever rule it matches.
    pub claims_to_headers: Entries<ClaimPath>,
    /// Whether the service sees the `Authorization` header. Default `true`: it may want to pass it on.
    pub forward_token: Option<bool>,
}

/// Which requests a rule is for. All that is given must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Match {
    /// The host, `inventory-service` or `*.example.com`, without regard to case; with a port only if one is given here.
    pub host: Option<String>,
    /// The whole path. Paths are compared decoded and without dot segments, double slashes and parameters (`;x`).
    pub path: Option<String>,
    /// The path or its beginning, up to a `/`: `/inventory` matches `/inventory/items` but not `/inventoryx`.
    pub path_prefix: Option<String>,
    /// The methods. Default: all.
    pub methods: Vec<String>,
    /// Headers, by name: `x-tenant: blue`, `{ prefix: "blue-" }` or `{ present: true }`. Several lines of one header count as
    /// one value, with commas between (RFC 9110 section 5.3).
    pub headers: Entries<HeaderValue>,
}

/// What a header must be.
#[derive(Clone, Debug)]
pub enum HeaderValue {
    /// This value, to the letter.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
    /// There, with any value; or not there.
    Present(bool),
}

/// What a caller must show.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Require {
    /// The name of the issuer that must have signed the token.
    pub issuer: Option<String>,
    /// `aud` must hold at least one of these (RFC 7519 section 4.1.3).
    pub audiences: Vec<String>,
    /// Keycloak's realm roles (`realm_access.roles`).
    pub realm_roles: Option<Names>,
    /// Keycloak's client roles (`resource_access.<client>.roles`), by client.
    pub client_roles: Entries<Names>,
    /// Scopes (`scope` or `scp`).
    pub scopes: Option<Names>,
}

/// Names of roles or scopes: a list means all of them.
#[derive(Debug, Default)]
pub struct Names {
    /// Every one of these.
    pub all_of: Option<Vec<String>>,
    /// At least one of these.
    pub any_of: Option<Vec<String>>,
    /// Not one of these.
    pub none_of: Option<Vec<String>>,
}

/// The way to a claim: member names, outermost first.
#[derive(Clone, Debug)]
pub struct ClaimPath(pub Vec<String>);

/// Which tokens are attached to requests.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Outbound {
    /// The clients as which tokens are fetched, by a name of your choice.
    pub credentials: Entries<Credential>,
    /// The rules; the first that matches decides. A request that matches none is forwarded as it is.
    pub rules: Vec<OutboundRule>,
}

/// A client of an issuer, and the token that it asks for (RFC 6749 section 4.4).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Credential {
    /// The name of the issuer.
    pub issuer: Option<String>,
    /// `client_id`. Not needed with `auth_method: none`, where it is not sent.
    pub client_id: Option<String>,
    /// Its secret: `{ env: ORDER_SERVICE_SECRET }`. Or a list, `[{ env: NEW }, { env: OLD }]`, so that a secret can be
    /// rotated without a gap: where the provider does not take one of them, the next is tried at once, each once before
    /// the usual pause, and the one that worked is tried first from then on.
    pub client_secret: Option<Secrets>,
    /// How the client authenticates (RFC 6749 section 2.3, `OpenID` Connect Core section 9). Default
    /// `client_secret_basic`, which every provider must support.
    pub auth_method: AuthMethod,
    /// The key of `private_key_jwt`, `{ env: ORDER_SERVICE_KEY }`: RSA of at least 2048 bits, P-256 or Ed25519,
    /// unencrypted, as PEM (PKCS#8, or OpenSSL's older forms; lines may end in a written `\n`) or as a private JWK (RFC
    /// 7517).
    pub private_key: Option<Secret>,
    /// The name of that key in the assertion's header, where the provider knows several of this client. Default: the
    /// JWK's own `kid`, else none.
    pub kid: Option<String>,
    /// What that key signs with: RS256, ES256 or `EdDSA`, which its kind says already, so that this is for those who want
    /// to be told of another key. PS256 is refused: Envoy's own crypto does not sign it, and RSA within the module would
    /// be 36 KB more of it and hold up the worker.
    pub assertion_algorithm: Option<AssertionAlgorithm>,
    /// `aud` of the assertions of `private_key_jwt` and `client_secret_jwt`. Default: the issuer's `iss`, as FAPI 2.0 has
    /// it and Keycloak takes it; older providers want the URL of their token endpoint (`OpenID` Connect Core section 9).
    pub assertion_audience: Option<String>,
    /// `scope`.
    pub scopes: Vec<String>,
    /// `audience` (Auth0 and others).
    pub audience: Option<String>,
    /// `resource` (RFC 8707).
    pub resource: Vec<String>,
    /// Further parameters of the token request. `grant_type` and the others that have a member here are refused.
    pub parameters: Entries<String>,
    /// How long a token is taken to live when the provider does not say. Default `5m`.
    pub default_lifetime: Option<Span>,
}

/// How a client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// `Authorization: Basic`.
    #[default]
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body.
    ClientSecretPost,
    /// A JWT that is signed with the secret (HS256): the secret itself is never sent. Good for one use and 30 s.
    ClientSecretJwt,
    /// A JWT that is signed with `private_key` (RFC 7523 section 2.2): the provider knows nothing that could be stolen.
    /// Good for one use and 30 s. RS256 and ES256 need Envoy 1.37, `EdDSA` does not.
    PrivateKeyJwt,
    /// The cluster shows a client certificate (RFC 8705 section 2); the body holds nothing but `client_id`.
    TlsClientAuth,
    /// The cluster adds the proof: Envoy's own `credential_injector` as its HTTP filter, with an `Authorization` of SDS. No
    /// `client_id` is sent: `Authorization: Basic` holds it already, and some providers (Okta) refuse to be told twice.
    None,
}

/// What assertions can be signed with, and what not.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum AssertionAlgorithm {
    RS256,
    PS256,
    ES256,
    #[serde(alias = "Ed25519")]
    EdDSA,
}

/// One secret, or several of which any may be the right one.
#[derive(Clone, Debug)]
pub enum Secrets {
    /// The only one.
    One(Secret),
    /// In the order in which they are tried.
    AnyOf(Vec<Secret>),
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum Secret {
    /// An environment variable of Envoy, passed on by `environment_variables.host_env_keys` (Istio: `valueFrom: HOST`).
    Env(String),
    /// The secret itself, visible in Envoy's `/config_dump`: for demos.
    Inline(String),
}

/// Requests, and the token that they get.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct OutboundRule {
    /// Its name in metrics and logs. Default: its position, `rule-0`, `rule-1`, …
    pub name: Option<String>,
    /// Which requests. Default: all.
    pub r#match: Match,
    /// The name of the credential whose token is attached.
    pub credential: Option<String>,
    /// The header. Default `authorization`.
    pub header: Option<String>,
    /// What stands before the token. Default `Bearer` for `authorization`, else nothing.
    pub scheme: Option<String>,
    /// A second header for the token alone, such as `x-forwarded-access-token`. Default: none.
    pub second_header: Option<String>,
    /// What happens to a header of that name in the request. Default `overwrite`: a caller's own token must not reach
    /// another service by accident.
    pub existing: Existing,
    /// What happens while there is no token. Default `hold`.
    pub unavailable: Unavailable,
}

/// What happens to the header that the request already has.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It is replaced.
    #[default]
    Overwrite,
    /// It stays, and no token is attached.
    Keep,
}

/// What happens to a request while there is no token.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// It waits, within the bounds of `waiting`, then 503 with `Retry-After`.
    #[default]
    Hold,
    /// 503 with `Retry-After` at once.
    Fail,
    /// It is forwarded without a token, and without the header that the client may have sent.
    DangerPass,
}

/// The most that waiting may take.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Waiting {
    /// How long a request waits for keys or a token. Default `5s`: below the usual timeouts of callers.
    pub timeout: Option<Span>,
    /// How many requests of one worker wait for one thing. Default 1000; each holds its headers and its stream.
    pub requests: Option<usize>,
}

/// An object whose members are named by the operator, in the order of their names.
#[derive(Debug)]
pub struct Entries<T>(pub Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Entries<T> {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
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

        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

/// A span of time: `500ms`, `60s`, `5m`, `24h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a span of time such as \"500ms\", \"60s\", \"5m\", \"24h\", or a number of seconds",
                )
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Self::bounded(Duration::from_secs(seconds))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
            }

            // A `Struct` in Envoy's YAML holds every number as a double.
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                Duration::try_from_secs_f64(seconds)
                    .ok()
                    .and_then(Self::bounded)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let digits =
                    text.len().saturating_sub(text.trim_start_matches(|c: char| c.is_ascii_digit()).len());
                let (number, unit) = text.split_at(digits);
                let number: Option<u64> = number.parse().ok();
                let span = match (number, unit) {
                    (Some(number), "ms") => Some(Duration::from_millis(number)),
                    (Some(number), "s") => Some(Duration::from_secs(number)),
                    (Some(number), "m") => number.checked_mul(60).map(Duration::from_secs),
                    (Some(number), "h") => number.checked_mul(3600).map(Duration::from_secs),
                    _ => None,
                };
                span.and_then(Self::bounded).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        impl Text {
            /// A year: more is a mistyped number, and would overflow somewhere.
            fn bounded(span: Duration) -> Option<Span> {
                (span <= Duration::from_secs(366 * 86_400)).then_some(Span(span))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "an object")]
        #[expect(clippy::struct_field_names, reason = "the operator's words")]
        struct Full {
            all_of: Option<Vec<String>>,
            any_of: Option<Vec<String>>,
            none_of: Option<Vec<String>>,
        }
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names (all are needed), or an object with all_of, any_of, none_of")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<Names, A::Error> {
                let all = Vec::deserialize(de::value::SeqAccessDeserializer::new(elements))?;
                Ok(Names { all_of: Some(all), ..Names::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<Names, A::Error> {
                let Full { all_of, any_of, none_of } =
                    Full::deserialize(de::value::MapAccessDeserializer::new(members))?;
                Ok(Names { all_of, any_of, none_of })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Sharing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Switch;

        impl Visitor<'_> for Switch {
            type Value = Sharing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on, off or sealed")
            }

            // To YAML 1.1, which Envoy reads, `on` and `off` are truth values.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Sharing, E> {
                Ok(if on { Sharing::On } else { Sharing::Off })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sharing, E> {
                match text {
                    "on" => Ok(Sharing::On),
                    "off" => Ok(Sharing::Off),
                    "sealed" => Ok(Sharing::Sealed),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Switch)
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HeaderValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with exactly one of exact, prefix and present")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Exact(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<HeaderValue, A::Error> {
                let entry: Option<(String, Value)> = members.next_entry()?;
                let more = members.next_key::<de::IgnoredAny>()?.is_some();
                let entry = entry.filter(|_| !more);
                let value = match entry.as_ref().map(|(name, value)| (name.as_str(), value)) {
                    Some(("exact", Value::String(text))) => Some(HeaderValue::Exact(text.clone())),
                    Some(("prefix", Value::String(text))) => Some(HeaderValue::Prefix(text.clone())),
                    Some(("present", Value::Bool(present))) => Some(HeaderValue::Present(*present)),
                    _ => None,
                };
                value.ok_or_else(|| de::Error::invalid_type(de::Unexpected::Map, &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ClaimPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a claim, dotted (\"realm_access.roles\") or as a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClaimPath, E> {
                Ok(ClaimPath(text.split('.').map(str::to_owned).collect()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, elements: A) -> Result<ClaimPath, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(elements)).map(ClaimPath)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?)
    }
}

impl Secret {
    /// Written by hand, since serde's own messages quote what stands there.
    fn read<E: de::Error>(value: &Value) -> Result<Self, E> {
        const EXPECTED: &str = "expected {\"env\": \"NAME\"} or {\"inline\": \"…\"}, a variable's name or a text that is not empty";
        let pair =
            value.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
        match pair.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())) {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("inline", secret)) if !secret.is_empty() => Ok(Self::Inline(secret.to_owned())),
            _ => Err(E::custom(format_args!("not shown here since it may be a secret, {EXPECTED}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Array(list) => list.iter().map(Secret::read).collect::<Result<_, _>>().map(Self::AnyOf),
            value => Secret::read(&value).map(Self::One),
        }
    }
}

/// POSIX, "Environment Variable Definition": what every shell can set.
fn is_variable(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(sound)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::Inline(_) => f.write_str("redacted"),
        }
    }
}
