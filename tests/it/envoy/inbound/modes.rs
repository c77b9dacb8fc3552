//! Rules in modes that forward refused requests: what is forwarded, and what is reported.

use crate::envoy::scene::{HAS_KEYS, Scene, VMS, arrived, inbound, retry_after};
use m2m_auth_kit::client::Request;
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

const DECISION: &str = "m2m-auth-decision";

/// One rule for each mode, for the path of its name; the first one allows preflights.
fn modes(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    let require = configuration["inbound"]["rules"][0]["require"].clone();
    let rule = |mode: &str| {
        json!({ "name": mode, "match": { "path_prefix": format!("/{mode}"), "methods": ["GET", "POST"] }, "require": require,
                "mode": mode, "cors_preflight": mode == "enforce", "claims_to_headers": { "x-client": "azp" } })
    };
    configuration["inbound"]["rules"] =
        json!([rule("enforce"), rule("optional"), rule("danger_permissive"), rule("danger_dry_run")]);
    configuration
}

/// A request that claims to have been decided already.
fn lying(request: Request) -> Request {
    request.header(DECISION, "allowed").header("M2M-Auth-Decision", "allowed").header("x-client", "admin")
}

#[tokio::test]
async fn each_mode_does_what_it_says_with_good_bad_and_no_tokens() {
    let scene = Scene::start(modes).await;
    scene.logged(HAS_KEYS, VMS).await; // requests do not wait for keys where no request is refused
    let good = scene.idp.token();
    let mut poor = scene.idp.claims();
    poor["resource_access"] = json!({});
    let poor = scene.idp.mint(poor);
    for (token, enforced, optional, decision) in [
        (Some(good.as_str()), 200, 200, "allowed"),
        (None, 401, 200, "no_token"),
        (Some("garbage"), 401, 401, "malformed"),
        (Some(poor.as_str()), 403, 403, "client_role"),
    ] {
        let ask = async |path: &str| {
            let request = lying(scene.get(path));
            token.map_or(request.clone(), |token| request.bearer(token)).send().await
        };
        assert_eq!(ask("/enforce").await.status, enforced, "{decision}");
        let answer = ask("/optional").await;
        assert_eq!(answer.status, optional, "{decision}");
        let client: &[&str] = if decision == "allowed" { &["order-service"] } else { &[] };
        if optional == 200 {
            assert_eq!(arrived(&answer, "x-client"), client, "{decision}");
            assert!(arrived(&answer, DECISION).is_empty());
        }
        let answer = ask("/danger_permissive").await;
        assert_eq!(arrived(&answer, DECISION), [decision]);
        assert_eq!(arrived(&answer, "x-client"), client, "{decision}");
        let answer = ask("/danger_dry_run").await;
        assert!(arrived(&answer, DECISION).is_empty(), "{decision}");
        assert_eq!(arrived(&answer, "x-client"), client, "{decision}");
    }
    let line = scene.envoy.wait_for_log("\"event\":\"would_refuse\",\"host\"").await;
    assert!(line.contains("danger_") && !line.contains("garbage"), "{line}");
    until("dry runs are counted apart", async || {
        let counted = scene.envoy.stats("wasmcustom.m2m_auth_dry_run.rule.danger_dry_run.decision.").await;
        let of = |decision: &str| {
            counted.iter().find(|(name, _)| name.ends_with(decision)).map(|(_, count)| *count)
        };
        let each = ["allowed", "no_token", "malformed", "client_role"].map(of);
        (each == [Some(1); 4]).then_some(())
    })
    .await;
    let real = scene.envoy.stats("wasmcustom.m2m_auth_inbound.rule.danger_").await;
    assert!(real.is_empty(), "{real:?}");
}

#[tokio::test]
async fn without_keys_an_optional_rule_refuses_requests_with_a_token_and_the_other_rules_hold_no_request() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Keys, Fault::Status(500, String::new()));
    let scene = Scene::with(idp, upstream, modes).await;
    let token = scene.idp.token();
    let answer = scene.get("/optional").bearer(&token).send().await;
    assert!(retry_after(&answer) > 0);
    assert_eq!(scene.get("/optional").send().await.status, 200);
    let answer = scene.get("/danger_permissive").bearer(&token).send().await;
    assert_eq!(arrived(&answer, DECISION), ["jwks_unavailable"]);
    assert_eq!(scene.get("/danger_dry_run").bearer(&token).send().await.status, 200);
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_nothing_else_passes_for_one() {
    let scene = Scene::start(modes).await;
    let preflight = |path: &str| {
        let request = scene.request("OPTIONS", path).header("origin", "https://app.example.com");
        request.header("access-control-request-method", "POST")
    };
    for request in [preflight("/enforce"), preflight("/enforce").http2()] {
        assert_eq!(request.send().await.status, 200);
    }
    assert_eq!(preflight("/optional").send().await.status, 403, "no rule but the first is for OPTIONS");
    let twice = preflight("/enforce").header("access-control-request-method", "POST");
    assert_eq!(twice.send().await.status, 403);
    let bare = scene.request("OPTIONS", "/enforce").header("origin", "https://app.example.com");
    assert_eq!(bare.send().await.status, 403);
    let post = scene.request("POST", "/enforce").header("origin", "https://app.example.com");
    assert_eq!(post.header("access-control-request-method", "POST").send().await.status, 401);
}

#[tokio::test]
async fn a_preflight_is_forwarded_without_what_some_servers_take_for_an_override_of_its_method() {
    let scene = Scene::start(|idp| {
        let mut configuration = inbound(idp);
        let require = configuration["inbound"]["rules"][0]["require"].clone();
        configuration["inbound"]["rules"] = json!([{ "cors_preflight": true, "require": require }]);
        configuration
    });
    let scene = scene.await;
    for name in ["x_http_method_override", "x.http.method.override", "X_Http-Method", "x_method-override"] {
        let request = scene.request("OPTIONS", "/").header("origin", "https://app.example.com");
        let request = request.header("access-control-request-method", "POST").header(name, "DELETE");
        let answer = request.send().await;
        assert_eq!(answer.status, 200, "{name}");
        assert!(arrived(&answer, &name.to_ascii_lowercase()).is_empty(), "{name}");
    }
}
