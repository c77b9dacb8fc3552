//! The walkthroughs' clients in Go, Python and Node, as plain HTTP clients for which the outbound
//! filter obtains the token, and the same call by libraries that fetch it themselves. The inbound
//! filter treats both alike.

use crate::sidecar::{self, SECRET, builder, listener};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::peers::Client;
use m2m_auth_kit::token;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::{Value, json};

/// order-service's sidecar (`out`), inventory-service's sidecar (`in`), and the service.
struct Scene {
    keycloak: Keycloak,
    upstream: Upstream,
    caller: Envoy,
    called: Envoy,
}

impl Scene {
    async fn start() -> Self {
        let (keycloak, upstream) = (Keycloak::start().await, Upstream::start().await);
        let inbound = Wasm::new(&sidecar::inbound(&keycloak));
        let outbound = Wasm::new(&sidecar::outbound(&keycloak)).host_env(SECRET);
        let called = sidecar::start("in", &inbound, &keycloak, upstream.address()).await;
        let caller = builder(&keycloak, called.address("in").parse().unwrap())
            .env(SECRET, &keycloak::secret("order-service"))
            .listener(listener("out", &outbound))
            .start()
            .await
            .unwrap();
        Self { keycloak, upstream, caller, called }
    }

    /// The client and the scope of the token that the last request came with, as the service got
    /// it.
    fn arrived(&self) -> (String, String) {
        let request = self.upstream.last();
        let sent = request.header("authorization").unwrap();
        let (_, claims) = token::decode(sent.strip_prefix("Bearer ").unwrap());
        assert_eq!(claims["aud"], "inventory-service");
        (request.header("x-caller").unwrap(), claims["scope"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn plain_http_clients_in_three_languages_are_served_without_a_line_of_authentication() {
    let scene = Scene::start().await;
    let url = format!("http://{}", scene.caller.address("out"));
    for client in Client::plain() {
        let (status, body) = client.run(&[("INVENTORY_URL", &url)]).await;
        assert_eq!(status, 200, "{}: {body}\n{}", client.name, scene.caller.logs());
        assert_eq!(
            scene.arrived(),
            ("order-service".to_owned(), "inventory-api".to_owned()),
            "{}",
            client.name
        );
        // Sent directly to the inventory, they carry no token.
        let (status, body) =
            client.run(&[("INVENTORY_URL", &format!("http://{}", scene.called.address("in")))]).await;
        assert_eq!(status, 401, "{}", client.name);
        assert!(body.contains("Missing token"), "{}: {body}", client.name);
    }
    assert_eq!(scene.upstream.count(), 3);
}

#[tokio::test]
async fn clients_that_fetch_their_token_by_their_languages_library_are_accepted() {
    let scene = Scene::start().await;
    let url = format!("http://{}", scene.called.address("in"));
    let (issuer, token_url) = (scene.keycloak.issuer(), scene.keycloak.endpoint("token"));
    for client in Client::libraries() {
        let environment = |id: &'static str| {
            [("INVENTORY_URL", url.clone()), ("ISSUER", issuer.clone()), ("TOKEN_URL", token_url.clone())]
                .into_iter()
                .chain([("CLIENT_ID", id.to_owned()), ("CLIENT_SECRET", keycloak::secret(id))])
                .collect::<Vec<_>>()
        };
        let run = async |id| {
            let environment = environment(id);
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.run(&environment).await
        };
        let (status, body) = run("order-service").await;
        assert_eq!(status, 200, "{}: {body}\n{}", client.name, scene.called.logs());
        assert_eq!(
            scene.arrived(),
            ("order-service".to_owned(), "inventory-api".to_owned()),
            "{}",
            client.name
        );
        let (status, body) = run("billing-service").await;
        assert_eq!(status, 403, "{}", client.name);
        assert!(body.contains("Insufficient permissions"), "{}: {body}", client.name);
    }
    assert_eq!(scene.upstream.count(), 3);
}

/// examples/envoy/dot-env.yaml, with nothing changed but where things are on this machine.
#[tokio::test]
async fn the_three_variables_of_the_walkthroughs_env_file_are_all_that_the_filter_needs_of_the_client() {
    let (keycloak, upstream) = (Keycloak::start().await, Upstream::start().await);
    let yaml = std::fs::read_to_string(m2m_auth_kit::repository().join("examples/envoy/dot-env.yaml"));
    let mut example: Value = serde_norway::from_str(
        &yaml.unwrap().replace("/etc/envoy/m2m_auth.wasm", envoy::module().to_str().unwrap()),
    )
    .unwrap();
    let mut listener = example["static_resources"]["listeners"][0].take();
    listener["address"]["socket_address"]["port_value"] = json!(0);
    let envoy = Envoy::builder()
        .env("TOKEN_URL", &keycloak.endpoint("token"))
        .env("CLIENT_ID", "order-service")
        .env("CLIENT_SECRET", &keycloak::secret("order-service"))
        .cluster(envoy::cluster("keycloak", keycloak.address()))
        .cluster(envoy::cluster("inventory-service", upstream.address()))
        .listener(listener)
        .start()
        .await
        .unwrap();
    let call = client::get(envoy.url("egress", "/inventory/items")).header("host", "inventory-service");
    let answer = call.send().await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), envoy.logs());
    let sent = upstream.last().header("authorization").unwrap();
    assert_eq!(token::decode(sent.strip_prefix("Bearer ").unwrap()).1["azp"], "order-service");
    for text in [example.to_string(), envoy.config_dump().await.to_string(), envoy.logs()] {
        assert!(!text.contains("order-secret"), "the secret is only in the environment");
    }
}

#[test]
fn a_plain_client_is_under_25_lines_and_says_nothing_of_authentication() {
    for client in Client::plain() {
        let code = client.code();
        assert!(code.lines().count() < 25, "{}: {} lines", client.source, code.lines().count());
        // Its first line names the filter that does it.
        let rest = code.split_once('\n').unwrap().1.to_ascii_lowercase();
        for word in ["auth", "bearer", "token", "oauth", "secret", "credential"] {
            assert!(!rest.contains(word), "{} says {word}", client.source);
        }
    }
}
