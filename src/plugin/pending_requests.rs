//! The requests that wait, in the order of their coming; and those that need not wait any more,
//! until it is their turn.
//!
//! It holds them and counts them. What a request waits for, and what becomes of it, is decided
//! elsewhere.

use crate::dpop::verify::ReplayKey;
use crate::http::message::{MessageHead, RequestId};
use crate::policy;
use crate::store::FetchKey;
use crate::time::Instant;
use std::collections::VecDeque;

/// Requests that are answered or resumed between two ticks. The host answers each of them inside
/// the callback that answered the one before: about 300 such answers are as many as the VM's stack
/// holds, and fewer behind many other filters.
pub(super) const MAX_PER_TICK: usize = 64;

/// Requests of one issuer that wait for a key that is not among its keys: more than a provider's
/// rotation brings in the milliseconds of a fetch, and each of them may be made up.
pub(super) const MAX_UNKNOWN_KEYS: usize = 64;

/// What the host reads of a body while its request is held: Envoy's default for
/// `per_connection_buffer_limit_bytes`.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One request that waits.
pub(super) struct PendingRequest {
    pub(super) id: RequestId,
    pub(super) head: MessageHead,
    pub(super) waiting_for: FetchKey,
    pub(super) arrived_at: Instant,
    pub(super) deadline: Instant,
    /// The proof that it has used.
    pub(super) consumed_proof: Option<ReplayKey>,
    /// Whether its caller has been verified.
    pub(super) is_verified: bool,
    /// Whether it waits for a key that is not among those that are there.
    pub(super) unknown_key: bool,
    /// Whether the worker that it came to was replaced.
    pub(super) drained: bool,
}

/// A bound that leaves no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueFull {
    /// As many wait for this thing as may.
    Requests,
    /// As many wait for unknown keys of this issuer as may.
    UnknownKeys,
    /// Those whose callers are not known take up as much memory as they may.
    Bytes,
}

/// All that are held.
#[derive(Default)]
pub(super) struct RequestQueue {
    /// The number of the last that came.
    last: u64,
    /// In the order of their numbers.
    entries: VecDeque<QueueEntry>,
    /// In the order of their turns; those that have gone since are left out then.
    released: VecDeque<u64>,
    /// How many wait for each thing, in each line, and for unknown keys.
    by_key: FetchCounts,
    by_queue: FetchCounts,
    unknown_keys: FetchCounts,
    /// What those take up whose callers are not known.
    bytes: usize,
    /// Of that, their bodies.
    body_bytes: usize,
    /// And of them, those that wait for unknown keys.
    unknown_bytes: usize,
}

struct QueueEntry {
    number: u64,
    request: PendingRequest,
    bytes: usize,
    released: bool,
}

impl PendingRequest {
    /// What it takes up: its headers, and of its body what the host reads while it is held.
    fn bytes(&self) -> usize {
        if self.is_verified { 0 } else { self.head.size().saturating_add(self.body_bytes()) }
    }

    fn body_bytes(&self) -> usize {
        if self.is_verified { 0 } else { body_bytes(&self.head) }
    }
}

impl RequestQueue {
    /// Whether this one may wait, beside all that do.
    pub(super) fn check_capacity(
        &self,
        waiter: &PendingRequest,
        bounds: &policy::PendingRequests,
    ) -> Result<(), QueueFull> {
        // Requests that wait for tokens of one credential share one queue, whatever the subject.
        if self.by_queue.of(waiter.waiting_for.queue_key()) >= bounds.max {
            Err(QueueFull::Requests)
        } else if waiter.unknown_key && self.unknown_keys.of(waiter.waiting_for) >= MAX_UNKNOWN_KEYS {
            Err(QueueFull::UnknownKeys)
        } else if !waiter.is_verified && !self.bytes_for(waiter, bounds.max_bytes) {
            Err(QueueFull::Bytes)
        } else {
            Ok(())
        }
    }

