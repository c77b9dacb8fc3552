//! What a provider's OAuth error means (RFC 6749 section 5.2, RFC 8693 section 2.2.2).

use super::client_auth::repeats;
use super::keycloak_hints;
use crate::http::message::HttpReply;
use crate::http::printable;
use crate::json;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Whether the provider says that it does not take the client for who it says it is (RFC 6749
/// section 5.2): with 401, or in the words of the standard, or in Keycloak's, which says
/// `unauthorized_client` of a wrong secret.
pub fn rejects_client(reply: &HttpReply) -> bool {
    match reply.status {
        Some(401) => true,
        // Keycloak answers `invalid_client` too if the audience of an exchange does not exist or is
        // disabled.
        Some(400) => is_error_response(reply, |error, description| {
            let of_audience = matches!(description, "Audience not found" | "Client disabled");
            matches!(error, "invalid_client" | "unauthorized_client") && !of_audience
        }),
        _ => false,
    }
}

/// Whose fault a refused exchange is. RFC 8693 section 2.2.2 has one code, `invalid_request`, for
/// whatever is wrong with a request, so that the provider's words must distinguish an invalid
/// subject token from an invalid request.
pub(super) fn classify_exchange_error(reply: &HttpReply, failure: FetchError) -> FetchError {
    let of_subject = |description: &str| {
        let words = ["invalid token", "invalid subject", "expired", "revoked", "not active"];
        words.iter().any(|word| description.to_ascii_lowercase().contains(word))
    };
    if failure.kind != FetchErrorKind::Configuration {
        return failure;
    }
    let bad_subject = is_error_response(reply, |error, description| match error {
        "invalid_grant" | "invalid_token" => true,
        "invalid_request" => of_subject(description),
        _ => false,
    });
    let denied = is_error_response(reply, |error, _| error == "access_denied");
    let cause = match (bad_subject, denied) {
        (true, _) => FetchErrorKind::Subject,
        (false, true) => FetchErrorKind::Denied,
        (false, false) => failure.kind,
    };
    FetchError { kind: cause, ..failure }
}

/// Whether the provider states an `error` of this kind, with this `error_description`.
fn is_error_response(reply: &HttpReply, is: impl Fn(&str, &str) -> bool) -> bool {
    let answer = reply.body.as_deref().and_then(|body| json::parse_document(body).ok()).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    text("error").is_some_and(|error| is(error, text("error_description").unwrap_or_default()))
}

/// The answer, without the headers that a log line may quote where they repeat a secret.
pub(super) fn redacted<'a>(reply: &'a HttpReply, is_secret: &dyn Fn(&str) -> bool) -> Cow<'a, HttpReply> {
    let repeats = |name: &&str| {
        let value = reply.head.first(name).map(String::from_utf8_lossy);
        value.is_some_and(|value| is_secret(&value))
    };
    if !["location", "content-encoding"].iter().any(repeats) {
        return Cow::Borrowed(reply);
    }
    let head = reply.head.iter().filter(|(name, _)| !matches!(*name, b"location" | b"content-encoding"));
    Cow::Owned(HttpReply { head: head.collect(), ..reply.clone() })
}

/// RFC 6749 section 5.2: `error`, and `error_description` cut to what a log line may hold.
pub(super) fn error_response(
    answer: &Map<String, Value>,
    is_secret: &dyn Fn(&str) -> bool,
) -> Option<FetchError> {
    let tokens = ["access_token", "id_token", "refresh_token"];
    let tokens = tokens.map(|name| answer.get(name).and_then(Value::as_str).unwrap_or_default());
    // A standard error contains no token; such a token stays out of the log.
    let is_secret = |text: &str| is_secret(text) || tokens.iter().any(|token| repeats(text, token));
    let code =
        |code: &&str| code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let error = answer.get("error")?.as_str().filter(code).filter(|code| !is_secret(code)).unwrap_or("error");
    let description = answer.get("error_description").and_then(Value::as_str).unwrap_or_default();
    let description =
        if is_secret(description) { "(not shown, as it repeats the secret)" } else { description };
    let detail = format!("{error}: {}", printable(description, 160));
    let mut detail = detail.trim_end_matches([':', ' ']).to_owned();
    if let Some(advice) = keycloak_hints::hint(error, description) {
        for text in [" (", advice, ")"] {
            detail.push_str(text);
        }
    }
    Some(FetchError::new(FetchErrorKind::Configuration, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_client_is_denied_by_401_and_by_the_words_of_the_standard() {
        let denies = |status, body: &str| {
            rejects_client(&HttpReply {
                status: Some(status),
                body: Some(body.as_bytes().to_vec()),
                ..HttpReply::default()
            })
        };
        for error in ["invalid_client", "unauthorized_client"] {
            assert!(denies(400, &json!({ "error": error }).to_string()), "{error}");
            assert!(!denies(200, &json!({ "error": error }).to_string()), "{error}");
        }
        assert!(denies(401, "<html>") && denies(401, r#"{"error":"access_denied"}"#));
        assert!(!denies(400, r#"{"error":"invalid_scope"}"#) && !denies(400, "") && !denies(403, ""));
        assert!(!rejects_client(&HttpReply::default()));
    }
}
