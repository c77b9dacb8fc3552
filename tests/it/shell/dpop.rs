//! Bound tokens and their proofs: which side signs, what is read of the service's answer, and what
//! happens where signing fails.

use super::budget::{HEADERS, assert_cost};
use super::host::{Call, Delivery, Verifier};
use super::scene::{bound, issued, outbound, plain, provider, reply, with_header};
use super::vm::{Request, Vm};
use m2m_auth_kit::key::encode;
use m2m_auth_kit::token::{decode, verifies_by_jwk};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// A worker on such a host, with its token.
fn on(verifier: Verifier) -> Vm {
    let vm = Vm::start();
    vm.host(|host| host.verifier = verifier);
    assert!(vm.configure(&bound()));
    vm.wake();
    vm.serve();
    vm.pass(Duration::from_millis(1500));
    vm.record();
    vm
}

/// Header and claims of a proof that verifies.
fn read(proof: &str) -> (Value, Value) {
    let (header, claims) = decode(proof);
    assert!(verifies_by_jwk(proof, &header["jwk"]), "{header}");
    (header, claims)
}

/// The one proof that goes with a request.
fn proof(request: Request<'_>) -> (Value, Value) {
    let [proof] = &request.header("dpop")[..] else { panic!("{:?}", request.header("dpop")) };
    read(std::str::from_utf8(proof).unwrap())
}

#[test]
fn the_host_signs_every_proof_with_a_key_of_p256_and_where_it_does_not_the_module_does_with_ed25519() {
    for (verifier, alg) in [(Verifier::Real, "ES256"), (Verifier::Absent, "EdDSA")] {
        let vm = Vm::start();
        vm.host(|host| host.verifier = verifier);
        assert!(vm.configure(&bound()));
        vm.wake();
        let call: Call = vm.the_call();
        let (header, claims) = read(&call.header("dpop").unwrap());
        assert_eq!((&header["alg"], &header["typ"]), (&json!(alg), &json!("dpop+jwt")));
        assert_eq!(
            (&claims["htm"], &claims["htu"]),
            (&json!("POST"), &json!("https://idp.example.com/token"))
        );
        vm.serve();
        let request = vm.request(with_header("dpop", "the client's own"));
        assert_eq!(request.header("authorization"), [format!("DPoP {}", issued(&call)).as_bytes()]);
        let (of_request, claims) = proof(request);
        assert_eq!(of_request, header, "one key");
        assert_eq!(claims["htu"], "https://inventory.example.com/inventory/items");
        assert_eq!(
            (&claims["htm"], &claims["ath"]),
            (&json!("GET"), &json!(encode(Sha256::digest(issued(&call)))))
        );
        assert_ne!(proof(vm.request(plain())).1["jti"], claims["jti"]);
    }
}

#[test]
fn a_proof_costs_one_signature_one_change_and_one_look_at_the_answer() {
    let vm = on(Verifier::Real);
    assert_cost(
        &vm,
        plain(),
        &[
            HEADERS,
            "proxy_call_foreign_function sign sha256",
            "proxy_replace_header_map_value request: authorization",
            "proxy_replace_header_map_value request: dpop",
        ],
        &["proxy_get_header_map_pairs response"],
    );
}

#[test]
fn the_answer_to_an_unbound_token_is_not_read() {
    let vm = Vm::ready(&outbound());
    vm.request(plain()).end_with_headers(
        401,
        &[("dpop-nonce", "n1"), ("www-authenticate", "DPoP error=\"use_dpop_nonce\"")],
    );
    assert!(vm.record().contains(&"  proxy_get_header_map_value :status".to_owned()));
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token", "a plain 401 renews");
}

#[test]
fn a_services_nonce_is_in_the_next_proof_and_its_401_renews_nothing() {
    let vm = on(Verifier::Real);
    vm.pass(Duration::from_secs(15));
    let wants = ("www-authenticate", "DPoP error=\"use_dpop_nonce\"");
    vm.request(plain()).end_with_headers(401, &[wants, ("dpop-nonce", "n1")]);
    assert_eq!(proof(vm.request(plain())).1["nonce"], "n1");
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0);
    vm.request(plain()).end_with(401);
    vm.wake();
    assert_eq!(vm.the_call().path(), "/token", "a 401 that says nothing is about the token");
}

#[test]
fn where_nobody_signs_any_more_a_request_is_503_and_goes_nowhere_without_a_proof() {
    let vm = on(Verifier::Real);
    vm.host(|host| host.verifier = Verifier::Absent);
    let request = vm.request(plain());
    assert_eq!(request.outcome(), (503, "dpop_signing_failed".to_owned()));
    assert_eq!(request.answer().header("retry-after").as_deref(), Some("1"));
    vm.host(|host| host.verifier = Verifier::Real);
    assert!(vm.request(plain()).is_forwarded());
}

#[test]
fn a_new_configuration_finds_the_key_and_the_token_of_the_old_one() {
    let vm = on(Verifier::Real);
    let (before, _) = proof(vm.request(plain()));
    assert!(vm.configure(&bound()));
    vm.pass(Duration::from_secs(2));
    assert_eq!(vm.calls().len(), 0, "the token is still good");
    let after = vm.request(plain());
    assert_eq!(proof(after).0, before);
}

/// The provider's `use_dpop_nonce` answer.
fn refusal(nonce: &[u8]) -> Delivery {
    let mut refusal = reply(400, r#"{"error":"use_dpop_nonce"}"#);
    refusal.headers.push((b"dpop-nonce".to_vec(), nonce.to_vec()));
    refusal
}

#[test]
fn a_providers_nonce_is_sent_back_at_once() {
    let vm = Vm::with(&bound());
    vm.wake();
    let waits = vm.request(plain());
    vm.deliver(&vm.the_call(), refusal(b"n1"));
    vm.pass(Duration::from_millis(2));
    let second = vm.the_call();
    assert_eq!(read(&second.header("dpop").unwrap()).1["nonce"], "n1");
    assert!(waits.waits());
    vm.deliver(&second, provider(&second));
    assert!(waits.is_forwarded());
}

#[test]
fn a_broken_nonce_is_never_sent_back() {
    for odd in [&b"a\r\nx: y"[..], b"\xff", &[b'n'; 10_000], b""] {
        let vm = Vm::with(&bound());
        vm.wake();
        vm.deliver(&vm.the_call(), refusal(odd));
        vm.pass(Duration::from_millis(500));
        assert_eq!(vm.calls().len(), 0, "an ordinary refusal: {odd:?}");
    }
}
