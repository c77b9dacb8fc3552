//! A provider's answers: a [`HttpReply`] to the token in it, or to the one fault that it is.
//!
//! RFC 6749 sections 5.1 and 5.2, RFC 8693 section 2.2, RFC 9110 section 10.2.3. An answer that is
//! not understood yields no token, and no body is logged.

use super::{Grant, GrantType, keycloak_hints};
use crate::http::message::{HttpReply, MAX_REPLY_BYTES, MessageHead};
use crate::http::printable;
use crate::json;
use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::rng::Rng;
use crate::secret::AccessToken;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::Duration;

/// Whether the provider says that it does not take the client for who it says it is (RFC 6749
/// section 5.2): with 401, or in the words of the standard, or in Keycloak's, which says
/// `unauthorized_client` of a wrong secret.
pub fn rejects_client(reply: &HttpReply) -> bool {
    match reply.status {
        Some(401) => true,
        // Keycloak says `invalid_client` of the audience of an exchange too, when there is none or
        // it is disabled.
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

/// RFC 8693 section 3.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The one that must never reach a service.
pub const REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";

/// The largest token that is attached: Envoy takes 60 KiB of headers in all.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token is not believed to live longer, whatever its answer says: a day is what providers give
/// their clients at most by default (Auth0), and a longer one is fetched once a day more than it
/// need be.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The body of a good reply, or the fault that the reply is.
pub fn success_body(reply: &HttpReply) -> Result<&[u8], FetchError> {
    let status = reply.status.ok_or_else(|| FetchError {
        no_connection: reply.no_connection,
        ..FetchError::new(FetchErrorKind::Unreachable, reply.detail.clone())
    })?;
    if !(200..300).contains(&status) {
        let fault = envoy_error(reply).unwrap_or_else(|| status_error(status, reply));
        return Err(FetchError { retry_after: retry_after(reply), ..fault });
    }
    let too_large = || {
        FetchError::new(
            FetchErrorKind::TooLarge,
            format!("the answer is larger than {MAX_REPLY_BYTES} bytes"),
        )
    };
    reply.body.as_deref().ok_or_else(too_large)
}

/// The members of a body, which is `what` for the log.
pub fn object(body: &[u8], head: &MessageHead, what: &str) -> Result<Map<String, Value>, FetchError> {
    json::parse_document(body).map_err(|error| {
        if json::is_too_deep(&error) {
            FetchError::new(
                FetchErrorKind::TooLarge,
                format!("{what} is nested deeper than {}", json::MAX_DEPTH),
            )
        } else if let Some(duplicate) = json::duplicate(&error) {
            FetchError::new(FetchErrorKind::Unreadable, format!("{what} has a {duplicate}"))
        } else {
            FetchError::new(
                FetchErrorKind::Unreadable,
                format!("{what} is not a JSON object{}", content_coding(head)),
            )
        }
    })
}

/// For the log: the content coding of an answer (RFC 9110 section 8.4), if it has one. None is
/// asked for, and none is undone.
pub fn content_coding(head: &MessageHead) -> String {
    let coding = head.first("content-encoding").map(String::from_utf8_lossy).unwrap_or_default();
    let coding = printable(&coding, QUOTED_CHARS);
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return String::new();
    }
    format!(", its content coding is {coding}, expected none")
}

/// The most characters of one value of an answer in a log line.
const QUOTED_CHARS: usize = 120;

/// Where a redirect leads, for the log: without the query, which may hold what nobody should see.
fn redirect_target(head: &MessageHead) -> String {
    let location = head.first("location").map(String::from_utf8_lossy).unwrap_or_default();
    let location = location.split(['?', '#']).next().unwrap_or_default();
    if location.is_empty() || location.contains('@') || location.contains("eyJ") {
        return String::new();
    }
    format!(" to {}, which is not followed", printable(location, QUOTED_CHARS))
}

/// Whether a server that expects TLS got plain HTTP, in the words of nginx and of Go.
fn expects_tls(reply: &HttpReply) -> bool {
    let body = reply.body.as_deref().unwrap_or_default();
    let words = [&b"plain HTTP request was sent to HTTPS port"[..], b"HTTP request to an HTTPS server"];
    let says = |words: &[u8]| body.windows(words.len()).any(|part| part == words);
    reply.status == Some(400) && words.into_iter().any(says)
}

/// The fault that a 503 of Envoy itself is. Envoy answers a call in plain words and adds nothing,
/// while a provider's answer has a `date` (RFC 9110 section 6.6.1), and from Envoy the time that it
/// took. Of a gateway before the provider nothing is concluded.
fn envoy_error(reply: &HttpReply) -> Option<FetchError> {
    let marks = ["date", "server", "via", "x-envoy-upstream-service-time"];
    let body = reply.body.as_deref().and_then(|body| std::str::from_utf8(body).ok())?;
    if reply.status != Some(503) || marks.iter().any(|name| reply.head.first(name).is_some()) {
        return None;
    }
    let unreachable = |detail| FetchError::new(FetchErrorKind::Unreachable, detail);
    if body.starts_with("no healthy upstream") {
        return Some(FetchError { no_connection: true, ..unreachable("no healthy host") });
    }
    let (_, reason) =
        body.split_once("reset reason: ").filter(|_| body.starts_with("upstream connect error"))?;
    Some(if reason.starts_with("connection termination") {
        // A kept connection turned out to be closed (Envoy issue 27311).
        FetchError::new(FetchErrorKind::ConnectionClosed, "the connection was closed")
    } else if reason.starts_with("connection timeout") {
        // Of a full queue of connections this is a sign too.
        FetchError::new(FetchErrorKind::Timeout, "no connection in time")
    } else if reason.starts_with("remote connection failure") && !reason.contains("TLS") {
        // Envoy 1.40 no longer says whether it was TLS that failed.
        FetchError { no_connection: true, ..unreachable("no connection: refused, or TLS failed") }
    } else {
        unreachable("the connection failed")
    })
}

/// What a status that is not 2xx means for the client that asked.
fn status_error(status: u16, reply: &HttpReply) -> FetchError {
    let cause = match status {
        504 => FetchErrorKind::Timeout,
        // 404 is what a provider that is not there yet says, or a proxy before it; 3xx, 403 and 405
        // without an OAuth `error` are those of a maintenance page or a web application firewall.
        300..=399 | 403 | 404 | 405 | 408 | 425 | 429 | 500..=599 => FetchErrorKind::ServerError,
        _ => FetchErrorKind::Configuration,
    };
    let more = match status {
        300..400 => redirect_target(&reply.head),
        _ if expects_tls(reply) => ", the server expects TLS".to_owned(),
        _ => String::new(),
    };
    FetchError::new(cause, format!("status {status}{more}"))
}

/// RFC 6749 section 5: the members of a token answer, or the fault that it states.
pub(super) fn members(
    reply: &HttpReply,
    is_secret: &dyn Fn(&str) -> bool,
) -> Result<Map<String, Value>, FetchError> {
    let reply = &*redacted(reply, is_secret);
    match success_body(reply) {
        Ok(body) => {
            let answer = object(body, &reply.head, "the answer").map_err(|failure| {
                let quoted = failure.detail.split('"').nth(1).is_some_and(is_secret);
                if quoted {
                    FetchError::new(failure.kind, "the answer has a duplicate member")
                } else {
                    failure
                }
            })?;
            error_response(&answer, is_secret).map_or(Ok(answer), Err)
        }
        Err(failure) if matches!(reply.status, Some(400..500)) => {
            let body = reply.body.as_deref().unwrap_or_default();
            let stated =
                json::parse_document(body).ok().and_then(|answer| error_response(&answer, is_secret));
            let judged = matches!(reply.status, Some(403 | 405));
            Err(stated.map_or(failure.clone(), |stated| FetchError {
                kind: if judged { stated.kind } else { failure.kind },
                detail: format!("{}, {}", failure.detail, stated.detail),
                ..failure
            }))
        }
        Err(failure) => Err(failure),
    }
}

/// The answer, without the headers that a log line may quote where they repeat a secret.
fn redacted<'a>(reply: &'a HttpReply, is_secret: &dyn Fn(&str) -> bool) -> Cow<'a, HttpReply> {
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
fn error_response(answer: &Map<String, Value>, is_secret: &dyn Fn(&str) -> bool) -> Option<FetchError> {
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

/// RFC 6749 section 5.1: a token that may be attached, or why not. Asked for with a proof, it says
/// by its type whether it is bound to the key (RFC 9449 section 5).
pub(super) fn token(
    answer: &Map<String, Value>,
    grant: &Grant,
    is_secret: &dyn Fn(&str) -> bool,
) -> Result<AccessToken, FetchError> {
    let unusable = |detail: &str| FetchError::new(FetchErrorKind::Unusable, detail);
    let given = |name: &str| answer.get(name).filter(|value| !value.is_null());
    // Google answers an assertion with `target_audience` with an ID token alone.
    if let (GrantType::JwtBearer(assertion), None, Some(Value::String(token))) =
        (&grant.grant_type, given("access_token"), given("id_token"))
        && assertion.wants_id_token
    {
        return attachable("id_token", token);
    }
    check_type(given("token_type"), given("access_token"), grant, is_secret)?;
    if answer.get("issued_token_type").is_some_and(|issued| issued == REFRESH_TOKEN) {
        return Err(unusable("the answer holds a refresh token, expected one that services take"));
    }
    let Some(Value::String(token)) = answer.get("access_token") else {
        return Err(unusable("the answer has no access_token"));
    };
    attachable("access_token", token)
}

/// Whether the token is of a type that is accepted.
fn check_type(
    found: Option<&Value>,
    token: Option<&Value>,
    grant: &Grant,
    is_secret: &dyn Fn(&str) -> bool,
) -> Result<(), FetchError> {
    // RFC 8693 section 2.2.1: what is no access token is `N_A`, which only they get who asked for
    // something else.
    let other = !grant.dpop_bound
        && matches!(&grant.grant_type, GrantType::TokenExchange { requested: Some(requested), .. } if *requested != ACCESS_TOKEN);
    let hint = if grant.dpop_bound { "" } else { "; `token_types` can allow it" };
    let expected = grant.token_types.to_string();
    let detail = match found {
        None if grant.token_types.absent => return Ok(()),
        None => format!("the answer has no token_type, expected {expected}{hint}"),
        Some(Value::String(kind)) if grant.token_types.accepts(kind) => return Ok(()),
        Some(Value::String(kind)) if other && kind.eq_ignore_ascii_case("N_A") => return Ok(()),
        Some(Value::String(kind)) if is_name(kind) && is_not_part_of(token, kind) && !is_secret(kind) => {
            format!("token_type is {kind}, expected {expected}{hint}")
        }
        Some(_) => format!("token_type is not {expected}"),
    };
    Err(FetchError::new(FetchErrorKind::Unusable, detail))
}

/// Whether this is the name of a type (RFC 6749 section 7.1), which a log line may quote: a word,
/// or a registered URN. A provider may also put the token there.
fn is_name(kind: &str) -> bool {
    let word =
        kind.len() <= 24 && kind.bytes().all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte));
    let urn = kind.strip_prefix("urn:ietf:params:oauth:").is_some_and(|rest| rest.len() <= 40);
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
    !kind.is_empty() && (word || urn) && kind.bytes().all(usual)
}

