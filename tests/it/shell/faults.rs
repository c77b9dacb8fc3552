//! Every host call fails once, with every status there is, while requests are served. None is
//! forwarded that should not be, and once the host works again, so does the worker.

use super::clock;
use super::host::State;
use super::scene::{KEYS, bearing, both_ways, forged, plain, token, token_by};
use super::vm::{Request, Vm};
use m2m_auth_kit::token::SUBJECT;
use std::sync::LazyLock;
use std::time::Duration;

/// Every status of the ABI that a host call can end with, and one that there is not.
const STATUSES: [u32; 8] = [1, 2, 3, 4, 7, 8, 10, 99];

/// What the SDK's own wrapper takes for an answer to a call; on any other status it panics, and no
/// host has another.
const OF_A_CALL: [u32; 2] = [2, 10];

/// Two good tokens, and one with the signature of another. Made once: signing takes longer than a
/// life of a worker.
static TOKENS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let [one, two, other] = clock::at_start(|| [token(), token_by(&KEYS.ed25519), token()]);
    let forged = [other.rsplit_once('.').unwrap().0, one.rsplit_once('.').unwrap().1].join(".");
    [one, two, forged]
});

/// The requests of one life of a worker: good ones and bad ones, waiting and not.
struct Life<'a> {
    good: Vec<Request<'a>>,
    bad: Vec<Request<'a>>,
}

/// A worker's life, from its first tick: requests that wait, requests that do not, a renewal, a
/// report.
fn live(vm: &Vm) -> Life<'_> {
    let [first, second, bad_one] = &*TOKENS;
    let claim = |mut headers: super::pairs::Pairs| {
        headers.push((b"x-caller".to_vec(), b"admin".to_vec()));
        headers.push((b"x-service-token".to_vec(), b"the clients own".to_vec()));
        headers
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        // At first they wait; the second time everything is there.
        good.push(vm.request(claim(bearing(first))));
        good.push(vm.request(claim(bearing(second))));
        bad.push(vm.request(claim(bearing(bad_one))));
        bad.push(vm.request(claim(plain())));
        let gone = vm.request(claim(bearing(first)));
        if gone.waits() {
            gone.end();
        }
        vm.wake();
        vm.live(Duration::from_millis(2500));
    }
    vm.live(Duration::from_secs(15));
    for request in good.iter().chain(&bad) {
        request.end_with(401);
    }
    vm.live(Duration::from_secs(2));
    Life { good, bad }
}

impl Life<'_> {
    /// No request was forwarded that should not have been, and none with identity headers other
    /// than ours.
    fn was_safe(&self, vm: &Vm, fault: &str) {
        for request in &self.bad {
            assert!(!request.is_forwarded(), "{fault}");
        }
        let issued =
            |value: &[u8]| vm.host(|host| host.secrets.contains(value)) && value.starts_with(b"opaque");
        for request in self.good.iter().filter(|request| request.is_forwarded()) {
            assert_eq!(request.header("x-caller"), [SUBJECT.as_bytes()], "{fault}");
            assert!(matches!(&request.header("x-service-token")[..], [token] if issued(token)), "{fault}");
        }
        for request in self.good.iter().filter(|request| matches!(request.state(), State::Answered(_))) {
            assert!(matches!(request.outcome().0, 401 | 503), "{fault}: {:?}", request.outcome());
        }
    }
}

/// With the host well again, and some time to get over it, the worker does what it should.
fn recovers(vm: &Vm, fault: &str) {
    vm.restore_calls();
    vm.live(Duration::from_secs(90));
    let [token, _, forged] = &*TOKENS;
    let good = vm.settled(bearing(token));
    assert!(good.is_forwarded(), "{fault}: {:?}", good.outcome());
    assert_eq!(good.header("x-caller"), [SUBJECT.as_bytes()], "{fault}");
    assert_eq!(vm.settled(bearing(forged)).outcome(), (401, "signature".to_owned()), "{fault}");
    assert_eq!(vm.settled(plain()).outcome(), (401, "no_token".to_owned()), "{fault}");
}

