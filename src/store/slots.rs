//! The entries of a per-token cache, and the memory that they may take.
//!
//! Clients choose the tokens, so a token that has not been good must never cost the entry of one
//! that has. Each kind has its own room: an unproven token (new, inactive or failed) evicts
//! unproven ones only, and a known one known ones only.

use crate::oauth::fetch::FetchErrorKind;
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::Instant;
use std::collections::HashMap;
use std::rc::Rc;

/// One token's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheEntryId(u64);

/// What is kept for one token.
pub(super) trait CachedValue {
    type Value: Clone;

    fn new(pace: RetryPolicy) -> Self;

    fn lease(&self) -> &Lease<Self::Value>;

    fn lease_mut(&mut self) -> &mut Lease<Self::Value>;

    /// Why the provider is not to be asked again yet.
    fn denied(&self, _now: Instant) -> Option<FetchErrorKind> {
        None
    }

    /// Whether its token has been good: then it is asked for before others, and kept longer.
    fn is_known(&self) -> bool;
}

/// Known tokens of one kind and worker. Two strings of about 1 KB each: some 2 MB.
const MAX_KNOWN: usize = 1024;

/// The most that known tokens and their values may take together.
const MAX_KNOWN_BYTES: usize = 4 * 1024 * 1024;

/// Unproven tokens: as many as requests wait by default, and never more than half of all entries.
const MAX_UNPROVEN: usize = 1024;

/// The most that unproven tokens may take together; they have no values.
const MAX_UNPROVEN_BYTES: usize = 2 * 1024 * 1024;

/// The entries of one cache.
pub(super) struct Slots<K> {
    by_token: HashMap<Rc<str>, Slot<K>>,
    last: u64,
}

/// The entry of one token.
pub(super) struct Slot<K> {
    pub(super) entry: CacheEntryId,
    pub(super) value: K,
    /// Of the value, beside the token; 0 without a value.
    bytes: usize,
    used: Instant,
}

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self { by_token: HashMap::new(), last: 0 }
    }
}

impl<K> Slots<K> {
    pub(super) fn len(&self) -> usize {
        self.by_token.len()
    }

    pub(super) fn get(&self, token: &str) -> Option<&Slot<K>> {
        self.by_token.get(token)
    }

    pub(super) fn get_mut(&mut self, token: &str) -> Option<&mut Slot<K>> {
        self.by_token.get_mut(token)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Slot<K>> {
        self.by_token.values()
    }

    pub(super) fn token(&self, entry: CacheEntryId) -> Option<&Rc<str>> {
        self.by_token.iter().find(|(_, slot)| slot.entry == entry).map(|(token, _)| token)
    }

    /// Marks the entry as used now. False if there is none.
    pub(super) fn touch(&mut self, token: &str, now: Instant) -> bool {
        self.by_token.get_mut(token).map(|slot| slot.used = now).is_some()
    }
}

impl<K: CachedValue> Slots<K> {
    pub(super) fn insert(&mut self, token: &str, pace: RetryPolicy, now: Instant) {
        self.last = self.last.wrapping_add(1);
        let entry = CacheEntryId(self.last);
        self.by_token.insert(token.into(), Slot { entry, value: K::new(pace), bytes: 0, used: now });
    }

    /// How much memory the value of a known token takes.
    pub(super) fn set_size(&mut self, token: &str, bytes: usize) {
        if let Some(slot) = self.by_token.get_mut(token) {
            slot.bytes = bytes;
        }
    }

    /// Whether the entries of that kind are within their room, this many new ones of so many bytes
    /// included.
    pub(super) fn fit(&self, known: bool, new: usize, new_bytes: usize) -> bool {
        let (most, most_bytes) =
            if known { (MAX_KNOWN, MAX_KNOWN_BYTES) } else { (MAX_UNPROVEN, MAX_UNPROVEN_BYTES) };
        let own = self.by_token.iter().filter(|(_, slot)| slot.value.is_known() == known);
        let (entries, bytes) = own.fold((new, new_bytes), |(entries, bytes), (token, slot)| {
            (entries.saturating_add(1), bytes.saturating_add(token.len()).saturating_add(slot.bytes))
        });
        entries <= most && bytes <= most_bytes
    }

    /// Removes the entry of that kind that was used longest ago, of those that may go.
    pub(super) fn evict(&mut self, known: bool, may_go: impl Fn(CacheEntryId) -> bool) -> Option<Slot<K>> {
        let own =
            self.by_token.iter().filter(|(_, slot)| slot.value.is_known() == known && may_go(slot.entry));
        let token = Rc::clone(own.min_by_key(|(_, slot)| slot.used)?.0);
        self.by_token.remove(&token)
    }
}
