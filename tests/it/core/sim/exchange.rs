//! Token exchange: one token for each subject token, with no longer lifetime, and no needless
//! requests to the provider.

use crate::core::sim::introspection::poisons;
use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{Get, World, both, items, millis, secs, without_discovery};
use m2m_auth::http::message::RequestId;
use serde_json::{Value, json};
use std::time::Duration;

/// `/inventory` requires a caller; on the way to `payment` its token is exchanged.
pub(crate) fn config() -> Value {
    let mut configuration = without_discovery(both());
    let credential = &mut configuration["outbound"]["credentials"]["order"];
    credential["grant_type"] = json!("token_exchange");
    credential["audience"] = json!("payment");
    configuration
}

fn on_behalf_of(token: &str) -> Get {
    items(token).host("payment")
}

/// A caller with a token of that life.
pub(crate) fn caller(world: &mut World, life: i64) -> String {
    let key = world.provider.published.last().unwrap().clone();
    world.mint(&key, life, "inventory-service")
}

#[test]
fn nothing_is_fetched_before_somebody_calls() {
    let mut world = World::warm(&config());
    world.pass(secs(600));
    assert_eq!(world.provider.count(Endpoint::Tokens), 0);
}

#[test]
fn each_callers_token_is_exchanged_once_and_the_other_requests_wait_for_it() {
    let mut world = World::warm(&config());
    let (one, two) = (caller(&mut world, 300), caller(&mut world, 300));
    let sent: Vec<_> =
        (0..20).map(|n| world.send(&on_behalf_of(if n % 2 == 0 { &one } else { &two }))).collect();
    world.pass(millis(100));
    let attached = |world: &World, n: usize| world.outcome(sent[n]).set("authorization").unwrap();
    assert_eq!(world.provider.subjects, [one.as_str(), two.as_str()]);
    assert!((0..20).all(|n| attached(&world, n) == attached(&world, n % 2)));
    assert_ne!(attached(&world, 0), attached(&world, 1));
    for _ in 0..500 {
        assert!(world.ask(&on_behalf_of(&one)).passed());
        world.pass(millis(100));
    }
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
}

#[test]
fn an_exchanged_token_ends_no_later_than_its_subject() {
    let mut world = World::warm(&config());
    let short = caller(&mut world, 30);
    assert_eq!(world.ask(&on_behalf_of(&short)).status(), 200);
    // The clock skew accepts the caller for another minute; the exchanged token has expired.
    world.pass(secs(31));
    world.disown(&short);
    let late = world.ask(&on_behalf_of(&short));
    assert_eq!((late.status(), late.reason().as_str()), (401, "expired"));
    assert_eq!(world.provider.count(Endpoint::Tokens), 1);
}

#[test]
fn a_token_that_is_used_is_renewed_before_its_end_and_one_that_is_not_is_not() {
    let mut world = World::warm(&config());
    world.provider.expires_in = json!(60);
    let (used, idle) = (caller(&mut world, 1000), caller(&mut world, 1000));
    world.ask(&on_behalf_of(&idle));
    for _ in 0..300 {
        let outcome = world.ask(&on_behalf_of(&used));
        assert_eq!(outcome.status(), 200);
        assert!(outcome.passed() || world.provider.subjects.len() == 2, "only the first waits: {outcome:?}");
        world.pass(secs(1));
    }
    let fetches = |subject: &str| world.provider.subjects.iter().filter(|own| *own == subject).count();
    assert_eq!(fetches(&idle), 1);
    assert!((5..=8).contains(&fetches(&used)), "{}", fetches(&used));
}

