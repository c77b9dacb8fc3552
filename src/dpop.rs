//! DPoP (RFC 9449): proof that the client that presents a token holds the key that the token is bound to.
//!
//! Here are those that we make: in goes a key, what is asked, what a server answered; out comes the proof's text, ready to be
//! signed, and the server's nonce. Those that clients present are checked in [`verify`]. Nothing here signs, keeps state or has
//! a clock.

mod nonce;
pub mod verify;

use crate::http::message::{HttpReply, MessageHead};
use crate::jose::jwk::Algorithm;
use crate::jose::private_key::PrivateKey;
use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::rc::Rc;

/// The header of a proof, in a request and in the answer that wants a nonce in the next one.
pub const HEADER: &str = "dpop";

/// The scheme of a bound token (RFC 9449 section 7.1).
pub const SCHEME: &str = "DPoP";

/// The key that proofs are made with.
pub struct ProofKey {
    private: PrivateKey,
    thumbprint: String,
    /// The proofs' header, encoded once.
    header: String,
}

impl ProofKey {
    /// The key of this private half; none where its public half cannot be derived.
    #[inline(never)]
    pub fn new(private: PrivateKey) -> Option<Self> {
        let jwk = private.public_jwk()?;
        let algorithm = private.algorithm();
        let header = format!("{{\"alg\":\"{algorithm}\",\"jwk\":{jwk},\"typ\":\"dpop+jwt\"}}");
        Some(Self { private, thumbprint: digest(jwk.as_bytes()), header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// The key of a random number: P-256 for ES256, else Ed25519. None for the one number in 2^32 that is no key.
    #[inline(never)]
    pub fn from_seed(number: &[u8; 32], algorithm: Algorithm) -> Option<Self> {
        Self::new(PrivateKey::from_number(number, algorithm)?)
    }

    /// The private half, for the signer.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The thumbprint of RFC 7638, which `cnf.jkt` of a bound token holds (RFC 9449 section 6.1).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// What is signed (RFC 9449 section 4.2).
    pub fn signing_input(&self, jti: &str, claims: &ProofClaims<'_>) -> String {
        let ProofClaims { method, url, now, token, nonce } = claims;
        let mut payload =
            format!("{{\"htm\":{},\"htu\":\"{url}\",\"iat\":{now},\"jti\":\"{jti}\"", Value::from(*method));
        for (name, value) in [("ath", *token), ("nonce", nonce.map(|nonce| &*nonce.0))] {
            if let Some(value) = value {
                for text in [",\"", name, "\":\"", value, "\""] {
                    payload.push_str(text);
                }
            }
        }
        payload.push('}');
        let mut message = String::with_capacity(self.header.len().saturating_add(payload.len() * 2));
        message.push_str(&self.header);
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut message);
        message
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.thumbprint)
    }
}

/// What a proof says of its request.
#[derive(Clone, Copy, Debug)]
pub struct ProofClaims<'a> {
    /// `htm`.
    pub method: &'a str,
    /// `htu`, as [`crate::http::url::url`] spells it.
    pub url: &'a str,
    /// `iat`.
    pub now: u64,
    /// `ath`: the [`digest`] of the token that is sent with the proof, if one is.
    pub token: Option<&'a str>,
    /// `nonce`, once the server has given one.
    pub nonce: Option<&'a Nonce>,
}

/// What a server wants to find in the next proof (RFC 9449 sections 8 and 9): of characters that need no quoting.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(Rc<str>);

/// Every request carries it: a longer one is ignored. Those of Keycloak and Auth0 have some 40 to 100 bytes, a
/// sealed JWT some 500.
const MAX_NONCE_BYTES: usize = 1024;

