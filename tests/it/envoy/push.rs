//! A configuration that is pushed: a wrong one changes nothing, a good one costs no request.

use crate::envoy::scene::{Scene, arrived, builder, inbound, listener, wasm};
use m2m_auth_kit::envoy::{Pushed, Wasm};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// The README's inbound rule with these errors in it.
fn wrong(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    configuration["issuers"]["keycloak"]["clok_skew"] = json!("60s");
    configuration["issuers"]["keycloak"]["jwks_refresh_interval"] = json!("1s");
    let require = &mut configuration["inbound"]["rules"][0]["require"];
    (require["issuer"], require["audiences"]) = (json!("keyclaok"), json!([]));
    configuration["inbound"]["rules"][0]["match"]["path_prefix"] = json!("/inventory/../admin");
    configuration["outbound"] = json!({ "credentials": { "orders": {
        "issuer": "keycloak", "client_id": "order-service", "client_secret": { "env": "NOT_SET_ANYWHERE" },
    } }, "rules": [{ "credential": "order" }] });
    configuration
}

/// The path of each of them in its document.
const ERRORS: [&str; 7] = [
    "issuers.keycloak.clok_skew: ",
    "issuers.keycloak.jwks_refresh_interval: ",
    "inbound.rules[0].match.path_prefix: ",
    "inbound.rules[0].require.issuer: ",
    "inbound.rules[0].require.audiences: ",
    "outbound.credentials.orders.client_secret.env: ",
    "outbound.rules[0].credential: ",
];

fn reports_all(log: &str) {
    for error in ERRORS {
        assert!(log.contains(&format!("m2m-auth: {error}")), "{error} is not in:\n{log}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_rejected_with_every_error_and_the_old_one_stays_in_force() {
    let mut scene = Scene::start(inbound).await;
    let good = scene.get("/inventory").bearer(scene.idp.token());
    assert_eq!(good.send().await.status, 200);
    let Pushed::Rejected(words) = scene.envoy.push([listener(&wasm(&wrong(&scene.idp)))]).await else {
        panic!("Envoy took it:\n{}", scene.envoy.logs())
    };
    reports_all(&words);
    for broken in ["", "{", "[]", "inbound: {}", "{\"inbound\": 5}"] {
        let pushed = scene.envoy.push([listener(&Wasm::of_text(broken))]).await;
        assert!(matches!(pushed, Pushed::Rejected(_)), "{broken:?} was taken");
    }
    let after = Load::of(good).connections(8).requests(80).run().await;
    assert!(after.only(200), "{after}");
    let anybody = Load::of(scene.get("/inventory")).connections(8).requests(80).run().await;
    assert!(anybody.only(401), "{anybody}");
}

#[tokio::test]
async fn envoy_does_not_start_with_a_wrong_configuration_and_says_why() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let builder = builder(&idp, &upstream).static_listeners().listener(listener(&wasm(&wrong(&idp))));
    let error = builder.start().await.err().unwrap();
    assert!(error.exit.is_some_and(|exit| !exit.success()), "it ends, and not as if all were well: {error}");
    reports_all(&error.log);
    assert!(!error.log.contains("panicked") && !error.log.contains("unreachable"), "{}", error.log);
}

/// Callers must present a token, and requests leave with ours; the realm distinguishes one
/// configuration from the next.
fn realm(idp: &Idp, realm: &str) -> Value {
    let mut configuration = inbound(idp);
    configuration["inbound"]["realm"] = json!(realm);
    configuration["inbound"]["rules"][0]["claims_to_headers"] = json!({ "x-caller": "azp" });
    configuration["outbound"] = json!({
        "credentials": { "payments": {
            "issuer": "keycloak", "client_id": "payment-service", "client_secret": { "inline": "payment-secret" },
        } },
        "rules": [{ "credential": "payments" }],
    });
    configuration
}

#[tokio::test]
async fn a_push_under_load_loses_no_request_and_allows_none_unauthenticated() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let of = |idp: &Idp, name: &str| listener(&wasm(&realm(idp, name)));
    // At once, each answer of the old listener says that its connection ends: none is cut off in
    // the middle.
    let builder = builder(&idp, &upstream)
        .concurrency(4)
        .drain_seconds(30)
        .argument("--drain-strategy")
        .argument("immediate")
        .listener(of(&idp, "realm-0"));
    let mut scene = Scene::of(idp, upstream, builder).await;
    let strangers = scene.get("/inventory/strangers");
    let caller = scene.get("/inventory/callers").bearer(scene.idp.token());
    let load = Load::round(vec![caller, strangers.clone()]).connections(8).rate(400.0).start();
    for number in 1..=4 {
        load.proceed(100).await;
        let name = format!("realm-{number}");
        assert_eq!(scene.envoy.push([of(&scene.idp, &name)]).await, Pushed::Accepted);
        let in_force = async || {
            let answer = strangers.send().await;
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert_eq!(answer.status, 401, "{answer:?}");
            (challenge == format!("Bearer realm=\"{name}\"")).then_some(())
        };
        until(&format!("{name} is in force"), in_force).await;
    }
    load.proceed(200).await;
    let report = load.stop().await;
    assert!(report.failures.is_empty(), "{report}");
    let statuses: Vec<_> = report.by_status.keys().copied().collect();
    assert_eq!(statuses, [200, 401], "{report}");
    assert!(report.with_status(200).abs_diff(report.with_status(401)) <= 8, "one of each in turn: {report}");
    let seen = scene.upstream.requests();
    assert_eq!(
        u64::try_from(seen.len()).unwrap(),
        report.with_status(200),
        "no request twice, none but the callers': {report}, {} reconnected",
        report.reconnected
    );
    for request in seen {
        assert_eq!(
            (request.path.as_str(), request.header("x-caller").as_deref()),
            ("/inventory/callers", Some("order-service"))
        );
        let token = request.header("authorization").unwrap();
        assert_eq!(decode(token.strip_prefix("Bearer ").unwrap()).1["azp"], "payment-service");
    }
}

#[tokio::test]
async fn a_push_may_change_what_is_asked_for_and_the_new_answer_counts_at_once() {
    let mut scene = Scene::start(inbound).await;
    let request = scene.get("/inventory").bearer(scene.idp.token());
    assert_eq!(request.send().await.status, 200);
    let mut stricter = inbound(&scene.idp);
    stricter["inbound"]["rules"][0]["require"]["audiences"] = json!(["other-service"]);
    assert_eq!(scene.envoy.push([listener(&wasm(&stricter))]).await, Pushed::Accepted);
    let after = Load::of(request.clone()).connections(8).requests(40).run().await;
    assert!(after.only(401), "a caller verified under the old rules is nobody under the new: {after}");
    let mut other = inbound(&scene.idp);
    other["inbound"]["rules"][0]["claims_to_headers"] = json!({ "x-caller": "azp" });
    assert_eq!(scene.envoy.push([listener(&wasm(&other))]).await, Pushed::Accepted);
    assert_eq!(arrived(&request.send().await, "x-caller"), ["order-service"]);
    assert_eq!(scene.idp.count(Endpoint::Keys), 1, "the keys outlive a configuration");
}
