//! One fetched value: when to fetch it, when to renew it, when to back off, when it has ended.
//!
//! In: "a fetch begins", "a fetch ended so", the time. Out: the value while it is good, and when to look again.
//! It is generic over the value, and knows neither how it is fetched nor who waits for it: of a fetch it sees how it ended
//! ([`FetchErrorKind`]), since the backoff depends on that. Its laws, each a property test:
//!
//! - never two fetches at once;
//! - a good value is never dropped for a failed renewal, and never served after it has ended;
//! - after a failure never earlier than the backoff allows, never later than its cap, and soon while a value nears its end;
//! - a provider that shows signs of overload is asked no more often than three times as often as one that is well;
//! - one that cannot be reached, which costs it nothing, is tried every 10 to 20 s, and its first answer is waited for longer;
//! - a fetch whose answer never comes ends by itself.

use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::rng::Rng;
use crate::time::Instant;
use std::fmt;
use std::time::Duration;

/// How eagerly a lease fetches. One value each for key sets and tokens, with the origin of its numbers.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The least time between the starts of two fetches, whatever the provider says.
    pub min_interval: Duration,
    /// Backoff after the first passing failure; doubles with each further one.
    pub base: Duration,
    /// The longest backoff, as long as there has been no value that shows how often one is needed.
    pub cap: Duration,
    /// The widest gap between attempts at a provider that stays away, where the value's own period does not ask for less.
    pub max_gap: Duration,
    /// The longest backoff after a failure that cost the provider nothing, as no connection was made, while there is no value.
    pub unreachable_cap: Duration,
    /// Backoff after a failure that only an operator can mend (wrong secret, unknown scope).
    pub config_base: Duration,
    /// The longest of those.
    pub config_cap: Duration,
    /// The longest of those while requests need the value.
    pub config_urgent: Duration,
    /// The longest `Retry-After` that is obeyed (RFC 9110 section 10.2.3).
    pub retry_after_cap: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How long the first fetch may take after the provider could not be reached: a whole fleet asks then, and an answer that is
    /// given up is work that the provider does for nothing.
    pub recovery_timeout: Duration,
}

impl Default for RetryPolicy {
    /// Exponential backoff with full jitter: AWS Architecture Blog, "Exponential Backoff And Jitter"; 1 s to 30 s as
    /// most clients do. Faults of configuration start at 30 s, since a rotated secret may heal them by itself.
    fn default() -> Self {
        Self {
            min_interval: Duration::from_secs(1),
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            // For whatever is renewed every seven minutes or less often.
            max_gap: Duration::from_secs(160),
            unreachable_cap: Duration::from_secs(20),
            config_base: Duration::from_secs(30),
            config_cap: Duration::from_secs(300),
            config_urgent: Duration::from_secs(30),
            retry_after_cap: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
            // A fleet that comes back within 20 s, before a provider with three times its normal load, is answered within this.
            recovery_timeout: Duration::from_secs(60),
        }
    }
}

/// One running fetch; its answer counts only while it is the running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u64);

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

/// One fetched value.
pub struct Lease<T> {
    policy: RetryPolicy,
    current: Option<StoredValue<T>>,
    in_flight: Option<InFlight>,
    attempts: u64,
    /// Whether the renewal that is to come is for the sake of a doubt.
    refresh_requested: bool,
    refresh_requested_at: Option<Instant>,
    backoff: Backoff,
    /// How often the fetch was made again by another secret since it last ended.
    secret_retries: usize,
}

/// What failed fetches have led to. Workers of one process share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Failures since the last success.
    pub failures: u32,
    /// Those since the provider could not be reached: none of them was free for it.
    pub costly_failures: u32,
    /// When the next fetch may begin.
    pub not_before: Instant,
    /// When it may begin if requests need the value.
    pub urgent_not_before: Instant,
    /// Until when the provider asks for patience (`Retry-After`).
    pub retry_after_until: Instant,
}

struct StoredValue<T> {
    value: T,
    /// How often it is renewed when nothing is wrong.
    period: Duration,
    fetched_at: Instant,
    renew_at: Instant,
    end_at: Instant,
}

#[derive(Debug)]
struct InFlight {
    attempt: Attempt,
    start: Instant,
    deadline: Instant,
}

/// After this many failures in a row requests that need the value are refused at once, instead of being held.
const PATIENCE: u32 = 2;

/// A retry that is further away than this is not waited for: it covers the first backoff and the floor.
const SOON: Duration = Duration::from_secs(2);

