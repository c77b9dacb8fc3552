//! The configuration as the operator wrote it. `policy` compiles it.
//!
//! These doc comments are the manual: what a field is, its unit, its default with the reason, an
//! example. Every field may be absent here; `policy` checks which fields are required and which
//! contradict each other. Values that can be written in more than one way are read in
//! `config/values.rs` and `config/claim.rs`.

mod choices;
mod claim;
mod credential;
pub mod envoy_bytes;
pub mod errors;
#[cfg(not(target_family = "wasm"))]
mod json_schema;
pub mod path_deserializer;
mod setting;
mod values;

pub use choices::{Preset, SignatureAlgorithm};
pub use claim::{ClaimCondition, Operand, Scalar};
pub use credential::{
    AssertionAlgorithm, AuthMethod, ClientAssertionType, Credential, GrantType, SecretFile, SecretSource,
    SecretSources, SubjectToken,
};
pub use setting::Setting;

use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// The whole configuration of the plugin.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Config {
    /// The identity providers, by a name of your choice.
    pub issuers: Entries<Issuer>,
    /// What inbound requests must present. Absent: requests are not checked.
    pub inbound: Option<Inbound>,
    /// Which tokens are attached to outbound requests. Absent: none.
    pub outbound: Option<Outbound>,
    /// Bounds on requests that wait for a key set or a token.
    pub pending_requests: PendingRequests,
    /// Whether the workers of an Envoy process share key sets and tokens, so that one worker
    /// fetches for all: `on`, `off` or `sealed`. Default: `on` if the plugin's `vm_config` has a
    /// `vm_id`, else `off`. Only the `vm_id` separates plugins there: with the empty one, which
    /// Istio gives every plugin, any other plugin of the proxy could read the tokens or plant a key
    /// set. `sealed` shares even then, and accepts only data that was encrypted with `sharing_key`.
    pub sharing: Option<Sharing>,
    /// The key for `sharing: sealed`: at least 32 characters, and the same for every plugin that
    /// shares. Generate one with `openssl rand -base64 32`.
    pub sharing_key: Option<SecretSource>,
}

/// Whether the workers of a process share what they fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each worker fetches for itself.
    Off,
    /// One worker fetches for all.
    On,
    /// One worker fetches for all; the shared data is encrypted with `sharing_key`.
    Sealed,
}

