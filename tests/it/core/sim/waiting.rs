//! Pending requests: how long, how many, and what happens to those over the bounds.

use crate::core::sim::provider::{Endpoint, Key, Mode, made_up};
use crate::core::sim::world::{
    PORTION, World, both, get, items, millis, outbound, pay, secs, without_discovery,
};
use m2m_auth::http::message::RequestId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn unavailable(what: &str) -> Value {
    let mut configuration = without_discovery(outbound());
    configuration["outbound"]["rules"][0]["unavailable"] = json!(what);
    configuration
}

#[test]
fn as_many_wait_as_may_and_one_more_is_answered_503() {
    let mut configuration = without_discovery(both());
    configuration["pending_requests"] = json!({ "max": 10 });
    let mut world = World::new(&configuration);
    world.provider.latency = secs(1);
    let get = items(&world.token());
    let held: Vec<_> = (0..10).map(|_| world.send(&get)).collect();
    let over = world.ask(&get);
    assert_eq!((over.status(), over.reason().as_str()), (503, "too_many_pending"));
    assert!(over.at_once() && over.retry_after() == Some(1));
    let other = world.send(&pay());
    assert_eq!(world.waiting().len(), 11, "requests that wait for something else are counted separately");
    world.pass(secs(2));
    assert!(held.iter().chain([&other]).all(|id| world.outcome(*id).status() == 200));
}

#[test]
fn no_more_wait_for_one_thing_than_may_however_they_came_to_it() {
    let mut configuration = without_discovery(both());
    configuration["pending_requests"] = json!({ "max": 10 });
    let mut world = World::new(&configuration);
    world.provider.keys = Mode::Late(millis(100));
    world.provider.tokens = Mode::Late(secs(3));
    // Ten wait for a token; ten more wait for keys first, and will need the token then.
    let caller_and_token = items(&world.token()).host("payment");
    for _ in 0..10 {
        world.send(&pay());
        world.send(&caller_and_token);
    }
    world.pass(secs(1));
    assert_eq!(world.waiting().len(), 10, "the keys have arrived, so all of these wait for the token");
    world.pass(secs(5));
    let through = world.outcomes().filter(|outcome| outcome.status() == 200).count();
    assert_eq!((through, world.outcomes().count()), (10, 20));
}

#[test]
fn a_request_that_needs_two_things_waits_for_both_within_one_bound() {
    let mut world = World::new(&without_discovery(both()));
    world.provider.keys = Mode::Late(secs(3));
    world.provider.tokens = Mode::Late(secs(4));
    let get = items(&world.token()).host("payment");
    let outcome = world.ask(&get);
    assert_eq!(outcome.status(), 200, "{outcome:?}");
    assert!(outcome.edits().attached_token.is_some());
    let mut world = World::new(&without_discovery(both()));
    world.provider.keys = Mode::Late(secs(4));
    world.provider.tokens = Mode::Silent;
    let get = items(&world.token()).host("payment");
    let outcome = world.ask(&get);
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "outbound_token_unavailable"));
    assert!(outcome.waited() <= millis(5002), "{:?}", outcome.waited());
}

#[test]
fn the_bound_is_the_configured_one() {
    for (text, bound) in [("200ms", millis(200)), ("1s", secs(1)), ("20s", secs(20)), ("0s", secs(0))] {
        let mut configuration = without_discovery(outbound());
        configuration["pending_requests"] = json!({ "timeout": text });
        let mut world = World::new(&configuration);
        // Longer than any bound: the first call is given up at 6 s, and the second at 12 or 13 s.
        world.provider.tokens = Mode::Silent;
        let waited = world.ask(&pay()).waited();
        let longest = bound.min(millis(13_002));
        assert!(waited <= bound + millis(2) && waited + secs(1) >= longest, "{text}: {waited:?}");
    }
}

#[test]
fn a_request_that_has_gone_is_not_settled_and_frees_its_slot() {
    let mut configuration = without_discovery(outbound());
    configuration["pending_requests"] = json!({ "max": 2 });
    let mut world = World::new(&configuration);
    let (gone, stays) = (world.send(&pay()), world.send(&pay()));
    assert_eq!(world.ask(&pay()).reason(), "too_many_pending");
    world.cancel(gone);
    let next = world.send(&pay());
    // The driver itself fails when something is settled that does not wait.
    world.pass(secs(10));
    assert_eq!(world.outcome(gone).status(), 0);
    assert_eq!((world.outcome(stays).status(), world.outcome(next).status()), (200, 200));
    world.cancel(stays);
}

#[test]
fn the_fetch_continues_when_every_request_that_waited_for_it_has_gone() {
    let mut world = World::new(&without_discovery(outbound()));
    let ids: Vec<_> = (0..10).map(|_| world.send(&pay())).collect();
    world.pass(millis(10));
    for id in ids {
        world.cancel(id);
    }
    world.pass(secs(1));
    assert!(world.ask(&pay()).passed());
    assert_eq!(world.provider.count(Endpoint::Tokens), 1);
}

