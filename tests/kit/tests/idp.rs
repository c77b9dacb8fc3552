//! The test provider answers as a real Keycloak does, and fails on command.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use m2m_auth_kit::{
    Value, client,
    dpop::Service,
    idp::{ClientSpec, Endpoint, Fault, Idp},
    json,
    key::{Alg, Key},
    load::Load,
    token::{self, Mint},
    upstream::Upstream,
};
use std::{collections::BTreeMap, io::ErrorKind, time::Duration};

fn at(idp: &Idp, endpoint: Endpoint) -> String {
    format!("http://{}{}", idp.address(), idp.path(endpoint))
}

fn ask(idp: &Idp, form: &str) -> client::Request {
    let form_type = "application/x-www-form-urlencoded";
    client::post(at(idp, Endpoint::Token)).header("content-type", form_type).body(form)
}

async fn granted(idp: &Idp, form: &str) -> Value {
    let answer = ask(idp, form).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn refused(idp: &Idp, form: &str) -> (u16, String, String) {
    let answer = ask(idp, form).send().await;
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    (answer.status, text("error"), text("error_description"))
}

const BY_POST: &str = "grant_type=client_credentials&client_id=order-service&client_secret=order-secret";

#[tokio::test]
async fn a_token_looks_like_keycloaks_and_verifies_by_the_published_key() {
    let idp = Idp::start().await;
    let answer = granted(&idp, BY_POST).await;
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["scope"], "inventory-api");
    let token = answer["access_token"].as_str().unwrap();
    let (header, claims) = token::decode(token);
    assert_eq!(claims["iss"], idp.issuer());
    assert_eq!(claims["aud"], "inventory-service");
    assert_eq!(claims["azp"], "order-service");
    assert_eq!(claims["resource_access"], json!({ "inventory-service": { "roles": ["inventory:read"] } }));
    assert_eq!(claims.get("realm_access"), None);
    assert!(claims["exp"].as_u64().unwrap().abs_diff(token::now() + 300) <= 2);

    let set = client::get(at(&idp, Endpoint::Keys)).send().await;
    assert_eq!(set.header("cache-control").unwrap(), "no-cache");
    let keys = set.json()["keys"].clone();
    assert_eq!(keys[0]["use"], "enc", "as in Keycloak the first key is not for signing");
    let key = keys.as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert!(token::verifies_by_jwk(token, key));
    assert!(!token::verifies_by_jwk(token, &keys[0]));
    assert!(!token::verifies_by_jwk(
        &Mint::of(claims).key(&Idp::foreign_key()).sign(&idp.signing_key()),
        key
    ));
}