/// An identity provider: who signs tokens, and where its endpoints are.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Issuer {
    /// The exact `iss` of its tokens, such as `https://keycloak.example.com/realms/my-realm`.
    /// Endpoints that are not set below come from its discovery document (`OpenID` Connect
    /// Discovery, else RFC 8414). An array, for a provider with several names
    /// (`[https://new.example.com, https://old.example.com]`): a token may have any of them, and
    /// discovery starts at the first. A template, for a provider with one name per tenant:
    /// `https://login.microsoftonline.com/{tenantid}/v2.0`, with `tenants`.
    pub issuer: StringOrList,
    /// The tenants whose tokens are accepted, for a template in `issuer`. Each replaces the
    /// variable in `iss`, and the token's `tid` must be the same. All tenants cannot be accepted: a
    /// provider with many tenants also signs tokens for strangers. Discovery starts at the first.
    pub tenants: Vec<String>,
    /// The Envoy cluster that reaches it. Not required with inline `jwks` and no credential.
    pub cluster: Option<String>,
    /// The cluster that reaches its `jwks_uri`, if that is on another host than its metadata.
    /// Default: `cluster`.
    pub jwks_cluster: Option<String>,
    /// The cluster that reaches its token endpoint, such as one that presents a client certificate.
    /// Default: `cluster`.
    pub token_cluster: Option<String>,
    /// The cluster that reaches its introspection endpoint. Default: `cluster`.
    pub introspection_cluster: Option<String>,
    /// Claim layout of the provider's tokens: `keycloak` (the default), `auth0`, `entra`, `okta`,
    /// `cognito`, `google`, `kubernetes`, or `generic` for every other provider. It selects the
    /// claims for `roles` (Auth0's `permissions`, Entra's `roles`, Okta's `groups`, Cognito's
    /// `cognito:groups`), for `scopes` (`scope` or `scp`), and for the client (`clients`, and the
    /// audit log): `azp`, `client_id`, `cid`, `appid`, or Kubernetes' `sub`. Only Keycloak has
    /// `client_roles`. `generic` has `client_id`, else `azp`, and `scope`, and no roles. Google and
    /// Kubernetes have neither roles nor scopes. A rule that requires what the preset does not have
    /// is a configuration error. The preset also rejects the provider's other tokens
    /// (`not_access_token`), as far as a claim identifies them. `keycloak`: `typ` other than
    /// `Bearer` (`DPoP` if the token is bound to a key), `token_use` other than `access`.
    /// `cognito`: no `token_use: access`. All but `google` and `kubernetes`: `at_hash` or `c_hash`,
    /// which only ID tokens have. See also `access_token_claims`.
    pub preset: Preset,
    /// URL of its key set (JWKS). Default: from discovery, where it must be on the issuer's host or
    /// in `allowed_hosts`.
    pub jwks_uri: Option<String>,
    /// The key set itself (JWKS, RFC 7517), for issuers that do not publish one. It never changes.
    #[serde(deserialize_with = "values::free_form")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "Option<json_schema::FreeForm>"))]
    pub jwks: Option<Map<String, Value>>,
    /// Its token endpoint: a URL, or `{ env: TOKEN_URL }`. Default: from discovery.
    pub token_endpoint: Option<Setting>,
    /// Its introspection endpoint (RFC 7662). Default: from discovery. Used only with
    /// `introspection`.
    pub introspection_endpoint: Option<String>,
    /// Token introspection (RFC 7662). Default: off, and only JWTs are accepted. With it, rules
    /// that require this issuer also accept its opaque tokens; see `require.introspect`.
    pub introspection: Option<Introspection>,
    /// Further hosts (`host` or `host:port`) to which discovery may refer. Default: only the
    /// issuer's own, so that a tampered discovery document cannot send secrets elsewhere. An
    /// endpoint that the configuration does not use may be on any host.
    pub allowed_hosts: Vec<String>,
    /// Signature algorithms that are accepted. Default: all asymmetric ones that its keys fit
    /// (RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, `EdDSA`). `none` and `HS*`
    /// cannot be enabled. A key without `alg` verifies RS* by default, and PS* only if PS* is
    /// listed here. PS* and `EdDSA` are verified in the module, at about 100 signatures per second
    /// and worker.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Tolerance for `exp`, `nbf` and `iat`. Default `60s`: the clocks of one fleet differ by less,
    /// and RFC 7519 recommends "no more than a few minutes". `0s` means none. At most `10m`.
    pub clock_skew: Option<DurationValue>,
    /// Accepted values of the header's `typ`: media types, case-insensitive, with or without
    /// `application/`, and `absent` for tokens without `typ`. Default `[absent, JWT, at+jwt]`: Okta
    /// and Cognito send none, Keycloak and Entra send `JWT`.
    pub token_types: Option<Vec<String>>,
    /// Claims in which this provider's access tokens differ from its other tokens, such as ID
    /// tokens and logout tokens, which it signs with the same keys (RFC 8725 section 3.12):
    /// `{ token_use: access, nonce: absent }`. Each claim of the payload must be one of the given
    /// strings, exactly; `absent` accepts tokens without it: `typ: [absent, Bearer]`. Other tokens
    /// are rejected as `not_access_token`. Default: none, and only the checks of `preset` apply;
    /// these come in addition. Introspection responses must contain the claims too. For the
    /// header's `typ`, use `token_types` or `rfc9068`.
    pub access_token_claims: Entries<StringOrList>,
    /// `true`: tokens must follow RFC 9068 exactly: `typ` is `at+jwt`, and `iss`, `exp`, `aud`,
    /// `sub`, `client_id`, `iat` and `jti` are all present. Default `false`: most providers need a
    /// setting for it (Keycloak: "Use `at+jwt` as access token header type").
    pub rfc9068: bool,
    /// Maximum lifetime of a token, from `iat` to `exp`. Default: no maximum; the provider decides.
    /// With it, a token without `iat` is rejected. At least `1s`.
    pub max_lifetime: Option<DurationValue>,
    /// How long a fetched key set is used before it is refreshed in the background, and so how long
    /// a withdrawn key may still be accepted. A key that is not in the set is fetched at once.
    /// Default: the `max-age` of the provider's `Cache-Control`, limited to between `1m` and `10m`;
    /// `5m` if it sends none, or `no-cache` as Keycloak does. A value here overrides the
    /// provider's. At least `5s`.
    pub jwks_refresh_interval: Option<DurationValue>,
    /// How long keys stay in use while the provider cannot be reached. Default `24h`, so that an
    /// outage of the provider does not become an outage of every service. At least
    /// `jwks_refresh_interval`.
    pub jwks_max_stale: Option<DurationValue>,
    /// Timeout of one request to the provider. Default `5s`; between `1ms` and `60s`. The first
    /// request after the provider could not be reached may take `60s`: all proxies send theirs at
    /// that time, and a request that is given up is wasted work.
    pub timeout: Option<DurationValue>,
    /// The longest pause between two attempts at a provider that fails, or that does not accept the
    /// client; between `1s` and `5m`. Default, after signs of overload (timeouts, 5xx, 429): about
    /// half the usual refresh interval, at most `160s`, so that even a large fleet sends an
    /// overloaded provider less than three times the usual number of requests. Default while the
    /// provider cannot be reached: `20s`. Default while requests need a token for a client that is
    /// not accepted: `30s`. A new configuration with a shorter value shortens a running pause.
    /// `Retry-After` takes precedence.
    pub max_backoff: Option<DurationValue>,
}

