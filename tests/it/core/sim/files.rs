//! Secrets and assertions that are read from files: each is read before it is used, a new one is
//! used at once, and one that is not there is never sent.

use crate::core::sim::exchange::caller;
use crate::core::sim::provider::{Endpoint, ISSUER, MARK, Mode, made_up};
use crate::core::sim::world::{World, both, inbound, items, millis, outbound, pay, secs, without_discovery};
use m2m_auth_kit::key::{Alg, Key as RealKey};
use m2m_auth_kit::token::{decode, verifies};
use serde_json::{Value, json};

const OLD: &str = "hushhush-old";
const NEW: &str = "hushhush-new";
const FILE: &str = "/secret";

fn file(path: &str) -> Value {
    json!({ "cluster": "files", "path": path })
}

fn credential(changes: &Value) -> Value {
    change(without_discovery(outbound()), changes)
}

fn exchange(changes: &Value) -> Value {
    change(without_discovery(both()), changes)
}

fn change(mut configuration: Value, changes: &Value) -> Value {
    let credential = configuration["outbound"]["credentials"]["order"].as_object_mut().unwrap();
    for name in ["client_secret", "client_id"] {
        credential.remove(name);
    }
    credential.extend(changes.as_object().unwrap().clone());
    configuration
}

/// By a secret in a file.
fn by_file() -> Value {
    credential(&json!({ "client_id": "order-service", "client_secret": file(FILE) }))
}

/// By the platform's assertion.
fn by_workload() -> Value {
    credential(&json!({ "auth_method": "workload_identity", "client_assertion": file(FILE) }))
}

#[test]
fn a_secret_is_read_before_each_token_request_and_at_no_other_time() {
    let mut world = World::new(&by_file());
    world.provider.write(FILE, &format!(" {OLD}\n"));
    for _ in 0..3600 {
        assert_eq!(world.ask(&pay()).status(), 200);
        world.pass(secs(1));
    }
    let (asked, reads) = (world.provider.times(Endpoint::Tokens), &world.provider.reads);
    assert!((10..30).contains(&asked.len()), "{}", asked.len());
    assert_eq!(reads.len(), asked.len());
    for ((read, _), asked) in reads.iter().zip(&asked) {
        assert_eq!(*read + millis(1), *asked);
    }
    assert!(world.provider.presented.iter().all(|secret| secret == OLD), "white space is no part of it");
}

#[test]
fn a_new_secret_is_used_at_the_next_fetch_and_a_change_at_once_costs_no_request() {
    for seed in 0..30 {
        let mut world = World::seeded(&by_file(), seed);
        world.provider.write(FILE, OLD);
        world.provider.tokens = Mode::Takes(OLD);
        for minute in 0..60 {
            if minute == 20 {
                world.provider.tokens = Mode::Takes(NEW);
            }
            // The file is written ten minutes later: until then the old token is used.
            if minute == 22 {
                world.provider.write(FILE, NEW);
            }
            let outcome = world.ask(&pay());
            assert!(outcome.status() == 200 || minute == 23, "seed {seed}, minute {minute}: {outcome:?}");
            world.pass(secs(60));
        }
        assert_eq!(world.provider.presented.last().unwrap(), NEW);
    }
}

#[test]
fn what_is_not_there_is_not_sent_and_is_used_as_soon_as_it_is_there() {
    let text = |status, body: &str| Mode::Says { status, headers: Vec::new(), body: body.to_owned() };
    let big = "x".repeat(1024 * 1024);
    for (missing, why) in [
        (text(404, MARK), "files/secret is not there yet: server_error: status 404"),
        (text(500, MARK), "files/secret is not there yet: server_error: status 500"),
        (text(200, ""), "files/secret is not there yet: unreadable: it is empty"),
        (text(200, " \n"), "files/secret is not there yet: unreadable: it is empty"),
        (text(200, &big), "files/secret is not there yet: too_large: it has more than 16384 bytes"),
        (
            text(200, "hushhush\nhushhush"),
            "files/secret is not there yet: unreadable: it has more than one line",
        ),
        (Mode::NoCluster, "files/secret is not there yet: unreachable:"),
        (Mode::Silent, "files/secret is not there yet: timeout: the answer never came"),
    ] {
        let mut world = World::new(&by_file());
        world.provider.files.insert(FILE, missing.clone());
        let outcome = world.ask(&pay());
        assert_eq!(
            (outcome.status(), outcome.reason().as_str()),
            (503, "outbound_token_unavailable"),
            "{why}"
        );
        assert!(outcome.retry_after().is_some());
        world.pass(secs(60));
        assert_eq!(world.provider.count(Endpoint::Tokens), 0, "{why}");
        let expected = format!("token of credential order: secret_unavailable: {why}");
        assert!(world.logs.iter().any(|line| line.starts_with(&expected)), "{why}: {:?}", world.logs);
        let reads = world.provider.reads.len();
        assert!(reads <= 60, "{reads} in 60 s");
        world.provider.write(FILE, NEW);
        world.pass(secs(8));
        assert!(world.ask(&pay()).passed(), "{why}");
    }
}

