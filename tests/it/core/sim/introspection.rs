//! Token introspection: one request for each token and period, no needless ones, and a bound on a
//! flood of them.

use crate::core::sim::provider::{Endpoint, ISSUER, Key, MARK, Mode, made_up};
use crate::core::sim::world::{World, inbound, items, millis, secs, without_discovery};
use m2m_auth::http::message::RequestId;
use serde_json::{Value, json};

/// The issuer is asked about what is no JWT.
pub(crate) fn config() -> Value {
    let mut configuration = without_discovery(inbound());
    let issuer = &mut configuration["issuers"]["idp"];
    issuer["introspection_endpoint"] = json!("https://idp.example/realms/r/introspect");
    issuer["introspection"] =
        json!({ "client_id": "inventory-service", "client_secret": { "env": "SECRET" } });
    configuration
}

/// What a provider may answer to one token that it cannot cope with.
pub(crate) fn poisons() -> Vec<Mode> {
    let statuses = [500, 404, 406, 413, 429].map(Mode::status).into_iter();
    let html = Mode::Says { status: 200, headers: Vec::new(), body: "<html>".to_owned() };
    statuses.chain([Mode::retry_after(429, "60"), Mode::Resets, html]).collect()
}

/// The issuer is asked about every token.
fn always() -> Value {
    let mut configuration = config();
    configuration["inbound"]["rules"][0]["require"]["introspect"] = json!("always");
    configuration
}

#[test]
fn an_opaque_token_is_asked_about_once_and_the_other_requests_wait_for_the_answer() {
    let mut world = World::warm(&config());
    let (one, two) = (world.opaque(&json!({})), world.opaque(&json!({})));
    let sent: Vec<_> = (0..20).map(|n| world.send(&items(if n % 2 == 0 { &one } else { &two }))).collect();
    world.pass(millis(100));
    assert!(sent.iter().all(|id| world.outcome(*id).status() == 200));
    assert_eq!(world.provider.introspected, [one.as_str(), two.as_str()]);
    for _ in 0..100 {
        assert!(world.ask(&items(&one)).passed());
        world.pass(millis(100));
    }
    assert_eq!(world.provider.count(Endpoint::Introspection), 2);
}

#[test]
fn what_the_answer_says_of_the_caller_is_checked_like_a_jwt() {
    let mut world = World::warm(&config());
    let (unix, roles) = (world.unix(), json!({ "inventory-service": { "roles": [] } }));
    for (claims, status, reason) in [
        (json!({ "aud": "other-service" }), 401, "audience"),
        (json!({ "aud": null }), 401, "audience"),
        (json!({ "resource_access": roles }), 403, "client_role"),
        (json!({ "iss": "https://evil.example" }), 401, "issuer"),
        (json!({ "exp": unix - 61 }), 401, "expired"),
        (json!({ "nbf": unix + 120 }), 401, "not_yet_valid"),
        (json!({ "typ": "Refresh" }), 401, "not_access_token"),
        (json!({ "cnf": { "jkt": "x" } }), 401, "binding_mismatch"),
    ] {
        let token = world.opaque(&claims);
        let outcome = world.ask(&items(&token));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (status, reason), "{claims}");
    }
}

/// Its claims would not be verified, and a lenient issuer reads it as the JWT that it is.
#[test]
fn a_mangled_jwt_is_no_opaque_token() {
    for configuration in [config(), always()] {
        let mut world = World::warm(&configuration);
        let token = world.token();
        let (header, rest) = token.split_once('.').unwrap();
        for mangled in [
            format!("{token}="),
            format!("{token}=="),
            format!("{token}."),
            format!("{header}=.{rest}"),
            format!("{header}.{rest}.x"),
            format!("{header}.{}", rest.split_once('.').unwrap().0),
            header.to_owned(),
        ] {
            world.vouch_for(&mangled, &json!({}));
            let outcome = world.ask(&items(&mangled));
            assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "malformed"), "{mangled}");
        }
        assert_eq!(world.provider.count(Endpoint::Introspection), 0, "nobody is asked about it");
    }
}

