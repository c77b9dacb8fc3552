//! How many are held, and clients that go away meanwhile.

use super::{POSITIONS, Position, held, without_token};
use crate::envoy::scene::{Scene, arrived, retry_after, send};
use m2m_auth_kit::client::{Response, Upload};
use m2m_auth_kit::idp::{Endpoint, Gate};
use serde_json::json;

/// The number of requests that may wait.
async fn bounded(position: Position, most: usize) -> (Scene, Gate) {
    without_token(position, |configuration| configuration["pending_requests"]["max"] = json!(most)).await
}

fn too_many(answer: &Response) {
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("too_many_pending")), "{answer:?}");
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"), "{answer:?}");
}

#[tokio::test]
async fn a_request_over_the_bound_is_refused_at_once_while_the_others_keep_waiting() {
    for position in POSITIONS {
        let (scene, gate) = bounded(position, 5).await;
        let running: Vec<_> = (0..5).map(|_| send(scene.get("/held"))).collect();
        held(&scene, 5).await;
        for _ in 0..3 {
            too_many(&scene.get("/over").send().await);
        }
        assert!(running.iter().all(|request| !request.is_finished()), "{position:?}");
        gate.open();
        for answer in running {
            assert_eq!(arrived(&answer.await.unwrap(), "authorization").len(), 1, "{position:?}");
        }
        assert_eq!((scene.seen("/held").len(), scene.seen("/over").len()), (5, 0), "{position:?}");
        assert_eq!(scene.idp.count(Endpoint::Token), 1, "{position:?}");
    }
}

#[tokio::test]
async fn bodies_of_any_length_share_a_budget_of_bytes_and_requests_without_one_wait_beside_them() {
    for position in POSITIONS {
        let (scene, gate) = without_token(position, |configuration| {
            configuration["pending_requests"]["max_bytes"] = json!(5 * 1024 * 1024);
        })
        .await;
        // Each counts as a whole buffer of Envoy's; a fourth is more than three quarters, which
        // bodies may take.
        let upload = scene.request("POST", "/held");
        let uploads = [(); 3].map(|()| upload.open());
        held(&scene, 3).await;
        too_many(&scene.request("POST", "/over").open().finish().await);
        let others = [send(scene.get("/held")), send(upload.body("a body of a declared length"))];
        held(&scene, 5).await;
        gate.open();
        for upload in uploads {
            assert_eq!(arrived(&upload.finish().await, "authorization").len(), 1, "{position:?}");
        }
        for answer in others {
            assert_eq!(arrived(&answer.await.unwrap(), "authorization").len(), 1, "{position:?}");
        }
        assert_eq!((scene.seen("/held").len(), scene.seen("/over").len()), (5, 0), "{position:?}");
    }
}

