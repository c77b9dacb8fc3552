//! A JWKS document (RFC 7517) to a [`KeySet`]: public keys that may verify, ready for use.
//!
//! Keys that cannot verify a signature here (symmetric, for encryption, weak, of an unknown kind) are left out, each
//! with its reason; the others stay usable. No network, no time, and no choice of a key by anything but its own
//! metadata: tokens never bring keys.

pub mod der;
mod thumbprint;

use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;

/// Signature algorithms (RFC 7518 section 3.1, RFC 8037, RFC 9864). There is no variant for `none` (RFC 7519 section 6,
/// RFC 8725 section 3.2, RFC 9068 section 2.1) and none for `HS*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The algorithm of a JOSE `alg`, by its exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        // RFC 9864 section 2.2: the fully specified name of what RFC 8037 calls EdDSA.
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its JOSE name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one kind of key that may be used with it (RFC 8725 section 3.1).
    fn key_type(self) -> KeyType {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyType::Rsa,
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::Es512 => KeyType::P521,
            Self::EdDsa => KeyType::Ed25519,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

/// Public key material, big-endian, as it is in the JWK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKeyMaterial {
    /// RFC 7518 section 6.3.1.
    Rsa {
        /// Modulus, without leading zeros.
        n: Vec<u8>,
        /// Public exponent, without leading zeros.
        e: Vec<u8>,
    },
    /// RFC 7518 section 6.2.1; both coordinates have the full length of the curve.
    Ec {
        /// First coordinate.
        x: Vec<u8>,
        /// Second coordinate.
        y: Vec<u8>,
    },
    /// RFC 8037 section 2: Ed25519.
    Ed25519 {
        /// The public key, 32 bytes.
        x: Vec<u8>,
    },
}

/// One key that may verify signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    key_type: KeyType,
    material: PublicKeyMaterial,
    spki: Vec<u8>,
}

impl Jwk {
    /// The key itself.
    pub fn material(&self) -> &PublicKeyMaterial {
        &self.material
    }

    /// The key as DER `SubjectPublicKeyInfo`, the form in which the host takes it.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether this key may be used with `algorithm` (RFC 8725 section 3.1, RFC 7517 section 4.4).
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.key_type == algorithm.key_type() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether the key itself says so: by its `alg`, or by its kind. Of an RSA key its kind says RS*, which is what the host
    /// verifies; PS* costs the worker up to a hundred times as much, which nobody is to choose by a token's header.
    fn permits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_some()
            || !matches!(algorithm, Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512)
    }
}

/// The usable keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Jwk>,
}

impl KeySet {
    /// The keys to try for a token's `kid` and `alg`.
    ///
    /// With a `kid`: the keys of exactly this name (RFC 7515 section 4.1.4 leaves the match to us; nothing but the
    /// same text will do), else keys without a name. Without one: every key that fits, few of them. Where the operator has
    /// not named the algorithm (`with_kid`), only keys that themselves say PS* are for PS*.
    pub fn candidates<'a>(
        &'a self,
        kid: Option<&'a str>,
        algorithm: Algorithm,
        named: bool,
    ) -> impl Iterator<Item = &'a Jwk> {
        self.fitting(kid, algorithm, named).take(MAX_CANDIDATES)
    }

    /// Whether there are more than those.
    pub fn are_too_many(&self, kid: Option<&str>, algorithm: Algorithm, named: bool) -> bool {
        self.fitting(kid, algorithm, named).nth(MAX_CANDIDATES).is_some()
    }

    fn fitting<'a>(
        &'a self,
        kid: Option<&'a str>,
        algorithm: Algorithm,
        named: bool,
    ) -> impl Iterator<Item = &'a Jwk> {
        self.with_kid(kid).filter(move |key| key.fits(algorithm) && (named || key.permits(algorithm)))
    }

    /// Whether there is any key, of whatever algorithm, that this `kid` can mean.
    pub fn contains_kid(&self, kid: Option<&str>) -> bool {
        self.with_kid(kid).next().is_some()
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn with_kid<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a Jwk> {
        self.keys.iter().filter(move |key| match (kid, key.kid.as_deref()) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        })
    }
}

/// A key set, and why some of its keys are not in it.
#[derive(Debug)]
pub struct ParsedKeySet {
    /// The usable keys.
    pub keys: KeySet,
    /// One line for each key left out.
    pub skipped: Vec<String>,
}

impl ParsedKeySet {
    /// How many of those are too large.
    pub fn too_large(&self) -> usize {
        self.skipped.iter().filter(|line| line.ends_with(TOO_LARGE)).count()
    }
}

