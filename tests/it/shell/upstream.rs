//! The status that the service answered with, seen when a request ends: 401 to a token of ours
//! renews the token.

use super::pairs::Pairs;
use super::scene::{bearing, both_ways, inbound, issued, outbound, plain, token, with_header};
use super::vm::Vm;
use std::time::Duration;

/// More than the minimum time between two renewals that a 401 causes.
const APART: Duration = Duration::from_secs(15);

/// A worker with a token that is old enough to be renewed.
fn settled() -> Vm {
    let vm = Vm::ready(&outbound());
    vm.pass(APART);
    vm.record();
    vm
}

#[test]
fn a_401_to_a_token_of_ours_renews_it() {
    let vm = settled();
    let before = vm.request(plain());
    before.end_with(401);
    assert_eq!(vm.calls().len(), 0, "not from the request's own callback");
    assert_eq!(vm.period(), Duration::from_millis(1));
    vm.wake();
    let call = vm.the_call();
    assert_eq!(call.path(), "/token");
    let meanwhile = vm.request(plain());
    assert!(meanwhile.waits(), "for the new token, not for long");
    vm.serve();
    assert_eq!(meanwhile.header("authorization"), [format!("Bearer {}", issued(&call)).as_bytes()]);
    let after = vm.request(plain());
    assert_eq!(after.header("authorization"), [format!("Bearer {}", issued(&call)).as_bytes()]);
    assert_ne!(after.header("authorization"), before.header("authorization"));
}

#[test]
fn no_other_status_renews_it() {
    let vm = settled();
    for status in
        [0, 100, 200, 204, 301, 400, 402, 403, 404, 407, 429, 500, 503, -401, 401 << 32, i64::MIN, i64::MAX]
    {
        vm.request(plain()).end_with(status);
        vm.pass(Duration::from_secs(2));
        assert_eq!(vm.calls().len(), 0, "{status}");
    }
}

#[test]
fn a_status_that_cannot_be_read_is_none() {
    let vm = settled();
    vm.request(plain()).end();
    for bytes in [&b""[..], b"4010", b" 401", b"0401", b"401\0", &[0xff; 3]] {
        vm.request(plain()).end_with_bytes(bytes.to_vec());
    }
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0);
}

#[test]
fn a_401_to_a_request_that_waited_counts_too() {
    let vm = Vm::with(&outbound());
    let waited = vm.request(plain());
    vm.wake();
    vm.serve();
    assert!(waited.is_forwarded());
    vm.pass(APART);
    waited.end_with(401);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token");
}

#[test]
fn a_401_to_the_former_token_costs_nothing() {
    let vm = settled();
    let late = vm.request(plain());
    vm.request(plain()).end_with(401);
    vm.wake();
    assert_eq!(vm.serve(), 1);
    vm.pass(APART);
    late.end_with(401);
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0, "the new token was not refused");
}

#[test]
fn a_flood_of_401_costs_one_token() {
    let vm = settled();
    for _ in 0..100 {
        vm.request(plain()).end_with(401);
    }
    assert_eq!(vm.live(Duration::from_secs(2)), 1);
    for _ in 0..100 {
        vm.request(plain()).end_with(401);
    }
    assert_eq!(vm.live(Duration::from_secs(2)), 0, "not again within seconds");
    assert_eq!(vm.live(APART), 1);
}

#[test]
fn a_401_to_somebody_elses_token_is_not_looked_at() {
    let vm = Vm::ready(&inbound());
    let request = vm.request(bearing(&token()));
    vm.record();
    request.end_with(401);
    assert_eq!(vm.record(), ["proxy_on_response_headers", "proxy_on_delete"]);
}

#[test]
fn an_answer_of_our_own_is_not_taken_for_the_services() {
    let vm = Vm::ready(&both_ways());
    vm.pass(APART);
    let request = vm.request(plain());
    assert_eq!(request.outcome().0, 401);
    vm.record();
    request.end_with(401);
    assert_eq!(vm.record(), ["proxy_on_response_headers", "proxy_on_delete"]);
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0);
}

/// A gRPC call.
fn grpc() -> Pairs {
    with_header("content-type", "application/grpc+proto")
}

#[test]
fn unauthenticated_in_grpcs_words_renews_it_as_401_does() {
    let kind = ("content-type", "application/grpc");
    let unauthenticated = ("grpc-status", "16");
    let vm = settled();
    // A response without a message has its status in its headers.
    vm.request(grpc()).end_with_headers(200, &[kind, unauthenticated]);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token", "in the headers");
    drop(vm);
    let vm = settled();
    vm.request(grpc()).end_with_trailers(&[kind], &[unauthenticated, ("grpc-message", "no")]);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token", "in the trailers");
}

#[test]
fn a_waiting_grpc_call_that_is_unauthenticated_renews_it_too() {
    let vm = Vm::with(&outbound());
    let waited = vm.request(grpc());
    vm.wake();
    vm.serve();
    assert!(waited.is_forwarded());
    vm.pass(APART);
    waited.end_with_trailers(&[("content-type", "application/grpc")], &[("grpc-status", "16")]);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token");
}

#[test]
fn no_other_grpc_status_renews_it_and_16_means_nothing_where_nobody_speaks_grpc() {
    let vm = settled();
    for status in ["0", "7", "14", "1", "160", "016", " 16", ""] {
        vm.request(grpc()).end_with_headers(200, &[("grpc-status", status)]);
        vm.request(grpc()).end_with_trailers(&[], &[("grpc-status", status)]);
    }
    vm.request(grpc()).end_with_trailers(&[], &[]);
    vm.request(plain()).end_with_headers(200, &[("grpc-status", "16")]);
    vm.request(plain()).end_with_trailers(&[], &[("grpc-status", "16")]);
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0);
}

#[test]
fn trailers_that_are_nobodys_are_not_looked_at() {
    for configuration in [inbound(), both_ways()] {
        let vm = Vm::ready(&configuration);
        let request = vm.request(bearing(&token()));
        vm.record();
        request.end_with_trailers(&[], &[("x-checksum", "1")]);
        let looks = vm.record().iter().filter(|line| line.contains("trailers")).count();
        assert_eq!(looks, 1, "the callback itself");
    }
}

#[test]
fn an_answer_of_a_later_filter_is_not_taken_for_the_services() {
    let vm = settled();
    for details in
        ["fault_filter_abort", "lua_response", "rbac_access_denied_matched_policy[none]", "via_upstreams"]
    {
        vm.request(plain()).answered_by(Some(details)).end_with(401);
        let unauthenticated = [("grpc-status", "16")];
        vm.request(grpc()).answered_by(Some(details)).end_with_headers(200, &unauthenticated);
        vm.pass(Duration::from_secs(2));
        assert_eq!(vm.calls().len(), 0, "{details}");
    }
    vm.request(plain()).answered_by(Some("via_upstream")).end_with(401);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token", "and the service's is");
}

#[test]
fn where_envoy_does_not_say_who_answered_it_was_the_service() {
    // As an upstream filter, before Envoy tries the request again.
    for details in [None, Some("")] {
        let vm = settled();
        vm.request(plain()).answered_by(details).end_with(401);
        vm.wake();
        assert_eq!(vm.the_call().path(), "/token", "{details:?}");
    }
}
