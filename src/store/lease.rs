//! One fetched value: when to fetch it, when to renew it, when to back off, when it has ended.
//!
//! In: "a fetch begins", "a fetch ended so", the time. Out: the value while it is good, and when to
//! look again. It is generic over the value, and knows neither how it is fetched nor who waits for
//! it: of a fetch it sees how it ended ([`crate::oauth::fetch::FetchErrorKind`]), since the backoff
//! depends on that. Its laws, each a property test:
//!
//! - never two fetches at once;
//! - a good value is never dropped for a failed renewal, and never served after it has ended;
//! - after a failure never earlier than the backoff allows, never later than its cap, and soon
//!   while a value nears its end;
//! - a provider that shows signs of overload is asked no more often than three times as often as
//!   one that is well;
//! - one that cannot be reached, which costs it nothing, is tried every 10 to 20 s, and its first
//!   answer is waited for longer;
//! - a fetch whose answer never comes ends by itself.

mod schedule;

use crate::oauth::fetch::{FetchError, Fetched};
use crate::rng::Rng;
use crate::time::Instant;
pub use schedule::{Attempt, Backoff, RetryPolicy, Schedule};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// What one who needs the value can expect.
#[derive(Debug)]
pub enum Availability<'a, T> {
    /// Here it is.
    Ready(&'a T),
    /// A first fetch, or its one quick retry, is under way or about to start.
    Pending,
    /// The provider keeps failing; the next attempt is this far away.
    Unavailable(Duration),
}

/// One fetched value, and its [schedule](Schedule): all that does not depend on what the value is.
pub struct Lease<T> {
    value: Option<T>,
    schedule: Schedule,
}

impl<T> Lease<T> {
    /// A lease that holds nothing and is due at once.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { value: None, schedule: Schedule::new(policy) }
    }

    /// A lease on a value that needs no fetching and never ends.
    pub fn fixed(value: T) -> Self {
        Self { value: Some(value), schedule: Schedule::fixed() }
    }

    /// The value, while it is good.
    pub fn value(&self, now: Instant) -> Option<&T> {
        self.value.as_ref().filter(|_| self.schedule.has_value(now))
    }

    /// The value last fetched, good or not.
    pub fn last_value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The same, to change what is known of it beside.
    pub fn last_value_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    /// What a request can expect that can wait for so long.
    pub fn availability(&self, now: Instant, patience: Duration) -> Availability<'_, T> {
        let wait = self.schedule.wait(now);
        match self.value(now) {
            Some(value) => Availability::Ready(value),
            None if wait <= patience => Availability::Pending,
            None => Availability::Unavailable(wait),
        }
    }

    /// The same where a failing fetch is not waited for much: the first retry is, and haste around
    /// a value's end.
    pub fn short_availability(&self, now: Instant) -> Availability<'_, T> {
        if let Some(value) = self.value(now) {
            return Availability::Ready(value);
        }
        match self.schedule.short_wait(now) {
            (_, true) => Availability::Pending,
            (wait, false) => Availability::Unavailable(wait),
        }
    }

    /// A fetch ended. False, and nothing changes, when it is not the running one.
    pub fn finish(
        &mut self,
        attempt: Attempt,
        now: Instant,
        outcome: Result<Fetched<T>, FetchError>,
        rng: &mut Rng,
    ) -> bool {
        let fresh = match outcome {
            Ok(fresh) => fresh,
            Err(failure) => return self.schedule.fail(attempt, now, &failure, rng),
        };
        let is_running = self.schedule.succeed(attempt, now, (fresh.renew_after, fresh.end_after), rng);
        if is_running {
            self.value = Some(fresh.value);
        }
        is_running
    }

    /// Somebody else fetched this value, in a fetch that began at `start`: it counts as if it had
    /// been this lease's. False, and nothing changes, when this lease holds one that is not older.
    pub fn adopt(&mut self, start: Instant, fresh: Fetched<T>) -> bool {
        let newer = self.schedule.fetched_at() < Some(start);
        if newer {
            self.store(start, fresh);
        }
        newer
    }

    fn store(&mut self, start: Instant, fresh: Fetched<T>) {
        self.schedule.store(start, fresh.renew_after, fresh.end_after);
        self.value = Some(fresh.value);
    }
}