const TOO_LARGE: &str = "RSA of more than 8192 bits";

/// Why a document is no key set. Never quotes the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// Not JSON, or not strictly so.
    NotJson,
    /// A member that occurs twice.
    Duplicate(String),
    /// Nested deeper than [`json::MAX_DEPTH`].
    TooDeep,
    /// No array `keys`.
    NoKeys,
    /// More keys than [`MAX_KEYS`].
    TooMany(usize),
    /// Keys, but not one that could verify a signature.
    NoneUsable(Vec<String>),
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("not a JSON object"),
            Self::Duplicate(member) => f.write_str(member),
            Self::TooDeep => write!(f, "nested deeper than {}", json::MAX_DEPTH),
            Self::NoKeys => f.write_str("no array `keys`"),
            Self::TooMany(count) => write!(f, "{count} keys, expected at most {MAX_KEYS}"),
            Self::NoneUsable(reasons) if reasons.is_empty() => f.write_str("the key set is empty"),
            Self::NoneUsable(reasons) => write!(f, "no usable key ({})", reasons.join("; ")),
        }
    }
}

/// Reads a JWKS document.
pub fn parse(document: &[u8]) -> Result<ParsedKeySet, KeySetError> {
    let fault = |error: serde_json::Error| {
        if json::is_too_deep(&error) {
            KeySetError::TooDeep
        } else {
            json::duplicate(&error).map_or(KeySetError::NotJson, KeySetError::Duplicate)
        }
    };
    parse_object(&json::parse_document(document).map_err(fault)?)
}

/// Reads a JWKS document that is already JSON.
pub fn parse_object(document: &Map<String, Value>) -> Result<ParsedKeySet, KeySetError> {
    let Some(Value::Array(entries)) = document.get("keys") else {
        return Err(KeySetError::NoKeys);
    };
    if entries.len() > MAX_KEYS {
        return Err(KeySetError::TooMany(entries.len()));
    }
    let mut parsed = ParsedKeySet { keys: KeySet::default(), skipped: Vec::new() };
    // RFC 7517 section 5: a key that is not understood is ignored.
    for (index, entry) in entries.iter().enumerate() {
        match entry.as_object().ok_or("not an object").and_then(parse_key) {
            Ok(key) => parsed.keys.keys.push(key),
            Err(unusable) => parsed.skipped.push(format!("key {index}: {unusable}")),
        }
    }
    if parsed.keys.is_empty() { Err(KeySetError::NoneUsable(parsed.skipped)) } else { Ok(parsed) }
}

/// Keys of one set, at most. Entra publishes about 10, Google 3; a document beyond this is not a provider's.
pub const MAX_KEYS: usize = 100;

/// Keys tried for one token, at most: native Envoy tries all 51 of a set of 51, at 1.5 ms a request.
const MAX_CANDIDATES: usize = 4;

/// RFC 7518 sections 3.3 and 3.5.
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// What the host's crypto and common providers go up to; larger keys cost time for nothing.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// One public key (RFC 7517 section 4) that may verify signatures, or why it may not: its numbers are checked too (RFC 8725
/// section 3.4).
pub fn parse_key(entry: &Map<String, Value>) -> Result<Jwk, &'static str> {
    // RFC 7517 sections 4.2 and 4.3: a key for something else verifies nothing.
    match member(entry, "use")? {
        None | Some("sig") => {}
        Some(_) => return Err("its use is not sig"),
    }
    match entry.get("key_ops") {
        None | Some(Value::Null) => {}
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
        Some(_) => return Err("its key_ops do not hold verify"),
    }
    let kind = match (member(entry, "kty")?, member(entry, "crv")?) {
        (Some("RSA"), _) => KeyType::Rsa,
        (Some("EC"), Some("P-256")) => KeyType::P256,
        (Some("EC"), Some("P-384")) => KeyType::P384,
        (Some("EC"), Some("P-521")) => KeyType::P521,
        (Some("OKP"), Some("Ed25519")) => KeyType::Ed25519,
        // RFC 8725 section 3.5: a shared key may be a password.
        (Some("oct"), _) => return Err("symmetric"),
        _ => return Err("its kty or crv is not supported"),
    };
    let algorithm = member(entry, "alg")?
        .map(|name| Algorithm::from_name(name).ok_or("its alg is not a supported signature algorithm"))
        .transpose()?;
    if algorithm.is_some_and(|algorithm| algorithm.key_type() != kind) {
        return Err("its alg does not fit its kty");
    }
    let material = match kind {
        KeyType::Rsa => rsa(entry)?,
        KeyType::P256 => ec(entry, 32)?,
        KeyType::P384 => ec(entry, 48)?,
        KeyType::P521 => ec(entry, 66)?,
        KeyType::Ed25519 => PublicKeyMaterial::Ed25519 { x: exactly(32, entry, "x")? },
    };
    let spki = der::spki(kind, &material);
    let kid = member(entry, "kid")?.map(str::to_owned);
    Ok(Jwk { kid, algorithm, key_type: kind, material, spki })
}

