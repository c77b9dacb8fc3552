//! A private key as its owner keeps it (PEM, or a JWK) to a [`PrivateKey`]: RSA, P-256 or Ed25519, and how it signs.
//!
//! It reads and checks, and does not sign. Errors quote nothing of the key.

use crate::jose::jwk::{self, Algorithm, der};
use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_compact::{KeyPair, SecretKey, Seed};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use serde_json::{Map, Value};
use std::fmt;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// A key that signs, with one algorithm (RFC 8725 section 3.1).
#[derive(Clone)]
pub struct PrivateKey {
    algorithm: Algorithm,
    kid: Option<String>,
    pkcs8: Zeroizing<Vec<u8>>,
    material: PrivateKeyMaterial,
}

// `Zeroizing`, and the drop of `ed25519_compact::SecretKey`, do it.
impl ZeroizeOnDrop for PrivateKey {}

/// The key, for signing in the module itself.
#[derive(Clone)]
pub(crate) enum PrivateKeyMaterial {
    /// Only the host signs with these two.
    Rsa,
    P256,
    Ed25519(Box<SecretKey>),
}

impl PrivateKey {
    /// Reads a key. `algorithm` is what it has to sign with; without it the JWK's own word counts, then the key's kind.
    pub fn read(text: &str, algorithm: Option<Algorithm>) -> Result<Self, &'static str> {
        let text = text.trim();
        let (pkcs8, named, kid) = if text.starts_with('{') {
            let mut jwk = json::parse_object(text.as_bytes()).map_err(|_| "a JWK that is not JSON")?;
            let key = from_jwk(&jwk);
            let (named, kid) = (algorithm_of(&jwk), member(&jwk, "kid").map(str::to_owned));
            wipe(&mut jwk);
            (key?, named?, kid)
        } else {
            (from_pem(text)?, None, None)
        };
        let (usual, material) = material(&pkcs8)?;
        let algorithm = algorithm.or(named).unwrap_or(usual);
        if algorithm == usual {
            Ok(Self { algorithm, kid, pkcs8, material })
        } else {
            Err("not a key for this algorithm")
        }
    }

    /// The key of a random number: P-256 for ES256, else Ed25519; none if the number is no key.
    pub(crate) fn from_number(number: &[u8; 32], algorithm: Algorithm) -> Option<Self> {
        let pkcs8 = if algorithm == Algorithm::Es256 {
            der::pkcs8(der::P256, &der::sec1(number))
        } else {
            der::pkcs8(der::ED25519, &der::seed(number))
        };
        let (algorithm, material) = material(&pkcs8).ok()?;
        Some(Self { algorithm, kid: None, pkcs8, material })
    }

    /// The same key under this name.
    pub fn named(self, kid: Option<String>) -> Self {
        Self { kid: kid.or(self.kid), ..self }
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key as DER of PKCS#8, the form in which the host takes it.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn material(&self) -> &PrivateKeyMaterial {
        &self.material
    }

    /// Its public half as a JWK with nothing but the key, spelled as RFC 7638 section 3 has it, so that its digest is the
    /// thumbprint. None for RSA, and for a P-256 number that is no key.
    #[inline(never)]
    pub fn public_jwk(&self) -> Option<String> {
        match &self.material {
            PrivateKeyMaterial::Rsa => None,
            PrivateKeyMaterial::P256 => {
                let (secret, _) = der::read_sec1(der::read_pkcs8(&self.pkcs8)?.1)?;
                let point = p256::SecretKey::from_slice(secret).ok()?.public_key().to_encoded_point(false);
                let [x, y] = [point.x()?, point.y()?].map(|half| URL_SAFE_NO_PAD.encode(half));
                Some(format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}"))
            }
            PrivateKeyMaterial::Ed25519(key) => {
                let x = URL_SAFE_NO_PAD.encode(key.public_key().as_slice());
                Some(format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}"))
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// The key within PKCS#8, and its algorithm unless the configuration names another.
#[inline(never)]
fn material(pkcs8: &[u8]) -> Result<(Algorithm, PrivateKeyMaterial), &'static str> {
    const BROKEN: &str = "a key that is broken";
    let (algorithm, key) = der::read_pkcs8(pkcs8).ok_or(BROKEN)?;
    if algorithm == der::RSA {
        // Whether the numbers belong together, the host finds out.
        if jwk::bits(der::read_pkcs1(key).ok_or(BROKEN)?) < jwk::MIN_RSA_BITS {
            return Err("an RSA key of fewer than 2048 bits");
        }
        return Ok((Algorithm::Rs256, PrivateKeyMaterial::Rsa));
    }
    if algorithm == der::P256 {
        let (secret, curve) = der::read_sec1(key).ok_or(BROKEN)?;
        let is_p256 = curve.is_none_or(|curve| curve == der::P256_CURVE);
        let sound = is_p256 && secret.len() == 32 && secret.iter().any(|byte| *byte != 0);
        return if sound { Ok((Algorithm::Es256, PrivateKeyMaterial::P256)) } else { Err(BROKEN) };
    }
    if algorithm == der::ED25519 {
        let seed = der::read_seed(key).and_then(|seed| Seed::from_slice(seed).ok()).ok_or(BROKEN)?;
        let pair = KeyPair::try_from_seed(seed).map_err(|_| BROKEN)?;
        return Ok((Algorithm::EdDsa, PrivateKeyMaterial::Ed25519(Box::new(pair.sk))));
    }
    Err("a key of a kind other than RSA, P-256 and Ed25519")
}

/// RFC 7468, as far as OpenSSL's three ways to write a private key go.
#[inline(never)]
fn from_pem(text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    // What a shell or a manifest makes of a line's end.
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    if let Some(pkcs8) = document(&text, "PRIVATE KEY") {
        // What may stand behind the key, the host has no use for.
        return der::read_pkcs8(&pkcs8)
            .map(|(algorithm, key)| der::pkcs8(algorithm, key))
            .ok_or("a key that is broken");
    }
    if let Some(pkcs1) = document(&text, "RSA PRIVATE KEY") {
        return Ok(der::pkcs8(der::RSA, &pkcs1));
    }
    if let Some(sec1) = document(&text, "EC PRIVATE KEY") {
        let (_, curve) = der::read_sec1(&sec1).ok_or("a key that is broken")?;
        return if curve == Some(der::P256_CURVE) {
            Ok(der::pkcs8(der::P256, &sec1))
        } else {
            Err("a key of another curve than P-256")
        };
    }
    let encrypted = text.contains("ENCRYPTED");
    Err(if encrypted { "a key that is encrypted" } else { "neither PEM nor a JWK of a private key" })
}

#[inline(never)]
fn document(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    STANDARD.decode(&*digits).ok().map(Zeroizing::new)
}

/// RFC 7518 section 6, RFC 8037 section 2.
#[inline(never)]
fn from_jwk(jwk: &Map<String, Value>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    const MISSING: &str = "a JWK that lacks a part of the private key";
    let number =
        |name: &str| member(jwk, name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new));
    match (member(jwk, "kty"), member(jwk, "crv")) {
        (Some("RSA"), _) => {
            let numbers: Option<Vec<_>> =
                ["n", "e", "d", "p", "q", "dp", "dq", "qi"].into_iter().map(number).collect();
            Ok(der::pkcs8(der::RSA, &der::pkcs1(&numbers.ok_or(MISSING)?)))
        }
        (Some("EC"), Some("P-256")) => Ok(der::pkcs8(der::P256, &der::sec1(&number("d").ok_or(MISSING)?))),
        (Some("OKP"), Some("Ed25519")) => {
            Ok(der::pkcs8(der::ED25519, &der::seed(&number("d").ok_or(MISSING)?)))
        }
        _ => Err("a JWK of a kind other than RSA, P-256 and Ed25519"),
    }
}

#[inline(never)]
fn algorithm_of(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, &'static str> {
    let Some(name) = member(jwk, "alg") else {
        return Ok(None);
    };
    let algorithm = Algorithm::from_name(name).filter(|algorithm| ALGORITHMS.contains(algorithm));
    algorithm.map(Some).ok_or("a JWK for an algorithm that is not supported here")
}

/// What assertions are signed with: one algorithm for each kind of key.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

#[inline(never)]
fn member<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

/// Overwrites what a JWK says.
fn wipe(jwk: &mut Map<String, Value>) {
    for value in jwk.values_mut() {
        if let Value::String(text) = value {
            text.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use m2m_auth_kit::key::{Alg, Key};
    use serde_json::json;

    #[test]
    fn a_key_in_pem_signs_as_its_kind_does() {
        for (alg, usual) in
            [(Alg::Rs256, Algorithm::Rs256), (Alg::Es256, Algorithm::Es256), (Alg::EdDsa, Algorithm::EdDsa)]
        {
            let pem = Key::new(alg).private_pem();
            let read = PrivateKey::read(&pem, None).unwrap();
            assert_eq!((read.algorithm(), read.kid()), (usual, None));
            let in_one_line = PrivateKey::read(&pem.replace('\n', "\\n"), None).unwrap();
            assert_eq!(in_one_line.pkcs8(), read.pkcs8());
            assert!(PrivateKey::read(&pem, Some(Algorithm::Ps256)).is_err());
            assert_eq!(format!("{read:?}"), "redacted");
        }
    }

    #[test]
    fn every_way_to_write_a_key_is_the_same_key() {
        for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
            let key = Key::new(alg);
            let pem = PrivateKey::read(&key.private_pem(), None).unwrap();
            let jwk = PrivateKey::read(&key.private_jwk().to_string(), None).unwrap();
            assert_eq!((jwk.kid(), jwk.algorithm()), (Some(key.kid()), pem.algorithm()));
            let (_, of_pem) = der::read_pkcs8(pem.pkcs8()).unwrap();
            let (_, of_jwk) = der::read_pkcs8(jwk.pkcs8()).unwrap();
            let secret = |der| der::read_sec1(der).map(|(secret, _)| secret.to_vec());
            match alg {
                Alg::Es256 => assert_eq!(secret(of_pem), secret(of_jwk)),
                _ => assert_eq!(of_pem, of_jwk),
            }
        }
    }

    #[test]
    fn the_public_half_is_that_of_the_key() {
        for alg in [Alg::Es256, Alg::EdDsa] {
            let key = Key::new(alg);
            let jwk = PrivateKey::read(&key.private_pem(), None).unwrap().public_jwk().unwrap();
            assert_eq!(jwk, key.bare_jwk().to_string(), "in the order of the names, without spaces");
        }
        assert_eq!(PrivateKey::read(&Key::new(Alg::Rs256).private_pem(), None).unwrap().public_jwk(), None);
        let beyond_the_order = URL_SAFE_NO_PAD.encode([0xff; 32]);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "d": beyond_the_order }).to_string();
        assert_eq!(PrivateKey::read(&jwk, None).unwrap().public_jwk(), None);
    }

    #[test]
    fn the_older_forms_of_pem_are_read_too() {
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        let rsa = PrivateKey::read(&Key::new(Alg::Rs256).private_pem(), None).unwrap();
        let (_, pkcs1) = der::read_pkcs8(rsa.pkcs8()).unwrap();
        let old = PrivateKey::read(&pem("RSA PRIVATE KEY", pkcs1), None).unwrap();
        assert_eq!(old.pkcs8(), rsa.pkcs8());
        // RFC 5915: version, secret, curve.
        let sec1 = |curve: &[u8]| {
            let content = [&[2, 1, 1, 4, 32][..], &[7; 32], &[0xa0, 10], curve].concat();
            [&[0x30, 49], content.as_slice()].concat()
        };
        let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let before = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let text = format!("{before}{}", pem("EC PRIVATE KEY", &sec1(&p256)));
        assert_eq!(PrivateKey::read(&text, None).unwrap().algorithm(), Algorithm::Es256);
        let other = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01];
        assert!(PrivateKey::read(&pem("EC PRIVATE KEY", &sec1(&other)), None).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        let rsa = Key::new(Alg::Rs256).private_jwk();
        let without = |name: &str| {
            let mut jwk = rsa.clone();
            jwk.as_object_mut().unwrap().remove(name);
            jwk.to_string()
        };
        let with = |name: &str, value: &str| {
            let mut jwk = rsa.clone();
            jwk[name] = json!(value);
            jwk.to_string()
        };
        for text in [
            String::new(),
            "hushhush".into(),
            "{".into(),
            "-----BEGIN PRIVATE KEY-----\nhushhush\n-----END PRIVATE KEY-----".into(),
            "-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----".into(),
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----".into(),
            Key::new(Alg::Rs256).jwk().to_string(),
            json!({ "kty": "oct", "k": "hushhush" }).to_string(),
            json!({ "kty": "EC", "crv": "P-256", "d": "AAAA" }).to_string(),
            json!({ "kty": "OKP", "crv": "Ed25519", "d": "AAAA" }).to_string(),
            without("d"),
            without("qi"),
            with("alg", "RS512"),
            with("alg", "PS256"),
            with("alg", "ES256"),
            with("n", "hushhush"),
            with("d", "hush?"),
        ] {
            let error = PrivateKey::read(&text, None).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
