//! Inbound on real Envoy: who gets through, who does not, and what they are told.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod waiting;

use crate::scene::{Scene, Shared, arrived, builder, inbound, issuers, listener_named, wasm};
use m2m_auth_kit::client::{self, Connection, Request, Response};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{Mint, SUBJECT, decode, now};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};
use std::sync::Arc;

/// One Envoy for every test that changes nothing, and the keys that its provider publishes beside the one it signs with.
struct Stage {
    scene: Scene,
    others: Vec<Key>,
}

static STAGE: Shared<Stage> = Shared::new();

async fn stage() -> Arc<Stage> {
    let start = async || {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let algorithms = [Alg::Rs512, Alg::Ps256, Alg::Es256, Alg::Es256, Alg::EdDsa];
        let others: Vec<_> = algorithms.into_iter().map(Key::new).collect();
        for key in &others {
            idp.publish_jwk(key.jwk());
        }
        let http2 = envoy::http2(envoy::cluster("service-http2", upstream.address()));
        let routes = vec![
            json!({ "match": { "prefix": "/Inventory" }, "route": { "cluster": "service-http2" } }),
            json!({ "match": { "prefix": "/" }, "route": { "cluster": "service" } }),
        ];
        let filter = wasm(&configuration(&idp)).filter();
        let listener = envoy::listener("main", vec![filter], envoy::route_config(routes));
        let mut audited = inbound(&idp);
        audited["inbound"]["rules"][0]["name"] = json!("audited");
        let audited = listener_named("audited", &wasm(&audited));
        let builder = builder(&idp, &upstream).cluster(http2).listener(listener).listener(audited);
        Stage { scene: Scene::of(idp, upstream, builder).await, others }
    };
    STAGE.get(start).await
}

/// Rules of every kind, the narrow ones first.
fn configuration(idp: &Idp) -> Value {
    let with = |more: Value| {
        let mut require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
        require.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        require
    };
    let role = |role: &str| with(json!({ "client_roles": { "inventory-service": [role] } }));
    let told =
        json!({ "x-subject": "sub", "x-client": "azp", "x-level": "level", "x-names": ["some.names"] });
    json!({
        "issuers": issuers(idp),
        "inbound": { "rules": [
            { "name": "open-hosts", "match": { "host": "*.open.example.com" }, "allow": true },
            { "name": "operators", "match": { "host": "admin.example.com" },
              "require": with(json!({ "realm_roles": ["operator"] })) },
            { "name": "admin", "match": { "path_prefix": "/inventory/admin" }, "require": role("inventory:admin") },
            { "name": "writes", "match": { "path_prefix": "/inventory", "methods": ["POST", "PUT"] },
              "require": role("inventory:write") },
            { "name": "reads", "match": { "path_prefix": "/inventory" }, "require": role("inventory:read") },
            { "name": "grpc", "match": { "path_prefix": "/Inventory" }, "require": role("inventory:read") },
            { "name": "orders", "match": { "path_prefix": "/orders" },
              "require": with(json!({ "scopes": ["orders:read", "orders:write"] })) },
            { "name": "told", "match": { "path": "/told" }, "require": with(json!({})),
              "claims_to_headers": told, "forward_token": false },
            { "name": "public", "match": { "path_prefix": "/public" }, "allow": true },
        ] },
    })
}

impl Stage {
    /// The claims of a good caller.
    fn claims(&self) -> Value {
        self.scene.idp.claims()
    }

    fn mint(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.scene.idp.mint(claims)
    }

    /// Answered by the filter, and never seen by the service.
    async fn refused(&self, request: &Request, path: &str) -> Response {
        let answer = request.send().await;
        assert!(answer.status >= 400, "{path}: {answer:?}");
        assert!(self.scene.seen(path).is_empty(), "{path} has reached the service");
        answer
    }
}

fn challenge(answer: &Response) -> String {
    answer.header("www-authenticate").unwrap_or_default()
}

#[tokio::test]
async fn a_good_token_reaches_the_service_and_no_token_is_a_bare_challenge() {
    let stage = stage().await;
    let good = stage.scene.get("/inventory/items?first").bearer(stage.scene.idp.token()).send().await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(good.json()["path"], "/inventory/items?first");
    let path = "/inventory/items?bare";
    let missing = stage.refused(&stage.scene.get(path), path).await;
    assert_eq!((missing.status, challenge(&missing).as_str()), (401, "Bearer realm=\"m2m\""));
    assert_eq!(missing.json()["error"], "Missing token");
}

