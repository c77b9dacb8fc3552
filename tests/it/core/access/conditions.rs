//! Conditions on claims, and how requirements go together.

use super::Gate;
use serde_json::{Value, json};

fn roles(names: &[&str]) -> Value {
    json!({ "realm_access": { "roles": names } })
}

#[test]
fn a_claim_is_found_by_the_names_on_the_way_to_it_even_if_they_hold_dots() {
    let token = json!({
        "kubernetes.io": { "namespace": "shop" },
        "https://example.com/claims": { "tier": "gold" },
        "address": { "country": "ch" },
        "a.b": "whole",
    });
    for (claim, value, allowed) in [
        (json!("address.country"), "ch", true),
        (json!(["address", "country"]), "ch", true),
        (json!(["kubernetes.io", "namespace"]), "shop", true),
        (json!("kubernetes.io.namespace"), "shop", false),
        (json!(["https://example.com/claims", "tier"]), "gold", true),
        (json!(["a.b"]), "whole", true),
        (json!("a.b"), "whole", false),
        (json!(["address.country"]), "ch", false),
    ] {
        let mut gate = Gate::asking(&json!({ "claims": [{ "claim": claim, "equals": value }] }));
        assert_eq!(gate.allows(&token), allowed, "{claim}");
    }
}

#[test]
fn every_condition_that_is_given_must_hold() {
    let mut gate = Gate::asking(&json!({ "claims": [
        { "claim": "level", "at_least": 2, "at_most": 4 },
        { "claim": "email", "glob": "*@example.com", "prefix": "svc-" },
        { "claim": "groups", "contains": "blue" },
        { "claim": "act", "exists": false },
        { "claim": "env", "one_of": ["test", "production"] },
    ] }));
    let good = json!({ "level": 3, "email": "svc-a@example.com", "groups": ["red", "blue"], "env": "test" });
    assert!(gate.allows(&good));
    for (name, value) in [
        ("level", json!(1)),
        ("level", json!(5)),
        ("level", json!("3")),
        ("level", Value::Null),
        ("email", json!("svc-a@example.com.evil.org")),
        ("email", json!("a@example.com")),
        ("groups", json!(["red"])),
        ("groups", json!("blue")),
        ("act", json!({ "sub": "x" })),
        ("act", Value::Null),
        ("env", json!("tes")),
    ] {
        let mut token = good.clone();
        token[name] = value.clone();
        let (status, reason, message) = gate.refusal(&token);
        assert_eq!((status, reason.as_str()), (403, "required_claim"), "{name} {value}: {message}");
    }
}

#[test]
fn what_was_missing_is_reported_without_the_token_or_the_names_that_the_rule_allows() {
    for (condition, sentence) in [
        (json!({ "equals": "root" }), "required claim: a.b, with an allowed value"),
        (json!({ "one_of": ["root"] }), "required claim: a.b, with an allowed value"),
        (json!({ "exists": true, "prefix": "root" }), "required claim: a.b, with an allowed value"),
        (json!({ "equals": { "header": "X-Tenant" } }), "required claim: a.b, equal to the header x-tenant"),
        (json!({ "equals": { "host": true } }), "required claim: a.b, equal to the host"),
        (json!({ "exists": false }), "forbidden claim: a.b"),
    ] {
        let mut condition = condition;
        condition["claim"] = json!("a.b");
        let mut gate = Gate::asking(&json!({ "claims": [condition] }));
        let response = gate.ask(&json!({ "a": { "b": "hushhush" } }), &[("x-tenant", "other")]).unwrap_err();
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(body["message"], sentence);
        let all = format!("{response:?} {:?}", gate.logs);
        assert!(!all.contains("hushhush") && !all.contains("root") && !all.contains("other"), "{all}");
    }
    let mut gate = Gate::asking(&json!({ "claims": [{ "claim": "a", "exists": true }] }));
    assert_eq!(gate.refusal(&json!({})).2, "required claim: a");
}

