//! The life of an outbound token: fetched, attached, renewed, kept, expired.

use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{World, millis, outbound, pay, secs, without_discovery};
use serde_json::{Value, json};
use std::time::Duration;

fn config() -> Value {
    without_discovery(outbound())
}

/// A request each `every` for `span`; every one must be forwarded at once.
fn steady(world: &mut World, every: Duration, span: Duration) {
    let end = world.now + span;
    while world.now < end {
        let outcome = world.ask(&pay());
        assert!(outcome.passed(), "at {:?}: {outcome:?}", world.now);
        world.pass(every);
    }
}

#[test]
fn the_token_is_attached_as_the_rule_says_and_with_it_which_one_it_is() {
    let mut world = World::warm(&config());
    let outcome = world.ask(&pay().bearer("a-token-of-the-caller"));
    assert_eq!(outcome.set("authorization"), Some(format!("Bearer {}", world.provider.issued[0].token)));
    assert!(outcome.edits().attached_token.is_some());
    let mut configuration = config();
    configuration["outbound"]["rules"][0]["header"] = json!("x-token");
    let mut world = World::warm(&configuration);
    assert_eq!(world.ask(&pay()).set("x-token").as_ref(), Some(&world.provider.issued[0].token));
}

#[test]
fn a_token_is_renewed_between_70_and_80_percent_of_its_life_and_nobody_waits_for_it() {
    for seed in 0..30 {
        for life in [30, 60, 300, 3600] {
            let mut world = World::seeded(&config(), seed);
            world.provider.expires_in = json!(life);
            world.pass(secs(1));
            steady(&mut world, secs(life) / 20, secs(life) * 3);
            let times = world.provider.times(Endpoint::Tokens);
            assert!(times.len() > 3, "{times:?}");
            for pair in times.windows(2) {
                let share = (pair[1] - pair[0]).as_secs_f64() / secs(life).as_secs_f64();
                assert!((0.7..=0.8001).contains(&share), "seed {seed}, life {life}: renewed at {share}");
            }
        }
    }
}

#[test]
fn workers_do_not_renew_in_step() {
    let renewed = |seed| {
        let mut world = World::seeded(&config(), seed);
        world.pass(secs(260));
        world.provider.times(Endpoint::Tokens)[1]
    };
    let mut times: Vec<_> = (0..20).map(renewed).collect();
    times.sort();
    assert!(times[19] - times[0] > secs(10), "all within {:?}", times[19] - times[0]);
}

#[test]
fn a_day_of_tokens_of_five_minutes_costs_no_more_fetches_than_their_shares_of_life() {
    let mut world = World::warm(&config());
    steady(&mut world, secs(30), secs(86_400));
    let fetches = world.provider.count(Endpoint::Tokens);
    assert!((360..=412).contains(&fetches), "{fetches}");
}

#[test]
fn a_failed_renewal_keeps_the_old_token_until_it_ends_then_503_then_it_recovers() {
    for mode in [Mode::status(500), Mode::Resets, Mode::Silent, Mode::status(200), Mode::status(401)] {
        let mut world = World::warm(&config());
        world.provider.tokens = mode.clone();
        steady(&mut world, secs(5), secs(285));
        assert!(world.provider.count(Endpoint::Tokens) > 1, "{mode:?}: a renewal was tried");
        assert_eq!(world.provider.issued.len(), 1);
        // It ended at 290 s, and is waited for no longer than ten seconds more.
        world.pass(secs(301) - world.now);
        let ended = world.ask(&pay());
        assert_eq!(
            (ended.status(), ended.reason().as_str()),
            (503, "outbound_token_unavailable"),
            "{mode:?}"
        );
        assert!(ended.waited() <= millis(5002), "{mode:?}: held for attempts that begin in time");
        world.provider.tokens = Mode::Works;
        // The slowest backoff is 126 s, and 160 s for what only an operator can fix.
        world.pass(if matches!(mode, Mode::Says { status: 401, .. }) { secs(161) } else { secs(127) });
        steady(&mut world, secs(5), secs(300));
    }
}

