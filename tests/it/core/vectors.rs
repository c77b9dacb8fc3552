//! Conformance: tokens, keys and signatures with outcomes that others computed, compared with ours.
//!
//! | set | runs |
//! |---|---|
//! | `data/jwt_cases.json` | through the whole plugin, with keys given inline and with keys fetched |
//! | `data/rfc_examples.json` | the examples of RFC 7515 and its kin, at the signature layer |
//! | Wycheproof, signatures | through [`Verify`] itself |
//! | Wycheproof, JWS and JWK | at the signature layer: shape, choice of the key, signature |
//!
//! Each set runs with both implementations: [`SoftwareCrypto`], and [`Host`], which simulates
//! Envoy's `BoringSSL` and so checks what is sent to it. The Wycheproof files are not in this
//! repository; without them their tests say so and pass.

#![allow(clippy::print_stdout, reason = "a set of vectors that is not there is named")]

pub(crate) mod cases;
mod encodings;
mod rfcs;
mod wycheproof;

use aws_lc_rs::signature as lc;
use m2m_auth::inbound::jwt::{self, IssuerProfile, TokenError};
use m2m_auth::jose::jwk::{self, Algorithm, Jwk, der};
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use serde_json::Value;

/// Simulates the host: the same choices as `wasm::crypto`, and instead of the foreign function
/// AWS-LC, which descends from the `BoringSSL` in Envoy and uses the same `EVP_parse_public_key`
/// and `EVP_DigestVerify`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host;

impl Verify for Host {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
        let how: &'static dyn lc::VerificationAlgorithm = match algorithm {
            Algorithm::Rs256 => &lc::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &lc::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &lc::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Es256 => &lc::ECDSA_P256_SHA256_ASN1,
            Algorithm::Es384 => &lc::ECDSA_P384_SHA384_ASN1,
            Algorithm::Es512 => &lc::ECDSA_P521_SHA512_ASN1,
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => {
                return SoftwareCrypto.verify(algorithm, key, message, signature);
            }
        };
        let signature = match algorithm {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => der::ecdsa_signature(signature),
            _ => signature.to_vec(),
        };
        lc::UnparsedPublicKey::new(how, key.spki()).verify(message, &signature).is_ok()
    }
}

/// Both ways of verifying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Compact,
    Host,
}

/// A verifier of each way.
pub(crate) fn verifiers() -> [Box<dyn Verify>; 2] {
    Way::BOTH.map(Way::verifier)
}

impl Way {
    const BOTH: [Self; 2] = [Self::Compact, Self::Host];

    fn verifier(self) -> Box<dyn Verify> {
        match self {
            Self::Compact => Box::new(SoftwareCrypto),
            Self::Host => Box::new(Host),
        }
    }

    /// ECDSA is the host's alone.
    fn can(self, algorithm: Algorithm) -> bool {
        self == Self::Host || !matches!(algorithm, Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512)
    }
}

/// The outcome of the signature layer: everything before the first claim is read.
///
/// [`jwt::read`] looks at shape and header. Of what [`jwt::UnverifiedToken::verify`] then refuses,
/// these reasons come before the signature is verified; every other one comes after, so it means
/// that the signature was good.
fn signature_holds(token: &str, jwks: &Value, verifier: &dyn Verify) -> Result<(), String> {
    let keys = jwk::parse(jwks.to_string().as_bytes()).map_err(|error| format!("key set: {error}"))?.keys;
    let token = jwt::read(token.as_bytes()).map_err(|reject| format!("shape: {reject:?}"))?;
    let expect = IssuerProfile::default();
    match token.verify(&keys, verifier, &expect, 0) {
        Err(
            reject @ (TokenError::InvalidTyp
            | TokenError::Algorithm
            | TokenError::UnknownKey
            | TokenError::Signature),
        ) => Err(format!("signature: {reject:?}")),
        Ok(_) | Err(_) => Ok(()),
    }
}
