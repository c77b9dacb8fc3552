//! Whether a provider that is asked about callers' own tokens works at all (a circuit breaker).
//!
//! In: how the fetches for single tokens ended. Out: whether others may be made now, and when the
//! next probe is due. Clients choose the tokens, so one that the provider fails at says nothing of
//! the provider: only many different ones in a row, without a single success between them, do. A
//! success for any token proves that it works. Until then it is probed with different tokens, so
//! often that those at which it fails do not keep the others from their turn. It knows no token.

use crate::rng::Rng;
use crate::time::Instant;
use std::time::Duration;

/// What is known of the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CircuitBreaker {
    /// Tokens whose first fetch failed since the last success of any.
    failed: u32,
    /// How often the provider was found failing since then; none: it counts as working.
    rounds: u32,
    /// Since when it counts as failing.
    shut_at: Instant,
    /// Whether what it failed with last says that others would fail in the same way.
    alike: bool,
    not_before: Instant,
    /// Tokens that have failed come that much later.
    suspects_later: Duration,
    /// When the next probe may begin for the sake of their rate.
    next_probe: Instant,
}

/// So many different tokens fail in a row before the provider counts as failing. Where one request
/// in six brings a token that the provider fails at, eight in a row come once in half a million
/// requests.
const FAILURE_THRESHOLD: u32 = 8;

/// Probes a second. As many bad tokens a second, or fewer, leave a good one its turn; and it is
/// little load for a provider.
const PROBES_PER_SECOND: u32 = 5;

/// Probes at one time: so many that the provider hangs at.
const MOST_PROBES: usize = 5;

/// Of them, those whose tokens have failed.
const MOST_SUSPECT_PROBES: usize = 1;

/// The longest pause between two probes of a provider that fails, its `Retry-After` included: one
/// request in so many seconds is no load, and the next caller proves within that time that the
/// provider is back.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The least time between two probes where all would fail alike. So long, too, all requests are
/// held once the gate is shut.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// After a pause, a probe is left so long to tokens that have not failed yet.
const SUSPECT_DELAY: Duration = Duration::from_secs(4);

/// After so many rounds requests are refused at once, instead of being held until the next probe.
const ROUNDS_BEFORE_REFUSAL: u32 = 2;

/// How a fetch failed.
pub(super) struct ProbeFailure {
    /// Whether its token had not failed before.
    pub(super) first: bool,
    /// Whether it would have failed for any token: no connection was made, or the client is not
    /// taken.
    pub(super) alike: bool,
    /// `Retry-After`.
    pub(super) retry_after: Duration,
}

impl CircuitBreaker {
    /// Whether the provider counts as failing: then it is probed.
    pub(super) fn is_open(self) -> bool {
        self.rounds > 0
    }

    /// Whether it is probed by one token alone, so that a token which has been good is better than
    /// any other.
    pub(super) fn is_for_one(self) -> bool {
        self.is_open() && self.alike
    }

    /// Whether a fetch that began then is a probe.
    pub(super) fn is_probe(self, since: Instant) -> bool {
        self.is_open() && since >= self.shut_at
    }

    /// Whether another probe may run beside so many.
    pub(super) fn has_room_beside(self, probes: usize) -> bool {
        probes < if self.alike { 1 } else { MOST_PROBES }
    }

    /// How many fetches may run whose tokens have failed, if that is bounded.
    pub(super) fn most_suspects(self) -> usize {
        if self.is_open() { MOST_SUSPECT_PROBES } else { usize::MAX }
    }

    /// How long one who needs an answer would have to wait for the next probe, if that is too long
    /// to be held for.
    pub(super) fn rejects_for(self, now: Instant) -> Option<Duration> {
        let wait = self.not_before.since(now);
        (self.rounds >= ROUNDS_BEFORE_REFUSAL && wait > PROBE_INTERVAL).then_some(wait)
    }

