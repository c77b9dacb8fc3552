//! Values that are fetched for the sake of a caller's own token: one for each, and only when a request needs it.
//!
//! Bounded in number, bytes and rate, and kept in this worker alone: a credential of the configuration is worth renewing by
//! itself, what a caller brings is not. What a provider says of one token holds for that one; what makes it fail for all holds
//! for all, so that a provider that is down is asked by one request at a time. It does not know what the values are.

use crate::io::{Dice, Instant};
use crate::lease::{Cause, Failure, Lease, Outlook, Pace};
use crate::stats::Tally;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// One token's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(u64);

/// What is kept for one token.
pub(super) trait Kept {
    type Value: Clone;

    fn new(pace: Pace) -> Self;

    fn lease(&self) -> &Lease<Self::Value>;

    /// Whether it is not to be used by those who may wait, as a better one is on its way.
    fn is_being_replaced(&self, _now: Instant) -> bool {
        false
    }

    /// Why the provider is not to be asked again yet.
    fn denied(&self, _now: Instant) -> Option<Cause> {
        None
    }

    /// Whether its token has been good: then it is asked for before others, and kept longer.
    fn is_known(&self) -> bool;
}

/// What is kept, by token; `W` is what a fetch needs beside the token.
pub(super) struct Keyed<K, W> {
    pace: Pace,
    slots: HashMap<Rc<str>, Slot<K>>,
    bytes: usize,
    /// What requests need and is not here yet; the known ones first.
    asked: Vec<Asked<W>>,
    last: u64,
    /// How often the provider failed since it last answered; it holds nothing.
    gate: Lease<()>,
    rate: Option<Rate>,
    pub(super) crossed: Crossed,
}

/// How often each bound was reached.
#[derive(Debug, Default)]
pub(super) struct Crossed {
    /// Values that were dropped for want of room before their end.
    pub(super) dropped: Tally,
    /// Fetches that wait for others to end.
    pub(super) queued: Tally,
    /// Fetches that wait for their turn among unknown tokens.
    pub(super) paced: Tally,
    /// Tokens for which there was no room at all.
    pub(super) no_room: Tally,
}

struct Slot<K> {
    entry: Entry,
    kept: K,
    /// Of the value, as far as that has been told.
    bytes: usize,
    used: Instant,
}

struct Asked<W> {
    entry: Entry,
    token: Rc<str>,
    with: W,
    running: bool,
    known: bool,
}

/// How often a provider may be asked about tokens of which nothing good is known. Bursts of one second's worth are let through.
struct Rate {
    per_second: u32,
    /// When the next one would come if they came evenly (the virtual scheduling of GCRA, ITU-T I.371).
    even: Instant,
}

const BURST: Duration = Duration::from_secs(1);

/// Unknown tokens wait in line for as long as their requests do, less what the answer takes.
const MOST_SECONDS_IN_LINE: usize = 3;

/// Values of one kind and worker. Two texts of about 1 KB each: some 2 MB.
const MOST: usize = 1024;

/// The most that tokens and values may take together.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Fetches at one time: as many as a provider bears from one worker; the other requests wait for their turn.
const AT_ONCE: usize = 50;

/// Why a value is not here.
pub(super) enum NotHere {
    Asked(Entry),
    Failing(Duration),
    Denied(Cause),
    NoRoom,
}

impl<K: Kept, W> Keyed<K, W> {
    /// Nothing yet. Of unknown tokens no more than `per_second` are asked about, if that is bounded.
    pub(super) fn new(pace: Pace, per_second: Option<u32>) -> Self {
        let rate = per_second.map(|per_second| Rate { per_second, even: Instant::default() });
        let (slots, asked, gate) = (HashMap::new(), Vec::new(), Lease::new(pace));
        Self { pace, slots, bytes: 0, asked, last: 0, gate, rate, crossed: Crossed::default() }
    }

    /// What is being fetched, and the next of what is to be.
    pub(super) fn asked(&self) -> impl Iterator<Item = Entry> {
        let next = self.asked.iter().filter(|asked| !asked.running).take(AT_ONCE);
        self.asked.iter().filter(|asked| asked.running).chain(next).map(|asked| asked.entry)
    }

