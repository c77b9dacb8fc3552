//! Changes to a request before it is forwarded: headers to remove, headers to set.
//!
//! Plain data, and the one place that knows which claim can be a header's value. It does not decide what to change.

use crate::dpop;
use crate::http::message::{FilterState, MessageHead, Service};
use crate::inbound::authorize::SAFE_INTEGER_LIMIT;
use crate::inbound::token_location::{self, TokenLocation};
use crate::store::FetchKey;
use serde_json::Value;
use std::fmt;
use std::rc::Rc;

/// The changes to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Header changes, in order.
    pub headers: Vec<Edit>,
    /// The filter state for later filters and the access log, if it is enabled.
    pub filter_state: FilterState,
    /// How many claims could not be handed on.
    pub dropped_claims: u32,
    /// The token that was attached, so that a refusal by the upstream is attributed to it.
    pub attached_token: Option<AttachedToken>,
}

/// The longest value that is handed on, in bytes: nginx takes header lines of 8 KiB, Apache of 8190 bytes, their names included.
pub const MAX_VALUE_BYTES: usize = 8000;

/// One header change.
#[derive(Clone, PartialEq, Eq)]
pub enum Edit {
    /// The header goes.
    Remove(Rc<str>),
    /// The header has this value, and no other.
    Set(Rc<str>, Vec<u8>),
}

/// Which token was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedToken {
    /// What brought it.
    pub fetch_key: FetchKey,
    /// Which of the tokens that it brought.
    pub serial: u64,
    /// The service that it is sent to.
    pub service: Service,
    /// Where its proof was for, if it had one: the answer may bring the nonce of that origin's next.
    pub origin: Option<Rc<str>>,
    /// Whether the request was a gRPC call, whose status is in `grpc-status`.
    pub grpc: bool,
}

impl AttachedToken {
    /// Whether a response, or its trailers, refuses the token: 401, or gRPC's `UNAUTHENTICATED`. A response that refuses only the
    /// proof says nothing against the token.
    pub fn is_rejected(&self, response: &MessageHead) -> bool {
        let unauthenticated = self.grpc && response.first("grpc-status") == Some(UNAUTHENTICATED);
        (unauthenticated || response.first(":status") == Some(b"401")) && !dpop::rejects_proof(response)
    }

    /// Whether it shows that the service has accepted the token. A 5xx may come before it has looked at it, and the headers of a
    /// gRPC response may come before its status.
    pub fn is_accepted(&self, response: &MessageHead) -> bool {
        let says_so = if self.grpc && matches!(response.first(":status"), Some(b"200") | None) {
            let unsaid = |status: &[u8]| status == UNAVAILABLE || status == UNAUTHENTICATED;
            response.first("grpc-status").is_some_and(|status| !unsaid(status))
        } else {
            response.first(":status").is_some_and(|status| !status.starts_with(b"5") && status != b"401")
        };
        says_so && !dpop::rejects_proof(response)
    }
}

/// gRPC's status code 16.
const UNAUTHENTICATED: &[u8] = b"16";

/// Its status code 14: what a client reads where the service could not be reached.
const UNAVAILABLE: &[u8] = b"14";

impl HeaderEdits {
    /// Removes a header if the request has it, unless it is changed already: what was set is not the request's any more.
    pub fn remove(&mut self, name: &Rc<str>, head: &MessageHead) {
        if head.first(name).is_some() && !self.changes(name) {
            self.headers.push(Edit::Remove(Rc::clone(name)));
        }
    }

    /// Whether this header is set or removed.
    pub fn changes(&self, name: &str) -> bool {
        self.headers.iter().any(|edit| edit.name() == name)
    }

    /// Whether the request leaves with a value of ours in this header.
    pub fn sets(&self, name: &str) -> bool {
        self.headers.iter().any(|edit| matches!(edit, Edit::Set(own, _) if **own == *name))
    }

