//! Tokens that are forged, bent, outlived, or of another kind.

use super::{End, NOW, World, claims, good_token, key, one_rule, with};
use crate::core::vectors::Host;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::jose::jwk;
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{self, Mint};
use serde_json::{Value, json};

/// CVE-2026-35039 (fast-jwt): two tokens shared an entry in the cache.
#[test]
fn a_signature_that_was_good_once_opens_nothing_else() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let token = good_token(&key);
    assert!(world.get("/", &token).is_forwarded());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (_, claims) = token::decode(&token);
    for forged in [
        format!("{header}.{}.{signature}", encode(&with(claims.clone(), "sub", json!("root")))),
        format!("{header}.{}.{signature}", encode(&with(claims, "exp", json!(NOW + 1_000_000)))),
        format!("{}.{payload}.{signature}", encode(&json!({ "alg": "EdDSA", "kid": "k" }))),
        format!("{}.{payload}.{signature}", encode(&json!({ "alg": "none", "kid": "k" }))),
        format!("{payload}.{header}.{signature}"),
        format!("{header}{payload}.{signature}"),
        format!("{header}.{payload}.{payload}.{signature}"),
        format!("x{token}"),
        format!("{token}x"),
        format!("{token}="),
        format!("{token} {token}"),
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
    ] {
        assert_eq!(world.get("/", &forged).status, 401, "{forged}");
    }
    assert!(world.get("/", &token).is_forwarded());
    assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 1);
}

/// GHSA-x937-hj6v-793p (fast-jwt): a token without `iat` stayed in the cache beyond its `exp`.
#[test]
fn a_known_token_ends_with_its_exp_whatever_else_it_says() {
    let key = key("k");
    let bare = json!({ "iss": "https://idp.example.com", "aud": "orders", "exp": NOW + 300 });
    let fraction = with(claims(), "exp", json!(300.9 + 1_800_000_000.0));
    for claims in [bare, fraction, with(claims(), "exp", json!(NOW + 300))] {
        let mut world = World::with_keys(&[key.jwk()]);
        let token = Mint::of(claims.clone()).sign(&key);
        world.pass(5);
        assert!(world.get("/", &token).is_forwarded(), "{claims}");
        // The clocks may differ by a minute (RFC 7519 section 4.1.4), and not by a second more.
        world.pass(NOW + 359 - world.now().unix);
        assert!(world.get("/", &token).is_forwarded(), "{claims}");
        assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 1, "{claims}");
        world.pass(1);
        assert_eq!(world.get("/", &token), End::refused(401, "expired"), "{claims}");
    }
}

/// CVE-2026-75509 (joserfc): a list that holds the right name passed for the name. RFC 7519
/// sections 4.1.1 and 4.1.2.
#[test]
fn a_list_of_names_is_no_name() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let good = "https://idp.example.com";
    for issuer in [
        json!([good]),
        json!([good, "https://evil.example.net"]),
        json!({ good: true }),
        json!(null),
        json!(true),
    ] {
        let token = Mint::of(with(claims(), "iss", issuer.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "issuer"), "{issuer}");
    }
    for subject in [json!(["s", "root"]), json!({ "s": 1 }), json!(1), json!(null)] {
        let token = Mint::of(with(claims(), "sub", subject.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "invalid_claim"), "{subject}");
    }
    for audience in [
        json!({ "orders": true }),
        json!([["orders"]]),
        json!(["order", "orders/"]),
        json!("orders payments"),
        json!(null),
        json!([]),
    ] {
        let token = Mint::of(with(claims(), "aud", audience.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "audience"), "{audience}");
    }
    assert!(
        world.get("/", &Mint::of(with(claims(), "aud", json!(["x", "orders"]))).sign(&key)).is_forwarded()
    );
}

/// GHSA-jc38-x7x8-2xc8 (jwt-framework): the algorithm came from a header that is not signed. RFC
/// 7515 section 7.2 is not for bearer tokens (RFC 7519 section 1).
#[test]
fn the_json_serialisation_is_no_bearer_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let token = good_token(&key);
    let [protected, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let one = json!({ "protected": protected, "signature": signature });
    let unprotected = json!({ "header": { "alg": "none" }, "protected": "", "signature": "" });
    for json in [
        json!({ "payload": payload, "protected": protected, "signature": signature }),
        json!({ "payload": payload, "signatures": [one] }),
        json!({ "payload": payload, "signatures": [unprotected, one] }),
        json!({ "payload": payload, "header": { "alg": "EdDSA", "kid": "k" }, "signature": signature }),
    ] {
        for spelling in [json.to_string(), URL_SAFE_NO_PAD.encode(json.to_string())] {
            let end = world.get("/", &spelling);
            assert_eq!(end, End::refused(401, "malformed"), "{json}");
        }
    }
    assert!(world.get("/", &token).is_forwarded());
}

