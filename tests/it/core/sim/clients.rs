//! Client authentication over time: secrets that rotate, assertions that are good once.

use crate::core::sim::provider::{Endpoint, ISSUER, Key, Mode};
use crate::core::sim::world::{World, both, items, millis, outbound, pay, secs, without_discovery};
use m2m_auth_kit::key::{Alg, Key as RealKey};
use m2m_auth_kit::token::{decode, verifies};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The mark is in all of them, so that none can be printed unnoticed.
const OLD: &str = "hushhush-old";
const NEW: &str = "hushhush-new";

fn with(changes: &Value) -> Value {
    let mut configuration = without_discovery(outbound());
    let credential = configuration["outbound"]["credentials"]["order"].as_object_mut().unwrap();
    credential.remove("client_secret");
    credential.extend(changes.as_object().unwrap().clone());
    configuration
}

fn listed(secrets: &[&str]) -> Value {
    let list: Vec<_> = secrets.iter().map(|secret| json!({ "inline": secret })).collect();
    with(&json!({ "client_secret": list }))
}

fn by_key(key: &RealKey) -> Value {
    with(
        &json!({ "auth_method": "private_key_jwt", "private_key": { "inline": key.private_jwk().to_string() } }),
    )
}

#[test]
fn a_secret_that_changes_at_once_costs_no_request() {
    for seed in 0..30 {
        let mut world = World::seeded(&listed(&[NEW, OLD]), seed);
        world.provider.tokens = Mode::Takes(OLD);
        assert_eq!(world.ask(&pay()).status(), 200, "seed {seed}: the second secret is the right one");
        for minute in 0..120 {
            if minute == 60 {
                world.provider.tokens = Mode::Takes(NEW);
            }
            assert!(world.ask(&pay()).passed(), "seed {seed}, minute {minute}");
            world.pass(secs(60));
        }
        let presented = &world.provider.presented;
        assert!(
            presented.starts_with(&[NEW, OLD, OLD].map(str::to_owned)),
            "the one that worked comes first"
        );
        assert!(presented.ends_with(&[NEW, NEW].map(str::to_owned)));
        assert_eq!(
            presented.len(),
            world.provider.issued.len() + 2,
            "one refusal at the start, one at the change"
        );
    }
}

#[test]
fn the_secret_that_worked_is_logged() {
    let mut world = World::new(&listed(&[NEW, OLD]));
    world.provider.tokens = Mode::Takes(OLD);
    world.pass(secs(1));
    let expected = [
        "token of credential order: configuration: status 401, unauthorized_client; the next secret is tried",
        "token of credential order: token acquired, expires in 290 s, by secret 2 of 2",
    ];
    assert_eq!(world.logs, expected);
}

#[test]
fn of_secrets_that_are_all_wrong_each_is_tried_once_and_then_there_is_a_pause() {
    let mut rounds = 0;
    for seed in 0..30 {
        let mut world = World::seeded(&listed(&["hushhush-1", "hushhush-2", "hushhush-3"]), seed);
        world.provider.tokens = Mode::Takes(NEW);
        assert_eq!(world.ask(&pay()).status(), 503, "seed {seed}");
        world.pass(secs(3600));
        let (times, presented) = (world.provider.times(Endpoint::Tokens), &world.provider.presented);
        assert_eq!(times.len() % 3, 0);
        for (round, presented) in times.chunks(3).zip(presented.chunks(3)) {
            assert!(round[2] - round[0] < millis(100), "{round:?}");
            assert_eq!(presented.iter().collect::<BTreeSet<_>>().len(), 3, "{presented:?}");
        }
        assert!(
            times.chunks(3).zip(times.chunks(3).skip(1)).all(|(one, next)| next[0] - one[2] >= millis(900))
        );
        rounds += times.len() / 3;
        assert_eq!(world.ask(&pay()).status(), 503, "held for one attempt at most");
    }
    assert!(rounds <= 30 * 60, "{rounds} rounds in an hour of thirty workers");
}

#[test]
fn an_outage_in_the_middle_of_a_rotation_is_an_outage_and_no_more() {
    for seed in 0..30 {
        let mut world = World::seeded(&listed(&[OLD, NEW]), seed);
        world.provider.tokens = Mode::Takes(OLD);
        world.pass(secs(100));
        for mode in [Mode::status(500), Mode::Resets, Mode::Takes("neither"), Mode::Takes(NEW)] {
            world.provider.tokens = mode;
            world.pass(secs(301));
        }
        assert_eq!(world.ask(&pay()).status(), 200, "seed {seed}");
    }
}

#[test]
fn every_attempt_has_an_assertion_of_its_own_that_ends_soon() {
    let key = RealKey::new(Alg::EdDsa);
    let mut world = World::new(&by_key(&key));
    world.wall_step = 77;
    world.pass(secs(600));
    world.provider.tokens = Mode::status(500);
    world.pass(secs(600));
    let times = world.provider.times(Endpoint::Tokens);
    let mut seen = BTreeSet::new();
    let start = world.unix() - world.now.as_secs();
    for (assertion, at) in world.provider.presented.iter().zip(&times) {
        let (header, claims) = decode(assertion);
        assert!(verifies(assertion, &key));
        assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &json!(key.kid())));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("order-service"), &json!("order-service")));
        assert_eq!(claims["aud"], ISSUER);
        let (issued, end) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert_eq!(issued, start + at.as_secs());
        assert!((1..=60).contains(&(end - issued)));
        assert!(seen.insert(claims["jti"].as_str().unwrap().to_owned()), "used twice");
    }
    assert!(seen.len() > 20, "{} attempts", seen.len());
}

#[test]
fn a_key_that_cannot_sign_here_holds_up_nothing_else_and_is_logged() {
    // Only the host signs with ES256, and this host does not.
    let mut configuration = without_discovery(both());
    configuration["outbound"] = by_key(&RealKey::new(Alg::Es256))["outbound"].clone();
    let mut world = World::new(&configuration);
    world.provider.published = vec![Key::number(1)];
    world.pass(secs(1));
    let token = world.token();
    assert_eq!(world.ask(&items(&token)).status(), 200);
    let outcome = world.ask(&pay());
    assert!(outcome.status() == 503 && outcome.at_once(), "{outcome:?}");
    world.pass(secs(3600));
    assert_eq!(world.provider.count(Endpoint::Tokens), 0);
    let logged = world.logs.iter().filter(|line| line.contains("does not sign ES256 with this key")).count();
    assert!((5..60).contains(&logged), "{logged} in an hour: {:?}", world.logs.first());
}