#[test]
fn a_failure_in_the_middle_of_a_tokens_life_is_never_seen() {
    for seed in 0..20 {
        let mut world = World::seeded(&config(), seed);
        world.pass(secs(1));
        for _ in 0..20 {
            // Down for half a minute at a time, at every point of a token's life: it has 60 s to
            // spare.
            world.provider.tokens = Mode::status(503);
            steady(&mut world, secs(5), secs(25));
            world.provider.tokens = Mode::Works;
            steady(&mut world, secs(5), secs(52));
        }
    }
}

#[test]
fn a_provider_that_is_gone_for_five_seconds_at_any_point_of_a_short_life_costs_no_request() {
    let mut asked = 0;
    for seed in 0..1000 {
        let mut world = World::seeded(&config(), seed);
        world.provider.expires_in = json!(30);
        // From before the renewal, at 21 s to 24 s, up to the end, at 27 s.
        world.pass(millis(18_000 + seed * 9));
        world.provider.tokens = Mode::Resets;
        let before = world.provider.count(Endpoint::Tokens);
        let back = world.now + secs(5);
        let mut running = Vec::new();
        while world.now < back + secs(4) {
            if world.now >= back {
                world.provider.tokens = Mode::Works;
            }
            running.push(world.send(&pay()));
            world.pass(millis(100));
        }
        world.pass(secs(5));
        for id in running {
            let outcome = world.outcome(id);
            assert_eq!(outcome.status(), 200, "seed {seed}, back at {back:?}: {outcome:?}");
        }
        asked += world.provider.count(Endpoint::Tokens) - before;
    }
    assert!(asked <= 1000 * 4, "{asked} attempts in a thousand outages, the one that succeeds among them");
}

#[test]
fn tokens_of_seconds_are_used_while_they_live_and_fetched_once_a_second_at_most() {
    for life in [1, 2, 5] {
        let mut world = World::new(&config());
        world.provider.expires_in = json!(life);
        let (mut through, mut longest) = (0, Duration::ZERO);
        for _ in 0..600 {
            let outcome = world.ask(&pay());
            assert_eq!(outcome.status(), 200, "life {life} at {:?}: {outcome:?}", world.now);
            longest = longest.max(outcome.waited());
            through += 1;
            world.pass(millis(100));
        }
        let elapsed = world.now.as_secs() + 1;
        let fetches = world.provider.count(Endpoint::Tokens);
        assert!(fetches <= usize::try_from(elapsed).unwrap(), "life {life}: {fetches} in {elapsed} s");
        assert!(longest <= millis(300), "life {life}: one waited {longest:?}");
        assert_eq!(through, 600);
    }
}

#[test]
fn a_token_that_has_ended_on_arrival_is_not_attached_and_not_asked_for_in_a_loop() {
    let mut world = World::new(&config());
    world.provider.expires_in = json!(1);
    world.provider.latency = millis(1500);
    let outcome = world.ask(&pay());
    assert_eq!(outcome.status(), 503, "{outcome:?}");
    world.pass(secs(60));
    assert!(world.provider.count(Endpoint::Tokens) <= 61);
}

#[test]
fn an_answer_whose_expires_in_means_nothing_is_no_token_and_is_asked_for_again_with_patience() {
    for odd in [json!(0), json!(-300), json!("soon"), json!([300]), json!(true), json!(0.2)] {
        let mut world = World::new(&config());
        world.provider.expires_in = odd.clone();
        assert_eq!(world.ask(&pay()).status(), 503, "{odd}");
        world.pass(secs(600));
        let fetches = world.provider.count(Endpoint::Tokens);
        assert!((10..120).contains(&fetches), "{odd}: {fetches} in ten minutes");
        world.provider.expires_in = json!("300");
        world.pass(secs(31));
        assert!(world.ask(&pay()).passed(), "{odd}");
    }
}

#[test]
fn a_token_whose_answer_does_not_say_lives_as_long_as_configured() {
    let mut configuration = config();
    configuration["outbound"]["credentials"]["order"]["default_lifetime"] = json!("100s");
    let mut world = World::new(&configuration);
    world.provider.expires_in = Value::Null;
    world.pass(secs(1));
    steady(&mut world, secs(1), secs(250));
    let times = world.provider.times(Endpoint::Tokens);
    assert!(times.windows(2).all(|pair| (70..=80).contains(&(pair[1] - pair[0]).as_secs())), "{times:?}");
}

