//! The configuration as the operator wrote it. `policy` turns it into what the operator meant.
//!
//! These doc comments are the manual: what a member is for, its default and why, an example. Every member may be absent
//! here; what must be there, and what contradicts what, is `policy`'s to say. Values that can be written in more than one way
//! are read in `config/read.rs` and `config/claim.rs`.

mod choices;
mod claim;
pub mod envoy_bytes;
pub mod errors;
#[cfg(not(target_family = "wasm"))]
mod json_schema;
pub mod path_deserializer;
mod setting;
mod values;

pub use choices::{Preset, SignatureAlgorithm};
pub use claim::{ClaimCondition, Operand, Scalar};
pub use setting::Setting;

use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The whole configuration of the plugin.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Config {
    /// The identity providers, by a name of your choice.
    pub issuers: Entries<Issuer>,
    /// What callers must show. Absent: requests are not checked.
    pub inbound: Option<Inbound>,
    /// Which tokens are attached to requests. Absent: none.
    pub outbound: Option<Outbound>,
    /// Bounds on requests that wait for a key set or a token.
    pub pending_requests: PendingRequests,
    /// Whether the workers of an Envoy process share key sets and tokens, so that one of them fetches for all: `on`, `off` or
    /// `sealed`. Default: `on` where the plugin's `vm_config` has a `vm_id`, else `off`. The `vm_id` is all that keeps plugins
    /// apart there: with the empty one (which Istio gives every plugin) any other plugin of the proxy could read the tokens
    /// or plant a key set. `sealed` shares there too, and believes only what was sealed with `sharing_key`.
    pub sharing: Option<Sharing>,
    /// The key for `sharing: sealed`, at least 32 characters, the same for every plugin that shares, e.g. from
    /// `openssl rand -base64 32`.
    pub sharing_key: Option<SecretSource>,
}

/// Whether the workers of a process share what they fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each worker fetches for itself.
    Off,
    /// One worker fetches for all.
    On,
    /// The same, under `sharing_key`.
    Sealed,
}

