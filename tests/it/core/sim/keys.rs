//! The life of a key set: refreshed, rotated, withdrawn, kept through an outage.

use crate::core::sim::provider::{Endpoint, Key, Mode, made_up};
use crate::core::sim::world::{World, inbound, items, millis, secs, without_discovery};
use serde_json::{Value, json};
use std::time::Duration;

fn config() -> Value {
    without_discovery(inbound())
}

fn fetches(world: &World) -> usize {
    world.provider.count(Endpoint::Keys)
}

#[test]
fn a_key_set_that_moved_is_found_at_once_and_a_new_key_is_waited_for() {
    for status in [301, 404, 405, 410] {
        let mut world = World::warm(&inbound());
        world.pass(secs(60));
        world.provider.move_away(status);
        world.provider.published.push(Key::number(2));
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert_eq!(outcome.status(), 200, "{status}: {:?}", world.logs);
        assert!(outcome.waited() < millis(200), "{status}: {:?}", outcome.waited());
    }
}

#[test]
fn keys_are_refreshed_in_the_background_every_five_minutes_less_jitter() {
    let mut world = World::warm(&config());
    for _ in 0..1440 {
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert!(outcome.passed(), "{outcome:?}");
        world.pass(secs(60));
    }
    let times = world.provider.times(Endpoint::Keys);
    assert!(times.windows(2).all(|pair| (270..=300).contains(&(pair[1] - pair[0]).as_secs())), "{times:?}");
}

#[test]
fn workers_do_not_refresh_in_step() {
    let refreshed = |seed| {
        let mut world = World::seeded(&config(), seed);
        world.pass(secs(310));
        world.provider.times(Endpoint::Keys)[1]
    };
    let mut times: Vec<_> = (0..20).map(refreshed).collect();
    times.sort();
    assert!(times[19] - times[0] > secs(15), "all within {:?}", times[19] - times[0]);
}

#[test]
fn the_first_token_of_a_new_key_waits_for_one_refetch_and_is_accepted() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    world.provider.published.push(Key::number(2));
    let ids: Vec<_> = (0..64)
        .map(|_| {
            let get = items(&world.token());
            world.send(&get)
        })
        .collect();
    world.pass(secs(1));
    for id in ids {
        let outcome = world.outcome(id);
        assert_eq!(outcome.status(), 200, "{outcome:?}");
        assert!(outcome.waited() <= millis(30), "{:?}", outcome.waited());
    }
    assert_eq!(fetches(&world), 2);
    world.provider.published.remove(0);
    let get = items(&world.token());
    assert!(world.ask(&get).passed());
}

#[test]
fn a_rotation_right_after_a_fetch_is_waited_out() {
    let mut world = World::new(&config());
    world.pass(millis(500));
    world.provider.published = vec![Key::number(2)];
    let get = items(&world.token());
    let outcome = world.ask(&get);
    assert_eq!(outcome.status(), 200, "{outcome:?}");
    let apart = world.provider.times(Endpoint::Keys)[1];
    assert!((2..=5).contains(&apart.as_secs()), "the least time between two fetches: {apart:?}");
}

#[test]
fn a_token_of_a_key_that_does_not_exist_costs_one_refetch_and_is_then_refused_at_once() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    let forged = items(&made_up("nobody's"));
    let first = world.ask(&forged);
    assert_eq!((first.status(), first.reason().as_str()), (401, "unknown_key"));
    assert!(!first.at_once(), "the provider was asked");
    assert_eq!(fetches(&world), 2);
    world.run_until(secs(61));
    for _ in 0..9 {
        let again = world.ask(&forged);
        assert!(again.status() == 401 && again.at_once(), "{again:?}");
        world.pass(secs(1));
    }
    assert_eq!(fetches(&world), 2);
    world.pass(secs(10));
    assert!(!world.ask(&forged).at_once(), "after a while the provider is asked again");
}

