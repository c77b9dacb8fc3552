//! Tokens that are bound to a key which every request proves anew (RFC 9449), on real Envoy.

use crate::envoy::scene::{Scene, arrived, builder, inbound, listener, listener_named, wasm};
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::envoy::{self, Pushed};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{Mint, dpop_proof};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// Listeners: `bound` takes nothing else, `either` other tokens too, `nonces` wants nonces, `known`
/// is known by another origin, `plain` looks at no key.
struct Stage {
    scene: Scene,
    key: Key,
}

impl Stage {
    async fn start(alg: Alg) -> Self {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let with = |bound: Value, dpop: Value| {
            let mut configuration = inbound(&idp);
            for (parent, field, value) in
                [("/inbound/rules/0/require", "token_binding", bound), ("/inbound", "dpop", dpop)]
            {
                if !value.is_null() {
                    configuration.pointer_mut(parent).unwrap()[field] = value;
                }
            }
            configuration
        };
        let key = json!({ "inline": "0123456789abcdef0123456789abcdef" });
        let mut taken_out = with(json!("dpop"), Value::Null);
        taken_out["inbound"]["rules"][0]["forward_token"] = json!(false);
        let mut builder = builder(&idp, &upstream);
        for (name, configuration) in [
            ("bound", with(json!("dpop"), Value::Null)),
            ("either", with(json!({ "dpop": true, "optional": true }), Value::Null)),
            ("nonces", with(json!("dpop"), json!({ "nonce_key": key }))),
            ("known", with(json!("dpop"), json!({ "origins": ["https://api.example.com"] }))),
            ("plain", with(Value::Null, Value::Null)),
            ("taken-out", taken_out),
        ] {
            builder = builder.listener(listener_named(name, &wasm(&configuration).name(name)));
        }
        Self { scene: Scene::of(idp, upstream, builder).await, key: Key::new(alg) }
    }

    fn token(&self) -> String {
        let mut claims = self.scene.idp.claims();
        claims["cnf"] = json!({ "jkt": self.key.thumbprint() });
        claims["typ"] = json!("DPoP");
        self.scene.idp.mint(claims)
    }

    fn get(&self, listener: &str) -> Request {
        Request::new("GET", self.scene.envoy.url(listener, "/inventory/items?a=b"))
    }

    /// A proof for that listener.
    fn proof(&self, listener: &str, token: &str) -> Mint {
        dpop_proof(&self.key, "GET", &self.scene.envoy.url(listener, "/inventory/items"), Some(token))
    }

    fn sign(&self, proof: &Mint) -> String {
        proof.sign(&self.key)
    }

    async fn send(&self, listener: &str, token: &str, proof: &Mint) -> Response {
        let request = self.get(listener).header("authorization", format!("DPoP {token}"));
        request.header("dpop", self.sign(proof)).send().await
    }
}

fn refusal(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["reason"].as_str().unwrap_or_default().to_owned())
}

fn challenges(answer: &Response) -> Vec<String> {
    answer.headers_named("www-authenticate")
}

const ALGORITHMS: &str = "algs=\"ES256 ES384 ES512 EdDSA RS256 RS384 RS512 PS256 PS384 PS512\"";

