//! Tokens that are bound to the worker's key, over time: the provider's nonces, the services'
//! nonces, renewals.

use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{
    Get, World, both, get, items, millis, outbound, secs, signer, without_discovery,
};
use m2m_auth::dpop::ProofKey;
use m2m_auth::filter::header_edits::AttachedToken;
use m2m_auth::http::message::MessageHead;
use m2m_auth::jose::jwk::Algorithm;
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::rng::OsRandom;
use m2m_auth_kit::token::{decode, verifies_by_jwk};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::rc::Rc;

fn bound_in(mut configuration: Value) -> Value {
    configuration = without_discovery(configuration);
    configuration["outbound"]["credentials"]["order"]["dpop"] = json!(true);
    configuration
}

fn bound() -> Value {
    bound_in(outbound())
}

fn to(host: &str) -> Get {
    get("/public/pay?n=1").host(host).header(":scheme", "https")
}

fn pay() -> Get {
    to("payment")
}

/// The claims of the proof that goes with a request; it verifies, and it is the only one.
fn proof_of(world: &mut World, get: &Get) -> (Value, AttachedToken) {
    let outcome = world.ask(get);
    assert!(outcome.set("authorization").unwrap().starts_with("DPoP "));
    let proof = outcome.set("dpop").unwrap();
    let (header, claims) = decode(&proof);
    assert!(verifies_by_jwk(&proof, &header["jwk"]));
    (claims, outcome.edits().attached_token.clone().unwrap())
}

fn answer(status: &str, headers: &[(&str, &str)]) -> MessageHead {
    [(":status", status)].iter().chain(headers).copied().collect()
}

const WANTS_NONCE: (&str, &str) = ("www-authenticate", "DPoP error=\"use_dpop_nonce\"");

#[test]
fn every_request_and_every_attempt_at_a_token_has_a_proof_of_its_own() {
    let mut world = World::warm(&bound());
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let (claims, _) = proof_of(&mut world, &pay());
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!("GET"), &json!("https://payment/public/pay")));
        assert_eq!(claims["iat"], world.unix());
        assert!(seen.insert(claims["jti"].as_str().unwrap().to_owned()));
        world.pass(secs(20));
    }
    assert!(world.provider.proofs.len() > 5);
    for proof in &world.provider.proofs {
        let (_, claims) = decode(proof);
        assert_eq!(
            (&claims["htm"], &claims["htu"]),
            (&json!("POST"), &json!("https://idp.example/realms/r/token"))
        );
        assert_eq!(claims["ath"], Value::Null);
        assert!(seen.insert(claims["jti"].as_str().unwrap().to_owned()));
    }
}

#[test]
fn a_provider_that_wants_a_nonce_gets_it_at_once_and_pending_requests_keep_waiting() {
    for seed in 0..30 {
        let mut world = World::seeded(&bound(), seed);
        world.provider.nonce = Some("n1");
        let id = world.send(&pay());
        world.pass(millis(100));
        assert_eq!(world.outcome(id).status(), 200, "seed {seed}: {:?}", world.logs);
        assert_eq!(world.provider.count(Endpoint::Tokens), 2);
        // It is remembered for the renewals, and replaced when the provider has a new one.
        world.pass(secs(600));
        let count = world.provider.count(Endpoint::Tokens);
        assert_eq!(count, world.provider.issued.len() + 1, "seed {seed}");
        world.provider.nonce = Some("n2");
        world.pass(secs(600));
        assert_eq!(world.provider.count(Endpoint::Tokens), world.provider.issued.len() + 2, "seed {seed}");
        assert!(world.ask(&pay()).passed());
    }
}

#[test]
fn a_required_nonce_is_logged_but_is_no_failure() {
    let mut world = World::new(&bound());
    world.provider.nonce = Some("n1");
    world.pass(secs(1));
    let expected = [
        "token of credential order: nonce: asked again with the provider's nonce",
        "token of credential order: token acquired, expires in 290 s",
    ];
    assert_eq!(world.logs, expected);
}

#[test]
fn a_provider_that_wants_a_nonce_for_ever_is_asked_twice_and_then_there_is_a_pause() {
    for nonce in ["n1", "n2"] {
        let mut world = World::new(&bound());
        let body = json!({ "error": "use_dpop_nonce" }).to_string();
        world.provider.tokens =
            Mode::Says { status: 400, headers: vec![("dpop-nonce", nonce.to_owned())], body };
        assert_eq!(world.ask(&pay()).status(), 503);
        world.pass(secs(3600));
        let times = world.provider.times(Endpoint::Tokens);
        assert!(times.chunks(2).all(|pair| pair[1] - pair[0] < millis(100)), "{times:?}");
        assert!(times.len() < 120, "{} attempts in an hour", times.len());
        assert_eq!(world.ask(&pay()).status(), 503, "held for one attempt at most");
    }
}

