//! The scene of most tests on real Envoy: an identity provider, a service, and Envoy with the
//! filter before it.

use m2m_auth_kit::client::{self, Request, Response};
use m2m_auth_kit::envoy::{self, Builder, Envoy, Wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Gate, Idp};
use m2m_auth_kit::record::Recorded;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

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
    pub(crate) async fn with(
        idp: Idp,
        upstream: Upstream,
        configuration: impl FnOnce(&Idp) -> Value,
    ) -> Self {
        let filter = wasm(&configuration(&idp));
        let builder = builder(&idp, &upstream).listener(listener(&filter));
        Self::of(idp, upstream, builder).await
    }

    /// Envoy starts as it was put together.
    pub(crate) async fn of(idp: Idp, upstream: Upstream, builder: Builder) -> Self {
        let envoy = builder.start().await.unwrap();
        Self { idp, upstream, envoy }
    }

    /// A request to Envoy.
    pub(crate) fn get(&self, path: &str) -> Request {
        client::get(self.envoy.url("main", path))
    }

    /// A request of any method to Envoy.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, self.envoy.url("main", path))
    }

    /// What the service was asked under that path, the query included.
    pub(crate) fn seen(&self, path: &str) -> Vec<Recorded> {
        let requests = self.upstream.requests();
        requests.into_iter().filter(|request| request.path == path).collect()
    }

    /// Waits until the filter has logged that this many times: each VM of Envoy logs what it has
    /// fetched.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        let seen = async || (self.envoy.logs().matches(text).count() >= times).then_some(());
        until(&format!("{times} log lines with {text:?}"), seen).await;
    }

    /// Waits until this many requests have begun to wait since the start.
    pub(crate) async fn held(&self, count: u64) {
        held(&self.envoy, count).await;
    }
}

/// Waits until this many requests have begun to wait since Envoy's start.
pub(crate) async fn held(envoy: &Envoy, count: u64) {
    until(&format!("{count} requests are held"), async || {
        let held: u64 = envoy.stats("wasmcustom.m2m_auth_pending.").await.values().sum();
        assert!(held <= count, "{held} are held");
        (held == count).then_some(())
    })
    .await;
}

/// From now on the provider keeps the answers of these endpoints back, until the gate is open.
pub(crate) fn gated(idp: &Idp, endpoints: &[Endpoint]) -> Gate {
    let gate = Gate::default();
    for endpoint in endpoints {
        idp.fault(*endpoint, Fault::Gated(gate.clone()));
    }
    gate
}

/// The VMs of an Envoy with two workers that fetch: one for each, and one on the main thread.
pub(crate) const VMS: usize = 3;

/// What a VM logs when it has the keys of the issuer `keycloak`.
pub(crate) const HAS_KEYS: &str = "keys of issuer keycloak: 1 usable";

/// What a VM logs when it has the token of the credential `order-service`.
pub(crate) const HAS_TOKEN: &str = "token of credential order-service: token acquired";

/// A scene that tests share for as long as one of them runs: a start of Envoy takes longer than
/// most of them do.
pub(crate) struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// The scene that others use already, else a new one.
    pub(crate) async fn get(&self, start: impl AsyncFnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock().await;
        if let Some(scene) = known.upgrade() {
            return scene;
        }
        let scene = Arc::new(start().await);
        *known = Arc::downgrade(&scene);
        scene
    }
}

/// Sends a request beside the test.
pub(crate) fn send(request: Request) -> JoinHandle<Response> {
    tokio::spawn(async move { request.send().await })
}

/// The filter with this configuration, [patient](patient), and the secret of `order-service` from
/// the environment.
pub(crate) fn wasm(configuration: &Value) -> Wasm {
    Wasm::new(&patient(configuration.clone())).host_env("ORDER_SERVICE_SECRET")
}

/// Gives each fetch and each waiting request the longest time that a configuration may give, unless
/// this one says how long: a slow machine needs more than the default of 5 s, and a provider that
/// fails is noticed at once all the same.
pub(crate) fn patient(mut configuration: Value) -> Value {
    for issuer in
        configuration["issuers"].as_object_mut().into_iter().flat_map(|issuers| issuers.values_mut())
    {
        if let Some(issuer) = issuer.as_object_mut() {
            issuer.entry("timeout").or_insert(json!("60s"));
        }
    }
    if configuration["pending_requests"]["timeout"].is_null() {
        configuration["pending_requests"]["timeout"] = json!("60s");
    }
    configuration
}

/// Envoy with a way to the provider and to the service, and the secret of `order-service` in its
/// environment.
pub(crate) fn builder(idp: &Idp, upstream: &Upstream) -> Builder {
    Envoy::builder()
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("service", upstream.address()))
}

/// A listener with the filter, before the service.
pub(crate) fn listener(filter: &Wasm) -> Value {
    listener_named("main", filter)
}

/// A listener of that name with the filter, before the service.
pub(crate) fn listener_named(name: &str, filter: &Wasm) -> Value {
    envoy::listener(name, vec![filter.filter()], envoy::route_to("service"))
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

/// The values of a header as the service saw it: its answer says so.
pub(crate) fn arrived(answer: &Response, header: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let pairs = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let of_that_name = pairs.into_iter().filter(|pair| pair[0] == header);
    of_that_name.filter_map(|pair| pair[1].as_str().map(str::to_owned)).collect()
}

/// `Retry-After` in seconds; panics unless the answer is a 503 in the documented shape.
pub(crate) fn retry_after(answer: &Response) -> u64 {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["error"], "Identity provider unavailable", "{answer:?}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.header("www-authenticate"), None, "not the caller's fault: {answer:?}");
    let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds > 0).unwrap_or_else(|| panic!("no good Retry-After: {answer:?}"))
}