#[test]
fn a_token_that_the_provider_does_not_take_is_its_owners_fault_and_nobody_elses() {
    for (answer, status, reason) in [
        (json!({ "error": "invalid_request", "error_description": "Invalid token" }), 401, "subject_token"),
        (json!({ "error": "invalid_grant" }), 401, "subject_token"),
        (
            json!({ "error": "access_denied", "error_description": "Client is not within the token audience" }),
            403,
            "exchange_denied",
        ),
    ] {
        let mut world = World::warm(&config());
        // The world would expect a token of its own key to be accepted, so an unknown key signs
        // this one.
        let key = world.provider.published.last().unwrap().clone();
        let (bad, good) = (world.mint(&key, 300, "inventory-service"), caller(&mut world, 300));
        world.disown(&bad);
        world.provider.refuses = Some((bad.clone(), answer.clone()));
        world.ask(&on_behalf_of(&good));
        world.send(&on_behalf_of(&bad));
        world.pass(millis(50));
        for _ in 0..30 {
            let outcome = world.ask(&on_behalf_of(&bad));
            assert_eq!((outcome.status(), outcome.reason().as_str()), (status, reason), "{answer}");
            assert!(world.ask(&on_behalf_of(&good)).passed());
        }
        let asked = world.provider.subjects.iter().filter(|own| **own == bad).count();
        assert_eq!(asked, 1, "once in 5 s");
        world.provider.refuses = None;
        world.pass(secs(6));
        assert_eq!(world.ask(&on_behalf_of(&bad)).status(), 200, "given the right meanwhile");
    }
}

#[test]
fn a_wrong_configuration_is_our_error_and_is_logged_in_the_providers_words() {
    for (error, description) in [
        ("invalid_client", "Audience not found"),
        ("invalid_request", "Standard token exchange is not enabled for the requested client"),
        ("invalid_request", "Requested audience not available: payment"),
        ("invalid_scope", "Invalid scopes: nope"),
    ] {
        let mut world = World::warm(&config());
        world.provider.tokens = Mode::json(400, &json!({ "error": error, "error_description": description }));
        let token = caller(&mut world, 300);
        let outcome = world.ask(&on_behalf_of(&token));
        assert_eq!(
            (outcome.status(), outcome.reason().as_str()),
            (503, "outbound_token_unavailable"),
            "{error}"
        );
        let prefix =
            format!("exchanged token of credential order: configuration: status 400, {error}: {description}");
        // And what to do about it, in brackets.
        let reports = |line: &String| line.starts_with(&format!("{prefix} (")) && line.ends_with(')');
        assert!(world.logs.iter().any(reports), "{:#?}", world.logs);
    }
}

#[test]
fn a_provider_that_is_down_is_probed_five_times_a_second_at_most() {
    // Five at a time where it hangs, and one where it takes no client.
    for (mode, most) in
        [(Mode::status(500), 310), (Mode::Resets, 310), (Mode::Silent, 110), (Mode::status(401), 40)]
    {
        let mut world = World::warm(&config());
        world.provider.tokens = mode.clone();
        for _ in 0..400 {
            let token = caller(&mut world, 600);
            world.send(&on_behalf_of(&token));
            world.pass(millis(150));
        }
        let asked = world.provider.count(Endpoint::Tokens);
        assert!((2..=most).contains(&asked), "{mode:?}: {asked} for 400 callers in a minute");
        assert!(world.outcomes().filter(|outcome| outcome.status() == 503).count() > 350);
        world.provider.tokens = Mode::Works;
        world.pass(secs(301));
        let token = caller(&mut world, 600);
        assert_eq!(world.ask(&on_behalf_of(&token)).status(), 200, "{mode:?}: it recovers");
        let again = caller(&mut world, 600);
        assert_eq!(world.ask(&on_behalf_of(&again)).status(), 200);
    }
}

#[test]
fn one_subject_that_fails_does_not_close_the_provider_for_the_others() {
    let mut world = World::warm(&config());
    let bad = caller(&mut world, 600);
    let answer = json!({ "error": "invalid_request", "error_description": "Requested audience not available: payment" });
    world.provider.refuses = Some((bad.clone(), answer));
    for _ in 0..50 {
        assert_eq!(world.ask(&on_behalf_of(&bad)).status(), 503);
        let good = caller(&mut world, 600);
        assert_eq!(world.ask(&on_behalf_of(&good)).status(), 200);
        world.pass(secs(2));
    }
}

#[test]
fn subjects_that_the_provider_fails_at_cost_no_other_caller_a_request() {
    for mode in poisons() {
        for per_second in [1, 5] {
            let mut world = World::warm(&config());
            let known: Vec<String> = (0..25).map(|_| caller(&mut world, 3000)).collect();
            for token in &known {
                world.send(&on_behalf_of(token));
            }
            world.pass(secs(1));
            let mut sent = Vec::new();
            for n in 0..20 * 50 {
                if n % (50 / per_second) == 0 {
                    let poison = caller(&mut world, 3000);
                    world.provider.poison.insert(poison.clone(), mode.clone());
                    world.send(&on_behalf_of(&poison));
                }
                let token = if n % 2 == 0 { caller(&mut world, 3000) } else { known[n / 2 % 25].clone() };
                sent.push(world.send(&on_behalf_of(&token)));
                world.pass(millis(20));
            }
            world.pass(secs(6));
            let refused = sent.iter().filter(|id| world.outcome(**id).status() != 200).count();
            assert_eq!(refused, 0, "of {} by {mode:?}, {per_second} a second", sent.len());
        }
    }
}

