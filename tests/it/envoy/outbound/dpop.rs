//! Tokens that are bound to the worker's key (RFC 9449), against a provider and a service that
//! check every proof.

use super::{arrived, outbound};
use crate::envoy::scene::{HAS_TOKEN, Scene, VMS, retry_after, wasm};
use m2m_auth_kit::dpop::Service;
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::{now, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ORIGIN: &str = "https://api.example.com";

fn bound(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["outbound"]["credentials"]["order-service"]["dpop"] = json!(true);
    configuration["outbound"]["rules"][0]["dpop_origin"] = json!(ORIGIN);
    configuration
}

/// A provider that gives this client nothing but bound tokens.
async fn strict() -> (Idp, Upstream) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.change_client("order-service", |client| client.dpop_bound = true);
    (idp, upstream)
}

/// The filter before the service, which takes nothing but bound tokens.
async fn before(configuration: impl FnOnce(&Idp) -> Value) -> (Scene, Service) {
    let (idp, upstream) = strict().await;
    let service = Service::new(ORIGIN);
    upstream.answer_by(service.rule());
    (Scene::with(idp, upstream, configuration).await, service)
}

/// The filter as an upstream filter of the service's cluster, and one retry on 401.
async fn within() -> (Scene, Service) {
    let (idp, upstream) = strict().await;
    let service = Service::new(ORIGIN);
    upstream.answer_by(service.rule());
    let filter = wasm(&bound(&idp)).filter();
    let mut cluster = envoy::upstream_filters(envoy::cluster("service", upstream.address()), vec![filter]);
    cluster["circuit_breakers"] = json!({ "thresholds": [{ "max_retries": 1000 }] });
    let builder = envoy::Envoy::builder()
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(cluster)
        .listener(envoy::listener("main", vec![], super::retry::retrying()));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.logged(HAS_TOKEN, VMS).await;
    (scene, service)
}

#[tokio::test]
async fn a_service_that_checks_every_proof_takes_every_request() {
    let (scene, service) = before(bound).await;
    let load = Load::of(scene.get("/orders/7?page=1")).connections(8).requests(200).run().await;
    assert!(load.only(200), "{load}\n{:?}", service.faults());
    let answer = scene.request("POST", "/caf%C3%A9//x?y").header("dpop", "own").bearer("own").send().await;
    let (token, proof) = (arrived(&answer, "authorization"), arrived(&answer, "dpop"));
    assert_eq!((token.len(), proof.len()), (1, 1), "{answer:?}");
    let (header, claims) = decode(&proof[0]);
    assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("dpop+jwt")), "Envoy signs");
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!(format!("{ORIGIN}/caf%C3%A9//x"))));
    assert_eq!(service.faults(), [""; 0]);
    let of_token = decode(token[0].strip_prefix("DPoP ").unwrap()).1;
    assert_eq!(of_token["typ"], "DPoP");
    let keys: BTreeSet<String> = scene
        .idp
        .requests(Endpoint::Token)
        .iter()
        .map(|asked| decode(&asked.header("dpop").unwrap()).0["jwk"].to_string())
        .collect();
    scene.logged(HAS_TOKEN, VMS).await;
    assert!(keys.len() >= 2 && keys.len() <= VMS, "each worker has a key and a token of its own: {keys:?}");
}

#[tokio::test]
async fn without_an_origin_of_its_own_a_rule_claims_the_requests() {
    let (idp, upstream) = strict().await;
    let service = Service::new("http://orders.internal:8080");
    upstream.answer_by(service.rule());
    let scene = Scene::with(idp, upstream, |idp| {
        let mut configuration = bound(idp);
        configuration["outbound"]["rules"][0].as_object_mut().unwrap().remove("dpop_origin");
        configuration
    })
    .await;
    let answer = scene.get("/a?b").header("host", "Orders.internal:8080").send().await;
    assert_eq!(answer.status, 200, "{:?}", service.faults());
}

