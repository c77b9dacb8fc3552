//! Any reply of a provider: its body, or the [`FetchError`] that the reply is.
//!
//! RFC 9110 sections 8.4, 10.2.3 and 15. No body is logged.

use crate::http::message::{HttpReply, MAX_REPLY_BYTES, MessageHead};
use crate::http::printable;
use crate::json;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use serde_json::{Map, Value};
use std::time::Duration;

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
    use super::*;

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
