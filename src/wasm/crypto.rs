//! Signatures verified by the host's `BoringSSL`, through Envoy's foreign function `verify_signature` (since 1.30).
//!
//! About 25 us for RS256 where the module itself needs 1.8 ms. It takes RSA PKCS#1 v1.5 and ECDSA; for the rest, and on
//! hosts without it, jwt-compact verifies. Which one is found out at start, never configured.

use super::host::{self, BAD_ARGUMENT};
use crate::jwk::{Algorithm, Key, der};
use crate::signature::{self, Compact, Verify};

const FUNCTION: &str = "verify_signature";

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
        Self { host_verifies: host::foreign(FUNCTION, &[]) == Err(BAD_ARGUMENT) }
    }
}

impl Verify for Verifier {
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        // DER has no fixed length: what is too long or too short as `r || s` would pass as DER.
        if signature.len() != signature::length(algorithm, key) {
            return false;
        }
        let hash = match algorithm {
            Algorithm::Rs256 | Algorithm::Es256 => "sha256",
            Algorithm::Rs384 | Algorithm::Es384 => "sha384",
            Algorithm::Rs512 | Algorithm::Es512 => "sha512",
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => {
                return Compact.verify(algorithm, key, message, signature);
            }
        };
        if !self.host_verifies {
            return Compact.verify(algorithm, key, message, signature);
        }
        let der_signature;
        let signature = match algorithm {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                der_signature = der::ecdsa_signature(signature);
                &der_signature
            }
            _ => signature,
        };
        let arguments = arguments(hash, key.spki(), signature, message);
        host::foreign(FUNCTION, &arguments).is_ok_and(|result| result == YES)
    }
}

/// `VerifySignatureArguments`: four length-delimited fields in the wire format of protocol buffers.
fn arguments(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let fields = [(0x0a, hash.as_bytes()), (0x12, key), (0x1a, signature), (0x22, text)];
    let mut message = Vec::with_capacity(fields.iter().map(|(_, bytes)| bytes.len().saturating_add(6)).sum());
    for (tag, bytes) in fields {
        message.push(tag);
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
        let message = arguments("sha256", &[1; 300], &[], b"t");
        assert_eq!(message[..8], *b"\x0a\x06sha256");
        assert_eq!(message[8..11], [0x12, 0xac, 0x02]);
        assert_eq!(message[311..], *b"\x1a\x00\x22\x01t");
    }
}