#[test]
fn a_nonce_that_is_none_is_not_taken() {
    for nonce in ["", "a b", "a\"b", "a\r\nx: y", "caf\u{e9}", &"n".repeat(10_000)] {
        let mut world = World::new(&bound());
        let body = json!({ "error": "use_dpop_nonce" }).to_string();
        world.provider.tokens =
            Mode::Says { status: 400, headers: vec![("dpop-nonce", nonce.to_owned())], body };
        world.pass(secs(20));
        let times = world.provider.times(Endpoint::Tokens);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= secs(1)), "{nonce:?}: an ordinary refusal");
        world.provider.tokens = Mode::Works;
        world.pass(secs(600));
        assert!(world.provider.proofs.iter().all(|proof| decode(proof).1["nonce"].is_null()), "{nonce:?}");
        assert_eq!(world.ask(&pay()).status(), 200);
    }
}

#[test]
fn a_token_that_is_not_bound_is_not_sent() {
    let mut world = World::new(&bound());
    let body = json!({ "access_token": "hushhush-token", "token_type": "Bearer", "expires_in": 300 });
    world.provider.tokens = Mode::json(200, &body);
    assert_eq!(world.ask(&pay()).status(), 503);
    assert!(world.logs[0].ends_with("unusable: token_type is Bearer, expected DPoP"), "{:?}", world.logs);
}

#[test]
fn without_a_key_nothing_is_fetched_and_the_error_is_logged() {
    let mut world = World::signing(&bound(), Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom)));
    assert_eq!(world.ask(&pay()).status(), 503);
    world.pass(secs(60));
    assert_eq!(world.provider.count(Endpoint::Tokens), 0);
    let line = "configuration: no proof can be signed for the token request";
    assert!(world.logs[0].ends_with(line), "{:?}", world.logs);
}

#[test]
fn the_nonce_of_a_service_is_in_every_further_proof_for_its_origin_alone() {
    let mut world = World::warm(&bound_in(any_host()));
    let (claims, sent) = proof_of(&mut world, &to("one"));
    assert_eq!(claims["nonce"], Value::Null);
    world.upstream_answers(&sent, &answer("401", &[WANTS_NONCE, ("dpop-nonce", "n1")]));
    let (claims, sent) = proof_of(&mut world, &to("ONE:443"));
    assert_eq!(claims["nonce"], "n1");
    assert_eq!(proof_of(&mut world, &to("two")).0["nonce"], Value::Null);
    world.upstream_answers(&sent, &answer("200", &[("dpop-nonce", "n2")]));
    let (claims, sent) = proof_of(&mut world, &to("one"));
    assert_eq!(claims["nonce"], "n2");
    for odd in ["", "a b", "caf\u{e9}", &"n".repeat(10_000)] {
        world.upstream_answers(&sent, &answer("200", &[("dpop-nonce", odd)]));
        assert_eq!(proof_of(&mut world, &to("one")).0["nonce"], "n2", "{odd:?}");
    }
    // Made-up hosts evict other entries, and do nothing else.
    for number in 0..1000 {
        let (_, sent) = proof_of(&mut world, &to(&format!("host-{number}")));
        world.upstream_answers(&sent, &answer("200", &[("dpop-nonce", "x")]));
    }
    assert_eq!(proof_of(&mut world, &to("one")).0["nonce"], Value::Null);
    assert_eq!(proof_of(&mut world, &to("host-999")).0["nonce"], "x");
    let (_, sent) = proof_of(&mut world, &to(&"h".repeat(1100)));
    world.upstream_answers(&sent, &answer("200", &[("dpop-nonce", "x")]));
    let counters = world.counters();
    assert_eq!(counters["m2m_auth_limit_reached.limit.nonces"], 1001 - 64);
    assert_eq!(counters["m2m_auth_limit_reached.limit.nonce_bytes"], 2, "one nonce, and one origin");
}

#[test]
fn a_401_about_the_proof_costs_no_token_and_one_about_the_token_does() {
    let mut world = World::warm(&bound());
    world.run_until(secs(20));
    for challenge in ["use_dpop_nonce", "invalid_dpop_proof"] {
        let (_, sent) = proof_of(&mut world, &pay());
        let challenge = format!("DPoP error=\"{challenge}\"");
        world.upstream_answers(
            &sent,
            &answer("401", &[("www-authenticate", &challenge), ("dpop-nonce", "n")]),
        );
        world.pass(secs(2));
        assert_eq!(world.provider.count(Endpoint::Tokens), 1, "{challenge}");
    }
    let (_, sent) = proof_of(&mut world, &pay());
    let invalid = ("www-authenticate", "DPoP error=\"invalid_token\"");
    world.upstream_answers(&sent, &answer("401", &[invalid, ("dpop-nonce", "n1")]));
    world.pass(secs(2));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
    assert_eq!(proof_of(&mut world, &pay()).0["nonce"], "n1");
}

