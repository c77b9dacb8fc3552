//! Outbound rules by the metadata of a route, and by its cluster.

use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{Get, Outcome, World, get, items, millis, outbound, secs, without_discovery};
use m2m_auth::store::{FetchKey, OwnToken};
use serde_json::{Value, json};

const API: &str = "outbound|443||api.example.com";

/// `inventory` for one cluster, `order` for the host `payment`; before them these rules, or one
/// that uses `spare`.
fn rules(first: &[Value]) -> Value {
    let mut configuration = without_discovery(outbound());
    for name in ["inventory", "spare"] {
        configuration["outbound"]["credentials"][name] = json!({
            "issuer": "idp", "client_id": name, "client_secret": { "env": "SECRET" },
        });
    }
    let mut rules = first.to_vec();
    rules.push(json!({ "name": "api", "match": { "cluster": API }, "credential": "inventory" }));
    rules.push(json!({ "match": { "host": "payment" }, "credential": "order", "header": "x-token" }));
    configuration["outbound"]["rules"] = rules.into();
    configuration
}

/// The metadata of routes has precedence.
fn heard() -> Value {
    rules(&[json!({ "name": "by-route", "route_metadata": true })])
}

/// The metadata of routes is ignored.
fn without_route_metadata() -> Value {
    rules(&[json!({ "match": { "path": "/spare" }, "credential": "spare", "route_metadata": false })])
}

/// Credentials are in the order of their names.
fn credential_of(outcome: &Outcome) -> Option<&'static str> {
    let sent = outcome.edits().attached_token.as_ref()?;
    let FetchKey::Token(OwnToken(credential)) = sent.fetch_key else { return None };
    Some(["inventory", "order", "spare"][credential.index()])
}

fn pay() -> Get {
    get("/pay").host("payment")
}

#[test]
fn a_rule_for_a_cluster_matches_no_other_and_no_unknown_cluster() {
    let mut world = World::warm(&without_route_metadata());
    for (get, credential) in [
        (get("/").to(API), Some("inventory")),
        (pay().to(API), Some("inventory")),
        (pay().to("outbound|443||api.example.org"), Some("order")),
        (pay(), Some("order")),
        (get("/").to("outbound|443||api.example.org"), None),
        (get("/").to(""), None),
        (get("/"), None),
    ] {
        let outcome = world.ask(&get);
        assert!(outcome.passed());
        assert_eq!(credential_of(&outcome), credential);
    }
}

#[test]
fn what_a_route_says_comes_before_the_rules_which_are_for_routes_that_say_nothing() {
    let mut world = World::warm(&heard());
    for (get, credential) in [
        (get("/").naming("spare"), Some("spare")),
        (pay().naming("spare"), Some("spare")),
        (pay().to(API).naming("order"), Some("order")),
        (pay().naming("none"), None),
        (get("/").to(API).naming("none"), None),
        (pay(), Some("order")),
        (get("/").to(API), Some("inventory")),
        (get("/"), None),
    ] {
        let outcome = world.ask(&get);
        assert!(outcome.passed());
        assert_eq!(credential_of(&outcome), credential);
    }
    let own = world.ask(&pay().naming("none").bearer("own"));
    assert!(own.edits().headers.is_empty(), "`none` attaches nothing: the request is forwarded unchanged");
    let counted = world.counters();
    assert_eq!(counted["m2m_auth_outbound.rule.by-route.decision.attached"], 3);
    assert_eq!(counted["m2m_auth_outbound.rule.by-route.decision.passed"], 3);
}

#[test]
fn what_a_route_says_counts_only_where_the_operator_lets_it() {
    let mut world = World::warm(&without_route_metadata());
    for name in ["spare", "none", "nobody"] {
        let outcome = world.ask(&pay().naming(name));
        assert!(outcome.passed());
        assert_eq!(credential_of(&outcome), Some("order"), "{name}");
    }
}

#[test]
fn a_rule_for_routes_applies_at_its_position_to_the_requests_that_it_matches() {
    let mut configuration = rules(&[]);
    let by_route = json!({ "route_metadata": true, "match": { "path": "/heard" } });
    configuration["outbound"]["rules"].as_array_mut().unwrap().insert(1, by_route);
    let mut world = World::warm(&configuration);
    for (get, credential) in [
        (get("/heard").to(API).naming("spare"), Some("inventory")),
        (get("/heard").host("payment").naming("spare"), Some("spare")),
        (get("/heard").host("payment"), Some("order")),
        (pay().naming("spare"), Some("order")),
        (pay().naming("nobody"), Some("order")),
    ] {
        assert_eq!(credential_of(&world.ask(&get)), credential);
    }
}

