//! Just enough DER: keys (RFC 5280 section 4.1, RFC 5958, RFC 8017 appendix A.1.2, RFC 5915) and ECDSA signatures.
//!
//! It writes what the host's crypto takes, and reads what it gives and what tools write. It does not know what is signed.
//! Nothing here is inlined: it runs once a configuration or a signature, and inlined it is 5 KB more of module.

use super::{KeyType, PublicKeyMaterial};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `[0]`: where an `ECPrivateKey` names its curve.
const PARAMETERS: u8 = 0xa0;

/// rsaEncryption 1.2.840.113549.1.1.1 with NULL parameters (RFC 8017 appendix A.1).
pub(crate) const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// ecPublicKey 1.2.840.10045.2.1 with secp256r1 1.2.840.10045.3.1.7 (RFC 5480 section 2.1.1).
pub(crate) const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// ecPublicKey with secp384r1 1.3.132.0.34.
const P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22,
];
/// ecPublicKey with secp521r1 1.3.132.0.35.
const P521: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x23,
];
/// Ed25519 1.3.101.112 (RFC 8410 section 3).
pub(crate) const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

pub(super) fn spki(kind: KeyType, material: &PublicKeyMaterial) -> Vec<u8> {
    let algorithm = match kind {
        KeyType::Rsa => RSA,
        KeyType::P256 => P256,
        KeyType::P384 => P384,
        KeyType::P521 => P521,
        KeyType::Ed25519 => ED25519,
    };
    let key = match material {
        PublicKeyMaterial::Rsa { n, e } => element(SEQUENCE, &[integer(n), integer(e)].concat()),
        // SEC 1 section 2.3.3: 04 marks an uncompressed point.
        PublicKeyMaterial::Ec { x, y } => [&[0x04], x.as_slice(), y].concat(),
        PublicKeyMaterial::Ed25519 { x } => x.clone(),
    };
    // The first byte of a BIT STRING counts unused bits.
    let bits = element(BIT_STRING, &[&[0x00], key.as_slice()].concat());
    element(SEQUENCE, &[algorithm, &bits].concat())
}

/// A private key as PKCS#8 (RFC 5958), the form in which the host takes it.
#[inline(never)]
pub(crate) fn pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&integer(&[]), algorithm, &element(OCTET_STRING, key)].concat())
}

/// The algorithm and the key of a PKCS#8 document.
#[inline(never)]
pub(crate) fn read_pkcs8(document: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = only(SEQUENCE, document)?;
    let (_version, rest) = first(INTEGER, content)?;
    let (_, after) = first(SEQUENCE, rest)?;
    let algorithm = rest.get(..rest.len().checked_sub(after.len())?)?;
    // Attributes and a public key may follow.
    let (key, _) = first(OCTET_STRING, after)?;
    Some((algorithm, key))
}

/// An `RSAPrivateKey` of its eight numbers: n, e, d, p, q, dP, dQ, qInv.
#[inline(never)]
pub(crate) fn pkcs1(numbers: &[Vec<u8>]) -> Vec<u8> {
    let version = integer(&[]);
    let numbers = numbers.iter().map(|number| integer(number));
    element(SEQUENCE, &std::iter::once(version).chain(numbers).collect::<Vec<_>>().concat())
}

/// The modulus of an `RSAPrivateKey` in which all eight numbers are there, without leading zeros.
#[inline(never)]
pub(crate) fn read_pkcs1(document: &[u8]) -> Option<&[u8]> {
    let (_version, rest) = first(INTEGER, only(SEQUENCE, document)?)?;
    let (modulus, mut rest) = first(INTEGER, rest)?;
    for _ in 1..8 {
        (_, rest) = first(INTEGER, rest)?;
    }
    rest.is_empty().then(|| unsigned(modulus))
}

/// An `ECPrivateKey` of its secret number; its reader derives the public key.
pub(crate) fn sec1(secret: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[integer(&[1]), element(OCTET_STRING, secret)].concat())
}