/// The host calls of an undisturbed life, by name, in order.
fn calls() -> Vec<String> {
    let vm = Vm::with(&both_ways());
    vm.record();
    let life = live(&vm);
    let record = vm.record();
    assert!(life.good.iter().all(|request| request.is_forwarded()));
    life.was_safe(&vm, "no fault");
    recovers(&vm, "no fault");
    let mut delivered = false;
    let mut calls = Vec::new();
    for line in record {
        // The first call of a delivery is the SDK's own, which faults pass by.
        match line.strip_prefix("  ") {
            Some(_) if delivered => delivered = false,
            Some(call) => calls.push(call.split(' ').next().unwrap().to_owned()),
            None => delivered = line == "proxy_on_http_call_response",
        }
    }
    calls
}

#[test]
fn no_host_call_that_fails_once_allows_a_request_or_ends_the_worker() {
    let calls = calls();
    assert!(calls.len() > 50, "{calls:?}");
    for (place, name) in calls.iter().enumerate() {
        let statuses: &[u32] = if name == "proxy_http_call" { &OF_A_CALL } else { &STATUSES };
        for status in statuses {
            let fault = format!("call {place}, {name}, with status {status}");
            let vm = Vm::with(&both_ways());
            vm.break_calls(*status, move |now, _| now == place);
            let life = live(&vm);
            life.was_safe(&vm, &fault);
            recovers(&vm, &fault);
        }
    }
}

#[test]
fn no_host_call_that_always_fails_allows_a_request_or_ends_the_worker() {
    let mut calls = calls();
    calls.sort();
    calls.dedup();
    assert_eq!(
        calls,
        [
            "proxy_call_foreign_function",
            "proxy_continue_stream",
            "proxy_define_metric",
            "proxy_get_buffer_bytes",
            "proxy_get_header_map_pairs",
            "proxy_get_header_map_value",
            "proxy_get_property",
            "proxy_get_shared_data",
            "proxy_http_call",
            "proxy_increment_metric",
            "proxy_log",
            "proxy_remove_header_map_value",
            "proxy_replace_header_map_value",
            "proxy_send_local_response",
            "proxy_set_effective_context",
            "proxy_set_shared_data",
            "proxy_set_tick_period_milliseconds",
        ],
        "all that the shell uses"
    );
    for name in calls {
        let statuses: &[u32] = if name == "proxy_http_call" { &OF_A_CALL } else { &STATUSES };
        for status in statuses {
            let (fault, name) = (format!("{name} with status {status}"), name.clone());
            let vm = Vm::with(&both_ways());
            vm.break_calls(*status, move |_, now| now == name);
            let life = live(&vm);
            life.was_safe(&vm, &fault);
            recovers(&vm, &fault);
        }
    }
}

#[test]
fn a_host_that_does_nothing_at_all_has_every_request_refused() {
    for status in STATUSES {
        let vm = Vm::ready(&both_ways());
        vm.break_calls(status, |_, _| true);
        for headers in [bearing(&token()), bearing(&forged()), plain()] {
            assert!(!vm.request(headers).is_forwarded());
        }
        recovers(&vm, &format!("status {status}"));
    }
}

#[test]
fn a_request_whose_headers_cannot_be_changed_gets_503_and_is_not_forwarded_half_changed() {
    for name in ["proxy_replace_header_map_value", "proxy_remove_header_map_value"] {
        for status in STATUSES {
            let vm = Vm::ready(&both_ways());
            vm.break_calls(status, move |_, now| now == name);
            let mut headers = bearing(&token());
            headers.push((b"x-caller".to_vec(), b"admin".to_vec()));
            assert_eq!(vm.request(headers).outcome(), (503, "not_ready".to_owned()), "{name} {status}");
        }
    }
}

#[test]
fn headers_that_cannot_be_read_are_503() {
    for status in STATUSES {
        let vm = Vm::ready(&both_ways());
        vm.break_calls(status, |_, name| name == "proxy_get_header_map_pairs");
        assert_eq!(vm.request(bearing(&token())).outcome(), (503, "not_ready".to_owned()), "{status}");
    }
}

#[test]
fn a_refusal_that_the_host_does_not_take_stops_the_request_all_the_same() {
    for status in STATUSES {
        let vm = Vm::ready(&both_ways());
        vm.break_calls(status, |_, name| name == "proxy_send_local_response");
        assert_eq!(vm.request(plain()).state(), State::Paused, "{status}");
    }
}
