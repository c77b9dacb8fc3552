//! Outbound rules by the cluster of the route, and by the metadata of the route.

use super::{arrived, outbound, sent_as};
use crate::envoy::scene::{Scene, Shared, VMS, builder, wasm};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Wasm};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::sync::Arc;

/// The cluster's name as Istio gives it.
const API: &str = "outbound|443||api.example.com";

/// Two more credentials, and these rules.
fn configuration(idp: &Idp, rules: &Value) -> Value {
    let mut configuration = outbound(idp);
    for name in ["payment-service", "inventory-service"] {
        let secret = name.replace("service", "secret");
        configuration["outbound"]["credentials"][name] =
            json!({ "issuer": "keycloak", "client_id": name, "client_secret": { "inline": secret } });
    }
    configuration["outbound"]["rules"] = rules.clone();
    configuration
}

/// One credential for each cluster.
fn by_cluster(idp: &Idp) -> Value {
    configuration(
        idp,
        &json!([
            { "match": { "cluster": API }, "credential": "payment-service" },
            { "match": { "cluster": "service" }, "credential": "order-service" },
            { "match": { "cluster": "no-such-cluster" }, "credential": "inventory-service" },
        ]),
    )
}

/// The credential that a route names, attached by this rule; otherwise the token of
/// `order-service`.
fn by_route(idp: &Idp, rule: &Value) -> Value {
    configuration(idp, &json!([rule, { "credential": "order-service" }]))
}

/// The rule with `route_metadata`.
fn heard() -> Value {
    json!({ "name": "by-route", "route_metadata": true })
}

/// Rules for every credential, and none with `route_metadata`.
fn unheard(idp: &Idp) -> Value {
    let never = |name: &str| json!({ "match": { "path": "/never" }, "credential": name });
    configuration(
        idp,
        &json!([never("payment-service"), never("inventory-service"), { "credential": "order-service" }]),
    )
}

/// A route for a path, with its metadata, if any.
fn route(path: &str, cluster: &str, credential: Option<Value>) -> Value {
    let mut route = json!({ "match": { "path": path }, "route": { "cluster": cluster } });
    if let Some(credential) = credential {
        route["metadata"] = json!({ "filter_metadata": { "m2m_auth": { "credential": credential } } });
    }
    route
}

fn routes() -> Value {
    envoy::route_config(vec![
        route("/payments", "service", Some(json!("payment-service"))),
        route("/inventory", "service", Some(json!("inventory-service"))),
        route("/none", "service", Some(json!("none"))),
        route("/typo", "service", Some(json!("paymnet-service"))),
        route("/empty", "service", Some(json!(""))),
        route("/number", "service", Some(json!(7))),
        route("/true", "service", Some(json!(true))),
        route("/list", "service", Some(json!(["payment-service"]))),
        route("/object", "service", Some(json!({ "payment-service": true }))),
        route("/null", "service", Some(Value::Null)),
        route("/silent", "service", None),
        {
            let mut other = route("/other", "service", None);
            other["metadata"] = json!({ "filter_metadata": {
                "m2m_auth": { "credentials": "none" }, "m2m_auth_2": { "credential": "none" },
            } });
            other
        },
    ])
}

fn clusters() -> Value {
    envoy::route_config(vec![
        route("/service", "service", None),
        route("/api", API, None),
        json!({ "match": { "path": "/lost" }, "route": { "cluster": "no-such-cluster" } }),
    ])
}

/// One Envoy for every test that changes nothing.
async fn stage() -> Arc<Scene> {
    static STAGE: Shared<Scene> = Shared::new();
    let start = async || {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let settings = json!({ "route_metadata": true, "header": "x-service-token", "existing": "keep" });
        let at = |name: &str, configuration: &Value, mut routes: Value| {
            routes["validate_clusters"] = json!(false);
            envoy::listener(name, vec![wasm(configuration).filter()], routes)
        };
        let builder = builder(&idp, &upstream)
            .cluster(envoy::cluster(API, upstream.address()))
            .listener(at("clusters", &by_cluster(&idp), clusters()))
            .listener(at("routes", &by_route(&idp, &heard()), routes()))
            .listener(at("settings", &by_route(&idp, &settings), routes()))
            .listener(at("off", &unheard(&idp), routes()));
        Scene::of(idp, upstream, builder).await
    };
    STAGE.get(start).await
}

