//! Later filters and the access log use the filter state that the filter sets:
//! `examples/envoy/filter-state.yaml`, as it is.

use crate::envoy::scene::{Scene, Shared, arrived, gated, patient, send};
use m2m_auth_kit::client::Request;
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::token::{SUBJECT, decode};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::sync::Arc;

static SCENE: Shared<Scene> = Shared::new();

async fn scene() -> Arc<Scene> {
    SCENE.get(async || start(Idp::start().await).await).await
}

/// The example, with a provider and a service of the test, on a port of Envoy's choice; patient,
/// and with rate limits that are not filled up again while a test runs.
async fn start(idp: Idp) -> Scene {
    let upstream = Upstream::start().await;
    let text = include_str!("../../../../examples/envoy/filter-state.yaml");
    let text = text
        .replace("target/m2m_auth.wasm", envoy::module().to_str().unwrap())
        .replace("http://keycloak:8080/realms/my-realm", &idp.issuer())
        .replace("fill_interval: 60s", "fill_interval: 86400s");
    let mut example: Value = serde_norway::from_str(&text).unwrap();
    let mut listener = example["static_resources"]["listeners"][0].take();
    listener["address"]["socket_address"] = json!({ "address": "127.0.0.1", "port_value": 0 });
    for filter in envoy::manager_mut(&mut listener)["http_filters"].as_array_mut().unwrap() {
        if let Some(own) = filter.pointer_mut("/typed_config/config/configuration/value") {
            *own = patient(own.take());
        }
    }
    let builder = Envoy::builder()
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("own-service", upstream.address()))
        .listener(listener);
    Scene::of(idp, upstream, builder).await
}

fn get(scene: &Scene, path: &str) -> Request {
    Request::new("GET", scene.envoy.url("inbound", path))
}

/// A token of that client, with these roles at the service.
fn token(scene: &Scene, client: &str, roles: &[&str]) -> String {
    let mut claims = scene.idp.claims();
    (claims["azp"], claims["client_id"]) = (json!(client), json!(client));
    claims["resource_access"]["inventory-service"]["roles"] = json!(roles);
    scene.idp.mint(claims)
}

/// What the access log says of the one request under that path.
async fn logged(scene: &Scene, path: &str) -> Value {
    let find = async || scene.envoy.access_log().into_iter().find(|entry| entry["path"] == path);
    until(&format!("{path} in the access log"), find).await
}

#[tokio::test]
async fn the_access_log_names_the_admitted_caller_and_the_rule() {
    let scene = scene().await;
    let token = token(&scene, "shop", &["inventory:read"]);
    assert_eq!(get(&scene, "/inventory/items").bearer(token).send().await.status, 200);
    let entry = logged(&scene, "/inventory/items").await;
    let all = ["decision", "reason", "rule", "subject", "client"].map(|name| entry[name].clone());
    assert_eq!(all, [json!("allowed"), json!(null), json!("inventory"), json!(SUBJECT), json!("shop")]);
}

#[tokio::test]
async fn the_access_log_says_why_a_request_was_refused() {
    let scene = scene().await;
    let mut claims = scene.idp.claims();
    claims["aud"] = json!("another");
    let another = scene.idp.mint(claims);
    for (path, token, status, reason, rule) in [
        ("/inventory/none", None, 401, "no_token", json!("inventory")),
        ("/inventory/another", Some(another.as_str()), 401, "audience", json!("inventory")),
        ("/elsewhere", Some(another.as_str()), 403, "no_rule", json!(null)),
    ] {
        let request = get(&scene, path);
        let request = token.into_iter().fold(request, Request::bearer);
        assert_eq!(request.send().await.status, status, "{path}");
        let entry = logged(&scene, path).await;
        let all = ["decision", "reason", "rule"].map(|name| entry[name].clone());
        assert_eq!(all, [json!("refused"), json!(reason), rule], "{path}");
    }
}

