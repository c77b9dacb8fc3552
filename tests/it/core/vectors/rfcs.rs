//! The examples that the RFCs print.

use super::{Host, Way, signature_holds};
use m2m_auth::inbound::jwt::{self, Confirmation, IssuerProfile, TokenError};
use m2m_auth::jose::jwk::{self, Algorithm};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn the_examples_of_the_rfcs_end_as_they_must() {
    let file: Value = serde_json::from_str(include_str!("../../../data/rfc_examples.json")).unwrap();
    let examples = file["examples"].as_array().unwrap();
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    for example in examples {
        let (name, kind) = (example["name"].as_str().unwrap(), example["kind"].as_str().unwrap());
        *ran.entry(kind).or_default() += 1;
        let jwks = json!({ "keys": [if example["jwk"].is_null() { some_jwk(examples) } else { example["jwk"].clone() }] });
        for way in Way::BOTH {
            let verifier = way.verifier();
            match (kind, example["expect_asymmetric_only"].as_str()) {
                ("jws", Some("accept-signature")) => {
                    let algorithm = Algorithm::from_name(example["alg"].as_str().unwrap()).unwrap();
                    let outcome = signature_holds(example["jws"].as_str().unwrap(), &jwks, verifier.as_ref());
                    assert_eq!(outcome.is_ok(), way.can(algorithm), "{name} {way:?}: {outcome:?}");
                }
                // A DPoP proof brings its own key; as a bearer token it is of the wrong type (RFC
                // 9449 section 7.1).
                ("jws", Some("dpop-proof")) => {
                    let token = jwt::read(example["jws"].as_str().unwrap().as_bytes()).unwrap();
                    let keys = jwk::parse(jwks.to_string().as_bytes()).unwrap().keys;
                    let refused = token.verify(&keys, verifier.as_ref(), &IssuerProfile::default(), 0).err();
                    assert_eq!(refused, Some(TokenError::InvalidTyp), "{name}");
                }
                ("jws", Some("reject")) => {
                    assert!(
                        signature_holds(example["jws"].as_str().unwrap(), &jwks, verifier.as_ref()).is_err(),
                        "{name}"
                    );
                }
                ("raw-token", Some("reject")) => {
                    let token = example["token"].as_str().unwrap();
                    assert!(jwt::read(token.as_bytes()).is_err(), "{name}: its shape alone refuses it");
                }
                // RFC 7638, RFC 8705: thumbprints are not computed here, since tokens that are
                // bound to one are refused. Claims without a token are the next test's.
                ("jwk-thumbprint-sha256" | "x5t-s256" | "claims-shape", None) => {}
                other => panic!("{name}: {other:?} is not known"),
            }
        }
    }
    println!("rfc_examples: {ran:?}");
    let expected =
        [("claims-shape", 3), ("jwk-thumbprint-sha256", 3), ("jws", 14), ("raw-token", 8), ("x5t-s256", 1)];
    assert_eq!(ran, BTreeMap::from(expected));
}

/// The key of RFC 7515 appendix A.2, for examples that name none.
fn some_jwk(examples: &[Value]) -> Value {
    examples.iter().find(|example| example["name"] == "rfc7515-A.2-RS256").unwrap()["jwk"].clone()
}

#[test]
fn a_token_of_an_rfc_is_good_until_the_second_in_which_it_ends() {
    let file: Value = serde_json::from_str(include_str!("../../../data/rfc_examples.json")).unwrap();
    let mut count = 0;
    for example in file["examples"].as_array().unwrap() {
        if example["claims"]["iss"] != "joe" {
            continue;
        }
        let expect = IssuerProfile { names: vec!["joe".into()], ..IssuerProfile::default() };
        let keys = jwk::parse(json!({ "keys": [example["jwk"]] }).to_string().as_bytes()).unwrap().keys;
        let token = || jwt::read(example["jws"].as_str().unwrap().as_bytes()).unwrap();
        let caller = token().verify(&keys, &Host, &expect, 1_300_819_379).unwrap();
        assert_eq!(caller.claim(&["http://example.com/is_root"]), Some(&json!(true)));
        assert_eq!(token().verify(&keys, &Host, &expect, 1_300_819_380).unwrap_err(), TokenError::Expired);
        count += 1;
    }
    assert_eq!(count, 2, "RFC 7515 appendices A.2 and A.3");
}

#[test]
fn the_claims_of_the_rfcs_end_as_they_must() {
    let file: Value = serde_json::from_str(include_str!("../../../data/rfc_examples.json")).unwrap();
    let key = Key::new(Alg::EdDsa);
    let keys = jwk::parse(json!({ "keys": [key.bare_jwk()] }).to_string().as_bytes()).unwrap().keys;
    let verify = |name: &str, header: &Value| {
        let examples = file["examples"].as_array().unwrap();
        let claims = &examples.iter().find(|example| example["name"] == name).unwrap()["claims"];
        let token = token::sign_bytes(&key, header.to_string().as_bytes(), claims.to_string().as_bytes());
        let names = vec![claims["iss"].as_str().unwrap().into()];
        let expect = IssuerProfile { names, algorithms: vec![Algorithm::EdDsa], ..IssuerProfile::default() };
        jwt::read(token.as_bytes())?.verify(&keys, &Host, &expect, claims["exp"].as_u64().unwrap() - 1)
    };
    let caller = verify("rfc9068-2.2-shape", &json!({ "alg": "EdDSA", "typ": "at+JWT" })).unwrap();
    assert_eq!((caller.subject(), caller.client()), (Some("5ba552d67"), Some("s6BhdRkqt3")));
    let bound = verify("rfc8705-3.1-claims", &json!({ "alg": "EdDSA" })).unwrap();
    // The digest printed there has bits that carry nothing and are not zero: no certificate is
    // named by it.
    assert_eq!(*bound.confirmation(), Confirmation::Unsupported);
}
