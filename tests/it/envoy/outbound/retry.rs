//! As an upstream filter of the service's cluster, with a route that retries 401: a revoked token
//! costs no request.

use super::{arrived, outbound};
use crate::envoy::scene::{HAS_TOKEN, Scene, VMS, wasm};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

/// One retry, on 401 only.
pub(super) fn retrying() -> Value {
    let policy = json!({
        "retry_on": "retriable-status-codes",
        "retriable_status_codes": [401],
        "num_retries": 1,
    });
    envoy::route_config(vec![json!({
        "match": { "prefix": "/" },
        "route": { "cluster": "service", "retry_policy": policy },
    })])
}

async fn scene() -> Scene {
    let scene = scene_of(outbound).await;
    scene.logged(HAS_TOKEN, VMS).await;
    scene
}

async fn scene_of(configuration: impl FnOnce(&Idp) -> Value) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let filter = wasm(&configuration(&idp)).filter();
    let mut cluster = envoy::upstream_filters(envoy::cluster("service", upstream.address()), vec![filter]);
    // Envoy's default of 3 retries at a time would pass the other refusals on.
    cluster["circuit_breakers"] = json!({ "thresholds": [{ "max_retries": 1000 }] });
    let builder = envoy::Envoy::builder()
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(cluster)
        .listener(envoy::listener("main", vec![], retrying()));
    Scene::of(idp, upstream, builder).await
}

#[tokio::test]
async fn a_revoked_token_is_replaced_before_the_retry_and_the_client_sees_200() {
    let scene = scene().await;
    let first = arrived(&scene.get("/orders").send().await, "authorization").remove(0);
    scene.upstream.answer_when("authorization", &first, 401);
    let body = "x".repeat(30_000);
    let answer = scene.request("POST", "/orders").body(body.clone()).send().await;
    let second = arrived(&answer, "authorization").remove(0);
    assert_ne!(first, second);
    assert_eq!(scene.upstream.last().body, body.as_bytes(), "Envoy sends the body again");
    assert_eq!(scene.idp.count(Endpoint::Token), 2);
    let report = Load::of(scene.get("/orders")).connections(8).requests(80).run().await;
    assert!(report.only(200), "{report}");
    assert_eq!(scene.idp.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn a_service_that_refuses_the_new_token_too_is_believed_and_403_is_final() {
    let scene = scene().await;
    scene.upstream.answer_by(|_| Some(m2m_auth_kit::upstream::Reply::new(401, &[])));
    assert_eq!(scene.get("/orders").send().await.status, 401);
    assert_eq!(scene.seen("/orders").len(), 2, "one retry, no loop");
    let fetched = scene.idp.count(Endpoint::Token);
    assert_eq!(fetched, 2);
    scene.upstream.echo();
    scene.upstream.answer_by(|_| Some(m2m_auth_kit::upstream::Reply::new(403, &[])));
    assert_eq!(scene.get("/admin").send().await.status, 403);
    assert_eq!((scene.seen("/admin").len(), scene.idp.count(Endpoint::Token)), (1, fetched));
}

#[tokio::test]
async fn under_load_a_revocation_costs_no_request() {
    let scene = scene().await;
    let load = Load::of(scene.get("/orders")).connections(16).rate(200.0).start();
    load.proceed(100).await;
    let first = scene.upstream.last().header("authorization").unwrap();
    scene.upstream.answer_when("authorization", &first, 401);
    load.proceed(300).await;
    let report = load.stop().await;
    assert!(report.only(200), "{report}");
    assert_eq!(scene.idp.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn an_exchange_is_tried_again_only_where_the_subject_token_is_forwarded() {
    for (forward, status) in [(true, 200), (false, 401)] {
        let scene = scene_of(|idp| {
            let mut configuration = outbound(idp);
            configuration["outbound"]["credentials"]["order-service"] = json!({
                "issuer": "keycloak", "grant_type": "token_exchange", "client_id": "inventory-service",
                "client_secret": { "inline": "inventory-secret" }, "audience": "payment-service",
                "scopes": ["payment-api"], "subject_token": { "header": "x-subject-token" },
                "forward_subject_token": forward,
            });
            configuration
        })
        .await;
        let request = || scene.get("/charge").header("x-subject-token", scene.idp.token());
        scene.upstream.answer_next(1, 401, &[]);
        let answer = request().send().await;
        assert_eq!(answer.status, status, "forwarded: {forward}: {}", answer.text());
        assert_eq!(scene.seen("/charge").len(), if forward { 2 } else { 1 });
    }
}
