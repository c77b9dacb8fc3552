//! Tokens that Keycloak has revoked before they expire. The service introspects each token (RFC
//! 7662) and answers 401 to those that are not active. The filter runs in the service's cluster,
//! the route retries, and the client sees no error.

use crate::sidecar::{SECRET, credential, every_request};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::{self, now};
use m2m_auth_kit::upstream::{Reply, Upstream};
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};

/// The caller, and the client of the token that its requests get.
const CLIENT: &str = "order-service";

/// A realm of its own, which records what it is asked for, and the service that asks it.
struct Scene {
    realm: Keycloak,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start(name: &str) -> Self {
        Self::with(Keycloak::start().await.realm(name).await).await
    }

    async fn with(realm: Keycloak) -> Self {
        realm.keep_events().await;
        let upstream = Upstream::start().await;
        let asked = realm.clone();
        upstream.answer_after(move |request| {
            let (asked, token) = (asked.clone(), request.header("authorization").unwrap_or_default());
            async move { (!is_active(&asked, bearer(&token)).await).then(|| Reply::new(401, &[])) }
        });
        let mut credential = credential(CLIENT);
        credential["client_secret"] = json!({ "env": SECRET });
        let filter = Wasm::new(&every_request(&realm, &credential)).host_env(SECRET).filter();
        let mut service =
            envoy::upstream_filters(envoy::cluster("service", upstream.address()), vec![filter]);
        service["circuit_breakers"] = json!({ "thresholds": [{ "max_retries": 1000 }] });
        let again = json!({
            "retry_on": "retriable-status-codes",
            "retriable_status_codes": [401],
            "num_retries": 1,
        });
        let route = json!({
            "match": { "prefix": "/" },
            "route": { "cluster": "service", "retry_policy": again },
        });
        let envoy = Envoy::builder()
            .env(SECRET, &keycloak::secret(CLIENT))
            .cluster(envoy::cluster("keycloak", realm.address()))
            .cluster(service)
            .listener(envoy::listener("main", vec![], envoy::route_config(vec![route])))
            .start()
            .await
            .unwrap();
        Self { realm, upstream, envoy }
    }

    fn load(&self) -> Load {
        Load::of(client::get(self.envoy.url("main", "/orders"))).connections(8).rate(100.0)
    }

    /// The token that requests arrive with now.
    async fn token(&self) -> String {
        let answer = client::get(self.envoy.url("main", "/token")).send().await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.envoy.logs());
        sent(&answer.json())
    }

    /// Revokes the token by `void` under load: no request fails, and one token is fetched.
    async fn survives(&self, void: impl AsyncFnOnce(&Keycloak, &str)) {
        let first = self.token().await;
        // Keycloak counts in seconds: what was issued in the second of a not-before policy is good.
        let issued = token::decode(&first).1["iat"].as_u64().unwrap();
        until("the token is of an earlier second", async || (now() > issued).then_some(())).await;
        let load = self.load().start();
        load.proceed(50).await;
        assert!(is_active(&self.realm, &first).await, "good until then");
        void(&self.realm, &first).await;
        assert!(!is_active(&self.realm, &first).await, "Keycloak says that it is void");
        load.proceed(150).await;
        let report = load.stop().await;
        assert_ne!(self.token().await, first);
        assert!(report.only(200), "{report}\n{}", self.envoy.logs());
        // Two requests asked for the token itself.
        let arrived = u64::try_from(self.upstream.count()).unwrap();
        assert!(arrived > report.sent() + 2, "the service has refused some");
        assert_eq!(self.fetched().await, 2, "one at the start, and one for the token that was void");
    }

    /// How many tokens Keycloak has given the client, by its own record.
    async fn fetched(&self) -> usize {
        self.realm.events("CLIENT_LOGIN", CLIENT).await.len()
    }
}

/// What Keycloak says of a token to the service.
async fn is_active(realm: &Keycloak, token: &str) -> bool {
    realm.introspect("inventory-service", token).await["active"] == true
}