    /// Takes the tokens out that are not forwarded, and leaves everything else in the same header as it is.
    pub fn strip_tokens(&mut self, places: &[TokenLocation], head: &MessageHead) {
        if places.iter().all(|place| place.forward) {
            return;
        }
        for name in token_location::headers_to_strip(head, places) {
            self.remove(name, head);
        }
        if places.iter().any(|place| !place.forward && place.source.is_dpop()) {
            self.remove(&Rc::from(dpop::HEADER), head); // a proof of nothing
        }
        if let Some(path) = token_location::path_without_tokens(head, places) {
            self.set(&Rc::from(":path"), path);
        }
        if let Some(left) = token_location::cookies_without_tokens(head, places) {
            let cookie = Rc::from("cookie");
            self.headers.retain(|edit| edit.name() != "cookie"); // what was left before, if fewer were taken out
            if left.is_empty() { self.remove(&cookie, head) } else { self.set(&cookie, left) }
        }
    }

    /// Removes every copy of a header that only we may set.
    pub fn strip_reserved(&mut self, name: &Rc<str>, head: &MessageHead) {
        self.remove(name, head);
        self.remove_lookalikes(name, head);
    }

    /// Removes the headers whose names a server may take for this one: CGI, and what came after it, makes `HTTP_X_USER` of
    /// `x-user` and of `x_user`, and some servers of `x.user` too (RFC 3875 section 4.1.18).
    pub fn remove_lookalikes(&mut self, name: &Rc<str>, head: &MessageHead) {
        let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return;
        }
        for (other, _) in head.iter().filter(|(other, _)| other.len() == name.len()) {
            if other != name.as_bytes() && other.iter().map(fold).eq(name.bytes().map(|byte| fold(&byte))) {
                self.headers.push(Edit::Remove(String::from_utf8_lossy(other).into()));
            }
        }
    }

    /// Sets a header to a claim, if it can hold it.
    pub fn set_claim(&mut self, name: &Rc<str>, claim: &Value) {
        match header_value(claim) {
            Some(value) => self.set(name, value),
            None if claim.is_null() => {}
            None => self.dropped_claims = self.dropped_claims.saturating_add(1),
        }
    }

    /// Sets a header to this value alone.
    pub fn set(&mut self, name: &Rc<str>, value: Vec<u8>) {
        self.headers.push(Edit::Set(Rc::clone(name), value));
    }
}

impl Edit {
    /// The header's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Remove(name) | Self::Set(name, _) => name,
        }
    }
}

impl fmt::Debug for Edit {
    /// No value: it may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::Set(name, _) => write!(f, "set {name}"),
        }
    }
}

/// A claim as a header's value: texts as they are, numbers exact, lists of texts with commas, other things as JSON. None
/// for what no header can hold (RFC 9110 section 5.5), so that it cannot be taken for something else.
pub fn header_value(claim: &Value) -> Option<Vec<u8>> {
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(list)
            if list.iter().all(|entry| entry.as_str().is_some_and(|name| !name.contains(','))) =>
        {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        // Beyond what a double holds exactly, two callers would have one value.
        Value::Number(number)
            if number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= SAFE_INTEGER_LIMIT) =>
        {
            return None;
        }
        other => other.to_string(),
    };
    is_valid_header_value(&text).then(|| text.into_bytes())
}

