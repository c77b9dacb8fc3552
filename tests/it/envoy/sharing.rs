//! One fetch per process, whatever the number of workers, and attacks of other plugins of the same
//! process.

#![allow(clippy::disallowed_methods, reason = "a test that cannot continue fails")]

mod neighbour;

use crate::envoy::scene::{HAS_KEYS, HAS_TOKEN, Scene, arrived, builder, inbound, listener, outbound, wasm};
use m2m_auth_kit::envoy::{Pushed, Wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::{PATIENCE, try_until, until};
use neighbour::Neighbour;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The key under which records are sealed in these tests.
const SHARING_KEY: &str = "an0therPlug1nDoesN0tKnowTh1sKey!";

fn sealed(mut configuration: Value) -> Value {
    configuration["sharing"] = json!("sealed");
    configuration["sharing_key"] = json!({ "inline": SHARING_KEY });
    configuration
}

/// A process whose workers hold a token of 5 s life for three lives: every request has one, and the
/// provider is asked once per life.
async fn one_fetch_per_life(workers: u64, configure: impl Fn(&Idp) -> Wasm) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    // Renewed after 3.5 to 4 s, ended after 4.5 s.
    idp.change_client("order-service", |client| client.lifetime = 5);
    let begun = Instant::now();
    let builder = builder(&idp, &upstream).concurrency(workers).listener(listener(&configure(&idp)));
    let scene = Scene::of(idp, upstream, builder).await;
    let load = Load::of(scene.get("/orders")).connections(16).rate(100.0).start();
    scene.idp.wait_for(Endpoint::Token, 3).await;
    load.proceed(50).await;
    let report = load.stop().await;
    assert!(report.only(200), "{workers} workers: {report}");
    for request in scene.upstream.requests() {
        assert!(request.header("authorization").is_some_and(|value| value.starts_with("Bearer ey")));
    }
    let (fetches, elapsed) = (scene.idp.requests(Endpoint::Token), begun.elapsed());
    let most = usize::try_from(1 + elapsed.as_millis() / 3500).unwrap();
    assert!(fetches.len() <= most, "{workers} workers: {} fetches in {elapsed:?}", fetches.len());
    for pair in fetches.windows(2) {
        // 3.5 s from start to start: less only by what the first of them was under way.
        let apart = pair[1].at.duration_since(pair[0].at);
        assert!(apart > Duration::from_secs(1), "{workers} workers: two fetches {apart:?} apart");
    }
    assert_eq!(scene.idp.count(Endpoint::Discovery), 1);
}

#[tokio::test]
async fn one_worker_and_the_main_thread_make_one_fetch_per_life_of_a_token() {
    one_fetch_per_life(1, |idp| wasm(&outbound(idp))).await;
}

#[tokio::test]
async fn two_workers_make_one_fetch_per_life_of_a_token() {
    one_fetch_per_life(2, |idp| wasm(&outbound(idp))).await;
}

#[tokio::test]
async fn four_workers_make_one_fetch_per_life_of_a_token() {
    one_fetch_per_life(4, |idp| wasm(&outbound(idp))).await;
}

#[tokio::test]
async fn eight_workers_make_one_fetch_per_life_of_a_token() {
    one_fetch_per_life(8, |idp| wasm(&outbound(idp))).await;
}

#[tokio::test]
async fn sealed_records_are_shared_too_where_the_vm_id_is_everybodys() {
    one_fetch_per_life(2, |idp| wasm(&sealed(outbound(idp))).vm_id("")).await;
}

#[tokio::test]
async fn without_a_vm_id_of_its_own_each_worker_fetches_for_itself() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let filter = wasm(&inbound(&idp)).vm_id("");
    let builder = builder(&idp, &upstream).listener(listener(&filter));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.logged(HAS_KEYS, crate::envoy::scene::VMS).await;
    assert_eq!(scene.idp.count(Endpoint::Keys), crate::envoy::scene::VMS);
}