async fn get(scene: &Scene, listener: &str, path: &str) -> Response {
    client::get(scene.envoy.url(listener, path)).send().await
}

fn reason(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn two_routes_to_two_clusters_leave_with_the_tokens_of_their_clusters() {
    let scene = stage().await;
    for _ in 0..3 {
        let [service, api] =
            [get(&scene, "clusters", "/service").await, get(&scene, "clusters", "/api").await];
        assert_eq!(sent_as(&service).as_deref(), Some("order-service"));
        assert_eq!(sent_as(&api).as_deref(), Some("payment-service"));
    }
    // Without a route or a cluster there is nothing to match, and the answer is Envoy's.
    assert_eq!(get(&scene, "clusters", "/nowhere").await.status, 404);
    assert_eq!(get(&scene, "clusters", "/lost").await.status, 503);
    assert!(scene.seen("/lost").is_empty());
}

#[tokio::test]
async fn a_route_names_whose_token_its_requests_get_and_one_that_says_nothing_is_left_to_the_rules() {
    let scene = stage().await;
    for (path, client) in [
        ("/payments", Some("payment-service")),
        ("/inventory", Some("inventory-service")),
        ("/none", None),
        ("/silent", Some("order-service")),
        ("/other", Some("order-service")),
    ] {
        assert_eq!(sent_as(&get(&scene, "routes", path).await).as_deref(), client, "{path}");
        let post = client::post(scene.envoy.url("routes", path)).body("x".repeat(30_000)).http2();
        assert_eq!(sent_as(&post.send().await).as_deref(), client, "{path}");
    }
    let own = client::get(scene.envoy.url("routes", "/none")).bearer("own").send().await;
    assert_eq!(arrived(&own, "authorization"), ["Bearer own"]);
}

#[tokio::test]
async fn a_route_that_names_an_unknown_credential_is_answered_503_counted_and_logged() {
    let scene = stage().await;
    for path in ["/typo", "/empty", "/number", "/true", "/list", "/object", "/null"] {
        let answer = get(&scene, "routes", path).await;
        assert_eq!(reason(&answer), (503, "unknown_credential".to_owned()), "{path}");
        assert_eq!(answer.json()["error"], "Misconfigured");
        assert!(!answer.text().contains("paymnet"), "the answer reveals nothing of the configuration");
        assert_eq!(answer.header("retry-after").as_deref(), Some("60"));
        assert!(scene.seen(path).is_empty(), "{path}");
    }
    scene.envoy.wait_for_log(r#""credential":"paymnet-service""#).await;
    let counter = "wasmcustom.m2m_auth_outbound.rule.by-route.decision.unknown_credential";
    scene.envoy.wait_for_stat(counter, |count| count >= 6).await;
    let entries = until("the access log", async || {
        let entries = scene.envoy.access_log();
        entries.iter().any(|entry| entry["path"] == "/typo").then_some(entries)
    });
    let entry = entries.await.into_iter().find(|entry| entry["path"] == "/typo").unwrap();
    assert_eq!(entry["details"], "m2m_auth_unknown_credential");
}

#[tokio::test]
async fn the_metadata_of_routes_is_ignored_unless_the_operator_allows_it() {
    let scene = stage().await;
    for path in ["/payments", "/none", "/typo", "/empty", "/object", "/silent"] {
        let answer = get(&scene, "off", path).await;
        assert_eq!(sent_as(&answer).as_deref(), Some("order-service"), "{path}");
    }
}

#[tokio::test]
async fn a_token_that_a_route_names_goes_where_the_rule_for_routes_says() {
    let scene = stage().await;
    let named = get(&scene, "settings", "/payments").await;
    assert!(arrived(&named, "authorization").is_empty());
    assert!(arrived(&named, "x-service-token")[0].starts_with("ey"), "a token, and no scheme");
    let kept = client::get(scene.envoy.url("settings", "/payments")).header("x-service-token", "own");
    assert_eq!(arrived(&kept.send().await, "x-service-token"), ["own"]);
    assert_eq!(sent_as(&get(&scene, "settings", "/silent").await).as_deref(), Some("order-service"));
}

/// As an upstream filter of both clusters.
fn upstream_filter(filter: &Wasm, idp: &Idp, upstream: &Upstream) -> envoy::Builder {
    let within =
        |name: &str| envoy::upstream_filters(envoy::cluster(name, upstream.address()), vec![filter.filter()]);
    envoy::Envoy::builder()
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(within("service"))
        .cluster(within(API))
}

#[tokio::test]
async fn as_an_upstream_filter_it_knows_the_cluster_that_it_runs_in() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let builder = upstream_filter(&wasm(&by_cluster(&idp)), &idp, &upstream);
    let mut routes = clusters();
    routes["validate_clusters"] = json!(false);
    let scene = Scene::of(idp, upstream, builder.listener(envoy::listener("main", vec![], routes))).await;
    scene.logged("token of credential payment-service: token acquired", VMS).await;
    for _ in 0..3 {
        assert_eq!(sent_as(&scene.get("/service").send().await).as_deref(), Some("order-service"));
        assert_eq!(sent_as(&scene.get("/api").send().await).as_deref(), Some("payment-service"));
    }
}

#[tokio::test]
async fn as_a_filter_of_the_cluster_it_hears_the_route() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let builder = upstream_filter(&wasm(&by_route(&idp, &heard())), &idp, &upstream);
    let scene = Scene::of(idp, upstream, builder.listener(envoy::listener("main", vec![], routes()))).await;
    for (path, client) in
        [("/payments", Some("payment-service")), ("/none", None), ("/silent", Some("order-service"))]
    {
        assert_eq!(sent_as(&scene.get(path).send().await).as_deref(), client, "{path}");
    }
    assert_eq!(reason(&scene.get("/typo").send().await), (503, "unknown_credential".to_owned()));
    assert!(scene.seen("/typo").is_empty());
}

