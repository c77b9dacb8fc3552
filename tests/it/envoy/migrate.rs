//! The pages in `docs/migrate`: each has one policy twice, for what is there and for m2m-auth. The
//! same requests are sent to both, and each difference is in the page. Each table of fields is
//! compared with the fields that there are.

mod fields;
mod injector;
mod istio;
mod jwt_authn;
mod oauth2_proxy;
mod page;
mod requests;

use super::scene::patient;
use m2m_auth_kit::envoy::{self, manager_mut};
use m2m_auth_kit::idp::{Endpoint, Idp};
use page::Page;
use serde_json::{Value, json};

/// A listener whose connection manager has what a block of a page says.
fn listener(name: &str, block: &str) -> Value {
    // A slow machine needs more than the seconds of a page.
    let block = block
        .replace("/etc/envoy/m2m_auth.wasm", envoy::module().to_str().unwrap())
        .replace("timeout: 5s", "timeout: 60s");
    let members: Value = serde_norway::from_str(&block).unwrap();
    let mut listener = envoy::listener(name, vec![], envoy::route_to("service"));
    let manager = manager_mut(&mut listener);
    for (name, value) in members.as_object().unwrap() {
        manager[name] = value.clone();
    }
    for filter in manager["http_filters"].as_array_mut().unwrap() {
        if let Some(configuration) = filter.pointer_mut("/typed_config/config/configuration/value") {
            *configuration = patient(configuration.take());
        }
    }
    listener
}

/// The table of a page has every field of these packages, and no other.
fn has_every_field(page: &Page, packages: &[(&str, &str)]) {
    for (package, file) in packages {
        let there = page.first_column(&format!("### `{package}`"));
        let expected = fields::of(&format!("{}/{file}", package.replace('.', "/")));
        assert!(!expected.is_empty(), "{package}");
        let missing: Vec<_> = expected.difference(&there).collect();
        let unknown: Vec<_> = there.difference(&expected).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{package}: no row {missing:?}, no field {unknown:?}"
        );
    }
}

/// A provider with the issuer of the pages.
async fn provider() -> Idp {
    let idp = Idp::start().await;
    idp.set_issuer(requests::ISSUER);
    assert!(requests::ISSUER.ends_with("/realms/my-realm"));
    assert_eq!(idp.path(Endpoint::Keys), "/realms/my-realm/protocol/openid-connect/certs");
    idp
}

/// All counters below a prefix that are not zero.
fn counted(stats: &std::collections::BTreeMap<String, u64>, part: &str) -> u64 {
    stats.iter().filter(|(name, _)| name.contains(part)).map(|(_, count)| count).sum()
}

#[test]
fn every_page_is_tested() {
    let folder = m2m_auth_kit::repository().join("docs/migrate");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        json!(names),
        json!([
            "README.md",
            "credential_injector.md",
            "istio-requestauthentication.md",
            "jwt_authn-and-rbac.md",
            "oauth2-proxy.md",
        ])
    );
}