#[tokio::test]
async fn a_bound_token_is_good_with_a_new_proof_for_each_request_and_with_nothing_less() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    for _ in 0..3 {
        let answer = stage.send("bound", &token, &stage.proof("bound", &token)).await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", stage.scene.envoy.logs());
        assert_eq!(arrived(&answer, "authorization"), [format!("DPoP {token}")]);
        assert_eq!(arrived(&answer, "dpop").len(), 1);
    }
    let other = Key::new(Alg::Es256);
    let url = stage.scene.envoy.url("bound", "/inventory/items");
    let proof = || stage.proof("bound", &token);
    for (proof, reason) in [
        (dpop_proof(&other, "GET", &url, Some(&token)), "binding_mismatch"),
        (proof().claim("htm", "POST"), "proof_method"),
        (proof().claim("htu", format!("{url}/1")), "proof_url"),
        (proof().claim("ath", "x"), "proof_token"),
        (proof().claim("iat", 1), "proof_time"),
        (proof().header("typ", "JWT"), "proof_malformed"),
        (proof().key(&other).without_header("kid"), "proof_signature"),
    ] {
        let answer = stage.send("bound", &token, &proof).await;
        assert_eq!(refusal(&answer), (401, reason.to_owned()));
        let code = if reason == "binding_mismatch" { "invalid_token" } else { "invalid_dpop_proof" };
        let [challenge] = challenges(&answer).try_into().unwrap();
        assert!(challenge.starts_with("DPoP realm=\"m2m\", error=\""), "{challenge}");
        assert!(
            challenge.contains(&format!("error=\"{code}\"")) && challenge.ends_with(ALGORITHMS),
            "{challenge}"
        );
    }
    let behind = |scheme: &str| stage.get("bound").header("authorization", format!("{scheme} {token}"));
    let none = behind("DPoP").send().await;
    assert_eq!(refusal(&none), (401, "proof_missing".to_owned()));
    let signed = stage.sign(&proof());
    let twice = behind("DPoP").header("dpop", &signed).header("dpop", &signed).send().await;
    assert_eq!(refusal(&twice), (401, "proof_multiple".to_owned()));
    let bearer = behind("Bearer").header("dpop", stage.sign(&proof())).send().await;
    assert_eq!(refusal(&bearer), (401, "binding_mismatch".to_owned()), "RFC 9449 section 7.1");
    let plain = stage.get("binding_mismatch").bearer(stage.scene.idp.token()).send().await;
    assert_eq!(refusal(&plain), (401, "binding_mismatch".to_owned()), "one that is not bound");
    let mut claims = stage.scene.idp.claims();
    claims["sub"] = json!("other");
    let unbound = stage.scene.idp.mint(claims);
    let answer = stage.send("bound", &unbound, &stage.proof("bound", &unbound)).await;
    assert_eq!(refusal(&answer), (401, "binding_mismatch".to_owned()), "nothing says that it is this key's");
    let missing = stage.get("bound").send().await;
    assert_eq!(challenges(&missing), [format!("DPoP realm=\"m2m\", {ALGORITHMS}")]);
    assert_eq!(stage.scene.upstream.count(), 3);
}

#[tokio::test]
async fn keys_of_other_kinds_prove_too() {
    for alg in [Alg::EdDsa, Alg::Rs256] {
        let stage = Stage::start(alg).await;
        let token = stage.token();
        let answer = stage.send("bound", &token, &stage.proof("bound", &token)).await;
        assert_eq!(answer.status, 200, "{alg:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_proof_is_good_for_one_request_of_all_workers() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    let request = |proof: &str| {
        let request = stage.get("bound").header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof)
    };
    for _ in 0..5 {
        let request = request(&stage.sign(&stage.proof("bound", &token)));
        let sent: Vec<_> = (0..20).map(|_| crate::envoy::scene::send(request.clone())).collect();
        let mut passed = 0;
        for answer in sent {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => passed += 1,
                _ => assert_eq!(refusal(&answer), (401, "proof_replayed".to_owned())),
            }
        }
        assert_eq!(passed, 1, "of 20 connections to two workers");
    }
}

#[tokio::test]
async fn where_it_is_optional_other_tokens_are_taken_and_bound_ones_still_proven() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    assert_eq!(stage.get("either").bearer(stage.scene.idp.token()).send().await.status, 200);
    assert_eq!(stage.send("either", &token, &stage.proof("either", &token)).await.status, 200);
    let downgraded = stage.get("either").bearer(&token).send().await;
    assert_eq!(refusal(&downgraded), (401, "binding_mismatch".to_owned()));
    let [bearer, dpop] = challenges(&downgraded).try_into().unwrap();
    assert!(bearer.starts_with("Bearer realm=\"m2m\", error=\"invalid_token\""), "{bearer}");
    assert_eq!(dpop, format!("DPoP realm=\"m2m\", {ALGORITHMS}"));
    let [bearer, dpop] =
        challenges(&stage.send("either", "x.y.z", &stage.proof("either", "x")).await).try_into().unwrap();
    assert_eq!(bearer, "Bearer realm=\"m2m\"");
    assert!(dpop.starts_with("DPoP realm=\"m2m\", error=\"invalid_token\""), "{dpop}");
    let both =
        stage.get("either").bearer(&token).header("authorization", format!("DPoP {token}")).send().await;
    assert_eq!(refusal(&both), (400, "multiple_credentials".to_owned()));
}

#[tokio::test]
async fn a_service_that_wants_nonces_gives_one_and_takes_it_whatever_the_callers_clock_says() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    let first = stage.send("nonces", &token, &stage.proof("nonces", &token)).await;
    assert_eq!(refusal(&first), (401, "proof_nonce".to_owned()));
    assert!(challenges(&first)[0].contains("error=\"use_dpop_nonce\""), "{first:?}");
    let nonce = first.header("dpop-nonce").unwrap();
    let with = |nonce: &str| stage.proof("nonces", &token).claim("nonce", nonce).claim("iat", 1);
    let proof = with(&nonce);
    let answer = stage.send("nonces", &token, &proof).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(refusal(&stage.send("nonces", &token, &proof).await), (401, "proof_replayed".to_owned()));
    assert_eq!(stage.send("nonces", &token, &with(&nonce)).await.status, 200, "until it ends");
    let answer = stage.send("nonces", &token, &with(&nonce.to_lowercase())).await;
    assert_eq!(refusal(&answer), (401, "proof_nonce".to_owned()));
}