#[tokio::test]
async fn of_two_clusters_by_weight_each_gets_its_own_token_though_envoy_chooses_again() {
    let (idp, one, other) = (Idp::start().await, Upstream::start().await, Upstream::start().await);
    let weight = |name: &str| json!({ "name": name, "weight": 50 });
    let clusters = json!({ "clusters": [weight("service"), weight(API)] });
    let routes = envoy::route_config(vec![
        json!({ "match": { "prefix": "/" }, "route": { "weighted_clusters": clusters } }),
    ]);
    let builder = builder(&idp, &one)
        .cluster(envoy::cluster(API, other.address()))
        .listener(envoy::listener("main", vec![wasm(&by_cluster(&idp)).filter()], routes));
    let scene = Scene::of(idp, one, builder).await;
    let mut counts = [0, 0];
    for _ in 0..60 {
        let answer = scene.get("/").send().await;
        let place = usize::from(sent_as(&answer).as_deref() == Some("payment-service"));
        counts[place] += 1;
        assert_eq!([scene.upstream.count(), other.count()], counts, "{answer:?}");
    }
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

#[tokio::test]
async fn routes_that_look_at_the_tokens_own_header_are_chosen_anew_once_it_is_there() {
    let with_token = json!({
        "match": { "path": "/", "headers": [{ "name": "authorization", "present_match": true }] },
        "route": { "cluster": API },
    });
    let scene = {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let routes = envoy::route_config(vec![with_token, route("/", "service", None)]);
        let builder = builder(&idp, &upstream)
            .cluster(envoy::cluster(API, upstream.address()))
            .listener(envoy::listener("main", vec![wasm(&by_cluster(&idp)).filter()], routes));
        Scene::of(idp, upstream, builder).await
    };
    // What docs/how-to/attach-tokens.md warns of: decided for one cluster, sent to another.
    assert_eq!(sent_as(&scene.get("/").send().await).as_deref(), Some("order-service"));
    let entry = scene.envoy.wait_for_access_log(1).await.remove(0);
    assert_eq!(entry["upstream"], API);
}
