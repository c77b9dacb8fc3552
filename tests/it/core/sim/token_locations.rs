//! Tokens in other locations than `Authorization`, and what the service receives.

use crate::core::sim::provider::Mode;
use crate::core::sim::world::{World, get, inbound, secs, without_discovery};
use serde_json::{Value, json};

/// Tokens in every location, for rules of three kinds, and a rule with a location of its own.
fn everywhere() -> Value {
    let mut configuration = without_discovery(inbound());
    let require = configuration["inbound"]["rules"][0]["require"].clone();
    configuration["inbound"]["token_locations"] = json!([
        { "header": "authorization" },
        { "header": "x-api-token", "prefix": "tok:" },
        { "cookie": "session" },
        { "danger_query": "access_token" },
    ]);
    configuration["inbound"]["rules"] = json!([
        { "match": { "path": "/own" }, "require": require, "token_locations": [{ "header": "x-own" }] },
        { "match": { "path": "/kept" }, "require": require, "forward_token": true },
        { "match": { "path": "/none" }, "require": require, "forward_token": false },
        { "match": { "path": "/optional" }, "require": require, "mode": "optional" },
        { "match": { "path": "/permissive" }, "require": require, "mode": "danger_permissive" },
        { "match": { "path": "/dry" }, "require": require, "mode": "danger_dry_run" },
        { "match": { "path_prefix": "/open" }, "allow": true },
        { "require": require },
    ]);
    configuration
}

#[test]
fn a_token_counts_in_each_configured_location_and_in_no_other() {
    let mut world = World::warm(&everywhere());
    let token = world.token();
    for (path, name, value) in [
        ("/x", "authorization", format!("Bearer {token}")),
        ("/x", "x-api-token", format!("tok:{token}")),
        ("/x", "cookie", format!("a=b; session={token}")),
        ("/own", "x-own", token.clone()),
    ] {
        assert!(world.ask(&get(path).header(name, &value)).passed(), "{path} {name}");
    }
    assert!(world.ask(&get(&format!("/x?access_token={token}"))).passed());
    for (path, name, value) in [
        ("/x", "x-own", token.clone()),
        ("/own", "authorization", "Bearer garbage".to_owned()),
        ("/own", "cookie", format!("session={token}")),
        ("/own?access_token=x", "x-api-token", format!("tok:{token}")),
        ("/x", "x-api-token", token.clone()),
        ("/x", "cookie", format!("Session={token}")),
    ] {
        let outcome = world.ask(&get(path).header(name, &value));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "no_token"), "{path} {name}");
    }
    let mut usual = World::warm(&without_discovery(inbound()));
    let token = usual.token();
    let outcome = usual
        .ask(&get(&format!("/inventory?access_token={token}")).header("cookie", &format!("session={token}")));
    assert_eq!(outcome.reason(), "no_token", "nowhere but in Authorization unless it is said");
}

#[test]
fn two_locations_are_one_too_many_even_for_the_same_token() {
    let mut world = World::warm(&everywhere());
    let token = world.token();
    let query = format!("/x?access_token={token}");
    let bearer = format!("Bearer {token}");
    for request in [
        get(&query).header("authorization", &bearer),
        get(&query).header("cookie", &format!("session={token}")),
        get("/x").header("x-api-token", "tok:garbage").header("authorization", &bearer),
        get(&format!("{query}&access_token=")),
        get(&format!("{query}&access%5ftoken={token}")),
    ] {
        let outcome = world.ask(&request);
        assert_eq!((outcome.status(), outcome.reason().as_str()), (400, "multiple_credentials"));
    }
    let beside = get(&query).header("authorization", "Basic eDp5").header("x-api-token", "other");
    assert!(world.ask(&beside).passed(), "what is no token of ours is not counted");
}

