//! `docs/how-to/upgrade.md`.

use super::harness::{ISSUER, Page, matches, parsed};
use crate::envoy::scene::{HAS_TOKEN, VMS, gated, held, send};
use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Builder, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::load::{Load, Report, Running};
use m2m_auth_kit::repository;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Where the page has the files that Envoy watches, and the module.
const DYNAMIC: &str = "/etc/envoy/dynamic";
const MODULES: &str = "/etc/envoy/m2m_auth";

fn page() -> Page {
    Page::read("docs/how-to/upgrade.md")
}

/// The page's Envoy, with what it watches in a folder of the test.
struct Scene {
    idp: Idp,
    service: Upstream,
    envoy: Envoy,
    folder: TempDir,
}

impl Scene {
    /// The listener comes from the file of the page, `listeners.yaml`.
    async fn lds(drain_seconds: u64, arguments: &[&str]) -> Self {
        let lds = parsed(page().yaml("lds_config:"));
        Self::start(drain_seconds, arguments, |folder, bootstrap| {
            let static_resources = bootstrap["static_resources"].as_object_mut().unwrap();
            let listener = parsed(page().yaml("envoy.config.listener.v3.Listener"))["resources"][0].clone();
            let example = static_resources.remove("listeners").unwrap()[0].clone();
            assert_eq!(
                without_file(&example),
                without_file(&listener),
                "the page's listener is the example's"
            );
            for member in ["node", "dynamic_resources"] {
                bootstrap[member] = lds[member].clone();
            }
            write(folder, "listeners.yaml", page().yaml("envoy.config.listener.v3.Listener"));
        })
        .await
    }

    /// The listener is that of the example, and the filter comes from `m2m_auth.yaml`.
    async fn ecds() -> Self {
        Self::start(30, &[], |folder, bootstrap| {
            let listener = &mut bootstrap["static_resources"]["listeners"][0];
            listener["address"]["socket_address"]["port_value"] = json!(0);
            let manager = envoy::manager_mut(listener);
            let filter = parsed(page().yaml("config_discovery:"))[0].clone();
            let before = std::mem::replace(&mut manager["http_filters"][0], filter);
            let resource = page().yaml("TypedExtensionConfig").to_owned();
            let own = parsed(&resource)["resources"][0]["typed_config"].clone();
            assert_eq!(without_file(&own), without_file(&before["typed_config"]), "the same filter");
            bootstrap["node"] = json!({ "id": "order-service", "cluster": "order-service" });
            write(folder, "m2m_auth.yaml", &resource);
        })
        .await
    }

    async fn start(drain_seconds: u64, arguments: &[&str], edit: impl FnOnce(&Path, &mut Value)) -> Self {
        let (idp, service) = (Idp::start().await, Upstream::start().await);
        idp.set_issuer(ISSUER);
        let folder = tempfile::tempdir().unwrap();
        let module = std::fs::read(envoy::module()).unwrap();
        std::fs::write(folder.path().join("m2m_auth-0.1.0.wasm"), &module).unwrap();
        // Another module for Envoy, with the same behaviour: it has one custom section more.
        let section = b"\0\x05\x03new!".to_vec();
        std::fs::write(folder.path().join("m2m_auth-0.2.0.wasm"), [module, section].concat()).unwrap();
        let example =
            std::fs::read_to_string(repository().join("examples/envoy/outbound-only.yaml")).unwrap();
        let mut bootstrap = parsed(&example);
        edit(folder.path(), &mut bootstrap);
        bootstrap["admin"]["address"]["socket_address"]["port_value"] = json!(0);
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        for (cluster, address) in clusters.iter_mut().zip([idp.address(), service.address()]) {
            let path = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
            *cluster.pointer_mut(path).unwrap() =
                json!({ "address": address.ip().to_string(), "port_value": address.port() });
            cluster.as_object_mut().unwrap().remove("transport_socket");
        }
        let bootstrap = parsed(&here(folder.path(), &bootstrap.to_string()));
        let mut builder: Builder = Envoy::builder()
            .env("ORDER_SERVICE_SECRET", "order-secret")
            .drain_seconds(drain_seconds)
            .bootstrap(move |own| *own = bootstrap);
        for argument in arguments {
            builder = builder.argument(*argument);
        }
        let envoy = builder.start().await.unwrap();
        let scene = Self { idp, service, envoy, folder };
        scene.port().await;
        scene
    }

