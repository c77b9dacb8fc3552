//! Token introspection (RFC 7662), on real Envoy.

use super::challenge;
use crate::envoy::scene::{Scene, arrived, inbound, retry_after, send};
use m2m_auth_kit::client::Response;
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::token::now;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// Answers count for as long as they may; the client's own id is handed on.
fn configuration(idp: &Idp, introspect: &str) -> Value {
    let mut configuration = inbound(idp);
    configuration["issuers"]["keycloak"]["introspection"] = json!({
        "client_id": "inventory-service", "client_secret": { "inline": "inventory-secret" },
        "cache": "300s", "negative_cache": "300s",
    });
    let rule = &mut configuration["inbound"]["rules"][0];
    rule["require"]["introspect"] = json!(introspect);
    rule["claims_to_headers"] = json!({ "x-client": "client_id" });
    configuration
}

async fn scene(introspect: &str) -> Scene {
    Scene::start(|idp| configuration(idp, introspect)).await
}

async fn call(scene: &Scene, token: &str) -> Response {
    scene.get("/inventory/items").bearer(token).send().await
}

fn refusal(answer: &Response) -> (u16, Value) {
    (answer.status, answer.json()["reason"].clone())
}

#[tokio::test]
async fn an_opaque_token_is_a_caller_like_any_other() {
    let scene = scene("opaque").await;
    let token = scene.idp.opaque(scene.idp.claims());
    let answer = call(&scene, &token).await;
    assert_eq!(arrived(&answer, "x-client"), ["order-service"], "{}", scene.envoy.logs());
    let asked = scene.idp.last(Endpoint::Introspection);
    assert_eq!(asked.parameter("token").as_deref(), Some(token.as_str()));
    assert_eq!(asked.parameter("token_type_hint").as_deref(), Some("access_token"));
    assert!(asked.header("authorization").unwrap().starts_with("Basic "));
    let with = |name: &str, value: Value| {
        let mut claims = scene.idp.claims();
        claims[name] = value;
        scene.idp.opaque(claims)
    };
    let nothing = json!({ "inventory-service": { "roles": [] } });
    for (token, status, reason) in [
        (with("aud", json!("other")), 401, "audience"),
        (with("resource_access", nothing), 403, "client_role"),
        (with("typ", json!("Refresh")), 401, "not_access_token"),
        (with("exp", json!(now() - 1)), 401, "inactive"),
        ("made-up".to_owned(), 401, "inactive"),
    ] {
        assert_eq!(refusal(&call(&scene, &token).await), (status, json!(reason)));
    }
    let refused = call(&scene, "made-up").await;
    let expected =
        "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"the token is not active\"";
    assert_eq!(challenge(&refused), expected);
    let jwt = scene.idp.token();
    let before = scene.idp.count(Endpoint::Introspection);
    assert_eq!(call(&scene, &jwt).await.status, 200);
    assert_eq!(scene.idp.count(Endpoint::Introspection), before, "a JWT speaks for itself");
}

