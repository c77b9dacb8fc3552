//! Requests that wait: held until something arrives, settled from the root, never resumed twice or
//! after their end.

use super::host::State;
use super::scene::{
    CLIENT_SECRET, KEYS, bearing, both_ways, forged, inbound, inbound_with_claim, issued, outbound, plain,
    provider, reply, token, token_by,
};
use super::vm::Vm;
use m2m_auth_kit::token::SUBJECT;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_request_with_a_new_key_is_paused_fetched_for_changed_and_resumed_in_this_order() {
    let mut alone = inbound_with_claim();
    alone["sharing"] = json!("off");
    let vm = Vm::with(&alone);
    vm.wake();
    // The provider has not published the key of the token yet.
    let old = json!({ "keys": [KEYS.ps256.jwk()] });
    vm.deliver(&vm.the_call(), reply(200, &old.to_string()));
    vm.pass(Duration::from_mins(1));
    vm.record();

    let request = vm.request(bearing(&token()));
    assert!(request.waits());
    vm.wake();
    vm.deliver(&vm.the_call(), provider(&vm.the_call()));
    assert!(request.is_forwarded());
    assert_eq!(request.header("x-caller"), [SUBJECT.as_bytes()]);
    request.end();
    assert_eq!(
        vm.record(),
        [
            "proxy_on_context_create",
            "proxy_on_request_headers",
            "  proxy_get_header_map_pairs request",
            "  proxy_set_tick_period_milliseconds 1",
            "proxy_on_tick",
            "  proxy_http_call keycloak: GET /jwks",
            "  proxy_define_metric m2m_auth_pending.kind.jwks.name.keycloak",
            "  proxy_increment_metric m2m_auth_pending.kind.jwks.name.keycloak 1",
            "  proxy_set_tick_period_milliseconds 1000",
            "proxy_on_http_call_response",
            "  proxy_set_effective_context root",
            "  proxy_get_header_map_pairs call response",
            "  proxy_get_buffer_bytes call response body",
            "  proxy_call_foreign_function verify_signature sha256",
            "  proxy_log info",
            "  proxy_set_effective_context request 1",
            "  proxy_replace_header_map_value request: x-caller",
            "  proxy_continue_stream",
            "  proxy_set_effective_context root",
            "proxy_on_delete",
        ]
    );
}

#[test]
fn a_waiting_request_that_is_refused_is_answered_and_not_resumed() {
    let vm = Vm::with(&inbound());
    let request = vm.request(bearing(&forged()));
    vm.wake();
    vm.record();
    vm.serve();
    assert_eq!(request.outcome(), (401, "signature".to_owned()));
    let record = vm.record();
    let entered = record.iter().position(|line| line.ends_with("request 1")).unwrap();
    assert_eq!(
        record[entered..],
        [
            "  proxy_set_effective_context request 1",
            "  proxy_send_local_response 401",
            "  proxy_set_effective_context root",
        ]
    );
}

#[test]
fn waiting_requests_share_one_fetch() {
    let vm = Vm::with(&both_ways());
    let waiting: Vec<_> = (0..20).map(|_| vm.request(bearing(&token()))).collect();
    assert!(waiting.iter().all(|request| request.waits()));
    vm.pass(Duration::from_millis(5));
    assert_eq!(vm.calls().len(), 2, "one for keys and one for a token");
    let asked = vm.calls().into_iter().find(|call| call.path() == "/token").unwrap();
    assert_eq!(vm.serve(), 2);
    for request in waiting {
        assert!(request.is_forwarded());
        assert_eq!(request.header("x-service-token"), [issued(&asked).as_bytes()]);
    }
}

#[test]
fn a_client_that_disconnects_costs_no_other_client_its_answer() {
    let vm = Vm::with(&inbound());
    let waiting: Vec<_> = (0..5).map(|_| vm.request(bearing(&token()))).collect();
    vm.wake();
    let call = vm.the_call();
    for gone in [0, 2, 4] {
        waiting[gone].end();
    }
    vm.record();
    vm.deliver(&call, provider(&call));
    let record = vm.record();
    for (place, request) in waiting.iter().enumerate() {
        let expected = if place % 2 == 0 { State::Paused } else { State::Forwarded };
        assert_eq!(request.state(), expected, "request {}", place + 1);
        let entered = format!("  proxy_set_effective_context request {}", place + 1);
        assert_eq!(record.contains(&entered), expected == State::Forwarded, "nobody asks for who has gone");
    }
    assert_eq!(record.iter().filter(|line| line.contains("continue_stream")).count(), 2);
}

