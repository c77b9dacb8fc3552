//! Whether a provider that is asked about callers' own tokens works at all (a circuit breaker).
//!
//! In: how the fetches for single tokens ended. Out: whether others may be made now, and when the next probe is due. Clients
//! choose the tokens, so one that the provider fails at says nothing of the provider: only many different ones in a row, without
//! a single success between them, do. A success for any token proves that it works. It knows no token.

use crate::io::{Dice, Instant};
use std::time::Duration;

/// What is known of the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Tokens whose first fetch failed since the last success of any.
    failed: u32,
    /// How often the provider was found failing since then; none: it counts as working.
    rounds: u32,
    not_before: Instant,
}

/// So many different tokens fail in a row before the provider counts as failing. Where one request in six brings a token that
/// the provider fails at, eight in a row come once in half a million requests.
const EVIDENCE: u32 = 8;

/// The longest pause between two probes of a provider that fails, its `Retry-After` included: one request in so many seconds
/// is no load, and the next caller proves within that time that the provider is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The least time between two probes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// So long a probe is left to tokens that have not failed yet.
const SUSPECTS_LATER: Duration = Duration::from_secs(4);

/// After so many rounds requests are refused at once, instead of being held until the next probe.
const PATIENCE: u32 = 2;

/// How a fetch failed.
pub(super) struct Blow {
    /// Whether its token had not failed before.
    pub(super) first: bool,
    /// `Retry-After`.
    pub(super) retry_after: Duration,
}

impl Gate {
    /// Whether the provider counts as failing: then it is asked by one request at a time.
    pub(super) fn is_shut(self) -> bool {
        self.rounds > 0
    }

    /// How long one who needs an answer would have to wait for the next probe, if that is too long to be held for.
    pub(super) fn refuses(self, now: Instant) -> Option<Duration> {
        let wait = self.not_before.since(now);
        (self.rounds >= PATIENCE && wait > SHORTEST_PAUSE).then_some(wait)
    }

    /// When the next fetch may begin; one whose token has failed before comes later, so that the others prove what they can.
    pub(super) fn not_before(self, suspect: bool) -> Instant {
        let later = if suspect && self.is_shut() { SUSPECTS_LATER } else { Duration::ZERO };
        self.not_before + later
    }

    /// The provider gave an answer that makes sense.
    pub(super) fn works(&mut self) {
        *self = Self::default();
    }

    /// A fetch failed.
    pub(super) fn fails(&mut self, blow: &Blow, longest: Duration, now: Instant, dice: &mut Dice) {
        self.failed = self.failed.saturating_add(u32::from(blow.first));
        // What fails together counts once.
        if self.failed < EVIDENCE || now < self.not_before {
            return;
        }
        // A token that is known to fail says nothing new; that it was asked for is paid for all the same.
        if blow.first || !self.is_shut() {
            self.rounds = self.rounds.saturating_add(1);
        }
        let most = LONGEST_PAUSE.min(longest);
        let doubled = SHORTEST_PAUSE.saturating_mul(1 << self.rounds.saturating_sub(1).min(8));
        let pause = if blow.first {
            let half = doubled.min(most) / 2;
            (half + dice.up_to(half)).max(blow.retry_after.min(most))
        } else {
            Duration::ZERO
        };
        self.not_before = now + pause.max(SHORTEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(millis))
    }

    fn blow(first: bool) -> Blow {
        Blow { first, retry_after: Duration::ZERO }
    }

    fn fails(gate: &mut Gate, times: u32, first: bool, now: Instant) {
        for _ in 0..times {
            gate.fails(&blow(first), Duration::from_secs(30), now, &mut Dice::new(1));
        }
    }

    #[test]
    fn one_token_never_shuts_it_however_often_it_fails() {
        let mut gate = Gate::default();
        fails(&mut gate, 1, true, at(0));
        fails(&mut gate, 1000, false, at(1));
        assert!(!gate.is_shut() && gate.not_before(true) == at(0));
    }

    #[test]
    fn eight_tokens_in_a_row_shut_it_and_one_success_opens_it() {
        let mut gate = Gate::default();
        fails(&mut gate, EVIDENCE - 1, true, at(0));
        gate.works();
        fails(&mut gate, EVIDENCE - 1, true, at(1));
        assert!(!gate.is_shut());
        fails(&mut gate, 5, true, at(2));
        assert_eq!((gate.rounds, gate.not_before(false)), (1, at(1002)), "what fails together counts once");
        assert_eq!(gate.refuses(at(2)), None, "the first probe is waited for");
        fails(&mut gate, 1, true, at(1002));
        assert!(gate.refuses(at(1003)).is_some() && gate.refuses(at(60_000)).is_none());
        gate.works();
        assert_eq!(gate, Gate::default());
    }

    #[test]
    fn probes_are_left_to_those_that_have_not_failed_and_are_never_far_apart() {
        let mut gate = Gate::default();
        fails(&mut gate, EVIDENCE, true, at(0));
        let mut now = gate.not_before(false);
        assert_eq!(gate.not_before(true), now + SUSPECTS_LATER);
        for _ in 0..100 {
            gate.fails(
                &Blow { retry_after: Duration::from_secs(300), ..blow(true) },
                Duration::from_secs(30),
                now,
                &mut Dice::new(1),
            );
            assert_eq!(gate.not_before(false), now + LONGEST_PAUSE);
            now = gate.not_before(false);
        }
        let rounds = gate.rounds;
        fails(&mut gate, 1, false, now);
        assert_eq!((gate.rounds, gate.refuses(now)), (rounds, None), "a suspect says nothing new");
    }
}