impl<T> Deref for Lease<T> {
    type Target = Schedule;

    fn deref(&self) -> &Schedule {
        &self.schedule
    }
}

impl<T> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }
}

impl<T> fmt::Debug for Lease<T> {
    /// Not the value: it may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("failures", &self.failures()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::schedule::{JITTER, LOST_MARGIN};
    use super::*;
    use crate::oauth::fetch::FetchErrorKind;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(millis))
    }

    fn fresh(value: u64, renew: u64, end: u64) -> Fetched<u64> {
        let (renew_after, end_after) = (Duration::from_millis(renew), Duration::from_millis(end));
        Fetched { value, renew_after, end_after }
    }

    fn failed() -> Result<Fetched<u64>, FetchError> {
        Err(FetchError::new(FetchErrorKind::ServerError, "500"))
    }

    #[test]
    fn lifetimes_count_from_the_start_of_the_fetch() {
        let mut lease = Lease::new(RetryPolicy::default());
        let attempt = lease.begin(at(1000)).unwrap();
        assert!(lease.finish(attempt, at(3000), Ok(fresh(1, 4000, 5000)), &mut Rng::new(0)));
        assert_eq!(lease.next_event(), at(5000));
        assert_eq!((lease.value(at(5999)), lease.value(at(6000))), (Some(&1), None));
    }

    #[test]
    fn a_late_answer_of_a_lost_fetch_changes_nothing() {
        let mut lease = Lease::new(RetryPolicy::default());
        let lost = lease.begin(at(0)).unwrap();
        assert!(!lease.give_up_lost(at(5999), &mut Rng::new(0)));
        assert!(lease.give_up_lost(at(6000), &mut Rng::new(0)));
        assert!(!lease.finish(lost, at(6001), Ok(fresh(1, 10, 10)), &mut Rng::new(0)));
        assert_eq!(lease.value(at(6001)), None);
    }

    #[test]
    fn the_first_failure_is_waited_out_and_the_second_is_told() {
        let mut lease = Lease::new(RetryPolicy::default());
        let first = lease.begin(at(0)).unwrap();
        lease.finish(first, at(1), failed(), &mut Rng::new(0));
        assert!(matches!(lease.short_availability(at(2)), Availability::Pending));
        let second = lease.begin(at(1000)).unwrap();
        lease.finish(second, at(1001), failed(), &mut Rng::new(0));
        assert!(matches!(lease.short_availability(at(1002)), Availability::Unavailable(_)));
    }

    #[test]
    fn retry_after_is_a_lower_bound_and_capped() {
        let mut lease: Lease<u64> = Lease::new(RetryPolicy::default());
        let attempt = lease.begin(at(0)).unwrap();
        let retry_after = Some(Duration::from_secs(20));
        lease.finish(
            attempt,
            at(0),
            Err(FetchError { retry_after, ..failed().unwrap_err() }),
            &mut Rng::new(0),
        );
        assert_eq!(lease.next_event(), at(20_000));
        let attempt = lease.begin(at(20_000)).unwrap();
        let retry_after = Some(Duration::from_secs(86_400));
        lease.finish(
            attempt,
            at(20_000),
            Err(FetchError { retry_after, ..failed().unwrap_err() }),
            &mut Rng::new(0),
        );
        assert_eq!(lease.next_event(), at(320_000));
    }

    #[test]
    fn as_long_as_a_value_is_held_the_next_attempt_comes_before_its_end() {
        for seed in 0..200 {
            let (mut lease, mut rng) = (Lease::new(RetryPolicy::default()), Rng::new(seed));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 10_000, 20_000)), &mut rng);
            while lease.next_event() < at(18_000) {
                let now = lease.next_event();
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, failed(), &mut rng);
                assert!(lease.next_event() <= at(20_000), "seed {seed}: {:?}", lease.next_event());
            }
        }
    }

    #[test]
    fn near_its_end_a_value_is_tried_for_in_haste_but_once_in_two_seconds_on_average() {
        let (mut near, mut span) = (0_u32, Duration::ZERO);
        for seed in 0..1000 {
            let (mut lease, mut rng) = (Lease::new(RetryPolicy::default()), Rng::new(seed));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 21_000, 27_000)), &mut rng);
            let mut starts = Vec::new();
            while lease.next_event() < at(37_000) {
                let now = lease.next_event();
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, failed(), &mut rng);
                starts.push(now);
            }
            let gaps = starts.windows(2).map(|pair| pair[1].since(pair[0]));
            for gap in gaps {
                assert!((1000..=3000).contains(&gap.as_millis()), "seed {seed}: {starts:?}");
            }
            assert!(
                starts.iter().any(|start| (at(26_000)..at(27_000)).contains(start)),
                "seed {seed}: {starts:?}"
            );
            near += u32::try_from(starts.iter().filter(|start| **start >= at(23_000)).count()).unwrap();
            span += at(37_000).since(at(23_000));
        }
        assert!(span / near >= Duration::from_millis(1700), "one in {:?}", span / near);
    }

    #[test]
    fn a_value_that_has_just_ended_is_waited_for_and_one_that_ended_long_ago_is_not() {
        let mut lease = Lease::new(RetryPolicy::default());
        let attempt = lease.begin(at(0)).unwrap();
        lease.finish(attempt, at(0), Ok(fresh(1, 2000, 10_000)), &mut Rng::new(3));
        let mut rng = Rng::new(3);
        let mut fail = |lease: &mut Lease<u64>, cause| {
            let now = lease.next_event();
            let attempt = lease.begin(now).unwrap();
            lease.finish(attempt, now, Err(FetchError::new(cause, "")), &mut rng);
            now
        };
        let mut now = at(0);
        while now < at(20_000) {
            now = fail(&mut lease, FetchErrorKind::Unreachable);
            let outlook = lease.short_availability(now);
            let good = if now < at(10_000) {
                matches!(outlook, Availability::Ready(_))
            } else {
                matches!(outlook, Availability::Pending)
            };
            assert!(good || now >= at(20_000), "{now:?}: {outlook:?}");
        }
        assert!(matches!(lease.short_availability(at(20_000)), Availability::Unavailable(_)));
        lease.store(now, fresh(2, 1000, 2000));
        let failed_at = fail(&mut lease, FetchErrorKind::Configuration);
        assert!(
            matches!(
                lease.short_availability(failed_at + Duration::from_secs(1)),
                Availability::Unavailable(_)
            ),
            "nobody mends that soon"
        );
    }

    #[test]
    fn doubt_renews_early_keeps_the_value_and_is_remembered() {
        let mut lease = Lease::new(RetryPolicy::default());
        let attempt = lease.begin(at(0)).unwrap();
        lease.finish(attempt, at(0), Ok(fresh(1, 300_000, 600_000)), &mut Rng::new(0));
        lease.refresh_soon(at(2000));
        lease.refresh_soon(at(9000));
        assert_eq!(lease.next_event(), at(2000));
        assert_eq!((lease.value(at(5000)), lease.refresh_requested_at()), (Some(&1), None));
        let attempt = lease.begin(at(2000)).unwrap();
        lease.finish(attempt, at(2000), Ok(fresh(2, 300_000, 600_000)), &mut Rng::new(0));
        lease.begin(at(302_000)).unwrap();
        assert_eq!(
            lease.refresh_requested_at(),
            Some(at(2000)),
            "the last renewal was none for a doubt's sake"
        );
    }

    #[test]
    fn a_provider_that_was_out_of_reach_is_waited_for_longer_until_it_answers() {
        let mut lease: Lease<u64> = Lease::new(RetryPolicy::default());
        let mut rng = Rng::new(1);
        let mut fail = |lease: &mut Lease<u64>, cause, no_connection| {
            let now = lease.next_event();
            let attempt = lease.begin(now).unwrap();
            let failure = FetchError { no_connection, ..FetchError::new(cause, "") };
            lease.finish(attempt, now, Err(failure), &mut rng);
            lease.fetch_timeout(lease.next_event()).as_secs()
        };
        assert_eq!(lease.fetch_timeout(at(0)).as_secs(), 5);
        assert_eq!(fail(&mut lease, FetchErrorKind::Unreachable, true), 60);
        assert_eq!(fail(&mut lease, FetchErrorKind::Timeout, false), 5, "one that hangs does not hold us up");
        assert_eq!(fail(&mut lease, FetchErrorKind::Unreachable, true), 60);
        let due = lease.next_event();
        let attempt = lease.begin(due).unwrap();
        lease.finish(attempt, at(500_000), Ok(fresh(1, 1000, 2000)), &mut Rng::new(1));
        assert_eq!(lease.fetch_timeout(at(600_000)).as_secs(), 5);
    }

    #[test]
    fn one_that_turns_requests_away_is_asked_less_and_less_often_and_one_that_hangs_at_once() {
        let gaps = |cause| {
            let (mut lease, mut rng) = (Lease::new(RetryPolicy::default()), Rng::new(7));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 224_000, 224_000)), &mut rng);
            let mut fail = |now: Instant, failure: FetchError| {
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, Err(failure), &mut rng);
                lease.next_event()
            };
            let gone =
                || FetchError { no_connection: true, ..FetchError::new(FetchErrorKind::Unreachable, "") };
            let mut now = at(300_000);
            for _ in 0..8 {
                now = fail(now, gone());
            }
            (0..6)
                .map(|_| {
                    let next = fail(now, FetchError::new(cause, ""));
                    let gap = next.since(now).as_secs();
                    now = next;
                    gap
                })
                .collect::<Vec<_>>()
        };
        let bounds = [10..=20, 20..=40, 40..=80, 84..=126, 84..=126, 84..=126];
        let status = gaps(FetchErrorKind::ServerError);
        assert!(status.iter().zip(bounds).all(|(gap, bound)| bound.contains(gap)), "{status:?}");
        let timeout = gaps(FetchErrorKind::Timeout);
        assert!(timeout.iter().all(|gap| (84..=126).contains(gap)), "{timeout:?}");
    }

    #[derive(Clone, Debug)]
    enum Event {
        Pass(u64),
        Begin,
        Succeed { renew: u64, end: u64 },
        Fail { configuration: bool, no_connection: bool, retry_after: Option<u64> },
        Doubt,
        Tick,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => (0..20_000_u64).prop_map(Event::Pass),
            3 => Just(Event::Begin),
            2 => (0..10_000_u64, 0..20_000_u64).prop_map(|(renew, end)| Event::Succeed { renew, end }),
            2 => (any::<bool>(), any::<bool>(), proptest::option::of(0..1_000_000_u64)).prop_map(
                |(configuration, no_connection, retry_after)| {
                    Event::Fail { configuration, no_connection: no_connection && !configuration, retry_after }
                }
            ),
            1 => Just(Event::Doubt),
            2 => Just(Event::Tick),
        ];
        proptest::collection::vec(event, 0..200)
    }

    proptest! {
        #[test]
        fn the_laws_hold_over_random_histories(history in events(), seed: u64) {
            let pace = RetryPolicy::default();
            let mut lease = Lease::new(pace);
            let mut rng = Rng::new(seed);
            let mut now = Instant::default();
            let mut running: Option<(Attempt, Instant)> = None;
            let mut good: Option<(u64, Instant)> = None;
            let mut starts: Vec<Instant> = Vec::new();
            let mut longest = Duration::ZERO;
            for (serial, event) in history.into_iter().enumerate() {
                match event {
                    Event::Pass(millis) => now = now + Duration::from_millis(millis),
                    Event::Begin => {
                        let due = lease.is_due(now);
                        prop_assert!(!(due && running.is_some()), "due while one runs");
                        if due {
                            longest = lease.longest_fetch(now);
                            let reached = lease.backoff().costly_failures > 0 || lease.failures() == 0;
                            prop_assert!(!reached || longest == pace.timeout + LOST_MARGIN, "patient with one that answers");
                            let attempt = lease.begin(now);
                            prop_assert!(attempt.is_some());
                            prop_assert!(lease.begin(now).is_none(), "two at once");
                            if let Some(last) = starts.last() {
                                prop_assert!(now.since(*last) >= pace.min_interval, "faster than the floor");
                            }
                            starts.push(now);
                            running = attempt.map(|attempt| (attempt, now));
                        }
                    }
                    Event::Succeed { renew, end } => if let Some((attempt, start)) = running.take() {
                        let serial = u64::try_from(serial).unwrap();
                        prop_assert!(lease.finish(attempt, now, Ok(fresh(serial, renew, end)), &mut rng));
                        good = Some((serial, start + Duration::from_millis(end)));
                    },
                    Event::Fail { configuration, no_connection, retry_after } => if let Some((attempt, _)) = running.take() {
                        let kind = if configuration { FetchErrorKind::Configuration } else { FetchErrorKind::ServerError };
                        let retry_after = retry_after.map(Duration::from_millis);
                        let failure = FetchError { kind, retry_after, no_connection, detail: String::new() };
                        prop_assert!(lease.finish(attempt, now, Err(failure), &mut rng));
                        let wait = lease.next_event().since(now);
                        let asked = retry_after.unwrap_or_default().min(pace.retry_after_cap);
                        let gone = lease.remaining(now).is_none();
                        let cap = match (configuration, no_connection && gone) {
                            (true, _) => pace.config_cap,
                            (_, true) => pace.unreachable_cap,
                            (_, false) => pace.cap.max(lease.wait_bounds().1),
                        };
                        // A value still fresh is not renewed before its time, whatever the backoff.
                        let renewal = lease.renewal(now);
                        prop_assert!(wait >= asked, "earlier than the provider asked");
                        prop_assert!(lease.backoff().urgent_not_before >= now + asked, "no need is as urgent as that");
                        prop_assert!(lease.backoff().urgent_not_before <= lease.backoff().not_before, "need makes it no later");
                        if let Some(left) = lease.remaining(now).filter(|_| !configuration) {
                            let soon = (left / 2).max(pace.base + JITTER).max(asked).max(renewal);
                            prop_assert!(wait <= soon, "later than a value with {:?} left can wait", left);
                        }
                        prop_assert!(wait <= cap.max(asked).max(pace.min_interval).max(renewal), "later than the cap");
                    },
                    Event::Doubt => lease.refresh_soon(now),
                    Event::Tick => {
                        let lost = lease.give_up_lost(now, &mut rng);
                        let late = running.is_some_and(|(_, start)| now.since(start) >= longest);
                        prop_assert_eq!(lost, late, "a lost fetch ends by itself, and only a lost one");
                        if lost {
                            running = None;
                        }
                    }
                }
                let expected = good.filter(|(_, end)| now < *end).map(|(value, _)| value);
                prop_assert_eq!(lease.value(now).copied(), expected, "a good value is served, an ended one never");
                prop_assert_eq!(lease.in_flight(), running.is_some());
            }
        }
    }
}
