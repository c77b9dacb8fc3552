//! Every [`Refusal`] and the answer that it gets: this file is the documented status table.
//!
//! Two faults stay apart: the caller's (400, 401, 403) and ours or the identity provider's (503 with `Retry-After`). An
//! answer never holds a token, a URL, or anything else that the request brought.

use crate::access::Deny;
use crate::io::Response;
use crate::jwt::Reject;
use serde_json::json;
use std::rc::Rc;
use std::time::Duration;

/// Why a request stops here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path has no single meaning.
    AmbiguousPath,
    /// No rule is for this request.
    NoRule,
    /// No token, and one is needed.
    NoToken,
    /// More than one credential (RFC 6750 section 2).
    SeveralTokens,
    /// A token that is not good.
    Token(Reject),
    /// A good token of a caller that may not do this.
    Access(Rc<Deny>),
    /// The issuer's keys could not be had.
    NoKeys(Duration),
    /// A token for the request could not be had.
    NoOutboundToken(Duration),
    /// The identity provider does not take the request's token in exchange for another.
    SubjectToken,
    /// The identity provider denies this token's owner the exchange.
    ExchangeDenied,
    /// The route names a credential that the configuration does not have.
    UnknownCredential,
    /// The proof that a bound token needs could not be made.
    NoProof,
    /// As many requests wait as may.
    TooManyWaiting,
    /// The plugin is not ready to decide.
    NotReady,
}

