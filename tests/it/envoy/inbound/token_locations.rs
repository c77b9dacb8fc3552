//! Tokens in headers of their own, cookies and queries, and what the service receives.

use crate::envoy::scene::{Scene, arrived, gated, inbound, send};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

/// Every token location.
fn everywhere(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    configuration["inbound"]["token_locations"] = json!([
        { "header": "authorization" },
        { "header": "x-api-token", "prefix": "tok:" },
        { "cookie": "session" },
        { "danger_query": "access_token" },
    ]);
    let require = configuration["inbound"]["rules"][0]["require"].clone();
    let permissive =
        json!({ "match": { "path": "/permissive" }, "require": require, "mode": "danger_permissive" });
    configuration["inbound"]["rules"].as_array_mut().unwrap().push(permissive);
    configuration
}

#[tokio::test]
async fn a_token_is_found_in_every_location_and_is_not_forwarded_to_the_service() {
    let scene = Scene::start(everywhere).await;
    let token = scene.idp.token();
    for (query, left) in [
        (format!("?access_token={token}"), ""),
        (format!("?a=%20+%2B&access_token={token}&&b&a=2"), "?a=%20+%2B&&b&a=2"),
        (format!("?access%5Ftoken={token}&x=%26%3d"), "?x=%26%3d"),
    ] {
        let path = format!("/inventory/%78//y{query}");
        for request in [scene.get(&path), scene.get(&path).http2()] {
            let answer = request.send().await;
            assert_eq!(answer.status, 200, "{left}: {answer:?}");
            assert_eq!(answer.json()["path"], format!("/inventory/%78//y{left}"));
        }
    }
    for (cookies, left) in [
        (format!("session={token}"), vec![]),
        (format!("a=\"x y\"; session={token};b=2; a=3"), vec!["a=\"x y\";b=2; a=3"]),
    ] {
        for request in [scene.get("/inventory"), scene.get("/inventory").http2()] {
            assert_eq!(arrived(&request.header("cookie", &cookies).send().await, "cookie"), left);
        }
    }
    let lines = scene.get("/inventory").header("cookie", "a=1").header("cookie", format!("session={token}"));
    assert_eq!(arrived(&lines.header("cookie", "b=2").send().await, "cookie"), ["a=1; b=2"]);
    let answer = scene.get("/inventory").header("X-Api-Token", format!("tok:{token}")).send().await;
    assert!(arrived(&answer, "x-api-token").is_empty());
    let answer = scene.get("/inventory?a=1").bearer(&token).header("cookie", "c=1").send().await;
    assert_eq!(answer.json()["path"], "/inventory?a=1");
    assert_eq!(arrived(&answer, "cookie"), ["c=1"]);
    assert_eq!(arrived(&answer, "authorization"), [format!("Bearer {token}")]);
}

#[tokio::test]
async fn two_credentials_in_different_locations_are_one_too_many_and_no_answer_holds_one() {
    let scene = Scene::start(everywhere).await;
    let token = scene.idp.token();
    let path = format!("/inventory?access_token={token}");
    for request in [
        scene.get(&path).bearer(&token),
        scene.get(&path).header("cookie", format!("session={token}")),
        scene.get("/inventory").header("x-api-token", "tok:x").bearer(&token),
        scene.get(&format!("{path}&access_token={token}")),
    ] {
        let answer = request.send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (400, &json!("multiple_credentials")));
        assert!(
            answer.header("www-authenticate").is_some_and(|text| text.contains("error=\"invalid_request\""))
        );
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        assert!(!format!("{answer:?}").contains(&token), "the answer holds the token");
    }
    assert!(!scene.envoy.logs().contains(token.rsplit('.').next().unwrap()), "a log holds the token");
}

#[tokio::test]
async fn a_token_in_the_query_is_removed_from_a_request_that_waited_and_from_a_suppressed_refusal() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Keys]);
    let scene = Scene::with(idp, upstream, everywhere).await;
    let token = scene.idp.token();
    let spared = scene.get("/permissive?access_token=garbage&a=1").header("cookie", "session=x").send().await;
    assert_eq!(arrived(&spared, "m2m-auth-decision"), ["multiple_credentials"]);
    assert_eq!(spared.json()["path"], "/permissive?a=1");
    assert!(arrived(&spared, "cookie").is_empty());
    let waited = send(scene.get(&format!("/inventory?access_token={token}&a=1")));
    scene.held(1).await;
    gate.open();
    let waited = waited.await.unwrap();
    assert_eq!((waited.status, &waited.json()["path"]), (200, &json!("/inventory?a=1")));
}
