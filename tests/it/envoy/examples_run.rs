//! The two examples that most deployments start from, as they are in the repository, against a
//! provider behind https; and the quick start that uses them. Only addresses, ports, the CA and the
//! module's path are replaced.

use crate::envoy::scene::{HAS_KEYS, HAS_TOKEN, arrived};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::repository;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The certificates that a provider has here.
#[derive(Clone, Copy)]
enum Certificate {
    /// For the host that the examples name; it signs itself.
    KeycloakExampleCom,
    /// For `localhost` and 127.0.0.1, of a trusted authority.
    Localhost,
}

impl Certificate {
    fn pair(self) -> [String; 2] {
        let name = match self {
            Self::KeycloakExampleCom => "keycloak.example.com",
            Self::Localhost => "server",
        };
        ["pem", "key"].map(|kind| tls(&format!("{name}.{kind}")))
    }

    /// The file that an Envoy trusts which accepts this certificate.
    fn authority(self) -> String {
        match self {
            Self::KeycloakExampleCom => tls("keycloak.example.com.pem"),
            Self::Localhost => tls("ca.pem"),
        }
    }
}

fn tls(file: &str) -> String {
    repository().join("tests/data/tls").join(file).to_str().unwrap().to_owned()
}

/// A provider behind TLS, and a service.
struct Scene {
    idp: Idp,
    front: Envoy,
    service: Upstream,
    certificate: Certificate,
}

impl Scene {
    async fn start(certificate: Certificate) -> Self {
        let (idp, service) = (Idp::start().await, Upstream::start().await);
        idp.set_issuer("https://keycloak.example.com/realms/my-realm");
        let front = with_tls(&idp, certificate).await;
        Self { idp, front, service, certificate }
    }

    /// The example in Envoy.
    async fn run(&self, example: &str) -> Envoy {
        self.run_edited(example, |_| ()).await
    }

    /// The example in Envoy, with the TLS settings of the provider's cluster changed.
    async fn run_edited(&self, example: &str, edit: impl Fn(&mut Value)) -> Envoy {
        let path = repository().join("examples/envoy").join(example);
        let mut bootstrap: Value = serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let provider: SocketAddr = self.front.address("provider").parse().unwrap();
        bootstrap["admin"]["address"]["socket_address"] = socket(([127, 0, 0, 1], 0).into());
        for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
            listener["address"]["socket_address"] = socket(([127, 0, 0, 1], 0).into());
            let module = listener.pointer_mut(
                "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config/code/local/filename",
            );
            *module.unwrap() = json!(envoy::module());
        }
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().unwrap() {
            let is_provider = cluster["name"] == "keycloak";
            let address = cluster
                .pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
            *address.unwrap() = socket(if is_provider { provider } else { self.service.address() });
            if is_provider {
                let authority = cluster.pointer_mut(
                    "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename",
                );
                *authority.unwrap() = json!(self.certificate.authority());
                edit(&mut cluster["transport_socket"]["typed_config"]);
            }
        }
        let whole = move |own: &mut Value| *own = bootstrap;
        Envoy::builder().env("ORDER_SERVICE_SECRET", "order-secret").bootstrap(whole).start().await.unwrap()
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({ "address": address.ip().to_string(), "port_value": address.port() })
}

/// The provider behind TLS, on the listener `provider`.
async fn with_tls(idp: &Idp, certificate: Certificate) -> Envoy {
    let [chain, key] = certificate.pair().map(|file| json!({ "filename": file }));
    let mut listener = envoy::listener("provider", vec![], envoy::route_to("idp"));
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": { "tls_certificates": [{ "certificate_chain": chain, "private_key": key }] },
        },
    });
    Envoy::builder().cluster(envoy::cluster("idp", idp.address())).listener(listener).start().await.unwrap()
}

fn refused(answer: &Response, status: u16, reason: &str) {
    assert_eq!((answer.status, &answer.json()["reason"]), (status, &json!(reason)), "{answer:?}");
}

#[tokio::test]
async fn inbound_only_validates_requests() {
    let scene = Scene::start(Certificate::KeycloakExampleCom).await;
    let envoy = scene.run("inbound-only.yaml").await;
    envoy.wait_for_log(HAS_KEYS).await;
    let get = |path: &str| client::get(envoy.url("inbound", path));
    refused(&get("/items").send().await, 401, "no_token");
    let good = get("/items").header("x-caller", "somebody-else").bearer(scene.idp.token()).send().await;
    assert_eq!(arrived(&good, "x-caller"), ["order-service"]);
    let mut other = scene.idp.claims();
    other["aud"] = json!("payment-service");
    refused(&get("/items").bearer(scene.idp.mint(other)).send().await, 401, "audience");
    assert_eq!(get("/health").send().await.status, 200);
    let line = envoy.wait_for_log("\"reason\":\"audience\"").await;
    assert!(line.contains("the token's audience does not include this service"), "{line}");
    let paths: Vec<String> = scene.service.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/items", "/health"]);
}

#[tokio::test]
async fn outbound_only_attaches_a_token() {
    let scene = Scene::start(Certificate::KeycloakExampleCom).await;
    let envoy = scene.run("outbound-only.yaml").await;
    envoy.wait_for_log(HAS_TOKEN).await;
    let to = |host: &str| client::get(envoy.url("outbound", "/items")).header("host", host);
    let answer = to("inventory-service").send().await;
    let token = arrived(&answer, "authorization")[0].clone();
    let (_, claims) = decode(token.strip_prefix("Bearer ").unwrap());
    assert_eq!((&claims["azp"], &claims["aud"]), (&json!("order-service"), &json!("inventory-service")));
    let answer = to("elsewhere").send().await;
    assert_eq!(arrived(&answer, "authorization"), Vec::<String>::new());
    assert_eq!(scene.idp.count(Endpoint::Token), 1, "the workers share it");
}

