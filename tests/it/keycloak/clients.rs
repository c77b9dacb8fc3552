//! Every client authentication method of Keycloak, and secrets that rotate.

use crate::sidecar::{builder, by_path, listener};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::key::{Alg, Key, encode};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};
use sha2::{Digest as _, Sha256};

/// A credential for each path, and the service that says what has arrived.
struct Scene {
    _upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start(keycloak: &Keycloak, credentials: Value) -> Self {
        let upstream = Upstream::start().await;
        let cluster = envoy::cluster("injecting", keycloak.address());
        // `order-service:order-secret`
        let secret = envoy::secret("client", "b3JkZXItc2VydmljZTpvcmRlci1zZWNyZXQ=");
        let rules = by_path(&credentials);
        let issuer = |cluster: &str| json!({ "issuer": keycloak.issuer(), "cluster": cluster });
        let mut configuration = json!({
            "issuers": { "keycloak": issuer("keycloak"), "injecting": issuer("injecting") },
            "outbound": { "credentials": credentials, "rules": rules },
        });
        let used = configuration["outbound"].to_string();
        configuration["issuers"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| used.contains(&format!("\"issuer\":\"{name}\"")));
        let filter =
            Wasm::new(&configuration).host_env("ORDER_SERVICE_SECRET").host_env("ORDER_SERVICE_SECRET_NEXT");
        let envoy = builder(keycloak, upstream.address())
            .env("ORDER_SERVICE_SECRET", "order-secret")
            .env("ORDER_SERVICE_SECRET_NEXT", "next-secret")
            .file("client.json", &secret)
            .cluster(envoy::upstream_filters(cluster, vec![envoy::basic_injector("client")]))
            .listener(listener("main", &filter))
            .start()
            .await
            .unwrap();
        Self { _upstream: upstream, envoy }
    }

    async fn get(&self, path: &str) -> Response {
        client::get(self.envoy.url("main", path)).send().await
    }

    /// The client of the token that arrives with a request to this path.
    async fn client(&self, path: &str) -> Value {
        self.claims(path).await["azp"].clone()
    }

    async fn claims(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), self.envoy.logs());
        let headers = answer.json()["headers"].as_array().unwrap().clone();
        let sent = headers.iter().find(|pair| pair[0] == "authorization").unwrap()[1].clone();
        token::decode(sent.as_str().unwrap().strip_prefix("Bearer ").unwrap()).1
    }
}

/// Those of an Envoy with two workers: one for each, and one on the main thread.
const VMS: usize = 3;

/// A client of the realm with assertions that this key signs, with any of its algorithms.
async fn register(realm: &Keycloak, id: &str, key: &Key) {
    let attributes = json!({
        "use.jwks.string": "true",
        "jwks.string": json!({ "keys": [key.jwk()] }).to_string(),
        "token.endpoint.auth.signing.alg": key.alg().name(),
    });
    let client = json!({
        "clientId": id,
        "publicClient": false,
        "clientAuthenticatorType": "client-jwt",
        "serviceAccountsEnabled": true,
        "standardFlowEnabled": false,
        "attributes": attributes,
    });
    realm.admin("POST", "clients", Some(&client)).await;
}

#[tokio::test]
async fn it_takes_every_way_to_authenticate() {
    let realm = Keycloak::start().await.realm("clients").await;
    let (p256, ed25519) = (Key::new(Alg::Es256), Key::new(Alg::EdDsa));
    register(&realm, "p256-service", &p256).await;
    register(&realm, "ed25519-service", &ed25519).await;
    let by_key = |id: &str, key: &str| json!({ "issuer": "keycloak", "client_id": id, "auth_method": "private_key_jwt", "private_key": { "inline": key } });
    let by_secret = |id: &str, method: &str| json!({ "issuer": "keycloak", "client_id": id, "auth_method": method, "client_secret": { "inline": keycloak::secret(id) } });
    let mut to_the_token_endpoint = by_key("signing-service", &keycloak::signing_key().private_pem());
    to_the_token_endpoint["assertion_audience"] = json!(realm.endpoint("token"));
    let scene = Scene::start(
        &realm,
        json!({
            "basic": by_secret("order-service", "client_secret_basic"),
            "post": by_secret("order-service", "client_secret_post"),
            "hmac": by_secret("hmac-service", "client_secret_jwt"),
            "rsa": by_key("signing-service", &keycloak::signing_key().private_pem()),
            "rsa-url": to_the_token_endpoint,
            "p256": by_key("p256-service", &p256.private_jwk().to_string()),
            "ed25519": by_key("ed25519-service", &ed25519.private_jwk().to_string()),
            "cluster": { "issuer": "injecting", "auth_method": "external" },
        }),
    )
    .await;
    for (path, client) in [
        ("/basic", "order-service"),
        ("/post", "order-service"),
        ("/hmac", "hmac-service"),
        ("/rsa", "signing-service"),
        ("/rsa-url", "signing-service"),
        ("/p256", "p256-service"),
        ("/ed25519", "ed25519-service"),
        ("/cluster", "order-service"),
    ] {
        assert_eq!(scene.client(path).await, client, "{path}");
    }
    assert!(!scene.envoy.logs().contains("reuse"), "{}", scene.envoy.logs());
}

