//! A bounded map from bytes to values that end.
//!
//! Two generations approximate least-recently-used in a few lines: entries are written to the young
//! one; when it is full it becomes the old one, and the former old one is dropped. A hit in the old
//! generation moves the entry back. It does not know what the keys mean, and it has no clock.

use crate::metrics::Tally;
use std::collections::HashMap;
use std::fmt;

/// What one cache may hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Entries, at most.
    pub entries: usize,
    /// Bytes of all keys together, at most.
    pub key_bytes: usize,
}

/// A bounded map. The unit of `expires_at` is the caller's (any number that grows with time).
pub struct Cache<V> {
    young: Generation<V>,
    old: Generation<V>,
    half: Capacity,
    /// Entries that were dropped for want of room before their end.
    pub dropped: Tally,
}

/// Entries by the tail of their key; of two keys with one tail the later stays.
struct Generation<V> {
    map: HashMap<KeySuffix, Entry<V>>,
    key_bytes: usize,
}

struct Entry<V> {
    key: Box<[u8]>,
    expires_at: u64,
    value: V,
}

impl<V> Cache<V> {
    /// An empty cache that never holds more than `capacity`.
    pub fn new(capacity: Capacity) -> Self {
        let half = Capacity { entries: capacity.entries / 2, key_bytes: capacity.key_bytes / 2 };
        Self { young: Generation::new(), old: Generation::new(), half, dropped: Tally::default() }
    }

    /// The value under `key`, unless it has ended.
    pub fn get(&mut self, key: &[u8], now: u64) -> Option<&V> {
        let tail = key_suffix(key);
        if !self.young.holds(tail, key) {
            let entry = self.old.take(tail, key)?;
            self.write(tail, entry, now);
        }
        self.young.map.get(&tail).filter(|entry| now < entry.expires_at).map(|entry| &entry.value)
    }

