//! What a rule's mode makes of its decision.

use crate::core::sim::provider::{Endpoint, ISSUER, Key, Mode, made_up};
use crate::core::sim::world::{Get, World, get, inbound, millis, outbound, pay, secs, without_discovery};
use serde_json::{Value, json};

/// One rule of each mode, for the path of its name, and one with `allow: true`.
fn modes() -> Value {
    let mut configuration = without_discovery(inbound());
    let require = configuration["inbound"]["rules"][0]["require"].clone();
    let rule = |mode: &str| {
        json!({ "name": mode, "match": { "path_prefix": format!("/{mode}") }, "require": require, "mode": mode,
                "claims_to_headers": { "x-caller": "azp" } })
    };
    configuration["inbound"]["rules"] = json!([
        rule("enforce"), rule("optional"), rule("danger_permissive"), rule("danger_dry_run"),
        { "name": "open", "match": { "path": "/open" }, "allow": true },
    ]);
    configuration
}

/// What a caller may present, and how an enforcing rule answers: 200, or a reason.
fn presented(world: &mut World) -> Vec<(Get, u16, &'static str)> {
    let key = world.provider.published.last().unwrap().clone();
    let good = world.token();
    let expired = world.mint(&key, -120, "inventory-service");
    let other = world.mint(&key, 300, "other-service");
    let poor = key.sign(&json!({ "iss": ISSUER, "aud": "inventory-service", "exp": world.unix() + 300 }));
    let foreign = Key::number(77).sign(&json!({ "iss": ISSUER }));
    let basic = get("/").header("authorization", "Basic eDp5");
    let twice = get("/").header("authorization", &format!("Bearer {good}, Bearer {good}"));
    vec![
        (get("/").bearer(&good), 200, "allowed"),
        (get("/"), 401, "no_token"),
        (basic, 401, "no_token"),
        (get("/").bearer("garbage"), 401, "malformed"),
        (get("/").bearer(&expired), 401, "expired"),
        (get("/").bearer(&other), 401, "audience"),
        (get("/").bearer(&poor), 403, "client_role"),
        (get("/").bearer(&foreign), 401, "unknown_key"),
        (twice, 400, "multiple_credentials"),
    ]
}

#[test]
fn an_optional_rule_allows_requests_without_a_credential_and_no_others() {
    let mut world = World::warm(&modes());
    for (asked, status, reason) in presented(&mut world) {
        let enforced = world.ask(&asked.clone().header(":path", "/enforce"));
        assert_eq!(enforced.status(), status, "{reason}");
        let outcome = world.ask(&asked.header(":path", "/optional").header("x-caller", "admin"));
        if reason == "no_token" {
            assert!(outcome.passed());
            assert_eq!(outcome.set("x-caller"), None, "nobody is nobody");
            assert!(outcome.removes("x-caller"), "and cannot say who he is");
        } else if status == 200 {
            assert_eq!(outcome.set("x-caller").as_deref(), Some("order-service"));
        } else {
            assert_eq!((outcome.status(), outcome.reason().as_str()), (status, reason));
        }
    }
    let counted = world.counters();
    assert_eq!(counted["m2m_auth_inbound.rule.optional.decision.anonymous"], 2);
    assert_eq!(counted["m2m_auth_inbound.rule.optional.decision.allowed"], 1);
    assert_eq!(counted["m2m_auth_inbound.rule.optional.decision.expired"], 1);
}

#[test]
fn a_token_that_cannot_be_judged_is_refused_by_an_optional_rule_and_no_token_waits_for_nothing() {
    let mut world = World::new(&modes());
    world.provider.all(&Mode::Silent);
    let token = world.token();
    let with = world.send(&get("/optional").bearer(&token));
    let without = world.ask(&get("/optional"));
    assert!(without.passed(), "{without:?}");
    world.pass(secs(6));
    assert_eq!(
        (world.outcome(with).status(), world.outcome(with).reason().as_str()),
        (503, "jwks_unavailable")
    );
}

#[test]
fn a_permissive_rule_forwards_every_request_with_its_decision() {
    let mut world = World::warm(&modes());
    for (asked, status, decision) in presented(&mut world) {
        world.ask(&asked.clone().header(":path", "/enforce")); // afterwards the keys are known
        let lie = asked.header(":path", "/danger_permissive").header("m2m-auth-decision", "allowed");
        let outcome = world.ask(&lie.header("x-caller", "admin"));
        assert!(outcome.passed(), "{decision}: {outcome:?}");
        assert_eq!(outcome.set("m2m-auth-decision").as_deref(), Some(decision));
        let caller = (status == 200).then(|| "order-service".to_owned());
        assert_eq!(outcome.set("x-caller"), caller, "{decision}");
        assert!(outcome.removes("x-caller") && outcome.removes("m2m-auth-decision"), "{decision}");
    }
    for path in ["/open", "/optional", "/danger_dry_run"] {
        let outcome = world.ask(&get(path).header("m2m-auth-decision", "allowed"));
        assert!(outcome.passed() && outcome.removes("m2m-auth-decision"), "{path}");
        assert_eq!(outcome.set("m2m-auth-decision"), None, "{path}");
    }
    let counted = world.counters();
    assert_eq!(counted["m2m_auth_permissive.rule.danger_permissive.decision.allowed"], 1);
    assert_eq!(counted["m2m_auth_permissive.rule.danger_permissive.decision.no_token"], 2);
    assert!(!counted.keys().any(|name| name.starts_with("m2m_auth_inbound.rule.danger_")), "{counted:?}");
}