#[tokio::test]
async fn rbac_goes_by_the_roles_that_the_filter_found() {
    let scene = scene().await;
    // Similar names are not the role: of another client, part of a name, of the realm, or in a name
    // with a comma.
    let forged = [
        &["inventory:read"][..],
        &["xinventory:admin"],
        &["inventory:admin2", "inventory:admi"],
        &["a,inventory-service/inventory:admin,b"],
    ];
    for (number, roles) in forged.into_iter().enumerate() {
        let path = format!("/inventory/admin/{number}");
        let answer = get(&scene, &path).bearer(token(&scene, &format!("rbac-{number}"), roles)).send().await;
        assert_eq!((answer.status, answer.text().as_str()), (403, "RBAC: access denied"), "{roles:?}");
        let entry = logged(&scene, &path).await;
        assert_eq!(entry["decision"], "allowed", "it was not this filter that refused");
    }
    let mut claims = scene.idp.claims();
    claims["realm_access"] = json!({ "roles": ["inventory-service/inventory:admin"] });
    claims["resource_access"]["other"] = json!({ "roles": ["inventory:admin"] });
    let answer = get(&scene, "/inventory/admin").bearer(scene.idp.mint(claims)).send().await;
    assert_eq!(answer.status, 403);
    for roles in [&["inventory:admin"][..], &["inventory:read", "inventory:admin", "z"]] {
        let answer =
            get(&scene, "/inventory/admin/items").bearer(token(&scene, "administrator", roles)).send().await;
        assert_eq!(answer.status, 200, "{roles:?}: {answer:?}");
    }
}

#[tokio::test]
async fn each_client_has_a_rate_limit_of_its_own() {
    let scene = scene().await;
    for (client, limit) in [("limited-a", 20), ("reporting", 5), ("limited-b", 20)] {
        let request = get(&scene, "/inventory/limited").bearer(token(&scene, client, &["inventory:read"]));
        let mut good = 0;
        for _ in 0..limit + 5 {
            // A caller that claims another name is counted under its own.
            match request.clone().header("x-client", "limited-c").send().await.status {
                200 => good += 1,
                status => assert_eq!(status, 429),
            }
        }
        assert_eq!(good, limit, "{client}");
    }
}

#[tokio::test]
async fn the_service_gets_the_payload_that_was_verified() {
    let scene = scene().await;
    let token = token(&scene, "payload", &["inventory:read", "ü"]);
    let answer = get(&scene, "/inventory/payload")
        .header("X-Jwt-Payload", "e30")
        .header("x-jwt-payload", "e30")
        .header("x_jwt_payload", "e30")
        .bearer(&token)
        .send()
        .await;
    let [payload] = arrived(&answer, "x-jwt-payload").try_into().unwrap();
    assert_eq!(payload, token.split('.').nth(1).unwrap());
    let (_, claims) = decode(&format!("e30.{payload}.x"));
    assert_eq!(claims["azp"], "payload");
    assert!(arrived(&answer, "x_jwt_payload").is_empty(), "a server may take it for ours");
}

#[tokio::test]
async fn a_request_that_had_to_wait_is_reported_too() {
    let idp = Idp::start().await;
    let gate = gated(&idp, &[Endpoint::Keys]);
    let scene = start(idp).await;
    let role = ["inventory:admin"];
    let held = get(&scene, "/inventory/admin/held").bearer(token(&scene, "early", &role));
    let refused = get(&scene, "/inventory/held").bearer(token(&scene, "early", &role) + "AA");
    let (held, refused) = (send(held), send(refused));
    scene.held(2).await;
    gate.open();
    assert_eq!((held.await.unwrap().status, refused.await.unwrap().status), (200, 401));
    assert_eq!(logged(&scene, "/inventory/admin/held").await["client"], "early");
    assert_eq!(logged(&scene, "/inventory/held").await["reason"], "signature");
}
