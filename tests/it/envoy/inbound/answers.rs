//! What a refused caller is answered, and what is logged.

use super::{challenge, stage};
use m2m_auth_kit::client::{self, Connection};
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

#[tokio::test]
async fn the_answer_to_a_caller_without_the_role_or_the_scope_names_what_was_missing() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let role = stage.scene.get("/inventory/admin").bearer(&token).send().await;
    assert_eq!(role.status, 403, "{role:?}");
    assert_eq!(
        challenge(&role),
        "Bearer realm=\"m2m\", error=\"insufficient_scope\", \
         error_description=\"required role of client inventory-service: inventory:admin\""
    );
    let body = json!({
        "error": "Insufficient permissions",
        "reason": "client_role",
        "message": "required role of client inventory-service: inventory:admin",
    });
    assert_eq!(role.json(), body);
    let scope = stage
        .scene
        .get("/orders")
        .bearer(stage.mint(|claims| claims["scope"] = json!("orders:read")))
        .send()
        .await;
    assert_eq!(scope.status, 403, "{scope:?}");
    assert_eq!(
        challenge(&scope),
        "Bearer realm=\"m2m\", error=\"insufficient_scope\", \
         error_description=\"required scope: all of orders:read, orders:write\", scope=\"orders:read orders:write\""
    );
    assert_eq!(scope.json()["reason"], "scope");
    for scopes in [json!("orders:write x orders:read"), json!(["orders:read", "orders:write"])] {
        let token = stage.mint(|claims| claims["scope"] = scopes.clone());
        assert_eq!(stage.scene.get("/orders").bearer(token).send().await.status, 200, "{scopes}");
    }
    let admin = |claims: &mut Value| {
        claims["resource_access"]["inventory-service"]["roles"] = json!(["inventory:admin"]);
    };
    assert_eq!(stage.scene.get("/inventory/admin?admin").bearer(stage.mint(admin)).send().await.status, 200);
}

#[tokio::test]
async fn every_refusal_is_json_in_the_documented_shape_that_nobody_may_store() {
    let stage = stage().await;
    let (scene, token) = (&stage.scene, stage.scene.idp.token());
    for (request, status, error) in [
        (scene.get("/inventory"), 401, "Missing token"),
        (scene.get("/inventory").bearer("x"), 401, "Invalid token"),
        (scene.get("/inventory/admin").bearer(&token), 403, "Insufficient permissions"),
        (scene.get("/nowhere"), 403, "Forbidden"),
        (scene.get("/inventory%2fadmin"), 400, "Invalid request"),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{error}: {answer:?}");
        assert_eq!(answer.headers_named("content-type"), ["application/json"], "{error}");
        assert_eq!(answer.headers_named("cache-control"), ["no-store"], "{error}");
        assert!(answer.headers_named("www-authenticate").len() <= 1, "{error}: {answer:?}");
        let body = answer.json();
        assert_eq!(body["error"], error);
        let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["error", "message", "reason"], "{error}");
        assert!(body["reason"].is_string() && body["message"].is_string(), "{error}: {body}");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_and_the_connection_stays_usable() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.scene.envoy.address("main")).await.unwrap();
    let head = connection.exchange(&stage.scene.request("HEAD", "/inventory")).await.unwrap();
    assert_eq!((head.status, challenge(&head).as_str()), (401, "Bearer realm=\"m2m\""));
    let get = connection.exchange(&stage.scene.get("/inventory")).await.unwrap();
    assert_eq!((get.status, &get.json()["error"]), (401, &json!("Missing token")));
    let good = stage.scene.request("HEAD", "/inventory").bearer(stage.scene.idp.token());
    assert_eq!(connection.exchange(&good).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_grpc_client_is_answered_in_its_own_words() {
    let stage = stage().await;
    let call = stage.scene.request("POST", "/Stock/Get").http2();
    let call = call.header("content-type", "application/grpc").header("te", "trailers").body(vec![0; 5]);
    let poor = stage.mint(|claims| claims["resource_access"] = json!({}));
    for (call, status) in [
        (call.clone(), "16"),
        (call.clone().bearer("garbage"), "16"),
        (call.clone().bearer(poor), "7"),
        (call.clone().bearer(stage.scene.idp.token()), "0"),
    ] {
        let answer = call.send().await;
        assert_eq!(
            (answer.status, answer.header("grpc-status").as_deref()),
            (200, Some(status)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_access_log_says_why_a_request_was_refused() {
    let stage = stage().await;
    let (scene, token) = (&stage.scene, stage.scene.idp.token());
    let expected = [
        (scene.get("/inventory?log=0"), "m2m_auth_no_token"),
        (scene.get("/inventory?log=1").bearer("garbage"), "m2m_auth_invalid_token"),
        (scene.get("/inventory/admin?log=2").bearer(&token), "m2m_auth_insufficient_permissions"),
        (scene.get("/nowhere?log=3"), "m2m_auth_no_rule"),
        (scene.get("/inventory%2f?log=4"), "m2m_auth_ambiguous_path"),
        (scene.get("/inventory?log=5").bearer(&token), "via_upstream"),
        (
            scene.get("/inventory?log=6").bearer(format!("{token}, Bearer {token}")),
            "m2m_auth_multiple_credentials",
        ),
        (scene.get("/tenants?log=7").bearer(&token), "m2m_auth_insufficient_permissions"),
        (
            client::get(scene.envoy.url("problems", "/.well-known/oauth-protected-resource?log=8")),
            "m2m_auth_resource_metadata",
        ),
    ];
    for (request, _) in &expected {
        request.send().await;
    }
    for (number, (_, details)) in expected.iter().enumerate() {
        let entry = until("the request is in the access log", async || {
            let of_this = format!("?log={number}");
            let entries = scene.envoy.access_log();
            entries
                .into_iter()
                .find(|entry| entry["path"].as_str().is_some_and(|path| path.ends_with(&of_this)))
        });
        assert_eq!(entry.await["details"], *details);
    }
}