#[test]
fn a_clients_own_proof_is_never_forwarded_beside_our_token() {
    for configuration in [bound(), without_discovery(outbound())] {
        let mut world = World::warm(&configuration);
        let own = pay().header("dpop", "the client's").bearer("own");
        let headers = format!("{:?}", world.ask(&own).edits().headers);
        let is_bound = configuration["outbound"]["credentials"]["order"]["dpop"] == true;
        let expected = if is_bound { "set dpop" } else { "remove dpop" };
        assert!(headers.contains(expected), "{headers}");
        // What is kept is kept whole.
        let mut keeping = configuration.clone();
        keeping["outbound"]["rules"][0]["existing"] = json!("keep");
        let mut world = World::warm(&keeping);
        assert_eq!(world.ask(&own).edits().headers, []);
        let headers = format!("{:?}", world.ask(&pay().header("dpop", "the client's")).edits().headers);
        assert!(headers.contains(expected), "{headers}");
        // Where there is no token, there is nothing of the client's either.
        let mut passing = configuration.clone();
        passing["outbound"]["rules"][0]["unavailable"] = json!("danger_pass");
        let mut world = World::new(&passing);
        world.provider.tokens = Mode::status(500);
        let headers = format!("{:?}", world.ask(&own).edits().headers);
        assert_eq!(headers, "[remove authorization, remove dpop]");
    }
}

#[test]
fn a_proof_claims_the_origin_of_the_rule_or_of_the_request_and_else_there_is_none() {
    let mut configuration = bound();
    configuration["outbound"]["rules"][0]["dpop_origin"] = json!("HTTPS://API.example.com:443/");
    let mut world = World::warm(&configuration);
    let plain = get("/a%20b//c?d=e").host("payment");
    assert_eq!(proof_of(&mut world, &plain).0["htu"], "https://api.example.com/a%20b//c");
    let mut world = World::warm(&bound());
    assert_eq!(
        proof_of(&mut world, &plain.clone().header(":scheme", "http")).0["htu"],
        "http://payment/a%20b//c"
    );
    for scheme in ["", "ftp"] {
        let outcome = world.ask(&plain.clone().header(":scheme", scheme));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "dpop_signing_failed"));
    }
}

#[test]
fn a_key_that_nobody_signs_with_stops_every_request_and_sends_none_without_a_proof() {
    // P-256 is the host's to sign with, and this one does not.
    let unsigning = signer().with_proof_key(ProofKey::from_seed(&[7; 32], Algorithm::Es256).map(Rc::new));
    let mut configuration = bound();
    configuration["outbound"]["rules"][0]["unavailable"] = json!("danger_pass");
    let mut world = World::signing(&configuration, unsigning);
    let outcome = world.ask(&pay());
    assert_eq!(outcome.edits().attached_token, None);
    assert_eq!(world.provider.count(Endpoint::Tokens), 0, "no token was asked for");
}

/// A rule for every host.
fn any_host() -> Value {
    let mut configuration = both();
    configuration.as_object_mut().unwrap().remove("inbound");
    configuration["outbound"]["rules"][0].as_object_mut().unwrap().remove("match");
    configuration
}

#[test]
fn exchanged_tokens_are_bound_too_and_each_is_asked_for_again_with_the_nonce() {
    let mut configuration = bound_in(both());
    configuration["outbound"]["credentials"]["order"]["grant_type"] = json!("token_exchange");
    let mut world = World::warm(&configuration);
    world.provider.nonce = Some("n1");
    let key = world.provider.published[0].clone();
    let callers = [(); 2].map(|()| world.mint(&key, 300, "inventory-service"));
    let of = |token: &String| items(token).host("payment").header(":scheme", "https");
    let sent = callers.each_ref().map(|token| world.send(&of(token)));
    world.pass(millis(100));
    assert_eq!(world.provider.count(Endpoint::Tokens), 4, "{:?}", world.logs);
    for id in sent {
        assert!(world.outcome(id).set("authorization").unwrap().starts_with("DPoP "));
    }
    assert!(world.ask(&of(&callers[0])).set("dpop").is_some());
}

#[test]
fn a_bound_token_that_the_route_asks_for_has_its_scheme_and_its_proof_too() {
    let mut configuration = bound();
    let mut plain = configuration["outbound"]["credentials"]["order"].clone();
    plain["dpop"] = json!(false);
    plain["client_id"] = json!("plain");
    configuration["outbound"]["credentials"]["plain"] = plain;
    configuration["outbound"]["rules"] = json!([{ "route_metadata": true }]);
    let mut world = World::warm(&configuration);
    let own = || pay().header("dpop", "the client's");
    let bound = world.ask(&own().naming("order"));
    assert!(bound.set("authorization").unwrap().starts_with("DPoP ") && bound.set("dpop").is_some());
    let plain = world.ask(&own().naming("plain"));
    assert!(plain.set("authorization").unwrap().starts_with("Bearer ") && plain.set("dpop").is_none());
    assert!(format!("{:?}", plain.edits().headers).contains("remove dpop"));
}
