//! Whose turn it is among several secrets: the one that worked comes first, and each fetch tries each once.
//!
//! In: what the provider answered to which one. Out: which one to try, and whether at once. It does not know the secrets.

use super::{Outcome, Store, Ticket, Want, settle};
use crate::io::{Dice, Now, Reply};
use crate::lease::Failure;
use crate::oauth::answer;
use crate::policy::CredentialId;

/// A place in a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    place: usize,
}

impl Turn {
    /// The one to try.
    pub(super) fn place(self) -> usize {
        self.place
    }

    /// For the log: which one, unless there is only one.
    pub(super) fn describe(used: usize, of: usize) -> String {
        if of > 1 { format!(", by secret {} of {of}", used.saturating_add(1)) } else { String::new() }
    }

    /// That one was refused: it is the next one's turn, if it was not already. Several fetches may have used it at one time.
    pub(super) fn refused(&mut self, used: usize, of: usize) {
        if used == self.place {
            let next = used.saturating_add(1);
            self.place = if next < of { next } else { 0 };
        }
    }

    /// Whether a fetch that has been made again so often by another secret may be once more.
    pub(super) fn has_more(others: usize, of: usize) -> bool {
        others.saturating_add(1) < of
    }
}

impl Store {
    /// The provider wants its nonce first, or does not take the client with this secret and there is one that was not tried in
    /// this round yet: it is tried at once, and whoever waits goes on waiting.
    #[inline(never)]
    pub(super) fn another(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        now: Now,
        dice: &mut Dice,
    ) -> Option<Failure> {
        let Ticket { want, attempt, secret } = ticket;
        if !self.token_state(want)?.lease.is_running(attempt) {
            return None;
        }
        let id = want.credential()?;
        if let Some(failure) = self.heed_nonce(want, id, attempt, reply) {
            return Some(failure);
        }
        if !answer::denies_client(reply) {
            return None;
        }
        let ways = self.policy.credentials.get(id.0)?.grant.auth.len();
        self.credentials.get_mut(id.0)?.turn.refused(secret, ways);
        if !Turn::has_more(self.token_state(want)?.lease.others(), ways) {
            return None;
        }
        let failure = self.read_token(want, reply, now.unix, dice).err()?;
        self.token_state_mut(want)?.lease.again_by_another(attempt);
        Some(Failure { detail: format!("{}; the next secret is tried", failure.detail), ..failure })
    }

    /// Which secret a fetch that begins now tries.
    pub(super) fn secret(&self, want: Want) -> usize {
        let turn = match want {
            Want::Token(id) | Want::Exchanged(id, _) => self.credentials.get(id.0).map(|state| state.turn),
            Want::Introspection(id, _) => self.introspections(id).map(|own| own.turn),
            Want::Metadata(_) | Want::Keys(_) => None,
        };
        turn.unwrap_or_default().place()
    }

    /// Which secret brought the token, for the log.
    pub(super) fn by(&self, id: CredentialId, secret: usize) -> String {
        let credential = self.policy.credentials.get(id.0);
        credential.map(|own| Turn::describe(secret, own.grant.auth.len())).unwrap_or_default()
    }

    /// A fetch ended before there was a call, as only those can that need something signed.
    #[inline(never)]
    pub fn fail(&mut self, ticket: Ticket, failure: Failure, now: Now, dice: &mut Dice) -> Option<Outcome> {
        if matches!(ticket.want, Want::Introspection(..)) {
            return self.fail_introspection(ticket, failure, now.instant, dice);
        }
        let Ticket { want, attempt, .. } = ticket;
        let state = self.token_state_mut(want)?;
        let result = settle(&mut state.lease, attempt, now.instant, Err(failure), dice)?;
        self.ended(want, result.as_ref().err(), None, now.instant, dice);
        self.leave_seat(want, None, now.instant);
        Some(Outcome { want, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_refused_is_passed_on_once_whoever_used_it() {
        let mut turn = Turn::default();
        turn.refused(0, 3);
        turn.refused(0, 3);
        assert_eq!(turn.place(), 1, "two fetches had used the first");
        turn.refused(1, 3);
        turn.refused(2, 3);
        assert_eq!(turn.place(), 0, "the next round begins where this one did");
        assert_eq!(
            (Turn::describe(1, 3).as_str(), Turn::describe(0, 1).as_str()),
            (", by secret 2 of 3", "")
        );
    }

    #[test]
    fn each_fetch_tries_each_once() {
        assert!(Turn::has_more(0, 2) && !Turn::has_more(1, 2));
        assert!(!Turn::has_more(0, 1) && !Turn::has_more(0, 0), "one alone is never tried again at once");
    }
}