    /// Whether one more request may join a queue of this length, all of which must be served within
    /// that time. Chance decides well before there is no more room: clients that come often do not
    /// take the place of each that had its turn.
    pub(super) fn admits(self, line: usize, within: Duration, now: Instant, rng: &mut Rng) -> bool {
        let is_new = now < self.shut_at + PROBE_INTERVAL;
        // During a pause it is not in the line that they wait.
        if !self.is_open() || self.alike || is_new || !self.suspects_later.is_zero() {
            return true;
        }
        let longest = within.as_millis().saturating_mul(PROBES_PER_SECOND.into()) / 1000;
        let longest = u32::try_from(longest).unwrap_or(u32::MAX).max(2);
        let half = longest / 2;
        let beyond = u32::try_from(line).unwrap_or(u32::MAX).saturating_sub(half);
        let room = Duration::from_secs(1).saturating_mul(beyond) / longest.saturating_sub(half);
        beyond == 0 || room < rng.duration_up_to(Duration::from_secs(1))
    }

    /// When the next fetch may begin; one whose token has failed before comes later, so that the
    /// others prove what they can.
    pub(super) fn not_before(self, suspect: bool) -> Instant {
        let later = if suspect && self.is_open() { self.suspects_later } else { Duration::ZERO };
        (self.not_before + later).max(self.next_probe)
    }

    /// A fetch begins.
    pub(super) fn begun(&mut self, now: Instant) {
        if self.is_open() {
            self.next_probe = now + Duration::from_secs(1) / PROBES_PER_SECOND;
        }
    }

    /// The provider gave an answer that makes sense.
    pub(super) fn record_success(&mut self) {
        *self = Self::default();
    }

