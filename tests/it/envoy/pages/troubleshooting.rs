//! The log lines of `docs/operations/troubleshooting.md`, as a real Envoy with the filter writes
//! them.

use crate::envoy::scene::{Scene, builder, inbound, listener, outbound, wasm};
use crate::project::tree::{code, read, rows};
use m2m_auth_kit::envoy;
use m2m_auth_kit::faults::{crashing, fatal};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::fs;

/// The page has a row for this part of a line.
fn explained(part: &str) {
    let page = read("docs/operations/troubleshooting.md");
    let rows = rows(&page, "log line");
    let is_there = rows.iter().any(|row| code(&row[0]).contains(&part));
    assert!(is_there, "docs/operations/troubleshooting.md has no row for {part:?}");
}

/// Envoy does not start with this filter, and its log has these parts.
async fn does_not_start(filter: Value, parts: &[&str]) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let listener = envoy::listener("main", vec![filter], envoy::route_to("service"));
    let error = builder(&idp, &upstream).static_listeners().listener(listener).start().await.err().unwrap();
    for part in parts {
        assert!(error.log.contains(part), "{part:?} is not in:\n{}", error.log);
        explained(part);
    }
}

#[tokio::test]
async fn an_envoy_that_does_not_start_writes_what_the_page_explains() {
    let idp = Idp::start().await;
    let mut wrong = inbound(&idp);
    wrong["issuers"]["keycloak"]["clok_skew"] = json!("60s");
    does_not_start(wasm(&wrong).filter(), &["in the configuration", "Unable to create Wasm plugin"]).await;
    let mut secret = outbound(&idp);
    secret["outbound"]["credentials"]["order-service"]["client_secret"]["env"] = json!("NOT_SET");
    let parts = ["is not set, expected it in Envoy's environment and in the plugin's host_env_keys"];
    does_not_start(wasm(&secret).filter(), &parts).await;
    let folder = tempfile::tempdir().unwrap();
    let missing = wasm(&inbound(&idp)).module(folder.path().join("missing.wasm"));
    does_not_start(missing.filter(), &["Invalid path"]).await;
    let other = folder.path().join("other.wasm");
    fs::write(&other, "not a module").unwrap();
    let parts = ["Failed to load Wasm code", "Unable to create Wasm plugin"];
    does_not_start(wasm(&inbound(&idp)).module(other).filter(), &parts).await;
}

#[tokio::test]
async fn a_filter_behind_the_router_is_refused_with_what_the_page_explains() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut listener = listener(&wasm(&inbound(&idp)));
    envoy::manager_mut(&mut listener)["http_filters"].as_array_mut().unwrap().reverse();
    let error = builder(&idp, &upstream).static_listeners().listener(listener).start().await.err().unwrap();
    let part = "must be the last filter";
    assert!(error.log.contains(part), "{}", error.log);
    explained(part);
}

/// Envoy with this configuration writes this, and the page explains it.
async fn writes(configuration: impl FnOnce(&Idp) -> Value, part: &str) {
    let scene = Scene::start(configuration).await;
    scene.envoy.wait_for_log(part).await;
    explained(part);
}

#[tokio::test]
async fn a_fetch_that_fails_writes_what_the_page_explains() {
    let cluster = |idp: &Idp| {
        let mut configuration = inbound(idp);
        configuration["issuers"]["keycloak"]["cluster"] = json!("keycloack");
        configuration
    };
    writes(cluster, "not found in Envoy's configuration").await;
    let issuer = |idp: &Idp| {
        let mut configuration = inbound(idp);
        configuration["issuers"]["keycloak"]["issuer"] = json!(format!("{}/", idp.issuer()));
        configuration
    };
    writes(issuer, "the metadata's issuer is").await;
    let secret = |idp: &Idp| {
        idp.set_secrets("order-service", &["another"]);
        outbound(idp)
    };
    writes(secret, "unauthorized_client").await;
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = envoy::Envoy::builder()
        .cluster(envoy::cluster("keycloak", closed))
        .cluster(envoy::cluster("service", upstream.address()))
        .listener(listener(&envoy::Wasm::new(&inbound(&idp))));
    let scene = Scene::of(idp, upstream, builder).await;
    let part = "no connection: refused, or TLS failed";
    scene.envoy.wait_for_log(part).await;
    explained(part);
}

#[tokio::test]
async fn a_crash_and_a_refusal_are_logged_at_the_level_that_the_page_names() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("crashing.wasm");
    fs::write(&module, crashing(&envoy::module())).unwrap();
    let filter = wasm(&inbound(&idp)).module(module).failure_policy("FAIL_RELOAD");
    let builder = builder(&idp, &upstream).concurrency(1).log_level("warning").listener(listener(&filter));
    let scene = Scene::of(idp, upstream, builder).await;
    assert_eq!(scene.get("/inventory").send().await.status, 401);
    scene.envoy.wait_for_log("\"reason\":\"no_token\"").await;
    let answer = fatal(scene.get("/inventory")).send().await;
    assert_eq!((answer.status, answer.body.len()), (503, 0), "no body: {answer:?}");
    let part = "Uncaught RuntimeError";
    scene.envoy.wait_for_log(part).await;
    explained(part);
    until("there is a new VM", async || (scene.get("/inventory").send().await.status == 401).then_some(()))
        .await;
    let reloads = scene.envoy.stats("wasm.").await;
    let reloaded = reloads.iter().any(|(name, count)| name.ends_with(".vm_reload_success") && *count > 0);
    assert!(reloaded, "{reloads:?}");
}
