//! `make demo`: the main example, run and explained. A small identity provider (or, with
//! `--keycloak`, a real Keycloak), two services without a line of authentication code, and one real
//! Envoy that runs `envoy/envoy.yaml` between them.
//!
//! Each step prints the request, the answer, and one sentence why. With `--keycloak` the steps of
//! the two walkthroughs from which the example comes follow: `walkthroughs`. An answer that is not
//! the expected one ends the demo with exit code 1.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a demo: it fails loudly, and it is there to print"
)]

mod walkthroughs;

use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::Envoy;
use m2m_auth_kit::idp::{ClientSpec, Idp};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::token::{self, Mint};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{Value, json, repository};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

/// The issuer of the tokens.
enum Provider {
    Simulated(Box<Idp>),
    Keycloak(Keycloak),
}

impl Provider {
    async fn start(real: bool) -> Self {
        if real {
            return Self::Keycloak(Keycloak::alone().await);
        }
        let idp = Idp::start().await;
        // May call the inventory, but has no role there.
        idp.client(ClientSpec {
            audiences: vec!["inventory-service".into()],
            ..ClientSpec::new("billing-service", "billing-secret")
        });
        Self::Simulated(Box::new(idp))
    }

    fn issuer(&self) -> String {
        match self {
            Self::Simulated(idp) => idp.issuer(),
            Self::Keycloak(keycloak) => keycloak.issuer(),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Simulated(idp) => idp.address(),
            Self::Keycloak(keycloak) => keycloak.address(),
        }
    }

    /// What the walkthroughs' clients do by hand.
    async fn token(&self, client: &str) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", &keycloak::secret(client)),
        ];
        match self {
            Self::Keycloak(keycloak) => keycloak.token(client, form[2].1, "").await,
            Self::Simulated(idp) => {
                let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let request = client::post(idp.url(m2m_auth_kit::idp::Endpoint::Token))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(body.join("&"));
                request.send().await.json()["access_token"].as_str().expect("a token").to_owned()
            }
        }
    }

    async fn rotate_key(&self) {
        match self {
            Self::Simulated(idp) => drop(idp.rotate_key()),
            Self::Keycloak(keycloak) => drop(keycloak.rotate_signing_key().await),
        }
    }

    async fn stop(&self) {
        match self {
            Self::Simulated(idp) => idp.stop().await,
            Self::Keycloak(keycloak) => keycloak.kill().await,
        }
    }

    async fn resume(&self) {
        match self {
            Self::Simulated(idp) => idp.resume().await,
            Self::Keycloak(keycloak) => keycloak.restart().await,
        }
    }
}

/// Everything that runs, and how far the story is.
struct Story {
    provider: Provider,
    service: Upstream,
    envoy: Envoy,
    step: usize,
    wrong: usize,
}

impl Story {
    /// Order-service's own request, without a token, through its Envoy.
    async fn order(&self) -> Response {
        client::get(self.envoy.url("egress", "/inventory/items"))
            .header("host", "inventory-service")
            .send()
            .await
    }

    /// A request sent directly to inventory-service.
    async fn knock(&self, path: &str, token: Option<&str>) -> Response {
        let request = client::get(self.envoy.url("ingress", path));
        match token {
            Some(token) => request.bearer(token).send().await,
            None => request.send().await,
        }
    }

    /// A step with an answer that is explained in words.
    fn show(&mut self, step: &str, result: &str, good: bool, why: &str) {
        self.step += 1;
        println!("{:2}. {step}", self.step);
        println!("    {result}");
        println!("    {why}\n");
        if !good {
            println!("    ^^^ not as it should be");
            self.wrong += 1;
        }
    }

    fn answer(&mut self, request: &str, answer: &Response, status: u16, why: &str) {
        self.step += 1;
        let detail = match answer.status {
            200 => {
                let caller = self.service.last().header("x-caller");
                caller.map_or("the service answers".into(), |caller| {
                    format!("the service sees x-caller: {caller}")
                })
            }
            _ => answer.text(),
        };
        println!("{:2}. {request}", self.step);
        println!("    {} {detail}", answer.status);
        println!("    {why}\n");
        if answer.status != status {
            println!("    ^^^ expected {status}; Envoy's log:\n{}", self.envoy.logs());
            self.wrong += 1;
        }
    }
}