/// The secret number of an `ECPrivateKey`, and the curve if it is named there.
#[inline(never)]
pub(crate) fn read_sec1(document: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (_version, rest) = first(INTEGER, only(SEQUENCE, document)?)?;
    let (secret, rest) = first(OCTET_STRING, rest)?;
    Some((secret, first(PARAMETERS, rest).map(|(curve, _)| curve)))
}

/// A `CurvePrivateKey` (RFC 8410 section 7) of its bytes.
pub(crate) fn seed(bytes: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, bytes)
}

/// The 32 bytes of a `CurvePrivateKey` (RFC 8410 section 7).
pub(crate) fn read_seed(document: &[u8]) -> Option<&[u8]> {
    only(OCTET_STRING, document).filter(|seed| seed.len() == 32)
}

/// A JOSE ECDSA signature, `r || s` (RFC 7518 section 3.4), as the SEQUENCE that most libraries take.
pub fn ecdsa_signature(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    element(SEQUENCE, &[integer(r), integer(s)].concat())
}

/// The other way round: both halves of `size` bytes each.
pub fn raw_ecdsa_signature(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let (r, rest) = first(INTEGER, only(SEQUENCE, der)?)?;
    let (r, s) = (unsigned(r), unsigned(only(INTEGER, rest)?));
    let mut raw = vec![0; size.checked_sub(r.len())?];
    raw.extend_from_slice(r);
    raw.resize(size.checked_mul(2)?.checked_sub(s.len()).filter(|start| *start >= size)?, 0);
    raw.extend_from_slice(s);
    Some(raw)
}

/// Without the zeros at its front.
#[inline(never)]
fn unsigned(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

#[inline(never)]
fn integer(number: &[u8]) -> Vec<u8> {
    let digits = unsigned(number);
    // DER integers are signed: a leading high bit needs a zero before it, and zero is one zero byte.
    let pad: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[pad, digits].concat())
}

#[inline(never)]
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).unwrap_or(length.len());
    let digits = length.get(significant..).unwrap_or_default();
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// The content of the element of this tag that stands first, and what follows it.
#[inline(never)]
fn first(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (own, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        // Four digits are more than any key has.
        let count = usize::from(*length & 0x7f);
        let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        let length = digits
            .iter()
            .try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?;
        (length, rest)
    };
    (*own == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// The content of the element of this tag that is all there is.
#[inline(never)]
fn only(tag: u8, der: &[u8]) -> Option<&[u8]> {
    first(tag, der).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_der_wants_them() {
        let raw = [[0_u8; 32], [0x80; 32]].concat();
        let signature = ecdsa_signature(&raw);
        assert_eq!(signature[..8], [0x30, 0x26, 0x02, 0x01, 0x00, 0x02, 0x21, 0x00]);
    }

    #[test]
    fn a_signature_is_the_same_after_there_and_back() {
        for raw in [[[0_u8; 32], [0x80; 32]].concat(), [[1; 32], [0x7f; 32]].concat(), vec![0xff; 64]] {
            assert_eq!(raw_ecdsa_signature(&ecdsa_signature(&raw), 32), Some(raw));
        }
        assert_eq!(raw_ecdsa_signature(&ecdsa_signature(&[0xff; 96]), 32), None, "of a larger curve");
    }

    #[test]
    fn what_is_cut_short_is_read_by_nobody() {
        let key = pkcs8(RSA, &pkcs1(&vec![vec![0xff; 200]; 8]));
        assert!(
            read_pkcs8(&key).is_some_and(|(algorithm, key)| algorithm == RSA && read_pkcs1(key).is_some())
        );
        for length in 0..key.len() {
            assert!(read_pkcs8(&key[..length]).is_none(), "{length}");
        }
        for length in [&[0x30, 0x80][..], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(only(SEQUENCE, length), None);
        }
    }
}
