//! Tokens of the credentials, and what is known of the client that they are for.

use super::exchanged_tokens::Exchanges;
use super::secret_rotation::SecretRotation;
use super::service_rejections::MAX_RENEWAL_INTERVAL;
use super::token_state::TokenState;
use super::{FetchKey, IssuedToken, LookupError, RENEWAL_INTERVAL, Store, issuer_retry_policy};
use crate::dpop::Nonce;
use crate::http::message::Service;
use crate::metrics::Tally;
use crate::policy::{self, CredentialId, Policy};
use crate::rng::Rng;
use crate::store::lease::{Availability, RetryPolicy};
use crate::time::Instant;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// After a sleep, tokens and keys are renewed at a random time within this, as a whole fleet may have slept.
const RENEWAL_SPREAD: Duration = Duration::from_secs(5);

/// Words of a header's value that may be a token: a scheme, a token, and what a client may have put beside it.
const WORDS_COMPARED: usize = 4;

/// One credential.
#[derive(Debug)]
pub(super) struct CredentialState {
    /// Its own token, unless it exchanges those of others.
    pub(super) own_token: TokenState,
    pub(super) exchanges: Exchanges,
    /// Which of the client's secrets is tried.
    pub(super) secret_rotation: SecretRotation,
    /// What the provider wants in the next proof.
    pub(super) nonce: Option<Nonce>,
    /// Tokens that were said to live longer than is believed.
    pub(super) capped: Tally,
}

impl CredentialState {
    pub(super) fn new(policy: &Policy, credential: &policy::Credential) -> Self {
        let pace =
            policy.issuers.get(credential.issuer.0).map_or_else(RetryPolicy::default, issuer_retry_policy);
        let own = TokenState::new(pace);
        let exchanges = Exchanges::new(pace, credential.requests_per_second, policy.pending_requests.timeout);
        Self {
            own_token: own,
            exchanges,
            secret_rotation: SecretRotation::default(),
            nonce: None,
            capped: Tally::default(),
        }
    }
}

