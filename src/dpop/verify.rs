//! A proof that a caller shows with its token (RFC 9449 section 4.3): by which key it was made, and what it is for.
//!
//! In: the proof's text, the request with which it came, the time. Out: that it is good for this request, or the one thing
//! that is wrong with it. Whether it has been used before, others know.

use crate::http::message::MessageHead;
use crate::http::path;
use crate::http::url::origin;
use crate::jose::jwk::{self, Jwk};
use crate::jose::jws::{self, Jws, media_type};
use crate::jose::verifier::{self, Verify};
use crate::secret::NonceKey;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The algorithms of proofs that are taken, as a challenge lists them (RFC 9449 section 7.1): all that keys may have here. A
/// client chooses its own, and pays for it.
pub const ALGORITHMS: &str = "ES256 ES384 ES512 EdDSA RS256 RS384 RS512 PS256 PS384 PS512";

/// The largest proof that is looked at, in bytes: one by RSA of 8192 bits has 4.5 KB.
const MAX_BYTES: usize = 8 * 1024;

/// The longest `jti`: RFC 9449 section 4.2 asks for 96 bits at least.
const MAX_JTI_BYTES: usize = 256;

/// What is wrong with a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// Not a compact JWS of the right type with a public key, or without one of its claims.
    Malformed,
    /// For another method.
    Method,
    /// None without a proof for the token.
    Missing,
    /// Without a nonce of ours, or with one that is too old.
    Nonce,
    /// Used before.
    Replayed,
    /// More than one.
    Multiple,
    /// Not signed by the key that it brings.
    Signature,
    /// Made too long ago, or in the future.
    Time,
    /// For another token.
    Token,
    /// For another URL.
    Url,
}

/// How proofs are judged here.
#[derive(Clone, Debug)]
pub struct DpopPolicy {
    /// The origins by which callers know this service; empty is that of the request.
    pub origins: Vec<String>,
    /// Seconds that a proof's `iat` may lie away from now.
    pub window: u64,
    /// The key of the nonces that proofs must have, if they must.
    pub nonce_key: Option<NonceKey>,
}

/// A proof taken apart. Nothing in it is believed yet, but that it names a key.
pub struct PresentedProof<'a> {
    jws: Jws<'a>,
    key: Jwk,
    thumbprint: [u8; 32],
    claims: Map<String, Value>,
}

/// A proof that has been used, and until when nobody may use it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayKey {
    /// Of the key and its `jti`.
    pub digest: [u8; 32],
    /// Seconds since 1970 after which it is refused anyway.
    pub expires_at: u64,
}

/// The one proof of a request.
pub fn extract(head: &MessageHead) -> Result<PresentedProof<'_>, ProofError> {
    let mut proofs = head.all(super::HEADER);
    let proof = proofs.next().ok_or(ProofError::Missing)?;
    if proofs.next().is_some() || proof.contains(&b',') {
        return Err(ProofError::Multiple); // no JWT has a comma: a list is what proxies make of several lines
    }
    read(proof)
}

fn read(proof: &[u8]) -> Result<PresentedProof<'_>, ProofError> {
    if proof.len() > MAX_BYTES {
        return Err(ProofError::Malformed);
    }
    let jws = jws::read(proof).map_err(|_| ProofError::Malformed)?;
    let typ = jws.header.get("typ").and_then(Value::as_str).map(media_type);
    let jwk = jws.header.get("jwk").and_then(Value::as_object);
    let (Some("dpop+jwt"), Some(jwk)) = (typ.as_deref(), jwk) else {
        return Err(ProofError::Malformed);
    };
    // RFC 9449 section 4.3: a private key that was sent to us is nobody's any more.
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.contains_key(*member)) {
        return Err(ProofError::Malformed);
    }
    let key = jwk::parse_key(jwk).map_err(|_| ProofError::Malformed)?;
    if !key.fits(jws.algorithm) {
        return Err(ProofError::Malformed);
    }
    let claims = jws::object(jws.payload).map_err(|_| ProofError::Malformed)?;
    let thumbprint = key.thumbprint();
    Ok(PresentedProof { jws, key, thumbprint, claims })
}

