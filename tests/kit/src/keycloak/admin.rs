//! What an administrator does to a realm while it is used: the Admin REST API, as far as tests need
//! it.

use super::{Keycloak, text};
use crate::{client::Request, key::Key};
use serde_json::{Value, json};

/// A key that signs, or signed, tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// As in the header of the tokens and in the key set.
    pub kid: String,
    /// What Keycloak's administration knows it by: for [`Keycloak::delete_key`].
    pub component: String,
}

impl Keycloak {
    /// Gives the client this secret; the old one is refused from now on.
    pub async fn set_client_secret(&self, client_id: &str, secret: &str) {
        self.change_client(client_id, |client| client["secret"] = json!(secret)).await;
    }

    /// Has Keycloak make a new secret, which is returned; the old one is refused from now on.
    pub async fn regenerate_secret(&self, client_id: &str) -> String {
        let id = text(&self.client(client_id).await["id"]);
        let made = self.admin("POST", &format!("clients/{id}/client-secret"), None).await;
        text(&made["value"])
    }

    /// Gives the client's access tokens, from the next one on, so many seconds to live: its
    /// attribute `access.token.lifespan`.
    pub async fn set_token_life(&self, client_id: &str, seconds: u64) {
        let life = json!(seconds.to_string());
        self.change_client(client_id, |client| client["attributes"]["access.token.lifespan"] = life).await;
    }

    /// Changes what the administration knows of a client.
    pub async fn change_client(&self, client_id: &str, change: impl FnOnce(&mut Value)) {
        let mut client = self.client(client_id).await;
        change(&mut client);
        self.admin("PUT", &format!("clients/{}", text(&client["id"])), Some(&client)).await;
    }

    /// The administration's view of a client.
    pub async fn client(&self, client_id: &str) -> Value {
        let found = self.admin("GET", &format!("clients?clientId={client_id}"), None).await;
        found.get(0).unwrap_or_else(|| panic!("no client {client_id} in realm {}", self.realm)).clone()
    }

    /// The key that signs RS256 now.
    pub async fn signing_key(&self) -> SigningKey {
        let keys = self.admin("GET", "keys", None).await;
        let kid = text(&keys["active"]["RS256"]);
        let key = keys["keys"].as_array().and_then(|keys| keys.iter().find(|key| key["kid"] == kid));
        SigningKey { component: text(&key.expect("the active key is listed")["providerId"]), kid }
    }

    /// Makes a new RS256 key that signs from now on; the old one stays in the key set until it is
    /// deleted.
    pub async fn rotate_signing_key(&self) -> SigningKey {
        self.add_key("rsa-generated", json!({ "keySize": ["2048"] })).await
    }

    /// Has the realm sign with this RSA key from now on, so that a test can sign what Keycloak
    /// never would.
    pub async fn sign_with(&self, key: &Key) -> SigningKey {
        self.add_key("rsa", json!({ "privateKey": [key.private_pem()] })).await
    }

    async fn add_key(&self, provider: &str, mut config: Value) -> SigningKey {
        let realm = self.admin("GET", "", None).await;
        let keys = self.admin("GET", "keys", None).await;
        let priorities = keys["keys"].as_array().expect("a list of keys").iter();
        let highest = priorities.filter_map(|key| key["providerPriority"].as_u64()).max().unwrap_or_default();
        config["priority"] = json!([(highest + 1).to_string()]);
        for (name, value) in [("enabled", "true"), ("active", "true"), ("algorithm", "RS256")] {
            config[name] = json!([value]);
        }
        let component = json!({
            "name": format!("{provider}-{}", highest + 1),
            "providerId": provider,
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": config,
        });
        self.admin("POST", "components", Some(&component)).await;
        self.signing_key().await
    }

    /// Deletes a key by its component: it leaves the key set, and what it signed is void.
    pub async fn delete_key(&self, component: &str) {
        self.admin("DELETE", &format!("components/{component}"), None).await;
    }

    /// Voids the tokens of the whole realm that were issued before this second: its not-before
    /// policy.
    pub async fn set_not_before(&self, unix: u64) {
        self.admin("PUT", "", Some(&json!({ "notBefore": unix }))).await;
    }

    /// Voids the tokens of one client that were issued before this second.
    pub async fn set_not_before_of(&self, client_id: &str, unix: u64) {
        self.change_client(client_id, |client| client["notBefore"] = json!(unix)).await;
    }

    /// Logs the client's service account out: a not-before policy of its own, now.
    pub async fn log_out(&self, client_id: &str) {
        let id = text(&self.service_account(client_id).await["id"]);
        self.admin("POST", &format!("users/{id}/logout"), None).await;
    }

    /// Logs every user of the realm out: all sessions end, and its not-before policy is now.
    pub async fn log_out_all(&self) {
        self.admin("POST", "logout-all", None).await;
    }

    /// The sessions of the client's service account; none unless the client is given refresh
    /// tokens.
    pub async fn sessions(&self, client_id: &str) -> Vec<String> {
        let id = text(&self.service_account(client_id).await["id"]);
        let found = self.admin("GET", &format!("users/{id}/sessions"), None).await;
        found.as_array().expect("a list of sessions").iter().map(|session| text(&session["id"])).collect()
    }

    /// Ends a session.
    pub async fn delete_session(&self, id: &str) {
        self.admin("DELETE", &format!("sessions/{id}"), None).await;
    }

    /// Has the realm keep a record of what it is asked for: for [`events`](Self::events).
    pub async fn keep_events(&self) {
        self.admin("PUT", "", Some(&json!({ "eventsEnabled": true }))).await;
    }

    /// What the realm has recorded of that client, the newest first: `CLIENT_LOGIN` is a token by
    /// client credentials, `TOKEN_EXCHANGE` one by exchange; with `_ERROR` behind it, a refusal.
    pub async fn events(&self, kind: &str, client_id: &str) -> Vec<Value> {
        let path = format!("events?type={kind}&client={client_id}&max=10000");
        self.admin("GET", &path, None).await.as_array().expect("a list of events").clone()
    }

    async fn service_account(&self, client_id: &str) -> Value {
        let id = text(&self.client(client_id).await["id"]);
        self.admin("GET", &format!("clients/{id}/service-account-user"), None).await
    }

    /// A token for the Admin REST API, always one that lives long enough to be used.
    pub async fn admin_token(&self) -> String {
        self.server.admin_token().await
    }

    /// Any call of the Admin REST API; `path` is below `/admin/realms/{realm}/`. Panics unless it
    /// succeeds.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("/{}/{path}", self.realm);
        self.send_admin(method, path.trim_end_matches('/'), body).await
    }

    pub(super) async fn send_admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut request = Request::new(method, format!("http://{}/admin/realms{path}", self.address()));
        request = request.bearer(self.admin_token().await);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await;
        assert!(
            (200..300).contains(&response.status),
            "{method} {path}: {} {}",
            response.status,
            response.text()
        );
        if response.body.is_empty() { Value::Null } else { response.json() }
    }
}
