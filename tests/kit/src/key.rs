//! Keys that sign tokens, each with the JWK that its provider publishes. Test keys only, fit for
//! nothing else.
//!
//! Making an RSA key takes long, so the RSA keys come from a pool that starts with a few fixed
//! ones. A live key has one owner: two providers of one test never share a key by accident.

use crate::{public, serve::lock};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{
    ecdsa::{self, signature::Signer as _},
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
};
use rand::RngCore as _;
use rsa::{
    BigUint, RsaPrivateKey, pkcs1v15, pss,
    sha2::{Sha256, Sha384, Sha512},
    signature::{RandomizedSigner as _, SignatureEncoding as _},
    traits::{PrivateKeyParts as _, PublicKeyParts as _},
};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock},
};

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256, what Keycloak does by default.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A private key with its id. Clones are the same key.
#[derive(Clone)]
pub struct Key {
    kid: String,
    alg: Alg,
    private: Arc<Private>,
}

enum Private {
    Rsa(Pooled),
    P256(ecdsa::SigningKey),
    Ed25519(ed25519_compact::KeyPair),
}

impl Alg {
    /// The name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl Key {
    /// A new key, with a random id.
    pub fn new(alg: Alg) -> Self {
        let private = match alg {
            Alg::Es256 => Private::P256(ecdsa::SigningKey::random(&mut rand::thread_rng())),
            Alg::EdDsa => Private::Ed25519(ed25519_compact::KeyPair::generate()),
            _ => Private::Rsa(Pooled::take()),
        };
        Self { kid: random_id(), alg, private: Arc::new(private) }
    }

    /// The same key under another id.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = kid.into();
        self
    }

    /// The id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// How it signs.
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// The signature, in the form of RFC 7518 (ECDSA: `r` and `s`, not DER).
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        match (&*self.private, self.alg) {
            (Private::P256(key), _) => {
                let signature: ecdsa::Signature = key.sign(text);
                signature.to_vec()
            }
            (Private::Ed25519(pair), _) => pair.sk.sign(text, None).to_vec(),
            (Private::Rsa(key), alg) => sign_rsa(key.get(), alg, text),
        }
    }

    /// Does `signature` belong to `text`?
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        public::verifies(&self.bare_jwk(), self.alg.name(), text, signature)
    }

    /// The public JWK, shaped as Keycloak publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.kid, "alg": self.alg.name(), "use": "sig" });
        merge(&mut jwk, self.bare_jwk());
        jwk
    }

    /// The public JWK with nothing but the key, as a `DPoP` proof carries it.
    pub fn bare_jwk(&self) -> Value {
        match &*self.private {
            Private::Rsa(key) => rsa_members(key.get()),
            Private::P256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let [x, y] = [point.x(), point.y()].map(|part| part.map(encode));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Private::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.pk.as_ref()) })
            }
        }
    }

    /// The thumbprint of RFC 7638, which `cnf.jkt` holds.
    pub fn thumbprint(&self) -> String {
        public::thumbprint(&self.bare_jwk())
    }

    /// The private key as a JWK, with its id and its algorithm.
    pub fn private_jwk(&self) -> Value {
        let mut jwk = self.jwk();
        let private = match &*self.private {
            Private::Rsa(key) => {
                let key = key.get();
                let exponent = |number: Option<&BigUint>| encode(number.expect("computed").to_bytes_be());
                json!({
                    "d": encode(key.d().to_bytes_be()),
                    "p": encode(key.primes()[0].to_bytes_be()),
                    "q": encode(key.primes()[1].to_bytes_be()),
                    "dp": exponent(key.dp()),
                    "dq": exponent(key.dq()),
                    "qi": exponent(key.crt_coefficient().as_ref()),
                })
            }
            Private::P256(key) => json!({ "d": encode(key.to_bytes()) }),
            Private::Ed25519(pair) => json!({ "d": encode(*pair.sk.seed()) }),
        };
        merge(&mut jwk, private);
        jwk
    }

    /// The public key in PEM. Panics unless it is RSA.
    pub fn public_pem(&self) -> String {
        let Private::Rsa(key) = &*self.private else { panic!("{self:?} is no RSA key") };
        key.get().to_public_key().to_public_key_pem(LineEnding::LF).expect("an RSA key encodes")
    }

    /// The private key as PKCS#8 in PEM, for a client that signs its own assertions.
    pub fn private_pem(&self) -> String {
        match &*self.private {
            Private::Rsa(key) => {
                key.get().to_pkcs8_pem(LineEnding::LF).expect("an RSA key encodes").to_string()
            }
            Private::P256(key) => {
                let secret = p256::SecretKey::from(key);
                secret.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key encodes").to_string()
            }
            Private::Ed25519(pair) => pair.sk.to_pem(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.alg.name(), self.kid)
    }
}

