//! What is sent to the host: keys and signatures as DER, held against AWS-LC's own.

use super::cases::jwt_cases;
use super::{Host, Way};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as lc;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::jose::jwk::{self, Algorithm, PublicKeyMaterial};
use m2m_auth::jose::verifier::{self, Verify as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn keys_are_encoded_as_boringssl_encodes_them() {
    let same = |jwk: &Value, theirs: PublicKeyX509Der<'_>| {
        let keys = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap().keys;
        let key = Algorithm::ALL
            .iter()
            .find_map(|algorithm| keys.candidates(None, *algorithm, true).next())
            .unwrap();
        assert_eq!(key.spki(), theirs.as_ref(), "{jwk}");
    };
    let mut sizes = BTreeSet::new();
    for jwk in jwt_cases().iter().filter_map(|case| case.jwks.as_ref()?["keys"].as_array()).flatten() {
        let keys = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).map(|parsed| parsed.keys);
        let Ok(Some(key)) = keys.as_ref().map(|keys| keys.candidates(None, Algorithm::Rs256, true).next())
        else {
            continue;
        };
        let PublicKeyMaterial::Rsa { n, e } = key.material() else { panic!("not an RSA key") };
        same(jwk, lc::RsaPublicKeyComponents { n, e }.as_der().unwrap());
        sizes.insert(n.len());
    }
    assert!(!sizes.is_empty(), "no RSA key was compared");
    for (curve, length, how) in curves() {
        for _ in 0..32 {
            let pair = lc::EcdsaKeyPair::generate(how).unwrap();
            same(&ec_jwk(curve, length, &pair), lc::KeyPair::public_key(&pair).as_der().unwrap());
        }
    }
    let pair = lc::Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(lc::KeyPair::public_key(&pair));
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    same(&jwk, lc::KeyPair::public_key(&pair).as_der().unwrap());
}

/// Signs until every form that DER has for a number was there: with the high bit and without, with
/// zeros before it and without.
#[test]
fn the_host_takes_every_ecdsa_signature_that_we_encode_for_it() {
    let random = SystemRandom::new();
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
    for ((curve, length, how), algorithm) in curves().into_iter().zip(algorithms) {
        let pair = lc::EcdsaKeyPair::generate(how).unwrap();
        let document = json!({ "keys": [ec_jwk(curve, length, &pair)] }).to_string();
        let keys = jwk::parse(document.as_bytes()).unwrap().keys;
        let key = keys.candidates(None, algorithm, true).next().unwrap();
        // 521 bits are a byte of one bit and 65 others: a number that fills its bytes never has the
        // high bit.
        let all = if curve == "P-521" { 3 } else { 4 };
        let mut forms = BTreeSet::new();
        for message in 0..20_000_u32 {
            let message = message.to_be_bytes();
            let raw = pair.sign(&random, &message).unwrap();
            assert_eq!(raw.as_ref().len(), verifier::length(algorithm, key));
            assert!(Host.verify(algorithm, key, &message, raw.as_ref()), "{curve} {message:?}");
            assert!(!Host.verify(algorithm, key, b"another", raw.as_ref()), "{curve} {message:?}");
            for number in raw.as_ref().chunks(length) {
                let zeros = number.iter().take_while(|byte| **byte == 0).count();
                forms.insert((zeros > 0, number[zeros] >= 0x80));
            }
            if forms.len() == all {
                break;
            }
        }
        assert_eq!(forms.len(), all, "{curve}: {forms:?}");
    }
}

/// [`Verify`] promises that anything odd is simply not a signature; a panic would end the worker.
#[test]
fn an_odd_signature_is_no_signature_and_no_panic() {
    let mut tried = BTreeSet::new();
    for jwk in jwt_cases().iter().filter_map(|case| case.jwks.as_ref()?["keys"].as_array()).flatten() {
        let Ok(parsed) = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes()) else {
            continue;
        };
        for algorithm in Algorithm::ALL {
            let Some(key) = parsed.keys.candidates(None, algorithm, true).next() else {
                continue;
            };
            if !tried.insert(algorithm) {
                continue;
            }
            for length in
                [0, 1, 2, 3, 31, 32, 63, 64, 65, 95, 96, 97, 131, 132, 133, 255, 256, 257, 512, 10_000]
            {
                for way in Way::BOTH {
                    let holds = way.verifier().verify(algorithm, key, b"message", &vec![0x42; length]);
                    assert!(!holds, "{algorithm}, {length} bytes, {way:?}");
                }
            }
        }
    }
    assert_eq!(tried.len(), Algorithm::ALL.len(), "{tried:?}");
}

fn curves() -> [(&'static str, usize, &'static lc::EcdsaSigningAlgorithm); 3] {
    [
        ("P-256", 32, &lc::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", 48, &lc::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", 66, &lc::ECDSA_P521_SHA512_FIXED_SIGNING),
    ]
}

fn ec_jwk(curve: &str, length: usize, pair: &lc::EcdsaKeyPair) -> Value {
    let point = lc::KeyPair::public_key(pair).as_ref();
    let (x, y) = point[1..].split_at(length);
    json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
}
