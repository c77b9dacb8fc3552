//! The provider is slow, wrong or gone: what is held stays in use, what is missing is 503, and all
//! heals by itself.

use crate::envoy::scene::{
    HAS_KEYS, HAS_TOKEN, Scene, VMS, builder, inbound, listener, listener_named, retry_after, send, wasm,
};
use m2m_auth_kit::client;
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::load::Load;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// The README's inbound rule, and a token for what leaves.
fn both(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    configuration["inbound"]["rules"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "match": { "path": "/out" }, "allow": true }));
    configuration["outbound"] = json!({
        "credentials": { "order-service": {
            "issuer": "keycloak", "client_id": "order-service", "client_secret": { "env": "ORDER_SERVICE_SECRET" },
        } },
        "rules": [{ "match": { "path": "/out" }, "credential": "order-service" }],
    });
    configuration
}

#[tokio::test]
async fn a_start_without_the_provider_is_503_until_it_comes_and_then_heals_by_itself() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.stop().await;
    let scene = Scene::with(idp, upstream, both).await;
    let good = scene.get("/inventory").bearer(scene.idp.token());
    let out = scene.get("/out");
    for request in [&good, &out] {
        assert!(retry_after(&request.send().await) <= 30);
    }
    let grpc = scene.request("POST", "/inventory").http2().header("content-type", "application/grpc");
    let grpc = grpc.bearer(scene.idp.token()).send().await;
    assert_eq!((grpc.status, grpc.header("grpc-status").as_deref()), (200, Some("14")), "{grpc:?}");
    // What needs no provider works without it.
    assert_eq!(scene.get("/inventory").send().await.status, 401);
    assert_eq!(scene.get("/elsewhere").send().await.status, 403);
    assert_eq!(scene.upstream.count(), 0);
    for line in [
        "metadata of issuer keycloak: unreachable",
        "\"reason\":\"jwks_unavailable\"",
        "\"reason\":\"outbound_token_unavailable\"",
    ] {
        scene.envoy.wait_for_log(line).await;
    }
    scene.idp.resume().await;
    for (request, what) in [(&good, "inbound"), (&out, "outbound")] {
        let healed = async || (request.send().await.status == 200).then_some(());
        until(&format!("{what} works again"), healed).await;
    }
    scene.logged(HAS_KEYS, VMS).await;
    scene.logged(HAS_TOKEN, VMS).await;
    for request in [good, out] {
        let report = Load::of(request).connections(8).requests(80).run().await;
        assert!(report.only(200), "on every worker: {report}");
    }
}

#[tokio::test]
async fn keys_and_tokens_at_hand_stay_in_use_while_the_provider_is_gone() {
    let scene = Scene::start(both).await;
    scene.logged(HAS_KEYS, VMS).await;
    scene.logged(HAS_TOKEN, VMS).await;
    scene.idp.stop().await;
    // Tokens that nobody has seen yet, so that the keys are needed.
    let fresh: Vec<_> = (0..20).map(|_| scene.get("/inventory").bearer(scene.idp.token())).collect();
    let fresh = Load::round(fresh).connections(8).requests(80).run().await;
    assert!(fresh.only(200), "{fresh}");
    let out = Load::of(scene.get("/out")).connections(8).requests(80).run().await;
    assert!(out.only(200), "{out}");
    assert_eq!(scene.get("/inventory").bearer("garbage").send().await.status, 401);
}

/// What a token, a key set and a metadata document come from.
const ENDPOINTS: [Endpoint; 3] = [Endpoint::Keys, Endpoint::Discovery, Endpoint::Token];

/// One way for a provider to be wrong, at each of the endpoints, and the words for it in the log.
type Wrong = (&'static str, fn(&Idp) -> [Fault; 3], &'static str);

const WRONGS: [Wrong; 7] = [
    ("hang", |_| same(&Fault::Hang), "timeout: "),
    ("500", |_| same(&Fault::Status(500, "{}".to_owned())), "server_error: status 500"),
    ("garbage", |_| same(&Fault::Garbage), "unreadable: "),
    ("html", |_| same(&Fault::Html), "unreadable: "),
    ("cut", |_| same(&Fault::CutInHalf), "unreachable: "),
    ("reset", |_| same(&Fault::Reset), "connection_closed: "),
    ("large", large, "too_large: the answer is larger than"),
];

