//! How often the bounds were reached that refuse nobody: what was dropped, cut or made to wait, and whose it was.
//!
//! Each is counted where it happens, in the thing that has the bound; here they are gathered for the metrics. What each means
//! stands in a table in `docs/operations.md`.

use super::keyed;
use super::{CredentialId, Store};

/// The names of one kind of values that are fetched for callers' own tokens.
struct Names {
    dropped: &'static str,
    queued: &'static str,
    paced: &'static str,
    no_room: &'static str,
}

const EXCHANGED: Names = Names {
    dropped: "exchanged_tokens",
    queued: "exchanges_at_once",
    paced: "exchange_rate",
    no_room: "exchanges_in_line",
};

const INTROSPECTED: Names = Names {
    dropped: "introspections",
    queued: "introspections_at_once",
    paced: "introspection_rate",
    no_room: "introspections_in_line",
};

impl Store {
    /// Tells whose bound was reached, which one it is, and how often since that was last told.
    #[inline(never)]
    pub fn crossed(&self, tell: &mut dyn FnMut(&str, &'static str, u64)) {
        for (state, id) in self.issuers.iter().zip(0..) {
            let issuer = self.policy.issuers.get(id).map_or("?", |issuer| issuer.name.as_str());
            tell(issuer, "verified_tokens", state.verified.dropped.take());
            tell(issuer, "unknown_keys", state.unknown.dropped.take());
            tell(issuer, "etag", state.keys_crossed.etag.take());
            tell(issuer, "rsa_bits", state.keys_crossed.rsa.take());
            if let Some(introspections) = &state.introspections {
                tell_of(issuer, &INTROSPECTED, &introspections.answers.crossed, tell);
            }
        }
        for (state, id) in self.credentials.iter().zip(0..) {
            let credential = self.credential_name(CredentialId(id));
            tell(credential, "token_lifetime", state.capped.take());
            tell_of(credential, &EXCHANGED, &state.exchanges.crossed, tell);
        }
        tell("", "token_signatures", self.token_budget.exceeded.take());
        tell("", "proof_signatures", self.proof_budget.exceeded.take());
        tell("", "nonces", self.proofs.dropped.take());
        tell("", "nonce_bytes", self.proofs.too_long.take());
        tell("", "shared_header", self.unsaid.take());
        for (_, seat) in &self.seats {
            tell("", "shared_record", seat.unsound.take());
        }
    }
}

fn tell_of(
    whose: &str,
    names: &Names,
    crossed: &keyed::Crossed,
    tell: &mut dyn FnMut(&str, &'static str, u64),
) {
    tell(whose, names.dropped, crossed.dropped.take());
    tell(whose, names.queued, crossed.queued.take());
    tell(whose, names.paced, crossed.paced.take());
    tell(whose, names.no_room, crossed.no_room.take());
}
