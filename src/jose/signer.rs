//! A private key over some bytes: a signature in the form of RFC 7518. The other half of
//! `signature`.
//!
//! A trait with two implementors: the host's `BoringSSL` (in the shell) for RS256 and ES256, and
//! [`SoftwareCrypto`] in the module itself for Ed25519. Nobody signs PS256: the host pads as PKCS#1
//! v1.5 says, and RSA in the module would be 36 KB more of it
//! (docs/internals/decisions/0003-size.md).

use crate::jose::private_key::{PrivateKey, PrivateKeyMaterial};
use crate::jose::verifier::SoftwareCrypto;
use jwt_compact::alg::{Hs256, Hs256Key};
use jwt_compact::{Algorithm as _, AlgorithmSignature as _};

/// Signs.
pub trait Sign {
    /// The signature of `key` over `message`; none where this signer cannot make one.
    fn sign(&self, key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>>;
}

impl Sign for SoftwareCrypto {
    fn sign(&self, key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
        match key.material() {
            // RFC 8032: without randomness.
            PrivateKeyMaterial::Ed25519(key) => Some(key.sign(message, None).to_vec()),
            PrivateKeyMaterial::Rsa | PrivateKeyMaterial::P256 => None,
        }
    }
}

/// HMAC with SHA-256 (RFC 7518 section 3.2), for a secret that both sides have.
pub fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    Hs256.sign(&Hs256Key::new(secret), message).as_bytes().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use m2m_auth_kit::key::{Alg, Key};

    #[test]
    fn what_is_signed_here_verifies_elsewhere() {
        let key = Key::new(Alg::EdDsa);
        let read = PrivateKey::read(&key.private_jwk().to_string(), None).unwrap();
        let signature = SoftwareCrypto.sign(&read, b"text").unwrap();
        assert!(key.verifies(b"text", &signature) && !key.verifies(b"texT", &signature));
        for alg in [Alg::Rs256, Alg::Es256] {
            let of_the_host = PrivateKey::read(&Key::new(alg).private_pem(), None).unwrap();
            assert_eq!(SoftwareCrypto.sign(&of_the_host, b"text"), None, "{alg:?}");
        }
    }
}
