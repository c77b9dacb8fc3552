//! What is known of one token, whatever grant it comes from.

use super::service_rejections::ServiceRejections;
use super::{IssuedToken, REJECTION_HOLD, RENEWAL_INTERVAL};
use crate::http::message::Service;
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::Instant;

/// Tokens before the present one whose hashes are kept. With a renewal every 10 s, as at most for
/// the sake of a refusal, those of the last 2 min.
const PREVIOUS_TOKENS: usize = 12;

/// One token.
#[derive(Debug)]
pub(super) struct TokenState {
    pub(super) lease: Lease<IssuedToken>,
    pub(super) serial: u64,
    /// The hashes of the tokens before, the latest last: a request that left with one may come
    /// back.
    previous_hashes: Vec<u64>,
    /// The services that refuse it.
    pub(super) rejections: ServiceRejections,
    /// Whether the provider was asked again for the sake of its nonce.
    pub(super) retried_with_nonce: bool,
}

impl TokenState {
    pub(super) fn new(pace: RetryPolicy) -> Self {
        let refusals = ServiceRejections::default();
        Self {
            lease: Lease::new(pace),
            serial: 0,
            previous_hashes: Vec::new(),
            rejections: refusals,
            retried_with_nonce: false,
        }
    }

    /// Whether this service has just refused the token, and a new one is on its way or will be
    /// asked for very soon.
    pub(super) fn is_being_replaced(&self, service: Service, now: Instant) -> bool {
        let soon = || self.lease.next_event() <= now + REJECTION_HOLD;
        self.rejections.holds(service, self.serial, now) && (self.lease.in_flight() || soon())
    }

    /// A provider rejects the token as the input of another request: it is renewed, but not sooner
    /// than a token that a service rejects.
    pub(super) fn renew_early(&mut self, now: Instant) {
        if let Some(fetched_at) = self.lease.fetched_at() {
            self.lease.refresh_soon(now.max(fetched_at + RENEWAL_INTERVAL));
        }
    }

    /// Whether one of these is the hash of the token, or of one before.
    pub(super) fn has_hash(&self, hashes: &[u64]) -> bool {
        let present = self.lease.last_value().map(|issued| issued.hash);
        self.previous_hashes.iter().chain(&present).any(|own| hashes.contains(own))
    }

    /// Whatever a fetch came to ends a doubt: there is a new token, or the old one is the best
    /// there is.
    pub(super) fn update<R>(&mut self, change: impl FnOnce(&mut Lease<IssuedToken>) -> R) -> R {
        let before = (self.serial, self.lease.failures());
        let mark = self.lease.last_value().map(|held| held.hash);
        let result = change(&mut self.lease);
        self.serial = self.lease.last_value().map_or(self.serial, |held| held.serial);
        if before.0 != self.serial {
            let excess = self.previous_hashes.len().saturating_add(1).saturating_sub(PREVIOUS_TOKENS);
            self.previous_hashes.drain(..excess);
            self.previous_hashes.extend(mark);
        }
        if before != (self.serial, self.lease.failures()) {
            self.rejections.end_holds();
        }
        result
    }
}
