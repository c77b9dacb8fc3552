//! `docs/how-to/identity-for-later-filters.md`.

use super::harness::{Inbound, Page, Setup};
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::json;

#[tokio::test]
async fn the_page_about_the_identity_has_rbac_rate_limits_and_logs_that_know_the_caller() {
    let page = Page::read("docs/how-to/identity-for-later-filters.md");
    let limiter = Upstream::start().await;
    let setup = Setup::example("inbound-only.yaml")
        .filter(page.yaml("issuers:"))
        .manager(page.yaml("access_log:"))
        .later_filters(page.yaml("envoy.filters.http.rbac"))
        .later_filters(page.yaml("envoy.filters.http.local_ratelimit"))
        .later_filters(page.yaml("name: envoy.filters.http.ratelimit"))
        .manager(page.yaml("route_config:"))
        .cluster(page.yaml("cluster_name: ratelimit, "))
        .behind("ratelimit", limiter.address());
    let mut scene = Inbound::with(setup).await;
    let caller = |client: &'static str, roles: &'static [&str]| {
        move |claims: &mut serde_json::Value| {
            (claims["azp"], claims["client_id"]) = (json!(client), json!(client));
            claims["resource_access"]["inventory-service"]["roles"] = json!(roles);
        }
    };
    scene.token("shop.header", caller("shop", &["inventory:read"]));
    scene.token("admin.header", caller("admin", &["inventory:admin"]));
    scene.token("reporting.header", caller("reporting", &[]));
    scene.run.verify(&page).await;
    let first = scene.service.requests().remove(0);
    assert_eq!(first.headers_named("x-caller"), ["shop"]);
    let payload = first.header("x-jwt-payload").unwrap();
    assert_eq!(decode(&format!("e30.{payload}.x")).1["azp"], "shop");
    until("the rate limit service is asked about the client", async || {
        let asked = limiter.requests();
        let names = |body: &[u8], text: &[u8]| body.windows(text.len()).any(|part| part == text);
        asked.iter().any(|one| names(&one.body, b"client") && names(&one.body, b"shop")).then_some(())
    })
    .await;
}
