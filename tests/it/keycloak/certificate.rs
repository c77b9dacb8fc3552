//! Tokens that Keycloak binds to a certificate (RFC 8705), end to end: the caller's Envoy presents
//! the certificate to Keycloak and to the service, and the service's Envoy accepts the token only
//! with it.

use crate::sidecar::{self, builder, issuers};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::json;
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::upstream::Upstream;

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_taken_with_it_and_from_nobody_else() {
    let keycloak = Keycloak::start().await;
    let upstream = Upstream::start().await;
    let rule = json!({
        "require": { "issuer": "keycloak", "audiences": ["inventory-service"], "token_binding": "mtls" },
        "claims_to_headers": { "x-caller": "azp" },
    });
    let inbound = json!({
        "issuers": issuers(&keycloak),
        "inbound": { "rules": [rule] },
    });
    let file = |name: &str| json!({ "filename": keycloak::certificates().join(name) });
    let mut listener = sidecar::listener("in", &Wasm::new(&inbound));
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{ "certificate_chain": file("server.pem"), "private_key": file("server.key") }],
                "validation_context": { "trusted_ca": file("ca.pem") },
            },
        },
    });
    let called = builder(&keycloak, upstream.address()).listener(listener).start().await.unwrap();

    let token_endpoint = keycloak
        .endpoint("token")
        .replace(&format!("http://{}", keycloak.address()), &format!("https://{}", keycloak.tls_address()));
    let outbound = json!({
        "issuers": { "keycloak": {
            "issuer": keycloak.issuer(),
            "cluster": "keycloak",
            "token_endpoint": token_endpoint,
        } },
        "outbound": {
            "credentials": { "tls": { "issuer": "keycloak", "client_id": "tls-service", "auth_method": "tls_client_auth" } },
            "rules": [{ "credential": "tls" }],
        },
    });
    let service = || envoy::cluster("service", called.address("in").parse().unwrap());
    let mut nobody = envoy::client_tls(service(), false);
    nobody["name"] = json!("without");
    let caller = Envoy::builder()
        .cluster(envoy::client_tls(envoy::cluster("keycloak", keycloak.tls_address()), true))
        .cluster(envoy::client_tls(service(), true))
        .cluster(nobody)
        .listener(sidecar::listener("with", &Wasm::new(&outbound)))
        .listener(envoy::listener("presented", vec![], envoy::route_to("service")))
        .listener(envoy::listener("without", vec![], envoy::route_to("without")))
        .start()
        .await
        .unwrap();
    for _ in 0..20 {
        let answer = client::get(caller.url("with", "/inventory/items")).send().await;
        assert_eq!(answer.status, 200, "{}\n{}\n{}", answer.text(), called.logs(), caller.logs());
    }
    assert_eq!(upstream.last().header("x-caller").as_deref(), Some("tls-service"));
    // A stolen token is useless without the key of the certificate, and a token that is not bound
    // is refused with any certificate.
    let stolen = upstream.last().header("authorization").unwrap();
    let stolen = stolen.strip_prefix("Bearer ").unwrap();
    let plain = keycloak.token("order-service", &keycloak::secret("order-service"), "").await;
    for (listener, token, status) in
        [("without", stolen, 401), ("presented", &plain, 401), ("presented", stolen, 200)]
    {
        let answer = client::get(caller.url(listener, "/inventory/items")).bearer(token).send().await;
        assert_eq!(answer.status, status, "{listener}: {}", answer.text());
        if status == 401 {
            assert_eq!(answer.json()["reason"], "binding_mismatch", "{listener}: {}", answer.text());
        }
    }
    assert_eq!(upstream.count(), 21);
}