#[test]
fn a_revoked_token_stops_within_the_cache_and_one_that_is_used_never_waits_again() {
    for configuration in [config(), always()] {
        let mut world = World::warm(&configuration);
        let token = world.opaque(&json!({}));
        world.ask(&items(&token));
        for _ in 0..1000 {
            assert!(world.ask(&items(&token)).passed());
            world.pass(millis(100));
        }
        // Every 21 to 24 s.
        let asked = world.provider.count(Endpoint::Introspection);
        assert!((5..=6).contains(&asked), "{asked}");
        world.revoke(&token);
        for _ in 0..310 {
            world.ask(&items(&token)); // the world asserts that none passes after 30 s
            world.pass(millis(100));
        }
        let outcome = world.ask(&items(&token));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "inactive"));
        let challenge = outcome.header("www-authenticate").unwrap().to_owned();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
}

#[test]
fn an_answer_counts_no_longer_than_the_token_lives() {
    let mut world = World::warm(&config());
    let exp = world.unix() + 5;
    let token = world.opaque(&json!({ "exp": exp }));
    assert_eq!(world.ask(&items(&token)).status(), 200);
    // The clock skew is 60 s; the provider's own answer would stay the same.
    world.pass(secs(66));
    assert_eq!(world.ask(&items(&token)).reason(), "expired");
}

#[test]
fn a_token_that_is_not_active_is_asked_about_once_in_ten_seconds() {
    let mut world = World::warm(&config());
    let token = format!("{MARK}-nobodys");
    world.send(&items(&token));
    world.pass(millis(100));
    for _ in 0..95 {
        let outcome = world.ask(&items(&token));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "inactive"));
        world.pass(millis(100));
    }
    assert_eq!(world.provider.count(Endpoint::Introspection), 1);
    world.pass(secs(1));
    world.ask(&items(&token));
    assert_eq!(world.provider.count(Endpoint::Introspection), 2);
}

#[test]
fn a_provider_that_is_down_is_503_and_what_it_has_said_counts_until_it_ends() {
    for mode in
        [Mode::status(500), Mode::Resets, Mode::Silent, Mode::status(401), Mode::json(200, &json!({}))]
    {
        let mut world = World::warm(&config());
        let (known, new) = (world.opaque(&json!({})), world.opaque(&json!({})));
        world.ask(&items(&known));
        let start = world.now;
        world.provider.introspection = mode.clone();
        for _ in 0..20 {
            assert!(world.ask(&items(&known)).passed(), "{mode:?}");
            let outcome = world.ask(&items(&new));
            assert_eq!(
                (outcome.status(), outcome.reason().as_str()),
                (503, "introspection_unavailable"),
                "{mode:?}"
            );
            if world.now > start + secs(20) {
                break;
            }
            world.pass(secs(1));
        }
        world.run_until(start + secs(31));
        assert_eq!(world.ask(&items(&known)).status(), 503, "{mode:?}: it has ended");
        world.provider.introspection = Mode::Works;
        world.pass(secs(301));
        assert_eq!(world.ask(&items(&new)).status(), 200, "{mode:?}: it recovers");
        assert_eq!(world.ask(&items(&known)).status(), 200);
    }
}

#[test]
fn a_provider_that_is_down_is_probed_five_times_a_second() {
    let mut world = World::warm(&config());
    world.provider.introspection = Mode::status(500);
    for _ in 0..600 {
        let token = world.opaque(&json!({}));
        world.send(&items(&token));
        world.pass(millis(100));
    }
    let asked = world.provider.count(Endpoint::Introspection);
    // Eight have shut the gate.
    assert!((100..=310).contains(&asked), "{asked} for 600 callers in a minute");
}

/// The requests of a minute's part: 25 known callers and 25 new ones a second, and so many tokens
/// that the provider fails at.
fn with_poison(
    world: &mut World,
    mode: &Mode,
    per_second: usize,
    different: usize,
) -> Vec<(String, RequestId)> {
    let known: Vec<String> = (0..25).map(|_| world.opaque(&json!({}))).collect();
    for token in &known {
        world.send(&items(token));
    }
    world.pass(secs(1));
    let poisons: Vec<String> = (0..different).map(|_| world.opaque(&json!({}))).collect();
    for poison in &poisons {
        world.provider.poison.insert(poison.clone(), mode.clone());
    }
    let mut sent = Vec::new();
    let mut next = 0;
    for n in 0..30 * 50 {
        if n % (50 / per_second) == 0 {
            world.send(&items(&poisons[next % different]));
            next += 1;
        }
        let token = if n % 2 == 0 { world.opaque(&json!({})) } else { known[n / 2 % 25].clone() };
        sent.push((token.clone(), world.send(&items(&token))));
        world.pass(millis(20));
    }
    world.pass(secs(6));
    sent
}