/// Whether there is a token, and this is not a part of it.
fn is_not_part_of(token: Option<&Value>, kind: &str) -> bool {
    token.and_then(Value::as_str).is_some_and(|token| !token.contains(kind) && !kind.contains(token))
}

/// A token that a header can hold.
fn attachable(name: &str, token: &str) -> Result<AccessToken, FetchError> {
    // RFC 6749 appendix A.12 allows printable ASCII; a space would end a Bearer credential (RFC
    // 6750 section 2.1).
    if token.len() > MAX_TOKEN_BYTES {
        let detail = format!("{name} is longer than {MAX_TOKEN_BYTES} bytes");
        return Err(FetchError::new(FetchErrorKind::TooLarge, detail));
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("{name} is empty, or holds characters that a header cannot");
        return Err(FetchError::new(FetchErrorKind::Unusable, detail));
    }
    Ok(AccessToken::new(token))
}

/// Of the body of a good answer what is read of it: no refresh token or ID token, which nobody here
/// has a use for.
pub fn minimal_body(body: &[u8]) -> Vec<u8> {
    const READ: [&str; 4] = ["access_token", "token_type", "expires_in", "issued_token_type"];
    let mut members = json::parse_object(body).unwrap_or_default();
    members.retain(|name, _| READ.contains(&name.as_str()));
    Value::Object(members).to_string().into_bytes()
}