/// The token of the request that the service echoes.
fn sent(echo: &Value) -> String {
    let headers = echo["headers"].as_array().unwrap();
    let header = headers.iter().find(|pair| pair[0] == "authorization").unwrap();
    bearer(header[1].as_str().unwrap()).to_owned()
}

fn bearer(header: &str) -> &str {
    header.strip_prefix("Bearer ").unwrap_or_default()
}

#[tokio::test]
async fn a_not_before_policy_of_the_realm_costs_no_request() {
    // The new token is of the same second as the policy, and good.
    Scene::start("not-before").await.survives(async |realm, _| realm.set_not_before(now()).await).await;
}

#[tokio::test]
async fn a_not_before_policy_of_the_client_costs_no_request() {
    let scene = Scene::start("not-before-of-client").await;
    scene.survives(async |realm, _| realm.set_not_before_of(CLIENT, now()).await).await;
}

#[tokio::test]
async fn a_logout_of_the_service_account_costs_no_request() {
    Scene::start("log-out").await.survives(async |realm, _| realm.log_out(CLIENT).await).await;
}

#[tokio::test]
async fn a_revoked_token_costs_no_request() {
    Scene::start("revoked").await.survives(async |realm, token| realm.revoke(CLIENT, token).await).await;
}

/// Not while the service asks: Keycloak 26.7 brings a session back that is deleted while it is
/// being looked up (keycloak/keycloak#51127), and then its token is good again.
#[tokio::test]
async fn the_end_of_the_session_costs_no_request() {
    let realm = Keycloak::start().await.realm("sessions").await;
    let with_refresh_tokens =
        |client: &mut Value| client["attributes"]["client_credentials.use_refresh_token"] = json!("true");
    realm.change_client(CLIENT, with_refresh_tokens).await;
    let scene = Scene::with(realm).await;
    let first = scene.token().await;
    let session = token::decode(&first).1["sid"].as_str().unwrap().to_owned();
    assert_eq!(scene.realm.sessions(CLIENT).await, std::slice::from_ref(&session));
    scene.realm.delete_session(&session).await;
    assert!(!is_active(&scene.realm, &first).await, "Keycloak says that it is void");
    let report = scene.load().requests(100).run().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
    assert_ne!(scene.token().await, first);
    assert_eq!(scene.fetched().await, 2, "one at the start, and one for the token that was void");
}

/// A service account has no session unless it is given refresh tokens; a not-before policy revokes
/// its token.
#[tokio::test]
async fn a_logout_of_everybody_reaches_those_without_a_session_and_costs_no_request() {
    let log_out_all = async |realm: &Keycloak, token: &str| {
        assert_eq!(token::decode(token).1["sid"], Value::Null);
        assert!(realm.sessions(CLIENT).await.is_empty());
        realm.log_out_all().await;
        assert!(realm.admin("GET", "", None).await["notBefore"].as_u64() > Some(0));
    };
    Scene::start("log-out-all").await.survives(log_out_all).await;
}

#[tokio::test]
async fn a_not_before_policy_that_voids_new_tokens_too_is_the_services_401_and_no_storm() {
    let scene = Scene::start("not-before-tomorrow").await;
    scene.token().await;
    scene.realm.set_not_before(now() + 86_400).await;
    let report = scene.load().requests(200).run().await;
    assert!(report.only(401), "Keycloak gives such tokens, and calls them void: {report}");
    assert_eq!(scene.fetched().await, 2, "the next renewal that a 401 causes comes 10 s later");
}

#[tokio::test]
async fn a_disabled_client_is_the_services_401_and_the_log_says_why() {
    let scene = Scene::start("disabled").await;
    scene.token().await;
    scene.realm.change_client(CLIENT, |client| client["enabled"] = json!(false)).await;
    let report = scene.load().requests(100).run().await;
    assert!(report.only(401), "its token is void, and it is given no other: {report}");
    scene.envoy.wait_for_log("status 401, invalid_client").await;
}
