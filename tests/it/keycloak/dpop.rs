//! Tokens that Keycloak binds to the worker's key (RFC 9449).

use crate::sidecar::{self, every_request, issuers};
use m2m_auth_kit::client;
use m2m_auth_kit::dpop::Service;
use m2m_auth_kit::envoy::Wasm;
use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::public::thumbprint;
use m2m_auth_kit::token;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{Value, json};

/// A client with bound tokens for inventory-service.
fn bound_client() -> Value {
    json!({
        "clientId": "bound-service",
        "publicClient": false,
        "clientAuthenticatorType": "client-secret",
        "secret": "bound-secret",
        "serviceAccountsEnabled": true,
        "standardFlowEnabled": false,
        "attributes": { "dpop.bound.access.tokens": "true" },
        "protocolMappers": [{
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": "inventory-service", "access.token.claim": "true" },
        }],
    })
}

fn bound_credential() -> Value {
    json!({
        "issuer": "keycloak",
        "client_id": "bound-service",
        "client_secret": { "inline": "bound-secret" },
        "dpop": true,
    })
}

#[tokio::test]
async fn its_bound_token_is_taken_with_its_proof_and_with_nothing_less() {
    let realm = Keycloak::start().await.realm("dpop-inbound").await;
    realm.admin("POST", "clients", Some(&bound_client())).await;
    let upstream = Upstream::start().await;
    let inbound = json!({
        "issuers": issuers(&realm),
        "inbound": { "rules": [{
            "require": { "issuer": "keycloak", "audiences": ["inventory-service"], "token_binding": "dpop" },
            "claims_to_headers": { "x-caller": "azp" },
        }] },
    });
    let service = sidecar::start("main", &Wasm::new(&inbound), &realm, upstream.address()).await;
    let outbound = Wasm::new(&every_request(&realm, &bound_credential()));
    let caller = sidecar::start("main", &outbound, &realm, service.address("main").parse().unwrap()).await;
    for _ in 0..20 {
        let answer = client::get(caller.url("main", "/orders?page=1")).send().await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), service.logs());
    }
    let request = upstream.last();
    assert_eq!(request.header("x-caller").as_deref(), Some("bound-service"));
    let [credential, proof] = ["authorization", "dpop"].map(|name| request.header(name).unwrap());
    let stolen = client::get(service.url("main", "/orders")).header("authorization", &credential);
    for (request, reason) in [
        (stolen.clone(), "proof_missing"),
        (stolen.clone().header("dpop", &proof), "proof_url"),
        (
            client::get(service.url("main", "/orders")).bearer(credential.trim_start_matches("DPoP ")),
            "binding_mismatch",
        ),
    ] {
        let answer = request.send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!(reason)));
    }
    // With the URL that it was made for, it has been used.
    let again = client::get(service.url("main", "/orders")).header("host", caller.address("main"));
    let answer = again.header("authorization", &credential).header("dpop", &proof).send().await;
    assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("proof_replayed")));
}

#[tokio::test]
async fn its_token_is_bound_to_the_key_of_the_proof() {
    let realm = Keycloak::start().await.realm("dpop").await;
    realm.admin("POST", "clients", Some(&bound_client())).await;
    let (upstream, service) = (Upstream::start().await, Service::new("https://api.example.com"));
    upstream.answer_by(service.rule());
    let mut configuration = every_request(&realm, &bound_credential());
    configuration["outbound"]["rules"][0]["dpop_origin"] = json!("https://api.example.com");
    let envoy = sidecar::start("main", &Wasm::new(&configuration), &realm, upstream.address()).await;
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
