//! A real Keycloak as a child process: tokens, keys and secrets of the realm in `envoy/keycloak`,
//! its administration, and its outages.
//!
//! It is started by `envoy/keycloak/run.sh`, which fetches it where it is not there yet (Java 17
//! and Maven, or `KEYCLOAK_HOME`). Ready after about 15 s, so [`Keycloak::start`] gives every test
//! of the process the same server. A test that rotates keys or changes secrets takes a realm of its
//! own on it ([`Keycloak::realm`], about 3 s); one that stops the server takes a server of its own
//! ([`Keycloak::alone`]).
//!
//! ```no_run
//! # async fn test() {
//! use m2m_auth_kit::keycloak::{self, Keycloak};
//! let keycloak = Keycloak::start().await.realm("rotation").await;
//! let secret = keycloak::secret("order-service");
//! let token = keycloak.token("order-service", &secret, "inventory-api").await;
//! let old = keycloak.signing_key().await;
//! let new = keycloak.rotate_signing_key().await;
//! keycloak.delete_key(&old.component).await;
//! # }
//! ```

mod admin;
mod server;

pub use admin::SigningKey;

use crate::{
    client::{self, Request, Response},
    key::{Alg, Key},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use server::Server;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::OnceCell;

/// One realm of a running Keycloak. The server ends when the last realm of it is dropped, the
/// shared one when the process ends, however it ends.
#[derive(Clone)]
pub struct Keycloak {
    server: Arc<Server>,
    realm: String,
}

/// The secret that a client of the realm starts with: `order-secret` for `order-service`, and a
/// longer one for `hmac-service`, which signs with it.
pub fn secret(client_id: &str) -> String {
    let longer = if client_id == "hmac-service" { "-of-at-least-thirty-two-bytes" } else { "" };
    format!("{}-secret{longer}", client_id.trim_end_matches("-service"))
}

/// The key of `signing-service`.
pub fn signing_key() -> &'static Key {
    static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(Alg::Rs256));
    &KEY
}

impl Keycloak {
    /// The server of this process, and its realm `my-realm`: to look at, not to change. Panics when
    /// it does not start.
    pub async fn start() -> Self {
        static SHARED: OnceCell<Result<Arc<Server>, String>> = OnceCell::const_new();
        let server = SHARED.get_or_init(Server::start).await;
        Self::of(server.clone())
    }

    /// A server of the test's own, to pause, kill and restart.
    pub async fn alone() -> Self {
        Self::of(Server::start().await)
    }

    fn of(server: Result<Arc<Server>, String>) -> Self {
        let server = server.unwrap_or_else(|error| panic!("Keycloak did not start:\n{error}"));
        Self { server, realm: "my-realm".to_owned() }
    }

    /// A new realm of that name on the same server, a copy of `realm.json` with keys of its own: to
    /// change at will.
    pub async fn realm(&self, name: &str) -> Self {
        let mut text = fs::read_to_string(folder().join("realm.json")).expect("a realm.json");
        let audience = ("SCIM_AUDIENCE".to_owned(), self.scim_of(name));
        for (variable, secret) in secrets().chain([audience]) {
            text = text.replace(&format!("${{{variable}}}"), &secret);
        }
        let mut realm: Value = serde_json::from_str(&text).expect("a realm.json that is JSON");
        realm["realm"] = json!(name);
        self.send_admin("POST", "", Some(&realm)).await;
        Self { server: Arc::clone(&self.server), realm: name.to_owned() }
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("http://{}/realms/{}", self.address(), self.realm)
    }

    /// Its SCIM endpoint.
    pub fn scim(&self) -> String {
        self.scim_of(&self.realm)
    }

    fn scim_of(&self, realm: &str) -> String {
        format!("http://{}/realms/{realm}/scim/v2", self.address())
    }

    /// The Keycloak that it is a run of, with its tools in `bin`.
    pub fn home(&self) -> PathBuf {
        // A run has links to what it shares.
        let shared = fs::canonicalize(self.server.directory.join("lib/app")).expect("a run of a Keycloak");
        shared.ancestors().nth(2).expect("lib/app of something").to_owned()
    }

