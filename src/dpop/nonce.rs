//! Nonces of our own (RFC 9449 section 9): a time, under a key that every proxy of the service has, so that a caller may bring
//! to one what another has given. Nothing is remembered of them.

use crate::jose::signer::hs256;
use crate::secret::NonceKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// Seconds that a nonce is good. A caller pays one more round trip in that time; a thief of proofs that were made ahead has
/// no longer for them.
const LIFETIME_SECONDS: u64 = 300;

/// Seconds by which the clocks of a service's proxies may differ.
const SKEW: u64 = 10;

const TIME_BYTES: usize = 8;

/// 128 bits of the tag.
const TAG_BYTES: usize = 16;

impl NonceKey {
    /// The nonce of this second.
    pub fn nonce(&self, now: u64) -> String {
        let time = now.to_be_bytes();
        URL_SAFE_NO_PAD.encode([time.as_slice(), &self.tag(time)].concat())
    }

    /// Until when this nonce is good; none if it is not, or if we did not issue it.
    pub(super) fn valid_until(&self, nonce: &str, now: u64) -> Option<u64> {
        let bytes: [u8; TIME_BYTES + TAG_BYTES] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (time, tag) = bytes.split_first_chunk::<TIME_BYTES>()?;
        let is_ours = bool::from(self.tag(*time).ct_eq(tag));
        let time = u64::from_be_bytes(*time);
        let until = time.saturating_add(LIFETIME_SECONDS);
        (is_ours && time <= now.saturating_add(SKEW) && now <= until).then_some(until)
    }

    fn tag(&self, time: [u8; TIME_BYTES]) -> Vec<u8> {
        let mut tag = hs256(self.reveal(), &[b"m2m-auth dpop nonce ".as_slice(), &time].concat());
        tag.truncate(TAG_BYTES);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_nonce_is_good_for_its_time_and_for_whoever_has_the_key() {
        let [key, same, other] = ["a", "a", "b"].map(|text| NonceKey::new(text.repeat(32)));
        let nonce = key.nonce(NOW);
        assert_eq!(same.valid_until(&nonce, NOW), Some(NOW + LIFETIME_SECONDS));
        assert_eq!(same.valid_until(&nonce, NOW + LIFETIME_SECONDS), Some(NOW + LIFETIME_SECONDS));
        assert_eq!(same.valid_until(&nonce, NOW + LIFETIME_SECONDS + 1), None);
        assert_eq!(same.valid_until(&nonce, NOW - SKEW), Some(NOW + LIFETIME_SECONDS));
        assert_eq!(same.valid_until(&nonce, NOW - SKEW - 1), None);
        assert_eq!(other.valid_until(&nonce, NOW), None);
        assert_eq!(format!("{key:?}"), "redacted");
    }

    #[test]
    fn what_nobody_has_given_is_no_nonce() {
        let key = NonceKey::new("a".repeat(32));
        let nonce = key.nonce(NOW);
        let mut bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        for place in 0..bytes.len() {
            bytes[place] ^= 1;
            assert_eq!(key.valid_until(&URL_SAFE_NO_PAD.encode(&bytes), NOW), None, "byte {place}");
            bytes[place] ^= 1;
        }
        for odd in ["", "x", &nonce[1..], &format!("{nonce}="), &format!("{nonce}AAAA")] {
            assert_eq!(key.valid_until(odd, NOW), None, "{odd}");
        }
    }
}