#[tokio::test]
async fn sharing_with_every_plugin_of_the_process_is_refused_as_a_configuration() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut configuration = inbound(&idp);
    configuration["sharing"] = json!("on");
    let filter = wasm(&configuration).vm_id("");
    let builder = builder(&idp, &upstream).static_listeners().listener(listener(&filter));
    let error = builder.start().await.err().unwrap();
    assert!(error.log.contains("m2m-auth: sharing: on, expected a vm_id"), "{}", error.log);
}

/// Long enough for every worker to have read the shared store, which an idle one does once a
/// second.
const LOOKS: Duration = Duration::from_secs(4);

/// Whether a token that the neighbour's planted key has signed is accepted within that time.
async fn neighbour_gets_in(vm_id: &str, within: Duration, configure: impl Fn(Value) -> Value) -> bool {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let configuration = configure(inbound(&idp));
    let neighbour = Neighbour::plants_its_key(&configuration);
    let filters = vec![neighbour.filter(vm_id), wasm(&configuration).vm_id(vm_id).filter()];
    let listener = m2m_auth_kit::envoy::listener("main", filters, m2m_auth_kit::envoy::route_to("service"));
    let builder = builder(&idp, &upstream).listener(listener);
    let scene = Scene::of(idp, upstream, builder).await;
    let forged = scene.get("/inventory").bearer(neighbour.token(scene.idp.claims()));
    let gets_in = try_until(within, async || {
        let status = forged.send().await.status;
        assert!([200, 401].contains(&status), "{status}");
        (status == 200).then_some(())
    })
    .await
    .is_some();
    if !gets_in {
        assert_eq!(scene.get("/inventory").bearer(scene.idp.token()).send().await.status, 200);
    }
    gets_in
}

#[tokio::test]
async fn a_neighbour_with_the_same_vm_id_can_plant_keys_which_is_why_sharing_needs_one_of_its_own() {
    let gets_in = neighbour_gets_in("given-away", PATIENCE, |configuration| configuration).await;
    assert!(gets_in, "the attack is real");
}

#[tokio::test]
async fn a_neighbour_cannot_plant_keys_where_the_vm_id_is_everybodys() {
    assert!(!neighbour_gets_in("", LOOKS, |configuration| configuration).await);
}

#[tokio::test]
async fn a_neighbour_cannot_plant_keys_among_sealed_records() {
    assert!(!neighbour_gets_in("", LOOKS, sealed).await);
}

#[tokio::test]
async fn a_push_keeps_the_token_and_a_changed_credential_drops_it() {
    for sharing in ["on", "off"] {
        let configuration = |idp: &Idp, realm: &str| {
            let mut configuration = outbound(idp);
            configuration["sharing"] = json!(sharing);
            configuration["pending_requests"] = json!({ "timeout": realm });
            configuration
        };
        let mut scene = Scene::start(|idp| configuration(idp, "5s")).await;
        scene.logged(HAS_TOKEN, crate::envoy::scene::VMS).await;
        let first = arrived(&scene.get("/orders").send().await, "authorization");
        let fetches = scene.idp.count(Endpoint::Token);
        assert_eq!(fetches, if sharing == "on" { 1 } else { crate::envoy::scene::VMS });

        // The provider is gone, and yet the new configuration has the token.
        scene.idp.fault(Endpoint::Token, Fault::Status(500, String::new()));
        let next = configuration(&scene.idp, "4s");
        assert_eq!(scene.envoy.push([listener(&wasm(&next))]).await, Pushed::Accepted);
        let report = Load::of(scene.get("/orders")).connections(8).requests(80).run().await;
        assert!(report.only(200), "sharing {sharing}: {report}");
        assert_eq!(scene.idp.count(Endpoint::Token), fetches, "sharing {sharing}: nobody asked");

        scene.idp.fault(Endpoint::Token, Fault::None);
        let mut other = configuration(&scene.idp, "4s");
        other["outbound"]["credentials"]["order-service"].as_object_mut().unwrap().remove("scopes");
        assert_eq!(scene.envoy.push([listener(&wasm(&other))]).await, Pushed::Accepted);
        until("the new credential's token is attached", async || {
            (arrived(&scene.get("/orders").send().await, "authorization") != first).then_some(())
        })
        .await;
    }
}
