//! Pages with one configuration of the filter: `docs/how-to/protect-a-service.md`,
//! `token-locations.md`, `step-up.md` and `resource-metadata.md`.

use super::harness::{Inbound, Page, Setup};
use m2m_auth_kit::token::now;
use serde_json::json;

#[tokio::test]
async fn the_page_about_protecting_a_service_allows_and_denies_as_it_says() {
    let page = Page::read("docs/how-to/protect-a-service.md");
    let mut scene = Inbound::start(page.yaml("issuers:")).await;
    scene.token("reader.header", |claims| {
        (claims["scope"], claims["tenant"]) = (json!("inventory-api"), json!("blue"));
        claims["resource_access"] = json!({});
    });
    scene.run.verify(&page).await;
    assert_eq!(scene.arrived(), ["/health", "/items", "/tenants/blue/orders"]);
}

#[tokio::test]
async fn the_page_about_token_locations_reads_and_removes_tokens_as_it_says() {
    let page = Page::read("docs/how-to/token-locations.md");
    let setup = Setup::example("inbound-only.yaml").filter(page.yaml("issuers:"));
    let mut scene = Inbound::with(setup.manager(page.yaml("access_log:"))).await;
    let token = scene.mint(|claims| claims["aud"] = json!("event-service"));
    scene.run.bearer("authorization.header", &token);
    scene.run.header("x-api-token.header", &format!("x-api-token: {token}"));
    scene.run.header("cookie.header", &format!("cookie: theme=dark; session={token}"));
    std::fs::write(scene.run.folder().join("url.curl"), {
        let url = scene.run.envoy.url("port-8080", &format!("/events?access_token={token}&since=7"));
        format!("url = \"{url}\"\n")
    })
    .unwrap();
    scene.run.verify(&page).await;
    let requests = scene.service.requests();
    for request in &requests {
        let sent = format!("{} {:?}", request.path, request.headers_named("cookie"));
        assert!(!sent.contains(&token), "{sent}");
        assert!(request.header("x-api-token").is_none());
    }
    assert_eq!(scene.arrived(), ["/orders", "/orders", "/events", "/events?since=7"]);
    assert_eq!(requests[0].headers_named("authorization").len(), 1, "it keeps the token in this header");
    assert_eq!(requests[2].headers_named("cookie"), ["theme=dark"]);
    let log = scene.run.envoy.wait_for_access_log(6).await;
    assert!(log.iter().all(|line| !line.to_string().contains(&token[..20])), "{log:?}");
    assert_eq!(log.iter().filter(|line| line["path"] == "/events").count(), 3, "{log:?}");
}

#[tokio::test]
async fn the_page_about_step_up_challenges_callers_as_it_says() {
    let page = Page::read("docs/how-to/step-up.md");
    let mut scene = Inbound::start(page.yaml("issuers:")).await;
    let (recent, long_ago) = (json!(now() - 10), json!(now() - 3600));
    scene.token("strong.header", |claims| {
        (claims["acr"], claims["auth_time"]) = (json!("gold"), recent.clone());
    });
    scene.token("weak.header", |claims| (claims["acr"], claims["auth_time"]) = (json!("1"), recent));
    scene.token("old.header", |claims| {
        (claims["acr"], claims["auth_time"]) = (json!("gold"), long_ago.clone());
    });
    scene.token("service.header", |claims| (claims["acr"], claims["iat"]) = (json!("gold"), long_ago));
    scene.run.verify(&page).await;
    assert_eq!(scene.arrived(), ["/transfers", "/items"]);
}

#[tokio::test]
async fn the_page_about_resource_metadata_serves_the_document_that_it_prints() {
    let page = Page::read("docs/how-to/resource-metadata.md");
    let mut scene = Inbound::start(page.yaml("issuers:")).await;
    scene.run.verify(&page).await;
    assert!(scene.arrived().is_empty());
}
