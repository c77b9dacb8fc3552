//! Where a signature is verified: by the host's `BoringSSL` where it has the function and the
//! algorithm, by the module elsewhere.

use super::clock;
use super::host::Verifier;
use super::scene::{ES384, KEYS, bearing, forged, inbound, token, token_by, with_header};
use super::vm::{Request, Vm};
use m2m_auth_kit::key::{Alg, Key, encode};
use m2m_auth_kit::token;
use serde_json::json;
use std::time::Duration;

/// A worker on such a host, with its keys.
fn on(verifier: Verifier) -> Vm {
    let vm = Vm::start();
    vm.host(|host| host.verifier = verifier);
    assert!(vm.configure(&inbound()));
    vm.wake();
    vm.serve();
    vm.record();
    vm
}

/// The foreign calls since the last look.
fn foreign(vm: &Vm) -> Vec<String> {
    vm.record().into_iter().filter(|line| line.contains("foreign")).collect()
}

/// A token with `alg: ES384` and random bytes of the right length as its signature.
fn es384() -> String {
    let header = json!({ "alg": "ES384", "typ": "JWT", "kid": ES384 });
    let claims = token::claims(super::scene::ISSUER);
    let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    format!("{text}.{}", encode([0x5a; 96]))
}

fn signature_is_wrong(request: Request<'_>) {
    assert_eq!(request.outcome(), (401, "signature".to_owned()));
}

#[test]
fn the_host_verifies_what_it_can() {
    let vm = on(Verifier::Real);
    for (key, hash) in [(&KEYS.rs256, "sha256"), (&KEYS.es256, "sha256")] {
        assert!(vm.request(bearing(&token_by(key))).is_forwarded(), "{key:?}");
        assert_eq!(foreign(&vm), [format!("  proxy_call_foreign_function verify_signature {hash}")]);
    }
    signature_is_wrong(vm.request(bearing(&forged())));
    assert_eq!(foreign(&vm).len(), 1);
}

#[test]
fn the_module_verifies_pss_and_ed25519_itself() {
    for verifier in [Verifier::Real, Verifier::Absent, Verifier::Says(vec![])] {
        let vm = on(verifier);
        for key in [&KEYS.ps256, &KEYS.ed25519] {
            assert!(vm.request(bearing(&token_by(key))).is_forwarded(), "{key:?}");
            let stranger = Key::new(key.alg()).with_kid(key.kid());
            signature_is_wrong(vm.request(bearing(&token_by(&stranger))));
        }
        assert_eq!(foreign(&vm), [""; 0], "the host is not even asked");
    }
}

#[test]
fn without_the_function_the_module_verifies_rsa_itself() {
    let vm = on(Verifier::Absent);
    assert!(vm.request(bearing(&token_by(&KEYS.rs256))).is_forwarded());
    let stranger = Key::new(KEYS.rs256.alg()).with_kid(KEYS.rs256.kid());
    signature_is_wrong(vm.request(bearing(&token_by(&stranger))));
    assert_eq!(foreign(&vm), [""; 0]);
}

#[test]
fn elliptic_curves_are_the_hosts_word_and_refused_without_it() {
    let es256 = || clock::at_start(|| token_by(&KEYS.es256));
    for (token, hash) in [(es256(), "sha256"), (clock::at_start(es384), "sha384")] {
        {
            let vm = on(Verifier::Says(super::crypto::YES.to_vec()));
            assert!(vm.request(bearing(&token)).is_forwarded(), "{hash}");
            assert_eq!(foreign(&vm), [format!("  proxy_call_foreign_function verify_signature {hash}")]);
        }
        let vm = on(Verifier::Absent);
        signature_is_wrong(vm.request(bearing(&token)));
        assert_eq!(foreign(&vm), [""; 0], "{hash}");
    }
}

#[test]
fn nothing_but_a_plain_yes_is_a_yes() {
    let text = |text: &str| [&[0x12, text.len() as u8], text.as_bytes()].concat();
    for result in [
        vec![],
        vec![0x08, 0x00],
        vec![0x08],
        vec![0x01],
        vec![0x10, 0x01],
        vec![0x08, 0x02],
        vec![0x08, 0x01, 0x08, 0x00],
        [&[0x08, 0x01][..], &text("failed")].concat(),
        text("true"),
        vec![0xff; 1000],
    ] {
        let vm = on(Verifier::Says(result.clone()));
        signature_is_wrong(vm.request(bearing(&token())));
        signature_is_wrong(vm.request(bearing(&forged())));
        signature_is_wrong(vm.request(bearing(&es384())));
    }
}

