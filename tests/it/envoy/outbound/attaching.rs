//! Which request gets which token, and in which headers.

use super::{arrived, outbound};
use crate::envoy::scene::Scene;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::token::decode;
use serde_json::{Value, json};

/// The token of `payment-service` for tenant blue, in two headers; of `order-service` for every
/// other request with a tenant.
fn by_tenant(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["outbound"]["credentials"]["payment-service"] = json!({
        "issuer": "keycloak", "client_id": "payment-service", "client_secret": { "inline": "payment-secret" },
    });
    configuration["outbound"]["rules"] = json!([
        {
            "match": { "headers": { "X-Tenant": "blue" } },
            "credential": "payment-service",
            "second_header": "x-forwarded-access-token",
        },
        { "match": { "headers": { "x-tenant": { "present": true } } }, "credential": "order-service" },
    ]);
    configuration
}

#[tokio::test]
async fn rules_are_chosen_by_headers_and_a_second_header_holds_the_token_alone() {
    let scene = Scene::start(by_tenant).await;
    let client = |value: &str| decode(value.trim_start_matches("Bearer ")).1["azp"].clone();
    let blue =
        scene.get("/").header("x-tenant", "blue").header("x-forwarded-access-token", "forged").send().await;
    let [token, second] = ["authorization", "x-forwarded-access-token"].map(|name| arrived(&blue, name));
    assert_eq!(client(&token[0]), "payment-service");
    assert_eq!(token, [format!("Bearer {}", second[0])], "and the client's own copy is gone: {second:?}");
    for tenant in ["red", ""] {
        let answer = scene.get("/").header("x-tenant", tenant).send().await;
        assert_eq!(client(&arrived(&answer, "authorization")[0]), "order-service", "{tenant:?}");
        assert!(arrived(&answer, "x-forwarded-access-token").is_empty());
    }
    for [first, second] in [["blue", "red"], ["red", "blue"]] {
        let answer = scene.get("/").header("x-tenant", first).header("x-tenant", second).send().await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (400, &json!("ambiguous_header")),
            "{first} {second}"
        );
    }
    assert!(arrived(&scene.get("/").send().await, "authorization").is_empty(), "no tenant, no rule");
}