    pub(super) fn kept(&self, entry: Entry) -> Option<&K> {
        self.slots.get(self.token(entry)?).map(|slot| &slot.kept)
    }

    pub(super) fn kept_mut(&mut self, entry: Entry) -> Option<&mut K> {
        let token = Rc::clone(self.token(entry)?);
        self.slots.get_mut(&token).map(|slot| &mut slot.kept)
    }

    fn token(&self, entry: Entry) -> Option<&Rc<str>> {
        let asked = self.asked.iter().find(|asked| asked.entry == entry).map(|asked| &asked.token);
        let kept = || self.slots.iter().find(|(_, slot)| slot.entry == entry).map(|(token, _)| token);
        asked.or_else(kept)
    }

    /// The token of a fetch, and what goes with it.
    pub(super) fn asking(&self, entry: Entry) -> Option<(&str, &W)> {
        let asked = self.asked.iter().find(|asked| asked.entry == entry)?;
        Some((&asked.token, &asked.with))
    }

    /// When this fetch may begin, as far as the others let it; none: not before one of them has ended.
    pub(super) fn not_before(&self, entry: Entry) -> Option<Instant> {
        let others = self.asked.iter().filter(|asked| asked.running && asked.entry != entry).count();
        let (most, at) = match self.gate.failures() {
            0 => (AT_ONCE, Instant::default()),
            _ => (1, self.gate.not_before()),
        };
        let known = || self.asked.iter().any(|asked| asked.entry == entry && asked.known);
        let in_turn = match &self.rate {
            Some(rate) if !known() => rate.next(),
            _ => Instant::default(),
        };
        (others < most).then_some(at.max(in_turn))
    }