#[tokio::test]
async fn every_algorithm_verifies_by_what_is_published() {
    let idp = Idp::start().await;
    for alg in [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Es256, Alg::EdDsa] {
        let key = idp.add_key(alg);
        let token = granted(&idp, BY_POST).await["access_token"].as_str().unwrap().to_owned();
        assert_eq!(token::decode(&token).0["alg"], alg.name());
        let set = idp.document(Endpoint::Keys);
        let jwk = set["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == key.kid()).unwrap();
        assert!(token::verifies_by_jwk(&token, jwk), "{alg:?}");
    }
}

#[tokio::test]
async fn errors_are_in_keycloaks_words() {
    let idp = Idp::start().await;
    let said = |status, error: &str, text: &str| (status, error.to_owned(), text.to_owned());
    let wrong = "Invalid client or Invalid client credentials";
    for (form, expected) in [
        ("", said(400, "invalid_request", "Missing form parameter: grant_type")),
        ("grant_type=magic", said(400, "unsupported_grant_type", "Unsupported grant_type")),
        ("grant_type=client_credentials", said(400, "invalid_client", "Missing client_id parameter")),
        (&BY_POST.replace("order-secret", "x"), said(401, "unauthorized_client", wrong)),
        (&BY_POST.replace("&client_secret=order-secret", ""), said(401, "unauthorized_client", wrong)),
        (&BY_POST.replace("order-service", "nobody"), said(401, "invalid_client", wrong)),
        (&format!("{BY_POST}&scope=nope"), said(400, "invalid_scope", "Invalid scopes: nope")),
        (&format!("{BY_POST}&scope=a&scope=a"), said(400, "invalid_request", "duplicated parameter")),
    ] {
        assert_eq!(refused(&idp, form).await, expected, "{form}");
    }
    assert_eq!(client::get(at(&idp, Endpoint::Token)).send().await.status, 405);
    assert_eq!(client::get(format!("http://{}/other", idp.address())).send().await.status, 404);
    assert_eq!(client::get(at(&idp, Endpoint::Metadata)).send().await.status, 404);
}

#[tokio::test]
async fn basic_is_form_decoded_and_a_rotated_secret_counts_at_once() {
    let idp = Idp::start().await;
    idp.client(ClientSpec::new("a b:c", "p+q%&=:ö"));
    let basic = |text: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let ask = |credentials: &str| {
        ask(&idp, "grant_type=client_credentials").header("authorization", basic(credentials))
    };
    assert_eq!(ask("a+b%3Ac:p%2Bq%25%26%3D%3A%C3%B6").send().await.status, 200);
    assert_eq!(ask("a%20b%3Ac:p%2Bq%25%26%3D%3A%C3%B6").send().await.status, 200);
    // Not encoded, the `+` is a space.
    assert_eq!(ask("a b%3Ac:p+q%25%26%3D%3A%C3%B6").send().await.status, 401);

    assert_eq!(ask("order-service:order-secret").send().await.status, 200);
    idp.set_secrets("order-service", &["new", "newer"]);
    assert_eq!(ask("order-service:order-secret").send().await.status, 401);
    assert_eq!(ask("order-service:newer").send().await.status, 200);
}

#[tokio::test]
async fn an_assertion_is_good_once() {
    let idp = Idp::start().await;
    let key = Key::new(Alg::Es256);
    idp.change_client("order-service", |client| {
        client.assertion_keys = vec![key.clone()];
    });
    let form = |aud: &str, life: u64, signer: &Key| {
        let claims = json!({ "iss": "order-service", "sub": "order-service", "aud": aud, "jti": token::now().to_string(),
            "exp": token::now() + life });
        let assertion = Mint::of(claims).key(signer).sign(signer);
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        format!("grant_type=client_credentials&client_assertion_type={kind}&client_assertion={assertion}")
    };
    for wrong in [
        form("https://elsewhere", 30, &key),
        form(&idp.issuer(), 300, &key),
        form(&idp.issuer(), 30, &Key::new(Alg::Es256)),
    ] {
        assert_eq!(refused(&idp, &wrong).await.1, "invalid_client");
    }
    let good = form(&idp.issuer(), 30, &key);
    granted(&idp, &good).await;
    assert_eq!(refused(&idp, &good).await.2, "Token reuse detected");
}

#[tokio::test]
async fn an_exchange_narrows_and_never_widens() {
    let idp = Idp::start().await;
    let subject = idp.token();
    let form = |who: &str, more: &str| {
        format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&client_id={who}-service\
             &client_secret={who}-secret&subject_token_type=urn:ietf:params:oauth:token-type:access_token{more}"
        )
    };
    let with = |who: &str, more: &str| form(who, &format!("&subject_token={subject}{more}"));
    let answer = granted(&idp, &with("inventory", "&scope=payment-api&audience=payment-service")).await;
    let claims = token::decode(answer["access_token"].as_str().unwrap()).1;
    assert_eq!((&claims["aud"], &claims["azp"]), (&json!("payment-service"), &json!("inventory-service")));
    assert_eq!((&claims["sub"], &claims["resource_access"]), (&json!(token::SUBJECT), &json!({})));
    assert!(answer["issued_token_type"].is_string());

    let error = async |form: String| refused(&idp, &form).await;
    let not_available = "Requested audience not available: payment-service";
    assert_eq!(error(with("inventory", "&audience=payment-service")).await.2, not_available);
    assert_eq!(error(with("inventory", "&audience=nobody")).await.2, "Audience not found");
    assert_eq!(error(form("inventory", "&subject_token=a.b.c")).await.2, "Invalid token");
    assert_eq!(error(with("payment", "")).await.1, "invalid_request");
    idp.change_client("payment-service", |client| client.exchange = true);
    assert_eq!(error(with("payment", "")).await.0, 403);
}

#[tokio::test]
async fn a_dpop_proof_binds_the_token() {
    let idp = Idp::start().await;
    let key = Key::new(Alg::Es256);
    let proof = token::dpop_proof(&key, "POST", &idp.url(Endpoint::Token), None).sign(&key);
    let asked = ask(&idp, BY_POST).header("dpop", &proof);
    let answer = asked.send().await.json();
    assert_eq!(answer["token_type"], "DPoP");
    let claims = token::decode(answer["access_token"].as_str().unwrap()).1;
    assert_eq!(claims["cnf"]["jkt"], key.thumbprint());
    assert_eq!(asked.send().await.json()["error"], "invalid_dpop_proof", "a proof is good once");
    idp.change_client("order-service", |client| client.dpop_bound = true);
    assert_eq!(refused(&idp, BY_POST).await.2, "DPoP proof is missing");
}

