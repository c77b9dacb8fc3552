//! From `credential_injector` with its `oauth2` credential.

use super::page::{Page, Row};
use super::{has_every_field, listener, provider};
use crate::envoy::differential::said;
use crate::envoy::scene::HAS_TOKEN;
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::envoy::{self, Builder, Envoy, Pushed};
use m2m_auth_kit::idp::{Endpoint, Fault};
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};

fn page() -> Page {
    Page::read("credential_injector")
}

#[test]
fn the_table_has_every_field_of_the_filter_and_of_its_credentials() {
    has_every_field(
        &page(),
        &[
            ("envoy.extensions.filters.http.credential_injector.v3", "credential_injector.proto"),
            ("envoy.extensions.http.injected_credentials.oauth2.v3", "oauth2.proto"),
            ("envoy.extensions.http.injected_credentials.generic.v3", "generic.proto"),
        ],
    );
}

type Make = fn(Request) -> Request;

const SERVICE: &str = "inventory-service";

/// The name of each request: its method, path and host, and its headers.
const REQUESTS: &[(&str, [&str; 3], Make)] = &[
    ("GET", ["GET", "/items", SERVICE], |to| to),
    ("HEAD", ["HEAD", "/items", SERVICE], |to| to),
    ("POST with a body", ["POST", "/items", SERVICE], |to| to.body("{\"sku\":\"A-1\"}")),
    ("DELETE", ["DELETE", "/items/1", SERVICE], |to| to),
    ("OPTIONS", ["OPTIONS", "/items", SERVICE], |to| to),
    ("over HTTP/2", ["GET", "/items", SERVICE], Request::http2),
    ("a gRPC call", ["POST", "/shop.v1.Inventory/Get", SERVICE], |to| {
        to.http2().header("content-type", "application/grpc").header("te", "trailers")
    }),
    ("the host with a port", ["GET", "/items", "inventory-service:8080"], |to| to),
    ("the host in capitals", ["GET", "/items", "INVENTORY-SERVICE"], |to| to),
    ("the host with a dot behind it", ["GET", "/items", "inventory-service."], |to| to),
    ("the host with `x` as its port", ["GET", "/items", "inventory-service:x"], |to| to),
    ("another host", ["GET", "/items", "elsewhere"], |to| to),
    ("a host that begins like it", ["GET", "/items", "inventory-service.example.com"], |to| to),
    ("another host, with `x-forwarded-host`", ["GET", "/items", "elsewhere"], |to| {
        to.header("x-forwarded-host", SERVICE)
    }),
    ("the client's own `Authorization: Bearer`", ["GET", "/items", SERVICE], |to| to.bearer("own")),
    ("the client's own `Authorization: Basic`", ["GET", "/items", SERVICE], |to| {
        to.header("authorization", "Basic b3duOm93bg==")
    }),
    ("two `Authorization` lines of the client", ["GET", "/items", SERVICE], |to| {
        to.bearer("own").bearer("other")
    }),
    ("the client's own `Authorization`, to another host", ["GET", "/items", "elsewhere"], |to| {
        to.bearer("own")
    }),
    ("an empty `Authorization`", ["GET", "/items", SERVICE], |to| to.header("authorization", "")),
    ("`/`", ["GET", "/", SERVICE], |to| to),
    ("`/a//b`", ["GET", "/a//b", SERVICE], |to| to),
    ("`/a/../b`", ["GET", "/a/../b", SERVICE], |to| to),
    ("`/a%2Fb;x=1?q=1`", ["GET", "/a%2Fb;x=1?q=1", SERVICE], |to| to),
    ("`/a?access_token=own`", ["GET", "/a?access_token=own", SERVICE], |to| to),
    ("`/refused`, which the service refuses with 401", ["GET", "/refused", SERVICE], |to| {
        to.header("x-refuse", "yes")
    }),
];

/// What the token endpoint does from the start.
fn faults() -> Vec<(&'static str, Fault)> {
    let body = |body: Value| Fault::Body(body.to_string());
    vec![
        ("503", Fault::Status(503, "{}".to_owned())),
        ("401 `invalid_client`", Fault::Status(401, json!({ "error": "invalid_client" }).to_string())),
        ("a closed connection", Fault::Reset),
        ("200 with a web page", Fault::Html),
        ("a token without `expires_in`", body(json!({ "access_token": "opaque", "token_type": "Bearer" }))),
        (
            "a token of an unknown type",
            body(json!({ "access_token": "opaque", "token_type": "mac", "expires_in": 300 })),
        ),
        ("an empty token", body(json!({ "access_token": "", "token_type": "Bearer", "expires_in": 300 }))),
    ]
}

/// The status, and which `Authorization` the service received.
fn describe(answer: &Response, upstream: &Upstream) -> String {
    let said = said(answer);
    if answer.status != 200 {
        return said;
    }
    let request = upstream.last();
    let seen: Vec<String> = request.headers_named("authorization").iter().map(|value| who(value)).collect();
    if seen.is_empty() { format!("{said} no token") } else { format!("{said} {}", seen.join(", ")) }
}

fn who(value: &str) -> String {
    match value.strip_prefix("Bearer ") {
        Some(token) if token.matches('.').count() == 2 => {
            assert_eq!(decode(token).1["azp"], "order-service");
            "the token of order-service".to_owned()
        }
        _ if value == "Bearer opaque" => "the token of the response".to_owned(),
        _ => format!("`{value}`"),
    }
}