/// What is wrong with a token, the token, and the reason that is given for its refusal.
type Bad = (&'static str, String, &'static str);

/// Well signed, with claims that are not good.
fn bad_claims(stage: &Stage) -> Vec<Bad> {
    let without = |name: &str| stage.mint(|claims| drop(claims.as_object_mut().unwrap().remove(name)));
    let with = |name: &str, value: Value| stage.mint(|claims| claims[name] = value);
    vec![
        ("another audience", with("aud", json!("other-service")), "audience"),
        ("no audience", without("aud"), "audience"),
        ("expired", with("exp", json!(now() - 120)), "expired"),
        ("no end", without("exp"), "claim"),
        ("not yet valid", with("nbf", json!(now() + 3600)), "not_yet_valid"),
        ("issued in the future", with("iat", json!(now() + 3600)), "not_yet_valid"),
        ("another issuer", with("iss", json!("https://evil.example.com")), "issuer"),
        ("an ID token", with("typ", json!("ID")), "kind"),
        ("a bound token", with("cnf", json!({ "jkt": "x" })), "bound"),
    ]
}

/// Good claims, not well signed.
fn bad_signatures(stage: &Stage) -> Vec<Bad> {
    let (idp, own) = (&stage.scene.idp, stage.scene.idp.signing_key());
    let (foreign, es256) = (Idp::foreign_key().with_kid(own.kid()), &stage.others[2]);
    let public = own.jwk()["n"].as_str().unwrap().to_owned();
    let good = || Mint::of(stage.claims());
    let made = |mint: Mint| idp.mint_with(&mint);
    vec![
        ("forged", made(good().key(&foreign)), "signature"),
        ("unsigned", made(good().unsigned()), "malformed"),
        ("unsigned, more or less", made(good().unsigned()) + "AA", "algorithm"),
        ("signed with the public key", made(good().secret(public).kid(own.kid())), "algorithm"),
        ("HS256 in the header only", made(good().alg("HS256")), "algorithm"),
        ("ES256 with an RSA key's name", made(good().key(es256).kid(own.kid())), "algorithm"),
        ("RS256 with an EC key's name", made(good().kid(es256.kid())), "algorithm"),
        ("demands an extension", made(good().header("crit", json!(["exp"]))), "critical"),
        ("another type", made(good().header("typ", "dpop+jwt")), "type"),
    ]
}

/// Not tokens at all.
fn bad_shapes(stage: &Stage) -> Vec<Bad> {
    let good = stage.scene.idp.token();
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    vec![
        ("without a signature", format!("{unsigned}."), "malformed"),
        ("two parts", unsigned.to_owned(), "malformed"),
        ("four parts", format!("{good}.{unsigned}"), "malformed"),
        ("garbage", "garbage".to_owned(), "malformed"),
        ("garbage in three parts", "a.b.c".to_owned(), "malformed"),
        ("padded", format!("{good}="), "malformed"),
        ("too large", "x".repeat(20_000), "too_large"),
    ]
}

#[tokio::test]
async fn every_bad_token_is_refused_for_its_own_reason_and_none_is_told() {
    let stage = stage().await;
    let table = [bad_claims(&stage), bad_signatures(&stage), bad_shapes(&stage)].concat();
    for (number, (name, token, reason)) in table.iter().enumerate() {
        let path = format!("/inventory/items?bad={number}");
        let answer = stage.refused(&stage.scene.get(&path).bearer(token), &path).await;
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
        let body = answer.json();
        assert_eq!((&body["error"], &body["reason"]), (&json!("Invalid token"), &json!(reason)), "{name}");
        let start = "Bearer realm=\"m2m\", error=\"invalid_token\", error_description=\"";
        assert!(challenge(&answer).starts_with(start), "{name}: {answer:?}");
        let last = token.rsplit('.').next().filter(|part| part.len() > 8);
        let quoted = last.is_some_and(|part| format!("{answer:?}").contains(part));
        assert!(!quoted, "{name}: the answer quotes the token");
    }
    let good = stage.scene.get("/inventory/items").bearer(stage.scene.idp.token());
    assert_eq!(good.send().await.status, 200);
}

