//! Random numbers: a deterministic generator for jitter, and the operating system's for values that
//! must not be predictable or repeated.

use std::fmt;
use std::time::Duration;

/// A small deterministic random source for jitter. Never a source of secrets.
///
/// `SplitMix64` (Steele, Lea, Flood 2014): eight bytes of state, no dependency, the same sequence
/// for the same seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A source that yields the same sequence for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A span between zero and `most`, both included.
    pub fn duration_up_to(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.next_u64() % millis.saturating_add(1))
    }
}

/// A cryptographically secure generator: for keys, nonces and `jti`s.
pub trait SecureRandom {
    /// Fills `bytes`. After an error they must not be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The generator gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomError;

impl fmt::Display for RandomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random numbers")
    }
}

/// The operating system's generator. In the module this is WASI's `random_get`, which Envoy answers
/// with `BoringSSL`'s `RAND_bytes`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl SecureRandom for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(bytes).map_err(|_| RandomError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_gives_other_bytes_each_time() {
        let [mut one, mut two] = [[0; 16]; 2];
        OsRandom.fill(&mut one).unwrap();
        OsRandom.fill(&mut two).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn the_same_seed_rolls_the_same_numbers() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert_eq!(a.next_u64(), b.next_u64());
        assert!(a.duration_up_to(Duration::from_millis(10)) <= Duration::from_millis(10));
    }
}
