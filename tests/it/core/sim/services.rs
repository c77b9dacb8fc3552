//! Services that answer 401 to a token: what that costs the provider, and the requests to other
//! services.

use crate::core::sim::provider::Endpoint;
use crate::core::sim::world::{Get, World, get, millis, outbound, secs, without_discovery};
use m2m_auth::filter::header_edits::{AttachedToken, Edit};
use serde_json::{Value, json};

/// Every request gets the token of one credential.
fn config() -> Value {
    let mut configuration = without_discovery(outbound());
    configuration["outbound"]["rules"] = json!([{ "credential": "order" }]);
    configuration
}

fn to(host: &str) -> Get {
    get("/public").host(host)
}

fn sent(world: &mut World, request: &Get) -> AttachedToken {
    world.ask(request).edits().attached_token.clone().unwrap()
}

/// A world at 20 s, in which the provider takes three seconds, and the service has just refused the
/// token.
fn refused(configuration: &Value, request: &Get) -> (World, u64) {
    let mut world = World::warm(configuration);
    world.run_until(secs(20));
    world.provider.latency = secs(3);
    let sent = sent(&mut world, request);
    world.upstream_refuses(&sent);
    (world, sent.serial)
}

#[test]
fn a_service_that_refuses_a_token_holds_its_own_requests_alone_and_for_a_second_at_most() {
    let (mut world, old) = refused(&config(), &to("payment"));
    for other in [to("shipping"), to("payment:8443")] {
        assert!(world.ask(&other).passed(), "another service");
    }
    let held = world.send(&to("payment"));
    world.pass(millis(100));
    let upper = world.send(&to("PAYMENT"));
    assert_eq!(world.waiting().len(), 2, "the case of a host means nothing");
    world.pass(millis(950));
    for id in [held, upper] {
        let outcome = world.outcome(id);
        assert_eq!(outcome.edits().attached_token.as_ref().unwrap().serial, old, "{outcome:?}");
        assert!(outcome.waited() <= millis(1002), "{outcome:?}");
    }
    assert!(world.ask(&to("payment")).passed(), "the token has not ended, and its time is up");
    world.pass(secs(2));
    assert_eq!(sent(&mut world, &to("payment")).serial, old + 1);
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
}

#[test]
fn where_one_cluster_refuses_the_others_of_the_same_host_are_not_held() {
    let (mut world, _) = refused(&config(), &to("gateway").to("blue"));
    assert!(world.ask(&to("gateway").to("green")).passed());
    let held = world.send(&to("gateway").to("blue"));
    assert!(world.waiting().any(|id| id == held));
}

#[test]
fn a_full_queue_or_the_end_of_a_requests_time_means_the_token_that_has_not_ended() {
    let mut configuration = config();
    configuration["pending_requests"] = json!({ "max": 10 });
    let (mut world, _) = refused(&configuration, &to("payment"));
    for number in 0..30 {
        let id = world.send(&to("payment"));
        let outcome = world.outcome(id);
        assert!(if number < 10 { outcome.status() == 0 } else { outcome.passed() }, "{number}: {outcome:?}");
    }
    world.pass(secs(2));
    assert!(world.outcomes().all(|outcome| outcome.status() == 200));
    configuration["pending_requests"] = json!({ "timeout": "300ms" });
    let (mut world, _) = refused(&configuration, &to("payment"));
    let outcome = world.ask(&to("payment"));
    assert_eq!(outcome.status(), 200, "{outcome:?}");
    assert!(outcome.waited() >= millis(300));
}

#[test]
fn a_thousand_requests_a_second_to_many_services_see_nothing_of_one_that_refuses() {
    let (mut world, _) = refused(&config(), &to("payment"));
    for number in 0..6000 {
        let id = world.send(&to(&format!("service-{}", number % 100)));
        assert!(world.outcome(id).passed(), "{number}: {:?}", world.outcome(id));
        world.pass(millis(1));
    }
}

/// A request each second; the services of which `refuses` says so answer 401. How often the
/// provider was asked in that time.
fn fetches(world: &mut World, seconds: u64, hosts: &[&str], refuses: impl Fn(&str) -> bool) -> usize {
    let before = world.provider.count(Endpoint::Tokens);
    for _ in 0..seconds {
        for host in hosts {
            let sent = sent(world, &to(host));
            if refuses(host) {
                world.upstream_refuses(&sent);
            }
        }
        world.pass(secs(1));
    }
    world.provider.count(Endpoint::Tokens) - before
}