fn same(fault: &Fault) -> [Fault; 3] {
    [fault.clone(), fault.clone(), fault.clone()]
}

/// Good in every other way.
fn large(idp: &Idp) -> [Fault; 3] {
    let token = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 300 });
    [idp.document(Endpoint::Keys), idp.document(Endpoint::Discovery), token].map(|mut document| {
        document["filler"] = json!("x".repeat(3 * 1024 * 1024));
        Fault::Body(document.to_string())
    })
}

/// Adds an issuer that needs nothing but this endpoint to be good, and a rule that needs the
/// issuer, for the path `/name`.
fn add(configuration: &mut Value, name: &str, cluster: &str, idp: &Idp, endpoint: Endpoint) {
    let mut issuer = json!({ "issuer": idp.issuer(), "cluster": cluster, "timeout": "1s" });
    let mut rule = json!({ "match": { "path": format!("/{name}") } });
    if endpoint == Endpoint::Token {
        let secret = json!({ "inline": "order-secret" });
        issuer["token_endpoint"] = json!(idp.url(endpoint));
        configuration["outbound"]["credentials"][name] =
            json!({ "issuer": name, "client_id": "order-service", "client_secret": secret });
        rule["credential"] = json!(name);
        configuration["outbound"]["rules"].as_array_mut().unwrap().push(rule);
    } else {
        if endpoint == Endpoint::Keys {
            issuer["jwks_uri"] = json!(idp.url(endpoint));
        }
        rule["require"] = json!({ "issuer": name, "audiences": ["inventory-service"] });
        configuration["inbound"]["rules"].as_array_mut().unwrap().push(rule);
    }
    configuration["issuers"][name] = issuer;
}

#[tokio::test]
async fn however_the_provider_is_wrong_it_is_503_and_logged_and_heals() {
    let upstream = Upstream::start().await;
    let mut builder = Envoy::builder().cluster(envoy::cluster("service", upstream.address()));
    let mut configuration = json!({
        "issuers": {}, "inbound": { "rules": [] }, "outbound": { "credentials": {}, "rules": [] },
    });
    let (mut idps, mut rows) = (Vec::new(), Vec::new());
    for (wrong, faults, words) in WRONGS {
        let idp = Idp::start().await;
        builder = builder.cluster(envoy::cluster(wrong, idp.address()));
        let whats = ["keys of issuer", "metadata of issuer", "token of credential"];
        for ((endpoint, fault), what) in ENDPOINTS.into_iter().zip(faults(&idp)).zip(whats) {
            idp.fault(endpoint, fault);
            let name = format!("{endpoint:?}-{wrong}").to_lowercase();
            add(&mut configuration, &name, wrong, &idp, endpoint);
            rows.push((format!("{what} {name}: {words}"), name, idp.token()));
        }
        idps.push(idp);
    }
    // What leaves needs no caller here.
    let anybody = json!({ "match": { "path_prefix": "/" }, "allow": true });
    configuration["inbound"]["rules"].as_array_mut().unwrap().push(anybody);
    let envoy = builder.listener(listener(&Wasm::new(&configuration))).start().await.unwrap();
    let request = |name: &str, token: &str| client::get(envoy.url("main", &format!("/{name}"))).bearer(token);
    let answers: Vec<_> = rows.iter().map(|(_, name, token)| send(request(name, token))).collect();
    for ((line, name, _), answer) in rows.iter().zip(answers) {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        assert!(retry_after(&answer) <= 30, "{name}: {answer:?}");
        envoy.wait_for_log(line).await;
    }
    assert_eq!(upstream.count(), 0);
    for (idp, endpoint) in idps.iter().flat_map(|idp| ENDPOINTS.map(|endpoint| (idp, endpoint))) {
        idp.fault(endpoint, Fault::None);
    }
    for (_, name, token) in &rows {
        let healed = async || (request(name, token).send().await.status == 200).then_some(());
        until(&format!("{name} works again"), healed).await;
    }
}

