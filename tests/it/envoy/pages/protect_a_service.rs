//! `docs/how-to/protect-a-service.md`.

use super::harness::{ISSUER, Page, Setup};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn the_page_about_protecting_a_service_allows_and_denies_as_it_says() {
    let page = Page::read("docs/how-to/protect-a-service.md");
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    let mut run = Setup::example("inbound-only.yaml")
        .filter(page.yaml("issuers:"))
        .behind("keycloak", idp.address())
        .behind("own-service", service.address())
        .start()
        .await;
    run.envoy.wait_for_log(HAS_KEYS).await;
    let mut claims = idp.claims();
    (claims["scope"], claims["tenant"]) = (json!("inventory-api"), json!("blue"));
    claims["resource_access"] = json!({});
    run.bearer("reader.header", &idp.mint(claims));
    service.answer_by(|_| {
        let body = Some("[{\"sku\":\"A-1\",\"stock\":12}]".to_owned());
        Some(m2m_auth_kit::upstream::Reply { body, ..m2m_auth_kit::upstream::Reply::new(200, &[]) })
    });
    run.verify(&page).await;
    let paths: Vec<_> = service.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/health", "/items", "/tenants/blue/orders"]);
}