#[test]
fn a_route_that_names_no_credential_of_ours_is_refused_at_once_with_what_it_named_in_the_log() {
    let rule = json!({ "name": "by-route", "route_metadata": true, "unavailable": "danger_pass", "existing": "keep" });
    let mut world = World::warm(&rules(&[rule]));
    let names: [&[u8]; 6] = [b"odrer", b"", b"Order", b"order ", b"NONE", &[0xff, 0, b'\n', b'"']];
    for name in names {
        let outcome = world.ask(&pay().to(API).naming(name).bearer("own"));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "unknown_credential"), "{name:?}");
        assert!(outcome.at_once() && outcome.retry_after() == Some(60));
        let line: Value = serde_json::from_str(world.logs.last().unwrap()).unwrap();
        assert_eq!(line["reason"], "unknown_credential");
        assert_eq!(line["rule"], "by-route");
        assert_eq!(line["credential"], String::from_utf8_lossy(name).as_ref());
    }
    let counted = world.counters();
    assert_eq!(counted["m2m_auth_outbound.rule.by-route.decision.unknown_credential"], 6);
    assert_eq!(world.ask(&pay()).status(), 200, "other routes still work");
}

#[test]
fn a_token_that_a_route_names_is_attached_as_the_rule_for_routes_says() {
    let settings = json!({
        "route_metadata": true, "header": "X-Service-Token", "scheme": "Token",
        "existing": "keep", "unavailable": "fail",
    });
    let mut world = World::new(&rules(&[settings]));
    let early = world.ask(&pay().naming("order"));
    assert_eq!((early.status(), early.reason().as_str()), (503, "outbound_token_unavailable"));
    assert!(early.at_once(), "fail");
    world.pass(secs(1));
    let outcome = world.ask(&pay().naming("order").bearer("own"));
    let token = outcome.set("x-service-token").unwrap();
    assert!(token.starts_with("Token ") && outcome.edits().attached_token.is_some(), "{token}");
    assert_eq!((outcome.set("authorization"), outcome.set("x-token")), (None, None));
    let kept = world.ask(&pay().naming("order").header("x-service-token", "own"));
    assert!(kept.passed() && kept.edits().headers.is_empty());
}

#[test]
fn a_request_that_waits_keeps_the_route_that_it_came_by() {
    let mut world = World::new(&heard());
    world.provider.tokens = Mode::Late(secs(2));
    let ids = [get("/").to(API), pay().naming("spare"), pay()].map(|get| world.send(&get));
    world.pass(millis(1900));
    assert_eq!(world.waiting().len(), 3);
    world.pass(secs(1));
    let credential_of = ids.map(|id| credential_of(&world.outcome(id)));
    assert_eq!(credential_of, [Some("inventory"), Some("spare"), Some("order")]);
}

#[test]
fn a_credential_for_routes_alone_is_fetched_before_any_request_and_renewed() {
    let mut configuration = heard();
    configuration["outbound"]["rules"] = json!([{ "route_metadata": true }]);
    let mut world = World::warm(&configuration);
    assert_eq!(world.provider.count(Endpoint::Tokens), 3);
    for _ in 0..100 {
        let outcome = world.ask(&get("/").naming("spare"));
        assert!(outcome.passed(), "{outcome:?}");
        world.pass(secs(10));
    }
    assert!(world.provider.count(Endpoint::Tokens) > 9);
}

#[test]
fn a_caller_is_checked_before_its_route_is_read() {
    let mut configuration = heard();
    configuration["inbound"] = without_discovery(crate::core::sim::world::inbound())["inbound"].clone();
    let mut world = World::warm(&configuration);
    let stranger = world.ask(&get("/inventory/items").naming("nobody"));
    assert_eq!((stranger.status(), stranger.reason().as_str()), (401, "no_token"));
    let token = world.token();
    let caller = world.ask(&items(&token).naming("nobody"));
    assert_eq!((caller.status(), caller.reason().as_str()), (503, "unknown_credential"));
    assert_eq!(credential_of(&world.ask(&items(&token).naming("spare"))), Some("spare"));
}
