//! Values that are fetched for the sake of a caller's own token: one for each, and only when a
//! request needs it.
//!
//! Bounded in number, bytes and rate (for introspection RFC 7662 section 4 asks for that), and kept
//! in this worker alone: a credential of the configuration is worth renewing by itself, what a
//! caller brings is not. What a provider says of one token, and what it fails with, holds for that
//! one; where many fail in a row the [`CircuitBreaker`] has it probed with few of them. It does not
//! know what the values are.

use super::circuit_breaker::{CircuitBreaker, ProbeFailure};
use super::flight::{Count, Flight, MAX_CONCURRENT};
use super::rate_limit::{RateLimit, Throughput};
use super::slots::{CacheEntryId, CachedValue, Slots};
use crate::metrics::Tally;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::rng::Rng;
use crate::store::lease::{Availability, RetryPolicy};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What is kept, by token; `W` is what a fetch needs beside the token.
pub(super) struct PerTokenCache<K, W> {
    policy: RetryPolicy,
    slots: Slots<K>,
    /// What requests need and is not here yet, in the order of [`Rank`].
    queue: Vec<QueuedFetch<W>>,
    circuit_breaker: CircuitBreaker,
    rate: Option<RateLimit>,
    throughput: Throughput,
    /// How long a request is held.
    patience: Duration,
    /// Who is admitted to a line that is nearly full.
    rng: Rng,
    pub(super) limits: LimitCounts,
}

/// How often each bound was reached.
#[derive(Debug, Default)]
pub(super) struct LimitCounts {
    /// Values that were dropped for want of room before their end.
    pub(super) dropped: Tally,
    /// Fetches that wait for others to end.
    pub(super) queued: Tally,
    /// Fetches that wait for their turn among unknown tokens.
    pub(super) paced: Tally,
    /// Tokens for which there was no room at all.
    pub(super) no_room: Tally,
}

struct QueuedFetch<W> {
    entry: CacheEntryId,
    token: Rc<str>,
    with: W,
    flight: Option<Flight>,
    known: bool,
    rank: Rank,
    /// When it was last asked for.
    at: Instant,
    /// Whether there is a value, so that nobody waits.
    renewal: bool,
}

/// Who is asked for before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its token has been good.
    Known,
    /// Nothing is known of its token.
    New,
    /// Its last fetch failed.
    Suspect,
}

/// Unknown tokens wait in line for as long as their requests do, less what the answer takes.
const MAX_SECONDS_IN_QUEUE: usize = 3;

/// Fetches at one time of tokens whose last fetch failed: trying those again leaves the others
/// their places.
const MAX_SUSPECTS: usize = 5;

/// `Retry-After` is obeyed for that long where it is about one token: it slows down, and does not
/// stop, so that a token in use is renewed in time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a value is not here.
pub(super) enum CacheMiss {
    Queued(CacheEntryId),
    Failing(Duration),
    Denied(FetchErrorKind),
    Full,
}

impl<K: CachedValue, W> PerTokenCache<K, W> {
    /// Nothing yet. Of unknown tokens no more than `per_second` are asked about, if that is
    /// bounded; requests are held for `patience`.
    pub(super) fn new(pace: RetryPolicy, per_second: Option<u32>, patience: Duration) -> Self {
        // What is wrong with one token passes with it, whatever the provider calls it.
        let own = RetryPolicy { config_base: pace.base, config_cap: pace.cap, ..pace };
        // Nobody waits that long for what is fetched for one caller.
        let recovery_timeout = pace.timeout;
        let pace = RetryPolicy { retry_after_cap: MAX_RETRY_AFTER, recovery_timeout, ..own };
        Self {
            policy: pace,
            slots: Slots::default(),
            queue: Vec::new(),
            circuit_breaker: CircuitBreaker::default(),
            rate: per_second.map(RateLimit::of),
            throughput: Throughput::default(),
            patience,
            rng: Rng::new(0),
            limits: LimitCounts::default(),
        }
    }

    /// What is being fetched, and the next of what is to be.
    pub(super) fn queued(&self) -> impl Iterator<Item = CacheEntryId> {
        let next = self.queue.iter().filter(|asked| asked.flight.is_none()).take(MAX_CONCURRENT);
        self.queue.iter().filter(|asked| asked.flight.is_some()).chain(next).map(|asked| asked.entry)
    }

    /// All that is kept.
    pub(super) fn all(&self) -> impl Iterator<Item = &K> {
        self.slots.values().map(|slot| &slot.value)
    }

