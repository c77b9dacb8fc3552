//! Whose turn it is among several secrets: the one that worked comes first, and each once in a round.
//!
//! In: what the provider answered. Out: which one to try, and whether at once. It does not know the secrets.

use super::{Outcome, Store, Ticket, Want, settle};
use crate::io::{Dice, Now, Reply};
use crate::lease::{Attempt, Failure};
use crate::oauth::answer;
use crate::policy::CredentialId;

/// A place in a list, and how many of the list were refused since one last worked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    place: usize,
    refused: usize,
}

impl Turn {
    /// The one to try.
    pub(super) fn place(self) -> usize {
        self.place
    }

    /// For the log: which one, unless there is only one.
    pub(super) fn describe(self, of: usize) -> String {
        if of > 1 { format!(", by secret {} of {of}", self.place.saturating_add(1)) } else { String::new() }
    }

    /// That one was refused; it is the next one's turn. Whether that one was not tried in this round yet.
    pub(super) fn refused(&mut self, of: usize) -> bool {
        let next = self.place.saturating_add(1);
        self.place = if next < of { next } else { 0 };
        self.refused = self.refused.saturating_add(1);
        let more = self.refused < of;
        if !more {
            self.refused = 0;
        }
        more
    }

    /// That one was not refused: it stays, and a new round begins.
    pub(super) fn stays(&mut self) {
        self.refused = 0;
    }
}

impl Store {
    /// The provider wants its nonce first, or does not take the client with this secret and there is one that was not tried in
    /// this round yet: it is tried at once, and whoever waits goes on waiting.
    #[inline(never)]
    pub(super) fn another(
        &mut self,
        want: Want,
        attempt: Attempt,
        reply: &Reply,
        now: Now,
        dice: &mut Dice,
    ) -> Option<Failure> {
        if !self.token_state(want)?.lease.is_running(attempt) {
            return None;
        }
        let id = want.credential()?;
        if let Some(failure) = self.heed_nonce(want, id, attempt, reply) {
            return Some(failure);
        }
        let ways = self.policy.credentials.get(id.0)?.grant.auth.len();
        let turn = &mut self.credentials.get_mut(id.0)?.turn;
        if !answer::denies_client(reply) {
            turn.stays();
            return None;
        }
        if !turn.refused(ways) {
            return None;
        }
        let failure = self.read_token(want, reply, now.unix, dice).err()?;
        self.token_state_mut(want)?.lease.again(attempt);
        Some(Failure { detail: format!("{}; the next secret is tried", failure.detail), ..failure })
    }

    /// Which secret brought the token, for the log.
    pub(super) fn by(&self, id: CredentialId) -> String {
        let (credential, state) = (self.policy.credentials.get(id.0), self.credentials.get(id.0));
        let by =
            credential.zip(state).map(|(credential, state)| state.turn.describe(credential.grant.auth.len()));
        by.unwrap_or_default()
    }

    /// A fetch ended before there was a call, as only those can that need something signed.
    #[inline(never)]
    pub fn fail(&mut self, ticket: Ticket, failure: Failure, now: Now, dice: &mut Dice) -> Option<Outcome> {
        if matches!(ticket.want, Want::Introspection(..)) {
            return self.fail_introspection(ticket, failure, now.instant, dice);
        }
        let Ticket { want, attempt } = ticket;
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
    fn each_is_tried_once_in_a_round_and_the_one_that_works_stays() {
        let mut turn = Turn::default();
        assert_eq!((turn.refused(3), turn.place()), (true, 1));
        turn.stays();
        assert_eq!((turn.place(), turn.describe(3).as_str()), (1, ", by secret 2 of 3"));
        assert_eq!((turn.refused(3), turn.place()), (true, 2));
        assert_eq!((turn.refused(3), turn.place()), (true, 0));
        assert_eq!((turn.refused(3), turn.place()), (false, 1), "the next round begins where this one did");
        assert_eq!((turn.refused(3), turn.place()), (true, 2));
    }

    #[test]
    fn one_alone_is_never_tried_again_at_once() {
        let mut turn = Turn::default();
        assert_eq!((turn.refused(1), turn.place()), (false, 0));
        assert_eq!((turn.refused(0), turn.place()), (false, 0));
    }
}