/// An identity provider: who signs tokens, and where its endpoints are.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Issuer {
    /// The exact `iss` of its tokens, e.g. `https://keycloak.example.com/realms/my-realm`. The endpoints that are not
    /// given below come from its discovery document (`OpenID` Connect Discovery, else RFC 8414). A list, for a provider that
    /// goes by several names (`[https://new.example.com, https://old.example.com]`): a token may have any of them, and
    /// discovery starts at the first. Where each tenant has a name of its own, a template:
    /// `https://login.microsoftonline.com/{tenantid}/v2.0`, with `tenants`.
    pub issuer: StringOrList,
    /// The tenants whose tokens are accepted, for a template in `issuer`: what stands there in `iss`, and what `tid` must be
    /// beside it. Never all of them: a provider of many tenants signs for strangers too. Discovery starts at the first.
    pub tenants: Vec<String>,
    /// The Envoy cluster that reaches it. Not needed with `jwks` inline and no credential.
    pub cluster: Option<String>,
    /// The cluster that reaches its `jwks_uri`, where that is on another host than its metadata. Default: `cluster`.
    pub jwks_cluster: Option<String>,
    /// The cluster that reaches its token endpoint, e.g. one that presents a client certificate. Default: `cluster`.
    pub token_cluster: Option<String>,
    /// The cluster that reaches its introspection endpoint. Default: `cluster`.
    pub introspection_cluster: Option<String>,
    /// Where its tokens say what: `keycloak` (the default), `auth0`, `entra`, `okta`, `cognito`, `google` or `kubernetes`.
    /// `roles` are then Auth0's `permissions`, Entra's `roles`, Okta's `groups`, Cognito's `cognito:groups`; `scopes` are
    /// `scope` or `scp`; the client in the audit log is `azp`, `client_id`, `cid`, `appid`, or Kubernetes' `sub`. Cognito's tokens
    /// must have `token_use: access`, since its ID tokens are signed alike. Google's and Kubernetes' have neither roles nor
    /// scopes, and rules that ask for some are refused; so are `client_roles`, which only Keycloak has.
    pub preset: Preset,
    /// Its key set. Default: what discovery says. Must be on the issuer's host unless named here.
    pub jwks_uri: Option<String>,
    /// The key set itself, for issuers without one to fetch. It never changes then.
    #[serde(deserialize_with = "values::free_form")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "Option<json_schema::FreeForm>"))]
    pub jwks: Option<Map<String, Value>>,
    /// Its token endpoint: a URL, or `{ env: TOKEN_URL }`. Default: what discovery says.
    pub token_endpoint: Option<Setting>,
    /// Where it says whether a token is active (RFC 7662). Default: what discovery says. Asked only with `introspection`.
    pub introspection_endpoint: Option<String>,
    /// Token introspection (RFC 7662). Default: off, and only JWTs are accepted. With it, rules that require this
    /// issuer take its opaque tokens too; see `require.introspect`.
    pub introspection: Option<Introspection>,
    /// Further hosts (`host` or `host:port`) that discovery may name. Default: none but the issuer's own, so that a
    /// tampered discovery document cannot send our secrets elsewhere.
    pub allowed_hosts: Vec<String>,
    /// Signature algorithms that are accepted. Default: all asymmetric ones that its keys fit (RS256, RS384, RS512,
    /// PS256, PS384, PS512, ES256, ES384, ES512, `EdDSA`). `none` and `HS*` cannot be allowed. A key without `alg` verifies PS* only
    /// if PS* is named here: by default it verifies RS*. PS* and `EdDSA` are verified in the module, 100 signatures a second
    /// and worker.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Tolerance for `exp`, `nbf` and `iat`. Default `60s`: clocks of one fleet differ by less, and RFC 7519 asks for
    /// "no more than a few minutes". `0s` means none.
    pub clock_skew: Option<DurationValue>,
    /// What the header's `typ` may be: media types, with or without `application/`, in any case, and `absent` for none.
    /// Default `[absent, JWT, at+jwt]`: Okta and Cognito send none, Keycloak and Entra `JWT`.
    pub token_types: Option<Vec<String>>,
    /// `true`: tokens must follow RFC 9068 to the letter: `typ` is `at+jwt`, and `iss`, `exp`, `aud`, `sub`, `client_id`, `iat` and
    /// `jti` are all there. Default `false`: most providers need a setting for it (Keycloak: "Use `at+jwt` as access token
    /// header type").
    pub rfc9068: bool,
    /// The longest that a token may be good for, from `iat` to `exp`. Default: any time; the provider decides. With it, a
    /// token without `iat` is refused.
    pub max_lifetime: Option<DurationValue>,
    /// How long a fetched key set is used before it is renewed in the background, and so how long a withdrawn key may still be
    /// believed; a key that is not in the set is looked for at once. Default: the `max-age` of the provider's `Cache-Control`,
    /// but at least `1m` and at most `10m`; `5m` where it says none, or `no-cache` as Keycloak does. What is written here counts
    /// whatever the provider says.
    pub jwks_refresh_interval: Option<DurationValue>,
    /// How long keys stay in use while the provider cannot be reached. Default `24h`: an outage of the provider must
    /// not become one of every service.
    pub jwks_max_stale: Option<DurationValue>,
    /// How long one request to the provider may take. Default `5s`. The first one after the provider could not be reached may
    /// take `60s`, as all proxies ask then, and an answer that is given up is work for nothing.
    pub timeout: Option<DurationValue>,
    /// The longest pause between two attempts at a provider that fails, or that does not accept the client. Default: after signs
    /// of overload (time-outs, 5xx, 429) nine sixteenths of the time after which a token or a key set is renewed when all is
    /// well, and `160s` at most, so that even a large fleet asks a provider that struggles less than three times as often as
    /// usual; while it cannot be reached, `20s`; while requests need a token for a client that is not accepted, `30s`. A
    /// shorter one that is pushed shortens a running pause. `Retry-After` goes before it.
    pub max_backoff: Option<DurationValue>,
}

/// The client that asks an issuer about tokens (RFC 7662), and how often. For Keycloak: a confidential client that is in the
/// tokens' `aud`. Each worker asks for itself and remembers for itself; a token that is in use is asked about again in the
/// background, before its answer ends. While the issuer cannot be asked, answers are used until they end, and then it is
/// 503 with `Retry-After`, never 401.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub struct Introspection {
    /// `client_id`, as for a credential. Not needed with `auth_method: external`.
    pub client_id: Option<Setting>,
    /// Its secret, or a list of secrets, as for a credential.
    pub client_secret: Option<SecretSources>,
    /// How the client authenticates, as for a credential. Default `client_secret_basic`.
    pub auth_method: AuthMethod,
    /// The key of `private_key_jwt`, as for a credential.
    pub private_key: Option<SecretSource>,
    /// The name of that key, as for a credential.
    pub kid: Option<String>,
    /// What that key signs with, as for a credential.
    pub assertion_algorithm: Option<AssertionAlgorithm>,
    /// `aud` of the client's assertions, as for a credential. Default: the issuer's `iss`.
    pub assertion_audience: Option<String>,
    /// How long an active token is taken to be active, though never beyond its `exp`: the longest that a revoked one is still
    /// let in. Default `30s`: short enough to matter, and a caller that calls once a second costs its provider one request
    /// in 24. Between `1s` and `5m`.
    pub cache: Option<DurationValue>,
    /// How long a token that is not active is not asked about again. Default `10s`: inactive tokens do not come back to life,
    /// but replicas of a provider may learn of a new token late. Between `1s` and `5m`.
    pub negative_cache: Option<DurationValue>,
    /// About how many unknown tokens one worker asks a second, so that a flood of made-up ones cannot become the
    /// provider's. Default 100. Beyond it requests wait for their turn, at most three seconds' worth of them, and the
    /// others are answered with 503 (`too_many_pending`). Tokens that were found active are asked about ahead of them.
    pub requests_per_second: Option<u32>,
}

