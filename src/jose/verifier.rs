//! Is this signature of this key over these bytes? The one question behind every accepted token.
//!
//! A trait with two implementors, chosen once at start: the host's `BoringSSL` (in the shell) and [`SoftwareCrypto`], which is
//! jwt-compact in the module itself. The caller has already made sure that key and algorithm fit each other.
//!
//! ECDSA is the host's alone: every Envoy that is still supported has it, jwt-compact lacks two of the three curves, and
//! the third would cost 28 KB of module that no supported host ever runs.

use crate::jose::jwk::{Algorithm, Jwk, MAX_RSA_BITS, PublicKeyMaterial, bits};
use jwt_compact::AlgorithmSignature as _;
use jwt_compact::alg::{Ed25519, Rsa};
use jwt_compact::jwk::JsonWebKey;
use rsa::{BigUint, RsaPublicKey};
use std::borrow::Cow;

/// Verifies signatures.
pub trait Verify {
    /// Whether `signature` is one of `key` over `message` under `algorithm`. Anything odd is simply not one.
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool;

    /// What that takes of the worker's time, in units of [`verification_cost`]. Nothing by default: somebody else does it, or time is no
    /// matter, as in the command-line tool.
    fn cost(&self, _algorithm: Algorithm, _key: &Jwk) -> u32 {
        0
    }
}

/// What a signature of this key costs where the module verifies it: 1 for Ed25519 and for RSA of up to 4096 bits, which is
/// 2.6 ms at most; more for larger keys and for unusual exponents, by the multiplications that they take.
pub fn verification_cost(key: &Jwk) -> u32 {
    let PublicKeyMaterial::Rsa { n, e } = key.material() else {
        return 1;
    };
    // One for each bit of the exponent and one more for each that is set, so 19 for 65537.
    let ones = e.iter().fold(0_u32, |sum, byte| sum.saturating_add(byte.count_ones()));
    let products = u64::try_from(bits(e)).unwrap_or(u64::MAX).saturating_add(u64::from(ones));
    let length = u64::try_from(n.len()).unwrap_or(u64::MAX);
    let cost = length.saturating_mul(length).saturating_mul(products).div_ceil(512 * 512 * 19);
    u32::try_from(cost).unwrap_or(u32::MAX)
}

/// The length that a signature of `algorithm` must have under this key (RFC 7518 sections 3.3, 3.4 and 3.5, RFC 8032).
pub fn length(algorithm: Algorithm, key: &Jwk) -> usize {
    match (algorithm, key.material()) {
        (Algorithm::Es256 | Algorithm::EdDsa, _) => 64,
        (Algorithm::Es384, _) => 96,
        (Algorithm::Es512, _) => 132,
        (_, PublicKeyMaterial::Rsa { n, .. }) => n.len(),
        _ => 0,
    }
}

/// jwt-compact: RSA and Ed25519, in the module itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftwareCrypto;

impl Verify for SoftwareCrypto {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
        // jwt-compact panics at an Ed25519 signature of another length.
        if signature.len() != length(algorithm, key) {
            return false;
        }
        match algorithm {
            Algorithm::Rs256 => rsa(Rsa::rs256(), key, message, signature),
            Algorithm::Rs384 => rsa(Rsa::rs384(), key, message, signature),
            Algorithm::Rs512 => rsa(Rsa::rs512(), key, message, signature),
            Algorithm::Ps256 => rsa(Rsa::ps256(), key, message, signature),
            Algorithm::Ps384 => rsa(Rsa::ps384(), key, message, signature),
            Algorithm::Ps512 => rsa(Rsa::ps512(), key, message, signature),
            Algorithm::EdDsa => ed25519(key, message, signature),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => false,
        }
    }
}

/// By a key of any size that a key set may hold: jwt-compact reads JWKs of up to 4096 bits.
fn rsa(algorithm: Rsa, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
    let PublicKeyMaterial::Rsa { n, e } = key.material() else {
        return false;
    };
    let [n, e] = [n, e].map(|number| BigUint::from_bytes_be(number));
    RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS)
        .is_ok_and(|key| verifies(&algorithm, &key, message, signature))
}

fn ed25519(key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
    let PublicKeyMaterial::Ed25519 { x } = key.material() else {
        return false;
    };
    let jwk = JsonWebKey::KeyPair { curve: "Ed25519".into(), x: Cow::Borrowed(x), secret: None };
    (&jwk).try_into().is_ok_and(|key| verifies(&Ed25519, &key, message, signature))
}

fn verifies<A: jwt_compact::Algorithm>(
    algorithm: &A,
    key: &A::VerifyingKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    A::Signature::try_from_slice(signature)
        .is_ok_and(|signature| algorithm.verify_signature(&signature, key, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jwk;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    /// Signatures over `text` that OpenSSL made.
    fn large() -> Vec<Value> {
        serde_json::from_str(include_str!("../../tests/data/rsa_large.json")).unwrap()
    }

    #[test]
    fn a_right_signature_is_right_whatever_size_its_key_may_have() {
        for set in large() {
            let key = jwk::parse_key(set["jwk"].as_object().unwrap()).unwrap();
            for (name, signature) in set["signatures"].as_object().unwrap() {
                let algorithm = Algorithm::from_name(name).unwrap();
                let mut signature = URL_SAFE_NO_PAD.decode(signature.as_str().unwrap()).unwrap();
                assert!(
                    SoftwareCrypto.verify(algorithm, &key, b"text", &signature),
                    "{name}, {} bits",
                    set["bits"]
                );
                assert!(!SoftwareCrypto.verify(algorithm, &key, b"other text", &signature), "{name}");
                *signature.last_mut().unwrap() ^= 1;
                assert!(!SoftwareCrypto.verify(algorithm, &key, b"text", &signature), "{name}");
            }
        }
    }

    #[test]
    fn the_work_of_a_signature_grows_with_its_key() {
        let rsa = |bits: usize, e: &str| {
            let n = URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
            verification_cost(
                &jwk::parse_key(json!({ "kty": "RSA", "n": n, "e": e }).as_object().unwrap()).unwrap(),
            )
        };
        let of = [
            (2048, "AQAB"),
            (4096, "Aw"),
            (4096, "AQAB"),
            (8192, "AQAB"),
            (2048, "_____w"),
            (8192, "_____w"),
        ];
        assert_eq!(of.map(|(bits, e)| rsa(bits, e)), [1, 1, 1, 4, 1, 14]);
    }
}
