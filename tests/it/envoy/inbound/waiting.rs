//! Requests that arrive before the keys.

use crate::envoy::scene::{Scene, builder, gated, inbound, listener, send, wasm};
use m2m_auth_kit::client::Response;
use m2m_auth_kit::idp::{Endpoint, Gate, Idp};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A scene whose keys come when the gate is open. One worker: all requests wait in the same VM.
async fn without_keys(change: impl FnOnce(&mut Value)) -> (Scene, Gate) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Keys]);
    let mut configuration = inbound(&idp);
    change(&mut configuration);
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&wasm(&configuration)));
    (Scene::of(idp, upstream, builder).await, gate)
}

#[tokio::test]
async fn fifty_requests_at_a_cold_start_all_wait_and_are_served_by_one_fetch_per_vm() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Discovery, Endpoint::Keys]);
    let scene = Scene::with(idp, upstream, inbound).await;
    let token = scene.idp.token();
    let running: Vec<_> = (0..50).map(|_| send(scene.get("/inventory/items").bearer(&token))).collect();
    scene.held(50).await;
    gate.open();
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((scene.idp.count(Endpoint::Keys), scene.idp.count(Endpoint::Discovery)), (1, 1));
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_takes_nothing_with_it() {
    let (scene, gate) = without_keys(|_| ()).await;
    let token = scene.idp.token();
    let leaving = scene.get("/inventory/gone").bearer(&token).start().await;
    let leaving_too = scene.get("/inventory/gone").bearer("garbage").start().await;
    scene.idp.wait_for(Endpoint::Keys, 1).await;
    let staying = send(scene.get("/inventory/here").bearer(&token));
    scene.held(2).await;
    drop((leaving, leaving_too));
    let hung_up = "http.main.downstream_cx_destroy_remote_active_rq";
    scene.envoy.wait_for_stat(hung_up, |count| count == 1).await;
    gate.open();
    let answer = staying.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.get("/inventory/later").bearer(&token).send().await.status, 200);
    assert_eq!(scene.idp.count(Endpoint::Keys), 1);
    assert!(scene.seen("/inventory/gone").is_empty(), "nobody waits for that answer");
}

#[tokio::test]
async fn a_large_body_that_had_to_wait_arrives_whole() {
    let (scene, gate) = without_keys(|_| ()).await;
    let body: Vec<u8> =
        (0..3 * 1024 * 1024_u32).map(|place| place.to_le_bytes()[usize::from(place % 3 == 0)]).collect();
    let post = scene.request("POST", "/inventory/upload").bearer(scene.idp.token()).body(body.clone());
    let running = [post.clone(), post.http2()].map(send);
    scene.held(2).await;
    gate.open();
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for seen in scene.seen("/inventory/upload") {
        assert!(seen.body == body, "{} bytes of {} arrived", seen.body.len(), body.len());
    }
}

#[tokio::test]
async fn no_more_requests_wait_than_may() {
    let (scene, gate) =
        without_keys(|configuration| configuration["pending_requests"] = json!({ "max": 5 })).await;
    let running: Vec<JoinHandle<Response>> =
        (0..20).map(|_| send(scene.get("/inventory").bearer(scene.idp.token()))).collect();
    until("the others are answered while five wait", async || {
        (running.iter().filter(|request| request.is_finished()).count() == 15).then_some(())
    })
    .await;
    gate.open();
    let (mut served, mut refused) = (0, 0);
    for answer in running {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => served += 1,
            status => {
                assert_eq!(
                    (status, &answer.json()["reason"]),
                    (503, &json!("too_many_pending")),
                    "{answer:?}"
                );
                assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
                refused += 1;
            }
        }
    }
    assert_eq!((served, refused), (5, 15));
}
