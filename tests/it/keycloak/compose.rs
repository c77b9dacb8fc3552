//! `examples/compose/docker-compose.yaml` without containers: the same Envoy configurations, the
//! same Prometheus configuration and the same `verify.sh`, against processes that this test starts.
//! Only addresses are others, and that is asserted.

use m2m_auth_kit::envoy::{Builder, Envoy};
use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::tools::{prometheus, tied_to_us};
use m2m_auth_kit::{Value, json, repository};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

/// Where the names of the compose file's network are on this machine.
#[derive(Clone)]
struct Addresses(BTreeMap<String, SocketAddr>);

impl Addresses {
    fn of(&self, host: &str, port: u64) -> SocketAddr {
        let name = format!("{host}:{port}");
        *self.0.get(&name).unwrap_or_else(|| panic!("the configuration names {name}, there is {:?}", self.0))
    }

    fn add(&mut self, name: &str, address: &str) {
        self.0.insert(name.to_owned(), address.parse().unwrap());
    }

    /// The configuration with its addresses on this machine.
    fn settle(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match name.as_str() {
                        "socket_address" => self.address(value),
                        "issuer" if value.is_string() => {
                            let here = format!("http://{}/", self.of("keycloak", 8080));
                            *value = json!(value.as_str().unwrap().replace("http://keycloak:8080/", &here));
                        }
                        "filename" => {
                            assert_eq!(value, "/etc/envoy/m2m_auth.wasm");
                            *value = json!(m2m_auth_kit::module());
                        }
                        _ => self.settle(value),
                    }
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.settle(element)),
            _ => {}
        }
    }

    fn address(&self, value: &mut Value) {
        let (host, port) = (value["address"].as_str().unwrap(), value["port_value"].as_u64().unwrap());
        // Listeners on every address are moved to loopback, on a port of Envoy's choice.
        let here = if host == "0.0.0.0" { "127.0.0.1:0".parse().unwrap() } else { self.of(host, port) };
        value["address"] = json!(here.ip().to_string());
        value["port_value"] = json!(here.port());
    }
}

/// The paths at which two values differ.
fn differences(one: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (name, value) in one {
                differences(value, &other[name], &format!("{path}/{name}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(one, other, &format!("{path}/{index}"), found);
            }
        }
        _ if one == other => {}
        _ => found.push(path.to_owned()),
    }
}

fn yaml(file: &str) -> Value {
    serde_norway::from_str(&fs::read_to_string(repository().join("examples/compose").join(file)).unwrap())
        .unwrap()
}

/// Starts an Envoy of the compose file, with the environment that the file gives it.
async fn start(compose: &Value, name: &str, addresses: &Addresses) -> Envoy {
    let service = &compose["services"][name];
    let mount = service["volumes"][0].as_str().unwrap();
    let file = mount.strip_prefix("./").unwrap().strip_suffix(":/etc/envoy/envoy.yaml:ro").unwrap();
    let written = yaml(file);
    let mut here = written.clone();
    let mut addresses = addresses.clone();
    if here.get("admin").is_some() {
        addresses.0.insert("127.0.0.1:9901".to_owned(), free());
    }
    addresses.settle(&mut here);
    let mut changed = Vec::new();
    differences(&written, &here, "", &mut changed);
    assert!(!changed.is_empty());
    for path in changed {
        let kinds = [
            "socket_address/address",
            "socket_address/port_value",
            "/issuers/keycloak/issuer",
            "/code/local/filename",
        ];
        assert!(kinds.iter().any(|kind| path.ends_with(kind)), "{file}: {path} is no address");
    }
    let mut builder: Builder = Envoy::builder().static_listeners();
    for listener in here["static_resources"]["listeners"].as_array().unwrap() {
        builder = builder.listener(listener.clone());
    }
    for (name, value) in service["environment"].as_object().into_iter().flatten() {
        builder = builder.env(name, &default_of(value.as_str().unwrap()));
    }
    // The service's own configuration has no admin interface, which the kit looks at.
    let builder = builder.bootstrap(move |bootstrap| {
        let admin = bootstrap["admin"].clone();
        *bootstrap = here;
        bootstrap.as_object_mut().unwrap().entry("admin").or_insert(admin);
    });
    builder.start().await.unwrap()
}

