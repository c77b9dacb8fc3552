//! The signing key changes while requests flow: one Envoy attaches tokens of short life, another
//! checks them.

use crate::sidecar::{self, credential, every_request, issuers};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::{self, now};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};
use std::time::Duration;

/// How long the key set is used before it is renewed.
const REFRESH: Duration = Duration::from_secs(5);

/// A renewed key set reaches the worker that did not fetch it within a second, and the machine is
/// busy.
const SOON: Duration = Duration::from_secs(2);

/// How long tokens of order-service live, but for those that it was given before.
const LIFE: u64 = 4;

/// order-service's sidecar, inventory-service's sidecar, and the service.
struct Scene {
    realm: Keycloak,
    _upstream: Upstream,
    called: Envoy,
    caller: Envoy,
}

impl Scene {
    async fn start(realm: Keycloak) -> Self {
        let upstream = Upstream::start().await;
        let require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
        let mut inbound =
            json!({ "issuers": issuers(&realm), "inbound": { "rules": [{ "require": require }] } });
        let mut outbound = every_request(&realm, &credential("order-service"));
        for configuration in [&mut inbound, &mut outbound] {
            configuration["issuers"]["keycloak"]["jwks_refresh_interval"] = json!(REFRESH.as_secs());
        }
        let called = sidecar::start("in", &Wasm::new(&inbound), &realm, upstream.address()).await;
        let next = called.address("in").parse().unwrap();
        let caller = sidecar::start("out", &Wasm::new(&outbound), &realm, next).await;
        Self { realm, _upstream: upstream, called, caller }
    }

    async fn call_with(&self, token: &str) -> Response {
        client::get(self.called.url("in", "/by-hand")).bearer(token).send().await
    }

    /// The key of the token that arrives with a request.
    async fn kid(&self) -> Value {
        let answer = client::get(self.caller.url("out", "/kid")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let headers = answer.json()["headers"].as_array().unwrap().clone();
        let sent = headers.iter().find(|pair| pair[0] == "authorization").unwrap()[1].clone();
        token::decode(sent.as_str().unwrap().strip_prefix("Bearer ").unwrap()).0["kid"].clone()
    }
}

#[tokio::test]
async fn a_rotation_costs_no_request_and_a_deleted_key_is_worth_nothing_after_a_refresh() {
    let realm = Keycloak::start().await.realm("rotation-under-load").await;
    let old = realm.signing_key().await;
    let kept = realm.token("order-service", &keycloak::secret("order-service"), "").await;
    realm.set_token_life("order-service", LIFE).await;
    let scene = Scene::start(realm).await;
    assert_eq!(scene.kid().await, json!(old.kid));
    let load = Load::of(client::get(scene.caller.url("out", "/orders"))).connections(8).rate(100.0).start();
    let aside = client::get(scene.called.url("in", "/kept")).bearer(&kept);
    let aside = Load::of(aside).connections(4).rate(50.0).start();
    load.proceed(50).await;

    let new = scene.realm.rotate_signing_key().await;
    let last = now() + LIFE;
    until("tokens of the new key arrive", async || (scene.kid().await == json!(new.kid)).then_some(())).await;
    until("the last token of the old key has ended", async || (now() > last).then_some(())).await;
    assert_eq!(scene.call_with(&kept).await.status, 200, "the old key is still published");
    let deleting = aside.elapsed();
    scene.realm.delete_key(&old.component).await;
    let deleted = aside.elapsed();
    aside.at(deleted + REFRESH + SOON).await;
    let refused = scene.call_with(&kept).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (401, &json!("unknown_key")));
    // One renewal of the attached token more.
    load.proceed(100 * LIFE).await;

    let report = load.stop().await;
    assert!(report.only(200), "{report}\n{}\n{}", scene.called.logs(), scene.caller.logs());
    let aside = aside.stop().await;
    let refused = |exchange: &&m2m_auth_kit::load::Exchange| exchange.status != Some(200);
    let first = aside.exchanges.iter().find(refused).expect("some are refused");
    assert!(first.ended >= deleting, "not before the key is gone: {first:?}, {deleting:?}");
    let last = aside.exchanges.iter().rfind(|exchange| exchange.status == Some(200)).unwrap();
    assert!(last.ended <= deleted + REFRESH + SOON, "{last:?}, deleted at {deleted:?}");
    assert!(aside.failures.is_empty() && aside.by_status.keys().eq([&200, &401]), "{aside}");
}
