//! Envoy's configuration as JSON values: small pieces that a test puts together, and may change
//! before it does.

#![allow(clippy::needless_pass_by_value, reason = "pieces are handed over to the piece that holds them")]

use super::binary::module;
use serde_json::{Map, Value, json};
use std::{net::SocketAddr, path::PathBuf};

/// A cluster of one loopback endpoint, HTTP/1.1.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    cluster_of(name, json!({ "socket_address": { "address": ip, "port_value": port } }))
}

pub(super) fn cluster_of(name: &str, address: Value) -> Value {
    let endpoint = json!({ "endpoint": { "address": address } });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "60s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

/// The same cluster over cleartext HTTP/2.
#[must_use]
pub fn http2(cluster: Value) -> Value {
    with_protocol_options(cluster, |options| {
        // A server that has not yet said how many streams it takes refuses those beyond it: hyper
        // takes 200.
        options["explicit_http_config"] =
            json!({ "http2_protocol_options": { "max_concurrent_streams": 100 } });
    })
}

/// The same cluster with upstream HTTP filters: they see each attempt of a request, retries too,
/// and callouts.
#[must_use]
pub fn upstream_filters(cluster: Value, filters: Vec<Value>) -> Value {
    let codec = json!({
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": { "@type": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec") },
    });
    with_protocol_options(cluster, |options| {
        options["http_filters"] = filters.into_iter().chain([codec]).collect();
    })
}

/// The same cluster over TLS, for servers with the certificate of
/// [`certificates`](crate::keycloak::certificates); with the client's own certificate, or without
/// one.
#[must_use]
pub fn client_tls(mut cluster: Value, certificate: bool) -> Value {
    let file = |name: &str| json!({ "filename": crate::keycloak::certificates().join(name) });
    let mut context = json!({ "validation_context": { "trusted_ca": file("ca.pem") } });
    if certificate {
        let pair = json!({ "certificate_chain": file("client.pem"), "private_key": file("client.key") });
        context["tls_certificates"] = json!([pair]);
    }
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost",
            "common_tls_context": context,
        },
    });
    cluster
}

/// A listener on a free loopback port: an HTTP connection manager with these filters, the router,
/// and these routes. Its access log is one JSON object per request: `listener`, `method`, `path`,
/// `status`, `details`, `flags`, `upstream`, `duration` (ms).
pub fn listener(name: &str, filters: Vec<Value>, routes: Value) -> Value {
    let entry = json!({
        "listener": name,
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "upstream": "%UPSTREAM_CLUSTER%",
        "duration": "%DURATION%",
    });
    let access_log = json!({
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": typed("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"),
            "log_format": { "json_format": entry },
        },
    });
    let filters: Vec<_> = filters.into_iter().chain([router()]).collect();
    let manager = json!({
        "@type": typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "http_filters": filters,
        "route_config": routes,
        "access_log": [access_log],
    });
    let manager = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [manager] }],
    })
}

/// The HTTP connection manager of a [`listener`], to be changed.
pub fn manager_mut(listener: &mut Value) -> &mut Value {
    listener.pointer_mut("/filter_chains/0/filters/0/typed_config").expect("a listener made by `listener`")
}

/// Everything to one cluster.
pub fn route_to(cluster: &str) -> Value {
    route_config(vec![json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } })])
}

/// These routes, for any host.
pub fn route_config(routes: Vec<Value>) -> Value {
    let host = json!({ "name": "any", "domains": ["*"], "routes": routes });
    json!({ "name": "routes", "virtual_hosts": [host] })
}

/// The router, which [`listener`] adds by itself.
pub fn router() -> Value {
    filter(
        "envoy.filters.http.router",
        json!({ "@type": typed("envoy.extensions.filters.http.router.v3.Router") }),
    )
}

/// Envoy's own `jwt_authn` with one provider that every request must satisfy.
pub fn jwt_authn(issuer: &str, jwks_uri: &str, cluster: &str, audiences: &[&str]) -> Value {
    let provider = json!({
        "issuer": issuer,
        "audiences": audiences,
        "remote_jwks": { "http_uri": { "uri": jwks_uri, "cluster": cluster, "timeout": "5s" } },
    });
    let rule = json!({ "match": { "prefix": "/" }, "requires": { "provider_name": "idp" } });
    let kind = typed("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication");
    let config = json!({ "@type": kind, "providers": { "idp": provider }, "rules": [rule] });
    filter("envoy.filters.http.jwt_authn", config)
}

/// Envoy's own `credential_injector` for [`upstream_filters`]: it adds `Authorization: Basic` with
/// the [`secret`] of that name, from the file `NAME.json` of Envoy's directory, which it watches.
pub fn basic_injector(name: &str) -> Value {
    let path =
        json!({ "path": format!("DIRECTORY/{name}.json"), "watched_directory": { "path": "DIRECTORY" } });
    let credential = json!({
        "@type": typed("envoy.extensions.http.injected_credentials.generic.v3.Generic"),
        "credential": { "name": name, "sds_config": { "resource_api_version": "V3", "path_config_source": path } },
        "header_value_prefix": "Basic ",
    });
    let credential = filter("envoy.http.injected_credentials.generic", credential);
    let kind = typed("envoy.extensions.filters.http.credential_injector.v3.CredentialInjector");
    filter("envoy.filters.http.credential_injector", json!({ "@type": kind, "credential": credential }))
}

