//! Every [`Refusal`] and its answer. The [`reason`] table says status and texts;
//! `docs/reference/reasons.md` is made from it.
//!
//! Two faults stay apart: the caller's (400, 401, 403) and ours or the identity provider's (503
//! with `Retry-After`). An answer never holds a token, a URL, or anything else that the request
//! brought.

mod challenge;
pub mod reason;

use crate::dpop::verify::ProofError;
use crate::http::message::LocalReply;
use crate::http::route::Ambiguity;
use crate::inbound::authorize::{AccessDenied, DeniedKind};
use crate::inbound::jwt::{AuthenticationRequirement, RuleRequirements, TokenError};
pub use challenge::{Challenge, Schemes};
use challenge::{Parameter, challenges};
use reason::Reason;
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
    /// The issuer's keys are not available.
    JwksUnavailable(Duration),
    /// The issuer could not be asked about the token.
    IntrospectionUnavailable(Duration),
    /// A token for the request is not available.
    OutboundTokenUnavailable(Duration),
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
    pub fn for_requirement(error: TokenError, requirements: &RuleRequirements) -> Self {
        match error {
            TokenError::Acr | TokenError::AuthTime | TokenError::TooOld => {
                Self::Authentication(error, Rc::clone(&requirements.authentication))
            }
            _ => Self::Token(error),
        }
    }

    /// The row of the table of reasons.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Ambiguous(Ambiguity::Path) => Reason::AmbiguousPath,
            Self::Ambiguous(Ambiguity::Method) => Reason::AmbiguousMethod,
            Self::Ambiguous(Ambiguity::Host) => Reason::AmbiguousHost,
            Self::Ambiguous(Ambiguity::Header) => Reason::AmbiguousHeader,
            Self::NoRule => Reason::NoRule,
            Self::NoToken => Reason::NoToken,
            Self::MultipleCredentials => Reason::MultipleCredentials,
            Self::Token(error) | Self::Authentication(error, _) => (*error).into(),
            Self::Access(denied) => denied.kind.into(),
            Self::JwksUnavailable(_) => Reason::JwksUnavailable,
            Self::IntrospectionUnavailable(_) => Reason::IntrospectionUnavailable,
            Self::OutboundTokenUnavailable(_) => Reason::OutboundTokenUnavailable,
            Self::SubjectToken => Reason::SubjectToken,
            Self::ExchangeDenied => Reason::ExchangeDenied,
            Self::UnknownCredential => Reason::UnknownCredential,
            Self::DpopSigningFailed => Reason::DpopSigningFailed,
            Self::Proof(error) => (*error).into(),
            Self::ProofNonce(_) => Reason::ProofNonce,
            Self::TooManyProofs => Reason::TooManyProofs,
            Self::TooManySignatures => Reason::TooManySignatures,
            Self::TooManyPending => Reason::TooManyPending,
            Self::NotReady => Reason::NotReady,
        }
    }

    /// One sentence for the answer and the audit log. It quotes nothing of the request.
    pub fn message(&self) -> &str {
        match self {
            Self::Access(denied) => &denied.message,
            _ => self.reason().row().message,
        }
    }

    /// The answer; a gRPC client gets the sentence alone, as Envoy puts the body into
    /// `grpc-message`.
    pub fn response(&self, format: &RefusalFormat, schemes: Schemes, grpc: bool) -> LocalReply {
        let (row, message) = (self.reason().row(), self.message());
        let (reason, status, error) = (row.name, row.class.status, row.class.error);
        let (kind, body) = if grpc {
            ("text/plain", message.to_owned())
        } else if format.problem {
            // RFC 9457 section 3 has the members, and RFC 9457 section 4.2.1 the type of a problem
            // without a page of its own; the title is the status's.
            let title = reason_phrase(status);
            let body = json!({
                "type": "about:blank", "title": title, "status": status, "detail": message, "reason": reason,
            });
            ("application/problem+json", body.to_string())
        } else {
            let body = json!({ "error": error, "reason": reason, "message": message });
            ("application/json", body.to_string())
        };
        let mut headers = vec![("content-type", kind.to_owned()), ("cache-control", "no-store".to_owned())]; // RFC 6750 section 5.3
        match row.class.challenge {
            Challenge::None => {}
            Challenge::WithoutError => headers.extend(challenges(format, schemes, &[])),
            Challenge::Error(code) => {
                let mut parameters =
                    vec![("error", code.to_owned()), ("error_description", message.to_owned())];
                self.add_parameters(&mut parameters);
                headers.extend(challenges(format, schemes, &parameters));
            }
        }
        if let Self::ProofNonce(nonce) = self {
            headers.push(("dpop-nonce", nonce.clone())); // RFC 9449 section 9
        }
        if status == 503 {
            headers.push(("retry-after", seconds(self.retry_after()).to_string()));
        }
        // Envoy makes 13 of 400, which is a fault of the server.
        let grpc_status = (status == 400).then_some(INVALID_ARGUMENT);
        LocalReply { status, grpc_status, headers, body, details: row.details, filter_state: Vec::new() }
    }

    /// What a client has to ask its provider for.
    fn add_parameters(&self, parameters: &mut Vec<Parameter>) {
        match self {
            Self::Access(denied) => {
                parameters.extend(denied.scope.clone().map(|scope| ("scope", scope)));
            }
            // RFC 9470 section 3: all that is required, since a token with only what this one
            // lacked would be refused too.
            Self::Authentication(_, required) => {
                let AuthenticationRequirement { max_age, acr_values } = &**required;
                let values = (!acr_values.is_empty()).then(|| acr_values.join(" "));
                parameters.extend(values.map(|values| ("acr_values", values)));
                parameters.extend(max_age.map(|age| ("max_age", age.to_string())));
            }
            _ => {}
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::JwksUnavailable(wait)
            | Self::IntrospectionUnavailable(wait)
            | Self::OutboundTokenUnavailable(wait) => *wait,
            Self::UnknownCredential => MISCONFIGURED,
            _ => Duration::from_secs(1),
        }
    }

    /// The answer where nothing is known of how answers are given here.
    pub fn plain(&self) -> LocalReply {
        self.response(&RefusalFormat::default(), Schemes::default(), false)
    }
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Acr => Self::Acr,
            TokenError::TooOld => Self::TooOld,
            TokenError::Algorithm => Self::Algorithm,
            TokenError::Audience => Self::Audience,
            TokenError::AuthTime => Self::AuthTime,
            TokenError::BindingMismatch => Self::BindingMismatch,
            TokenError::InvalidClaim => Self::InvalidClaim,
            TokenError::ClientNotAllowed => Self::ClientNotAllowed,
            TokenError::UnsupportedCrit => Self::UnsupportedCrit,
            TokenError::Expired => Self::Expired,
            TokenError::Inactive => Self::Inactive,
            TokenError::Issuer => Self::Issuer,
            TokenError::UnknownKey => Self::UnknownKey,
            TokenError::NotAccessToken => Self::NotAccessToken,
            TokenError::Lifetime => Self::Lifetime,
            TokenError::Malformed => Self::Malformed,
            TokenError::NotYetValid => Self::NotYetValid,
            TokenError::Signature => Self::Signature,
            TokenError::SubjectNotAllowed => Self::SubjectNotAllowed,
            TokenError::Tenant => Self::Tenant,
            TokenError::TooDeep => Self::TooDeep,
            TokenError::TooLarge => Self::TooLarge,
            TokenError::TooManyKeys => Self::TooManyKeys,
            TokenError::InvalidTyp => Self::InvalidTyp,
        }
    }
}

