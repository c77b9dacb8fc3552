//! Tokens of the credentials: what is known of one token, and of the client that it is for.

use super::exchanged::Exchanges;
use super::turn::Turn;
use super::{Held, Missing, Store, TOKENS_APART, VERY_SOON, Want, issuer_pace};
use crate::dpop::Nonce;
use crate::io::Instant;
use crate::lease::{Lease, Outlook, Pace};
use crate::policy::{self, CredentialId, Policy};
use crate::stats::Tally;
use std::time::Duration;

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
    /// The token that an upstream refused, until its renewal has ended one way or the other.
    refused: Option<u64>,
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
        Self { lease: Lease::new(pace), serial: 0, refused: None, asked_again: false }
    }

    /// Whether the token was refused, and a new one is on its way or will be asked for very soon.
    pub(super) fn is_being_replaced(&self, now: Instant) -> bool {
        let soon = || self.lease.next_event() <= now + VERY_SOON;
        self.refused == Some(self.serial) && (self.lease.in_flight() || soon())
    }

    /// Whatever a fetch came to ends a doubt: there is a new token, or the old one is the best there is.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut Lease<Held>) -> R) -> R {
        let before = (self.serial, self.lease.failures());
        let result = change(&mut self.lease);
        self.serial = self.lease.held().map_or(self.serial, |held| held.serial);
        self.refused = self.refused.filter(|_| before == (self.serial, self.lease.failures()));
        result
    }
}

impl Store {
    /// The credential's own token, for a request that can wait for so long. One that an upstream has just refused is not used
    /// while its renewal is under way, by those that can wait.
    pub fn token(
        &mut self,
        credential: CredentialId,
        now: Instant,
        patience: Duration,
    ) -> Result<Held, Missing> {
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(Missing::Unavailable(Duration::from_secs(1)));
        };
        let want = Want::Token(credential);
        if state.own.lease.value(now).is_none() {
            state.own.lease.urge();
        }
        match state.own.lease.outlook(now, patience) {
            Outlook::Good(_) if patience > Duration::ZERO && state.own.is_being_replaced(now) => {
                Err(Missing::Wait(want))
            }
            Outlook::Good(held) => Ok(held.clone()),
            Outlook::Failing(wait) => Err(Missing::Unavailable(wait)),
            Outlook::Coming => {
                Err(self.until_token_endpoint(credential, now, patience).unwrap_or(Missing::Wait(want)))
            }
        }
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

    /// An upstream answered 401 to this token: renew it, if it is still the present one.
    pub fn refused_upstream(&mut self, want: Want, serial: u64, now: Instant) {
        if let Some(state) = self.token_state_mut(want).filter(|state| state.serial == serial) {
            let last = state.lease.doubted_at();
            state.lease.doubt(last.map_or(now, |last| now.max(last + TOKENS_APART)));
            state.refused = Some(serial);
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