/// The client that introspects tokens at an issuer (RFC 7662), and how often. For Keycloak: a
/// confidential client that is in the tokens' `aud`. Each worker has a cache of its own; a token
/// that is in use is introspected again in the background, before its cached result expires. While
/// the issuer cannot be reached, cached results are used until they expire. After that, requests
/// get 503 with `Retry-After`, never 401.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub struct Introspection {
    /// `client_id`, as for a credential. Not required with `auth_method: external`.
    pub client_id: Option<Setting>,
    /// Its secret, or an array of secrets, as for a credential.
    pub client_secret: Option<SecretSources>,
    /// How the client authenticates, as for a credential. Default `client_secret_basic`.
    pub auth_method: AuthMethod,
    /// The assertion of `workload_identity`, as for a credential.
    pub client_assertion: Option<SecretFile>,
    /// The type of that assertion, as for a credential.
    pub client_assertion_type: Option<ClientAssertionType>,
    /// The key for `private_key_jwt`, as for a credential.
    pub private_key: Option<SecretSource>,
    /// The id of that key, as for a credential.
    pub kid: Option<String>,
    /// The `typ` of the client's assertions, as for a credential.
    pub assertion_header_type: Option<String>,
    /// The algorithm of that key, as for a credential.
    pub assertion_algorithm: Option<AssertionAlgorithm>,
    /// `aud` of the client's assertions, as for a credential. Default: the issuer's `iss`.
    pub assertion_audience: Option<String>,
    /// How long an active token is assumed to be active, but never beyond its `exp`: a revoked
    /// token is accepted for at most this long. Default `30s`: short enough to limit the damage,
    /// and a caller that sends one request per second costs its provider one request in 24. Between
    /// `1s` and `5m`.
    pub cache: Option<DurationValue>,
    /// How long an inactive token is not introspected again. Default `10s`: inactive tokens do not
    /// become active again, but replicas of a provider may learn of a new token late. Between `1s`
    /// and `5m`.
    pub negative_cache: Option<DurationValue>,
    /// Approximate limit on unknown tokens that one worker introspects per second, so that a flood
    /// of made-up tokens cannot reach the provider. Default 100; between 1 and 10000. Requests
    /// beyond it wait, at most three seconds' worth of them; the others get 503
    /// (`too_many_pending`). Tokens that were active before go first.
    pub requests_per_second: Option<u32>,
}

/// Which tokens are introspected.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub enum Introspect {
    /// Tokens that are not JWTs.
    Opaque,
    /// All tokens. JWTs are verified first, so that only valid ones are introspected. The claims of
    /// the introspection response take precedence over those of the JWT.
    Always,
}