    /// Whether the budget has room for this one. Bodies get three quarters of it, so that those
    /// without one still wait beside them. Those that wait for unknown keys get a quarter, so that
    /// a flood of made-up ones leaves the rest to the callers of other issuers.
    fn bytes_for(&self, waiter: &PendingRequest, most: usize) -> bool {
        let bytes = waiter.bytes();
        let unknown = self.unknown_bytes.saturating_add(if waiter.unknown_key { bytes } else { 0 });
        let own_body = waiter.body_bytes();
        let bodies_fit = own_body == 0 || self.body_bytes.saturating_add(own_body) <= most / 4 * 3;
        self.bytes.saturating_add(bytes) <= most && unknown <= most / 4 && bodies_fit
    }

    /// It waits, behind all that do.
    pub(super) fn enqueue(&mut self, waiter: PendingRequest) {
        self.last = self.last.wrapping_add(1);
        self.requeue(self.last, waiter);
    }

    /// It waits, at the place that it had.
    pub(super) fn requeue(&mut self, number: u64, waiter: PendingRequest) {
        let bytes = waiter.bytes();
        self.bytes = self.bytes.saturating_add(bytes);
        self.body_bytes = self.body_bytes.saturating_add(waiter.body_bytes());
        if waiter.unknown_key {
            self.unknown_bytes = self.unknown_bytes.saturating_add(bytes);
        }
        self.count(&waiter, 1);
        let place = self.entries.partition_point(|held| held.number < number);
        self.entries.insert(place, QueueEntry { number, request: waiter, bytes, released: false });
    }

    /// Those that wait for this need not wait any more.
    pub(super) fn release(&mut self, want: FetchKey) {
        if self.waits_for(want) {
            self.release_matching(|waiter| waiter.waiting_for == want);
        }
    }

    /// Those whose time is up do not wait any more.
    pub(super) fn release_due(&mut self, now: Instant) {
        if self.deadline().is_some_and(|first| first <= now) {
            self.release_matching(|waiter| waiter.deadline <= now);
        }
    }

    /// Nobody waits any more: the worker is replaced.
    pub(super) fn drain(&mut self) {
        self.release_matching(|_| true);
        for held in &mut self.entries {
            held.request.drained = true;
        }
    }

    fn release_matching(&mut self, concerned: impl Fn(&PendingRequest) -> bool) {
        let mut held = std::mem::take(&mut self.entries);
        for held in held.iter_mut().filter(|held| !held.released && concerned(&held.request)) {
            held.released = true;
            self.released.push_back(held.number);
            self.count(&held.request, -1);
        }
        self.entries = held;
    }

    /// Whose turn it is, and the place that it had.
    pub(super) fn pop_released(&mut self) -> Option<(u64, PendingRequest)> {
        while let Some(number) = self.released.pop_front() {
            let place = self.entries.binary_search_by_key(&number, |held| held.number).ok();
            if let Some(held) = place.and_then(|place| self.entries.remove(place)) {
                self.release_bytes(&held);
                return Some((number, held.request));
            }
        }
        None
    }

    /// It has gone, and does not wait for this any more.
    pub(super) fn cancel(&mut self, id: RequestId) -> Option<FetchKey> {
        let place = self.entries.iter().position(|held| held.request.id == id);
        let held = place.and_then(|place| self.entries.remove(place))?;
        self.release_bytes(&held);
        if !held.released {
            self.count(&held.request, -1);
        }
        Some(held.request.waiting_for)
    }

    fn release_bytes(&mut self, held: &QueueEntry) {
        self.bytes = self.bytes.saturating_sub(held.bytes);
        self.body_bytes = self.body_bytes.saturating_sub(held.request.body_bytes());
        if held.request.unknown_key {
            self.unknown_bytes = self.unknown_bytes.saturating_sub(held.bytes);
        }
    }

    /// Whether anybody waits for this.
    pub(super) fn waits_for(&self, want: FetchKey) -> bool {
        self.by_key.of(want) > 0
    }