#[test]
fn a_fetch_outlives_every_request_that_needs_it() {
    let vm = Vm::with(&inbound());
    let waiting = vm.request(bearing(&token()));
    vm.wake();
    let call = vm.the_call();
    waiting.end();
    vm.deliver(&call, provider(&call));
    assert!(vm.request(bearing(&token())).is_forwarded(), "with the keys that came all the same");
    assert_eq!(vm.calls().len(), 0);
}

#[test]
fn a_context_that_the_host_has_deleted_without_a_word_is_left_alone() {
    let vm = Vm::with(&inbound());
    let (lost, other) = (vm.request(bearing(&token())), vm.request(bearing(&token())));
    vm.wake();
    vm.host(|host| {
        let id = host.living()[0];
        host.forget(id);
    });
    vm.record();
    vm.serve();
    assert_eq!((lost.state(), other.state()), (State::Paused, State::Forwarded));
    let record = vm.record();
    let tried = record.iter().position(|line| line.ends_with("request 1")).unwrap();
    assert_eq!(record[tried + 1], "  proxy_set_effective_context request 2", "nothing is done in its name");
}

#[test]
fn no_call_comes_from_a_request_even_if_it_is_the_first_of_all() {
    let vm = Vm::with(&both_ways());
    vm.record();
    assert!(vm.request(bearing(&token())).waits());
    assert!(vm.request(plain()).outcome().0 == 401);
    let record = vm.record();
    assert!(!record.iter().any(|line| line.contains("proxy_http_call")), "{record:#?}");
    assert_eq!(vm.period(), Duration::from_millis(1));
}

#[test]
fn a_request_that_needs_two_things_waits_for_both() {
    let vm = Vm::with(&both_ways());
    let request = vm.request(bearing(&token()));
    vm.wake();
    let calls = vm.calls();
    let (keys, token) = calls.iter().partition::<Vec<_>, _>(|call| call.path() == "/jwks");
    vm.deliver(keys[0], provider(keys[0]));
    assert!(request.waits(), "the token is still on its way");
    vm.deliver(token[0], provider(token[0]));
    assert!(request.is_forwarded());
    assert_eq!(request.header("x-caller"), [SUBJECT.as_bytes()]);
    assert_eq!(request.header("x-service-token"), [issued(token[0]).as_bytes()]);
}

#[test]
fn a_token_that_is_waited_for_is_attached_before_the_request_is_forwarded() {
    let vm = Vm::with(&outbound());
    let request = vm.request(bearing("a-token-of-the-clients-own"));
    vm.wake();
    let call = vm.the_call();
    assert!(!String::from_utf8_lossy(&call.body).contains(CLIENT_SECRET), "it goes into a header");
    vm.record();
    vm.serve();
    assert_eq!(request.header("authorization"), [format!("Bearer {}", issued(&call)).as_bytes()]);
    let record = vm.record();
    let entered = record.iter().position(|line| line.ends_with("request 1")).unwrap();
    assert_eq!(
        record[entered..entered + 4],
        [
            "  proxy_set_effective_context request 1",
            "  proxy_replace_header_map_value request: authorization",
            "  proxy_continue_stream",
            "  proxy_set_effective_context root",
        ]
    );
}

#[test]
fn an_answer_that_never_comes_holds_a_request_no_longer_than_it_may_wait() {
    let vm = Vm::with(&inbound());
    vm.host(|host| host.loses_calls = true);
    let request = vm.request(bearing(&token()));
    vm.pass(Duration::from_millis(4900));
    assert!(request.waits());
    vm.pass(Duration::from_millis(200));
    let answer = request.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (503, "jwks_unavailable"));
    assert!(answer.header("retry-after").is_some());
    // The answer comes after all: too late for that request, in time for the next.
    vm.serve();
    assert_eq!(request.outcome().0, 503);
    assert!(vm.settled(bearing(&token())).is_forwarded());
}