/// What inbound requests must present.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Inbound {
    /// `realm` of the challenge (RFC 9110 section 11.5). Default `m2m`. Never the request's URL.
    pub realm: Option<String>,
    /// The format of error response bodies. `json` (the default): `{"error": "Missing token",
    /// "reason": "no_token", "message": "…"}`. `problem`: `application/problem+json` (RFC 9457)
    /// with `type`, `title`, `status`, `detail`, and `reason`.
    pub error_format: ErrorFormat,
    /// Protected resource metadata: which authorization servers issue tokens for this service (RFC
    /// 9728). With it, the filter answers `GET /.well-known/oauth-protected-resource` itself,
    /// without a token, and every challenge refers to that URL. Default: none, so that the trusted
    /// issuers are not published.
    pub resource_metadata: Option<ResourceMetadata>,
    /// Where requests carry their token. Default `[{ header: authorization, scheme: Bearer }]` (RFC
    /// 6750 section 2.1). A request with more than one credential in these locations is denied (RFC
    /// 6750 section 2).
    pub token_locations: Option<Vec<TokenLocation>>,
    /// How `DPoP` proofs are verified, for rules with `token_binding: dpop`.
    pub dpop: Option<Dpop>,
    /// The rules; the first that matches applies. Requests that match no rule are denied.
    pub rules: Vec<InboundRule>,
    /// `true`: every service behind this filter treats `/a` and `/A` as two paths. Default `false`:
    /// some do not (Express, ASP.NET, Windows), so a request whose path would match another rule in
    /// a different case gets 400 `ambiguous_path`. With `true`, such a service would run `/admin`
    /// for `/ADMIN`, which the rule for `/admin` does not match.
    pub danger_case_sensitive_paths: bool,
    /// `true`: the decision is written to Envoy's filter state, for later filters and for the
    /// access log: `wasm.m2m_auth.decision` (`allowed`, `refused`, `would_refuse`), `.reason` (why
    /// the request was denied), `.rule`, and for an authenticated caller `.subject`, `.client`,
    /// `.issuer` (its `iss`), `.roles` and `.scopes`. `rbac` reads them as a principal
    /// (`filter_state`), rate limits as CEL (`filter_state['wasm.m2m_auth.client']`), the access
    /// log as `%FILTER_STATE(wasm.m2m_auth.subject:PLAIN)%`. Lists are comma-separated; a client
    /// role reads `client/role`; commas, `/`, `%`, spaces and control characters within a name are
    /// percent-encoded. A value that the caller does not have is not set. Default `false`: each
    /// value costs a request about 0.2 µs.
    pub filter_state: bool,
}

/// The format of error response bodies.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFormat {
    /// An object with `error`, `reason` and `message`.
    #[default]
    Json,
    /// Problem details (RFC 9457).
    Problem,
}

/// Metadata of the protected resource (RFC 9728 section 2).
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ResourceMetadata {
    /// The resource identifier: its `https` URL as clients know it,
    /// `https://api.example.com/inventory`. With a path, the document is also served at
    /// `/.well-known/oauth-protected-resource/inventory`.
    pub resource: Option<String>,
    /// The issuers from which clients can get tokens. Default: the issuers that the rules name.
    pub authorization_servers: Vec<String>,
    /// The scopes that clients may request. Default: not listed.
    pub scopes_supported: Vec<String>,
    /// A display name. Default: none.
    pub resource_name: Option<String>,
    /// URL of documentation for developers. Default: none.
    pub resource_documentation: Option<String>,
}

/// How `DPoP` proofs are verified (RFC 9449). Each proof is valid once. Workers remember used
/// proofs together if they share data (`sharing`), else each for itself; a stolen proof could then
/// be used once more with another worker, within `window`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Dpop {
    /// The origins by which clients know this service, `[https://api.example.com]`: `htu` of a
    /// proof must be at one of them. Default: the request's own scheme and host. That is correct
    /// unless a proxy before this one changes them, such as one that terminates TLS.
    pub origins: Vec<String>,
    /// The maximum difference between a proof's `iat` and now, in both directions. Default `60s`:
    /// the clocks of one fleet differ by less. Between `1s` and `5m`. Used proofs are remembered
    /// for as long.
    pub window: Option<DurationValue>,
    /// With it, proofs must have a nonce of this service (RFC 9449 section 9). The nonce comes with
    /// a 401 `use_dpop_nonce`, is valid for 5 minutes, and replaces `window`: proofs cannot be made
    /// in advance, and clients' clocks do not matter. A key of at least 32 characters, the same for
    /// every proxy of the service, since a client's next request may reach another proxy. Default:
    /// no nonces.
    pub nonce_key: Option<SecretSource>,
}

