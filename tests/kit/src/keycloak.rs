//! A real Keycloak as a child process: tokens, keys and secrets of the realm in `envoy/keycloak`, and its outages.
//!
//! It is started by `envoy/keycloak/run.sh`, which fetches it where it is not there yet (Java 17 and Maven, or
//! `KEYCLOAK_HOME`). Ready after about 15 s, so [`Keycloak::start`] gives every test of the process the same server.
//! A test that rotates keys or changes secrets takes a realm of its own on it ([`Keycloak::realm`], about 3 s); one
//! that stops the server takes a server of its own ([`Keycloak::alone`]).
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

use crate::{
    client::{self, Request, Response},
    key::{Alg, Key},
    wait::until,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::{OnceCell, oneshot},
};

/// Keycloak's admin tokens live 60 s.
const ADMIN_TOKEN_LIFE: Duration = Duration::from_secs(40);

/// One realm of a running Keycloak. The server ends when the last realm of it is dropped, the shared one when the
/// process ends, however it ends.
#[derive(Clone)]
pub struct Keycloak {
    server: Arc<Server>,
    realm: String,
}

/// A key that signs, or signed, tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// As in the header of the tokens and in the key set.
    pub kid: String,
    /// What Keycloak's administration knows it by: for [`Keycloak::delete_key`].
    pub component: String,
}

/// The secret that a client of the realm starts with: `order-secret` for `order-service`, and a longer one for
/// `hmac-service`, which signs with it.
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
    /// The server of this process, and its realm `my-realm`: to look at, not to change. Panics when it does not start.
    pub async fn start() -> Self {
        static SHARED: OnceCell<Result<Arc<Server>, String>> = OnceCell::const_new();
        let server = SHARED.get_or_init(Server::start).await;
        Self::of(server.clone())
    }

    /// A server of the test's own, to pause, kill and restart.
    pub async fn alone() -> Self {
        Self::of(Server::start().await)
    }

    /// A server of the test's own that also listens with TLS, on this port, and asks for client certificates. `files` has the
    /// certificate `server.pem` with its key `server.key`, and the authority `ca.pem`.
    pub async fn with_tls(port: u16, files: &Path) -> Self {
        let file = |option: &str, name: &str| format!("--https-{option}-file={}", files.join(name).display());
        let options = vec![
            format!("--https-port={port}"),
            file("certificate", "server.pem"),
            file("certificate-key", "server.key"),
            file("trust-store", "ca.pem"),
        ];
        Self::of(Server::start_with(options).await)
    }

    fn of(server: Result<Arc<Server>, String>) -> Self {
        let server = server.unwrap_or_else(|error| panic!("Keycloak did not start:\n{error}"));
        Self { server, realm: "my-realm".to_owned() }
    }

    /// A new realm of that name on the same server, a copy of `realm.json` with keys of its own: to change at will.
    pub async fn realm(&self, name: &str) -> Self {
        let mut text = fs::read_to_string(folder().join("realm.json")).expect("a realm.json");
        for (variable, secret) in secrets() {
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

    /// The published key set, fetched now.
    pub async fn jwks(&self) -> Value {
        client::get(self.endpoint("certs")).send().await.json()
    }

    /// Gives the client this secret; the old one is refused from now on.
    pub async fn set_client_secret(&self, client_id: &str, secret: &str) {
        let mut client = self.client(client_id).await;
        client["secret"] = json!(secret);
        self.admin("PUT", &format!("clients/{}", text(&client["id"])), Some(&client)).await;
    }

    /// Has Keycloak make a new secret, which is returned; the old one is refused from now on.
    pub async fn regenerate_secret(&self, client_id: &str) -> String {
        let id = text(&self.client(client_id).await["id"]);
        let made = self.admin("POST", &format!("clients/{id}/client-secret"), None).await;
        text(&made["value"])
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

    /// Makes a new RS256 key that signs from now on; the old one stays in the key set until it is deleted.
    pub async fn rotate_signing_key(&self) -> SigningKey {
        let realm = self.admin("GET", "", None).await;
        let keys = self.admin("GET", "keys", None).await;
        let priorities = keys["keys"].as_array().expect("a list of keys").iter();
        let highest = priorities.filter_map(|key| key["providerPriority"].as_u64()).max().unwrap_or_default();
        let component = json!({
            "name": format!("rsa-generated-{}", highest + 1),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": {
                "priority": [(highest + 1).to_string()],
                "enabled": ["true"],
                "active": ["true"],
                "algorithm": ["RS256"],
                "keySize": ["2048"],
            },
        });
        self.admin("POST", "components", Some(&component)).await;
        self.signing_key().await
    }

    /// Deletes a key by its component: it leaves the key set, and what it signed is void.
    pub async fn delete_key(&self, component: &str) {
        self.admin("DELETE", &format!("components/{component}"), None).await;
    }

    /// A token for the Admin REST API, always one that lives long enough to be used.
    pub async fn admin_token(&self) -> String {
        self.server.admin_token().await
    }

    /// Any call of the Admin REST API; `path` is below `/admin/realms/{realm}/`. Panics unless it succeeds.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("/{}/{path}", self.realm);
        self.send_admin(method, path.trim_end_matches('/'), body).await
    }

    async fn send_admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
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

    /// The server hangs: connections are accepted, nothing is answered.
    pub fn pause(&self) {
        assert!(self.server.signal("STOP"), "there is no Keycloak to pause");
    }

    /// Ends [`pause`](Self::pause); what was asked meanwhile is answered now.
    pub fn resume(&self) {
        assert!(self.server.signal("CONT"), "there is no Keycloak to resume");
    }

    /// The server is gone at once, without a word: connections break, new ones are refused.
    pub async fn kill(&self) {
        self.server.kill().await;
    }

    /// Brings a killed server back on the same port, with its realms, keys and secrets (about 12 s).
    pub async fn restart(&self) {
        if let Err(error) = self.server.restart().await {
            panic!("Keycloak did not start again:\n{error}");
        }
    }
}

