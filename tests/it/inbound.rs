//! Inbound on real Envoy: who gets through, who does not, and what they are told.

use crate::scene::{Scene, inbound};
use serde_json::json;

#[tokio::test]
async fn a_good_token_reaches_the_service_and_no_token_is_a_bare_challenge() {
    let scene = Scene::start(inbound).await;
    let good = scene.get("/inventory/items").bearer(scene.idp.token()).send().await;
    assert_eq!(good.status, 200, "{}\n{}", good.text(), scene.envoy.logs());
    let missing = scene.get("/inventory/items").send().await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.header("www-authenticate").as_deref(), Some("Bearer realm=\"m2m\""));
    assert_eq!(missing.json()["error"], json!("Missing token"));
    assert_eq!(scene.upstream.count(), 1);
}