#[test]
fn a_refused_secret_fails_none_of_the_concurrent_requests() {
    for callers in [2, 3, 10, 50] {
        let mut configuration = config();
        configuration["outbound"]["credentials"]["order"]["client_secret"] =
            json!([{ "env": "SECRET" }, { "inline": "hushhush-new" }]);
        let mut world = World::warm(&configuration);
        world.provider.tokens = Mode::Takes("hushhush-new");
        let tokens: Vec<String> = (0..callers).map(|_| caller(&mut world, 600)).collect();
        let sent: Vec<_> = tokens.iter().map(|token| world.send(&on_behalf_of(token))).collect();
        world.pass(millis(100));
        let refused = sent.iter().filter(|id| world.outcome(**id).status() != 200).count();
        assert_eq!(refused, 0, "of {callers}");
    }
}

/// So many new callers a second, of a provider that can do fifty.
fn overloaded(world: &mut World, per_second: u32, time: Duration) -> Vec<(Duration, RequestId)> {
    world.provider.capacity = Some(50);
    let end = world.now + time;
    let mut sent = Vec::new();
    while world.now < end {
        let token = caller(world, 3000);
        sent.push((world.now, world.send(&on_behalf_of(&token))));
        world.pass(secs(1) / per_second);
    }
    world.pass(secs(6));
    sent
}

