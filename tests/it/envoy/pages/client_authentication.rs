//! `docs/how-to/client-authentication-and-rotation.md`.

use super::harness::{ISSUER, Page, Run, Setup, parsed};
use crate::envoy::scene::HAS_TOKEN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Idp};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::repository;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Where the page has the files that Envoy watches.
const SECRETS: &str = "/etc/envoy/secrets";

fn page() -> Page {
    Page::read("docs/how-to/client-authentication-and-rotation.md")
}

async fn scene() -> (Idp, Upstream) {
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    (idp, service)
}

/// The plugin's `vm_config` of `examples/envoy/outbound-only.yaml`.
fn vm_config(bootstrap: &mut Value) -> &mut Value {
    let plugin = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    bootstrap.pointer_mut(&format!("{plugin}/vm_config")).unwrap()
}

/// That example with this configuration, these variables, and these replacements in the text.
fn setup((idp, service): &(Idp, Upstream), filter: &str, environment: Option<&str>) -> Setup {
    let variables = environment.map(parsed);
    Setup::example("outbound-only.yaml")
        .filter(filter)
        .edit(move |bootstrap| {
            let vm = vm_config(bootstrap);
            match variables {
                Some(variables) => vm["environment_variables"] = variables["environment_variables"].clone(),
                None => _ = vm.as_object_mut().unwrap().remove("environment_variables"),
            }
        })
        .behind("keycloak", idp.address())
        .behind("inventory-service", service.address())
}

/// A rejected token is refreshed at once, so that the test need not wait for its refresh.
async fn reject_the_token(run: &Run, service: &Upstream) {
    service.answer_next(1, 401, &[]);
    assert_eq!(send(run).await, 401);
}

async fn send(run: &Run) -> u16 {
    run.get(10000, "/items").header("host", "inventory-service").send().await.status
}

#[tokio::test]
async fn the_page_about_client_authentication_sends_a_secret_in_each_of_three_ways() {
    let (page, scene) = (page(), scene().await);
    let basic = page.yaml("auth_method: client_secret_basic");
    for method in ["client_secret_basic", "client_secret_post", "client_secret_jwt"] {
        let filter = basic.replace("client_secret_basic ", &format!("{method} "));
        let run = setup(&scene, &filter, Some(page.yaml("host_env_keys: [ORDER_SERVICE_SECRET]")))
            .env("ORDER_SERVICE_SECRET", "order-secret")
            .start()
            .await;
        run.envoy.wait_for_log(HAS_TOKEN).await;
        assert_eq!(send(&run).await, 200, "{method}");
        let request = scene.0.last(Endpoint::Token);
        let sent = [
            request.header("authorization").is_some(),
            request.parameter("client_secret").is_some(),
            request.parameter("client_assertion").is_some(),
        ];
        assert_eq!(sent, ["basic", "post", "jwt"].map(|own| method.ends_with(own)), "{method}");
    }
}

#[tokio::test]
async fn the_page_about_client_authentication_rotates_a_secret_of_a_list() {
    let (page, scene) = (page(), scene().await);
    let filter = page.yaml("{ env: ORDER_SERVICE_SECRET_NEXT }");
    let environment = page.yaml("host_env_keys: [ORDER_SERVICE_SECRET, ORDER_SERVICE_SECRET_NEXT]");
    let mut run = setup(&scene, filter, Some(environment))
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .env("ORDER_SERVICE_SECRET_NEXT", "next-secret")
        .start()
        .await;
    run.play(page.block("console", "by secret 1 of 2")).await;
    assert_eq!(send(&run).await, 200);
    scene.0.set_secrets("order-service", &["next-secret"]);
    reject_the_token(&run, &scene.1).await;
    run.play(page.block("console", "by secret 2 of 2")).await;
    assert_eq!(send(&run).await, 200);
}

