//! The current time from two clocks: the monotonic clock never steps and stops while the machine
//! sleeps, the wall clock may step and does not stop.
//!
//! In: the readings of both clocks. Out: [`Now`], whose instant is ahead of the monotonic clock by
//! the time that the machine has slept, so that everything with a lifetime expires by the clock
//! that reaches its end first. It reads no clock itself.

use crate::time::{Instant, Now};
use std::time::Duration;

/// How far the clocks may diverge before the machine counts as having slept, or its wall clock as
/// set: a time server that steps a clock corrects less, and a slow correction slews both.
pub const SLEEP_THRESHOLD: Duration = Duration::from_secs(5);

/// The last readings of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    last: ClockReading,
    /// The reading with which later ones are compared.
    reference: ClockReading,
    slept: Duration,
}

#[derive(Clone, Copy, Debug)]
struct ClockReading {
    monotonic: Duration,
    wall: Duration,
}

impl ClockReading {
    /// The wall clock at a later time, if it was not set since.
    fn extrapolate(self, monotonic: Duration) -> Duration {
        self.wall.saturating_add(monotonic.saturating_sub(self.monotonic))
    }
}

impl Clock {
    /// The first reading of the clocks; `wall` counts from 1970.
    pub fn start(monotonic: Duration, wall: Duration) -> Self {
        let reading = ClockReading { monotonic, wall };
        Self { last: reading, reference: reading, slept: Duration::ZERO }
    }

    /// The monotonic time of the last reading of the wall clock.
    pub fn read_at(&self) -> Duration {
        self.last.monotonic
    }

    /// Records a reading of both clocks. True if the machine has slept since, or its wall clock was
    /// set ahead.
    pub fn read(&mut self, monotonic: Duration, wall: Duration) -> bool {
        self.last = ClockReading { monotonic, wall };
        let expected = self.reference.extrapolate(monotonic);
        let slept = wall.saturating_sub(expected);
        if slept.max(expected.saturating_sub(wall)) > SLEEP_THRESHOLD {
            // A wall clock that was set back only changes the reference: nothing is kept longer
            // because of it.
            self.reference = self.last;
            self.slept = self.slept.saturating_add(slept);
        }
        slept > SLEEP_THRESHOLD
    }

    /// The time by the last reading.
    pub fn now(&self, monotonic: Duration) -> Now {
        let instant = Instant(monotonic.saturating_add(self.slept));
        Now { instant, unix: self.last.extrapolate(monotonic).as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_advance_by_the_time_that_the_machine_has_slept_and_never_go_back() {
        let secs = Duration::from_secs;
        let mut clock = Clock::start(secs(100), secs(1000));
        // How long after the start by either clock; whether it has slept, and the instant.
        for (monotonic, wall, slept, instant) in [
            (1, 1, false, 101),
            (2, 7, false, 102),
            (3, 9, true, 109),
            (4, 3600, true, 3700),
            (5, 0, false, 3701),
            (6, 1, false, 3702),
            (7, 100, true, 3801),
        ] {
            assert_eq!(clock.read(secs(100 + monotonic), secs(1000 + wall)), slept, "{monotonic} s");
            let now = Now { instant: Instant(secs(instant)), unix: 1000 + wall };
            assert_eq!(clock.now(secs(100 + monotonic)), now, "{monotonic} s");
        }
        assert_eq!(clock.now(secs(110)), Now { instant: Instant(secs(3804)), unix: 1103 });
    }
}