#[test]
fn a_claim_must_be_the_same_as_the_requests_own_header_and_no_header_is_not_the_same() {
    let condition = json!({ "claims": [{ "claim": "tenant", "equals": { "header": "X-Tenant" } }] });
    let mut gate = Gate::asking(&condition);
    let (blue, nobody) = (json!({ "tenant": "blue" }), json!({}));
    assert!(gate.ask(&blue, &[("x-tenant", "blue")]).is_ok());
    assert!(gate.ask(&json!({ "tenant": 42 }), &[("x-tenant", "42")]).is_ok());
    for (claims, headers) in [
        (&blue, vec![("x-tenant", "red")]),
        (&blue, vec![("x-tenant", "Blue")]),
        (&blue, vec![("x-tenant", "blue"), ("x-tenant", "red")]),
        (&blue, vec![("x-tenant", "blue,red")]),
        (&blue, vec![]),
        (&nobody, vec![("x-tenant", "blue")]),
        (&nobody, vec![("x-tenant", "")]),
        (&nobody, vec![]),
    ] {
        assert!(gate.ask(claims, &headers).is_err(), "{claims} {headers:?}");
    }
}

#[test]
fn a_claim_must_be_the_same_as_the_host() {
    let mut gate = Gate::asking(&json!({ "claims": [{ "claim": "site", "equals": { "host": true } }] }));
    let site = json!({ "site": "svc.example.com" });
    for (host, allowed) in [
        ("svc.example.com", true),
        ("SVC.example.com:8443", true),
        ("svc.example.com.evil.org", false),
        ("example.com", false),
        ("", false),
    ] {
        assert_eq!(gate.ask(&site, &[(":authority", host)]).is_ok(), allowed, "{host}");
    }
    assert!(gate.ask(&json!({ "site": "" }), &[(":authority", "")]).is_err());
}

#[test]
fn one_alternative_is_enough_for_any_and_none_is_too_few() {
    let mut gate = Gate::asking(&json!({ "any": [
        { "roles": ["admin"] },
        { "scopes": ["orders:read"], "claims": [{ "claim": "tier", "equals": "gold" }] },
    ] }));
    assert!(gate.allows(&roles(&["admin"])));
    assert!(gate.allows(&json!({ "scope": "orders:read", "tier": "gold" })));
    for token in [json!({}), roles(&["user"]), json!({ "scope": "orders:read" }), json!({ "tier": "gold" })] {
        let (status, reason, message) = gate.refusal(&token);
        assert_eq!((status, reason.as_str()), (403, "no_condition_met"), "{token}");
        let expected = "required role: admin, or required scope: orders:read and required claim: tier, with an allowed value";
        assert_eq!(message, expected);
    }
}

#[test]
fn alternatives_apply_in_addition_to_what_is_required_of_every_caller() {
    let mut gate = Gate::asking(&json!({
        "scopes": ["api"],
        "all": [
            { "any": [{ "roles": ["a"] }, { "roles": ["b"] }] },
            { "any": [{ "roles": ["c"] }, { "roles": ["d"] }] },
        ],
    }));
    let mut ask = |scope: &str, names: &[&str]| {
        let mut token = roles(names);
        token["scope"] = json!(scope);
        gate.allows(&token)
    };
    assert!(ask("api", &["a", "d"]) && ask("api", &["b", "c"]) && ask("api", &["a", "b", "c", "d"]));
    assert!(
        !ask("", &["a", "d"]) && !ask("api", &["a", "b"]) && !ask("api", &["c", "d"]) && !ask("api", &[])
    );
}

#[test]
fn requirements_nest_four_deep() {
    let deep = json!({ "any": [{ "all": [{ "any": [{ "all": [{ "roles": ["a"] }] }] }] }] });
    let mut gate = Gate::asking(&deep);
    assert!(gate.allows(&roles(&["a"])) && !gate.allows(&roles(&["b"])));
}