#[tokio::test]
async fn the_page_about_client_authentication_rotates_a_secret_with_sds() {
    let (page, scene) = (page(), scene().await);
    let (folder, injector) = (tempfile::tempdir().unwrap(), parsed(page.yaml("credential_injector.v3")));
    let here = folder.path().to_str().unwrap().to_owned();
    let file = page.yaml("generic_secret:");
    std::fs::write(folder.path().join("keycloak.yaml"), file).unwrap();
    let node = parsed(page.yaml("node: {"));
    let run = setup(&scene, page.yaml("auth_method: external"), None)
        .edit(|bootstrap| {
            bootstrap["node"] = node["node"].clone();
            let cluster = &mut bootstrap["static_resources"]["clusters"][0];
            assert_eq!(cluster["name"], "keycloak");
            let member = "typed_extension_protocol_options";
            cluster[member] = injector[member].clone();
            *bootstrap = parsed(&bootstrap.to_string().replace(SECRETS, &here));
        })
        .start()
        .await;
    run.envoy.wait_for_log(HAS_TOKEN).await;
    assert_eq!(send(&run).await, 200);
    let pair = || {
        let value = scene.0.last(Endpoint::Token).header("authorization").unwrap();
        String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
    };
    assert_eq!(pair(), "order-service:order-secret");

    scene.0.set_secrets("order-service", &["order-secret", "next-secret"]);
    let next =
        file.replace("b3JkZXItc2VydmljZTpvcmRlci1zZWNyZXQ=", &STANDARD.encode("order-service:next-secret"));
    std::fs::write(folder.path().join("keycloak.yaml.new"), next).unwrap();
    let command = page.block("sh", "mv ").trim().replace(SECRETS, &here);
    let updates = "sds.keycloak.update_success";
    let before = run.envoy.stat(updates).await;
    assert!(Command::new("bash").args(["-c", &command]).status().unwrap().success());
    run.envoy.wait_for_stat(updates, |count| count > before).await;
    reject_the_token(&run, &scene.1).await;
    until("the next token is requested with the new secret", async || {
        (pair() == "order-service:next-secret").then_some(())
    })
    .await;
    assert_eq!(send(&run).await, 200);
    assert!(scene.0.last(Endpoint::Token).parameter("client_id").is_none());
}

#[tokio::test]
async fn the_page_about_client_authentication_rotates_a_private_key() {
    let (page, scene) = (page(), scene().await);
    let keys = [Key::new(Alg::Es256), Key::new(Alg::Es256)];
    let environment = page.yaml("host_env_keys: [ORDER_SERVICE_KEY]");
    let start = |key: &Key| {
        setup(&scene, page.yaml("auth_method: private_key_jwt"), Some(environment))
            .env("ORDER_SERVICE_KEY", &key.private_pem())
            .start()
    };
    let register = |keys: &[Key]| {
        scene.0.change_client("order-service", |client| client.assertion_keys = keys.to_vec());
    };
    register(&keys[..1]);
    let mut old = start(&keys[0]).await;
    old.envoy.wait_for_log(HAS_TOKEN).await;
    register(&keys);
    let new = start(&keys[1]).await;
    new.envoy.wait_for_log(HAS_TOKEN).await;
    assert_eq!((send(&old).await, send(&new).await), (200, 200), "both work meanwhile");
    register(&keys[1..]);
    assert_eq!(send(&new).await, 200);
    // The commands make a key that can be registered.
    old.play(page.block("console", "openssl genpkey")).await;
    let public = std::fs::read_to_string(old.folder().join("public.pem")).unwrap();
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
}

/// A certificate that signs itself, and its key.
fn certificate(folder: &Path, name: &str) {
    let command = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
         -keyout {name}.key -out {name}.crt"
    );
    let made = Command::new("bash").args(["-c", &command]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The provider behind TLS; it requires one of these certificates, and is shown its subject.
async fn requiring(idp: &Idp, authorities: &Path) -> Envoy {
    let file = |name: &str| json!({ "filename": repository().join("tests/data/tls").join(name) });
    let pair = json!({ "certificate_chain": file("keycloak.example.com.pem"), "private_key": file("keycloak.example.com.key") });
    let mut listener = envoy::listener("provider", vec![], envoy::route_to("idp"));
    let manager = envoy::manager_mut(&mut listener);
    manager["forward_client_cert_details"] = json!("SANITIZE_SET");
    manager["set_current_client_cert_details"] = json!({ "subject": true });
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificates": [pair],
                "validation_context": { "trusted_ca": { "filename": authorities } },
            },
        },
    });
    // Each response ends its connection, so that the next one presents the certificate of then.
    manager_closes(&mut listener);
    Envoy::builder().cluster(envoy::cluster("idp", idp.address())).listener(listener).start().await.unwrap()
}

