//! Outbound on real Envoy: tokens fetched, kept and attached.

mod answers;
mod attaching;
mod clients;
mod dpop;
mod exchange;
mod files;
mod refusals;
mod retry;
mod routes;
mod upkeep;
mod without;

use crate::envoy::scene::{Scene, Shared, arrived, builder, issuers, listener_named, outbound, wasm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use m2m_auth_kit::client::{self, Request, Response};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Fault, Idp};
use m2m_auth_kit::record::Recorded;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::sync::Arc;

/// One Envoy for every test that changes nothing, with a second provider that gives every client
/// the same opaque token.
struct Stage {
    scene: Scene,
    loose: Idp,
}

static STAGE: Shared<Stage> = Shared::new();

/// An id and a secret that mean something else unless they are encoded.
const ODD_CLIENT: &str = "odd client:1";
const ODD_SECRET: &str = "p%+&=: /?\"\\\u{fc}\u{20ac}";
const OPAQUE: &str = "opaque-token.of~the_loose/provider+==";

async fn stage() -> Arc<Stage> {
    let start = async || {
        let (idp, loose, upstream) = (Idp::start().await, Idp::start().await, Upstream::start().await);
        idp.client(ClientSpec::new(ODD_CLIENT, ODD_SECRET));
        let answer = json!({ "access_token": OPAQUE, "token_type": "bearer", "expires_in": 300 });
        loose.fault(Endpoint::Token, Fault::Body(answer.to_string()));
        let builder = builder(&idp, &upstream)
            .cluster(envoy::cluster("loose", loose.address()))
            .listener(listener_named("main", &wasm(&configuration(&idp, &loose))))
            .listener(listener_named("readme", &wasm(&outbound(&idp))))
            .listener(listener_named("both", &wasm(&both(&idp))));
        Stage { scene: Scene::of(idp, upstream, builder).await, loose }
    };
    STAGE.get(start).await
}

/// Several credentials, and rules of every kind.
fn configuration(idp: &Idp, loose: &Idp) -> Value {
    let inline = |client: &str, secret: &str| json!({ "issuer": "keycloak", "client_id": client, "client_secret": { "inline": secret } });
    let mut post = inline(ODD_CLIENT, ODD_SECRET);
    post["auth_method"] = json!("client_secret_post");
    let asking = json!({
        "issuer": "loose",
        "client_id": "asking",
        "client_secret": { "inline": "secret" },
        "scopes": ["orders:read", "orders:write"],
        "audience": "https://orders.example.com/?a=b&c",
        "resource": ["https://one.example.com/", "https://two.example.com/"],
        "parameters": { "tenant": "caf\u{e9} & co", "x": "=" },
    });
    json!({
        "issuers": {
            "keycloak": { "issuer": idp.issuer(), "cluster": "keycloak" },
            "loose": { "issuer": loose.issuer(), "cluster": "loose", "token_endpoint": loose.url(Endpoint::Token) },
        },
        "outbound": {
            "credentials": {
                "orders": { "issuer": "keycloak", "client_id": "order-service",
                            "client_secret": { "env": "ORDER_SERVICE_SECRET" } },
                "payments": inline("payment-service", "payment-secret"),
                "inventory": inline("inventory-service", "inventory-secret"),
                "odd": inline(ODD_CLIENT, ODD_SECRET),
                "post": post,
                "asking": asking,
            },
            "rules": [
                { "match": { "host": "payments.internal" }, "credential": "payments" },
                { "match": { "host": "*.payments.internal", "methods": ["POST"] }, "credential": "payments" },
                { "match": { "path": "/odd" }, "credential": "odd" },
                { "match": { "path": "/post" }, "credential": "post" },
                { "match": { "path": "/asking" }, "credential": "asking" },
                { "match": { "path": "/bare" }, "credential": "asking", "header": "X-Service-Token" },
                { "match": { "path": "/scheme" }, "credential": "asking", "header": "x-token", "scheme": "Token" },
                { "match": { "path": "/no-scheme" }, "credential": "asking", "scheme": "" },
                { "match": { "path": "/keep" }, "credential": "orders", "existing": "keep" },
                { "match": { "path_prefix": "/orders", "methods": ["POST"] }, "credential": "payments" },
                { "match": { "path_prefix": "/orders/special" }, "credential": "inventory" },
                { "match": { "path_prefix": "/orders" }, "credential": "orders" },
            ],
        },
    })
}