#[test]
fn a_listener_that_cannot_be_reached_says_nothing_of_the_file() {
    // On Envoy's main thread: there are no requests, and nobody is interested.
    let mut world = World::new(&by_file());
    world.provider.files.insert(FILE, Mode::Resets);
    world.pass(secs(600));
    assert_eq!((world.logs.len(), world.provider.count(Endpoint::Tokens)), (0, 0));
    assert!(world.provider.reads.len() <= 600, "{}", world.provider.reads.len());
    // On a worker: requests are refused, and the cause is logged.
    let outcome = world.ask(&pay());
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "outbound_token_unavailable"));
    world.pass(secs(60));
    let logged = |line: &&String| line.starts_with("secret files/secret: unreachable");
    assert!(world.logs.iter().filter(logged).count() > 0, "{:?}", world.logs);
    world.provider.write(FILE, OLD);
    world.pass(secs(35));
    assert!(world.ask(&pay()).passed());
}

#[test]
fn a_file_that_is_gone_costs_no_valid_token() {
    let mut world = World::new(&by_file());
    world.provider.write(FILE, OLD);
    assert_eq!(world.ask(&pay()).status(), 200);
    world.provider.files.clear();
    for _ in 0..280 {
        assert!(world.ask(&pay()).passed());
        world.pass(secs(1));
    }
    world.provider.write(FILE, OLD);
    for _ in 0..600 {
        assert!(world.ask(&pay()).passed());
        world.pass(secs(1));
    }
}

#[test]
fn a_request_does_not_wait_for_a_listener_that_cannot_be_reached() {
    let mut world = World::new(&by_file());
    world.provider.files.insert(FILE, Mode::Resets);
    let waiting: Vec<_> = (0..20).map(|_| world.send(&pay())).collect();
    world.pass(millis(200));
    assert!(waiting.iter().all(|id| world.outcome(*id).status() == 503));
}

#[test]
fn a_second_secret_is_used_at_once_where_the_first_is_not_there() {
    for missing in [Mode::status(404), Mode::Resets, Mode::NoCluster] {
        let mut world = World::new(&credential(&json!({
            "client_id": "order-service", "client_secret": [file("/new"), { "env": "SECRET" }],
        })));
        world.provider.files.insert("/new", missing.clone());
        assert_eq!(world.ask(&pay()).status(), 200, "{missing:?}");
        assert_eq!(world.provider.count(Endpoint::Tokens), 1);
    }
}

#[test]
fn of_several_files_one_that_is_missing_leaves_its_turn_to_the_next() {
    let mut world = World::new(&credential(
        &json!({ "client_id": "order-service", "client_secret": [file("/new"), file("/old")] }),
    ));
    world.provider.write("/old", OLD);
    world.pass(secs(5));
    assert!(world.ask(&pay()).passed());
    world.provider.write("/new", NEW);
    world.provider.tokens = Mode::Takes(NEW);
    for _ in 0..600 {
        assert!(world.ask(&pay()).passed());
        world.pass(secs(1));
    }
    assert_eq!(world.provider.presented.last().unwrap(), NEW);
}

