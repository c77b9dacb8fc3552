//! Every [`Refusal`] and the answer that it gets: this file is the documented status table.
//!
//! Two faults stay apart: the caller's (400, 401, 403) and ours or the identity provider's (503 with `Retry-After`). An
//! answer never holds a token, a URL, or anything else that the request brought.

use crate::dpop::verify::ProofError;
use crate::dpop::{self, verify};
use crate::http::message::LocalReply;
use crate::http::route::Ambiguity;
use crate::inbound::authorize::AccessDenied;
use crate::inbound::jwt::{AuthenticationRequirement, RuleRequirements, TokenError};
use serde_json::json;
use std::rc::Rc;
use std::time::Duration;

/// Why a request stops here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Servers read the request in different ways, and rules decide differently about these.
    Ambiguous(Ambiguity),
    /// No rule is for this request.
    NoRule,
    /// No token, and one is needed.
    NoToken,
    /// More than one credential (RFC 6750 section 2).
    MultipleCredentials,
    /// A token that is not good.
    Token(TokenError),
    /// A good token of a caller that has not authenticated as is asked here (RFC 9470).
    Authentication(TokenError, Rc<AuthenticationRequirement>),
    /// A good token of a caller that may not do this.
    Access(Rc<AccessDenied>),
    /// The issuer's keys could not be had.
    JwksUnavailable(Duration),
    /// The issuer could not be asked about the token.
    IntrospectionUnavailable(Duration),
    /// A token for the request could not be had.
    NoOutboundToken(Duration),
    /// The identity provider does not take the request's token in exchange for another.
    SubjectToken,
    /// The identity provider denies this token's owner the exchange.
    ExchangeDenied,
    /// The route names a credential that the configuration does not have.
    UnknownCredential,
    /// The proof that a bound token needs could not be made.
    DpopSigningFailed,
    /// A proof that is not good (RFC 9449 section 4.3).
    Proof(ProofError),
    /// A proof that needs this nonce of ours (RFC 9449 section 9).
    ProofNonce(String),
    /// No more proofs can be remembered.
    TooManyProofs,
    /// More signatures are to be verified than the worker has time for.
    TooManySignatures,
    /// As many requests wait as may.
    TooManyPending,
    /// The plugin is not ready to decide.
    NotReady,
}

/// In which schemes a token may come, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemes {
    /// `Bearer`.
    pub bearer: bool,
    /// `DPoP`.
    pub dpop: bool,
    /// It came as `DPoP`.
    pub used_dpop: bool,
}

impl Default for Schemes {
    /// `Bearer` alone.
    fn default() -> Self {
        Self { bearer: true, dpop: false, used_dpop: false }
    }
}

/// The form of a refusal's response.
#[derive(Clone, Debug)]
pub struct RefusalFormat {
    /// `realm` of the challenge.
    pub realm: String,
    /// Whether bodies are problems (RFC 9457), or JSON in our own words.
    pub problem: bool,
    /// Where this resource's metadata is (RFC 9728), to be named in challenges.
    pub resource_metadata: Option<String>,
}

impl Default for RefusalFormat {
    /// As it is done where nothing else is said.
    fn default() -> Self {
        Self { realm: "m2m".to_owned(), problem: false, resource_metadata: None }
    }
}

impl Refusal {
    /// Of a token that is not what the rule demands.
    pub fn for_requirement(reject: TokenError, demand: &RuleRequirements) -> Self {
        match reject {
            TokenError::Acr | TokenError::AuthTime | TokenError::TooOld => {
                Self::Authentication(reject, Rc::clone(&demand.authentication))
            }
            _ => Self::Token(reject),
        }
    }