/// Which tokens the issuer is asked about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub enum Introspect {
    /// Those that are no JWT.
    Opaque,
    /// All. What can be verified is verified first, so that only good JWTs are asked about; what the answer says of the
    /// caller then counts, and of what it does not mention the JWT does.
    Always,
}

/// What callers must show.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Inbound {
    /// `realm` of the challenge (RFC 9110 section 11.5). Default `m2m`. Never the request's URL.
    pub realm: Option<String>,
    /// The form of a refusal's body. `json` (the default): `{"error": "Missing token", "reason": "no_token", "message": "…"}`.
    /// `problem`: `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, and `reason`.
    pub error_format: ErrorFormat,
    /// Protected resource metadata: which authorization servers issue tokens for this service (RFC 9728). With it the filter answers
    /// `GET /.well-known/oauth-protected-resource` itself, without a token, and every challenge names that place. Default:
    /// nothing; which issuers are trusted is nobody's business unless the operator says so.
    pub resource_metadata: Option<ResourceMetadata>,
    /// Where requests carry their token. Default `[{ header: authorization, scheme: Bearer }]`, as RFC 6750 section 2.1 has it.
    /// A request with more than one credential in these places is refused (section 2 there).
    pub token_locations: Option<Vec<TokenLocation>>,
    /// How proofs of possession are judged, for rules with `token_binding: dpop`.
    pub dpop: Option<Dpop>,
    /// The rules; the first that matches decides. A request that matches none is refused.
    pub rules: Vec<InboundRule>,
    /// `true`: the services take `/a` and `/A` for two paths, every one of them. Default `false`: some do not (Express, ASP.NET,
    /// Windows), so that a request whose path leads to another rule in another case is refused with 400 `ambiguous_path`.
    /// With `true` such a service would run `/admin` for `/ADMIN`, which the rule for `/admin` does not see.
    pub danger_case_sensitive_paths: bool,
    /// `true`: what was decided stands in Envoy's filter state, for the filters behind this one and for the access log:
    /// `wasm.m2m_auth.decision` (`allowed` or `refused`), `.reason` (why refused), `.rule`, and of a caller `.subject`, `.client`,
    /// `.issuer` (its `iss`), `.roles` and `.scopes`. `rbac` takes them as a principal (`filter_state`), rate limits as CEL
    /// (`filter_state['wasm.m2m_auth.client']`), the access log as `%FILTER_STATE(wasm.m2m_auth.subject:PLAIN)%`. Lists have commas
    /// between; a role of a client reads `client/role`; commas, `/`, `%`, blanks and control characters of a name are
    /// percent-encoded. What a caller does not have is not set. Default `false`: each costs a request about 0.2 µs.
    pub filter_state: bool,
}

/// The form of a refusal's body.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFormat {
    /// Our own words.
    #[default]
    Json,
    /// RFC 9457.
    Problem,
}

/// What a protected resource says of itself (RFC 9728 section 2).
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ResourceMetadata {
    /// The identifier of the resource: its `https` URL as callers know it, `https://api.example.com/inventory`. With a path,
    /// the document is at `/.well-known/oauth-protected-resource/inventory` too.
    pub resource: Option<String>,
    /// Where tokens are to be had. Default: the issuers that the rules name.
    pub authorization_servers: Vec<String>,
    /// The scopes that clients may ask for. Default: not listed.
    pub scopes_supported: Vec<String>,
    /// A name for people. Default: none.
    pub resource_name: Option<String>,
    /// Where developers can read more. Default: none.
    pub resource_documentation: Option<String>,
}

/// How proofs of possession are judged (RFC 9449). Each proof is good once; the workers of a process remember those that were
/// used together where they share (`sharing`), else each for itself, so that a stolen one could be used once more with
/// another worker, within `window`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Dpop {
    /// The origins by which callers know this service, `[https://api.example.com]`: `htu` of a proof must be at one of them.
    /// Default: the request's own scheme and host, which is right unless a proxy before this one changes them, such as one that
    /// ends TLS.
    pub origins: Vec<String>,
    /// How far from now a proof's `iat` may lie, either way. Default `60s`: clocks of one fleet differ by less. Between `1s`
    /// and `5m`. Used proofs are remembered that long.
    pub window: Option<DurationValue>,
    /// With it, proofs must have a nonce of this service (RFC 9449 section 9), which comes with a 401 `use_dpop_nonce`, is valid for 5
    /// minutes, and takes the place of `window`: so nobody can make proofs ahead, and callers' clocks do not count. A key of at
    /// least 32 characters, the same for every proxy of the service, as a caller's next request may come to another one.
    /// Default: no nonces.
    pub nonce_key: Option<SecretSource>,
}

