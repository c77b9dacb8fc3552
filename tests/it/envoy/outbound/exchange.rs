//! Token exchange (RFC 8693) and the JWT bearer grant (RFC 7523 section 2.1), on real Envoy.

use super::sent_as;
use crate::envoy::scene::{Scene, arrived, builder, issuers, listener, listener_named, send, wasm};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Fault, Idp};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// inventory-service is called by order-service, and calls payment-service on its behalf.
fn configuration(idp: &Idp) -> Value {
    let exchange = |changes: Value| {
        let mut credential = json!({
            "issuer": "keycloak",
            "grant_type": "token_exchange",
            "client_id": "inventory-service",
            "client_secret": { "inline": "inventory-secret" },
            "audience": "payment-service",
            "scopes": ["payment-api"],
        });
        let members = credential.as_object_mut().unwrap();
        members.extend(changes.as_object().unwrap().clone());
        members.retain(|_, value| !value.is_null());
        credential
    };
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [
            { "match": { "path_prefix": "/public" }, "allow": true },
            { "require": { "issuer": "keycloak", "audiences": ["inventory-service"] } },
        ] },
        "outbound": {
            "credentials": {
                "payment": exchange(json!({})),
                "nobody": exchange(json!({ "audience": "nobody-service" })),
                "too-much": exchange(json!({ "scopes": null })),
                "handed": exchange(json!({ "subject_token": { "header": "x-subject" } })),
            },
            "rules": [
                { "match": { "path": "/nobody" }, "credential": "nobody" },
                { "match": { "path": "/too-much" }, "credential": "too-much" },
                { "match": { "path": "/public/handed" }, "credential": "handed" },
                { "credential": "payment" },
            ],
        },
    })
}

/// The exchanges that the provider was asked for.
fn exchanges(idp: &Idp) -> usize {
    let requests = idp.requests(Endpoint::Token);
    requests.iter().filter(|request| request.parameter("grant_type").as_deref() == Some(EXCHANGE)).count()
}

