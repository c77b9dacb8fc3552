//! The first moments of a worker: nothing is known yet, and perhaps nobody answers.

use crate::sim::provider::{Endpoint, Mode};
use crate::sim::world::{World, both, get, inbound, items, millis, outbound, pay, secs, without_discovery};
use serde_json::json;

#[test]
fn five_hundred_requests_at_a_cold_start_cost_one_metadata_and_one_key_call_and_all_get_through() {
    let mut world = World::new(&inbound());
    let get = items(&world.token());
    let ids: Vec<_> = (0..500).map(|_| world.send(&get)).collect();
    assert_eq!(world.waiting().len(), 500);
    world.pass(secs(1));
    assert!(ids.iter().all(|id| world.outcome(*id).status() == 200));
    assert!(
        ids.iter().all(|id| world.outcome(*id).waited() < millis(100)),
        "no longer than the two calls take"
    );
    let provider = &world.provider;
    assert_eq!((provider.count(Endpoint::OpenId), provider.count(Endpoint::Keys)), (1, 1));
}

#[test]
fn keys_are_there_before_the_first_request() {
    let mut world = World::warm(&both());
    let get = items(&world.token());
    assert!(world.ask(&get).passed() && world.ask(&pay()).passed());
}

#[test]
fn the_timeout_of_an_issuer_is_that_of_every_call_to_it() {
    let mut configuration = both();
    configuration["issuers"]["idp"]["timeout"] = json!("2s");
    let world = World::warm(&configuration);
    assert_eq!(world.provider.asked.len(), 3, "metadata, keys, token");
    assert_eq!(world.provider.timeouts, [secs(2)].into());
}

#[test]
fn what_is_given_is_not_discovered() {
    let world = World::warm(&without_discovery(both()));
    assert_eq!(world.provider.count(Endpoint::OpenId), 0);
    assert_eq!((world.provider.count(Endpoint::Keys), world.provider.count(Endpoint::Tokens)), (1, 1));
}

#[test]
fn metadata_is_looked_at_again_every_hour() {
    let mut world = World::new(&both());
    world.pass(secs(86_400));
    let times = world.provider.times(Endpoint::OpenId);
    assert!(times.windows(2).all(|pair| (3240..=3600).contains(&(pair[1] - pair[0]).as_secs())), "{times:?}");
}

#[test]
fn a_provider_that_is_down_at_start_holds_requests_for_the_bound_at_most() {
    for mode in [Mode::status(500), Mode::status(503), Mode::Resets, Mode::Silent, Mode::status(200)] {
        let mut world = World::new(&both());
        world.provider.all(&mode);
        let token = world.token();
        for get in [items(&token), pay()] {
            let first = world.ask(&get);
            assert_eq!(first.status(), 503, "{mode:?}: {first:?}");
            assert!(first.retry_after().is_some());
        }
        // A call that hangs is noticed as a failure only when it is given up, and it takes two.
        world.pass(secs(15));
        for get in [items(&token), pay()] {
            let later = world.ask(&get);
            assert!(later.status() == 503 && later.waited() <= millis(5002), "{mode:?}: {later:?}");
            assert!(later.retry_after().is_some());
        }
        assert_eq!(world.ask(&get("/public/x")).status(), 200, "nothing is needed for this one");
    }
}

#[test]
fn what_the_provider_refuses_for_good_is_told_at_once_and_is_no_401() {
    for status in [400, 401, 403, 404] {
        let mut world = World::new(&without_discovery(inbound()));
        world.provider.all(&Mode::status(status));
        world.pass(secs(5));
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "no_keys"), "{status}");
    }
}

#[test]
fn workers_do_not_come_back_to_a_failing_provider_in_step() {
    let fifth = |seed| {
        let mut world = World::seeded(&without_discovery(inbound()), seed);
        world.provider.all(&Mode::status(500));
        world.pass(secs(120));
        world.provider.times(Endpoint::Keys)[4]
    };
    let mut times: Vec<_> = (0..20).map(fifth).collect();
    times.sort();
    assert!(times[19] - times[0] > secs(5), "all within {:?}", times[19] - times[0]);
}

