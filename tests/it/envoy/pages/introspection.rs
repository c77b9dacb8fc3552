//! `docs/how-to/introspection.md`.

use super::harness::{ISSUER, Page, Setup};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::upstream::Upstream;

#[tokio::test]
async fn the_page_about_introspection_asks_the_issuer_and_refuses_a_revoked_token() {
    let page = Page::read("docs/how-to/introspection.md");
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    let mut run = Setup::example("introspection.yaml")
        .filter(page.yaml("issuers:"))
        .behind("keycloak", idp.address())
        .behind("inventory-service", service.address())
        .env("INVENTORY_SERVICE_SECRET", "inventory-secret")
        .start()
        .await;
    run.logged_by_all(HAS_KEYS).await;
    run.bearer("opaque.header", &idp.opaque(idp.claims()));
    run.bearer("jwt.header", &idp.token());
    let revoked = idp.token();
    idp.revoke(&revoked);
    run.bearer("revoked.header", &revoked);
    run.verify(&page.section("## Verify")).await;
    assert_eq!((service.count(), idp.count(Endpoint::Introspection)), (2, 3));
    idp.fault(Endpoint::Introspection, Fault::Status(500, String::new()));
    run.bearer("new.header", &idp.opaque(idp.claims()));
    run.verify(&page.section("## If the issuer is down")).await;
    assert_eq!(service.count(), 2);
}