#[test]
fn tokens_that_the_provider_fails_at_cost_no_other_caller_a_request() {
    for mode in poisons() {
        for (per_second, different) in [(1, 1), (1, 40), (2, 100), (5, 12), (5, 200)] {
            let mut world = World::warm(&config());
            let sent = with_poison(&mut world, &mode, per_second, different);
            let refused = sent.iter().filter(|(_, id)| world.outcome(*id).status() != 200).count();
            assert_eq!(refused, 0, "of {} by {different} of {mode:?}, {per_second} a second", sent.len());
            let of_poison = |token: &&String| world.provider.poison.contains_key(*token);
            let asked = world.provider.introspected.iter().filter(of_poison).count();
            assert!(asked <= per_second * 30 * 2, "{asked} times about {different}");
        }
    }
}

#[test]
fn tokens_that_the_provider_hangs_at_leave_slots_for_the_others() {
    let mut world = World::warm(&config());
    let sent = with_poison(&mut world, &Mode::Silent, 5, 200);
    let refused = sent.iter().filter(|(_, id)| world.outcome(*id).status() != 200).count();
    assert_eq!(refused, 0, "of {}", sent.len());
}

#[test]
fn tokens_that_are_known_to_fail_cost_a_new_caller_no_more_than_a_short_wait_where_few_call() {
    for mode in poisons() {
        let mut world = World::warm(&config());
        let poisons: Vec<String> = (0..12).map(|_| world.opaque(&json!({}))).collect();
        for poison in &poisons {
            world.provider.poison.insert(poison.clone(), mode.clone());
        }
        for n in 0..600 {
            world.send(&items(&poisons[n % 12]));
            if n >= 200 && n % 100 == 99 {
                // Once in ten seconds, with no other caller meanwhile. Each of the twelve has had
                // its turn before.
                let token = world.opaque(&json!({}));
                let outcome = world.ask(&items(&token));
                assert_eq!(outcome.status(), 200, "{mode:?}, the one after {n}");
            }
            world.pass(millis(100));
        }
    }
}

#[test]
fn a_known_caller_proves_that_the_provider_works_while_new_tokens_fail() {
    for mode in poisons() {
        let mut world = World::warm(&config());
        let known = world.opaque(&json!({}));
        world.ask(&items(&known));
        let mut refused = 0;
        for n in 0..600 {
            let poison = world.opaque(&json!({}));
            world.provider.poison.insert(poison.clone(), mode.clone());
            world.send(&items(&poison));
            assert!(world.ask(&items(&known)).passed(), "{mode:?}");
            world.pass(millis(100));
            if n % 20 == 19 {
                let token = world.opaque(&json!({}));
                refused += usize::from(world.ask(&items(&token)).status() != 200);
            }
        }
        assert_eq!(refused, 0, "of 30, by {mode:?}");
    }
}

#[test]
fn a_known_token_outlives_a_renewal_that_fails() {
    for mode in poisons().into_iter().chain([Mode::status(401)]) {
        let mut world = World::warm(&config());
        let token = world.opaque(&json!({}));
        world.ask(&items(&token));
        let known = |world: &mut World| {
            let passed = world.ask(&items(&token)).passed();
            world.pass(millis(100));
            passed
        };
        for _ in 0..150 {
            assert!(known(&mut world));
        }
        world.provider.poison.insert(token.clone(), mode.clone());
        while world.provider.introspected.len() < 2 {
            assert!(known(&mut world));
        }
        world.provider.poison.clear();
        for _ in 0..300 {
            assert!(known(&mut world), "{mode:?}: at {:?}", world.now);
        }
    }
}