/// `expires_in`: a number or a numeric text, fractions dropped; absent means `default`; above a day
/// means a day.
pub(super) fn lifetime(answer: &Map<String, Value>, default: Duration) -> Result<Duration, FetchError> {
    let seconds = match answer.get("expires_in") {
        None | Some(Value::Null) => return Ok(default.min(MAX_LIFETIME)),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => json::parse(text.as_bytes()).ok().and_then(|number| number.as_f64()),
        Some(_) => None,
    };
    match seconds {
        Some(seconds) if seconds >= 1.0 => {
            let capped = seconds.floor().min(MAX_LIFETIME.as_secs_f64());
            Ok(Duration::from_secs_f64(capped))
        }
        Some(_) => {
            Err(FetchError::new(FetchErrorKind::Unusable, "expires_in says that the token has ended already"))
        }
        None => Err(FetchError::new(FetchErrorKind::Unusable, "expires_in is not a number")),
    }
}

/// A token, to be renewed and ended in time.
pub(super) fn fetched_token(value: AccessToken, lifetime: Duration, rng: &mut Rng) -> Fetched<AccessToken> {
    Fetched { value, renew_after: renew_after(lifetime, rng), end_after: local_expiry(lifetime) }
}

/// Whether a token that ends so late for us was said to live as long as is believed, or longer.
pub fn is_capped(end_after: Duration) -> bool {
    end_after >= local_expiry(MAX_LIFETIME)
}

