//! The path that is matched is the path that runs: requests that servers read in different ways, on
//! real Envoy and without a token.

use crate::envoy::scene::{Scene, Shared, builder, issuers, listener, wasm};
use m2m_auth_kit::client::Response;
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::sync::Arc;

static SCENE: Shared<Scene> = Shared::new();

/// Everything is open but `/admin`, the host `admin.example.com` and `DELETE` of items.
fn rules() -> Value {
    let require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
    json!([
        { "name": "host", "match": { "host": "admin.example.com" }, "require": require },
        { "name": "health", "match": { "path": "/health" }, "allow": true },
        { "name": "admin", "match": { "path_prefix": "/admin" }, "require": require,
          "claims_to_headers": { "x-caller": "sub" } },
        { "name": "delete", "match": { "path_prefix": "/items", "methods": ["DELETE"] }, "require": require },
        { "name": "perhaps", "match": { "path_prefix": "/perhaps" }, "mode": "optional", "require": require },
        { "name": "rest", "allow": true },
    ])
}

async fn scene() -> Arc<Scene> {
    let configuration = |idp: &Idp| json!({ "issuers": issuers(idp), "inbound": { "rules": rules() } });
    SCENE.get(async || Scene::start(configuration).await).await
}

fn reason(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_path_that_leads_to_different_rules_is_refused_and_never_reaches_the_service() {
    let scene = scene().await;
    for path in [
        "/admin/../health",
        "/admin/..;/health",
        "/admin/..%3b/health",
        "//health/admin/users",
        "/%61dmin",
        "/ADMIN",
        "/health/..%2fadmin",
    ] {
        for request in [scene.get(path), scene.get(path).http2()] {
            assert_eq!(reason(&request.send().await), (400, "ambiguous_path".to_owned()), "{path}");
        }
        assert!(scene.seen(path).is_empty(), "{path} has reached the service");
    }
    for path in ["/health", "/queues/%2F/q", "/a;v=1/b//c", "/caf%C3%A9"] {
        assert_eq!(scene.get(path).send().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_path_in_another_case_is_refused_unless_the_operator_says_that_case_counts() {
    let scene = scene().await;
    assert_eq!(reason(&scene.get("/Admin/x").send().await), (400, "ambiguous_path".to_owned()));
    let case_sensitive = Scene::start(|idp| {
        json!({ "issuers": issuers(idp), "inbound": { "rules": rules(), "danger_case_sensitive_paths": true } })
    })
    .await;
    assert_eq!(case_sensitive.get("/Admin/x").send().await.status, 200);
    assert_eq!(reason(&case_sensitive.get("/admin/x").send().await), (401, "no_token".to_owned()));
}

#[tokio::test]
async fn a_method_that_a_server_takes_for_another_is_refused() {
    let scene = scene().await;
    let ask = async |method: &str, fields: &[(&str, &str)]| {
        let request = scene.request(method, "/items/7").http2();
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, value));
        reason(&request.send().await)
    };
    let ambiguous = (400, "ambiguous_method".to_owned());
    assert_eq!(ask("DELETE", &[]).await, (401, "no_token".to_owned()));
    assert_eq!(ask("delete", &[]).await, ambiguous, "HTTP/2 does not check the case of a method");
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        assert_eq!(ask("POST", &[(name, "DELETE")]).await, ambiguous, "{name}");
    }
    assert_eq!(ask("POST", &[]).await.0, 200);
    assert_eq!(ask("POST", &[("x-http-method-override", "PATCH")]).await.0, 200, "one rule for both");
    assert!(scene.upstream.requests().iter().all(|request| !request.method.eq_ignore_ascii_case("delete")));
}

/// Envoy forwards `Connection` with requests that are to be upgraded, and makes an extended CONNECT
/// of them over HTTP/2.
#[tokio::test]
async fn an_upgrade_changes_neither_the_rule_nor_the_headers_of_the_filter() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
    let configuration = json!({ "issuers": issuers(&idp), "inbound": { "rules": [
        { "match": { "path_prefix": "/ws", "methods": ["GET"] }, "require": require },
        { "match": { "path_prefix": "/ws" }, "allow": true },
        { "match": { "path_prefix": "/caller" }, "require": require, "claims_to_headers": { "x-caller": "sub" } },
    ] } });
    let mut listener = listener(&wasm(&configuration));
    envoy::manager_mut(&mut listener)["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }]);
    let builder = builder(&idp, &upstream).listener(listener);
    let scene = Scene::of(idp, upstream, builder).await;
    let upgrade = |method: &str, path: &str, connection: &str| {
        let request = scene.request(method, path).header("upgrade", "websocket");
        request.header("connection", connection)
    };
    for method in ["POST", "PUT", "DELETE"] {
        let answer = upgrade(method, "/ws/admin", "Upgrade").send().await;
        assert_eq!(reason(&answer), (400, "ambiguous_method".to_owned()), "{method}");
    }
    assert_eq!(upgrade("GET", "/ws/admin", "Upgrade").send().await.status, 401);
    let token = scene.idp.token();
    for connection in ["Upgrade, x-caller", "X-Caller,upgrade"] {
        let answer = upgrade("GET", "/caller", connection).bearer(&token).send().await;
        assert_eq!(reason(&answer), (400, "ambiguous_header".to_owned()), "{connection}");
    }
    assert!(scene.seen("/caller").is_empty());
    upgrade("GET", "/caller", "Upgrade").bearer(&token).send().await;
    assert_eq!(scene.seen("/caller")[0].headers_named("x-caller").len(), 1);
}

#[tokio::test]
async fn a_host_that_a_server_takes_for_another_is_refused() {
    let scene = scene().await;
    for host in ["admin.example.com:", "admin.example.com:x", "admin.example.com:+1", "admin.example.com:80."]
    {
        let answer = scene.get("/x").header("host", host).send().await;
        assert_eq!(answer.status, 400, "{host}: {answer:?}");
        assert_eq!(answer.json()["reason"], "ambiguous_host", "{host}");
    }
    assert_eq!(scene.get("/x").header("host", "admin.example.com:80").send().await.status, 401);
    assert_eq!(scene.get("/x").header("host", "www.example.com:80").send().await.status, 200);
}

#[tokio::test]
async fn no_name_that_a_server_takes_for_ours_reaches_the_service() {
    let scene = scene().await;
    let names = ["x-caller", "x_caller", "x.caller", "x!caller", "x~caller", "x*caller", "x%caller"];
    let path = "/named";
    let request = names.iter().fold(scene.get(path), |request, name| request.header(*name, "root"));
    assert_eq!(request.send().await.status, 200);
    let seen = scene.seen(path).pop().unwrap();
    let lookalike = |name: &str| {
        name.replace(|byte: char| !byte.is_ascii_alphanumeric(), "-").eq_ignore_ascii_case("x-caller")
    };
    assert!(!seen.headers.iter().any(|(name, _)| lookalike(name)), "{:?}", seen.headers);
}

#[tokio::test]
async fn a_token_behind_another_separator_is_a_bad_token_and_no_missing_one() {
    let scene = scene().await;
    assert_eq!(scene.get("/perhaps").send().await.status, 200);
    for value in
        [&b"Bearer\tx.y.z"[..], b"Bearer\xa0x.y.z", b"bearer,x.y.z", b"\xa0Bearer x.y.z", b"Bearer\"x.y.z\""]
    {
        let answer = scene.get("/perhaps").header("authorization", value).send().await;
        assert_eq!(reason(&answer), (401, "malformed".to_owned()), "{}", value.escape_ascii());
    }
    assert_eq!(scene.get("/perhaps").header("authorization", "Basic x").send().await.status, 200);
}