/// Callers must present a token; their requests are forwarded with ours.
fn both(idp: &Idp) -> Value {
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [{
            "match": { "path_prefix": "/inventory" },
            "require": { "issuer": "keycloak", "audiences": ["inventory-service"] },
            "claims_to_headers": { "x-caller": "azp" },
        }] },
        "outbound": {
            "credentials": { "inventory": {
                "issuer": "keycloak", "client_id": "inventory-service", "client_secret": { "inline": "inventory-secret" },
            } },
            "rules": [{ "credential": "inventory" }],
        },
    })
}

/// The client of the token that arrived in `Authorization`, if one did.
fn sent_as(answer: &Response) -> Option<String> {
    let values = arrived(answer, "authorization");
    assert!(values.len() <= 1, "{values:?}");
    let token = values.first()?.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{values:?}"));
    Some(decode(token).1["azp"].as_str().unwrap().to_owned())
}

/// The user and the password of `Authorization: Basic`, still encoded.
fn basic(request: &Recorded) -> String {
    let value = request.header("authorization").unwrap();
    let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
    String::from_utf8(pair).unwrap()
}

#[tokio::test]
async fn a_plain_request_leaves_with_a_token() {
    let stage = stage().await;
    let answer = client::get(stage.scene.envoy.url("readme", "/inventory/items")).send().await;
    assert_eq!(sent_as(&answer).as_deref(), Some("order-service"));
    let token = arrived(&answer, "authorization")[0]["Bearer ".len()..].to_owned();
    assert_eq!(decode(&token).1["scope"], "inventory-api");
    let post = Request::new("POST", stage.scene.envoy.url("readme", "/inventory/items")).body("{}").http2();
    assert_eq!(sent_as(&post.send().await).as_deref(), Some("order-service"));
}

#[tokio::test]
async fn the_first_rule_that_matches_names_the_credential_and_no_match_changes_nothing() {
    let stage = stage().await;
    for (method, host, path, client) in [
        ("GET", "payments.internal", "/orders", Some("payment-service")),
        ("GET", "PAYMENTS.internal:8080", "/anything", Some("payment-service")),
        ("POST", "eu.payments.internal", "/anything", Some("payment-service")),
        ("GET", "eu.payments.internal", "/anything", None),
        ("POST", "svc", "/orders/special", Some("payment-service")),
        ("GET", "svc", "/orders/special", Some("inventory-service")),
        ("GET", "svc", "/orders/special/x", Some("inventory-service")),
        ("GET", "svc", "/orders/special/./x", Some("inventory-service")),
        ("GET", "svc", "/orders/specially", Some("order-service")),
        ("PATCH", "svc", "/orders", Some("order-service")),
        ("GET", "svc", "/ordersx", None),
        ("GET", "svc", "/", None),
    ] {
        let answer = stage.scene.request(method, path).header("host", host).send().await;
        assert_eq!(sent_as(&answer).as_deref(), client, "{method} {host} {path}");
    }
    let own =
        stage.scene.get("/none").bearer("the-client's-own").header("x-service-token", "own").send().await;
    assert_eq!(arrived(&own, "authorization"), ["Bearer the-client's-own"]);
    assert_eq!(arrived(&own, "x-service-token"), ["own"]);
}

#[tokio::test]
async fn a_secret_of_any_characters_is_form_encoded_before_base64() {
    let stage = stage().await;
    let answer = stage.scene.get("/odd").send().await;
    assert_eq!(sent_as(&answer).as_deref(), Some(ODD_CLIENT), "the provider took it");
    let pairs = stage.scene.idp.requests(Endpoint::Token);
    let expected = "odd+client%3A1:p%25%2B%26%3D%3A+%2F%3F%22%5C%C3%BC%E2%82%AC";
    let sent: Vec<_> =
        pairs.iter().filter(|request| request.header("authorization").is_some()).map(basic).collect();
    assert!(sent.iter().any(|pair| pair == expected), "{sent:?}");
}

