//! The walkthroughs' story on a real Keycloak, with three services and no authentication in any:
//! order-service calls inventory-service, which charges at payment-service on behalf of
//! order-service; users are provisioned by SCIM.
//!
//! One Envoy has all their sidecars: the listeners `order` (attaches), `inventory` (checks) and
//! `charge` (exchanges), `payment` (checks), `scim` (attaches, to Keycloak itself), and `bound`
//! (attaches tokens that are bound to a certificate).

use crate::{
    client::{self, Request},
    envoy::{self, Envoy, Wasm},
    keycloak::{self, Keycloak},
    upstream::{Reply, Upstream},
};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};

/// Everything that runs.
pub struct Story {
    /// The client of the tokens.
    pub realm: Keycloak,
    /// The inventory; for each request it charges at the payment service, with the header that it
    /// was called with.
    pub inventory: Upstream,
    /// The payment service.
    pub payment: Upstream,
    /// All sidecars.
    pub envoy: Envoy,
}

/// A port for a listener that another service must know before Envoy starts.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl Story {
    /// Starts it; the realm keeps a record of what it is asked for.
    pub async fn start(realm: Keycloak) -> Self {
        realm.keep_events().await;
        let (inventory, payment) = (Upstream::start().await, Upstream::start().await);
        let [inventory_port, charge_port, payment_port] = [free_port(), free_port(), free_port()];
        // All that inventory-service does about tokens is to pass on the header that it was called
        // with.
        inventory.answer_after(move |request| async move {
            let authorization = request.header("authorization")?;
            let charge = client::post(format!("http://127.0.0.1:{charge_port}/payments/charge"));
            let answer = charge.header("authorization", authorization).send().await;
            Some(Reply::new(answer.status, &[]))
        });
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let issuers = json!({ "keycloak": { "issuer": realm.issuer(), "cluster": "keycloak" } });
        let listener = |name: &str, port: u16, part: &str, configuration: Value, to: &str| {
            let configuration = json!({ "issuers": issuers, part: configuration });
            let filter = Wasm::new(&configuration).name(name).filter();
            let mut listener = envoy::listener(name, vec![filter], envoy::route_to(to));
            listener["address"]["socket_address"]["port_value"] = json!(port);
            listener
        };
        let role = json!({ "client_roles": { "inventory-service": ["inventory:read"] } });
        let chain = json!({ "clients": ["inventory-service"] });
        let envoy = Envoy::builder()
            .cluster(envoy::cluster("keycloak", realm.address()))
            .cluster(envoy::cluster("to-inventory", local(inventory_port)))
            .cluster(envoy::cluster("inventory", inventory.address()))
            .cluster(envoy::cluster("to-payment", local(payment_port)))
            .cluster(envoy::cluster("payment", payment.address()))
            .listener(listener("order", 0, "outbound", order(), "to-inventory"))
            .listener(listener(
                "inventory",
                inventory_port,
                "inbound",
                checked("inventory-service", &role),
                "inventory",
            ))
            .listener(listener("charge", charge_port, "outbound", charge(), "to-payment"))
            .listener(listener(
                "payment",
                payment_port,
                "inbound",
                checked("payment-service", &chain),
                "payment",
            ))
            .listener(listener("scim", 0, "outbound", scim(), "keycloak"))
            .cluster(envoy::client_tls(envoy::cluster("keycloak-tls", realm.tls_address()), true))
            .listener(bound(&realm))
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self { realm, inventory, payment, envoy }
    }

    /// order-service's request: plain.
    pub fn order(&self, path: &str) -> Request {
        client::get(self.envoy.url("order", path))
    }

    /// A request to the realm's SCIM endpoint: plain.
    pub fn scim(&self, method: &str, path: &str) -> Request {
        let url = format!("{}{path}", self.realm.scim());
        let host = self.realm.address().to_string();
        let target = url.strip_prefix(&format!("http://{host}")).expect("a URL of the realm");
        Request::new(method, self.envoy.url("scim", target)).header("host", host)
    }

    /// The lines of the audit log about this event: `refused` or `fetch`.
    pub fn audit(&self, event: &str) -> Vec<Value> {
        let logs = self.envoy.logs();
        let json = |line: &str| serde_json::from_str(line.split_once("m2m-auth: ")?.1).ok();
        logs.lines().filter_map(json).filter(|line: &Value| line["event"] == event).collect()
    }
}

fn credential(client: &str, scope: &str) -> Value {
    let secret = json!({ "inline": keycloak::secret(client) });
    json!({ "issuer": "keycloak", "client_id": client, "client_secret": secret, "scopes": [scope] })
}

/// order-service's credential knows the secret that is to come, so that it may change at any time.
fn order() -> Value {
    let (mut own, mut wrong) =
        (credential("order-service", "inventory-api"), credential("order-service", "inventory-api"));
    own["client_secret"] =
        json!([{ "inline": keycloak::secret("order-service") }, { "inline": NEXT_SECRET }]);
    wrong["client_secret"]["inline"] = json!("not-the-secret");
    let rules = json!([
        { "match": { "path": "/with-a-wrong-secret" }, "credential": "wrong" },
        { "credential": "order" },
    ]);
    json!({ "credentials": { "order": own, "wrong": wrong }, "rules": rules })
}

/// The second secret of order-service's list.
pub const NEXT_SECRET: &str = "next-secret";

/// The `Authorization` of the request becomes one for the payment service (RFC 8693).
fn charge() -> Value {
    let mut exchange = credential("inventory-service", "payment-api");
    exchange["grant_type"] = json!("token_exchange");
    exchange["audience"] = json!("payment-service");
    json!({ "credentials": { "payment": exchange }, "rules": [{ "credential": "payment" }] })
}

fn scim() -> Value {
    let credential = credential("provisioning-service", "scim-api");
    json!({ "credentials": { "scim": credential }, "rules": [{ "credential": "scim" }] })
}

/// tls-service: it authenticates with the cluster's certificate, and its token is bound to that.
fn bound(realm: &Keycloak) -> Value {
    let token_endpoint = realm.endpoint("token");
    let token_endpoint = token_endpoint
        .replace(&format!("http://{}", realm.address()), &format!("https://{}", realm.tls_address()));
    let configuration = json!({
        "issuers": { "keycloak": {
            "issuer": realm.issuer(),
            "cluster": "keycloak-tls",
            "token_endpoint": token_endpoint,
        } },
        "outbound": {
            "credentials": { "tls": {
                "issuer": "keycloak",
                "client_id": "tls-service",
                "auth_method": "tls_client_auth",
            } },
            "rules": [{ "credential": "tls" }],
        },
    });
    let filter = Wasm::new(&configuration).name("bound").filter();
    envoy::listener("bound", vec![filter], envoy::route_to("payment"))
}

/// Callers need this audience and more; identity headers name the caller and the original caller.
fn checked(audience: &str, more: &Value) -> Value {
    let mut require = json!({ "issuer": "keycloak", "audiences": [audience] });
    let more = more.as_object().cloned().unwrap_or_default();
    require.as_object_mut().expect("an object").extend(more);
    let headers = json!({ "x-caller": "azp", "x-on-behalf-of": "sub" });
    json!({ "rules": [{ "require": require, "claims_to_headers": headers }] })
}
