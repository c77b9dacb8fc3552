//! `docs/how-to/debug-a-refusal.md`.

use super::harness::{Inbound, Page, Setup};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn the_page_about_debugging_explains_a_401_and_a_403() {
    let page = Page::read("docs/how-to/debug-a-refusal.md");
    let mut scene = Inbound::start(page.yaml("issuers:")).await;
    scene.token("caller.header", |claims| claims["aud"] = json!("account"));
    let keys = scene.idp.document(Endpoint::Keys).to_string();
    std::fs::write(scene.run.folder().join("keycloak.jwks.json"), keys).unwrap();
    scene.run.verify(&page.section("## Example: 401")).await;
    scene.token("caller.header", |claims| claims["resource_access"] = json!({}));
    scene.run.verify(&page.section("## Example: 403")).await;
    assert!(scene.arrived().is_empty());
}

#[tokio::test]
async fn the_page_about_debugging_explains_a_503() {
    let page = Page::read("docs/how-to/debug-a-refusal.md");
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    let address = idp.address();
    idp.set_issuer(super::harness::ISSUER);
    let token = idp.token();
    idp.stop().await;
    let mut run = Setup::example("inbound-only.yaml")
        .filter(page.yaml("issuers:"))
        .behind("keycloak", address)
        .behind("own-service", service.address())
        .start()
        .await;
    run.bearer("caller.header", &token);
    run.verify(&page.section("## Example: 503")).await;
    assert_eq!(service.count(), 0);
}
