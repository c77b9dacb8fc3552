//! Counters. Requests are counted here, in the module's own memory; the shell reports the sums
//! periodically, so that a metric costs a request no host call.

use std::cell::Cell;
use std::fmt;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct MetricRow {
    /// The name, after `m2m_auth_`.
    pub name: &'static str,
    /// The labels of a [`Counter`]'s kind, name and detail; empty if it has none.
    pub labels: [&'static str; 3],
    /// What one is.
    #[cfg(not(target_family = "wasm"))]
    pub unit: &'static str,
    /// What is counted.
    #[cfg(not(target_family = "wasm"))]
    pub counts: &'static str,
    /// The operator's question that it answers.
    #[cfg(not(target_family = "wasm"))]
    pub question: &'static str,
}

/// The enum of the metrics and their rows, so that nothing is counted that has no row.
/// `docs/reference/metrics.md` is generated from it; what only that page needs is not compiled into
/// the module.
macro_rules! metrics {
    ($(
        $metric:ident = $name:literal, $labels:expr, $unit:literal {
            counts: $counts:literal,
            question: $question:literal,
        }
    )*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $counts] $metric,)*
        }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$metric),*];

            /// The row of the table.
            pub const fn row(self) -> &'static MetricRow {
                match self {
                    $(Self::$metric => &MetricRow {
                        name: $name,
                        labels: $labels,
                        #[cfg(not(target_family = "wasm"))]
                        unit: $unit,
                        #[cfg(not(target_family = "wasm"))]
                        counts: $counts,
                        #[cfg(not(target_family = "wasm"))]
                        question: $question,
                    },)*
                }
            }
        }
    };
}

metrics! {
    Inbound = "inbound", ["", "rule", "decision"], "requests" {
        counts: "Requests that an inbound rule has decided about, by its decision. Rules in a mode that never refuses \
                 have counters of their own: see the next two.",
        question: "How many requests are refused, by which rule, and why?",
    }
    Permissive = "permissive", ["", "rule", "decision"], "requests" {
        counts: "The same, of rules with `mode: danger_permissive`: the decision that `enforce` would have made.",
        question: "What would be refused if this rule were enforced?",
    }
    DryRun = "dry_run", ["", "rule", "decision"], "requests" {
        counts: "The same, of rules with `mode: danger_dry_run`.",
        question: "What would be refused if this rule were enforced?",
    }
    Outbound = "outbound", ["", "rule", "decision"], "requests" {
        counts: "Requests that an outbound rule has decided about, by its decision.",
        question: "Do requests leave with a token? If not, why?",
    }
    Fetch = "fetch", ["kind", "name", "outcome"], "fetches" {
        counts: "Fetches from identity providers that have ended, by their outcome.",
        question: "Is the provider available, and does it accept our client?",
    }
    TokenCache = "token_cache", ["", "", "lookup"], "lookups" {
        counts: "Lookups of a valid token in the cache of verified tokens: a hit costs no signature.",
        question: "How many signatures are verified? Do callers reuse their tokens?",
    }
    UpstreamRejected = "upstream_rejected", ["", "credential", ""], "responses" {
        counts: "Responses of a service to a request with a token of the credential: 401, or gRPC `UNAUTHENTICATED`.",
        question: "Do the services accept our tokens?",
    }
    Pending = "pending", ["kind", "name", ""], "requests" {
        counts: "Requests that started to wait for this value.",
        question: "Which fetch delays requests, and how many?",
    }
    ClaimsDropped = "claims_dropped", ["", "rule", ""], "claims" {
        counts: "Claims, or values of the filter state, that were not forwarded: too long, or with characters that no \
                 header can contain.",
        question: "Does a service lack an identity header that it expects?",
    }
    AuditSuppressed = "audit_suppressed", ["", "", ""], "lines" {
        counts: "Lines of the audit log that were not written, beyond 10 a second, worker and kind.",
        question: "Is the audit log complete?",
    }
    LimitReached = "limit_reached", ["kind", "name", "limit"], "events" {
        counts: "How often a limit was reached that denies no request: something was dropped, truncated or delayed. \
                 Also the limits of pending requests, which have one reason together.",
        question: "Does a worker need more capacity than it has?",
    }
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
        let row = self.event.row();
        write!(f, "m2m_auth_{}", row.name)?;
        for (label, value) in row.labels.iter().zip([self.kind, &plain(&self.name), self.detail]) {
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