/// Requests, and what they need.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct InboundRule {
    /// Its name in metrics and logs. Default: what it matches, `GET /orders/**`, in metrics `GET_orders_all`.
    pub name: Option<String>,
    /// Which requests. Default: all.
    pub r#match: Match,
    /// What becomes of the decision. Default `enforce`.
    pub mode: Mode,
    /// What the caller must show. Exactly one of `require` and `allow`.
    pub require: Option<Require>,
    /// `true`: everybody may, without a token.
    pub allow: bool,
    /// Where these requests carry their token, instead of where `inbound.token_locations` says.
    pub token_locations: Option<Vec<TokenLocation>>,
    /// Claims to hand to the service: header name to claim path (`sub`, `realm_access.roles`; a list where names hold
    /// dots). A client's own copies of these headers are removed from every request, whatever rule it matches, also those that
    /// differ in `_` for `-`, which many servers take for the same. A claim that no header can hold (control characters,
    /// more than 8000 bytes) is left out and counted.
    pub claims_to_headers: Entries<ClaimPath>,
    /// A header for the whole payload of the verified token, base64url without padding, as it stands in the token:
    /// `x-jwt-payload`. What Envoy's own `jwt_authn` calls `forward_payload_header`. A client's own copies are removed as above.
    /// Default: none.
    pub payload_header: Option<String>,
    /// Whether the service sees the token, in whatever `mode`. Default `true` for the `Authorization` header, as the service may want to
    /// pass it on, and `false` for all other places, since services write queries, and sometimes cookies, into their logs. Everything
    /// else in a query and in cookies stays as it is, byte for byte.
    pub forward_token: Option<bool>,
    /// `true`: a CORS preflight for a request of this rule goes on without a token, as browsers send none: `OPTIONS` with one `Origin`
    /// and one `Access-Control-Request-Method`, which is the method that `match.methods` is about then. Default `false`.
    pub cors_preflight: bool,
}

/// What becomes of a rule's decision.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Who may not is refused.
    #[default]
    Enforce,
    /// The same, but a request without any token goes on without a caller. One with a bad token is refused, and so is one whose
    /// token cannot be judged, as keys cannot be had (503).
    Optional,
    /// Every request is forwarded, and the header `m2m-auth-decision` holds the decision: `allowed`, else the reason of
    /// the refusal that it was spared. Only a service that reads it is still protected, hence `danger_`. Nobody waits for keys.
    DangerPermissive,
    /// Every request is forwarded, and only metrics and the log show the decision, so that a rule can be tried on real traffic. It
    /// protects nothing meanwhile, hence `danger_`. Nobody waits for keys.
    DangerDryRun,
}

/// A place where a request may carry its token: exactly one of `header`, `cookie` and `danger_query`.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct TokenLocation {
    /// A header, such as `authorization` or `x-api-token`.
    pub header: Option<String>,
    /// The scheme before the token, in any case, with a blank behind it. Default `Bearer` for `authorization`, else none.
    pub scheme: Option<String>,
    /// A text before the token, to the letter, instead of a scheme.
    pub prefix: Option<String>,
    /// A cookie. Browsers attach cookies by themselves, to requests of other sites too: see that they are `SameSite`.
    pub cookie: Option<String>,
    /// A parameter of the query (RFC 6750 section 2.3). URLs end up in logs, histories and `Referer` headers, and with them the token,
    /// hence `danger_`: RFC 9700 section 4.3.2 forbids it. For clients that can send nothing but a URL.
    pub danger_query: Option<String>,
}