    /// The fetch of this entry has begun.
    pub(super) fn begun(&mut self, entry: Entry, now: Instant) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.entry == entry) {
            asked.running = true;
            if let Some(rate) = self.rate.as_mut().filter(|_| !asked.known) {
                rate.take(now);
            }
        }
    }

    /// A fetch of this entry ended so; `status` is the provider's. It is made again if somebody may still wait for it.
    pub(super) fn ended(
        &mut self,
        entry: Entry,
        failure: Option<&Failure>,
        status: Option<u16>,
        now: Instant,
        dice: &mut Dice,
    ) {
        // What the provider says of a request in particular, it says of one token.
        let of_one = matches!(status, Some(400 | 403));
        match failure {
            None => self.gate = Lease::new(self.pace),
            // What fails together counts once.
            Some(failure) if !of_one && self.gate.not_before() <= now => {
                if let Some(attempt) = self.gate.begin(now) {
                    self.gate.finish(attempt, now, Err(failure.clone()), dice);
                }
            }
            Some(_) => {}
        }
        let Some(kept) = self.kept(entry) else {
            return;
        };
        let again = matches!(kept.lease().outlook(now), Outlook::Coming) && kept.denied(now).is_none();
        let Some(place) = self.asked.iter().position(|asked| asked.entry == entry) else {
            return;
        };
        let asked = self.asked.remove(place);
        if again {
            // Behind the others, so that those which fail cannot keep them from their turn.
            self.line_up(Asked { running: false, ..asked });
        }
    }

    fn line_up(&mut self, asked: Asked<W>) {
        let known = self.asked.iter().take_while(|own| own.known).count();
        let place = if asked.known { known } else { self.asked.len() };
        self.asked.insert(place, asked);
    }

    /// How much memory a value takes that has come.
    pub(super) fn weigh(&mut self, entry: Entry, bytes: usize) {
        let Some(token) = self.token(entry).cloned() else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(&token) {
            self.bytes = self.bytes.saturating_sub(slot.bytes).saturating_add(bytes);
            slot.bytes = bytes;
        }
    }

    /// The place of a token, made if there is room for it.
    fn slot(&mut self, token: &str, now: Instant) -> Option<()> {
        if !self.slots.contains_key(token) {
            if self.rate.as_ref().is_some_and(|rate| self.line() >= rate.longest_line()) {
                return None;
            }
            while self.slots.len() >= MOST || self.bytes.saturating_add(token.len()) > MOST_BYTES {
                self.forget_one(now)?;
            }
            self.last = self.last.wrapping_add(1);
            let (entry, kept) = (Entry(self.last), K::new(self.pace));
            self.bytes = self.bytes.saturating_add(token.len());
            self.slots.insert(token.into(), Slot { entry, kept, bytes: 0, used: now });
        }
        self.slots.get_mut(token)?.used = now;
        Some(())
    }

    /// How many unknown tokens wait for their turn.
    fn line(&self) -> usize {
        self.asked.iter().filter(|asked| !asked.running && !asked.known).count()
    }

    /// Makes room: what was never good goes first, and what was used longest ago. None when all of it is being fetched.
    fn forget_one(&mut self, now: Instant) -> Option<()> {
        let idle = self.slots.iter().filter(|(_, slot)| self.asked.iter().all(|own| own.entry != slot.entry));
        let (token, _) = idle.min_by_key(|(_, slot)| (slot.kept.is_known(), slot.used))?;
        let token = Rc::clone(token);
        let slot = self.slots.remove(&token)?;
        if slot.kept.lease().value(now).is_some() {
            self.crossed.dropped.add(1);
        }
        let bytes = slot.bytes.saturating_add(token.len());
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(())
    }

    /// The value for this token, or the entry that brings it.
    pub(super) fn get(
        &mut self,
        token: &str,
        with: W,
        now: Instant,
        may_wait: bool,
    ) -> Result<K::Value, NotHere> {
        let down = match self.gate.outlook(now) {
            Outlook::Failing(wait) => Some(wait),
            Outlook::Good(()) | Outlook::Coming => None,
        };
        if self.slot(token, now).is_none() {
            self.crossed.no_room.add(1);
        }
        let slot = self.slots.get_mut(token).ok_or(NotHere::NoRoom)?;
        let entry = slot.entry;
        let lease = slot.kept.lease();
        let replaced = may_wait && slot.kept.is_being_replaced(now);
        let (found, wanted) = match lease.outlook(now) {
            Outlook::Good(value) => {
                (if replaced { Err(NotHere::Asked(entry)) } else { Ok(value.clone()) }, lease.is_due(now))
            }
            Outlook::Coming => (Err(NotHere::Asked(entry)), true),
            Outlook::Failing(wait) if wait.is_zero() => (Err(NotHere::Asked(entry)), true),
            Outlook::Failing(wait) => (Err(NotHere::Failing(wait)), false),
        };
        if let (Err(_), Some(cause)) = (&found, slot.kept.denied(now)) {
            return Err(NotHere::Denied(cause));
        }
        if found.is_err()
            && let Some(wait) = down.filter(|wait| !wait.is_zero())
        {
            return Err(NotHere::Failing(wait));
        }
        let known = slot.kept.is_known();
        if (wanted || replaced) && self.asked.iter().all(|own| own.entry != entry) {
            let paced = !known && self.rate.as_ref().is_some_and(|rate| now < rate.next());
            self.crossed.paced.add(u64::from(paced));
            self.crossed.queued.add(u64::from(self.asked.len() >= AT_ONCE));
            self.line_up(Asked { entry, token: token.into(), with, running: false, known });
        }
        found
    }
}

impl Rate {
    fn next(&self) -> Instant {
        Instant(self.even.0.saturating_sub(BURST))
    }

    fn take(&mut self, now: Instant) {
        self.even = self.even.max(now) + BURST / self.per_second.max(1);
    }

    fn longest_line(&self) -> usize {
        usize::try_from(self.per_second).unwrap_or(usize::MAX).saturating_mul(MOST_SECONDS_IN_LINE)
    }
}

impl<K, W> fmt::Debug for Keyed<K, W> {
    /// Tokens are the keys here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("len", &self.slots.len()).finish_non_exhaustive()
    }
}
