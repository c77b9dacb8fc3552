//! What is only on the page of Kubernetes: tokens in files, which Envoy attaches without this
//! filter.

use super::Page;
use crate::envoy::scene::arrived;
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The folder with Envoy's own files, on the page.
const FOLDER: &str = "/etc/envoy/";

/// The address of the service, on the page.
const SERVICE: &str = "orders.shop.svc:8080";

/// The cluster, whose files are in Envoy's directory.
pub(super) fn with_local_files(cluster: &Value) -> Value {
    serde_json::from_str(&cluster.to_string().replace(FOLDER, "DIRECTORY/")).unwrap()
}

/// The secrets of the page, as files of that directory: each is named as its secret.
pub(super) fn files(page: &Page) -> Vec<(String, String)> {
    let file = |mut block: Value| {
        let name = block["resources"][0]["name"].as_str().unwrap().to_owned();
        block["resources"][0]["generic_secret"]["secret"] = json!({ "inline_string": "api-server-token" });
        (format!("{name}.yaml"), block.to_string())
    };
    secrets(page).into_iter().map(file).collect()
}

/// What is replaced here, beside the clusters' addresses and CA.
pub(super) fn replaced(page: &Page) -> Vec<String> {
    let file = |block: &Value| {
        block["resources"][0]["generic_secret"]["secret"]["filename"].as_str().map(str::to_owned)
    };
    let files: Vec<String> = secrets(page).iter().filter_map(file).collect();
    if files.is_empty() { files } else { [files, vec![FOLDER.to_owned(), SERVICE.to_owned()]].concat() }
}

fn secrets(page: &Page) -> Vec<Value> {
    let parse = |block: &str| serde_norway::from_str::<Value>(block).unwrap();
    page.blocks("yaml").into_iter().map(parse).filter(|block| block.get("resources").is_some()).collect()
}

/// The caller's Envoy attaches the token of the file, and the next one after the kubelet has
/// replaced it.
pub(super) async fn attaches(page: &Page, service: &Upstream) {
    let mounted = tempfile::tempdir().unwrap();
    let token = mounted.path().join("orders-api");
    put(mounted.path(), "1", "first-token");
    symlink("..data/orders-api", &token).unwrap();
    let cluster = page.clusters().into_iter().find(|cluster| cluster["name"] == "orders").unwrap();
    let mut cluster = with_local_files(&cluster);
    let at =
        cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
    let (at, address) = (at.unwrap(), service.address());
    assert_eq!(format!("{}:{}", at["address"].as_str().unwrap(), at["port_value"]), SERVICE);
    *at = json!({ "address": address.ip().to_string(), "port_value": address.port() });
    let secret =
        secrets(page).into_iter().find(|block| block["resources"][0]["name"] == "orders-api").unwrap();
    let path = secret["resources"][0]["generic_secret"]["secret"]["filename"].as_str().unwrap().to_owned();
    let secret = secret.to_string().replace(&path, token.to_str().unwrap());
    let listener = envoy::listener("caller", vec![], envoy::route_to("orders"));
    let builder = Envoy::builder().cluster(cluster).listener(listener).file("orders-api.yaml", &secret);
    let envoy = builder.start().await.unwrap();
    let attached =
        async || arrived(&client::get(envoy.url("caller", "/orders")).send().await, "authorization");
    assert_eq!(attached().await, ["Bearer first-token"]);
    put(mounted.path(), "2", "second-token");
    until("the next token is attached", async || (attached().await == ["Bearer second-token"]).then_some(()))
        .await;
}

/// As the kubelet does: a folder with the new files, to which the link `..data` leads from then on.
fn put(mounted: &Path, version: &str, token: &str) {
    fs::create_dir(mounted.join(version)).unwrap();
    fs::write(mounted.join(version).join("orders-api"), token).unwrap();
    symlink(version, mounted.join("..data_tmp")).unwrap();
    fs::rename(mounted.join("..data_tmp"), mounted.join("..data")).unwrap();
}
