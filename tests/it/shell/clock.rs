//! The clock of a test: real until it is frozen; from then on it moves only when the test moves it.
//!
//! `std` asks libc for the time. The linker lets this binary answer instead of libc, and it answers
//! each thread for itself: a thread that has not frozen its clock is passed on to libc and sees no
//! difference.

#![allow(unsafe_code, reason = "it replaces a function of libc")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

/// Where a frozen clock starts: 2027-01-15T08:00:00Z, on a machine that has been up for eleven
/// days.
const START: Frozen = Frozen { monotonic: Duration::from_secs(1_000_000), wall: 1_800_000_000_000_000_000 };

#[derive(Clone, Copy)]
struct Frozen {
    monotonic: Duration,
    /// Nanoseconds since 1970; less than zero is before.
    wall: i128,
}

thread_local! {
    static FROZEN: Cell<Option<Frozen>> = const { Cell::new(None) };
}

/// Stops this thread's clock.
pub(crate) fn freeze() {
    FROZEN.set(Some(START));
}

/// From now on this thread has the real clock again.
pub(crate) fn release() {
    FROZEN.set(None);
}

/// Runs at the time at which frozen clocks start, whatever time it is.
pub(crate) fn at_start<T>(run: impl FnOnce() -> T) -> T {
    let now = FROZEN.replace(Some(START));
    let result = run();
    FROZEN.set(now);
    result
}

/// Both clocks advance.
pub(crate) fn pass(span: Duration) {
    change(|frozen| {
        frozen.monotonic += span;
        frozen.wall += i128::try_from(span.as_nanos()).unwrap();
    });
}

/// Sets the wall clock; the monotonic one is not affected.
pub(crate) fn set_wall(seconds: i64) {
    change(|frozen| frozen.wall = i128::from(seconds) * 1_000_000_000);
}

/// Time since the start of the machine.
pub(crate) fn monotonic() -> Duration {
    FROZEN.get().unwrap().monotonic
}

fn change(change: impl FnOnce(&mut Frozen)) {
    let mut frozen = FROZEN.get().expect("a frozen clock");
    change(&mut frozen);
    FROZEN.set(Some(frozen));
}

/// `struct timespec` where both members are 64 bits wide.
#[repr(C)]
pub(crate) struct Timespec {
    seconds: i64,
    nanos: c_long,
}

const REALTIME: c_int = 0;

type ClockGettime = unsafe extern "C" fn(c_int, *mut Timespec) -> c_int;

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(which: c_int, at: *mut Timespec) -> c_int {
    let Some(frozen) = FROZEN.get() else {
        // SAFETY: the caller keeps the contract of the function that this passes on to.
        return unsafe { libc()(which, at) };
    };
    let nanos = if which == REALTIME {
        frozen.wall
    } else {
        i128::try_from(frozen.monotonic.as_nanos()).unwrap_or(0)
    };
    let second = 1_000_000_000;
    let time = Timespec {
        seconds: nanos.div_euclid(second).try_into().unwrap_or(i64::MAX),
        nanos: nanos.rem_euclid(second).try_into().unwrap_or(0),
    };
    // SAFETY: the caller hands over a `timespec` to write to.
    unsafe { at.write(time) };
    0
}

/// The libc function that this binary replaces.
fn libc() -> ClockGettime {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let mut found = FOUND.load(Ordering::Relaxed);
    if found.is_null() {
        // `RTLD_NEXT`: the one that would have been found without ours.
        let next = std::ptr::without_provenance_mut(usize::MAX);
        // SAFETY: a name that ends in zero; every libc has the function.
        found = unsafe { dlsym(next, c"clock_gettime".as_ptr()) };
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: it is the function of that name, which has this signature.
    unsafe { mem::transmute::<*mut c_void, ClockGettime>(found) }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is about these methods")]
fn a_frozen_clock_moves_only_when_a_test_moves_it() {
    use std::time::{Instant, SystemTime};
    let real = (Instant::now(), SystemTime::now());
    freeze();
    let (instant, wall) = (Instant::now(), SystemTime::now());
    pass(Duration::from_millis(1500));
    set_wall(-1);
    let (later, earlier) = (instant.elapsed(), SystemTime::UNIX_EPOCH.duration_since(SystemTime::now()));
    release();
    assert_eq!(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap(), Duration::from_hours(500_000));
    assert_eq!((later, earlier.unwrap()), (Duration::from_millis(1500), Duration::from_secs(1)));
    assert!(Instant::now() >= real.0 && SystemTime::now() >= real.1, "the real clock is as before");
}
