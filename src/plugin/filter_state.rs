//! What the filters behind us and the access log learn of a request: names and values for Envoy's
//! filter state.
//!
//! In: what was seen of the request, and how it was decided. Out: plain data. It decides nothing,
//! and holds no token.

use crate::filter::DecisionRecord;
use crate::filter::header_edits;
use crate::http::message::FilterState;
use crate::inbound::authorize;
use crate::inbound::jwt::Caller;
use std::fmt::Write as _;

/// Every name that is ever set; Envoy's own key is `wasm.` and the name.
pub const NAMES: [&str; 8] = [DECISION, REASON, RULE, SUBJECT, CLIENT, ISSUER, ROLES, SCOPES];

const DECISION: &str = "m2m_auth.decision";
const REASON: &str = "m2m_auth.reason";
const RULE: &str = "m2m_auth.rule";
const SUBJECT: &str = "m2m_auth.subject";
const CLIENT: &str = "m2m_auth.client";
const ISSUER: &str = "m2m_auth.issuer";
const ROLES: &str = "m2m_auth.roles";
const SCOPES: &str = "m2m_auth.scopes";

/// The state of a forwarded request, and how many of its values could not be set. Where its rule's
/// mode suppressed it, no caller was admitted, and none is reported.
pub fn forwarded(seen: &DecisionRecord) -> (FilterState, u32) {
    match &seen.suppressed_refusal {
        None => entries(seen, "allowed", None),
        Some(refusal) => entries(
            &DecisionRecord { caller: None, ..seen.clone() },
            "would_refuse",
            Some(refusal.reason().name()),
        ),
    }
}

/// The state of a request that is answered, and why.
pub fn refused(seen: &DecisionRecord, reason: &'static str) -> (FilterState, u32) {
    entries(seen, "refused", Some(reason))
}

fn entries(seen: &DecisionRecord, decision: &str, reason: Option<&str>) -> (FilterState, u32) {
    let mut state = vec![(DECISION, decision.to_owned())];
    state.extend(reason.map(|reason| (REASON, reason.to_owned())));
    state.extend(seen.rule.as_ref().map(|rule| (RULE, rule.to_string())));
    let mut left_out = 0;
    for (name, value) in seen.caller.iter().flat_map(of_caller) {
        if header_edits::is_valid_header_value(&value) {
            state.push((name, value));
        } else {
            left_out += 1;
        }
    }
    (state, left_out)
}

/// What is known of a caller; nothing of it is empty.
fn of_caller(caller: &Caller) -> impl Iterator<Item = (&'static str, String)> {
    let text = |name| caller.claim(&[name]).and_then(|value| value.as_str()).map(str::to_owned);
    let roles = authorize::roles(caller).into_iter().map(|(client, role)| match client {
        Some(client) => format!("{}/{}", encoded(client), encoded(role)),
        None => encoded(role),
    });
    let scopes = authorize::scopes(caller).into_iter().map(encoded);
    let values = [
        (SUBJECT, caller.subject().map(str::to_owned)),
        (CLIENT, caller.client().map(str::to_owned)),
        (ISSUER, text("iss")),
        (ROLES, Some(roles.collect::<Vec<_>>().join(","))),
        (SCOPES, Some(scopes.collect::<Vec<_>>().join(","))),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
}

/// A name in a list: what has a meaning there is percent-encoded, so that no name can be taken for
/// two, or for another's.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            ',' | '/' | '%' | '\0'..=' ' | '\x7f' => {
                // A text takes whatever is written to it.
                let _ = write!(text, "%{:02X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_list_can_be_taken_for_two_or_for_a_clients() {
        assert_eq!(encoded("inventory:read"), "inventory:read");
        assert_eq!(encoded("a,b/c%2C d\r\n\u{7f}ü"), "a%2Cb%2Fc%252C%20d%0D%0A%7Fü");
    }
}
