//! Client authentication: every method against the provider, and secrets that rotate under load.

use super::sent_as;
use crate::envoy::scene::{Scene, arrived, builder, issuers, listener, outbound, wasm};
use m2m_auth_kit::envoy::{self, Builder};
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Idp};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::load::{Load, sent_at};
use m2m_auth_kit::record::Recorded;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::{Reply, Upstream};
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The provider's cluster with Envoy's own `credential_injector`.
fn injecting(idp: &Idp) -> Value {
    let cluster = envoy::cluster("injecting", idp.address());
    envoy::upstream_filters(cluster, vec![envoy::basic_injector("client")])
}

/// The file with the credential of `order-service`.
fn injected(secret: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("order-service:{secret}"));
    envoy::secret("client", &pair)
}

/// The README's credential, with these members instead of its secret.
fn credential(idp: &Idp, changes: &Value) -> Value {
    let mut configuration = outbound(idp);
    let credential = configuration["outbound"]["credentials"]["order-service"].as_object_mut().unwrap();
    credential.remove("client_secret");
    credential.extend(changes.as_object().unwrap().clone());
    configuration
}

/// The same, through the cluster that adds the credential.
fn by_cluster(idp: &Idp) -> Value {
    let mut configuration = credential(idp, &json!({ "auth_method": "external" }));
    configuration["outbound"]["credentials"]["order-service"].as_object_mut().unwrap().remove("client_id");
    configuration["issuers"]["keycloak"]["cluster"] = json!("injecting");
    configuration
}

fn form(request: &Recorded) -> Vec<String> {
    request.form().into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn every_way_to_authenticate_is_one_that_the_provider_takes() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let keys = [Alg::Rs256, Alg::Es256, Alg::EdDsa].map(Key::new);
    for (id, key) in ["rsa", "p256", "ed25519"].into_iter().zip(&keys) {
        idp.client(ClientSpec { assertion_keys: vec![key.clone()], ..ClientSpec::new(id, "never-5ent") });
    }
    idp.client(ClientSpec::new("hmac", "never-5ent-either"));
    idp.client(ClientSpec { without_proof: true, ..ClientSpec::new("tls", "never-5ent") });
    let [rsa, p256, ed25519] = &keys;
    let key = |id: &str, key: Value| json!({ "issuer": "keycloak", "client_id": id, "auth_method": "private_key_jwt", "private_key": key });
    let mut named = key("ed25519", json!({ "inline": ed25519.private_pem() }));
    named["kid"] = json!("mine");
    let mut by_url = key("rsa", json!({ "inline": rsa.private_jwk().to_string() }));
    by_url["assertion_audience"] = json!(idp.url(Endpoint::Token));
    let credentials = json!({
        "rsa": key("rsa", json!({ "env": "RSA_KEY" })),
        "rsa-jwk": by_url,
        "p256": key("p256", json!({ "env": "P256_KEY" })),
        "p256-jwk": key("p256", json!({ "inline": p256.private_jwk().to_string() })),
        "ed25519": named,
        "hmac": { "issuer": "keycloak", "client_id": "hmac", "auth_method": "client_secret_jwt", "client_secret": { "inline": "never-5ent-either" } },
        "tls": { "issuer": "keycloak", "client_id": "tls", "auth_method": "tls_client_auth" },
        "order-service": { "issuer": "injecting", "auth_method": "external" },
    });
    let rules = credentials.as_object().unwrap().keys();
    let rules: Vec<_> =
        rules.map(|name| json!({ "match": { "path": format!("/{name}") }, "credential": name })).collect();
    let mut all = issuers(&idp);
    all["injecting"] = json!({ "issuer": idp.issuer(), "cluster": "injecting" });
    let configuration = json!({ "issuers": all, "outbound": { "credentials": credentials, "rules": rules } });
    let filter = wasm(&configuration).host_env("RSA_KEY").host_env("P256_KEY");
    let builder = builder(&idp, &upstream)
        .env("RSA_KEY", &rsa.private_pem())
        // As it comes out of many a shell and manifest.
        .env("P256_KEY", &p256.private_pem().replace('\n', "\\n"))
        .file("client.json", &injected("order-secret"))
        .cluster(injecting(&idp))
        .listener(listener(&filter));
    let scene = Scene::of(idp, upstream, builder).await;
    for (path, client) in [
        ("/rsa", "rsa"),
        ("/rsa-jwk", "rsa"),
        ("/p256", "p256"),
        ("/p256-jwk", "p256"),
        ("/ed25519", "ed25519"),
        ("/hmac", "hmac"),
        ("/tls", "tls"),
        ("/order-service", "order-service"),
    ] {
        let answer = scene.get(path).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", scene.envoy.logs());
        assert_eq!(sent_as(&answer).as_deref(), Some(client), "{path}");
    }
    let mut names = BTreeSet::new();
    let mut algorithms = BTreeSet::new();
    for request in scene.idp.requests(Endpoint::Token) {
        assert!(!request.text().contains("5ent"), "a secret is never sent");
        if let Some(assertion) = request.parameter("client_assertion") {
            let expected = ["grant_type", "client_id", "client_assertion_type", "client_assertion"];
            assert_eq!(form(&request), expected);
            assert_eq!(request.header("authorization"), None, "one method only");
            let (header, claims) = decode(&assertion);
            assert!(names.insert(claims["jti"].as_str().unwrap().to_owned()), "used twice");
            algorithms.insert(header["alg"].as_str().unwrap().to_owned());
            let kid = &header["kid"];
            match claims["sub"].as_str().unwrap() {
                "ed25519" => assert_eq!(kid, "mine"),
                "rsa" => assert_eq!(kid.is_null(), claims["aud"] == scene.idp.issuer()),
                "hmac" => assert!(kid.is_null()),
                _ => {}
            }
        } else if request.header("authorization").is_some() {
            assert_eq!(
                form(&request),
                ["grant_type"],
                "the client's id is in the header that the cluster adds"
            );
        } else {
            assert_eq!(form(&request), ["grant_type", "client_id"]);
        }
    }
    assert_eq!(algorithms, ["ES256", "EdDSA", "HS256", "RS256"].map(str::to_owned).into());
    assert!(!scene.envoy.logs().contains("5ent") && !scene.envoy.logs().contains("eyJ"));
}