#[test]
fn a_call_that_is_never_answered_is_given_up_and_made_again() {
    let mut world = World::new(&config());
    world.provider.tokens = Mode::Silent;
    let outcome = world.ask(&pay());
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "outbound_token_unavailable"));
    world.pass(secs(3));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2, "the first was given up after 6 s");
    world.provider.tokens = Mode::Works;
    world.pass(secs(12));
    assert!(world.ask(&pay()).passed());
    assert!(world.logs.iter().any(|line| line.contains("the answer never came")), "{:?}", world.logs);
}

#[test]
fn an_answer_that_comes_after_its_call_was_given_up_changes_nothing() {
    let mut world = World::new(&config());
    world.provider.tokens = Mode::Late(secs(30));
    world.pass(secs(1));
    // The first answer arrives at 30 s; by then its call counts as failed, and another one runs or
    // is due.
    world.provider.tokens = Mode::status(500);
    world.pass(secs(28));
    assert_eq!(world.ask(&pay()).status(), 503);
    world.pass(secs(5));
    assert_eq!(world.provider.issued.len(), 1, "only the first call was answered with a token");
    assert_eq!(world.ask(&pay()).status(), 503, "and it came too late");
}

#[test]
fn a_slow_provider_is_waited_for_within_the_bound() {
    let mut world = World::new(&config());
    world.provider.latency = secs(4);
    let outcome = world.ask(&pay());
    assert_eq!(outcome.status(), 200);
    assert!(outcome.waited() >= secs(4));
}

#[test]
fn retry_after_is_obeyed_and_capped_and_passed_on() {
    for (text, wait) in [("20", 20), ("120", 120), ("86400", 300), ("99999999999999999999", 0)] {
        let mut world = World::new(&config());
        world.provider.tokens = Mode::retry_after(429, text);
        world.pass(secs(1));
        world.provider.tokens = Mode::Works;
        if wait > 0 {
            let advised = world.ask(&pay()).retry_after().unwrap();
            assert!((wait - 2..=wait).contains(&advised), "{text}: {advised}");
        }
        world.run_until(secs(wait.max(1) + 2));
        let times = world.provider.times(Endpoint::Tokens);
        let second = times.get(1).unwrap_or_else(|| panic!("{text}: not asked again"));
        assert!(*second - times[0] >= secs(wait), "{text}: asked again after {:?}", *second - times[0]);
        assert_eq!(world.ask(&pay()).status(), 200, "{text}");
    }
}

#[test]
fn retry_after_does_not_end_the_token_that_is_there() {
    let mut world = World::warm(&config());
    world.provider.tokens = Mode::retry_after(503, "60");
    steady(&mut world, secs(1), secs(285));
}

#[test]
fn a_client_that_its_provider_refuses_asks_rarely_and_heals_by_itself() {
    let answers = [
        Mode::json(401, &json!({ "error": "invalid_client", "error_description": "Invalid client secret" })),
        Mode::json(400, &json!({ "error": "unauthorized_client" })),
        Mode::json(400, &json!({ "error": "invalid_scope" })),
    ];
    let mut first_minutes = 0;
    for (mode, seed) in answers.iter().cycle().zip(0..30) {
        let mut world = World::seeded(&config(), seed);
        world.provider.tokens = mode.clone();
        // 30 s, doubled up to 5 min, each with full jitter: half of that on average.
        world.pass(secs(300));
        first_minutes += world.provider.count(Endpoint::Tokens);
        world.pass(secs(3300));
        let count = world.provider.count(Endpoint::Tokens);
        assert!(count <= 60, "seed {seed}: {count} in an hour");
        let outcome = world.ask(&pay());
        assert!(outcome.status() == 503 && outcome.waited() <= millis(5002), "seed {seed}: {outcome:?}");
        world.provider.tokens = Mode::Works;
        world.pass(secs(301));
        assert!(world.ask(&pay()).passed(), "seed {seed}");
    }
    assert!(first_minutes <= 30 * 8, "{first_minutes} in the first five minutes of thirty workers");
}

#[test]
fn a_404_that_is_no_answer_of_a_provider_is_an_outage_as_any_other() {
    // An ingress answers 404 while nothing is behind it; RFC 6749 section 5.2 has other words for a
    // wrong request.
    for seed in 0..20 {
        let mut world = World::seeded(&config(), seed);
        world.provider.tokens = Mode::status(404);
        world.pass(secs(1200));
        world.provider.tokens = Mode::Works;
        world.pass(secs(31));
        assert!(world.ask(&pay()).passed(), "seed {seed}");
    }
}

