//! Tokens that must be renewed: in time, and when an upstream refuses them.

use crate::envoy::scene::{HAS_TOKEN, Scene, arrived, builder, listener, outbound, wasm};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::load::{Load, sent_at};
use m2m_auth_kit::record::Recorded;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::{Reply, Upstream};
use m2m_auth_kit::wait::{now, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Two credentials, for two paths.
fn two(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["outbound"]["credentials"]["payment-service"] = json!({ "issuer": "keycloak", "client_id": "payment-service", "client_secret": { "inline": "payment-secret" } });
    configuration["outbound"]["rules"] = json!([
        { "match": { "path_prefix": "/payments" }, "credential": "payment-service" },
        { "credential": "order-service" },
    ]);
    configuration
}

fn token(request: &Recorded) -> String {
    request.header("authorization").unwrap_or_default()
}

fn client(request: &Recorded) -> String {
    let pair = super::basic(request);
    pair.split(':').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_no_request_notices() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    // Renewed after 14 to 16 s, ended after 18 s: seconds of room for a machine that is slow.
    idp.change_client("order-service", |client| client.lifetime = 20);
    upstream.answer_by(|request| {
        let value = token(request);
        let end = value.strip_prefix("Bearer ").and_then(|token| decode(token).1["exp"].as_u64());
        (end < Some(sent_at(request))).then(|| Reply::new(401, &[]))
    });
    let scene = Scene::with(idp, upstream, outbound).await;
    // On many connections, so that both workers are asked all the time.
    let load = Load::of(scene.get("/orders")).stamped().connections(8).rate(20.0).start();
    scene.idp.wait_for(Endpoint::Token, 2).await;
    until("both workers have the second token", async || {
        let requests = scene.upstream.requests();
        let first = token(&requests[0]);
        requests.iter().rev().take(40).all(|request| token(request) != first).then_some(())
    })
    .await;
    let report = load.stop().await;
    assert!(report.only(200), "{report}");
    let tokens: BTreeSet<_> = scene.upstream.requests().iter().map(token).collect();
    assert_eq!(tokens.len(), 2, "{report}");
    let fetches = scene.idp.requests(Endpoint::Token);
    assert_eq!(fetches.len(), 2, "one for each life");
    let renewed_after = fetches[1].at.duration_since(fetches[0].at);
    assert!(renewed_after < Duration::from_secs(18), "{renewed_after:?}, and it ended after 18 s");
}

#[tokio::test]
async fn a_token_that_an_upstream_refuses_is_renewed_once_in_a_while_and_403_costs_none() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    // One worker, so that the refused requests are known.
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&wasm(&two(&idp))));
    let scene = Scene::of(idp, upstream, builder).await;
    scene.logged("token acquired", 4).await;
    let [first, payment] = ["/orders", "/payments"].map(|path| scene.get(path));
    let first = arrived(&first.send().await, "authorization").remove(0);
    let payment = arrived(&payment.send().await, "authorization").remove(0);
    let fetched = scene.idp.count(Endpoint::Token);

    scene.upstream.answer_when("authorization", &first, 401);
    scene.upstream.answer_when("authorization", &payment, 403);
    let refused_first = now();
    let mut refusals = 0;
    for path in ["/orders", "/payments"] {
        let report = Load::of(scene.get(path)).connections(4).requests(40).run().await;
        let refused = if path == "/orders" { 401 } else { 403 };
        // Requests that were already sent; those after the first refusal wait for the new token.
        let most = if path == "/orders" { 4 } else { 40 };
        assert!((1..=most).contains(&report.with_status(refused)), "{report}");
        assert_eq!(report.with_status(refused) + report.with_status(200), 40, "{report}");
        refusals += report.with_status(401);
    }
    scene.idp.wait_for(Endpoint::Token, fetched + 1).await;
    scene.logged(HAS_TOKEN, 3).await;
    let second = arrived(&scene.get("/orders").send().await, "authorization").remove(0);
    assert_ne!(first, second);
    assert_eq!(scene.idp.count(Endpoint::Token), fetched + 1, "80 refusals, one renewal");

    // The new ones are refused as well: that is logged at most every ten seconds.
    scene.upstream.answer_by(|request| (request.path == "/orders").then(|| Reply::new(401, &[])));
    let report = Load::of(scene.get("/orders")).connections(4).requests(40).run().await;
    assert!(report.only(401), "{report}");
    refusals += report.with_status(401);
    scene.idp.wait_for(Endpoint::Token, fetched + 2).await;
    let orders: Vec<_> =
        scene.idp.requests(Endpoint::Token).into_iter().filter(|it| client(it) == "order-service").collect();
    // The first of these two was begun after that.
    let apart = orders[2].at.duration_since(refused_first);
    assert!(
        apart >= Duration::from_secs(10),
        "renewed after {apart:?}, so a flood of 401s would be one of fetches"
    );

    scene.upstream.echo();
    let same = arrived(&scene.get("/payments").send().await, "authorization").remove(0);
    assert_eq!(payment, same, "a 403 says nothing against the token");
    let refused = "wasmcustom.m2m_auth_upstream_rejected";
    scene
        .envoy
        .wait_for_stat(&format!("{refused}.credential.order-service"), |count| count == refusals)
        .await;
    assert_eq!(scene.envoy.stats(refused).await.len(), 1, "and for nobody else");
}