/// What a variable of the compose file is where it is not set outside.
fn default_of(value: &str) -> String {
    let default = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')?.split_once(":-"));
    default.map_or(value, |(_, default)| default).to_owned()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Prometheus with the configuration of the compose file; its targets are those here.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(addresses: &Addresses) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = repository().join("envoy/prometheus");
        let written = fs::read_to_string(own.join("prometheus.yml")).unwrap();
        let mut here = written.clone();
        for (name, address) in addresses.0.iter().filter(|(name, _)| written.contains(name.as_str())) {
            here = here.replace(name, &address.to_string());
        }
        assert_eq!(here.matches("127.0.0.1:").count(), 3, "three targets, and nothing else");
        fs::write(folder.path().join("prometheus.yml"), here).unwrap();
        fs::copy(own.join("alerts.yml"), folder.path().join("alerts.yml")).unwrap();
        let address = free();
        let process = tied_to_us(&prometheus())
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, address, _folder: folder }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everything of the compose file that can run here.
struct Story {
    keycloak: Keycloak,
    envoys: BTreeMap<&'static str, Envoy>,
    prometheus: Prometheus,
    services: Vec<Envoy>,
}

impl Story {
    async fn start() -> Self {
        let compose = yaml("docker-compose.yaml");
        let keycloak = Keycloak::start().await;
        let mut addresses = Addresses(BTreeMap::new());
        addresses.add("keycloak:8080", &keycloak.address().to_string());
        let mut services = Vec::new();
        for name in ["order-service", "inventory-service", "payment-service"] {
            let service = start(&compose, name, &addresses).await;
            addresses.add(&format!("{name}:8080"), &service.address("service"));
            services.push(service);
        }
        // Each after the services that it calls.
        let mut envoys = BTreeMap::new();
        for (name, ingress, metrics) in
            [("payment-envoy", 10003, 9904), ("inventory-envoy", 10001, 9903), ("order-envoy", 10004, 9902)]
        {
            let envoy = start(&compose, name, &addresses).await;
            addresses.add(&format!("{name}:{ingress}"), &envoy.address("ingress"));
            addresses.add(&format!("{name}:{metrics}"), &envoy.address("metrics"));
            envoys.insert(name, envoy);
        }
        let prometheus = Prometheus::start(&addresses);
        Self { keycloak, envoys, prometheus, services }
    }

    /// Runs the script as it is, against what runs here.
    async fn verify(&self, changes: &[(&str, &str)]) -> Output {
        let at = |envoy: &str, listener: &str| self.envoys[envoy].url(listener, "");
        let mut command = Command::new(repository().join("examples/compose/verify.sh"));
        command
            .env("KEYCLOAK", format!("http://{}", self.keycloak.address()))
            .env("ORDER_EGRESS", at("order-envoy", "egress"))
            .env("ORDER_INGRESS", at("order-envoy", "ingress"))
            .env("ORDER_METRICS", at("order-envoy", "metrics"))
            .env("INVENTORY_INGRESS", at("inventory-envoy", "ingress"))
            .env("INVENTORY_EGRESS", at("inventory-envoy", "egress"))
            .env("INVENTORY_METRICS", at("inventory-envoy", "metrics"))
            .env("PAYMENT_INGRESS", at("payment-envoy", "ingress"))
            .env("PAYMENT_METRICS", at("payment-envoy", "metrics"))
            .env("PROMETHEUS", format!("http://{}", self.prometheus.address))
            .env("GRAFANA", "")
            .envs(changes.iter().copied());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_sh_walks_the_whole_story_and_ends_at_the_first_wrong_answer() {
    let story = Story::start().await;
    let output = story.verify(&[]).await;
    let printed = said(&output);
    println!("{printed}");
    assert!(output.status.success(), "{printed}");
    assert!(printed.ends_with("12 steps, each as it should be.\n"), "{printed}");

    // It stops with an error where the inbound filter is missing, and where a caller has no token.
    let service = story.services[1].url("service", "");
    for (changes, step) in [
        ([("INVENTORY_INGRESS", service.as_str()), ("PROMETHEUS", "")], 3),
        ([("ORDER_EGRESS", service.as_str()), ("PROMETHEUS", "")], 2),
        ([("ORDER_SERVICE_SECRET", "wrong"), ("PROMETHEUS", "")], 4),
    ] {
        let output = story.verify(&changes).await;
        let printed = said(&output);
        assert_eq!(output.status.code(), Some(1), "{changes:?}\n{printed}");
        assert!(printed.contains("^^^ wrong: "), "{changes:?}\n{printed}");
        assert!(
            printed.contains(&format!("\n{step:2}. ")) && !printed.contains(&format!("\n{:2}. ", step + 1)),
            "{printed}"
        );
    }
}