    /// Whether it is somebody's turn.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// When the time of the first is up; in the order of their coming, as each has the same time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.entries.iter().find(|held| !held.released).map(|held| held.request.deadline)
    }

    fn count(&mut self, waiter: &PendingRequest, by: isize) {
        self.by_key.add(waiter.waiting_for, by);
        self.by_queue.add(waiter.waiting_for.queue_key(), by);
        if waiter.unknown_key {
            self.unknown_keys.add(waiter.waiting_for, by);
        }
    }
}

/// How many wait for each thing; few things.
#[derive(Default)]
struct FetchCounts(Vec<(FetchKey, usize)>);

impl FetchCounts {
    fn of(&self, want: FetchKey) -> usize {
        self.0.iter().find(|(own, _)| *own == want).map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, want: FetchKey, by: isize) {
        let Some(place) = self.0.iter().position(|(own, _)| *own == want) else {
            self.0.push((want, usize::try_from(by).unwrap_or_default()));
            return;
        };
        if let Some((_, count)) = self.0.get_mut(place) {
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.0.swap_remove(place);
            }
        }
    }
}

/// What the host reads of a body: all of it, up to its limit. Where the length is not declared, the
/// limit.
fn body_bytes(head: &MessageHead) -> usize {
    if !head.has_body() {
        return 0;
    }
    let mut lengths = head.all("content-length");
    let declared = match (lengths.next(), lengths.next(), head.first("transfer-encoding")) {
        (Some(length), None, None) => std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    declared.unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CredentialId, IssuerId};
    use crate::store::{IssuerKeys, OwnToken};
    use std::time::Duration;

    const KEYS: FetchKey = FetchKey::Keys(IssuerKeys(IssuerId::in_tests(0)));
    const TOKEN: FetchKey = FetchKey::Token(OwnToken(CredentialId::in_tests(0)));
    const BOUNDS: policy::PendingRequests =
        policy::PendingRequests { timeout: Duration::from_secs(5), max: 100, max_bytes: 4 * 1024 * 1024 };

    fn waiter(id: u32, want: FetchKey) -> PendingRequest {
        let (since, deadline) = (Instant::default(), Instant(Duration::from_secs(u64::from(id))));
        let head = MessageHead::default().without_body();
        let (id, consumed_proof, is_known) = (RequestId(id), None, false);
        PendingRequest {
            id,
            head,
            waiting_for: want,
            arrived_at: since,
            deadline,
            consumed_proof,
            is_verified: is_known,
            unknown_key: false,
            drained: false,
        }
    }

    fn turns(waiters: &mut RequestQueue) -> Vec<u32> {
        std::iter::from_fn(|| waiters.pop_released()).map(|(_, waiter)| waiter.id.0).collect()
    }

    #[test]
    fn turns_are_taken_in_the_order_of_coming_and_those_that_have_gone_are_left_out() {
        let mut waiters = RequestQueue::default();
        for id in 1..=6 {
            waiters.enqueue(waiter(id, if id % 2 == 0 { KEYS } else { TOKEN }));
        }
        waiters.release(KEYS);
        waiters.release(TOKEN);
        waiters.cancel(RequestId(4));
        waiters.cancel(RequestId(99));
        assert!(waiters.has_released());
        assert_eq!(turns(&mut waiters), [2, 6, 1, 3, 5]);
        assert!(
            !waiters.has_released()
                && waiters.bytes == 0
                && waiters.entries.is_empty()
                && waiters.by_key.0.is_empty()
        );
    }

    #[test]
    fn the_one_that_waits_again_keeps_its_place() {
        let mut waiters = RequestQueue::default();
        for id in 1..=3 {
            waiters.enqueue(waiter(id, KEYS));
        }
        waiters.release(KEYS);
        let (number, first) = waiters.pop_released().unwrap();
        waiters.requeue(number, PendingRequest { waiting_for: TOKEN, ..first });
        waiters.enqueue(waiter(4, TOKEN));
        assert_eq!(turns(&mut waiters), [2, 3]);
        waiters.release(TOKEN);
        assert_eq!(turns(&mut waiters), [1, 4]);
    }

    #[test]
    fn those_whose_time_is_up_are_released_and_the_others_go_on_waiting() {
        let mut waiters = RequestQueue::default();
        for id in 1..=3 {
            waiters.enqueue(waiter(id, KEYS));
        }
        assert_eq!(waiters.deadline(), Some(Instant(Duration::from_secs(1))));
        waiters.release_due(Instant(Duration::from_secs(2)));
        assert_eq!(waiters.deadline(), Some(Instant(Duration::from_secs(3))));
        assert_eq!(turns(&mut waiters), [1, 2]);
        assert!(waiters.waits_for(KEYS) && !waiters.waits_for(TOKEN));
    }

    #[test]
    fn few_wait_for_unknown_keys_and_whoever_goes_gives_its_place_free() {
        let mut waiters = RequestQueue::default();
        let unknown = |id| PendingRequest { unknown_key: true, ..waiter(id, KEYS) };
        for id in 0..64 {
            assert_eq!(waiters.check_capacity(&unknown(id), &BOUNDS), Ok(()));
            waiters.enqueue(unknown(id));
        }
        assert_eq!(waiters.check_capacity(&unknown(64), &BOUNDS), Err(QueueFull::UnknownKeys));
        assert_eq!(
            waiters.check_capacity(&waiter(64, KEYS), &BOUNDS),
            Ok(()),
            "whose key may be among those to come"
        );
        let other = PendingRequest {
            unknown_key: true,
            ..waiter(64, FetchKey::Keys(IssuerKeys(IssuerId::in_tests(1))))
        };
        assert_eq!(waiters.check_capacity(&other, &BOUNDS), Ok(()), "of another issuer");
        waiters.cancel(RequestId(7));
        assert_eq!(waiters.check_capacity(&unknown(64), &BOUNDS), Ok(()));
    }

    #[test]
    fn those_whose_callers_are_not_known_share_one_budget_of_bytes_until_their_turn() {
        let mut waiters = RequestQueue::default();
        let large = |id, is_known| {
            let head: MessageHead = [("content-length", "5000000")].into_iter().collect();
            PendingRequest { head, is_verified: is_known, ..waiter(id, KEYS) }
        };
        for id in 0..3 {
            assert_eq!(waiters.check_capacity(&large(id, false), &BOUNDS), Ok(()));
            waiters.enqueue(large(id, false));
        }
        assert_eq!(
            waiters.check_capacity(&large(3, false), &BOUNDS),
            Err(QueueFull::Bytes),
            "three quarters are for bodies"
        );
        assert_eq!(waiters.check_capacity(&large(3, true), &BOUNDS), Ok(()));
        assert_eq!(waiters.check_capacity(&waiter(3, KEYS), &BOUNDS), Ok(()));
        waiters.release(KEYS);
        assert_eq!(
            waiters.check_capacity(&large(3, false), &BOUNDS),
            Err(QueueFull::Bytes),
            "it is not their turn yet"
        );
        while waiters.pop_released().is_some() {}
        assert_eq!(waiters.check_capacity(&large(3, false), &BOUNDS), Ok(()));
        assert_eq!((waiters.bytes, waiters.body_bytes), (0, 0));
    }

    #[test]
    fn of_a_body_counts_what_is_declared_up_to_what_the_host_reads() {
        let of = |pairs: &[(&str, &str)]| body_bytes(&pairs.iter().copied().collect());
        assert_eq!(of(&[("content-length", "0")]), 0);
        assert_eq!(of(&[("content-length", "1000")]), 1000);
        for all in [
            &[][..],
            &[("content-length", "1048577")],
            &[("content-length", "99999999999999999999999")],
            &[("content-length", "-1")],
            &[("content-length", "")],
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(of(all), BUFFER_BYTES, "{all:?}");
        }
        let head: MessageHead = [("content-length", "1000")].into_iter().collect();
        assert_eq!(body_bytes(&head.without_body()), 0);
    }
}