/// Which requests the rule matches, and what it requires.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct InboundRule {
    /// Its name in metrics and logs. Default: derived from its match, `GET /orders/**`, in metrics
    /// `GET_orders_all`.
    pub name: Option<String>,
    /// Which requests the rule matches. Default: all.
    pub r#match: Match,
    /// How the decision is enforced. Default `enforce`.
    pub mode: Mode,
    /// What the caller must present. Exactly one of `require` and `allow` is needed.
    pub require: Option<Require>,
    /// `true`: every request is allowed, without a token.
    pub allow: bool,
    /// Where these requests carry their token, instead of `inbound.token_locations`.
    pub token_locations: Option<Vec<TokenLocation>>,
    /// Claims to forward to the service: header name to claim path (`sub`, `realm_access.roles`; an
    /// array if names contain dots). A client's own copies of these headers are removed from every
    /// request, whatever rule it matches. So are headers that differ only in `_` for `-`, which
    /// many servers treat as the same. A claim that does not fit into a header (control characters,
    /// more than 8000 bytes) is dropped and counted.
    pub claims_to_headers: Entries<ClaimPath>,
    /// A header for the whole payload of the verified token, base64url without padding, exactly as
    /// in the token: `x-jwt-payload`. Envoy's own `jwt_authn` calls it `forward_payload_header`. A
    /// client's own copies are removed, as for `claims_to_headers`. Default: none.
    pub payload_header: Option<String>,
    /// Whether the token is forwarded to the service, in any `mode`. Default `true` for the
    /// `Authorization` header, since the service may want to pass it on, and `false` for all other
    /// locations, since services log queries, and sometimes cookies. Everything else in a query and
    /// in cookies is forwarded unchanged, byte for byte.
    pub forward_token: Option<bool>,
    /// `true`: a CORS preflight for a request of this rule is forwarded without a token, since
    /// browsers send none: `OPTIONS` with one `Origin` and one `Access-Control-Request-Method`.
    /// `match.methods` then applies to the announced method. Default `false`.
    pub cors_preflight: bool,
}

/// How a rule's decision is enforced.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Requests that fail the rule are denied.
    #[default]
    Enforce,
    /// As `enforce`, but a request without any token is forwarded as anonymous. A request with an
    /// invalid token is denied. So is one whose token cannot be verified because keys are
    /// unavailable (503).
    Optional,
    /// Every request is forwarded, and the header `m2m-auth-decision` has the decision: `allowed`,
    /// else the reason why it would have been denied. Only a service that reads the header is still
    /// protected, hence `danger_`. Requests do not wait for keys.
    DangerPermissive,
    /// Every request is forwarded, and the decision appears only in metrics and in the log, so that
    /// a rule can be tried on real traffic. It protects nothing, hence `danger_`. Requests do not
    /// wait for keys.
    DangerDryRun,
}

/// A location where a request may carry its token: exactly one of `header`, `cookie` and
/// `danger_query`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct TokenLocation {
    /// A header, such as `authorization` or `x-api-token`.
    pub header: Option<String>,
    /// The scheme before the token, case-insensitive and followed by a space. Default `Bearer` for
    /// `authorization`, else none.
    pub scheme: Option<String>,
    /// A string before the token, case-sensitive, instead of a scheme.
    pub prefix: Option<String>,
    /// A cookie. Browsers attach cookies automatically, also to requests from other sites: make
    /// sure that they are `SameSite`.
    pub cookie: Option<String>,
    /// A query parameter (RFC 6750 section 2.3). URLs, and the token with them, end up in logs,
    /// histories and `Referer` headers, hence `danger_`: RFC 9700 section 4.3.2 forbids it. For
    /// clients that can send nothing but a URL.
    pub danger_query: Option<String>,
}

