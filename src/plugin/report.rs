//! What is counted, logged and answered of a request or a fetch that has ended.

use super::{Effect, Plugin, RequestOutcome};
use crate::filter::DecisionRecord;
use crate::filter::header_edits::HeaderEdits;
use crate::http::message::{LocalReply, MessageHead};
use crate::inbound::refusal::{Refusal, RefusalFormat};
use crate::metrics::Metric;
use crate::oauth::fetch::FetchErrorKind;
use crate::plugin::audit_log::{AuditEvent, unlimited_fetch_line};
use crate::plugin::filter_state;
use crate::policy::Mode;
use crate::store::{FetchKey, FetchOutcome};
use crate::time::{Instant, Now};

impl Plugin {
    pub(super) fn forward(
        &mut self,
        mut edits: HeaderEdits,
        seen: &DecisionRecord,
        head: &MessageHead,
        now: Now,
    ) -> RequestOutcome {
        if self.policy.writes_filter_state() {
            let (state, left_out) = filter_state::forwarded(seen);
            edits.dropped_claims = edits.dropped_claims.saturating_add(left_out);
            edits.filter_state = state;
        }
        self.count_dropped_claims(edits.dropped_claims, seen);
        if let Some(rule) = &seen.rule {
            let event = match seen.mode {
                Mode::Enforce | Mode::Optional => Metric::Inbound,
                Mode::DangerPermissive => Metric::Permissive,
                Mode::DangerDryRun => Metric::DryRun,
            };
            let decision = seen
                .suppressed_refusal
                .as_ref()
                .map(|refusal| refusal.reason().name())
                .or(seen.unauthenticated_because);
            self.metrics.count(event, &**rule, decision.unwrap_or("allowed"));
            self.count_lookup(seen);
        }
        if let Some(refusal) = &seen.suppressed_refusal {
            let line =
                self.suppressed_audit.refusal_line(AuditEvent::WouldRefuse, refusal, seen, head, now.instant);
            self.log_audit(log::Level::Warn, line);
        }
        if seen.stripped {
            self.metrics.count(Metric::Outbound, "none", "token_removed");
        }
        if let Some(rule) = &seen.outbound_rule {
            let detail = if edits.attached_token.is_some() { "attached" } else { "passed" };
            self.metrics.count(Metric::Outbound, &**rule, detail);
        }
        RequestOutcome::Forward(edits)
    }

    pub(super) fn refuse(
        &mut self,
        refusal: &Refusal,
        seen: &DecisionRecord,
        head: &MessageHead,
        now: Now,
    ) -> RequestOutcome {
        let (event, rule) = match (&seen.outbound_rule, &seen.rule) {
            (Some(rule), _) => (Metric::Outbound, rule.as_ref()),
            (None, Some(rule)) => (Metric::Inbound, rule.as_ref()),
            (None, None) => (Metric::Inbound, "none"),
        };
        self.metrics.count(event, rule, refusal.reason().name());
        self.count_lookup(seen);
        let line = self.audit.refusal_line(AuditEvent::Refused, refusal, seen, head, now.instant);
        self.log_audit(log::Level::Warn, line);
        let plain = RefusalFormat::default();
        let manner = self.policy.inbound.as_ref().map_or(&plain, |inbound| &inbound.refusal_format);
        let mut response = refusal.response(manner, seen.schemes, head.is_grpc());
        if self.policy.writes_filter_state() {
            let (state, left_out) = filter_state::refused(seen, refusal.reason().name());
            response.filter_state = state;
            self.count_dropped_claims(left_out, seen);
        }
        RequestOutcome::Respond(response)
    }

    pub(super) fn count_dropped_claims(&mut self, count: u32, seen: &DecisionRecord) {
        for _ in 0..count {
            self.metrics.count(Metric::ClaimsDropped, seen.rule.as_deref().unwrap_or_default(), "");
        }
    }

    pub(super) fn log_audit(&mut self, level: log::Level, line: Option<String>) {
        match line {
            Some(line) => self.effects.push_back(Effect::Log(level, line)),
            None => self.metrics.count(Metric::AuditSuppressed, "", ""),
        }
    }

    /// What the resource says of itself.
    pub(super) fn answer(&mut self, response: LocalReply) -> RequestOutcome {
        self.metrics.count(Metric::Inbound, "resource_metadata", "answered");
        RequestOutcome::Respond(response)
    }

    pub(super) fn count_lookup(&mut self, seen: &DecisionRecord) {
        if seen.caller.is_some() {
            self.metrics.count(Metric::TokenCache, "", if seen.cache_hit { "hit" } else { "miss" });
        }
    }

    pub(super) fn report(&mut self, outcome: &FetchOutcome, now: Instant) {
        // Envoy's main thread has no requests, and reaches no internal listener.
        let no_connection = outcome.result.as_ref().is_err_and(|failure| failure.no_connection);
        if matches!(outcome.key, FetchKey::File(_)) && no_connection && !self.has_served {
            return;
        }
        let what = self.store.describe(outcome.key);
        let (level, detail, text) = match &outcome.result {
            Ok(news) => (log::Level::Info, "ok", format!("{what}: {news}")),
            Err(failure) => {
                let by_design = matches!(failure.kind, FetchErrorKind::Nonce | FetchErrorKind::NotFound);
                let level = if by_design { log::Level::Info } else { log::Level::Warn };
                (level, failure.kind.label(), format!("{what}: {failure}"))
            }
        };
        let fetch = self.store.metric_subject(outcome.key);
        self.metrics.count(Metric::Fetch, fetch, detail);
        let is_token = outcome.key.credential().is_some();
        // What comes of one caller's token is as frequent as callers are, and no news.
        if !is_token && outcome.key.logs_success() {
            self.effects.push_back(Effect::Log(level, unlimited_fetch_line(fetch, detail, text)));
        } else if is_token || outcome.result.is_err() {
            let audit = if is_token { &mut self.tokens } else { &mut self.introspections };
            let line = audit.fetch_line(fetch, detail, text, now);
            self.log_audit(level, line);
        }
    }
}