#[test]
fn a_service_that_refuses_every_token_is_believed_ever_more_rarely() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    let first = fetches(&mut world, 600, &["payment", "shipping"], |host| host == "payment");
    assert!((4..=9).contains(&first), "{first} fetches in ten minutes");
    let later = fetches(&mut world, 3600, &["payment", "shipping"], |host| host == "payment");
    assert!(
        (15..=21).contains(&later),
        "{later} fetches in an hour, of which 17 are those of a token's life"
    );
}

#[test]
fn a_service_that_refuses_every_token_keeps_no_other_service_from_a_new_one() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    fetches(&mut world, 300, &["payment", "shipping"], |host| host == "payment");
    let before = world.provider.count(Endpoint::Tokens);
    let sent = sent(&mut world, &to("shipping"));
    world.upstream_refuses(&sent);
    world.pass(millis(500));
    assert_eq!(world.provider.count(Endpoint::Tokens), before + 1);
}

#[test]
fn a_service_that_has_taken_the_token_for_a_minute_is_believed_at_once_when_it_refuses_it() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    fetches(&mut world, 120, &["payment"], |_| true);
    for _ in 0..61 {
        let sent = sent(&mut world, &to("payment"));
        world.upstream_accepts(&sent);
        world.pass(secs(1));
    }
    let before = world.provider.count(Endpoint::Tokens);
    let refused = sent(&mut world, &to("payment"));
    world.upstream_refuses(&refused);
    world.pass(millis(500));
    assert_eq!(world.provider.count(Endpoint::Tokens), before + 1);
}

#[test]
fn a_client_that_gets_401_for_ever_delays_the_renewal_of_a_revoked_token_by_seconds() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    // Others are served, ten a second; it asks twice a second for what it may not have.
    for _ in 0..200 {
        let refused = sent(&mut world, &to("payment"));
        world.upstream_refuses(&refused);
        for _ in 0..5 {
            let accepted = sent(&mut world, &to("payment"));
            world.upstream_accepts(&accepted);
            world.pass(millis(100));
        }
    }
    let revoked = sent(&mut world, &to("payment")).serial;
    let mut waited = 0;
    while sent(&mut world, &to("payment")).serial == revoked {
        let refused = sent(&mut world, &to("payment"));
        world.upstream_refuses(&refused);
        world.pass(millis(100));
        waited += 1;
    }
    assert!(waited <= 120, "{waited} tenths of a second");
}

#[test]
fn made_up_hosts_that_refuse_delay_the_renewal_for_no_other_service_by_more_than_ten_seconds() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    let mut number = 0;
    let mut flood = |world: &mut World| {
        for _ in 0..5 {
            number += 1;
            let refused = sent(world, &to(&format!("made-up-{number}")));
            world.upstream_refuses(&refused);
        }
        world.pass(millis(100));
    };
    let before = world.provider.count(Endpoint::Tokens);
    (0..1000).for_each(|_| flood(&mut world));
    let fetches = world.provider.count(Endpoint::Tokens) - before;
    assert!(fetches <= 11, "{fetches} fetches in 100 s");
    let revoked = sent(&mut world, &to("payment")).serial;
    let mut waited = 0;
    loop {
        let refused = sent(&mut world, &to("payment"));
        if refused.serial != revoked {
            break;
        }
        world.upstream_refuses(&refused);
        flood(&mut world);
        waited += 1;
    }
    assert!(waited <= 110, "{waited} tenths of a second");
}

#[test]
fn a_token_of_ours_that_comes_back_is_removed_also_after_renewals_and_whatever_is_beside_it() {
    let mut configuration = config();
    configuration["outbound"]["rules"] = json!([{ "match": { "host": "payment" }, "credential": "order" }]);
    let mut world = World::warm(&configuration);
    world.run_until(secs(20));
    let leaves = |world: &mut World, value: &str| {
        let outcome = world.ask(&to("foreign").header("authorization", value));
        !outcome.edits().headers.contains(&Edit::Remove("authorization".into()))
    };
    let first = world.provider.issued[0].token.clone();
    for renewal in 0..6 {
        for value in ["Bearer T", "Bearer\tT", "Bearer T,", "Bearer T, Bearer y", "T", "bearer  T "] {
            assert!(!leaves(&mut world, &value.replace('T', &first)), "{renewal}: {value}");
        }
        let refused = sent(&mut world, &to("payment"));
        world.upstream_refuses(&refused);
        world.pass(secs(11));
    }
    assert!(world.provider.issued.len() > 3, "it was renewed");
    assert!(leaves(&mut world, "Bearer another") && leaves(&mut world, "Basic T"));
}
