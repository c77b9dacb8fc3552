//! An assertion: a short-lived JWT that says who the client is (RFC 7523 section 2.2, `OpenID` Connect Core section 9), or
//! for whom it asks (section 2.1), made anew for each attempt.
//!
//! In: the client, for whom the assertion is, the time. Out: the JWT, or none where nobody here can sign with that key.

use crate::dpop;
use crate::jose::private_key::PrivateKey;
use crate::jose::signer::{self, Sign, UniqueBytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fmt;
use std::rc::Rc;

/// `client_assertion_type` (RFC 7523 section 2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Seconds that an assertion is good. Keycloak takes at most 60, and 15 more for skew: in the middle of that, our clock
/// may be wrong by 45 s either way.
const LIFETIME_SECONDS: u64 = 30;

/// What signing takes of the world, handed in once by the driver of the plugin.
pub struct Signer {
    sign: Box<dyn Sign>,
    nonces: UniqueBytes,
    /// What proofs are made with.
    key: Option<Rc<dpop::ProofKey>>,
}

/// What an assertion says.
#[derive(Clone, Copy, Debug)]
pub struct AssertionClaims<'a> {
    /// `iss`: the client's id.
    pub issuer: &'a str,
    /// `sub`: the client's id, or the subject that it asks for.
    pub subject: &'a str,
    /// `aud`: the provider.
    pub audience: &'a str,
    /// Further members, as JSON text, each behind a comma.
    pub extra_claims: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

impl<'a> AssertionClaims<'a> {
    /// What a client says of itself.
    pub fn for_client(client_id: &'a str, audience: &'a str, now: u64) -> Self {
        Self { issuer: client_id, subject: client_id, audience, extra_claims: "", now }
    }
}

impl Signer {
    /// Signs by `sign`. The seed must be a secret, and another one for each worker.
    pub fn new(sign: Box<dyn Sign>, seed: [u8; 32]) -> Self {
        Self { sign, nonces: UniqueBytes::new(seed), key: None }
    }

    /// The same, with a key for proofs.
    pub fn with_proof_key(self, key: Option<Rc<dpop::ProofKey>>) -> Self {
        Self { key, ..self }
    }

    /// The thumbprint of the key for proofs, if there is one.
    pub fn thumbprint(&self) -> Option<&str> {
        self.key.as_deref().map(dpop::ProofKey::thumbprint)
    }

    /// A `DPoP` proof, good for one request; none where there is no key for it, or nobody here can sign with it.
    pub fn dpop_proof(&mut self, claims: &dpop::ProofClaims<'_>) -> Option<String> {
        let jti = self.jti();
        let key = self.key.as_deref()?;
        self.append_signature(key.private(), key.signing_input(&jti, claims))
    }

    /// `private_key_jwt`.
    pub fn sign_with_key(&mut self, key: &PrivateKey, claims: &AssertionClaims<'_>) -> Option<String> {
        let message = self.signing_input(key.algorithm().name(), key.kid(), claims);
        self.append_signature(key, message)
    }

    /// `client_secret_jwt`.
    pub fn sign_with_secret(&mut self, secret: &str, claims: &AssertionClaims<'_>) -> String {
        let message = self.signing_input("HS256", None, claims);
        let signature = signer::hs256(secret.as_bytes(), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// What is signed (RFC 7515 section 5.1); `jti` makes it good for one use (RFC 7523 section 3).
    fn signing_input(&mut self, algorithm: &str, kid: Option<&str>, claims: &AssertionClaims<'_>) -> String {
        let AssertionClaims { issuer, subject, audience, extra_claims: more, now } = claims;
        let jti = self.jti();
        // As JSON, with its quotes; a tree of it would be 3 KB more of module.
        let [issuer, subject, audience] =
            [*issuer, *subject, *audience].map(|text| Value::from(text).to_string());
        let kid = kid.map_or_else(String::new, |kid| format!(",\"kid\":{}", Value::from(kid)));
        let header = format!("{{\"alg\":\"{algorithm}\",\"typ\":\"JWT\"{kid}}}");
        let exp = now.saturating_add(LIFETIME_SECONDS);
        let payload = format!(
            "{{\"iss\":{issuer},\"sub\":{subject},\"aud\":{audience},\"jti\":\"{jti}\",\"iat\":{now},\"exp\":{exp}{more}}}"
        );
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}")
    }

    /// 128 bits that come once.
    fn jti(&mut self) -> String {
        let random = self.nonces.next_bytes();
        URL_SAFE_NO_PAD.encode(random.split_at(16).0)
    }

    fn append_signature(&self, key: &PrivateKey, mut message: String) -> Option<String> {
        let signature = self.sign.sign(key, message.as_bytes())?;
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut message);
        Some(message)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::verifier::SoftwareCrypto;
    use m2m_auth_kit::key::{Alg, Key};
    use m2m_auth_kit::token::{decode, verifies, verifies_by_secret};
    use serde_json::json;

    fn signer() -> Signer {
        Signer::new(Box::new(SoftwareCrypto), [7; 32])
    }

    const CLAIMS: AssertionClaims<'_> = AssertionClaims {
        issuer: "order-service",
        subject: "order-service",
        audience: "https://idp.example/realms/r",
        extra_claims: "",
        now: 1_800_000_000,
    };

    #[test]
    fn an_assertion_says_who_to_whom_and_for_how_long() {
        let key = Key::new(Alg::EdDsa).with_kid("mine");
        let read = PrivateKey::read(&key.private_jwk().to_string(), None).unwrap();
        let assertion = signer().sign_with_key(&read, &CLAIMS).unwrap();
        let (header, claims) = decode(&assertion);
        assert_eq!(header, json!({ "alg": "EdDSA", "kid": "mine", "typ": "JWT" }));
        let expected = json!({
            "iss": "order-service",
            "sub": "order-service",
            "aud": "https://idp.example/realms/r",
            "jti": claims["jti"],
            "iat": 1_800_000_000,
            "exp": 1_800_000_030,
        });
        assert_eq!(claims, expected);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 22, "128 bits");
        assert!(verifies(&assertion, &key));
    }

    #[test]
    fn each_assertion_is_good_once() {
        let mut signer = signer();
        let [one, two] = [(); 2].map(|()| signer.sign_with_secret("secret", &CLAIMS));
        assert_ne!(decode(&one).1["jti"], decode(&two).1["jti"]);
        assert_eq!(decode(&one).0, json!({ "alg": "HS256", "typ": "JWT" }));
        assert!(verifies_by_secret(&one, b"secret") && !verifies_by_secret(&one, b"Secret"));
    }

    #[test]
    fn a_key_without_a_name_is_not_named() {
        let read = PrivateKey::read(&Key::new(Alg::EdDsa).private_pem(), None).unwrap();
        let assertion = signer().sign_with_key(&read, &CLAIMS).unwrap();
        assert_eq!(decode(&assertion).0, json!({ "alg": "EdDSA", "typ": "JWT" }));
        let named = read.named(Some("\"k\"".to_owned()));
        assert_eq!(decode(&signer().sign_with_key(&named, &CLAIMS).unwrap()).0["kid"], "\"k\"");
    }
}
