//! The start of a worker: nothing is fetched yet, and the provider may be down.

use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{
    World, both, get, inbound, items, millis, outbound, pay, secs, without_discovery,
};
use serde_json::json;

#[test]
fn five_hundred_requests_at_a_cold_start_cost_one_metadata_and_one_key_call_and_all_succeed() {
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
fn a_permanent_refusal_of_the_provider_is_reported_at_once_and_is_no_401() {
    for status in [400, 401, 403, 404] {
        let mut world = World::new(&without_discovery(inbound()));
        world.provider.all(&Mode::status(status));
        world.pass(secs(5));
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "jwks_unavailable"), "{status}");
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
fn metadata_that_is_not_at_the_first_location_is_asked_for_at_the_other_at_once() {
    for status in [404, 400, 401, 403, 405, 410, 302] {
        let mut world = World::new(&inbound());
        world.provider.metadata = Mode::status(status);
        world.provider.rfc8414 = Mode::Works;
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert_eq!(outcome.status(), 200, "{status}");
        assert!(outcome.waited() < millis(200), "{status}: {:?}", outcome.waited());
        world.pass(secs(3700));
        assert_eq!(world.provider.count(Endpoint::OpenId), 1, "the renewal asks where it was found");
    }
}

#[test]
fn a_provider_that_is_busy_is_asked_for_its_metadata_at_the_same_location_again() {
    for status in [408, 425, 429, 500, 503] {
        let mut world = World::new(&inbound());
        world.provider.metadata = Mode::status(status);
        world.pass(secs(60));
        assert!(world.provider.count(Endpoint::OpenId) > 2, "{status}");
        assert_eq!(world.provider.count(Endpoint::Rfc8414), 0, "{status}");
    }
}

#[test]
fn where_neither_location_has_the_metadata_both_are_asked_once_in_each_round() {
    for (first, second, outcome) in
        [(404, 404, "server_error"), (403, 404, "server_error"), (404, 401, "configuration")]
    {
        let mut world = World::new(&inbound());
        world.provider.metadata = Mode::status(first);
        world.provider.rfc8414 = Mode::status(second);
        world.pass(secs(600));
        let asked = [Endpoint::OpenId, Endpoint::Rfc8414].map(|endpoint| world.provider.count(endpoint));
        assert!(asked[0] == asked[1] && (3..100).contains(&asked[0]), "{first} {second}: {asked:?}");
        assert!(world.logs[0].ends_with("the other location is asked"), "{:?}", world.logs);
        let counter = format!("m2m_auth_fetch.kind.metadata.name.idp.outcome.{outcome}");
        assert!(world.counters().contains_key(&counter), "{:?}", world.counters());
    }
}

#[test]
fn connections_that_are_closed_one_after_the_other_raise_the_question_of_tls() {
    let mut world = World::new(&without_discovery(inbound()));
    let body =
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    world.provider.keys = Mode::Says { status: 503, headers: Vec::new(), body: body.to_owned() };
    let get = items(&world.token());
    world.ask(&get);
    assert_eq!(world.logs[0], "keys of issuer idp: connection_closed: the connection was closed");
    let again = "keys of issuer idp: unreachable: the connection was closed before an answer, again; is TLS missing on \
                 cluster \"idp\"?";
    assert_eq!(world.logs[1], again);
    let counters = world.counters();
    assert_eq!(counters["m2m_auth_fetch.kind.jwks.name.idp.outcome.connection_closed"], 1, "{counters:?}");
    assert!(counters["m2m_auth_fetch.kind.jwks.name.idp.outcome.unreachable"] >= 1, "an alert sees it");
}

#[test]
fn metadata_that_names_no_key_set_refuses_at_once_since_waiting_cannot_help() {
    let mut world = World::new(&inbound());
    world.provider.endpoints = json!({ "token_endpoint": "https://idp.example/realms/r/token" });
    world.pass(secs(10));
    let get = items(&world.token());
    let outcome = world.ask(&get);
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "jwks_unavailable"));
    assert!(outcome.at_once(), "held for {:?}", outcome.waited());
}

#[test]
fn metadata_that_names_no_token_endpoint_refuses_at_once_since_waiting_cannot_help() {
    let mut world = World::new(&outbound());
    world.provider.endpoints = json!({ "jwks_uri": "https://idp.example/realms/r/keys" });
    world.pass(secs(10));
    let outcome = world.ask(&pay());
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "outbound_token_unavailable"));
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