#[test]
fn an_assertion_of_the_platform_is_the_clients_whole_authentication() {
    let mut world = World::new(&by_workload());
    let svid = made_up("platform");
    world.provider.write(FILE, &format!("{svid}\n"));
    assert_eq!(world.ask(&pay()).status(), 200);
    let form = &world.provider.forms[0];
    assert_eq!(form.keys().collect::<Vec<_>>(), ["client_assertion", "client_assertion_type", "grant_type"]);
    assert_eq!(form["client_assertion"], svid);
    assert!(form["client_assertion_type"].ends_with("client-assertion-type%3Ajwt-bearer"));
    let spiffe = json!({
        "auth_method": "workload_identity", "client_assertion": file(FILE),
        "client_assertion_type": "jwt-spiffe", "client_id": "order-service",
    });
    let mut world = World::new(&credential(&spiffe));
    world.provider.write(FILE, &svid);
    assert_eq!(world.ask(&pay()).status(), 200);
    let form = &world.provider.forms[0];
    assert!(form["client_assertion_type"].ends_with("client-assertion-type%3Ajwt-spiffe"));
    assert_eq!(form["client_id"], "order-service");
}

#[test]
fn an_assertion_that_the_provider_does_not_take_is_read_again_and_its_age_is_logged() {
    let mut world = World::new(&by_workload());
    let key = world.provider.published[0].clone();
    let issued = |world: &World| key.sign(&json!({ "iat": world.unix() - 312, "sub": MARK }));
    let old = issued(&world);
    world.provider.write(FILE, &old);
    let answer = json!({ "error": "invalid_client", "error_description": "Token is not active" });
    world.provider.tokens = Mode::json(400, &answer);
    assert_eq!(world.ask(&pay()).status(), 503);
    let expected =
        "token of credential order: client_rejected: status 400, invalid_client: Token is not active";
    let line = world.logs.iter().find(|line| line.starts_with(expected));
    let line = line.unwrap_or_else(|| panic!("{:?}", world.logs));
    assert!(line.contains("; files/secret is read again, which was issued 31"), "{line}");
    world.pass(secs(10));
    assert!(world.provider.count(Endpoint::Tokens) > 1, "it is tried again soon");
    world.provider.tokens = Mode::Works;
    world.pass(secs(30));
    assert!(world.ask(&pay()).passed());
    assert_eq!(world.provider.reads.len(), world.provider.count(Endpoint::Tokens));
}

#[test]
fn a_provider_that_repeats_the_assertion_or_the_secret_puts_it_into_no_log() {
    for answer in [
        json!({ "error": "invalid_client", "error_description": format!("bad secret {OLD}") }),
        json!({ "error": OLD }),
    ] {
        let mut world = World::new(&by_file());
        world.provider.write(FILE, OLD);
        world.provider.tokens = Mode::json(401, &answer);
        // The world asserts of every effect that no secret is in it.
        world.ask(&pay());
        world.provider.write(FILE, NEW);
        world.pass(secs(120));
    }
}

#[test]
fn a_key_in_a_file_signs_and_is_replaced_without_a_restart() {
    let (old, new) = (RealKey::new(Alg::EdDsa), RealKey::new(Alg::EdDsa));
    let changes = json!({
        "client_id": "order-service", "auth_method": "private_key_jwt", "private_key": file(FILE), "kid": "k1",
        "assertion_header_type": "client-authentication+jwt",
    });
    let mut world = World::new(&credential(&changes));
    world.provider.write(FILE, &old.private_pem());
    world.pass(secs(5));
    world.provider.write(FILE, "no key");
    world.pass(secs(250));
    world.provider.write(FILE, &new.private_jwk().to_string());
    world.pass(secs(300));
    let presented = &world.provider.presented;
    assert!(verifies(&presented[0], &old) && verifies(presented.last().unwrap(), &new));
    let header = decode(&presented[0]).0;
    assert_eq!((&header["kid"], &header["typ"]), (&json!("k1"), &json!("client-authentication+jwt")));
}

