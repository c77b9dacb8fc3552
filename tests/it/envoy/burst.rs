//! A thousand requests that are held at one time, on real Envoy: each gets its answer, and the VM
//! lives on.
//!
//! Envoy answers a request inside the callback that answered the one before it, so that the answers
//! of one callback lie on one stack. `failure_policy` is not set: a VM that ended would answer
//! everything with 503 from then on. The filter runs after other filters and before an access log,
//! as each of them makes that stack deeper.

use crate::envoy::scene::{Scene, inbound, outbound, wasm};
use m2m_auth_kit::client::{Request, Response, Streams};
use m2m_auth_kit::envoy::{self, Envoy, Pushed};
use m2m_auth_kit::idp::{Endpoint, Fault, Gate, Idp};
use m2m_auth_kit::token::Mint;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use tokio::task::JoinHandle;

/// The number of held requests.
const HELD: usize = 1000;

/// How many requests of one issuer and worker may wait for a key that is not in the key set.
const UNKNOWN_KEYS: u64 = 64;

type Running = Vec<JoinHandle<io::Result<Response>>>;

/// Where the filter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Listener,
    Cluster,
}

/// Both positions, with one worker and with two.
const POSITIONS: [(Position, u64); 2] = [(Position::Listener, 1), (Position::Cluster, 2)];

/// Ten filters of Envoy's own: they see each request and each answer.
fn others() -> Vec<Value> {
    let kind = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    let append = |name: &str| json!([{ "append": { "header": { "key": name, "value": "seen" } } }]);
    let filter = |number: usize| {
        let name = format!("x-seen-{number}");
        let mutations = json!({ "request_mutations": append(&name), "response_mutations": append(&name) });
        json!({
            "name": format!("envoy.filters.http.header_mutation.{number}"),
            "typed_config": { "@type": kind, "mutations": mutations },
        })
    };
    (0..10).map(filter).collect()
}

/// Half of the others before ours, and half behind it.
fn among_others(ours: Value) -> Vec<Value> {
    let mut filters = others();
    filters.insert(5, ours);
    filters
}

fn listener(filters: Vec<Value>) -> Value {
    let nowhere = json!({ "match": { "prefix": "/inventory/nowhere" }, "route": { "cluster": "nowhere" } });
    let service = json!({ "match": { "prefix": "/" }, "route": { "cluster": "service", "timeout": "60s" } });
    envoy::listener("main", filters, envoy::route_config(vec![nowhere, service]))
}

/// Envoy with the filter in that position, so many workers, and a cluster without a host.
async fn stage((position, workers): (Position, u64), idp: Idp, configuration: &Value) -> Scene {
    let upstream = Upstream::start().await;
    let filter = wasm(configuration).failure_policy("UNSPECIFIED").filter();
    let mut nowhere = envoy::cluster("nowhere", upstream.address());
    nowhere["load_assignment"]["endpoints"] = json!([]);
    let service = envoy::http2(envoy::cluster("service", upstream.address()));
    let (filters, service) = match position {
        Position::Listener => (among_others(filter), service),
        Position::Cluster => (others(), envoy::upstream_filters(service, among_others(filter))),
    };
    let builder = Envoy::builder()
        .concurrency(workers)
        .drain_seconds(60)
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(service)
        .cluster(nowhere)
        .listener(listener(filters));
    Scene::of(idp, upstream, builder).await
}

/// Held for as long as a slow machine may need.
fn patient(mut configuration: Value) -> Value {
    configuration["issuers"]["keycloak"]["timeout"] = json!("30s");
    configuration["pending_requests"] = json!({ "timeout": "30s" });
    configuration
}

fn both(idp: &Idp) -> Value {
    let mut configuration = patient(inbound(idp));
    configuration["outbound"] = outbound(idp)["outbound"].clone();
    configuration
}

/// How many have begun to wait so far.
async fn held(scene: &Scene) -> u64 {
    scene.envoy.stats("wasmcustom.m2m_auth_pending.").await.values().sum()
}

/// Sends them, and comes back when each is held or answered.
async fn send(scene: &Scene, requests: Vec<Request>) -> Running {
    let before = held(scene).await;
    let count = u64::try_from(requests.len()).unwrap();
    let streams = Streams::open(scene.envoy.address("main"), 8).await;
    let running = streams.send(requests);
    until("each of them is held or answered", async || {
        let answered = running.iter().filter(|request| request.is_finished()).count();
        let held = held(scene).await - before;
        (held + u64::try_from(answered).unwrap() >= count).then_some(())
    })
    .await;
    running
}

/// The same request, a thousand times.
fn crowd(request: &Request) -> Vec<Request> {
    vec![request.clone(); HELD]
}

/// Their outcomes: the count of each status with each reason. Every request is answered.
async fn outcomes(running: Running) -> BTreeMap<(u16, String), u64> {
    let mut outcomes = BTreeMap::new();
    for request in running {
        let answer = request.await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Envoy's own answers are not JSON: their body is the reason.
        let text = || String::from_utf8_lossy(&answer.body).chars().take(160).collect();
        let reason = body["reason"].as_str().map(str::to_owned);
        let reason = reason.unwrap_or_else(|| if answer.status == 200 { String::new() } else { text() });
        *outcomes.entry((answer.status, reason)).or_default() += 1;
    }
    outcomes
}

fn all(status: u16, reason: &str) -> BTreeMap<(u16, String), u64> {
    [((status, reason.to_owned()), u64::try_from(HELD).unwrap())].into()
}