impl Nonce {
    /// The nonce of an answer; none where there is not exactly one, or one of other characters than RFC 9449 section 8.1 has.
    #[inline(never)]
    pub fn from_head(head: &MessageHead) -> Option<Self> {
        let mut values = head.all("dpop-nonce");
        let value = values.next().filter(|_| values.next().is_none())?;
        let sound = (1..=MAX_NONCE_BYTES).contains(&value.len())
            && value.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(byte));
        std::str::from_utf8(value).ok().filter(|_| sound).map(|text| Self(text.into()))
    }

    /// Whether an answer has one that is too long.
    pub fn is_too_long(head: &MessageHead) -> bool {
        head.first("dpop-nonce").is_some_and(|value| value.len() > MAX_NONCE_BYTES)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// Whether a provider refuses a token request for nothing but its nonce (RFC 9449 section 8).
#[inline(never)]
pub fn requires_nonce(reply: &HttpReply) -> bool {
    let stated = || Some(json::parse_object(reply.body.as_deref()?).ok()?.get("error")? == USE_NONCE);
    matches!(reply.status, Some(400 | 401)) && stated().unwrap_or_default()
}

/// Whether a service's refusal is about the proof alone, and not about the token (RFC 9449 sections 7.1 and 9).
#[inline(never)]
pub fn rejects_proof(head: &MessageHead) -> bool {
    head.all("www-authenticate").any(|challenge| {
        // The codes of RFC 9449 mean nothing in another scheme's challenge.
        let challenge = String::from_utf8_lossy(challenge);
        challenge.split([',', ' ']).any(|part| {
            let value = part.strip_prefix("error=").map(|value| value.trim_matches('"'));
            value.is_some_and(|code| [USE_NONCE, "invalid_dpop_proof"].contains(&code))
        })
    })
}

const USE_NONCE: &str = "use_dpop_nonce";

/// SHA-256 in base64url: `ath` of a token, the thumbprint of a JWK.
pub fn digest(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::verifier::SoftwareCrypto;
    use crate::oauth::client_assertion::Signer;
    use crate::rng::OsRandom;
    use m2m_auth_kit::key::{Alg, Key as OtherKey};
    use m2m_auth_kit::token::{decode, verifies, verifies_by_jwk};
    use serde_json::json;

    const CLAIMS: ProofClaims<'_> = ProofClaims {
        method: "POST",
        url: "https://server.example.com/token",
        now: 1_800_000_000,
        token: None,
        nonce: None,
    };

    fn signer() -> Signer {
        Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom))
            .with_proof_key(ProofKey::from_seed(&[7; 32], Algorithm::EdDsa).map(Rc::new))
    }

    fn answer(name: &str, values: &[&[u8]]) -> MessageHead {
        values.iter().map(|value| (name, value)).collect()
    }

    #[test]
    fn a_proof_says_what_is_asked_and_by_which_key() {
        let proof = signer().dpop_proof(&CLAIMS).unwrap();
        let (header, claims) = decode(&proof);
        let jwk = &header["jwk"];
        assert_eq!(header, json!({ "alg": "EdDSA", "typ": "dpop+jwt", "jwk": jwk }));
        assert_eq!(*jwk, json!({ "kty": "OKP", "crv": "Ed25519", "x": jwk["x"] }), "the public half alone");
        assert!(verifies_by_jwk(&proof, jwk));
        let url = "https://server.example.com/token";
        let jti = &claims["jti"];
        assert_eq!(claims, json!({ "htm": "POST", "htu": url, "iat": 1_800_000_000, "jti": jti }));
        assert_eq!(jti.as_str().unwrap().len(), 22, "128 bits");
        assert_ne!(decode(&signer().dpop_proof(&CLAIMS).unwrap()).1["jti"], json!(null));
    }

    #[test]
    fn every_proof_is_good_once() {
        let mut signer = signer();
        let [one, two] = [(); 2].map(|()| decode(&signer.dpop_proof(&CLAIMS).unwrap()).1["jti"].clone());
        assert_ne!(one, two);
    }

    #[test]
    fn a_proof_with_a_token_is_for_that_token_and_with_the_nonce() {
        let nonce = Nonce::from_head(&answer("dpop-nonce", &[b"eyJ7S_zG.eyJH0-Z"])).unwrap();
        let ath = digest(b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
        let claims = ProofClaims { token: Some(&ath), nonce: Some(&nonce), ..CLAIMS };
        let (_, claims) = decode(&signer().dpop_proof(&claims).unwrap());
        // RFC 9449 section 7.1.
        assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
        assert_eq!(claims["nonce"], "eyJ7S_zG.eyJH0-Z");
        assert_eq!(format!("{nonce:?}"), "redacted");
    }

    #[test]
    fn a_method_of_any_characters_stays_a_text() {
        let (_, claims) = decode(&signer().dpop_proof(&ProofClaims { method: "G\"ET\\", ..CLAIMS }).unwrap());
        assert_eq!(claims["htm"], "G\"ET\\");
    }

    #[test]
    fn the_thumbprint_is_that_of_the_public_key() {
        for alg in [Alg::Es256, Alg::EdDsa] {
            let other = OtherKey::new(alg);
            let key =
                ProofKey::new(PrivateKey::read(&other.private_jwk().to_string(), None).unwrap()).unwrap();
            assert_eq!(key.thumbprint(), other.thumbprint());
            assert_eq!(format!("{key:?}"), format!("key {}", other.thumbprint()));
        }
        assert!(
            ProofKey::from_seed(&[0xff; 32], Algorithm::Es256).is_none(),
            "beyond the order of the curve"
        );
        assert!(ProofKey::from_seed(&[0; 32], Algorithm::Es256).is_none());
    }

    #[test]
    fn a_proof_by_p256_is_what_es256_signs() {
        let other = OtherKey::new(Alg::Es256);
        let key = ProofKey::new(PrivateKey::read(&other.private_jwk().to_string(), None).unwrap()).unwrap();
        let message = key.signing_input("once", &CLAIMS);
        let signature = other.sign(message.as_bytes());
        let proof = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        let (header, _) = decode(&proof);
        assert_eq!(header, json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": other.bare_jwk() }));
        assert!(verifies(&proof, &other) && verifies_by_jwk(&proof, &header["jwk"]));
    }

    #[test]
    fn without_a_key_or_a_signature_there_is_no_proof() {
        let mut without = Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom));
        assert_eq!(without.dpop_proof(&CLAIMS), None);
        let mut unsigned =
            without.with_proof_key(ProofKey::from_seed(&[7; 32], Algorithm::Es256).map(Rc::new));
        assert_eq!(unsigned.dpop_proof(&CLAIMS), None, "P-256 is the host's to sign with");
    }

    #[test]
    fn a_nonce_is_one_short_word() {
        let of = |values: &[&[u8]]| Nonce::from_head(&answer("dpop-nonce", values));
        assert!(of(&[b"n"]).is_some() && of(&[&[b'n'; 1024]]).is_some());
        let odd: [&[&[u8]]; 9] = [
            &[],
            &[b""],
            &[b"a", b"b"],
            &[b"a b"],
            &[b"a\"b"],
            &[b"a\\b"],
            &[b"a\r\nx: y"],
            &["\u{fc}".as_bytes()],
            &[&[b'n'; 1025]],
        ];
        for odd in odd {
            assert_eq!(of(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_challenge_about_the_proof_is_told_from_one_about_the_token() {
        let refuses = |lines: &[&[u8]]| rejects_proof(&answer("www-authenticate", lines));
        assert!(refuses(&[b"DPoP error=\"use_dpop_nonce\", error_description=\"nonce\""]));
        assert!(refuses(&[b"DPoP realm=\"x\",error=use_dpop_nonce"]));
        assert!(refuses(&[b"Bearer", b"DPoP algs=\"ES256\", error=\"invalid_dpop_proof\""]));
        assert!(!refuses(&[]) && !refuses(&[b"DPoP error=\"invalid_token\""]));
        assert!(!refuses(&[b"DPoP error_description=\"use_dpop_nonce\""]) && !refuses(&[b"\xff"]));
    }

    #[test]
    fn a_provider_wants_a_nonce_where_it_says_so() {
        let wants = |status, body: &str| {
            requires_nonce(&HttpReply {
                status: Some(status),
                body: Some(body.into()),
                ..HttpReply::default()
            })
        };
        assert!(wants(400, r#"{"error":"use_dpop_nonce"}"#) && wants(401, r#"{"error":"use_dpop_nonce"}"#));
        assert!(!wants(200, r#"{"error":"use_dpop_nonce"}"#) && !wants(500, r#"{"error":"use_dpop_nonce"}"#));
        assert!(!wants(400, r#"{"error":"invalid_dpop_proof"}"#) && !wants(400, "use_dpop_nonce"));
    }
}
