//! From Istio's `RequestAuthentication` and `AuthorizationPolicy`: `tests/data/migrate/istio.json`
//! is what Istio's own control plane generates from those of the page (`tests/tools/istio`).

use super::jwt_authn::{start, target};
use super::page::Page;
use super::provider;
use super::requests::ask;
use m2m_auth_kit::envoy::{self, manager_mut};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{Value, json, tools};
use serde::Deserialize as _;
use std::collections::BTreeSet;

fn page() -> Page {
    Page::read("istio-requestauthentication")
}

/// The connection manager that Istio generates, with the routes and the provider of the test.
fn generated() -> Value {
    let text = include_str!("../../../data/migrate/istio.json")
        .replace("outbound|443||keycloak.example.com", "keycloak")
        .replace("\"timeout\": \"5s\"", "\"timeout\": \"60s\"");
    let members: Value = serde_json::from_str(&text).unwrap();
    let mut listener = envoy::listener("native", vec![], envoy::route_to("service"));
    let manager = manager_mut(&mut listener);
    for (name, value) in members.as_object().unwrap() {
        manager[name] = value.clone();
    }
    listener
}

#[tokio::test]
async fn both_answer_as_the_page_says() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    // Istio's name of the cluster, which the page has too.
    let block = page.block("m2m-auth").replace("outbound|80||keycloak.example.com", "keycloak");
    let plugin: Value = serde_norway::from_str(&block).unwrap();
    let filter = envoy::Wasm::new(&super::patient(plugin["spec"]["pluginConfig"].clone())).vm_id("").filter();
    let ours = envoy::listener("ours", vec![filter], envoy::route_to("service"));
    let envoy = start(&idp, &upstream, vec![generated(), ours]).await;
    let seen = ask(&target(&envoy, &idp, "native"), &target(&envoy, &idp, "ours"), "x-caller").await;
    page.compare("Istio", &seen);
}

/// The generated configuration is that of the page's resources.
#[test]
fn the_generated_configuration_has_what_the_page_says() {
    let page = page();
    let resource = |kind: &str| -> Value { serde_norway::from_str(page.block(kind)).unwrap() };
    let rule = resource("RequestAuthentication")["spec"]["jwtRules"][0].take();
    let mut native = generated();
    let filters = manager_mut(&mut native)["http_filters"].take();
    let filter = |name: &str| {
        let found = filters.as_array().unwrap().iter().find(|filter| filter["name"] == name);
        found.unwrap()["typed_config"].clone()
    };
    let provider = filter("envoy.filters.http.jwt_authn")["providers"]["origins-0"].take();
    assert_eq!(provider["issuer"], rule["issuer"]);
    assert_eq!(provider["audiences"], rule["audiences"]);
    assert_eq!(provider["remote_jwks"]["http_uri"]["uri"], rule["jwksUri"]);
    assert_eq!(provider["forward"], rule["forwardOriginalToken"]);
    let header = &rule["outputClaimToHeaders"][0];
    let expected = json!([{ "header_name": header["header"], "claim_name": header["claim"] }]);
    assert_eq!(provider["claim_to_headers"], expected);
    let policies = filter("envoy.filters.http.rbac")["rules"]["policies"].take().to_string();
    let rules = resource("AuthorizationPolicy")["spec"]["rules"].take();
    assert_eq!(policies.matches("ns[shop]-policy[inventory]-rule").count(), rules.as_array().unwrap().len());
    for rule in rules.as_array().unwrap() {
        let conditions = rule["when"].as_array().into_iter().flatten();
        let values = conditions.flat_map(|condition| condition["values"].as_array().unwrap());
        let paths = rule["to"][0]["operation"]["paths"].as_array().unwrap();
        for value in values.chain(paths) {
            let value = value.as_str().unwrap().trim_end_matches('*');
            assert!(policies.contains(&format!("\"{value}\"")), "{value}: {policies}");
        }
    }
}

/// `a.b` for each property; an array has the properties of its elements.
fn properties(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
    for (name, own) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        properties(own, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_table_has_every_field_of_both_kinds() {
    let text = std::fs::read_to_string(tools::istio_crds()).unwrap();
    let definitions: Vec<Value> =
        serde_norway::Deserializer::from_str(&text).map(|own| Value::deserialize(own).unwrap()).collect();
    for kind in ["RequestAuthentication", "AuthorizationPolicy"] {
        let definition = definitions.iter().find(|own| own["spec"]["names"]["kind"] == kind).unwrap();
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let version = versions.iter().find(|version| version["name"] == "v1").unwrap();
        let mut expected = BTreeSet::new();
        properties(&version["schema"]["openAPIV3Schema"]["properties"]["spec"], "", &mut expected);
        assert!(expected.len() > 25, "{kind}: {expected:?}");
        assert_eq!(page().first_column(&format!("### `{kind}`")), expected, "{kind}");
    }
}