    /// The port of the listener at present.
    async fn port(&self) -> u64 {
        until("Envoy listens", async || {
            let listeners: Value =
                serde_json::from_str(&self.envoy.admin_get("/listeners?format=json").await).ok()?;
            listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"].as_u64()
        })
        .await
    }

    /// A request for the service.
    async fn items(&self) -> Request {
        client::get(format!("http://127.0.0.1:{}/items", self.port().await))
            .header("host", "inventory-service")
    }

    /// Requests at a steady rate, until the test has finished.
    async fn load(&self) -> Running {
        let request = self.items().await;
        Load::of(request).connections(8).rate(100.0).start()
    }

    /// Each request got 200, and reached the service with a token.
    fn all_attached(&self, report: &Report) {
        assert!(report.only(200) && report.failures.is_empty(), "{report}\n{}", self.envoy.logs());
        for request in self.service.requests() {
            assert!(request.header("authorization").is_some_and(|value| value.starts_with("Bearer ey")));
        }
    }

    /// Waits until each VM has logged that often that it has the token.
    async fn tokens(&self, count: usize) {
        let what = format!("{count} VMs have the token");
        until(&what, async || (self.envoy.logs().matches(HAS_TOKEN).count() >= count).then_some(())).await;
    }

    /// Runs the commands of a `console` block of the page, and compares what they print. A command
    /// that reads counters is repeated until it prints that.
    async fn play(&self, block: &str) {
        let admin = self.envoy.admin_address().to_owned();
        for part in block.split("$ ").skip(1) {
            let (command, expected) = part.split_once('\n').unwrap();
            let port = format!("127.0.0.1:{}", self.port().await);
            let own = here(self.folder.path(), command);
            let own = own.replace("127.0.0.1:9902", &admin).replace("127.0.0.1:10000", &port);
            until(&format!("{command} prints {expected}"), async || {
                let mut bash = Command::new("bash");
                let tool = PathBuf::from(env!("CARGO_BIN_EXE_m2m-auth"));
                let path = format!("{}:{}", tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
                let output =
                    bash.args(["-c", &own]).current_dir(self.folder.path()).env("PATH", path).output();
                let output = output.unwrap();
                let printed =
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\r', "");
                let fits = matches(expected.trim(), printed.trim());
                assert!(
                    fits || command.contains("/stats"),
                    "$ {command}\n{printed}\n--- expected\n{expected}"
                );
                fits.then_some(())
            })
            .await;
        }
    }

    /// Replaces a file by a rename, and waits until that counter has increased.
    async fn deliver(&self, name: &str, text: &str, counter: &str) {
        let before = self.envoy.stat(counter).await;
        write(self.folder.path(), name, text);
        self.envoy.wait_for_stat(counter, |count| count > before).await;
    }
}

/// The page's paths, in the folder of the test.
fn here(folder: &Path, text: &str) -> String {
    let own = folder.to_str().unwrap();
    text.replace(DYNAMIC, own).replace(MODULES, &format!("{own}/m2m_auth"))
}

/// One file, old or new at any moment. Its port is a free one.
fn write(folder: &Path, name: &str, text: &str) {
    let text = here(folder, text).replace("port_value: 10000", "port_value: 0");
    std::fs::write(folder.join("written.new"), text).unwrap();
    std::fs::rename(folder.join("written.new"), folder.join(name)).unwrap();
}

/// Without the name of the module's file, and without `@type` of a resource.
fn without_file(value: &Value) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove("@type");
    let text = value.to_string().replace("m2m_auth-0.1.0.wasm", "m2m_auth.wasm");
    parsed(&text)
}

const REJECTED: &str = "listener_manager.lds.update_rejected";
const ECDS: &str = "extension_config_discovery.http_filter.m2m_auth";