impl PresentedProof<'_> {
    /// Whether it was made by the key with this thumbprint, if its signature is right.
    pub fn has_thumbprint(&self, thumbprint: &[u8; 32]) -> bool {
        self.thumbprint == *thumbprint
    }

    /// Whether it is signed by the key that it brings.
    pub fn has_valid_signature(&self, verifier: &dyn Verify) -> bool {
        let Jws { signing_input: signed, algorithm, signature, .. } = &self.jws;
        signature.len() == verifier::length(*algorithm, &self.key)
            && verifier.verify(*algorithm, &self.key, signed, signature)
    }

    /// Whether it is for this request with this token, now. `token` is the token's digest.
    pub fn check_request(
        &self,
        head: &MessageHead,
        token: &str,
        terms: &DpopPolicy,
        now: u64,
    ) -> Result<ReplayKey, ProofError> {
        let (jti, htm, htu, ath) = (
            self.string_claim("jti")?,
            self.string_claim("htm")?,
            self.string_claim("htu")?,
            self.string_claim("ath")?,
        );
        if !(1..=MAX_JTI_BYTES).contains(&jti.len()) {
            return Err(ProofError::Malformed);
        }
        if htm.as_bytes() != head.method() {
            return Err(ProofError::Method);
        }
        if !is_url_of(htu, head, terms) {
            return Err(ProofError::Url);
        }
        if ath != token {
            return Err(ProofError::Token);
        }
        let until = self.valid_until(terms, now)?;
        let digest = Sha256::new().chain_update(self.thumbprint).chain_update(jti).finalize().into();
        Ok(ReplayKey { digest, expires_at: until })
    }

    /// RFC 9449 section 11.1. Where the service gives nonces, it is their time that counts, and no clock of a caller's.
    fn valid_until(&self, terms: &DpopPolicy, now: u64) -> Result<u64, ProofError> {
        // Seconds; a fraction is dropped (RFC 7519 section 2).
        let iat = self.claims.get("iat").and_then(Value::as_number).ok_or(ProofError::Malformed)?;
        let iat = iat.as_u64().or_else(|| u64::try_from(crate::json::floor(iat.as_f64()?)).ok());
        if let Some(key) = &terms.nonce_key {
            let nonce = self.claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
            return key.valid_until(nonce, now).ok_or(ProofError::Nonce);
        }
        let iat = iat.filter(|iat| iat.abs_diff(now) <= terms.window).ok_or(ProofError::Time)?;
        Ok(iat.saturating_add(terms.window))
    }

    fn string_claim(&self, name: &str) -> Result<&str, ProofError> {
        self.claims.get(name).and_then(Value::as_str).ok_or(ProofError::Malformed)
    }
}