/// A token of order-service, as the provider gives it.
async fn order_token(scene: &Scene) -> String {
    let request = client::Request::new("POST", scene.idp.url(Endpoint::Token))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&client_id=order-service&client_secret=order-secret");
    let answer = request.send().await.json();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_leaves_with_a_token_that_acts_for_its_caller() {
    let scene = Scene::start(configuration).await;
    let token = order_token(&scene).await;
    let answer = scene.get("/charge").bearer(&token).send().await;
    assert_eq!(sent_as(&answer).as_deref(), Some("inventory-service"), "{}", scene.envoy.logs());
    let (_, claims) = decode(&arrived(&answer, "authorization")[0]["Bearer ".len()..]);
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!("payment-service"), &decode(&token).1["sub"]));
    let asked = scene.idp.last(Endpoint::Token);
    let form: Vec<_> = asked.form().into_iter().collect();
    let expected = [
        ("grant_type", EXCHANGE),
        ("subject_token", &token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("scope", "payment-api"),
        ("audience", "payment-service"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // A stranger's request is not exchanged, and not forwarded.
    let before = exchanges(&scene.idp);
    for (request, status) in [(scene.get("/charge"), 401), (scene.get("/charge").bearer("garbage"), 401)] {
        assert_eq!(request.send().await.status, status);
    }
    let nobody = scene.get("/public/charge").bearer(&token).send().await;
    assert_eq!((nobody.status, &nobody.json()["reason"]), (401, &json!("no_token")), "no rule verified it");
    assert_eq!(exchanges(&scene.idp), before);
}

#[tokio::test]
async fn a_thousand_calls_with_one_token_are_one_exchange_for_each_worker() {
    let scene = Scene::start(configuration).await;
    let token = order_token(&scene).await;
    let load = Load::of(scene.get("/charge").bearer(&token)).connections(16).requests(1000).run().await;
    assert!(load.only(200), "{load}\n{}", scene.envoy.logs());
    let exchanges = exchanges(&scene.idp);
    assert!((1..=2).contains(&exchanges), "{exchanges} for two workers");
    let other = scene.get("/charge").bearer(order_token(&scene).await).send().await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn whose_fault_a_refused_exchange_is_says_the_status() {
    let scene = Scene::start(configuration).await;
    let token = order_token(&scene).await;
    // Ours: the audience is unknown, or not among what the scopes bring.
    for (path, reported) in [
        ("/nobody", "configuration: status 400, invalid_client: Audience not found"),
        (
            "/too-much",
            "configuration: status 400, invalid_request: Requested audience not available: payment-service",
        ),
    ] {
        let answer = scene.get(path).bearer(&token).send().await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (503, &json!("outbound_token_unavailable")),
            "{path}"
        );
        assert!(answer.header("retry-after").is_some());
        let line = scene.envoy.wait_for_log(reported).await;
        assert!(!line.contains(&token));
    }
    // The caller's: what the header holds is no token of the provider's.
    assert_eq!(scene.get("/public/handed").header("x-subject", scene.idp.token()).send().await.status, 200);
    let handed = scene.get("/public/handed").header("x-subject", "made-up").send().await;
    assert_eq!(
        (handed.status, &handed.json()["reason"]),
        (401, &json!("subject_token")),
        "{}",
        handed.text()
    );
    assert_eq!(
        handed.header("www-authenticate").as_deref(),
        Some(
            "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"the identity provider rejected this token for the exchange\""
        )
    );
    assert_eq!(scene.get("/public/handed").send().await.status, 401, "there is nothing to exchange");
    // Denied: the requester is not in the audience of the token.
    let foreign = scene.idp.mint({
        let mut claims = scene.idp.claims();
        claims["aud"] = json!("somebody-else");
        claims
    });
    let denied = scene.get("/public/handed").header("x-subject", &foreign).send().await;
    assert_eq!((denied.status, &denied.json()["reason"]), (403, &json!("exchange_denied")));
    for (credential, outcome) in
        [("nobody", "configuration"), ("handed", "subject_token"), ("handed", "denied"), ("handed", "ok")]
    {
        let counter =
            format!("wasmcustom.m2m_auth_fetch.kind.exchanged_token.name.{credential}.outcome.{outcome}");
        scene.envoy.wait_for_stat(&counter, |count| count >= 1).await;
    }
}

#[tokio::test]
async fn while_the_provider_is_down_callers_with_a_held_token_notice_nothing() {
    let scene = Scene::start(configuration).await;
    let (known, new) = (order_token(&scene).await, order_token(&scene).await);
    let load = Load::of(scene.get("/charge").bearer(&known)).connections(8).requests(100).run().await;
    assert!(load.only(200), "{load}");
    scene.idp.fault(Endpoint::Token, Fault::Status(500, String::new()));
    let load = Load::of(scene.get("/charge").bearer(&known)).connections(8).requests(200).run().await;
    assert!(load.only(200), "{load}");
    let refused = scene.get("/charge").bearer(&new).send().await;
    assert_eq!(refused.status, 503, "not its fault");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_refused_secret_fails_none_of_the_concurrent_requests() {
    let scene = Scene::start(|idp| {
        let mut configuration = configuration(idp);
        configuration["outbound"]["credentials"]["payment"]["client_secret"] =
            json!([{ "inline": "rotated-away" }, { "inline": "inventory-secret" }]);
        configuration
    })
    .await;
    let mut sent = Vec::new();
    for _ in 0..20 {
        let token = order_token(&scene).await;
        sent.push(send(scene.get("/charge").bearer(token)));
    }
    for answer in sent {
        let answer = answer.await.unwrap();
        assert_eq!(sent_as(&answer).as_deref(), Some("inventory-service"), "{}", scene.envoy.logs());
    }
}

#[tokio::test]
async fn a_subject_that_the_provider_fails_at_costs_other_callers_nothing() {
    let scene = Scene::start(configuration).await;
    let mut poisons = Vec::new();
    for _ in 0..30 {
        let poison = order_token(&scene).await;
        scene.idp.fault_for(&poison, Fault::Status(500, String::new()));
        poisons.push(poison);
    }
    let poisoned: Vec<_> = poisons.iter().map(|poison| send(scene.get("/charge").bearer(poison))).collect();
    for n in 0..20 {
        let answer = scene.get("/charge").bearer(order_token(&scene).await).send().await;
        assert_eq!(answer.status, 200, "caller {n}: {}\n{}", answer.text(), scene.envoy.logs());
    }
    for answer in poisoned {
        assert_eq!(answer.await.unwrap().status, 503);
    }
}

#[tokio::test]
async fn made_up_subjects_cost_the_provider_a_bounded_rate() {
    let scene = Scene::start(|idp| {
        let mut configuration = configuration(idp);
        configuration["outbound"]["credentials"]["handed"]["requests_per_second"] = json!(2);
        configuration
    })
    .await;
    let begun = tokio::time::Instant::now();
    let handed = |subject: &str| send(scene.get("/public/handed").header("x-subject", subject));
    let sent: Vec<_> = (0..60).map(|n| handed(&format!("made-up-{n}"))).collect();
    for answer in sent {
        let answer = answer.await.unwrap();
        let reason = answer.json()["reason"].as_str().unwrap().to_owned();
        let reported = (answer.status, reason.as_str());
        assert!(
            [(401, "subject_token"), (503, "too_many_pending"), (503, "outbound_token_unavailable")]
                .contains(&reported),
            "{reported:?}"
        );
    }
    // A burst of one second's worth in each of two workers, and then two a second.
    let most = 2.0 * (2.0 * begun.elapsed().as_secs_f64() + 3.0);
    let asked = exchanges(&scene.idp);
    assert!(f64::from(u32::try_from(asked).unwrap()) <= most, "{asked} in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_service_account_gets_its_token_for_an_assertion_alone() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let key = Key::new(Alg::Rs256);
    idp.client(ClientSpec {
        assertion_keys: vec![key.clone()],
        ..ClientSpec::new("robot@project", "unused")
    });
    let configuration = json!({
        "issuers": issuers(&idp),
        "outbound": {
            "credentials": { "robot": {
                "issuer": "keycloak",
                "grant_type": "jwt_bearer",
                "auth_method": "external",
                "client_id": "robot@project",
                "private_key": { "env": "ROBOT_KEY" },
                "assertion_subject": "user@example.com",
                "assertion_audience": idp.url(Endpoint::Token),
                "assertion_claims": { "scope": "https://www.example.com/auth/cloud", "n": 1 },
            } },
            "rules": [{ "credential": "robot" }],
        },
    });
    let filter = wasm(&configuration).host_env("ROBOT_KEY");
    let builder = builder(&idp, &upstream).env("ROBOT_KEY", &key.private_pem()).listener(listener(&filter));
    let scene = Scene::of(idp, upstream, builder).await;
    let answer = scene.get("/").send().await;
    assert_eq!(sent_as(&answer).as_deref(), Some("robot@project"), "{}", scene.envoy.logs());
    let asked = scene.idp.last(Endpoint::Token);
    let names: Vec<_> = asked.form().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["grant_type", "assertion"], "no other proof, and no client_id");
    let (_, claims) = decode(&asked.parameter("assertion").unwrap());
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("robot@project"), &json!("user@example.com")));
    assert_eq!(claims["aud"], scene.idp.url(Endpoint::Token));
    assert_eq!((&claims["scope"], &claims["n"]), (&json!("https://www.example.com/auth/cloud"), &json!(1)));
}

#[tokio::test]
async fn an_exchange_works_beside_a_credential_of_ones_own() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut both = configuration(&idp);
    both["outbound"]["credentials"]["own"] = json!({
        "issuer": "keycloak", "client_id": "order-service", "client_secret": { "env": "ORDER_SERVICE_SECRET" },
    });
    both["outbound"]["rules"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "match": { "path": "/own" }, "credential": "own" }));
    let builder = builder(&idp, &upstream).listener(listener_named("main", &wasm(&both)));
    let scene = Scene::of(idp, upstream, builder).await;
    let token = order_token(&scene).await;
    for (path, client) in
        [("/own", "order-service"), ("/charge", "inventory-service"), ("/own", "order-service")]
    {
        let answer = scene.get(path).bearer(&token).send().await;
        assert_eq!(sent_as(&answer).as_deref(), Some(client), "{path}");
    }
}