#[test]
fn a_host_that_fails_to_verify_has_every_caller_refused() {
    for status in [1, 2, 3, 4, 7, 8, 10, 99] {
        let vm = on(Verifier::Real);
        vm.break_calls(status, |_, name| name == "proxy_call_foreign_function");
        for token in [forged(), es384()] {
            signature_is_wrong(vm.request(bearing(&token)));
        }
    }
}

#[test]
fn a_host_that_may_not_be_asked_is_a_host_without_the_function() {
    // InternalFailure is what a capability restriction answers, Unimplemented what other hosts may.
    for status in [1, 10, 12] {
        let vm = on(Verifier::Refused(status));
        assert_eq!(vm.request(bearing(&token())).outcome(), (200, String::new()), "status {status}");
        signature_is_wrong(vm.request(bearing(&forged())));
    }
}

#[test]
fn a_verified_token_is_not_verified_again_and_another_one_is() {
    let vm = on(Verifier::Real);
    let (one, other) = (token(), token());
    for token in [&one, &one, &other, &one, &other] {
        assert!(vm.request(bearing(token)).is_forwarded());
    }
    assert_eq!(foreign(&vm).len(), 2);
}

/// A token of that key's algorithm and id, with bytes of the right length as its signature.
fn made_up(key: &Key, number: u64) -> String {
    let header = json!({ "alg": key.alg().name(), "typ": "JWT", "kid": key.kid() });
    let mut claims = token::claims(super::scene::ISSUER);
    claims["jti"] = json!(number);
    let length = if key.alg() == Alg::EdDsa { 64 } else { 256 };
    let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    format!("{text}.{}", encode(vec![0x5a; length]))
}

/// How many of those are verified; the others must be answered 503.
fn judged(vm: &Vm, key: &Key, count: u64) -> usize {
    let outcomes = (0..count).map(|number| vm.request(bearing(&made_up(key, number))).outcome());
    outcomes.filter(|outcome| *outcome != (503, "too_many_signatures".to_owned())).count()
}

#[test]
fn forged_signatures_that_the_module_verifies_are_bounded_and_callers_by_the_host_notice_nothing() {
    for key in [&KEYS.ps256, &KEYS.ed25519] {
        let vm = on(Verifier::Real);
        let (known, new) = (token_by(key), token_by(key));
        assert!(vm.request(bearing(&known)).is_forwarded());
        assert_eq!(judged(&vm, key, 150), 99, "{key:?}");
        assert!(vm.request(bearing(&known)).is_forwarded(), "what is known costs nothing");
        let refused = vm.request(bearing(&new));
        assert_eq!(refused.outcome(), (503, "too_many_signatures".to_owned()));
        assert_eq!(refused.answer().header("retry-after").as_deref(), Some("1"));
        for key in [&KEYS.rs256, &KEYS.es256] {
            assert!(vm.request(bearing(&token_by(key))).is_forwarded(), "{key:?}");
            signature_is_wrong(vm.request(bearing(&token_by(&Key::new(key.alg()).with_kid(key.kid())))));
        }
        vm.pass(Duration::from_millis(100));
        assert!(vm.request(bearing(&new)).is_forwarded(), "ten more in a tenth of a second");
        assert_eq!(judged(&vm, key, 50), 9);
        vm.pass(Duration::from_secs(60));
        let reported =
            vm.host(|host| host.metrics.get("m2m_auth_limit_reached.limit.token_signatures").copied());
        assert_eq!(reported, Some(51 + 1 + 41));
        assert_eq!(judged(&vm, key, 150), 100, "no more are saved than for a second");
    }
}

