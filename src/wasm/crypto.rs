//! Signatures verified and made by the host's `BoringSSL`, through Envoy's foreign functions `verify_signature` (since
//! 1.30) and `sign` (since 1.37).
//!
//! About 25 us for RS256 where the module itself needs 1.8 ms. They take RSA PKCS#1 v1.5 and ECDSA; for the rest, and on
//! hosts without them, it is done in the module. Which one is found out at start, never configured.

use super::hostcalls::{self, BAD_ARGUMENT};
use crate::dpop;
use crate::jose::jwk::{Algorithm, Jwk, der};
use crate::jose::private_key::PrivateKey;
use crate::jose::signer::Sign;
use crate::jose::verifier::{self, SoftwareCrypto, Verify};
use crate::rng::{OsRandom, SecureRandom as _};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use zeroize::Zeroizing;

const VERIFY: &str = "verify_signature";
const SIGN: &str = "sign";

/// `VerifySignatureResult { result: true }`, and nothing else, is a yes.
const YES: &[u8] = &[0x08, 0x01];

/// The host where it can, jwt-compact where it cannot.
#[derive(Debug)]
pub(super) struct Verifier {
    host_verifies: bool,
}

impl Verifier {
    /// Asks the host whether it has the function, and may be asked: without arguments it complains of just these.
    pub(super) fn probe() -> Self {
        Self { host_verifies: hostcalls::call_foreign_function(VERIFY, &[]) == Err(BAD_ARGUMENT) }
    }
}

impl Verify for Verifier {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
        // DER has no fixed length: what is too long or too short as `r || s` would pass as DER.
        if signature.len() != verifier::length(algorithm, key) {
            return false;
        }
        let hash = match algorithm {
            Algorithm::Rs256 | Algorithm::Es256 => "sha256",
            Algorithm::Rs384 | Algorithm::Es384 => "sha384",
            Algorithm::Rs512 | Algorithm::Es512 => "sha512",
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => {
                return SoftwareCrypto.verify(algorithm, key, message, signature);
            }
        };
        if !self.host_verifies {
            return SoftwareCrypto.verify(algorithm, key, message, signature);
        }
        let der_signature;
        let signature = match algorithm {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                der_signature = der::ecdsa_signature(signature);
                &der_signature
            }
            _ => signature,
        };
        let arguments =
            fields(&[(0x0a, hash.as_bytes()), (0x12, key.spki()), (0x1a, signature), (0x22, message)]);
        hostcalls::call_foreign_function(VERIFY, &arguments).is_ok_and(|result| result == YES)
    }

    fn cost(&self, algorithm: Algorithm, key: &Jwk) -> u32 {
        let by_host =
            !matches!(algorithm, Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa);
        if self.host_verifies && by_host { 0 } else { verifier::verification_cost(key) }
    }
}

/// The host where it can, the module where it cannot.
#[derive(Debug)]
pub(super) struct HostSigner {
    host_signs: bool,
}

impl HostSigner {
    /// The same question as to the verifier.
    pub(super) fn probe() -> Self {
        Self { host_signs: hostcalls::call_foreign_function(SIGN, &[]) == Err(BAD_ARGUMENT) }
    }
}

thread_local! {
    /// Goes with the last worker that uses it.
    static KEY: RefCell<Weak<dpop::ProofKey>> = const { RefCell::new(Weak::new()) };
}

/// This VM's key for proofs: a new configuration finds here the key to which the tokens of the old one are bound. It is made
/// of the host's randomness, and nobody else ever learns it. None where the host gives no randomness.
pub(super) fn proof_key(signer: &HostSigner) -> Option<Rc<dpop::ProofKey>> {
    // Ten times faster where the host signs; elsewhere nobody signs with P-256.
    let algorithm = if signer.host_signs { Algorithm::Es256 } else { Algorithm::EdDsa };
    KEY.with_borrow_mut(|known| {
        let key = known.upgrade().or_else(|| {
            let mut number = Zeroizing::new([0; 32]);
            // One number in 2^32 is no key.
            (0..3).find_map(|_| {
                OsRandom.fill(&mut *number).ok()?;
                dpop::ProofKey::from_seed(&number, algorithm).map(Rc::new)
            })
        })?;
        *known = Rc::downgrade(&key);
        Some(key)
    })
}

impl Sign for HostSigner {
    fn sign(&self, key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
        let by_host = self.host_signs && matches!(key.algorithm(), Algorithm::Rs256 | Algorithm::Es256);
        if !by_host {
            return SoftwareCrypto.sign(key, message);
        }
        let arguments = fields(&[(0x0a, b"sha256"), (0x12, key.pkcs8()), (0x1a, message)]);
        let result = hostcalls::call_foreign_function(SIGN, &arguments).ok()?;
        let signature = signature_of(&result)?;
        match key.algorithm() {
            Algorithm::Es256 => der::raw_ecdsa_signature(signature, 32),
            _ => Some(signature.to_vec()),
        }
    }
}

/// `SignResult { result: true, signature }`, and nothing else.
fn signature_of(result: &[u8]) -> Option<&[u8]> {
    let (length, rest) = result.strip_prefix(YES)?.strip_prefix(&[0x12])?.split_first()?;
    // A signature of RSA takes two digits of base 128, one of ECDSA one.
    let (length, signature) = match length.checked_sub(0x80) {
        None => (usize::from(*length), rest),
        Some(low) => {
            let (high, rest) = rest.split_first().filter(|(high, _)| **high < 0x80)?;
            (usize::from(*high).saturating_mul(0x80).saturating_add(usize::from(low)), rest)
        }
    };
    Some(signature).filter(|signature| signature.len() == length && length > 0)
}

/// Length-delimited fields in the wire format of protocol buffers.
fn fields(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|(_, bytes)| bytes.len().saturating_add(6)).sum());
    for (tag, bytes) in fields {
        message.push(*tag);
        let mut rest = bytes.len();
        // Base 128, low digits first, the high bit says that more follow.
        loop {
            let digit = u8::try_from(rest & 0x7f).unwrap_or_default();
            rest >>= 7;
            if rest == 0 {
                message.push(digit);
                break;
            }
            message.push(digit | 0x80);
        }
        message.extend_from_slice(bytes);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_protocol_buffers() {
        let message = fields(&[(0x0a, b"sha256"), (0x12, &[1; 300]), (0x1a, &[]), (0x22, b"t")]);
        assert_eq!(message[..8], *b"\x0a\x06sha256");
        assert_eq!(message[8..11], [0x12, 0xac, 0x02]);
        assert_eq!(message[311..], *b"\x1a\x00\x22\x01t");
    }

    #[test]
    fn a_signature_is_taken_out_of_a_plain_yes_alone() {
        let result = |signature: &[u8]| [&[0x08, 0x01], fields(&[(0x12, signature)]).as_slice()].concat();
        for length in [1, 70, 127, 128, 256, 512] {
            let signature = vec![7; length];
            assert_eq!(signature_of(&result(&signature)), Some(signature.as_slice()));
        }
        for odd in [
            &b""[..],
            b"\x08\x01",
            b"\x08\x01\x12",
            b"\x08\x01\x12\x00",
            b"\x08\x01\x12\x02a",
            b"\x08\x01\x12\x81\x80\x01a",
            b"\x08\x00\x12\x01a",
            b"\x08\x01\x12\x01ab",
            b"\x1a\x06failed",
        ] {
            assert_eq!(signature_of(odd), None, "{odd:?}");
        }
    }
}