/// Comes back when Envoy has seen the client go.
async fn gone(scene: &Scene, http2: bool, count: u64) {
    let stat = if http2 { "downstream_rq_rx_reset" } else { "downstream_cx_destroy_remote_active_rq" };
    scene.envoy.wait_for_stat(&format!("http.main.{stat}"), |seen| seen == count).await;
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_slot_and_takes_nothing_with_it() {
    for (position, http2) in
        [Position::Listener, Position::Cluster].into_iter().flat_map(|it| [(it, false), (it, true)])
    {
        let (scene, gate) = bounded(position, 3).await;
        let request = scene.request("POST", "/gone").bearer("own");
        let request = if http2 { request.http2() } else { request };
        // The one in the middle of its body, the other at the end of it.
        let (open, complete) = (request.open(), send(request.clone().body("whole")));
        open.send(vec![b'x'; 1000]).await;
        let stays = send(scene.get("/stays"));
        held(&scene, 3).await;
        too_many(&scene.get("/over").send().await);
        open.abort().await;
        gone(&scene, http2, 1).await;
        let next = send(scene.get("/stays"));
        held(&scene, 4).await;
        too_many(&scene.get("/over").send().await);
        complete.abort();
        gone(&scene, http2, 2).await;
        let last = send(scene.get("/stays"));
        held(&scene, 5).await;
        too_many(&scene.get("/over").send().await);
        assert!(![&stays, &next, &last].iter().any(|request| request.is_finished()), "{position:?} {http2}");
        gate.open();
        for answer in [stays, next, last] {
            assert_eq!(arrived(&answer.await.unwrap(), "authorization").len(), 1, "{position:?} {http2}");
        }
        assert_eq!(scene.idp.count(Endpoint::Token), 1, "the fetch continued: {position:?} {http2}");
        assert_eq!((scene.seen("/gone").len(), scene.seen("/over").len()), (0, 0), "{position:?} {http2}");
    }
}

#[tokio::test]
async fn when_every_waiting_client_has_gone_the_next_one_has_their_token() {
    for (position, http2) in [(Position::Listener, false), (Position::Cluster, true)] {
        let (scene, gate) = bounded(position, 3).await;
        let request = scene.request("POST", "/gone");
        let request = if http2 { request.http2() } else { request };
        let uploads: [Upload; 3] = [(); 3].map(|()| request.open());
        held(&scene, 3).await;
        for upload in uploads {
            upload.abort().await;
        }
        gone(&scene, http2, 3).await;
        gate.open();
        assert_eq!(arrived(&scene.get("/later").send().await, "authorization").len(), 1, "{position:?}");
        assert_eq!((scene.idp.count(Endpoint::Token), scene.seen("/gone").len()), (1, 0), "{position:?}");
    }
}

/// Envoy does not read its connection any more, and so does not learn that it was closed.
#[tokio::test]
async fn a_client_that_disconnects_behind_more_than_envoy_reads_keeps_its_slot_until_its_timeout() {
    let (scene, gate) = without_token(Position::Listener, |configuration| {
        // The next one comes, and is refused, within this.
        configuration["pending_requests"] = json!({ "timeout": "10s", "max": 1 });
    })
    .await;
    let upload = send(scene.request("POST", "/gone").body(vec![b'x'; 16 * 1024 * 1024]));
    held(&scene, 1).await;
    too_many(&scene.get("/over").send().await);
    upload.abort();
    let refused = "wasmcustom.m2m_auth_outbound.rule.any.decision.outbound_token_unavailable";
    scene.envoy.wait_for_stat(refused, |count| count == 1).await;
    let next = send(scene.get("/next"));
    held(&scene, 2).await;
    gate.open();
    assert_eq!(arrived(&next.await.unwrap(), "authorization").len(), 1);
    assert!(scene.seen("/gone").is_empty());
}

#[tokio::test]
async fn in_a_cluster_too_a_rule_says_whether_a_request_waits_fails_or_goes_without() {
    let rule = |path: &str, unavailable: &str| json!({ "match": { "path": path }, "credential": "order-service", "unavailable": unavailable });
    let (scene, gate) = without_token(Position::Cluster, |configuration| {
        configuration["outbound"]["rules"] =
            json!([rule("/hold", "hold"), rule("/fail", "fail"), rule("/pass", "danger_pass")]);
    })
    .await;
    let hold = send(scene.get("/hold").bearer("own"));
    held(&scene, 1).await;
    let fail = scene.get("/fail").bearer("own").send().await;
    assert!(retry_after(&fail) <= 5, "{fail:?}");
    let pass = scene.get("/pass").bearer("own").header("x-other", "kept").send().await;
    assert!(arrived(&pass, "authorization").is_empty(), "never the client's own: {pass:?}");
    assert_eq!(arrived(&pass, "x-other"), ["kept"]);
    assert!(!hold.is_finished());
    gate.open();
    let values = arrived(&hold.await.unwrap(), "authorization");
    assert!(values.len() == 1 && values[0].starts_with("Bearer ey"), "{values:?}");
    assert!(scene.seen("/fail").is_empty());
}