/// Whether `htu` is this request's URL, both without query and fragment, in the one form that URLs have (RFC 3986 section
/// 6.2). Parameters (`;x`) are no part of that form here, and must be the same to the letter.
fn is_url_of(htu: &str, head: &MessageHead, terms: &DpopPolicy) -> bool {
    let Some((scheme, rest)) = htu.split_once("://") else {
        return false;
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some(claimed) = origin(scheme.as_bytes(), authority.as_bytes()) else {
        return false;
    };
    let known = if terms.origins.is_empty() {
        let scheme = head.first(":scheme").unwrap_or_default();
        origin(scheme, head.host()).is_some_and(|own| own == claimed)
    } else {
        terms.origins.contains(&claimed)
    };
    let (claimed, own) = (without_query(path.as_bytes()), without_query(head.path()));
    let claimed = if claimed.is_empty() { b"/" } else { claimed };
    let same = || match (path::normal(claimed), path::normal(own)) {
        (Ok(claimed), Ok(own)) => claimed == own,
        _ => false,
    };
    known && (claimed == own || (![claimed, own].concat().contains(&b';') && same()))
}

fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::verifier::SoftwareCrypto;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use m2m_auth_kit::key::{Alg, Key as OtherKey};
    use m2m_auth_kit::token::{Mint, sign_bytes};
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    /// The digest of the token in RFC 9449 section 7.1.
    const ATH: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";

    fn terms() -> DpopPolicy {
        DpopPolicy { origins: Vec::new(), window: 60, nonce_key: None }
    }

    fn proof(key: &OtherKey) -> Mint {
        let claims = json!({
            "jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": "https://api.example.com/items", "iat": NOW, "ath": ATH,
        });
        Mint::of(claims)
            .key(key)
            .without_header("kid")
            .header("typ", "dpop+jwt")
            .header("jwk", key.bare_jwk())
    }

    fn head(path: &str, proofs: &[String]) -> MessageHead {
        let request =
            [(":method", "GET"), (":scheme", "https"), (":authority", "api.example.com"), (":path", path)];
        request.into_iter().chain(proofs.iter().map(|proof| ("dpop", proof.as_str()))).collect()
    }

    /// What comes of that proof for that path, by these terms.
    fn judge(path: &str, proofs: &[String], terms: &DpopPolicy) -> Result<ReplayKey, ProofError> {
        let head = head(path, proofs);
        let shown = extract(&head)?;
        let used = shown.check_request(&head, ATH, terms, NOW)?;
        if shown.has_valid_signature(&SoftwareCrypto) { Ok(used) } else { Err(ProofError::Signature) }
    }

    fn read(proof: &Mint, key: &OtherKey) -> Result<ReplayKey, ProofError> {
        judge("/items", &[proof.sign(key)], &terms())
    }

    #[test]
    fn a_proof_of_each_kind_of_key_is_good_once_and_names_its_key() {
        for alg in [Alg::EdDsa, Alg::Rs256, Alg::Ps256] {
            let key = OtherKey::new(alg);
            let signed = proof(&key).sign(&key);
            let used = judge("/items", std::slice::from_ref(&signed), &terms()).unwrap();
            assert_eq!(used.expires_at, NOW + 60);
            let head = head("/items", &[signed]);
            let thumbprint = URL_SAFE_NO_PAD.decode(key.thumbprint()).unwrap().try_into().unwrap();
            assert!(extract(&head).unwrap().has_thumbprint(&thumbprint));
            assert!(!extract(&head).unwrap().has_thumbprint(&[0; 32]));
            let other = read(&proof(&key).claim("jti", "another"), &key).unwrap();
            assert_ne!(other.digest, used.digest);
            let of_another_key = OtherKey::new(alg);
            let other = read(&proof(&of_another_key), &of_another_key).unwrap();
            assert_ne!(other.digest, used.digest, "names of proofs are each key's own");
        }
    }

    #[test]
    fn every_thing_that_can_be_wrong_with_a_proof_has_its_own_reason() {
        let key = OtherKey::new(Alg::EdDsa);
        let good = || proof(&key);
        let private = json!({ "kty": "OKP", "crv": "Ed25519", "x": key.bare_jwk()["x"], "d": "AA" });
        let other = OtherKey::new(Alg::EdDsa);
        for (proof, fault) in [
            (good(), None),
            (good().header("typ", "application/DPoP+JWT"), None),
            (good().header("typ", "JWT"), Some(ProofError::Malformed)),
            (good().header("typ", "at+jwt"), Some(ProofError::Malformed)),
            (good().without_header("typ"), Some(ProofError::Malformed)),
            (good().without_header("jwk"), Some(ProofError::Malformed)),
            (good().header("jwk", private), Some(ProofError::Malformed)),
            (good().header("jwk", json!({ "kty": "oct", "k": "AAAA" })), Some(ProofError::Malformed)),
            (good().header("jwk", "AAAA"), Some(ProofError::Malformed)),
            (good().header("crit", json!(["x"])), Some(ProofError::Malformed)),
            (good().unsigned().alg("none"), Some(ProofError::Malformed)),
            (good().secret("AAAA").alg("HS256"), Some(ProofError::Malformed)),
            (good().alg("RS256"), Some(ProofError::Malformed)),
            (good().key(&other).without_header("kid").alg("EdDSA"), Some(ProofError::Signature)),
            (good().claim("jti", json!(null)), Some(ProofError::Malformed)),
            (good().claim("jti", ""), Some(ProofError::Malformed)),
            (good().claim("jti", "j".repeat(256)), None),
            (good().claim("jti", "j".repeat(257)), Some(ProofError::Malformed)),
            (good().claim("htm", "POST"), Some(ProofError::Method)),
            (good().claim("htm", "get"), Some(ProofError::Method)),
            (good().claim("htm", json!(["GET"])), Some(ProofError::Malformed)),
            (good().claim("htu", "https://api.example.com/other"), Some(ProofError::Url)),
            (good().claim("ath", "x"), Some(ProofError::Token)),
            (good().claim("ath", json!(null)), Some(ProofError::Malformed)),
            (good().claim("iat", NOW - 60), None),
            (good().claim("iat", NOW + 60), None),
            (good().claim("iat", json!(1_799_999_940.9)), None),
            (good().claim("iat", NOW - 61), Some(ProofError::Time)),
            (good().claim("iat", NOW + 61), Some(ProofError::Time)),
            (good().claim("iat", -1), Some(ProofError::Time)),
            (good().claim("iat", json!(1e300)), Some(ProofError::Time)),
            (good().claim("iat", "1800000000"), Some(ProofError::Malformed)),
            (good().claim("nonce", "of another service"), None),
        ] {
            assert_eq!(read(&proof, &key).err(), fault, "{}", proof.sign(&key));
        }
    }

    #[test]
    fn there_is_one_proof_and_it_is_not_too_large() {
        let key = OtherKey::new(Alg::EdDsa);
        let signed = proof(&key).sign(&key);
        let of = |proofs: &[String]| judge("/items", proofs, &terms()).err();
        assert_eq!(of(&[]), Some(ProofError::Missing));
        assert_eq!(of(&[signed.clone(), signed.clone()]), Some(ProofError::Multiple));
        assert_eq!(of(&[format!("{signed},{signed}")]), Some(ProofError::Multiple));
        assert_eq!(of(&[String::new()]), Some(ProofError::Malformed));
        assert_eq!(of(&["a.b.c".to_owned()]), Some(ProofError::Malformed));
        let large = |bytes: usize| proof(&key).claim("x", "x".repeat(bytes)).sign(&key);
        assert_eq!(of(&[large(5000)]), None);
        assert_eq!(of(&[large(6000)]), Some(ProofError::Malformed), "more than 8 KiB");
        let twice = sign_bytes(
            &key,
            json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": key.bare_jwk() }).to_string().as_bytes(),
            br#"{"jti":"a","jti":"b"}"#,
        );
        assert_eq!(of(&[twice]), Some(ProofError::Malformed));
    }

    #[test]
    fn a_url_is_compared_in_the_one_form_that_it_has() {
        let key = OtherKey::new(Alg::EdDsa);
        let fault =
            |path: &str, htu: &str| judge(path, &[proof(&key).claim("htu", htu).sign(&key)], &terms()).err();
        for (path, htu) in [
            ("/items?x=1", "https://api.example.com/items"),
            ("/items", "https://api.example.com/items?x=1#y"),
            ("/items", "HTTPS://API.example.com:443/items"),
            ("/%69tems", "https://api.example.com/items"),
            ("/items", "https://api.example.com/a/../%69tems"),
            ("/", "https://api.example.com"),
            ("/a%20b", "https://api.example.com/a%20b"),
            ("/items;x=1", "https://api.example.com/items;x=1"),
        ] {
            assert_eq!(fault(path, htu), None, "{path} {htu}");
        }
        for (path, htu) in [
            ("/items", "https://api.example.com/Items"),
            ("/items", "https://api.example.com/items/"),
            ("/items", "http://api.example.com/items"),
            ("/items", "https://api.example.com:8443/items"),
            ("/items", "https://other.example.com/items"),
            ("/items", "https://api.example.com@other.example.com/items"),
            ("/items", "/items"),
            ("/items", ""),
            ("/items;x=1", "https://api.example.com/items"),
            ("/items;x=1", "https://api.example.com/items;x=2"),
            ("/a%2Fb", "https://api.example.com/a/b"),
        ] {
            assert_eq!(fault(path, htu), Some(ProofError::Url), "{path} {htu}");
        }
        let known = DpopPolicy { origins: vec!["https://public.example.com".to_owned()], ..terms() };
        let at = |htu: &str| judge("/items", &[proof(&key).claim("htu", htu).sign(&key)], &known).err();
        assert_eq!(at("https://public.example.com/items"), None);
        assert_eq!(at("https://api.example.com/items"), Some(ProofError::Url));
    }

    #[test]
    fn with_nonces_their_time_counts_and_none_but_ours_will_do() {
        let key = OtherKey::new(Alg::EdDsa);
        let own = NonceKey::new("n".repeat(32));
        let terms = DpopPolicy { nonce_key: Some(own.clone()), ..terms() };
        let of = |proof: Mint| judge("/items", &[proof.sign(&key)], &terms);
        assert_eq!(of(proof(&key)), Err(ProofError::Nonce));
        assert_eq!(of(proof(&key).claim("nonce", "x")), Err(ProofError::Nonce));
        assert_eq!(of(proof(&key).claim("nonce", own.nonce(NOW - 301))), Err(ProofError::Nonce));
        let late = proof(&key).claim("nonce", own.nonce(NOW - 10)).claim("iat", NOW - 5000);
        assert_eq!(of(late).map(|used| used.expires_at), Ok(NOW + 290));
        let other = NonceKey::new("o".repeat(32));
        assert_eq!(of(proof(&key).claim("nonce", other.nonce(NOW))), Err(ProofError::Nonce));
    }
}
