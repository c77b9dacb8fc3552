//! `docs/how-to/token-exchange.md`.

use super::harness::{ISSUER, Page, Setup, parsed};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::repository;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn the_page_about_token_exchange_gets_a_token_for_the_caller() {
    let page = Page::read("docs/how-to/token-exchange.md");
    let (idp, own, payment) = (Idp::start().await, Upstream::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    let configuration = page.yaml("static_resources:");
    let example = std::fs::read_to_string(repository().join("examples/envoy/token-exchange.yaml")).unwrap();
    assert_eq!(parsed(configuration), parsed(&example), "the page's Envoy is the example");
    let mut run = Setup::of(configuration)
        .behind("keycloak", idp.address())
        .behind("inventory-service", own.address())
        .behind("payment-service", payment.address())
        .env("INVENTORY_SERVICE_SECRET", "inventory-secret")
        .start()
        .await;
    run.envoy.wait_for_log(HAS_KEYS).await;
    let token = idp.token();
    run.bearer("caller.header", &token);
    run.verify(&page).await;
    let [request] = <[_; 1]>::try_from(payment.requests()).unwrap();
    let exchanged = request.header("authorization").unwrap();
    let (_, claims) = decode(exchanged.strip_prefix("Bearer ").unwrap());
    assert_eq!(
        (&claims["aud"], &claims["azp"], &claims["sub"]),
        (&json!("payment-service"), &json!("inventory-service"), &decode(&token).1["sub"])
    );
    // A call of the service itself is validated, and forwarded with the caller's token.
    let call = run.get(10000, "/items").bearer(&token).send().await;
    assert_eq!((call.status, own.last().header("authorization")), (200, Some(format!("Bearer {token}"))));
    // The second configuration: the token is not verified here.
    let outbound = page.yaml("subject_token: { header: authorization }");
    let second = Setup::of(configuration)
        .filter(outbound)
        .behind("keycloak", idp.address())
        .behind("inventory-service", own.address())
        .behind("payment-service", payment.address())
        .env("INVENTORY_SERVICE_SECRET", "inventory-secret")
        .start()
        .await;
    let to = || second.get(10000, "/charge").header("host", "payment-service");
    assert_eq!(to().bearer(&token).send().await.status, 200);
    let made_up = to().bearer("made-up").send().await;
    assert_eq!((made_up.status, &made_up.json()["reason"]), (401, &json!("subject_token")));
}