    /// Where it listens with TLS, by the certificate of [`certificates`], and asks for one in turn.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.address().ip(), self.server.tls_port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The URL of an endpoint: `token`, `certs`, `token/introspect`, `revoke`.
    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/protocol/openid-connect/{name}", self.issuer())
    }

    /// An access token by client credentials; `scope` may be empty. Panics when it is refused.
    pub async fn token(&self, client_id: &str, secret: &str, scope: &str) -> String {
        access_token(&self.ask_token(&client_credentials(client_id, secret, scope)).await)
    }

    /// Whatever the token endpoint answers to this form: for refusals and other grants.
    pub async fn ask_token(&self, form: &[(&str, &str)]) -> Response {
        ask(&self.endpoint("token"), form).await
    }

    /// What Keycloak says of a token to that client (RFC 7662), which must be in the token's
    /// audience to hear of it.
    pub async fn introspect(&self, client_id: &str, token: &str) -> Value {
        let proof = STANDARD.encode(format!("{client_id}:{}", secret(client_id)));
        let asked = form(&self.endpoint("token/introspect"), &[("token", token)]);
        asked.header("authorization", format!("Basic {proof}")).send().await.json()
    }

    /// Has that client revoke one of its own tokens (RFC 7009).
    pub async fn revoke(&self, client_id: &str, token: &str) {
        let (secret, url) = (secret(client_id), self.endpoint("revoke"));
        let form = [("client_id", client_id), ("client_secret", &*secret), ("token", token)];
        let response = ask(&url, &form).await;
        assert_eq!(response.status, 200, "not revoked: {}", response.text());
    }

    /// The published key set, fetched now.
    pub async fn jwks(&self) -> Value {
        client::get(self.endpoint("certs")).send().await.json()
    }

    /// The server hangs: connections are accepted, nothing is answered.
    pub fn pause(&self) {
        assert!(self.server.signal("STOP"), "there is no Keycloak to pause");
    }

    /// Ends [`pause`](Self::pause); what was asked meanwhile is answered now.
    pub fn resume(&self) {
        assert!(self.server.signal("CONT"), "there is no Keycloak to resume");
    }

    /// Kills the server at once: connections break, new ones are refused.
    pub async fn kill(&self) {
        self.server.kill().await;
    }

    /// Brings a killed server back on the same port, with its realms, keys and secrets (about 12
    /// s).
    pub async fn restart(&self) {
        if let Err(error) = self.server.restart().await {
            panic!("Keycloak did not start again:\n{error}");
        }
    }
}

/// Test certificates, valid for a hundred years: the server's `server.pem`, `client.pem` of
/// `CN=tls-service`, their keys, and the authority `ca.pem`.
pub fn certificates() -> PathBuf {
    crate::repository().join("tests/data/tls")
}

/// Where the realm and the script that starts the server are.
fn folder() -> PathBuf {
    crate::repository().join("envoy/keycloak")
}

/// The variables of `realm.json` and their values.
fn secrets() -> impl Iterator<Item = (String, String)> {
    let secrets =
        ["order", "billing", "inventory", "payment", "hmac", "provisioning"].into_iter().map(|name| {
            let variable = format!("{}_SERVICE_SECRET", name.to_uppercase());
            (variable, secret(&format!("{name}-service")))
        });
    let pem = signing_key().public_pem();
    let key = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    secrets.chain([("SIGNING_SERVICE_PUBLIC_KEY".to_owned(), key)])
}

fn client_credentials<'a>(client_id: &'a str, secret: &'a str, scope: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut form =
        vec![("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", secret)];
    // Keycloak takes an empty scope for a scope, one that it does not know.
    if !scope.is_empty() {
        form.push(("scope", scope));
    }
    form
}

async fn ask(url: &str, parameters: &[(&str, &str)]) -> Response {
    form(url, parameters).send().await
}

fn form(url: &str, parameters: &[(&str, &str)]) -> Request {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    client::post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
}