    pub(super) fn cached(&self, entry: CacheEntryId) -> Option<&K> {
        self.slots.get(self.token(entry)?).map(|slot| &slot.value)
    }

    pub(super) fn cached_mut(&mut self, entry: CacheEntryId) -> Option<&mut K> {
        let token = Rc::clone(self.token(entry)?);
        self.slots.get_mut(&token).map(|slot| &mut slot.value)
    }

    /// The value for this token, while it is good.
    pub(super) fn value(&self, token: &str, now: Instant) -> Option<&K::Value> {
        self.slots.get(token)?.value.lease().value(now)
    }

    /// What is kept for this token.
    pub(super) fn of_token_mut(&mut self, token: &str) -> Option<&mut K> {
        self.slots.get_mut(token).map(|slot| &mut slot.value)
    }

    fn token(&self, entry: CacheEntryId) -> Option<&Rc<str>> {
        let asked = self.queue.iter().find(|asked| asked.entry == entry).map(|asked| &asked.token);
        asked.or_else(|| self.slots.token(entry))
    }

    /// The token of a fetch, and what goes with it.
    pub(super) fn queued_fetch(&self, entry: CacheEntryId) -> Option<(&str, &W)> {
        let asked = self.queue.iter().find(|asked| asked.entry == entry)?;
        Some((&asked.token, &asked.with))
    }

    /// When this fetch may begin, as far as the others let it; none: not before one of them has
    /// ended.
    pub(super) fn not_before(&self, entry: CacheEntryId) -> Option<Instant> {
        let own = self.queue.iter().find(|asked| asked.entry == entry)?;
        let is_suspect = own.rank == Rank::Suspect;
        let others =
            || self.running().filter(|(other, ..)| *other != entry).map(|(_, rank, flight)| (rank, flight));
        let suspects = || others().filter(|(rank, _)| *rank == Rank::Suspect).count();
        let probes = || others().filter(|(_, flight)| self.circuit_breaker.is_probe(flight.since)).count();
        // One that has been good proves best whether the provider works.
        let yields = || own.rank > Rank::Known && self.queue.iter().any(|asked| asked.rank == Rank::Known);
        if (self.circuit_breaker.is_for_one() && yields())
            || Count::of(others().map(|(_, flight)| flight)).is_full()
            || (self.circuit_breaker.is_open() && !self.circuit_breaker.has_room_beside(probes()))
            || (is_suspect && suspects() >= MAX_SUSPECTS.min(self.circuit_breaker.most_suspects()))
        {
            return None;
        }
        let in_turn = self.rate.as_ref().filter(|_| !own.known).map_or(Instant::default(), RateLimit::next);
        Some(self.circuit_breaker.not_before(is_suspect).max(in_turn))
    }

    /// The fetch of this entry has begun.
    pub(super) fn mark_running(&mut self, entry: CacheEntryId, now: Instant) {
        if let Some(asked) = self.queue.iter_mut().find(|asked| asked.entry == entry) {
            asked.flight = Some(Flight::begun(now));
            self.circuit_breaker.begun(now);
            if let Some(rate) = self.rate.as_mut().filter(|_| !asked.known) {
                rate.take(now);
            }
        }
        if self.count().is_full() {
            self.throughput.busy(now);
        }
    }

    fn running(&self) -> impl Iterator<Item = (CacheEntryId, Rank, Flight)> {
        self.queue.iter().filter_map(|asked| Some((asked.entry, asked.rank, asked.flight?)))
    }

    fn count(&self) -> Count {
        Count::of(self.running().map(|(.., flight)| flight))
    }

    /// A fetch of this entry ended so; `status` is the provider's. It is made again if somebody may
    /// still wait for it.
    pub(super) fn finish(
        &mut self,
        entry: CacheEntryId,
        failure: Option<&FetchError>,
        status: Option<u16>,
        now: Instant,
        rng: &mut Rng,
    ) {
        // What nobody outside can foresee.
        self.rng = Rng::new(rng.next_u64());
        self.update_circuit_breaker(entry, failure, status, now, rng);
        self.make_room_for(entry, now);
        if !self.count().is_full() {
            self.throughput.idle();
        }
        self.throughput.ended(now);
        let again = self.cached(entry).is_some_and(|kept| {
            matches!(kept.lease().short_availability(now), Availability::Pending)
                && kept.denied(now).is_none()
        });
        let Some(place) = self.queue.iter().position(|asked| asked.entry == entry) else {
            return;
        };
        let asked = self.queue.remove(place);
        if again {
            // Behind the others, so that those which fail cannot keep them from their turn.
            self.enqueue(QueuedFetch { flight: None, rank: Rank::Suspect, renewal: false, ..asked });
        }
        self.drop_late(now);
    }