/// Whether a header can hold this text.
pub fn is_valid_header_value(text: &str) -> bool {
    text.len() <= MAX_VALUE_BYTES
        && !text.bytes().any(|byte| byte < b' ' || byte == 0x7f)
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CredentialId;
    use crate::store::OwnToken;
    use serde_json::json;

    #[test]
    fn a_response_says_that_a_token_is_refused_or_accepted_or_nothing_of_it() {
        let sent = |grpc| AttachedToken {
            fetch_key: FetchKey::Token(OwnToken(CredentialId::in_tests(0))),
            serial: 0,
            service: Service::of(&MessageHead::default()),
            origin: None,
            grpc,
        };
        let proof = ("www-authenticate", "DPoP error=\"use_dpop_nonce\"");
        for (grpc, response, refused, accepted) in [
            (false, &[(":status", "200")][..], false, true),
            (false, &[(":status", "403")], false, true),
            (false, &[(":status", "401")], true, false),
            (false, &[(":status", "401"), proof], false, false),
            (false, &[(":status", "500")], false, false),
            (false, &[], false, false),
            // The status of a gRPC call comes behind its messages, unless there are none.
            (true, &[(":status", "200")], false, false),
            (true, &[(":status", "200"), ("grpc-status", "0")], false, true),
            (true, &[("grpc-status", "7")], false, true),
            (true, &[("grpc-status", "16")], true, false),
            (true, &[("grpc-status", "14")], false, false),
            (true, &[(":status", "503")], false, false),
            (true, &[(":status", "401")], true, false),
        ] {
            let head: MessageHead = response.iter().copied().collect();
            let sent = sent(grpc);
            assert_eq!(
                (sent.is_rejected(&head), sent.is_accepted(&head)),
                (refused, accepted),
                "{response:?}"
            );
        }
    }

    #[test]
    fn claims_become_header_values_exactly_or_not_at_all() {
        let text = |claim: Value| header_value(&claim).map(|value| String::from_utf8(value).unwrap());
        assert_eq!(text(json!("order-service")).as_deref(), Some("order-service"));
        assert_eq!(text(json!(12_345_678_901_234_567_u64)).as_deref(), Some("12345678901234567"));
        assert_eq!(text(json!(1.5)).as_deref(), Some("1.5"));
        assert_eq!(text(json!(["a", "b"])).as_deref(), Some("a,b"));
        assert_eq!(text(json!(["a,b", "c"])).as_deref(), Some(r#"["a,b","c"]"#));
        assert_eq!(text(json!({"a": [1]})).as_deref(), Some(r#"{"a":[1]}"#));
        assert_eq!(text(json!(true)).as_deref(), Some("true"));
        for odd in [json!(null), json!("a\r\nx: y"), json!(["a\n"]), json!(" a"), json!("a\u{7f}")] {
            assert_eq!(text(odd.clone()), None, "{odd}");
        }
        assert_eq!(text(json!("ü€")).as_deref(), Some("ü€"), "bytes above 127 are forwarded unchanged");
        assert!(text(json!("a".repeat(MAX_VALUE_BYTES))).is_some());
        assert_eq!(text(json!("a".repeat(MAX_VALUE_BYTES + 1))), None);
        assert_eq!(text(json!(["a".repeat(MAX_VALUE_BYTES), "b"])), None);
    }

    #[test]
    fn a_number_that_a_double_does_not_hold_is_not_handed_on() {
        assert_eq!(header_value(&json!(u64::MAX)), Some(b"18446744073709551615".to_vec()));
        assert_eq!(header_value(&json!(1.5)), Some(b"1.5".to_vec()));
        let large: Value = serde_json::from_str("18446744073709551617").unwrap();
        assert_eq!(header_value(&large), None);
    }

    #[test]
    fn what_cannot_be_handed_on_is_counted_and_what_is_not_there_is_not() {
        let mut edits = HeaderEdits::default();
        for claim in [json!("a\n"), json!("a".repeat(MAX_VALUE_BYTES + 1)), json!(null), json!("a")] {
            edits.set_claim(&"x-a".into(), &claim);
        }
        assert_eq!((edits.dropped_claims, edits.headers.len()), (2, 1));
    }

    #[test]
    fn a_name_that_a_server_takes_for_ours_is_removed_too() {
        let names =
            ["x-user-id", "x_user_id", "x-user_id", "x-user-idx", "x.user!id", "xxuserxid", "x-user-id"];
        let head: MessageHead = names.map(|name| (name, "root")).into_iter().collect();
        let mut edits = HeaderEdits::default();
        edits.strip_reserved(&"x-user-id".into(), &head);
        let gone = ["x-user-id", "x_user_id", "x-user_id", "x.user!id"].map(|name| Edit::Remove(name.into()));
        assert_eq!(edits.headers, gone);
    }
}
