//! Several issuers, an issuer of several names, and what an issuer's tokens and a rule's callers
//! must be like.

use crate::envoy::scene::{Scene, builder, issuers, listener, wasm};
use m2m_auth_kit::envoy;
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::token::{Mint, now};
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};

const OLD: &str = "https://old.example.com/realms/my-realm";

/// A rule for the path `/name`, with the usual audience unless it says something else of it.
fn rule(name: &str, more: &Value) -> Value {
    let mut require = json!({ "audiences": ["inventory-service"] });
    require.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "name": name, "match": { "path_prefix": format!("/{name}") }, "require": require })
}

/// The provider under several names, each with another idea of what its tokens are like; and
/// another provider.
fn configuration(idp: &Idp, other: &Idp) -> Value {
    let mut issuers = issuers(idp);
    for (name, more) in [
        ("strict", json!({ "rfc9068": true })),
        ("short", json!({ "max_lifetime": "299s" })),
        ("typed", json!({ "token_types": ["application/at+jwt", "absent"] })),
        ("generic", json!({ "preset": "generic", "access_token_claims": { "nonce": "absent" } })),
        ("moved", json!({ "issuer": [idp.issuer(), OLD] })),
        (
            "tenants",
            json!({
                "issuer": "https://login.example.com/{tenantid}/v2.0", "tenants": ["t-1", "t-2"],
                "jwks_uri": idp.url(Endpoint::Keys),
            }),
        ),
        ("other", json!({ "issuer": other.issuer(), "cluster": "other" })),
    ] {
        let mut issuer = issuers["keycloak"].clone();
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issuers[name] = issuer;
    }
    let of = |issuer: &str| rule(issuer, &json!({ "issuer": issuer }));
    let keycloak = |name: &str, mut more: Value| {
        more["issuer"] = json!("keycloak");
        rule(name, &more)
    };
    let mut cognito = keycloak("clients", json!({ "clients": ["order-service"] }));
    cognito["require"].as_object_mut().unwrap().remove("audiences");
    json!({ "issuers": issuers, "inbound": { "rules": [
        rule("both", &json!({ "issuers": ["keycloak", "other"] })),
        of("strict"), of("short"), of("typed"), of("generic"), of("moved"), of("tenants"), of("other"),
        keycloak("all", json!({ "audiences": { "all_of": ["inventory-service", "audit"] } })),
        keycloak("age", json!({ "max_age": "1m" })),
        keycloak("acr", json!({ "acr_values": ["gold"] })),
        keycloak("step-up", json!({ "acr_values": ["gold", "urn:silver"], "max_age": "5m" })),
        keycloak("subjects", json!({ "subjects": ["somebody-else"] })),
        cognito,
    ] } })
}

async fn scene() -> (Scene, Idp) {
    let (idp, other, upstream) = (Idp::start().await, Idp::start().await, Upstream::start().await);
    let filter = wasm(&configuration(&idp, &other));
    let builder = builder(&idp, &upstream).cluster(envoy::cluster("other", other.address()));
    (Scene::of(idp, upstream, builder.listener(listener(&filter))).await, other)
}

