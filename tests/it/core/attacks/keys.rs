//! Keys of other issuers, unknown, withdrawn, empty and public keys, and keys inside the token.

use super::{End, World, claims, good_token, head, key, one_rule, require, with};
use crate::core::vectors::verifiers;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use m2m_auth::jose::jwk;
use m2m_auth::plugin::RequestOutcome;
use m2m_auth::policy::Policy;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};

/// Two issuers with the same `iss` and different keys of the same `kid`: only the key distinguishes
/// them.
fn twins() -> (Value, Key, Key) {
    let (ours, theirs) = (key("k"), key("k"));
    let issuer = |key: &Key| json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let configuration = json!({
        "issuers": { "ours": issuer(&ours), "theirs": issuer(&theirs) },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    });
    (configuration, ours, theirs)
}

/// CVE-2026-49998 (Centrifugo), CVE-2026-50202 (Steeltoe), CVE-2025-59936 (get-jwks): keys were
/// cached by `kid` alone. RFC 8725 section 3.8: the key must belong to the issuer.
#[test]
fn a_key_of_one_issuer_verifies_nothing_for_another() {
    let (configuration, ours, theirs) = twins();
    for order in [["/ours", "/theirs"], ["/theirs", "/ours"]] {
        let mut world = World::new(&configuration);
        for path in order {
            let (own, other) = if path == "/ours" { (&ours, &theirs) } else { (&theirs, &ours) };
            assert_eq!(world.get(path, &good_token(other)), End::refused(401, "signature"), "{path}");
            assert!(world.get(path, &good_token(own)).is_forwarded(), "{path}");
        }
    }
}

/// The same for tokens that were verified before.
#[test]
fn a_token_known_to_one_issuer_is_not_known_to_another() {
    let (configuration, ours, _) = twins();
    let mut world = World::new(&configuration);
    let token = good_token(&ours);
    for _ in 0..3 {
        assert!(world.get("/ours", &token).is_forwarded());
        assert_eq!(world.get("/theirs", &token), End::refused(401, "signature"));
    }
    assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 2, "two of three came from the cache");
}

/// The same for fetches: a request that waits for the keys of one issuer does not get those of
/// another.
#[test]
fn keys_of_one_name_are_fetched_from_each_issuer() {
    let (ours, theirs) = (key("k"), key("k"));
    let issuer = |host: &str| json!({ "issuer": format!("https://{host}"), "cluster": host });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let mut world = World::new(&json!({
        "issuers": { "ours": issuer("ours.example"), "theirs": issuer("theirs.example") },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    }));
    world.provider("ours.example", &[ours.jwk()]);
    world.provider("theirs.example", &[theirs.jwk()]);
    let mut begin = |path: &str, key: &Key, issuer: &str| {
        let token = Mint::of(with(claims(), "iss", json!(issuer))).sign(key);
        let (id, step) = world.begin(head(path, &[("authorization", &format!("Bearer {token}"))]));
        assert_eq!(step, RequestOutcome::Wait);
        id
    };
    let good =
        [begin("/ours", &ours, "https://ours.example"), begin("/theirs", &theirs, "https://theirs.example")];
    let forged =
        [begin("/ours", &theirs, "https://ours.example"), begin("/theirs", &ours, "https://theirs.example")];
    world.run();
    assert!(good.iter().all(|id| End::of(&world.settled[id]).is_forwarded()));
    for id in &forged {
        assert_eq!(End::of(&world.settled[id]), End::refused(401, "signature"));
    }
    assert_eq!(world.asked.len(), 4, "metadata and keys, once each");
    let clusters = world.asked.iter().all(|call| call.endpoint.cluster == call.endpoint.authority);
    assert!(clusters, "each issuer is reached through its own cluster");
}

/// A key that is unknown at one issuer may be known at another.
#[test]
fn a_key_that_one_issuer_does_not_know_may_be_known_to_another() {
    let (ours, theirs) = (key("a"), key("b"));
    let issuer = |host: &str| json!({ "issuer": "https://idp.example.com", "cluster": host, "jwks_uri": format!("https://{host}/keys") });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let mut world = World::new(&json!({
        "issuers": { "ours": issuer("ours.example"), "theirs": issuer("theirs.example") },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    }));
    world.provider("ours.example", &[ours.jwk()]);
    world.provider("theirs.example", &[theirs.jwk()]);
    world.pass(10);
    for _ in 0..2 {
        assert_eq!(world.get("/ours", &good_token(&theirs)), End::refused(401, "unknown_key"));
        assert!(world.get("/theirs", &good_token(&theirs)).is_forwarded());
    }
}

