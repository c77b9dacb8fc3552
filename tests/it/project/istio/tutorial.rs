//! docs/tutorials/istio-sidecar.md: the steps that need no cluster.

use super::documents;
use crate::project::tutorial::Tutorial;

#[test]
fn the_page_about_istio_has_the_shipped_manifests() {
    assert_eq!(Tutorial::read("istio-sidecar").manifests(), documents("wasmplugin"));
}

#[test]
fn the_page_about_istio_puts_a_readers_names_into_the_manifests() {
    let page = Tutorial::read("istio-sidecar");
    let (printed, manifests) = page.configure("istio", &[]);
    assert!(page.blocks("text").iter().any(|block| *block == printed), "{printed}");
    let image = |manifest: &serde_json::Value| manifest["spec"]["sha256"] == "ab".repeat(32);
    assert_eq!(manifests.iter().filter(|manifest| image(manifest)).count(), 2);

    let (_, manifests) = page.configure(
        "istio",
        &[
            ("https://keycloak.example.com/realms/my-realm", "https://idp.example.org:8443"),
            ("NAMESPACE=shop", "NAMESPACE=store"),
            ("SERVICE=inventory-service", "SERVICE=stock"),
            ("TARGET=payment-service", "TARGET=billing"),
            ("SCOPE=payment-api", "SCOPE=billing-api"),
        ],
    );
    let plugins: Vec<_> = manifests.iter().filter(|own| own["kind"] == "WasmPlugin").collect();
    let [inbound, outbound] = plugins[..] else { panic!("{plugins:?}") };
    assert_eq!(inbound["spec"]["selector"]["matchLabels"]["app"], "stock");
    let issuer = &inbound["spec"]["pluginConfig"]["issuers"]["keycloak"];
    assert_eq!(issuer["issuer"], "https://idp.example.org:8443");
    assert_eq!(issuer["cluster"], "outbound|80||idp.example.org");
    let rules = &outbound["spec"]["pluginConfig"]["outbound"]["rules"];
    assert_eq!(rules[0]["match"]["host"], "billing");
    assert_eq!(rules[1]["match"]["host"], "billing.store.svc.cluster.local");
    let entry = manifests.iter().find(|own| own["kind"] == "ServiceEntry").unwrap();
    assert_eq!(entry["spec"]["hosts"][0], "idp.example.org");
    assert_eq!(entry["spec"]["ports"][0]["targetPort"], 8443);
    assert_eq!(entry["spec"]["ports"][1]["number"], 8443);
    // A reader's names may be those of the page, in other places.
    let names = [
        ("SERVICE=inventory-service", "SERVICE=order-service"),
        ("TARGET=payment-service", "TARGET=inventory-service"),
        ("my-realm NAMESPACE", "inventory-service NAMESPACE"),
    ];
    let (_, swapped) = page.configure("istio", &names);
    let text: String = swapped.iter().map(ToString::to_string).collect();
    assert!(
        text.contains("\"host\":\"inventory-service\"") && text.contains("\"app\":\"order-service\""),
        "{text}"
    );
    assert!(text.contains("https://keycloak.example.com/realms/inventory-service"), "{text}");

    let wasm: String = plugins.iter().map(ToString::to_string).collect();
    for old in ["keycloak.example.com", "inventory-service", "payment", "shop"] {
        assert!(!wasm.contains(old), "{old}: {wasm}");
    }
}