#[test]
fn a_thousand_exchanges_read_a_secret_once_in_two_seconds() {
    let changes = json!({
        "grant_type": "token_exchange", "client_id": "order-service", "client_secret": file(FILE),
    });
    let mut world = World::warm(&exchange(&changes));
    world.provider.write(FILE, OLD);
    for _ in 0..1000 {
        let token = caller(&mut world, 300);
        assert_eq!(world.ask(&items(&token).host("payment")).status(), 200);
        world.pass(millis(10));
    }
    assert_eq!(world.provider.count(Endpoint::Tokens), 1000);
    let reads = world.provider.reads.len();
    let spent = usize::try_from(world.now.as_secs()).unwrap();
    assert!(reads <= spent / 2 + 2, "{reads} reads in {spent} s");
}

#[test]
fn the_client_that_introspects_authenticates_by_a_file() {
    let mut configuration = without_discovery(inbound());
    let issuer = &mut configuration["issuers"]["idp"];
    issuer["introspection_endpoint"] = json!("https://idp.example/realms/r/introspect");
    issuer["introspection"] = json!({ "auth_method": "workload_identity", "client_assertion": file(FILE) });
    let mut world = World::warm(&configuration);
    let token = world.opaque(&json!({}));
    let outcome = world.ask(&items(&token));
    assert_eq!((outcome.status(), outcome.reason().as_str()), (503, "introspection_unavailable"));
    assert_eq!(world.provider.count(Endpoint::Introspection), 0);
    let svid = made_up("platform");
    world.provider.write(FILE, &svid);
    world.pass(secs(8));
    assert_eq!(world.ask(&items(&token)).status(), 200);
    assert_eq!(world.provider.presented, [svid]);
}

#[test]
fn a_token_of_the_platform_is_exchanged_for_one_token_for_all_requests() {
    let changes = json!({
        "grant_type": "token_exchange", "auth_method": "none", "subject_token": file(FILE),
        "subject_token_type": "jwt", "audience": "//iam.example/pools/p",
    });
    let mut world = World::new(&exchange(&changes));
    let jwt = made_up("platform");
    world.provider.write(FILE, &jwt);
    for _ in 0..600 {
        assert_eq!(world.ask(&pay()).status(), 200);
        world.pass(secs(1));
    }
    assert!((2..6).contains(&world.provider.subjects.len()), "{}", world.provider.subjects.len());
    assert!(world.provider.subjects.iter().all(|subject| *subject == jwt));
    assert!(world.provider.forms.iter().all(|form| !form.contains_key("client_id")));
}

/// The caller's token is exchanged at the issuer, and that one is the assertion of the next grant.
fn chain() -> Value {
    let mut configuration = exchange(&json!({
        "grant_type": "jwt_bearer", "assertion": { "credential": "first" },
        "auth_method": "workload_identity", "client_assertion": file(FILE),
    }));
    configuration["outbound"]["credentials"]["first"] = json!({
        "issuer": "idp", "grant_type": "token_exchange",
        "auth_method": "workload_identity", "client_assertion": file(FILE),
    });
    configuration
}

#[test]
fn a_chain_exchanges_the_callers_token_and_asserts_the_result() {
    let mut world = World::warm(&chain());
    world.provider.write(FILE, &made_up("platform"));
    let token = caller(&mut world, 4000);
    let sent: Vec<_> = (0..20).map(|_| world.send(&items(&token).host("payment"))).collect();
    world.pass(millis(200));
    assert!(sent.iter().all(|id| world.outcome(*id).status() == 200));
    let issued = &world.provider.issued;
    assert_eq!(world.provider.subjects, [token.clone(), issued[0].token.clone()]);
    let attached = world.outcome(sent[0]).set("authorization").unwrap();
    assert_eq!(attached, format!("Bearer {}", issued[1].token), "the second one is attached");
    for _ in 0..1200 {
        assert!(world.ask(&items(&token).host("payment")).passed(), "both are renewed in the background");
        world.pass(secs(1));
    }
    assert!(world.provider.count(Endpoint::Tokens) < 30, "{}", world.provider.count(Endpoint::Tokens));
}

#[test]
fn a_chain_ends_no_later_than_its_first_token() {
    let mut world = World::warm(&chain());
    world.provider.write(FILE, &made_up("platform"));
    world.provider.expires_in = json!(30);
    let token = caller(&mut world, 4000);
    assert_eq!(world.ask(&items(&token).host("payment")).status(), 200);
    world.provider.expires_in = json!(4000);
    let (end, first) = (world.now + secs(30), world.provider.issued[0].token.clone());
    world.provider.poison.insert(token.clone(), Mode::status(500));
    while world.now < end {
        world.ask(&items(&token).host("payment"));
        world.pass(secs(1));
    }
    let late = world.ask(&items(&token).host("payment"));
    assert_eq!(late.status(), 503, "{late:?} with {first}");
}