/// RFC 7515 section 4, RFC 7519 section 4: of two members with one name two readers may believe
/// different ones, so neither is believed, wherever they stand and however they are written.
#[test]
fn a_duplicate_member_refuses_the_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let (header, payload) = (r#"{"alg":"EdDSA","kid":"k"}"#, claims().to_string());
    let twice = |object: &str, more: &str| object.replacen('{', &format!("{{{more},"), 1);
    for more in [
        r#""alg":"none""#,
        r#""alg":"EdDSA""#,
        r#""kid":"evil""#,
        r#""x":{"y":1,"y":1}"#,
        r#""\u0061lg":"EdDSA""#,
    ] {
        let token = token::sign_bytes(&key, twice(header, more).as_bytes(), payload.as_bytes());
        assert_eq!(world.get("/", &token), End::refused(401, "malformed"), "{more}");
    }
    for more in [
        r#""exp":1"#,
        r#""iss":"https://evil.example.net""#,
        r#""aud":"payments""#,
        r#""sub":"root""#,
        r#""s\u0075b":"root""#,
        r#""realm_access":{"roles":[],"roles":["admin"]}"#,
    ] {
        let token = token::sign_bytes(&key, header.as_bytes(), twice(&payload, more).as_bytes());
        assert_eq!(world.get("/", &token), End::refused(401, "malformed"), "{more}");
    }
    let once = token::sign_bytes(&key, header.as_bytes(), twice(&payload, r#""x":{"exp":1}"#).as_bytes());
    assert!(world.get("/", &once).is_forwarded());
}

/// CVE-2025-59420 (Authlib), fast-jwt PR 591: `crit` was not looked at. RFC 7515 section 4.1.11,
/// RFC 7797 section 6.
#[test]
fn an_extension_that_must_be_understood_refuses_the_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    for crit in [
        json!([]),
        json!(["exp"]),
        json!(["alg"]),
        json!(["b64"]),
        json!(["x"]),
        json!("x"),
        json!(null),
        json!({}),
        json!([1]),
    ] {
        let token =
            Mint::of(claims()).header("crit", crit.clone()).header("x", 1).header("b64", true).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "unsupported_crit"), "{crit}");
    }
    for b64 in [json!(false), json!("false"), json!(0), json!(null)] {
        let token = Mint::of(claims()).header("b64", b64.clone()).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "unsupported_crit"), "{b64}");
    }
    assert!(world.get("/", &Mint::of(claims()).header("x", 1).header("b64", true).sign(&key)).is_forwarded());
}

/// `HAProxy` `jwt.c`, commit 648b0e7b: a signature of 21,830 characters was written into a buffer
/// for 16 KB.
#[test]
fn a_signature_of_any_length_is_only_a_wrong_one() {
    let ways: [(Alg, Box<dyn Verify>); 5] = [
        (Alg::Es256, Box::new(Host)),
        (Alg::EdDsa, Box::new(Host)),
        (Alg::Rs256, Box::new(Host)),
        (Alg::EdDsa, Box::new(SoftwareCrypto)),
        (Alg::Rs256, Box::new(SoftwareCrypto)),
    ];
    for (alg, verifier) in ways {
        let key = Key::new(alg).with_kid("k");
        let mut fixed = one_rule();
        fixed["issuers"]["idp"] =
            json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } });
        let mut world = World::verifying_by(verifier, &fixed);
        let token = good_token(&key);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut try_it = |signature: &str| world.get("/", &format!("{signed}.{signature}"));
        assert_eq!(try_it(&"A".repeat(21_830)), End::refused(401, "too_large"));
        for bytes in [1, 2, 32, 63, 64, 65, 70, 71, 72, 96, 128, 132, 255, 256, 257, 4096, 10_000] {
            for byte in [0, 1, 0x30, 0x7f, 0x80, 0xff] {
                let end = try_it(&URL_SAFE_NO_PAD.encode(vec![byte; bytes]));
                assert_eq!(end, End::refused(401, "signature"), "{alg:?}: {bytes} of {byte}");
            }
        }
        // RFC 7518 section 3.4: the same numbers, longer. A reader of DER would not see the
        // difference.
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = raw.split_at(raw.len() / 2);
        let same = [
            [&[0, 0], r, &[0, 0], s].concat(),
            [&[0], raw.as_slice()].concat(),
            jwk::der::ecdsa_signature(&raw),
        ];
        for longer in same {
            let end = try_it(&URL_SAFE_NO_PAD.encode(&longer));
            assert_eq!(end, End::refused(401, "signature"), "{alg:?}: {longer:?}");
        }
        assert!(try_it(signature).is_forwarded(), "{alg:?}");
    }
}