#[test]
fn unavailable_fail_holds_nobody() {
    let mut world = World::new(&unavailable("fail"));
    let outcome = world.ask(&pay());
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "outbound_token_unavailable"));
    assert!(outcome.at_once() && outcome.retry_after() == Some(1));
    world.pass(secs(1));
    assert_eq!(world.ask(&pay()).status(), 200);
    world.provider.tokens = Mode::status(500);
    world.run_until(secs(600));
    let outcome = world.ask(&pay());
    assert!(outcome.status() == 503 && outcome.at_once());
}

#[test]
fn unavailable_danger_pass_forwards_without_a_token_and_without_the_clients_own() {
    let mut world = World::new(&unavailable("danger_pass"));
    let own = pay().bearer("a-token-of-the-caller");
    let outcome = world.ask(&own);
    assert!(outcome.passed());
    assert_eq!(format!("{:?}", outcome.edits().headers), "[remove authorization]");
    assert!(outcome.edits().attached_token.is_none());
    world.pass(secs(1));
    assert!(world.ask(&own).edits().attached_token.is_some());
}

#[test]
fn existing_keep_leaves_the_clients_own_header_and_needs_no_token() {
    let mut configuration = without_discovery(outbound());
    configuration["outbound"]["rules"][0]["existing"] = json!("keep");
    let mut world = World::new(&configuration);
    world.provider.all(&Mode::Silent);
    let kept = world.ask(&pay().bearer("a-token-of-the-caller"));
    assert!(kept.passed() && kept.edits().headers.is_empty());
    assert_eq!(world.ask(&pay()).status(), 503);
    world.provider.all(&Mode::Works);
    world.pass(secs(40));
    assert!(world.ask(&pay()).edits().attached_token.is_some());
}

#[test]
fn a_request_that_is_refused_anyway_does_not_wait() {
    let mut world = World::new(&without_discovery(both()));
    for (get, status) in [
        (get("/inventory/items"), 401),
        (items("not-a-token"), 401),
        (get("/elsewhere"), 403),
        (get("/x/..%2finventory"), 400),
        (get("/public/x"), 200),
    ] {
        let outcome = world.ask(&get);
        assert!(outcome.status() == status && outcome.at_once(), "{outcome:?}");
    }
}

#[test]
fn a_request_that_waits_for_a_new_key_does_not_outlast_the_bound_either() {
    let mut world = World::warm(&without_discovery(both()));
    world.run_until(secs(60));
    world.provider.keys = Mode::Silent;
    world.provider.published.push(Key::number(2));
    let get = items(&world.token());
    for get in [get, items(&made_up("nobody's"))] {
        let outcome = world.ask(&get);
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "jwks_unavailable"));
        assert!(outcome.waited() <= millis(5002));
    }
}

/// They were settled in the order of their coming, no more than a portion in one millisecond, and
/// all soon.
fn in_portions(world: &World, ids: &[RequestId]) {
    let order: Vec<_> = world.settled.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, ids, "first come, first served");
    let first = world.settled[0].1;
    let mut moments = BTreeMap::new();
    for (_, at) in &world.settled {
        *moments.entry(*at).or_insert(0) += 1;
    }
    assert!(moments.values().all(|count| *count <= PORTION), "{moments:?}");
    let longest = millis(u64::try_from(ids.len() / PORTION + 2).unwrap());
    assert!(world.settled.iter().all(|(_, at)| *at <= first + longest), "{moments:?}");
}

#[test]
fn a_thousand_pending_requests_are_settled_in_batches_in_order_whatever_ends_their_wait() {
    let cases: [(Mode, u16); 3] = [(Mode::Late(secs(1)), 200), (Mode::status(400), 503), (Mode::Silent, 503)];
    for (mode, status) in cases {
        let mut world = World::new(&without_discovery(outbound()));
        world.provider.latency = secs(1);
        world.provider.tokens = mode;
        let ids: Vec<_> = (0..1000).map(|_| world.send(&pay())).collect();
        world.pass(secs(8));
        assert!(ids.iter().all(|id| world.outcome(*id).status() == status), "{status}");
        in_portions(&world, &ids);
    }
}

#[test]
fn a_thousand_requests_that_wait_for_keys_and_then_for_a_token_keep_their_order() {
    let mut world = World::new(&without_discovery(both()));
    world.provider.keys = Mode::Late(secs(1));
    world.provider.tokens = Mode::Late(secs(2));
    let get = items(&world.token()).host("payment");
    let ids: Vec<_> = (0..1000).map(|_| world.send(&get)).collect();
    world.pass(secs(4));
    assert!(ids.iter().all(|id| world.outcome(*id).status() == 200));
    in_portions(&world, &ids);
}

#[test]
fn what_comes_while_a_thousand_are_settled_is_decided_at_once_and_delays_none_of_them() {
    let mut world = World::new(&without_discovery(outbound()));
    world.provider.tokens = Mode::Late(secs(1));
    let ids: Vec<_> = (0..1000).map(|_| world.send(&pay())).collect();
    while world.settled.is_empty() {
        world.pass(millis(1));
    }
    while world.waiting().len() > 0 {
        assert!(world.ask(&pay()).passed());
        world.pass(millis(1));
    }
    in_portions(&world, &ids);
}