#[tokio::test]
async fn the_page_about_upgrades_changes_configuration_and_module_and_no_request_fails() {
    let (page, scene) = (page(), Scene::lds(30, &["--drain-strategy", "immediate"]).await);
    scene.tokens(VMS).await;
    let load = scene.load().await;
    for block in page.blocks("console") {
        load.proceed(50).await;
        scene.play(block).await;
    }
    load.proceed(50).await;
    scene.all_attached(&load.stop().await);
    let log = scene.envoy.logs();
    assert!(log.contains("outbound.credentials.order-service.scope: unknown, expected one of"), "{log}");
    // The next valid one is accepted, with the same module.
    let next = std::fs::read_to_string(scene.folder.path().join("listeners.yaml.old")).unwrap();
    let modified = "listener_manager.listener_modified";
    scene
        .deliver(
            "listeners.yaml",
            &next.replace("scopes: [inventory-api]", "auth_method: client_secret_post"),
            modified,
        )
        .await;
    until("the changed credential has a token of its own", async || {
        (scene.idp.count(Endpoint::Token) == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_page_about_upgrades_has_another_vm_id_fetch_again_while_requests_wait() {
    let scene = Scene::lds(30, &["--drain-strategy", "immediate"]).await;
    scene.tokens(VMS).await;
    let load = scene.load().await;
    load.proceed(50).await;
    let text =
        page().yaml("envoy.config.listener.v3.Listener").replace("vm_id: m2m_auth", "vm_id: m2m_auth_2");
    scene.deliver("listeners.yaml", &text, "listener_manager.listener_modified").await;
    scene.idp.wait_for(Endpoint::Token, 2).await;
    load.proceed(100).await;
    scene.all_attached(&load.stop().await);
    assert_eq!(scene.idp.count(Endpoint::Token), 2, "once for the process");
}

#[tokio::test]
async fn the_page_about_upgrades_completes_requests_that_wait_and_reads_no_file_of_the_same_name_again() {
    let (page, scene) = (page(), Scene::lds(30, &[]).await);
    let text = page.yaml("envoy.config.listener.v3.Listener");
    scene.tokens(VMS).await;
    // A credential without a token: requests wait for it.
    let gate = gated(&scene.idp, &[Endpoint::Token]);
    let waiting = text.replace("scopes: [inventory-api]", "auth_method: client_secret_post");
    scene.deliver("listeners.yaml", &waiting, "listener_manager.listener_modified").await;
    let request = scene.items().await;
    until("the new configuration is in force", async || {
        (scene.idp.count(Endpoint::Token) == 2).then_some(())
    })
    .await;
    let running: Vec<_> = (0..10).map(|_| send(request.clone())).collect();
    held(&scene.envoy, 10).await;
    scene.deliver("listeners.yaml", text, "listener_manager.listener_modified").await;
    assert_eq!(scene.items().await.send().await.status, 200, "the first credential still has its token");
    gate.open();
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The module's file now holds something else.
    std::fs::write(scene.folder.path().join("m2m_auth-0.1.0.wasm"), "no module").unwrap();
    scene.deliver("listeners.yaml", text, "listener_manager.lds.update_success").await;
    assert_eq!(scene.items().await.send().await.status, 200);
    assert_eq!(scene.envoy.stat(REJECTED).await, 0);
}

#[tokio::test]
async fn the_page_about_upgrades_cuts_off_what_runs_when_the_drain_time_ends() {
    let scene = Scene::lds(1, &[]).await;
    scene.tokens(VMS).await;
    scene.service.delay(Duration::from_secs(120));
    let request = scene.items().await;
    let running = tokio::spawn(async move { request.try_send().await });
    until("it has reached the service", async || (scene.service.count() == 1).then_some(())).await;
    let text = page()
        .yaml("envoy.config.listener.v3.Listener")
        .replace("scopes: [inventory-api]", "auth_method: client_secret_post");
    scene.deliver("listeners.yaml", &text, "listener_manager.listener_modified").await;
    let answer = running.await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn the_page_about_upgrades_replaces_the_filter_alone_and_connections_stay_open() {
    let (page, scene) = (page(), Scene::ecds().await);
    let text = page.yaml("TypedExtensionConfig").to_owned();
    scene.tokens(VMS).await;
    let load = scene.load().await;
    let counter = |name: &str| format!("{ECDS}.update_{name}");
    let shell = page.block("sh", "extension_config_discovery");
    assert!(shell.contains(&format!("{ECDS}.update_(success|rejected)")), "{shell}");
    for (change, outcome) in [
        (
            ("scopes: [inventory-api]", "scopes: [inventory-api]\n                  default_lifetime: 4m"),
            "success",
        ),
        (("scopes:", "scope:"), "rejected"),
        (("m2m_auth-0.1.0.wasm", "m2m_auth-0.2.0.wasm"), "success"),
        (("scopes:", "scopes:"), "success"),
    ] {
        load.proceed(50).await;
        scene.deliver("m2m_auth.yaml", &text.replace(change.0, change.1), &counter(outcome)).await;
    }
    load.proceed(100).await;
    let report = load.stop().await;
    scene.all_attached(&report);
    assert_eq!(report.reconnected, 0, "{report}");
    assert_eq!(scene.envoy.stat(&counter("rejected")).await, 1);
}
