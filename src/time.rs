//! Time: moments on the monotonic clock, and what time it is on both clocks.

pub mod clock;
