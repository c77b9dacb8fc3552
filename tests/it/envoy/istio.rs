//! A sidecar as Istio configures it from the manifests: two plugins in one proxy that share the
//! empty `vm_id`, the code and the environment, and so one VM in each thread; each is delivered as
//! a resource of its own and configured by a string. The provider is reached over TLS through the
//! cluster that the `ServiceEntry` and the `DestinationRule` make. Only its address and its CA are
//! given here instead of in the manifests.

use crate::envoy::scene::{Shared, arrived};
use crate::project::istio::{KINDS, documents, flat, of_kind};
use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// A certificate that signs itself, and its key.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/keycloak.example.com");

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

struct Sidecar {
    idp: Idp,
    envoy: Envoy,
    /// What else runs.
    _provider: Envoy,
    _service: Upstream,
}

/// What `buildWasmConfig` and `buildVMConfig` of Istio's `pilot/pkg/model/extensions.go` make of a
/// plugin, and what its agent makes of that: the image has become a file, and `ISTIO_META…`
/// variables are gone.
fn generated(plugin: &Value) -> Value {
    let spec = flat(plugin);
    let host: Vec<&Value> = spec["vmConfig"]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| {
            assert_eq!(variable["valueFrom"], "HOST");
            &variable["name"]
        })
        .collect();
    json!({
        "name": name(plugin),
        "root_id": spec["pluginName"],
        "failure_policy": spec["failStrategy"],
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": spec["pluginConfig"].to_string(),
        },
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": envoy::module() } },
            "environment_variables": { "host_env_keys": host },
        },
    })
}

fn name(plugin: &Value) -> String {
    let metadata = &plugin["metadata"];
    format!("{}.{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
}

/// The filter in the listener: its configuration is a resource of its own (ECDS), for which the
/// listener waits.
fn discovered(name: &str) -> Value {
    json!({
        "name": name,
        "config_discovery": {
            "config_source": {
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
                "path_config_source": { "path": format!("DIRECTORY/{name}.json") },
            },
            "type_urls": [WASM, "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"],
        },
    })
}

fn resource(name: &str, config: &Value) -> String {
    json!({ "version_info": "1", "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": { "@type": WASM, "config": config },
    }] })
    .to_string()
}

fn plugins(file: &str, kind: &str) -> Vec<Value> {
    of_kind(&documents(file), kind).into_iter().map(generated).collect()
}

async fn sidecar() -> Arc<Sidecar> {
    static SIDECAR: Shared<Sidecar> = Shared::new();
    SIDECAR.get(start).await
}

async fn start() -> Sidecar {
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer("https://keycloak.example.com/realms/my-realm");
    let provider = with_tls(&idp).await;
    let mut builder = Envoy::builder()
        .env("INVENTORY_SERVICE_SECRET", "inventory-secret")
        .env("M2M_AUTH_SHARING_KEY", "thirty-two-characters-at-the-least")
        .cluster(cluster_of_the_entry(provider.address("keycloak").parse().unwrap()))
        .cluster(envoy::cluster("inbound|8080||", service.address()))
        .cluster(envoy::cluster("outbound|80||payment-service.shop.svc.cluster.local", service.address()));
    let [inbound, outbound] = <[Value; 2]>::try_from(plugins("wasmplugin", "WasmPlugin")).unwrap();
    for (listener, plugin, cluster) in [
        ("virtualInbound", inbound, "inbound|8080||"),
        ("virtualOutbound", outbound, "outbound|80||payment-service.shop.svc.cluster.local"),
    ] {
        let name = plugin["name"].as_str().unwrap();
        builder = builder.file(&format!("{name}.json"), &resource(name, &plugin)).listener(envoy::listener(
            listener,
            vec![discovered(name)],
            envoy::route_to(cluster),
        ));
    }
    Sidecar { envoy: builder.start().await.unwrap(), idp, _provider: provider, _service: service }
}

/// The provider as `keycloak.example.com`, with a certificate that says so.
async fn with_tls(idp: &Idp) -> Envoy {
    let file = |kind: &str| json!({ "filename": format!("{CERTIFICATE}.{kind}") });
    let pair = json!({ "certificate_chain": file("pem"), "private_key": file("key") });
    let mut listener = envoy::listener("keycloak", vec![], envoy::route_to("idp"));
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": { "tls_certificates": [pair] },
        },
    });
    Envoy::builder().cluster(envoy::cluster("idp", idp.address())).listener(listener).start().await.unwrap()
}

/// What Istio makes of the `ServiceEntry` and the `DestinationRule` for the port that TLS is made
/// for.
fn cluster_of_the_entry(address: SocketAddr) -> Value {
    let documents = documents("wasmplugin");
    let host = &of_kind(&documents, "ServiceEntry")[0]["spec"]["hosts"][0];
    let level = &of_kind(&documents, "DestinationRule")[0]["spec"]["trafficPolicy"]["portLevelSettings"][0];
    let names = level["tls"]["subjectAltNames"].as_array().unwrap().iter();
    let names: Vec<Value> =
        names.map(|name| json!({ "san_type": "DNS", "matcher": { "exact": name } })).collect();
    let name = format!("outbound|{}||{}", level["port"]["number"], host.as_str().unwrap());
    let mut cluster = envoy::cluster(&name, address);
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": level["tls"]["sni"],
            "common_tls_context": { "validation_context": {
                "trusted_ca": { "filename": format!("{CERTIFICATE}.pem") },
                "match_typed_subject_alt_names": names,
            } },
        },
    });
    cluster
}

