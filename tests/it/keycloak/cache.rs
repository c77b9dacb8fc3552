//! Token caching, as in the walkthroughs' clients: many calls, few token requests, by Keycloak's
//! own count.

use crate::sidecar::{self, credential, every_request};
use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::json;
use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::load::{Load, Report};
use m2m_auth_kit::upstream::Upstream;
use std::collections::BTreeSet;
use std::time::Duration;

const CLIENT: &str = "order-service";

/// Those of an Envoy with two workers: one for each, and one on the main thread.
const VMS: usize = 3;

struct Scene {
    realm: Keycloak,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    /// Workers share where `vm_id` is the operator's own; Istio gives every plugin the empty one.
    async fn start(realm: &str, vm_id: &str, token_life: Option<u64>) -> Self {
        let realm = Keycloak::start().await.realm(realm).await;
        realm.keep_events().await;
        if let Some(seconds) = token_life {
            realm.set_token_life(CLIENT, seconds).await;
        }
        let mut credential = credential(CLIENT);
        credential["scopes"] = json!(["inventory-api"]);
        let upstream = Upstream::start().await;
        let filter = Wasm::new(&every_request(&realm, &credential)).vm_id(vm_id);
        let envoy = sidecar::start("out", &filter, &realm, upstream.address()).await;
        Self { realm, upstream, envoy }
    }

    fn request(&self) -> Request {
        client::get(self.envoy.url("out", "/inventory/items"))
    }

    /// How many tokens the requests arrived with.
    fn tokens(&self) -> usize {
        let tokens =
            self.upstream.requests().into_iter().map(|request| request.header("authorization").unwrap());
        tokens.collect::<BTreeSet<_>>().len()
    }

    /// How many tokens Keycloak has given, by its own record.
    async fn token_requests(&self, what: &str, report: &Report) -> usize {
        let asked = self.realm.events("CLIENT_LOGIN", CLIENT).await.len();
        println!("{what}: {} requests, {} failed, {asked} token requests", report.sent(), failed(report));
        asked
    }
}

fn failed(report: &Report) -> u64 {
    report.sent() - report.by_status.get(&200).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_thousand_calls_make_one_token_request() {
    let scene = Scene::start("cached", "order-service", None).await;
    let report = Load::of(scene.request()).connections(16).requests(1000).run().await;
    let asked = scene.token_requests("shared by two workers", &report).await;
    assert!(report.only(200) && report.sent() == 1000, "{report}\n{}", scene.envoy.logs());
    assert_eq!((asked, scene.tokens()), (1, 1), "{}", scene.envoy.logs());
}

#[tokio::test]
async fn a_thousand_calls_make_one_token_request_for_each_worker_where_they_may_not_share() {
    let scene = Scene::start("cached-apart", "", None).await;
    let report = Load::of(scene.request()).connections(16).requests(1000).run().await;
    let asked = scene.token_requests("two workers and the main thread, each on its own", &report).await;
    assert!(report.only(200) && report.sent() == 1000, "{report}\n{}", scene.envoy.logs());
    assert!((1..=VMS).contains(&asked) && scene.tokens() <= 2, "{asked}: {}", scene.envoy.logs());
}

/// Renewed at 70 to 80 % of its life, which is 9 s as it is taken to end a tenth early.
#[tokio::test]
async fn a_token_of_ten_seconds_is_renewed_in_the_background_and_no_call_fails() {
    let scene = Scene::start("ten-seconds", "order-service", Some(10)).await;
    let load = Load::of(scene.request()).connections(8).rate(100.0).duration(Duration::from_secs(25));
    let report = load.run().await;
    let asked = scene.token_requests("tokens of 10 s, for 25 s", &report).await;
    assert!(report.only(200) && report.sent() > 2000, "{report}\n{}", scene.envoy.logs());
    // At 0 s, 7 to 8 s, 14 to 16 s and 21 to 24 s.
    assert!((4..=5).contains(&asked), "{asked}: {}", scene.envoy.logs());
    assert!(scene.tokens() >= 3, "{}", scene.tokens());
}