/// One server process and the script above it.
struct Server {
    address: SocketAddr,
    management_port: String,
    directory: PathBuf,
    process: Mutex<Process>,
    admin_token: Mutex<Option<(String, Instant)>>,
    /// For `kc.sh start`; with any, it asks for client certificates.
    options: Vec<String>,
}

/// Its standard input is a pipe that nobody writes to: when it closes, by a drop or by the end of this process, the
/// script ends the server.
struct Process {
    script: Child,
    group: u32,
}

impl Server {
    async fn start() -> Result<Arc<Self>, String> {
        Self::start_with(Vec::new()).await
    }

    async fn start_with(options: Vec<String>) -> Result<Arc<Self>, String> {
        let (process, said) = launch(None, &options).await?;
        Ok(Arc::new(Self {
            address: format!("127.0.0.1:{}", said["http_port"]).parse().expect("a port"),
            management_port: said["management_port"].clone(),
            directory: said["directory"].clone().into(),
            process: Mutex::new(process),
            admin_token: Mutex::default(),
            options,
        }))
    }

    async fn restart(&self) -> Result<(), String> {
        self.kill().await;
        let ended = || lock(&self.process).script.try_wait().expect("a child of ours").is_some();
        until("the script above Keycloak to end", async || ended().then_some(())).await;
        let (process, _) = launch(Some(self), &self.options).await?;
        *lock(&self.process) = process;
        self.forget_admin_token();
        Ok(())
    }

    async fn kill(&self) {
        // Where it has ended already there is nobody to hear of it.
        let _ = self.signal("KILL");
        let refused = async || TcpStream::connect(self.address).await.is_err().then_some(());
        until("Keycloak to be gone", refused).await;
    }

