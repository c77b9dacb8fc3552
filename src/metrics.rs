//! Counters. Requests are counted here, in the module's own memory; the shell reports the sums
//! periodically, so that a metric costs a request no host call.

use std::cell::Cell;
use std::fmt;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// A request was decided inbound; the detail is `allowed`, `anonymous`, `preflight` or the
    /// reason of its refusal.
    Inbound,
    /// A request of a permissive rule was decided; the detail is `allowed` or the reason of the
    /// suppressed refusal.
    Permissive,
    /// The same, of a dry-run rule.
    DryRun,
    /// A request was decided outbound; the detail is `attached`, `passed` or the reason of its
    /// refusal.
    Outbound,
    /// A fetch ended; the detail is `ok` or the cause of its failure.
    Fetch,
    /// A token was looked up in the cache of verified tokens; the detail is `hit` or `miss`.
    TokenCache,
    /// An upstream responded 401 to a token that the filter attached.
    UpstreamRejected,
    /// A request started to wait.
    Pending,
    /// A claim was not forwarded: it does not fit into a header.
    ClaimsDropped,
    /// An audit line was suppressed, since there were too many.
    AuditSuppressed,
    /// A limit was reached that denies no request: something was dropped, truncated, or delayed.
    /// The detail names the limit; `docs/reference/limits.md` describes it. Limits that deny a
    /// request or fail a fetch appear as its reason or outcome.
    LimitReached,
}

/// A count since the last report. It is counted where it happens, and reported with all counters,
/// so that it costs nothing for a request that reaches no limit.
#[derive(Debug, Default)]
pub struct Tally(Cell<u64>);

impl Tally {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().saturating_add(count));
    }

    /// Returns the count and resets it.
    pub fn take(&self) -> u64 {
        self.0.take()
    }
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What is counted.
    pub event: Metric,
    /// What is fetched; empty if nothing is.
    pub kind: &'static str,
    /// The name of the rule, issuer or credential; empty if there is none.
    pub name: String,
    /// The result; empty if there is none.
    pub detail: &'static str,
}

impl fmt::Display for Counter {
    /// Envoy's spelling, dots between the parts: `m2m_auth_inbound.rule.items.decision.allowed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (metric, name, detail) = match self.event {
            Metric::Inbound => ("inbound", "rule", "decision"),
            Metric::Permissive => ("permissive", "rule", "decision"),
            Metric::DryRun => ("dry_run", "rule", "decision"),
            Metric::Outbound => ("outbound", "rule", "decision"),
            Metric::Fetch => ("fetch", "name", "outcome"),
            Metric::TokenCache => ("token_cache", "", "lookup"),
            Metric::UpstreamRejected => ("upstream_rejected", "credential", ""),
            Metric::Pending => ("pending", "name", ""),
            Metric::ClaimsDropped => ("claims_dropped", "rule", ""),
            Metric::AuditSuppressed => ("audit_suppressed", "", ""),
            Metric::LimitReached => ("limit_reached", "name", "limit"),
        };
        write!(f, "m2m_auth_{metric}")?;
        for (label, value) in [("kind", self.kind), (name, &plain(&self.name)), (detail, self.detail)] {
            if !value.is_empty() {
                write!(f, ".{label}.{value}")?;
            }
        }
        Ok(())
    }
}

/// The subject of a counter: the values of its labels except the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// See [`Counter::kind`].
    pub kind: &'static str,
    /// See [`Counter::name`].
    pub name: &'a str,
}

impl<'a> From<&'a str> for Subject<'a> {
    fn from(name: &'a str) -> Self {
        Self { kind: "", name }
    }
}

/// Sums since the last report. There are few of them: rules times reasons that occur.
#[derive(Debug, Default)]
pub struct Metrics {
    sums: Vec<(Counter, u64)>,
}

impl Metrics {
    /// Counts one.
    pub fn count<'a>(&mut self, event: Metric, subject: impl Into<Subject<'a>>, detail: &'static str) {
        self.add(event, subject.into(), detail, 1);
    }

    /// Counts several.
    pub fn add(
        &mut self,
        event: Metric,
        Subject { kind, name }: Subject<'_>,
        detail: &'static str,
        count: u64,
    ) {
        let same = |counter: &Counter| {
            counter.event == event && counter.detail == detail && counter.kind == kind && counter.name == name
        };
        match self.sums.iter_mut().find(|(counter, _)| same(counter)) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.sums.push((Counter { event, kind, name: name.to_owned(), detail }, count)),
        }
    }

    /// Reports every sum that is not zero, with the counter's number, and resets it. A counter
    /// keeps its number.
    pub fn report(&mut self, mut report: impl FnMut(usize, &Counter, u64)) {
        for (number, (counter, sum)) in self.sums.iter_mut().enumerate().filter(|(_, (_, sum))| *sum > 0) {
            report(number, counter, std::mem::take(sum));
        }
    }
}

/// A name as one part of a metric's name, without dots. `/orders/**` becomes `orders_all`.
fn plain(name: &str) -> String {
    let name = name.replace("**", "all").replace('*', "any");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let parts: Vec<&str> = name.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_reported_once() {
        let mut stats = Metrics::default();
        stats.count(Metric::Inbound, "items.v2", "allowed");
        stats.count(Metric::Inbound, "items.v2", "allowed");
        stats.count(Metric::TokenCache, "", "hit");
        let mut reported = Vec::new();
        stats.report(|number, counter, sum| reported.push((number, counter.to_string(), sum)));
        let expected = [
            (0, "m2m_auth_inbound.rule.items_v2.decision.allowed", 2),
            (1, "m2m_auth_token_cache.lookup.hit", 1),
        ];
        assert_eq!(reported, expected.map(|(number, name, sum)| (number, name.to_owned(), sum)));
        stats.report(|_, _, _| panic!("reported twice"));
    }

    #[test]
    fn a_name_becomes_one_part_of_a_metrics_name() {
        for (name, part) in [
            ("items", "items"),
            ("items.v2", "items_v2"),
            ("GET,POST /orders/**", "GET_POST_orders_all"),
            ("*.example.com/a/*/b", "any_example_com_a_any_b"),
            ("any #2", "any_2"),
            ("_own-", "_own-"),
            ("tag\u{e9}.", "tag"),
        ] {
            assert_eq!(plain(name), part);
        }
    }
}