fn rsa(entry: &Map<String, Value>) -> Result<PublicKeyMaterial, &'static str> {
    let (n, e) = (number(entry, "n")?, number(entry, "e")?);
    let bits = bits(&n);
    if bits < MIN_RSA_BITS {
        return Err("RSA of fewer than 2048 bits");
    }
    if bits > MAX_RSA_BITS {
        return Err(TOO_LARGE);
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    // BoringSSL and `rsa` take exponents of at most 33 bits; 1 would make every message its own signature.
    if !odd(&n) || !odd(&e) || e == [1] || e.len() > 4 {
        return Err("an RSA number that cannot be right");
    }
    Ok(PublicKeyMaterial::Rsa { n, e })
}

/// How many bits a number without leading zeros has.
pub(crate) fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| usize::try_from(first.leading_zeros()).unwrap_or_default());
    number.len().saturating_mul(8).saturating_sub(zeros)
}

fn ec(entry: &Map<String, Value>, length: usize) -> Result<PublicKeyMaterial, &'static str> {
    // Whether the point is on the curve, the verifier checks.
    Ok(PublicKeyMaterial::Ec { x: coordinate(length, entry, "x")?, y: coordinate(length, entry, "y")? })
}

/// A coordinate in its full size, as RFC 7518 section 6.2.1.2 has it. Libraries that write it as a number drop leading zeros,
/// or add one for the sign; it is the same number.
fn coordinate(
    length: usize,
    entry: &Map<String, Value>,
    name: &'static str,
) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(entry, name)?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    let number: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let missing = length.checked_sub(number.len()).ok_or(WRONG_LENGTH)?;
    if missing > MAX_DROPPED_ZEROS {
        return Err(WRONG_LENGTH);
    }
    let mut coordinate = vec![0; missing];
    coordinate.extend(number);
    Ok(coordinate)
}

const WRONG_LENGTH: &str = "a coordinate of the wrong length";

/// How many leading zeros a coordinate may have; more than this is one of another curve, or made up: 1 key in 2^64 has more.
const MAX_DROPPED_ZEROS: usize = 8;

fn exactly(length: usize, entry: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(entry, name)?;
    if bytes.len() == length { Ok(bytes) } else { Err(WRONG_LENGTH) }
}

