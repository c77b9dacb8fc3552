//! A compact JWS (RFC 7515 section 7.1) taken apart: its shape, and what its header says of the
//! signature.
//!
//! Strict where the RFC leaves a choice. It verifies nothing: the readers of tokens and proofs do.

use crate::jose::jwk::Algorithm;
use crate::json;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// The three parts. The payload stays as it is until somebody has a use for it.
pub struct Jws<'a> {
    /// What the signature is over.
    pub signing_input: &'a [u8],
    /// The header.
    pub header: Map<String, Value>,
    /// The header's `alg`.
    pub algorithm: Algorithm,
    /// The payload, base64url.
    pub payload: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a text is no JWS that anybody here could verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwsError {
    /// Its algorithm is not supported.
    Algorithm,
    /// It says that it has extensions which must be understood.
    UnsupportedCrit,
    /// It is not one.
    Malformed,
    /// Its JSON is nested deeper than [`json::MAX_DEPTH`].
    TooDeep,
}

/// Takes a compact JWS apart. How long it may be is its reader's to say.
pub fn read(text: &[u8]) -> Result<Jws<'_>, JwsError> {
    // The JSON serialization (RFC 7515 section 7.2) has no dots at these places.
    let is_dot = |byte: &u8| *byte == b'.';
    let (Some(first), Some(last)) = (text.iter().position(is_dot), text.iter().rposition(is_dot)) else {
        return Err(JwsError::Malformed);
    };
    let (signed, signature) = (text.get(..last).unwrap_or_default(), text.get(last.saturating_add(1)..));
    let (header, payload) = (signed.get(..first), signed.get(first.saturating_add(1)..));
    let (Some(header), Some(payload), Some(signature)) = (header, payload, signature) else {
        return Err(JwsError::Malformed);
    };
    if payload.is_empty() || payload.contains(&b'.') || signature.is_empty() {
        return Err(JwsError::Malformed);
    }
    let header = object(header)?;
    // RFC 7515 section 4.1.11: an extension that is not understood refuses the token; we understand
    // none. RFC 7797's `b64` must be listed in `crit`, and is refused without it too.
    if header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
        return Err(JwsError::UnsupportedCrit);
    }
    // RFC 7515 section 4.1.1: `alg` is required. What is encrypted, and so compressed, has no `alg`
    // of ours (RFC 8725 section 3.6).
    let Some(Value::String(name)) = header.get("alg") else {
        return Err(JwsError::Malformed);
    };
    let algorithm = Algorithm::from_name(name).ok_or(JwsError::Algorithm)?;
    Ok(Jws { signing_input: signed, header, algorithm, payload, signature: decode(signature)? })
}

/// Whether a string that [`read`] does not accept is a JWS for a lenient reader: with padding, or
/// with more or fewer dots. Its header names an algorithm of ours. What it says would not be
/// verified if it counted as opaque. A JWE has no such algorithm.
#[must_use]
pub fn is_mangled(text: &[u8]) -> bool {
    let header = text.split(|byte| *byte == b'.').next().unwrap_or_default();
    let kept: Vec<u8> = header.iter().copied().filter(|byte| !matches!(byte, b'=' | b' ' | b'\t')).collect();
    let header = LENIENT.decode(kept).map(|json| json::parse_object(&json));
    match header {
        Ok(Ok(header)) => {
            let algorithm = header.get("alg").and_then(Value::as_str);
            algorithm.is_some_and(|name| Algorithm::from_name(name).is_some())
        }
        // Some readers take the first of two members, some the last.
        Ok(Err(error)) => json::duplicate(&error).is_some(),
        Err(_) => false,
    }
}

/// base64url whose last bits may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A part that holds a JSON object.
pub fn object(part: &[u8]) -> Result<Map<String, Value>, JwsError> {
    let deep = |error| if json::is_too_deep(&error) { JwsError::TooDeep } else { JwsError::Malformed };
    json::parse_object(&decode(part)?).map_err(deep)
}

/// `typ` is a media type (RFC 7515 section 4.1.9): without regard to case, `application/` may be
/// left out.
pub fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    lower.strip_prefix("application/").map_or_else(|| lower.clone(), str::to_owned)
}

/// RFC 7515 section 2 and appendix C: base64url, no padding, no spaces; bits that carry nothing
/// must be zero.
fn decode(part: &[u8]) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed)
}