#[test]
fn a_token_endpoint_that_moved_is_found_at_once() {
    for status in [302, 307, 404, 405, 410] {
        let mut world = World::warm(&outbound());
        world.pass(secs(60));
        world.provider.move_away(status);
        world.provider.issued.clear();
        world.pass(secs(200)); // the token is renewed meanwhile
        assert!(!world.provider.issued.is_empty(), "{status}: {:?}", world.logs);
        let metadata = world.provider.count(Endpoint::OpenId);
        assert_eq!(metadata, 2, "{status}: asked at the start, and once more");
        assert!(world.ask(&pay()).passed(), "{status}");
    }
}

#[test]
fn a_token_endpoint_that_is_gone_and_not_moved_costs_few_questions_for_the_metadata() {
    let mut world = World::warm(&outbound());
    world.provider.tokens = Mode::status(404);
    world.pass(secs(3600));
    assert!(world.provider.count(Endpoint::OpenId) <= world.provider.count(Endpoint::Tokens) + 1);
    let times = world.provider.times(Endpoint::OpenId);
    let apart = |pair: &[Duration]| pair[1] - pair[0] >= secs(10);
    assert!(times.windows(2).all(apart), "{times:?}");
    assert_eq!(world.ask(&pay()).status(), 503);
    world.provider.move_away(404);
    world.pass(secs(200));
    assert_eq!(world.ask(&pay()).status(), 200);
}

#[test]
fn a_token_endpoint_that_was_given_is_not_looked_for() {
    let mut world = World::warm(&config());
    world.provider.tokens = Mode::status(404);
    world.pass(secs(600));
    assert_eq!(world.provider.count(Endpoint::OpenId), 0);
}

#[test]
fn the_providers_reason_for_its_refusal_is_logged() {
    let mut world = World::new(&config());
    let body = json!({ "error": "invalid_client", "error_description": "Invalid client\r\nor credentials" });
    world.provider.tokens = Mode::json(401, &body);
    world.pass(secs(1));
    let expected =
        "token of credential order: configuration: status 401, invalid_client: Invalid clientor credentials";
    assert_eq!(world.logs, [expected]);
}

#[test]
fn an_upstreams_401_renews_the_token_at_once_and_then_every_ten_seconds_at_most_and_ever_more_rarely() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    while world.now < secs(80) {
        let sent = world.ask(&pay()).edits().attached_token.clone().unwrap();
        world.upstream_refuses(&sent);
        world.pass(millis(100));
    }
    let times = world.provider.times(Endpoint::Tokens);
    assert_eq!(times[1].as_secs(), 20, "at once");
    assert!(times[1..].windows(2).all(|pair| pair[1] - pair[0] >= secs(10)), "{times:?}");
    assert_eq!(times[1..].iter().map(Duration::as_secs).collect::<Vec<_>>(), [20, 30, 50], "{times:?}");
}

#[test]
fn a_token_that_is_refused_in_its_first_second_is_waited_for_too() {
    let mut world = World::new(&config());
    world.pass(millis(200));
    let sent = world.ask(&pay()).edits().attached_token.clone().unwrap();
    world.upstream_refuses(&sent);
    let id = world.send(&pay());
    world.pass(secs(2));
    assert_eq!(world.outcome(id).edits().attached_token.clone().unwrap().serial, sent.serial + 1);
}

#[test]
fn an_upstreams_401_to_an_old_token_costs_the_new_one_nothing() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    let old = world.ask(&pay()).edits().attached_token.clone().unwrap();
    world.upstream_refuses(&old);
    world.pass(secs(1));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
    for _ in 0..100 {
        world.upstream_refuses(&old);
        world.pass(secs(1));
    }
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
}

#[test]
fn a_doubted_token_stays_in_use_while_its_renewal_fails() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    world.provider.tokens = Mode::status(500);
    let sent = world.ask(&pay()).edits().attached_token.clone().unwrap();
    world.upstream_refuses(&sent);
    // One attempt is waited for, a failed one is not.
    world.pass(secs(6));
    steady(&mut world, secs(1), secs(190));
}

