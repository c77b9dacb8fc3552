//! Whose turn it is among several secrets: the one that worked comes first, and each fetch tries each once.
//!
//! In: what the provider answered to which one. Out: which one to try, and whether at once. It does not know the secrets.

use super::{FetchId, FetchKey, FetchOutcome, Store, finish_lease};
use crate::http::message::HttpReply;
use crate::oauth::fetch::FetchError;
use crate::oauth::token_response;
use crate::policy::CredentialId;
use crate::rng::Rng;
use crate::time::Now;

/// A place in a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SecretRotation {
    index: usize,
}

impl SecretRotation {
    /// The one to try.
    pub(super) fn index(self) -> usize {
        self.index
    }

    /// For the log: which one, unless there is only one.
    pub(super) fn describe(used: usize, of: usize) -> String {
        if of > 1 { format!(", by secret {} of {of}", used.saturating_add(1)) } else { String::new() }
    }

    /// That one was refused: it is the next one's turn, if it was not already. Several fetches may have used it at one time.
    pub(super) fn advance(&mut self, used: usize, of: usize) {
        if used == self.index {
            let next = used.saturating_add(1);
            self.index = if next < of { next } else { 0 };
        }
    }

    /// Whether a fetch that has been made again so often by another secret may be once more.
    pub(super) fn has_more(others: usize, of: usize) -> bool {
        others.saturating_add(1) < of
    }
}

impl Store {
    /// The provider wants its nonce first, or does not take the client with this secret and there is one that was not tried in
    /// this round yet: it is tried at once, and waiting requests go on waiting.
    #[inline(never)]
    pub(super) fn restart_with_nonce_or_secret(
        &mut self,
        ticket: FetchId,
        reply: &HttpReply,
        now: Now,
        dice: &mut Rng,
    ) -> Option<FetchError> {
        let FetchId { key: want, attempt, secret } = ticket;
        if !self.token_state(want)?.lease.is_running(attempt) {
            return None;
        }
        let id = want.credential()?;
        if let Some(failure) = self.handle_nonce(want, id, attempt, reply) {
            return Some(failure);
        }
        if !token_response::rejects_client(reply) {
            return None;
        }
        let ways = self.policy.credentials.get(id.0)?.grant.auth.len();
        self.credentials.get_mut(id.0)?.secret_rotation.advance(secret, ways);
        if !SecretRotation::has_more(self.token_state(want)?.lease.secret_retries(), ways) {
            return None;
        }
        let failure = self.read_token(want, reply, now.unix, dice).err()?;
        self.token_state_mut(want)?.lease.restart_with_next_secret(attempt);
        Some(FetchError { detail: format!("{}; the next secret is tried", failure.detail), ..failure })
    }

    /// Which secret a fetch that begins now tries.
    pub(super) fn secret_index(&self, want: FetchKey) -> usize {
        let turn = match want {
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => {
                self.credentials.get(id.0).map(|state| state.secret_rotation)
            }
            FetchKey::Introspection(id, _) => self.introspections(id).map(|own| own.secret_rotation),
            FetchKey::Metadata(_) | FetchKey::Keys(_) => None,
        };
        turn.unwrap_or_default().index()
    }

    /// Which secret brought the token, for the log.
    pub(super) fn secret_label(&self, id: CredentialId, secret: usize) -> String {
        let credential = self.policy.credentials.get(id.0);
        credential.map(|own| SecretRotation::describe(secret, own.grant.auth.len())).unwrap_or_default()
    }

    /// A fetch ended before there was a call, as only those can that need something signed.
    #[inline(never)]
    pub fn fail(
        &mut self,
        ticket: FetchId,
        failure: FetchError,
        now: Now,
        dice: &mut Rng,
    ) -> Option<FetchOutcome> {
        if matches!(ticket.key, FetchKey::Introspection(..)) {
            return self.fail_introspection(ticket, failure, now.instant, dice);
        }
        let FetchId { key: want, attempt, .. } = ticket;
        let state = self.token_state_mut(want)?;
        let result = finish_lease(&mut state.lease, attempt, now.instant, Err(failure), dice)?;
        self.finish_exchange(want, result.as_ref().err(), None, now.instant, dice);
        self.publish(want, None, now.instant);
        Some(FetchOutcome { key: want, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_refused_is_passed_on_once_whoever_used_it() {
        let mut turn = SecretRotation::default();
        turn.advance(0, 3);
        turn.advance(0, 3);
        assert_eq!(turn.index(), 1, "two fetches had used the first");
        turn.advance(1, 3);
        turn.advance(2, 3);
        assert_eq!(turn.index(), 0, "the next round begins where this one did");
        assert_eq!(
            (SecretRotation::describe(1, 3).as_str(), SecretRotation::describe(0, 1).as_str()),
            (", by secret 2 of 3", "")
        );
    }

    #[test]
    fn each_fetch_tries_each_once() {
        assert!(SecretRotation::has_more(0, 2) && !SecretRotation::has_more(1, 2));
        assert!(
            !SecretRotation::has_more(0, 1) && !SecretRotation::has_more(0, 0),
            "one alone is never tried again at once"
        );
    }
}
