//! Just enough DER: keys (RFC 5280 section 4.1, RFC 5958, RFC 8017 appendix A.1.2, RFC 5915) and ECDSA signatures.
//!
//! It writes what the host's crypto takes, and reads what it gives and what tools write. It does not know what is signed.
//! Nothing here is inlined: it runs once a configuration or a signature, and inlined it is 5 KB more of module.

use super::{KeyType, PublicKeyMaterial};
use zeroize::Zeroizing;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `[0]` of an `ECPrivateKey`: its curve.
const PARAMETERS: u8 = 0xa0;
/// `[1]` of an `ECPrivateKey`: its public key.
const EC_PUBLIC_KEY: u8 = 0xa1;
/// `[0]` of PKCS#8: attributes.
const ATTRIBUTES: u8 = 0xa0;
/// `[1]` of PKCS#8: the public key, an implicit BIT STRING.
const PUBLIC_KEY: u8 = 0x81;

/// rsaEncryption 1.2.840.113549.1.1.1 with NULL parameters (RFC 8017 appendix A.1).
pub(crate) const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// ecPublicKey 1.2.840.10045.2.1 with secp256r1 1.2.840.10045.3.1.7 (RFC 5480 section 2.1.1).
pub(crate) const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// secp256r1, as an `ECPrivateKey` names its curve (RFC 5915 section 3).
pub(crate) const P256_CURVE: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
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
        PublicKeyMaterial::Rsa { n, e } => element(SEQUENCE, &[&integer(n), &integer(e)]),
        // SEC 1 section 2.3.3: 04 marks an uncompressed point.
        PublicKeyMaterial::Ec { x, y } => [&[0x04], x.as_slice(), y].concat().into(),
        PublicKeyMaterial::Ed25519 { x } => x.clone().into(),
    };
    // The first byte of a BIT STRING counts unused bits.
    let bits = element(BIT_STRING, &[&[0x00], &key]);
    std::mem::take(&mut *element(SEQUENCE, &[algorithm, &bits]))
}

/// A private key as PKCS#8 (RFC 5958), the form in which the host takes it.
#[inline(never)]
pub(crate) fn pkcs8(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    element(SEQUENCE, &[&integer(&[]), algorithm, &element(OCTET_STRING, &[key])])
}

/// The algorithm and the key of a PKCS#8 document (RFC 5958 section 2).
#[inline(never)]
pub(crate) fn read_pkcs8(document: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = unsigned_integer(only(SEQUENCE, document)?)?;
    let (_, after) = first(SEQUENCE, rest)?;
    let algorithm = rest.get(..rest.len().checked_sub(after.len())?)?;
    let (key, rest) = first(OCTET_STRING, after)?;
    let rest = first(ATTRIBUTES, rest).map_or(rest, |(_, rest)| rest);
    let is_complete = match version {
        [0] => rest.is_empty(),
        // Version 2 is the one with the public key.
        [1] => only(PUBLIC_KEY, rest).is_some_and(is_whole_bytes),
        _ => false,
    };
    is_complete.then_some((algorithm, key))
}

/// An `RSAPrivateKey` of its eight numbers: n, e, d, p, q, dP, dQ, qInv.
#[inline(never)]
pub(crate) fn pkcs1(numbers: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let numbers: Vec<_> =
        std::iter::once(integer(&[])).chain(numbers.iter().map(|number| integer(number))).collect();
    element(SEQUENCE, &numbers.iter().map(|number| number.as_slice()).collect::<Vec<_>>())
}

/// The modulus of an `RSAPrivateKey` in which all eight numbers are there, without leading zeros.
#[inline(never)]
pub(crate) fn read_pkcs1(document: &[u8]) -> Option<&[u8]> {
    let (version, rest) = unsigned_integer(only(SEQUENCE, document)?)?;
    let (modulus, mut rest) = unsigned_integer(rest)?;
    for _ in 1..8 {
        (_, rest) = unsigned_integer(rest)?;
    }
    (version == [0] && rest.is_empty()).then(|| unsigned(modulus))
}

/// An `ECPrivateKey` of its secret number; its reader derives the public key.
pub(crate) fn sec1(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    element(SEQUENCE, &[&integer(&[1]), &element(OCTET_STRING, &[secret])])
}

/// The secret number of an `ECPrivateKey`, and the curve if it is named there.
#[inline(never)]
pub(crate) fn read_sec1(document: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (version, rest) = unsigned_integer(only(SEQUENCE, document)?)?;
    let (secret, rest) = first(OCTET_STRING, rest)?;
    let (curve, rest) = first(PARAMETERS, rest).map_or((None, rest), |(curve, rest)| (Some(curve), rest));
    let public = || only(BIT_STRING, only(EC_PUBLIC_KEY, rest)?);
    let is_complete = rest.is_empty() || public().is_some_and(is_whole_bytes);
    (version == [1] && is_complete).then_some((secret, curve))
}

/// A `CurvePrivateKey` (RFC 8410 section 7) of its bytes.
pub(crate) fn seed(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    element(OCTET_STRING, &[bytes])
}

/// The 32 bytes of a `CurvePrivateKey` (RFC 8410 section 7).
pub(crate) fn read_seed(document: &[u8]) -> Option<&[u8]> {
    only(OCTET_STRING, document).filter(|seed| seed.len() == 32)
}

/// A JOSE ECDSA signature, `r || s` (RFC 7518 section 3.4), as the SEQUENCE that most libraries take.
pub fn ecdsa_signature(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    std::mem::take(&mut *element(SEQUENCE, &[&integer(r), &integer(s)]))
}

