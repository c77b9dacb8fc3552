//! When to fetch a value, when to renew it, when to back off, and when it has ended: all of a lease
//! but the value.
//!
//! In: "a fetch begins", "a fetch ended so", the time. Out: when to look again. The laws are those
//! of the [lease](super::Lease).

use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::rng::Rng;
use crate::time::Instant;
use std::time::Duration;

/// How eagerly a lease fetches. One value each for key sets and tokens, with the origin of its
/// numbers.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The least time between the starts of two fetches, whatever the provider says.
    pub min_interval: Duration,
    /// Backoff after the first passing failure; doubles with each further one.
    pub base: Duration,
    /// The longest backoff, as long as there has been no value that shows how often one is needed.
    pub cap: Duration,
    /// The widest gap between attempts at a provider that stays away, where the value's own period
    /// does not ask for less.
    pub max_gap: Duration,
    /// The longest backoff after a failure that cost the provider nothing, as no connection was
    /// made, while there is no value.
    pub unreachable_cap: Duration,
    /// Backoff after a failure that only an operator can fix (wrong secret, unknown scope).
    pub config_base: Duration,
    /// The longest of those.
    pub config_cap: Duration,
    /// The longest of those while requests need the value.
    pub config_urgent: Duration,
    /// The longest `Retry-After` that is obeyed (RFC 9110 section 10.2.3).
    pub retry_after_cap: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How long the first fetch may take after the provider could not be reached: a whole fleet
    /// asks then, and an answer that is given up is work that the provider does for nothing.
    pub recovery_timeout: Duration,
}

impl Default for RetryPolicy {
    /// Exponential backoff with full jitter: AWS Architecture Blog, "Exponential Backoff And
    /// Jitter"; 1 s to 30 s as most clients do. Faults of configuration start at 30 s, since a
    /// rotated secret may heal them by itself.
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
            // A fleet that comes back within 20 s, before a provider with three times its normal
            // load, is answered within this.
            recovery_timeout: Duration::from_secs(60),
        }
    }
}

/// One running fetch; its answer counts only while it is the running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u64);

/// When one value is fetched and renewed.
#[derive(Debug)]
pub struct Schedule {
    policy: RetryPolicy,
    /// The times of the value, if there is one.
    current: Option<Period>,
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

/// From the fetch of a value to its end.
#[derive(Clone, Copy, Debug)]
struct Period {
    /// How often it is renewed when nothing is wrong.
    length: Duration,
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

/// After this many failures in a row requests that need the value are refused at once, instead of
/// being held.
const PATIENCE: u32 = 2;

/// A retry that is further away than this is not waited for: it covers the first backoff and the
/// floor.
const SOON: Duration = Duration::from_secs(2);

/// How far apart the attempts at a value near its end are: the floor, and up to this much more, so
/// 2 s on average. That is what Envoy's own `credential_injector` does all the time, and it leaves
/// a request time to wait for the next attempt.
pub(super) const JITTER: Duration = Duration::from_secs(2);

/// How long a value that has ended is still worth haste, and waiting for: a provider that is back
/// in that time has cost nobody a request, and one that is not has been asked five times more.
const GRACE: Duration = Duration::from_secs(10);

/// What a fetch may outlast its timeout by before it counts as lost: the host's timer comes first.
pub(super) const LOST_MARGIN: Duration = Duration::from_secs(1);

/// The longest backoff is reached well before 2^16.
const MAX_DOUBLINGS: u32 = 16;

impl Schedule {
    /// Of a value that is not here yet, and due at once.
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            current: None,
            in_flight: None,
            attempts: 0,
            refresh_requested: false,
            refresh_requested_at: None,
            backoff: Backoff::default(),
            secret_retries: 0,
        }
    }

    /// Of a value that needs no fetching and never ends.
    pub(super) fn fixed() -> Self {
        let forever = Instant(Duration::MAX);
        let current =
            Period { length: Duration::MAX, fetched_at: forever, renew_at: forever, end_at: forever };
        Self { current: Some(current), ..Self::new(RetryPolicy::default()) }
    }