/// A good token is accepted, and no other request.
async fn lives_on(scene: &Scene) {
    let good = scene.get("/inventory/good").bearer(scene.idp.token());
    until("a good request passes", async || (good.send().await.status == 200).then_some(())).await;
    // Twice as many as there are workers, each on a connection of its own.
    for _ in 0..4 {
        assert_eq!(scene.get("/inventory/stranger").send().await.status, 401);
    }
    assert!(scene.seen("/inventory/stranger").is_empty());
    let log = scene.envoy.logs();
    assert!(!log.contains("RangeError") && !log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn tokens_with_made_up_keys_are_refused_and_few_of_them_wait() {
    for position in POSITIONS {
        let idp = Idp::start().await;
        let configuration = patient(inbound(&idp));
        let scene = stage(position, idp, &configuration).await;
        lives_on(&scene).await;
        let gate = Gate::default();
        scene.idp.fault(Endpoint::Keys, Fault::Gated(gate.clone()));
        let foreign = Idp::foreign_key();
        let forged = |number: usize| {
            let claims = scene.idp.claims();
            let token = Mint::of(claims).key(&foreign).kid(&format!("made-up-{number}")).sign(&foreign);
            scene.get("/inventory/forged").bearer(token)
        };
        let running = send(&scene, (0..HELD).map(forged).collect()).await;
        gate.open();
        let outcomes = outcomes(running).await;
        let of = |status, reason: &str| outcomes.get(&(status, reason.to_owned())).copied().unwrap_or(0);
        let (refused, too_many) = (of(401, "unknown_key"), of(503, "too_many_pending"));
        assert_eq!(refused + too_many, 1000, "{position:?}: {outcomes:?}");
        assert!(refused >= 1 && refused <= UNKNOWN_KEYS * position.1, "{position:?}: {outcomes:?}");
        assert!(scene.seen("/inventory/forged").is_empty());
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn when_the_keys_are_unavailable_each_request_is_answered_503() {
    for position in POSITIONS {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Keys, Fault::GatedStatus(gate.clone(), 500));
        let configuration = patient(inbound(&idp));
        let scene = stage(position, idp, &configuration).await;
        let good = scene.get("/inventory/held").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        gate.open();
        assert_eq!(outcomes(running).await, all(503, "jwks_unavailable"), "{position:?}");
        scene.idp.fault(Endpoint::Keys, Fault::None);
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn requests_to_a_cluster_without_a_host_are_answered_by_envoy() {
    for workers in [1, 2] {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Keys, Fault::Gated(gate.clone()));
        let configuration = patient(inbound(&idp));
        let scene = stage((Position::Listener, workers), idp, &configuration).await;
        let good = scene.get("/inventory/nowhere").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        gate.open();
        assert_eq!(outcomes(running).await, all(503, "no healthy upstream"));
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_token_get_it() {
    for position in POSITIONS {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Token, Fault::Gated(gate.clone()));
        let configuration = both(&idp);
        let scene = stage(position, idp, &configuration).await;
        let good = scene.get("/inventory/held").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        gate.open();
        assert_eq!(outcomes(running).await, all(200, ""), "{position:?}");
        let seen = scene.seen("/inventory/held");
        let attached = |request: &m2m_auth_kit::record::Recorded| {
            request.header("authorization").is_some_and(|value| value.starts_with("Bearer ey"))
        };
        assert!(seen.len() == HELD && seen.iter().all(attached), "{position:?}");
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_token_in_vain_are_answered_503() {
    for position in POSITIONS {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Token, Fault::GatedStatus(gate.clone(), 400));
        let configuration = both(&idp);
        let scene = stage(position, idp, &configuration).await;
        let good = scene.get("/inventory/held").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        gate.open();
        assert_eq!(outcomes(running).await, all(503, "outbound_token_unavailable"), "{position:?}");
        assert!(scene.seen("/inventory/held").is_empty());
        scene.idp.fault(Endpoint::Token, Fault::None);
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn requests_that_time_out_are_answered_503() {
    for position in POSITIONS {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Keys, Fault::Gated(gate.clone()));
        let mut configuration = patient(inbound(&idp));
        configuration["pending_requests"]["timeout"] = json!("3s");
        let scene = stage(position, idp, &configuration).await;
        let good = scene.get("/inventory/held").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        assert_eq!(outcomes(running).await, all(503, "jwks_unavailable"), "{position:?}");
        gate.open();
        lives_on(&scene).await;
    }
}

#[tokio::test]
async fn requests_that_wait_as_a_new_configuration_comes_are_answered() {
    for workers in [1, 2] {
        let (idp, gate) = (Idp::start().await, Gate::default());
        idp.fault(Endpoint::Keys, Fault::Gated(gate.clone()));
        let mut configuration = patient(inbound(&idp));
        let mut scene = stage((Position::Listener, workers), idp, &configuration).await;
        let good = scene.get("/inventory/held").bearer(scene.idp.token());
        let running = send(&scene, crowd(&good)).await;
        configuration["inbound"]["realm"] = json!("another");
        let filter = wasm(&configuration).failure_policy("UNSPECIFIED").filter();
        assert_eq!(scene.envoy.push([listener(among_others(filter))]).await, Pushed::Accepted);
        gate.open();
        assert_eq!(outcomes(running).await, all(200, ""));
        lives_on(&scene).await;
    }
}