#[tokio::test]
async fn whose_keys_count_what_tokens_must_be_like_and_what_rules_ask() {
    let (scene, other) = scene().await;
    let idp = &scene.idp;
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut claims = idp.claims();
        edit(&mut claims);
        idp.mint(claims)
    };
    let typed = |typ: &str, edit: &dyn Fn(&mut Value)| {
        let mut claims = idp.claims();
        edit(&mut claims);
        idp.mint_with(&Mint::of(claims).header("typ", typ))
    };
    let without =
        |name: &'static str| move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
    let tenant = |of: &'static str, tid: &'static str| {
        with(&move |claims| {
            claims["iss"] = json!(format!("https://login.example.com/{of}/v2.0"));
            claims["tid"] = json!(tid);
        })
    };
    let plain = |_: &mut Value| {};
    let foreign = other.mint_with(&Mint::of(idp.claims()).kid(idp.signing_key().kid()));
    let table = [
        ("both", idp.token(), 200, ""),
        ("both", other.token(), 200, ""),
        ("both", foreign, 401, "signature"),
        ("both", idp.mint(other.claims()), 401, "unknown_key"),
        ("both", with(&|c| c["iss"] = json!(OLD)), 401, "issuer"),
        ("other", idp.token(), 401, "issuer"),
        ("moved", idp.token(), 200, ""),
        ("moved", with(&|c| c["iss"] = json!(OLD)), 200, ""),
        ("moved", with(&|c| c["iss"] = json!("https://older.example.com")), 401, "issuer"),
        ("tenants", tenant("t-1", "t-1"), 200, ""),
        ("tenants", tenant("t-2", "t-2"), 200, ""),
        ("tenants", tenant("t-1", "t-2"), 401, "tenant"),
        ("tenants", tenant("t-3", "t-3"), 401, "issuer"),
        ("strict", typed("at+jwt", &plain), 200, ""),
        ("strict", typed("application/AT+jwt", &plain), 200, ""),
        ("strict", idp.token(), 401, "invalid_typ"),
        ("strict", typed("at+jwt", &without("jti")), 401, "invalid_claim"),
        ("strict", typed("at+jwt", &without("client_id")), 401, "invalid_claim"),
        ("strict", typed("at+jwt", &without("iat")), 401, "invalid_claim"),
        ("strict", typed("at+jwt", &without("sub")), 401, "invalid_claim"),
        ("strict", typed("at+jwt", &without("aud")), 401, "invalid_claim"),
        ("typed", typed("at+jwt", &plain), 200, ""),
        ("typed", idp.mint_with(&Mint::of(idp.claims()).without_header("typ")), 200, ""),
        ("typed", idp.token(), 401, "invalid_typ"),
        ("generic", with(&|c| c["typ"] = json!("invoice")), 200, ""),
        ("generic", with(&without("typ")), 200, ""),
        ("generic", with(&|c| c["at_hash"] = json!("h")), 401, "not_access_token"),
        ("generic", with(&|c| c["nonce"] = json!("n")), 401, "not_access_token"),
        ("both", with(&|c| c["typ"] = json!("invoice")), 401, "not_access_token"),
        ("short", with(&|c| c["exp"] = json!(c["iat"].as_u64().unwrap() + 299)), 200, ""),
        ("short", idp.token(), 401, "lifetime"),
        ("all", with(&|c| c["aud"] = json!(["audit", "inventory-service"])), 200, ""),
        ("all", idp.token(), 401, "audience"),
        ("age", idp.token(), 200, ""),
        ("age", with(&|c| c["iat"] = json!(now() - 90)), 401, "token_too_old"),
        ("age", with(&|c| c["auth_time"] = json!(now() - 90)), 401, "auth_time"),
        ("acr", with(&|c| c["acr"] = json!("gold")), 200, ""),
        ("acr", idp.token(), 401, "acr"),
        ("subjects", with(&|c| c["sub"] = json!("somebody-else")), 200, ""),
        ("subjects", idp.token(), 403, "subject_not_allowed"),
        ("clients", with(&without("aud")), 200, ""),
        ("clients", idp.token(), 401, "audience"),
        (
            "clients",
            with(&|c| {
                c.as_object_mut().unwrap().remove("aud");
                c["azp"] = json!("payment-service");
            }),
            403,
            "client_not_allowed",
        ),
    ];
    for (number, (rule, token, status, reason)) in table.iter().enumerate() {
        let path = format!("/{rule}?row={number}");
        // The second time a good one comes out of the cache of verified tokens, and a bad one does
        // not.
        for _ in 0..2 {
            let answer = scene.get(&path).bearer(token).send().await;
            assert_eq!(answer.status, *status, "{path}: {answer:?}");
            if *status != 200 {
                assert_eq!(answer.json()["reason"], *reason, "{path}: {answer:?}");
                let error = match *reason {
                    "client_not_allowed" | "subject_not_allowed" => "insufficient_scope",
                    "acr" | "token_too_old" | "auth_time" => "insufficient_user_authentication",
                    _ => "invalid_token",
                };
                let challenge = answer.header("www-authenticate").unwrap_or_default();
                assert!(challenge.contains(&format!("error=\"{error}\"")), "{path}: {challenge}");
                assert!(scene.seen(&path).is_empty(), "{path} has reached the service");
            }
        }
    }
}

/// RFC 9470 section 3: a caller learns what it has to do, and that is all that the rule asks.
#[tokio::test]
async fn a_caller_that_must_authenticate_again_is_answered_how_and_when() {
    let (scene, _other) = scene().await;
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut claims = scene.idp.claims();
        edit(&mut claims);
        scene.idp.mint(claims)
    };
    let (acr, long_ago, old) = (
        "the caller's authentication context (acr) is not accepted here",
        "the caller authenticated too long ago",
        "the token was issued too long ago",
    );
    for (path, token, reason, sentence, parameters) in [
        ("/acr", scene.idp.token(), "acr", acr, r#"acr_values="gold""#),
        ("/age", with(&|c| c["auth_time"] = json!(now() - 90)), "auth_time", long_ago, r#"max_age="60""#),
        ("/age", with(&|c| c["iat"] = json!(now() - 90)), "token_too_old", old, r#"max_age="60""#),
        ("/step-up", scene.idp.token(), "acr", acr, r#"acr_values="gold urn:silver", max_age="300""#),
        (
            "/step-up",
            with(&|c| {
                c["acr"] = json!("urn:silver");
                c["auth_time"] = json!(now() - 400);
            }),
            "auth_time",
            long_ago,
            r#"acr_values="gold urn:silver", max_age="300""#,
        ),
    ] {
        let answer = scene.get(path).bearer(&token).send().await;
        let challenge = format!(
            r#"Bearer realm="m2m", error="insufficient_user_authentication", error_description="{sentence}", {parameters}"#
        );
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)));
        let body = answer.json();
        assert_eq!(
            (&body["error"], &body["reason"]),
            (&json!("Insufficient authentication"), &json!(reason))
        );
    }
    let good = with(&|c| {
        c["acr"] = json!("gold");
        c["auth_time"] = json!(now() - 200);
    });
    assert_eq!(scene.get("/step-up").bearer(good).send().await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_503_for_its_own_callers_alone() {
    let (idp, other, upstream) = (Idp::start().await, Idp::start().await, Upstream::start().await);
    other.stop().await;
    let filter = wasm(&configuration(&idp, &other));
    let builder = builder(&idp, &upstream).cluster(envoy::cluster("other", other.address()));
    let scene = Scene::of(idp, upstream, builder.listener(listener(&filter))).await;
    for _ in 0..5 {
        assert_eq!(scene.get("/both").bearer(scene.idp.token()).send().await.status, 200);
        let answer = scene.get("/both").bearer(other.token()).send().await;
        assert!(crate::envoy::scene::retry_after(&answer) <= 30);
    }
    other.resume().await;
    m2m_auth_kit::wait::until("the other issuer is back", async || {
        let answer = scene.get("/both").bearer(other.token()).send().await;
        assert_ne!(answer.status, 401, "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
}
