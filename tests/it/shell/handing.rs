//! What later filters and the access log are told, through the host: with a decision, and only where it is asked for.

use super::budget::{HEADERS, assert_cost};
use super::host::{BAD_ARGUMENT, NOT_FOUND};
use super::scene::{bearing, forged, inbound, plain, token, with_header};
use super::vm::{Request, Vm};
use m2m_auth_kit::token::SUBJECT;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn telling() -> Value {
    let mut configuration = inbound();
    configuration["inbound"]["filter_state"] = json!(true);
    configuration
}

fn told(request: Request<'_>) -> BTreeMap<String, String> {
    request.told().into_iter().map(|(name, value)| (name.replace("wasm.m2m_auth.", ""), value)).collect()
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_is_told_is_declared_at_the_start_and_set_before_the_request_goes_on() {
    let declared = |configuration: &Value| {
        let vm = Vm::with(configuration);
        vm.record().iter().filter(|line| line.contains("declare_property")).count()
    };
    assert_eq!((declared(&telling()), declared(&inbound())), (8, 0));
    let vm = Vm::ready(&telling());
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
fn a_request_that_waited_is_told_of_like_any_other() {
    let vm = Vm::with(&telling());
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
    assert_eq!(told(request), expected);
}

#[test]
fn a_refusal_is_told_with_its_reason_and_a_caller_that_was_not_verified_is_not() {
    let vm = Vm::ready(&telling());
    for (headers, reason) in [(plain(), "no_token"), (bearing(&forged()), "signature")] {
        let expected = of(&[("decision", "refused"), ("reason", reason), ("rule", "any")]);
        assert_eq!(told(vm.request(headers)), expected);
    }
}

#[test]
fn a_host_that_does_not_take_it_lets_nothing_through_and_is_still_answered() {
    for status in [NOT_FOUND, BAD_ARGUMENT] {
        let vm = Vm::ready(&telling());
        vm.break_calls(status, |_, name| name == "proxy_set_property");
        // A filter behind us may decide by what is missing.
        assert_eq!(vm.request(bearing(&token())).outcome(), (503, "not_ready".to_owned()));
        assert_eq!(vm.request(plain()).outcome(), (401, "no_token".to_owned()));
    }
}

#[test]
fn a_host_that_knows_no_types_is_told_all_the_same() {
    let vm = Vm::start();
    vm.break_calls(NOT_FOUND, |_, name| name == "proxy_call_foreign_function");
    assert!(vm.configure(&telling()));
    vm.mend_calls();
    assert_eq!(told(vm.settled(bearing(&token())))["subject"], SUBJECT);
}

#[test]
fn the_payload_is_handed_on_as_it_stands_in_the_token_and_nobody_elses() {
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
