//! Tokens that Keycloak binds to the worker's key (RFC 9449).

use m2m_auth_kit::client;
use m2m_auth_kit::dpop::Service;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::json;
use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::public::thumbprint;
use m2m_auth_kit::token;
use m2m_auth_kit::upstream::Upstream;

#[tokio::test]
async fn its_token_is_bound_to_the_key_of_the_proof() {
    let realm = Keycloak::start().await.realm("dpop").await;
    let client = json!({
        "clientId": "bound-service",
        "publicClient": false,
        "clientAuthenticatorType": "client-secret",
        "secret": "bound-secret",
        "serviceAccountsEnabled": true,
        "standardFlowEnabled": false,
        "attributes": { "dpop.bound.access.tokens": "true" },
    });
    realm.admin("POST", "clients", Some(&client)).await;
    let (upstream, service) = (Upstream::start().await, Service::new("https://api.example.com"));
    upstream.answer_by(service.rule());
    let configuration = json!({
        "issuers": { "keycloak": { "issuer": realm.issuer(), "cluster": "keycloak" } },
        "outbound": {
            "credentials": { "bound": {
                "issuer": "keycloak",
                "client_id": "bound-service",
                "client_secret": { "inline": "bound-secret" },
                "dpop": true,
            } },
            "rules": [{ "credential": "bound", "dpop_origin": "https://api.example.com" }],
        },
    });
    let envoy = Envoy::builder()
        .cluster(envoy::cluster("keycloak", realm.address()))
        .cluster(envoy::cluster("service", upstream.address()))
        .listener(envoy::listener(
            "main",
            vec![Wasm::new(&configuration).filter()],
            envoy::route_to("service"),
        ))
        .start()
        .await
        .unwrap();
    for _ in 0..20 {
        let answer = client::get(envoy.url("main", "/orders?page=1")).send().await;
        assert_eq!(answer.status, 200, "{:?}\n{}", service.faults(), envoy.logs());
    }
    let request = upstream.last();
    let sent = request.header("authorization").unwrap();
    let (_, claims) = token::decode(sent.strip_prefix("DPoP ").unwrap());
    let (header, _) = token::decode(&request.header("dpop").unwrap());
    assert_eq!(claims["cnf"]["jkt"], json!(thumbprint(&header["jwk"])));
    assert_eq!(claims["typ"], "DPoP");
}
