//! The identity headers that the service receives.

use super::stage;
use crate::envoy::scene::arrived;
use m2m_auth_kit::client::Request;
use m2m_auth_kit::token::SUBJECT;
use serde_json::json;

#[tokio::test]
async fn a_rule_that_allows_everybody_asks_for_no_token_and_looks_at_none() {
    let stage = stage().await;
    let request = stage.scene.get("/public/page");
    assert_eq!(request.send().await.status, 200);
    let answer = request.bearer("garbage").send().await;
    assert_eq!(arrived(&answer, "authorization"), ["Bearer garbage"]);
}

#[tokio::test]
async fn only_the_filter_sets_the_identity_headers_of_the_service() {
    let stage = stage().await;
    let token = stage.mint(|claims| {
        claims["level"] = json!(12_345_678_901_234_567_u64);
        claims["some.names"] = json!(["a", "b"]);
    });
    let lies = |request: Request| {
        ["x-subject", "X-Subject", "x-client", "x-level", "x-names"]
            .into_iter()
            .fold(request, |request, name| request.header(name, "root").header(name, "admin"))
    };
    let all = ["x-subject", "x-client", "x-level", "x-names"];
    let forwarded = lies(stage.scene.get("/identity")).bearer(&token).send().await;
    let values = all.map(|name| arrived(&forwarded, name).join(" and "));
    assert_eq!(values, [SUBJECT, "order-service", "12345678901234567", "a,b"]);
    let less = lies(stage.scene.get("/identity")).bearer(stage.scene.idp.token()).send().await;
    let values = all.map(|name| arrived(&less, name).join(" and "));
    assert_eq!(
        values,
        [SUBJECT, "order-service", "", ""],
        "a claim that is not there is no reason to believe the client"
    );
    let odd = stage.mint(|claims| (claims["level"], claims["azp"]) = (json!("1\r\nx-evil: 1"), json!("")));
    let odd = lies(stage.scene.get("/identity")).bearer(odd).send().await;
    assert!(arrived(&odd, "x-level").is_empty() && arrived(&odd, "x-evil").is_empty(), "{odd:?}");
    for (path, host) in [("/public", "x"), ("/inventory", "x"), ("/elsewhere", "a.open.example.com")] {
        for request in [stage.scene.get(path), stage.scene.get(path).http2()] {
            let answer =
                lies(request.header("host", host)).bearer(&token).header("x-other", "kept").send().await;
            for name in all {
                assert!(
                    arrived(&answer, name).is_empty(),
                    "{path}: the client's own {name} has reached the service"
                );
            }
            assert_eq!(arrived(&answer, "x-other"), ["kept"]);
        }
    }
}

#[tokio::test]
async fn the_token_is_forwarded_to_the_service_unless_the_rule_removes_it() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let answer = stage.scene.get("/inventory").bearer(&token).send().await;
    assert_eq!(arrived(&answer, "authorization"), [format!("Bearer {token}")]);
    let answer = stage.scene.get("/identity").bearer(&token).send().await;
    assert!(arrived(&answer, "authorization").is_empty(), "{answer:?}");
}