#[tokio::test]
async fn tokens_never_reach_a_log() {
    let stage = stage().await;
    let expired = stage.mint(|claims| claims["exp"] = json!(now() - 120));
    let poor = stage.mint(|claims| claims["resource_access"] = json!({}));
    let forged = Mint::of(stage.claims()).key(&Idp::foreign_key()).without_header("kid");
    let (forged, good) = (stage.scene.idp.mint_with(&forged), stage.scene.idp.token());
    let garbage = "c2VjcmV0LWdhcmJhZ2UtdGhhdC1pcy1uby10b2tlbg".to_owned();
    let tokens = [(expired, 401), (poor, 403), (forged, 401), (good, 200), (garbage, 401)];
    for (token, status) in &tokens {
        // A listener of its own, since the audit log is limited in lines per second.
        let url = stage.scene.envoy.url("audited", &format!("/inventory?access_token={token}"));
        let answer = client::get(url).bearer(token).header("cookie", token).send().await;
        assert_eq!(answer.status, *status, "{answer:?}");
    }
    for reason in ["expired", "client_role", "signature", "malformed"] {
        let line =
            stage.scene.envoy.wait_for_log(&format!("\"reason\":\"{reason}\",\"rule\":\"audited\"")).await;
        assert!(line.contains("\"path\":\"/inventory\""), "{line}");
    }
    let log = stage.scene.envoy.logs();
    for (token, _) in &tokens {
        let parts = token.split('.').skip(1).chain([token.as_str()]);
        for part in parts.filter(|part| part.len() > 20) {
            assert!(!log.contains(part), "a part of a token is in the log: {part}");
        }
    }
}

#[tokio::test]
async fn a_caller_without_the_role_or_the_scope_is_told_what_was_missing() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let role = stage.scene.get("/inventory/admin").bearer(&token).send().await;
    assert_eq!(role.status, 403, "{role:?}");
    assert_eq!(
        challenge(&role),
        "Bearer realm=\"m2m\", error=\"insufficient_scope\", \
         error_description=\"required role of client inventory-service: inventory:admin\""
    );
    let body = json!({
        "error": "Insufficient permissions",
        "reason": "client_role",
        "message": "required role of client inventory-service: inventory:admin",
    });
    assert_eq!(role.json(), body);
    let scope = stage
        .scene
        .get("/orders")
        .bearer(stage.mint(|claims| claims["scope"] = json!("orders:read")))
        .send()
        .await;
    assert_eq!(scope.status, 403, "{scope:?}");
    assert_eq!(
        challenge(&scope),
        "Bearer realm=\"m2m\", error=\"insufficient_scope\", \
         error_description=\"required scope: all of orders:read, orders:write\", scope=\"orders:read orders:write\""
    );
    assert_eq!(scope.json()["reason"], "scope");
    for scopes in [json!("orders:write x orders:read"), json!(["orders:read", "orders:write"])] {
        let token = stage.mint(|claims| claims["scope"] = scopes.clone());
        assert_eq!(stage.scene.get("/orders").bearer(token).send().await.status, 200, "{scopes}");
    }
    let admin = |claims: &mut Value| {
        claims["resource_access"]["inventory-service"]["roles"] = json!(["inventory:admin"]);
    };
    assert_eq!(stage.scene.get("/inventory/admin?admin").bearer(stage.mint(admin)).send().await.status, 200);
}

#[tokio::test]
async fn a_request_that_no_rule_is_for_is_refused_even_with_a_good_token() {
    let stage = stage().await;
    for path in ["/", "/other", "/inventoryx", "/publicly", "/told/more", "/INVENTORY/items"] {
        let answer = stage.refused(&stage.scene.get(path).bearer(stage.scene.idp.token()), path).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("no_rule")), "{path}");
        assert_eq!(challenge(&answer), "", "{path}: another token would not help");
    }
}