impl Refusal {
    /// The reason in metrics and in the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AmbiguousPath => "ambiguous_path",
            Self::NoRule => "no_rule",
            Self::NoToken => "no_token",
            Self::SeveralTokens => "several_tokens",
            Self::Token(reject) => reject.label(),
            Self::Access(deny) => deny.label,
            Self::NoKeys(_) => "no_keys",
            Self::NoOutboundToken(_) => "no_outbound_token",
            Self::SubjectToken => "subject_token",
            Self::ExchangeDenied => "exchange_denied",
            Self::UnknownCredential => "unknown_credential",
            Self::NoProof => "no_proof",
            Self::TooManyWaiting => "too_many_waiting",
            Self::NotReady => "not_ready",
        }
    }

    /// One sentence for the answer and the audit log.
    pub fn message(&self) -> String {
        self.facts().message
    }

    /// The answer.
    pub fn response(&self, realm: &str) -> Response {
        let Facts { status, error, message, challenge, details } = self.facts();
        let body = json!({ "error": error, "reason": self.reason(), "message": message }).to_string();
        let mut headers =
            vec![("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())];
        match challenge {
            Challenge::None => {}
            // RFC 6750 section 3.1: a request without any credential gets no error code.
            Challenge::Bare => headers.push(("www-authenticate", bearer(realm, &[]))),
            Challenge::Error(code) => {
                headers.push((
                    "www-authenticate",
                    bearer(realm, &[("error", code), ("error_description", &message)]),
                ));
            }
            Challenge::Scope(scope) => {
                let code = "insufficient_scope";
                let parameters = [("error", code), ("error_description", &message), ("scope", &scope)];
                headers.push(("www-authenticate", bearer(realm, &parameters)));
            }
            Challenge::RetryAfter(wait) => headers.push(("retry-after", seconds(wait).to_string())),
        }
        Response { status, headers, body, details }
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
            Self::AmbiguousPath => facts(
                400,
                "Invalid request",
                "the path has no single meaning",
                Challenge::None,
                "m2m_auth_ambiguous_path",
            ),
            Self::SeveralTokens => facts(
                400,
                "Invalid request",
                "more than one credential",
                Challenge::Error("invalid_request"),
                "m2m_auth_several_tokens",
            ),
            Self::NoToken => {
                facts(401, "Missing token", "a bearer token is needed", Challenge::Bare, "m2m_auth_no_token")
            }
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
                &deny.sentence,
                deny.scope.clone().map_or(Challenge::Error("insufficient_scope"), Challenge::Scope),
                "m2m_auth_insufficient_permissions",
            ),
            Self::NoRule => {
                facts(403, "Forbidden", "no rule is for this request", Challenge::None, "m2m_auth_no_rule")
            }
            Self::NoKeys(wait) => facts(
                503,
                "Identity provider unavailable",
                "the issuer's keys cannot be fetched",
                Challenge::RetryAfter(*wait),
                "m2m_auth_no_keys",
            ),
            Self::NoOutboundToken(wait) => facts(
                503,
                "Identity provider unavailable",
                "a token for the request cannot be fetched",
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
            Self::NoProof => facts(
                503,
                "Not ready",
                "the proof that goes with the request's token cannot be made",
                Challenge::RetryAfter(Duration::from_secs(1)),
                "m2m_auth_no_proof",
            ),
            Self::TooManyWaiting => facts(
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
    Scope(String),
    RetryAfter(Duration),
}

/// `Retry-After` in whole seconds: at least 1, so that nobody comes back at once; at most 5 minutes.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 300).try_into().unwrap_or(300)
}

/// RFC 6750 section 3.
fn bearer(realm: &str, parameters: &[(&str, &str)]) -> String {
    let mut challenge = format!("Bearer realm=\"{}\"", quotable(realm));
    for (name, value) in parameters {
        for text in [", ", name, "=\"", &quotable(value), "\""] {
            challenge.push_str(text);
        }
    }
    challenge
}

/// The characters that RFC 6750 section 3 allows in an attribute. The host does not stop CR and LF in an answer.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_status_table() {
        let wait = Duration::from_millis(1500);
        let scopes = Deny { sentence: "required scope: a".into(), label: "scope", scope: Some("a".into()) };
        let role = Deny { sentence: "required realm role: r".into(), label: "realm_role", scope: None };
        for (refusal, status, error, challenge) in [
            (Refusal::NoToken, 401, "Missing token", Some("Bearer realm=\"m2m\"")),
            (
                Refusal::Token(Reject::Expired),
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
                Refusal::SeveralTokens,
                400,
                "Invalid request",
                Some(
                    "Bearer realm=\"m2m\", error=\"invalid_request\", error_description=\"more than one credential\"",
                ),
            ),
            (Refusal::AmbiguousPath, 400, "Invalid request", None),
            (Refusal::NoRule, 403, "Forbidden", None),
            (Refusal::NoKeys(wait), 503, "Identity provider unavailable", None),
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
            (Refusal::UnknownCredential, 503, "Misconfigured", None),
            (Refusal::TooManyWaiting, 503, "Overloaded", None),
            (Refusal::NotReady, 503, "Not ready", None),
        ] {
            let response = refusal.response("m2m");
            assert_eq!(response.status, status, "{refusal:?}");
            assert_eq!(header(&response, "www-authenticate"), challenge, "{refusal:?}");
            assert_eq!(header(&response, "retry-after").is_some(), status == 503, "{refusal:?}");
            assert_eq!(header(&response, "cache-control"), Some("no-store"));
            let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
            assert_eq!((&body["error"], &body["reason"]), (&json!(error), &json!(refusal.reason())));
        }
        assert_eq!(header(&Refusal::NoKeys(wait).response("m2m"), "retry-after"), Some("2"));
    }

    #[test]
    fn nothing_breaks_out_of_a_challenge() {
        let deny =
            Deny {
                sentence: "x\"\r\nset-cookie: a=b\\ü".into(), label: "scope", scope: Some("\"\n".into())
            };
        let response = Refusal::Access(Rc::new(deny)).response("r\"\r\nx");
        let challenge = header(&response, "www-authenticate").unwrap();
        assert_eq!(
            challenge,
            "Bearer realm=\"rx\", error=\"insufficient_scope\", error_description=\"xset-cookie: a=b\", scope=\"\""
        );
    }
}