/// Which requests a rule matches. All given conditions must hold.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Match {
    /// The host, `inventory-service` or `*.example.com`, case-insensitive; the port is compared
    /// only if one is given here. A malformed host that matches different rules when interpreted in
    /// different ways (`svc:x`, `svc.`) gets 400 `ambiguous_host`. The client chooses the host: in
    /// an outbound rule add `cluster`, which Envoy chooses, if clients must not select a token by
    /// their `Host`.
    pub host: Option<String>,
    /// The whole path, decoded; a trailing slash is ignored. A gRPC method is the path
    /// `/package.Service/Method`. Servers interpret some paths in different ways (encodings, dot
    /// segments, `;parameters`, case and so on). A request that matches different rules when
    /// interpreted in different ways gets 400 `ambiguous_path`.
    pub path: Option<String>,
    /// The path or its beginning, up to a `/`: `/inventory` matches `/inventory/items` but not
    /// `/inventoryx`, and `/package.Service` matches every method of that gRPC service.
    pub path_prefix: Option<String>,
    /// The whole path with placeholders: `/orders/{id}/items`. `{id}` and `*` match exactly one
    /// segment; `**` and `{rest=**}`, only at the end, match any number of segments, including
    /// none: `/tenants/{tenant}/**`.
    pub path_template: Option<String>,
    /// The methods, in upper case. Default: all. `GET` includes `HEAD`, since services run the same
    /// code for both. If a rule has `methods`, a lower-case method and the headers that override a
    /// method (`x-http-method-override`, `x-http-method`, `x-method-override`) count too: a request
    /// that then matches different rules gets 400 `ambiguous_method`.
    pub methods: Vec<String>,
    /// Headers, by name: `x-tenant: blue`, `{ prefix: "blue-" }` or `{ present: true }`. Several
    /// lines of one header are one comma-separated value (RFC 9110 section 5.3).
    pub headers: Entries<HeaderValue>,
    /// The Envoy cluster to which the request is routed, by its exact name:
    /// `outbound|443||api.example.com`. Only for outbound rules: inbound, changed headers make
    /// Envoy select a route again, so that a request that was allowed for one cluster could reach
    /// another. The lookup costs each request about 1 µs. A request whose cluster is unknown to
    /// this filter (no route, or no such cluster) does not match. Unlike `host`, it is Envoy's
    /// choice and not the client's.
    pub cluster: Option<String>,
}

/// What a header must be.
#[derive(Clone, Debug)]
pub enum HeaderValue {
    /// Exactly this value.
    Exact(String),
    /// A value with this prefix.
    Prefix(String),
    /// `true`: present, with any value. `false`: absent.
    Present(bool),
}

/// What a caller must present.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Require {
    /// The name of the issuer that must have signed the token. Exactly one of `issuer` and
    /// `issuers` is needed.
    pub issuer: Option<String>,
    /// The names of several issuers, one of which must have signed the token. The token's `iss`
    /// selects the issuer, and only that issuer's keys are used.
    pub issuers: Vec<String>,
    /// `aud` must contain at least one of these (RFC 7519 section 4.1.3), or `{ any_of: […],
    /// all_of: […] }`. May be omitted only together with `clients`, for issuers whose tokens have
    /// no `aud` (Cognito); a token that has one is then rejected.
    pub audiences: Audiences,
    /// Required token binding, so that a stolen token alone is useless: `dpop`, to a key that each
    /// request proves possession of (RFC 9449), or `mtls`, to the client certificate of the
    /// connection (RFC 8705 section 3). For an object, see `TokenBinding`. Default: none, and
    /// sender-constrained tokens are rejected, since nothing would check the key.
    pub token_binding: Option<TokenBinding>,
    /// Which tokens are introspected (RFC 7662): `opaque`, tokens that are not JWTs, or `always`,
    /// so that a revoked JWT is rejected within `introspection.cache`, at the cost of one request
    /// to the issuer per token and worker in that time. Default `opaque` if the issuer has
    /// `introspection`. With several `issuers`: a JWT names its issuer, so under `always` all of
    /// them must have `introspection`; an opaque token names none, and is sent to the first issuer
    /// that has it.
    pub introspect: Option<Introspect>,
    /// Accepted subjects (`sub`), exact. Default: any. Others get 403.
    pub subjects: Option<Vec<String>>,
    /// Accepted clients, exact, by the claim that the provider uses: `azp`, `client_id`, `cid` or
    /// `appid`. Default: any. Others get 403.
    pub clients: Option<Vec<String>>,
    /// The maximum time since the caller authenticated (`auth_time`, RFC 9470 section 4), or since
    /// the token was issued (`iat`) if the token has no `auth_time`, as tokens of services do not.
    /// Default: no maximum. `clock_skew` is not added. At least `1s`.
    pub max_age: Option<DurationValue>,
    /// Accepted authentication contexts: `acr` must be one of these (RFC 9470 section 4), the
    /// preferred first. Default: any. A request that is denied for this or for `max_age` gets both
    /// in the challenge, `acr_values="gold silver", max_age="300"`.
    pub acr_values: Option<Vec<String>>,
    /// Roles that belong to no client: Keycloak's realm roles (`realm_access.roles`), or the claim
    /// that the issuer's `preset` selects.
    pub roles: Option<NameConditions>,
    /// Keycloak's client roles (`resource_access.<client>.roles`), by client.
    pub client_roles: Entries<NameConditions>,
    /// Scopes (`scope` or `scp`).
    pub scopes: Option<NameConditions>,
    /// Conditions on other claims, `[{ claim: tenant, equals: { header: x-tenant } }]`. All must
    /// hold.
    pub claims: Option<Vec<ClaimCondition>>,
    /// At least one of these must hold, `[{ roles: [admin] }, { scopes: [orders:read] }]`, in
    /// addition to all other conditions here.
    pub any: Option<Vec<Conditions>>,
    /// All of these must hold. Use it for two `any` conditions, one in each element.
    pub all: Option<Vec<Conditions>>,
}