#[tokio::test]
async fn a_service_that_wants_a_nonce_gets_it_in_the_retry_and_the_client_sees_200() {
    let (scene, service) = within().await;
    let fetched = scene.idp.count(Endpoint::Token);
    for nonce in ["n1", "n2"] {
        service.demand(nonce);
        scene.upstream.forget();
        let report = Load::of(scene.get("/orders")).connections(1).requests(40).run().await;
        assert!(report.only(200), "{report}");
        let attempts = scene.upstream.count();
        assert!((41..=40 + VMS).contains(&attempts), "{attempts}: each worker learns it once");
    }
    assert_eq!(service.faults(), [""; 0], "a retry has a proof of its own");
    assert_eq!(scene.idp.count(Endpoint::Token), fetched, "the token was not refused");
}

#[tokio::test]
async fn a_bound_token_that_is_refused_is_renewed_and_the_retry_proves_the_new_one() {
    let (scene, service) = within().await;
    let first = scene.get("/orders").send().await;
    let refused = arrived(&first, "authorization").remove(0);
    scene.upstream.echo();
    scene.upstream.answer_when("authorization", &refused, 401);
    scene.upstream.answer_by(service.rule());
    let report = Load::of(scene.get("/orders")).connections(4).requests(40).run().await;
    assert!(report.only(200), "{report}");
    assert_eq!(service.faults(), [""; 0]);
}

#[tokio::test]
async fn a_provider_that_wants_a_nonce_is_asked_again_at_once() {
    let (idp, upstream) = strict().await;
    idp.demand_nonce("first");
    let scene = Scene::with(idp, upstream, bound).await;
    assert_eq!(scene.get("/orders").send().await.status, 200);
    scene.logged(HAS_TOKEN, VMS).await;
    assert_eq!(scene.idp.count(Endpoint::Token), 2 * VMS);
    assert_eq!(scene.envoy.logs().matches("asked again with the provider's nonce").count(), VMS);
}

#[tokio::test]
async fn a_provider_that_wants_a_nonce_for_ever_is_not_asked_for_ever() {
    for nonce in ["n1", "caf\u{e9}", &"n".repeat(10_000)] {
        let (idp, upstream) = strict().await;
        let body = json!({ "error": "use_dpop_nonce" }).to_string();
        idp.fault(
            Endpoint::Token,
            Fault::Answer(400, vec![("dpop-nonce".to_owned(), nonce.to_owned())], body),
        );
        let begun = now();
        let scene = Scene::with(idp, upstream, bound).await;
        assert!(retry_after(&scene.get("/orders").send().await) > 1);
        scene
            .logged("token of credential order-service: configuration: status 400, use_dpop_nonce", VMS)
            .await;
        // A pause is of random length, and may be over already; there are no two attempts without
        // one but for the nonce.
        let proofs =
            scene.idp.requests(Endpoint::Token).into_iter().map(|asked| asked.header("dpop").unwrap());
        let said: Vec<Value> = proofs.map(|proof| decode(&proof).1["nonce"].clone()).collect();
        let sound = nonce == "n1";
        // 15 s on average, then 30 s.
        let most = VMS * (3 + usize::try_from(begun.elapsed().as_secs() / 5).unwrap());
        assert!(said.len() <= if sound { 2 * most } else { most }, "{said:?}");
        assert_eq!(said.contains(&json!("n1")), sound, "{said:?}");
        assert!(said.iter().all(|said| said.is_null() || *said == "n1"), "{said:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_bound_goes_nowhere() {
    let (idp, upstream) = strict().await;
    let answer = json!({ "access_token": idp.token(), "token_type": "Bearer", "expires_in": 300 });
    idp.fault(Endpoint::Token, Fault::Body(answer.to_string()));
    let scene = Scene::with(idp, upstream, bound).await;
    retry_after(&scene.get("/orders").send().await);
    let has_logged =
        async || scene.envoy.logs().contains("token_type is Bearer, expected DPoP").then_some(());
    until("the error is logged", has_logged).await;
    assert_eq!(scene.upstream.count(), 0);
}

#[tokio::test]
async fn a_clients_own_proof_does_not_arrive_beside_a_token_of_ours() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let scene = Scene::with(idp, upstream, outbound).await;
    let answer = scene.get("/orders").header("dpop", "own").header("authorization", "DPoP own").send().await;
    assert_eq!(arrived(&answer, "dpop"), [""; 0]);
    assert!(arrived(&answer, "authorization")[0].starts_with("Bearer "));
}