fn builder(upstream: &Upstream) -> Builder {
    let bootstrap = |bootstrap: &mut Value| {
        bootstrap["static_resources"]["secrets"] =
            json!([envoy::static_secret("order-service", "order-secret")]);
    };
    Envoy::builder()
        .concurrency(1)
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("inventory-service", upstream.address()))
        .cluster(envoy::cluster("elsewhere", upstream.address()))
        .bootstrap(bootstrap)
}

/// The listener of a block, with another cluster for the provider.
fn at(name: &str, block: &str, cluster: &str, wait: &str) -> Value {
    let mut listener = listener(name, &block.replace("cluster: keycloak", &format!("cluster: {cluster}")));
    let manager = envoy::manager_mut(&mut listener);
    for filter in manager["http_filters"].as_array_mut().unwrap() {
        if let Some(configuration) = filter.pointer_mut("/typed_config/config/configuration/value") {
            configuration["pending_requests"]["timeout"] = json!(wait);
        }
    }
    listener
}

/// Waits until the native filter has had its first response.
async fn fetched(envoy: &Envoy, listener: &str) {
    until("the native filter has asked for a token", async || {
        let stats = envoy.stats(&format!("http.{listener}.credential_injector.oauth2.")).await;
        let ended = |name: &String| name.contains("token_fetched") || name.contains("token_fetch_failed");
        stats.iter().any(|(name, count)| ended(name) && *count > 0).then_some(())
    })
    .await;
}

/// Where requests go, and what receives them.
struct At<'a> {
    envoy: &'a Envoy,
    upstream: &'a Upstream,
}

async fn both(
    at: &At<'_>,
    [native, ours]: [&str; 2],
    name: &str,
    [method, path, host]: [&str; 3],
    make: Make,
) -> Row {
    let mut answers = Vec::new();
    for listener in [native, ours] {
        let request = make(Request::new(method, at.envoy.url(listener, path)).header("host", host));
        let answer = request.try_send().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        answers.push(describe(&answer, at.upstream));
    }
    let [native, ours] = <[String; 2]>::try_from(answers).unwrap();
    Row { request: name.to_owned(), native, ours }
}

#[tokio::test]
async fn both_answer_as_the_page_says() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    upstream.answer_when("x-refuse", "yes", 401);
    let blocks = ["credential_injector", "m2m-auth"].map(|name| page.block(name));
    let mut start = builder(&upstream).cluster(envoy::cluster("keycloak", idp.address()));
    start = start.listener(at("native", blocks[0], "keycloak", "60s"));
    start = start.listener(at("ours", blocks[1], "keycloak", "60s"));
    let mut providers = Vec::new();
    for (number, (name, fault)) in faults().into_iter().enumerate() {
        let idp = provider().await;
        idp.fault(Endpoint::Token, fault);
        let cluster = format!("keycloak-{number}");
        start = start.cluster(envoy::cluster(&cluster, idp.address()));
        start = start.listener(at(&format!("native-{number}"), blocks[0], &cluster, "60s"));
        // Long enough for a token that comes, and to be waited for where none does.
        start = start.listener(at(&format!("ours-{number}"), blocks[1], &cluster, "10s"));
        providers.push((idp, number, format!("the token endpoint answers: {name}")));
    }
    let envoy = start.start().await.unwrap();
    fetched(&envoy, "native").await;
    envoy.wait_for_log(HAS_TOKEN).await;
    let at = At { envoy: &envoy, upstream: &upstream };
    let mut seen = Vec::new();
    for (name, head, make) in REQUESTS {
        seen.push(both(&at, ["native", "ours"], name, *head, *make).await);
    }
    for (_, number, name) in &providers {
        let listeners = [format!("native-{number}"), format!("ours-{number}")];
        fetched(&envoy, &listeners[0]).await;
        let listeners = [&*listeners[0], &*listeners[1]];
        seen.push(both(&at, listeners, name, ["GET", "/items", SERVICE], |to| to).await);
    }
    page.compare("`credential_injector`", &seen);
}

/// Each step of the page is pushed into a running Envoy, and no request is without a token.
#[tokio::test]
async fn each_step_keeps_the_token_in_the_requests() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    let native = at("outbound", page.block("credential_injector"), "keycloak", "60s");
    let envoy =
        builder(&upstream).cluster(envoy::cluster("keycloak", idp.address())).listener(native.clone());
    let mut envoy = envoy.start().await.unwrap();
    fetched(&envoy, "outbound").await;
    let mut answers = Vec::new();
    let ask = async |envoy: &Envoy| {
        let at = At { envoy, upstream: &upstream };
        let row = both(&at, ["outbound", "outbound"], "GET", ["GET", "/items", SERVICE], |to| to).await;
        row.ours
    };
    answers.push(ask(&envoy).await);
    // Step 1: the filter of that block is inserted behind the native one.
    let mut beside = native.clone();
    let mut trial =
        at("trial", page.block("step 1: m2m-auth, behind credential_injector"), "keycloak", "60s");
    let filter = envoy::manager_mut(&mut trial)["http_filters"][0].take();
    envoy::manager_mut(&mut beside)["http_filters"].as_array_mut().unwrap().insert(1, filter);
    assert_eq!(envoy.push([beside]).await, Pushed::Accepted);
    envoy.wait_for_log(HAS_TOKEN).await;
    fetched(&envoy, "outbound").await;
    until("the native filter has its token again", async || {
        let answer = ask(&envoy).await;
        (answer == "200 the token of order-service").then_some(())
    })
    .await;
    answers.push(ask(&envoy).await);
    let ours = at("outbound", page.block("m2m-auth"), "keycloak", "60s");
    assert_eq!(envoy.push([ours]).await, Pushed::Accepted);
    answers.push(ask(&envoy).await);
    assert_eq!(answers, ["200 the token of order-service"; 3]);
}