impl From<ProofError> for Reason {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Malformed => Self::ProofMalformed,
            ProofError::Method => Self::ProofMethod,
            ProofError::Missing => Self::ProofMissing,
            ProofError::Nonce => Self::ProofNonce,
            ProofError::Replayed => Self::ProofReplayed,
            ProofError::Multiple => Self::ProofMultiple,
            ProofError::Signature => Self::ProofSignature,
            ProofError::Time => Self::ProofTime,
            ProofError::Token => Self::ProofToken,
            ProofError::Url => Self::ProofUrl,
        }
    }
}

impl From<DeniedKind> for Reason {
    fn from(kind: DeniedKind) -> Self {
        match kind {
            DeniedKind::ClientRole => Self::ClientRole,
            DeniedKind::Role => Self::Role,
            DeniedKind::Scope => Self::Scope,
            DeniedKind::Claim => Self::RequiredClaim,
            DeniedKind::NoConditionMet => Self::NoConditionMet,
        }
    }
}

/// gRPC's status for a request that is wrong whatever the state of the system.
const INVALID_ARGUMENT: u8 = 3;

/// Somebody has to change a route or a configuration first.
const MISCONFIGURED: Duration = Duration::from_secs(60);

/// `Retry-After` in whole seconds: at least 1, so that nobody comes back at once; at most 5
/// minutes.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 300).try_into().unwrap_or(300)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpop::verify;

    fn header<'a>(response: &'a LocalReply, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    fn authentication(error: TokenError, acr_values: &[&str], max_age: Option<u64>) -> Refusal {
        let acr_values = acr_values.iter().map(ToString::to_string).collect();
        let authentication = Rc::new(AuthenticationRequirement { max_age, acr_values });
        Refusal::for_requirement(error, &RuleRequirements { authentication, ..RuleRequirements::default() })
    }

    /// A refusal of each kind: what the code can produce.
    fn each() -> Vec<Refusal> {
        use {Ambiguity as A, DeniedKind as D, ProofError as P, TokenError as T};
        let ambiguities = [A::Path, A::Method, A::Host, A::Header].map(Refusal::Ambiguous);
        let tokens = [
            T::Acr,
            T::TooOld,
            T::Algorithm,
            T::Audience,
            T::AuthTime,
            T::BindingMismatch,
            T::ClientNotAllowed,
            T::UnsupportedCrit,
            T::Expired,
            T::Inactive,
            T::Issuer,
            T::UnknownKey,
            T::NotAccessToken,
            T::Lifetime,
            T::Malformed,
            T::InvalidClaim,
            T::NotYetValid,
            T::Signature,
            T::SubjectNotAllowed,
            T::TooDeep,
            T::TooLarge,
            T::TooManyKeys,
            T::Tenant,
            T::InvalidTyp,
        ];
        let denied = [D::ClientRole, D::Role, D::Scope, D::Claim, D::NoConditionMet];
        let denied = denied.map(|kind| AccessDenied { message: "required".into(), kind, scope: None });
        let proofs = [
            P::Malformed,
            P::Method,
            P::Missing,
            P::Replayed,
            P::Multiple,
            P::Signature,
            P::Time,
            P::Token,
            P::Url,
        ];
        let others = [
            Refusal::NoRule,
            Refusal::NoToken,
            Refusal::MultipleCredentials,
            Refusal::JwksUnavailable(Duration::ZERO),
            Refusal::IntrospectionUnavailable(Duration::ZERO),
            Refusal::OutboundTokenUnavailable(Duration::ZERO),
            Refusal::SubjectToken,
            Refusal::ExchangeDenied,
            Refusal::UnknownCredential,
            Refusal::DpopSigningFailed,
            Refusal::ProofNonce("n".into()),
            Refusal::TooManyProofs,
            Refusal::TooManySignatures,
            Refusal::TooManyPending,
            Refusal::NotReady,
        ];
        let tokens = tokens.map(|error| Refusal::for_requirement(error, &RuleRequirements::default()));
        let denied = denied.map(|denied| Refusal::Access(Rc::new(denied)));
        let refusals = ambiguities.into_iter().chain(tokens).chain(denied);
        refusals.chain(proofs.map(Refusal::Proof)).chain(others).collect()
    }

    #[test]
    fn each_reason_is_that_of_one_refusal_and_each_refusal_has_a_reason() {
        let mut reasons: Vec<Reason> = each().iter().map(Refusal::reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, Reason::ALL, "in the order of the table, each once");
    }

    #[test]
    fn each_row_says_all_that_clients_and_operators_need() {
        for refusal in each() {
            let row = refusal.reason().row();
            assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{row:?}");
            assert_eq!(Reason::from_name(row.name), Some(refusal.reason()), "{row:?}");
            assert!(row.details.starts_with("m2m_auth_"), "{row:?}");
            assert!(!refusal.message().is_empty() && !refusal.message().ends_with('.'), "{row:?}");
            for text in [row.when, row.what_to_do] {
                assert!(text.ends_with('.') && !text.contains(['|', '\n']), "{row:?}");
            }
            let response = refusal.plain();
            let has_challenge = header(&response, "www-authenticate").is_some();
            assert_eq!(has_challenge, row.class.challenge != Challenge::None, "{row:?}");
            assert!(response.status != 401 || has_challenge, "RFC 9110 section 15.5.2: {row:?}");
            assert_eq!(header(&response, "retry-after").is_some(), response.status == 503, "{row:?}");
        }
    }

    #[test]
    fn the_status_table() {
        let wait = Duration::from_millis(1500);
        let scopes = AccessDenied {
            message: "required scope: a".into(),
            kind: DeniedKind::Scope,
            scope: Some("a".into()),
        };
        let role = AccessDenied { message: "required role: r".into(), kind: DeniedKind::Role, scope: None };
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
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"required role: r\"",
                ),
            ),
            (
                Refusal::Token(TokenError::ClientNotAllowed),
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"client not allowed by this rule\"",
                ),
            ),
            (
                authentication(TokenError::AuthTime, &[], Some(300)),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller authenticated too long ago\", max_age=\"300\"",
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
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller's authentication context (acr) is not accepted here\", acr_values=\"gold silver\"",
                ),
            ),
            (
                authentication(TokenError::Acr, &["gold"], Some(0)),
                401,
                "Insufficient authentication",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_user_authentication\", error_description=\"the caller's authentication context (acr) is not accepted here\", acr_values=\"gold\", max_age=\"0\"",
                ),
            ),
            (
                Refusal::MultipleCredentials,
                400,
                "Invalid request",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_request\", error_description=\"more than one credential in the request\"",
                ),
            ),
            (Refusal::Ambiguous(Ambiguity::Path), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Method), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Host), 400, "Invalid request", None),
            (Refusal::Ambiguous(Ambiguity::Header), 400, "Invalid request", None),
            (Refusal::NoRule, 403, "Forbidden", None),
            (Refusal::JwksUnavailable(wait), 503, "Identity provider unavailable", None),
            (Refusal::IntrospectionUnavailable(wait), 503, "Identity provider unavailable", None),
            (Refusal::OutboundTokenUnavailable(wait), 503, "Identity provider unavailable", None),
            (
                Refusal::SubjectToken,
                401,
                "Invalid token",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"the identity provider rejected this token for the exchange\"",
                ),
            ),
            (
                Refusal::ExchangeDenied,
                403,
                "Insufficient permissions",
                Some(
                    "Bearer realm=\"m2m\", error=\"insufficient_scope\", error_description=\"the identity provider denied the exchange of this token\"",
                ),
            ),
            (
                Refusal::Proof(ProofError::Url),
                401,
                "Invalid proof",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_dpop_proof\", error_description=\"the DPoP proof is for another URL\"",
                ),
            ),
            (
                Refusal::ProofNonce("n".into()),
                401,
                "Invalid proof",
                Some(
                    "Bearer realm=\"m2m\", error=\"use_dpop_nonce\", error_description=\"the DPoP proof needs the nonce of this response\"",
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
            assert_eq!((&body["error"], &body["reason"]), (&json!(error), &json!(refusal.reason().name())));
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
        let challenges = |bearer: bool, dpop: bool, by_dpop: bool, refusal: &Refusal| {
            let schemes = Schemes { bearer, dpop, used_dpop: by_dpop };
            let headers = refusal.response(&RefusalFormat::default(), schemes, false).headers;
            let challenges = headers.into_iter().filter(|(name, _)| *name == "www-authenticate");
            challenges.map(|(_, value)| value).collect::<Vec<_>>()
        };
        let missing = Refusal::NoToken;
        assert_eq!(challenges(true, true, false, &missing), bare);
        assert_eq!(challenges(false, true, false, &missing), bare[1..]);
        let expired = Refusal::Token(TokenError::Expired);
        for (bearer, by_dpop, in_bearer, in_dpop) in
            [(true, false, true, false), (true, true, false, true), (false, false, false, true)]
        {
            let challenges = challenges(bearer, true, by_dpop, &expired);
            let has = |scheme: &str| {
                challenges
                    .iter()
                    .any(|own| own.starts_with(scheme) && own.contains("error=\"invalid_token\""))
            };
            assert_eq!((has("Bearer "), has("DPoP ")), (in_bearer, in_dpop), "{challenges:?}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_a_challenge() {
        let deny = AccessDenied {
            message: "x\"\r\nset-cookie: a=b\\ü".into(),
            kind: DeniedKind::Scope,
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
                "type": "about:blank", "title": title, "status": status, "detail": refusal.message(), "reason": refusal.reason().name(),
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
                    (refusal.message().to_owned(), grpc_status),
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