#[tokio::test]
async fn a_revoked_token_is_refused_when_its_answer_ends() {
    for introspect in ["opaque", "always"] {
        let scene = Scene::start(|idp| {
            let mut configuration = configuration(idp, introspect);
            configuration["issuers"]["keycloak"]["introspection"]["cache"] = json!("1s");
            configuration
        })
        .await;
        let (opaque, jwt) = (scene.idp.opaque(scene.idp.claims()), scene.idp.token());
        let token = if introspect == "always" { jwt } else { opaque };
        assert_eq!(call(&scene, &token).await.status, 200, "{}", scene.envoy.logs());
        scene.idp.revoke(&token);
        let refused = async || Some(call(&scene, &token).await).filter(|answer| answer.status != 200);
        let answer = until("the token is refused", refused).await;
        assert_eq!(refusal(&answer), (401, json!("inactive")), "{introspect}");
        assert!(!scene.envoy.logs().contains(&token));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_503_and_no_callers_fault() {
    let scene = scene("opaque").await;
    scene.idp.fault(Endpoint::Introspection, Fault::Status(500, String::new()));
    let token = scene.idp.opaque(scene.idp.claims());
    let answer = call(&scene, &token).await;
    assert!(retry_after(&answer) >= 1);
    assert_eq!(answer.json()["reason"], "introspection_unavailable");
    scene.idp.fault(Endpoint::Introspection, Fault::None);
    let passed = async || Some(call(&scene, &token).await).filter(|answer| answer.status == 200);
    until("the token is taken", passed).await;
}

#[tokio::test]
async fn tokens_that_the_provider_fails_at_cost_other_callers_nothing() {
    let scene = scene("opaque").await;
    let status = |status| Fault::Status(status, String::new());
    let faults = [status(500), status(404), status(406), status(413), status(429), Fault::Html];
    let mut poisoned = Vec::new();
    for fault in faults.iter().cycle().take(36) {
        let poison = scene.idp.opaque(scene.idp.claims());
        scene.idp.fault_for(&poison, fault.clone());
        poisoned.push(send(scene.get("/inventory/items").bearer(&poison)));
    }
    for n in 0..20 {
        let token = scene.idp.opaque(scene.idp.claims());
        let answer = call(&scene, &token).await;
        assert_eq!(answer.status, 200, "caller {n}: {}\n{}", answer.text(), scene.envoy.logs());
    }
    for answer in poisoned {
        let answer = answer.await.unwrap();
        assert_eq!(refusal(&answer), (503, json!("introspection_unavailable")));
    }
}

#[tokio::test]
async fn requests_with_one_token_share_one_question_in_each_worker() {
    let scene = scene("opaque").await;
    let gate = m2m_auth_kit::idp::Gate::default();
    scene.idp.fault(Endpoint::Introspection, Fault::Gated(gate.clone()));
    let token = scene.idp.opaque(scene.idp.claims());
    let sent: Vec<_> = (0..40).map(|_| send(scene.get("/inventory/items").bearer(&token))).collect();
    let asked = async || (scene.idp.count(Endpoint::Introspection) > 0).then_some(());
    until("the provider is asked", asked).await;
    gate.open();
    for answer in sent {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert!(scene.idp.count(Endpoint::Introspection) <= 2, "one for each of two workers");
}

#[tokio::test]
async fn only_what_a_signature_has_proven_is_forwarded_as_a_payload() {
    for introspect in ["opaque", "always"] {
        let scene = Scene::start(|idp| {
            let mut configuration = configuration(idp, introspect);
            configuration["inbound"]["rules"][0]["payload_header"] = json!("x-payload");
            configuration
        })
        .await;
        let jwt = scene.idp.token();
        let answer = call(&scene, &jwt).await;
        assert_eq!(arrived(&answer, "x-payload"), [jwt.split('.').nth(1).unwrap()], "{}", scene.envoy.logs());
        // Its claims name another caller, but the issuer treats it as an opaque string.
        let dotted = format!("opaque.{}.token", jwt.split('.').nth(1).unwrap());
        let answer = call(&scene, &scene.idp.opaque_as(&dotted, scene.idp.claims())).await;
        assert_eq!(arrived(&answer, "x-client"), ["order-service"]);
        assert_eq!(arrived(&answer, "x-payload"), [""; 0], "{introspect}");
    }
}

#[tokio::test]
async fn of_several_issuers_the_first_that_can_be_is_asked_about_an_opaque_token() {
    let scene = Scene::start(|idp| {
        let mut configuration = configuration(idp, "opaque");
        let mut silent = configuration["issuers"]["keycloak"].clone();
        silent.as_object_mut().unwrap().remove("introspection");
        silent["issuer"] = json!("https://silent.example.com");
        silent["jwks_uri"] = json!(idp.url(Endpoint::Keys));
        configuration["issuers"]["silent"] = silent;
        let require = configuration["inbound"]["rules"][0]["require"].as_object_mut().unwrap();
        require.remove("issuer");
        require.remove("introspect");
        require.insert("issuers".to_owned(), json!(["silent", "keycloak"]));
        configuration
    })
    .await;
    let with_issuer = |iss: &str| {
        let mut claims = scene.idp.claims();
        claims["iss"] = json!(iss);
        claims
    };
    let token = scene.idp.opaque(scene.idp.claims());
    assert_eq!(call(&scene, &token).await.status, 200, "{}", scene.envoy.logs());
    let anothers = scene.idp.opaque(with_issuer("https://silent.example.com"));
    assert_eq!(refusal(&call(&scene, &anothers).await), (401, json!("issuer")));
    let before = scene.idp.count(Endpoint::Introspection);
    let jwt = scene.idp.mint(with_issuer("https://silent.example.com"));
    assert_eq!(call(&scene, &jwt).await.status, 200, "a JWT names its own issuer");
    assert_eq!(scene.idp.count(Endpoint::Introspection), before);
}
