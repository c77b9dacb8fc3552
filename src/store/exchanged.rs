//! Tokens that are had in exchange for a caller's own (RFC 8693): one for each subject token, fetched when a request needs it.
//!
//! Bounded, and kept in this worker alone: a credential of the configuration is worth renewing by itself, a caller's is not.
//! What a provider says of one subject token holds for that one; what makes it fail for all holds for all, so that a provider
//! that is down is asked by one request at a time.

use super::tokens::TokenState;
use super::{Held, Missing, Store, Want};
use crate::io::{Dice, Instant, Now};
use crate::lease::{Cause, Failure, Lease, Outlook, Pace};
use crate::policy::CredentialId;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// One subject token's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(u64);

/// The token that is exchanged.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// As it stands in the request.
    pub token: &'a str,
    /// When it ends, in seconds since 1970, if that is known.
    pub ends: Option<u64>,
}

/// The exchanged tokens of one credential.
pub(super) struct Exchanges {
    pace: Pace,
    /// By subject token. All other inputs are the credential's, and do not change.
    slots: HashMap<Rc<str>, Slot>,
    bytes: usize,
    /// What requests need and is not here yet; few.
    asked: Vec<Asked>,
    last: u64,
    /// How often the provider failed since it last answered; it holds nothing.
    gate: Lease<()>,
}

struct Slot {
    entry: Entry,
    state: TokenState,
    /// The provider does not exchange this one, and is not asked again until then.
    denied: Option<(Cause, Instant)>,
    used: Instant,
}

struct Asked {
    entry: Entry,
    subject: Rc<str>,
    ends: Option<u64>,
}

/// Exchanged tokens of one credential and worker. Two tokens of about 1 KB each: some 2 MB.
const MOST: usize = 1024;

/// The most that their subject tokens may take together.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Fetches at one time: as many as a provider bears from one worker; the other requests wait for their turn.
const AT_ONCE: usize = 50;

/// How long a subject token that was denied is not asked for again: whoever tries it in a loop costs the provider little, and
/// whoever is given the right meanwhile has it soon.
const DENIED_FOR: Duration = Duration::from_secs(5);

impl Exchanges {
    pub(super) fn new(pace: Pace) -> Self {
        let (slots, asked) = (HashMap::new(), Vec::new());
        Self { pace, slots, bytes: 0, asked, last: 0, gate: Lease::new(pace) }
    }

    /// What is to be fetched, or is being fetched.
    pub(super) fn asked(&self) -> impl Iterator<Item = Entry> {
        self.asked.iter().map(|asked| asked.entry)
    }

    pub(super) fn state(&self, entry: Entry) -> Option<&TokenState> {
        self.slots.get(self.key(entry)?).map(|slot| &slot.state)
    }

    pub(super) fn state_mut(&mut self, entry: Entry) -> Option<&mut TokenState> {
        let key = Rc::clone(self.key(entry)?);
        self.slots.get_mut(&key).map(|slot| &mut slot.state)
    }

    /// The subject token of an entry.
    fn key(&self, entry: Entry) -> Option<&Rc<str>> {
        let asked = self.asked.iter().find(|asked| asked.entry == entry).map(|asked| &asked.subject);
        let known = || self.slots.iter().find(|(_, slot)| slot.entry == entry).map(|(subject, _)| subject);
        asked.or_else(known)
    }

    /// The subject token of a fetch, and how long it is good from now on.
    pub(super) fn subject(&self, entry: Entry, unix: u64) -> Option<(&str, Option<Duration>)> {
        let asked = self.asked.iter().find(|asked| asked.entry == entry)?;
        Some((&asked.subject, asked.ends.map(|ends| Duration::from_secs(ends.saturating_sub(unix)))))
    }

    /// When one more fetch may begin, as far as the others let it; none: not before one of them has ended.
    pub(super) fn not_before(&self) -> Option<Instant> {
        let running = self.asked.iter().filter(|asked| self.is_running(asked)).count();
        let (most, at) = match self.gate.failures() {
            0 => (AT_ONCE, Instant::default()),
            _ => (1, self.gate.not_before()),
        };
        (running < most).then_some(at)
    }

    /// A fetch of this entry ended so; `status` is the provider's.
    pub(super) fn ended(
        &mut self,
        entry: Entry,
        failure: Option<&Failure>,
        status: Option<u16>,
        now: Instant,
        dice: &mut Dice,
    ) {
        // What the provider says of a request in particular, it says of one subject token.
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
        let Some(slot) = self.key(entry).cloned().and_then(|key| self.slots.get_mut(&key)) else {
            return;
        };
        let cause = failure.map(|failure| failure.cause);
        let denied = cause.filter(|cause| matches!(cause, Cause::Subject | Cause::Denied));
        slot.denied = denied.map(|cause| (cause, now + DENIED_FOR));
        let again = matches!(slot.state.lease.outlook(now), Outlook::Coming) && denied.is_none();
        if !again {
            self.asked.retain(|asked| asked.entry != entry);
        }
    }

