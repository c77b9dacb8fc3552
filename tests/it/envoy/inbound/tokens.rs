//! Tokens, good and bad: what is accepted, and why the others are not.

use super::{Stage, challenge, stage};
use m2m_auth_kit::client;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{Mint, decode, now};
use serde_json::{Value, json};

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
        ("no end", without("exp"), "invalid_claim"),
        ("not yet valid", with("nbf", json!(now() + 3600)), "not_yet_valid"),
        ("issued in the future", with("iat", json!(now() + 3600)), "not_yet_valid"),
        ("another issuer", with("iss", json!("https://evil.example.com")), "issuer"),
        ("an ID token", with("typ", json!("ID")), "not_access_token"),
        ("a bound token", with("cnf", json!({ "jkt": "x" })), "binding_mismatch"),
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
        ("demands an extension", made(good().header("crit", json!(["exp"]))), "unsupported_crit"),
        ("another type", made(good().header("typ", "dpop+jwt")), "invalid_typ"),
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
async fn every_bad_token_is_refused_for_its_own_reason_and_none_is_logged() {
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
            assert_eq!(answer.json()["reason"], "multiple_credentials", "{lines:?}");
            assert!(challenge(&answer).contains("error=\"invalid_request\""), "{lines:?}: {answer:?}");
        }
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
