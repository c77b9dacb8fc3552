//! Tokens that are bound to the client's certificate (RFC 8705 section 3), on real Envoy: a second
//! listener is the client, once with the certificate and once without.

use crate::envoy::scene::{Scene, builder, inbound, wasm};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use tokio::net::TcpSocket;

/// Test certificates, valid for a hundred years.
const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");

fn file(name: &str) -> Value {
    json!({ "filename": format!("{TLS}/{name}") })
}

fn typed(name: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{name}"));
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": config })
}

/// SHA-256 of the client's certificate.
fn digest() -> [u8; 32] {
    let pem = std::fs::read_to_string(format!("{TLS}/client.pem")).unwrap();
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----END")).collect();
    Sha256::digest(STANDARD.decode(body).unwrap()).into()
}

fn hex(digest: [u8; 32]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bound_to(idp: &Idp, digest: [u8; 32]) -> String {
    let mut claims = idp.claims();
    claims["cnf"] = json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(digest) });
    idp.mint(claims)
}

/// The filter on a listener that asks for a certificate, and two clients of it.
async fn scene(bound: Value) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut configuration = inbound(&idp);
    configuration["inbound"]["rules"][0]["require"]["token_binding"] = bound;
    let mut listener =
        envoy::listener("main", vec![wasm(&configuration).filter()], envoy::route_to("service"));
    let own = json!([{ "certificate_chain": file("server.pem"), "private_key": file("server.key") }]);
    let asked = json!({ "tls_certificates": own, "validation_context": { "trusted_ca": file("ca.pem") } });
    listener["filter_chains"][0]["transport_socket"] =
        typed("DownstreamTlsContext", json!({ "common_tls_context": asked }));
    listener["filter_chains"][0]["filters"][0]["typed_config"]["forward_client_cert_details"] =
        json!("SANITIZE_SET");
    // The socket keeps the port for Envoy, which shares it as it shares its own among its workers.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.set_reuseport(true).unwrap();
    reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = reserved.local_addr().unwrap().port();
    listener["address"]["socket_address"]["port_value"] = json!(port);
    let caller = |name: &str, certificate: bool| {
        let mut context = json!({ "validation_context": { "trusted_ca": file("ca.pem") } });
        if certificate {
            let pair = json!({ "certificate_chain": file("client.pem"), "private_key": file("client.key") });
            context["tls_certificates"] = json!([pair]);
        }
        let mut cluster = envoy::cluster(name, ([127, 0, 0, 1], port).into());
        cluster["transport_socket"] =
            typed("UpstreamTlsContext", json!({ "sni": "localhost", "common_tls_context": context }));
        cluster
    };
    let builder = builder(&idp, &upstream)
        .cluster(caller("with", true))
        .cluster(caller("without", false))
        .listener(listener)
        .listener(envoy::listener("with", vec![], envoy::route_to("with")))
        .listener(envoy::listener("without", vec![], envoy::route_to("without")));
    let scene = Scene::of(idp, upstream, builder).await;
    drop(reserved);
    scene
}

async fn call(scene: &Scene, client: &str, token: &str) -> Response {
    client::get(scene.envoy.url(client, "/inventory/items")).bearer(token).send().await
}

fn refused_as_bound(answer: &Response) {
    assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("binding_mismatch")), "{answer:?}");
}

#[tokio::test]
async fn a_bound_token_is_good_only_with_its_certificate() {
    let scene = scene(json!("mtls")).await;
    let (own, others) = (bound_to(&scene.idp, digest()), bound_to(&scene.idp, [7; 32]));
    let answer = call(&scene, "with", &own).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", scene.envoy.logs());
    refused_as_bound(&call(&scene, "without", &own).await);
    refused_as_bound(&call(&scene, "with", &others).await);
    refused_as_bound(&call(&scene, "with", &scene.idp.token()).await);
    assert_eq!(call(&scene, "with", &own).await.status, 200, "also when it is known");
    refused_as_bound(&call(&scene, "without", &own).await);
    // The header means nothing where it is not asked for.
    let header = format!("Hash={}", hex(digest()));
    let request = client::get(scene.envoy.url("without", "/inventory/items"));
    refused_as_bound(&request.header("x-forwarded-client-cert", header).bearer(&own).send().await);
}

#[tokio::test]
async fn where_it_is_optional_a_token_that_is_not_bound_is_taken_and_a_bound_one_is_still_checked() {
    let scene = scene(json!({ "mtls": true, "optional": true })).await;
    let own = bound_to(&scene.idp, digest());
    assert_eq!(call(&scene, "without", &scene.idp.token()).await.status, 200);
    assert_eq!(call(&scene, "with", &own).await.status, 200);
    refused_as_bound(&call(&scene, "without", &own).await);
}

#[tokio::test]
async fn behind_a_proxy_that_says_who_came_what_it_says_counts() {
    let scene = scene(json!({ "danger_xfcc": true })).await;
    let own = bound_to(&scene.idp, digest());
    let answer = call(&scene, "with", &own).await;
    assert_eq!(answer.status, 200, "Envoy says it of its own connection: {answer:?}");
    refused_as_bound(&call(&scene, "with", &bound_to(&scene.idp, [7; 32])).await);
    refused_as_bound(&call(&scene, "without", &own).await);
    let header = format!("Hash={}", hex(digest()));
    let request = client::get(scene.envoy.url("without", "/inventory/items")).bearer(&own);
    // `SANITIZE_SET` takes it away: that is what makes the header worth anything.
    refused_as_bound(&request.header("x-forwarded-client-cert", header).send().await);
}