/// How far apart the attempts at a value near its end are: the floor, and up to this much more, so 2 s on average. That is
/// what Envoy's own `credential_injector` does all the time, and it leaves a request time to wait for the next attempt.
const JITTER: Duration = Duration::from_secs(2);

/// How long a value that has ended is still worth haste, and waiting for: a provider that is back in that time has cost
/// nobody a request, and one that is not has been asked five times more.
const GRACE: Duration = Duration::from_secs(10);

/// What a fetch may outlast its timeout by before it counts as lost: the host's timer comes first.
const LOST_MARGIN: Duration = Duration::from_secs(1);

/// The longest backoff is reached well before 2^16.
const MAX_DOUBLINGS: u32 = 16;

impl<T> Lease<T> {
    /// A lease that holds nothing and is due at once.
    pub fn new(pace: RetryPolicy) -> Self {
        Self {
            policy: pace,
            current: None,
            in_flight: None,
            attempts: 0,
            refresh_requested: false,
            refresh_requested_at: None,
            backoff: Backoff::default(),
            secret_retries: 0,
        }
    }

    /// A lease on a value that needs no fetching and never ends.
    pub fn fixed(value: T) -> Self {
        let forever = Instant(Duration::MAX);
        Self {
            current: Some(StoredValue {
                value,
                period: Duration::MAX,
                fetched_at: forever,
                renew_at: forever,
                end_at: forever,
            }),
            ..Self::new(RetryPolicy::default())
        }
    }

    /// The value, while it is good.
    pub fn value(&self, now: Instant) -> Option<&T> {
        self.current.as_ref().filter(|held| now < held.end_at).map(|held| &held.value)
    }

    /// The value last fetched, good or not.
    pub fn last_value(&self) -> Option<&T> {
        self.current.as_ref().map(|held| &held.value)
    }

    /// The same, to change what is known of it beside.
    pub fn last_value_mut(&mut self) -> Option<&mut T> {
        self.current.as_mut().map(|held| &mut held.value)
    }

