//! How often limits were reached that refuse nobody: what was dropped, cut or made to wait, and
//! whose it was.
//!
//! Each is counted where it happens, in the thing that has the bound; here they are gathered for
//! the metrics. What each means is in a table of `docs/reference/limits.md`.

use super::Store;
use super::per_token;

/// The names of one kind of values that are fetched for callers' own tokens.
struct LimitNames {
    dropped: &'static str,
    queued: &'static str,
    paced: &'static str,
    no_room: &'static str,
}

const EXCHANGED: LimitNames = LimitNames {
    dropped: "exchanged_tokens",
    queued: "concurrent_exchanges",
    paced: "exchange_rate",
    no_room: "queued_exchanges",
};

const INTROSPECTED: LimitNames = LimitNames {
    dropped: "introspections",
    queued: "concurrent_introspections",
    paced: "introspection_rate",
    no_room: "queued_introspections",
};

impl Store {
    /// Reports whose bound was reached, which one, and how often since the last report.
    #[inline(never)]
    pub fn limit_metrics(&self, report: &mut dyn FnMut(&str, &'static str, u64)) {
        for state in &self.issuers {
            let issuer = state.policy.name.as_str();
            report(issuer, "verified_tokens", state.verified.dropped.take());
            report(issuer, "unknown_keys", state.unknown_kids.dropped.take());
            report(issuer, "etag", state.key_limits.etag.take());
            report(issuer, "rsa_bits", state.key_limits.rsa.take());
            if let Some(introspections) = &state.introspections {
                report_limits(issuer, &INTROSPECTED, &introspections.cache.limits, report);
            }
        }
        for state in &self.credentials {
            let credential = state.policy.name.as_str();
            report(credential, "token_lifetime", state.capped.take());
            report_limits(credential, &EXCHANGED, &state.exchanges.limits, report);
        }
        report("", "token_signatures", self.token_budget.exceeded.take());
        report("", "proof_signatures", self.proof_budget.exceeded.take());
        report("", "nonces", self.dpop_nonces.dropped.take());
        report("", "nonce_bytes", self.dpop_nonces.too_long.take());
        report("", "shared_header", self.dropped_headers.take());
        for (_, lock) in &self.locks {
            report("", "shared_record", lock.invalid.take());
        }
    }
}

fn report_limits(
    whose: &str,
    names: &LimitNames,
    counts: &per_token::LimitCounts,
    report: &mut dyn FnMut(&str, &'static str, u64),
) {
    report(whose, names.dropped, counts.dropped.take());
    report(whose, names.queued, counts.queued.take());
    report(whose, names.paced, counts.paced.take());
    report(whose, names.no_room, counts.no_room.take());
}