/// Which requests a rule is for. All that is given must hold.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Match {
    /// The host, `inventory-service` or `*.example.com`, without regard to case; with a port only if one is given here. A
    /// malformed host that leads to different rules when read in different ways (`svc:x`, `svc.`) is refused with 400
    /// `ambiguous_host`. It is what the client sends: in an outbound rule add `cluster`, which Envoy has chosen, where clients
    /// must not choose by their `Host` which token they get.
    pub host: Option<String>,
    /// The whole path, decoded; a slash at the end does not count. A gRPC method is the path `/package.Service/Method`. Servers
    /// read some paths in different ways (encodings, dot segments, `;parameters`, case and so on). A request that leads to
    /// different rules when read in different ways is refused with 400 `ambiguous_path`.
    pub path: Option<String>,
    /// The path or its beginning, up to a `/`: `/inventory` matches `/inventory/items` but not `/inventoryx`, and
    /// `/package.Service` matches every method of that gRPC service.
    pub path_prefix: Option<String>,
    /// The whole path with places in it: `/orders/{id}/items`. `{id}` and `*` stand for one segment, whatever it is;
    /// `**` and `{rest=**}` at the end for any number of them, none included: `/tenants/{tenant}/**`.
    pub path_template: Option<String>,
    /// The methods, in upper case. Default: all. `GET` includes `HEAD`, since services run the same code for both. Where a rule
    /// has `methods`, a lower-case method and the headers that override a method (`x-http-method-override`, `x-http-method`,
    /// `x-method-override`) count too: a request that leads to different rules then is refused with 400 `ambiguous_method`.
    pub methods: Vec<String>,
    /// Headers, by name: `x-tenant: blue`, `{ prefix: "blue-" }` or `{ present: true }`. Several lines of one header count as
    /// one value, with commas between (RFC 9110 section 5.3).
    pub headers: Entries<HeaderValue>,
    /// The Envoy cluster that the request goes to, by its exact name: `outbound|443||api.example.com`. For outbound rules
    /// only: inbound, changed headers make Envoy choose its route again, and what was allowed for one cluster could reach
    /// another. Envoy has to be asked for it, which costs each request about 1 µs. A request whose cluster is not known when
    /// this filter sees it (there is no route, or Envoy has no such cluster) matches no rule with this member. Unlike `host`, it
    /// is Envoy's word and not the client's.
    pub cluster: Option<String>,
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
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Require {
    /// The name of the issuer that must have signed the token. Exactly one of `issuer` and `issuers`.
    pub issuer: Option<String>,
    /// The names of several issuers of which one must have signed the token: the token's own `iss` says which, and then only
    /// that one's keys count.
    pub issuers: Vec<String>,
    /// `aud` must hold at least one of these (RFC 7519 section 4.1.3), or `{ any_of: […], all_of: […] }`. May be left out only
    /// beside `clients`, for issuers whose tokens have no `aud` (Cognito); a token that has one is refused then.
    pub audiences: Audiences,
    /// Whether tokens must be bound to a key of the caller's, so that a stolen token alone is of no use: `dpop`, to one that each
    /// request proves anew (RFC 9449), or `mtls`, to the certificate of the caller's connection (RFC 8705 section 3). An object says
    /// more, see `TokenBinding`. Default: tokens that are bound are refused, as nobody looks at the key.
    pub token_binding: Option<TokenBinding>,
    /// Which tokens the issuer is asked about (RFC 7662): `opaque`, those that are no JWT, or `always`, so that a revoked JWT
    /// stops within `introspection.cache`, for one request to the issuer per token and worker in that time. Default `opaque`
    /// where the issuer has `introspection`.
    /// Of several `issuers` a JWT names its own, so that under `always` all must have `introspection`; an opaque token says nothing,
    /// and the first that has it is asked.
    pub introspect: Option<Introspect>,
    /// Whose tokens are accepted: `sub`, exact. Default: everybody's. Another is answered with 403.
    pub subjects: Option<Vec<String>>,
    /// The clients whose tokens are accepted, exact, by whichever of `azp`, `client_id`, `cid` and `appid` the provider uses.
    /// Default: any client. Another is answered with 403.
    pub clients: Option<Vec<String>>,
    /// The longest time since the caller authenticated (`auth_time`, RFC 9470 section 4), or since the token was issued (`iat`)
    /// where it does not say, as the tokens of services do not. Default: none. `clock_skew` is not added.
    pub max_age: Option<DurationValue>,
    /// How the caller may have authenticated: `acr` must be one of these (RFC 9470 section 4), the best first. Default: anyhow. Who is
    /// refused for this or `max_age` gets both in the challenge, `acr_values="gold silver", max_age="300"`.
    pub acr_values: Option<Vec<String>>,
    /// Roles that belong to no client: Keycloak's realm roles (`realm_access.roles`), and what the issuer's `preset` says.
    pub roles: Option<NameConditions>,
    /// Keycloak's client roles (`resource_access.<client>.roles`), by client.
    pub client_roles: Entries<NameConditions>,
    /// Scopes (`scope` or `scp`).
    pub scopes: Option<NameConditions>,
    /// Conditions on other claims, `[{ claim: tenant, equals: { header: x-tenant } }]`. All must hold.
    pub claims: Option<Vec<ClaimCondition>>,
    /// At least one of these must hold, `[{ roles: [admin] }, { scopes: [orders:read] }]`, beside all that stands here.
    pub any: Option<Vec<Conditions>>,
    /// All of these must hold: for two `any`, one in each.
    pub all: Option<Vec<Conditions>>,
}

