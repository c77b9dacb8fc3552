//! Tokens of the credentials: what is known of one token, and of the client that it is for.

use super::exchanged::Exchanges;
use super::refusals::{LONGEST_APART, Refusals};
use super::turn::Turn;
use super::{Held, Missing, Store, TOKENS_APART, VERY_SOON, Want, issuer_pace};
use crate::dpop::Nonce;
use crate::io::{Dice, Instant, Service};
use crate::lease::{Lease, Outlook, Pace};
use crate::policy::{self, CredentialId, Policy};
use crate::stats::Tally;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// After a sleep, tokens and keys are renewed at a random time within this, as a whole fleet may have slept.
const RENEWED_WITHIN: Duration = Duration::from_secs(5);

/// One credential.
#[derive(Debug)]
pub(super) struct CredentialState {
    /// Its own token, unless it exchanges those of others.
    pub(super) own: TokenState,
    pub(super) exchanges: Exchanges,
    /// Which of the client's secrets is tried.
    pub(super) turn: Turn,
    /// What the provider wants in the next proof.
    pub(super) nonce: Option<Nonce>,
    /// Tokens that were said to live longer than is believed.
    pub(super) capped: Tally,
}

/// One token.
#[derive(Debug)]
pub(super) struct TokenState {
    pub(super) lease: Lease<Held>,
    pub(super) serial: u64,
    /// The mark of the token before: a request that left with it may come back.
    former: Option<u64>,
    /// The services that refuse it.
    refusals: Refusals,
    /// Whether the provider was asked again for the sake of its nonce.
    pub(super) asked_again: bool,
}

impl CredentialState {
    pub(super) fn new(policy: &Policy, credential: &policy::Credential) -> Self {
        let pace = policy.issuers.get(credential.issuer.0).map_or_else(Pace::default, issuer_pace);
        let own = TokenState::new(pace);
        let exchanges = Exchanges::new(pace, credential.requests_per_second, policy.waiting.timeout);
        Self { own, exchanges, turn: Turn::default(), nonce: None, capped: Tally::default() }
    }
}

impl TokenState {
    pub(super) fn new(pace: Pace) -> Self {
        let refusals = Refusals::default();
        Self { lease: Lease::new(pace), serial: 0, former: None, refusals, asked_again: false }
    }

    /// Whether this service has just refused the token, and a new one is on its way or will be asked for very soon.
    pub(super) fn is_being_replaced(&self, service: Service, now: Instant) -> bool {
        let soon = || self.lease.next_event() <= now + VERY_SOON;
        self.refusals.holds(service, self.serial, now) && (self.lease.in_flight() || soon())
    }

    /// Whether this is the mark of the token, or of the one before.
    fn is_marked(&self, mark: u64) -> bool {
        self.former == Some(mark) || self.lease.held().is_some_and(|held| held.mark == mark)
    }