#[test]
fn a_provider_that_is_asked_for_more_than_it_can_do_does_what_it_can() {
    for per_second in [55, 60, 100, 200] {
        let mut world = World::warm(&config());
        let start = world.now;
        let sent = overloaded(&mut world, per_second, secs(40));
        for part in 0..4 {
            let (from, to) = (start + secs(part * 10), start + secs(part * 10 + 10));
            let of_part = sent.iter().filter(|(at, _)| (from..to).contains(at));
            let good = of_part.filter(|(_, id)| world.outcome(*id).status() == 200).count();
            assert!(good >= 400, "{good} of 500 in part {part} at {per_second} a second");
        }
        let reasons: std::collections::BTreeSet<String> = sent
            .iter()
            .map(|(_, id)| world.outcome(*id))
            .filter(|outcome| outcome.status() != 200)
            .map(|outcome| format!("{} {}", outcome.status(), outcome.reason()))
            .collect();
        assert!(
            reasons
                .iter()
                .all(|own| own == "503 too_many_pending" || own == "503 outbound_token_unavailable"),
            "{reasons:?}"
        );
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_not_asked_for() {
    let mut world = World::warm(&config());
    world.provider.latency = secs(1);
    let sent: Vec<_> = (0..200)
        .map(|_| {
            let token = caller(&mut world, 600);
            world.send(&on_behalf_of(&token))
        })
        .collect();
    world.pass(millis(10));
    for id in &sent[..150] {
        world.cancel(*id);
    }
    world.pass(millis(2100));
    assert!(sent[150..].iter().all(|id| world.outcome(*id).status() == 200));
    assert_eq!(world.provider.count(Endpoint::Tokens), 100, "fifty had begun");
}

#[test]
fn made_up_subjects_cost_the_provider_a_bounded_rate_and_known_ones_nothing() {
    let mut configuration = config();
    configuration.as_object_mut().unwrap().remove("inbound");
    let mut world = World::warm(&configuration);
    let pay = |token: &str| crate::core::sim::world::pay().bearer(token);
    assert_eq!(world.ask(&pay("known")).status(), 200);
    let before = world.provider.count(Endpoint::Tokens);
    for n in 0..10_000 {
        world.send(&pay(&format!("made-up-{n}")));
        if n % 100 == 0 {
            assert!(world.ask(&pay("known")).passed(), "after {n}");
        }
        world.pass(millis(2));
    }
    world.pass(secs(6));
    let asked = world.provider.count(Endpoint::Tokens) - before;
    // 20 s at 100 a second, a burst of one second's worth, and the line that was left.
    assert!((1900..=2500).contains(&asked), "{asked}");
    assert_eq!(world.ask(&pay("new")).status(), 200, "it is over");
    let counters = world.counters();
    assert!(counters["m2m_auth_limit_reached.name.order.limit.queued_exchanges"] > 5000, "{counters:?}");
    assert!(counters["m2m_auth_limit_reached.name.order.limit.exchange_rate"] > 1500, "{counters:?}");
}

#[test]
fn a_flood_of_long_subjects_that_fail_never_evicts_a_known_one() {
    let mut configuration = config();
    configuration.as_object_mut().unwrap().remove("inbound");
    let mut world = World::warm(&configuration);
    let pay = |token: &str| crate::core::sim::world::pay().bearer(token);
    assert_eq!(world.ask(&pay("known")).status(), 200);
    for n in 0..1450 {
        let poison = format!("made-up-{n}-{}", "x".repeat(16_000));
        world.provider.poison.insert(poison.clone(), Mode::status(413));
        world.send(&pay(&poison));
        let outcome = world.ask(&pay("known"));
        assert!(outcome.passed(), "at {:?}: {}", world.now, outcome.reason());
        world.pass(millis(10));
    }
    assert_eq!(world.counters().get("m2m_auth_limit_reached.name.order.limit.exchanged_tokens"), None);
}

#[test]
fn no_more_callers_are_remembered_than_there_is_room_for() {
    let mut world = World::warm(&config());
    let first = caller(&mut world, 3000);
    world.ask(&on_behalf_of(&first));
    for _ in 0..1100 {
        let token = caller(&mut world, 3000);
        let id = world.send(&on_behalf_of(&token));
        world.pass(millis(30));
        assert_eq!(world.outcome(id).status(), 200);
    }
    let before = world.provider.subjects.len();
    assert_eq!(world.ask(&on_behalf_of(&first)).status(), 200);
    assert_eq!(world.provider.subjects.len(), before + 1, "the first made room, and is exchanged anew");
    assert_eq!(world.counters()["m2m_auth_limit_reached.name.order.limit.exchanged_tokens"], 1102 - 1024);
}

#[test]
fn an_exchanged_token_that_the_service_refuses_is_replaced() {
    let mut world = World::warm(&config());
    let token = caller(&mut world, 300);
    let first = world.ask(&on_behalf_of(&token));
    world.pass(secs(2));
    world.upstream_refuses(first.edits().attached_token.as_ref().unwrap());
    let second = world.ask(&on_behalf_of(&token));
    assert_ne!(first.set("authorization"), second.set("authorization"));
    assert_eq!(world.provider.subjects, [token.as_str(), token.as_str()]);
    world.upstream_refuses(first.edits().attached_token.as_ref().unwrap());
    assert!(world.ask(&on_behalf_of(&token)).passed(), "an old one's refusal means nothing");
}

#[test]
fn where_nobody_is_verified_the_header_is_exchanged_as_it_is() {
    let mut configuration = config();
    configuration.as_object_mut().unwrap().remove("inbound");
    let mut world = World::warm(&configuration);
    let outcome = world.ask(&crate::core::sim::world::pay().bearer("opaque.of-somebody"));
    assert_eq!(outcome.status(), 200);
    assert_eq!(world.provider.subjects, ["opaque.of-somebody"]);
    let none = world.ask(&crate::core::sim::world::pay());
    assert_eq!((none.status(), none.reason().as_str()), (401, "no_token"));
    let odd = world.ask(&crate::core::sim::world::pay().header("authorization", "Bearer two words"));
    assert_eq!((odd.status(), odd.reason().as_str()), (401, "malformed"));
}

#[test]
fn a_caller_that_a_rule_does_not_ask_for_cannot_be_acted_for() {
    let mut world = World::warm(&config());
    let token = caller(&mut world, 300);
    world.disown(&token);
    let outcome = world.ask(&crate::core::sim::world::get("/public/pay").host("payment").bearer(&token));
    assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "no_token"));
    assert_eq!(world.provider.count(Endpoint::Tokens), 0);
}