/// A token ends for us a little before it ends for its provider: the lesser of 10 s (x/oauth2) and
/// a tenth of its life, so that it does not end on its way.
fn local_expiry(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)))
}

/// At 80 % of its life, less up to a tenth of it: a share, since a fixed margin may exceed the
/// life.
fn renew_after(lifetime: Duration, rng: &mut Rng) -> Duration {
    (lifetime / 5 * 4).saturating_sub(rng.duration_up_to(lifetime / 10))
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date in any of the three forms of section
/// 5.6.7. A date counts from the response's own `Date`, so that a skewed clock does no harm; one
/// that is not after it means now.
pub fn retry_after(reply: &HttpReply) -> Option<Duration> {
    let text = |name: &str| std::str::from_utf8(reply.head.first(name)?).ok().map(str::trim);
    if let Ok(seconds) = text("retry-after")?.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |name: &str| httpdate::parse_http_date(text(name)?).ok();
    let (at, sent) = (date("retry-after")?, date("date")?);
    Some(at.duration_since(sent).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::{ClientAuth, Secret, TokenTypes};
    use super::*;
    use serde_json::json;

    fn grant() -> Grant {
        Grant {
            grant_type: GrantType::ClientCredentials,
            client_id: "a".into(),
            auth: vec![ClientAuth::Post(Secret::new("s".into()))],
            parameters: Vec::new(),
            default_lifetime: Duration::from_secs(300),
            token_types: TokenTypes::default(),
            dpop_bound: false,
        }
    }

    fn read(answer: &Value) -> Result<Fetched<AccessToken>, FetchError> {
        let body = Some(answer.to_string().into_bytes());
        let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
        grant().read(&reply, None, &mut Rng::new(1))
    }

    fn good() -> Value {
        json!({ "access_token": "t", "token_type": "bearer", "expires_in": 300 })
    }

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

    #[test]
    fn a_token_is_renewed_and_ends_before_its_provider_ends_it() {
        for seconds in [1_u64, 5, 60, 300, 86_400] {
            let mut answer = good();
            answer["expires_in"] = json!(seconds);
            let fresh = read(&answer).unwrap();
            let life = Duration::from_secs(seconds);
            assert!(
                fresh.renew_after + Duration::from_millis(1) >= life / 10 * 7,
                "{seconds}: {:?}",
                fresh.renew_after
            );
            assert!(fresh.renew_after < fresh.end_after && fresh.end_after < life, "{seconds}");
        }
    }

    #[test]
    fn every_odd_expires_in_has_one_meaning() {
        let life = |expires_in: Value| {
            let mut answer = good();
            answer["expires_in"] = expires_in;
            read(&answer).map(|fresh| fresh.end_after.as_secs()).map_err(|failure| failure.kind)
        };
        assert_eq!(life(json!("300")), Ok(290));
        assert_eq!(life(json!(300.9)), Ok(290));
        assert_eq!(life(json!(null)), Ok(290));
        assert_eq!(life(json!(u64::MAX)), Ok(86_390));
        assert_eq!(life(json!(1e300)), Ok(86_390));
        for odd in [json!(0), json!(-5), json!("soon"), json!([300]), json!("NaN"), json!(0.5), json!(true)] {
            assert_eq!(life(odd.clone()), Err(FetchErrorKind::Unusable), "{odd}");
        }
        let mut absent = good();
        absent.as_object_mut().unwrap().remove("expires_in");
        assert_eq!(read(&absent).unwrap().end_after.as_secs(), 290);
    }

    #[test]
    fn what_cannot_be_attached_is_not_a_token() {
        for (name, value) in [
            ("access_token", json!("")),
            ("access_token", json!("a\r\nx: y")),
            ("access_token", json!("a b")),
            ("access_token", json!("ü")),
            ("access_token", json!(5)),
            ("token_type", json!("DPoP")),
            ("token_type", json!("mac")),
            ("token_type", json!(null)),
        ] {
            let mut answer = good();
            answer[name] = value.clone();
            assert_eq!(read(&answer).unwrap_err().kind, FetchErrorKind::Unusable, "{name} {value}");
        }
        let mut answer = good();
        answer["access_token"] = json!("x".repeat(MAX_TOKEN_BYTES));
        assert!(read(&answer).is_ok());
        answer["access_token"] = json!("x".repeat(MAX_TOKEN_BYTES + 1));
        assert_eq!(read(&answer).unwrap_err().kind, FetchErrorKind::TooLarge);
    }

    fn exchange(requested: Option<&str>) -> Grant {
        let requested = requested.map(str::to_owned);
        Grant { grant_type: GrantType::TokenExchange { subject: ACCESS_TOKEN.into(), requested }, ..grant() }
    }

    fn reply_of(status: u16, body: &Value) -> HttpReply {
        HttpReply { status: Some(status), body: Some(body.to_string().into_bytes()), ..HttpReply::default() }
    }

    #[test]
    fn an_exchanged_token_ends_before_its_subject() {
        let end = |left| {
            let subject = ("s", left);
            exchange(None).read(&reply_of(200, &good()), Some(subject), &mut Rng::new(1)).unwrap().end_after
        };
        assert_eq!(end(None), Duration::from_secs(290));
        assert_eq!(end(Some(Duration::from_secs(1000))), Duration::from_secs(290));
        assert_eq!(end(Some(Duration::from_secs(100))), Duration::from_secs(90));
        assert_eq!(end(Some(Duration::ZERO)), Duration::ZERO);
    }

    #[test]
    fn only_who_asks_for_another_kind_of_token_gets_one_that_is_no_access_token() {
        let read = |requested: Option<&str>, changes: Value| {
            let mut answer = good();
            answer.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            exchange(requested).read(&reply_of(200, &answer), Some(("s", None)), &mut Rng::new(1)).is_ok()
        };
        let (none, transaction) =
            (json!({ "token_type": "N_A" }), "urn:ietf:params:oauth:token-type:txn_token");
        assert!(read(Some(transaction), none.clone()) && read(Some(transaction), json!({})));
        assert!(!read(None, none.clone()) && !read(Some(ACCESS_TOKEN), none));
        assert!(read(None, json!({ "issued_token_type": ACCESS_TOKEN })));
        assert!(!read(None, json!({ "issued_token_type": REFRESH_TOKEN })));
    }

    #[test]
    fn whose_fault_a_refused_exchange_is_says_the_provider() {
        let cause = |grant: &Grant, status, error: &str, description: &str| {
            let reply = reply_of(status, &json!({ "error": error, "error_description": description }));
            grant.read(&reply, Some(("opaque-subject", None)), &mut Rng::new(1)).unwrap_err().kind
        };
        let ours = [
            (400, "invalid_client", "Audience not found"),
            (400, "invalid_request", "Standard token exchange is not enabled for the requested client"),
            (400, "invalid_request", "Parameter 'subject_token' required for standard token exchange"),
            (400, "invalid_target", ""),
            (401, "invalid_client", "Invalid token"),
        ];
        for (status, error, description) in ours {
            assert_eq!(
                cause(&exchange(None), status, error, description),
                FetchErrorKind::Configuration,
                "{error}"
            );
        }
        for (error, description) in [
            ("invalid_request", "Invalid token"),
            ("invalid_grant", ""),
            ("invalid_request", "The token has expired"),
        ] {
            assert_eq!(cause(&exchange(None), 400, error, description), FetchErrorKind::Subject, "{error}");
            assert_eq!(
                cause(&exchange(None), 500, error, description),
                FetchErrorKind::ServerError,
                "a fault of its own"
            );
            assert_eq!(
                cause(&grant(), 400, error, description),
                FetchErrorKind::Configuration,
                "nobody else's token"
            );
        }
        assert_eq!(cause(&exchange(None), 403, "access_denied", ""), FetchErrorKind::Denied);
        let reply = reply_of(400, &json!({ "error": "x", "error_description": "no opaque-subject" }));
        let failure =
            exchange(None).read(&reply, Some(("opaque-subject", None)), &mut Rng::new(1)).unwrap_err();
        assert!(!failure.detail.contains("opaque"), "{failure}");
    }

    #[test]
    fn faults_tell_what_the_provider_said_and_no_more() {
        let reply = |status: u16, body: &str| HttpReply {
            status: Some(status),
            body: Some(body.as_bytes().to_vec()),
            ..HttpReply::default()
        };
        let fault = |reply: &HttpReply| grant().read(reply, None, &mut Rng::new(1)).unwrap_err();
        let wrong = fault(&reply(
            401,
            r#"{"error":"unauthorized_client","error_description":"Invalid client\r\nx"}"#,
        ));
        assert_eq!(wrong.kind, FetchErrorKind::Configuration);
        assert_eq!(wrong.detail, "status 401, unauthorized_client: Invalid clientx");
        assert_eq!(fault(&reply(200, r#"{"error":"invalid_scope"}"#)).kind, FetchErrorKind::Configuration);
        assert_eq!(fault(&reply(200, "<html>token</html>")).detail, "the answer is not a JSON object");
        assert_eq!(fault(&reply(429, "")).kind, FetchErrorKind::ServerError);
        assert_eq!(fault(&reply(500, "")).kind, FetchErrorKind::ServerError);
        assert_eq!(fault(&HttpReply::default()).kind, FetchErrorKind::Unreachable);
        assert_eq!(
            fault(&HttpReply { status: Some(200), ..HttpReply::default() }).kind,
            FetchErrorKind::TooLarge
        );
    }

    #[test]
    fn a_fault_says_the_value_that_came_and_never_a_secret() {
        let client =
            |secret: &str| Grant { auth: vec![ClientAuth::Post(Secret::new(secret.to_owned()))], ..grant() };
        let outcome = |status: u16, headers: &[(&str, &str)], body: &str| {
            let head = headers.iter().copied().collect();
            let reply = HttpReply {
                status: Some(status),
                head,
                body: Some(body.as_bytes().to_vec()),
                ..HttpReply::default()
            };
            client("hush").read(&reply, None, &mut Rng::new(1)).unwrap_err().to_string()
        };
        let to = |location: &str| outcome(302, &[("location", location)], "");
        assert_eq!(
            to("https://login.example.com/sso?state=1#x"),
            "server_error: status 302 to https://login.example.com/sso, which is not followed"
        );
        for odd in ["", "https://idp/hush", "https://me:pw@idp/", "/eyJhbGciOi", "?code=1"] {
            assert_eq!(to(odd), "server_error: status 302", "{odd}");
        }
        assert!(to(&"x".repeat(1000)).len() < 200 && !to("/a\r\nb").contains('\n'));
        assert_eq!(
            outcome(200, &[("content-encoding", "gzip")], "\u{1f}"),
            "unreadable: the answer is not a JSON object, its content coding is gzip, expected none"
        );
        assert_eq!(
            outcome(200, &[("content-encoding", "identity")], "x"),
            "unreadable: the answer is not a JSON object"
        );
        assert_eq!(
            outcome(200, &[("content-encoding", "hush")], "x"),
            "unreadable: the answer is not a JSON object"
        );
        assert_eq!(
            outcome(200, &[], r#"{"token_type":"a","token_type":"b"}"#),
            "unreadable: the answer has a duplicate member \"token_type\""
        );
        assert_eq!(
            outcome(200, &[], r#"{"hush":1,"hush":2}"#),
            "unreadable: the answer has a duplicate member"
        );
        let https = "<h1>400 The plain HTTP request was sent to HTTPS port</h1>";
        assert_eq!(outcome(400, &[], https), "configuration: status 400, the server expects TLS");
        let of_type = |kind: Value| {
            outcome(200, &[], &json!({ "access_token": "abc", "token_type": kind }).to_string())
        };
        let allow = "; `token_types` can allow it";
        assert_eq!(
            of_type(json!("BearerToken")),
            format!("unusable: token_type is BearerToken, expected Bearer{allow}")
        );
        assert_eq!(
            of_type(json!(null)),
            format!("unusable: the answer has no token_type, expected Bearer{allow}")
        );
        for odd in
            [json!("abc"), json!("xabcx"), json!("hush"), json!("a b"), json!("x".repeat(41)), json!(5)]
        {
            assert_eq!(of_type(odd.clone()), "unusable: token_type is not Bearer", "{odd}");
        }
    }

    #[test]
    fn a_token_type_is_what_the_credential_accepts() {
        let types = |names: &[&str], absent| TokenTypes {
            names: names.iter().map(ToString::to_string).collect(),
            absent,
        };
        let accepts = |types: TokenTypes, kind: Value| {
            let mut answer = good();
            answer["token_type"] = kind;
            Grant { token_types: types, ..grant() }
                .read(&reply_of(200, &answer), None, &mut Rng::new(1))
                .is_ok()
        };
        assert!(accepts(types(&["BearerToken"], false), json!("bearertoken")));
        assert!(!accepts(types(&["BearerToken"], false), json!("Bearer")));
        assert!(!accepts(types(&["Bearer"], false), json!(null)));
        assert!(
            accepts(types(&["Bearer"], true), json!(null))
                && accepts(types(&["Bearer"], true), json!("Bearer"))
        );
        assert!(
            !accepts(types(&["Bearer"], true), json!("")) && !accepts(types(&["Bearer"], true), json!(5))
        );
    }

    #[test]
    fn what_envoy_says_itself_is_told_from_what_a_provider_says() {
        let refused = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
        let of = |headers: &[(&str, &str)], body: &str| {
            let head = headers.iter().copied().collect();
            let reply = HttpReply {
                status: Some(503),
                head,
                body: Some(body.as_bytes().to_vec()),
                ..HttpReply::default()
            };
            let failure = success_body(&reply).unwrap_err();
            (failure.kind, failure.no_connection)
        };
        let own = |reason: &str| of(&[], &refused.replace("remote connection failure", reason));
        assert_eq!(of(&[], "no healthy upstream"), (FetchErrorKind::Unreachable, true));
        assert_eq!(
            own("remote connection failure, transport failure reason: delayed connect error: 111"),
            (FetchErrorKind::Unreachable, true)
        );
        assert_eq!(
            own("remote connection failure, transport failure reason: TLS_error:|x"),
            (FetchErrorKind::Unreachable, false)
        );
        for reason in ["overflow", "local connection failure", "remote reset", ""] {
            assert_eq!(own(reason), (FetchErrorKind::Unreachable, false), "{reason}");
        }
        assert_eq!(own("connection timeout"), (FetchErrorKind::Timeout, false));
        assert_eq!(own("connection termination"), (FetchErrorKind::ConnectionClosed, false));
        for mark in ["date", "server", "via", "x-envoy-upstream-service-time"] {
            for body in ["no healthy upstream", refused, ""] {
                assert_eq!(of(&[(mark, "x")], body), (FetchErrorKind::ServerError, false), "{mark}: {body}");
            }
        }
        assert_eq!(of(&[], "busy"), (FetchErrorKind::ServerError, false));
    }

    #[test]
    fn only_an_oauth_error_makes_a_redirect_or_a_403_a_fault_of_configuration() {
        for status in [302, 403, 405] {
            let cause = |body: &Value| {
                grant().read(&reply_of(status, body), None, &mut Rng::new(1)).unwrap_err().kind
            };
            assert_eq!(cause(&json!({ "message": "blocked" })), FetchErrorKind::ServerError, "{status}");
            let judged =
                if status == 302 { FetchErrorKind::ServerError } else { FetchErrorKind::Configuration };
            assert_eq!(cause(&json!({ "error": "unauthorized_client" })), judged, "{status}");
        }
        assert_eq!(
            grant().read(&reply_of(401, &json!({})), None, &mut Rng::new(1)).unwrap_err().kind,
            FetchErrorKind::Configuration
        );
    }

    #[test]
    fn retry_after_counts_from_the_answers_own_date() {
        let reply = |headers: &[(&str, &str)]| HttpReply {
            head: headers.iter().copied().collect(),
            ..HttpReply::default()
        };
        let seconds = |headers: &[(&str, &str)]| retry_after(&reply(headers)).map(|span| span.as_secs());
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(30));
        assert_eq!(seconds(&[date, ("retry-after", "Sat, 05 Nov 1994 08:50:07 GMT")]), Some(0));
        assert_eq!(seconds(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), None);
        assert_eq!(seconds(&[("retry-after", "-1")]), None);
    }

    #[test]
    fn retry_after_is_read_in_all_three_forms_of_an_http_date() {
        let seconds = |date: &str, at: &str| {
            let head = [("date", date), ("retry-after", at)].into_iter().collect();
            retry_after(&HttpReply { head, ..HttpReply::default() }).map(|span| span.as_secs())
        };
        // RFC 9110 section 5.6.7: IMF-fixdate, RFC 850, asctime.
        let dates =
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
        let later =
            ["Sun, 06 Nov 1994 08:50:07 GMT", "Sunday, 06-Nov-94 08:50:07 GMT", "Sun Nov  6 08:50:07 1994"];
        for date in dates {
            for at in later {
                assert_eq!(seconds(date, at), Some(30), "{at} after {date}");
            }
        }
        let leap_day = "Tue, 29 Feb 2028 23:59:59 GMT";
        assert_eq!(seconds(leap_day, "Wed, 01 Mar 2028 00:00:00 GMT"), Some(1));
        for no_date in [
            "Thu, 31 Feb 2028 00:00:00 GMT",
            "Sun, 29 Feb 2026 00:00:00 GMT",
            "Wed, 01 Mar 2028 24:00:00 GMT",
            "Wed, 00 Mar 2028 00:00:00 GMT",
            "Wed, 01 Mar 2028 00:00:00 CET",
            "Wed, 01 Mar 2028 00:00:00",
            "x",
        ] {
            assert_eq!(seconds(leap_day, no_date), None, "{no_date}");
            assert_eq!(seconds(no_date, leap_day), None, "{no_date}");
        }
    }
}
