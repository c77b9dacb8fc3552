//! Envoy's foreign functions `verify_signature` and `sign`, as `BoringSSL` answers them: from the
//! bytes that are passed and nothing else.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth_kit::key::encode;
use m2m_auth_kit::token;
use serde_json::{Value, json};

/// `VerifySignatureResult { result: true }`.
pub(crate) const YES: &[u8] = &[0x08, 0x01];

/// `VerifySignatureResult { error: … }`.
fn no(error: &str) -> Vec<u8> {
    [&[0x12, u8::try_from(error.len()).unwrap()], error.as_bytes()].concat()
}

/// The result, or none where Envoy calls the arguments bad: there is no key in them.
pub(crate) fn verify(arguments: &[u8]) -> Option<Vec<u8>> {
    let Arguments { hash, key, signature, text } =
        Arguments::read(arguments).filter(|read| !read.key.is_empty())?;
    let Some((jwk, family)) = jwk(&key) else {
        return Some(no("Failed to initialize digest verify."));
    };
    let Some(digest) = hash.strip_prefix("sha") else {
        return Some(no("the hash is not supported."));
    };
    let algorithm = format!("{family}{digest}");
    let signature = if family == "ES" { raw(&signature).unwrap_or_default() } else { signature };
    // The kit checks tokens, so the string becomes one again.
    let text = String::from_utf8_lossy(&text);
    let header = text.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header: Value = serde_json::from_slice(&header.unwrap_or_default()).unwrap_or_default();
    let good = header["alg"] == json!(algorithm)
        && token::verifies_by_jwk(&format!("{text}.{}", encode(signature)), &jwk);
    Some(if good { YES.to_vec() } else { no("Failed to verify digest. Error code: 0") })
}

/// The same for `sign`.
pub(crate) fn sign(arguments: &[u8]) -> Option<Vec<u8>> {
    // Its third field is the signed message.
    let Arguments { key, signature: text, .. } =
        Arguments::read(arguments).filter(|read| !read.key.is_empty())?;
    let random = SystemRandom::new();
    let signature = if let Ok(pair) = RsaKeyPair::from_pkcs8(&key) {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, &text, &mut signature).unwrap();
        signature
    } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key) {
        pair.sign(&random, &text).unwrap().as_ref().to_vec()
    } else {
        return Some(no("Invalid private key"));
    };
    let length = match u8::try_from(signature.len()) {
        Ok(short) if short < 0x80 => vec![short],
        _ => vec![
            0x80 | u8::try_from(signature.len() & 0x7f).unwrap(),
            u8::try_from(signature.len() >> 7).unwrap(),
        ],
    };
    Some([YES, &[0x12], &length, &signature].concat())
}

/// The hash function that is asked for; nothing when there are no arguments.
pub(crate) fn hash(arguments: &[u8]) -> String {
    Arguments::read(arguments).map(|read| read.hash).unwrap_or_default()
}

/// `VerifySignatureArguments`.
#[derive(Default)]
struct Arguments {
    hash: String,
    key: Vec<u8>,
    signature: Vec<u8>,
    text: Vec<u8>,
}

impl Arguments {
    /// Protocol buffers, as far as this message goes: fields of bytes, each at most once.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        while let Some((tag, rest)) = bytes.split_first() {
            let digits = rest.iter().position(|digit| digit & 0x80 == 0)? + 1;
            let (length, rest) = rest.split_at(digits);
            let length = length.iter().rev().fold(0, |sum, digit| (sum << 7) | usize::from(digit & 0x7f));
            let (content, rest) = rest.split_at_checked(length)?;
            match tag {
                0x0a => read.hash = String::from_utf8(content.to_vec()).ok()?,
                0x12 => read.key = content.to_vec(),
                0x1a => read.signature = content.to_vec(),
                0x22 => read.text = content.to_vec(),
                _ => return None,
            }
            bytes = rest;
        }
        Some(read)
    }
}

/// `SubjectPublicKeyInfo` as a JWK, and its family of algorithms.
fn jwk(spki: &[u8]) -> Option<(Value, &'static str)> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let [(0x30, algorithm), (0x03, [0, key @ ..])] = elements(only(0x30, spki)?)?[..] else {
        return None;
    };
    match elements(algorithm)?[..] {
        [(0x06, RSA), (0x05, [])] => {
            let [(0x02, n), (0x02, e)] = elements(only(0x30, key)?)?[..] else {
                return None;
            };
            Some((json!({ "kty": "RSA", "n": encode(unsigned(n)?), "e": encode(unsigned(e)?) }), "RS"))
        }
        [(0x06, EC), (0x06, P256)] => {
            // SEC 1 section 2.3.3: an uncompressed point.
            let (x, y) = key.strip_prefix(&[4])?.split_at_checked(32)?;
            Some((json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }), "ES"))
        }
        _ => None,
    }
}

/// `SEQUENCE { r, s }` as `r || s`.
fn raw(der: &[u8]) -> Option<Vec<u8>> {
    let [(0x02, r), (0x02, s)] = elements(only(0x30, der)?)?[..] else {
        return None;
    };
    let padded = |number: &[u8]| -> Option<Vec<u8>> {
        let number = unsigned(number)?;
        Some([vec![0; 32_usize.checked_sub(number.len())?], number.to_vec()].concat())
    };
    Some([padded(r)?, padded(s)?].concat())
}

/// A positive INTEGER without its sign; none where DER has another spelling for it.
fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Some(rest),
        [1..=0x7f, ..] => Some(integer),
        _ => None,
    }
}

fn only(tag: u8, der: &[u8]) -> Option<&[u8]> {
    match elements(der)?[..] {
        [(own, content)] if own == tag => Some(content),
        _ => None,
    }
}

/// DER elements, one after another.
fn elements(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let (length, rest) = match *first {
            short if short < 0x80 => (usize::from(short), rest),
            long => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        found.push((*tag, content));
        der = rest;
    }
    der.is_empty().then_some(found)
}