#[tokio::test]
async fn every_refusal_is_json_in_the_documented_shape_that_nobody_may_store() {
    let stage = stage().await;
    let (scene, token) = (&stage.scene, stage.scene.idp.token());
    for (request, status, error) in [
        (scene.get("/inventory"), 401, "Missing token"),
        (scene.get("/inventory").bearer("x"), 401, "Invalid token"),
        (scene.get("/inventory/admin").bearer(&token), 403, "Insufficient permissions"),
        (scene.get("/nowhere"), 403, "Forbidden"),
        (scene.get("/inventory%2fadmin"), 400, "Invalid request"),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{error}: {answer:?}");
        assert_eq!(answer.headers_named("content-type"), ["application/json"], "{error}");
        assert_eq!(answer.headers_named("cache-control"), ["no-store"], "{error}");
        assert!(answer.headers_named("www-authenticate").len() <= 1, "{error}: {answer:?}");
        let body = answer.json();
        assert_eq!(body["error"], error);
        let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["error", "message", "reason"], "{error}");
        assert!(body["reason"].is_string() && body["message"].is_string(), "{error}: {body}");
    }
}

#[tokio::test]
async fn the_scheme_counts_in_any_case_and_only_at_the_start() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let request = stage.scene.get("/inventory").header("authorization", format!("{scheme} {token}"));
        assert_eq!(request.send().await.status, 200, "{scheme}");
    }
    let basic = "Basic b3JkZXItc2VydmljZTpvcmRlci1zZWNyZXQ=".to_owned();
    for (number, value) in [
        basic,
        format!("foo Bearer {token}"),
        format!("Bearer{token}"),
        format!("BearerX {token}"),
        format!("\"Bearer\" {token}"),
        token.clone(),
        "Digest username=\"a\", uri=\"/b\"".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        String::new(),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/inventory?scheme={number}");
        let answer = stage.refused(&stage.scene.get(&path).header("authorization", value), &path).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("no_token")), "{value}");
        assert_eq!(challenge(&answer), "Bearer realm=\"m2m\"", "{value}");
    }
}

