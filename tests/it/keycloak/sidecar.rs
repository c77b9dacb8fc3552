//! What most suites start beside Keycloak: an Envoy with the filter, in front of a service, and its
//! configurations.

use m2m_auth_kit::envoy::{self, Builder, Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::{Value, json};
use std::net::SocketAddr;

/// The environment variable with the client secret of [`outbound`].
pub(crate) const SECRET: &str = "ORDER_SERVICE_SECRET";

/// The realm, as the issuer `keycloak`.
pub(crate) fn issuers(realm: &Keycloak) -> Value {
    json!({ "keycloak": { "issuer": realm.issuer(), "cluster": "keycloak" } })
}

/// What inventory-service requires of a token.
pub(crate) fn require() -> Value {
    json!({
        "issuer": "keycloak",
        "audiences": ["inventory-service"],
        "client_roles": { "inventory-service": ["inventory:read"] },
    })
}

/// The inbound configuration of inventory-service.
pub(crate) fn inbound(realm: &Keycloak) -> Value {
    json!({
        "issuers": issuers(realm),
        "inbound": { "rules": [{
            "match": { "path_prefix": "/inventory" },
            "require": require(),
            "claims_to_headers": { "x-caller": "azp" },
        }] },
    })
}

/// The outbound configuration of order-service, with its secret from the environment.
pub(crate) fn outbound(realm: &Keycloak) -> Value {
    let mut credential = credential("order-service");
    credential["client_secret"] = json!({ "env": SECRET });
    credential["scopes"] = json!(["inventory-api"]);
    every_request(realm, &credential)
}

/// This credential's token for every request.
pub(crate) fn every_request(realm: &Keycloak, credential: &Value) -> Value {
    let name = &credential["client_id"];
    json!({
        "issuers": issuers(realm),
        "outbound": {
            "credentials": { name.as_str().unwrap(): credential },
            "rules": [{ "credential": name }],
        },
    })
}

/// A client of the demo's realm, with its secret inline.
pub(crate) fn credential(client: &str) -> Value {
    json!({
        "issuer": "keycloak",
        "client_id": client,
        "client_secret": { "inline": keycloak::secret(client) },
    })
}

/// A rule for each credential: its name is the path.
pub(crate) fn by_path(credentials: &Value) -> Vec<Value> {
    let names = credentials.as_object().unwrap().keys();
    names.map(|name| json!({ "match": { "path": format!("/{name}") }, "credential": name })).collect()
}

/// An Envoy that knows this realm and this service.
pub(crate) fn builder(realm: &Keycloak, service: SocketAddr) -> Builder {
    Envoy::builder()
        .cluster(envoy::cluster("keycloak", realm.address()))
        .cluster(envoy::cluster("service", service))
}

/// A listener with this filter, in front of the service.
pub(crate) fn listener(name: &str, filter: &Wasm) -> Value {
    envoy::listener(name, vec![filter.filter()], envoy::route_to("service"))
}

/// An Envoy with one such listener.
pub(crate) async fn start(name: &str, filter: &Wasm, realm: &Keycloak, service: SocketAddr) -> Envoy {
    builder(realm, service).listener(listener(name, filter)).start().await.unwrap()
}