/// The authority is trusted, and the certificate is for another name.
#[tokio::test]
async fn a_provider_with_a_certificate_for_another_name_is_not_used() {
    let scene = Scene::start(Certificate::Localhost).await;
    let inbound = scene.run("inbound-only.yaml").await;
    let outbound = scene.run("outbound-only.yaml").await;
    let token = scene.idp.token();
    let requests = [
        (&inbound, client::get(inbound.url("inbound", "/items")).bearer(token), "jwks_unavailable"),
        (
            &outbound,
            client::get(outbound.url("outbound", "/items")).header("host", "inventory-service"),
            "outbound_token_unavailable",
        ),
    ];
    for (envoy, request, reason) in requests {
        for _ in 0..2 {
            refused(&request.send().await, 503, reason);
        }
        envoy.wait_for_log("metadata of issuer keycloak: unreachable").await;
        assert!(envoy.stat("cluster.keycloak.ssl.fail_verify_san").await > 0, "{}", envoy.logs());
    }
    assert_eq!((scene.service.count(), scene.idp.count(Endpoint::Discovery)), (0, 0));
    // It is the name alone: without that setting the same provider is used.
    let without = scene.run_edited("inbound-only.yaml", |tls| tls["auto_sni_san_validation"] = json!(false));
    let without = without.await;
    without.wait_for_log(HAS_KEYS).await;
    let request = client::get(without.url("inbound", "/items")).bearer(scene.idp.token());
    assert_eq!(request.send().await.status, 200);
}

/// The shell commands of the page, one after the other.
fn commands() -> String {
    let document = std::fs::read_to_string(repository().join("docs/tutorials/envoy-quickstart.md")).unwrap();
    let blocks = document.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    blocks.collect::<Vec<_>>().join("\n")
}

/// The page's ports, which others may use, become free ones.
struct Ports(Vec<(&'static str, u16)>);

impl Ports {
    fn free() -> Self {
        let bind = |page| (page, TcpListener::bind("127.0.0.1:0").unwrap());
        let free = ["3000", "8080", "9901", "9902", "10000"].map(bind);
        Self(free.iter().map(|(page, port)| (*page, port.local_addr().unwrap().port())).collect())
    }

    fn replace(&self, text: &str) -> String {
        // In two steps: a free port may contain another of the page's.
        let named =
            self.0.iter().fold(text.to_owned(), |text, (page, _)| text.replace(page, &format!("<{page}>")));
        self.0.iter().fold(named, |text, (page, own)| text.replace(&format!("<{page}>"), &own.to_string()))
    }
}

/// The commands of the quick start, word for word, but for the reader's own values and the ports.
#[tokio::test]
async fn the_quick_start_leads_to_both_directions_and_an_explained_refusal() {
    let idp = Idp::start().await;
    let front = with_tls(&idp, Certificate::Localhost).await;
    let issuer = format!("https://localhost:{}/realms/my-realm", front.port("provider"));
    idp.set_issuer(&issuer);
    let (folder, ports) = (tempfile::tempdir().unwrap(), Ports::free());
    for name in ["examples/envoy", "target"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink(envoy::module(), folder.path().join("target/m2m_auth.wasm")).unwrap();
    for name in ["examples/envoy/inbound-only.yaml", "examples/envoy/outbound-only.yaml"] {
        let example = std::fs::read_to_string(repository().join(name)).unwrap();
        std::fs::write(folder.path().join(name), ports.replace(&example)).unwrap();
    }
    let mut commands = ports.replace(&commands());
    for (theirs, ours) in [
        ("ISSUER=https://keycloak.example.com/realms/my-realm", format!("ISSUER={issuer}")),
        ("CLIENT_SECRET=change-me", "CLIENT_SECRET=order-secret".to_owned()),
        (
            "CA_FILE=/etc/ssl/certs/ca-certificates.crt",
            format!("CA_FILE={}", Certificate::Localhost.authority()),
        ),
    ] {
        assert_eq!(commands.matches(theirs).count(), 1, "{theirs}");
        commands = commands.replace(theirs, &ours);
    }
    let tool = Path::new(env!("CARGO_BIN_EXE_m2m-auth")).parent().unwrap();
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("set -u\ntrap 'kill $(jobs -p)' EXIT\n{commands}")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("ENVOY", envoy::binary())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(2), bash.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{printed}\n--- errors ---\n{errors}");
    let inventory = "[{\"sku\":\"A-1\",\"stock\":12}]";
    let mut rest = &*printed;
    for expected in [
        &format!("iss {issuer} aud inventory-service"),
        "inbound.yaml: m2m_auth: OK",
        "HTTP/1.1 401",
        "\"reason\":\"no_token\"",
        "HTTP/1.1 200",
        inventory,
        "keys of issuer keycloak: 1 usable",
        "HTTP/1.1 401",
        "\"reason\":\"audience\"",
        "\"event\":\"refused\"",
        "signature     ok",
        "audience      no",
        "refused: 401 Invalid token (audience)",
        "outbound.yaml: m2m_auth: OK",
        "HTTP/1.1 200",
        inventory,
        "HTTP/1.1 401",
        "\"reason\":\"no_token\"",
        "token of credential order-service: token acquired",
    ] {
        rest = rest.split_once(expected).unwrap_or_else(|| panic!("{expected}")).1;
    }
    assert!(!folder.path().join("target/quickstart").exists(), "cleaned up");
}