/// CVE-2026-89313 (gose): a key that is not in the set was answered with the last one that is.
#[test]
fn an_unknown_kid_is_no_key_at_all() {
    let (known, other) = (key("k"), key("other"));
    let inline = json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [known.jwk()] } });
    let mut fixed = one_rule();
    fixed["issuers"]["idp"] = inline;
    for mut world in [World::new(&fixed), World::with_keys(&[known.jwk()])] {
        for kid in ["other", "", "K", "k ", "k\u{0}", "../k", "' OR 1=1 --"] {
            // Even with the right key, a wrong name for it is a wrong name.
            for key in [&known, &other] {
                let end = world.get("/", &Mint::of(claims()).kid(kid).sign(key));
                assert_eq!(end, End::refused(401, "unknown_key"), "{kid:?}");
            }
            world.pass(10);
        }
        let odd = [json!(1), json!(null), json!(["k"]), json!({ "k": "k" })].map(|kid| (kid, "malformed"));
        for (kid, reason) in odd.into_iter().chain([(json!("k".repeat(1000)), "too_large")]) {
            let token = Mint::of(claims()).header("kid", kid.clone()).sign(&known);
            assert_eq!(world.get("/", &token), End::refused(401, reason), "{kid}");
        }
        assert!(world.get("/", &good_token(&known)).is_forwarded());
    }
}

/// The keys were fetched because this request asked for them: that its key is not among them is
/// known then.
#[test]
fn an_unknown_kid_is_decided_by_the_keys_that_were_fetched_for_it() {
    let known = key("k");
    let mut world = World::new(&one_rule());
    world.provider("idp.example.com", &[known.jwk()]);
    assert_eq!(
        world.get("/", &Mint::of(claims()).kid("other").sign(&known)),
        End::refused(401, "unknown_key")
    );
    assert!(world.get("/", &good_token(&known)).is_forwarded());
}

/// A verified token is accepted only while its key is published: a withdrawn key ends it.
#[test]
fn a_withdrawn_key_takes_its_known_tokens_along() {
    let (old, new) = (key("old"), key("new"));
    let mut world = World::with_keys(&[old.jwk(), new.jwk()]);
    let tokens = [good_token(&old), good_token(&new)];
    for _ in 0..2 {
        assert!(tokens.iter().all(|token| world.get("/", token).is_forwarded()));
    }
    assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 2);
    world.provider("idp.example.com", &[new.jwk()]);
    world.pass(301);
    assert_eq!(world.get("/", &tokens[0]), End::refused(401, "unknown_key"));
    assert!(world.get("/", &tokens[1]).is_forwarded());
    // The same name with another key behind it is another key.
    world.provider("idp.example.com", &[key("new").jwk()]);
    world.pass(301);
    assert_eq!(world.get("/", &tokens[1]), End::refused(401, "signature"));
}

/// GHSA-8wpc-h4q6-8fxv (fast-jwt): an empty key meant that nothing was checked.
#[test]
fn an_empty_key_verifies_nothing() {
    let key = key("k");
    let empty = [
        json!([]),
        json!([{ "kty": "oct", "k": "", "kid": "k" }]),
        json!([{ "kty": "oct", "k": "", "kid": "k", "alg": "HS256", "use": "sig" }]),
        json!([{ "kty": "RSA", "n": "", "e": "", "kid": "k" }]),
        json!([{ "kty": "RSA", "n": "AA", "e": "AQAB", "kid": "k" }]),
        json!([{ "kty": "EC", "crv": "P-256", "x": "", "y": "", "kid": "k" }]),
        json!([{ "kty": "OKP", "crv": "Ed25519", "x": "", "kid": "k" }]),
        json!([{}]),
        json!([null]),
    ];
    for keys in empty {
        let mut inline = one_rule();
        inline["issuers"]["idp"] = json!({ "issuer": "https://idp.example.com", "jwks": { "keys": keys } });
        let errors = Policy::read(inline.to_string().as_bytes(), &|_| None).unwrap_err();
        let reported = errors[0].to_string();
        let null = "issuers.idp.jwks.keys[0]: null, ";
        assert!(reported.starts_with("issuers.idp.jwks: ") || reported.starts_with(null), "{errors:?}");
        // Beside a good key, it is as if it were not there.
        for good in [false, true] {
            let mut served = keys.as_array().unwrap().clone();
            served.extend(good.then(|| Key::new(Alg::Es256).with_kid("good").jwk()));
            let mut world = World::with_keys(&served);
            for token in [
                good_token(&key),
                Mint::of(claims()).secret("").kid("k").sign(&key),
                Mint::of(claims()).unsigned().kid("k").sign(&key),
                Mint::of(claims()).unsigned().alg("EdDSA").kid("k").sign(&key),
            ] {
                assert!([401, 503].contains(&world.get("/", &token).status), "{served:?} {token}");
            }
        }
    }
    // Zeros have the right length: these are keys, of which no signature is good.
    let zeros = URL_SAFE_NO_PAD.encode([0; 32]);
    let (ed, ec) = (
        json!({ "kty": "OKP", "crv": "Ed25519", "x": zeros }),
        json!({ "kty": "EC", "crv": "P-256", "x": zeros, "y": zeros }),
    );
    for (jwk, alg) in [(ed, "EdDSA"), (ec, "ES256")] {
        for signature in [[0; 64], [1; 64]] {
            for verifier in verifiers() {
                let mut fixed = one_rule();
                fixed["issuers"]["idp"] =
                    json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [jwk] } });
                let mut world = World::verifying_by(verifier, &fixed);
                let parts =
                    [json!({ "alg": alg }), claims()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
                let token = format!("{}.{}", parts.join("."), URL_SAFE_NO_PAD.encode(signature));
                assert_eq!(world.get("/", &token), End::refused(401, "signature"), "{jwk}");
            }
        }
    }
}