/// Conditions within `any` and `all`, with the same meaning as in `require`; nested at most four
/// deep.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Conditions {
    /// Roles that belong to no client.
    pub roles: Option<NameConditions>,
    /// Keycloak's client roles, by client.
    pub client_roles: Entries<NameConditions>,
    /// Scopes.
    pub scopes: Option<NameConditions>,
    /// Conditions on other claims.
    pub claims: Option<Vec<ClaimCondition>>,
    /// At least one of these must hold.
    pub any: Option<Vec<Self>>,
    /// All of these must hold.
    pub all: Option<Vec<Self>>,
}

/// The audiences that a token must have: an array means any of them.
#[derive(Debug, Default)]
pub struct Audiences {
    /// At least one of these.
    pub any_of: Option<Vec<String>>,
    /// Every one of these.
    pub all_of: Option<Vec<String>>,
}

/// Required token binding; `dpop` alone means `{ dpop: true }`, and `mtls` means `{ mtls: true }`.
/// If several are enabled, a token must be bound to at least one, and possession of each key that
/// it is bound to must be proved.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct TokenBinding {
    /// `true`: the token's `cnf.jkt` is the thumbprint of the key that signed the request's `DPoP`
    /// header, and the token is sent as `Authorization: DPoP …`. See `inbound.dpop`.
    pub dpop: bool,
    /// `true`: the token's `cnf.x5t#S256` is the SHA-256 of the client certificate of this
    /// connection. The listener must request client certificates. The lookup costs each request
    /// about 1 µs.
    pub mtls: bool,
    /// `true`: as `mtls`, with the certificate that `x-forwarded-client-cert` has in `Hash`, for a
    /// filter behind a proxy that terminates the client's TLS. The header must have exactly one
    /// element. A client that can set it can use any stolen token: Envoy must replace it
    /// (`forward_client_cert_details: SANITIZE_SET`) at every external listener, and only such
    /// proxies may reach this one. The certificate of this connection is then ignored.
    pub danger_xfcc: bool,
    /// `true`: tokens without a binding are accepted too. Default `false`.
    pub optional: bool,
}

/// Names of roles or scopes: an array means all of them.
#[derive(Debug, Default)]
pub struct NameConditions {
    /// Every one of these.
    pub all_of: Option<Vec<String>>,
    /// At least one of these.
    pub any_of: Option<Vec<String>>,
    /// None of these.
    pub none_of: Option<Vec<String>>,
    /// `true`: `*` in these names matches any string. Default `false`: names match exactly and
    /// case-sensitively.
    pub glob: bool,
}

/// The path of a claim: member names, outermost first.
#[derive(Clone, Debug)]
pub struct ClaimPath(pub Vec<String>);