#[test]
fn ten_thousand_made_up_keys_cost_one_fetch_per_interval_and_no_more_than_the_bound_waits() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    let good = items(&world.token());
    assert_eq!(world.ask(&good).status(), 200);
    let before = fetches(&world);
    for number in 0..10_000 {
        world.send(&items(&made_up(&format!("made-up-{number}"))));
        world.pass(millis(5));
        if number % 100 == 0 {
            assert!(world.ask(&good).passed(), "callers with known keys notice nothing");
        }
    }
    world.pass(secs(6));
    assert!(world.waiting().len() == 0);
    let times = &world.provider.times(Endpoint::Keys)[before - 1..];
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= secs(2)), "{times:?}");
    assert!(times.len() <= 30, "{} fetches in 56 s", times.len());
    assert!(world.most_waiting <= 1000);
}

#[test]
fn of_a_flood_of_made_up_keys_a_few_hundred_are_remembered_and_no_more() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    // As many as may wait, for a fetch every 3 s; what was remembered is remembered for 10 s.
    for number in 0..900 {
        world.send(&items(&made_up(&format!("made-up-{number}"))));
        if number % 64 == 63 {
            world.pass(secs(4));
        }
    }
    let again: Vec<_> =
        (0..896).map(|number| world.send(&items(&made_up(&format!("made-up-{number}"))))).collect();
    let remembered = again.iter().filter(|id| world.outcome(**id).status() == 401).count();
    assert!((1..=256).contains(&remembered), "{remembered} of 900");
}

#[test]
fn a_thousand_made_up_keys_at_once_are_all_refused_by_the_one_fetch_that_they_waited_for() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    let ids: Vec<_> =
        (0..1000).map(|number| world.send(&items(&made_up(&format!("made-up-{number}"))))).collect();
    world.pass(millis(100));
    let refused = ids.iter().filter(|id| world.outcome(**id).status() == 401).count();
    let too_many = ids.iter().filter(|id| world.outcome(**id).reason() == "too_many_pending").count();
    assert_eq!((refused, too_many, world.waiting().len()), (64, 936, 0), "few of them wait");
    assert_eq!(fetches(&world), 2);
}

#[test]
fn a_rotation_under_a_flood_of_made_up_keys_breaks_no_caller() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    for number in 0..2000_u32 {
        world.send(&items(&made_up(&format!("made-up-{number}"))));
        world.pass(millis(7));
        if number % 500 == 499 {
            let key = Key::number(u8::try_from(number / 500 + 2).unwrap());
            world.provider.published.insert(0, key);
            let key = world.provider.published[0].clone();
            let get = items(&world.mint(&key, 300, "inventory-service"));
            let mut outcome = world.ask(&get);
            if outcome.reason() == "too_many_pending" {
                // The flood has taken all slots until the next fetch, 3 s after the last.
                world.pass(secs(3));
                outcome = world.ask(&get);
            }
            assert_eq!(outcome.status(), 200, "{outcome:?}");
        }
    }
}

#[test]
fn a_key_that_was_published_while_a_fetch_ran_is_found_by_the_next_one() {
    let mut world = World::warm(&config());
    world.provider.latency = secs(1);
    // The refresh reads the old set; the new key appears, and is used, before its answer is here.
    let start = world.provider.times(Endpoint::Keys)[0];
    while world.provider.times(Endpoint::Keys).last() == Some(&start) {
        world.pass(millis(100));
    }
    world.provider.published.push(Key::number(2));
    let get = items(&world.token());
    let outcome = world.ask(&get);
    assert_eq!(outcome.status(), 200, "the provider was not asked since the key exists: {outcome:?}");
}

#[test]
fn a_withdrawn_key_ends_its_tokens_with_the_next_refresh() {
    let mut world = World::warm(&config());
    world.provider.published.push(Key::number(2));
    let old = world.mint(&Key::number(1), 3600, "inventory-service");
    assert_eq!(world.ask(&items(&old)).status(), 200);
    assert_eq!(world.ask(&items(&old)).status(), 200, "remembered");
    world.provider.published.remove(0);
    world.pass(secs(301));
    let outcome = world.ask(&items(&old));
    assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "unknown_key"));
    let get = items(&world.token());
    assert_eq!(world.ask(&get).status(), 200);
}

#[test]
fn another_key_under_the_same_name_ends_the_tokens_of_the_former() {
    let mut world = World::warm(&config());
    let old = items(&world.token());
    assert_eq!(world.ask(&old).status(), 200);
    world.provider.published = vec![Key::number(9).called("key-1")];
    world.pass(secs(301));
    let new = items(&world.token());
    assert_eq!(world.ask(&new).status(), 200);
    world.provider.published.clear();
    let outcome = world.ask(&old);
    assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "signature"));
}

