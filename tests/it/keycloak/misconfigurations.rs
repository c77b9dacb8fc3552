//! What is set up wrong in Keycloak, and what becomes of a request then: each error is made on the
//! real server, and a line in the log says what to change. docs/providers/keycloak-notes.md
//! has the same table; a test holds the two together.

use crate::sidecar::{self, by_path, issuers, require};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use m2m_auth_kit::{Value, json};

/// An error: the answer to the request, and what one line of the log contains.
struct Error {
    /// The path that it is made for.
    path: &'static str,
    status: u16,
    reason: &'static str,
    /// Keycloak's words, or ours.
    words: &'static str,
    /// What to change.
    advice: &'static str,
}

const NO_TOKEN: &str = "outbound_token_unavailable";

/// Errors of token requests, each with a credential of its own.
const OF_THE_CALLER: &[Error] = &[
    Error {
        path: "/wrong-secret",
        status: 503,
        reason: NO_TOKEN,
        words: "status 401, unauthorized_client: Invalid client or Invalid client credentials",
        advice: "client_secret must be the one of the client's Credentials tab",
    },
    Error {
        path: "/no-such-client",
        status: 503,
        reason: NO_TOKEN,
        words: "status 401, invalid_client: Invalid client or Invalid client credentials",
        advice: "client_id must be a client of this realm that is enabled",
    },
    Error {
        path: "/no-service-account",
        status: 503,
        reason: NO_TOKEN,
        words: "status 401, unauthorized_client: Client not enabled to retrieve service account",
        advice: "switch on the client's Service account roles",
    },
    Error {
        path: "/public-client",
        status: 503,
        reason: NO_TOKEN,
        words: "status 401, unauthorized_client: Public client not allowed to retrieve service account",
        advice: "switch on the client's Client authentication",
    },
    Error {
        path: "/no-such-scope",
        status: 503,
        reason: NO_TOKEN,
        words: "status 400, invalid_scope: Invalid scopes: inventroy-api",
        advice: "each of scopes must be a client scope of the realm, and assigned to the client",
    },
    Error {
        path: "/no-such-realm",
        status: 503,
        reason: NO_TOKEN,
        words: "metadata of issuer no-such-realm: not_found: status 404",
        advice: "",
    },
    Error {
        path: "/another-host",
        status: 503,
        reason: NO_TOKEN,
        words: "metadata of issuer another-host: configuration: the metadata's issuer is",
        advice: "`issuer` must be the exact URL that the provider uses",
    },
];

/// Those of the called service: its realm gives tokens without its audience or its role, or does
/// not exchange them.
const OF_THE_CALLED: &[Error] = &[
    Error {
        path: "/no-audience-mapper",
        status: 401,
        reason: "audience",
        words: "the token's audience does not include this service",
        advice: "in Keycloak an Audience mapper in a client scope of the caller adds one",
    },
    Error {
        path: "/no-role",
        status: 403,
        reason: "client_role",
        words: "required role of client inventory-service: inventory:read",
        advice: "the role is assigned on the Service account roles tab of the caller's client",
    },
    Error {
        path: "/exchange-not-enabled",
        status: 503,
        reason: NO_TOKEN,
        words: "status 400, invalid_request: Standard token exchange is not enabled for the requested client",
        advice: "switch on Standard Token Exchange of the client that exchanges",
    },
    Error {
        path: "/exchange-without-scope",
        status: 503,
        reason: NO_TOKEN,
        words: "status 400, invalid_request: Requested audience not available: payment-service",
        advice: "name the client scope in scopes whose Audience mapper brings it",
    },
    Error {
        path: "/exchange-for-nobody",
        status: 503,
        reason: NO_TOKEN,
        words: "status 400, invalid_client: Audience not found",
        advice: "audience must be the client_id of a client of this realm",
    },
    Error {
        path: "/exchange-by-another",
        status: 403,
        reason: "exchange_denied",
        words: "access_denied: Client is not within the token audience",
        advice: "the caller's token must have this client_id in aud",
    },
];

/// A correct credential, to be changed.
fn credential(issuer: &str, client: &str, scope: &str) -> Value {
    let mut credential = sidecar::credential(client);
    credential["issuer"] = json!(issuer);
    credential["scopes"] = json!([scope]);
    credential
}

/// A client of the realm that is as order-service, but for this.
async fn client_like_order_service(realm: &Keycloak, id: &str, change: impl FnOnce(&mut Value)) {
    let mut client = json!({
        "clientId": id,
        "publicClient": false,
        "secret": keycloak::secret(id),
        "serviceAccountsEnabled": true,
        "standardFlowEnabled": false,
        "defaultClientScopes": ["basic", "roles", "inventory-api"],
    });
    change(&mut client);
    realm.admin("POST", "clients", Some(&client)).await;
}

/// One proxy before one service: a credential, and a rule, for each path.
async fn proxy(
    realm: &Keycloak,
    issuers: Value,
    credentials: Value,
    inbound: Option<Value>,
) -> (Upstream, Envoy) {
    let rules = by_path(&credentials);
    let mut configuration =
        json!({ "issuers": issuers, "outbound": { "credentials": credentials, "rules": rules } });
    if let Some(inbound) = inbound {
        configuration["inbound"] = inbound;
    }
    let upstream = Upstream::start().await;
    let envoy = sidecar::start("main", &Wasm::new(&configuration), realm, upstream.address()).await;
    (upstream, envoy)
}

