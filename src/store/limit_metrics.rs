//! How often the bounds were reached that refuse nobody: what was dropped, cut or made to wait, and whose it was.
//!
//! Each is counted where it happens, in the thing that has the bound; here they are gathered for the metrics. What each means
//! stands in a table in `docs/operations.md`.

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
    pub fn limit_metrics(&self, tell: &mut dyn FnMut(&str, &'static str, u64)) {
        for state in &self.issuers {
            let issuer = state.policy.name.as_str();
            tell(issuer, "verified_tokens", state.verified.dropped.take());
            tell(issuer, "unknown_keys", state.unknown_kids.dropped.take());
            tell(issuer, "etag", state.key_limits.etag.take());
            tell(issuer, "rsa_bits", state.key_limits.rsa.take());
            if let Some(introspections) = &state.introspections {
                report_limits(issuer, &INTROSPECTED, &introspections.cache.limits, tell);
            }
        }
        for state in &self.credentials {
            let credential = state.policy.name.as_str();
            tell(credential, "token_lifetime", state.capped.take());
            report_limits(credential, &EXCHANGED, &state.exchanges.limits, tell);
        }
        tell("", "token_signatures", self.token_budget.exceeded.take());
        tell("", "proof_signatures", self.proof_budget.exceeded.take());
        tell("", "nonces", self.dpop_nonces.dropped.take());
        tell("", "nonce_bytes", self.dpop_nonces.too_long.take());
        tell("", "shared_header", self.dropped_headers.take());
        for (_, lock) in &self.locks {
            tell("", "shared_record", lock.invalid.take());
        }
    }
}

fn report_limits(
    whose: &str,
    names: &LimitNames,
    crossed: &per_token::LimitCounts,
    tell: &mut dyn FnMut(&str, &'static str, u64),
) {
    tell(whose, names.dropped, crossed.dropped.take());
    tell(whose, names.queued, crossed.queued.take());
    tell(whose, names.paced, crossed.paced.take());
    tell(whose, names.no_room, crossed.no_room.take());
}
