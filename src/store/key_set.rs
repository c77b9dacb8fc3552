//! A key set as it was answered, and what the answer says of it.

use crate::http::message::{Endpoint, HttpReply, MessageHead};
use crate::jose::jwk::{self, KeySet};
use crate::metrics::Tally;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::oauth::reply::{content_coding, success_body};
use std::rc::Rc;
use std::time::Duration;

/// A key set, and how to ask whether there is a newer one.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) set: Rc<KeySet>,
    etag: Option<Etag>,
}

/// What the provider calls this version of what is at this place (RFC 9110 section 8.8.3).
#[derive(Clone, Debug)]
struct Etag {
    endpoint: Endpoint,
    value: String,
}

/// The longest `ETag` that is sent back. Those of common providers have up to 66 characters, a
/// SHA-256 in hexadecimal with its quotes.
const MAX_ETAG_BYTES: usize = 128;

/// How often a bound on what a provider says of its keys was reached.
#[derive(Debug, Default)]
pub(super) struct KeyLimitCounts {
    /// An `ETag` was too long to be sent back.
    pub(super) etag: Tally,
    /// A key was too large to be used.
    pub(super) rsa: Tally,
}

impl Keys {
    /// Keys that were given, not fetched.
    pub(super) fn given(set: &KeySet) -> Self {
        Self { set: Rc::new(set.clone()), etag: None }
    }

    /// Its `ETag`; empty when it has none.
    pub(super) fn etag(&self) -> &[u8] {
        self.etag.as_ref().map_or(&[], |etag| etag.value.as_bytes())
    }

    /// The next question is for the whole set.
    pub(super) fn forget_etag(&mut self) {
        self.etag = None;
    }

    /// Its `ETag` at this endpoint.
    pub(super) fn etag_of(&self, endpoint: &Endpoint) -> Option<&str> {
        self.etag.as_ref().filter(|etag| etag.endpoint == *endpoint).map(|etag| etag.value.as_str())
    }
}

/// The keys of an answer, and the news of them.
pub(super) fn parsed(
    reply: &HttpReply,
    endpoint: Option<Endpoint>,
    limits: &KeyLimitCounts,
) -> Result<(Keys, String), FetchError> {
    let parsed = jwk::parse(success_body(reply)?).map_err(|error| {
        let coding =
            if error == jwk::KeySetError::NotJson { content_coding(&reply.head) } else { String::new() };
        FetchError::new(cause(&error), format!("the key set: {error}{coding}"))
    })?;
    let mut news = format!("{} usable keys", parsed.keys.len());
    for skipped in &parsed.skipped {
        news.push_str("; ");
        news.push_str(skipped);
    }
    limits.rsa.add(u64::try_from(parsed.too_large()).unwrap_or_default());
    let long = reply.head.first("etag").is_some_and(|etag| etag.len() > MAX_ETAG_BYTES);
    limits.etag.add(u64::from(long));
    let etag = endpoint.zip(etag(&reply.head)).map(|(of, text)| Etag { endpoint: of, value: text });
    Ok((Keys { set: Rc::new(parsed.keys), etag }, news))
}

fn cause(error: &jwk::KeySetError) -> FetchErrorKind {
    match error {
        jwk::KeySetError::TooMany(_) | jwk::KeySetError::TooDeep => FetchErrorKind::TooLarge,
        jwk::KeySetError::NotJson
        | jwk::KeySetError::Duplicate(_)
        | jwk::KeySetError::NoKeys
        | jwk::KeySetError::NoneUsable(_) => FetchErrorKind::Unreadable,
    }
}

/// RFC 9110 section 8.8.3: quoted, weak or not; what is anything else is not sent back.
fn etag(head: &MessageHead) -> Option<String> {
    let text = std::str::from_utf8(head.first("etag")?).ok()?;
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let sound =
        text.len() <= MAX_ETAG_BYTES && inside.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    sound.then(|| text.to_owned())
}

/// RFC 9111 section 5.2.2.1: for how long an answer is good, if it says so. `no-cache`, which
/// Keycloak says of its keys, and 0 are no length of time: a client that asks again for each
/// request would ask thousands of times a second.
pub(super) fn max_age(head: &MessageHead) -> Option<Duration> {
    let words = || {
        head.all("cache-control").flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    };
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if words().any(|word| is(word, "no-cache") || is(word, "no-store")) {
        return None;
    }
    let seconds = words().find_map(|word| {
        let (_, value) = word.split_at_checked("max-age=".len()).filter(|(name, _)| is(name, "max-age="))?;
        std::str::from_utf8(value).ok()?.trim_matches('"').parse::<u64>().ok()
    });
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &str, values: &[&str]) -> MessageHead {
        values.iter().map(|value| (name, value)).collect()
    }

    #[test]
    fn max_age_is_found_among_other_words_and_where_nothing_forbids_to_keep_the_answer() {
        let seconds = |lines: &[&str]| max_age(&head("cache-control", lines)).map(|age| age.as_secs());
        assert_eq!(seconds(&["max-age=300"]), Some(300));
        assert_eq!(seconds(&["public, Max-Age=\"15\" , stale-while-revalidate=15"]), Some(15));
        assert_eq!(seconds(&["public", "max-age=86400"]), Some(86_400));
        for odd in [
            "",
            "no-cache",
            "no-cache, max-age=300",
            "max-age=300, NO-STORE",
            "max-age=0",
            "max-age=-1",
            "max-age=1.5",
            "max-age",
            "max-age=",
            "s-maxage=300",
            "x-max-age=300",
            "max-age=99999999999999999999",
        ] {
            assert_eq!(seconds(&[odd]), None, "{odd}");
        }
        assert_eq!(max_age(&MessageHead::default()), None);
    }

    #[test]
    fn only_what_is_an_etag_is_sent_back() {
        let found = |text: &str| etag(&head("etag", &[text]));
        for good in ["\"abc\"", "W/\"abc\"", "\"\""] {
            assert_eq!(found(good).as_deref(), Some(good));
        }
        let long = format!("\"{}\"", "x".repeat(MAX_ETAG_BYTES - 1));
        for odd in [
            "",
            "\"",
            "abc",
            "w/\"abc\"",
            "\"a b\"",
            "\"a\"b\"",
            "\"ü\"",
            "\"a\", \"b\"",
            "\"a\"\r\nx: y",
            &long,
        ] {
            assert_eq!(found(odd), None, "{odd}");
        }
    }
}
