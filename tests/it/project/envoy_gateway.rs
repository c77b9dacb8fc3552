//! The manifests for Envoy Gateway: what its own schemas and those of the Gateway API say of them,
//! what the command-line tool says, and that the tutorial has them.

use super::schemas::Schemas;
use super::tutorial::{Tutorial, resources};
use crate::core::cli;
use m2m_auth_kit::tools::envoy_gateway_crds;
use serde_json::{Value, json};
use std::fs;

const FILES: [&str; 4] = ["backend", "envoyextensionpolicy", "envoypatchpolicy", "envoyproxy"];

fn documents(file: &str) -> Vec<Value> {
    let path = cli::root().join(format!("examples/envoy-gateway/{file}.yaml"));
    resources(&fs::read_to_string(path).unwrap())
}

fn shipped() -> Vec<Value> {
    FILES.into_iter().flat_map(documents).collect()
}

fn of_kind(kind: &str) -> Value {
    shipped().into_iter().find(|manifest| manifest["kind"] == kind).unwrap()
}

fn schemas() -> Schemas {
    let kinds = [
        "Backend",
        "BackendTLSPolicy",
        "EnvoyExtensionPolicy",
        "EnvoyPatchPolicy",
        "EnvoyProxy",
        "Gateway",
        "HTTPRoute",
        "SecurityPolicy",
    ];
    Schemas::read(&envoy_gateway_crds(), &kinds)
}

#[test]
fn envoy_gateways_own_schemas_allow_every_manifest() {
    let schemas = schemas();
    // The page has more: a Gateway, a route, a policy with a secret. The controller's own
    // configuration is no resource of the cluster.
    let page = Tutorial::read("envoy-gateway").manifests();
    let resources = page.into_iter().filter(|manifest| manifest["kind"] != "EnvoyGateway");
    let mut checked = 0;
    for manifest in shipped().into_iter().chain(resources) {
        assert_eq!(schemas.errors(&manifest), Vec::<String>::new(), "{manifest}");
        assert_eq!(manifest["metadata"]["namespace"], "shop");
        checked += 1;
    }
    assert!(checked > 12, "{checked}");
}

/// Proves that the check can fail.
#[test]
fn and_refuse_what_could_be_wrong_with_a_manifest_of_envoy_gateway() {
    let schemas = schemas();
    for (kind, pointer, member, wrong) in [
        ("EnvoyExtensionPolicy", "/spec/wasm/0", "failStrategy", json!("FAIL_RELOAD")),
        ("EnvoyExtensionPolicy", "/spec/wasm/0/code", "type", json!("OCI")),
        ("EnvoyExtensionPolicy", "/spec/wasm/0/code/image", "digest", json!("x")),
        ("EnvoyExtensionPolicy", "/spec/wasm/0", "failOpen", json!("no")),
        ("BackendTLSPolicy", "/spec/validation", "wellKnownCACertificates", json!(["System"])),
        ("BackendTLSPolicy", "/spec/validation", "hostname", json!("")),
        ("Backend", "/spec/endpoints/0/fqdn", "port", json!("443")),
        ("SecurityPolicy", "/spec/authorization", "defaultAction", json!("deny")),
        ("HTTPRoute", "/spec", "hostname", json!("x")),
        ("EnvoyPatchPolicy", "/spec/jsonPatches/0/operation", "op", json!("set")),
        ("EnvoyProxy", "/spec/logging", "levels", json!({ "wasm": "info" })),
        ("HTTPRoute", "", "apiVersion", json!("gateway.networking.k8s.io/v2")),
    ] {
        let mut manifest = of_kind(kind);
        manifest.pointer_mut(pointer).unwrap()[member] = wrong;
        assert!(!schemas.errors(&manifest).is_empty(), "{kind} {pointer} {member}");
    }
}