#[tokio::test]
async fn a_service_may_be_known_by_another_origin_than_its_own() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    let proof = |url: &str| dpop_proof(&stage.key, "GET", url, Some(&token));
    let answer = stage.send("known", &token, &proof("https://api.example.com/inventory/items")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = stage.send("known", &token, &stage.proof("known", &token)).await;
    assert_eq!(refusal(&answer), (401, "proof_url".to_owned()));
}

#[tokio::test]
async fn a_token_that_is_taken_out_takes_its_proof_with_it() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    let answer = stage.send("taken-out", &token, &stage.proof("taken-out", &token)).await;
    assert_eq!(arrived(&answer, "authorization").len() + arrived(&answer, "dpop").len(), 0);
}

#[tokio::test]
async fn a_rule_that_looks_at_no_key_refuses_bound_tokens() {
    let stage = Stage::start(Alg::Es256).await;
    let token = stage.token();
    let answer = stage.get("plain").bearer(&token).send().await;
    assert_eq!(refusal(&answer), (401, "binding_mismatch".to_owned()));
    let answer = stage.send("plain", &token, &stage.proof("plain", &token)).await;
    assert_eq!(refusal(&answer), (401, "no_token".to_owned()), "DPoP is no scheme there");
}

#[tokio::test]
async fn a_used_proof_stays_used_after_a_push_that_adds_a_rule() {
    let configuration = |idp: &Idp| {
        let mut configuration = inbound(idp);
        configuration["inbound"]["rules"][0]["require"]["token_binding"] = json!("dpop");
        configuration
    };
    let mut scene = Scene::start(configuration).await;
    let key = Key::new(Alg::Es256);
    let mut claims = scene.idp.claims();
    claims["cnf"] = json!({ "jkt": key.thumbprint() });
    let token = scene.idp.mint(claims);
    let url = scene.envoy.url("main", "/inventory/items");
    let request = |proof: &str| {
        let request = Request::new("GET", &url).header("authorization", format!("DPoP {token}"));
        request.header("dpop", proof)
    };
    let proof = || dpop_proof(&key, "GET", &url, Some(&token)).sign(&key);
    let used = proof();
    assert_eq!(request(&used).send().await.status, 200, "{}", scene.envoy.logs());
    let mut wider = configuration(&scene.idp);
    let rule = json!({ "name": "health", "match": { "path_prefix": "/health" }, "allow": true });
    wider["inbound"]["rules"].as_array_mut().unwrap().insert(0, rule);
    assert_eq!(scene.envoy.push([listener(&wasm(&wider))]).await, Pushed::Accepted);
    let health = Request::new("GET", scene.envoy.url("main", "/health"));
    until("the new rule counts", async || (health.send().await.status == 200).then_some(())).await;
    for _ in 0..8 {
        assert_eq!(refusal(&request(&used).send().await), (401, "proof_replayed".to_owned()));
    }
    assert_eq!(request(&proof()).send().await.status, 200);
}

#[tokio::test]
async fn two_filters_of_one_request_have_names_of_their_own_and_each_sees_the_proof_once() {
    for (names, status) in [(["outer", "inner"], 200), (["same", "same"], 401)] {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let mut configuration = inbound(&idp);
        configuration["inbound"]["rules"][0]["require"]["token_binding"] = json!("dpop");
        let filters = names.map(|name| wasm(&configuration).name(name).filter());
        let chain = envoy::listener("main", filters.into(), envoy::route_to("service"));
        let builder = builder(&idp, &upstream).listener(chain);
        let scene = Scene::of(idp, upstream, builder).await;
        let key = Key::new(Alg::Es256);
        let mut claims = scene.idp.claims();
        claims["cnf"] = json!({ "jkt": key.thumbprint() });
        let token = scene.idp.mint(claims);
        let url = scene.envoy.url("main", "/inventory/items");
        let proof = dpop_proof(&key, "GET", &url, Some(&token)).sign(&key);
        let request = Request::new("GET", &url).header("authorization", format!("DPoP {token}"));
        let answer = request.header("dpop", proof).send().await;
        assert_eq!(answer.status, status, "{names:?}: {answer:?}");
    }
}