#[test]
fn a_token_of_a_credential_is_an_input_of_another() {
    let mut configuration = credential(&json!({
        "grant_type": "jwt_bearer", "assertion": { "credential": "first" }, "auth_method": "none",
    }));
    configuration["outbound"]["credentials"]["first"] =
        json!({ "issuer": "idp", "client_id": "first", "client_secret": file(FILE) });
    let mut world = World::new(&configuration);
    let outcome = world.ask(&pay());
    assert_eq!(outcome.status(), 503, "{outcome:?}");
    assert_eq!(world.provider.count(Endpoint::Tokens), 0);
    world.provider.write(FILE, OLD);
    world.pass(secs(10));
    assert!(world.ask(&pay()).passed());
    assert_eq!(world.provider.subjects, [world.provider.issued[0].token.clone()]);
    for _ in 0..1000 {
        assert!(world.ask(&pay()).passed());
        world.pass(secs(1));
    }
}

/// What a provider says that takes an assertion only once.
fn used_before() -> Value {
    json!({ "error": "invalid_grant", "error_description": "Token reuse detected" })
}

#[test]
fn a_first_token_that_the_next_provider_does_not_take_is_renewed() {
    let mut world = World::warm(&chain());
    world.provider.write(FILE, &made_up("platform"));
    let token = caller(&mut world, 4000);
    let first = format!("{MARK}-token-0");
    world.provider.refuses = Some((first.clone(), used_before()));
    world.disown(&token);
    let outcome = world.ask(&items(&token).host("payment"));
    assert_eq!((outcome.status(), outcome.reason().as_str()), (401, "subject_token"));
    for _ in 0..20 {
        world.ask(&items(&token).host("payment"));
        world.pass(secs(1));
    }
    assert!(world.ask(&items(&token).host("payment")).passed());
    let of_caller = world.provider.subjects.iter().filter(|subject| **subject == token).count();
    assert_eq!(of_caller, 2, "once again, and not in a loop");
}

#[test]
fn an_own_token_that_the_next_provider_does_not_take_is_renewed() {
    let mut configuration = credential(&json!({
        "grant_type": "jwt_bearer", "assertion": { "credential": "first" }, "auth_method": "none",
    }));
    configuration["outbound"]["credentials"]["first"] =
        json!({ "issuer": "idp", "client_id": "first", "client_secret": { "env": "SECRET" } });
    let mut world = World::new(&configuration);
    world.provider.refuses = Some((format!("{MARK}-token-0"), used_before()));
    world.pass(secs(30));
    assert!(world.ask(&pay()).passed(), "{:?}", world.logs);
}

#[test]
fn an_actor_is_a_credential_of_this_service() {
    let mut configuration = exchange(&json!({
        "grant_type": "token_exchange", "actor_token": { "credential": "actor" }, "auth_method": "none",
    }));
    configuration["outbound"]["credentials"]["actor"] =
        json!({ "issuer": "idp", "client_id": "actor", "client_secret": { "env": "SECRET" } });
    let mut world = World::warm(&configuration);
    let token = caller(&mut world, 300);
    assert_eq!(world.ask(&items(&token).host("payment")).status(), 200);
    let form = world.provider.forms.last().unwrap();
    assert_eq!((&form["subject_token"], &form["actor_token"]), (&token, &world.provider.issued[0].token));
    assert!(form["actor_token_type"].ends_with("access_token"));
}

#[test]
fn the_issuer_of_the_simulation_is_the_default_audience() {
    let changes = json!({ "client_id": "c", "auth_method": "private_key_jwt", "private_key": file(FILE) });
    let mut world = World::new(&credential(&changes));
    world.provider.write(FILE, &RealKey::new(Alg::EdDsa).private_pem());
    world.pass(secs(2));
    assert_eq!(decode(&world.provider.presented[0]).1["aud"], ISSUER);
}
