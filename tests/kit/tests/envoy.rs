//! The Envoy runner against a real Envoy, with Envoy's own filters: no module is needed here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use m2m_auth_kit::{
    client,
    envoy::{self, Envoy, Pushed, Reading},
    idp::{Endpoint, Idp},
    json,
    upstream::Upstream,
    wait::until,
};

/// A listener where Envoy's own `jwt_authn` trusts the stand-in provider.
fn guarded(idp: &Idp, audience: &str) -> m2m_auth_kit::Value {
    let filter = envoy::jwt_authn(&idp.issuer(), &idp.url(Endpoint::Keys), "keycloak", &[audience]);
    envoy::listener("in", vec![filter], envoy::route_to("inventory"))
}

async fn world() -> (Idp, Upstream, envoy::Builder) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let builder = Envoy::builder()
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("inventory", upstream.address()));
    (idp, upstream, builder)
}

#[tokio::test]
async fn a_token_of_the_stand_in_passes_a_real_envoy_and_no_token_does_not() {
    let (idp, upstream, builder) = world().await;
    let envoy = builder.listener(guarded(&idp, "inventory-service")).start().await.unwrap();

    let refused = client::get(envoy.url("in", "/inventory")).send().await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert_eq!(upstream.count(), 0);

    let admitted = client::get(envoy.url("in", "/inventory")).bearer(idp.token()).send().await;
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    assert_eq!(admitted.json()["path"], "/inventory");
    assert_eq!(upstream.count(), 1);
    assert!(idp.count(Endpoint::Keys) >= 1);

    let entries = envoy.wait_for_access_log(2).await;
    assert_eq!(entries[0]["status"], 401);
    assert_eq!(entries[1]["upstream"], "inventory");
    assert_eq!(envoy.stat("http.in.jwt_authn.denied").await, 1);
    assert!(envoy.prometheus().await.contains("envoy_http_jwt_authn_denied"));
}

#[tokio::test]
async fn a_pushed_configuration_is_in_force_when_push_returns() {
    let (idp, _upstream, builder) = world().await;
    let open = envoy::listener("in", vec![], envoy::route_to("inventory"));
    let mut envoy = builder.listener(open.clone()).start().await.unwrap();
    let url = envoy.url("in", "/");
    for _ in 0..10 {
        assert_eq!(client::get(&url).send().await.status, 200);
        assert_eq!(envoy.push([guarded(&idp, "a")]).await, Pushed::Accepted);
        assert_eq!(envoy.url("in", "/"), url, "the port stays");
        assert_eq!(client::get(&url).send().await.status, 401);
        assert_eq!(envoy.push([open.clone()]).await, Pushed::Accepted);
    }
    // Nothing new is accepted too, and so is nothing at all.
    assert_eq!(envoy.push([open.clone()]).await, Pushed::Accepted);
    assert_eq!(envoy.push([]).await, Pushed::Accepted);
    let refused = async || client::get(&url).try_send().await.err();
    until("the port closes", refused).await;
    assert_eq!(envoy.push([open]).await, Pushed::Accepted);
    assert_eq!(client::get(envoy.url("in", "/")).send().await.status, 200);
}

#[tokio::test]
async fn a_refused_push_says_why_and_leaves_the_old_configuration() {
    let (idp, _upstream, builder) = world().await;
    let mut envoy = builder.listener(guarded(&idp, "inventory-service")).start().await.unwrap();
    let mut broken = guarded(&idp, "inventory-service");
    envoy::manager_mut(&mut broken)["http_filters"][0]["typed_config"]["rules"] =
        json!([{ "match": { "prefix": "/" }, "requires": { "provider_name": "nobody" } }]);
    let Pushed::Rejected(words) = envoy.push([broken]).await else { panic!("Envoy took it") };
    assert!(words.contains("nobody"), "{words}");
    assert_eq!(client::get(envoy.url("in", "/")).bearer(idp.token()).send().await.status, 200);
}

