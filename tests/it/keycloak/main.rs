//! Needs a real Keycloak, Envoy, and the clients of `make peers`, and takes eight minutes: what a
//! simulated provider can only assume.
//!
//! A test binary of its own, as the server takes half a minute to start: `make test-keycloak`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails, and some report what they have counted"
)]

mod cache;
mod callers;
mod certificate;
mod clients;
mod compose;
mod dpop;
mod exchange;
mod express;
mod introspection;
mod keys;
mod misconfigurations;
mod revocation;
mod scim;
mod sidecar;
mod story;
mod walkthrough;

use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::token;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{Value, json};
use sidecar::{SECRET, builder, inbound, listener, outbound};

/// Both directions at once: `out` attaches order-service's token, `in` checks tokens.
struct Scene {
    keycloak: Keycloak,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start(keycloak: Keycloak) -> Self {
        Self::with_secret(keycloak, &keycloak::secret("order-service")).await
    }

    async fn with_secret(keycloak: Keycloak, secret: &str) -> Self {
        let upstream = Upstream::start().await;
        let outbound = Wasm::new(&outbound(&keycloak)).host_env(SECRET).name("out");
        let inbound = Wasm::new(&inbound(&keycloak)).host_env(SECRET).name("in");
        let envoy = builder(&keycloak, upstream.address())
            .env(SECRET, secret)
            .listener(listener("in", &inbound))
            .listener(listener("out", &outbound))
            .start()
            .await
            .unwrap();
        Self { keycloak, upstream, envoy }
    }

    /// A call of `client` with a token that it fetched by itself.
    async fn call_as(&self, client: &str) -> Response {
        let token = self.keycloak.token(client, &keycloak::secret(client), "").await;
        self.call_with(&token).await
    }

    async fn call_with(&self, token: &str) -> Response {
        client::get(self.envoy.url("in", "/inventory/items")).bearer(token).send().await
    }

    async fn call_plainly(&self) -> Response {
        client::get(self.envoy.url("out", "/inventory/items")).send().await
    }
}

#[tokio::test]
async fn its_token_is_accepted_and_its_caller_handed_on() {
    let scene = Scene::start(Keycloak::start().await).await;
    let answer = scene.call_as("order-service").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    assert_eq!(scene.upstream.last().header("x-caller").as_deref(), Some("order-service"));
}

#[tokio::test]
async fn its_encryption_key_does_not_hide_its_signing_key() {
    let keycloak = Keycloak::start().await;
    let keys = keycloak.jwks().await;
    let uses: Vec<&Value> = keys["keys"].as_array().unwrap().iter().map(|key| &key["use"]).collect();
    assert!(uses.contains(&&json!("enc")) && uses.contains(&&json!("sig")), "{uses:?}");
    let scene = Scene::start(keycloak).await;
    assert_eq!(scene.call_as("order-service").await.status, 200);
    let logged = scene.envoy.wait_for_log("keys of issuer keycloak").await;
    assert!(logged.contains("its use is not sig"), "{logged}");
}

#[tokio::test]
async fn the_answer_to_a_client_without_the_role_names_the_missing_role() {
    let scene = Scene::start(Keycloak::start().await).await;
    let answer = scene.call_as("billing-service").await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(answer.json()["error"], "Insufficient permissions");
    assert_eq!(answer.json()["message"], "required role of client inventory-service: inventory:read");
}

#[tokio::test]
async fn a_client_without_the_audience_is_refused() {
    let scene = Scene::start(Keycloak::start().await).await;
    let answer = scene.call_as("payment-service").await;
    assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("audience")));
}

#[tokio::test]
async fn a_token_is_fetched_once_by_each_worker_and_attached() {
    let scene = Scene::start(Keycloak::start().await).await;
    let answer = scene.call_plainly().await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    let sent = scene.upstream.last().header("authorization").unwrap();
    let (_, claims) = token::decode(sent.strip_prefix("Bearer ").unwrap());
    assert_eq!((&claims["azp"], &claims["aud"]), (&json!("order-service"), &json!("inventory-service")));
    assert_eq!(scene.call_with(sent.strip_prefix("Bearer ").unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_wrong_secret_is_503_and_the_log_says_what_keycloak_said() {
    let scene = Scene::with_secret(Keycloak::start().await, "not-the-secret").await;
    let answer = scene.call_plainly().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let logged = scene.envoy.wait_for_log("unauthorized_client").await;
    assert!(logged.contains("status 401") && logged.contains("credential order-service"), "{logged}");
    assert!(!scene.envoy.logs().contains("not-the-secret"));
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test]
async fn a_rotated_key_is_found_and_a_deleted_one_is_forgotten() {
    let realm = Keycloak::start().await.realm("rotation").await;
    let before = realm.signing_key().await;
    let scene = Scene::start(realm).await;
    let old = scene.keycloak.token("order-service", &keycloak::secret("order-service"), "").await;
    assert_eq!(scene.call_with(&old).await.status, 200);

    let after = scene.keycloak.rotate_signing_key().await;
    let new = scene.keycloak.token("order-service", &keycloak::secret("order-service"), "").await;
    assert_eq!(token::decode(&new).0["kid"], json!(after.kid));
    assert_eq!(scene.call_with(&new).await.status, 200, "the unknown kid is looked for");
    assert_eq!(scene.call_with(&old).await.status, 200, "the old key is still published");

    scene.keycloak.delete_key(&before.component).await;
    let again = scene.keycloak.rotate_signing_key().await;
    let newer = scene.keycloak.token("order-service", &keycloak::secret("order-service"), "").await;
    assert_eq!(token::decode(&newer).0["kid"], json!(again.kid));
    // Each worker learns of the deletion with its next fetch; the newer key makes it fetch.
    let refused = async || {
        assert_eq!(scene.call_with(&newer).await.status, 200);
        let answer = scene.call_with(&old).await;
        (answer.status == 401).then(|| answer.json()["reason"].clone())
    };
    let reason = m2m_auth_kit::wait::until("the old token is refused", refused).await;
    assert_eq!(reason, json!("unknown_key"));
}

#[tokio::test]
async fn a_changed_secret_does_not_touch_the_token_that_is_held() {
    let realm = Keycloak::start().await.realm("secrets").await;
    let scene = Scene::start(realm).await;
    scene.call_plainly().await;
    let all = async || (scene.envoy.logs().matches("token acquired").count() >= 3).then_some(());
    m2m_auth_kit::wait::until("a token in each VM", all).await;
    scene.keycloak.regenerate_secret("order-service").await;
    for _ in 0..20 {
        assert_eq!(scene.call_plainly().await.status, 200);
    }
}