/// The RSA key for encryption that Keycloak publishes *before* its signing key. Nothing here
/// encrypts.
pub(crate) fn encryption_jwk() -> Value {
    static JWK: OnceLock<Value> = OnceLock::new();
    let jwk = JWK.get_or_init(|| {
        let mut jwk = json!({ "kid": random_id(), "alg": "RSA-OAEP", "use": "enc" });
        merge(&mut jwk, rsa_members(Pooled::take().get()));
        jwk
    });
    jwk.clone()
}

/// Base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// 32 random bytes as base64url: what Keycloak's key ids look like.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 32];
    rand::thread_rng().fill_bytes(&mut bytes);
    encode(bytes)
}

/// Adds the members of one JSON object to another, replacing those of the same name.
pub(crate) fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn rsa_members(key: &RsaPrivateKey) -> Value {
    json!({ "kty": "RSA", "n": encode(key.n().to_bytes_be()), "e": encode(key.e().to_bytes_be()) })
}

fn sign_rsa(key: &RsaPrivateKey, alg: Alg, text: &[u8]) -> Vec<u8> {
    let (key, random) = (key.clone(), &mut rand::thread_rng());
    match alg {
        Alg::Rs256 => pkcs1v15::SigningKey::<Sha256>::new(key).sign(text).to_vec(),
        Alg::Rs384 => pkcs1v15::SigningKey::<Sha384>::new(key).sign(text).to_vec(),
        Alg::Rs512 => pkcs1v15::SigningKey::<Sha512>::new(key).sign(text).to_vec(),
        Alg::Ps256 => pss::SigningKey::<Sha256>::new(key).sign_with_rng(random, text).to_vec(),
        Alg::Ps384 => pss::SigningKey::<Sha384>::new(key).sign_with_rng(random, text).to_vec(),
        Alg::Ps512 => pss::SigningKey::<Sha512>::new(key).sign_with_rng(random, text).to_vec(),
        Alg::Es256 | Alg::EdDsa => unreachable!("not an RSA algorithm"),
    }
}

/// An RSA key that goes back to the pool when it is dropped.
struct Pooled(Option<Arc<RsaPrivateKey>>);

impl Pooled {
    fn take() -> Self {
        let pooled = lock(pool()).pop();
        Self(Some(pooled.unwrap_or_else(|| Arc::new(generate()))))
    }

    fn get(&self) -> &RsaPrivateKey {
        self.0.as_ref().expect("held until dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(key) = self.0.take() {
            lock(pool()).push(key);
        }
    }
}

fn pool() -> &'static Mutex<Vec<Arc<RsaPrivateKey>>> {
    static POOL: OnceLock<Mutex<Vec<Arc<RsaPrivateKey>>>> = OnceLock::new();
    POOL.get_or_init(|| {
        let file: Value = serde_json::from_str(include_str!("../data/rsa_keys.json")).expect("JSON");
        let keys = file["keys"].as_array().expect("an array").iter();
        Mutex::new(keys.map(|jwk| Arc::new(parse(jwk))).collect())
    })
}

fn parse(jwk: &Value) -> RsaPrivateKey {
    let number = |name: &str| {
        let text = jwk[name].as_str().expect("a member of the JWK");
        BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(text).expect("base64url"))
    };
    let primes = vec![number("p"), number("q")];
    RsaPrivateKey::from_components(number("n"), number("e"), number("d"), primes).expect("an RSA key")
}

fn generate() -> RsaPrivateKey {
    RsaPrivateKey::new(&mut rand::thread_rng(), 2048).expect("an RSA key can be made")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Alg; 8] =
        [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512, Alg::Es256, Alg::EdDsa];

    #[test]
    fn every_algorithm_verifies_its_own_signature_and_no_other() {
        for alg in ALL {
            let (key, other) = (Key::new(alg), Key::new(alg));
            let signature = key.sign(b"text");
            assert!(key.verifies(b"text", &signature), "{alg:?}");
            assert!(!key.verifies(b"texT", &signature), "{alg:?}");
            assert!(!other.verifies(b"text", &signature), "{alg:?}");
        }
    }

    #[test]
    fn two_living_keys_are_never_the_same_one() {
        let keys: Vec<_> = (0..4).map(|_| Key::new(Alg::Rs256)).collect();
        for (place, key) in keys.iter().enumerate() {
            let modulus = key.jwk()["n"].clone();
            assert!(keys[place + 1..].iter().all(|other| other.jwk()["n"] != modulus));
        }
    }

    #[test]
    fn a_private_key_is_handed_out_as_pkcs8() {
        for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
            assert!(Key::new(alg).private_pem().starts_with("-----BEGIN PRIVATE KEY-----"), "{alg:?}");
        }
    }
}