    /// The reason in metrics and in the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ambiguous(Ambiguity::Path) => "ambiguous_path",
            Self::Ambiguous(Ambiguity::Method) => "ambiguous_method",
            Self::Ambiguous(Ambiguity::Host) => "ambiguous_host",
            Self::Ambiguous(Ambiguity::Header) => "ambiguous_header",
            Self::NoRule => "no_rule",
            Self::NoToken => "no_token",
            Self::MultipleCredentials => "several_tokens",
            Self::Token(reject) | Self::Authentication(reject, _) => reject.label(),
            Self::Access(deny) => deny.reason,
            Self::JwksUnavailable(_) => "no_keys",
            Self::IntrospectionUnavailable(_) => "no_introspection",
            Self::NoOutboundToken(_) => "no_outbound_token",
            Self::SubjectToken => "subject_token",
            Self::ExchangeDenied => "exchange_denied",
            Self::UnknownCredential => "unknown_credential",
            Self::DpopSigningFailed => "no_proof",
            Self::Proof(fault) => fault.label(),
            Self::ProofNonce(_) => ProofError::Nonce.label(),
            Self::TooManyProofs => "too_many_proofs",
            Self::TooManySignatures => "too_many_signatures",
            Self::TooManyPending => "too_many_waiting",
            Self::NotReady => "not_ready",
        }
    }

    /// One sentence for the answer and the audit log.
    pub fn message(&self) -> String {
        self.facts().message
    }

    /// What may have to change where the refusal surprises, for the audit log alone: callers see nothing of the provider's
    /// set-up. In Keycloak's words, since its defaults are what surprises most.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Token(TokenError::Audience) => Some(
                "aud holds none of the rule's audiences; in Keycloak an Audience mapper in a client scope of the caller adds one",
            ),
            Self::Token(TokenError::Issuer) => Some(
                "iss must be the configured issuer to the letter; in Keycloak it is the URL that the token was asked for by, unless KC_HOSTNAME is set",
            ),
            Self::Access(deny) if matches!(deny.reason, "client_role" | "realm_role") => Some(
                "in Keycloak the role is assigned on the Service account roles tab of the caller's client",
            ),
            _ => None,
        }
    }

    /// The answer; a gRPC client gets the sentence alone, as Envoy puts the body into `grpc-message`.
    pub fn response(&self, manner: &RefusalFormat, schemes: Schemes, grpc: bool) -> LocalReply {
        let Facts { status, error, message, challenge, details } = self.facts();
        let (kind, body) = if grpc {
            ("text/plain", message.clone())
        } else if manner.problem {
            // RFC 9457 section 4.2.1: without a page that explains it, the type is blank and the title the status's.
            let body = json!({
                "type": "about:blank", "title": reason_phrase(status), "status": status, "detail": message, "reason": self.reason(),
            });
            ("application/problem+json", body.to_string())
        } else {
            let body = json!({ "error": error, "reason": self.reason(), "message": message });
            ("application/json", body.to_string())
        };
        let mut headers = vec![("content-type", kind.to_owned()), ("cache-control", "no-store".to_owned())];
        match challenge {
            Challenge::None => {}
            // RFC 6750 section 3.1: a request without any credential gets no error code.
            Challenge::Bare => headers.extend(manner.challenges(schemes, &[])),
            Challenge::Error(code) => {
                let parameters = [("error", code), ("error_description", &message)];
                headers.extend(manner.challenges(schemes, &parameters));
            }
            Challenge::Nonce(nonce) => {
                let parameters = [("error", "use_dpop_nonce"), ("error_description", &message)];
                headers.extend(manner.challenges(schemes, &parameters));
                headers.push(("dpop-nonce", nonce));
            }
            Challenge::Scope(scope) => {
                let code = "insufficient_scope";
                let parameters = [("error", code), ("error_description", &message), ("scope", &scope)];
                headers.extend(manner.challenges(schemes, &parameters));
            }
            // RFC 9470 section 3: all that is asked, since a token that has only what this one lacked would be refused too.
            Challenge::Authentication(asked) => {
                let AuthenticationRequirement { max_age, acr_values } = &*asked;
                let (values, seconds) = (acr_values.join(" "), max_age.map(|age| age.to_string()));
                let code = "insufficient_user_authentication";
                let mut parameters = vec![("error", code), ("error_description", message.as_str())];
                parameters.extend((!values.is_empty()).then_some(("acr_values", values.as_str())));
                parameters.extend(seconds.as_deref().map(|seconds| ("max_age", seconds)));
                headers.extend(manner.challenges(schemes, &parameters));
            }
            Challenge::RetryAfter(wait) => headers.push(("retry-after", seconds(wait).to_string())),
        }
        // Envoy makes 13 of 400, which is a fault of the server.
        let grpc_status = (status == 400).then_some(INVALID_ARGUMENT);
        LocalReply { status, grpc_status, headers, body, details, filter_state: Vec::new() }
    }

    /// The answer where nothing is known of how answers are given here.
    pub fn plain(&self) -> LocalReply {
        self.response(&RefusalFormat::default(), Schemes::default(), false)
    }

    fn facts(&self) -> Facts {
        let facts = |status, error, message: &str, challenge, details| Facts {
            status,
            error,
            message: message.to_owned(),
            challenge,
            details,
        };
        match self {
            Self::Ambiguous(by) => {
                let (message, details) = match by {
                    Ambiguity::Path => ("ambiguous request path", "m2m_auth_ambiguous_path"),
                    Ambiguity::Method => ("ambiguous request method", "m2m_auth_ambiguous_method"),
                    Ambiguity::Host => ("ambiguous request host", "m2m_auth_ambiguous_host"),
                    Ambiguity::Header => ("ambiguous request header", "m2m_auth_ambiguous_header"),
                };
                facts(400, "Invalid request", message, Challenge::None, details)
            }
            Self::MultipleCredentials => facts(
                400,
                "Invalid request",
                "more than one credential",
                Challenge::Error("invalid_request"),
                "m2m_auth_several_tokens",
            ),
            Self::NoToken => {
                facts(401, "Missing token", "a bearer token is needed", Challenge::Bare, "m2m_auth_no_token")
            }
            // A good token, of somebody who may not: another token of the same client would not help.
            Self::Token(reject @ (TokenError::ClientNotAllowed | TokenError::SubjectNotAllowed)) => facts(
                403,
                "Insufficient permissions",
                &reject.to_string(),
                Challenge::Error("insufficient_scope"),
                "m2m_auth_insufficient_permissions",
            ),
            Self::Authentication(reject, asked) => facts(
                401,
                "Insufficient authentication",
                &reject.to_string(),
                Challenge::Authentication(Rc::clone(asked)),
                "m2m_auth_insufficient_authentication",
            ),
            Self::Token(reject) => facts(
                401,
                "Invalid token",
                &reject.to_string(),
                Challenge::Error("invalid_token"),
                "m2m_auth_invalid_token",
            ),
            Self::Access(deny) => facts(
                403,
                "Insufficient permissions",
                &deny.message,
                deny.scope.clone().map_or(Challenge::Error("insufficient_scope"), Challenge::Scope),
                "m2m_auth_insufficient_permissions",
            ),
            Self::NoRule => {
                facts(403, "Forbidden", "no rule is for this request", Challenge::None, "m2m_auth_no_rule")
            }
            Self::JwksUnavailable(wait) => facts(
                503,
                "Identity provider unavailable",
                "the issuer's keys cannot be fetched",
                Challenge::RetryAfter(*wait),
                "m2m_auth_no_keys",
            ),
            Self::IntrospectionUnavailable(wait) => facts(
                503,
                "Identity provider unavailable",
                "the issuer cannot be asked about the token",
                Challenge::RetryAfter(*wait),
                "m2m_auth_no_introspection",
            ),
            Self::NoOutboundToken(wait) => facts(
                503,
                "Identity provider unavailable",
                "a token for the request cannot be fetched; the proxy's log says why",
                Challenge::RetryAfter(*wait),
                "m2m_auth_no_outbound_token",
            ),
            Self::SubjectToken => facts(
                401,
                "Invalid token",
                "the identity provider does not exchange this token",
                Challenge::Error("invalid_token"),
                "m2m_auth_subject_token",
            ),
            Self::ExchangeDenied => facts(
                403,
                "Insufficient permissions",
                "the identity provider denies the exchange of this token",
                Challenge::Error("insufficient_scope"),
                "m2m_auth_exchange_denied",
            ),
            Self::UnknownCredential => facts(
                503,
                "Misconfigured",
                "the route names a credential that is not known",
                Challenge::RetryAfter(MISCONFIGURED),
                "m2m_auth_unknown_credential",
            ),
            Self::DpopSigningFailed => facts(
                503,
                "Not ready",
                "the proof that goes with the request's token cannot be made",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_no_proof",
            ),
            Self::Proof(fault) => facts(
                401,
                "Invalid proof",
                &fault.to_string(),
                Challenge::Error("invalid_dpop_proof"),
                "m2m_auth_invalid_proof",
            ),
            Self::ProofNonce(nonce) => facts(
                401,
                "Invalid proof",
                &ProofError::Nonce.to_string(),
                Challenge::Nonce(nonce.clone()),
                "m2m_auth_invalid_proof",
            ),
            Self::TooManyProofs => facts(
                503,
                "Overloaded",
                "too many proofs are to be remembered",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_too_many_proofs",
            ),
            Self::TooManySignatures => facts(
                503,
                "Overloaded",
                "too many signatures are to be verified",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_too_many_signatures",
            ),
            Self::TooManyPending => facts(
                503,
                "Overloaded",
                "too many requests wait for the identity provider",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_too_many_waiting",
            ),
            Self::NotReady => facts(
                503,
                "Not ready",
                "the authentication filter cannot decide",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_not_ready",
            ),
        }
    }
}