#[test]
fn a_flood_of_made_up_tokens_costs_the_provider_a_bounded_rate_and_known_callers_nothing() {
    let mut world = World::warm(&config());
    let known = world.opaque(&json!({}));
    world.ask(&items(&known));
    let before = world.provider.count(Endpoint::Introspection);
    let mut refused = std::collections::BTreeMap::new();
    let mut ids = Vec::new();
    for n in 0..20_000 {
        ids.push(world.send(&items(&format!("{MARK}-{n}"))));
        if n % 100 == 0 {
            assert!(world.ask(&items(&known)).passed(), "after {n}");
        }
        world.pass(millis(2));
    }
    world.pass(secs(6));
    for id in ids {
        *refused.entry((world.outcome(id).status(), world.outcome(id).reason())).or_insert(0) += 1;
    }
    let asked = world.provider.count(Endpoint::Introspection) - before;
    // 40 s at 100 a second, a burst of one second's worth, the line that was left, and the known
    // one's.
    assert!((3900..=4500).contains(&asked), "{asked}: {refused:?}");
    assert!(refused.keys().all(|(status, reason)| {
        (*status, reason.as_str()) == (401, "inactive")
            || (*status, reason.as_str()) == (503, "too_many_pending")
    }));
    let own = world.provider.introspected.iter().filter(|token| **token == known).count();
    assert!((2..=4).contains(&own), "renewed in the flood, and never pushed out: {own}");
    let new = world.opaque(&json!({}));
    assert_eq!(world.ask(&items(&new)).status(), 200, "it is over");
    let counters = world.counters();
    let no_room = counters["m2m_auth_limit_reached.name.idp.limit.queued_introspections"];
    assert!(no_room > 10_000, "{no_room}");
    assert!(counters["m2m_auth_limit_reached.name.idp.limit.introspection_rate"] > 3000, "{counters:?}");
}

#[test]
fn no_more_answers_are_kept_than_there_is_room_for() {
    let mut world = World::warm(&config());
    let first = world.opaque(&json!({}));
    world.send(&items(&first));
    world.pass(millis(100));
    for _ in 0..1100 {
        let token = world.opaque(&json!({}));
        let id = world.send(&items(&token));
        world.pass(millis(25));
        assert_eq!(world.outcome(id).status(), 200);
    }
    let before = world.provider.introspected.len();
    assert!(world.now < secs(30), "it has not ended");
    assert_eq!(world.ask(&items(&first)).status(), 200);
    assert_eq!(world.provider.introspected.len(), before + 1, "the first made room, and is asked about anew");
    let dropped = world.counters()["m2m_auth_limit_reached.name.idp.limit.introspections"];
    assert_eq!(dropped, 1102 - 1024);
}

#[test]
fn large_answers_are_kept_in_bounds_too() {
    let mut world = World::warm(&config());
    let filler = "x".repeat(100_000);
    let first = world.opaque(&json!({ "filler": filler }));
    world.ask(&items(&first));
    for _ in 0..45 {
        let token = world.opaque(&json!({ "filler": filler }));
        let id = world.send(&items(&token));
        world.pass(millis(30));
        assert_eq!(world.outcome(id).status(), 200);
    }
    let before = world.provider.introspected.len();
    assert_eq!(world.ask(&items(&first)).status(), 200);
    assert_eq!(world.provider.introspected.len(), before + 1, "4 MiB hold some forty of them");
    assert!(world.counters()["m2m_auth_limit_reached.name.idp.limit.introspections"] > 0);
}

/// What a provider may answer to a flood of tokens that it cannot cope with, and how long the
/// tokens are.
fn floods() -> [(Mode, usize); 3] {
    let deep = format!("{{\"active\":true,\"x\":{}{}}}", "[".repeat(40_000), "]".repeat(40_000));
    let large = Mode::Says { status: 500, headers: Vec::new(), body: "x".repeat(240_000) };
    [
        (Mode::status(413), 16_000),
        (Mode::Says { status: 200, headers: Vec::new(), body: deep + &" ".repeat(160_000) }, 20),
        (large, 20),
    ]
}

/// A new token of that length, at which the provider fails so.
fn poison(world: &mut World, n: usize, mode: &Mode, length: usize) -> String {
    let name = format!("{MARK}-{n}-");
    let token = name.clone() + &"x".repeat(length.saturating_sub(name.len()));
    world.provider.poison.insert(token.clone(), mode.clone());
    token
}

#[test]
fn a_flood_of_tokens_that_fail_never_evicts_a_known_caller() {
    for (mode, length) in floods() {
        let mut world = World::warm(&config());
        let known = world.opaque(&json!({}));
        assert_eq!(world.ask(&items(&known)).status(), 200);
        for n in 0..if length > 1000 { 1450 } else { 300 } {
            let token = poison(&mut world, n, &mode, length);
            world.send(&items(&token));
            let outcome = world.ask(&items(&known));
            assert!(outcome.passed(), "{length} bytes, at {:?}: {}", world.now, outcome.reason());
            world.pass(millis(10));
        }
        assert_eq!(world.counters().get("m2m_auth_limit_reached.name.idp.limit.introspections"), None);
    }
}