    /// To the whole process group: the server's own script and its Java child. Whether there was one.
    fn signal(&self, name: &str) -> bool {
        let command = format!("kill -{name} -- -{} 2>/dev/null", lock(&self.process).group);
        Command::new("bash").args(["-c", &command]).status().expect("bash").success()
    }

    fn forget_admin_token(&self) {
        *lock(&self.admin_token) = None;
    }

    async fn admin_token(&self) -> String {
        if let Some((token, since)) = &*lock(&self.admin_token)
            && since.elapsed() < ADMIN_TOKEN_LIFE
        {
            return token.clone();
        }
        let url = format!("http://{}/realms/master/protocol/openid-connect/token", self.address);
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", "admin"),
        ];
        let (since, token) = (Instant::now(), access_token(&ask(&url, &form).await));
        *lock(&self.admin_token) = Some((token.clone(), since));
        token
    }
}

/// Runs the script until it says that the server is ready; with `again` on the ports and the data of that one.
async fn launch(
    again: Option<&Server>,
    options: &[String],
) -> Result<(Process, BTreeMap<String, String>), String> {
    let mut command = Command::new(folder().join("run.sh"));
    command.args(["run", "--until-eof"]).args(options).envs(secrets());
    if !options.is_empty() {
        // An option of the build, which is kept beside the usual one.
        command.env("KEYCLOAK_BUILD_OPTIONS", "--https-client-auth=request");
    }
    for name in ["KC_BOOTSTRAP_ADMIN_USERNAME", "KC_BOOTSTRAP_ADMIN_PASSWORD"] {
        command.env(name, "admin");
    }
    for name in ["KC_HOSTNAME", "HTTP_PORT", "MANAGEMENT_PORT", "RUN_DIR", "REALM_FILE"] {
        command.env_remove(name);
    }
    if let Some(server) = again {
        command.env("HTTP_PORT", server.address.port().to_string());
        command.env("MANAGEMENT_PORT", &server.management_port).env("RUN_DIR", &server.directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A thread of its own rather than a task: the runtime of the test that comes first may end with that test.
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || sender.send(launch_blocking(command)));
    receiver.await.unwrap_or_else(|_| Err("its starter panicked".to_owned()))
}

fn launch_blocking(mut command: Command) -> Result<(Process, BTreeMap<String, String>), String> {
    let mut script = command.spawn().map_err(|error| format!("{}/run.sh: {error}", folder().display()))?;
    let mut stderr = script.stderr.take().expect("a pipe");
    // Read to its end, so that the script never blocks on a full pipe nor breaks on a closed one.
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut said = BTreeMap::new();
    for line in BufReader::new(script.stdout.take().expect("a pipe")).lines() {
        let line = line.map_err(|error| error.to_string())?;
        if let Some((name, value)) = line.split_once(' ') {
            said.insert(name.to_owned(), value.trim().to_owned());
        }
        if let Some(group) = said.get("process_group") {
            let group = group.parse().map_err(|_| format!("no process group: {group}"))?;
            return Ok((Process { script, group }, said));
        }
    }
    drop(script.stdin.take());
    let _ = script.wait();
    Err(complaints.join().unwrap_or_default())
}

/// Where the realm and the script that starts the server are.
fn folder() -> PathBuf {
    crate::repository().join("envoy/keycloak")
}

/// The variables of `realm.json` and their values.
fn secrets() -> impl Iterator<Item = (String, String)> {
    let secrets = ["order", "billing", "inventory", "payment", "hmac"].into_iter().map(|name| {
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

async fn ask(url: &str, form: &[(&str, &str)]) -> Response {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    client::post(url).header("content-type", "application/x-www-form-urlencoded").body(body).send().await
}

fn access_token(response: &Response) -> String {
    assert_eq!(response.status, 200, "no token: {}", response.text());
    text(&response.json()["access_token"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use std::io::ErrorKind;

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
        // Beside the key that signs there is one that must not be taken for it; which comes first varies.
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