#[test]
fn forged_proofs_that_the_module_verifies_are_bounded_apart_from_tokens() {
    let mut configuration = inbound();
    configuration["inbound"]["rules"][0]["require"]["token_binding"] = json!("dpop");
    let vm = Vm::ready(&configuration);
    let token_of = |key: &Key| {
        let mut claims = token::claims(super::scene::ISSUER);
        claims["cnf"] = json!({ "jkt": key.thumbprint() });
        token::Mint::of(claims).sign(&KEYS.rs256)
    };
    let url = "http://inventory-service/inventory/items";
    let proof = |key: &Key, token: &str| token::dpop_proof(key, "GET", url, Some(token)).sign(key);
    let ask = |token: &str, proof: &str| {
        let mut headers = with_header("authorization", format!("DPoP {token}"));
        headers.push((b"dpop".to_vec(), proof.as_bytes().to_vec()));
        vm.request(headers).outcome()
    };
    let [module, host] = [Alg::EdDsa, Alg::Es256].map(Key::new);
    let token = token_of(&module);
    let good = proof(&module, &token);
    let (text, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{text}.{}", encode([0x5a; 64]));
    // A token that is refused before its signature is verified costs nothing.
    for _ in 0..150 {
        assert_eq!(ask(&token, &proof(&host, &token)), (401, "binding_mismatch".to_owned()));
    }
    let outcomes: Vec<_> = (0..150).map(|_| ask(&token, &forged)).collect();
    let count = |status, reason: &str| {
        outcomes.iter().filter(|outcome| **outcome == (status, reason.to_owned())).count()
    };
    assert_eq!((count(401, "proof_signature"), count(503, "too_many_signatures")), (100, 50));
    assert_eq!(ask(&token, &good), (503, "too_many_signatures".to_owned()));
    assert_eq!(judged(&vm, &KEYS.ed25519, 150), 100, "tokens have their own");
    let by_host = token_of(&host);
    for _ in 0..3 {
        assert_eq!(
            ask(&by_host, &proof(&host, &by_host)).0,
            200,
            "nor is one that the host verifies bounded"
        );
    }
    vm.pass(Duration::from_secs(1));
    assert_eq!(ask(&token, &good).0, 200, "it was not used up");
    assert_eq!(ask(&token, &good), (401, "proof_replayed".to_owned()));
}

#[test]
fn without_the_function_every_signature_counts() {
    {
        let vm = on(Verifier::Absent);
        assert_eq!(judged(&vm, &KEYS.rs256, 150), 100);
        assert_eq!(judged(&vm, &KEYS.ed25519, 50), 0);
    }
    assert_eq!(judged(&on(Verifier::Real), &KEYS.rs256, 150), 150);
}

/// A worker that asks for a token with an assertion of this key.
fn asking_with(key: &Key, verifier: Verifier) -> Vm {
    let mut configuration = super::scene::outbound();
    let credential = configuration["outbound"]["credentials"]["order-service"].as_object_mut().unwrap();
    credential.remove("client_secret");
    credential.insert("auth_method".to_owned(), json!("private_key_jwt"));
    credential.insert("private_key".to_owned(), json!({ "inline": key.private_jwk().to_string() }));
    let vm = Vm::start();
    vm.host(|host| host.verifier = verifier);
    assert!(vm.configure(&configuration));
    vm.record();
    vm.wake();
    vm
}

/// The assertion of the one call that was made.
fn assertion(vm: &Vm) -> Option<String> {
    let bodies = vm.host(|host| host.calls.iter().map(|call| call.body.clone()).collect::<Vec<_>>());
    let body = String::from_utf8(bodies.into_iter().find(|body| !body.is_empty())?).unwrap();
    Some(body.split_once("client_assertion=").unwrap().1.to_owned())
}

#[test]
fn the_host_signs_assertions_as_jose_wants_them() {
    for (key, asked) in [(&KEYS.rs256, true), (&KEYS.es256, true), (&KEYS.ed25519, false)] {
        let vm = asking_with(key, Verifier::Real);
        let calls = foreign(&vm);
        assert_eq!(calls, vec!["  proxy_call_foreign_function sign sha256"; usize::from(asked)], "{key:?}");
        let assertion = assertion(&vm).unwrap();
        assert!(token::verifies(&assertion, key), "{key:?}: {assertion}");
        assert_eq!(assertion.split('.').next_back().unwrap().len() > 86, key.alg() == Alg::Rs256);
    }
}

#[test]
fn a_host_that_does_not_sign_leaves_ed25519() {
    for verifier in [Verifier::Absent, Verifier::Refused(1), Verifier::Refused(10)] {
        let vm = asking_with(&KEYS.ed25519, verifier);
        assert!(token::verifies(&assertion(&vm).unwrap(), &KEYS.ed25519));
    }
    for key in [&KEYS.rs256, &KEYS.es256] {
        let vm = asking_with(key, Verifier::Absent);
        assert_eq!(assertion(&vm), None);
        let log = vm.log().join("\n");
        assert!(log.contains("which is broken unless this Envoy is older than 1.37"), "{log}");
    }
}

#[test]
fn this_suites_boringssl_distinguishes_good_from_bad() {
    assert_eq!(super::crypto::verify(b""), None);
    assert_eq!(super::crypto::verify(b"\x0a\x06sha256"), None);
    let garbage = super::crypto::verify(b"\x0a\x06sha256\x12\x03key").unwrap();
    assert_ne!(garbage, super::crypto::YES);
}