#[test]
fn a_dry_run_forwards_every_request_and_logs_its_decision() {
    let mut world = World::warm(&modes());
    let presented = presented(&mut world);
    for (asked, status, decision) in &presented {
        world.ask(&asked.clone().header(":path", "/enforce")); // afterwards the keys are known
        world.pass(secs(1)); // so that no line is left out
        let lines = world.logs.len();
        let outcome = world.ask(
            &asked.clone().header(":path", "/danger_dry_run?access_token=x").header("x-caller", "admin"),
        );
        assert!(outcome.passed(), "{decision}: {outcome:?}");
        assert!(outcome.removes("x-caller"), "{decision}");
        assert_eq!(outcome.set("x-caller").is_some(), *status == 200, "{decision}");
        assert_eq!(outcome.set("m2m-auth-decision"), None, "{decision}");
        let reported: Vec<Value> =
            world.logs[lines..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if *status == 200 {
            assert_eq!(reported, Vec::<Value>::new());
        } else {
            assert_eq!(reported.len(), 1, "{decision}");
            assert_eq!(
                (&reported[0]["event"], &reported[0]["reason"]),
                (&json!("would_refuse"), &json!(decision))
            );
            assert_eq!(
                (&reported[0]["rule"], &reported[0]["path"]),
                (&json!("danger_dry_run"), &json!("/danger_dry_run"))
            );
        }
    }
    let counted = world.counters();
    for (decision, count) in
        [("allowed", 1), ("no_token", 2), ("expired", 1), ("client_role", 1), ("multiple_credentials", 1)]
    {
        assert_eq!(
            counted[&format!("m2m_auth_dry_run.rule.danger_dry_run.decision.{decision}")],
            count,
            "{decision}"
        );
    }
    assert!(!counted.keys().any(|name| name.starts_with("m2m_auth_inbound.rule.danger_")), "{counted:?}");
}

#[test]
fn rules_that_never_refuse_never_make_anybody_wait() {
    let mut world = World::new(&modes());
    world.provider.keys = Mode::Late(secs(2));
    let token = world.token();
    for path in ["/danger_permissive", "/danger_dry_run"] {
        let outcome = world.ask(&get(path).bearer(&token));
        assert!(outcome.passed(), "{path}: {outcome:?}");
    }
    let marked = world.ask(&get("/danger_permissive").bearer(&token));
    assert_eq!(
        marked.set("m2m-auth-decision").as_deref(),
        Some("jwks_unavailable"),
        "it could not be judged"
    );
    world.pass(secs(3));
    let fetched = world.provider.count(Endpoint::Keys);
    let judged = world.ask(&get("/danger_permissive").bearer(&token));
    assert_eq!(judged.set("m2m-auth-decision").as_deref(), Some("allowed"));
    let new = Key::number(2);
    world.provider.published.push(new.clone());
    let token = world.token();
    let unknown = world.ask(&get("/danger_permissive").bearer(&token));
    assert!(unknown.passed());
    assert_eq!(
        unknown.set("m2m-auth-decision").as_deref(),
        Some("jwks_unavailable"),
        "its key is not known yet"
    );
    world.pass(secs(30));
    assert!(world.provider.count(Endpoint::Keys) > fetched, "but is looked for all the same");
    let judged = world.ask(&get("/danger_permissive").bearer(&token));
    assert_eq!(judged.set("m2m-auth-decision").as_deref(), Some("allowed"));
    for _ in 0..100 {
        let made_up = world.ask(&get("/danger_permissive").bearer(&made_up("nobody")));
        assert!(made_up.passed());
        let decision = made_up.set("m2m-auth-decision").unwrap();
        assert!(["jwks_unavailable", "unknown_key"].contains(&decision.as_str()), "{decision}");
        world.pass(millis(100));
    }
    assert!(world.provider.count(Endpoint::Keys) <= fetched + 6, "a flood costs one fetch per interval");
    assert_eq!(world.waiting().len(), 0);
}

/// Filter state names no caller that was not admitted: later filters would decide by it.
#[test]
fn filter_state_names_no_caller_of_a_suppressed_refusal_and_holds_no_empty_value() {
    let mut configuration = modes();
    configuration["inbound"]["filter_state"] = json!(true);
    let mut world = World::warm(&configuration);
    let (key, exp) = (world.provider.published[0].clone(), world.unix() + 300);
    let poor =
        key.sign(&json!({ "iss": ISSUER, "aud": "inventory-service", "sub": "s", "azp": "c", "exp": exp }));
    let good = world.token();
    let state = |world: &mut World, path: &str, token: &str| {
        let outcome = world.ask(&get(path).bearer(token));
        let state = outcome.edits().filter_state.clone();
        state
            .into_iter()
            .map(|(name, value)| format!("{}={value}", name.trim_start_matches("m2m_auth.")))
            .collect::<Vec<_>>()
    };
    for mode in ["danger_permissive", "danger_dry_run"] {
        let reported = state(&mut world, &format!("/{mode}"), &poor);
        assert_eq!(reported, ["decision=would_refuse", "reason=client_role", &format!("rule={mode}")]);
    }
    let reported = state(&mut world, "/enforce", &good);
    let expected = [
        "decision=allowed",
        "rule=enforce",
        "subject=someone",
        "client=order-service",
        &format!("issuer={ISSUER}"),
        "roles=inventory-service/inventory:read",
    ];
    assert_eq!(reported, expected, "no scopes, so none are set");
}

#[test]
fn a_path_without_one_meaning_and_a_request_without_a_rule_are_refused_in_every_mode() {
    let mut world = World::warm(&modes());
    for (path, status) in [("/danger_dry_run%2f", 400), ("/x/../danger_permissive", 400), ("/nothing", 403)] {
        assert_eq!(world.ask(&get(path)).status(), status, "{path}");
    }
}

#[test]
fn lines_about_suppressed_refusals_take_no_room_from_refusals() {
    let mut world = World::warm(&modes());
    for _ in 0..100 {
        world.ask(&get("/danger_dry_run"));
    }
    world.ask(&get("/enforce"));
    let of = |event: &str| {
        world.logs.iter().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
    };
    assert_eq!((of("would_refuse"), of("refused")), (10, 1));
}

#[test]
fn a_suppressed_refusal_that_then_waits_for_its_own_token_is_reported_once() {
    let mut configuration = modes();
    configuration["outbound"] = outbound()["outbound"].clone();
    configuration["inbound"]["rules"][4] = json!({ "name": "pay", "match": { "host": "payment" }, "mode": "danger_dry_run",
        "require": configuration["inbound"]["rules"][0]["require"] });
    let mut world = World::new(&configuration);
    world.provider.tokens = Mode::Late(secs(1));
    let outcome = world.ask(&pay());
    assert_eq!(outcome.status(), 200);
    assert!(!outcome.at_once() && outcome.edits().attached_token.is_some());
    assert_eq!(world.counters()["m2m_auth_dry_run.rule.pay.decision.no_token"], 1);
    assert_eq!(world.logs.iter().filter(|line| line.contains("would_refuse")).count(), 1);
}

#[test]
fn a_preflight_is_forwarded_without_a_token_and_nothing_else_is() {
    let mut configuration = modes();
    let require = configuration["inbound"]["rules"][0]["require"].clone();
    configuration["inbound"]["rules"] = json!([
        { "name": "puts", "match": { "path": "/cors", "methods": ["PUT"] }, "require": require },
        { "name": "cors", "match": { "path": "/cors", "methods": ["GET", "POST"] }, "require": require, "cors_preflight": true },
        { "name": "all", "match": { "path": "/all" }, "require": require, "cors_preflight": true },
        { "name": "none", "match": { "path": "/none" }, "require": require },
    ]);
    let mut world = World::warm(&configuration);
    let (origin, asked) = (("origin", "https://app.example.com"), ("access-control-request-method", "POST"));
    let mut status = |path: &str, method: &str, headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(get(path).header(":method", method), |get, (name, value)| get.header(name, value));
        world.ask(&request).status()
    };
    for path in ["/cors", "/all", "/cors/"] {
        assert_eq!(status(path, "OPTIONS", &[origin, asked]), 200, "{path}");
    }
    for (path, method, headers, expected) in [
        ("/cors", "OPTIONS", vec![origin], 403),
        ("/all", "OPTIONS", vec![origin], 401),
        ("/all", "OPTIONS", vec![asked], 401),
        ("/all", "OPTIONS", vec![("origin", ""), asked], 401),
        ("/all", "OPTIONS", vec![origin, ("access-control-request-method", "")], 401),
        ("/all", "options", vec![origin, asked], 401),
        ("/all", "OPTIONS", vec![origin, asked, ("x-http-method-override", "POST")], 401),
        ("/all", "POST", vec![origin, asked], 401),
        ("/all", "GET", vec![origin, asked], 401),
        ("/all", "HEAD", vec![origin, asked], 401),
        ("/cors", "OPTIONS", vec![origin, ("access-control-request-method", "DELETE")], 403),
        ("/cors", "OPTIONS", vec![origin, ("access-control-request-method", "PUT")], 403),
        ("/cors", "OPTIONS", vec![origin, ("access-control-request-method", "post")], 403),
        ("/none", "OPTIONS", vec![origin, asked], 401),
        ("/cors", "POST", vec![origin, asked], 401),
    ] {
        assert_eq!(status(path, method, &headers), expected, "{method} {path} {headers:?}");
    }
    assert_eq!(world.counters()["m2m_auth_inbound.rule.cors.decision.preflight"], 2);
}
