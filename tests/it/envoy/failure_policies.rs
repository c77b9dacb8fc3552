//! The failure policies on real Envoy: what each does once a VM has crashed, and what `check` says
//! of that very Envoy.

use crate::core::cli::findings::found;
use crate::envoy::scene::{Scene, inbound, wasm};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::faults::{crashing, fatal};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use std::fs;

/// The status of a request without a token, after the VM has crashed, and the findings of `check`
/// in Envoy's own dump.
async fn after_a_crash(policy: &str) -> (Scene, Vec<[String; 2]>) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("m2m_auth.wasm");
    fs::write(&module, crashing(&envoy::module())).unwrap();
    let filter = wasm(&inbound(&idp)).module(module).failure_policy(policy);
    let builder = Envoy::builder()
        .concurrency(1)
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("service", upstream.address()))
        .listener(envoy::listener("main", vec![filter.filter()], envoy::route_to("service")));
    let scene = Scene::of(idp, upstream, builder).await;
    assert_eq!(scene.get("/inventory").send().await.status, 401, "the VM is well");
    assert_eq!(fatal(scene.get("/inventory")).send().await.status, 503, "the request that was in it");
    let dump = scene.envoy.config_dump().await;
    let findings = found(&dump).into_iter().map(|[severity, name, _]| [severity, name]).collect();
    (scene, findings)
}

fn finding(severity: &str, name: &str) -> [String; 2] {
    [severity.to_owned(), name.to_owned()]
}

#[tokio::test]
async fn fail_open_forwards_requests_unchecked_and_check_reports_it() {
    let (scene, findings) = after_a_crash("FAIL_OPEN").await;
    assert_eq!(scene.get("/inventory").send().await.status, 200, "without a token");
    assert_eq!(scene.seen("/inventory").len(), 1);
    assert!(findings.contains(&finding("error", "fail-open")), "{findings:?}");
}

#[tokio::test]
async fn what_is_not_configured_stays_closed_and_check_warns() {
    let (scene, findings) = after_a_crash("UNSPECIFIED").await;
    for _ in 0..3 {
        assert_eq!(scene.get("/inventory").send().await.status, 503);
    }
    assert!(scene.seen("/inventory").is_empty());
    assert!(findings.contains(&finding("warning", "no-failure-policy")), "{findings:?}");
    assert!(!findings.iter().any(|own| own[0] == "error"), "{findings:?}");
}

#[tokio::test]
async fn what_reloads_checks_requests_again_and_check_has_nothing_to_say() {
    let (scene, findings) = after_a_crash("FAIL_RELOAD").await;
    until("there is a new VM", async || {
        let status = scene.get("/inventory").send().await.status;
        assert!([401, 503].contains(&status), "{status}");
        (status == 401).then_some(())
    })
    .await;
    assert!(scene.seen("/inventory").is_empty());
    let allowed = finding("warning", "no-buffer-limit");
    assert!(findings.iter().all(|own| *own == allowed), "{findings:?}");
}
