//! Protected resource metadata (RFC 9728) and error responses as problem details (RFC 9457).

use super::{Stage, challenge, stage};
use crate::envoy::scene::{Scene, inbound};
use m2m_auth_kit::client::{Connection, Request};
use serde_json::{Value, json};

const METADATA: &str = "https://api.example.com/.well-known/oauth-protected-resource/inventory";

impl Stage {
    fn problems(&self, method: &str, path: &str) -> Request {
        Request::new(method, self.scene.envoy.url("problems", path))
    }
}

#[tokio::test]
async fn the_metadata_of_the_resource_is_served_without_a_token_and_never_by_the_service() {
    let stage = stage().await;
    let document = json!({
        "resource": "https://api.example.com/inventory",
        "authorization_servers": [stage.scene.idp.issuer()],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["orders:read", "orders:write"],
        "resource_name": "Inventory",
    });
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/inventory"] {
        for request in [stage.problems("GET", path), stage.problems("GET", path).http2().bearer("garbage")] {
            let answer = request.send().await;
            assert_eq!((answer.status, answer.json()), (200, document.clone()), "{path}");
            assert_eq!(answer.headers_named("content-type"), ["application/json"]);
            assert_eq!(answer.headers_named("cache-control"), ["public, max-age=3600"]);
        }
        let mut connection = Connection::open(stage.scene.envoy.address("problems")).await.unwrap();
        let head = connection.exchange(&stage.problems("HEAD", path)).await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
        let post = connection.exchange(&stage.problems("POST", path)).await.unwrap();
        assert_eq!((post.status, post.header("allow").as_deref()), (405, Some("GET, HEAD")), "{post:?}");
        assert!(stage.scene.seen(path).is_empty());
    }
    // Metadata of another resource, and of a filter without metadata, are ordinary requests.
    let other = stage.problems("GET", "/.well-known/oauth-protected-resource/orders").send().await;
    assert_eq!((other.status, &other.json()["reason"]), (403, &json!("no_rule")));
    let silent = stage.scene.get("/.well-known/oauth-protected-resource").send().await;
    assert_eq!((silent.status, &silent.json()["reason"]), (403, &json!("no_rule")));
}

#[tokio::test]
async fn the_metadata_says_to_which_keys_tokens_are_bound() {
    let metadata_of = async |bound: Value| {
        let scene = Scene::start(|idp| {
            let mut configuration = inbound(idp);
            configuration["inbound"]["resource_metadata"] = json!({ "resource": "https://api.example.com" });
            configuration["inbound"]["rules"][0]["require"]["token_binding"] = bound;
            configuration
        });
        let document = scene.await.get("/.well-known/oauth-protected-resource").send().await.json();
        ["dpop_bound_access_tokens_required", "tls_client_certificate_bound_access_tokens"]
            .map(|name| document[name].clone())
    };
    assert_eq!(metadata_of(json!("dpop")).await, [json!(true), json!(null)]);
    assert_eq!(metadata_of(json!({ "dpop": true, "mtls": true })).await, [json!(false), json!(true)]);
}

#[tokio::test]
async fn every_challenge_names_the_metadata_of_the_resource() {
    let stage = stage().await;
    let missing = stage.problems("GET", "/inventory").send().await;
    assert_eq!(challenge(&missing), format!("Bearer realm=\"m2m\", resource_metadata=\"{METADATA}\""));
    let bad = challenge(&stage.problems("GET", "/inventory").bearer("garbage").send().await);
    assert!(
        bad.contains("error=\"invalid_token\"")
            && bad.ends_with(&format!("resource_metadata=\"{METADATA}\"")),
        "{bad}"
    );
    let silent = stage.scene.get("/inventory").send().await;
    assert_eq!(challenge(&silent), "Bearer realm=\"m2m\"");
}

#[tokio::test]
async fn a_refusal_is_a_problem_where_that_is_asked_for() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    for (request, status, title, reason) in [
        (stage.problems("GET", "/inventory"), 401, "Unauthorized", "no_token"),
        (stage.problems("GET", "/inventory").bearer("x"), 401, "Unauthorized", "malformed"),
        (stage.problems("GET", "/inventory/admin").bearer(&token), 403, "Forbidden", "client_role"),
        (stage.problems("GET", "/nowhere"), 403, "Forbidden", "no_rule"),
        (stage.problems("GET", "/inventory%2fadmin"), 400, "Bad Request", "ambiguous_path"),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.headers_named("content-type"), ["application/problem+json"], "{answer:?}");
        assert_eq!(answer.headers_named("cache-control"), ["no-store"], "{answer:?}");
        let body = answer.json();
        let detail = body["detail"].as_str().unwrap();
        assert!(!detail.is_empty());
        let expected: Value = json!({
            "type": "about:blank", "title": title, "status": status, "detail": detail, "reason": reason,
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn a_websocket_is_refused_before_its_upgrade_and_the_connection_stays_usable() {
    let stage = stage().await;
    let upgrade = || {
        let request = stage.problems("GET", "/inventory?socket").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let refused = upgrade().send().await;
    assert_eq!((refused.status, &refused.json()["reason"]), (401, &json!("no_token")), "{refused:?}");
    assert!(challenge(&refused).starts_with("Bearer realm=\"m2m\""), "{refused:?}");
    assert!(stage.scene.seen("/inventory?socket").is_empty());
    // The control: with a token it is the service that decides.
    let passed = upgrade().bearer(stage.scene.idp.token()).send().await;
    let [seen] = &stage.scene.seen("/inventory?socket")[..] else { panic!("{passed:?}") };
    assert_eq!(seen.header("upgrade").as_deref(), Some("websocket"));
}

#[tokio::test]
async fn a_grpc_client_is_told_the_sentence_and_that_a_bad_request_is_its_own_fault() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    for listener in ["main", "problems"] {
        let call = |path: &str| {
            let request = Request::new("POST", stage.scene.envoy.url(listener, path)).http2();
            request.header("content-type", "application/grpc+proto").header("te", "trailers").body(vec![0; 5])
        };
        let both = format!("Bearer {token}, Bearer {token}");
        for (call, status, message) in [
            (call("/Stock/Get"), "16", "a bearer token is required"),
            (call("/Stock/Get").bearer("garbage"), "16", "the token is not a signed JWT"),
            (
                call("/Stock/Get").header("authorization", &both),
                "3",
                "more than one credential in the request",
            ),
            (call("/Stock%2fGet"), "3", "ambiguous request path"),
            (call("/Nowhere/Get"), "7", "no rule matches this request"),
        ] {
            let answer = call.send().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("grpc-status").as_deref(), Some(status), "{answer:?}");
            assert_eq!(answer.header("grpc-message").as_deref(), Some(message), "{answer:?}");
            assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"), "{answer:?}");
            assert!(answer.body.is_empty(), "{answer:?}");
        }
    }
}
