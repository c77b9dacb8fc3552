//! The thumbprint of a public key (RFC 7638): a name that depends on nothing but the key.

use super::{Jwk, KeyType, PublicKeyMaterial};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

impl Jwk {
    /// SHA-256 of its required members, in the order of their names.
    pub fn thumbprint(&self) -> [u8; 32] {
        let [crv, kty] = match self.key_type {
            KeyType::Rsa => ["", "RSA"],
            KeyType::P256 => ["P-256", "EC"],
            KeyType::P384 => ["P-384", "EC"],
            KeyType::P521 => ["P-521", "EC"],
            KeyType::Ed25519 => ["Ed25519", "OKP"],
        };
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let members = match &self.material {
            PublicKeyMaterial::Rsa { n, e } => {
                format!("{{\"e\":\"{}\",\"kty\":\"{kty}\",\"n\":\"{}\"}}", text(e), text(n))
            }
            PublicKeyMaterial::Ec { x, y } => {
                format!("{{\"crv\":\"{crv}\",\"kty\":\"{kty}\",\"x\":\"{}\",\"y\":\"{}\"}}", text(x), text(y))
            }
            PublicKeyMaterial::Ed25519 { x } => {
                format!("{{\"crv\":\"{crv}\",\"kty\":\"{kty}\",\"x\":\"{}\"}}", text(x))
            }
        };
        Sha256::digest(members).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jwk;
    use m2m_auth_kit::key::{Alg, Key as OtherKey};
    use serde_json::{Value, json};

    fn of(jwk: &Value) -> String {
        URL_SAFE_NO_PAD.encode(jwk::parse_key(jwk.as_object().unwrap()).unwrap().thumbprint())
    }

    #[test]
    fn it_is_that_of_rfc_7638_and_of_rfc_8037() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1\
                 n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
        assert_eq!(of(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let okp = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        assert_eq!(of(&okp), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn every_kind_of_key_has_the_one_that_others_give_it() {
        for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
            let other = OtherKey::new(alg);
            assert_eq!(of(&other.jwk()), other.thumbprint(), "{alg:?}");
        }
    }
}
