//! The shipped module, without the exports that the filter does not need, behaves as the linked
//! one.

use crate::envoy::scene::{Scene, builder, issuers, listener_named, wasm};
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::token::{Mint, now};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{module, repository};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What the linker left; `make wasm` makes the shipped module from it.
fn linked() -> PathBuf {
    let linked = repository().join("target/wasm32-wasip1/release/m2m_auth.wasm");
    assert!(linked.is_file(), "`make wasm` leaves the linked module at {}", linked.display());
    linked
}

fn configuration(idp: &Idp) -> Value {
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [
            { "match": { "path_prefix": "/public" }, "allow": true },
            {
                "match": { "path_prefix": "/inventory" },
                "require": {
                    "issuer": "keycloak",
                    "audiences": ["inventory-service"],
                    "client_roles": { "inventory-service": ["inventory:read"] },
                },
                "claims_to_headers": { "x-caller": "azp" },
                "forward_token": false,
            },
            { "match": { "path_prefix": "/orders" },
              "require": { "issuer": "keycloak", "audiences": ["inventory-service"], "scopes": ["orders:read"] } },
        ] },
        "outbound": {
            "credentials": { "order-service": {
                "issuer": "keycloak", "client_id": "order-service", "client_secret": { "env": "ORDER_SERVICE_SECRET" },
            } },
            "rules": [{ "match": { "path_prefix": "/public/out" }, "credential": "order-service", "header": "x-token" }],
        },
    })
}

/// Everything of an answer that does not depend on the moment.
fn lasting(answer: &Response) -> (u16, Vec<(String, String)>, Value) {
    let of_the_moment = ["date", "x-envoy-upstream-service-time", "content-length"];
    let headers = answer.headers.iter().filter(|(name, _)| !of_the_moment.contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect();
    let mut body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| json!(answer.text()));
    if let Some(echoed) = body.get_mut("headers").and_then(Value::as_array_mut) {
        echoed.retain(|pair| pair[0] != "x-request-id");
        // Each worker has fetched a token of its own.
        echoed.iter_mut().filter(|pair| pair[0] == "x-token").for_each(|pair| pair[1] = json!("a token"));
    }
    (answer.status, headers, body)
}

#[tokio::test]
async fn the_trimmed_module_answers_as_the_untrimmed_one() {
    let shipped = module();
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let filter = wasm(&configuration(&idp));
    let builder = builder(&idp, &upstream)
        .listener(listener_named("main", &filter.clone().module(shipped)))
        .listener(listener_named("linked", &filter.module(linked()).vm_id("linked")));
    let scene = Scene::of(idp, upstream, builder).await;
    let mint = |change: &dyn Fn(&mut Value)| {
        let mut claims = scene.idp.claims();
        change(&mut claims);
        scene.idp.mint(claims)
    };
    let good = scene.idp.token();
    let expired = mint(&|claims| claims["exp"] = json!(now() - 120));
    let poor = mint(&|claims| claims["resource_access"] = json!({}));
    let forged = scene.idp.mint_with(
        &Mint::of(scene.idp.claims()).key(&Idp::foreign_key().with_kid(scene.idp.signing_key().kid())),
    );
    let large = vec![7; 300 * 1024];
    let table = |listener: &str| {
        let to = |method: &str, path: &str| {
            Request::new(method, scene.envoy.url(listener, path)).header("host", "service")
        };
        let get = |path: &str| to("GET", path);
        [
            (200, get("/inventory/items").bearer(&good)),
            (200, get("/inventory/items").bearer(&good).header("x-caller", "root")),
            (200, to("POST", "/inventory/items").bearer(&good).body(large.clone())),
            (200, to("POST", "/inventory/items").bearer(&good).body(large.clone()).http2()),
            (200, to("HEAD", "/inventory/items").bearer(&good)),
            (200, get("/public")),
            (200, get("/public/out").header("x-token", "own")),
            (200, to("POST", "/public/out").body("{}")),
            (200, to("POST", "/inventory").header("content-type", "application/grpc").http2()),
            (401, get("/inventory")),
            (401, to("HEAD", "/inventory")),
            (401, to("POST", "/inventory").body("{}")),
            (401, get("/inventory").bearer("garbage")),
            (401, get("/inventory").bearer(&expired)),
            (401, get("/inventory").bearer(&forged)),
            (401, get("/inventory").header("authorization", b"Bearer \xff")),
            (403, get("/inventory").bearer(&poor)),
            (403, get("/orders").bearer(&good)),
            (403, get("/elsewhere").bearer(&good)),
            (400, get("/inventory%2fitems").bearer(&good)),
        ]
    };
    for ((status, shipped), (_, linked)) in table("main").into_iter().zip(table("linked")) {
        let (trimmed, untrimmed) = (lasting(&shipped.send().await), lasting(&linked.send().await));
        assert_eq!(trimmed.0, status, "{shipped:?}: {trimmed:?}");
        assert_eq!(trimmed, untrimmed, "{shipped:?}");
    }
    let log = scene.envoy.logs();
    assert!(!log.contains("Function: proxy_on"), "a VM has fallen:\n{log}");
}