#[test]
fn large_answers_that_fail_take_no_room() {
    for (mode, length) in floods().into_iter().skip(1) {
        let mut world = World::warm(&config());
        let known = world.opaque(&json!({}));
        world.ask(&items(&known));
        for n in 0..50 {
            let token = poison(&mut world, n, &mode, length);
            world.send(&items(&token));
        }
        world.pass(millis(100));
        let mut sent = Vec::new();
        for _ in 0..40 {
            let token = world.opaque(&json!({}));
            sent.push(world.send(&items(&token)));
            assert!(world.ask(&items(&known)).passed(), "at {:?}", world.now);
            world.pass(millis(50));
        }
        world.pass(secs(6));
        let refused = sent.iter().map(|id| world.outcome(*id)).find(|outcome| outcome.status() != 200);
        assert!(refused.is_none(), "{}", refused.map(|outcome| outcome.reason()).unwrap_or_default());
    }
}

#[test]
fn tokens_that_fail_leave_new_callers_their_room() {
    for (mode, length) in floods() {
        let mut world = World::warm(&config());
        let known = world.opaque(&json!({}));
        world.ask(&items(&known));
        let mut refused = 0;
        for n in 0..600 {
            let token = poison(&mut world, n, &mode, length);
            world.send(&items(&token));
            assert!(world.ask(&items(&known)).passed(), "{length} bytes, at {:?}", world.now);
            world.pass(millis(15));
            if n % 25 == 24 {
                let token = world.opaque(&json!({}));
                refused += usize::from(world.ask(&items(&token)).status() != 200);
            }
        }
        assert_eq!(refused, 0, "of 24 new callers, tokens of {length} bytes");
    }
}

#[test]
fn a_client_that_is_refused_for_some_tokens_is_tried_again_every_five_seconds() {
    let mut world = World::warm(&config());
    for n in 0..600 {
        let token = poison(&mut world, n, &Mode::status(401), 20);
        world.send(&items(&token));
        world.pass(millis(100));
    }
    let times = world.provider.times(Endpoint::Introspection);
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= millis(5200), "{longest:?} between two probes");
}

#[test]
fn a_jwt_is_no_question_unless_the_rule_asks_always() {
    let mut world = World::warm(&config());
    let token = world.token();
    assert!(world.ask(&items(&token)).passed());
    let forged = |iss: &str| Key::number(9).called("key-1").sign(&json!({ "iss": iss }));
    for (bad, reason) in
        [(made_up("key-1"), "signature"), (forged(ISSUER), "signature"), (forged("x"), "issuer")]
    {
        assert_eq!(world.ask(&items(&bad)).reason(), reason);
    }
    assert_eq!(world.provider.count(Endpoint::Introspection), 0);
}

#[test]
fn a_jwt_that_must_be_asked_about_is_verified_first() {
    let mut world = World::warm(&always());
    let good = world.token();
    world.provider.active.insert(good.clone(), json!({}));
    let key = Key::number(1);
    let expired = world.mint(&key, -120, "inventory-service");
    for (bad, reason) in [(made_up("key-1"), "signature"), (expired, "expired")] {
        assert_eq!(world.ask(&items(&bad)).reason(), reason);
    }
    assert_eq!(world.provider.count(Endpoint::Introspection), 0, "what can be refused here is");
    let outcome = world.ask(&items(&good));
    assert_eq!(outcome.status(), 200, "of what the answer does not mention the JWT counts: {outcome:?}");
    assert!(world.ask(&items(&good)).passed());
    world.revoke(&good);
    world.pass(secs(31));
    assert_eq!(world.ask(&items(&good)).reason(), "inactive");
    assert_eq!(world.provider.introspected, [good.as_str(), good.as_str()]);
}

#[test]
fn only_what_a_signature_has_proven_is_forwarded_as_a_payload() {
    let mut configuration = always();
    configuration["inbound"]["rules"][0]["payload_header"] = json!("x-jwt-payload");
    let mut world = World::warm(&configuration);
    let (opaque, jwt) = (world.opaque(&json!({})), world.token());
    world.provider.active.insert(jwt.clone(), json!({}));
    assert_eq!(world.ask(&items(&opaque)).set("x-jwt-payload"), None);
    assert_eq!(world.ask(&items(&jwt)).set("x-jwt-payload").as_deref(), jwt.split('.').nth(1));
}