/// CVE-2026-22817 and -22818 (Hono): a key without `alg` was used with whatever the header said.
/// RFC 8725 section 3.1.
#[test]
fn the_header_chooses_among_allowed_algorithms_that_fit_its_key() {
    let [rs, ps, es] = [Alg::Rs256, Alg::Ps256, Alg::Es256].map(|alg| Key::new(alg).with_kid("k"));
    let try_set = |keys: &Value, algorithms: &Value, key: &Key, header: &str| {
        let mut configuration = one_rule();
        let jwks = json!({ "keys": keys });
        configuration["issuers"]["idp"] =
            json!({ "issuer": "https://idp.example.com", "jwks": jwks, "algorithms": algorithms });
        if *algorithms == json!([]) {
            configuration["issuers"]["idp"].as_object_mut().unwrap().remove("algorithms");
        }
        World::new(&configuration).get("/", &Mint::of(claims()).alg(header).sign(key))
    };
    let try_it = |jwk: &Value, algorithms: &Value, key: &Key, header: &str| {
        try_set(&json!([with(jwk.clone(), "kid", json!("k"))]), algorithms, key, header)
    };
    let refused = End::refused(401, "algorithm");
    for (key, own) in [(&rs, "RS256"), (&ps, "PS256"), (&es, "ES256")] {
        let bare = key.bare_jwk();
        if own == "PS256" {
            // The module verifies it itself: neither the key nor the operator says that it is used
            // here.
            assert_eq!(try_it(&bare, &json!([]), key, own), refused, "{own} of a key without alg");
            assert!(try_it(&with(bare.clone(), "alg", json!(own)), &json!([]), key, own).is_forwarded());
        } else {
            assert!(try_it(&bare, &json!([]), key, own).is_forwarded(), "{own} is one of the default");
        }
        assert!(try_it(&bare, &json!([own]), key, own).is_forwarded(), "{own}");
        assert_eq!(try_it(&bare, &json!(["EdDSA"]), key, own), refused, "{own} is not on the list");
        let other = if own == "ES256" { "ES256K" } else { "RS512" };
        let marked = with(with(bare.clone(), "kid", json!("k")), "alg", json!(other));
        let beside = json!([marked, with(key.bare_jwk(), "kid", json!("another"))]);
        assert_eq!(try_set(&beside, &json!([]), key, own).status, 401, "{own}: the key says {other}");
        for header in [
            "HS256", "HS384", "HS512", "none", "None", "NONE", "", "dir", "ES256K", "ES521", "RS1", "rs256",
            " RS256",
        ] {
            assert_eq!(try_it(&bare, &json!([]), key, header), refused, "{own} as {header}");
        }
    }
    assert_eq!(try_it(&rs.bare_jwk(), &json!(["ES256", "RS256"]), &rs, "ES256"), refused, "of another kind");
    assert_eq!(try_it(&es.bare_jwk(), &json!(["ES256", "RS256"]), &es, "RS256"), refused, "of another kind");
    assert_eq!(try_it(&es.bare_jwk(), &json!([]), &es, "ES384"), refused, "of another curve");
    // RFC 7517 section 4.4: a key for RS256 verifies nothing else, though its numbers would fit.
    assert_eq!(try_it(&with(ps.bare_jwk(), "alg", json!("RS256")), &json!([]), &ps, "PS256"), refused);
    let ed = Key::new(Alg::EdDsa).with_kid("k");
    assert!(try_it(&ed.bare_jwk(), &json!([]), &ed, "EdDSA").is_forwarded(), "its kind says what it is for");
    for name in ["HS256", "none", "RS1", "*", ""] {
        let mut configuration = one_rule();
        configuration["issuers"]["idp"]["algorithms"] = json!([name]);
        assert!(
            Policy::read(configuration.to_string().as_bytes(), &|_| None).is_err(),
            "{name} cannot be allowed"
        );
    }
}

