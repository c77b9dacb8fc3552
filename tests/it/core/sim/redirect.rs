//! Envoy's internal redirect runs the filters again, on the request as they left it: a token of
//! ours comes back in it, on its way to another host.

use crate::core::sim::world::{
    Get, Outcome, World, both, get, items, millis, outbound, secs, without_discovery,
};
use m2m_auth::filter::header_edits::Edit;
use serde_json::{Value, json};

/// The host `payment` gets a token; these rules come first.
fn rules(first: &Value) -> Value {
    let mut configuration = without_discovery(outbound());
    let rules = configuration["outbound"]["rules"].as_array_mut().unwrap();
    rules.splice(0..0, first.as_array().unwrap().iter().cloned());
    configuration
}

/// The value of `authorization` that a request to `payment` leaves with.
fn attached(world: &mut World) -> String {
    world.ask(&get("/pay").host("payment")).set("authorization").unwrap()
}

/// The same request, sent on to another host.
fn redirected(value: &str) -> Get {
    get("/pay").host("elsewhere").header("authorization", value)
}

fn edits(outcome: &Outcome) -> Vec<Edit> {
    outcome.edits().headers.clone()
}

#[test]
fn a_token_of_ours_is_not_forwarded_where_no_rule_attaches_it() {
    let mut world = World::warm(&rules(&json!([])));
    let value = attached(&mut world);
    let outcome = world.ask(&redirected(&value));
    assert!(outcome.passed() && outcome.removes("authorization"), "{outcome:?}");
    assert_eq!(world.counters()["m2m_auth_outbound.rule.none.decision.token_removed"], 1);
    // In whatever form it comes back.
    let token = value.strip_prefix("Bearer ").unwrap();
    for form in [token.to_owned(), format!("bearer  {token} "), format!("DPoP {token}")] {
        assert!(world.ask(&redirected(&form)).removes("authorization"), "{form}");
    }
    // Where the rule matches, it is set again.
    let again = world.ask(&get("/pay").host("payment").header("authorization", &value));
    assert_eq!(again.set("authorization"), Some(value));
}

#[test]
fn nobody_elses_token_and_no_other_header_is_touched() {
    let mut world = World::warm(&rules(&json!([])));
    let value = attached(&mut world);
    for other in ["Bearer somebody-elses", "Basic eDp5", "", " ", "Bearer ", &value[..value.len() - 1]] {
        assert_eq!(edits(&world.ask(&redirected(other))), [], "{other:?}");
    }
    let elsewhere = get("/pay").host("elsewhere").header("x-own", &value);
    assert_eq!(edits(&world.ask(&elsewhere)), [], "no rule attaches a token in this header");
}

#[test]
fn a_token_that_has_been_renewed_meanwhile_is_ours_all_the_same() {
    let mut world = World::warm(&rules(&json!([])));
    world.provider.expires_in = json!(60);
    let value = attached(&mut world);
    let mut renewed = value.clone();
    while renewed == value {
        world.pass(secs(5));
        renewed = attached(&mut world);
    }
    for value in [value, renewed] {
        assert!(world.ask(&redirected(&value)).removes("authorization"));
    }
}

#[test]
fn a_rule_that_keeps_a_header_does_not_keep_a_token_of_ours_for_somebody_else() {
    let mut configuration = rules(&json!([
        { "match": { "host": "elsewhere" }, "credential": "other", "existing": "keep" },
    ]));
    configuration["outbound"]["credentials"]["other"] =
        json!({ "issuer": "idp", "client_id": "other", "client_secret": { "env": "SECRET" } });
    let mut world = World::warm(&configuration);
    let value = attached(&mut world);
    let replaced = world.ask(&redirected(&value)).set("authorization").unwrap();
    assert_ne!(replaced, value);
    assert_eq!(edits(&world.ask(&redirected("Bearer own"))), []);
}

#[test]
fn a_rule_with_another_header_does_not_forward_it_beside_its_own() {
    let mut world = World::warm(&rules(&json!([
        { "match": { "host": "elsewhere" }, "credential": "order", "header": "x-token" },
    ])));
    let value = attached(&mut world);
    let outcome = world.ask(&redirected(&value));
    assert!(outcome.removes("authorization") && outcome.set("x-token").is_some(), "{outcome:?}");
    let copy = get("/pay").host("nowhere").header("x-token", value.strip_prefix("Bearer ").unwrap());
    assert!(world.ask(&copy).removes("x-token"), "whichever rule has attached it");
}

#[test]
fn an_exchanged_token_is_ours_too() {
    let mut configuration = rules(&json!([]));
    configuration["outbound"]["credentials"]["order"]["grant_type"] = json!("token_exchange");
    let mut world = World::warm(&configuration);
    let sent = world.send(&get("/pay").host("payment").bearer("opaque.of-somebody"));
    world.pass(millis(50));
    let value = world.outcome(sent).set("authorization").unwrap();
    assert!(world.ask(&redirected(&value)).removes("authorization"));
    assert_eq!(edits(&world.ask(&redirected("Bearer opaque.of-somebody"))), []);
}

#[test]
fn a_callers_token_that_an_inbound_rule_has_verified_is_forwarded_as_that_rule_says() {
    let mut configuration = without_discovery(both());
    let issuer = &mut configuration["issuers"]["idp"];
    issuer["introspection_endpoint"] = json!("https://idp.example/realms/r/introspect");
    issuer["introspection"] =
        json!({ "client_id": "inventory-service", "client_secret": { "env": "SECRET" } });
    let mut world = World::warm(&configuration);
    let value = world.ask(&get("/public/pay").host("payment")).set("authorization").unwrap();
    let token = value.strip_prefix("Bearer ").unwrap();
    world.vouch_for(token, &json!({}));
    world.ask(&items(token));
    assert_eq!(edits(&world.ask(&items(token))), [], "a service that calls itself");
    assert!(world.ask(&get("/public/pay").bearer(token)).removes("authorization"));
}