fn access_token(response: &Response) -> String {
    assert_eq!(response.status, 200, "no token: {}", response.text());
    text(&response.json()["access_token"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::{io::ErrorKind, time::Duration};

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn field(jwks: &Value, name: &str) -> Vec<String> {
        jwks["keys"].as_array().unwrap().iter().map(|key| text(&key[name])).collect()
    }

    fn kids(jwks: &Value) -> Vec<String> {
        field(jwks, "kid")
    }

    async fn refusal(keycloak: &Keycloak, client_id: &str, secret: &str, scope: &str) -> (u16, String) {
        let response = keycloak.ask_token(&client_credentials(client_id, secret, scope)).await;
        (response.status, text(&response.json()["error"]))
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn the_realm_gives_every_client_the_token_of_the_story() {
        let keycloak = Keycloak::start().await;
        let claims =
            async |client: &str, scope: &str| part(&keycloak.token(client, &secret(client), scope).await, 1);
        let order = claims("order-service", "inventory-api").await;
        assert_eq!(order["iss"], keycloak.issuer());
        assert_eq!(order["aud"], "inventory-service");
        assert_eq!(order["typ"], "Bearer");
        assert_eq!(order["azp"], "order-service");
        assert_eq!(order["scope"], "inventory-api");
        assert_eq!(order["resource_access"], json!({ "inventory-service": { "roles": ["inventory:read"] } }));
        assert_eq!(order["exp"].as_u64().unwrap() - order["iat"].as_u64().unwrap(), 300);

        let with_payment = claims("order-service", "payment-api").await;
        let audiences = with_payment["aud"].as_array().unwrap();
        assert!(audiences.len() == 2 && audiences.contains(&json!("payment-service")), "{audiences:?}");

        let billing = claims("billing-service", "").await;
        assert_eq!(billing["aud"], "inventory-service");
        assert_eq!(billing["resource_access"], Value::Null);
        assert_eq!(claims("inventory-service", "").await["aud"], Value::Null);
        assert_eq!(claims("payment-service", "").await["aud"], Value::Null);
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn refusals_are_worded_as_the_documents_say() {
        let keycloak = Keycloak::start().await;
        let expect = |status: u16, error: &str| (status, error.to_owned());
        assert_eq!(
            refusal(&keycloak, "order-service", "wrong", "").await,
            expect(401, "unauthorized_client")
        );
        assert_eq!(refusal(&keycloak, "nobody", "wrong", "").await, expect(401, "invalid_client"));
        let right = secret("order-service");
        assert_eq!(refusal(&keycloak, "order-service", &right, "nope").await, expect(400, "invalid_scope"));
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn the_called_service_exchanges_its_callers_token() {
        let keycloak = Keycloak::start().await;
        let subject = keycloak.token("order-service", &secret("order-service"), "inventory-api").await;
        for requester in ["inventory-service", "order-service"] {
            let secret = secret(requester);
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("client_id", requester),
                ("client_secret", &secret),
                ("subject_token", &subject),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("audience", "payment-service"),
                ("scope", "payment-api"),
            ];
            let claims = part(&access_token(&keycloak.ask_token(&form).await), 1);
            assert_eq!((&claims["aud"], &claims["azp"]), (&json!("payment-service"), &json!(requester)));
            assert_eq!(claims["sub"], part(&subject, 1)["sub"]);
        }
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn a_new_key_signs_and_the_old_one_stays_until_it_is_deleted() {
        let keycloak = Keycloak::start().await.realm("keys").await;
        // Beside the key that signs there is one that must not be taken for it; which comes first
        // varies.
        let mut uses = field(&keycloak.jwks().await, "use");
        uses.sort();
        assert_eq!(uses, ["enc", "sig"]);

        let signer = async || {
            let token = keycloak.token("order-service", &secret("order-service"), "").await;
            text(&part(&token, 0)["kid"])
        };
        let old = keycloak.signing_key().await;
        assert_eq!(signer().await, old.kid);
        let new = keycloak.rotate_signing_key().await;
        assert_ne!(new, old);
        assert_eq!(signer().await, new.kid);
        let published = kids(&keycloak.jwks().await);
        assert!(published.contains(&old.kid) && published.contains(&new.kid), "{published:?}");

        keycloak.delete_key(&old.component).await;
        let published = kids(&keycloak.jwks().await);
        assert!(!published.contains(&old.kid) && published.contains(&new.kid), "{published:?}");
        assert_eq!(signer().await, new.kid);
        assert_ne!(keycloak.rotate_signing_key().await, new);
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn a_changed_secret_voids_the_old_one() {
        let keycloak = Keycloak::start().await.realm("secrets").await;
        let old = secret("order-service");
        keycloak.token("order-service", &old, "").await;
        let made = keycloak.regenerate_secret("order-service").await;
        keycloak.token("order-service", &made, "").await;
        let refused = (401, "unauthorized_client".to_owned());
        assert_eq!(refusal(&keycloak, "order-service", &old, "").await, refused);
        keycloak.set_client_secret("order-service", "chosen").await;
        assert_eq!(refusal(&keycloak, "order-service", &made, "").await, refused);
        // Nothing else of the client has changed.
        let claims = part(&keycloak.token("order-service", "chosen", "").await, 1);
        assert_eq!(claims["resource_access"]["inventory-service"]["roles"], json!(["inventory:read"]));
        // The realm beside it has not noticed.
        Keycloak::start().await.token("order-service", &old, "").await;
    }

    #[tokio::test]
    #[ignore = "starts a real Keycloak"]
    async fn it_hangs_it_vanishes_and_it_comes_back_as_it_was() {
        let keycloak = Keycloak::alone().await;
        let made = keycloak.regenerate_secret("order-service").await;
        let key = keycloak.rotate_signing_key().await;

        keycloak.pause();
        let asked = client::get(keycloak.endpoint("certs"));
        let pending = tokio::time::timeout(Duration::from_secs(2), asked.try_send());
        assert!(pending.await.is_err(), "a paused server accepts and says nothing");
        keycloak.resume();
        assert!(kids(&keycloak.jwks().await).contains(&key.kid));

        keycloak.kill().await;
        assert_eq!(asked.try_send().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        keycloak.restart().await;
        keycloak.token("order-service", &made, "").await;
        assert_eq!(keycloak.signing_key().await, key);
    }
}