#[tokio::test]
async fn a_provider_that_wants_a_nonce_says_which() {
    let idp = Idp::start().await;
    let key = Key::new(Alg::Es256);
    idp.demand_nonce("n1");
    let proof = || token::dpop_proof(&key, "POST", &idp.url(Endpoint::Token), None);
    let answer = ask(&idp, BY_POST).header("dpop", proof().sign(&key)).send().await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"use_dpop_nonce".into()));
    assert_eq!(answer.header("dpop-nonce").as_deref(), Some("n1"));
    let answer = ask(&idp, BY_POST).header("dpop", proof().claim("nonce", "n1").sign(&key)).send().await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_service_takes_a_bound_token_with_a_good_proof_and_nothing_else() {
    let (upstream, key, other) = (Upstream::start().await, Key::new(Alg::Es256), Key::new(Alg::Es256));
    let service = Service::new("https://api.example.com");
    upstream.answer_by(service.rule());
    let mut claims = token::claims("x");
    claims["cnf"] = json!({ "jkt": key.thumbprint() });
    let token = Mint::of(claims).sign(&other);
    let send = async |proof: String| {
        let request = client::get(upstream.url("/a?b")).header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof).send().await
    };
    let proof =
        |key: &Key, method: &str, url: &str, token: &str| token::dpop_proof(key, method, url, Some(token));
    let good = || proof(&key, "GET", "https://api.example.com/a", &token);
    let once = good().sign(&key);
    assert_eq!(send(once.clone()).await.status, 200);
    assert_eq!(service.faults(), [""; 0]);
    let bad = [
        once,
        good().sign(&key) + "x",
        good().header("typ", "JWT").sign(&key),
        good().claim("iat", token::now() - 60).sign(&key),
        proof(&other, "GET", "https://api.example.com/a", &token).sign(&other),
        proof(&key, "POST", "https://api.example.com/a", &token).sign(&key),
        proof(&key, "GET", "https://api.example.com/a?b", &token).sign(&key),
        proof(&key, "GET", "http://api.example.com/a", &token).sign(&key),
        proof(&key, "GET", "https://api.example.com/a", "another").sign(&key),
    ];
    let count = bad.len();
    for proof in bad {
        assert_eq!(send(proof).await.status, 401);
    }
    assert_eq!(service.faults().len(), count, "{:?}", service.faults());
    service.demand("n1");
    assert_eq!(send(good().sign(&key)).await.header("dpop-nonce").as_deref(), Some("n1"));
    assert_eq!(send(good().claim("nonce", "n1").sign(&key)).await.status, 200);
    assert_eq!(service.faults().len(), count, "a nonce is no fault");
}

#[tokio::test]
async fn introspection_knows_the_living_from_the_dead() {
    let idp = Idp::start().await;
    let state = async |token: &str| {
        let form = format!("client_id=inventory-service&client_secret=inventory-secret&token={token}");
        client::post(at(&idp, Endpoint::Introspection)).body(form).send().await.json()
    };
    let alive = state(&idp.token()).await;
    assert_eq!((&alive["active"], &alive["client_id"]), (&json!(true), &json!("order-service")));
    let mut claims = idp.claims();
    claims["exp"] = json!(token::now() - 1);
    for dead in [idp.mint(claims), idp.mint_with(&Mint::of(idp.claims()).unsigned()), "opaque".to_owned()] {
        assert_eq!(state(&dead).await, json!({ "active": false }));
    }
}

