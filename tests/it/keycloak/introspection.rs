//! Introspection (RFC 7662): Keycloak's answers about its own tokens, and what becomes of a revoked
//! one.

use crate::sidecar::{self, inbound};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};

/// inventory-service's sidecar, which introspects every token and caches an answer for two seconds.
struct Scene {
    realm: Keycloak,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start(name: &str) -> Self {
        Self::with_secret(name, &keycloak::secret("inventory-service")).await
    }

    async fn with_secret(name: &str, secret: &str) -> Self {
        let realm = Keycloak::start().await.realm(name).await;
        let upstream = Upstream::start().await;
        let mut configuration = inbound(&realm);
        configuration["issuers"]["keycloak"]["introspection"] = json!({
            "client_id": "inventory-service",
            "client_secret": { "inline": secret },
            "cache": "2s",
        });
        configuration["inbound"]["rules"][0]["require"]["introspect"] = json!("always");
        let envoy = sidecar::start("main", &Wasm::new(&configuration), &realm, upstream.address()).await;
        Self { realm, upstream, envoy }
    }

    async fn token(&self) -> String {
        self.realm.token("order-service", &keycloak::secret("order-service"), "").await
    }

    async fn call(&self, token: &str) -> Response {
        client::get(self.envoy.url("main", "/inventory/items")).bearer(token).send().await
    }

    /// The reason for which this token is refused, once it is.
    async fn refused(&self, token: &str) -> Value {
        let refused = async || Some(self.call(token).await).filter(|answer| answer.status != 200);
        let answer = until("the token is refused", refused).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        answer.json()["reason"].clone()
    }
}

#[tokio::test]
async fn an_active_token_is_accepted_and_a_revoked_one_is_not() {
    let scene = Scene::start("introspection").await;
    let (token, other) = (scene.token().await, scene.token().await);
    let answer = scene.call(&token).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    assert_eq!(scene.upstream.last().header("x-caller").as_deref(), Some("order-service"));
    scene.realm.revoke("order-service", &token).await;
    assert_eq!(scene.refused(&token).await, json!("inactive"));
    assert_eq!(scene.call(&other).await.status, 200, "nobody else's");
}

#[tokio::test]
async fn a_client_that_is_disabled_stops_with_all_its_tokens() {
    let scene = Scene::start("introspection-of-disabled").await;
    let token = scene.token().await;
    assert_eq!(scene.call(&token).await.status, 200, "{}", scene.envoy.logs());
    scene.realm.change_client("order-service", |client| client["enabled"] = json!(false)).await;
    assert_eq!(scene.refused(&token).await, json!("inactive"));
}

#[tokio::test]
async fn a_wrong_secret_is_503_and_the_log_says_what_keycloak_said() {
    let scene = Scene::with_secret("introspection-denied", "not-the-secret").await;
    let answer = scene.call(&scene.token().await).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("introspection_unavailable")));
    let logged = scene.envoy.wait_for_log("introspection by issuer keycloak: configuration").await;
    assert!(logged.contains("status 401"), "{logged}");
    assert!(!scene.envoy.logs().contains("not-the-secret"));
}