    /// Whether there is a value that has not ended.
    pub fn has_value(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|period| now < period.end_at)
    }

    /// How long one who needs the value waits at least for a fetch to begin.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.in_flight() { Duration::ZERO } else { self.next_start().since(now) }
    }

    /// How long until the next fetch begins, and whether that is waited for where a failing fetch
    /// is not waited for much: the first retry is, and haste around a value's end.
    pub(super) fn short_wait(&self, now: Instant) -> (Duration, bool) {
        let wait = self.next_start().since(now);
        let first = self.backoff.failures < PATIENCE && wait <= SOON;
        let again = self.remaining(now).is_some() && wait <= self.policy.base.saturating_add(JITTER);
        (wait, first || again)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.backoff.failures
    }

    /// Whether a fetch is running.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// When the fetch began that brought the value: what changed at the provider since then is not
    /// in it.
    pub fn fetched_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|period| period.fetched_at)
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

    /// A fetch brought a value. False, and nothing changes, when it is not the running one.
    pub(super) fn succeed(
        &mut self,
        attempt: Attempt,
        now: Instant,
        (renew_after, end_after): (Duration, Duration),
        rng: &mut Rng,
    ) -> bool {
        let Some(flight) = self.in_flight.take_if(|flight| flight.attempt == attempt) else {
            return false;
        };
        self.secret_retries = 0;
        // A fleet that is back at one time need not renew at one time.
        let is_back = self.backoff.failures > 0 && !self.has_value(now);
        let half = if is_back { renew_after / 2 } else { Duration::ZERO };
        let renew_after = renew_after.saturating_sub(rng.duration_up_to(half));
        self.store(flight.start, renew_after, end_after);
        true
    }

    /// A fetch failed. False, and nothing changes, when it is not the running one.
    pub fn fail(&mut self, attempt: Attempt, now: Instant, failure: &FetchError, rng: &mut Rng) -> bool {
        let Some(flight) = self.in_flight.take_if(|flight| flight.attempt == attempt) else {
            return false;
        };
        self.secret_retries = 0;
        let floor = flight.start + self.policy.min_interval;
        let asked = failure.retry_after.unwrap_or_default().min(self.policy.retry_after_cap);
        let at_once = failure.kind == FetchErrorKind::ConnectionClosed && self.backoff.failures == 0;
        let (wait, urgent) = self.backoff_after(failure, now, rng);
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
        true
    }

    /// Whether this is the running fetch.
    pub fn is_running(&self, attempt: Attempt) -> bool {
        self.in_flight.as_ref().is_some_and(|flight| flight.attempt == attempt)
    }

    /// The fetch ended, and is to begin once more at once: no failure, no backoff. False when it is
    /// not the running one.
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

    /// Another worker's attempts at this value: the same backoff holds here, within this pace's
    /// bound, and a renewal that was made because of a doubt need not be made again.
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
        let Backoff { failures, costly_failures, .. } = self.backoff;
        let recovers = failures > 0 && costly_failures == 0 && !self.has_value(now);
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

    /// There is a value, of a fetch that began at `start`.
    pub(super) fn store(&mut self, start: Instant, renew_after: Duration, end_after: Duration) {
        self.refresh_requested = false;
        let (renew_at, end_at) = (start + renew_after, start + end_after);
        self.current = Some(Period { length: renew_after, fetched_at: start, renew_at, end_at });
        let floor = start + self.policy.min_interval;
        self.backoff = Backoff { not_before: floor, urgent_not_before: floor, ..Backoff::default() };
    }

    /// Ends a fetch whose answer never came.
    pub fn give_up_lost(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let lost =
            self.in_flight.as_ref().filter(|flight| flight.deadline <= now).map(|flight| flight.attempt);
        lost.is_some_and(|attempt| {
            let failure = FetchError::new(FetchErrorKind::Timeout, "the answer never came");
            self.fail(attempt, now, &failure, rng)
        })
    }

    /// The value proved doubtful: renew it at this time, if it is not to be renewed earlier.
    ///
    /// It stays in use meanwhile. The backoff of a failing provider is kept.
    pub fn refresh_soon(&mut self, at: Instant) {
        if let Some(period) = self.current.as_mut().filter(|period| at < period.renew_at) {
            period.renew_at = at;
            self.refresh_requested = true;
        }
    }

    /// A request needs what the provider has not brought: it is asked as soon as need allows.
    pub fn expedite_retry(&mut self) {
        self.backoff.not_before = self.backoff.not_before.min(self.backoff.urgent_not_before);
    }

    /// When the next fetch may begin, if none runs.
    fn next_start(&self) -> Instant {
        let wish =
            self.current.as_ref().map_or(Instant::default(), |period| period.renew_at.min(period.end_at));
        wish.max(self.backoff.not_before)
    }

    /// When the value ends, if there is one.
    pub fn ends_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|period| period.end_at)
    }

    /// What is left of the value, nothing if it has ended just now; none when there is none, or
    /// none for longer.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        let end = self.current.as_ref()?.end_at;
        (now < end + GRACE).then(|| end.since(now))
    }

    /// The shortest and the longest wait for a provider that stays away. Without a value to go by,
    /// full jitter; with one, a share of its period, so that a fleet asks less than three times as
    /// often as when all is well, and hardly varies in it.
    pub(super) fn wait_bounds(&self) -> (Duration, Duration) {
        match &self.current {
            None => (Duration::ZERO, self.policy.cap.min(self.policy.max_gap)),
            Some(period) => {
                let most =
                    (period.length / 16).saturating_mul(9).clamp(self.policy.base, self.policy.max_gap);
                (most / 3 * 2, most)
            }
        }
    }

    /// How long after `now` the value is to be renewed.
    #[cfg(test)]
    pub(super) fn renewal(&self, now: Instant) -> Duration {
        self.current.as_ref().map_or(Duration::ZERO, |period| period.renew_at.since(now))
    }

    /// How long to wait after this failure, and how long if requests need the value. Where nothing
    /// else is said, full jitter: anything from zero to the exponential bound. While there is a
    /// value, a passing failure is tried again within half of what is left of it; near its end in
    /// haste, so that a provider that is back in time costs nobody a request.
    fn backoff_after(&self, failure: &FetchError, now: Instant, rng: &mut Rng) -> (Duration, Duration) {
        let RetryPolicy {
            base, cap, max_gap, unreachable_cap, config_base, config_cap, config_urgent, ..
        } = self.policy;
        let doubled = |base: Duration, times: u32| base.saturating_mul(1 << times.min(MAX_DOUBLINGS));
        let mut between = |least: Duration, most: Duration| {
            least.saturating_add(rng.duration_up_to(most.saturating_sub(least)))
        };
        let Backoff { failures, costly_failures, .. } = self.backoff;
        let (least, most) = self.wait_bounds();
        let bound = doubled(base, failures).min(most);
        let reach = unreachable_cap.min(max_gap);
        let refused = doubled(unreachable_cap, costly_failures);
        let wait = match self.remaining(now) {
            // It costs the provider nothing, and what is missing may come at any time.
            _ if failure.kind == FetchErrorKind::SecretUnavailable => {
                let wait = between(base, base.saturating_mul(2));
                return (wait, wait);
            }
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
            // It answers, and so knows what it bears: less and less often, down to what a fleet of
            // any size may.
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
