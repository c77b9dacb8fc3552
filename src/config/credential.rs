//! A credential as the operator wrote it: a client of an issuer, how it authenticates, and which
//! token it requests.

#[cfg(not(target_family = "wasm"))]
use super::json_schema;
use super::values;
use super::{DurationValue, Entries, Setting, StringOrList};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt;

/// A client of an issuer, and the token that it requests.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Credential {
    /// The name of the issuer.
    pub issuer: Option<String>,
    /// The grant type of the token request. Default `client_credentials`.
    pub grant_type: GrantType,
    /// For `token_exchange`: the token that is exchanged (`subject_token`, RFC 8693 section 2.1).
    /// `caller` is the token of the request's caller, which the inbound rule has verified. `{
    /// header: authorization }` is the content of that header, which only the provider verifies.
    /// `{ cluster: files, path: /token }` is a token that is read anew for each exchange, such as
    /// the service account token that Google exchanges: one new token for all requests. `{
    /// credential: NAME }` is the token of another credential. Default: `caller` if there are
    /// inbound rules, else the `authorization` header.
    pub subject_token: Option<SubjectToken>,
    /// For `token_exchange`: the token of the service that acts for the subject (`actor_token`, RFC
    /// 8693 section 1.1): `{ credential: NAME }`, a credential with a token of its own, or `{
    /// cluster: files, path: /token }`. Default: none is sent.
    pub actor_token: Option<SubjectToken>,
    /// For `token_exchange`: the type of that token (`actor_token_type`), as for the subject token.
    /// Default `access_token`.
    pub actor_token_type: Option<String>,
    /// For `jwt_bearer`: the assertion (RFC 7523 section 2.1). `caller` is the verified caller's
    /// token (Entra's on-behalf-of flow). `{ credential: NAME }` is the token of another
    /// credential, such as one that exchanges the caller's token for one that this issuer accepts
    /// (identity chaining). `{ cluster: files, path: /token }` is read anew for each request. `{
    /// header: NAME }` is the content of that header. Default: an assertion that is signed with
    /// `private_key`.
    pub assertion: Option<SubjectToken>,
    /// For `token_exchange`: the type of that token (`subject_token_type`): `access_token` (the
    /// default), `jwt`, `id_token`, or a whole URN.
    pub subject_token_type: Option<String>,
    /// For `token_exchange`: `true` forwards the subject token together with the new one. Default
    /// `false`: it is removed from the request, from every location. That holds even if
    /// `forward_token` of the inbound rule would keep it, and if the request is forwarded without a
    /// new token (`existing: keep`, `unavailable: danger_pass`). The called service does not need
    /// it, and could act as the caller with it.
    pub forward_subject_token: bool,
    /// For `token_exchange`: the type of the new token (`requested_token_type`): `access_token`,
    /// `jwt`, `id_token`, or a whole URN such as that of transaction tokens. Default: not sent, and
    /// the provider issues an access token. A refresh token cannot be requested, since no service
    /// may see one.
    pub requested_token_type: Option<String>,
    /// For `token_exchange`: approximate limit on unknown subject tokens that one worker exchanges
    /// per second, so that a flood of made-up tokens cannot reach the provider. Default: 100 if
    /// `subject_token` is a header, which may have any content; no limit for the verified caller's
    /// token. Between 1 and 10000. Requests beyond it wait, at most three seconds' worth of them;
    /// the others get 503 (`too_many_pending`). Tokens that were exchanged before go first.
    pub requests_per_second: Option<u32>,
    /// For `jwt_bearer`: `sub` of the assertion, the subject of the token (RFC 7523 section 3).
    /// Default: the client itself.
    pub assertion_subject: Option<String>,
    /// For `jwt_bearer`: further claims of the assertion, such as `{ scope: "…" }`, which Google
    /// reads there. With `target_audience` an ID token is requested, as Cloud Run and IAP need it:
    /// a response with only `id_token` is then accepted, and the ID token is attached.
    #[serde(deserialize_with = "values::free_form")]
    #[cfg_attr(not(target_family = "wasm"), schemars(with = "json_schema::FreeForm"))]
    pub assertion_claims: Map<String, Value>,
    /// `client_id`: a string, or `{ env: CLIENT_ID }`. Not required with `auth_method: external`,
    /// which does not send it, and with `workload_identity`, where the assertion identifies the
    /// client: Keycloak needs none, Entra does.
    pub client_id: Option<Setting>,
    /// Its secret: `{ env: ORDER_SERVICE_SECRET }`, or `{ cluster: files, path: /client-secret }`,
    /// which is read anew for each token request. Or an array of at most 4, `[{ env: NEW }, { env:
    /// OLD }]`, so that a secret can be rotated without a gap. If the provider rejects one, the
    /// next is tried at once, each once before the usual pause. The one that worked is tried first
    /// from then on.
    pub client_secret: Option<SecretSources>,
    /// How the client authenticates (RFC 6749 section 2.3, `OpenID` Connect Core section 9).
    /// Default `client_secret_basic`, which every provider must support.
    pub auth_method: AuthMethod,
    /// For `workload_identity`: the assertion, `{ cluster: files, path: /keycloak-token }`: a JWT
    /// that the platform issues to this workload and renews, such as a Kubernetes service account
    /// token or a SPIFFE JWT-SVID. It is read anew for each token request, so the file can change
    /// at any time. While it is missing, empty or no JWT, no token is requested, and requests get
    /// 503 with `Retry-After`.
    pub client_assertion: Option<SecretFile>,
    /// For `workload_identity`: the type of the assertion (`client_assertion_type`): `jwt-bearer`
    /// (the default, RFC 7523 section 2.2) or `jwt-spiffe`, which Keycloak's SPIFFE identity
    /// provider requires.
    pub client_assertion_type: Option<ClientAssertionType>,
    /// The key for `private_key_jwt` and `jwt_bearer`, `{ env: ORDER_SERVICE_KEY }`: RSA of at
    /// least 2048 bits, P-256 or Ed25519, unencrypted, as PEM (PKCS#8, or OpenSSL's older formats;
    /// line breaks may be written as `\n`) or as a private JWK (RFC 7517).
    pub private_key: Option<SecretSource>,
    /// The id of that key in the assertion's header, if the provider has several keys of this
    /// client. Default: the JWK's own `kid`, else none.
    pub kid: Option<String>,
    /// `typ` in the header of client assertions. Default `JWT`. `client-authentication+jwt` for
    /// providers that follow draft-ietf-oauth-rfc7523bis.
    pub assertion_header_type: Option<String>,
    /// The algorithm of that key: RS256, ES256 or `EdDSA`. The key type already determines it, so
    /// that this only checks that the key is the expected one. PS256 is rejected: Envoy's own
    /// crypto does not sign it, and RSA in the module would add 36 KB and block the worker.
    pub assertion_algorithm: Option<AssertionAlgorithm>,
    /// `aud` of the assertions of `private_key_jwt`, `client_secret_jwt` and `jwt_bearer`. Default:
    /// the issuer's `iss`, which FAPI 2.0 requires and Keycloak accepts; older providers expect the
    /// URL of their token endpoint (`OpenID` Connect Core section 9).
    pub assertion_audience: Option<String>,
    /// `scope`.
    pub scopes: Vec<String>,
    /// `audience` (Auth0 and others). For `token_exchange` it may be an array (RFC 8693 section
    /// 2.1). For Keycloak it contains client ids, and narrows the result of `scopes` and roles; it
    /// never extends it.
    pub audience: StringOrList,
    /// `resource` (RFC 8707).
    pub resource: Vec<String>,
    /// Further parameters of the token request. `grant_type` and other parameters that have a field
    /// of their own are rejected.
    pub parameters: Entries<String>,
    /// `true`: the token is bound to a key that never leaves the worker (`DPoP`, RFC 9449), so that
    /// a stolen token is useless. It is requested and sent with a proof by that key,
    /// `Authorization: DPoP …` and a `DPoP` header; a token response without a bound token is
    /// rejected. Each worker has its own key, and so its own token. Default `false`: the provider
    /// and the called service must support `DPoP`. The key is P-256 (ES256) with Envoy 1.37 and
    /// later, Ed25519 (`EdDSA`) before.
    pub dpop: bool,
    /// Accepted values of `token_type` in the token response: names, case-insensitive, and `absent`
    /// for none. Default `[Bearer]` (RFC 6749 section 7.1: a client must not use a type that it
    /// does not understand). `[Bearer, BearerToken, absent]` also accepts Apigee, and providers
    /// that omit it. The token is attached with the `scheme` of the rule, whatever its type. Not
    /// allowed with `dpop`, where it must be `DPoP`.
    pub token_types: Option<Vec<String>>,
    /// Lifetime of a token if the provider does not send `expires_in`. Default `5m`. At least `1s`.
    pub default_lifetime: Option<DurationValue>,
}