/// Requirements within `any` and `all`, with the same meaning as there; at most four deep.
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

/// The audiences that a token must name: a list means any of them.
#[derive(Debug, Default)]
pub struct Audiences {
    /// At least one of these.
    pub any_of: Option<Vec<String>>,
    /// Every one of these.
    pub all_of: Option<Vec<String>>,
}

/// To which keys tokens must be bound; `dpop` alone stands for `{ dpop: true }`, and `mtls` for `{ mtls: true }`. Of several, a
/// token must be bound to one, and each key that it is bound to must be shown.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in what operators write")]
pub struct TokenBinding {
    /// `true`: `cnf.jkt` of the token is the thumbprint of the key that has signed the request's `DPoP` header, and the token comes as
    /// `Authorization: DPoP …`. See `inbound.dpop`.
    pub dpop: bool,
    /// `true`: `cnf.x5t#S256` of the token is the SHA-256 of the certificate that the client has shown on this connection. It takes a
    /// listener that asks for client certificates. Envoy is asked for it, which costs each request about 1 µs.
    pub mtls: bool,
    /// `true`: that of the certificate which `x-forwarded-client-cert` names in `Hash`, for a filter behind a proxy that ends the
    /// client's TLS. The header must have one element alone. A client that can send it here can use any stolen token: Envoy must
    /// replace it (`forward_client_cert_details: SANITIZE_SET`) at each way in from outside, and nothing but such proxies may
    /// reach this one. This connection's certificate is not looked at then.
    pub danger_xfcc: bool,
    /// `true`: tokens that are not bound are taken too. Default `false`.
    pub optional: bool,
}

/// Names of roles or scopes: a list means all of them.
#[derive(Debug, Default)]
pub struct NameConditions {
    /// Every one of these.
    pub all_of: Option<Vec<String>>,
    /// At least one of these.
    pub any_of: Option<Vec<String>>,
    /// Not one of these.
    pub none_of: Option<Vec<String>>,
    /// `true`: a `*` in these names stands for any text. Default `false`: names are meant to the letter.
    pub glob: bool,
}

/// The way to a claim: member names, outermost first.
#[derive(Clone, Debug)]
pub struct ClaimPath(pub Vec<String>);

/// Which tokens are attached to requests.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Outbound {
    /// The clients as which tokens are fetched, by a name of your choice.
    pub credentials: Entries<Credential>,
    /// The rules; the first that matches decides. A request that matches none is forwarded as it is.
    pub rules: Vec<OutboundRule>,
    /// `true`: the called services take `/a` and `/A` for two paths. Default `false`: a request whose path leads to another
    /// outbound rule in another case is refused with 400 `ambiguous_path`, so that it cannot choose the wrong credential.
    pub danger_case_sensitive_paths: bool,
}