    /// What the end of a fetch says of the provider.
    fn update_circuit_breaker(
        &mut self,
        entry: CacheEntryId,
        failure: Option<&FetchError>,
        status: Option<u16>,
        now: Instant,
        rng: &mut Rng,
    ) {
        let flight = self.queue.iter().find(|asked| asked.entry == entry).and_then(|asked| asked.flight);
        let Some(failure) = failure else {
            self.works(flight, now);
            return;
        };
        match (failure.kind, status) {
            // It has judged the token, so it works.
            (FetchErrorKind::Subject | FetchErrorKind::Denied, _) => self.works(flight, now),
            // What it says of a request in particular; and a connection that ended of age.
            (_, Some(400 | 403))
            | (FetchErrorKind::ConnectionClosed | FetchErrorKind::SecretUnavailable, _) => {}
            _ if flight.is_some_and(|flight| flight.stuck) => {}
            _ => {
                let first = self.cached(entry).is_some_and(|kept| kept.lease().failures() == 1);
                let retry_after = failure.retry_after.unwrap_or_default();
                let alike = failure.no_connection || status == Some(401);
                let blow = ProbeFailure { first, alike, retry_after };
                self.circuit_breaker.record_failure(
                    &blow,
                    self.policy.cap.min(self.policy.max_gap),
                    now,
                    rng,
                );
            }
        }
    }

    /// The provider answered this fetch: so it works, and those that it hangs at are stuck.
    fn works(&mut self, flight: Option<Flight>, now: Instant) {
        self.circuit_breaker.record_success();
        let Some(answered) = flight else { return };
        for flight in self.queue.iter_mut().filter_map(|asked| asked.flight.as_mut()) {
            flight.compare(answered.since, now);
        }
    }

    fn enqueue(&mut self, asked: QueuedFetch<W>) {
        let place = self.queue.iter().take_while(|own| own.rank <= asked.rank).count();
        self.queue.insert(place, asked);
    }

    /// Nobody waits for this one any more: it is not fetched, unless that has begun.
    pub(super) fn abandon(&mut self, entry: CacheEntryId) {
        self.queue.retain(|asked| asked.entry != entry || asked.flight.is_some() || asked.renewal);
    }

    /// Those that could not be served in time any more leave the line to the others.
    fn drop_late(&mut self, now: Instant) {
        let longest = (self.patience / 5 * 4).max(Duration::from_secs(1));
        self.queue.retain(|asked| asked.flight.is_some() || asked.renewal || now < asked.at + longest);
    }

    /// How much memory a value takes that is about to come.
    pub(super) fn set_size(&mut self, entry: CacheEntryId, bytes: usize) {
        if let Some(token) = self.token(entry).cloned() {
            self.slots.set_size(&token, bytes);
        }
    }

    /// Makes the entry of a token if there is none and there is room for it.
    fn slot(&mut self, token: &str, now: Instant) -> Option<()> {
        if !self.slots.touch(token, now) {
            if self.is_queue_full() {
                return None;
            }
            while !self.slots.fit(false, 1, token.len()) {
                // The new ones in line keep their turn.
                self.evict(false, now, |asked| asked.flight.is_some() || asked.rank != Rank::Suspect)?;
            }
            self.slots.insert(token, self.policy, now);
        }
        Some(())
    }

    /// A fetch for this entry ended: its token is known by now, or takes no more than itself.
    fn make_room_for(&mut self, entry: CacheEntryId, now: Instant) {
        if self.cached(entry).is_some_and(CachedValue::is_known) {
            let stays = |asked: &QueuedFetch<W>| asked.flight.is_some() || asked.entry == entry;
            while !self.slots.fit(true, 0, 0) && self.evict(true, now, stays).is_some() {}
        } else {
            self.set_size(entry, 0);
        }
    }

    /// Evicts an entry of that kind. None if each of them is one of those in line that stay.
    fn evict(&mut self, known: bool, now: Instant, stays: impl Fn(&QueuedFetch<W>) -> bool) -> Option<()> {
        let staying = self.queue.iter().filter(|asked| stays(asked));
        let staying: BTreeSet<CacheEntryId> = staying.map(|asked| asked.entry).collect();
        let slot = self.slots.evict(known, |entry| !staying.contains(&entry))?;
        self.queue.retain(|asked| asked.entry != slot.entry);
        self.limits.dropped.add(u64::from(slot.value.lease().value(now).is_some()));
        Some(())
    }

