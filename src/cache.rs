//! A bounded map from bytes to values that end.
//!
//! Two generations approximate least-recently-used in a few lines: entries are written to the young one; when it is
//! full it becomes the old one, and the former old one is dropped. A hit in the old generation moves the entry back.
//! It does not know what the keys mean, and it has no clock.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// What one cache may hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Entries, at most.
    pub entries: usize,
    /// Bytes of all keys together, at most.
    pub key_bytes: usize,
}

/// A bounded map. The unit of `end` is the caller's (any number that grows with time).
pub struct Cache<V> {
    young: Generation<V>,
    old: Generation<V>,
    half: Capacity,
}

struct Generation<V> {
    map: HashMap<Box<[u8]>, Entry<V>, TailState>,
    key_bytes: usize,
}

struct Entry<V> {
    end: u64,
    value: V,
}

impl<V> Cache<V> {
    /// An empty cache that never holds more than `capacity`.
    pub fn new(capacity: Capacity) -> Self {
        let half = Capacity { entries: capacity.entries / 2, key_bytes: capacity.key_bytes / 2 };
        let hasher = TailState::default();
        Self { young: Generation::new(hasher.clone()), old: Generation::new(hasher), half }
    }

    /// The value under `key`, unless it has ended.
    pub fn get(&mut self, key: &[u8], now: u64) -> Option<&V> {
        if !self.young.map.contains_key(key) {
            let (key, entry) = self.old.map.remove_entry(key)?;
            self.old.key_bytes = self.old.key_bytes.saturating_sub(key.len());
            self.write(key, entry);
        }
        self.young.map.get(key).filter(|entry| now < entry.end).map(|entry| &entry.value)
    }

    /// Keeps `value` under `key` until `end`, dropping what was used longest ago if there is no room.
    pub fn put(&mut self, key: &[u8], value: V, end: u64) {
        if let Some((key, _)) = self.old.map.remove_entry(key) {
            self.old.key_bytes = self.old.key_bytes.saturating_sub(key.len());
        }
        self.write(key.into(), Entry { end, value });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// How many entries there are, ended ones included.
    pub fn len(&self) -> usize {
        self.young.map.len().saturating_add(self.old.map.len())
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn write(&mut self, key: Box<[u8]>, entry: Entry<V>) {
        if key.len() > self.half.key_bytes || self.half.entries == 0 {
            return;
        }
        let full = self.young.map.len() >= self.half.entries
            || self.young.key_bytes.saturating_add(key.len()) > self.half.key_bytes;
        if full {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let length = key.len();
        if self.young.map.insert(key, entry).is_none() {
            self.young.key_bytes = self.young.key_bytes.saturating_add(length);
        }
    }
}

impl<V> fmt::Debug for Cache<V> {
    /// Neither keys nor values: both may be tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<V> Generation<V> {
    fn new(hasher: TailState) -> Self {
        Self { map: HashMap::with_hasher(hasher), key_bytes: 0 }
    }

    fn clear(&mut self) {
        self.map.clear();
        self.key_bytes = 0;
    }
}

/// Hashes no more than the last [`TAIL`] bytes of a key, seeded at random.
///
/// Keys are whole tokens, compared in full; what spreads them over the buckets is the end of their signature, and
/// only tokens whose signature verified are ever written. Hashing a whole token would cost more than the look-up.
#[derive(Clone, Debug, Default)]
struct TailState(RandomState);

/// Half of an Ed25519 or ES256 signature in base64url, 258 bits.
const TAIL: usize = 43;

struct TailHasher<H>(H);

impl BuildHasher for TailState {
    type Hasher = TailHasher<<RandomState as BuildHasher>::Hasher>;

    fn build_hasher(&self) -> Self::Hasher {
        TailHasher(self.0.build_hasher())
    }
}

impl<H: Hasher> Hasher for TailHasher<H> {
    fn write(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(TAIL);
        self.0.write(bytes.get(start..).unwrap_or_default());
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity { entries: 8, key_bytes: 1000 };

    #[test]
    fn an_entry_is_gone_at_its_end_and_not_before() {
        let mut cache = Cache::new(ROOM);
        cache.put(b"a", 1, 100);
        assert_eq!(cache.get(b"a", 99), Some(&1));
        assert_eq!(cache.get(b"a", 100), None);
    }

    #[test]
    fn keys_with_the_same_tail_stay_apart() {
        let mut cache = Cache::new(ROOM);
        let tail = [7; TAIL];
        let (a, b) = ([&b"a"[..], &tail].concat(), [&b"b"[..], &tail].concat());
        cache.put(&a, 1, 100);
        assert_eq!(cache.get(&b, 0), None);
        cache.put(&b, 2, 100);
        assert_eq!((cache.get(&a, 0).copied(), cache.get(&b, 0).copied()), (Some(1), Some(2)));
    }

    #[test]
    fn what_is_used_stays_while_a_flood_passes() {
        let mut cache = Cache::new(ROOM);
        cache.put(b"used", 0, u64::MAX);
        for n in 0..1000_u32 {
            cache.put(&n.to_be_bytes(), 1, u64::MAX);
            assert_eq!(cache.get(b"used", 0), Some(&0), "after {n}");
            assert!(cache.len() <= ROOM.entries);
        }
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut cache = Cache::new(Capacity { entries: 1000, key_bytes: 100 });
        for n in 0..100_u8 {
            cache.put(&[n; 20], n, u64::MAX);
            assert!(cache.len() * 20 <= 100);
        }
        cache.put(&[0; 51], 0, u64::MAX);
        assert_eq!(cache.get(&[0; 51], 0), None, "a key over half the room is not kept");
    }

    #[test]
    fn a_new_value_replaces_the_old_one_wherever_it_lies() {
        let mut cache = Cache::new(Capacity { entries: 2, key_bytes: 100 });
        cache.put(b"a", 1, 100);
        cache.put(b"b", 1, 100);
        cache.put(b"a", 2, 100);
        assert_eq!(cache.get(b"a", 0), Some(&2));
    }
}