/// A client of an issuer, and the token that it asks for.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Credential {
    /// The name of the issuer.
    pub issuer: Option<String>,
    /// What entitles the client to the token. Default `client_credentials`: itself.
    pub grant_type: GrantType,
    /// For `token_exchange`: the token that is exchanged (`subject_token`, RFC 8693 section 2.1). `caller` is the token of this
    /// very request's caller, after the inbound rule has verified it; `{ header: authorization }` is whatever the
    /// request brings there, which nobody but the provider judges. Default: `caller` where there are inbound rules, else
    /// the `authorization` header.
    pub subject_token: Option<SubjectToken>,
    /// For `token_exchange`: what that token is (`subject_token_type`): `access_token` (the default), `jwt`, `id_token`, or a
    /// whole URN.
    pub subject_token_type: Option<String>,
    /// For `token_exchange`: `true` forwards the subject token beside the new one. Default `false`: it is removed from the request,
    /// wherever it stands, also where `forward_token` of the inbound rule would keep it, and where the request is forwarded
    /// without a new token (`existing: keep`, `unavailable: danger_pass`). The called service has no use for it, and could
    /// act as the caller with it.
    pub forward_subject_token: bool,
    /// For `token_exchange`: what is asked for (`requested_token_type`): `access_token`, `jwt`, `id_token`, or a whole URN
    /// such as that of transaction tokens. Default: not sent, and the provider issues an access token. A refresh token
    /// cannot be asked for, as no service may see one.
    pub requested_token_type: Option<String>,
    /// For `token_exchange`: about how many unknown subject tokens one worker exchanges a second, so that a flood of made-up ones
    /// cannot become the provider's. Default 100 where `subject_token` is a header, which may hold anything; none where it
    /// is the verified caller's. Beyond it requests wait for their turn, at most three seconds' worth of them, and the others are
    /// answered with 503 (`too_many_pending`). Tokens that were exchanged before are renewed ahead of them.
    pub requests_per_second: Option<u32>,
    /// For `jwt_bearer`: `sub` of the assertion, the subject of the token (RFC 7523 section 3). Default: the client itself.
    pub assertion_subject: Option<String>,
    /// For `jwt_bearer`: further claims of the assertion, such as `{ scope: "…" }`, which Google reads there. With
    /// `target_audience` an ID token is asked for, as Cloud Run and IAP want it: an answer with `id_token` alone is then
    /// taken, and the ID token attached.
    #[serde(deserialize_with = "values::free_form")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "json_schema::FreeForm"))]
    pub assertion_claims: Map<String, Value>,
    /// `client_id`: a text, or `{ env: CLIENT_ID }`. Not needed with `auth_method: external`, where it is not sent.
    pub client_id: Option<Setting>,
    /// Its secret: `{ env: ORDER_SERVICE_SECRET }`. Or a list, `[{ env: NEW }, { env: OLD }]`, so that a secret can be
    /// rotated without a gap: where the provider does not take one of them, the next is tried at once, each once before
    /// the usual pause, and the one that worked is tried first from then on.
    pub client_secret: Option<SecretSources>,
    /// How the client authenticates (RFC 6749 section 2.3, `OpenID` Connect Core section 9). Default
    /// `client_secret_basic`, which every provider must support.
    pub auth_method: AuthMethod,
    /// The key of `private_key_jwt`, and of `jwt_bearer`, `{ env: ORDER_SERVICE_KEY }`: RSA of at least 2048 bits, P-256 or Ed25519,
    /// unencrypted, as PEM (PKCS#8, or OpenSSL's older forms; lines may end in a written `\n`) or as a private JWK (RFC
    /// 7517).
    pub private_key: Option<SecretSource>,
    /// The name of that key in the assertion's header, where the provider knows several of this client. Default: the
    /// JWK's own `kid`, else none.
    pub kid: Option<String>,
    /// What that key signs with: RS256, ES256 or `EdDSA`, which its kind says already, so that this is for those who want
    /// to learn another key. PS256 is refused: Envoy's own crypto does not sign it, and RSA within the module would
    /// be 36 KB more of it and hold up the worker.
    pub assertion_algorithm: Option<AssertionAlgorithm>,
    /// `aud` of the assertions of `private_key_jwt`, `client_secret_jwt` and `jwt_bearer`. Default: the issuer's `iss`, as FAPI 2.0 has
    /// it and Keycloak takes it; older providers want the URL of their token endpoint (`OpenID` Connect Core section 9).
    pub assertion_audience: Option<String>,
    /// `scope`.
    pub scopes: Vec<String>,
    /// `audience` (Auth0 and others). For `token_exchange` it may be a list (RFC 8693 section 2.1); for Keycloak it holds client
    /// ids, and narrows what `scopes` and roles bring, never adds to it.
    pub audience: StringOrList,
    /// `resource` (RFC 8707).
    pub resource: Vec<String>,
    /// Further parameters of the token request. `grant_type` and the others that have a member here are refused.
    pub parameters: Entries<String>,
    /// `true`: the token is bound to a key that never leaves the worker (`DPoP`, RFC 9449), so that a thief has no
    /// use for it. It is asked for and sent with a proof by that key, `Authorization: DPoP …` and a `DPoP` header; a
    /// provider that answers with a token that is not bound is refused. Each worker has a key, and thus a token, of its own.
    /// Default `false`: the provider and the called service must know `DPoP`. The key is P-256 (ES256) from Envoy 1.37 on,
    /// before that Ed25519 (`EdDSA`).
    pub dpop: bool,
    /// What `token_type` of the answer may be: names, in any case, and `absent` for none. Default `[Bearer]` (RFC 6749 section
    /// 7.1: a client must not use a type that it does not understand). `[Bearer, BearerToken, absent]` takes what Apigee sends,
    /// and providers that leave it out. The token is attached with the `scheme` of the rule, whatever its type is called. Not
    /// beside `dpop`, where it must be `DPoP`.
    pub token_types: Option<Vec<String>>,
    /// How long a token is taken to live when the provider does not say. Default `5m`.
    pub default_lifetime: Option<DurationValue>,
}

/// What entitles a client to a token.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// The client itself (RFC 6749 section 4.4): one token for all requests.
    #[default]
    ClientCredentials,
    /// The caller's verified token (RFC 8693): one exchanged token for each, which expires no later than the caller's.
    TokenExchange,
    /// An assertion that the client signs with `private_key` (RFC 7523 section 2.1), as Google's service accounts do: one token
    /// for all requests.
    JwtBearer,
}

/// The token that is exchanged for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectToken {
    /// The verified caller's.
    Caller,
    /// What this header holds.
    Header(String),
}

