//! Outbound on real Envoy: tokens fetched, kept and attached.

use crate::scene::{Scene, outbound};

#[tokio::test]
async fn a_plain_request_leaves_with_a_token() {
    let scene = Scene::start(outbound).await;
    let answer = scene.get("/inventory/items").send().await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    let sent = scene.upstream.last().header("authorization").unwrap();
    assert!(sent.starts_with("Bearer ey"), "{sent}");
}