#[tokio::test]
async fn an_answer_of_envoy_is_distinguished_from_an_answer_of_the_provider() {
    let upstream = Upstream::start().await;
    let [gone, nobody, busy] = [Idp::start().await, Idp::start().await, Idp::start().await];
    let words =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    let mut builder = Envoy::builder().concurrency(1).cluster(envoy::cluster("service", upstream.address()));
    let mut configuration = json!({
        "issuers": {}, "inbound": { "rules": [] }, "outbound": { "credentials": {}, "rules": [] },
    });
    for (name, idp) in [("gone", &gone), ("nobody", &nobody), ("busy", &busy)] {
        let mut cluster = envoy::cluster(name, idp.address());
        if name == "nobody" {
            cluster["load_assignment"]["endpoints"] = json!([]);
        }
        builder = builder.cluster(cluster);
        add(&mut configuration, name, name, idp, Endpoint::Token);
    }
    busy.fault(Endpoint::Token, Fault::Status(503, words.to_owned()));
    gone.stop().await;
    let anybody = json!({ "match": { "path_prefix": "/" }, "allow": true });
    configuration["inbound"]["rules"].as_array_mut().unwrap().push(anybody);
    let envoy = builder.listener(listener(&Wasm::new(&configuration))).start().await.unwrap();
    for line in [
        "token of credential gone: unreachable: no connection: refused, or TLS failed",
        "token of credential nobody: unreachable: cluster \\\"nobody\\\" has no healthy host",
        "token of credential busy: server_error: status 503",
    ] {
        envoy.wait_for_log(line).await;
    }
}

#[tokio::test]
async fn what_fails_once_is_fetched_again_before_anybody_is_refused() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut configuration = both(&idp);
    configuration["pending_requests"] = json!({ "timeout": "20s" });
    for endpoint in ENDPOINTS {
        idp.fault_times(endpoint, 1, Fault::Reset);
    }
    let builder = builder(&idp, &upstream).concurrency(1).listener(listener(&wasm(&configuration)));
    let scene = Scene::of(idp, upstream, builder).await;
    let (good, out) = (send(scene.get("/inventory").bearer(scene.idp.token())), send(scene.get("/out")));
    for answer in [good, out] {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn the_issuers_timeout_counts_for_every_endpoint() {
    let upstream = Upstream::start().await;
    let mut idps = Vec::new();
    let mut builder = Envoy::builder().concurrency(1).cluster(envoy::cluster("service", upstream.address()));
    for (endpoint, timeout) in ENDPOINTS.into_iter().flat_map(|it| [(it, "300ms"), (it, "60s")]) {
        let idp = Idp::start().await;
        idp.fault(endpoint, Fault::Hang);
        let name = format!("{endpoint:?}-{timeout}").to_lowercase();
        let mut configuration = both(&idp);
        configuration["issuers"]["keycloak"] =
            json!({ "issuer": idp.issuer(), "cluster": name, "timeout": timeout });
        let filter = wasm(&configuration);
        builder =
            builder.cluster(envoy::cluster(&name, idp.address())).listener(listener_named(&name, &filter));
        idps.push((endpoint, idp));
    }
    let _envoy = builder.env("ORDER_SERVICE_SECRET", "order-secret").start().await.unwrap();
    for pair in idps.chunks(2) {
        let [(endpoint, brief), (_, patient)] = pair else { panic!("two of each") };
        patient.wait_for(*endpoint, 1).await;
        // It is asked, gives no answer, and is asked again, while the other one still has time.
        brief.wait_for(*endpoint, 3).await;
        assert_eq!(patient.count(*endpoint), 1, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_503_and_the_log_names_it() {
    let configuration = |idp: &Idp| {
        let mut configuration = both(idp);
        configuration["issuers"]["keycloak"]["cluster"] = json!("nowhere-to-be-found");
        configuration
    };
    let scene = Scene::start(configuration).await;
    for request in [scene.get("/inventory").bearer(scene.idp.token()), scene.get("/out")] {
        assert!(retry_after(&request.send().await) <= 30);
    }
    assert_eq!(scene.upstream.count(), 0);
    let line = scene.envoy.wait_for_log("metadata of issuer keycloak: ").await;
    assert!(line.contains("nowhere-to-be-found"), "{line}");
}
