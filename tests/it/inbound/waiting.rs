//! Requests that come before the keys do.

use crate::scene::{Scene, builder, inbound, listener, send, wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::json;
use std::time::Duration;

/// A scene whose key set takes that long to come.
async fn slow_start(delay: Duration) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Keys, Fault::Slow(delay));
    Scene::with(idp, upstream, inbound).await
}

#[tokio::test]
async fn fifty_requests_at_a_cold_start_all_wait_and_are_served_by_one_fetch_per_vm() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Discovery, Fault::Slow(Duration::from_millis(500)));
    idp.fault(Endpoint::Keys, Fault::Slow(Duration::from_millis(1500)));
    let scene = Scene::with(idp, upstream, inbound).await;
    let token = scene.idp.token();
    let running: Vec<_> = (0..50).map(|_| send(scene.get("/inventory/items").bearer(&token))).collect();
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((scene.idp.count(Endpoint::Keys), scene.idp.count(Endpoint::Discovery)), (1, 1));
    until("all of them had to wait", async || {
        let held = scene.envoy.stats("wasmcustom.m2m_auth_held.").await;
        (held.values().sum::<u64>() == 50).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_takes_nothing_with_it() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Keys, Fault::Slow(Duration::from_secs(2)));
    // One worker: everybody waits in the same VM.
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&wasm(&inbound(&idp))));
    let scene = Scene::of(idp, upstream, builder).await;
    let token = scene.idp.token();
    let leaving = scene.get("/inventory/gone").bearer(&token).start().await;
    let leaving_too = scene.get("/inventory/gone").bearer("garbage").start().await;
    scene.idp.wait_for(Endpoint::Keys, 1).await;
    let staying = send(scene.get("/inventory/here").bearer(&token));
    drop((leaving, leaving_too));
    let answer = staying.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.get("/inventory/later").bearer(&token).send().await.status, 200);
    assert_eq!(scene.idp.count(Endpoint::Keys), 1);
    assert!(scene.seen("/inventory/gone").is_empty(), "nobody waits for that answer");
}

#[tokio::test]
async fn a_large_body_that_had_to_wait_arrives_whole() {
    let scene = slow_start(Duration::from_secs(1)).await;
    let body: Vec<u8> =
        (0..3 * 1024 * 1024_u32).map(|place| place.to_le_bytes()[usize::from(place % 3 == 0)]).collect();
    let post = scene.request("POST", "/inventory/upload").bearer(scene.idp.token()).body(body.clone());
    for request in [post.clone(), post.http2()] {
        let answer = request.send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for seen in scene.seen("/inventory/upload") {
        assert!(seen.body == body, "{} bytes of {} arrived", seen.body.len(), body.len());
    }
}

#[tokio::test]
async fn no_more_requests_wait_than_may() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Keys, Fault::Slow(Duration::from_secs(2)));
    let mut configuration = inbound(&idp);
    configuration["waiting"] = json!({ "requests": 5 });
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&wasm(&configuration)));
    let scene = Scene::of(idp, upstream, builder).await;
    let running: Vec<_> = (0..20).map(|_| send(scene.get("/inventory").bearer(scene.idp.token()))).collect();
    let (mut served, mut refused) = (0, 0);
    for answer in running {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => served += 1,
            status => {
                assert_eq!(
                    (status, &answer.json()["reason"]),
                    (503, &json!("too_many_waiting")),
                    "{answer:?}"
                );
                assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
                refused += 1;
            }
        }
    }
    assert_eq!((served, refused), (5, 15));
}