    /// Keeps `value` under `key` until `expires_at`, dropping what was used longest ago if there is
    /// no room.
    pub fn insert(&mut self, key: &[u8], value: V, end: u64, now: u64) {
        let tail = key_suffix(key);
        self.old.take(tail, key);
        self.write(tail, Entry { key: key.into(), expires_at: end, value }, now);
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

    fn write(&mut self, tail: KeySuffix, entry: Entry<V>, now: u64) {
        let length = entry.key.len();
        if length > self.half.key_bytes || self.half.entries == 0 {
            self.dropped.add(1);
            return;
        }
        let full = self.young.map.len() >= self.half.entries
            || self.young.key_bytes.saturating_add(length) > self.half.key_bytes;
        if full {
            let lost = self.old.map.values().filter(|entry| now < entry.expires_at).count();
            self.dropped.add(u64::try_from(lost).unwrap_or_default());
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let replaced = self.young.map.insert(tail, entry).map_or(0, |entry| entry.key.len());
        self.young.key_bytes = self.young.key_bytes.saturating_add(length).saturating_sub(replaced);
    }
}

impl<V> fmt::Debug for Cache<V> {
    /// Neither keys nor values: both may be tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<V> Generation<V> {
    fn new() -> Self {
        Self { map: HashMap::new(), key_bytes: 0 }
    }

    fn holds(&self, tail: KeySuffix, key: &[u8]) -> bool {
        self.map.get(&tail).is_some_and(|entry| keys_equal(&entry.key, key))
    }

    fn take(&mut self, tail: KeySuffix, key: &[u8]) -> Option<Entry<V>> {
        let entry = if self.holds(tail, key) { self.map.remove(&tail)? } else { return None };
        self.key_bytes = self.key_bytes.saturating_sub(entry.key.len());
        Some(entry)
    }

    fn clear(&mut self) {
        self.map.clear();
        self.key_bytes = 0;
    }
}

/// The end of a key: what is looked up, before the whole key is compared.
///
/// Keys are whole tokens, and only tokens whose signature verified are ever written: the end of a
/// signature spreads them well enough (48 bits of it in base64url), and hashing a whole token would
/// cost more than all the rest of the look-up.
type KeySuffix = [u8; 8];

fn key_suffix(key: &[u8]) -> KeySuffix {
    key.last_chunk().copied().unwrap_or_default()
}

/// Whether two keys are equal, a word at a time: the module's own `memcmp` goes byte by byte.
fn keys_equal(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let words = a.iter().zip(b).all(|(a, b)| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b));
    a.len() == b.len() && words && a_rest == b_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity { entries: 8, key_bytes: 1000 };

    #[test]
    fn an_entry_is_gone_at_its_end_and_not_before() {
        let mut cache = Cache::new(ROOM);
        cache.insert(b"a", 1, 100, 0);
        assert_eq!(cache.get(b"a", 99), Some(&1));
        assert_eq!(cache.get(b"a", 100), None);
    }

    #[test]
    fn keys_with_the_same_tail_are_never_taken_for_each_other() {
        for (a, b) in [("a.12345678", "b.12345678"), ("12345678.12345678", "12345679.12345678"), ("x", "y")] {
            let mut cache = Cache::new(ROOM);
            cache.insert(a.as_bytes(), 1, 100, 0);
            assert_eq!(cache.get(b.as_bytes(), 0), None);
            cache.insert(b.as_bytes(), 2, 100, 0);
            assert_eq!(cache.get(a.as_bytes(), 0), None);
            assert_eq!(cache.get(b.as_bytes(), 0), Some(&2));
            assert_eq!(cache.len(), 1);
        }
    }

    #[test]
    fn equal_means_every_byte() {
        let key: Vec<u8> = (0..=40).collect();
        assert!(keys_equal(&key, &key.clone()));
        for place in 0..key.len() {
            let mut other = key.clone();
            other[place] ^= 1;
            assert!(!keys_equal(&key, &other), "{place}");
            assert!(!keys_equal(&key, &key[..place]), "{place}");
        }
    }

    #[test]
    fn what_is_used_stays_while_a_flood_passes() {
        let mut cache = Cache::new(ROOM);
        cache.insert(b"the used", 0, u64::MAX, 0);
        for n in 0..1000_u64 {
            cache.insert(&n.to_be_bytes(), 1, u64::MAX, 0);
            assert_eq!(cache.get(b"the used", 0), Some(&0), "after {n}");
            assert!(cache.len() <= ROOM.entries);
        }
        let dropped = cache.dropped.take();
        assert!((990..=1000).contains(&dropped), "{dropped} of 1001");
    }

    #[test]
    fn only_what_had_not_ended_counts_as_dropped() {
        let mut cache = Cache::new(ROOM);
        for n in 0..100_u64 {
            cache.insert(&n.to_be_bytes(), 1, n + 1, n + 1);
        }
        assert_eq!(cache.dropped.take(), 0, "each had ended before the next came");
        for n in 0..12_u64 {
            cache.insert(&n.to_be_bytes(), 1, u64::MAX, 200);
        }
        assert_eq!((cache.dropped.take(), cache.dropped.take()), (4, 0), "reported once");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut cache = Cache::new(Capacity { entries: 1000, key_bytes: 100 });
        for n in 0..100_u8 {
            cache.insert(&[n; 20], n, u64::MAX, 0);
            assert!(cache.len() * 20 <= 100);
        }
        cache.insert(&[0; 51], 0, u64::MAX, 0);
        assert_eq!(cache.get(&[0; 51], 0), None, "a key over half the room is not kept");
    }

    #[test]
    fn a_new_value_replaces_the_old_one_wherever_it_lies() {
        let mut cache = Cache::new(Capacity { entries: 2, key_bytes: 100 });
        cache.insert(b"the key a", 1, 100, 0);
        cache.insert(b"the key b", 1, 100, 0);
        cache.insert(b"the key a", 2, 100, 0);
        assert_eq!(cache.get(b"the key a", 0), Some(&2));
        assert_eq!(cache.len(), 2);
    }
}