#[test]
fn the_answer_counts_where_it_and_the_jwt_differ() {
    let mut world = World::warm(&always());
    let token = world.token();
    let none = json!({ "resource_access": { "inventory-service": { "roles": [] } } });
    world.provider.active.insert(token.clone(), none);
    let outcome = world.ask(&items(&token));
    assert_eq!((outcome.status(), outcome.reason().as_str()), (403, "client_role"));
}

#[test]
fn the_endpoint_is_discovered_and_waited_for() {
    let mut configuration = inbound();
    configuration["issuers"]["idp"]["introspection"] =
        json!({ "client_id": "inventory-service", "client_secret": { "env": "SECRET" } });
    let mut world = World::new(&configuration);
    let token = world.opaque(&json!({}));
    let outcome = world.ask(&items(&token));
    assert_eq!(outcome.status(), 200, "{outcome:?}");
    assert_eq!(world.provider.count(Endpoint::OpenId), 1);
    let mut down = World::new(&configuration);
    down.provider.all(&Mode::status(500));
    let token = down.opaque(&json!({}));
    for _ in 0..10 {
        let outcome = down.ask(&items(&token));
        assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "introspection_unavailable"));
        down.pass(secs(1));
    }
}

#[test]
fn of_several_secrets_the_next_is_tried_at_once() {
    let mut configuration = config();
    configuration["issuers"]["idp"]["introspection"]["client_secret"] =
        json!([{ "env": "SECRET" }, { "inline": "hushhush-new" }]);
    let mut world = World::warm(&configuration);
    world.provider.introspection = Mode::Takes("hushhush-new");
    let tokens = [world.opaque(&json!({})), world.opaque(&json!({}))];
    for token in &tokens {
        let id = world.send(&items(token));
        world.pass(millis(100));
        assert_eq!(world.outcome(id).status(), 200);
    }
    assert_eq!(world.provider.presented, [MARK, "hushhush-new", "hushhush-new"]);
}

#[test]
fn a_refused_secret_fails_none_of_the_concurrent_requests() {
    for callers in [2, 3, 10, 50] {
        let mut configuration = config();
        configuration["issuers"]["idp"]["introspection"]["client_secret"] =
            json!([{ "env": "SECRET" }, { "inline": "hushhush-new" }]);
        let mut world = World::warm(&configuration);
        world.provider.introspection = Mode::Takes("hushhush-new");
        let tokens: Vec<String> = (0..callers).map(|_| world.opaque(&json!({}))).collect();
        let sent: Vec<_> = tokens.iter().map(|token| world.send(&items(token))).collect();
        world.pass(millis(100));
        let refused = sent.iter().filter(|id| world.outcome(**id).status() != 200).count();
        assert_eq!(refused, 0, "of {callers}");
        world.provider.introspection = Mode::status(401);
        let before = world.provider.count(Endpoint::Introspection);
        for _ in 0..callers {
            let token = world.opaque(&json!({}));
            world.send(&items(&token));
        }
        world.pass(millis(500));
        let asked = world.provider.count(Endpoint::Introspection) - before;
        assert!(asked <= 2 * callers, "{asked} for {callers}: each secret once for each");
    }
}

#[test]
fn a_rule_that_never_refuses_does_not_wait_for_the_answer_and_has_no_caller_without_it() {
    let mut configuration = config();
    configuration["inbound"]["rules"][0]["mode"] = json!("danger_permissive");
    let mut world = World::warm(&configuration);
    let token = world.opaque(&json!({}));
    let first = world.ask(&items(&token));
    assert!(first.passed());
    assert_eq!(first.set("m2m-auth-decision").as_deref(), Some("introspection_unavailable"));
    world.pass(secs(1));
    assert_eq!(world.ask(&items(&token)).set("m2m-auth-decision").as_deref(), Some("allowed"));
}

#[test]
fn after_a_machine_has_slept_an_answer_is_as_much_older() {
    let mut world = World::warm(&config());
    let token = world.opaque(&json!({}));
    world.ask(&items(&token));
    world.revoke(&token);
    world.wall_step = 31;
    let outcome = world.ask(&items(&token));
    assert_eq!((outcome.status(), world.provider.count(Endpoint::Introspection)), (401, 2));
}
