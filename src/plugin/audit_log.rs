//! The audit log: one JSON line for each refusal, each that a rule's mode suppressed, and each
//! fetch that ended; never with a token or a secret, and no more lines than a disk can take.
//!
//! Refusals and failed fetches are written at the level `warn`, which Istio and Envoy both write by
//! default; the rest at `info`, which Istio does not.

use crate::filter::DecisionRecord;
use crate::http::message::MessageHead;
use crate::inbound::refusal::Refusal;
use crate::metrics::{Subject, Tally};
use crate::time::Instant;
use serde_json::{Map, Value};
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

/// The fields of all lines. `docs/reference/log-fields.md` describes each of them, as a test
/// ensures; a line can have no other.
macro_rules! fields {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// A field of a line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuditField {
            $(#[doc = concat!("`", $name, "`.")] $field,)*
        }

        impl AuditField {
            /// Every field.
            pub const ALL: &[Self] = &[$(Self::$field),*];

            /// Its name in the line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }
        }
    };
}

fields! {
    Event = "event",
    Reason = "reason",
    Message = "message",
    Advice = "advice",
    Rule = "rule",
    Subject = "subject",
    Client = "client",
    Method = "method",
    Host = "host",
    Path = "path",
    Credential = "credential",
    Kind = "kind",
    Name = "name",
    Outcome = "outcome",
    SuppressedBefore = "suppressed_before",
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A request was refused.
    Refused,
    /// A request would have been refused, if its rule's mode had not allowed it.
    WouldRefuse,
    /// A fetch ended.
    Fetch,
}

impl AuditEvent {
    /// Every event.
    pub const ALL: &[Self] = &[Self::Refused, Self::WouldRefuse, Self::Fetch];

    /// The value of the field `event`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
            Self::Fetch => "fetch",
        }
    }

    /// The fields that a line about it can have.
    pub const fn fields(self) -> &'static [AuditField] {
        match self {
            Self::Refused | Self::WouldRefuse => &[
                AuditField::Event,
                AuditField::Reason,
                AuditField::Message,
                AuditField::Advice,
                AuditField::Rule,
                AuditField::Subject,
                AuditField::Client,
                AuditField::Method,
                AuditField::Host,
                AuditField::Path,
                AuditField::Credential,
                AuditField::SuppressedBefore,
            ],
            Self::Fetch => &[
                AuditField::Event,
                AuditField::Kind,
                AuditField::Name,
                AuditField::Outcome,
                AuditField::Message,
                AuditField::SuppressedBefore,
            ],
        }
    }
}

/// A line in the making.
struct AuditLine(Map<String, Value>);

impl AuditLine {
    fn new(event: AuditEvent) -> Self {
        let mut line = Self(Map::new());
        line.set(AuditField::Event, event.name());
        line
    }

    fn set(&mut self, field: AuditField, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn finish(self) -> String {
        Value::Object(self.0).to_string()
    }
}

/// The line about a fetch, whatever the limit: for what is fetched as often as its own schedule
/// says, however many requests there are.
pub fn unlimited_fetch_line(fetch: Subject<'_>, outcome: &str, message: String) -> String {
    fetch_line(AuditLine::new(AuditEvent::Fetch), fetch, outcome, message)
}

fn fetch_line(mut line: AuditLine, fetch: Subject<'_>, outcome: &str, message: String) -> String {
    line.set(AuditField::Kind, fetch.kind);
    line.set(AuditField::Name, fetch.name);
    line.set(AuditField::Outcome, outcome);
    line.set(AuditField::Message, message);
    line.finish()
}

impl AuditLog {
    /// The line for a refusal, or for one that would have been; none when there were too many
    /// within this second.
    pub fn refusal_line(
        &mut self,
        event: AuditEvent,
        refusal: &Refusal,
        seen: &DecisionRecord,
        head: &MessageHead,
        now: Instant,
    ) -> Option<String> {
        let reason = refusal.reason().row();
        let mut line = self.new_line(event, now)?;
        line.set(AuditField::Reason, reason.name);
        line.set(AuditField::Message, refusal.message());
        if let Some(advice) = reason.hint {
            line.set(AuditField::Advice, advice);
        }
        // Without its query, which may hold a token (RFC 6750 section 5.3).
        let path = head.path().split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        let caller = seen.caller.as_ref();
        for (field, value) in [
            (AuditField::Rule, seen.rule.as_deref().or(seen.outbound_rule.as_deref()).map(str::as_bytes)),
            (AuditField::Subject, caller.and_then(|caller| caller.subject()).map(str::as_bytes)),
            (AuditField::Client, caller.and_then(|caller| caller.client()).map(str::as_bytes)),
            (AuditField::Method, Some(head.method())),
            (AuditField::Host, Some(head.host())),
            (AuditField::Path, Some(path)),
            // What the route's owner has to look for.
            (AuditField::Credential, head.route().credential.as_deref()),
        ] {
            if let Some(value) = value {
                line.set(field, self.truncate(value));
            }
        }
        Some(line.finish())
    }

    /// The line for a fetch that has ended: `outcome` as in the metrics; none when there were too
    /// many within this second.
    pub fn fetch_line(
        &mut self,
        fetch: Subject<'_>,
        outcome: &str,
        message: String,
        now: Instant,
    ) -> Option<String> {
        Some(fetch_line(self.new_line(AuditEvent::Fetch, now)?, fetch, outcome, message))
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
    fn new_line(&mut self, event: AuditEvent, now: Instant) -> Option<AuditLine> {
        if !self.is_within_limit(now) {
            return None;
        }
        let mut line = AuditLine::new(event);
        if self.suppressed > 0 {
            line.set(AuditField::SuppressedBefore, std::mem::take(&mut self.suppressed));
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
    use serde_json::json;

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
                AuditEvent::Refused,
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
            .refusal_line(
                AuditEvent::Refused,
                &refusal,
                &DecisionRecord::default(),
                &head(),
                Instant::default(),
            )
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["advice"].as_str().unwrap().contains("Audience mapper"), "{line}");
    }

    #[test]
    fn a_fetch_is_a_line_too_within_the_limit_or_without_one() {
        let fetch = Subject { kind: "token", name: "order" };
        let line = AuditLog::default().fetch_line(fetch, "ok", "good for 290 s".into(), Instant::default());
        let without_limit = unlimited_fetch_line(fetch, "ok", "good for 290 s".into());
        assert_eq!(line.as_deref(), Some(without_limit.as_str()));
        let line: Value = serde_json::from_str(&without_limit).unwrap();
        let expected = json!({
            "event": "fetch",
            "kind": "token",
            "name": "order",
            "outcome": "ok",
            "message": "good for 290 s",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn what_a_client_chose_is_cut_and_counted() {
        let mut audit = AuditLog::default();
        let path = format!("/{}", "x".repeat(300));
        let head: MessageHead = [(":method", "GET"), (":path", path.as_str())].into_iter().collect();
        let line = audit
            .refusal_line(
                AuditEvent::Refused,
                &Refusal::NoRule,
                &DecisionRecord::default(),
                &head,
                Instant::default(),
            )
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
            audit.refusal_line(
                AuditEvent::Refused,
                &Refusal::NoToken,
                &DecisionRecord::default(),
                &head(),
                at(millis),
            )
        };
        let written = (0..100).filter_map(|_| write(5000)).count();
        assert_eq!(written, 10);
        assert!(write(6000).unwrap().contains("\"suppressed_before\":90"));
    }
}
