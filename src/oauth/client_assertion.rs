//! An assertion: a short-lived JWT that says who the client is (RFC 7523 section 2.2, `OpenID`
//! Connect Core section 9), or for the client that asks (section 2.1), a new one for each attempt.
//!
//! In: the client, the audience, the time. Out: the JWT, or none where nobody here can sign with
//! that key.

use super::AssertionTarget;
use crate::dpop;
use crate::jose::private_key::PrivateKey;
use crate::jose::signer::{self, Sign};
use crate::rng::{RandomError, SecureRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fmt;
use std::rc::Rc;

/// `client_assertion_type` (RFC 7523 section 2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `client_assertion_type` of a SPIFFE JWT-SVID (draft-ietf-oauth-spiffe-client-auth).
pub const SPIFFE_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// Seconds that an assertion is good. Keycloak takes at most 60, and 15 more for skew: in the
/// middle of that, our clock may be wrong by 45 s either way.
const LIFETIME_SECONDS: u64 = 30;

/// Signs client assertions and `DPoP` proofs.
pub struct Signer {
    sign: Box<dyn Sign>,
    /// For the `jti`s.
    random: Box<dyn SecureRandom>,
    /// The key of the proofs.
    key: Option<Rc<dpop::ProofKey>>,
}

/// Why there is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// Neither the host nor the module signs with this key.
    UnsupportedKey,
    /// There is no random number for the `jti`.
    NoRandomness,
}

impl From<RandomError> for SignError {
    fn from(_: RandomError) -> Self {
        Self::NoRandomness
    }
}

/// Random bits of a `jti`; RFC 9449 section 4.2 asks for at least 96.
const JTI_BYTES: usize = 16;

/// What an assertion says.
#[derive(Clone, Copy, Debug)]
pub struct AssertionClaims<'a> {
    /// `iss`: the client's id.
    pub issuer: &'a str,
    /// `sub`: the client's id, or the subject that it asks for.
    pub subject: &'a str,
    /// `aud`: the provider.
    pub audience: &'a str,
    /// `typ` of the header.
    pub header_type: &'a str,
    /// Further members, as JSON text, each behind a comma.
    pub extra_claims: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

impl<'a> AssertionClaims<'a> {
    /// What a client says of itself.
    pub fn for_client(client_id: &'a str, target: &'a AssertionTarget, now: u64) -> Self {
        let AssertionTarget { audience, header_type } = target;
        Self { issuer: client_id, subject: client_id, audience, header_type, extra_claims: "", now }
    }
}

impl Signer {
    /// Signs by `sign`, with `jti`s by `random`.
    pub fn new(sign: Box<dyn Sign>, random: Box<dyn SecureRandom>) -> Self {
        Self { sign, random, key: None }
    }

    /// The same, with a key for proofs.
    pub fn with_proof_key(self, key: Option<Rc<dpop::ProofKey>>) -> Self {
        Self { key, ..self }
    }

    /// The thumbprint of the key for proofs, if there is one.
    pub fn thumbprint(&self) -> Option<&str> {
        self.key.as_deref().map(dpop::ProofKey::thumbprint)
    }

    /// A `DPoP` proof, good for one request; none without a key, without randomness, or if the key
    /// is not supported.
    pub fn dpop_proof(&mut self, claims: &dpop::ProofClaims<'_>) -> Option<String> {
        let key = self.key.as_deref()?;
        let jti = self.jti().ok()?;
        self.append_signature(key.private(), key.signing_input(&jti, claims)).ok()
    }

    /// `private_key_jwt`.
    pub fn sign_with_key(
        &mut self,
        key: &PrivateKey,
        claims: &AssertionClaims<'_>,
    ) -> Result<String, SignError> {
        let message = self.signing_input(key.algorithm().name(), key.kid(), claims)?;
        self.append_signature(key, message)
    }

