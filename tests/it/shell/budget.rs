//! What a request costs: the exact callbacks and host calls of each kind of request. A callback
//! costs about 0.8 us, a host call that returns data about 1 us, a signature 25 us; the clocks are
//! WASI's and do not appear here.
//!
//! These lists are the budget. A change to one of them is a decision, not an accident.

use super::pairs::Pairs;
use super::routes::{by_cluster, by_route};
use super::scene::{bearing, forged, inbound, inbound_with_claim, outbound, plain, token, with_header};
use super::vm::{CALLBACKS, Vm};

/// The record of one request from its first callback to its last.
fn cost(vm: &Vm, headers: Pairs) -> Vec<String> {
    vm.record();
    vm.request(headers).end_with(200);
    vm.record()
}

/// A request costs the callbacks that every request costs, and the host calls that are listed:
/// those that are made with its headers, and those with the headers of the response.
#[track_caller]
pub(super) fn assert_cost(vm: &Vm, headers: Pairs, of_request: &[&str], of_response: &[&str]) {
    let request = ["proxy_on_context_create", "proxy_on_request_headers"];
    let calls = |calls: &[&str]| calls.iter().map(|call| format!("  {call}")).collect::<Vec<_>>();
    let mut expected: Vec<String> = request.map(str::to_owned).into();
    expected.extend(calls(of_request));
    expected.push("proxy_on_response_headers".to_owned());
    expected.extend(calls(of_response));
    expected.push("proxy_on_delete".to_owned());
    assert_eq!(cost(vm, headers), expected);
}

/// The host call that reads the headers of the request.
pub(super) const HEADERS: &str = "proxy_get_header_map_pairs request";

#[test]
fn a_known_caller_costs_one_look_at_the_headers() {
    let vm = Vm::ready(&inbound());
    let token = token();
    cost(&vm, bearing(&token));
    assert_cost(&vm, bearing(&token), &[HEADERS], &[]);
}

#[test]
fn a_claim_handed_on_costs_one_call_more() {
    let vm = Vm::ready(&inbound_with_claim());
    let token = token();
    cost(&vm, bearing(&token));
    assert_cost(&vm, bearing(&token), &[HEADERS, "proxy_replace_header_map_value request: x-caller"], &[]);
}

#[test]
fn a_token_in_the_query_costs_one_change() {
    let mut configuration = inbound();
    configuration["inbound"]["token_locations"] = serde_json::json!([{ "danger_query": "access_token" }]);
    let vm = Vm::ready(&configuration);
    let mut headers = plain();
    let path = headers.iter_mut().find(|(name, _)| name == b":path").unwrap();
    path.1.extend(format!("&access_token={}", token()).into_bytes());
    cost(&vm, headers.clone());
    assert_cost(&vm, headers, &[HEADERS, "proxy_replace_header_map_value request: :path"], &[]);
}

#[test]
fn a_new_token_costs_one_signature() {
    let vm = Vm::ready(&inbound());
    assert_cost(
        &vm,
        bearing(&token()),
        &[HEADERS, "proxy_call_foreign_function verify_signature sha256"],
        &[],
    );
}

#[test]
fn an_attached_token_costs_one_change_and_one_look_at_how_it_ended() {
    let vm = Vm::ready(&outbound());
    assert_cost(
        &vm,
        plain(),
        &[HEADERS, "proxy_replace_header_map_value request: authorization"],
        &["proxy_get_header_map_value :status"],
    );
}

#[test]
fn a_rule_for_bound_tokens_costs_every_request_one_look_at_the_certificate() {
    let mut configuration = inbound();
    configuration["inbound"]["rules"][0]["require"]["token_binding"] =
        serde_json::json!({ "mtls": true, "optional": true });
    let vm = Vm::ready(&configuration);
    let token = token();
    cost(&vm, bearing(&token));
    assert_cost(
        &vm,
        bearing(&token),
        &["proxy_get_property connection.sha256_peer_certificate_digest", HEADERS],
        &[],
    );
}

#[test]
fn a_rule_for_a_cluster_costs_every_request_one_look_at_it() {
    let vm = Vm::ready(&by_cluster());
    assert_cost(&vm, plain(), &["proxy_get_property xds.cluster_name", HEADERS], &[]);
}