impl Store {
    /// The credential's own token, for a request to this service that can wait for so long. While the renewal of one that the service
    /// has just refused is under way, requests that can wait do so, for a second at most.
    pub fn token(
        &mut self,
        credential: CredentialId,
        now: Instant,
        patience: Duration,
        service: Service,
    ) -> Result<IssuedToken, LookupError> {
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(LookupError::Unavailable(Duration::from_secs(1)));
        };
        let want = FetchKey::Token(credential);
        if state.own_token.lease.value(now).is_none() {
            state.own_token.lease.expedite_retry();
        }
        match state.own_token.lease.availability(now, patience) {
            Availability::Ready(_)
                if !patience.is_zero() && state.own_token.is_being_replaced(service, now) =>
            {
                Err(LookupError::Wait(want))
            }
            Availability::Ready(held) => Ok(held.clone()),
            Availability::Unavailable(wait) => Err(LookupError::Unavailable(wait)),
            Availability::Pending => {
                Err(self.until_token_endpoint(credential, now, patience).unwrap_or(LookupError::Wait(want)))
            }
        }
    }

    /// Whether a header's value holds a token that this worker has, or had before one of its last renewals, behind whatever scheme
    /// and beside whatever else. The comparison is of keyed hashes, so that its time reveals nothing of the tokens, and nobody can
    /// make up another of the same.
    pub fn has_issued(&self, value: &[u8]) -> bool {
        let words = value.split(|byte| byte.is_ascii_whitespace() || *byte == b',').rev();
        let hashes: Vec<u64> = words
            .filter(|word| !word.is_empty())
            .take(WORDS_COMPARED)
            .map(|word| self.token_hash(word))
            .collect();
        let has = |state: &TokenState| state.has_hash(&hashes);
        let mut credentials = self.credentials.iter();
        credentials.any(|own| has(&own.own_token) || own.exchanges.all().any(|kept| has(&kept.state)))
    }

    pub(super) fn token_hash(&self, token: &[u8]) -> u64 {
        self.token_hasher.hash_one(token)
    }

    /// What a token fetch of this credential waits for; none when it may begin.
    pub(super) fn until_token_endpoint(
        &self,
        credential: CredentialId,
        now: Instant,
        patience: Duration,
    ) -> Option<LookupError> {
        let Some(issuer) = self.policy.credentials.get(credential.0).map(|credential| credential.issuer)
        else {
            return Some(LookupError::Unavailable(Duration::from_secs(1)));
        };
        self.token_endpoint(issuer, now).is_none().then(|| self.until_metadata(issuer, now, patience))
    }

    /// A service answered 401 to this token: renew it, if it is still the present one, and this service has not refused those
    /// before it as well.
    pub fn on_token_rejected(&mut self, want: FetchKey, serial: u64, service: Service, now: Instant) {
        let Some(state) = self.token_state_mut(want).filter(|state| state.serial == serial) else {
            return;
        };
        let consequence = state.rejections.refused(service, serial, now);
        let last = state.lease.refresh_requested_at().map_or(now, |last| last + RENEWAL_INTERVAL);
        let fetched_at = state.lease.fetched_at().unwrap_or_default();
        state.lease.refresh_soon(now.max(last).max(fetched_at + consequence.patience));
        self.holds.extend(consequence.held_until.map(|until| (want, until)));
        self.refused_at = Some(now);
    }

    /// A service accepted this token.
    pub fn on_token_accepted(&mut self, want: FetchKey, serial: u64, service: Service, now: Instant) {
        if self.has_recent_rejections()
            && let Some(state) = self.token_state_mut(want).filter(|state| state.serial == serial)
        {
            state.rejections.accepted(service, now);
        }
    }

    /// Whether any service has refused a token lately.
    pub fn has_recent_rejections(&self) -> bool {
        self.refused_at.is_some()
    }

    /// What requests need not wait for any more, as a token is there that has not ended.
    pub fn ended_holds(&mut self, now: Instant) -> Vec<FetchKey> {
        self.refused_at = self.refused_at.filter(|at| now < *at + MAX_RENEWAL_INTERVAL);
        self.holds.extract_if(.., |(_, until)| *until <= now).map(|(want, _)| want).collect()
    }

    /// Whether there is a token that has not ended.
    pub fn has_token(&self, want: FetchKey, now: Instant) -> bool {
        self.token_state(want).is_some_and(|state| state.lease.value(now).is_some())
    }

    /// The machine has slept: what has not ended meanwhile is renewed soon.
    pub fn on_wake(&mut self, now: Instant, dice: &mut Rng) {
        for state in &mut self.credentials {
            state.own_token.lease.refresh_soon(now + dice.duration_up_to(RENEWAL_SPREAD));
        }
        for state in &mut self.issuers {
            state.keys.refresh_soon(now + dice.duration_up_to(RENEWAL_SPREAD));
        }
    }

    pub(super) fn token_state(&self, want: FetchKey) -> Option<&TokenState> {
        match want {
            FetchKey::Token(id) => self.credentials.get(id.0).map(|state| &state.own_token),
            FetchKey::Exchanged(id, entry) => {
                self.credentials.get(id.0)?.exchanges.cached(entry).map(|own| &own.state)
            }
            FetchKey::Metadata(_) | FetchKey::Keys(_) | FetchKey::Introspection(..) => None,
        }
    }

    pub(super) fn token_state_mut(&mut self, want: FetchKey) -> Option<&mut TokenState> {
        match want {
            FetchKey::Token(id) => self.credentials.get_mut(id.0).map(|state| &mut state.own_token),
            FetchKey::Exchanged(id, entry) => {
                self.credentials.get_mut(id.0)?.exchanges.cached_mut(entry).map(|own| &mut own.state)
            }
            FetchKey::Metadata(_) | FetchKey::Keys(_) | FetchKey::Introspection(..) => None,
        }
    }
}