/// A route may name a credential that exchanges the caller's token; where no rule requires a token,
/// no token is left to exchange.
#[tokio::test]
async fn a_route_that_exchanges_its_callers_token_gets_none_where_no_caller_is_required() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut configuration = configuration(&idp);
    let require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
    configuration["inbound"]["rules"] = json!([
        { "match": { "path_prefix": "/public" }, "allow": true },
        { "match": { "path_prefix": "/optional" }, "mode": "optional", "require": require },
        { "require": require },
    ]);
    configuration["outbound"]["rules"] = json!([{ "name": "by-route", "route_metadata": true }]);
    let route = |path: &str, credential: &str| {
        let metadata = json!({ "filter_metadata": { "m2m_auth": { "credential": credential } } });
        json!({ "match": { "path": path }, "route": { "cluster": "service" }, "metadata": metadata })
    };
    let routes = ["/charge", "/public/charge", "/optional/charge"].map(|path| route(path, "payment"));
    let routes = routes.into_iter().chain([route("/public/plain", "none")]).collect();
    let filter = wasm(&configuration).filter();
    let listener = envoy::listener("main", vec![filter], envoy::route_config(routes));
    let builder = builder(&idp, &upstream).listener(listener);
    let scene = Scene::of(idp, upstream, builder).await;
    let token = order_token(&scene).await;
    for (path, bearer) in
        [("/public/charge", None), ("/public/charge", Some(&token)), ("/optional/charge", None)]
    {
        let request = scene.get(path);
        let answer = bearer.map_or(request.clone(), |token| request.bearer(token)).send().await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (401, &json!("no_token")),
            "{path}: {answer:?}"
        );
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=") && !challenge.contains("error="), "{challenge}");
        assert!(scene.seen(path).is_empty(), "{path} has reached the service");
    }
    assert_eq!(exchanges(&scene.idp), 0, "nothing was asked for");
    assert_eq!(scene.get("/public/plain").send().await.status, 200);
    for path in ["/charge", "/optional/charge"] {
        let answer = scene.get(path).bearer(&token).send().await;
        assert_eq!(sent_as(&answer).as_deref(), Some("inventory-service"), "{path}");
    }
}
