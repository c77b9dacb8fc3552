//! How fast the line of those that wait for a fetch moves: as fast as it may, and as fast as the
//! provider can.
//!
//! In: when fetches begin and end. Out: when the next one may begin, and how long a line may be in
//! which one still waits in time.

use crate::time::Instant;
use std::time::Duration;

/// How often a provider may be asked about tokens of which nothing good is known. Bursts of one
/// second's worth are allowed.
pub(super) struct RateLimit {
    per_second: u32,
    /// When the next one would come if they came evenly (the virtual scheduling of GCRA, ITU-T
    /// I.371).
    even: Instant,
}

const BURST: Duration = Duration::from_secs(1);

impl RateLimit {
    pub(super) fn of(per_second: u32) -> Self {
        Self { per_second, even: Instant::default() }
    }

    pub(super) fn next(&self) -> Instant {
        Instant(self.even.0.saturating_sub(BURST))
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.even = self.even.max(now) + BURST / self.per_second.max(1);
    }

    /// The longest line of those that have their turn within that many seconds.
    pub(super) fn max_queue_length(&self, seconds: usize) -> usize {
        usize::try_from(self.per_second).unwrap_or(usize::MAX).saturating_mul(seconds)
    }
}

/// How many fetches end in a second while as many run as may: what the provider can do.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// Since when as many run as may, or the count began anew.
    since: Option<Instant>,
    count: u32,
    /// What was found last: so many in that time.
    found: Option<(u32, Duration)>,
}

/// How long is counted.
const SPAN: Duration = Duration::from_secs(1);

impl Throughput {
    /// As many run as may.
    pub(super) fn busy(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Another one could run: the provider's limit is not known any more.
    pub(super) fn idle(&mut self) {
        *self = Self::default();
    }

    /// A fetch ended.
    pub(super) fn ended(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        self.count = self.count.saturating_add(1);
        let span = now.since(since);
        if span >= SPAN {
            self.found = Some((self.count, span));
            (self.since, self.count) = (Some(now), 0);
        }
    }

    /// The longest line of those that have their turn within that time; none while the provider's
    /// limit is not known.
    pub(super) fn max_queue_length(&self, within: Duration) -> Option<usize> {
        let (count, span) = self.found?;
        let times = within.as_millis().saturating_mul(u128::from(count));
        let line = times.checked_div(span.as_millis()).unwrap_or(u128::MAX);
        Some(usize::try_from(line).unwrap_or(usize::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(millis))
    }

    #[test]
    fn a_line_is_as_long_as_the_provider_can_shorten_it_in_time() {
        let mut throughput = Throughput::default();
        throughput.ended(at(0));
        assert_eq!(throughput.max_queue_length(Duration::from_secs(3)), None, "it could do more");
        throughput.busy(at(0));
        for n in 1..=50 {
            throughput.ended(at(n * 20));
        }
        assert_eq!(throughput.max_queue_length(Duration::from_secs(3)), Some(150));
        // A provider that hangs shortens no queue; one request may wait, so that a recovery is
        // noticed.
        throughput.ended(at(61_000));
        assert_eq!(throughput.max_queue_length(Duration::from_secs(3)), Some(1));
        throughput.idle();
        assert_eq!(throughput.max_queue_length(Duration::from_secs(3)), None);
    }
}
