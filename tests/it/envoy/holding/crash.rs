//! A VM that ends while it holds requests: neither Envoy nor another VM answers them. What bounds
//! their wait is Envoy's own: see `docs/explanation/failure-behaviour.md`.

use super::{Position, at, held};
use crate::envoy::scene::{arrived, gated, outbound, send, wasm};
use m2m_auth_kit::envoy;
use m2m_auth_kit::faults::{crashing, fatal};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::fs;

/// What became of the one that was held as its VM ended: its status, and what Envoy's access log
/// says of it.
async fn lost(position: Position, change: impl FnOnce(&mut Value)) -> (u16, Value) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Token]);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("crashing.wasm");
    fs::write(&module, crashing(&envoy::module())).unwrap();
    let mut configuration = outbound(&idp);
    // After this time and a second, another worker fetches what the VM was fetching. It may not end
    // twice before the VM does.
    configuration["issuers"]["keycloak"]["timeout"] = json!("8s");
    let filter = wasm(&configuration).module(module);
    let scene = at(position, idp, upstream, &filter, change).await;
    let waiting = send(scene.get("/lost"));
    held(&scene, 1).await;
    assert_ne!(fatal(scene.get("/fatal")).send().await.status, 200, "the VM lives on");
    gate.open();
    // Envoy makes no new VM within a second of the last one.
    until("there is a new VM", async || {
        let next = scene.get("/next").send().await;
        (next.status == 200).then(|| assert_eq!(arrived(&next, "authorization").len(), 1))
    })
    .await;
    let answer = waiting.await.unwrap();
    assert!(scene.seen("/lost").is_empty(), "never without a token");
    let logged = async || scene.envoy.access_log().into_iter().find(|entry| entry["path"] == "/lost");
    let entry = until("it is in the access log", logged).await;
    (answer.status, entry)
}

#[tokio::test]
async fn a_request_that_is_held_as_its_vm_ends_is_answered_by_the_streams_idle_timeout() {
    let (status, entry) = lost(Position::Listener, |listener| {
        envoy::manager_mut(listener)["stream_idle_timeout"] = json!("3s");
    })
    .await;
    assert_eq!((status, &entry["flags"]), (503, &json!("SI")), "{entry}");
    assert!(entry["duration"].as_u64() >= Some(2500), "{entry}");
}

#[tokio::test]
async fn in_a_cluster_it_is_answered_by_the_routes_timeout() {
    let (status, entry) = lost(Position::Cluster, |listener| {
        envoy::manager_mut(listener)["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] =
            json!("3s");
    })
    .await;
    assert_eq!((status, &entry["details"]), (504, &json!("response_timeout")), "{entry}");
    assert!(entry["duration"].as_u64() >= Some(2500), "{entry}");
}