#[tokio::test]
async fn a_secret_in_the_body_is_not_in_a_header_too() {
    let stage = stage().await;
    let answer = stage.scene.get("/post").send().await;
    assert_eq!(sent_as(&answer).as_deref(), Some(ODD_CLIENT), "the provider took it");
    let requests = stage.scene.idp.requests(Endpoint::Token);
    let in_body: Vec<_> =
        requests.iter().filter(|request| request.parameter("client_secret").is_some()).collect();
    assert!(!in_body.is_empty());
    for request in in_body {
        let expected =
            [("grant_type", "client_credentials"), ("client_id", ODD_CLIENT), ("client_secret", ODD_SECRET)];
        assert_eq!(request.form(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(request.header("authorization"), None, "RFC 6749 section 2.3: one method only");
    }
}

#[tokio::test]
async fn scope_audience_resource_and_parameters_are_asked_for_as_they_are_written() {
    let stage = stage().await;
    stage.loose.wait_for(Endpoint::Token, 1).await;
    let request = stage.loose.last(Endpoint::Token);
    assert_eq!((request.method.as_str(), request.path.clone()), ("POST", stage.loose.path(Endpoint::Token)));
    assert_eq!(request.header("host").as_deref(), Some(stage.loose.address().to_string().as_str()));
    assert_eq!(request.headers_named("content-type"), ["application/x-www-form-urlencoded"]);
    assert_eq!(request.headers_named("accept"), ["application/json"]);
    assert_eq!(basic(&request), "asking:secret");
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "orders:read orders:write"),
        ("audience", "https://orders.example.com/?a=b&c"),
        ("resource", "https://one.example.com/"),
        ("resource", "https://two.example.com/"),
        ("tenant", "caf\u{e9} & co"),
        ("x", "="),
    ];
    assert_eq!(request.form(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(!request.text().contains("client_secret"), "{}", request.text());
    assert_eq!(stage.loose.count(Endpoint::Discovery), 0, "its token endpoint is given");
}

#[tokio::test]
async fn an_opaque_token_goes_into_the_header_and_behind_the_scheme_of_the_rule() {
    let stage = stage().await;
    let at = async |path: &str, header: &str| {
        let request = stage.scene.get(path).header(header, "the client's").header(header, "twice");
        (arrived(&request.send().await, header), stage.scene.get(path).bearer("own").send().await)
    };
    let (asking, _) = at("/asking", "authorization").await;
    assert_eq!(asking, [format!("Bearer {OPAQUE}")]);
    let (bare, other) = at("/bare", "x-service-token").await;
    assert_eq!(bare, [OPAQUE]);
    assert_eq!(arrived(&other, "authorization"), ["Bearer own"], "the rule is about another header");
    let (scheme, _) = at("/scheme", "x-token").await;
    assert_eq!(scheme, [format!("Token {OPAQUE}")]);
    let (none, _) = at("/no-scheme", "authorization").await;
    assert_eq!(none, [OPAQUE]);
}

#[tokio::test]
async fn the_requests_own_header_is_replaced_unless_the_rule_keeps_it() {
    let stage = stage().await;
    let replaced = stage.scene.get("/orders").bearer("own").send().await;
    assert_eq!(sent_as(&replaced).as_deref(), Some("order-service"));
    let kept = stage.scene.get("/keep").bearer("own").send().await;
    assert_eq!(arrived(&kept, "authorization"), ["Bearer own"]);
    let basic = stage.scene.get("/keep").header("authorization", "Basic eDp5").send().await;
    assert_eq!(arrived(&basic, "authorization"), ["Basic eDp5"]);
    let nothing_to_keep = stage.scene.get("/keep").send().await;
    assert_eq!(sent_as(&nothing_to_keep).as_deref(), Some("order-service"));
}

#[tokio::test]
async fn a_caller_is_checked_and_its_token_replaced_by_ours() {
    let stage = stage().await;
    let request = client::get(stage.scene.envoy.url("both", "/inventory?both"));
    let good = request.clone().bearer(stage.scene.idp.token()).send().await;
    assert_eq!(sent_as(&good).as_deref(), Some("inventory-service"), "ours, not the caller's");
    assert_eq!(arrived(&good, "x-caller"), ["order-service"]);
    let count = stage.scene.seen("/inventory?both").len();
    for (refused, status) in [(request.clone(), 401), (request.bearer("garbage"), 401)] {
        assert_eq!(refused.send().await.status, status, "our token is not for strangers");
    }
    assert_eq!(stage.scene.seen("/inventory?both").len(), count);
}
