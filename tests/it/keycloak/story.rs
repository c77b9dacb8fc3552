//! The walkthroughs' story, with three services and no authentication in any: order-service calls
//! inventory-service, which charges at payment-service on behalf of order-service. And its log: one
//! line of JSON for each refusal and each token.

use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::story::Story;
use m2m_auth_kit::token::{self, Mint};
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};

fn knock(story: &Story, at: &str, token: &str) -> Request {
    client::get(story.envoy.url(at, "/knock")).bearer(token)
}

#[tokio::test]
async fn inventory_charges_at_payment_on_behalf_of_order_and_none_of_them_knows_a_token() {
    let story = Story::start(Keycloak::start().await.realm("story").await).await;
    for _ in 0..50 {
        let answer = story.order("/inventory/items").send().await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), story.envoy.logs());
    }
    let (called, charged) = (story.inventory.last(), story.payment.last());
    assert_eq!(called.header("x-caller").as_deref(), Some("order-service"));
    assert_eq!(charged.header("x-caller").as_deref(), Some("inventory-service"));
    assert_eq!(charged.header("x-on-behalf-of"), called.header("x-on-behalf-of"), "whose the charge is");
    let audience = |header: Option<String>| {
        token::decode(header.unwrap().strip_prefix("Bearer ").unwrap()).1["aud"].clone()
    };
    assert_eq!(audience(called.header("authorization")), "inventory-service");
    assert_eq!(audience(charged.header("authorization")), "payment-service");
    let logins = story.realm.events("CLIENT_LOGIN", "order-service").await.len();
    let exchanges = story.realm.events("TOKEN_EXCHANGE", "inventory-service").await.len();
    println!("50 calls over two hops: {logins} token requests, {exchanges} exchanges");
    assert!(logins == 1 && (1..=2).contains(&exchanges), "{logins} {exchanges}");
}

#[tokio::test]
async fn a_realm_that_does_not_allow_the_exchange_refuses_the_charge_and_only_that() {
    let realm = Keycloak::start().await.realm("story-without-exchange").await;
    let off = |client: &mut Value| client["attributes"]["standard.token.exchange.enabled"] = json!("false");
    realm.change_client("inventory-service", off).await;
    let story = Story::start(realm).await;
    assert_eq!(story.order("/inventory/items").send().await.status, 503);
    assert_eq!((story.inventory.count(), story.payment.count()), (1, 0), "the inventory was reached");
    let line = story.envoy.wait_for_log("Standard token exchange is not enabled").await;
    assert!(line.contains("switch on Standard Token Exchange"), "{line}");
}

#[tokio::test]
async fn every_refusal_and_every_token_of_the_story_is_one_line_of_json_without_token_or_secret() {
    let story = Story::start(Keycloak::start().await.realm("audit").await).await;
    assert_eq!(story.order("/inventory/items").send().await.status, 200, "{}", story.envoy.logs());
    // Every credential has its token, and no fetch is under way while they are counted.
    assert_eq!(story.scim("GET", "/Users").send().await.status, 200, "{}", story.envoy.logs());
    let bound = client::get(story.envoy.url("bound", "/payments")).send().await;
    assert_eq!(bound.status, 200, "{}", story.envoy.logs());
    let of = async |client: &str| story.realm.token(client, &keycloak::secret(client), "").await;
    let (order, billing) = (of("order-service").await, of("billing-service").await);
    let stranger = Key::new(Alg::Rs256);
    let (header, claims) = token::decode(&order);
    let forged = Mint::of(claims).key(&stranger).kid(header["kid"].as_str().unwrap()).sign(&stranger);
    let plain = client::get(story.envoy.url("inventory", "/knock?access_token=hush"));
    let refusals = [
        (plain, 401, "no_token"),
        (knock(&story, "inventory", &forged), 401, "signature"),
        (knock(&story, "inventory", &billing), 403, "client_role"),
        (knock(&story, "payment", &order), 401, "audience"),
        (story.order("/with-a-wrong-secret"), 503, "outbound_token_unavailable"),
    ];
    for (request, status, reason) in &refusals {
        let answer = request.send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (*status, &json!(reason)), "{}", answer.text());
    }
    let written = async || Some(story.audit("refused")).filter(|lines| lines.len() >= refusals.len());
    let refused = until("a line for each refusal", written).await;
    let reasons: Vec<&Value> = refused.iter().map(|line| &line["reason"]).collect();
    assert_eq!(reasons, refusals.iter().map(|(.., reason)| *reason).collect::<Vec<_>>());
    let [_, _, role, audience, _] = &refused[..] else { panic!("{refused:#?}") };
    assert_eq!((&role["client"], &audience["client"]), (&json!("billing-service"), &json!("order-service")));
    assert!(audience["advice"].as_str().unwrap().contains("Audience mapper"), "{audience}");

    // As many lines about tokens as Keycloak has given, and the one that it did not give.
    let mut lines = story.audit("fetch");
    lines.retain(|line| line["kind"] == "token" || line["kind"] == "exchanged_token");
    // Another worker has fetched it, and has its own line.
    lines.retain(|line| line["outcome"] != "shared");
    let came = |credential: &str, outcome: &str| {
        let is = |line: &&Value| line["name"] == credential && line["outcome"] == outcome;
        lines.iter().filter(is).count()
    };
    let mut reported = 0;
    for (credential, outcome, event, client) in [
        ("order", "ok", "CLIENT_LOGIN", "order-service"),
        ("wrong", "configuration", "CLIENT_LOGIN_ERROR", "order-service"),
        ("payment", "ok", "TOKEN_EXCHANGE", "inventory-service"),
        ("scim", "ok", "CLIENT_LOGIN", "provisioning-service"),
        ("tls", "ok", "CLIENT_LOGIN", "tls-service"),
    ] {
        let mut known = story.realm.events(event, client).await.len();
        // One of order-service's was fetched by this test.
        known -= usize::from(credential == "order");
        println!("{credential}: {known} {event}, a line each");
        assert_eq!(came(credential, outcome), known, "{credential}: {lines:#?}");
        reported += known;
    }
    assert_eq!(lines.len(), reported, "{lines:#?}");

    let logs = story.envoy.logs();
    for secret in ["eyJ", "hush", "not-the-secret", "order-secret", "inventory-secret"] {
        assert!(!logs.contains(secret), "{secret} is in the log");
    }
}