#[test]
fn a_route_that_may_say_whose_token_costs_every_request_one_look_at_it_before_any_change() {
    let vm = Vm::ready(&by_route());
    assert_cost(
        &vm,
        plain(),
        &[
            "proxy_get_property xds.route_metadata.filter_metadata.m2m_auth.credential",
            HEADERS,
            "proxy_replace_header_map_value request: authorization",
        ],
        &["proxy_get_header_map_value :status"],
    );
}

#[test]
fn a_refusal_costs_one_line_and_one_answer() {
    let vm = Vm::ready(&inbound());
    assert_cost(&vm, plain(), &[HEADERS, "proxy_log warn", "proxy_send_local_response 401"], &[]);
}

#[test]
fn a_forged_token_costs_no_more_than_its_signature() {
    let vm = Vm::ready(&inbound());
    assert_cost(
        &vm,
        bearing(&forged()),
        &[
            HEADERS,
            "proxy_call_foreign_function verify_signature sha256",
            "proxy_log warn",
            "proxy_send_local_response 401",
        ],
        &[],
    );
}

#[test]
fn a_flood_of_refusals_costs_no_lines() {
    let vm = Vm::ready(&inbound());
    for _ in 0..100 {
        vm.request(plain()).end();
    }
    assert_cost(&vm, plain(), &[HEADERS, "proxy_send_local_response 401"], &[]);
}

#[test]
fn a_clients_copy_of_our_header_is_removed_before_ours_is_set() {
    let vm = Vm::ready(&inbound_with_claim());
    let mut headers = with_header("x-caller", "admin");
    headers.extend(bearing(&token()).into_iter().filter(|(name, _)| name == b"authorization"));
    let request = vm.request(headers);
    assert_eq!(request.header("x-caller"), [m2m_auth_kit::token::SUBJECT.as_bytes()]);
    let record = vm.record();
    let changes: Vec<_> = record.iter().filter(|line| line.contains("x-caller")).collect();
    assert_eq!(
        changes,
        [
            "  proxy_remove_header_map_value request: x-caller",
            "  proxy_replace_header_map_value request: x-caller"
        ]
    );
}

#[test]
fn an_idle_worker_costs_one_callback_a_second_and_a_look_at_what_others_have_fetched() {
    let vm = Vm::ready(&inbound());
    vm.pass(std::time::Duration::from_secs(2));
    assert_eq!(
        vm.record(),
        ["proxy_on_tick", "  proxy_get_shared_data", "proxy_on_tick", "  proxy_get_shared_data"]
    );
}

#[test]
fn counting_costs_a_request_nothing_and_a_busy_second_one_call_per_counter() {
    let vm = Vm::ready(&inbound());
    let token = token();
    for _ in 0..1000 {
        vm.request(bearing(&token)).end();
    }
    vm.pass(std::time::Duration::from_secs(1));
    vm.record();
    for _ in 0..1000 {
        vm.request(bearing(&token)).end();
    }
    vm.record();
    vm.wake();
    assert_eq!(
        vm.record(),
        [
            "proxy_on_tick",
            "  proxy_get_shared_data",
            "  proxy_increment_metric m2m_auth_inbound.rule.any.decision.allowed 1000",
            "  proxy_increment_metric m2m_auth_token_cache.lookup.hit 1000",
        ]
    );
    assert_eq!(vm.host(|host| host.metrics["m2m_auth_inbound.rule.any.decision.allowed"]), 2000);
}

#[test]
fn the_shipped_module_exports_the_callbacks_that_are_made_here_and_no_other() {
    let trim = include_str!("../../../tools/trim/src/main.rs");
    let kept = trim.split_once("const KEEP").and_then(|(_, rest)| rest.split_once("];")).unwrap().0;
    let mut kept: Vec<_> = kept.split('"').filter(|text| text.starts_with("proxy_on_")).collect();
    kept.retain(|name| *name != "proxy_on_memory_allocate"); // not a callback: the host allocates there
    kept.sort_unstable();
    assert_eq!(kept, CALLBACKS);
}
