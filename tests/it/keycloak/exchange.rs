//! Token exchange (RFC 8693): the sidecar of inventory-service verifies its caller, and the same
//! request is forwarded to payment-service with a token that names the original caller.

use crate::sidecar::{self, by_path, issuers};
use m2m_auth_kit::client::{self, Request, Response};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::{self, now};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};
use std::collections::BTreeMap;

/// One listener, both directions: every caller is verified, and under each path a credential
/// exchanges the caller's token.
struct Scene {
    realm: Keycloak,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start(realm: Keycloak) -> Self {
        let exchange = |client: &str, audience: &str, scopes: &[&str]| {
            let mut credential = sidecar::credential(client);
            credential["grant_type"] = json!("token_exchange");
            credential["audience"] = json!(audience);
            if !scopes.is_empty() {
                credential["scopes"] = json!(scopes);
            }
            credential
        };
        let credentials = json!({
            "payment": exchange("inventory-service", "payment-service", &["payment-api"]),
            "without-scope": exchange("inventory-service", "payment-service", &[]),
            "unknown-audience": exchange("inventory-service", "nowhere-service", &["payment-api"]),
            "not-enabled": exchange("payment-service", "payment-service", &["payment-api"]),
            "not-asked-for": exchange("order-service", "payment-service", &["payment-api"]),
        });
        let rules = by_path(&credentials);
        let configuration = json!({
            "issuers": issuers(&realm),
            "inbound": { "rules": [{
                "require": { "issuer": "keycloak", "audiences": ["inventory-service"] },
                "claims_to_headers": { "x-caller": "sub" },
            }] },
            "outbound": { "credentials": credentials, "rules": rules },
        });
        let upstream = Upstream::start().await;
        let envoy = sidecar::start("main", &Wasm::new(&configuration), &realm, upstream.address()).await;
        Self { realm, upstream, envoy }
    }

    async fn token(&self, client: &str) -> String {
        self.realm.token(client, &keycloak::secret(client), "").await
    }

    fn request(&self, path: &str, token: &str) -> Request {
        client::get(self.envoy.url("main", path)).bearer(token)
    }

    async fn call(&self, path: &str, token: &str) -> Response {
        self.request(path, token).send().await
    }

    /// The claims of the token that the last request arrived with.
    fn claims(&self) -> Value {
        claims(&self.upstream.last().header("authorization").unwrap())
    }
}

fn claims(header: &str) -> Value {
    token::decode(header.strip_prefix("Bearer ").unwrap()).1
}

#[tokio::test]
async fn the_callers_token_becomes_one_for_the_next_service() {
    let scene = Scene::start(Keycloak::start().await).await;
    let caller = scene.token("order-service").await;
    let answer = scene.call("/payment", &caller).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    let (sent, subject) = (scene.claims(), token::decode(&caller).1);
    assert_eq!(
        (&sent["aud"], &sent["azp"], &sent["scope"]),
        (&json!("payment-service"), &json!("inventory-service"), &json!("payment-api"))
    );
    assert_eq!(sent["sub"], subject["sub"]);
    assert!(!scene.envoy.logs().contains("eyJ"));
}

#[tokio::test]
async fn a_thousand_calls_make_one_exchange_per_worker_and_nobody_gets_anothers_token() {
    let realm = Keycloak::start().await.realm("exchange").await;
    realm.keep_events().await;
    let scene = Scene::start(realm).await;
    let (order, billing) = (scene.token("order-service").await, scene.token("billing-service").await);
    let requests = vec![scene.request("/payment", &order), scene.request("/payment", &billing)];
    let report = Load::round(requests).connections(16).requests(2000).run().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
    let mut by_caller: BTreeMap<String, u64> = BTreeMap::new();
    for request in scene.upstream.requests() {
        let caller = request.header("x-caller").unwrap();
        assert_eq!(claims(&request.header("authorization").unwrap())["sub"], json!(caller));
        *by_caller.entry(caller).or_default() += 1;
    }
    assert_eq!(by_caller.into_values().collect::<Vec<_>>(), [1000, 1000]);
    let exchanges = scene.realm.events("TOKEN_EXCHANGE", "inventory-service").await;
    assert!((2..=4).contains(&exchanges.len()), "two callers, two workers: {exchanges:?}");
}

#[tokio::test]
async fn what_only_an_operator_can_fix_is_503_and_the_log_quotes_keycloaks_error() {
    let scene = Scene::start(Keycloak::start().await).await;
    let caller = scene.token("order-service").await;
    for (name, words) in [
        ("without-scope", "Requested audience not available: payment-service"),
        ("unknown-audience", "Audience not found"),
        ("not-enabled", "Standard token exchange is not enabled for the requested client"),
    ] {
        let answer = scene.call(&format!("/{name}"), &caller).await;
        assert_eq!(answer.status, 503, "{name}: {}\n{}", answer.text(), scene.envoy.logs());
        assert!(answer.header("retry-after").is_some(), "{name}");
        let logged = scene.envoy.wait_for_log(words).await;
        assert!(logged.contains(&format!("credential {name}")) && logged.contains("status 400"), "{logged}");
    }
    assert_eq!(scene.upstream.count(), 0);
    assert!(!scene.envoy.logs().contains("eyJ"));
}

#[tokio::test]
async fn a_caller_that_keycloak_believes_no_longer_is_401_and_the_next_one_is_served() {
    let scene = Scene::start(Keycloak::start().await.realm("exchange-not-before").await).await;
    let void = scene.token("order-service").await;
    let issued = token::decode(&void).1["iat"].as_u64().unwrap();
    until("the token is of an earlier second", async || (now() > issued).then_some(())).await;
    scene.realm.set_not_before(now()).await;
    let answer = scene.call("/payment", &void).await;
    assert_eq!(answer.status, 401, "{}\n{}", answer.text(), scene.envoy.logs());
    assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    scene.envoy.wait_for_log("Invalid token").await;
    let good = scene.token("order-service").await;
    assert_eq!(scene.call("/payment", &good).await.status, 200, "{}", scene.envoy.logs());
}

/// Keycloak exchanges a token for its own client, and for those in its audience. That a token was
/// for us, and not for the client as which we exchange it, is nothing that the caller could change
/// by fetching another one (401) or by waiting (503).
#[tokio::test]
async fn a_token_that_was_not_for_the_exchanging_client_is_403_and_the_next_one_is_served() {
    let scene = Scene::start(Keycloak::start().await).await;
    let answer = scene.call("/not-asked-for", &scene.token("billing-service").await).await;
    assert_eq!(answer.status, 403, "{}\n{}", answer.text(), scene.envoy.logs());
    scene.envoy.wait_for_log("Client is not within the token audience").await;
    assert_eq!(scene.call("/not-asked-for", &scene.token("order-service").await).await.status, 200);
}