async fn is_reported(error: &Error, answer: &Response, envoy: &Envoy) {
    let Error { path, status, reason, words, advice } = *error;
    let seen = (answer.status, answer.json()["reason"].as_str().map(str::to_owned));
    assert_eq!(seen, (status, Some(reason.to_owned())), "{path}: {}\n{}", answer.text(), envoy.logs());
    let reports = |line: &&str| line.contains(words) && line.contains(advice);
    until(&format!("{path}: {words}, {advice}\n{}", envoy.logs()), async || {
        envoy.logs().lines().find(reports).map(str::to_owned)
    })
    .await;
    if reason == NO_TOKEN {
        // The answer refers its reader to that line.
        assert!(answer.json()["message"].as_str().unwrap().ends_with("see the proxy's log"), "{path}");
    }
}

fn holds_no_secret(envoy: &Envoy) {
    let logs = envoy.logs();
    for secret in ["eyJ", "order-secret", "inventory-secret", "not-the-secret"] {
        assert!(!logs.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn what_keeps_a_client_from_its_token_is_503_and_the_log_says_what_to_change() {
    let realm = Keycloak::start().await.realm("errors").await;
    client_like_order_service(&realm, "idle-service", |client| {
        client["serviceAccountsEnabled"] = json!(false);
    })
    .await;
    client_like_order_service(&realm, "public-service", |client| client["publicClient"] = json!(true)).await;
    let order = |issuer: &str, scope: &str| credential(issuer, "order-service", scope);
    let good = order("keycloak", "inventory-api");
    let mut wrong_secret = good.clone();
    wrong_secret["client_secret"]["inline"] = json!("not-the-secret");
    let credentials = json!({
        "good": good,
        "wrong-secret": wrong_secret,
        "no-such-client": credential("keycloak", "odrer-service", "inventory-api"),
        "no-service-account": credential("keycloak", "idle-service", "inventory-api"),
        "public-client": credential("keycloak", "public-service", "inventory-api"),
        "no-such-scope": order("keycloak", "inventroy-api"),
        "no-such-realm": order("no-such-realm", "inventory-api"),
        "another-host": order("another-host", "inventory-api"),
    });
    let issuer = |name: String| json!({ "issuer": name, "cluster": "keycloak" });
    let issuers = json!({
        "keycloak": issuer(realm.issuer()),
        "no-such-realm": issuer(format!("{}-that-is-not-there", realm.issuer())),
        "another-host": issuer(realm.issuer().replace("127.0.0.1", "localhost")),
    });
    let (upstream, envoy) = proxy(&realm, issuers, credentials, None).await;
    let call = async |path: &str| client::get(envoy.url("main", path)).send().await;
    for error in OF_THE_CALLER {
        is_reported(error, &call(error.path).await, &envoy).await;
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(call("/good").await.status, 200, "one error is not another client's");
    holds_no_secret(&envoy);
}

#[tokio::test]
async fn what_the_realm_leaves_out_of_a_token_or_exchange_is_reported_with_what_to_change() {
    let realm = Keycloak::start().await.realm("errors-of-the-called").await;
    client_like_order_service(&realm, "outlet-service", |client| {
        client["attributes"] = json!({ "standard.token.exchange.enabled": "true" });
    })
    .await;
    client_like_order_service(&realm, "unmapped-service", |client| {
        client["defaultClientScopes"] = json!(["basic", "roles"]);
    })
    .await;
    let exchange = |client: &str, audience: &str, scope: &str| {
        let mut credential = credential("keycloak", client, scope);
        credential["grant_type"] = json!("token_exchange");
        credential["audience"] = json!(audience);
        credential
    };
    let mut without_scope = exchange("inventory-service", "payment-service", "payment-api");
    without_scope.as_object_mut().unwrap().remove("scopes");
    let credentials = json!({
        "good": exchange("inventory-service", "payment-service", "payment-api"),
        "exchange-not-enabled": exchange("billing-service", "payment-service", "payment-api"),
        "exchange-without-scope": without_scope,
        "exchange-for-nobody": exchange("inventory-service", "paymnet-service", "payment-api"),
        "exchange-by-another": exchange("outlet-service", "payment-service", "inventory-api"),
    });
    let inbound = json!({ "rules": [{ "require": require() }] });
    let issuers = issuers(&realm);
    let (upstream, envoy) = proxy(&realm, issuers, credentials, Some(inbound)).await;
    let token = async |client: &str| realm.token(client, &keycloak::secret(client), "").await;
    let [order, unmapped, billing] =
        [token("order-service").await, token("unmapped-service").await, token("billing-service").await];
    for error in OF_THE_CALLED {
        let token = match error.path {
            "/no-audience-mapper" => &unmapped,
            "/no-role" => &billing,
            _ => &order,
        };
        let answer = client::get(envoy.url("main", error.path)).bearer(token).send().await;
        is_reported(error, &answer, &envoy).await;
    }
    assert_eq!(upstream.count(), 0);
    let answer = client::get(envoy.url("main", "/good")).bearer(&order).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    holds_no_secret(&envoy);
}

#[test]
fn the_document_has_every_error_with_its_words_and_what_to_change() {
    let path = m2m_auth_kit::repository().join("docs/providers/keycloak-notes.md");
    let document = std::fs::read_to_string(path).unwrap();
    for Error { status, reason, words, advice, .. } in OF_THE_CALLER.iter().chain(OF_THE_CALLED) {
        let row = document.lines().find(|line| {
            line.starts_with('|') && line.contains(words) && line.contains(&format!("{status} `{reason}`"))
        });
        let row = row.unwrap_or_else(|| panic!("no row with {status} `{reason}` and {words}"));
        assert!(row.contains(advice), "{advice} is not in {row}");
    }
}