    /// Whether one more unknown token would not have its turn in time.
    fn is_queue_full(&self) -> bool {
        let line = self.queue.iter().filter(|asked| asked.flight.is_none() && !asked.known).count();
        let by_rate = self.rate.as_ref().map(|rate| rate.max_queue_length(MAX_SECONDS_IN_QUEUE));
        let by_provider = self.throughput.max_queue_length(self.patience / 2);
        by_rate.into_iter().chain(by_provider).any(|longest| line >= longest)
    }

    /// How long one who needs this should stay away, where the provider fails and it would not be
    /// probed with this in time.
    fn refused_by_gate(
        &mut self,
        entry: CacheEntryId,
        known: bool,
        suspect: bool,
        now: Instant,
    ) -> Option<Duration> {
        if let Some(wait) = self.circuit_breaker.rejects_for(now) {
            return Some(wait);
        }
        if (known && !suspect) || self.queue.iter().any(|own| own.entry == entry) {
            return None;
        }
        let rank = if suspect { Rank::Suspect } else { Rank::New };
        let is_before =
            |own: &&QueuedFetch<W>| own.flight.is_none() && own.rank > Rank::Known && own.rank <= rank;
        let line = self.queue.iter().filter(is_before).count();
        let admitted = self.circuit_breaker.admits(line, self.patience / 5 * 3, now, &mut self.rng);
        (!admitted).then_some(Duration::from_secs(1))
    }

    /// The value for this token, or the entry that brings it; `is_refused` says of what is here
    /// that it is not to be used, as a better one is on its way.
    pub(super) fn get(
        &mut self,
        token: &str,
        with: W,
        now: Instant,
        is_refused: impl FnOnce(&K) -> bool,
    ) -> Result<K::Value, CacheMiss> {
        self.drop_late(now);
        if self.slot(token, now).is_none() {
            self.limits.no_room.add(1);
        }
        let full = self.is_queue_full();
        let probes = self.circuit_breaker.is_open() && !self.queue.iter().any(|own| own.rank == Rank::Known);
        let slot = self.slots.get_mut(token).ok_or(CacheMiss::Full)?;
        let entry = slot.entry;
        let replaced = is_refused(&slot.value);
        let known = slot.value.is_known();
        let lease = slot.value.lease_mut();
        let suspect = lease.failures() > 0;
        let probes = probes && known && !suspect && lease.value(now).is_some();
        if probes {
            lease.refresh_soon(now);
        }
        let due = probes || lease.is_due(now);
        let (found, wanted) = match slot.value.lease().short_availability(now) {
            Availability::Ready(value) => {
                (if replaced { Err(CacheMiss::Queued(entry)) } else { Ok(value.clone()) }, due)
            }
            Availability::Pending => (Err(CacheMiss::Queued(entry)), true),
            Availability::Unavailable(wait) if wait.is_zero() => (Err(CacheMiss::Queued(entry)), true),
            Availability::Unavailable(wait) => (Err(CacheMiss::Failing(wait)), false),
        };
        if let (Err(_), Some(cause)) = (&found, slot.value.denied(now)) {
            return Err(CacheMiss::Denied(cause));
        }
        if found.is_err()
            && let Some(wait) = self.refused_by_gate(entry, known, suspect, now)
        {
            return Err(CacheMiss::Failing(wait));
        }
        let renewal = found.is_ok();
        if let Some(asked) = self.queue.iter_mut().find(|own| own.entry == entry) {
            asked.at = now;
            asked.renewal &= renewal;
        } else if wanted || replaced {
            if full && !known {
                self.limits.no_room.add(1);
                return Err(CacheMiss::Full);
            }
            let paced = !known && self.rate.as_ref().is_some_and(|rate| now < rate.next());
            self.limits.paced.add(u64::from(paced));
            self.limits.queued.add(u64::from(self.queue.len() >= MAX_CONCURRENT));
            let rank = match (suspect, known) {
                (true, _) => Rank::Suspect,
                (false, true) => Rank::Known,
                (false, false) => Rank::New,
            };
            let token = token.into();
            self.enqueue(QueuedFetch { entry, token, with, flight: None, known, rank, at: now, renewal });
        }
        found
    }
}

impl<K, W> fmt::Debug for PerTokenCache<K, W> {
    /// Tokens are the keys here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerTokenCache").field("len", &self.slots.len()).finish_non_exhaustive()
    }
}