#[tokio::test]
async fn another_key_is_refused_and_the_log_says_what_keycloak_said() {
    let stranger = Key::new(Alg::Rs256).private_pem();
    let credential = json!({ "issuer": "keycloak", "client_id": "signing-service", "auth_method": "private_key_jwt", "private_key": { "inline": stranger } });
    let scene = Scene::start(&Keycloak::start().await, json!({ "rsa": credential })).await;
    assert_eq!(scene.get("/rsa").await.status, 503);
    let logged = scene.envoy.wait_for_log("invalid_client").await;
    assert!(logged.contains("status 400") && logged.contains("credential rsa"), "{logged}");
    assert!(!scene.envoy.logs().contains("eyJ"));
}

#[tokio::test]
async fn a_secret_of_a_list_rotates_under_load_and_no_request_notices() {
    let realm = Keycloak::start().await.realm("rotating-secrets").await;
    realm.keep_events().await;
    // Renewed every 3 s.
    realm.set_token_life("order-service", 4).await;
    let list = json!([{ "env": "ORDER_SERVICE_SECRET" }, { "env": "ORDER_SERVICE_SECRET_NEXT" }]);
    let credential = json!({ "issuer": "keycloak", "client_id": "order-service", "client_secret": list });
    let scene = Scene::start(&realm, json!({ "order": credential })).await;
    assert_eq!(scene.client("/order").await, "order-service");
    let load = Load::of(client::get(scene.envoy.url("main", "/order"))).connections(8).rate(200.0).start();
    load.proceed(200).await;
    let count = async |kind: &str| realm.events(kind, "order-service").await.len();
    // From the first to the second, and back to the first.
    for secret in ["next-secret", "order-secret"] {
        realm.set_client_secret("order-service", secret).await;
        let before = count("CLIENT_LOGIN").await;
        let renewed = async || (count("CLIENT_LOGIN").await > before + 1).then_some(());
        until("two tokens by the new secret", renewed).await;
        load.proceed(100).await;
    }
    let report = load.stop().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
    assert!(scene.envoy.logs().contains("by secret 2 of 2"), "{}", scene.envoy.logs());
    let refused = count("CLIENT_LOGIN_ERROR").await;
    assert!((1..=2 * VMS).contains(&refused), "each VM finds out once for each change: {refused}");
}

/// The SHA-256 of the client's certificate, as bound tokens name it (RFC 8705 section 3.1).
fn thumbprint() -> String {
    let pem = std::fs::read_to_string(keycloak::certificates().join("client.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    encode(Sha256::digest(STANDARD.decode(der).unwrap()))
}

#[tokio::test]
async fn it_takes_a_client_certificate_binds_the_token_to_it_and_gives_none_without_one() {
    let keycloak = Keycloak::start().await;
    let issuer = |cluster: &str| {
        json!({
            "issuer": keycloak.issuer(),
            "cluster": cluster,
            "token_endpoint": keycloak.endpoint("token").replace(&format!("http://{}", keycloak.address()), &format!("https://{}", keycloak.tls_address())),
        })
    };
    let credential = |issuer: &str| json!({ "issuer": issuer, "client_id": "tls-service", "auth_method": "tls_client_auth" });
    let credentials = json!({ "with": credential("with"), "without": credential("without") });
    let configuration = json!({
        "issuers": { "with": issuer("with"), "without": issuer("without") },
        "outbound": {
            "credentials": credentials,
            "rules": by_path(&credentials),
        },
    });
    let upstream = Upstream::start().await;
    let envoy = Envoy::builder()
        .cluster(envoy::client_tls(envoy::cluster("with", keycloak.tls_address()), true))
        .cluster(envoy::client_tls(envoy::cluster("without", keycloak.tls_address()), false))
        .cluster(envoy::cluster("service", upstream.address()))
        .listener(listener("main", &Wasm::new(&configuration)))
        .start()
        .await
        .unwrap();
    let scene = Scene { _upstream: upstream, envoy };
    let claims = scene.claims("/with").await;
    assert_eq!((&claims["azp"], &claims["cnf"]["x5t#S256"]), (&json!("tls-service"), &json!(thumbprint())));
    assert_eq!(scene.get("/without").await.status, 503);
    let logged = scene.envoy.wait_for_log("token of credential without: configuration").await;
    assert!(logged.contains("invalid_client") || logged.contains("unauthorized_client"), "{logged}");
}
