//! `docs/how-to/several-issuers.md`.

use super::harness::{ISSUER, Page, Setup};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::token::now;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

const TENANTS: [&str; 2] = ["8f6f2f0e-2d5a-4c4e-9a53-0d1c5e0a6b11", "3c1c7f0a-76e3-4a1e-8a5d-6c2f4d9b7e22"];

#[tokio::test]
async fn the_page_about_several_issuers_accepts_each_issuers_tokens_where_it_says() {
    let page = Page::read("docs/how-to/several-issuers.md");
    let service = Upstream::start().await;
    let [keycloak, entra, cognito] = [Idp::start().await, Idp::start().await, Idp::start().await];
    let of_tenant = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    keycloak.set_issuer("https://sso.example.com/realms/my-realm");
    entra.set_issuer(&of_tenant(TENANTS[0]));
    let pool = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_example";
    cognito.set_issuer(pool);
    let mut run = Setup::example("several-issuers.yaml")
        .filter(page.yaml("issuers:"))
        .behind("keycloak", keycloak.address())
        .behind("entra", entra.address())
        .behind("cognito", cognito.address())
        .behind("inventory-service", service.address())
        .start()
        .await;
    for name in ["keycloak", "entra", "cognito"] {
        run.logged_by_all(&HAS_KEYS.replace("keycloak", name)).await;
    }
    let token = |idp: &Idp, own: Value| {
        let mut claims = json!({ "iat": now(), "exp": now() + 300, "sub": "s-1" });
        claims.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        idp.mint(claims)
    };
    let aud = "inventory-service";
    let own = json!({ "iss": keycloak.issuer(), "aud": aud, "azp": "order-service", "typ": "Bearer" });
    run.bearer("keycloak.header", &token(&keycloak, own.clone()));
    let mut old = own.clone();
    old["iss"] = json!(ISSUER);
    run.bearer("keycloak-old.header", &token(&keycloak, old));
    let of = |tenant: &str| json!({ "iss": of_tenant(tenant), "tid": tenant, "aud": "api://inventory-service", "appid": "a-1" });
    run.bearer("entra.header", &token(&entra, of(TENANTS[1])));
    run.bearer("stranger.header", &token(&entra, of("00000000-0000-4000-a000-000000000000")));
    let mut partner =
        json!({ "iss": pool, "client_id": "4example7client1of2cognito", "token_use": "access" });
    partner["scope"] = json!("inventory/read");
    run.bearer("cognito.header", &token(&cognito, partner));
    run.bearer("forged.header", &token(&cognito, own));
    run.verify(&page).await;
    assert_eq!(service.count(), 4);
}
