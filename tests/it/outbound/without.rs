//! What happens to a request while there is no token for it.

use crate::scene::{Scene, arrived, listener, outbound, retry_after, send};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::time::Duration;

/// A rule for each way to be without a token.
fn ways(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["waiting"] = json!({ "timeout": "2s" });
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
    idp.fault(Endpoint::Token, Fault::Slow(Duration::from_secs(1)));
    let scene = Scene::with(idp, upstream, outbound).await;
    let running: Vec<_> = (0..20).map(|_| send(scene.get("/orders"))).collect();
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
    let scene = Scene::with(idp, upstream, ways).await;
    scene.idp.wait_for(Endpoint::Token, 1).await;
    // Whoever waits is answered when its time is up, and everybody else in the meantime.
    let hold = send(scene.get("/hold"));
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
    assert!(retry_after(&hold.await.unwrap()) <= 5);
    for path in ["/hold", "/fail"] {
        assert!(scene.seen(path).is_empty(), "{path} has reached the service without a token");
    }
    let entries = scene.envoy.access_log();
    let failed = entries.iter().find(|entry| entry["path"] == "/fail").unwrap();
    assert_eq!(failed["details"], "m2m_auth_no_outbound_token");
}

#[tokio::test]
async fn a_wrong_secret_is_told_to_the_operator_in_the_providers_words_and_never_shown() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let configuration = |idp: &Idp| {
        let mut configuration = outbound(idp);
        configuration["outbound"]["credentials"]["order-service"]["client_secret"] =
            json!({ "inline": "wrong-5ecret" });
        configuration
    };
    let scene = Scene::with(idp, upstream, configuration).await;
    let answer = scene.get("/orders").send().await;
    assert!(retry_after(&answer) <= 60, "{answer:?}");
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
    // What only an operator can mend is not asked for again and again.
    assert!(scene.idp.count(Endpoint::Token) <= 2, "{} fetches", scene.idp.count(Endpoint::Token));
}

#[tokio::test]
async fn an_odd_answer_is_never_attached_and_always_logged() {
    let good = json!({ "access_token": "hush-5ecret", "token_type": "Bearer", "expires_in": 300 });
    let body = |change: &dyn Fn(&mut Value)| {
        let mut answer = good.clone();
        change(&mut answer);
        Fault::Body(answer.to_string())
    };
    let table = [
        ("no-json", Fault::Garbage, "not a JSON object"),
        ("html", Fault::Html, "not a JSON object"),
        ("empty", body(&|answer| answer["access_token"] = json!("")), "access_token is empty"),
        (
            "newline",
            body(&|answer| answer["access_token"] = json!("hush-5ecret\r\nx-evil: 1")),
            "a header cannot",
        ),
        ("dpop", body(&|answer| answer["token_type"] = json!("DPoP")), "token_type is DPoP"),
        ("ended", body(&|answer| answer["expires_in"] = json!(0)), "has ended already"),
        ("error", body(&|answer| answer["error"] = json!("invalid_scope")), "invalid_scope"),
    ];
    // One provider for each, so that they all answer at once; their keys are never used.
    let (mut providers, upstream) = (Vec::new(), Upstream::start().await);
    let mut builder = Envoy::builder().cluster(envoy::cluster("service", upstream.address()));
    let mut configuration = json!({ "issuers": {}, "outbound": { "credentials": {}, "rules": [] } });
    for (name, fault, _) in &table {
        let idp = Idp::start().await;
        idp.fault(Endpoint::Token, fault.clone());
        builder = builder.cluster(envoy::cluster(name, idp.address()));
        configuration["issuers"][name] =
            json!({ "issuer": idp.issuer(), "cluster": name, "token_endpoint": idp.url(Endpoint::Token) });
        configuration["outbound"]["credentials"][name] = json!({ "issuer": name, "client_id": "order-service", "client_secret": { "inline": "order-secret" } });
        let rule = json!({ "match": { "path": format!("/{name}") }, "credential": name });
        configuration["outbound"]["rules"].as_array_mut().unwrap().push(rule);
        providers.push(idp);
    }
    let envoy = builder.listener(listener(&Wasm::new(&configuration))).start().await.unwrap();
    let ask = |name: &str| send(client::get(envoy.url("main", &format!("/{name}"))).bearer("own"));
    let answers: Vec<_> = table.iter().map(|(name, ..)| (*name, ask(name))).collect();
    for (name, answer) in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        assert!(retry_after(&answer) <= 30, "{name}: {answer:?}");
    }
    for (name, _, words) in &table {
        let line = envoy.wait_for_log(&format!("token of credential {name}: ")).await;
        assert!(line.contains(words), "{name}: {line}");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.requests());
    let log = envoy.logs();
    assert!(!log.contains("5ecret") && !log.contains("x-evil"), "a body is in the log");
}
