//! What the workers of one process leave for each other, so that one of them fetches for all.
//!
//! Every fetched thing has one record on a [`SharedStore`]. A worker that is about to fetch takes
//! the record's seat, for as long as a fetch may take, by compare-and-swap; the others look at the
//! record until something has come of it. A worker that dies in its seat is replaced when its time
//! is over.
//!
//! What stands on the board is somebody else's writing: whatever is odd about it counts as an empty
//! record, and its body is read as strictly as the provider's answer that it is said to be. It does
//! not know what the records are about.

use crate::http::message::MAX_REPLY_BYTES;
use crate::metrics::Tally;
use crate::time::clock::SLEEP_THRESHOLD;
use crate::time::{Instant, Now};
use std::time::Duration;

/// Where the workers of one process leave records for each other.
pub trait SharedStore {
    /// The record under a name, and its version, which is never 0.
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)>;

    /// Writes the record if its version is still this one; 0 if there is none. False when somebody
    /// else was faster.
    fn write(&self, name: &str, record: &[u8], version: u32) -> bool;
}

/// The board of a worker that has no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSharing;

impl SharedStore for NoSharing {
    fn read(&self, _name: &str) -> Option<(Vec<u8>, u32)> {
        None
    }

    fn write(&self, _name: &str, _record: &[u8], _version: u32) -> bool {
        true
    }
}

/// What the workers know of one fetched thing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// When it was written, by the clocks of its worker.
    pub written_at: Now,
    /// Who fetches, until when; 0 is nobody.
    pub lock: (u64, Instant),
    /// When the fetch began that brought the body.
    pub start: Instant,
    /// Failures since then.
    pub failures: u32,
    /// Those since the provider could not be reached.
    pub costly_failures: u32,
    /// When the next fetch may begin.
    pub not_before: Instant,
    /// When it may begin if requests need what it brings.
    pub urgent_not_before: Instant,
    /// Until when the provider asks for patience.
    pub retry_after_until: Instant,
    /// When the last fetch began for the sake of a doubt; 0 is never.
    pub refresh_requested_at: Instant,
    /// The answer's `ETag`; empty when it has none.
    pub etag: Vec<u8>,
    /// The answer's `Cache-Control`.
    pub cache_control: Vec<u8>,
    /// The provider's answer; empty when there is none yet.
    pub body: Vec<u8>,
}

/// The layout of a record; another version of this module may be in the same process.
const LAYOUT: [u8; 4] = *b"m2m3";

/// What is kept of what an answer says of itself, each at most: a byte holds the length, and no
/// provider says half as much.
pub const MAX_HEADER_BYTES: usize = 255;

/// Nothing that a worker writes lies further ahead: the longest `Retry-After` that is obeyed, or
/// the longest fetch.
const MAX_AHEAD: Duration = Duration::from_secs(600);

/// How far the clock of another worker may be ahead: each reads it when its own callback begins.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

impl Record {
    /// The record as it stands on the board.
    pub fn encode(&self) -> Vec<u8> {
        let micros = |at: Instant| u64::try_from(at.0.as_micros()).unwrap_or(u64::MAX).to_le_bytes();
        let mut bytes = LAYOUT.to_vec();
        bytes.extend_from_slice(&micros(self.written_at.instant));
        bytes.extend_from_slice(&self.written_at.unix.to_le_bytes());
        bytes.extend_from_slice(&self.lock.0.to_le_bytes());
        bytes.extend_from_slice(&micros(self.lock.1));
        bytes.extend_from_slice(&micros(self.start));
        bytes.extend_from_slice(&self.failures.to_le_bytes());
        bytes.extend_from_slice(&self.costly_failures.to_le_bytes());
        bytes.extend_from_slice(&micros(self.not_before));
        bytes.extend_from_slice(&micros(self.urgent_not_before));
        bytes.extend_from_slice(&micros(self.retry_after_until));
        bytes.extend_from_slice(&micros(self.refresh_requested_at));
        for said in [&self.etag, &self.cache_control] {
            let said =
                Some(said.as_slice()).filter(|said| said.len() <= MAX_HEADER_BYTES).unwrap_or_default();
            bytes.push(u8::try_from(said.len()).unwrap_or_default());
            bytes.extend_from_slice(said);
        }
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What stands on the board, if a worker can have written it.
    pub fn decode(bytes: &[u8], now: Now) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&LAYOUT)?;
        let written = Now { instant: instant(&mut rest)?, unix: u64::from_le_bytes(take(&mut rest)?) };
        let seat = (u64::from_le_bytes(take(&mut rest)?), instant(&mut rest)?);
        let start = instant(&mut rest)?;
        let failures = u32::from_le_bytes(take(&mut rest)?);
        let burdens = u32::from_le_bytes(take(&mut rest)?);
        let [not_before, urgent, asked_until] =
            [instant(&mut rest)?, instant(&mut rest)?, instant(&mut rest)?];
        let doubted_at = instant(&mut rest)?;
        let (etag, cache_control) = (header_bytes(&mut rest)?, header_bytes(&mut rest)?);
        let record = Self {
            written_at: written,
            lock: seat,
            start,
            failures,
            costly_failures: burdens,
            not_before,
            urgent_not_before: urgent,
            retry_after_until: asked_until,
            refresh_requested_at: doubted_at,
            etag,
            cache_control,
            body: Vec::new(),
        };
        let slept = slept(written, now);
        let mut record = if slept.is_zero() { record } else { record.shifted_back(slept) };
        let (present, latest) = (now.instant + CLOCK_TOLERANCE, now.instant + MAX_AHEAD);
        let past = record.start <= present && record.refresh_requested_at <= present;
        let ahead = [record.lock.1, record.not_before, record.urgent_not_before, record.retry_after_until];
        if !past || ahead.into_iter().any(|at| latest < at) || MAX_REPLY_BYTES < rest.len() {
            return None;
        }
        // What was fetched before the clock began has ended.
        let is_kept = slept.is_zero() || record.start > Instant::default();
        record.body = if is_kept { rest.to_vec() } else { Vec::new() };
        Some(record)
    }

    /// The same, as much earlier.
    fn shifted_back(self, span: Duration) -> Self {
        let earlier = |at: Instant| Instant(at.0.saturating_sub(span));
        Self {
            lock: (self.lock.0, earlier(self.lock.1)),
            start: earlier(self.start),
            not_before: earlier(self.not_before),
            urgent_not_before: earlier(self.urgent_not_before),
            retry_after_until: earlier(self.retry_after_until),
            refresh_requested_at: earlier(self.refresh_requested_at),
            ..self
        }
    }
}

