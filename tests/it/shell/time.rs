//! The two clocks: what others wrote down is judged by the wall clock, what we measure by the
//! monotonic one.

use super::clock;
use super::scene::{bearing, both_ways, inbound, outbound, plain, token};
use super::vm::Vm;
use std::time::Duration;

const START: i64 = 1_800_000_000;

#[test]
fn a_callers_token_ends_when_the_wall_clock_says_so() {
    let vm = Vm::ready(&inbound());
    let token = token();
    // 300 s, and 60 s for skewed clocks.
    vm.live(Duration::from_secs(355));
    assert!(vm.request(bearing(&token)).is_forwarded());
    vm.live(Duration::from_secs(10));
    assert_eq!(vm.request(bearing(&token)).outcome(), (401, "expired".to_owned()));
}

#[test]
fn a_step_of_the_wall_clock_is_noticed_within_a_second() {
    let vm = Vm::ready(&inbound());
    for (step, reason) in [(3600, "expired"), (-3600, "not_yet_valid")] {
        let token = token();
        clock::set_wall(START.saturating_add(step));
        vm.pass(Duration::from_secs(1));
        assert_eq!(vm.request(bearing(&token)).outcome(), (401, reason.to_owned()), "{step}");
        clock::set_wall(START + 5);
        vm.pass(Duration::from_secs(1));
        assert!(vm.request(bearing(&token)).is_forwarded(), "{step}");
    }
}

#[test]
fn a_known_caller_is_known_no_longer_when_a_step_of_the_wall_clock_ends_the_token() {
    let vm = Vm::ready(&inbound());
    let token = token();
    assert!(vm.request(bearing(&token)).is_forwarded());
    clock::set_wall(START + 3600);
    vm.pass(Duration::from_secs(1));
    assert_eq!(vm.request(bearing(&token)).outcome(), (401, "expired".to_owned()));
}

#[test]
fn a_wall_clock_before_1970_finds_every_token_too_early_and_ends_no_worker() {
    let vm = Vm::ready(&inbound());
    let token = token();
    for seconds in [-1, -1_000_000_000] {
        clock::set_wall(seconds);
        vm.pass(Duration::from_secs(1));
        assert_eq!(vm.request(bearing(&token)).outcome(), (401, "not_yet_valid".to_owned()));
    }
}

#[test]
fn a_wall_clock_that_is_set_back_ends_nothing_that_was_fetched() {
    let vm = Vm::ready(&both_ways());
    for step in [-86_400, -START, -START - 86_400] {
        clock::set_wall(START + step);
        assert_eq!(vm.live(Duration::from_secs(2)), 0, "{step}");
    }
}

#[test]
fn after_a_sleep_what_was_fetched_is_as_old_as_the_wall_clock_says_and_no_worker_ends() {
    let vm = Vm::ready(&outbound());
    for step in [3600, 20 * 366 * 86_400, i64::MAX / 1_000_000_000] {
        clock::set_wall(START.saturating_add(step));
        vm.pass(Duration::from_millis(100));
        assert!(!vm.request(plain()).is_forwarded(), "{step}: its token has ended");
        assert!(vm.live(Duration::from_secs(4)) > 0, "{step}: another one is fetched");
        assert!(vm.request(plain()).is_forwarded(), "{step}");
    }
}

#[test]
fn a_token_of_ours_is_not_sent_a_moment_after_its_end() {
    let vm = Vm::ready(&outbound());
    vm.host(|host| host.clusters.clear());
    // It was good for 300 s when it came, less a safety margin; the wall clock does not advance
    // meanwhile.
    vm.pass(Duration::from_secs(285));
    assert!(vm.request(plain()).is_forwarded());
    vm.pass(Duration::from_secs(15));
    clock::set_wall(START);
    let request = vm.request(plain());
    assert!(!request.is_forwarded());
    // Longer than it may be held for the next attempt.
    vm.pass(Duration::from_millis(5100));
    assert_eq!(request.outcome(), (503, "outbound_token_unavailable".to_owned()));
}

#[test]
fn a_machine_that_slept_catches_up_in_one_tick() {
    let vm = Vm::ready(&both_ways());
    clock::pass(Duration::from_hours(240));
    vm.record();
    vm.tick(vm.root());
    let calls = vm.record().into_iter().filter(|line| line.contains("http_call")).count();
    assert_eq!(calls, 2, "one fetch of each, not one for each that was missed");
    vm.serve();
    assert!(vm.request(bearing(&token())).is_forwarded());
}
