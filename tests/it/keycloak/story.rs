//! The articles' story, with three services and no authentication in any: order-service asks inventory-service, which charges at
//! payment-service on behalf of order-service. And what is told of it: one line of JSON for each refusal and each token.

use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::token::{self, Mint};
use m2m_auth_kit::upstream::{Reply, Upstream};
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};
use std::net::TcpListener;

/// One Envoy has the three services' sidecars: `order` (out), `inventory` (in) and `charge` (out, exchanging), `payment` (in).
struct Scene {
    realm: Keycloak,
    inventory: Upstream,
    payment: Upstream,
    envoy: Envoy,
}

/// A port for a listener that another service must know before Envoy starts.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Scene {
    async fn start(realm: Keycloak) -> Self {
        realm.keep_events().await;
        let (inventory, payment) = (Upstream::start().await, Upstream::start().await);
        let [inventory_port, charge_port, payment_port] = [free_port(), free_port(), free_port()];
        // All that inventory-service does about tokens is to pass on the header that it was called with.
        inventory.answer_after(move |request| async move {
            let authorization = request.header("authorization").unwrap();
            let charge = client::post(format!("http://127.0.0.1:{charge_port}/payments/charge"));
            let answer = charge.header("authorization", authorization).send().await;
            Some(Reply::new(answer.status, &[]))
        });
        let issuers = json!({ "keycloak": { "issuer": realm.issuer(), "cluster": "keycloak" } });
        let credential = |client: &str, scope: &str| json!({ "issuer": "keycloak", "client_id": client, "client_secret": { "inline": keycloak::secret(client) }, "scopes": [scope] });
        let mut exchange = credential("inventory-service", "payment-api");
        exchange["grant_type"] = json!("token_exchange");
        exchange["audience"] = json!("payment-service");
        let mut wrong = credential("order-service", "inventory-api");
        wrong["client_secret"]["inline"] = json!("not-the-secret");
        let order = json!({
            "issuers": issuers,
            "outbound": {
                "credentials": { "order": credential("order-service", "inventory-api"), "wrong": wrong },
                "rules": [
                    { "match": { "path": "/with-a-wrong-secret" }, "credential": "wrong" },
                    { "credential": "order" },
                ],
            },
        });
        let inbound = |audience: &str, more: Value| {
            let mut require = json!({ "issuer": "keycloak", "audiences": [audience] });
            require.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let rule = json!({ "require": require, "claims_to_headers": { "x-caller": "azp", "x-on-behalf-of": "sub" } });
            json!({ "issuers": issuers, "inbound": { "rules": [rule] } })
        };
        let role = json!({ "client_roles": { "inventory-service": ["inventory:read"] } });
        let charge = json!({
            "issuers": issuers,
            "outbound": { "credentials": { "payment": exchange }, "rules": [{ "credential": "payment" }] },
        });
        let listener = |name: &str, port: u16, configuration: &Value, to: &str| {
            let filter = Wasm::new(configuration).name(name).filter();
            let mut listener = envoy::listener(name, vec![filter], envoy::route_to(to));
            listener["address"]["socket_address"]["port_value"] = json!(port);
            listener
        };
        let local = |port: u16| ([127, 0, 0, 1], port).into();
        let envoy = Envoy::builder()
            .cluster(envoy::cluster("keycloak", realm.address()))
            .cluster(envoy::cluster("to-inventory", local(inventory_port)))
            .cluster(envoy::cluster("inventory", inventory.address()))
            .cluster(envoy::cluster("to-payment", local(payment_port)))
            .cluster(envoy::cluster("payment", payment.address()))
            .listener(listener("order", 0, &order, "to-inventory"))
            .listener(listener("inventory", inventory_port, &inbound("inventory-service", role), "inventory"))
            .listener(listener("charge", charge_port, &charge, "to-payment"))
            .listener(listener(
                "payment",
                payment_port,
                &inbound("payment-service", json!({ "clients": ["inventory-service"] })),
                "payment",
            ))
            .start()
            .await
            .unwrap();
        Self { realm, inventory, payment, envoy }
    }

    fn order(&self, path: &str) -> Request {
        client::get(self.envoy.url("order", path))
    }

    fn knock(&self, at: &str, token: &str) -> Request {
        client::get(self.envoy.url(at, "/knock")).bearer(token)
    }

    /// The lines of JSON about this event.
    fn audit(&self, event: &str) -> Vec<Value> {
        let logs = self.envoy.logs();
        let lines =
            logs.lines().filter_map(|line| serde_json::from_str(line.split_once("m2m-auth: ")?.1).ok());
        lines.filter(|line: &Value| line["event"] == event).collect()
    }
}