/// The other way round: both halves of `size` bytes each.
pub fn raw_ecdsa_signature(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let (r, rest) = unsigned_integer(only(SEQUENCE, der)?)?;
    let (s, rest) = unsigned_integer(rest)?;
    let (r, s) = (unsigned(r), unsigned(s));
    if !rest.is_empty() {
        return None;
    }
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
fn integer(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let digits = unsigned(number);
    // DER integers are signed: a leading high bit needs a zero before it, and zero is one zero byte.
    let pad: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[pad, digits])
}

/// An element of these parts. It may hold a private key, so it is written once, into memory that need not grow.
#[inline(never)]
fn element(tag: u8, content: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let size = content.iter().map(|part| part.len()).sum::<usize>();
    let length = size.to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).unwrap_or(length.len());
    let digits = length.get(significant..).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(2).saturating_add(digits.len())));
    bytes.push(tag);
    match u8::try_from(size) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            bytes.extend_from_slice(digits);
        }
    }
    for part in content {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The content of the first INTEGER, if it is not negative and as short as DER has it, and what follows it.
#[inline(never)]
fn unsigned_integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (number, rest) = first(INTEGER, der)?;
    let is_minimal = match number {
        [] => false,
        [0, second, ..] => *second >= 0x80,
        [leading, ..] => *leading < 0x80,
    };
    is_minimal.then_some((number, rest))
}

/// Whether the content of a BIT STRING has no unused bits.
fn is_whole_bytes(bits: &[u8]) -> bool {
    bits.first() == Some(&0)
}

/// The content of the first element, which has this tag, and what follows it.
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
        // DER has one way to write a length, the shortest.
        (digits.first() != Some(&0) && length >= 0x80).then_some((length, rest))?
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
    use pkcs1::RsaPrivateKey;
    use pkcs8::PrivateKeyInfo;
    use sec1::EcPrivateKey;

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
    fn a_document_that_is_not_der_is_not_read() {
        let octets = |content: &[u8]| element(OCTET_STRING, &[content]).to_vec();
        let sequence = |parts: &[&[u8]]| element(SEQUENCE, parts).to_vec();
        let (zero, one, two) = (integer(&[]), integer(&[1]), integer(&[2]));
        let (key, public) = (octets(&[7; 34]), [0x81, 2, 0, 9]);
        let good = sequence(&[&zero, ED25519, &key]);
        assert!(read_pkcs8(&good).is_some() && PrivateKeyInfo::try_from(&*good).is_ok());
        let with_public = sequence(&[&one, ED25519, &key, &[0xa0, 0], &public]);
        assert!(read_pkcs8(&with_public).is_some() && PrivateKeyInfo::try_from(&*with_public).is_ok());
        let long = [&[0x30, 0x81, u8::try_from(good.len() - 2).unwrap()], &good[2..]].concat();
        for document in [
            long,
            sequence(&[&two, ED25519, &key]),
            sequence(&[&[INTEGER, 2, 0, 0], ED25519, &key]),
            sequence(&[&[INTEGER, 0], ED25519, &key]),
            sequence(&[&zero, ED25519, &key, &[5, 0]]),
            sequence(&[&zero, ED25519, &key, &public]),
            sequence(&[&one, ED25519, &key]),
            sequence(&[&one, ED25519, &key, &[0x81, 2, 3, 9]]),
        ] {
            assert!(PrivateKeyInfo::try_from(&*document).is_err(), "{document:x?}");
            assert_eq!(read_pkcs8(&document), None, "{document:x?}");
        }

        let secret = octets(&[7; 32]);
        let curve = element(PARAMETERS, &[P256_CURVE]).to_vec();
        let public = [0xa1, 4, BIT_STRING, 2, 0, 9];
        let good = sequence(&[&one, &secret, &curve, &public]);
        assert!(EcPrivateKey::try_from(&*good).is_ok());
        assert_eq!(read_sec1(&good), Some(([7; 32].as_slice(), Some(P256_CURVE))));
        for document in [
            sequence(&[&zero, &secret, &curve]),
            sequence(&[&one, &secret, &curve, &[5, 0]]),
            sequence(&[&one, &secret, &public, &curve]),
            sequence(&[&one, &secret, &[PARAMETERS, 0]]),
            sequence(&[&one, &secret, &[0xa1, 2, 0, 9]]),
        ] {
            assert!(EcPrivateKey::try_from(&*document).is_err(), "{document:x?}");
            // An empty curve is one that is not P-256: the caller compares it.
            assert!(read_sec1(&document).is_none_or(|(_, curve)| curve == Some(&[])), "{document:x?}");
        }

        let numbers = |version: &[u8], modulus: &[u8]| {
            let rest = integer(&[3]).repeat(7);
            sequence(&[version, modulus, &rest])
        };
        let good = numbers(&zero, &integer(&[0xff; 256]));
        assert!(read_pkcs1(&good).is_some() && RsaPrivateKey::try_from(&*good).is_ok());
        for document in [
            numbers(&one, &integer(&[0xff; 256])),
            numbers(&zero, &[INTEGER, 1, 0xff]),
            numbers(&zero, &[INTEGER, 2, 0, 1]),
            numbers(&zero, &[INTEGER, 0]),
        ] {
            assert!(RsaPrivateKey::try_from(&*document).is_err(), "{document:x?}");
            assert_eq!(read_pkcs1(&document), None, "{document:x?}");
        }
    }

    #[test]
    fn what_is_cut_short_is_read_by_nobody() {
        let key = pkcs8(RSA, &pkcs1(&vec![Zeroizing::new(vec![0xff; 200]); 8]));
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
