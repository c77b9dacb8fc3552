//! Provisioning: Keycloak's own SCIM endpoint (RFC 7644) as one more outbound route. The caller
//! knows nothing of the token.

use crate::sidecar::{credential, every_request};
use m2m_auth_kit::client::{self, Request, Response};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::json;
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::token;

/// An Envoy that sends every request to Keycloak, with a token of that client.
async fn sidecar(realm: &Keycloak, client: &str, scopes: &[&str]) -> Envoy {
    let mut credential = credential(client);
    if !scopes.is_empty() {
        credential["scopes"] = json!(scopes);
    }
    let filter = Wasm::new(&every_request(realm, &credential)).filter();
    Envoy::builder()
        .cluster(envoy::cluster("keycloak", realm.address()))
        .listener(envoy::listener("scim", vec![filter], envoy::route_to("keycloak")))
        .start()
        .await
        .unwrap()
}

/// A plain request to the realm's SCIM endpoint, through that Envoy.
fn scim(envoy: &Envoy, realm: &Keycloak, method: &str, path: &str) -> Request {
    let url = format!("{}{path}", realm.scim());
    let target = url.strip_prefix(&format!("http://{}", realm.address())).unwrap();
    Request::new(method, envoy.url("scim", target)).header("host", realm.address().to_string())
}

#[tokio::test]
async fn an_outbound_route_creates_a_user_and_reads_it() {
    let realm = Keycloak::start().await.realm("scim").await;
    let envoy = sidecar(&realm, "provisioning-service", &["scim-api"]).await;
    let ada = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ada",
        "name": { "givenName": "Ada", "familyName": "Lovelace" },
        "emails": [{ "value": "ada@example.com", "primary": true }],
        "active": true,
    });
    let post = scim(&envoy, &realm, "POST", "/Users").header("content-type", "application/scim+json");
    let made = post.body(ada.to_string()).send().await;
    assert_eq!(made.status, 201, "{}\n{}", made.text(), envoy.logs());
    let id = made.json()["id"].as_str().unwrap().to_owned();

    let read = scim(&envoy, &realm, "GET", &format!("/Users/{id}")).send().await;
    assert_eq!(read.status, 200, "{}", read.text());
    assert_eq!(
        (&read.json()["userName"], &read.json()["emails"][0]["value"]),
        (&json!("ada"), &ada["emails"][0]["value"])
    );
    let found = scim(&envoy, &realm, "GET", "/Users?filter=userName%20eq%20%22ada%22").send().await;
    assert_eq!(found.json()["totalResults"], 1, "{}", found.text());
    // Keycloak's administration knows it too.
    let users = realm.admin("GET", "users?username=ada&exact=true", None).await;
    assert_eq!(users[0]["id"], json!(id));
    assert!(!envoy.logs().contains("eyJ"));
}

#[tokio::test]
async fn a_token_without_the_endpoint_in_its_audience_is_refused_by_keycloak() {
    let realm = Keycloak::start().await.realm("scim-refused").await;
    let read = async |envoy: &Envoy| -> Response { scim(envoy, &realm, "GET", "/Users").send().await };
    let without_scope = read(&sidecar(&realm, "provisioning-service", &[]).await).await;
    assert_eq!(without_scope.status, 401, "{}", without_scope.text());
    assert!(without_scope.text().contains("audience"), "{}", without_scope.text());
    // The scope alone does not make an administrator.
    let scopes = realm.admin("GET", "client-scopes", None).await;
    let scope = scopes.as_array().unwrap().iter().find(|scope| scope["name"] == "scim-api").unwrap();
    let (client, scope) = (realm.client("billing-service").await["id"].clone(), scope["id"].clone());
    let path =
        format!("clients/{}/optional-client-scopes/{}", client.as_str().unwrap(), scope.as_str().unwrap());
    realm.admin("PUT", &path, None).await;
    let token = realm.token("billing-service", &keycloak::secret("billing-service"), "scim-api").await;
    assert!(token::decode(&token).1["aud"].to_string().contains("/scim/v2"));
    let without_roles = client::get(format!("{}/Users", realm.scim())).bearer(&token).send().await;
    assert_eq!(without_roles.status, 403, "{}", without_roles.text());
}
