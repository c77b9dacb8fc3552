//! The table of reasons: every reason for which a request is refused, with the status and the texts
//! of its answer.
//!
//! It is data. `docs/reference/reasons.md` is generated from it (`make schema`), and a test fails
//! when that page is stale. What an operator reads beside the answer is not compiled into the
//! module.

use super::challenge::Challenge;

/// What the answers of several reasons have in common.
#[derive(Clone, Copy, Debug)]
pub struct AnswerClass {
    /// The status.
    pub status: u16,
    /// The title: `error` in the body.
    pub error: &'static str,
    /// What `WWW-Authenticate` says.
    pub challenge: Challenge,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`; without one it is `m2m_auth_` and the reason.
    details: Option<&'static str>,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ReasonRow {
    /// The reason, as metrics, the audit log and the body have it.
    pub name: &'static str,
    /// The status, and what else it shares with others.
    pub class: AnswerClass,
    /// One sentence for the client; empty where the rule that denies has a sentence of its own.
    pub message: &'static str,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// What may have to change in the provider, for the audit log alone: clients see nothing of the
    /// provider's set-up. In Keycloak's words, since its defaults surprise most.
    pub hint: Option<&'static str>,
    /// When it happens.
    #[cfg(not(target_family = "wasm"))]
    pub when: &'static str,
    /// What to do.
    #[cfg(not(target_family = "wasm"))]
    pub what_to_do: &'static str,
}

impl AnswerClass {
    const fn new(status: u16, error: &'static str, challenge: Challenge) -> Self {
        Self { status, error, challenge, details: None }
    }

    const fn with_details(self, details: &'static str) -> Self {
        Self { details: Some(details), ..self }
    }

    /// A `const` version of `Option::unwrap_or`.
    const fn details_or(self, own: &'static str) -> &'static str {
        match self.details {
            Some(details) => details,
            None => own,
        }
    }
}

const AMBIGUOUS: AnswerClass = AnswerClass::new(400, "Invalid request", Challenge::None);
const INVALID_REQUEST: AnswerClass =
    AnswerClass::new(400, "Invalid request", Challenge::Error("invalid_request"));
// RFC 6750 section 3: a 401 has a challenge. Section 3.1 (RFC 6750 section 3.1) has the codes
// `invalid_request`, `invalid_token` (so has RFC 9068 section 4) and `insufficient_scope`.
const MISSING_TOKEN: AnswerClass = AnswerClass::new(401, "Missing token", Challenge::WithoutError);
const SUBJECT_TOKEN: AnswerClass = AnswerClass::new(401, "Invalid token", Challenge::Error("invalid_token"));
const INVALID_TOKEN: AnswerClass = SUBJECT_TOKEN.with_details("m2m_auth_invalid_token");
const INSUFFICIENT_AUTHENTICATION: AnswerClass = AnswerClass::new(
    401,
    "Insufficient authentication",
    Challenge::Error("insufficient_user_authentication"),
)
.with_details("m2m_auth_insufficient_authentication");
const INVALID_PROOF: AnswerClass =
    AnswerClass::new(401, "Invalid proof", Challenge::Error("invalid_dpop_proof"))
        .with_details("m2m_auth_invalid_proof");
const NONCE_REQUIRED: AnswerClass =
    AnswerClass { challenge: Challenge::Error("use_dpop_nonce"), ..INVALID_PROOF };
const EXCHANGE_DENIED: AnswerClass =
    AnswerClass::new(403, "Insufficient permissions", Challenge::Error("insufficient_scope"));
const INSUFFICIENT_PERMISSIONS: AnswerClass =
    EXCHANGE_DENIED.with_details("m2m_auth_insufficient_permissions");
const FORBIDDEN: AnswerClass = AnswerClass::new(403, "Forbidden", Challenge::None);
const PROVIDER_UNAVAILABLE: AnswerClass =
    AnswerClass::new(503, "Identity provider unavailable", Challenge::None);
const OVERLOADED: AnswerClass = AnswerClass::new(503, "Overloaded", Challenge::None);
const MISCONFIGURED: AnswerClass = AnswerClass::new(503, "Misconfigured", Challenge::None);
const NOT_READY: AnswerClass = AnswerClass::new(503, "Not ready", Challenge::None);

/// The enum of the reasons and their rows, so that there is no reason without a row, and no row
/// without a reason.
macro_rules! reasons {
    ($(
        $reason:ident = $name:literal, $class:ident, $message:literal {
            when: $when:literal,
            do: $what_to_do:literal,
            $(hint: $hint:literal,)?
        }
    )*) => {
        /// Why a request is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $when] $reason,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The row of the table.
            pub const fn row(self) -> &'static ReasonRow {
                match self {
                    $(Self::$reason => &const {
                        let hint: &[&'static str] = &[$($hint)?];
                        ReasonRow {
                            name: $name,
                            class: $class,
                            message: $message,
                            details: $class.details_or(concat!("m2m_auth_", $name)),
                            hint: hint.first().copied(),
                            #[cfg(not(target_family = "wasm"))]
                            when: $when,
                            #[cfg(not(target_family = "wasm"))]
                            what_to_do: $what_to_do,
                        }
                    },)*
                }
            }
        }
    };
}

reasons! {
    AmbiguousPath = "ambiguous_path", AMBIGUOUS, "ambiguous request path" {
        when: "Servers could read the path in different ways, and these readings match different rules.",
        do: "Send the path in its normal form: no `//`, `..`, `%2F`, backslash or encoded letters.",
    }
    AmbiguousMethod = "ambiguous_method", AMBIGUOUS, "ambiguous request method" {
        when: "Servers could read the method in different ways, and these readings match different rules.",
        do: "Send the method in upper case, and no `X-HTTP-Method-Override` or header like it.",
    }
    AmbiguousHost = "ambiguous_host", AMBIGUOUS, "ambiguous request host" {
        when: "Servers could read the host in different ways, and these readings match different rules.",
        do: "Send one plain host name.",
    }
    AmbiguousHeader = "ambiguous_header", AMBIGUOUS, "ambiguous request header" {
        when: "`Connection` lists a header by which rules decide, or which the filter sets, so that a later \
               server would drop it.",
        do: "Remove that name from the client's `Connection` header.",
    }
    MultipleCredentials = "multiple_credentials", INVALID_REQUEST, "more than one credential in the request" {
        when: "The request has more than one credential (RFC 6750 section 2).",
        do: "Send one token, in one of the rule's `token_locations`.",
    }
    NoToken = "no_token", MISSING_TOKEN, "a bearer token is required" {
        when: "The rule requires a token, and none of its `token_locations` has one.",
        do: "Send `Authorization: Bearer <access token>`, or configure `token_locations`.",
    }
    Malformed = "malformed", INVALID_TOKEN, "the token is not a signed JWT" {
        when: "The token is not a signed JWT in compact form, and the rule uses no introspection that could \
               accept another one.",
        do: "Send an access token that is a JWT. For opaque tokens configure `introspection`.",
    }
    TooLarge = "too_large", INVALID_TOKEN, "the token is too large" {
        when: "The token is larger than 16 KiB, or its `kid` is longer than 256 bytes.",
        do: "Have the provider put fewer roles and claims into the token.",
    }
    TooDeep = "too_deep", INVALID_TOKEN, "the token's JSON is nested too deeply" {
        when: "The JSON of the token is nested deeper than the filter reads.",
        do: "Have the provider put flat claims into the token.",
    }
    UnsupportedCrit = "unsupported_crit", INVALID_TOKEN, "the token requires an unsupported extension (crit)" {
        when: "The header has `crit` (RFC 7515 section 4.1.11), or `b64: false` (RFC 7797).",
        do: "Have the provider issue tokens without these extensions.",
    }
    InvalidTyp = "invalid_typ", INVALID_TOKEN, "the token's typ is not that of an access token" {
        when: "The header's `typ` is not one that the issuer's tokens may have.",
        do: "Send an access token. If the provider writes another `typ`, name it in the issuer's \
             `token_types`.",
    }
    Algorithm = "algorithm", INVALID_TOKEN, "the token's algorithm is not allowed" {
        when: "The header's `alg` is not allowed for this issuer, or does not fit the key that `kid` names.",
        do: "Compare the issuer's `algorithms` with the `alg` of the token and of the provider's keys.",
    }
    Issuer = "issuer", INVALID_TOKEN, "the token's issuer is not accepted here" {
        when: "`iss` is missing, or is not an issuer whose tokens the rule accepts.",
        do: "Compare the token's `iss` with `issuer` of the configuration: they must be equal, a trailing `/` \
             included.",
        hint: "iss must be the configured issuer to the letter; in Keycloak it is the URL that the token was \
               asked for by, unless KC_HOSTNAME is set",
    }
    Tenant = "tenant", INVALID_TOKEN, "the token's tenant does not match its issuer" {
        when: "`tid` is missing, or is not the tenant that `iss` names.",
        do: "Check which tenant issued the token, and the issuer's `tenants`.",
    }
    UnknownKey = "unknown_key", INVALID_TOKEN, "the token's key is not in the issuer's key set" {
        when: "The issuer's key set has no key with the token's `kid`, after it was fetched again.",
        do: "Check that the token is of this issuer and not of another environment; fetch a new token after \
             a key rotation.",
    }
    TooManyKeys = "too_many_keys", INVALID_TOKEN, "too many of the issuer's keys could have signed the token; it needs a kid" {
        when: "More keys could have signed the token than are tried, and none of those tried did.",
        do: "Have the provider write `kid` into tokens and keys.",
    }
    Signature = "signature", INVALID_TOKEN, "the token's signature is invalid" {
        when: "The signature is not that of the issuer's key.",
        do: "Fetch a new token. If it happens again, the token was changed on its way, or signed by someone \
             else.",
    }
    NotAccessToken = "not_access_token", INVALID_TOKEN, "the token is not an access token" {
        when: "It is an ID token, a refresh token or another kind that is not for calling services (RFC 8725 \
               section 3.12).",
        do: "Send the access token of the token response. If it is the access token, the issuer's `preset` \
             or `access_token_claims` does not fit the provider: `m2m-auth explain` names the claim.",
    }
    InvalidClaim = "invalid_claim", INVALID_TOKEN, "a required claim is missing, or a claim has the wrong type" {
        when: "A claim that is required, such as `exp`, is missing, or a claim has the wrong type.",
        do: "Run `m2m-auth explain`, which names the claim. With `rfc9068: true` all claims of RFC 9068 \
             section 2.2 are required.",
    }
    Expired = "expired", INVALID_TOKEN, "the token has expired" {
        when: "The token is past its `exp`, `clock_skew` included.",
        do: "Have the client fetch a new token before the old one expires; check both clocks.",
    }
    NotYetValid = "not_yet_valid", INVALID_TOKEN, "the token is not valid yet" {
        when: "The token's `nbf` or `iat` is in the future, `clock_skew` included.",
        do: "Check the clocks of the provider and of this host.",
    }
    Lifetime = "lifetime", INVALID_TOKEN, "the token's lifetime is longer than allowed" {
        when: "From `iat` to `exp` it is longer than the issuer's `max_lifetime`.",
        do: "Shorten the lifetime of access tokens at the provider, or raise `max_lifetime`.",
    }
    Inactive = "inactive", INVALID_TOKEN, "the token is not active" {
        when: "The issuer's introspection endpoint says that the token is not active (RFC 7662 section 2.2).",
        do: "Fetch a new token. The old one has expired or was revoked, or the introspection client may not \
             see it.",
    }
    Audience = "audience", INVALID_TOKEN, "the token's audience does not include this service" {
        when: "`aud` lacks the audience that the rule requires.",
        do: "Have the provider put this service's audience into the client's tokens, or correct `audiences`.",
        hint: "aud holds none of the rule's audiences; in Keycloak an Audience mapper in a client scope of the \
               caller adds one",
    }
    BindingMismatch = "binding_mismatch", INVALID_TOKEN, "the token is not bound to a key that was presented with it" {
        when: "The token is bound to a key that was not presented with it, or is not bound as the rule's \
               `token_binding` requires.",
        do: "Send a DPoP-bound token as `Authorization: DPoP`, with a proof by its key, or present the \
             client certificate to which the token is bound; check `token_binding`.",
    }
    SubjectToken = "subject_token", SUBJECT_TOKEN, "the identity provider rejected this token for the exchange" {
        when: "The provider does not accept the request's token for a token exchange (RFC 8693).",
        do: "Check that the token is valid at that provider, and for the client that exchanges it.",
    }
    Acr = "acr", INSUFFICIENT_AUTHENTICATION,
        "the caller's authentication context (acr) is not accepted here" {
        when: "`acr` is not one of the rule's `acr_values` (RFC 9470).",
        do: "Authenticate again with one of the `acr_values` of the challenge.",
    }
    AuthTime = "auth_time", INSUFFICIENT_AUTHENTICATION, "the caller authenticated too long ago" {
        when: "`auth_time` is longer ago than the rule's `max_age` (RFC 9470).",
        do: "Authenticate again.",
    }
    TooOld = "token_too_old", INSUFFICIENT_AUTHENTICATION, "the token was issued too long ago" {
        when: "The token has no `auth_time`, and its `iat` is longer ago than the rule's `max_age`.",
        do: "Fetch a new token.",
    }
    ProofMissing = "proof_missing", INVALID_PROOF, "a DPoP proof by the token's key is required" {
        when: "The token came as `DPoP`, without a proof in the header `DPoP`.",
        do: "Send a DPoP proof with each request (RFC 9449 section 7.1).",
    }
    ProofMultiple = "proof_multiple", INVALID_PROOF, "more than one DPoP proof" {
        when: "The request has more than one DPoP proof.",
        do: "Send one header `DPoP` with one proof.",
    }
    ProofMalformed = "proof_malformed", INVALID_PROOF, "the DPoP proof is malformed" {
        when: "The proof is not a JWS of type `dpop+jwt` with a public key, lacks `jti`, `htm`, `htu`, `iat` \
               or `ath`, or is larger than 8 KiB.",
        do: "Make the proof as RFC 9449 section 4.2 describes it.",
    }
    ProofMethod = "proof_method", INVALID_PROOF, "the DPoP proof is for another method" {
        when: "`htm` is not the request's method.",
        do: "Make a proof for each request.",
    }
    ProofUrl = "proof_url", INVALID_PROOF, "the DPoP proof is for another URL" {
        when: "`htu` is not the request's URL without query and fragment.",
        do: "Make a proof for each request. If a proxy before this one terminates TLS or changes the host, \
             set `inbound.dpop.origins`.",
    }
    ProofToken = "proof_token", INVALID_PROOF, "the DPoP proof is for another token" {
        when: "`ath` is not the digest of the request's token.",
        do: "Make the proof for the token that it is sent with.",
    }
    ProofTime = "proof_time", INVALID_PROOF, "the DPoP proof's iat is too far from now" {
        when: "`iat` is further from now than `inbound.dpop.window`.",
        do: "Make a proof for each request; check both clocks, or configure nonces (`nonce_key`).",
    }
    ProofNonce = "proof_nonce", NONCE_REQUIRED, "the DPoP proof needs the nonce of this response" {
        when: "The proof has no nonce of this service, or one that is too old (RFC 9449 section 9).",
        do: "Send the request again, with a proof that has the nonce of the answer's header `DPoP-Nonce`.",
    }
    ProofSignature = "proof_signature", INVALID_PROOF, "the DPoP proof's signature is invalid" {
        when: "The proof is not signed by the key in its header.",
        do: "Sign the proof with the private key of its `jwk`.",
    }
    ProofReplayed = "proof_replayed", INVALID_PROOF, "the DPoP proof was used before" {
        when: "The proof was used before.",
        do: "Make a proof with a new `jti` for each request, retries included.",
    }
    NoRule = "no_rule", FORBIDDEN, "no rule matches this request" {
        when: "No inbound rule matches the request.",
        do: "Add a rule for it. `m2m-auth explain` prints which conditions did not match.",
    }
    ClientNotAllowed = "client_not_allowed", INSUFFICIENT_PERMISSIONS,
        "client not allowed by this rule" {
        when: "The token was issued to a client that is not in the rule's `clients`.",
        do: "Add the client to `clients`, if it should have access.",
    }
    SubjectNotAllowed = "subject_not_allowed", INSUFFICIENT_PERMISSIONS,
        "subject not allowed by this rule" {
        when: "`sub` is not in the rule's `subjects`.",
        do: "Add the subject to `subjects`, if it should have access.",
    }
    ClientRole = "client_role", INSUFFICIENT_PERMISSIONS, "" {
        when: "The token lacks a role of `client_roles`, or has one that the rule forbids.",
        do: "Assign the role to the caller at the provider, and fetch a new token.",
        hint: "in Keycloak the role is assigned on the Service account roles tab of the caller's client",
    }
    Role = "role", INSUFFICIENT_PERMISSIONS, "" {
        when: "The token lacks a role of `roles`, or has one that the rule forbids.",
        do: "Assign the role to the caller at the provider, and fetch a new token.",
        hint: "in Keycloak the role is assigned on the Service account roles tab of the caller's client",
    }
    Scope = "scope", INSUFFICIENT_PERMISSIONS, "" {
        when: "The token lacks a scope of `scopes`, or has one that the rule forbids.",
        do: "Request a token with the `scope` of the challenge; allow it to the client at the provider.",
    }
    RequiredClaim = "required_claim", INSUFFICIENT_PERMISSIONS, "" {
        when: "A condition of `claims` does not hold.",
        do: "The answer's `message` names the claim. Compare it with the token's.",
    }
    NoConditionMet = "no_condition_met", INSUFFICIENT_PERMISSIONS, "" {
        when: "None of the alternatives of `any` holds.",
        do: "The answer's `message` lists the alternatives. The caller needs one of them.",
    }
    ExchangeDenied = "exchange_denied", EXCHANGE_DENIED,
        "the identity provider denied the exchange of this token" {
        when: "The provider accepts the request's token, and denies the exchange (RFC 8693).",
        do: "Allow the exchange at the provider: for this client, audience and scope.",
    }
    JwksUnavailable = "jwks_unavailable", PROVIDER_UNAVAILABLE, "the issuer's key set is unavailable" {
        when: "There is no key set of the issuer: it was never fetched, or is older than `jwks_max_stale`.",
        do: "Look for the fetch errors in Envoy's log and in `m2m_auth_fetch`, and restore the provider.",
    }
    IntrospectionUnavailable = "introspection_unavailable", PROVIDER_UNAVAILABLE,
        "the issuer's introspection endpoint is unavailable" {
        when: "The issuer's introspection endpoint does not answer, or answers with an error.",
        do: "Look for the fetch errors in Envoy's log and in `m2m_auth_fetch`, and restore the provider.",
    }
    OutboundTokenUnavailable = "outbound_token_unavailable", PROVIDER_UNAVAILABLE,
        "no access token could be fetched for this request; see the proxy's log" {
        when: "The outbound rule's token could not be fetched in time.",
        do: "Look for the fetch errors in Envoy's log and in `m2m_auth_fetch`: the provider is down, or the \
             credential is wrong.",
    }
    UnknownCredential = "unknown_credential", MISCONFIGURED, "the route names an unknown credential" {
        when: "The route's metadata names a credential that the configuration does not have.",
        do: "Correct the name in the route's metadata, or add the credential. The audit log has the name.",
    }
    TooManyProofs = "too_many_proofs", OVERLOADED, "too many DPoP proofs to remember" {
        when: "There is no room to remember one more used DPoP proof.",
        do: "Wait. If it lasts, lower `inbound.dpop.window`, or spread the load over more replicas.",
    }
    TooManySignatures = "too_many_signatures", OVERLOADED, "too many signatures to verify" {
        when: "More signatures of PS256 to PS512 or `EdDSA` are to be verified than the worker has time for.",
        do: "Look for a flood of forged tokens. Otherwise have the provider sign with ES256 or RS256, which \
             Envoy verifies.",
    }
    TooManyPending = "too_many_pending", OVERLOADED, "too many requests are waiting for the identity provider" {
        when: "As many requests wait for the provider as `pending_requests` allows.",
        do: "Restore the provider. If it is only slow, raise `pending_requests`.",
    }
    DpopSigningFailed = "dpop_signing_failed", NOT_READY, "the DPoP proof for the outbound token cannot be signed" {
        when: "The outbound token is bound to the filter's key, and the DPoP proof for the request cannot be \
               signed.",
        do: "Set `dpop_origin` if the request's own URL has none. Otherwise look into Envoy's log.",
    }
    NotReady = "not_ready", NOT_READY, "the authentication filter is not ready" {
        when: "The filter has no configuration, is being replaced, or Envoy withheld the request's headers.",
        do: "Try again. If it lasts, look for the configuration's errors in Envoy's log.",
    }
}

impl Reason {
    /// The reason, as metrics, the audit log and the body have it.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The reason of this name.
    #[cfg(not(target_family = "wasm"))]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}