/// Which tokens are attached to outbound requests.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Outbound {
    /// The clients for which tokens are fetched, by a name of your choice.
    pub credentials: Entries<Credential>,
    /// The rules; the first that matches applies. Requests that match no rule are forwarded
    /// unchanged.
    pub rules: Vec<OutboundRule>,
    /// `true`: the called services treat `/a` and `/A` as two paths. Default `false`: a request
    /// whose path would match another outbound rule in a different case gets 400 `ambiguous_path`,
    /// so that it cannot select the wrong credential.
    pub danger_case_sensitive_paths: bool,
}

/// A duration: `500ms`, `60s`, `5m`, `24h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationValue(pub Duration);

/// A string, or an array of strings.
#[derive(Clone, Debug, Default)]
pub struct StringOrList(pub Vec<String>);

/// Which requests the rule matches, and which token they get.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct OutboundRule {
    /// Its name in metrics and logs. Default: derived from its match, `GET /orders/**`, in metrics
    /// `GET_orders_all`.
    pub name: Option<String>,
    /// Which requests the rule matches. Default: all.
    pub r#match: Match,
    /// The name of the credential whose token is attached. Exactly one of `credential` and
    /// `route_metadata` is needed.
    pub credential: Option<String>,
    /// `true`: the route names the credential, in its metadata: `metadata: { filter_metadata: {
    /// m2m_auth: { credential: order-service } } }`. The rule matches only requests whose route
    /// names one. Put it first, unless other rules take precedence over the route. `credential:
    /// none` on a route attaches nothing. A name that is not a credential here gets 503
    /// (`unknown_credential`): the request is never forwarded without its token. Default `false`:
    /// authors of routes could use any credential of this filter, and the lookup costs each request
    /// about 1 µs.
    pub route_metadata: bool,
    /// The header. Default `authorization`.
    pub header: Option<String>,
    /// The scheme before the token; the empty string means none. Default `Bearer` for
    /// `authorization` (`DPoP` for a credential with `dpop`), else none.
    #[serde(deserialize_with = "values::maybe_empty")]
    #[cfg_attr(not(target_family = "wasm"), schemars(extend("minLength" = 0)))]
    pub scheme: Option<String>,
    /// A second header for the token alone, such as `x-forwarded-access-token`. Default: none.
    pub second_header: Option<String>,
    /// For a credential with `dpop`: the origin in the proofs, `https://api.example.com`, which
    /// must be the one by which the called service knows itself. Default: the request's own scheme
    /// and host. Set it if Envoy speaks TLS to the service or rewrites the host, since the service
    /// then sees another URL than this filter. Set it also if clients must not choose the proof's
    /// origin by their `Host`.
    pub dpop_origin: Option<String>,
    /// What happens to a header of that name in the request. Default `overwrite`: a caller's own
    /// token must not reach another service by accident.
    pub existing: Existing,
    /// What happens to a request if no token is available. Default `hold`.
    pub unavailable: Unavailable,
}

/// What happens to the header that the request already has.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It is replaced.
    #[default]
    Overwrite,
    /// It is kept, and no token is attached.
    Keep,
}

/// What happens to a request if no token is available.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// It waits, within the bounds of `pending_requests`, then 503 with `Retry-After`.
    #[default]
    Hold,
    /// 503 with `Retry-After` at once.
    Fail,
    /// It is forwarded without a token, and without the client's own header.
    DangerPass,
}

/// Bounds on requests that wait for a key set or a token.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct PendingRequests {
    /// How long a request waits for keys or a token. Default `5s`, which is below the usual
    /// timeouts of callers. At most `60s`.
    pub timeout: Option<DurationValue>,
    /// Maximum number of requests of one worker that wait for the same key set or token. Default
    /// 1000; each holds its headers and its stream. At most 10000. Of the requests that wait for a
    /// key that is not in the issuer's key set, at most 64 wait, with at most a quarter of
    /// `max_bytes`: such a token may be made up.
    pub max: Option<usize>,
    /// Maximum memory, in bytes, for waiting requests of one worker whose callers are not yet
    /// verified: their headers, and their `content-length` up to 1 MiB, which is Envoy's default
    /// buffer limit. A body of undeclared length counts as 1 MiB; a request without a body counts
    /// only its headers. Bodies take at most three quarters, so that requests without one can still
    /// wait. Default 67108864 (64 MiB): about 48 such bodies, or all of the 1000 requests if they
    /// have none. At most 1073741824 (1 GiB). A request beyond it gets 503 `too_many_pending`.
    pub max_bytes: Option<usize>,
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