#[test]
fn a_provider_that_is_down_for_hours_stops_nobody_until_its_keys_are_too_old_and_then_it_is_never_the_callers_fault()
 {
    let mut configuration = config();
    configuration["issuers"]["idp"]["jwks_max_stale"] = json!("6h");
    for mode in [
        Mode::status(500),
        Mode::Resets,
        Mode::Silent,
        Mode::status(404),
        Mode::json(200, &json!({ "keys": [] })),
    ] {
        let mut world = World::warm(&configuration);
        world.provider.all(&mode);
        while world.now < secs(6 * 3600 - 30) {
            let get = items(&world.token());
            let outcome = world.ask(&get);
            assert!(outcome.passed(), "{mode:?} at {:?}: {outcome:?}", world.now);
            world.pass(secs(20));
        }
        let good = items(&world.token());
        assert_eq!(world.ask(&good).status(), 200);
        world.run_until(secs(6 * 3600 + 1));
        for get in [&good, &items(&world.token()), &items(&made_up("nobody's"))] {
            let outcome = world.ask(get);
            assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "jwks_unavailable"), "{mode:?}");
        }
        world.provider.all(&Mode::Works);
        world.pass(secs(301));
        let get = items(&world.token());
        assert_eq!(world.ask(&get).status(), 200, "{mode:?}");
    }
}

#[test]
fn an_unknown_key_is_no_401_while_the_provider_cannot_be_asked() {
    for mode in [Mode::status(500), Mode::Resets, Mode::Silent, Mode::status(404), Mode::status(200)] {
        let mut world = World::warm(&config());
        world.run_until(secs(60));
        world.provider.all(&mode);
        for count in 0..100 {
            let outcome = world.ask(&items(&made_up("nobody's")));
            assert_eq!(outcome.status(), 503, "{mode:?}: {outcome:?}");
            // The first of them found out; the others need not wait for it again.
            assert!(outcome.at_once() || count < 3, "{mode:?}: {outcome:?}");
            world.pass(secs(1));
        }
        let get = items(&world.token());
        assert!(world.ask(&get).passed(), "{mode:?}: known keys stay in use");
    }
}

#[test]
fn an_unknown_key_is_refused_for_seconds_only_though_the_wall_clock_steps_back() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    let token = world.mint(&Key::number(2), 3600, "inventory-service");
    assert_eq!(world.ask(&items(&token)).status(), 401, "not published yet");
    world.wall_step = -3600;
    world.provider.published.push(Key::number(2));
    world.pass(secs(15));
    assert_eq!(world.ask(&items(&token)).status(), 200);
}

#[test]
fn a_key_that_was_asked_for_too_early_is_found_a_few_seconds_later() {
    let mut world = World::warm(&config());
    world.run_until(secs(60));
    let token = world.mint(&Key::number(2), 3600, "inventory-service");
    assert_eq!(world.ask(&items(&token)).status(), 401, "not published yet");
    world.provider.published.push(Key::number(2));
    world.pass(secs(11));
    assert_eq!(world.ask(&items(&token)).status(), 200);
}

#[test]
fn keys_are_as_old_as_the_clock_says_that_makes_them_older() {
    for (step, slept) in [(-3600, 0), (600, 600), (1700, 1700)] {
        let mut configuration = config();
        configuration["issuers"]["idp"]["jwks_max_stale"] = json!("30m");
        let mut world = World::warm(&configuration);
        world.run_until(secs(60));
        world.wall_step = step;
        world.provider.all(&Mode::status(500));
        world.run_until(secs(1799 - slept));
        let get = items(&world.token());
        assert_eq!(world.ask(&get).status(), 200, "{step}");
        world.run_until(secs(1801 - slept));
        assert_eq!(world.ask(&get).status(), 503, "{step}");
    }
}

