//! Is this signature of this key over these bytes? The one question behind every accepted token.
//!
//! A trait with two implementors, chosen once at start: the host's `BoringSSL` (in the shell) and [`Compact`], which is
//! jwt-compact in the module itself. The caller has already made sure that key and algorithm fit each other.
//!
//! ECDSA is the host's alone: every Envoy that is still supported has it, jwt-compact lacks two of the three curves, and
//! the third would cost 28 KB of module that no supported host ever runs.

use crate::jwk::{Algorithm, Key, Material};
use jwt_compact::AlgorithmSignature as _;
use jwt_compact::alg::{Ed25519, Rsa};
use jwt_compact::jwk::JsonWebKey;
use std::borrow::Cow;

/// Verifies signatures.
pub trait Verify {
    /// Whether `signature` is one of `key` over `message` under `algorithm`. Anything odd is simply not one.
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool;
}

/// The length that a signature of `algorithm` must have under this key (RFC 7518 sections 3.3 to 3.5, RFC 8032).
pub fn length(algorithm: Algorithm, key: &Key) -> usize {
    match (algorithm, key.material()) {
        (Algorithm::Es256 | Algorithm::EdDsa, _) => 64,
        (Algorithm::Es384, _) => 96,
        (Algorithm::Es512, _) => 132,
        (_, Material::Rsa { n, .. }) => n.len(),
        _ => 0,
    }
}

/// jwt-compact: RSA and Ed25519, in the module itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compact;

impl Verify for Compact {
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        // jwt-compact panics at an Ed25519 signature of another length.
        if signature.len() != length(algorithm, key) {
            return false;
        }
        match algorithm {
            Algorithm::Rs256 => checks(&Rsa::rs256(), key, message, signature),
            Algorithm::Rs384 => checks(&Rsa::rs384(), key, message, signature),
            Algorithm::Rs512 => checks(&Rsa::rs512(), key, message, signature),
            Algorithm::Ps256 => checks(&Rsa::ps256(), key, message, signature),
            Algorithm::Ps384 => checks(&Rsa::ps384(), key, message, signature),
            Algorithm::Ps512 => checks(&Rsa::ps512(), key, message, signature),
            Algorithm::EdDsa => checks(&Ed25519, key, message, signature),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => false,
        }
    }
}

fn checks<A>(algorithm: &A, key: &Key, message: &[u8], signature: &[u8]) -> bool
where
    A: jwt_compact::Algorithm,
    A::VerifyingKey: for<'a> TryFrom<&'a JsonWebKey<'a>>,
{
    let jwk = match key.material() {
        Material::Rsa { n, e } => JsonWebKey::Rsa {
            modulus: Cow::Borrowed(n),
            public_exponent: Cow::Borrowed(e),
            private_parts: None,
        },
        Material::Ec { .. } => return false,
        Material::Ed25519 { x } => {
            JsonWebKey::KeyPair { curve: "Ed25519".into(), x: Cow::Borrowed(x), secret: None }
        }
    };
    let (Ok(key), Ok(signature)) = (A::VerifyingKey::try_from(&jwk), A::Signature::try_from_slice(signature))
    else {
        return false;
    };
    algorithm.verify_signature(&signature, &key, message)
}