#[test]
fn an_outage_at_start_ends_within_the_longest_backoff_after_the_provider_is_back() {
    for seed in 0..50 {
        let mut world = World::seeded(&without_discovery(both()), seed);
        world.provider.all(&Mode::Resets);
        world.pass(secs(1200));
        world.provider.all(&Mode::Works);
        world.pass(secs(31));
        let get = items(&world.token());
        assert!(world.ask(&get).passed() && world.ask(&pay()).passed(), "seed {seed}");
    }
}

#[test]
fn discovery_does_not_make_an_outage_at_start_last_longer() {
    for seed in 0..50 {
        let mut world = World::seeded(&both(), seed);
        world.provider.all(&Mode::Resets);
        world.pass(secs(1200));
        world.provider.all(&Mode::Works);
        world.pass(secs(33));
        let get = items(&world.token());
        assert!(world.ask(&get).passed() && world.ask(&pay()).passed(), "seed {seed}");
    }
}

#[test]
fn a_short_outage_at_start_costs_requests_nothing_but_a_wait() {
    for seed in 0..50 {
        let mut world = World::seeded(&without_discovery(inbound()), seed);
        world.provider.all(&Mode::Resets);
        let get = items(&world.token());
        let id = world.send(&get);
        world.pass(millis(100));
        world.provider.all(&Mode::Works);
        world.pass(secs(2));
        assert_eq!(world.outcome(id).status(), 200, "seed {seed}: {:?}", world.outcome(id));
    }
}

#[test]
fn metadata_that_is_not_at_the_first_place_is_asked_for_at_the_other_within_a_second() {
    for seed in 0..50 {
        let mut world = World::seeded(&inbound(), seed);
        world.provider.metadata = Mode::status(404);
        world.provider.rfc8414 = Mode::Works;
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert_eq!(outcome.status(), 200, "seed {seed}");
        assert!(outcome.waited() < millis(1100), "seed {seed}: {:?}", outcome.waited());
    }
}

#[test]
fn metadata_that_names_no_key_set_refuses_at_once_since_waiting_cannot_help() {
    let mut world = World::new(&inbound());
    world.provider.endpoints = json!({ "token_endpoint": "https://idp.example/realms/r/token" });
    world.pass(secs(10));
    let get = items(&world.token());
    let outcome = world.ask(&get);
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "no_keys"));
    assert!(outcome.at_once(), "held for {:?}", outcome.waited());
}

#[test]
fn metadata_that_names_no_token_endpoint_refuses_at_once_since_waiting_cannot_help() {
    let mut world = World::new(&outbound());
    world.provider.endpoints = json!({ "jwks_uri": "https://idp.example/realms/r/keys" });
    world.pass(secs(10));
    let outcome = world.ask(&pay());
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "no_outbound_token"));
    assert!(outcome.at_once(), "held for {:?}", outcome.waited());
}

#[test]
fn metadata_of_another_issuer_leads_nowhere() {
    let mut world = World::new(&both());
    world.provider.metadata = Mode::json(
        200,
        &json!({
            "issuer": "https://other.example",
            "jwks_uri": "https://idp.example/realms/r/keys",
            "token_endpoint": "https://idp.example/realms/r/token",
        }),
    );
    world.pass(secs(600));
    assert_eq!((world.provider.count(Endpoint::Keys), world.provider.count(Endpoint::Tokens)), (0, 0));
    let get = items(&world.token());
    assert_eq!(world.ask(&get).status(), 503);
}

#[test]
fn a_cluster_that_does_not_exist_is_a_failure_as_any_other() {
    let mut world = World::new(&both());
    world.provider.all(&Mode::NoCluster);
    let get = items(&world.token());
    assert_eq!(world.ask(&get).status(), 503);
    world.pass(secs(600));
    assert!(world.logs.iter().any(|line| line.contains("is there such a cluster?")), "{:?}", world.logs);
    assert!(world.provider.asked.len() < 100, "{} calls in ten minutes", world.provider.asked.len());
    world.provider.all(&Mode::Works);
    world.pass(secs(65));
    let get = items(&world.token());
    assert_eq!(world.ask(&get).status(), 200);
}
