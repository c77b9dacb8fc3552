//! Which refusals renew a token, and which services get a token, on real Envoy.

use crate::envoy::scene::{HAS_TOKEN, Scene, arrived, issuers, outbound, wasm};
use m2m_auth_kit::client::Request;
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

/// What counts the refusals of order-service's token.
const REFUSED: &str = "wasmcustom.m2m_auth_upstream_rejected.credential.order-service";

/// One worker, so that the refused requests are known, a service that speaks HTTP/2, and these
/// filters after the plugin.
async fn scene(configuration: impl FnOnce(&Idp) -> Value, behind: Vec<Value>, routes: Value) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let filter = wasm(&configuration(&idp)).filter();
    let filters = [filter].into_iter().chain(behind).collect();
    let builder = Envoy::builder()
        .concurrency(1)
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::http2(envoy::cluster("service", upstream.address())))
        .listener(envoy::listener("main", filters, routes));
    Scene::of(idp, upstream, builder).await
}

fn filter(name: &str, kind: &str, mut configuration: Value) -> Value {
    configuration["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"));
    json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": configuration })
}

/// Filters that answer 401 themselves where a request asks them to.
fn refusing() -> Vec<Value> {
    let code = "function envoy_on_request(handle)
        if handle:headers():get('x-lua') then handle:respond({[':status'] = '401'}, 'no') end
    end";
    let abort = json!({ "header_abort": {}, "percentage": { "numerator": 100 } });
    vec![
        filter("fault", "fault.v3.HTTPFault", json!({ "abort": abort })),
        filter("lua", "lua.v3.Lua", json!({ "default_source_code": { "inline_string": code } })),
    ]
}

fn grpc(scene: &Scene) -> Request {
    let request = scene.request("POST", "/inventory/Get").http2();
    request.header("content-type", "application/grpc").header("te", "trailers").body(&[0_u8; 5][..])
}

#[tokio::test]
async fn a_401_of_a_later_filter_of_this_envoy_is_not_the_services() {
    let scene = scene(outbound, refusing(), envoy::route_to("service")).await;
    scene.logged(HAS_TOKEN, 2).await;
    let first = arrived(&scene.get("/orders").send().await, "authorization").remove(0);
    for _ in 0..5 {
        for (name, value) in [("x-envoy-fault-abort-request", "401"), ("x-lua", "1")] {
            assert_eq!(scene.get("/orders").header(name, value).send().await.status, 401, "{name}");
        }
    }
    scene.upstream.answer_when("authorization", &first, 401);
    assert_eq!(scene.get("/orders").send().await.status, 401);
    // Counters are reported in order, so the others would have been reported by now.
    assert_eq!(scene.envoy.wait_for_stat(REFUSED, |count| count >= 1).await, 1);
    scene.idp.wait_for(Endpoint::Token, 2).await;
    let second = arrived(&scene.get("/orders").send().await, "authorization").remove(0);
    assert_ne!(first, second, "the service's own renews it");
}

#[tokio::test]
async fn unauthenticated_of_a_grpc_service_renews_the_token_in_trailers_and_without_a_message() {
    for in_trailers in [true, false] {
        let scene = scene(outbound, Vec::new(), envoy::route_to("service")).await;
        scene.logged(HAS_TOKEN, 2).await;
        grpc(&scene).send().await;
        let first = scene.upstream.last().header("authorization").unwrap();
        let refused = first.clone();
        scene.upstream.answer_by(move |request| {
            let headers = [("content-type", "application/grpc"), ("grpc-status", "16")];
            let bare = Reply { body: Some(String::new()), ..Reply::new(200, &headers) };
            let reply = if in_trailers { Reply::grpc("16") } else { bare };
            (request.header("authorization").as_ref() == Some(&refused)).then_some(reply)
        });
        let answer = grpc(&scene).send().await;
        assert_eq!((answer.status, answer.header("grpc-status").as_deref()), (200, Some("16")));
        scene.idp.wait_for(Endpoint::Token, 2).await;
        grpc(&scene).send().await;
        let second = scene.upstream.last().header("authorization").unwrap();
        assert_ne!(first, second, "in trailers: {in_trailers}");
        assert_eq!(scene.envoy.wait_for_stat(REFUSED, |count| count >= 1).await, 1);
    }
}

#[tokio::test]
async fn a_redirect_that_envoy_follows_itself_does_not_carry_the_token_to_another_host() {
    let redirects = json!({ "max_internal_redirects": 1, "redirect_response_codes": [302] });
    let routes = envoy::route_config(vec![json!({
        "match": { "prefix": "/" },
        "route": { "cluster": "service", "internal_redirect_policy": redirects },
    })]);
    let scene = scene(
        |idp| {
            let mut configuration = outbound(idp);
            configuration["outbound"]["rules"][0]["match"] = json!({ "host": "a.internal" });
            configuration
        },
        Vec::new(),
        routes,
    )
    .await;
    scene.logged(HAS_TOKEN, 2).await;
    scene.upstream.answer_by(|request| {
        let location = [("location", "http://b.internal/there")];
        (request.path == "/here").then(|| Reply::new(302, &location))
    });
    let answer = scene.get("/here").header("host", "a.internal").send().await;
    assert_eq!(answer.status, 200, "{}", scene.envoy.logs());
    let [here, there] = &scene.upstream.requests()[..] else { panic!("{:?}", scene.upstream.requests()) };
    assert!(here.header("authorization").is_some());
    assert_eq!((there.path.as_str(), there.header("authorization")), ("/there", None));
}

#[tokio::test]
async fn a_token_that_is_exchanged_does_not_reach_the_service_beside_the_new_one() {
    let credential = |changes: Value| {
        let mut credential = json!({
            "issuer": "keycloak", "grant_type": "token_exchange", "client_id": "inventory-service",
            "client_secret": { "inline": "inventory-secret" }, "audience": "payment-service", "scopes": ["payment-api"],
            "subject_token": { "header": "x-subject-token" },
        });
        credential.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        credential
    };
    let scene = Scene::start(|idp| {
        json!({
            "issuers": issuers(idp),
            "outbound": {
                "credentials": {
                    "alone": credential(json!({})),
                    "elsewhere": credential(json!({ "subject_token": { "header": "authorization" } })),
                    "both": credential(json!({ "forward_subject_token": true })),
                },
                "rules": [
                    { "match": { "path": "/alone" }, "credential": "alone" },
                    { "match": { "path": "/elsewhere" }, "credential": "elsewhere", "header": "x-upstream-token" },
                    { "match": { "path": "/both" }, "credential": "both" },
                ],
            },
        })
    })
    .await;
    let form = Request::new("POST", scene.idp.url(Endpoint::Token))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&client_id=order-service&client_secret=order-secret");
    let token = form.send().await.json()["access_token"].as_str().unwrap().to_owned();
    let alone = scene.get("/alone").header("x-subject-token", &token).send().await;
    assert_eq!((arrived(&alone, "x-subject-token").len(), arrived(&alone, "authorization").len()), (0, 1));
    let elsewhere = scene.get("/elsewhere").bearer(&token).send().await;
    assert_eq!(arrived(&elsewhere, "authorization").len(), 0, "{}", elsewhere.text());
    assert_eq!(arrived(&elsewhere, "x-upstream-token").len(), 1);
    let both = scene.get("/both").header("x-subject-token", &token).send().await;
    assert_eq!(arrived(&both, "x-subject-token"), [token]);
}
