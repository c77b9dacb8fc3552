//! `docs/explanation/rules-and-paths.md`: its configuration, and its table of requests.

use super::harness::{Inbound, Page};
use crate::project::tree::{code, read, rows};
use m2m_auth_kit::client::Request;

const PAGE: &str = "docs/explanation/rules-and-paths.md";

#[tokio::test]
async fn the_page_about_rules_and_paths_answers_requests_as_it_says() {
    let scene = Inbound::start(Page::read(PAGE).yaml("issuers:")).await;
    let mut checked = 0;
    for row in rows(&read(PAGE), "request") {
        let expected = match row[1].split_once("400 ") {
            Some((_, reason)) => (400, code(reason)[0].to_owned()),
            None => (401, "no_token".to_owned()),
        };
        // Another method than GET is below.
        let is_get = !row[1].contains("ambiguous_method");
        for path in code(&row[0]).into_iter().filter(|own| is_get && own.starts_with('/')) {
            let answer = scene.run.get(8080, path).send().await;
            let reason = answer.json()["reason"].as_str().unwrap().to_owned();
            assert_eq!((answer.status, reason), expected, "{path}: {answer:?}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
    let method = |method: &str| Request::new(method, scene.run.envoy.url("port-8080", "/orders/1/items"));
    for request in [method("delete").http2(), method("GET").header("x-http-method-override", "DELETE")] {
        let answer = request.send().await;
        assert_eq!(answer.json()["reason"], "ambiguous_method", "{answer:?}");
    }
    assert!(scene.arrived().is_empty(), "no protected path reached the service");
    assert_eq!(scene.run.get(8080, "/health").send().await.status, 200);
}
