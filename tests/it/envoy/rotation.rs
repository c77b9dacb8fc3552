//! Keys that change under load: every good token is accepted, and no other.

use crate::envoy::scene::{HAS_KEYS, Scene, VMS, builder, gated, inbound, listener, retry_after, send, wasm};
use m2m_auth_kit::client::Response;
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::key::Alg;
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::Mint;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::{now, until};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A scene in which every VM has the keys.
async fn warm(configuration: impl FnOnce(&Idp) -> Value) -> Scene {
    let scene = Scene::start(configuration).await;
    scene.logged(HAS_KEYS, VMS).await;
    scene
}

/// The same with one worker, so that it is known which one fetches keys.
async fn warm_single() -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let filter = wasm(&inbound(&idp));
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&filter));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.logged(HAS_KEYS, 2).await;
    assert_eq!(scene.idp.count(Endpoint::Keys), 1);
    scene
}

#[tokio::test]
async fn the_first_requests_with_a_new_key_wait_for_one_fetch_and_succeed() {
    let scene = warm_single().await;
    let old = scene.idp.token();
    scene.idp.rotate_key();
    let rotated = scene.idp.token();
    scene.idp.add_key(Alg::Es256);
    let another_algorithm = scene.idp.token();
    let new = [&rotated, &another_algorithm].into_iter().cycle().take(20);
    let new: Vec<_> = new.map(|token| send(scene.get("/inventory").bearer(token))).collect();
    let in_the_meantime = scene.get("/inventory").bearer(&old).send().await;
    assert_eq!(in_the_meantime.status, 200, "{in_the_meantime:?}");
    for answer in new {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(scene.idp.count(Endpoint::Keys), 2, "one fetch for all of them");
    assert_eq!(
        scene.get("/inventory").bearer(&old).send().await.status,
        200,
        "the old key is still published"
    );
}

/// A token that names an unknown key.
fn made_up(scene: &Scene, kid: &str) -> String {
    scene.idp.mint_with(&Mint::of(scene.idp.claims()).kid(kid))
}

#[tokio::test]
async fn a_flood_of_made_up_keys_costs_one_fetch_in_a_while_and_nobody_else_a_thing() {
    let scene = warm_single().await;
    let gate = gated(&scene.idp, &[Endpoint::Keys]);
    let flood = |start: u32| -> Vec<_> {
        let names = (start..start + 60).map(|number| made_up(&scene, &format!("made-up-{number}")));
        names.map(|token| scene.get("/inventory/flood").bearer(token)).collect()
    };
    let (first, begun) = (flood(0), now());
    let running: Vec<_> = first.iter().cloned().map(send).collect();
    scene.held(60).await;
    let honest =
        Load::of(scene.get("/inventory").bearer(scene.idp.token())).connections(4).requests(200).run().await;
    assert!(honest.only(200), "{honest}");
    assert!(!running.iter().any(JoinHandle::is_finished), "they wait, and the others did not wait for them");
    gate.open();
    refused(running).await;
    assert_eq!(scene.idp.count(Endpoint::Keys), 2, "one fetch for 60 names");
    // Now they are known to be unknown, for 10 s.
    let again = Load::round(first).connections(4).requests(400).run().await;
    assert!(again.only(401), "{again}");
    let (fetches, fetched) = (scene.idp.count(Endpoint::Keys), scene.idp.requests(Endpoint::Keys)[1].at);
    assert!(fetches == 2 || fetched.elapsed() > Duration::from_secs(10), "{fetches} fetches");
    // Other names cost another fetch, later: the one before was begun after this flood.
    refused(flood(60).into_iter().map(send).collect()).await;
    let apart = scene.idp.last(Endpoint::Keys).at.duration_since(begun);
    let fetches = scene.idp.count(Endpoint::Keys);
    assert!(fetches > 2 && apart >= Duration::from_secs(3), "{fetches} fetches, the last after {apart:?}");
    assert!(scene.seen("/inventory/flood").is_empty());
}

/// All are refused, for their key.
async fn refused(running: Vec<JoinHandle<Response>>) {
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("unknown_key")), "{answer:?}");
    }
}