#[tokio::test]
async fn a_bad_first_configuration_is_an_error_with_envoys_words() {
    for make_static in [false, true] {
        let builder = Envoy::builder().listener(envoy::listener("in", vec![], envoy::route_to("nowhere")));
        let builder = if make_static { builder.static_listeners() } else { builder };
        let error = builder.start().await.err().unwrap();
        assert!(error.log.contains("unknown cluster 'nowhere'"), "{error}");
        assert_eq!(error.exit.is_some(), make_static, "a bad bootstrap ends it, a bad file does not");
    }
}

#[tokio::test]
async fn an_upstream_filter_adds_a_secret_that_rotates() {
    let (_idp, upstream, builder) = world().await;
    let source = json!({ "path_config_source": {
        "path": "DIRECTORY/secret.json", "watched_directory": { "path": "DIRECTORY" } } });
    let injector = json!({
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": { "name": "basic", "sds_config": source },
                },
            },
        },
    });
    let cluster = envoy::upstream_filters(envoy::cluster("secret", upstream.address()), vec![injector]);
    let envoy = builder
        .cluster(cluster)
        .file("secret.json", &envoy::secret("basic", "Basic one"))
        .listener(envoy::listener("out", vec![], envoy::route_to("secret")))
        .start()
        .await
        .unwrap();
    let sent = async || {
        let _ = client::get(envoy.url("out", "/")).send().await;
        upstream.last().header("authorization").unwrap_or_default()
    };
    assert_eq!(sent().await, "Basic one");
    envoy.write("secret.json", &envoy::secret("basic", "Basic two"));
    until("the second secret", async || (sent().await == "Basic two").then_some(())).await;
}

#[tokio::test]
async fn the_client_sends_bytes_that_a_polite_one_would_not() {
    let (_idp, upstream, builder) = world().await;
    let listener = envoy::listener("in", vec![], envoy::route_to("inventory"));
    let envoy = builder.listener(listener).start().await.unwrap();
    let url = envoy.url("in", "/a/%2e%2e/b?q=%FF");
    let odd = client::get(&url).header("x-odd", b"caf\xe9").header("x-two", "1").header("x-two", "2");
    let answer = odd.send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(seen.headers.iter().find(|(name, _)| name == "x-odd").unwrap().1, b"caf\xe9");
    assert_eq!(seen.headers_named("x-two"), ["1", "2"]);
    assert_eq!(seen.path, "/a/%2e%2e/b?q=%FF");
    assert_eq!(client::Request::new("HEAD", &url).send().await.status, 200);
    assert_eq!(odd.clone().http2().send().await.status, 200);
    assert_eq!(upstream.count(), 3);
}

/// What a listener answers that forwards to the cluster `files`.
async fn served(envoy: &Envoy, path: &str) -> (u16, String) {
    let answer = client::get(envoy.url("in", path)).send().await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn a_served_file_is_answered_as_it_is_now() {
    let envoy = Envoy::builder()
        .file("token", "first\n")
        .file("empty", "")
        .serve_file("/client-secret", "DIRECTORY/token")
        .serve_file("/empty", "DIRECTORY/empty")
        .serve_file_by(Reading::WatchedDirectory, "/watched", "DIRECTORY/token")
        .listener(envoy::listener("in", vec![], envoy::route_to("files")))
        .start()
        .await
        .unwrap();
    assert_eq!(served(&envoy, "/client-secret").await, (200, "first\n".to_owned()));
    assert_eq!(served(&envoy, "/watched").await, (200, "first\n".to_owned()));
    assert_eq!(served(&envoy, "/empty").await, (200, String::new()));
    assert_eq!(served(&envoy, "/other").await.0, 404);

    envoy.write("token", "second");
    for path in ["/client-secret", "/watched"] {
        let second = async || (served(&envoy, path).await.1 == "second").then_some(());
        until(&format!("{path} is the second"), second).await;
    }
    // Written in place, as spiffe-helper does.
    std::fs::write(envoy.directory().join("token"), "third").unwrap();
    let third = async || (served(&envoy, "/client-secret").await.1 == "third").then_some(());
    until("the third", third).await;
    assert!(envoy.access_log().iter().all(|entry| entry["listener"] == "in"));
}