#[test]
fn tokens_are_taken_out_and_everything_beside_them_stays() {
    let mut world = World::warm(&everywhere());
    let token = world.token();
    let query = |path: &str| get(&format!("{path}?a=%20+%2B&access_token={token}&&b&a=2"));
    let outcome = world.ask(&query("/x").header("cookie", "a=1; b=\"2\""));
    assert_eq!(outcome.set(":path").as_deref(), Some("/x?a=%20+%2B&&b&a=2"));
    assert!(
        outcome.set("cookie").is_none() && !outcome.removes("cookie"),
        "cookies without a token are not touched"
    );
    let cookie = |path: &str| get(path).header("cookie", &format!("a=1; session={token};b=\"2\""));
    assert_eq!(world.ask(&cookie("/x?q=session")).set("cookie").as_deref(), Some("a=1;b=\"2\""));
    let alone = world.ask(&get("/x").header("cookie", &format!("session={token}")));
    assert!(alone.removes("cookie"));
    assert_eq!(world.ask(&get(&format!("/x?access_token={token}"))).set(":path").as_deref(), Some("/x"));
    assert!(world.ask(&get("/x").header("x-api-token", &format!("tok:{token}"))).removes("x-api-token"));
    assert!(world.ask(&get("/x").bearer(&token)).edits().headers.is_empty(), "Authorization is forwarded");
    assert!(world.ask(&get("/none").bearer(&token)).removes("authorization"));
    for request in [query("/kept"), cookie("/kept")] {
        assert!(world.ask(&request).edits().headers.is_empty());
    }
    // No token is read here, so nothing is changed.
    assert!(world.ask(&query("/open")).edits().headers.is_empty());
}

#[test]
fn tokens_are_taken_out_in_every_mode_whatever_they_are() {
    let mut world = World::warm(&everywhere());
    let good = world.token();
    for path in ["/permissive", "/dry"] {
        for token in [good.as_str(), "garbage", "", "a&access_token=b"] {
            let outcome = world
                .ask(&get(&format!("{path}?x=1&access_token={token}")).header("cookie", "session=s; c=1"));
            assert!(outcome.passed(), "{path} {token}");
            assert_eq!(outcome.set(":path").as_deref(), Some(format!("{path}?x=1").as_str()), "{token}");
            assert_eq!(outcome.set("cookie").as_deref(), Some("c=1"), "{token}");
        }
    }
    let outcome = world.ask(&get("/optional?access_token=&x").header("authorization", "Basic eDp5"));
    assert!(outcome.passed(), "an empty one is no token");
    assert_eq!(outcome.set(":path").as_deref(), Some("/optional?x"));
    assert!(!outcome.removes("authorization"), "what is no token of ours stays");
    assert_eq!(
        world.ask(&get(&format!("/optional?access_token={good}"))).set(":path").as_deref(),
        Some("/optional")
    );
}

#[test]
fn a_request_that_waited_leaves_without_its_token_too() {
    let mut world = World::new(&everywhere());
    world.provider.keys = Mode::Late(secs(1));
    let token = world.token();
    let outcome = world.ask(&get(&format!("/x?access_token={token}&a=1")));
    assert!(outcome.status() == 200 && !outcome.at_once());
    assert_eq!(outcome.set(":path").as_deref(), Some("/x?a=1"));
}

#[test]
fn a_token_in_an_oversized_query_or_among_oversized_cookies_is_not_looked_for() {
    let mut world = World::warm(&everywhere());
    let (token, much) = (world.token(), "x".repeat(m2m_auth::inbound::token_location::MAX_BYTES));
    for request in [
        get(&format!("/x?a={much}&access_token={token}")),
        get("/x").header("cookie", &format!("a={much}; session={token}")),
        get("/x").header("x-api-token", &format!("tok:{much}")),
    ] {
        let outcome = world.ask(&request);
        assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "too_large"));
    }
    assert_eq!(world.counters()["m2m_auth_inbound.rule.any.decision.too_large"], 3);
}

#[test]
fn no_answer_and_no_line_holds_a_token_from_any_location() {
    let mut world = World::warm(&everywhere());
    // The world itself searches every answer and line for the beginning of a token.
    let bad = world.mint(&crate::core::sim::provider::Key::number(9), 300, "other");
    for request in [
        get(&format!("/x?access_token={bad}")),
        get(&format!("/x?access_token={bad}&access_token={bad}")),
        get(&format!("/dry?access_token={bad}")),
        get("/x").header("cookie", &format!("session={bad}")),
        get("/x").header("x-api-token", &format!("tok:{bad}")),
    ] {
        world.ask(&request);
    }
    let lines = world.logs.iter().filter(|line| line.contains("\"reason\""));
    assert_eq!(lines.count(), 5);
}
