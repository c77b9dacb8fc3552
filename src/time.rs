//! Time: instants on the monotonic clock, and the current time on both clocks.

pub mod clock;

use std::ops::Add;
use std::time::Duration;

/// An instant on the host's monotonic clock, from an arbitrary origin.
///
/// Lifetimes are measured with it, so that a step of the wall clock neither expires a valid token
/// nor keeps an expired one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub Duration);

impl Instant {
    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// The time at which an event happened, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For everything that the filter measures itself: lifetimes, backoff, deadlines.
    pub instant: Instant,
    /// Seconds since 1970-01-01T00:00:00Z, for times from others (`exp`, `nbf`, `iat`).
    pub unix: u64,
}
