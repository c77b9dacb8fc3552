//! The audit log: one JSON line for each refusal, each that a rule's mode suppressed, and each
//! token that was fetched or was not; never with a token or a secret, and no more lines than a disk
//! can take.

use crate::filter::DecisionRecord;
use crate::http::message::MessageHead;
use crate::inbound::refusal::Refusal;
use crate::metrics::Tally;
use crate::time::Instant;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Lines of one worker per second, at most: what a person can still read, and a flood cannot fill a
/// disk with.
const LINES_PER_SECOND: u32 = 10;

/// Text that a client chose is cut here: names of services and paths of APIs are shorter, and ten
/// lines a second of this are 20 KB.
const MAX_CLIENT_STRING_BYTES: usize = 128;

/// Limits the lines of one worker.
#[derive(Debug, Default)]
pub struct AuditLog {
    second: Instant,
    lines: u32,
    suppressed: u64,
    /// Texts that were cut.
    pub truncated: Tally,
}

impl AuditLog {
    /// The line for a refusal, or for one that would have been; none when there were too many
    /// within this second.
    pub fn refusal_line(
        &mut self,
        event: &str,
        refusal: &Refusal,
        seen: &DecisionRecord,
        head: &MessageHead,
        now: Instant,
    ) -> Option<String> {
        let reason = refusal.reason().row();
        let mut line = self.new_line(event, now)?;
        line.insert("reason".into(), json!(reason.name));
        line.insert("message".into(), json!(refusal.message()));
        line.extend(reason.hint.map(|advice| ("advice".to_owned(), json!(advice))));
        for (name, value) in [
            ("rule", seen.rule.as_deref().or(seen.outbound_rule.as_deref())),
            ("subject", seen.caller.as_ref().and_then(|caller| caller.subject())),
            ("client", seen.caller.as_ref().and_then(|caller| caller.client())),
        ] {
            line.extend(value.map(|value| (name.to_owned(), json!(self.truncate(value.as_bytes())))));
        }
        // Without its query, which may hold a token (RFC 6750 section 5.3).
        let path = head.path().split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        for (name, value) in [("method", head.method()), ("host", head.host()), ("path", path)] {
            line.insert(name.into(), json!(self.truncate(value)));
        }
        // What the route's owner has to look for.
        let named = head.route().credential.as_deref();
        line.extend(named.map(|name| ("credential".to_owned(), json!(self.truncate(name)))));
        Some(Value::Object(line).to_string())
    }

    /// The line for a token of this credential that has come, or has not: `outcome` is `ok` or the
    /// cause, as in the metrics.
    pub fn token_line(
        &mut self,
        credential: &str,
        outcome: &str,
        message: String,
        now: Instant,
    ) -> Option<String> {
        let mut line = self.new_line("token", now)?;
        line.insert("credential".into(), json!(credential));
        line.insert("outcome".into(), json!(outcome));
        line.insert("message".into(), Value::String(message));
        Some(Value::Object(line).to_string())
    }

    /// A line of plain text, unless there were too many within this second.
    pub fn text_line(&mut self, text: String, now: Instant) -> Option<String> {
        let room = self.is_within_limit(now);
        room.then(|| match std::mem::take(&mut self.suppressed) {
            0 => text,
            before => format!("{text} ({before} lines before this one were left out)"),
        })
    }

    fn is_within_limit(&mut self, now: Instant) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines >= LINES_PER_SECOND {
            self.suppressed = self.suppressed.saturating_add(1);
            return false;
        }
        self.lines = self.lines.saturating_add(1);
        true
    }

    /// The beginning of every line, unless there were too many within this second.
    fn new_line(&mut self, event: &str, now: Instant) -> Option<Map<String, Value>> {
        if !self.is_within_limit(now) {
            return None;
        }
        let mut line = Map::new();
        line.insert("event".into(), json!(event));
        if self.suppressed > 0 {
            line.insert("suppressed_before".into(), json!(std::mem::take(&mut self.suppressed)));
        }
        Some(line)
    }

    fn truncate(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        self.truncated.add(u64::from(text.chars().nth(MAX_CLIENT_STRING_BYTES).is_some()));
        text.chars().take(MAX_CLIENT_STRING_BYTES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> MessageHead {
        [
            (":method", "GET"),
            (":authority", "svc"),
            (":path", "/a?access_token=hush"),
            ("authorization", "Bearer hush"),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn a_line_says_what_and_why_and_holds_no_token() {
        let line = AuditLog::default()
            .refusal_line(
                "refused",
                &Refusal::NoRule,
                &DecisionRecord::default(),
                &head(),
                Instant::default(),
            )
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["reason"], &line["path"]), (&json!("no_rule"), &json!("/a")));
        assert!(!line.to_string().contains("hush"));
    }

    #[test]
    fn a_surprising_refusal_comes_with_advice() {
        let refusal = Refusal::Token(crate::inbound::jwt::TokenError::Audience);
        let line = AuditLog::default()
            .refusal_line("refused", &refusal, &DecisionRecord::default(), &head(), Instant::default())
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["advice"].as_str().unwrap().contains("Audience mapper"), "{line}");
    }

    #[test]
    fn a_token_that_came_is_a_line_too() {
        let line = AuditLog::default()
            .token_line("order", "ok", "good for 290 s".into(), Instant::default())
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let expected =
            json!({ "event": "token", "credential": "order", "outcome": "ok", "message": "good for 290 s" });
        assert_eq!(line, expected);
    }

    #[test]
    fn what_a_client_chose_is_cut_and_counted() {
        let mut audit = AuditLog::default();
        let path = format!("/{}", "x".repeat(300));
        let head: MessageHead = [(":method", "GET"), (":path", path.as_str())].into_iter().collect();
        let line = audit
            .refusal_line("refused", &Refusal::NoRule, &DecisionRecord::default(), &head, Instant::default())
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["path"], json!(path[..MAX_CLIENT_STRING_BYTES]));
        assert_eq!((audit.truncated.take(), audit.truncated.take()), (1, 0));
    }

    #[test]
    fn a_flood_is_counted_instead_of_written() {
        let mut audit = AuditLog::default();
        let at = |millis| Instant(Duration::from_millis(millis));
        let mut write = |millis| {
            audit.refusal_line("refused", &Refusal::NoToken, &DecisionRecord::default(), &head(), at(millis))
        };
        let written = (0..100).filter_map(|_| write(5000)).count();
        assert_eq!(written, 10);
        assert!(write(6000).unwrap().contains("\"suppressed_before\":90"));
    }
}