impl Sidecar {
    fn inbound(&self, path: &str) -> Request {
        client::get(self.envoy.url("virtualInbound", path))
    }

    fn outbound(&self, host: &str) -> Request {
        client::get(self.envoy.url("virtualOutbound", "/payments")).header("host", host)
    }
}

#[test]
fn istio_makes_the_same_of_both_kinds() {
    let [old, new] = KINDS.map(|(file, kind)| plugins(file, kind));
    assert_eq!(old, new);
    assert!(old.iter().all(|plugin| plugin["vm_config"].get("vm_id").is_none()));
}

/// What Istio's own control plane generates from the manifests is what these tests run: recorded by
/// tests/tools/istio/plugins. Only the code is an image there, which the agent makes a file of.
#[test]
fn istios_control_plane_generates_what_these_tests_run() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/istio/generated.json");
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        recorded["listeners"],
        json!({ "virtualInbound": ["m2m-auth-inbound"], "0.0.0.0_80": ["m2m-auth-outbound"] })
    );
    let ours = plugins("trafficextension", "TrafficExtension");
    let theirs = recorded["plugins"].as_array().unwrap();
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let mut config = theirs["typed_config"]["config"].clone();
        let code = config["vm_config"]["code"].take();
        assert_eq!(code["remote"]["http_uri"]["uri"], format!("oci://{}", m2m_auth_oci::IMAGE));
        assert_eq!(code["remote"]["sha256"], m2m_auth_oci::DIGEST);
        config["vm_config"]["code"] = ours["vm_config"]["code"].clone();
        assert_eq!(&config, ours);
    }
    let (theirs, ours) = (&recorded["cluster"], cluster_of_the_entry(([127, 0, 0, 1], 443).into()));
    assert_eq!(theirs["name"], ours["name"]);
    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let host = json!({ "address": "keycloak.example.com", "port_value": 443 });
    assert_eq!(theirs.pointer(endpoint), Some(&host));
    let tls = |cluster: &Value| cluster["transport_socket"]["typed_config"].clone();
    assert_eq!(tls(theirs)["sni"], tls(&ours)["sni"]);
    let context = &tls(theirs)["common_tls_context"]["combined_validation_context"];
    let names = json!([{ "exact": "keycloak.example.com" }]);
    assert_eq!(context["default_validation_context"]["match_subject_alt_names"], names);
    assert_eq!(context["validation_context_sds_secret_config"]["name"], "file-root:system");
}

#[tokio::test]
async fn the_inbound_plugin_checks_who_calls() {
    let sidecar = sidecar().await;
    let idp = &sidecar.idp;
    let good = sidecar.inbound("/inventory/items").bearer(idp.token()).send().await;
    assert_eq!(arrived(&good, "x-caller"), ["order-service"]);
    let mut other = idp.claims();
    other["aud"] = json!("payment-service");
    let mut without_role = idp.claims();
    without_role["resource_access"] = json!({});
    for (request, status, reason) in [
        (sidecar.inbound("/inventory/items"), 401, "no_token"),
        (sidecar.inbound("/inventory/items").bearer(idp.mint(other)), 401, "audience"),
        (sidecar.inbound("/inventory/items").bearer(idp.mint(without_role)), 403, "client_role"),
        (sidecar.inbound("/elsewhere").bearer(idp.token()), 403, "no_rule"),
    ] {
        let answer = request.send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (status, &json!(reason)), "{answer:?}");
    }
    assert_eq!(sidecar.inbound("/health").send().await.status, 200);
}

#[tokio::test]
async fn the_outbound_plugin_of_the_same_vm_attaches_the_services_own_token() {
    let sidecar = sidecar().await;
    for host in ["payment-service", "payment-service.shop.svc.cluster.local"] {
        let answer = sidecar.outbound(host).send().await;
        let token = arrived(&answer, "authorization")[0].clone();
        let (_, claims) = decode(token.strip_prefix("Bearer ").unwrap());
        assert_eq!(
            (&claims["azp"], &claims["aud"]),
            (&json!("inventory-service"), &json!("payment-service"))
        );
    }
    let answer = sidecar.outbound("elsewhere").send().await;
    assert_eq!(arrived(&answer, "authorization"), Vec::<String>::new(), "the token is not for others");
}

#[tokio::test]
async fn one_worker_fetches_for_all_though_every_plugin_has_the_empty_vm_id() {
    let sidecar = sidecar().await;
    for _ in 0..20 {
        assert_eq!(sidecar.outbound("payment-service").send().await.status, 200);
        assert_eq!(sidecar.inbound("/inventory").bearer(sidecar.idp.token()).send().await.status, 200);
    }
    assert_eq!(sidecar.idp.count(Endpoint::Token), 1);
    assert_eq!(sidecar.idp.count(Endpoint::Keys), 1);
    assert_eq!(sidecar.idp.count(Endpoint::Discovery), 2, "one for each plugin");
    // A VM for each worker, one on the main thread, and the one that they were cloned from: both
    // plugins are in each.
    assert_eq!(sidecar.envoy.stat("wasm.wasm_vm_count").await, 4);
}

#[tokio::test]
async fn neither_secret_is_in_what_istioctl_prints_of_the_proxy() {
    let sidecar = sidecar().await;
    let dump = sidecar.envoy.admin_get("/config_dump?include_eds").await;
    assert!(dump.contains("M2M_AUTH_SHARING_KEY") && dump.contains("INVENTORY_SERVICE_SECRET"), "{dump}");
    assert!(!dump.contains("inventory-secret") && !dump.contains("thirty-two-characters"));
}