    /// `client_secret_jwt`.
    pub fn sign_with_secret(
        &mut self,
        secret: &str,
        claims: &AssertionClaims<'_>,
    ) -> Result<String, RandomError> {
        let message = self.signing_input("HS256", None, claims)?;
        let signature = signer::hs256(secret.as_bytes(), message.as_bytes());
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What is signed (RFC 7515 section 5.1); `jti` makes it good for one use (RFC 7523 section 3).
    fn signing_input(
        &self,
        algorithm: &str,
        kid: Option<&str>,
        claims: &AssertionClaims<'_>,
    ) -> Result<String, RandomError> {
        let AssertionClaims { issuer, subject, audience, header_type, extra_claims: more, now } = claims;
        let jti = self.jti()?;
        // As JSON, with its quotes; a tree of it would be 3 KB more of module.
        let [issuer, subject, audience, header_type] =
            [*issuer, *subject, *audience, *header_type].map(|text| Value::from(text).to_string());
        let kid = kid.map_or_else(String::new, |kid| format!(",\"kid\":{}", Value::from(kid)));
        let header = format!("{{\"alg\":\"{algorithm}\",\"typ\":{header_type}{kid}}}");
        let exp = now.saturating_add(LIFETIME_SECONDS);
        let payload = format!(
            "{{\"iss\":{issuer},\"sub\":{subject},\"aud\":{audience},\"jti\":\"{jti}\",\"iat\":{now},\"exp\":{exp}{more}}}"
        );
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        Ok(format!("{header}.{payload}"))
    }

    /// A `jti` that nobody can guess and that does not come again.
    fn jti(&self) -> Result<String, RandomError> {
        let mut bytes = [0; JTI_BYTES];
        self.random.fill(&mut bytes)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn append_signature(&self, key: &PrivateKey, mut message: String) -> Result<String, SignError> {
        let signature = self.sign.sign(key, message.as_bytes()).ok_or(SignError::UnsupportedKey)?;
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut message);
        Ok(message)
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
    use crate::dpop::{ProofClaims, ProofKey};
    use crate::jose::jwk::Algorithm;
    use crate::jose::verifier::SoftwareCrypto;
    use crate::rng::OsRandom;
    use m2m_auth_kit::key::{Alg, Key};
    use m2m_auth_kit::token::{decode, verifies, verifies_by_secret};
    use serde_json::json;

    fn signer() -> Signer {
        Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom))
    }

    /// A generator that gives nothing.
    struct NoRandomness;

    impl SecureRandom for NoRandomness {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError)
        }
    }

    const CLAIMS: AssertionClaims<'_> = AssertionClaims {
        issuer: "order-service",
        subject: "order-service",
        audience: "https://idp.example/realms/r",
        header_type: "JWT",
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
        let [one, two] = [(); 2].map(|()| signer.sign_with_secret("secret", &CLAIMS).unwrap());
        assert_ne!(decode(&one).1["jti"], decode(&two).1["jti"]);
        assert_eq!(decode(&one).0, json!({ "alg": "HS256", "typ": "JWT" }));
        assert!(verifies_by_secret(&one, b"secret") && !verifies_by_secret(&one, b"Secret"));
    }

    #[test]
    fn without_random_numbers_nothing_is_signed() {
        let key = ProofKey::from_seed(&[7; 32], Algorithm::EdDsa).map(Rc::new);
        let mut signer = Signer::new(Box::new(SoftwareCrypto), Box::new(NoRandomness)).with_proof_key(key);
        let read = PrivateKey::read(&Key::new(Alg::EdDsa).private_pem(), None).unwrap();
        assert_eq!(signer.sign_with_key(&read, &CLAIMS), Err(SignError::NoRandomness));
        assert_eq!(signer.sign_with_secret("secret", &CLAIMS), Err(RandomError));
        let proof = ProofClaims { method: "GET", url: "https://a/", now: 1, token: None, nonce: None };
        assert_eq!(signer.dpop_proof(&proof), None);
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
