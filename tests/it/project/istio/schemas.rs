//! Istio's custom resource definitions and the manifests.

use super::{KINDS, documents};
use crate::project::schemas::Schemas;
use m2m_auth_kit::tools::istio_crds;
use serde_json::{Map, json};

fn of_istio() -> Schemas {
    Schemas::read(&istio_crds(), &["WasmPlugin", "TrafficExtension", "ServiceEntry", "DestinationRule"])
}

#[test]
fn istios_own_schemas_allow_every_manifest() {
    let schemas = of_istio();
    for (file, _) in KINDS {
        for document in documents(file) {
            assert_eq!(schemas.errors(&document), Vec::<String>::new(), "{file}: {}", document["kind"]);
            let names = document["metadata"].as_object().map(Map::len);
            assert_eq!(names, Some(2), "a name and a namespace");
        }
    }
}

/// Proves that the check can fail.
#[test]
fn and_refuse_what_could_be_wrong_with_them() {
    let schemas = of_istio();
    for (kind, pointer, member, wrong) in [
        ("WasmPlugin", "/spec", "failstrategy", json!("FAIL_RELOAD")),
        ("WasmPlugin", "/spec", "failStrategy", json!("FAIL_CLOSED")),
        ("WasmPlugin", "/spec", "sha256", json!("abc")),
        ("WasmPlugin", "/spec", "phase", json!("FIRST")),
        ("WasmPlugin", "/spec", "url", json!("")),
        ("WasmPlugin", "/spec/match/0", "mode", json!("INBOUND")),
        ("WasmPlugin", "/spec/vmConfig/env/0", "valueFrom", json!("SECRET")),
        ("WasmPlugin", "/spec/vmConfig/env/0", "secretKeyRef", json!({})),
        ("TrafficExtension", "/spec", "url", json!("oci://x")),
        ("TrafficExtension", "/spec", "lua", json!({ "inlineCode": "x" })),
        ("TrafficExtension", "/spec/wasm", "failStrategy", json!("FAIL_CLOSED")),
        ("TrafficExtension", "/spec/wasm", "sha256", json!("ABC")),
        ("TrafficExtension", "/spec/wasm", "pluginConfig", json!("a string")),
        ("ServiceEntry", "/spec", "resolution", json!("dns")),
        ("ServiceEntry", "/spec/ports/0", "number", json!("80")),
        ("DestinationRule", "/spec/trafficPolicy/portLevelSettings/0/tls", "mode", json!("TLS")),
        ("DestinationRule", "/spec/trafficPolicy/portLevelSettings/0", "sni", json!("x")),
        ("DestinationRule", "", "apiVersion", json!("networking.istio.io/v2")),
    ] {
        let file = if kind == "TrafficExtension" { "trafficextension" } else { "wasmplugin" };
        let mut manifest = documents(file).into_iter().find(|own| own["kind"] == kind).unwrap();
        manifest.pointer_mut(pointer).unwrap()[member] = wrong;
        assert!(!schemas.errors(&manifest).is_empty(), "{kind} {pointer} {member}");
    }
}
