//! Whose turn it is among several secrets: the one that worked comes first, and each once in a round.
//!
//! In: what the provider answered. Out: which one to try, and whether at once. It does not know the secrets.

use super::{Outcome, Store, Ticket, TokenState, Want, settle};
use crate::io::{Dice, Now, Reply};
use crate::lease::{Attempt, Failure};
use crate::oauth::{self, Grant};

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

impl TokenState {
    /// The provider does not take the client with this secret, and there is one that was not tried in this round yet: it
    /// is tried at once, and whoever waits goes on waiting.
    pub(super) fn another(&mut self, grant: &Grant, attempt: Attempt, reply: &Reply) -> Option<Failure> {
        if !self.lease.is_running(attempt) {
            return None;
        }
        if !oauth::denies_client(reply) {
            self.turn.stays();
            return None;
        }
        if !self.turn.refused(grant.auth.len()) {
            return None;
        }
        let failure = grant.read(reply, &mut Dice::new(0)).err()?;
        self.lease.again(attempt);
        Some(Failure { detail: format!("{}; the next secret is tried", failure.detail), ..failure })
    }
}

impl Store {
    /// A token's fetch ended before there was a call.
    pub fn fail(&mut self, ticket: Ticket, failure: Failure, now: Now, dice: &mut Dice) -> Option<Outcome> {
        let Ticket { want, attempt } = ticket;
        let Want::Token(id) = want else { return None };
        let lease = &mut self.tokens.get_mut(id.0)?.lease;
        let result = settle(lease, attempt, now.instant, dice, |_| Err(failure))?;
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
