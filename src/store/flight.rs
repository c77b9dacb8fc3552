//! The fetches for single tokens that run at one time, and how many may.
//!
//! In: when each began, and which were answered. Out: whether one more may begin. A fetch that
//! lasts much longer than a later one did is stuck for its own token's sake: it leaves its place to
//! another, and says nothing of the provider. One that is slow for everybody answers nobody so much
//! sooner. It knows no token.

use crate::time::Instant;
use std::time::Duration;

/// Fetches at one time: as many as a provider bears from one worker; the other requests wait for
/// their turn.
pub(super) const MAX_CONCURRENT: usize = 50;

/// Beside them, fetches that are stuck.
const MAX_STUCK: usize = 200;

/// A fetch is not stuck before it has lasted so long.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Nor before it has lasted so many times as long as a later one that was answered: answers of a
/// slow provider differ by less.
const STUCK_TIMES: u32 = 5;

/// A fetch that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) since: Instant,
    pub(super) stuck: bool,
}

impl Flight {
    pub(super) fn begun(now: Instant) -> Self {
        Self { since: now, stuck: false }
    }

    /// A fetch that began at `since` is answered now.
    pub(super) fn compare(&mut self, since: Instant, now: Instant) {
        let longest = now.since(since).saturating_mul(STUCK_TIMES).max(STUCK_AFTER);
        self.stuck |= self.since < since && now.since(self.since) >= longest;
    }
}

/// How many fetches run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    places: usize,
    stuck: usize,
}

impl Count {
    pub(super) fn of(flights: impl Iterator<Item = Flight>) -> Self {
        flights.fold(Self::default(), |count, flight| Self {
            places: count.places.saturating_add(usize::from(!flight.stuck)),
            stuck: count.stuck.saturating_add(usize::from(flight.stuck)),
        })
    }

    /// Whether no other may begin.
    pub(super) fn is_full(self) -> bool {
        self.places.saturating_add(self.stuck.saturating_sub(MAX_STUCK)) >= MAX_CONCURRENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(millis))
    }

    /// Whether one that began at 0 is stuck when one that began then is answered then.
    fn stuck(since: u64, now: u64) -> bool {
        let mut flight = Flight::begun(at(0));
        flight.compare(at(since), at(now));
        flight.stuck
    }

    #[test]
    fn one_is_stuck_that_lasts_far_longer_than_a_later_one() {
        assert!(stuck(980, 1000) && stuck(4000, 5000));
        assert!(!stuck(970, 990), "it may still be answered soon");
        assert!(!stuck(3900, 5000), "the provider is slow");
        assert!(!stuck(0, 5000), "none is later than itself");
        let mut flight = Flight::begun(at(0));
        flight.compare(at(980), at(1000));
        flight.compare(at(1000), at(3000));
        assert!(flight.stuck, "it stays so");
    }

    #[test]
    fn fifty_run_at_one_time_and_two_hundred_that_are_stuck() {
        let of = |places: usize, stuck: usize| {
            let flights = |count, stuck| (0..count).map(move |_| Flight { stuck, ..Flight::begun(at(0)) });
            Count::of(flights(places, false).chain(flights(stuck, true))).is_full()
        };
        assert!(!of(49, 0) && of(50, 0) && !of(49, 200) && of(49, 201) && !of(0, 249) && of(0, 250));
    }
}
