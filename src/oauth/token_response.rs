//! A token endpoint's reply: the token in it, or the one error that it is.
//!
//! RFC 6749 section 5.1, RFC 8693 section 2.2. A reply that is not understood yields no token.

use super::error_response::{error_response, redacted};
use super::reply::{object, success_body};
use super::{AssertionSource, Grant, GrantType};
use crate::http::message::HttpReply;
use crate::json;
use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::rng::Rng;
use crate::secret::AccessToken;
use serde_json::{Map, Value};
use std::time::Duration;

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

/// RFC 6749 section 5: the members of a token answer, or the fault that it states.
pub(super) fn members(
    reply: &HttpReply,
    is_secret: &dyn Fn(&str) -> bool,
) -> Result<Map<String, Value>, FetchError> {
    let reply = &*redacted(reply, is_secret);
    match success_body(reply) {
        Ok(body) => {
            let answer = object(body, &reply.head, "the answer").map_err(|failure| {
                // Any other name may be a token.
                let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                match failure.detail.split('"').nth(1) {
                    Some(name) if is_secret(name) || !is_name(name) => {
                        FetchError::new(failure.kind, "the answer has a duplicate member")
                    }
                    _ => failure,
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
    if let (GrantType::JwtBearer(AssertionSource::Signed(assertion)), None, Some(Value::String(token))) =
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

#[cfg(test)]
mod tests {
    use super::super::secret_file::{NoFiles, SecretRef};
    use super::super::{ClientAuth, TokenTypes};
    use super::*;
    use crate::secret::Secret;
    use serde_json::json;

    fn grant() -> Grant {
        Grant {
            grant_type: GrantType::ClientCredentials,
            client_id: "a".into(),
            auth: vec![ClientAuth::Post(SecretRef::Fixed(Secret::new("s".into())))],
            parameters: Vec::new(),
            default_lifetime: Duration::from_secs(300),
            token_types: TokenTypes::default(),
            dpop_bound: false,
        }
    }

    fn read(answer: &Value) -> Result<Fetched<AccessToken>, FetchError> {
        let body = Some(answer.to_string().into_bytes());
        let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
        grant().read(&reply, None, None, &NoFiles, &mut Rng::new(1))
    }

    fn good() -> Value {
        json!({ "access_token": "t", "token_type": "bearer", "expires_in": 300 })
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
        Grant {
            grant_type: GrantType::TokenExchange { subject: ACCESS_TOKEN.into(), requested, actor: None },
            ..grant()
        }
    }

    fn reply_of(status: u16, body: &Value) -> HttpReply {
        HttpReply { status: Some(status), body: Some(body.to_string().into_bytes()), ..HttpReply::default() }
    }

    #[test]
    fn an_exchanged_token_ends_before_its_subject() {
        let end = |left| {
            let subject = ("s", left);
            exchange(None)
                .read(&reply_of(200, &good()), Some(subject), None, &NoFiles, &mut Rng::new(1))
                .unwrap()
                .end_after
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
            exchange(requested)
                .read(&reply_of(200, &answer), Some(("s", None)), None, &NoFiles, &mut Rng::new(1))
                .is_ok()
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
            grant
                .read(&reply, Some(("opaque-subject", None)), None, &NoFiles, &mut Rng::new(1))
                .unwrap_err()
                .kind
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
        let failure = exchange(None)
            .read(&reply, Some(("opaque-subject", None)), None, &NoFiles, &mut Rng::new(1))
            .unwrap_err();
        assert!(!failure.detail.contains("opaque"), "{failure}");
    }

    #[test]
    fn faults_tell_what_the_provider_said_and_no_more() {
        let reply = |status: u16, body: &str| HttpReply {
            status: Some(status),
            body: Some(body.as_bytes().to_vec()),
            ..HttpReply::default()
        };
        let fault =
            |reply: &HttpReply| grant().read(reply, None, None, &NoFiles, &mut Rng::new(1)).unwrap_err();
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
    fn a_token_in_an_answer_that_is_an_error_stays_out_of_the_log() {
        const TOKEN: &str = "AT-SECRET-0123456789abcdef";
        let fault = |status: u16, body: &str| {
            let body = Some(body.replace("TOKEN", TOKEN).into_bytes());
            let reply = HttpReply { status: Some(status), body, ..HttpReply::default() };
            let auth = vec![ClientAuth::Post(SecretRef::Fixed(Secret::new("hush".to_owned())))];
            Grant { auth, ..grant() }
                .read(&reply, None, None, &NoFiles, &mut Rng::new(1))
                .unwrap_err()
                .to_string()
        };
        for (status, body) in [
            (200, r#"{"access_token":"TOKEN","TOKEN":1,"TOKEN":2}"#),
            (400, r#"{"error":"TOKEN","access_token":"TOKEN"}"#),
            (400, r#"{"error":"invalid_request","error_description":"TOKEN?","refresh_token":"TOKEN"}"#),
            (200, r#"{"error":"x","error_description":"no TOKEN","id_token":"TOKEN"}"#),
        ] {
            let fault = fault(status, body);
            assert!(!fault.contains("SECRET") && !fault.contains("0123"), "{fault}");
        }
        let named = fault(200, r#"{"access_token":"TOKEN","access_token":"TOKEN"}"#);
        assert!(named.contains("access_token"), "{named}");
    }

    #[test]
    fn a_fault_says_the_value_that_came_and_never_a_secret() {
        let client = |secret: &str| Grant {
            auth: vec![ClientAuth::Post(SecretRef::Fixed(Secret::new(secret.to_owned())))],
            ..grant()
        };
        let outcome = |status: u16, headers: &[(&str, &str)], body: &str| {
            let head = headers.iter().copied().collect();
            let reply = HttpReply {
                status: Some(status),
                head,
                body: Some(body.as_bytes().to_vec()),
                ..HttpReply::default()
            };
            client("hush").read(&reply, None, None, &NoFiles, &mut Rng::new(1)).unwrap_err().to_string()
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
                .read(&reply_of(200, &answer), None, None, &NoFiles, &mut Rng::new(1))
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
                grant()
                    .read(&reply_of(status, body), None, None, &NoFiles, &mut Rng::new(1))
                    .unwrap_err()
                    .kind
            };
            assert_eq!(cause(&json!({ "message": "blocked" })), FetchErrorKind::ServerError, "{status}");
            let judged =
                if status == 302 { FetchErrorKind::ServerError } else { FetchErrorKind::Configuration };
            assert_eq!(cause(&json!({ "error": "unauthorized_client" })), judged, "{status}");
        }
        assert_eq!(
            grant()
                .read(&reply_of(401, &json!({})), None, None, &NoFiles, &mut Rng::new(1))
                .unwrap_err()
                .kind,
            FetchErrorKind::Configuration
        );
    }
}
