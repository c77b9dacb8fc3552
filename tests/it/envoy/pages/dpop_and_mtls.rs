//! `docs/how-to/dpop-and-mtls.md`.

use super::harness::{ISSUER, Inbound, Page, Setup};
use crate::envoy::scene::{HAS_KEYS, HAS_TOKEN};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::repository;
use m2m_auth_kit::token::dpop_proof;
use m2m_auth_kit::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn the_page_about_dpop_accepts_what_its_outbound_side_sends_and_no_stolen_token() {
    let page = Page::read("docs/how-to/dpop-and-mtls.md");
    let inbound = page.section("## Require DPoP");
    let mut scene = Inbound::start(inbound.yaml("issuers:")).await;
    scene.idp.change_client("order-service", |client| client.dpop_bound = true);
    let mut caller = Setup::example("outbound-only.yaml")
        .filter(page.section("## Send DPoP-bound tokens").yaml("issuers:"))
        .behind("keycloak", scene.idp.address())
        .behind("inventory-service", scene.run.envoy.address("port-8080").parse().unwrap())
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .start()
        .await;
    caller.envoy.wait_for_log(HAS_TOKEN).await;
    let key = Key::new(Alg::Es256);
    let token = scene.mint(|claims| claims["cnf"] = json!({ "jkt": key.thumbprint() }));
    scene.run.bearer("stolen.header", &token);
    scene.run.header("dpop.header", &format!("authorization: DPoP {token}"));
    let url = "https://inventory.example.com/items";
    let proof = dpop_proof(&key, "GET", url, Some(&token)).sign(&key);
    scene.run.header("proof.header", &format!("dpop: {proof}"));
    scene.token("unbound.header", |_| ());
    scene.run.verify(&inbound).await;
    assert_eq!(scene.run.get(8080, "/items").send().await.status, 401);
    caller.verify(&page.section("## Send DPoP-bound tokens")).await;
    let requests = scene.service.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.header("authorization").unwrap().starts_with("DPoP "));
    }
}

#[tokio::test]
async fn the_page_about_mutual_tls_accepts_a_token_with_its_certificate_alone() {
    let page = Page::read("docs/how-to/dpop-and-mtls.md").section("## Require mutual TLS");
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    let tls = repository().join("tests/data/tls");
    let mut run = Setup::example("bound-tokens.yaml")
        .filter(page.yaml("issuers:"))
        .edit(|bootstrap| {
            let socket = super::harness::parsed(page.yaml("transport_socket:"))["transport_socket"].take();
            bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = socket;
        })
        .replace("/etc/envoy/tls", tls.to_str().unwrap())
        .behind("keycloak", idp.address())
        .behind("inventory-service", service.address())
        .env("DPOP_NONCE_KEY", "0123456789abcdef0123456789abcdef")
        .start()
        .await;
    run.logged_by_all(HAS_KEYS).await;
    for file in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(tls.join(file), run.folder().join(file)).unwrap();
    }
    let digest = run.run(page.block("sh", "openssl x509").trim()).await;
    let mut claims = idp.claims();
    claims["cnf"] = json!({ "x5t#S256": digest });
    run.bearer("bound.header", &idp.mint(claims));
    run.verify(&page).await;
    assert_eq!(service.count(), 1);
}