    /// What a request can expect that can wait for so long.
    pub fn availability(&self, now: Instant, patience: Duration) -> Availability<'_, T> {
        let wait = if self.in_flight() { Duration::ZERO } else { self.next_start().since(now) };
        match self.value(now) {
            Some(value) => Availability::Ready(value),
            None if wait <= patience => Availability::Pending,
            None => Availability::Unavailable(wait),
        }
    }

    /// The same where a failing fetch is not waited for much: the first retry is, and haste around a value's end.
    pub fn short_availability(&self, now: Instant) -> Availability<'_, T> {
        if let Some(value) = self.value(now) {
            Availability::Ready(value)
        } else {
            let wait = self.next_start().since(now);
            let first = self.backoff.failures < PATIENCE && wait <= SOON;
            let again = self.remaining(now).is_some() && wait <= self.policy.base.saturating_add(JITTER);
            if first || again { Availability::Pending } else { Availability::Unavailable(wait) }
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.backoff.failures
    }

    /// Whether a fetch is running.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// When the fetch began that brought the value: what changed at the provider since then is not in it.
    pub fn fetched_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|held| held.fetched_at)
    }

    /// When the last fetch began that was for the sake of a doubt.
    pub fn refresh_requested_at(&self) -> Option<Instant> {
        self.refresh_requested_at
    }

    /// When to look at this lease again: to begin a fetch, or to give up the running one.
    pub fn next_event(&self) -> Instant {
        self.in_flight.as_ref().map_or_else(|| self.next_start(), |flight| flight.deadline)
    }

    /// Whether a fetch should begin now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.in_flight.is_none() && self.next_start() <= now
    }

    /// A fetch begins. None while another one runs.
    pub fn begin(&mut self, now: Instant) -> Option<Attempt> {
        if self.in_flight.is_some() {
            return None;
        }
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = Attempt(self.attempts);
        if self.refresh_requested {
            self.refresh_requested_at = Some(now);
        }
        let deadline = now + self.longest_fetch(now);
        self.in_flight = Some(InFlight { attempt, start: now, deadline });
        Some(attempt)
    }

    /// A fetch ended. False, and nothing changes, when it is not the running one.
    pub fn finish(
        &mut self,
        attempt: Attempt,
        now: Instant,
        outcome: Result<Fetched<T>, FetchError>,
        dice: &mut Rng,
    ) -> bool {
        let Some(flight) = self.in_flight.take_if(|flight| flight.attempt == attempt) else {
            return false;
        };
        self.secret_retries = 0;
        let floor = flight.start + self.policy.min_interval;
        match outcome {
            Ok(fresh) => {
                // A fleet that is back at one time need not renew at one time.
                let is_back = self.backoff.failures > 0 && self.value(now).is_none();
                let half = if is_back { fresh.renew_after / 2 } else { Duration::ZERO };
                let renew_after = fresh.renew_after.saturating_sub(dice.duration_up_to(half));
                self.store(flight.start, Fetched { renew_after, ..fresh });
            }
            Err(failure) => {
                let asked = failure.retry_after.unwrap_or_default().min(self.policy.retry_after_cap);
                let at_once = failure.kind == FetchErrorKind::ConnectionClosed && self.backoff.failures == 0;
                let (wait, urgent) = self.backoff_after(&failure, now, dice);
                let then = |wait: Duration| if at_once { now } else { floor.max(now + wait.max(asked)) };
                self.backoff = Backoff {
                    failures: self.backoff.failures.saturating_add(1),
                    costly_failures: if failure.no_connection {
                        0
                    } else {
                        self.backoff.costly_failures.saturating_add(1)
                    },
                    not_before: then(wait),
                    urgent_not_before: then(urgent),
                    retry_after_until: now + asked,
                };
            }
        }
        true
    }

    /// Whether this is the running fetch.
    pub fn is_running(&self, attempt: Attempt) -> bool {
        self.in_flight.as_ref().is_some_and(|flight| flight.attempt == attempt)
    }

    /// The fetch ended, and is to begin once more at once: no failure, no backoff. False when it is not the running one.
    pub fn restart(&mut self, attempt: Attempt) -> bool {
        self.in_flight.take_if(|flight| flight.attempt == attempt).is_some()
    }

    /// The same, by another secret.
    pub fn restart_with_next_secret(&mut self, attempt: Attempt) -> bool {
        self.secret_retries = self.secret_retries.saturating_add(1);
        self.restart(attempt)
    }

    /// How often the fetch was made again by another secret since it last ended.
    pub fn secret_retries(&self) -> usize {
        self.secret_retries
    }

    /// Somebody else fetched this value, in a fetch that began at `start`: it counts as if it had been this lease's. False,
    /// and nothing changes, when this lease holds one that is not older.
    pub fn adopt(&mut self, start: Instant, fresh: Fetched<T>) -> bool {
        let newer = self.fetched_at() < Some(start);
        if newer {
            self.store(start, fresh);
        }
        newer
    }

    /// Another worker's attempts at this value: the same backoff holds here, within this pace's bound, and a renewal that was
    /// made because of a doubt need not be made again.
    pub fn adopt_backoff(&mut self, backoff: Backoff, doubted_at: Option<Instant>, now: Instant) {
        // The other worker may have had a configuration with a longer bound.
        let latest = (now + self.policy.max_gap).max(backoff.retry_after_until);
        let not_before = backoff.not_before.min(latest);
        self.backoff =
            Backoff { not_before, urgent_not_before: backoff.urgent_not_before.min(not_before), ..backoff };
        self.refresh_requested_at = self.refresh_requested_at.max(doubted_at);
    }

    /// How long a fetch that begins now may take.
    pub fn fetch_timeout(&self, now: Instant) -> Duration {
        let Backoff { failures, costly_failures: burdens, .. } = self.backoff;
        let recovers = failures > 0 && burdens == 0 && self.value(now).is_none();
        if recovers { self.policy.timeout.max(self.policy.recovery_timeout) } else { self.policy.timeout }
    }

    /// How long it may take before it counts as lost.
    pub fn longest_fetch(&self, now: Instant) -> Duration {
        self.fetch_timeout(now).saturating_add(LOST_MARGIN)
    }

    /// What failed fetches have led to.
    pub fn backoff(&self) -> Backoff {
        self.backoff
    }

    fn store(&mut self, start: Instant, fresh: Fetched<T>) {
        self.refresh_requested = false;
        let (renew_at, end_at) = (start + fresh.renew_after, start + fresh.end_after);
        let (value, period) = (fresh.value, fresh.renew_after);
        self.current = Some(StoredValue { value, period, fetched_at: start, renew_at, end_at });
        let floor = start + self.policy.min_interval;
        self.backoff = Backoff { not_before: floor, urgent_not_before: floor, ..Backoff::default() };
    }

    /// Ends a fetch whose answer never came.
    pub fn give_up_lost(&mut self, now: Instant, dice: &mut Rng) -> bool {
        let lost =
            self.in_flight.as_ref().filter(|flight| flight.deadline <= now).map(|flight| flight.attempt);
        lost.is_some_and(|attempt| {
            let failure = FetchError::new(FetchErrorKind::Timeout, "the answer never came");
            self.finish(attempt, now, Err(failure), dice)
        })
    }

    /// The value proved doubtful: renew it at this time, if it is not to be renewed earlier.
    ///
    /// It stays in use meanwhile. The backoff of a failing provider is kept.
    pub fn refresh_soon(&mut self, at: Instant) {
        if let Some(held) = self.current.as_mut().filter(|held| at < held.renew_at) {
            held.renew_at = at;
            self.refresh_requested = true;
        }
    }

    /// A request needs what the provider has not brought: it is asked as soon as need allows.
    pub fn expedite_retry(&mut self) {
        self.backoff.not_before = self.backoff.not_before.min(self.backoff.urgent_not_before);
    }

    fn next_start(&self) -> Instant {
        let wish = self.current.as_ref().map_or(Instant::default(), |held| held.renew_at.min(held.end_at));
        wish.max(self.backoff.not_before)
    }

    /// What is left of the value, nothing if it has ended just now; none when there is none, or none for longer.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let end = self.current.as_ref()?.end_at;
        (now < end + GRACE).then(|| end.since(now))
    }

    /// The shortest and the longest wait for a provider that stays away. Without a value to go by, full jitter; with one, a share
    /// of its period, so that a fleet asks less than three times as often as when all is well, and hardly varies in it.
    fn wait_bounds(&self) -> (Duration, Duration) {
        match &self.current {
            None => (Duration::ZERO, self.policy.cap.min(self.policy.max_gap)),
            Some(held) => {
                let most = (held.period / 16).saturating_mul(9).clamp(self.policy.base, self.policy.max_gap);
                (most / 3 * 2, most)
            }
        }
    }

    /// How long to wait after this failure, and how long if requests need the value. Where nothing else is said, full jitter:
    /// anything from zero to the exponential bound. While there is a value, a passing failure is tried again within half of
    /// what is left of it; near its end in haste, so that a provider that is back in time costs nobody a request.
    fn backoff_after(&self, failure: &FetchError, now: Instant, dice: &mut Rng) -> (Duration, Duration) {
        let RetryPolicy {
            base,
            cap,
            max_gap: widest,
            unreachable_cap,
            config_base,
            config_cap,
            config_urgent,
            ..
        } = self.policy;
        let doubled = |base: Duration, times: u32| base.saturating_mul(1 << times.min(MAX_DOUBLINGS));
        let mut between = |least: Duration, most: Duration| {
            least.saturating_add(dice.duration_up_to(most.saturating_sub(least)))
        };
        let Backoff { failures, costly_failures: burdens, .. } = self.backoff;
        let (least, most) = self.wait_bounds();
        let bound = doubled(base, failures).min(most);
        let reach = unreachable_cap.min(widest);
        let refused = doubled(unreachable_cap, burdens);
        let wait = match self.remaining(now) {
            _ if failure.kind == FetchErrorKind::Configuration && config_base > base => {
                let wait = between(Duration::ZERO, doubled(config_base, failures).min(config_cap));
                return (wait, wait.min(between(config_urgent / 2, config_urgent)));
            }
            Some(left) if left / 2 < JITTER => {
                // Before the end, as long as there is time: the last one comes in the last second.
                let room = left.checked_sub(base).map_or(JITTER, |room| (room / 4 * 3).min(JITTER));
                bound.min(between(base, base.saturating_add(room)))
            }
            Some(left) if left / 2 < most => between(Duration::ZERO, left / 2),
            None if failure.no_connection && bound < reach => between(Duration::ZERO, bound),
            None if failure.no_connection => between(reach / 2, reach),
            // It answers, and so knows what it bears: less and less often, down to what a fleet of any size may.
            None if self.current.is_some() && failure.kind != FetchErrorKind::Timeout && refused < most => {
                between(refused / 2, refused)
            }
            _ if bound < most => between(Duration::ZERO, bound),
            _ => between(least, most),
        };
        // A value that is still good, but lacks something, is worth as much as none.
        let urgent = if self.remaining(now).is_some() { wait.min(cap) } else { wait };
        (wait, urgent)
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
    use super::*;
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
            let (mut lease, mut dice) = (Lease::new(RetryPolicy::default()), Rng::new(seed));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 10_000, 20_000)), &mut dice);
            while lease.next_event() < at(18_000) {
                let now = lease.next_event();
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, failed(), &mut dice);
                assert!(lease.next_event() <= at(20_000), "seed {seed}: {:?}", lease.next_event());
            }
        }
    }

    #[test]
    fn near_its_end_a_value_is_tried_for_in_haste_but_once_in_two_seconds_on_average() {
        let (mut near, mut span) = (0_u32, Duration::ZERO);
        for seed in 0..1000 {
            let (mut lease, mut dice) = (Lease::new(RetryPolicy::default()), Rng::new(seed));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 21_000, 27_000)), &mut dice);
            let mut starts = Vec::new();
            while lease.next_event() < at(37_000) {
                let now = lease.next_event();
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, failed(), &mut dice);
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
        let mut dice = Rng::new(3);
        let mut fail = |lease: &mut Lease<u64>, cause| {
            let now = lease.next_event();
            let attempt = lease.begin(now).unwrap();
            lease.finish(attempt, now, Err(FetchError::new(cause, "")), &mut dice);
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
        let mut dice = Rng::new(1);
        let mut fail = |lease: &mut Lease<u64>, cause, no_connection| {
            let now = lease.next_event();
            let attempt = lease.begin(now).unwrap();
            let failure = FetchError { no_connection, ..FetchError::new(cause, "") };
            lease.finish(attempt, now, Err(failure), &mut dice);
            lease.fetch_timeout(lease.next_event()).as_secs()
        };
        assert_eq!(lease.fetch_timeout(at(0)).as_secs(), 5);
        assert_eq!(fail(&mut lease, FetchErrorKind::Unreachable, true), 60);
        assert_eq!(fail(&mut lease, FetchErrorKind::Timeout, false), 5, "one that hangs does not hold us up");
        assert_eq!(fail(&mut lease, FetchErrorKind::Unreachable, true), 60);
        let attempt = lease.begin(lease.next_event()).unwrap();
        lease.finish(attempt, at(500_000), Ok(fresh(1, 1000, 2000)), &mut Rng::new(1));
        assert_eq!(lease.fetch_timeout(at(600_000)).as_secs(), 5);
    }

    #[test]
    fn one_that_turns_requests_away_is_asked_less_and_less_often_and_one_that_hangs_at_once() {
        let gaps = |cause| {
            let (mut lease, mut dice) = (Lease::new(RetryPolicy::default()), Rng::new(7));
            let attempt = lease.begin(at(0)).unwrap();
            lease.finish(attempt, at(0), Ok(fresh(1, 224_000, 224_000)), &mut dice);
            let mut fail = |now: Instant, failure: FetchError| {
                let attempt = lease.begin(now).unwrap();
                lease.finish(attempt, now, Err(failure), &mut dice);
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
            let mut dice = Rng::new(seed);
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
                            let reached = lease.backoff.costly_failures > 0 || lease.failures() == 0;
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
                        prop_assert!(lease.finish(attempt, now, Ok(fresh(serial, renew, end)), &mut dice));
                        good = Some((serial, start + Duration::from_millis(end)));
                    },
                    Event::Fail { configuration, no_connection, retry_after } => if let Some((attempt, _)) = running.take() {
                        let kind = if configuration { FetchErrorKind::Configuration } else { FetchErrorKind::ServerError };
                        let retry_after = retry_after.map(Duration::from_millis);
                        let failure = FetchError { kind, retry_after, no_connection, detail: String::new() };
                        prop_assert!(lease.finish(attempt, now, Err(failure), &mut dice));
                        let wait = lease.next_event().since(now);
                        let asked = retry_after.unwrap_or_default().min(pace.retry_after_cap);
                        let gone = lease.remaining(now).is_none();
                        let cap = match (configuration, no_connection && gone) {
                            (true, _) => pace.config_cap,
                            (_, true) => pace.unreachable_cap,
                            (_, false) => pace.cap.max(lease.wait_bounds().1),
                        };
                        // A value still fresh is not renewed before its time, whatever the backoff.
                        let renewal = lease.current.as_ref().map_or(Duration::ZERO, |held| held.renew_at.since(now));
                        prop_assert!(wait >= asked, "earlier than the provider asked");
                        prop_assert!(lease.backoff.urgent_not_before >= now + asked, "no need is as urgent as that");
                        prop_assert!(lease.backoff.urgent_not_before <= lease.backoff.not_before, "need makes it no later");
                        if let Some(left) = lease.remaining(now).filter(|_| !configuration) {
                            let soon = (left / 2).max(pace.base + JITTER).max(asked).max(renewal);
                            prop_assert!(wait <= soon, "later than a value with {:?} left can wait", left);
                        }
                        prop_assert!(wait <= cap.max(asked).max(pace.min_interval).max(renewal), "later than the cap");
                    },
                    Event::Doubt => lease.refresh_soon(now),
                    Event::Tick => {
                        let lost = lease.give_up_lost(now, &mut dice);
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