#[test]
fn a_request_over_the_bound_is_answered_at_once() {
    let mut configuration = inbound();
    configuration["pending_requests"] = json!({ "max": 2 });
    let vm = Vm::with(&configuration);
    let waiting = [vm.request(bearing(&token())), vm.request(bearing(&token()))];
    assert_eq!(vm.request(bearing(&token())).outcome(), (503, "too_many_pending".to_owned()));
    vm.wake();
    vm.serve();
    assert!(waiting.iter().all(|request| request.is_forwarded()));
}

#[test]
fn answers_are_matched_to_their_calls() {
    let vm = Vm::with(&both_ways());
    let request = vm.request(bearing(&token_by(&KEYS.ed25519)));
    vm.wake();
    // In the order opposite to that of the calls.
    for call in vm.calls().iter().rev() {
        vm.deliver(call, provider(call));
    }
    assert!(request.is_forwarded());
}

/// Callbacks in which requests were answered or resumed, and how many in each.
fn portions(record: &[String]) -> Vec<usize> {
    let mut portions = Vec::new();
    for line in record {
        if !line.starts_with("  ") {
            portions.push(0);
        } else if line.contains("proxy_continue_stream") || line.contains("proxy_send_local_response") {
            *portions.last_mut().unwrap() += 1;
        }
    }
    portions.retain(|count| *count > 0);
    portions
}

#[test]
fn of_many_waiting_requests_few_are_answered_in_one_callback_and_the_others_a_millisecond_later() {
    for (mint, status) in [(token as fn() -> String, 200), (forged, 401)] {
        let vm = Vm::with(&inbound());
        let waiting: Vec<_> = (0..200).map(|_| vm.request(bearing(&mint()))).collect();
        vm.wake();
        let call = vm.the_call();
        vm.record();
        vm.deliver(&call, provider(&call));
        assert_eq!(vm.period(), Duration::from_millis(1));
        // Its client goes before its turn comes.
        waiting[199].end();
        vm.pass(Duration::from_millis(5));
        assert_eq!(portions(&vm.record()), [64, 64, 64, 7]);
        let statuses: Vec<_> = waiting[..199].iter().map(|request| request.outcome().0).collect();
        assert_eq!(statuses, [status; 199]);
        assert_eq!(vm.period(), Duration::from_secs(1));
    }
}

#[test]
fn several_answers_in_one_callback_and_inside_each_other_share_one_portion() {
    let vm = Vm::with(&both_ways());
    let waiting: Vec<_> = (0..100).map(|_| vm.request(bearing(&token()))).collect();
    vm.wake();
    let calls = vm.calls();
    let (keys, token) = calls.iter().partition::<Vec<_>, _>(|call| call.path() == "/jwks");
    vm.record();
    // Envoy may deliver one inside another, as where a cluster has no host: no tick comes between
    // them. Those that have the keys have had their turn; those that have the token too wait for
    // the next tick.
    vm.deliver(keys[0], provider(keys[0]));
    vm.deliver(token[0], provider(token[0]));
    assert_eq!(portions(&vm.record()), [0; 0]);
    vm.pass(Duration::from_millis(3));
    assert_eq!(portions(&vm.record()), [64, 36]);
    assert!(waiting.iter().all(|request| request.is_forwarded()));
}

#[test]
fn requests_that_wait_as_their_worker_is_replaced_are_answered_by_the_next_one() {
    let vm = Vm::with(&inbound());
    let waiting: Vec<_> = (0..200).map(|_| vm.request(bearing(&token()))).collect();
    vm.record();
    assert!(vm.configure(&both_ways()));
    let gone = waiting[150];
    gone.end();
    vm.pass(Duration::from_millis(6));
    assert_eq!(portions(&vm.record()), [64, 64, 64, 7]);
    for request in waiting.iter().filter(|request| request.state() != State::Paused) {
        assert_eq!(request.outcome(), (503, "not_ready".to_owned()));
    }
    assert_eq!(waiting.iter().filter(|request| request.waits()).count(), 1, "who has gone");
}

#[test]
fn a_request_whose_body_is_to_come_takes_up_more_room_than_one_without() {
    let mut configuration = inbound();
    configuration["pending_requests"] = json!({ "max_bytes": 1_000_000 });
    let vm = Vm::with(&configuration);
    assert!(vm.request(bearing(&token())).waits());
    assert_eq!(vm.request_with_body(bearing(&token())).outcome(), (503, "too_many_pending".to_owned()));
    assert!(vm.request(bearing(&token())).waits());
}