/// A span of time: `500ms`, `60s`, `5m`, `24h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationValue(pub Duration);

/// A text, or a list of texts.
#[derive(Clone, Debug, Default)]
pub struct StringOrList(pub Vec<String>);

/// How a client authenticates at the token endpoint.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
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
    /// The cluster shows a client certificate (RFC 8705 section 2); the body holds nothing but `client_id`. Where the metadata
    /// has `mtls_endpoint_aliases`, the alias is asked (section 5); on a host of its own it needs `allowed_hosts`.
    TlsClientAuth,
    /// The cluster adds the proof: Envoy's own `credential_injector` as its HTTP filter, with an `Authorization` of SDS. No
    /// `client_id` is sent: `Authorization: Basic` holds it already, and some providers (Okta) refuse to get it twice.
    External,
}

/// What assertions can be signed with, and what not.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
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
pub enum SecretSources {
    /// The only one.
    One(SecretSource),
    /// In the order in which they are tried.
    AnyOf(Vec<SecretSource>),
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// An environment variable of Envoy, passed on by `environment_variables.host_env_keys` (Istio: `valueFrom: HOST`).
    Env(String),
    /// The secret itself, visible in Envoy's `/config_dump`: for demos.
    Inline(String),
}

/// Requests, and the token that they get.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct OutboundRule {
    /// Its name in metrics and logs. Default: what it matches, `GET /orders/**`, in metrics `GET_orders_all`.
    pub name: Option<String>,
    /// Which requests. Default: all.
    pub r#match: Match,
    /// The name of the credential whose token is attached. Exactly one of `credential` and `route_metadata`.
    pub credential: Option<String>,
    /// `true`: the route says whose token is attached, in its own metadata: `metadata: { filter_metadata: { m2m_auth: {
    /// credential: order-service } } }`. The rule is for the requests whose route says something; it comes first, unless
    /// other rules are to come before the route's word. `credential: none` on a route attaches nothing. A name that is no
    /// credential here is answered with 503 (`unknown_credential`): the request never goes on without its token. Default
    /// `false`, since those who write routes need not be those who own this filter, and with it they may use any of its
    /// credentials; and since Envoy has to be asked, which costs each request about 1 µs.
    pub route_metadata: bool,
    /// The header. Default `authorization`.
    pub header: Option<String>,
    /// What stands before the token; the empty string is nothing. Default `Bearer` for `authorization` (`DPoP` for a credential
    /// with `dpop`), else nothing.
    #[serde(deserialize_with = "values::maybe_empty")]
    #[cfg_attr(not(target_family = "wasm"), schemars(extend("minLength" = 0)))]
    pub scheme: Option<String>,
    /// A second header for the token alone, such as `x-forwarded-access-token`. Default: none.
    pub second_header: Option<String>,
    /// For a credential with `dpop`: the origin that the proofs claim, `https://api.example.com`, which must be the one by which
    /// the called service knows itself. Default: the request's own scheme and host. Give it wherever Envoy speaks TLS to the
    /// service or rewrites the host, as the service then sees another URL than this filter; and where callers are not to
    /// choose, by their `Host`, which origin a proof is for.
    pub dpop_origin: Option<String>,
    /// What happens to a header of that name in the request. Default `overwrite`: a caller's own token must not reach
    /// another service by accident.
    pub existing: Existing,
    /// What happens while there is no token. Default `hold`.
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
    /// It stays, and no token is attached.
    Keep,
}

/// What happens to a request while there is no token.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// It waits, within the bounds of `pending_requests`, then 503 with `Retry-After`.
    #[default]
    Hold,
    /// 503 with `Retry-After` at once.
    Fail,
    /// It is forwarded without a token, and without the header that the client may have sent.
    DangerPass,
}

/// Bounds on requests that wait for a key set or a token.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct PendingRequests {
    /// How long a request waits for keys or a token. Default `5s`: below the usual timeouts of callers.
    pub timeout: Option<DurationValue>,
    /// How many requests of one worker wait for one thing. Default 1000; each holds its headers and its stream. Of those that wait
    /// for a key which the issuer's key set does not hold, at most 64, with at most a quarter of `max_bytes`: such a token may be
    /// made up.
    pub max: Option<usize>,
    /// How many bytes the requests of one worker take up that wait and whose callers are not verified yet: their headers, and their
    /// `content-length`, at most 1 MiB, as Envoy reads no more of a body by default. A body whose length is not declared counts as
    /// 1 MiB, a request without a body as its headers. Bodies take three quarters of it at most, so that requests without one
    /// still wait beside them. Default 67108864 (64 MiB): some 48 such bodies, and all of the 1000 requests if they have none.
    /// The one too many gets 503 `too_many_pending`.
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

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::Inline(_) => f.write_str("redacted"),
        }
    }
}