#[tokio::test]
async fn two_credentials_are_one_too_many() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let (bearer, basic) = (format!("Bearer {token}"), "Basic eDp5".to_owned());
    let table = [
        vec![bearer.clone(), bearer.clone()],
        vec![bearer.clone(), basic.clone()],
        vec![basic.clone(), bearer.clone()],
        vec![basic, bearer.clone(), bearer.clone()],
        vec![format!("{bearer}, {bearer}")],
        vec![format!("{bearer},")],
    ];
    for (number, lines) in table.iter().enumerate() {
        let path = format!("/inventory?twice={number}");
        let request = stage.scene.get(&path);
        let request = lines.iter().fold(request, |request, line| request.header("authorization", line));
        for request in [request.clone(), request.http2()] {
            let answer = stage.refused(&request, &path).await;
            assert_eq!(answer.status, 400, "{lines:?}: {answer:?}");
            assert_eq!(answer.json()["reason"], "several_tokens", "{lines:?}");
            assert!(challenge(&answer).contains("error=\"invalid_request\""), "{lines:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_bytes_like_others() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    for value in [&b"Bearer \xff\xfe"[..], b"Bearer caf\xe9.x.y", b"\xc3\x28", b"Bearer \xf0\x9f\x92\xa9"] {
        let answer = stage.scene.get("/inventory").header("authorization", value).send().await;
        assert_eq!(answer.status, 401, "{}: {answer:?}", value.escape_ascii());
    }
    let path = "/inventory/items?bytes";
    let odd =
        stage.scene.get(path).bearer(&token).header("x-odd", b"caf\xe9 \xff").header("x-subject", b"\xfe");
    let answer = odd.send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = stage.scene.seen(path).pop().unwrap();
    let of =
        |name: &str| seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!((of("x-odd"), of("x-subject")), (Some(b"caf\xe9 \xff".to_vec()), None));
    let hosts = stage.scene.get("/inventory").bearer(&token).header("host", b"caf\xe9").send().await;
    assert!([200, 400].contains(&hosts.status), "Envoy may refuse it, we do not fall over it: {hosts:?}");
    let log = stage.scene.envoy.logs();
    assert!(!log.contains("panicked") && !log.contains("Function: proxy_on"), "the VM has fallen:\n{log}");
}

#[tokio::test]
async fn a_header_section_as_large_as_envoy_takes_is_judged_as_any_other() {
    let stage = stage().await;
    let large = "x".repeat(57 * 1024);
    let request = stage.scene.get("/inventory").header("x-large", &large);
    assert_eq!(request.clone().bearer(stage.scene.idp.token()).send().await.status, 200);
    assert_eq!(request.send().await.status, 401);
    let token = stage.scene.get("/inventory").bearer(&large).send().await;
    assert_eq!((token.status, &token.json()["reason"]), (401, &json!("too_large")));
    let many = (0..80)
        .fold(stage.scene.get("/inventory"), |request, number| request.header(format!("x-{number}"), "y"));
    assert_eq!(many.bearer(stage.scene.idp.token()).send().await.status, 200);
}

#[tokio::test]
async fn no_spelling_of_a_path_slips_past_its_rule() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let table = [
        (
            200,
            "",
            &[
                "/inventory/items",
                "/inventory",
                "/inventory/",
                "/inventory/administrator",
                "/inventory?/../admin",
            ][..],
        ),
        (200, "", &["/public/x", "/public", "//public", "/%70ublic", "/public;a=b/x", "/orders/../public"]),
        (
            403,
            "required role of client inventory-service: inventory:admin",
            &[
                "/inventory/admin",
                "/inventory/admin/",
                "/inventory/admin?x",
                "//inventory/admin",
                "/inventory//admin",
                "/inventory/%61dmin",
                "/inventory/%61%64%6D%69%6e/x",
                "/inventory/./admin",
                "/inventory/x/../admin",
                "/inventory/x/%2e%2e/admin",
                "/inventory/x/..;/admin",
                "/inventory/admin;x",
                "/inventory;a/admin;b=c/d",
                "/inventory/admin%3bx",
                "/public/../inventory/admin",
                "/public/..;x/inventory/admin",
                "/public/%2e./inventory/admin",
                "/%2e/inventory/admin",
            ],
        ),
        (
            400,
            "the path has no single meaning",
            &[
                "/inventory%2fadmin",
                "/inventory%2Fadmin",
                "/inventory%5cadmin",
                "/inventory\\admin",
                "/public\\..\\inventory\\admin",
                "/public/%2e%2e%2finventory",
                "/public/%252e%252e/inventory/admin",
                "/inventory/%2561dmin",
                "/public/../../inventory",
                "/inventory/%zz",
                "/inventory/%",
                "/inventory/%00",
                "/inventory/%0a",
            ],
        ),
    ];
    for (status, message, paths) in table {
        for path in paths {
            for request in [stage.scene.get(path), stage.scene.get(path).http2()] {
                let Ok(answer) = request.bearer(&token).try_send().await else {
                    // The HTTP/2 client itself may refuse what is no path.
                    continue;
                };
                assert_eq!(answer.status, status, "{path}: {answer:?}");
                if status == 200 {
                    assert_eq!(answer.json()["path"], *path, "forwarded as it came");
                } else {
                    assert_eq!(answer.json()["message"], message, "{path}");
                    assert!(stage.scene.seen(path).is_empty(), "{path} has reached the service");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_is_judged_by_its_own_host_and_path() {
    let stage = stage().await;
    let address = stage.scene.envoy.address("main");
    for (line, status) in [
        (format!("GET http://{address}/inventory/admin HTTP/1.1"), 403),
        (format!("GET http://{address}/public/../inventory/admin HTTP/1.1"), 403),
        ("GET http://admin.example.com/public HTTP/1.1".to_owned(), 403),
        ("GET http://a.open.example.com/inventory/admin?open HTTP/1.1".to_owned(), 200),
    ] {
        let mut connection = Connection::open(&address).await.unwrap();
        let (host, token) = ("host: public.example.com", stage.scene.idp.token());
        let head = format!("{line}\r\n{host}\r\nauthorization: Bearer {token}\r\n\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        let answer = connection.read(false).await.unwrap();
        assert_eq!(answer.status, status, "{line}: {answer:?}");
    }
    let mut connection = Connection::open(&address).await.unwrap();
    connection.write(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = connection.read(false).await.unwrap();
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn rules_are_chosen_by_method_and_host() {
    let stage = stage().await;
    let scene = &stage.scene;
    let read = scene.idp.token();
    let write = stage
        .mint(|claims| claims["resource_access"]["inventory-service"]["roles"] = json!(["inventory:write"]));
    for (method, by_reader, by_writer) in
        [("GET", 200, 403), ("DELETE", 200, 403), ("POST", 403, 200), ("PUT", 403, 200), ("get", 200, 403)]
    {
        let request = scene.request(method, "/inventory/items");
        let as_reader = request.clone().bearer(&read).try_send().await;
        assert!(
            as_reader.as_ref().is_ok_and(|answer| answer.status == by_reader) || method == "get",
            "{method}: {as_reader:?}"
        );
        let as_writer = request.bearer(&write).try_send().await;
        assert!(
            as_writer.as_ref().is_ok_and(|answer| answer.status == by_writer) || method == "get",
            "{method}: {as_writer:?}"
        );
    }
    let operator = stage.mint(|claims| claims["realm_access"] = json!({ "roles": ["operator"] }));
    for (host, status) in [
        ("admin.example.com", 403),
        ("ADMIN.example.com:8443", 403),
        ("admin.example.com.", 403),
        ("a.open.example.com", 200),
        ("open.example.com", 403),
        ("a.open.example.com.evil.org", 403),
        ("xopen.example.com", 403),
    ] {
        let answer = scene.get("/elsewhere").header("host", host).bearer(&read).send().await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
    }
    let answer = scene.get("/elsewhere").header("host", "admin.example.com").bearer(&operator).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_rule_that_allows_everybody_asks_for_no_token_and_looks_at_none() {
    let stage = stage().await;
    let request = stage.scene.get("/public/page");
    assert_eq!(request.send().await.status, 200);
    let answer = request.bearer("garbage").send().await;
    assert_eq!(arrived(&answer, "authorization"), ["Bearer garbage"]);
}

#[tokio::test]
async fn the_service_is_told_who_calls_and_nobody_else_can_tell_it() {
    let stage = stage().await;
    let token = stage.mint(|claims| {
        claims["level"] = json!(12_345_678_901_234_567_u64);
        claims["some.names"] = json!(["a", "b"]);
    });
    let lies = |request: Request| {
        ["x-subject", "X-Subject", "x-client", "x-level", "x-names"]
            .into_iter()
            .fold(request, |request, name| request.header(name, "root").header(name, "admin"))
    };
    let all = ["x-subject", "x-client", "x-level", "x-names"];
    let told = lies(stage.scene.get("/told")).bearer(&token).send().await;
    let values = all.map(|name| arrived(&told, name).join(" and "));
    assert_eq!(values, [SUBJECT, "order-service", "12345678901234567", "a,b"]);
    let less = lies(stage.scene.get("/told")).bearer(stage.scene.idp.token()).send().await;
    let values = all.map(|name| arrived(&less, name).join(" and "));
    assert_eq!(
        values,
        [SUBJECT, "order-service", "", ""],
        "a claim that is not there is no reason to believe the client"
    );
    let odd = stage.mint(|claims| (claims["level"], claims["azp"]) = (json!("1\r\nx-evil: 1"), json!("")));
    let odd = lies(stage.scene.get("/told")).bearer(odd).send().await;
    assert!(arrived(&odd, "x-level").is_empty() && arrived(&odd, "x-evil").is_empty(), "{odd:?}");
    for (path, host) in [("/public", "x"), ("/inventory", "x"), ("/elsewhere", "a.open.example.com")] {
        for request in [stage.scene.get(path), stage.scene.get(path).http2()] {
            let answer =
                lies(request.header("host", host)).bearer(&token).header("x-other", "kept").send().await;
            for name in all {
                assert!(
                    arrived(&answer, name).is_empty(),
                    "{path}: the client's own {name} has reached the service"
                );
            }
            assert_eq!(arrived(&answer, "x-other"), ["kept"]);
        }
    }
}

#[tokio::test]
async fn the_token_goes_on_to_the_service_unless_the_rule_keeps_it() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let answer = stage.scene.get("/inventory").bearer(&token).send().await;
    assert_eq!(arrived(&answer, "authorization"), [format!("Bearer {token}")]);
    let answer = stage.scene.get("/told").bearer(&token).send().await;
    assert!(arrived(&answer, "authorization").is_empty(), "{answer:?}");
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_and_the_connection_goes_on() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.scene.envoy.address("main")).await.unwrap();
    let head = connection.exchange(&stage.scene.request("HEAD", "/inventory")).await.unwrap();
    assert_eq!((head.status, challenge(&head).as_str()), (401, "Bearer realm=\"m2m\""));
    let get = connection.exchange(&stage.scene.get("/inventory")).await.unwrap();
    assert_eq!((get.status, &get.json()["error"]), (401, &json!("Missing token")));
    let good = stage.scene.request("HEAD", "/inventory").bearer(stage.scene.idp.token());
    assert_eq!(connection.exchange(&good).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_grpc_client_is_answered_in_its_own_words() {
    let stage = stage().await;
    let call = stage.scene.request("POST", "/Inventory/Get").http2();
    let call = call.header("content-type", "application/grpc").header("te", "trailers").body(vec![0; 5]);
    let poor = stage.mint(|claims| claims["resource_access"] = json!({}));
    for (call, status) in [
        (call.clone(), "16"),
        (call.clone().bearer("garbage"), "16"),
        (call.clone().bearer(poor), "7"),
        (call.clone().bearer(stage.scene.idp.token()), "0"),
    ] {
        let answer = call.send().await;
        assert_eq!(
            (answer.status, answer.header("grpc-status").as_deref()),
            (200, Some(status)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_access_log_says_why_a_request_was_refused() {
    let stage = stage().await;
    let (scene, token) = (&stage.scene, stage.scene.idp.token());
    let expected = [
        (scene.get("/inventory?log=0"), "m2m_auth_no_token"),
        (scene.get("/inventory?log=1").bearer("garbage"), "m2m_auth_invalid_token"),
        (scene.get("/inventory/admin?log=2").bearer(&token), "m2m_auth_insufficient_permissions"),
        (scene.get("/nowhere?log=3"), "m2m_auth_no_rule"),
        (scene.get("/inventory%2f?log=4"), "m2m_auth_ambiguous_path"),
        (scene.get("/inventory?log=5").bearer(&token), "via_upstream"),
    ];
    for (request, _) in &expected {
        request.send().await;
    }
    for (number, (_, details)) in expected.iter().enumerate() {
        let entry = until("the request is in the access log", async || {
            let of_this = format!("?log={number}");
            let entries = scene.envoy.access_log();
            entries
                .into_iter()
                .find(|entry| entry["path"].as_str().is_some_and(|path| path.ends_with(&of_this)))
        });
        assert_eq!(entry.await["details"], *details);
    }
}

#[tokio::test]
async fn every_asymmetric_algorithm_is_accepted_with_the_key_that_is_made_for_it() {
    let stage = stage().await;
    for key in &stage.others {
        let token = Mint::of(stage.claims()).key(key).sign(key);
        assert_eq!(decode(&token).0["alg"], key.alg().name());
        // The second time it comes out of the cache of verified tokens.
        for _ in 0..2 {
            let answer = stage.scene.get("/inventory").bearer(&token).send().await;
            assert_eq!(answer.status, 200, "{key:?}: {answer:?}");
        }
        let mut forged = token.into_bytes();
        let middle = forged.len() - 40;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        let answer = stage.scene.get("/inventory").bearer(String::from_utf8(forged).unwrap()).send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("signature")), "{key:?}");
    }
}

#[tokio::test]
async fn a_signature_counts_only_for_the_key_that_the_token_names() {
    let stage = stage().await;
    let [one, other] = [&stage.others[2], &stage.others[3]];
    let foreign = Key::new(Alg::Es256);
    for (key, kid, reason) in [
        (one, other.kid(), "signature"),
        (other, one.kid(), "signature"),
        (&foreign, one.kid(), "signature"),
        (one, stage.others[4].kid(), "algorithm"),
    ] {
        let token = Mint::of(stage.claims()).key(key).kid(kid).sign(key);
        let answer = stage.scene.get("/inventory").bearer(token).send().await;
        assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!(reason)), "{key:?} as {kid}");
    }
    let nameless = Mint::of(stage.claims()).key(one).without_header("kid").sign(one);
    assert_eq!(
        stage.scene.get("/inventory").bearer(nameless).send().await.status,
        200,
        "the keys that fit are tried"
    );
}