/// RFC 8725 sections 3.11 and 3.12, RFC 9449 section 7.1: another kind of token of the same issuer
/// is no access token.
#[test]
fn another_kind_of_token_is_no_access_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    for kind in ["ID", "Refresh", "Offline", "Logout", "DPoP", ""] {
        let token = Mint::of(with(claims(), "typ", json!(kind))).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "not_access_token"), "{kind}");
    }
    for typ in ["dpop+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt", "JOSE", "application/"] {
        assert_eq!(
            world.get("/", &Mint::of(claims()).header("typ", typ).sign(&key)),
            End::refused(401, "invalid_typ"),
            "{typ}"
        );
    }
    for bound in [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({}), json!(null)] {
        let token = Mint::of(with(claims(), "cnf", bound.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "binding_mismatch"), "{bound}");
    }
    assert!(world.get("/", &good_token(&key)).is_forwarded());
}

/// An ID token of a login as each provider issues it, with the worst audience: the service's own,
/// as if its API and its client were one registration.
fn id_tokens() -> Vec<(&'static str, Value)> {
    vec![
        ("keycloak", json!({ "typ": "ID", "azp": "web", "nonce": "n", "at_hash": "h" })),
        ("okta", json!({ "jti": "ID.1", "amr": ["pwd"], "idp": "00o1", "at_hash": "h" })),
        ("cognito", json!({ "token_use": "id", "cognito:username": "u", "at_hash": "h" })),
        ("cognito", json!({ "cognito:username": "u" })),
        ("auth0", json!({ "sid": "s", "nonce": "n", "c_hash": "h" })),
        ("entra", json!({ "ver": "2.0", "nonce": "n", "at_hash": "h" })),
        ("generic", json!({ "azp": "web", "nonce": "n", "at_hash": "h" })),
        ("generic", json!({ "azp": "web", "nonce": "n", "c_hash": "h" })),
    ]
}

/// One issuer with this preset and these settings, and a rule without further conditions.
fn preset(name: &str, settings: &[(&str, Value)]) -> Value {
    let mut configuration = one_rule();
    configuration["issuers"]["idp"]["preset"] = json!(name);
    for (member, value) in settings {
        configuration["issuers"]["idp"][member] = value.clone();
    }
    configuration
}

/// RFC 9068 section 5, RFC 8725 section 3.12: an ID token of each provider.
#[test]
fn an_id_token_is_no_access_token_of_any_provider_that_marks_it() {
    let key = key("k");
    let plain = || {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove("typ");
        claims
    };
    let get = |configuration: &Value, more: &Value, typ: &str| {
        let mut world = World::new(configuration);
        world.provider("idp.example.com", &[key.jwk()]);
        world.pass(10);
        let mut claims = plain();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.get("/", &Mint::of(claims).header("typ", typ).sign(&key))
    };
    for (name, marks) in id_tokens() {
        let end = get(&preset(name, &[]), &marks, "JWT");
        assert_eq!(end, End::refused(401, "not_access_token"), "{name} {marks}");
        let access = json!({ "token_use": "access" });
        assert!(get(&preset(name, &[]), &access, "JWT").is_forwarded(), "{name}: an access token");
    }
    // A provider that writes neither hash: the audience, the header or a claim must differ.
    let unmarked = json!({ "azp": "web", "nonce": "n" });
    let other_audience = json!({ "azp": "web", "nonce": "n", "aud": "web" });
    let headers = json!(["at+jwt"]);
    for (settings, token, reason) in [
        (vec![], &other_audience, "audience"),
        (vec![("rfc9068", json!(true))], &unmarked, "invalid_typ"),
        (vec![("token_types", headers.clone())], &unmarked, "invalid_typ"),
        (vec![("access_token_claims", json!({ "nonce": "absent" }))], &unmarked, "not_access_token"),
        (vec![("access_token_claims", json!({ "token_use": "access" }))], &unmarked, "not_access_token"),
        (
            vec![("access_token_claims", json!({ "use": ["a", "b"] }))],
            &json!({ "use": "c" }),
            "not_access_token",
        ),
    ] {
        for name in ["generic", "auth0", "entra", "okta"] {
            let end = get(&preset(name, &settings), token, "JWT");
            assert_eq!(end, End::refused(401, reason), "{name} {settings:?}");
        }
    }
    for (settings, token, typ) in [
        (vec![], &unmarked, "JWT"), // documented as what `generic` cannot know
        (vec![("rfc9068", json!(true))], &json!({ "client_id": "c", "jti": "j" }), "at+jwt"),
        (vec![("token_types", headers)], &json!({}), "at+jwt"),
        (vec![("access_token_claims", json!({ "nonce": "absent" }))], &json!({}), "JWT"),
        (vec![("access_token_claims", json!({ "use": ["a", "b"] }))], &json!({ "use": "b" }), "JWT"),
    ] {
        let end = get(&preset("generic", &settings), token, typ);
        assert!(end.is_forwarded(), "{settings:?} {token}: {end:?}");
    }
}