/// How long the machine has slept since then, as far as the reader's own instants do not count it:
/// it may be a new worker, and its instants be those of the bare clock.
fn slept(written: Now, now: Now) -> Duration {
    let by_wall = Duration::from_secs(now.unix).saturating_add(written.instant.0);
    let by_instants = Duration::from_secs(written.unix).saturating_add(now.instant.0);
    let parted = by_wall.saturating_sub(by_instants);
    // The wall clock is given in whole seconds.
    if parted > SLEEP_THRESHOLD.saturating_add(SECOND) {
        parted.saturating_add(SECOND)
    } else {
        Duration::ZERO
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

fn instant(rest: &mut &[u8]) -> Option<Instant> {
    Some(Instant(Duration::from_micros(u64::from_le_bytes(take(rest)?))))
}

fn header_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let [length] = take(rest)?;
    let (said, behind) = rest.split_at_checked(usize::from(length))?;
    *rest = behind;
    Some(said.to_vec())
}

/// One record, as one worker sees it.
#[derive(Debug)]
pub struct FetchLock {
    name: String,
    /// The version that was seen last.
    seen_version: u32,
    /// Until when another worker fetches.
    held_until: Option<Instant>,
    polled_at: Now,
    /// Whether what was seen last is no record, as it is from a time that has not come: the
    /// writer's clocks may be ahead.
    is_from_future: bool,
    /// Records that no worker can have written.
    pub invalid: Tally,
}

impl FetchLock {
    /// The record of this name; there is one from now on, since only one that is there can be
    /// swapped.
    pub fn new(name: String, board: &dyn SharedStore) -> Self {
        if board.read(&name).is_none() {
            board.write(&name, &Record::default().encode(), 0);
        }
        Self {
            name,
            seen_version: 0,
            held_until: None,
            polled_at: Now::default(),
            is_from_future: false,
            invalid: Tally::default(),
        }
    }

    /// The record's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands there, unless it has been seen already.
    pub fn poll(&mut self, board: &dyn SharedStore, me: u64, now: Now) -> Option<Record> {
        self.polled_at = now;
        let (bytes, version) = board
            .read(&self.name)
            .filter(|(_, version)| *version != self.seen_version || self.is_from_future)?;
        let is_news = version != self.seen_version;
        self.seen_version = version;
        let record = Record::decode(&bytes, now);
        self.is_from_future = record.is_none();
        if self.is_from_future && !is_news {
            return None;
        }
        self.invalid.add(u64::from(self.is_from_future));
        let record = record.unwrap_or_default();
        let (holder, until) = record.lock;
        self.held_until = (holder != 0 && holder != me && now.instant < until).then_some(until);
        Some(record)
    }

    /// Until when another worker fetches.
    pub fn held_by_other_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| now < *until)
    }

    /// When it was looked at last.
    pub fn polled_at(&self) -> Instant {
        self.polled_at.instant
    }

    /// Takes the seat, if the record is still as it was seen last.
    pub fn acquire(&mut self, board: &dyn SharedStore, me: u64, until: Instant, now: Instant) -> bool {
        self.update(board, now, |record| record.lock = (me, until))
    }

    /// Leaves what came of a fetch. False when somebody else has written meanwhile.
    pub fn publish(
        &mut self,
        board: &dyn SharedStore,
        now: Instant,
        change: impl FnOnce(&mut Record),
    ) -> bool {
        self.update(board, now, |record| {
            change(record);
            record.lock = Default::default();
        })
    }

    fn update(&mut self, board: &dyn SharedStore, now: Instant, change: impl FnOnce(&mut Record)) -> bool {
        let Some((bytes, version)) = board.read(&self.name) else {
            return board.write(&self.name, &[], 0);
        };
        if version != self.seen_version {
            return false;
        }
        let since = now.since(self.polled_at.instant);
        let now = Now { instant: now, unix: self.polled_at.unix.saturating_add(since.as_secs()) };
        let mut record = Record::decode(&bytes, now).unwrap_or_default();
        change(&mut record);
        record.written_at = now;
        let written = record.encode();
        let done = board.write(&self.name, &written, version);
        // What this worker wrote itself needs no second look.
        if let Some((_, version)) = board.read(&self.name).filter(|(bytes, _)| done && *bytes == written) {
            (self.seen_version, self.is_from_future) = (version, false);
        }
        done
    }
}