    /// A fetch failed.
    pub(super) fn record_failure(
        &mut self,
        blow: &ProbeFailure,
        longest: Duration,
        now: Instant,
        rng: &mut Rng,
    ) {
        self.failed = self.failed.saturating_add(u32::from(blow.first));
        // What fails together counts once.
        if self.failed < FAILURE_THRESHOLD || now < self.not_before {
            return;
        }
        if !self.is_open() {
            self.rounds = 1;
            self.shut_at = now;
            self.begun(now);
        } else if blow.first && (blow.alike || !blow.retry_after.is_zero()) {
            self.rounds = self.rounds.saturating_add(1);
        }
        let most = MAX_PAUSE.min(longest);
        // A token that is known to fail says nothing new; that it was asked for is paid for all the
        // same.
        let asked = if blow.first { blow.retry_after.min(most) } else { Duration::ZERO };
        if blow.first {
            self.alike = blow.alike;
        }
        let pause = if blow.first && blow.alike {
            let doubled = PROBE_INTERVAL.saturating_mul(1 << self.rounds.saturating_sub(1).min(8));
            let half = doubled.min(most) / 2;
            (half + rng.duration_up_to(half)).max(asked).max(PROBE_INTERVAL)
        } else if blow.alike {
            PROBE_INTERVAL
        } else {
            asked
        };
        self.not_before = now + pause;
        self.suspects_later = if pause.is_zero() { Duration::ZERO } else { SUSPECT_DELAY };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(millis))
    }

    fn blow(first: bool) -> ProbeFailure {
        ProbeFailure { first, alike: false, retry_after: Duration::ZERO }
    }

    /// As where no connection is made.
    fn alike(first: bool) -> ProbeFailure {
        ProbeFailure { alike: true, ..blow(first) }
    }

    fn fails(gate: &mut CircuitBreaker, times: u32, blow: &ProbeFailure, now: Instant) {
        for _ in 0..times {
            gate.record_failure(blow, Duration::from_secs(30), now, &mut Rng::new(1));
        }
    }

    #[test]
    fn one_token_never_shuts_it_however_often_it_fails() {
        let mut gate = CircuitBreaker::default();
        fails(&mut gate, 1, &blow(true), at(0));
        fails(&mut gate, 1000, &blow(false), at(1));
        assert!(!gate.is_open() && gate.not_before(true) == at(0));
    }

    #[test]
    fn eight_tokens_in_a_row_shut_it_and_one_success_opens_it() {
        for failure in [blow(true), alike(true)] {
            let mut gate = CircuitBreaker::default();
            fails(&mut gate, FAILURE_THRESHOLD - 1, &failure, at(0));
            gate.record_success();
            fails(&mut gate, FAILURE_THRESHOLD - 1, &failure, at(1));
            assert!(!gate.is_open());
            fails(&mut gate, 5, &failure, at(2));
            assert_eq!((gate.rounds, gate.is_open()), (1, true), "what fails together counts once");
            assert_eq!(gate.rejects_for(at(2)), None, "the first probe is waited for");
            gate.record_success();
            assert_eq!(gate, CircuitBreaker::default());
        }
    }

    #[test]
    fn while_it_is_shut_five_probes_begin_in_a_second_and_five_run_at_one_time() {
        let mut gate = CircuitBreaker::default();
        fails(&mut gate, FAILURE_THRESHOLD, &blow(true), at(0));
        let begun = (0..10).map(|_| {
            let next = gate.not_before(false);
            assert_eq!(gate.not_before(true), next, "those that have failed come after the others in line");
            gate.begun(next);
            fails(&mut gate, 1, &blow(true), next + Duration::from_millis(20));
            next
        });
        let apart: Vec<Instant> = (1..=10).map(|n| at(n * 200)).collect();
        assert_eq!(begun.collect::<Vec<_>>(), apart);
        assert!(gate.has_room_beside(4) && !gate.has_room_beside(5) && gate.most_suspects() == 1);
        assert_eq!(gate.rejects_for(at(2000)), None);
        let admitted = |line, millis| {
            let mut rng = Rng::new(1);
            let admits = |_: &u32| gate.admits(line, Duration::from_secs(3), at(millis), &mut rng);
            (0..1000).filter(admits).count()
        };
        assert_eq!((admitted(100, 999), admitted(7, 1000), admitted(15, 1000)), (1000, 1000, 0));
        assert!((400..=600).contains(&admitted(11, 1000)), "{}", admitted(11, 1000));
        assert!(gate.is_probe(at(0)) && !CircuitBreaker::default().is_probe(at(0)));
    }

    #[test]
    fn where_all_would_fail_alike_one_probe_runs_and_the_pauses_grow() {
        let mut gate = CircuitBreaker::default();
        fails(&mut gate, FAILURE_THRESHOLD, &alike(true), at(0));
        assert_eq!((gate.not_before(false), gate.has_room_beside(1)), (at(1000), false));
        fails(&mut gate, 1, &alike(true), at(1000));
        assert!(gate.rejects_for(at(1001)).is_some() && gate.rejects_for(at(60_000)).is_none());
        assert!(gate.admits(1000, Duration::from_secs(3), at(9000), &mut Rng::new(1)));
        // Once it answers, if only with a failure, it is probed as such.
        fails(&mut gate, 1, &blow(true), at(60_000));
        assert!(gate.has_room_beside(4) && gate.not_before(false) == at(60_000));
    }

    #[test]
    fn probes_are_left_to_those_that_have_not_failed_and_are_never_far_apart() {
        let asked = |alike| ProbeFailure { retry_after: Duration::from_secs(300), alike, first: true };
        for failure in [asked(true), asked(false)] {
            let mut gate = CircuitBreaker::default();
            fails(&mut gate, FAILURE_THRESHOLD, &failure, at(0));
            let mut now = gate.not_before(false);
            assert_eq!(gate.not_before(true), now + SUSPECT_DELAY);
            for _ in 0..100 {
                fails(&mut gate, 1, &failure, now);
                assert_eq!(gate.not_before(false), now + MAX_PAUSE);
                now = gate.not_before(false);
            }
            let rounds = gate.rounds;
            fails(&mut gate, 1, &alike(false), now);
            assert_eq!((gate.rounds, gate.rejects_for(now)), (rounds, None), "a suspect says nothing new");
        }
    }
}