/// `envoy/envoy.yaml`, with nothing changed but where things are on this machine.
async fn envoy(provider: &Provider, service: &Upstream) -> Envoy {
    let yaml = std::fs::read_to_string(repository().join("envoy/envoy.yaml")).expect("envoy/envoy.yaml");
    let yaml = yaml.replace("http://keycloak:8080/realms/my-realm", &provider.issuer());
    let yaml =
        yaml.replace("/etc/envoy/m2m_auth.wasm", m2m_auth_kit::module().to_str().expect("a plain path"));
    let bootstrap: Value = serde_norway::from_str(&yaml).expect("YAML");
    let ingress = free_port();
    let mut builder = Envoy::builder().env("ORDER_SERVICE_SECRET", &keycloak::secret("order-service"));
    for listener in
        bootstrap.pointer("/static_resources/listeners").and_then(Value::as_array).expect("listeners")
    {
        let mut listener = listener.clone();
        let port = if listener["name"] == "ingress" { ingress } else { 0 };
        listener["address"]["socket_address"] = json!({ "address": "127.0.0.1", "port_value": port });
        builder = builder.listener(listener);
    }
    for cluster in
        bootstrap.pointer("/static_resources/clusters").and_then(Value::as_array).expect("clusters")
    {
        let mut cluster = cluster.clone();
        let port = match cluster["name"].as_str() {
            Some("keycloak") => provider.address().port(),
            Some("inventory-service") => service.address().port(),
            _ => ingress,
        };
        let address = cluster
            .pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
        *address.expect("an endpoint") = json!({ "address": "127.0.0.1", "port_value": port });
        builder = builder.cluster(cluster);
    }
    builder.start().await.unwrap_or_else(|error| panic!("Envoy does not start: {error:?}"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

#[tokio::main]
async fn main() -> ExitCode {
    let real = std::env::args().any(|argument| argument == "--keycloak");
    let provider = Provider::start(real).await;
    let service = Upstream::start().await;
    let envoy = envoy(&provider, &service).await;
    println!("identity provider  {}", provider.issuer());
    println!("order-service   -> {} (egress: attaches a token)", envoy.address("egress"));
    println!(
        "ingress            {} (checks it) -> inventory-service {}",
        envoy.address("ingress"),
        service.address()
    );
    println!("configuration      envoy/envoy.yaml\n");
    let mut story = Story { provider, service, envoy, step: 0, wrong: 0 };
    play(&mut story).await;
    if let Provider::Keycloak(keycloak) = &story.provider {
        let keycloak = keycloak.clone();
        println!(
            "The walkthroughs: order-service -> inventory-service -> payment-service, each with its sidecar\n"
        );
        walkthroughs::play(&mut story, &keycloak).await;
    }
    if story.wrong > 0 {
        println!("{} of {} steps went wrong.", story.wrong, story.step);
        return ExitCode::FAILURE;
    }
    println!("{} steps, each as it should be.", story.step);
    ExitCode::SUCCESS
}

async fn play(story: &mut Story) {
    let answer = story.order().await;
    let request = "order-service: GET /inventory/items, no token, no authentication code";
    story.answer(
        request,
        &answer,
        200,
        "Egress fetched a token for order-service and attached it; ingress verified it.",
    );

    let answer = story.knock("/health", None).await;
    story.answer(
        "anyone: GET /health at the ingress",
        &answer,
        200,
        "A rule with `allow: true` asks for nothing.",
    );

    let answer = story.knock("/inventory/items", None).await;
    let why = "No token: a bare challenge, as RFC 6750 section 3.1 has it.";
    story.answer("a stranger: GET /inventory/items at the ingress, without a token", &answer, 401, why);

    let good = story.provider.token("order-service").await;
    let answer = story.knock("/inventory/items", Some(&good)).await;
    let why = "Tokens that a service fetched by itself are as good.";
    story.answer("order-service again, with a token that it got by curl", &answer, 200, why);

    let (header, claims) = token::decode(&good);
    let forged = Mint::of(claims).key(&Idp::foreign_key()).kid(header["kid"].as_str().expect("a kid"));
    let answer = story.knock("/inventory/items", Some(&forged.sign(&Idp::foreign_key()))).await;
    story.answer(
        "a forger: the same claims and the same kid, another key",
        &answer,
        401,
        "The signature is not the issuer's.",
    );

    let other = story.provider.token("billing-service").await;
    let answer = story.knock("/inventory/items", Some(&other)).await;
    let why = "A good token, but its client has not been given the role: 403, and the answer says which.";
    story.answer("billing-service: a token of its own", &answer, 403, why);

    let answer = story.knock("/public/..%2finventory/items", Some(&good)).await;
    let why = "Servers read this path differently, and rules decide differently about what they read: it is refused.";
    story.answer("anyone: GET /public/..%2finventory/items", &answer, 400, why);

    let answer = story.knock("/metrics", Some(&good)).await;
    story.answer(
        "order-service: GET /metrics",
        &answer,
        403,
        "What no rule is for is refused, token or not.",
    );

    story.provider.rotate_key().await;
    let fresh = story.provider.token("order-service").await;
    let answer = story.knock("/inventory/items", Some(&fresh)).await;
    let why = "The signing key was rotated: its unknown kid made one refetch, for which the request waited.";
    story.answer("order-service: a token signed with a new key", &answer, 200, why);

    story.provider.stop().await;
    let answer = story.order().await;
    let why = "The identity provider is gone; keys and token are still good, and nobody notices.";
    story.answer("order-service, while the identity provider is stopped", &answer, 200, why);

    let unknown = Mint::of(token::decode(&fresh).1).key(&Idp::foreign_key()).sign(&Idp::foreign_key());
    let answer = story.knock("/inventory/items", Some(&unknown)).await;
    let why = "A key that nobody knows, and nobody to ask: 503 with Retry-After. It may be the caller's fault, or ours.";
    story.answer("a token with an unknown kid, while it is stopped", &answer, 503, why);

    story.provider.resume().await;
    let answer = story.order().await;
    story.answer("order-service, once it is back", &answer, 200, "Nothing had to be restarted.");
}
