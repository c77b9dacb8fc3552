//! What happens to a request while there is no token for it.

use crate::envoy::scene::{
    Scene, arrived, builder, gated, listener, listener_named, outbound, retry_after, send, wasm,
};
use m2m_auth_kit::client;
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::{now, until};
use serde_json::{Value, json};

/// A rule for each way to be without a token.
fn ways(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["outbound"]["rules"] = json!([
        { "match": { "path": "/hold" }, "credential": "order-service" },
        { "match": { "path": "/fail" }, "credential": "order-service", "unavailable": "fail" },
        { "match": { "path": "/pass" }, "credential": "order-service", "unavailable": "danger_pass" },
        { "match": { "path": "/keep" }, "credential": "order-service", "unavailable": "fail", "existing": "keep" },
        { "match": { "path": "/header" }, "credential": "order-service", "unavailable": "danger_pass", "header": "x-token" },
    ]);
    configuration
}

#[tokio::test]
async fn a_request_waits_for_a_slow_provider_and_leaves_with_its_token() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Token]);
    let scene = Scene::with(idp, upstream, outbound).await;
    let running: Vec<_> = (0..20).map(|_| send(scene.get("/orders"))).collect();
    scene.held(20).await;
    gate.open();
    for answer in running {
        let values = arrived(&answer.await.unwrap(), "authorization");
        assert!(values.len() == 1 && values[0].starts_with("Bearer ey"), "{values:?}");
    }
    assert_eq!(scene.idp.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn a_rule_says_whether_a_request_waits_fails_or_goes_without() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Token, Fault::Hang);
    // The same with little patience.
    let mut brief = ways(&idp);
    brief["pending_requests"] = json!({ "timeout": "1s" });
    let builder = builder(&idp, &upstream)
        .listener(listener(&wasm(&ways(&idp))))
        .listener(listener_named("brief", &wasm(&brief)));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.idp.wait_for(Endpoint::Token, 1).await;
    // A waiting request is answered when it times out, and all others in the meantime.
    let hold = send(scene.get("/hold"));
    scene.held(1).await;
    for request in [scene.get("/fail"), scene.get("/fail").bearer("own"), scene.get("/keep")] {
        assert!(retry_after(&request.send().await) <= 5);
    }
    let pass = scene.get("/pass").bearer("own").header("x-other", "kept").send().await;
    assert!(arrived(&pass, "authorization").is_empty(), "never the client's own: {pass:?}");
    assert_eq!(arrived(&pass, "x-other"), ["kept"]);
    let header = scene.get("/header").header("x-token", "own").bearer("own").send().await;
    assert!(arrived(&header, "x-token").is_empty(), "{header:?}");
    assert_eq!(arrived(&header, "authorization"), ["Bearer own"], "the rule is about another header");
    assert_eq!(arrived(&scene.get("/keep").bearer("own").send().await, "authorization"), ["Bearer own"]);
    assert!(!hold.is_finished(), "it waits for its time");
    let over = client::get(scene.envoy.url("brief", "/hold")).send().await;
    assert!(retry_after(&over) <= 5);
    for path in ["/hold", "/fail"] {
        assert!(scene.seen(path).is_empty(), "{path} has reached the service without a token");
    }
    let logged = async || scene.envoy.access_log().into_iter().find(|entry| entry["path"] == "/fail");
    let failed = until("it is in the access log", logged).await;
    assert_eq!(failed["details"], "m2m_auth_outbound_token_unavailable");
}

#[tokio::test]
async fn a_wrong_secret_is_logged_in_the_providers_words_and_never_printed() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let configuration = |idp: &Idp| {
        let mut configuration = outbound(idp);
        configuration["outbound"]["credentials"]["order-service"]["client_secret"] =
            json!({ "inline": "wrong-5ecret" });
        configuration
    };
    let begun = now();
    let scene = Scene::with(idp, upstream, configuration).await;
    let answer = scene.get("/orders").send().await;
    // Any backoff of an error that only an operator can fix: how many there have been depends on
    // timing.
    assert!(retry_after(&answer) <= 300, "{answer:?}");
    assert!(scene.seen("/orders").is_empty());
    let line = scene.envoy.wait_for_log("unauthorized_client").await;
    for part in ["token of credential order-service", "401", "Invalid client or Invalid client credentials"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let log = scene.envoy.logs();
    // `order-service:wrong-5ecret` in base64.
    for secret in ["wrong-5ecret", "b3JkZXItc2VydmljZTp3cm9uZy01ZWNyZXQ"] {
        assert!(!log.contains(secret) && !format!("{answer:?}").contains(secret));
    }
    // What only an operator can fix is retried slowly: 15 s later on average, then 30 s.
    let (fetches, elapsed) = (scene.idp.count(Endpoint::Token), begun.elapsed());
    assert!(u64::try_from(fetches).unwrap() <= 2 + elapsed.as_secs() / 5, "{fetches} fetches in {elapsed:?}");
}
