//! Inbound on real Envoy: which requests are forwarded, which are refused, and how.

mod access;
mod answers;
mod bound;
mod dpop;
mod filter_state;
mod handing_on;
mod introspection;
mod issuers;
mod modes;
mod paths;
mod readings;
mod requests;
mod resource;
mod token_locations;
mod tokens;
mod waiting;

use crate::envoy::scene::{Scene, Shared, builder, inbound, issuers, listener_named, wasm};
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::sync::Arc;

/// One Envoy for every test that changes nothing, and the keys that its provider publishes beside
/// the one it signs with.
struct Stage {
    scene: Scene,
    others: Vec<Key>,
}

static STAGE: Shared<Stage> = Shared::new();

async fn stage() -> Arc<Stage> {
    let start = async || {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let algorithms = [Alg::Rs512, Alg::Ps256, Alg::Es256, Alg::Es256, Alg::EdDsa];
        let others: Vec<_> = algorithms.into_iter().map(Key::new).collect();
        for key in &others {
            idp.publish_jwk(key.jwk());
        }
        let http2 = envoy::http2(envoy::cluster("service-http2", upstream.address()));
        let routes = vec![
            json!({ "match": { "prefix": "/Stock" }, "route": { "cluster": "service-http2" } }),
            json!({ "match": { "prefix": "/" }, "route": { "cluster": "service" } }),
        ];
        let filter = wasm(&configuration(&idp)).filter();
        let listener = envoy::listener("main", vec![filter], envoy::route_config(routes));
        let mut audited = inbound(&idp);
        audited["inbound"]["rules"][0]["name"] = json!("audited");
        let audited = listener_named("audited", &wasm(&audited));
        let mut problems = listener_named("problems", &wasm(&with_problems(configuration(&idp))));
        envoy::manager_mut(&mut problems)["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }]);
        let builder =
            builder(&idp, &upstream).cluster(http2).listener(listener).listener(audited).listener(problems);
        Stage { scene: Scene::of(idp, upstream, builder).await, others }
    };
    STAGE.get(start).await
}

/// Rules of every kind, the narrow ones first.
fn configuration(idp: &Idp) -> Value {
    let with = |more: Value| {
        let mut require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
        require.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        require
    };
    let role = |role: &str| with(json!({ "client_roles": { "inventory-service": [role] } }));
    let identity =
        json!({ "x-subject": "sub", "x-client": "azp", "x-level": "level", "x-names": ["some.names"] });
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [
            { "name": "open-hosts", "match": { "host": "*.open.example.com" }, "allow": true },
            { "name": "operators", "match": { "host": "admin.example.com" },
              "require": with(json!({ "roles": ["operator"] })) },
            { "name": "admin", "match": { "path_prefix": "/inventory/admin" }, "require": role("inventory:admin") },
            { "name": "writes", "match": { "path_prefix": "/inventory", "methods": ["POST", "PUT"] },
              "require": role("inventory:write") },
            { "name": "reads", "match": { "path_prefix": "/inventory" }, "require": role("inventory:read") },
            { "name": "grpc", "match": { "path_prefix": "/Stock" }, "require": role("inventory:read") },
            { "name": "orders", "match": { "path_prefix": "/orders" },
              "require": with(json!({ "scopes": ["orders:read", "orders:write"] })) },
            { "name": "tenants", "match": { "path_prefix": "/tenants" }, "require": with(json!({
                "claims": [
                    { "claim": "tenant", "equals": { "header": "x-tenant" } },
                    { "claim": ["https://example.com/level"], "at_least": 2 },
                ],
                "any": [{ "roles": ["admin"] }, { "scopes": { "any_of": ["tenants:*"], "glob": true } }],
            })) },
            { "name": "own", "match": { "path_template": "/customers/{tenant}/orders" }, "require": with(json!({
                "claims": [{ "claim": "tenant", "equals": { "path": "tenant" } }],
            })) },
            { "name": "identity", "match": { "path": "/identity" }, "require": with(json!({})),
              "claims_to_headers": identity, "forward_token": false },
            { "name": "order-items", "match": { "path_template": "/shop/{order}/items" },
              "require": role("inventory:write") },
            { "name": "shop", "match": { "path_template": "/shop/**" }, "require": role("inventory:read") },
            { "name": "grpc-delete", "match": { "path": "/shop.v1.Orders/Delete" }, "require": role("inventory:write") },
            { "name": "grpc-orders", "match": { "path_prefix": "/shop.v1.Orders" }, "require": role("inventory:read") },
            { "name": "public", "match": { "path_prefix": "/public" }, "allow": true },
        ] },
    })
}

/// The same, with error responses of RFC 9457 and protected resource metadata.
fn with_problems(mut configuration: Value) -> Value {
    configuration["inbound"]["error_format"] = json!("problem");
    configuration["inbound"]["resource_metadata"] = json!({
        "resource": "https://api.example.com/inventory",
        "scopes_supported": ["orders:read", "orders:write"],
        "resource_name": "Inventory",
    });
    configuration
}

impl Stage {
    /// The claims of a good caller.
    fn claims(&self) -> Value {
        self.scene.idp.claims()
    }

    fn mint(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.scene.idp.mint(claims)
    }

    /// Asserts that the filter answers, and that the service gets no request.
    async fn refused(&self, request: &Request, path: &str) -> Response {
        let answer = request.send().await;
        assert!(answer.status >= 400, "{path}: {answer:?}");
        assert!(self.scene.seen(path).is_empty(), "{path} has reached the service");
        answer
    }
}

fn challenge(answer: &Response) -> String {
    answer.header("www-authenticate").unwrap_or_default()
}

#[tokio::test]
async fn a_good_token_reaches_the_service_and_no_token_is_a_bare_challenge() {
    let stage = stage().await;
    let good = stage.scene.get("/inventory/items?first").bearer(stage.scene.idp.token()).send().await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(good.json()["path"], "/inventory/items?first");
    let path = "/inventory/items?bare";
    let missing = stage.refused(&stage.scene.get(path), path).await;
    assert_eq!((missing.status, challenge(&missing).as_str()), (401, "Bearer realm=\"m2m\""));
    assert_eq!(missing.json()["error"], "Missing token");
}
