//! Filter state for later filters and the access log, through the host: set with a decision, and
//! only where configured.

use super::budget::{HEADERS, assert_cost};
use super::host::{BAD_ARGUMENT, NOT_FOUND};
use super::scene::{bearing, forged, inbound, plain, token, with_header};
use super::vm::{Request, Vm};
use m2m_auth_kit::token::SUBJECT;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn reporting() -> Value {
    let mut configuration = inbound();
    configuration["inbound"]["filter_state"] = json!(true);
    configuration
}

fn filter_state(request: Request<'_>) -> BTreeMap<String, String> {
    request
        .filter_state()
        .into_iter()
        .map(|(name, value)| (name.replace("wasm.m2m_auth.", ""), value))
        .collect()
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn filter_state_is_declared_at_the_start_and_set_before_the_request_is_forwarded() {
    let declared = |configuration: &Value| {
        let vm = Vm::with(configuration);
        vm.record().iter().filter(|line| line.contains("declare_property")).count()
    };
    assert_eq!((declared(&reporting()), declared(&inbound())), (8, 0));
    let vm = Vm::ready(&reporting());
    let token = token();
    vm.request(bearing(&token)).end();
    assert_cost(
        &vm,
        bearing(&token),
        &[
            HEADERS,
            "proxy_set_property m2m_auth.decision",
            "proxy_set_property m2m_auth.rule",
            "proxy_set_property m2m_auth.subject",
            "proxy_set_property m2m_auth.client",
            "proxy_set_property m2m_auth.issuer",
            "proxy_set_property m2m_auth.roles",
            "proxy_set_property m2m_auth.scopes",
        ],
        &[],
    );
}

#[test]
fn a_request_that_waited_is_reported_like_any_other() {
    let vm = Vm::with(&reporting());
    let request = vm.settled(bearing(&token()));
    assert!(request.is_forwarded());
    let expected = of(&[
        ("decision", "allowed"),
        ("rule", "any"),
        ("subject", SUBJECT),
        ("client", "order-service"),
        ("issuer", super::scene::ISSUER),
        ("roles", "inventory-service/inventory:read"),
        ("scopes", "inventory-api"),
    ]);
    assert_eq!(filter_state(request), expected);
}

#[test]
fn a_refusal_is_reported_with_its_reason_and_an_unverified_caller_is_not() {
    let vm = Vm::ready(&reporting());
    for (headers, reason) in [(plain(), "no_token"), (bearing(&forged()), "signature")] {
        let expected = of(&[("decision", "refused"), ("reason", reason), ("rule", "any")]);
        assert_eq!(filter_state(vm.request(headers)), expected);
    }
}

#[test]
fn a_host_that_rejects_it_has_the_request_refused_and_is_still_answered() {
    for status in [NOT_FOUND, BAD_ARGUMENT] {
        let vm = Vm::ready(&reporting());
        vm.break_calls(status, |_, name| name == "proxy_set_property");
        // A filter behind us may decide by what is missing.
        assert_eq!(vm.request(bearing(&token())).outcome(), (503, "not_ready".to_owned()));
        assert_eq!(vm.request(plain()).outcome(), (401, "no_token".to_owned()));
    }
}

#[test]
fn a_host_that_knows_no_types_gets_the_properties_all_the_same() {
    let vm = Vm::start();
    vm.break_calls(NOT_FOUND, |_, name| name == "proxy_call_foreign_function");
    assert!(vm.configure(&reporting()));
    vm.restore_calls();
    assert_eq!(filter_state(vm.settled(bearing(&token())))["subject"], SUBJECT);
}

#[test]
fn only_the_callers_own_payload_is_forwarded_and_byte_for_byte() {
    let mut configuration = inbound();
    configuration["inbound"]["rules"][0]["payload_header"] = json!("x-jwt-payload");
    let vm = Vm::ready(&configuration);
    let token = token();
    let mut headers = with_header("x-jwt-payload", "e30");
    headers.push((b"x_jwt_payload".to_vec(), b"e30".to_vec()));
    headers.extend(bearing(&token).into_iter().filter(|(name, _)| name == b"authorization"));
    let request = vm.request(headers);
    let payload = token.split('.').nth(1).unwrap();
    assert_eq!(request.header("x-jwt-payload"), [payload.as_bytes()]);
    assert_eq!(request.header("x_jwt_payload"), [b""; 0]);
}