#[tokio::test]
async fn keys_rotate_and_are_withdrawn() {
    let idp = Idp::start().await;
    let kids = || {
        let set = idp.document(Endpoint::Keys);
        set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = idp.signing_key();
    let second = idp.rotate_key();
    assert_eq!(kids()[1..], [second.kid(), first.kid()]);
    assert!(token::verifies(&idp.token(), &second));
    idp.withdraw_key(first.kid());
    assert_eq!(kids()[1..], [second.kid()]);
    idp.publish_jwk(json!({ "kty": "AKP", "kid": "odd" }));
    assert_eq!(kids().last().unwrap(), "odd");
}

#[tokio::test]
async fn two_providers_never_share_a_signing_key() {
    let (one, two) = (Idp::start().await, Idp::start().await);
    assert!(!token::verifies(&one.token(), &two.signing_key()));
}

#[tokio::test]
async fn every_fault_is_what_its_name_says() {
    let idp = Idp::start().await;
    let get = client::get(at(&idp, Endpoint::Keys));
    let answer_to = async |fault: Fault| {
        idp.fault_times(Endpoint::Keys, 1, fault);
        get.try_send().await
    };
    let answer = answer_to(Fault::Status(500, "{}".into())).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (500, "{}"));
    let answer = answer_to(Fault::RetryAfter(429, "7".into())).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after").unwrap().as_str()), (429, "7"));
    let answer = answer_to(Fault::Garbage).await.unwrap();
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    let answer = answer_to(Fault::Html).await.unwrap();
    assert!(answer.header("content-type").unwrap().starts_with("text/html"));
    let answer = answer_to(Fault::WrongContentType).await.unwrap();
    assert_eq!(
        (answer.header("content-type").unwrap().as_str(), answer.json()["keys"].is_array()),
        ("text/plain", true)
    );
    assert_eq!(answer_to(Fault::Body("[1]".into())).await.unwrap().text(), "[1]");
    assert!(answer_to(Fault::Huge(3_000_000)).await.unwrap().body.len() >= 3_000_000);
    assert_eq!(answer_to(Fault::CutInHalf).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(answer_to(Fault::Reset).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let before = tokio::time::Instant::now();
    assert_eq!(answer_to(Fault::Slow(Duration::from_millis(50))).await.unwrap().status, 200);
    assert!(before.elapsed() >= Duration::from_millis(50));

    // A hanging answer is cut off by the stop.
    idp.fault(Endpoint::Keys, Fault::Hang);
    let asked = idp.count(Endpoint::Keys);
    let hanging = tokio::spawn({
        let get = get.clone();
        async move { get.try_send().await }
    });
    idp.wait_for(Endpoint::Keys, asked + 1).await;
    idp.stop().await;
    assert_eq!(hanging.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(get.try_send().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    idp.fault(Endpoint::Keys, Fault::None);
    idp.resume().await;
    assert_eq!(get.send().await.status, 200);
    assert_eq!(idp.last(Endpoint::Keys).method, "GET");
    assert_eq!(idp.requests(Endpoint::Keys).len(), asked + 2);
}

#[tokio::test]
async fn the_issuer_and_the_offers_follow_what_is_set() {
    let idp = Idp::start().await;
    idp.set_issuer("https://keycloak.example.com/realms/other");
    idp.offer_metadata();
    idp.offer_etags();
    idp.answer_headers(Endpoint::Keys, &[("cache-control", "max-age=60")]);
    let document = client::get(at(&idp, Endpoint::Discovery)).send().await.json();
    let keys = "https://keycloak.example.com/realms/other/protocol/openid-connect/certs";
    assert_eq!(document["jwks_uri"], keys);
    assert_eq!(idp.url(Endpoint::Keys), keys);
    assert_eq!(client::get(at(&idp, Endpoint::Metadata)).send().await.json(), document);
    assert_eq!(token::decode(&idp.token()).1["iss"], "https://keycloak.example.com/realms/other");
    let get = client::get(at(&idp, Endpoint::Keys));
    let first = get.send().await;
    assert_eq!(first.headers_named("cache-control"), ["max-age=60"]);
    assert_eq!(get.header("if-none-match", first.header("etag").unwrap()).send().await.status, 304);
}

#[tokio::test]
async fn the_load_driver_counts_what_came_back() {
    let upstream = Upstream::start().await;
    let get = client::get(upstream.url("/"));
    upstream.answer_when("authorization", "Bearer bad", 401);
    let round = vec![get.clone().bearer("good"), get.clone().bearer("bad")];
    let report = Load::round(round).connections(4).requests(200).run().await;
    assert_eq!(report.by_status, BTreeMap::from([(200, 100), (401, 100)]), "{report}");
    assert_eq!((report.sent(), upstream.count()), (200, 200));
    assert!(report.percentile(50.0) <= report.longest());

    let paced =
        Load::of(get.clone()).connections(2).rate(200.0).duration(Duration::from_millis(250)).run().await;
    assert!(paced.only(200), "{paced}");
    assert_eq!(paced.sent(), 50);

    let running = Load::of(get.clone()).start();
    running.proceed(20).await;
    upstream.answer_next(1, 503, &[("retry-after", "1")]);
    running.proceed(20).await;
    let report = running.stop().await;
    assert_eq!(report.with_status(503), 1, "{report}");
    assert_eq!(report.samples[&503].header("retry-after").unwrap(), "1");

    let address = upstream.address();
    upstream.stop().await;
    let report = Load::of(get).requests(3).run().await;
    assert_eq!(report.failures.values().sum::<u64>(), 3, "{address}: {report}");
}