/// Envoy's own `credential_injector`, which fetches tokens as that client; its secret is the one
/// named `<client>-secret`: see [`static_secret`].
pub fn credential_injector(token_endpoint: &str, cluster: &str, client: &str, scopes: &[&str]) -> Value {
    let oauth2 = json!({
        "@type": typed("envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2"),
        "token_endpoint": { "uri": token_endpoint, "cluster": cluster, "timeout": "5s" },
        "scopes": scopes,
        "client_credentials": { "client_id": client, "client_secret": { "name": secret_of(client) } },
    });
    let credential = json!({ "name": "envoy.http.injected_credentials.oauth2", "typed_config": oauth2 });
    let kind = typed("envoy.extensions.filters.http.credential_injector.v3.CredentialInjector");
    let config = json!({ "@type": kind, "overwrite": true, "credential": credential });
    filter("envoy.filters.http.credential_injector", config)
}

/// A client's secret, for `static_resources.secrets` of the bootstrap.
pub fn static_secret(client: &str, secret: &str) -> Value {
    json!({ "name": secret_of(client), "generic_secret": { "secret": { "inline_string": secret } } })
}

fn secret_of(client: &str) -> String {
    format!("{client}-secret")
}

/// An SDS file with one generic secret, for [`Builder::file`](super::Builder::file) and
/// [`Envoy::write`](super::Envoy::write).
pub fn secret(name: &str, value: &str) -> String {
    let kind = typed("envoy.extensions.transport_sockets.tls.v3.Secret");
    let secret = json!({ "secret": { "inline_string": value } });
    json!({ "resources": [{ "@type": kind, "name": name, "generic_secret": secret }] }).to_string()
}

/// Our filter, in the making.
#[derive(Clone, Debug)]
pub struct Wasm {
    configuration: String,
    name: String,
    vm_id: String,
    module: Option<PathBuf>,
    failure_policy: String,
    host_env: Vec<String>,
    env: Map<String, Value>,
}

impl Wasm {
    /// The filter with this configuration.
    pub fn new(configuration: &Value) -> Self {
        Self::of_text(configuration.to_string())
    }

    /// The filter with this configuration unchanged, JSON or not.
    pub fn of_text(configuration: impl Into<String>) -> Self {
        Self {
            configuration: configuration.into(),
            name: "m2m_auth".to_owned(),
            vm_id: "m2m_auth".to_owned(),
            module: None,
            failure_policy: "FAIL_RELOAD".to_owned(),
            host_env: Vec::new(),
            env: Map::new(),
        }
    }

    /// Another plugin name than `m2m_auth`; it is the root id too, as in Istio.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Another VM id than `m2m_auth`: the scope of shared data. Istio's is always empty.
    #[must_use]
    pub fn vm_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.vm_id);
        self
    }

    /// Another module than [`module`].
    #[must_use]
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Another policy than `FAIL_RELOAD`.
    #[must_use]
    pub fn failure_policy(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.failure_policy);
        self
    }

    /// A variable that is read from Envoy's own environment: see
    /// [`Builder::env`](super::Builder::env).
    #[must_use]
    pub fn host_env(mut self, name: &str) -> Self {
        self.host_env.push(name.to_owned());
        self
    }

    /// A variable with its value.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), json!(value));
        self
    }

    /// The HTTP filter, for a [`listener`] or for [`upstream_filters`].
    pub fn filter(&self) -> Value {
        let module = self.module.clone().unwrap_or_else(module);
        let configuration =
            json!({ "@type": typed("google.protobuf.StringValue"), "value": self.configuration });
        let mut vm = json!({
            "vm_id": self.vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        });
        if !self.host_env.is_empty() || !self.env.is_empty() {
            vm["environment_variables"] = json!({ "host_env_keys": self.host_env, "key_values": self.env });
        }
        let plugin = json!({
            "name": self.name,
            "root_id": self.name,
            "configuration": configuration,
            "failure_policy": self.failure_policy,
            "vm_config": vm,
        });
        let kind = typed("envoy.extensions.filters.http.wasm.v3.Wasm");
        filter("envoy.filters.http.wasm", json!({ "@type": kind, "config": plugin }))
    }
}

/// The bootstrap; without `listeners` they come from the watched file.
pub(super) fn bootstrap(clusters: &[Value], listeners: Option<&Vec<Value>>) -> Value {
    let mut bootstrap = json!({
        // Whatever comes from a file by path needs a node.
        "node": { "id": "kit", "cluster": "kit" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "clusters": clusters },
    });
    if let Some(listeners) = listeners {
        bootstrap["static_resources"]["listeners"] = json!(listeners);
    } else {
        let path =
            json!({ "path": "DIRECTORY/listeners.json", "watched_directory": { "path": "DIRECTORY" } });
        let source = json!({ "resource_api_version": "V3", "path_config_source": path });
        bootstrap["dynamic_resources"] = json!({ "lds_config": source });
    }
    bootstrap
}

pub(super) fn filter(name: &str, config: Value) -> Value {
    json!({ "name": name, "typed_config": config })
}

fn with_protocol_options(mut cluster: Value, change: impl FnOnce(&mut Value)) -> Value {
    const NAME: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = &mut cluster["typed_extension_protocol_options"][NAME];
    if options.is_null() {
        *options = json!({ "@type": typed(NAME), "explicit_http_config": { "http_protocol_options": {} } });
    }
    change(options);
    cluster
}

pub(super) fn typed(name: &str) -> String {
    format!("type.googleapis.com/{name}")
}