fn manager_closes(listener: &mut Value) {
    let options = json!({ "max_requests_per_connection": 1 });
    envoy::manager_mut(listener)["common_http_protocol_options"] = options;
}

fn at(cluster: &mut Value, address: SocketAddr) {
    let path = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    *cluster.pointer_mut(path).unwrap() =
        json!({ "address": address.ip().to_string(), "port_value": address.port() });
}

#[tokio::test]
async fn the_page_about_client_authentication_rotates_a_certificate_with_sds() {
    let (page, (idp, service)) = (page(), scene().await);
    let mut tls = ClientSpec::new("order-service", "never-sent");
    (tls.without_proof, tls.optional_scopes) = (true, [("inventory-api".to_owned(), vec![])].into());
    idp.client(tls);
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    certificate(folder.path(), "first");
    certificate(folder.path(), "second");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let both = folder.path().join("both.pem");
    std::fs::write(&both, read("first.crt") + &read("second.crt")).unwrap();
    let provider = requiring(&idp, &both).await;

    let watched = folder.path().join("watched");
    let present = |name: &str| {
        // As Kubernetes replaces a mounted secret: the files are behind a link that is renamed.
        let data = folder.path().join(format!("watched/{name}"));
        std::fs::create_dir_all(&data).unwrap();
        for (from, to) in [("crt", "tls.crt"), ("key", "tls.key")] {
            std::fs::copy(folder.path().join(format!("{name}.{from}")), data.join(to)).unwrap();
        }
        std::os::unix::fs::symlink(&data, watched.join("..new")).unwrap();
        std::fs::rename(watched.join("..new"), watched.join("..data")).unwrap();
    };
    present("first");
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), watched.join(name)).unwrap();
    }
    let secrets = format!("{here}/watched");
    std::fs::write(watched.join("client.yaml"), page.yaml("tls_certificate:").replace(SECRETS, &secrets))
        .unwrap();

    let example = std::fs::read_to_string(repository().join("examples/envoy/outbound-only.yaml")).unwrap();
    let mut bootstrap = parsed(&example);
    bootstrap["node"] = parsed(page.yaml("node: {"))["node"].clone();
    let listener = &mut bootstrap["static_resources"]["listeners"][0];
    listener["address"]["socket_address"]["port_value"] = json!(0);
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = json!(0);
    let vm = vm_config(&mut bootstrap);
    vm.as_object_mut().unwrap().remove("environment_variables");
    vm["code"]["local"]["filename"] = json!(envoy::module());
    let plugin = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    bootstrap.pointer_mut(plugin).unwrap()["configuration"]["value"] =
        parsed(page.yaml("auth_method: tls_client_auth"));
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    at(&mut clusters[0], provider.address("provider").parse().unwrap());
    at(&mut clusters[1], service.address());
    let authority = repository().join("tests/data/tls/keycloak.example.com.pem");
    let socket = page.yaml("UpstreamTlsContext").replace(SECRETS, &secrets);
    let socket = socket.replace("/etc/ssl/certs/ca-certificates.crt", authority.to_str().unwrap());
    clusters[0]["transport_socket"] = parsed(&socket)["transport_socket"].clone();
    let envoy = Envoy::builder().bootstrap(move |own| *own = bootstrap).start().await.unwrap();

    envoy.wait_for_log(HAS_TOKEN).await;
    let subject = || idp.last(Endpoint::Token).header("x-forwarded-client-cert").unwrap();
    assert!(subject().contains("CN=first"), "{}", subject());
    assert!(envoy.admin_get("/certs").await.contains("expiration_time"));
    assert_eq!(idp.last(Endpoint::Token).parameter("client_id").as_deref(), Some("order-service"));
    let updates = "cluster.keycloak.client_ssl_socket_factory.ssl_context_update_by_sds";
    page.block("sh", updates);
    let before = envoy.stat(updates).await;
    present("second");
    envoy.wait_for_stat(updates, |count| count > before).await;
    service.answer_next(1, 401, &[]);
    let request = client::get(envoy.url("outbound", "/items")).header("host", "inventory-service");
    assert_eq!(request.send().await.status, 401, "so that a token is requested");
    until("the new certificate is presented", async || subject().contains("CN=second").then_some(())).await;
    assert_eq!(request.send().await.status, 200);
}