#[test]
fn the_cluster_of_the_policy_is_the_route_to_the_provider_which_nobody_else_may_use() {
    let (backend, route, tls, deny) =
        (of_kind("Backend"), of_kind("HTTPRoute"), of_kind("BackendTLSPolicy"), of_kind("SecurityPolicy"));
    let host = backend["spec"]["endpoints"][0]["fqdn"]["hostname"].as_str().unwrap();
    assert_eq!(tls["spec"]["targetRefs"][0]["name"], backend["metadata"]["name"]);
    assert_eq!(tls["spec"]["validation"]["hostname"], host);
    assert_eq!(route["spec"]["rules"].as_array().unwrap().len(), 1);
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["name"], backend["metadata"]["name"]);
    assert_eq!(deny["spec"]["targetRefs"][0]["name"], route["metadata"]["name"]);
    assert_eq!(deny["spec"]["authorization"], json!({ "defaultAction": "Deny" }));
    let policy = of_kind("EnvoyExtensionPolicy");
    let wasm = &policy["spec"]["wasm"][0];
    assert_eq!(wasm["failOpen"], false);
    assert_eq!(wasm["code"]["image"]["url"], m2m_auth_oci::IMAGE);
    assert_eq!(wasm["code"]["image"]["sha256"], m2m_auth_oci::DIGEST);
    let issuer = &wasm["config"]["issuers"]["keycloak"];
    let metadata = &route["metadata"];
    let cluster = format!(
        "httproute/{}/{}/rule/0",
        metadata["namespace"].as_str().unwrap(),
        metadata["name"].as_str().unwrap()
    );
    assert_eq!(issuer["cluster"], cluster);
    assert!(issuer["issuer"].as_str().unwrap().starts_with(&format!("https://{host}/")));
}

#[test]
fn the_page_about_envoy_gateway_has_the_shipped_manifests() {
    let page = Tutorial::read("envoy-gateway").manifests();
    for manifest in shipped() {
        assert!(page.contains(&manifest), "{manifest}");
    }
}

#[test]
fn the_page_about_envoy_gateway_puts_a_readers_names_into_the_manifests() {
    let page = Tutorial::read("envoy-gateway");
    let (printed, _) = page.configure("envoy-gateway", &[]);
    assert!(page.blocks("text").iter().any(|block| *block == printed), "{printed}");

    let (_, manifests) = page.configure(
        "envoy-gateway",
        &[
            ("https://keycloak.example.com/realms/my-realm", "https://idp.example.org:8443"),
            ("NAMESPACE=shop", "NAMESPACE=store"),
            ("GATEWAY=shop", "GATEWAY=edge"),
            ("LISTENER=http", "LISTENER=web"),
            ("ROUTE=inventory", "ROUTE=stock"),
            ("AUDIENCE=inventory-service", "AUDIENCE=stock-service"),
        ],
    );
    let kind = |kind: &str| manifests.iter().find(|own| own["kind"] == kind).unwrap();
    let schemas = schemas();
    for manifest in &manifests {
        assert_eq!(manifest["metadata"]["namespace"], "store");
        assert_eq!(schemas.errors(manifest), Vec::<String>::new(), "{manifest}");
        for old in ["keycloak.example.com", "inventory-service", "shop"] {
            assert!(!manifest.to_string().contains(old), "{old}: {manifest}");
        }
    }
    let endpoint = &kind("Backend")["spec"]["endpoints"][0]["fqdn"];
    assert_eq!((&endpoint["hostname"], &endpoint["port"]), (&json!("idp.example.org"), &json!(8443)));
    assert_eq!(kind("HTTPRoute")["spec"]["parentRefs"][0]["name"], "edge");
    let patch = &kind("EnvoyPatchPolicy")["spec"];
    assert_eq!(patch["jsonPatches"][0]["name"], "store/edge/web");
    assert_eq!(patch["targetRef"]["name"], "edge");
    let policy = kind("EnvoyExtensionPolicy");
    assert_eq!(policy["spec"]["targetRefs"][0]["name"], "stock");
    let config = &policy["spec"]["wasm"][0]["config"];
    assert_eq!(config["issuers"]["keycloak"]["cluster"], "httproute/store/keycloak/rule/0");
    assert_eq!(config["inbound"]["rules"][1]["require"]["audiences"], json!(["stock-service"]));
}

#[test]
fn the_manifests_of_envoy_gateway_get_the_image_and_its_digest() {
    let (_, manifests) = Tutorial::read("envoy-gateway").configure("envoy-gateway", &[]);
    let policy = manifests.iter().find(|own| own["kind"] == "EnvoyExtensionPolicy").unwrap();
    let image = &policy["spec"]["wasm"][0]["code"]["image"];
    assert_eq!(
        (&image["url"], &image["sha256"]),
        (&json!("registry.example.org/filter:1"), &json!("ab".repeat(32)))
    );
}
