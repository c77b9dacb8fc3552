//! What to change on a request before it goes on: headers to take away, headers to set.
//!
//! Plain data, and the one place that knows which claim can be a header's value. It does not decide what to change.

use crate::bearer::{self, Place};
use crate::dpop;
use crate::io::{Head, Service, State};
use crate::store::Want;
use serde_json::Value;
use std::fmt;
use std::rc::Rc;

/// The changes to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Header changes, in order.
    pub headers: Vec<Edit>,
    /// What later filters and the access log are told, if they are.
    pub state: State,
    /// How many claims could not be handed on.
    pub left_out: u32,
    /// The token that was attached, so that its refusal by the upstream can be told apart from another's.
    pub sent: Option<Sent>,
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
pub struct Sent {
    /// What brought it.
    pub want: Want,
    /// Which of the tokens that it brought.
    pub serial: u64,
    /// The service that it is sent to.
    pub service: Service,
    /// Where its proof was for, if it had one: the answer may bring the nonce of that origin's next.
    pub origin: Option<Rc<str>>,
}

impl Edits {
    /// Removes a header if the request has it; one that is not there costs nothing.
    pub fn remove(&mut self, name: &Rc<str>, head: &Head) {
        if head.first(name).is_some() {
            self.headers.push(Edit::Remove(Rc::clone(name)));
        }
    }

    /// Takes the tokens out that are not forwarded, and leaves everything else in the same header as it is.
    pub fn take_out(&mut self, places: &[Place], head: &Head) {
        if places.iter().all(|place| place.forward) {
            return;
        }
        for name in bearer::headers_without(head, places) {
            self.remove(name, head);
        }
        if places.iter().any(|place| !place.forward && place.at.is_dpop()) {
            self.remove(&Rc::from(dpop::HEADER), head); // a proof of nothing
        }
        if let Some(path) = bearer::path_without(head, places) {
            self.set(&Rc::from(":path"), path);
        }
        match bearer::cookies_without(head, places) {
            None => {}
            Some(left) if left.is_empty() => self.remove(&Rc::from("cookie"), head),
            Some(left) => self.set(&Rc::from("cookie"), left),
        }
    }

    /// Removes every copy of a header that only we may set.
    pub fn remove_own(&mut self, name: &Rc<str>, head: &Head) {
        self.remove(name, head);
        self.remove_lookalikes(name, head);
    }

    /// Removes the headers whose names a server may take for this one: CGI, and what came after it, makes `HTTP_X_USER` of
    /// `x-user` and of `x_user`, and some servers of `x.user` too (RFC 3875 section 4.1.18).
    pub fn remove_lookalikes(&mut self, name: &Rc<str>, head: &Head) {
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
            None => self.left_out = self.left_out.saturating_add(1),
        }
    }

    /// Sets a header to this value alone.
    pub fn set(&mut self, name: &Rc<str>, value: Vec<u8>) {
        self.headers.push(Edit::Set(Rc::clone(name), value));
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
        other => other.to_string(),
    };
    is_sound(&text).then(|| text.into_bytes())
}

/// Whether a header can hold this text.
pub fn is_sound(text: &str) -> bool {
    text.len() <= MAX_VALUE_BYTES
        && !text.bytes().any(|byte| byte < b' ' || byte == 0x7f)
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        assert_eq!(text(json!("ü€")).as_deref(), Some("ü€"), "bytes above 127 are for whoever reads them");
        assert!(text(json!("a".repeat(MAX_VALUE_BYTES))).is_some());
        assert_eq!(text(json!("a".repeat(MAX_VALUE_BYTES + 1))), None);
        assert_eq!(text(json!(["a".repeat(MAX_VALUE_BYTES), "b"])), None);
    }

    #[test]
    fn what_cannot_be_handed_on_is_counted_and_what_is_not_there_is_not() {
        let mut edits = Edits::default();
        for claim in [json!("a\n"), json!("a".repeat(MAX_VALUE_BYTES + 1)), json!(null), json!("a")] {
            edits.set_claim(&"x-a".into(), &claim);
        }
        assert_eq!((edits.left_out, edits.headers.len()), (2, 1));
    }

    #[test]
    fn a_name_that_a_server_takes_for_ours_is_removed_too() {
        let names =
            ["x-user-id", "x_user_id", "x-user_id", "x-user-idx", "x.user!id", "xxuserxid", "x-user-id"];
        let head: Head = names.map(|name| (name, "root")).into_iter().collect();
        let mut edits = Edits::default();
        edits.remove_own(&"x-user-id".into(), &head);
        let gone = ["x-user-id", "x_user_id", "x-user_id", "x.user!id"].map(|name| Edit::Remove(name.into()));
        assert_eq!(edits.headers, gone);
    }
}
