//! The bounds that refuse no request, each crossed once: it holds, it costs little, and a metric
//! reports it.

use crate::core::sim::provider::{Endpoint, ISSUER, Key, MARK, Mode};
use crate::core::sim::world::{
    World, both, get, inbound, items, millis, outbound, pay, secs, without_discovery,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

fn config() -> Value {
    without_discovery(inbound())
}

fn reached(world: &mut World, which: &str) -> u64 {
    let counters = world.counters();
    let found = counters
        .iter()
        .find(|(name, _)| name.starts_with("m2m_auth_limit_reached.") && name.ends_with(which));
    found.map_or(0, |(_, sum)| *sum)
}

#[test]
fn callers_beyond_the_room_are_verified_anew_and_none_is_refused() {
    let mut world = World::warm(&config());
    let first = world.token();
    let ask = |world: &mut World, token: &str| {
        assert!(world.ask(&items(token)).passed());
        world.counters()
    };
    ask(&mut world, &first);
    for _ in 0..4095 {
        let token = world.token();
        assert!(world.ask(&items(&token)).passed());
    }
    assert_eq!(reached(&mut world, ".verified_tokens"), 0, "4096 have room");
    let one_more = world.token();
    let counters = ask(&mut world, &one_more);
    assert_eq!(
        counters["m2m_auth_limit_reached.name.idp.limit.verified_tokens"], 2048,
        "the older half went"
    );
    let counters = ask(&mut world, &first);
    assert_eq!(counters.get("m2m_auth_token_cache.lookup.miss"), Some(&1));
}

#[test]
fn large_tokens_are_kept_in_bounds_too() {
    let mut world = World::warm(&config());
    let (key, exp) = (world.provider.published[0].clone(), world.unix() + 300);
    let filler = "x".repeat(11_500);
    let mut length = 0;
    for number in 0..300 {
        let token = key.sign(&json!({
            "iss": ISSUER, "aud": "inventory-service", "exp": exp, "jti": number.to_string(), "mark": MARK, "filler": filler,
            "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
        }));
        length = token.len();
        world.admit(&token, &key, exp);
        assert!(world.ask(&items(&token)).passed(), "{:?}", world.ask(&items(&token)));
    }
    let half = u64::try_from(2 * 1024 * 1024 / length).unwrap();
    assert_eq!(reached(&mut world, ".verified_tokens"), half, "of tokens of {length} bytes");
}

#[test]
fn a_token_that_is_nested_too_deep_or_has_too_long_a_kid_is_refused_for_that() {
    let mut world = World::warm(&config());
    let key = world.provider.published[0].clone();
    let nested = |depth: usize| {
        let value: Value =
            serde_json::from_str(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))).unwrap();
        json!({ "iss": ISSUER, "aud": "inventory-service", "exp": 1_800_000_300_u64, "value": value })
    };
    for (token, reason) in [
        (key.sign(&nested(31)), "client_role"),
        (key.sign(&nested(32)), "too_deep"),
        (key.clone().called(&"k".repeat(256)).sign(&nested(1)), "unknown_key"),
        (key.clone().called(&"k".repeat(257)).sign(&nested(1)), "too_large"),
    ] {
        assert_eq!(world.ask(&items(&token)).reason(), reason);
    }
}

#[test]
fn more_keys_than_are_tried_are_named_as_the_cause() {
    let mut world = World::warm(&config());
    world.provider.published = (1..=5).map(|number| Key::number(number).called("same")).collect();
    world.pass(secs(301));
    let exp = world.unix() + 300;
    let claims = json!({ "iss": ISSUER, "aud": "inventory-service", "exp": exp });
    for (number, reason) in
        [(1, "client_role"), (4, "client_role"), (5, "too_many_keys"), (6, "too_many_keys")]
    {
        let token = Key::number(number).called("same").sign(&claims);
        assert_eq!(world.ask(&items(&token)).reason(), reason, "the key at position {number}");
    }
    world.provider.published.truncate(4);
    world.pass(secs(301));
    let token = Key::number(6).called("same").sign(&json!({ "iss": ISSUER, "exp": exp + 600 }));
    assert_eq!(world.ask(&items(&token)).reason(), "signature", "four can be tried");
}