    /// Whatever a fetch came to ends a doubt: there is a new token, or the old one is the best there is.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut Lease<Held>) -> R) -> R {
        let before = (self.serial, self.lease.failures());
        let mark = self.lease.held().map(|held| held.mark);
        let result = change(&mut self.lease);
        self.serial = self.lease.held().map_or(self.serial, |held| held.serial);
        self.former = if before.0 == self.serial { self.former } else { mark };
        if before != (self.serial, self.lease.failures()) {
            self.refusals.end_holds();
        }
        result
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
    ) -> Result<Held, Missing> {
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(Missing::Unavailable(Duration::from_secs(1)));
        };
        let want = Want::Token(credential);
        if state.own.lease.value(now).is_none() {
            state.own.lease.urge();
        }
        match state.own.lease.outlook(now, patience) {
            Outlook::Good(_) if !patience.is_zero() && state.own.is_being_replaced(service, now) => {
                Err(Missing::Wait(want))
            }
            Outlook::Good(held) => Ok(held.clone()),
            Outlook::Failing(wait) => Err(Missing::Unavailable(wait)),
            Outlook::Coming => {
                Err(self.until_token_endpoint(credential, now, patience).unwrap_or(Missing::Wait(want)))
            }
        }
    }

    /// Whether a header's value is, behind whatever scheme, a token that this worker has, or had before the last renewal. The
    /// comparison is of keyed hashes, so that its time tells nothing of the tokens, and nobody can make up another of the same.
    pub fn has_issued(&self, value: &[u8]) -> bool {
        let token = value.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let mark = self.mark(token);
        let has = |state: &TokenState| state.is_marked(mark);
        let mut credentials = self.credentials.iter();
        !token.is_empty()
            && credentials.any(|own| has(&own.own) || own.exchanges.all().any(|kept| has(&kept.state)))
    }

    pub(super) fn mark(&self, token: &[u8]) -> u64 {
        self.marks.hash_one(token)
    }

    /// What a token fetch of this credential waits for; none when it may begin.
    pub(super) fn until_token_endpoint(
        &self,
        credential: CredentialId,
        now: Instant,
        patience: Duration,
    ) -> Option<Missing> {
        let Some(issuer) = self.policy.credentials.get(credential.0).map(|credential| credential.issuer)
        else {
            return Some(Missing::Unavailable(Duration::from_secs(1)));
        };
        self.token_endpoint(issuer, now).is_none().then(|| self.until_metadata(issuer, now, patience))
    }

    /// A service answered 401 to this token: renew it, if it is still the present one, and this service has not refused those
    /// before it as well.
    pub fn refused_upstream(&mut self, want: Want, serial: u64, service: Service, now: Instant) {
        let Some(state) = self.token_state_mut(want).filter(|state| state.serial == serial) else {
            return;
        };
        let consequence = state.refusals.refused(service, serial, now);
        let last = state.lease.doubted_at().map_or(now, |last| last + TOKENS_APART);
        let fetched_at = state.lease.fetched_at().unwrap_or_default();
        state.lease.doubt(now.max(last).max(fetched_at + consequence.patience));
        self.holds.extend(consequence.held_until.map(|until| (want, until)));
        self.refused_at = Some(now);
    }

    /// A service accepted this token.
    pub fn accepted_upstream(&mut self, want: Want, serial: u64, service: Service, now: Instant) {
        if self.remembers_refusals()
            && let Some(state) = self.token_state_mut(want).filter(|state| state.serial == serial)
        {
            state.refusals.accepted(service, now);
        }
    }

    /// Whether any service has refused a token lately.
    pub fn remembers_refusals(&self) -> bool {
        self.refused_at.is_some()
    }

    /// What requests need not wait for any more, as a token is there that has not ended.
    pub fn ended_holds(&mut self, now: Instant) -> Vec<Want> {
        self.refused_at = self.refused_at.filter(|at| now < *at + LONGEST_APART);
        self.holds.extract_if(.., |(_, until)| *until <= now).map(|(want, _)| want).collect()
    }

    /// Whether there is a token that has not ended.
    pub fn has_token(&self, want: Want, now: Instant) -> bool {
        self.token_state(want).is_some_and(|state| state.lease.value(now).is_some())
    }

    /// The machine has slept: what has not ended meanwhile is renewed soon.
    pub fn slept(&mut self, now: Instant, dice: &mut Dice) {
        for state in &mut self.credentials {
            state.own.lease.doubt(now + dice.up_to(RENEWED_WITHIN));
        }
        for state in &mut self.issuers {
            state.keys.doubt(now + dice.up_to(RENEWED_WITHIN));
        }
    }

    pub(super) fn token_state(&self, want: Want) -> Option<&TokenState> {
        match want {
            Want::Token(id) => self.credentials.get(id.0).map(|state| &state.own),
            Want::Exchanged(id, entry) => {
                self.credentials.get(id.0)?.exchanges.kept(entry).map(|own| &own.state)
            }
            Want::Metadata(_) | Want::Keys(_) | Want::Introspection(..) => None,
        }
    }

    pub(super) fn token_state_mut(&mut self, want: Want) -> Option<&mut TokenState> {
        match want {
            Want::Token(id) => self.credentials.get_mut(id.0).map(|state| &mut state.own),
            Want::Exchanged(id, entry) => {
                self.credentials.get_mut(id.0)?.exchanges.kept_mut(entry).map(|own| &mut own.state)
            }
            Want::Metadata(_) | Want::Keys(_) | Want::Introspection(..) => None,
        }
    }
}