#[tokio::test]
async fn inventory_charges_at_payment_on_behalf_of_order_and_none_of_them_knows_a_token() {
    let scene = Scene::start(Keycloak::start().await.realm("story").await).await;
    for _ in 0..50 {
        let answer = scene.order("/inventory/items").send().await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), scene.envoy.logs());
    }
    let (called, charged) = (scene.inventory.last(), scene.payment.last());
    assert_eq!(called.header("x-caller").as_deref(), Some("order-service"));
    assert_eq!(charged.header("x-caller").as_deref(), Some("inventory-service"));
    assert_eq!(charged.header("x-on-behalf-of"), called.header("x-on-behalf-of"), "whose the charge is");
    let audience = |header: Option<String>| {
        token::decode(header.unwrap().strip_prefix("Bearer ").unwrap()).1["aud"].clone()
    };
    assert_eq!(audience(called.header("authorization")), "inventory-service");
    assert_eq!(audience(charged.header("authorization")), "payment-service");
    let logins = scene.realm.events("CLIENT_LOGIN", "order-service").await.len();
    let exchanges = scene.realm.events("TOKEN_EXCHANGE", "inventory-service").await.len();
    println!("50 calls over two hops: {logins} token requests, {exchanges} exchanges");
    assert!(logins == 1 && (1..=2).contains(&exchanges), "{logins} {exchanges}");
}

#[tokio::test]
async fn a_realm_that_does_not_allow_the_exchange_refuses_the_charge_and_only_that() {
    let realm = Keycloak::start().await.realm("story-without-exchange").await;
    let off = |client: &mut Value| client["attributes"]["standard.token.exchange.enabled"] = json!("false");
    realm.change_client("inventory-service", off).await;
    let scene = Scene::start(realm).await;
    assert_eq!(scene.order("/inventory/items").send().await.status, 503);
    assert_eq!((scene.inventory.count(), scene.payment.count()), (1, 0), "the inventory was reached");
    let told = scene.envoy.wait_for_log("Standard token exchange is not enabled").await;
    assert!(told.contains("switch on Standard Token Exchange"), "{told}");
}

#[tokio::test]
async fn every_refusal_and_every_token_of_the_story_is_one_line_of_json_without_token_or_secret() {
    let scene = Scene::start(Keycloak::start().await.realm("audit").await).await;
    assert_eq!(scene.order("/inventory/items").send().await.status, 200, "{}", scene.envoy.logs());
    let of = async |client: &str| scene.realm.token(client, &keycloak::secret(client), "").await;
    let (order, billing) = (of("order-service").await, of("billing-service").await);
    let stranger = Key::new(Alg::Rs256);
    let (header, claims) = token::decode(&order);
    let forged = Mint::of(claims).key(&stranger).kid(header["kid"].as_str().unwrap()).sign(&stranger);
    let plain = client::get(scene.envoy.url("inventory", "/knock?access_token=hush"));
    let refusals = [
        (plain, 401, "no_token"),
        (scene.knock("inventory", &forged), 401, "signature"),
        (scene.knock("inventory", &billing), 403, "client_role"),
        (scene.knock("payment", &order), 401, "audience"),
        (scene.order("/with-a-wrong-secret"), 503, "no_outbound_token"),
    ];
    for (request, status, reason) in &refusals {
        let answer = request.send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (*status, &json!(reason)), "{}", answer.text());
    }
    let written = async || Some(scene.audit("refused")).filter(|lines| lines.len() >= refusals.len());
    let refused = until("a line for each refusal", written).await;
    let reasons: Vec<&Value> = refused.iter().map(|line| &line["reason"]).collect();
    assert_eq!(reasons, refusals.iter().map(|(.., reason)| *reason).collect::<Vec<_>>());
    let [_, _, role, audience, _] = &refused[..] else { panic!("{refused:#?}") };
    assert_eq!((&role["client"], &audience["client"]), (&json!("billing-service"), &json!("order-service")));
    assert!(audience["advice"].as_str().unwrap().contains("Audience mapper"), "{audience}");

    // As many lines about tokens as Keycloak has given, and the one that it did not give.
    let lines = scene.audit("token");
    let came = |credential: &str, outcome: &str| {
        let is = |line: &&Value| line["credential"] == credential && line["outcome"] == outcome;
        lines.iter().filter(is).count()
    };
    // One of order-service's was fetched by this test.
    let given = scene.realm.events("CLIENT_LOGIN", "order-service").await.len() - 1;
    let exchanged = scene.realm.events("TOKEN_EXCHANGE", "inventory-service").await.len();
    let denied = scene.realm.events("CLIENT_LOGIN_ERROR", "order-service").await.len();
    assert_eq!((came("order", "ok"), came("payment", "ok")), (given, exchanged), "{lines:#?}");
    assert_eq!(came("wrong", "configuration"), denied, "{lines:#?}");
    assert_eq!(lines.len(), given + exchanged + denied, "{lines:#?}");
    println!(
        "{} refusals, {given} tokens, {exchanged} exchanged, {denied} denied: a line each",
        refused.len()
    );

    let logs = scene.envoy.logs();
    for secret in ["eyJ", "hush", "not-the-secret", "order-secret", "inventory-secret"] {
        assert!(!logs.contains(secret), "{secret} is in the log");
    }
}