#[test]
fn a_wall_clock_that_steps_back_neither_ends_nor_prolongs_a_token() {
    for step in [-3600, -7 * 86_400] {
        let mut world = World::warm(&config());
        world.run_until(secs(100));
        world.wall_step = step;
        world.provider.tokens = Mode::status(500);
        steady(&mut world, secs(1), secs(189));
        world.run_until(secs(291));
        assert_eq!(world.ask(&pay()).status(), 503, "{step}");
        world.provider.tokens = Mode::Works;
        world.pass(secs(31));
        steady(&mut world, secs(10), secs(600));
        let times = world.provider.times(Endpoint::Tokens);
        let gap = times[times.len() - 1] - times[times.len() - 2];
        assert!((210..=240).contains(&gap.as_secs()), "{step}: {gap:?}");
    }
}

#[test]
fn after_a_machine_has_slept_an_ended_token_is_not_attached() {
    for step in [191, 3600, 7 * 86_400] {
        let mut world = World::warm(&config());
        world.run_until(secs(100));
        world.wall_step = step;
        let outcome = world.ask(&pay());
        assert_eq!(outcome.set("authorization"), Some(format!("Bearer {}", world.provider.issued[1].token)));
        // It lives on by both clocks.
        steady(&mut world, secs(10), secs(600));
        let times = world.provider.times(Endpoint::Tokens);
        let gap = times[times.len() - 1] - times[times.len() - 2];
        assert!((210..=240).contains(&gap.as_secs()), "{step}: {gap:?}");
    }
}

#[test]
fn after_a_machine_has_slept_a_token_that_lives_is_used_and_renewed_in_the_background() {
    let mut world = World::warm(&config());
    world.run_until(secs(100));
    world.wall_step = 30;
    steady(&mut world, secs(1), secs(10));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
    // Less is no sleep, but what a time server corrects.
    world.wall_step += 4;
    steady(&mut world, secs(1), secs(10));
    assert_eq!(world.provider.count(Endpoint::Tokens), 2);
    // One that sleeps for a few seconds again and again has slept for all of them.
    world.wall_step += 4;
    steady(&mut world, secs(1), secs(12));
    assert_eq!(world.provider.count(Endpoint::Tokens), 3);
}

#[test]
fn a_wall_clock_that_is_set_back_and_then_sleeps_ends_the_token_by_what_it_slept() {
    let mut world = World::warm(&config());
    world.run_until(secs(20));
    world.wall_step = -3600;
    steady(&mut world, secs(1), secs(10));
    world.wall_step += 300;
    let outcome = world.ask(&pay());
    assert_eq!(outcome.set("authorization"), Some(format!("Bearer {}", world.provider.issued[1].token)));
}

#[test]
fn a_client_that_is_enabled_again_has_its_token_within_thirty_seconds_if_requests_need_it() {
    for (max_backoff, asks, most) in [(None, true, 31), (Some("15s"), false, 16), (None, false, 161)] {
        let mut longest = secs(0);
        for seed in 1..=20 {
            let mut configuration = without_discovery(outbound());
            if let Some(span) = max_backoff {
                configuration["issuers"]["idp"]["max_backoff"] = json!(span);
            }
            let mut world = World::seeded(&configuration, seed);
            world.provider.tokens = Mode::json(401, &json!({ "error": "unauthorized_client" }));
            let pass = |world: &mut World| {
                world.pass(secs(1));
                if asks {
                    world.send(&pay());
                }
            };
            for _ in 0..1200 {
                pass(&mut world);
            }
            world.provider.tokens = Mode::Works;
            let mut waited = 0;
            while world.provider.issued.is_empty() && waited < 400 {
                pass(&mut world);
                waited += 1;
            }
            longest = longest.max(secs(waited));
        }
        assert!(longest <= secs(most), "{max_backoff:?}, asked {asks}: {longest:?}");
    }
}

#[test]
fn a_page_that_is_no_oauth_error_is_a_passing_fault() {
    for status in [302, 307, 403, 405] {
        let mut world = World::new(&without_discovery(outbound()));
        world.provider.tokens = Mode::status(status);
        world.pass(secs(120));
        let times = world.provider.times(Endpoint::Tokens);
        // Full jitter up to 30 s, where a wrong secret is tried after up to 160 s.
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= secs(31)), "{status}: {times:?}");
        world.provider.tokens = Mode::Works;
        world.pass(secs(31));
        assert!(world.ask(&pay()).passed(), "{status}");
    }
}
