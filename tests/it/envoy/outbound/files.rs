//! Secrets from files that Envoy serves to the filter: replaced under load, missing, broken.

use crate::envoy::scene::{Scene, builder, listener, outbound, wasm};
use m2m_auth_kit::envoy::Reading;
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Idp};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// What no log, counter or answer may contain.
const MARK: &str = "5ecret";

fn credential(idp: &Idp, changes: &Value) -> Value {
    let mut configuration = outbound(idp);
    let credential = configuration["outbound"]["credentials"]["order-service"].as_object_mut().unwrap();
    credential.retain(|name, _| !["client_secret", "scopes"].contains(&name.as_str()));
    credential.extend(changes.as_object().unwrap().clone());
    configuration
}

/// Envoy, and a client whose secret is in the file `token`.
async fn scene(reading: Reading, content: &str, changes: &Value) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.change_client("order-service", |client| client.lifetime = 4);
    idp.set_secrets("order-service", &["first-5ecret"]);
    let builder = builder(&idp, &upstream)
        .file("token", content)
        .serve_file_by(reading, "/client-secret", "DIRECTORY/token")
        .listener(listener(&wasm(&credential(&idp, changes))));
    Scene::of(idp, upstream, builder).await
}

fn by_file() -> Value {
    json!({ "client_secret": { "cluster": "files", "path": "/client-secret" } })
}

/// The secret of the newest token request.
fn presented(scene: &Scene) -> String {
    super::basic(&scene.idp.last(Endpoint::Token))
}

async fn rotate(scene: &Scene, write: impl Fn(&str)) {
    assert_eq!(scene.get("/orders").send().await.status, 200, "{}", scene.envoy.logs());
    let load = Load::of(scene.get("/orders")).connections(8).rate(100.0).start();
    load.proceed(100).await;
    for next in ["second-5ecret", "third-5ecret", "fourth-5ecret"] {
        // The usual order: the provider takes both, the file is replaced, the provider forgets the
        // old one.
        let old = presented(scene).split_once(':').unwrap().1.to_owned();
        scene.idp.set_secrets("order-service", &[&old, next]);
        write(next);
        let uses_it = async || presented(scene).ends_with(next).then_some(());
        until("the new secret is used", uses_it).await;
        scene.idp.set_secrets("order-service", &[next]);
    }
    let report = load.stop().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
    assert!(!scene.envoy.logs().contains(MARK));
}

#[tokio::test]
async fn a_secret_in_a_file_is_replaced_by_rename_under_load_and_no_request_notices() {
    let scene = scene(Reading::WatchedDirectory, "first-5ecret\n", &by_file()).await;
    rotate(&scene, |next| scene.envoy.write("token", &format!("{next}\n"))).await;
}

#[tokio::test]
async fn a_secret_in_a_file_is_written_in_place_under_load_and_no_request_notices() {
    let scene = scene(Reading::FileContent, "first-5ecret", &by_file()).await;
    rotate(&scene, |next| std::fs::write(scene.envoy.directory().join("token"), next).unwrap()).await;
}

#[tokio::test]
async fn a_file_without_a_secret_gets_503_until_it_has_one_and_the_provider_is_not_asked() {
    let big = "x".repeat(1024 * 1024);
    for (content, why) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("5ecret\n5ecret", "it has more than one line"),
        (big.as_str(), "too_large"),
    ] {
        let scene = scene(Reading::FileContent, content, &by_file()).await;
        let answer = scene.get("/orders").send().await;
        assert_eq!(answer.status, 503, "{why}: {}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{why}");
        let line = scene.envoy.wait_for_log("files/client-secret is not there yet").await;
        assert!(line.contains(why), "{line}");
        assert!(!scene.envoy.logs().contains("unreachable"), "the main thread is silent");
        assert_eq!(scene.idp.count(Endpoint::Token), 0, "{why}");
        scene.envoy.write("token", "first-5ecret");
        let works = async || (scene.get("/orders").send().await.status == 200).then_some(());
        until("the secret is used", works).await;
        assert!(!scene.envoy.logs().contains(MARK), "{}", scene.envoy.logs());
    }
}

#[tokio::test]
async fn a_private_key_in_a_file_is_replaced_and_what_is_no_key_costs_no_valid_token() {
    let keys = [Alg::Es256, Alg::EdDsa].map(Key::new);
    let changes = json!({
        "client_id": "by-key", "auth_method": "private_key_jwt",
        "private_key": { "cluster": "files", "path": "/client-secret" },
    });
    let scene = scene(Reading::FileContent, &keys[0].private_pem(), &changes).await;
    let assertion_keys = keys.to_vec();
    scene.idp.client(ClientSpec { assertion_keys, lifetime: 4, ..ClientSpec::new("by-key", "never") });
    let works = async || (scene.get("/orders").send().await.status == 200).then_some(());
    until("the first key is accepted", works).await;
    let load = Load::of(scene.get("/orders")).connections(8).rate(100.0).start();
    scene.envoy.write("token", &keys[1].private_pem());
    let algorithm = async || {
        let assertion = scene.idp.last(Endpoint::Token).parameter("client_assertion")?;
        (m2m_auth_kit::token::decode(&assertion).0["alg"] == "EdDSA").then_some(())
    };
    until("the second key is used", algorithm).await;
    let report = load.stop().await;
    assert!(report.only(200), "{report}\n{}", scene.envoy.logs());
}

#[tokio::test]
async fn a_secret_from_a_file_is_in_no_dump_no_counter_and_no_log_of_envoy() {
    let scene = scene(Reading::FileContent, "first-5ecret", &by_file()).await;
    assert_eq!(scene.get("/orders").send().await.status, 200, "{}", scene.envoy.logs());
    for path in ["/config_dump?include_eds", "/stats", "/clusters", "/listeners", "/server_info"] {
        let dump = scene.envoy.admin_get(path).await;
        assert!(!dump.is_empty() && !dump.contains(MARK), "{path}");
    }
    // No listener of this Envoy leads to the file.
    assert!(!scene.get("/client-secret").send().await.text().contains(MARK));
    assert!(!scene.envoy.logs().contains(MARK));
}