/// gRPC's status for a request that is wrong whatever the state of the system.
const INVALID_ARGUMENT: u8 = 3;

/// Somebody has to change a route or a configuration first.
const MISCONFIGURED: Duration = Duration::from_secs(60);

struct Facts {
    status: u16,
    error: &'static str,
    message: String,
    challenge: Challenge,
    details: &'static str,
}

enum Challenge {
    None,
    Bare,
    Error(&'static str),
    Nonce(String),
    Scope(String),
    Authentication(Rc<AuthenticationRequirement>),
    RetryAfter(Duration),
}

/// `Retry-After` in whole seconds: at least 1, so that nobody comes back at once; at most 5 minutes.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 300).try_into().unwrap_or(300)
}

impl RefusalFormat {
    /// A challenge for each scheme in which a token may come; the error goes into the challenge of the scheme that the client used (RFC 9449
    /// section 7.1).
    fn challenges(
        &self,
        schemes: Schemes,
        parameters: &[(&str, &str)],
    ) -> impl Iterator<Item = (&'static str, String)> {
        let tells_dpop = schemes.used_dpop || !schemes.bearer;
        let of = |tells: bool| if tells { parameters } else { &[] };
        let bearer = schemes.bearer.then(|| self.challenge("Bearer", of(!tells_dpop)));
        let dpop = schemes.dpop.then(|| {
            let algorithms = [("algs", verify::ALGORITHMS)];
            self.challenge(dpop::SCHEME, &[of(tells_dpop), &algorithms].concat())
        });
        bearer.into_iter().chain(dpop).map(|challenge| ("www-authenticate", challenge))
    }