#[test]
fn a_remembered_caller_ends_with_its_token() {
    let mut world = World::warm(&config());
    let key = world.provider.published[0].clone();
    let get = items(&world.mint(&key, 100, "inventory-service"));
    for _ in 0..159 {
        assert_eq!(world.ask(&get).status(), 200, "at {:?}", world.now);
        world.pass(secs(1));
    }
    world.pass(secs(2));
    let outcome = world.ask(&get);
    assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "expired"));
}

#[test]
fn a_token_is_verified_once_and_then_remembered() {
    let mut world = World::warm(&config());
    let get = items(&world.token());
    for _ in 0..50 {
        world.ask(&get);
    }
    let counters = world.counters();
    assert_eq!(counters.get("m2m_auth_token_cache.lookup.miss"), Some(&1));
    assert_eq!(counters.get("m2m_auth_token_cache.lookup.hit"), Some(&49));
}

#[test]
fn keys_are_refreshed_when_the_provider_says_within_bounds() {
    for (said, least, most) in [
        ("max-age=15, stale-while-revalidate=15", 54, 60),
        ("public, max-age=120", 108, 120),
        ("max-age=19000", 540, 600),
        ("no-cache", 270, 300),
        ("no-cache, max-age=600", 270, 300),
        ("max-age=0", 270, 300),
    ] {
        let mut world = World::new(&config());
        world.provider.cache_control = Some(said);
        world.pass(secs(2500));
        let times = world.provider.times(Endpoint::Keys);
        let right = |pair: &[Duration]| (least..=most).contains(&(pair[1] - pair[0]).as_secs());
        assert!(times.len() > 3 && times.windows(2).all(right), "{said}: {times:?}");
    }
}

#[test]
fn the_operators_refresh_counts_whatever_the_provider_says() {
    let mut configuration = config();
    configuration["issuers"]["idp"]["jwks_refresh_interval"] = json!("30s");
    for said in ["max-age=600", "max-age=1", "no-store"] {
        let mut world = World::new(&configuration);
        world.provider.cache_control = Some(said);
        world.pass(secs(300));
        let times = world.provider.times(Endpoint::Keys);
        let right = |pair: &[Duration]| (27..=30).contains(&(pair[1] - pair[0]).as_secs());
        assert!(times.len() > 8 && times.windows(2).all(right), "{said}: {times:?}");
    }
}

#[test]
fn keys_are_renewed_before_they_end_however_long_the_provider_says() {
    let mut configuration = config();
    configuration["issuers"]["idp"]["jwks_max_stale"] = json!("5m");
    let mut world = World::new(&configuration);
    world.provider.cache_control = Some("max-age=600");
    world.pass(secs(1));
    for _ in 0..120 {
        let get = items(&world.token());
        let outcome = world.ask(&get);
        assert!(outcome.passed(), "{outcome:?}");
        world.pass(secs(10));
    }
}

#[test]
fn an_unchanged_key_set_is_good_for_longer_and_ends_nobodys_token() {
    let mut configuration = config();
    configuration["issuers"]["idp"]["jwks_max_stale"] = json!("10m");
    let mut world = World::new(&configuration);
    world.provider.etags = true;
    world.pass(secs(1));
    let get = items(&world.mint(&Key::number(1), 7200, "inventory-service"));
    for _ in 0..60 {
        let outcome = world.ask(&get);
        assert!(outcome.passed(), "at {:?}: {outcome:?}", world.now);
        world.pass(secs(60));
    }
    assert_eq!(fetches(&world), world.provider.unchanged + 1, "the body came once");
    assert!(world.provider.unchanged > 10);
    let counters = world.counters();
    assert_eq!(counters.get("m2m_auth_token_cache.lookup.miss"), Some(&1), "verified once");
    world.provider.published = vec![Key::number(2)];
    world.pass(secs(301));
    assert_eq!(world.ask(&get).reason(), "unknown_key", "a changed one has another tag");
    let get = items(&world.token());
    assert!(world.ask(&get).passed());
}

#[test]
fn unchanged_is_no_answer_to_a_question_that_was_not_asked() {
    let mut world = World::new(&config());
    world.provider.keys = Mode::status(304);
    world.pass(secs(10));
    let get = items(&world.token());
    assert_eq!(world.ask(&get).status(), 503);
    assert!(world.logs.iter().any(|line| line.contains("status 304")), "{:?}", world.logs);
}