#[test]
fn a_key_set_that_is_too_large_costs_nobody_the_keys_before_it() {
    let nested = format!("{{\"keys\":[],\"x\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let many = json!({ "keys": vec![Key::number(1).jwk(); 101] }).to_string();
    for body in [many, nested] {
        let mut world = World::warm(&config());
        world.provider.keys = Mode::Says { status: 200, headers: Vec::new(), body };
        world.pass(secs(301));
        let token = world.token();
        assert!(world.ask(&items(&token)).passed());
        let counters = world.counters();
        assert!(counters["m2m_auth_fetch.kind.jwks.name.idp.outcome.too_large"] > 0, "{counters:?}");
    }
}

#[test]
fn a_key_that_is_too_large_is_left_out_and_an_etag_that_is_too_long_is_not_sent_back() {
    let mut world = World::new(&config());
    let modulus: Vec<u8> = std::iter::once(1).chain(vec![255; 1024]).collect();
    let large = json!({ "kty": "RSA", "kid": "large", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" });
    let body = json!({ "keys": [large, Key::number(1).jwk()] }).to_string();
    let says = |etag: usize| Mode::Says {
        status: 200,
        headers: vec![("etag", format!("\"{}\"", "e".repeat(etag - 2)))],
        body: body.clone(),
    };
    world.provider.keys = says(129);
    world.pass(secs(1));
    let token = world.token();
    assert!(world.ask(&items(&token)).passed());
    let counters = world.counters();
    assert_eq!(counters["m2m_auth_limit_reached.name.idp.limit.rsa_bits"], 1);
    assert_eq!(counters["m2m_auth_limit_reached.name.idp.limit.etag"], 1);
    world.provider.keys = says(128);
    world.pass(secs(301));
    assert_eq!(reached(&mut world, ".etag"), 0);
}

#[test]
fn a_token_that_is_said_to_live_for_years_is_renewed_within_a_day() {
    let mut world = World::new(&without_discovery(outbound()));
    world.provider.expires_in = json!(100_000_000);
    world.pass(secs(1));
    assert!(world.ask(&pay()).passed());
    assert_eq!(reached(&mut world, ".name.order.limit.token_lifetime"), 1);
    world.pass(secs(24 * 3600));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
}

#[test]
fn no_more_exchanges_run_at_a_time_than_may_and_the_others_wait_for_their_turn() {
    let mut configuration = without_discovery(both());
    let credential = &mut configuration["outbound"]["credentials"]["order"];
    credential["grant_type"] = json!("token_exchange");
    let mut world = World::warm(&configuration);
    world.provider.latency = secs(1);
    for _ in 0..120 {
        let token = world.token();
        world.send(&items(&token).host("payment"));
    }
    for running in [50, 100, 120] {
        world.pass(millis(950));
        assert_eq!(world.provider.count(Endpoint::Tokens), running);
        world.pass(millis(50));
    }
    world.pass(secs(1));
    assert!(world.outcomes().all(|outcome| outcome.status() == 200));
    assert_eq!(reached(&mut world, ".name.order.limit.concurrent_exchanges"), 70);
}

#[test]
fn when_every_slot_is_being_fetched_one_more_is_answered_503() {
    let mut configuration = without_discovery(both());
    configuration["outbound"]["credentials"]["order"]["grant_type"] = json!("token_exchange");
    configuration["pending_requests"] = json!({ "max": 10_000, "timeout": "60s" });
    let mut world = World::warm(&configuration);
    world.provider.latency = secs(1);
    let send = |world: &mut World| {
        let token = world.token();
        world.send(&items(&token).host("payment"))
    };
    let held: Vec<_> = (0..1024).map(|_| send(&mut world)).collect();
    let over = send(&mut world);
    let over = world.outcome(over);
    assert_eq!((over.status(), over.reason().as_str()), (503, "too_many_pending"));
    assert_eq!(reached(&mut world, ".name.order.limit.queued_exchanges"), 1);
    world.pass(secs(30));
    assert!(held.iter().all(|id| world.outcome(*id).status() == 200), "50 a second");
}

#[test]
fn what_a_client_chose_is_cut_in_the_audit_log() {
    let mut world = World::warm(&config());
    let path = format!("/inventory/{}", "x".repeat(500));
    assert_eq!(world.ask(&get(&path)).reason(), "no_token");
    assert_eq!(reached(&mut world, "_limit_reached.limit.audit_text"), 1);
    assert!(world.logs.last().unwrap().len() < 400, "{:?}", world.logs.last());
}
