//! Checking signatures with nothing but a public JWK, as any receiver of a token does.

use crate::key::encode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{EncodedPoint, ecdsa, ecdsa::signature::Verifier as _};
use rsa::{
    BigUint, RsaPublicKey, pkcs1v15, pss,
    sha2::{Digest as _, Sha256, Sha384, Sha512},
};
use serde_json::{Value, json};

/// Does `signature` belong to `text`, by that key and algorithm? `false` too for keys and
/// algorithms unknown here.
pub(crate) fn verifies(jwk: &Value, alg: &str, text: &[u8], signature: &[u8]) -> bool {
    try_verify(jwk, alg, text, signature).unwrap_or(false)
}

/// RFC 7638: the digest of the required members, in the order of their names.
pub fn thumbprint(jwk: &Value) -> String {
    let members: &[&str] = match jwk["kty"].as_str() {
        Some("RSA") => &["e", "kty", "n"],
        Some("EC") => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    // The map is ordered by name, and JSON is written without whitespace, as the RFC requires.
    let bare: serde_json::Map<_, _> =
        members.iter().map(|name| ((*name).to_owned(), jwk[*name].clone())).collect();
    encode(Sha256::digest(json!(bare).to_string()))
}

fn try_verify(jwk: &Value, alg: &str, text: &[u8], signature: &[u8]) -> Option<bool> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    match (jwk["kty"].as_str()?, alg) {
        ("RSA", _) => {
            let [n, e] = [member("n")?, member("e")?].map(|bytes| BigUint::from_bytes_be(&bytes));
            verify_rsa(RsaPublicKey::new(n, e).ok()?, alg, text, signature)
        }
        ("EC", "ES256") => {
            let (x, y) = (member("x")?, member("y")?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            let point =
                EncodedPoint::from_affine_coordinates(x.as_slice().into(), y.as_slice().into(), false);
            let key = ecdsa::VerifyingKey::from_encoded_point(&point).ok()?;
            Some(key.verify(text, &ecdsa::Signature::from_slice(signature).ok()?).is_ok())
        }
        ("OKP", "EdDSA") => {
            let key = ed25519_compact::PublicKey::from_slice(&member("x")?).ok()?;
            let signature = ed25519_compact::Signature::from_slice(signature).ok()?;
            Some(key.verify(text, &signature).is_ok())
        }
        _ => None,
    }
}

fn verify_rsa(key: RsaPublicKey, alg: &str, text: &[u8], signature: &[u8]) -> Option<bool> {
    let pkcs1 = || pkcs1v15::Signature::try_from(signature).ok();
    let pss = || pss::Signature::try_from(signature).ok();
    let outcome = match alg {
        "RS256" => pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(text, &pkcs1()?),
        "RS384" => pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(text, &pkcs1()?),
        "RS512" => pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(text, &pkcs1()?),
        "PS256" => pss::VerifyingKey::<Sha256>::new(key).verify(text, &pss()?),
        "PS384" => pss::VerifyingKey::<Sha384>::new(key).verify(text, &pss()?),
        "PS512" => pss::VerifyingKey::<Sha512>::new(key).verify(text, &pss()?),
        _ => return None,
    };
    Some(outcome.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        // RFC 7638 section 3.1, RFC 8037 appendix A.3.
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "EdDSA"});
        assert_eq!(thumbprint(&ed), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