    fn is_running(&self, asked: &Asked) -> bool {
        self.slots.get(&asked.subject).is_some_and(|slot| slot.state.lease.in_flight())
    }

    /// The place of a subject token, made if there is room for it.
    fn slot(&mut self, subject: &str, now: Instant) -> Option<&mut Slot> {
        if !self.slots.contains_key(subject) {
            while self.slots.len() >= MOST || self.bytes.saturating_add(subject.len()) > MOST_BYTES {
                self.forget_one()?;
            }
            self.last = self.last.wrapping_add(1);
            let (entry, state) = (Entry(self.last), TokenState::new(self.pace));
            self.bytes = self.bytes.saturating_add(subject.len());
            self.slots.insert(subject.into(), Slot { entry, state, denied: None, used: now });
        }
        let slot = self.slots.get_mut(subject)?;
        slot.used = now;
        Some(slot)
    }

    /// Makes room: what was used longest ago goes. None when all of it is being fetched.
    fn forget_one(&mut self) -> Option<()> {
        let idle = self.slots.iter().filter(|(_, slot)| self.asked.iter().all(|own| own.entry != slot.entry));
        let (subject, _) = idle.min_by_key(|(_, slot)| slot.used)?;
        let subject = Rc::clone(subject);
        self.slots.remove(&subject);
        self.bytes = self.bytes.saturating_sub(subject.len());
        Some(())
    }

    /// The token for this subject, or the entry that brings it.
    fn get(&mut self, subject: Subject<'_>, now: Instant, may_wait: bool) -> Result<Held, NotHere> {
        let down = match self.gate.outlook(now) {
            Outlook::Failing(wait) => Some(wait),
            Outlook::Good(()) | Outlook::Coming => None,
        };
        let slot = self.slot(subject.token, now).ok_or(NotHere::NoRoom)?;
        let entry = slot.entry;
        let lease = &slot.state.lease;
        let replaced = may_wait && slot.state.is_being_replaced(now);
        let (found, wanted) = match lease.outlook(now) {
            Outlook::Good(held) => {
                (if replaced { Err(NotHere::Asked(entry)) } else { Ok(held.clone()) }, lease.is_due(now))
            }
            Outlook::Coming => (Err(NotHere::Asked(entry)), true),
            Outlook::Failing(wait) if wait.is_zero() => (Err(NotHere::Asked(entry)), true),
            Outlook::Failing(wait) => (Err(NotHere::Failing(wait)), false),
        };
        if let (Err(_), Some((cause, _))) = (&found, slot.denied.filter(|(_, until)| now < *until)) {
            return Err(NotHere::Denied(cause));
        }
        if found.is_err()
            && let Some(wait) = down.filter(|wait| !wait.is_zero())
        {
            return Err(NotHere::Failing(wait));
        }
        if (wanted || replaced) && self.asked.iter().all(|own| own.entry != entry) {
            self.asked.push(Asked { entry, subject: subject.token.into(), ends: subject.ends });
        }
        found
    }
}

enum NotHere {
    Asked(Entry),
    Failing(Duration),
    Denied(Cause),
    NoRoom,
}

impl Store {
    /// The token that the credential gets in exchange for this one.
    pub fn exchanged(
        &mut self,
        credential: CredentialId,
        subject: Subject<'_>,
        now: Now,
        may_wait: bool,
    ) -> Result<Held, Missing> {
        let unreachable = self.until_token_endpoint(credential, now.instant);
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(Missing::Unavailable(Duration::from_secs(1)));
        };
        state.exchanges.get(subject, now.instant, may_wait).map_err(|not_here| {
            match (not_here, unreachable) {
                (NotHere::Denied(cause), _) => Missing::Denied(cause),
                (NotHere::NoRoom, _) => Missing::NoRoom,
                (NotHere::Failing(wait), _) => Missing::Unavailable(wait),
                (NotHere::Asked(_), Some(missing)) => missing,
                (NotHere::Asked(entry), None) => Missing::Wait(Want::Exchanged(credential, entry)),
            }
        })
    }

    /// The subject token of an exchange, and how long it is still good.
    pub(super) fn subject(&self, want: Want, unix: u64) -> Option<(&str, Option<Duration>)> {
        let Want::Exchanged(id, entry) = want else { return None };
        self.credentials.get(id.0)?.exchanges.subject(entry, unix)
    }

    /// An exchange ended; other fetches are no concern of this.
    pub(super) fn ended(
        &mut self,
        want: Want,
        failure: Option<&Failure>,
        status: Option<u16>,
        now: Instant,
        dice: &mut Dice,
    ) {
        if let Want::Exchanged(id, entry) = want
            && let Some(state) = self.credentials.get_mut(id.0)
        {
            state.exchanges.ended(entry, failure, status, now, dice);
        }
    }
}

impl fmt::Debug for Exchanges {
    /// Tokens are the keys here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanges").field("len", &self.slots.len()).finish_non_exhaustive()
    }
}