#[test]
fn names_are_patterns_only_where_that_is_asked_for() {
    for (names, held, allowed) in [
        (json!({ "any_of": ["orders:*"], "glob": true }), "orders:read", true),
        (json!({ "any_of": ["orders:*"], "glob": true }), "x orders:write", true),
        (json!({ "any_of": ["orders:*"], "glob": true }), "orders", false),
        (json!({ "none_of": ["*:write"], "glob": true }), "orders:read", true),
        (json!({ "none_of": ["*:write"], "glob": true }), "orders:read orders:write", false),
        (json!({ "all_of": ["a*", "b*"], "glob": true }), "ab b", true),
        (json!({ "all_of": ["a*", "b*"], "glob": true }), "ab a", false),
        (json!({ "any_of": ["orders:*"] }), "orders:read", false),
        (json!({ "any_of": ["orders:*"] }), "orders:*", true),
        (json!({ "any_of": ["orders:read"], "glob": true }), "orders:*", false),
    ] {
        let mut gate = Gate::asking(&json!({ "scopes": names }));
        assert_eq!(gate.allows(&json!({ "scope": held })), allowed, "{names} {held}");
        // A client cannot request a pattern from its provider.
        let challenge = gate.ask(&json!({ "scope": "" }), &[]).err().map(|response| format!("{response:?}"));
        let named = challenge.is_some_and(|text| text.contains("scope=\\\""));
        assert_eq!(named, names["glob"] != true && names["none_of"].is_null(), "{names}");
    }
}

#[test]
fn a_claim_must_equal_a_segment_of_the_path() {
    let mut configuration = Gate::configuration(
        &json!({}),
        &json!({
            "claims": [{ "claim": "tenant", "equals": { "path": "tenant" } }],
        }),
    );
    configuration["inbound"]["rules"][0]["match"] = json!({ "path_template": "/tenants/{tenant}/orders" });
    let mut gate = Gate::new(&configuration);
    let (blue, number) = (json!({ "tenant": "blue" }), json!({ "tenant": 42 }));
    for (claims, path) in [
        (&blue, "/tenants/blue/orders"),
        (&blue, "/tenants/%62lue/orders?tenant=red"),
        (&blue, "/tenants/blue/orders/"),
        (&number, "/tenants/42/orders"),
    ] {
        assert_eq!(gate.ask(claims, &[(":path", path)]).err(), None, "{claims} {path}");
    }
    for (claims, path) in [
        (&blue, "/tenants/red/orders"),
        (&blue, "/tenants/Blue/orders"),
        (&blue, "/tenants/*/orders"),
        (&blue, "/tenants/a%20b/orders"),
        (&number, "/tenants/042/orders"),
        (&json!({}), "/tenants/blue/orders"),
        (&json!({ "tenant": ["blue"] }), "/tenants/blue/orders"),
    ] {
        let response = gate.ask(claims, &[(":path", path)]).unwrap_err();
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(
            body["message"], "required claim: tenant, equal to {tenant} in the path",
            "{claims} {path}"
        );
    }
}

#[test]
fn what_cannot_be_read_holds_no_name_that_is_asked_for_and_may_hold_any_that_is_forbidden() {
    let forbidden = json!({ "roles": { "none_of": ["guest"] }, "scopes": { "none_of": ["guest"] } });
    let (mut forbids, mut asks) = (Gate::asking(&forbidden), Gate::asking(&json!({ "roles": ["guest"] })));
    assert!(
        forbids.allows(&json!({})) && forbids.allows(&roles(&["user"])) && asks.allows(&roles(&["guest"]))
    );
    assert!(!forbids.allows(&roles(&["guest"])) && !forbids.allows(&json!({ "scope": "a guest" })));
    for odd in [json!("guest"), json!([["guest"]]), json!({ "guest": true }), json!(null), json!(["user", 7])]
    {
        let token = json!({ "realm_access": { "roles": odd } });
        assert!(!forbids.allows(&token) && !asks.allows(&token), "{token}");
    }
    for odd in [json!({ "guest": 1 }), json!(null), json!([["guest"]]), json!(7)] {
        assert!(!forbids.allows(&json!({ "scope": odd })), "{odd}");
    }
}
