//! What is known of one issuer.

use super::introspected::Introspections;
use super::keys::{Keys, KeysCrossed};
use super::unknown::Unknown;
use super::{Missing, Want};
use crate::cache::{Cache, Capacity};
use crate::discovery::{Metadata, Place};
use crate::io::Instant;
use crate::jwt::Caller;
use crate::lease::{Lease, Outlook, Pace};
use crate::policy::{self, IssuerId};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct IssuerState {
    pub(super) metadata: Lease<Metadata>,
    pub(super) keys: Lease<Keys>,
    /// Callers already verified with the present keys: a change of keys empties it.
    pub(super) verified: Cache<Caller>,
    /// Key names that a fetch did not bring.
    pub(super) unknown: Unknown,
    /// Where the metadata is asked for next, and whether the other location was asked before it in this round.
    pub(super) place: Place,
    pub(super) asked_other: bool,
    /// Until when nothing is asked at the discovered endpoints, as the metadata is asked whether they have moved.
    pub(super) moved_until: Instant,
    /// What it says of tokens, if it is asked.
    pub(super) introspections: Option<Introspections>,
    pub(super) keys_crossed: KeysCrossed,
}

/// Verified tokens of one issuer: more callers than a service has in a token's life, and as a token has about 1 KB, 4 MiB of the
/// worker's memory for the tokens, and as much for their claims.
const VERIFIED: Capacity = Capacity { entries: 4096, key_bytes: 4 * 1024 * 1024 };

impl IssuerState {
    pub(super) fn new(issuer: &policy::Issuer, patience: Duration) -> Self {
        let pace = issuer_pace(issuer);
        let keys =
            issuer.jwks.as_ref().map_or_else(|| Lease::new(pace), |keys| Lease::fixed(Keys::given(keys)));
        let metadata = Lease::new(pace);
        Self {
            metadata,
            keys,
            verified: Cache::new(VERIFIED),
            unknown: Unknown::default(),
            place: Place::default(),
            asked_other: false,
            moved_until: Instant::default(),
            introspections: Introspections::of(issuer, pace, patience),
            keys_crossed: KeysCrossed::default(),
        }
    }

    /// The keys are on their way; so may be the metadata that says where they are.
    pub(super) fn until_keys(
        &self,
        policy: &policy::Issuer,
        issuer: IssuerId,
        now: Instant,
        patience: Duration,
    ) -> Missing {
        if policy.jwks_uri.is_some() || self.keys.in_flight() {
            return Missing::Wait(Want::Keys(issuer));
        }
        match self.metadata.outlook(now, patience) {
            Outlook::Good(_) => Missing::Wait(Want::Keys(issuer)),
            Outlook::Coming => Missing::Wait(Want::Metadata(issuer)),
            Outlook::Failing(wait) => Missing::Unavailable(wait),
        }
    }
}

/// How eagerly an issuer is asked.
pub(super) fn issuer_pace(issuer: &policy::Issuer) -> Pace {
    let usual = Pace::default();
    let config_cap = usual.config_cap.min(issuer.max_backoff);
    Pace { timeout: issuer.timeout, widest: issuer.max_backoff, config_cap, ..usual }
}
