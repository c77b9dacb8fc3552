//! The scene of most tests on real Envoy: an identity provider, a service, and Envoy with the filter before it.

use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Builder, Envoy, Wasm};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

/// Everything that runs.
pub(crate) struct Scene {
    pub(crate) idp: Idp,
    pub(crate) upstream: Upstream,
    pub(crate) envoy: Envoy,
}

impl Scene {
    /// The provider and the service start, then Envoy with this configuration of the filter.
    pub(crate) async fn start(configuration: impl FnOnce(&Idp) -> Value) -> Self {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        Self::with(idp, upstream, configuration).await
    }

    /// Envoy starts before a provider and a service that run already, or that do not run.
    pub(crate) async fn with(idp: Idp, upstream: Upstream, configuration: impl FnOnce(&Idp) -> Value) -> Self {
        let filter = Wasm::new(&configuration(&idp)).host_env("ORDER_SERVICE_SECRET");
        let envoy = builder(&idp, &upstream)
            .env("ORDER_SERVICE_SECRET", "order-secret")
            .listener(listener(&filter))
            .start()
            .await
            .unwrap();
        Self { idp, upstream, envoy }
    }

    /// A request to Envoy.
    pub(crate) fn get(&self, path: &str) -> Request {
        client::get(self.envoy.url("main", path))
    }
}

/// Envoy with a way to the provider and to the service.
pub(crate) fn builder(idp: &Idp, upstream: &Upstream) -> Builder {
    Envoy::builder()
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("service", upstream.address()))
}

/// A listener with the filter, before the service.
pub(crate) fn listener(filter: &Wasm) -> Value {
    envoy::listener("main", vec![filter.filter()], envoy::route_to("service"))
}

/// The issuer, with nothing but what must be said.
pub(crate) fn issuers(idp: &Idp) -> Value {
    json!({ "keycloak": { "issuer": idp.issuer(), "cluster": "keycloak" } })
}

/// The inbound configuration of the README: one rule, one audience, one role.
pub(crate) fn inbound(idp: &Idp) -> Value {
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [{
            "match": { "path_prefix": "/inventory" },
            "require": {
                "issuer": "keycloak",
                "audiences": ["inventory-service"],
                "client_roles": { "inventory-service": ["inventory:read"] },
            },
        }] },
    })
}

/// The outbound configuration of the README: one credential for every request.
pub(crate) fn outbound(idp: &Idp) -> Value {
    json!({
        "issuers": issuers(idp),
        "outbound": {
            "credentials": { "order-service": {
                "issuer": "keycloak",
                "client_id": "order-service",
                "client_secret": { "env": "ORDER_SERVICE_SECRET" },
                "scopes": ["inventory-api"],
            } },
            "rules": [{ "credential": "order-service" }],
        },
    })
}