#[tokio::test]
async fn the_token_of_a_withdrawn_key_is_refused_though_it_was_verified_before() {
    let configuration = |idp: &Idp| {
        let mut configuration = inbound(idp);
        configuration["issuers"]["keycloak"]["jwks_refresh_interval"] = json!("5s");
        configuration
    };
    let scene = warm(configuration).await;
    let withdrawn = scene.idp.signing_key();
    // It names no key, so it is refused without a fetch.
    let token = scene.idp.mint_with(&Mint::of(scene.idp.claims()).without_header("kid"));
    let request = scene.get("/inventory").bearer(token);
    let known = Load::of(request.clone()).connections(8).requests(80).run().await;
    assert!(known.only(200), "{known}");
    let hits = "wasmcustom.m2m_auth_token_cache.lookup.hit";
    scene.envoy.wait_for_stat(hits, |hits| hits > 40).await;
    scene.idp.rotate_key();
    scene.idp.withdraw_key(withdrawn.kid());
    until("each worker has the next key set", async || {
        let report = Load::of(request.clone()).connections(8).requests(40).run().await;
        assert!(report.with_status(200) + report.with_status(401) == 40, "{report}");
        report.only(401).then_some(())
    })
    .await;
    let withdrawn = Load::of(request).connections(8).requests(80).run().await;
    assert!(withdrawn.only(401), "{withdrawn}");
    assert_eq!(withdrawn.samples[&401].json()["reason"], "signature");
    assert_eq!(scene.get("/inventory").bearer(scene.idp.token()).send().await.status, 200);
}

#[tokio::test]
async fn an_unknown_key_is_not_the_callers_fault_while_the_provider_is_down() {
    let scene = warm(inbound).await;
    assert_eq!(scene.idp.count(Endpoint::Keys), 1);
    let known = scene.idp.token();
    scene.idp.rotate_key();
    let unknown = scene.idp.token();
    scene.idp.stop().await;
    let answer = scene.get("/inventory").bearer(&unknown).send().await;
    assert!(retry_after(&answer) <= 30);
    assert_eq!(
        scene.get("/inventory").bearer(&known).send().await.status,
        200,
        "the keys at hand stay in use"
    );
    scene.idp.resume().await;
    until("the new key is found once the provider is back", async || {
        let answer = scene.get("/inventory").bearer(&unknown).send().await;
        assert_ne!(answer.status, 401, "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_set_that_is_unchanged_is_not_sent_again_and_ends_nobodys_token() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.offer_etags();
    let mut configuration = inbound(&idp);
    configuration["issuers"]["keycloak"]["jwks_refresh_interval"] = json!("5s");
    let builder = builder(&idp, &upstream).listener(listener(&wasm(&configuration)));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.logged(HAS_KEYS, VMS).await;
    let request = scene.get("/inventory").bearer(scene.idp.token());
    let known = Load::of(request.clone()).connections(8).requests(80).run().await;
    assert!(known.only(200), "{known}");
    let misses =
        scene.envoy.wait_for_stat("wasmcustom.m2m_auth_token_cache.lookup.miss", |misses| misses > 0).await;
    scene.idp.wait_for(Endpoint::Keys, 3).await;
    scene.envoy.wait_for_log("keys of issuer keycloak: 1 usable keys, unchanged").await;
    let sent: Vec<_> =
        scene.idp.requests(Endpoint::Keys).iter().map(|asked| asked.header("if-none-match")).collect();
    assert!(sent[0].is_none() && sent[1..].iter().all(Option::is_some), "{sent:?}");
    scene.logged(HAS_KEYS, 2 * VMS).await;
    let again = Load::of(request.clone()).connections(8).requests(80).run().await;
    assert!(again.only(200), "{again}");
    let verified = scene.envoy.stat("wasmcustom.m2m_auth_token_cache.lookup.miss").await;
    assert!(verified <= misses.max(2), "verified once by each worker, not once for each answer: {verified}");
    let old = scene.idp.signing_key();
    scene.idp.rotate_key();
    scene.idp.withdraw_key(old.kid());
    until("a changed key set is sent", async || {
        let answer = request.send().await;
        (answer.status == 401).then_some(())
    })
    .await;
    assert_eq!(scene.get("/inventory").bearer(scene.idp.token()).send().await.status, 200);
}

#[tokio::test]
async fn keys_are_renewed_no_sooner_than_a_minute_though_the_provider_says_seconds() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.answer_headers(Endpoint::Keys, &[("cache-control", "public, max-age=1, must-revalidate")]);
    let begun = now();
    let scene = Scene::with(idp, upstream, inbound).await;
    scene.logged(HAS_KEYS, VMS).await;
    let load = Load::of(scene.get("/inventory").bearer(scene.idp.token())).connections(2).rate(20.0);
    let report = load.duration(Duration::from_secs(4)).run().await;
    assert!(report.only(200), "{report}");
    let (fetches, elapsed) = (scene.idp.count(Endpoint::Keys), begun.elapsed());
    assert!(
        u64::try_from(fetches).unwrap() <= 1 + elapsed.as_secs() / 50,
        "{fetches} fetches in {elapsed:?}"
    );
}