/// The header that holds the token, and what the rule's own header is; nobody is verified.
fn handed(subject: &str, header: &str) -> Value {
    let mut configuration = config();
    configuration.as_object_mut().unwrap().remove("inbound");
    configuration["outbound"]["credentials"]["order"]["subject_token"] = json!({ "header": subject });
    configuration["outbound"]["rules"][0]["header"] = json!(header);
    configuration
}

#[test]
fn the_token_that_was_exchanged_is_not_forwarded_beside_the_new_one() {
    let pay = || crate::core::sim::world::pay().header("x-subject-token", "opaque.a").bearer("opaque.b");
    // In a header of its own; and in the usual one, where the new one goes elsewhere.
    for (subject, header) in [("x-subject-token", "authorization"), ("authorization", "x-upstream-token")] {
        let mut world = World::warm(&handed(subject, header));
        let outcome = world.ask(&pay());
        assert!(outcome.set(header).is_some() && outcome.removes(subject), "{subject}: {outcome:?}");
        assert!(!outcome.removes(header), "{outcome:?}");
    }
    // Where one replaces the other, there is nothing to remove.
    let mut world = World::warm(&handed("authorization", "authorization"));
    let outcome = world.ask(&pay());
    assert!(outcome.set("authorization").is_some() && !outcome.removes("authorization"), "{outcome:?}");
}

#[test]
fn the_verified_callers_token_is_not_forwarded_beside_the_new_one_whatever_its_location() {
    let mut configuration = config();
    configuration["outbound"]["rules"][0]["header"] = json!("x-upstream-token");
    let rules = configuration["inbound"]["rules"].as_array_mut().unwrap();
    let mut own = rules[0].clone();
    (own["match"], own["token_locations"]) =
        (json!({ "path": "/own" }), json!([{ "danger_query": "access_token" }]));
    rules.push(own);
    let mut world = World::warm(&configuration);
    let token = caller(&mut world, 300);
    let outcome = world.ask(&on_behalf_of(&token));
    assert!(outcome.removes("authorization"), "{outcome:?}");
    let path = format!("/own?a=1&access_token={token}");
    let outcome = world.ask(&crate::core::sim::world::get(&path).host("payment"));
    assert_eq!(outcome.set(":path").as_deref(), Some("/own?a=1"), "{outcome:?}");
}

#[test]
fn a_subject_token_goes_in_other_spellings_of_its_header_too() {
    let mut world = World::new(&handed("x-subject-token", "authorization"));
    let request = crate::core::sim::world::pay().header("x-subject-token", "opaque.a");
    let outcome = world.ask(&request.header("x_subject_token", "opaque.a").header("x-subject_token", "b"));
    assert!(outcome.set("authorization").is_some(), "{outcome:?}");
    for name in ["x-subject-token", "x_subject_token", "x-subject_token"] {
        assert!(outcome.removes(name), "{name}: {outcome:?}");
    }
}

#[test]
fn the_token_that_is_exchanged_is_not_forwarded_without_a_new_one_either() {
    let mut configuration = handed("x-subject-token", "authorization");
    configuration["outbound"]["rules"][0]["unavailable"] = json!("danger_pass");
    let mut world = World::warm(&configuration);
    world.provider.tokens = Mode::status(500);
    let outcome = world.ask(&crate::core::sim::world::pay().header("x-subject-token", "opaque.a"));
    assert!(outcome.passed() && outcome.removes("x-subject-token"), "{outcome:?}");
    // Nor beside a credential that the rule keeps.
    let mut configuration = handed("x-subject-token", "authorization");
    configuration["outbound"]["rules"][0]["existing"] = json!("keep");
    let mut world = World::warm(&configuration);
    let kept = world.ask(&crate::core::sim::world::pay().header("x-subject-token", "opaque.a").bearer("own"));
    assert!(kept.removes("x-subject-token") && kept.set("authorization").is_none(), "{kept:?}");
}

#[test]
fn the_token_that_was_exchanged_is_forwarded_where_that_is_asked_for() {
    let mut configuration = handed("x-subject-token", "authorization");
    configuration["outbound"]["credentials"]["order"]["forward_subject_token"] = json!(true);
    let mut world = World::warm(&configuration);
    let outcome = world.ask(&crate::core::sim::world::pay().header("x-subject-token", "opaque.a"));
    assert!(outcome.set("authorization").is_some() && !outcome.removes("x-subject-token"), "{outcome:?}");
}
