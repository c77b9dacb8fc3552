//! What is known of one issuer.

use super::introspection::Introspections;
use super::keys::{KeyLimitCounts, Keys};
use super::unknown_kids::UnknownKids;
use super::{FetchKey, LookupError};
use crate::inbound::jwt::Caller;
use crate::oauth::discovery::{Metadata, MetadataLocation};
use crate::policy::{self, IssuerId};
use crate::store::cache::{Cache, Capacity};
use crate::store::lease::{Availability, Lease, RetryPolicy};
use crate::time::Instant;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct IssuerState {
    pub(super) metadata: Lease<Metadata>,
    pub(super) keys: Lease<Keys>,
    /// Callers already verified with the present keys: a change of keys empties it.
    pub(super) verified: Cache<Caller>,
    /// Key names that a fetch did not bring.
    pub(super) unknown_kids: UnknownKids,
    /// Where the metadata is asked for next, and whether the other location was asked before it in this round.
    pub(super) metadata_location: MetadataLocation,
    pub(super) tried_other_location: bool,
    /// Until when nothing is asked at the discovered endpoints, as the metadata is asked whether they have moved.
    pub(super) moved_until: Instant,
    /// What it says of tokens, if it is asked.
    pub(super) introspections: Option<Introspections>,
    pub(super) key_limits: KeyLimitCounts,
}

/// Verified tokens of one issuer: more callers than a service has in a token's life, and as a token has about 1 KB, 4 MiB of the
/// worker's memory for the tokens, and as much for their claims.
const TOKEN_CACHE: Capacity = Capacity { entries: 4096, key_bytes: 4 * 1024 * 1024 };

impl IssuerState {
    pub(super) fn new(issuer: &policy::Issuer, patience: Duration) -> Self {
        let pace = issuer_retry_policy(issuer);
        let keys =
            issuer.jwks.as_ref().map_or_else(|| Lease::new(pace), |keys| Lease::fixed(Keys::given(keys)));
        let metadata = Lease::new(pace);
        Self {
            metadata,
            keys,
            verified: Cache::new(TOKEN_CACHE),
            unknown_kids: UnknownKids::default(),
            metadata_location: MetadataLocation::default(),
            tried_other_location: false,
            moved_until: Instant::default(),
            introspections: Introspections::of(issuer, pace, patience),
            key_limits: KeyLimitCounts::default(),
        }
    }

    /// The keys are on their way; so may be the metadata that says where they are.
    pub(super) fn until_keys(
        &self,
        policy: &policy::Issuer,
        issuer: IssuerId,
        now: Instant,
        patience: Duration,
    ) -> LookupError {
        if policy.jwks_uri.is_some() || self.keys.in_flight() {
            return LookupError::Wait(FetchKey::Keys(issuer));
        }
        match self.metadata.availability(now, patience) {
            Availability::Ready(_) => LookupError::Wait(FetchKey::Keys(issuer)),
            Availability::Pending => LookupError::Wait(FetchKey::Metadata(issuer)),
            Availability::Unavailable(wait) => LookupError::Unavailable(wait),
        }
    }
}

/// How eagerly an issuer is asked.
pub(super) fn issuer_retry_policy(issuer: &policy::Issuer) -> RetryPolicy {
    let usual = RetryPolicy::default();
    let config_cap = usual.config_cap.min(issuer.max_backoff);
    RetryPolicy { timeout: issuer.timeout, max_gap: issuer.max_backoff, config_cap, ..usual }
}