fn number(entry: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(entry, name)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn decoded(entry: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, &'static str> {
    let text = member(entry, name)?.ok_or("a member is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member is not base64url")
}

fn member<'a>(entry: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, &'static str> {
    match entry.get(name) {
        // Some libraries write every member that they know (`"crv": null` of an RSA key).
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a member that is not a string"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rsa_jwk(bits: usize) -> Value {
        json!({ "kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]), "e": "AQAB" })
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn parse(keys: &[Value]) -> Result<ParsedKeySet, KeySetError> {
        super::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn an_unusable_key_leaves_the_others_usable() {
        let parsed = parse(&[
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
            with(rsa_jwk(2048), "use", json!("enc")),
            with(rsa_jwk(2048), "key_ops", json!(["encrypt"])),
            with(rsa_jwk(2048), "kid", json!(5)),
            with(rsa_jwk(2048), "alg", json!("ES256")),
            with(rsa_jwk(2048), "n", json!("+/")),
            rsa_jwk(1024),
            with(rsa_jwk(2048), "e", json!("AQ")),
            json!({"kty": "oct", "k": "AA"}),
            json!(7),
            rsa_jwk(2048),
        ])
        .unwrap();
        assert_eq!((parsed.keys.len(), parsed.skipped.len()), (1, 10), "{:?}", parsed.skipped);
    }

    #[test]
    fn a_member_that_is_null_is_absent() {
        let mut jwk = rsa_jwk(2048);
        for name in ["use", "key_ops", "alg", "crv", "x", "y", "x5c", "x5t", "kid"] {
            jwk[name] = Value::Null;
        }
        let keys = parse(&[jwk]).unwrap().keys;
        assert_eq!(keys.candidates(Some("any"), Algorithm::Rs256, false).count(), 1);
        for name in ["kty", "n", "e"] {
            assert!(parse(&[with(rsa_jwk(2048), name, Value::Null)]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_coordinate_is_a_number_whatever_its_leading_zeros() {
        let x = |bytes: &[u8]| {
            let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(bytes),
                              "y": URL_SAFE_NO_PAD.encode([7; 32]) });
            parse(&[jwk]).map(|parsed| match parsed.keys.keys[0].material() {
                PublicKeyMaterial::Ec { x, .. } => x.clone(),
                other => panic!("{other:?}"),
            })
        };
        let full = [[0; 2].as_slice(), &[9; 30]].concat();
        for written in [&full[..], &full[1..], &full[2..], &[[0].as_slice(), &full].concat()] {
            assert_eq!(x(written).unwrap(), full);
        }
        for odd in [&[9; 33][..], &[9; 23], &[], &[0; 31]] {
            let refused = x(odd).unwrap_err().to_string();
            assert!(refused.contains("a coordinate of the wrong length"), "{odd:?}: {refused}");
        }
    }

    #[test]
    fn a_set_without_a_usable_key_says_why() {
        let error = parse(&[with(rsa_jwk(2048), "use", json!("enc"))]).unwrap_err();
        assert_eq!(error.to_string(), "no usable key (key 0: its use is not sig)");
        assert_eq!(parse(&[]).unwrap_err().to_string(), "the key set is empty");
        assert_eq!(super::parse(b"<html>").unwrap_err(), KeySetError::NotJson);
        assert_eq!(super::parse(b"{}").unwrap_err(), KeySetError::NoKeys);
        assert_eq!(
            parse(&vec![rsa_jwk(2048); MAX_KEYS + 1]).unwrap_err(),
            KeySetError::TooMany(MAX_KEYS + 1)
        );
    }

    #[test]
    fn a_key_is_found_by_its_exact_kid_and_its_algorithm() {
        let keys = parse(&[with(rsa_jwk(2048), "alg", json!("RS256"))]).unwrap().keys;
        let count = |kid, algorithm| keys.candidates(kid, algorithm, true).count();
        assert_eq!(count(Some("r"), Algorithm::Rs256), 1);
        assert_eq!(count(None, Algorithm::Rs256), 1);
        assert_eq!(count(Some("R"), Algorithm::Rs256), 0);
        assert_eq!(count(Some("r"), Algorithm::Ps256), 0);
        assert_eq!(count(Some("r"), Algorithm::Es256), 0);
    }

    #[test]
    fn keys_of_one_name_are_all_tried_and_an_unusable_one_hides_none() {
        let twice = [
            with(rsa_jwk(2048), "use", json!("enc")),
            with(rsa_jwk(2048), "alg", json!("RS256")),
            rsa_jwk(4096),
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "r", "x": URL_SAFE_NO_PAD.encode([7; 32]) }),
        ];
        let keys = parse(&twice).unwrap().keys;
        let count = |algorithm| keys.candidates(Some("r"), algorithm, true).count();
        assert_eq!((count(Algorithm::Rs256), count(Algorithm::Ps256), count(Algorithm::EdDsa)), (2, 1, 1));
        let many = parse(&vec![rsa_jwk(2048); 51]).unwrap().keys;
        assert_eq!(many.candidates(Some("r"), Algorithm::Rs256, false).count(), MAX_CANDIDATES);
    }

    #[test]
    fn as_many_keys_as_may_be_are_read() {
        assert_eq!(parse(&vec![rsa_jwk(2048); MAX_KEYS]).unwrap().keys.len(), MAX_KEYS);
    }

    #[test]
    fn a_key_without_alg_is_for_pss_only_where_the_operator_says_so() {
        let bare = parse(&[rsa_jwk(2048)]).unwrap().keys;
        let marked = parse(&[with(rsa_jwk(2048), "alg", json!("PS256"))]).unwrap().keys;
        let count = |keys: &KeySet, algorithm, named| keys.candidates(Some("r"), algorithm, named).count();
        for algorithm in [Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512] {
            assert_eq!(
                (count(&bare, algorithm, false), count(&bare, algorithm, true)),
                (0, 1),
                "{algorithm}"
            );
        }
        assert_eq!(count(&bare, Algorithm::Rs512, false), 1);
        assert_eq!((count(&marked, Algorithm::Ps256, false), count(&marked, Algorithm::Ps512, true)), (1, 0));
    }

    #[test]
    fn few_keys_are_tried_for_a_token_without_a_kid() {
        let keys = parse(&vec![rsa_jwk(2048); 51]).unwrap().keys;
        assert_eq!(keys.candidates(None, Algorithm::Rs256, false).count(), MAX_CANDIDATES);
    }
}