/// The grant type of a token request.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// The client's own authorization (RFC 6749 section 4.4): one token for all requests.
    #[default]
    ClientCredentials,
    /// Exchange of the caller's verified token (RFC 8693): one token per caller token, which
    /// expires no later than it.
    TokenExchange,
    /// An assertion (RFC 7523 section 2.1): one that the client signs with `private_key`, as
    /// Google's service accounts do, one token for all requests; or another token, see `assertion`.
    JwtBearer,
}

/// The token that is exchanged for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectToken {
    /// The verified caller's.
    Caller,
    /// The content of this header.
    Header(String),
    /// What this file holds.
    File(SecretFile),
    /// The token of the credential of this name.
    Credential(String),
}

/// Where a secret is served: normally by an internal listener of the same Envoy, from a file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub struct SecretFile {
    /// The Envoy cluster that serves it.
    pub cluster: String,
    /// The path there: `/client-secret`.
    pub path: String,
}

/// The type of a client assertion.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
pub enum ClientAssertionType {
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer` (RFC 7523 section 2.2).
    JwtBearer,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-spiffe`
    /// (draft-ietf-oauth-spiffe-client-auth).
    JwtSpiffe,
}

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
    /// A JWT signed with the secret (HS256): the secret itself is never sent. Valid once, for 30 s.
    ClientSecretJwt,
    /// A JWT signed with `private_key` (RFC 7523 section 2.2): the provider has no secret that
    /// could be stolen. Valid once, for 30 s. RS256 and ES256 need Envoy 1.37, `EdDSA` does not.
    PrivateKeyJwt,
    /// A client certificate, which the cluster presents (RFC 8705 section 2); the body has only
    /// `client_id`. If the metadata has `mtls_endpoint_aliases`, the alias is used (section 5); on
    /// another host it needs `allowed_hosts`.
    TlsClientAuth,
    /// The assertion that the platform issues to the workload, from `client_assertion` (RFC 7523
    /// section 2.2, RFC 7521 section 4.2): there is no secret. If the provider rejects it, it is
    /// read again after a pause, since it is replaced regularly.
    WorkloadIdentity,
    /// No client authentication, for providers that only look at the exchanged token (Google's
    /// token service). `client_id` is sent if there is one.
    None,
    /// The cluster adds the client authentication: Envoy's own `credential_injector` as its HTTP
    /// filter, with an `Authorization` from SDS. No `client_id` is sent: `Authorization: Basic`
    /// already contains it, and some providers (Okta) reject it twice.
    External,
}

/// The signature algorithms of assertions. PS256 is not supported, and is rejected.
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

/// One secret, or several of which any may be the current one.
#[derive(Clone, Debug)]
pub enum SecretSources {
    /// A single secret.
    One(SecretSource),
    /// In the order in which they are tried.
    AnyOf(Vec<SecretSource>),
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// An environment variable of Envoy, passed on by `environment_variables.host_env_keys` (Istio:
    /// `valueFrom: HOST`).
    Env(String),
    /// The secret itself, visible in Envoy's `/config_dump`. Only for demos.
    Inline(String),
    /// A file that an internal listener of Envoy serves. It is read anew before each use.
    File(SecretFile),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::Inline(_) => f.write_str("redacted"),
            Self::File(file) => write!(f, "{}{}", file.cluster, file.path),
        }
    }
}