    /// RFC 6750 section 3, RFC 9449 section 7.1.
    fn challenge(&self, scheme: &str, parameters: &[(&str, &str)]) -> String {
        let mut challenge = format!("{scheme} realm=\"{}\"", quotable(&self.realm));
        // RFC 9728 section 5.1.
        let metadata = self.resource_metadata.as_deref().map(|url| ("resource_metadata", url));
        for (name, value) in parameters.iter().copied().chain(metadata) {
            for text in [", ", name, "=\"", &quotable(value), "\""] {
                challenge.push_str(text);
            }
        }
        challenge
    }
}

/// RFC 9110 section 15.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        _ => "Service Unavailable",
    }
}

/// The characters that RFC 6750 section 3 allows in an attribute. The host does not stop CR and LF in an answer.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a LocalReply, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    fn authentication(reject: TokenError, acr_values: &[&str], max_age: Option<u64>) -> Refusal {
        let acr_values = acr_values.iter().map(ToString::to_string).collect();
        let authentication = Rc::new(AuthenticationRequirement { max_age, acr_values });
        Refusal::for_requirement(reject, &RuleRequirements { authentication, ..RuleRequirements::default() })
    }

    #[test]
    fn the_status_table() {
        let wait = Duration::from_millis(1500);
        let scopes =
            AccessDenied { message: "required scope: a".into(), reason: "scope", scope: Some("a".into()) };
        let role =
            AccessDenied { message: "required realm role: r".into(), reason: "realm_role", scope: None };
        for (refusal, status, error, challenge) in [
            (Refusal::NoToken, 401, "Missing token", Some("Bearer realm=\"m2m\"")),
            (
                Refusal::Token(TokenError::Expired),
                401,
                "Invalid token",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"the token has expired\"",
                ),
            ),
            (
                Refusal::Access(Rc::new(scopes)),
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"required scope: a\", scope=\"a\"",
                ),
            ),
            (
                Refusal::Access(Rc::new(role)),
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"required realm role: r\"",
                ),
            ),
            (
                Refusal::Token(TokenError::ClientNotAllowed),
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"the token's client is not one of those that may\"",
                ),
            ),
            (
                authentication(TokenError::AuthTime, &[], Some(300)),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller has authenticated too long ago\", max_age=\"300\"",
                ),
            ),
            (
                authentication(TokenError::TooOld, &[], Some(60)),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the token was issued too long ago\", max_age=\"60\"",
                ),
            ),
            (
                authentication(TokenError::Acr, &["gold", "silver"], None),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller has not authenticated in a way that is accepted here\", acr_values=\"gold silver\"",
                ),
            ),
            (
                authentication(TokenError::Acr, &["gold"], Some(0)),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller has not authenticated in a way that is accepted here\", acr_values=\"gold\", max_age=\"0\"",
                ),
            ),
            (
                Refusal::MultipleCredentials,
                400,
                "Invalid request",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_request\", error_description=\"more than one credential\"",
                ),
            ),
            (Refusal::Ambiguous(Ambiguity::Path), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Method), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Host), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Header), 400, "Invalid request", None),
            (Refusal::NoRule, 403, "Forbidden", None),
            (Refusal::JwksUnavailable(wait), 503, "Identity provider unavailable", None),
            (Refusal::IntrospectionUnavailable(wait), 503, "Identity provider unavailable", None),
            (Refusal::NoOutboundToken(wait), 503, "Identity provider unavailable", None),
            (
                Refusal::SubjectToken,
                401,
                "Invalid token",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"the identity provider does not exchange this token\"",
                ),
            ),
            (
                Refusal::ExchangeDenied,
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"the identity provider denies the exchange of this token\"",
                ),
            ),
            (
                Refusal::Proof(ProofError::Url),
                401,
                "Invalid proof",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_dpop_proof\", error_description=\"the proof is for another URL\"",
                ),
            ),
            (
                Refusal::ProofNonce("n".into()),
                401,
                "Invalid proof",
                Some(
                    "Bearer realm=\"m2m\", error=\"use_dpop_nonce\", error_description=\"the proof needs the nonce that is given here\"",
                ),
            ),
            (Refusal::TooManyProofs, 503, "Overloaded", None),
            (Refusal::TooManySignatures, 503, "Overloaded", None),
            (Refusal::UnknownCredential, 503, "Misconfigured", None),
            (Refusal::TooManyPending, 503, "Overloaded", None),
            (Refusal::NotReady, 503, "Not ready", None),
        ] {
            let response = refusal.response(&RefusalFormat::default(), Schemes::default(), false);
            assert_eq!(response.status, status, "{refusal:?}");
            assert_eq!(header(&response, "www-authenticate"), challenge, "{refusal:?}");
            assert_eq!(header(&response, "retry-after").is_some(), status == 503, "{refusal:?}");
            assert_eq!(header(&response, "cache-control"), Some("no-store"));
            assert!(response.details.starts_with("m2m_auth_"), "{refusal:?}");
            let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
            assert_eq!((&body["error"], &body["reason"]), (&json!(error), &json!(refusal.reason())));
        }
        assert_eq!(
            header(
                &Refusal::JwksUnavailable(wait).response(
                    &RefusalFormat::default(),
                    Schemes::default(),
                    false
                ),
                "retry-after"
            ),
            Some("2")
        );
    }

    #[test]
    fn each_scheme_has_its_challenge_and_what_was_wrong_is_told_in_that_which_was_used() {
        let bare = [
            "Bearer realm=\"m2m\"".to_owned(),
            format!("DPoP realm=\"m2m\", algs=\"{}\"", verify::ALGORITHMS),
        ];
        let told = |bearer: bool, dpop: bool, by_dpop: bool, refusal: &Refusal| {
            let schemes = Schemes { bearer, dpop, used_dpop: by_dpop };
            let headers = refusal.response(&RefusalFormat::default(), schemes, false).headers;
            let challenges = headers.into_iter().filter(|(name, _)| *name == "www-authenticate");
            challenges.map(|(_, value)| value).collect::<Vec<_>>()
        };
        let missing = Refusal::NoToken;
        assert_eq!(told(true, true, false, &missing), bare);
        assert_eq!(told(false, true, false, &missing), bare[1..]);
        let expired = Refusal::Token(TokenError::Expired);
        for (bearer, by_dpop, in_bearer, in_dpop) in
            [(true, false, true, false), (true, true, false, true), (false, false, false, true)]
        {
            let told = told(bearer, true, by_dpop, &expired);
            let has = |scheme: &str| {
                told.iter().any(|own| own.starts_with(scheme) && own.contains("error=\"invalid_token\""))
            };
            assert_eq!((has("Bearer "), has("DPoP ")), (in_bearer, in_dpop), "{told:?}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_a_challenge() {
        let deny = AccessDenied {
            message: "x\"\r\nset-cookie: a=b\\ü".into(),
            reason: "scope",
            scope: Some("\"\n".into()),
        };
        let response = Refusal::Access(Rc::new(deny)).response(
            &RefusalFormat { realm: "r\"\r\nx".into(), ..RefusalFormat::default() },
            Schemes::default(),
            false,
        );
        let challenge = header(&response, "www-authenticate").unwrap();
        assert_eq!(
            challenge,
            "Bearer realm=\"rx\", error=\"insufficient_scope\", error_description=\"xset-cookie: a=b\", scope=\"\""
        );
    }

    #[test]
    fn a_problem_says_the_same_in_the_words_of_rfc_9457() {
        let manner = RefusalFormat { problem: true, ..RefusalFormat::default() };
        for (refusal, status, title) in [
            (Refusal::Ambiguous(Ambiguity::Path), 400, "Bad Request"),
            (Refusal::Token(TokenError::Expired), 401, "Unauthorized"),
            (Refusal::NoRule, 403, "Forbidden"),
            (Refusal::NotReady, 503, "Service Unavailable"),
        ] {
            let (problem, plain) = (
                refusal.response(&manner, Schemes::default(), false),
                refusal.response(&RefusalFormat::default(), Schemes::default(), false),
            );
            assert_eq!(header(&problem, "content-type"), Some("application/problem+json"));
            assert_eq!(problem.headers[1..], plain.headers[1..]);
            let body: serde_json::Value = serde_json::from_str(&problem.body).unwrap();
            let expected = json!({
                "type": "about:blank", "title": title, "status": status, "detail": refusal.message(), "reason": refusal.reason(),
            });
            assert_eq!((problem.status, body), (status, expected));
        }
    }

    #[test]
    fn a_grpc_client_is_told_the_sentence_and_that_a_bad_request_is_its_own_fault() {
        for problem in [false, true] {
            let manner = RefusalFormat { problem, ..RefusalFormat::default() };
            for (refusal, grpc_status) in [
                (Refusal::MultipleCredentials, Some(3)),
                (Refusal::Ambiguous(Ambiguity::Path), Some(3)),
                (Refusal::NoToken, None),
                (Refusal::NoRule, None),
                (Refusal::NotReady, None),
            ] {
                let response = refusal.response(&manner, Schemes::default(), true);
                assert_eq!(
                    (response.body, response.grpc_status),
                    (refusal.message(), grpc_status),
                    "{refusal:?}"
                );
            }
        }
    }

    #[test]
    fn a_challenge_names_the_metadata_of_the_resource() {
        let url = "https://api.example.com/.well-known/oauth-protected-resource";
        let manner = RefusalFormat { resource_metadata: Some(url.into()), ..RefusalFormat::default() };
        let challenge = |refusal: Refusal| {
            header(&refusal.response(&manner, Schemes::default(), false), "www-authenticate")
                .map(str::to_owned)
        };
        assert_eq!(
            challenge(Refusal::NoToken),
            Some(format!("Bearer realm=\"m2m\", resource_metadata=\"{url}\""))
        );
        let expired = challenge(Refusal::Token(TokenError::Expired)).unwrap();
        assert!(
            expired.contains("error=\"invalid_token\"")
                && expired.ends_with(&format!(", resource_metadata=\"{url}\""))
        );
        assert_eq!(challenge(Refusal::NotReady), None);
    }
}