#[tokio::test]
async fn a_key_pair_that_does_not_match_is_logged_and_stops_nothing_else() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut jwk = Key::new(Alg::Rs256).private_jwk();
    jwk["p"] = jwk["q"].clone();
    let broken = json!({ "auth_method": "private_key_jwt", "private_key": { "inline": jwk.to_string() } });
    let scene = Scene::with(idp, upstream, |idp| credential(idp, &broken)).await;
    let line = scene.envoy.wait_for_log("does not sign RS256 with this key").await;
    assert!(line.contains("token of credential order-service"), "{line}");
    assert_eq!(scene.get("/orders").send().await.status, 503);
    assert_eq!(scene.idp.count(Endpoint::Token), 0);
}

/// Tokens of 4 s, each refused by the service if it had ended when the request was sent.
async fn short_lived() -> (Idp, Upstream) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.change_client("order-service", |client| client.lifetime = 4);
    upstream.answer_by(|request| {
        let value = request.header("authorization").unwrap_or_default();
        let end = value.strip_prefix("Bearer ").and_then(|token| decode(token).1["exp"].as_u64());
        (end < Some(sent_at(request))).then(|| Reply::new(401, &[]))
    });
    (idp, upstream)
}

/// Load for longer than several tokens live, while the secret rotates.
async fn rotating(scene: &Scene, rotate: impl AsyncFnOnce()) {
    assert_eq!(arrived(&scene.get("/orders").send().await, "authorization").len(), 1);
    let load = Load::of(scene.get("/orders")).stamped().connections(8).rate(100.0).start();
    load.proceed(150).await;
    rotate().await;
    let before = tokens(scene);
    until("the token is renewed twice after that", async || {
        (tokens(scene).len() >= before.len() + 2).then_some(())
    })
    .await;
    let report = load.stop().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
}

/// The tokens that the service has received.
fn tokens(scene: &Scene) -> BTreeSet<String> {
    scene.upstream.requests().iter().filter_map(|request| request.header("authorization")).collect()
}

#[tokio::test]
async fn a_secret_of_a_list_rotates_under_load_and_no_request_notices() {
    let (idp, upstream) = short_lived().await;
    let list = json!({ "client_secret": [{ "env": "ORDER_SERVICE_SECRET" }, { "inline": "next-5ecret" }] });
    let scene = Scene::with(idp, upstream, |idp| credential(idp, &list)).await;
    // From one moment to the next: there is no time at which the provider takes both.
    rotating(&scene, async || scene.idp.set_secrets("order-service", &["next-5ecret"])).await;
    let log = scene.envoy.logs();
    assert!(log.contains("by secret 2 of 2") && log.contains("; the next secret is tried"), "{log}");
    let refused = log.matches("; the next secret is tried").count();
    assert!(refused <= 3, "{refused} refusals: the one that worked is remembered by each VM");
    assert!(!log.contains("5ecret"));
}

#[tokio::test]
async fn a_secret_of_the_cluster_rotates_under_load_and_no_request_notices() {
    let (idp, upstream) = short_lived().await;
    let builder: Builder = builder(&idp, &upstream)
        .file("client.json", &injected("order-secret"))
        .cluster(injecting(&idp))
        .listener(listener(&wasm(&by_cluster(&idp))));
    let scene = Scene::of(idp, upstream, builder).await;
    rotating(&scene, async || {
        // The usual order: the provider takes both, the file is replaced, the provider forgets the
        // old one.
        scene.idp.set_secrets("order-service", &["order-secret", "next-5ecret"]);
        scene.envoy.write("client.json", &injected("next-5ecret"));
        let changed = async || {
            let pair = super::basic(&scene.idp.last(Endpoint::Token));
            (pair == "order-service:next-5ecret").then_some(())
        };
        until("the cluster has the new secret", changed).await;
        scene.idp.set_secrets("order-service", &["next-5ecret"]);
    })
    .await;
    let asked = scene.idp.requests(Endpoint::Token);
    assert!(
        asked.iter().all(|request| form(request) == ["grant_type", "scope"]),
        "and nothing of the client"
    );
    assert!(!scene.envoy.logs().contains("unauthorized_client"), "{}", scene.envoy.logs());
}