/// CVE-2026-48526 (`PyJWT`), RFC 8725 section 2.1: public data was accepted as a shared secret.
#[test]
fn a_public_key_is_no_shared_secret() {
    for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
        let key = Key::new(alg).with_kid("k");
        let jwk = key.jwk();
        let set = json!({ "keys": [jwk] });
        let keys = jwk::parse(set.to_string().as_bytes()).unwrap().keys;
        let algorithm = jwk::Algorithm::from_name(alg.name()).unwrap();
        let der = keys.candidates(Some("k"), algorithm, true).next().unwrap().spki().to_vec();
        let member = |name: &str| {
            jwk[name].as_str().map(|text| URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap_or_default()
        };
        let mut secrets =
            vec![der.clone(), STANDARD.encode(&der).into(), set.to_string().into(), jwk.to_string().into()];
        secrets.extend([key.bare_jwk().to_string().into(), serde_json::to_vec_pretty(&jwk).unwrap()]);
        secrets.extend(pems(&der));
        secrets.extend(["n", "e", "x", "y"].map(member));
        secrets.extend(["n", "x"].map(|name| jwk[name].as_str().unwrap_or_default().into()));
        let mut world = World::with_keys(std::slice::from_ref(&jwk));
        for secret in secrets {
            for token in [
                Mint::of(claims()).secret(secret.clone()).sign(&key),
                Mint::of(claims()).secret(secret.clone()).kid("k").sign(&key),
                Mint::of(claims()).secret(secret.clone()).kid("k").alg("HS512").sign(&key),
            ] {
                assert_eq!(world.get("/", &token), End::refused(401, "algorithm"), "{alg:?}");
            }
            let disguised = Mint::of(claims()).secret(secret).kid("k").alg(alg.name()).sign(&key);
            assert_eq!(world.get("/", &disguised), End::refused(401, "signature"), "{alg:?}");
        }
        assert!(world.get("/", &good_token(&key)).is_forwarded(), "{alg:?}");
    }
}

/// A key as PEM, with the line ends that tools write.
fn pems(der: &[u8]) -> [Vec<u8>; 3] {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", lines.join("\n"));
    [format!("{pem}\n").into(), pem.replace('\n', "\r\n").into(), pem.into()]
}

/// RFC 8725 section 3.10, RFC 7515 section 10.4: a key that comes with the token proves nothing,
/// and is not fetched.
#[test]
fn a_token_brings_no_key_of_its_own() {
    let (ours, theirs) = (key("k"), key("evil"));
    let mut world = World::with_keys(&[ours.jwk()]);
    world.serve("evil.example.net/keys", json!({ "keys": [theirs.jwk()] }).to_string());
    let certificate = json!([STANDARD.encode([0x30, 0x82, 0x01, 0x0a])]);
    for (name, value) in [
        ("jwk", theirs.jwk()),
        ("jku", json!("https://evil.example.net/keys")),
        ("x5u", json!("https://evil.example.net/keys")),
        ("x5c", certificate),
        ("x5t", json!("evil")),
        ("x5t#S256", json!("evil")),
        ("keys", json!([theirs.jwk()])),
    ] {
        let mint = Mint::of(claims()).key(&theirs).header(name, value.clone());
        assert_eq!(world.get("/", &mint.sign(&theirs)), End::refused(401, "unknown_key"), "{name}");
        assert_eq!(
            world.get("/", &mint.clone().kid("k").sign(&theirs)),
            End::refused(401, "signature"),
            "{name}"
        );
        assert_eq!(
            world.get("/", &mint.without_header("kid").sign(&theirs)),
            End::refused(401, "signature"),
            "{name}"
        );
        // What is not looked at does no harm either (RFC 7515 section 4).
        assert!(world.get("/", &Mint::of(claims()).header(name, value).sign(&ours)).is_forwarded(), "{name}");
    }
    world.pass(600);
    assert_eq!(world.hosts(), ["idp.example.com"]);
}