#[test]
fn a_request_that_goes_while_a_thousand_are_settled_is_not_settled() {
    let mut world = World::new(&without_discovery(outbound()));
    world.provider.tokens = Mode::Late(secs(1));
    let ids: Vec<_> = (0..1000).map(|_| world.send(&pay())).collect();
    while world.settled.is_empty() {
        world.pass(millis(1));
    }
    world.cancel(ids[999]);
    world.cancel(ids[500]);
    world.pass(secs(1));
    let stays: Vec<_> = ids.iter().copied().filter(|id| *id != ids[999] && *id != ids[500]).collect();
    in_portions(&world, &stays);
}

#[test]
fn few_wait_for_a_key_that_may_be_made_up() {
    let mut world = World::warm(&without_discovery(both()));
    world.run_until(secs(60));
    world.provider.latency = secs(1);
    let held: Vec<_> = (0..64).map(|number| world.send(&items(&made_up(&number.to_string())))).collect();
    for number in 64..100 {
        let over = world.ask(&items(&made_up(&number.to_string())));
        assert_eq!((over.status(), over.reason().as_str()), (503, "too_many_pending"));
        assert!(over.at_once() && over.retry_after() == Some(1));
    }
    let known = items(&world.token());
    assert!(world.ask(&known).passed(), "whose key is there does not wait");
    world.pass(secs(4));
    assert!(held.iter().all(|id| world.outcome(*id).status() == 401));
    assert_eq!(world.counters()["m2m_auth_limit_reached.kind.jwks.name.idp.limit.pending_unknown_keys"], 36);
}

#[test]
fn nine_hundred_without_bodies_wait_through_a_cold_start_and_few_whose_bodies_are_of_any_length() {
    let mut world = World::new(&without_discovery(both()));
    world.provider.latency = secs(1);
    let get = items(&world.token());
    let small = get.clone().with_body().header("content-length", "1000");
    let large = get.clone().with_body();
    let mut held: Vec<_> =
        (0..900).map(|number| world.send(if number % 2 == 0 { &get } else { &small })).collect();
    // Three quarters of 64 MiB, less those bodies.
    held.extend((0..47).map(|_| world.send(&large)));
    assert_eq!(world.waiting().len(), 947);
    let over: Vec<_> = (0..10).map(|_| world.send(&large)).collect();
    let refused = over.iter().filter(|id| world.outcome(**id).status() == 503).count();
    assert!(refused >= 6, "{refused}");
    assert_eq!(
        world.counters()["m2m_auth_limit_reached.limit.pending_bytes"],
        u64::try_from(refused).unwrap()
    );
    held.push(world.send(&get));
    world.pass(secs(2));
    assert!(held.iter().all(|id| world.outcome(*id).status() == 200));
}

#[test]
fn forged_requests_with_bodies_leave_a_cold_start_to_those_without() {
    let mut world = World::new(&without_discovery(both()));
    world.provider.latency = secs(1);
    let forged = items(&made_up("key-1")).with_body();
    for _ in 0..64 {
        world.send(&forged);
    }
    // And what is left of the budget.
    for half in 1..=20 {
        let length = ((1024 * 1024) >> half).to_string();
        world.send(&forged.clone().header("content-length", &length));
        world.send(&forged.clone().header("content-length", &length));
    }
    let get = items(&world.token());
    let held: Vec<_> = (0..300).map(|_| world.send(&get)).collect();
    let refused = held.iter().filter(|id| world.outcome(**id).status() == 503).count();
    assert_eq!(refused, 0, "of 300");
    world.pass(secs(2));
    assert!(held.iter().all(|id| world.outcome(*id).status() == 200));
}

#[test]
fn a_request_whose_caller_is_verified_waits_whatever_the_body() {
    let mut configuration = without_discovery(both());
    configuration["pending_requests"] = json!({ "max_bytes": 0 });
    let mut world = World::new(&configuration);
    world.provider.tokens = Mode::Silent;
    world.pass(secs(1));
    let get = items(&world.token()).host("payment").with_body();
    // The keys are here and the token is not: only verified callers wait for it.
    let (known, unknown) = (world.send(&get), world.send(&pay()));
    assert_eq!(world.outcome(known).status(), 0);
    assert_eq!(world.outcome(unknown).reason(), "too_many_pending");
}

#[test]
fn a_request_is_held_for_an_attempt_that_begins_before_its_time_is_up() {
    for (timeout, status) in [("10s", 200), ("2s", 503)] {
        let mut configuration = without_discovery(outbound());
        configuration["pending_requests"] = json!({ "timeout": timeout });
        let mut world = World::new(&configuration);
        world.provider.tokens = Mode::retry_after(429, "3");
        world.pass(millis(100));
        let id = world.send(&pay());
        world.provider.tokens = Mode::Works;
        world.pass(secs(4));
        let outcome = world.outcome(id);
        assert_eq!(outcome.status(), status, "{timeout}: {outcome:?}");
        if status == 503 {
            assert!(
                outcome.at_once() && outcome.retry_after() == Some(3),
                "it did not arrive in time: {outcome:?}"
            );
        }
    }
}
