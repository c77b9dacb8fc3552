//! One fetch per process: what this worker reads off the board, and what it leaves there for the
//! others.

use super::adoption::Adopted;
use super::{FetchKey, Store};
use crate::http::message::{HttpReply, MessageHead};
use crate::rng::Rng;
use crate::store::lease::Schedule;
use crate::store::shared_record::{FetchLock, MAX_HEADER_BYTES, Record};
use crate::time::{Instant, Now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long another worker's fetch may take before this one looks again, while requests wait for
/// it: a loopback fetch takes no longer, and a look costs a microsecond.
const POLL_BUSY: Duration = Duration::from_millis(5);

/// The same while nobody waits.
const POLL_IDLE: Duration = Duration::from_secs(1);

impl Store {
    /// Adopts what other workers have left; returns what has changed, with its log line if it is
    /// good.
    pub fn poll(&mut self, now: Now, rng: &mut Rng) -> Vec<(FetchKey, Option<String>)> {
        let mut locks = std::mem::take(&mut self.locks);
        let mut changed = Vec::new();
        for (key, lock) in &mut locks {
            let Some(record) = lock.poll(&*self.shared, self.worker_id, now) else { continue };
            let reply = reply_of(&record);
            match key.fetch().adopt(self, &record, &reply, now.instant, rng) {
                Some(Adopted::Value(news)) => changed.push((*key, Some(news))),
                Some(Adopted::Backoff) => changed.push((*key, None)),
                None => {}
            }
        }
        self.locks = locks;
        changed
    }

    /// Takes the lock of a fetch that is about to begin; false when another worker has it.
    pub(super) fn acquire_lock(&mut self, key: FetchKey, now: Instant) -> bool {
        // As long as the fetch may take, until its schedule counts it as lost.
        let longest = key.fetch().schedule(self).map(|schedule| schedule.longest_fetch(now));
        let until = now + longest.unwrap_or_default();
        let (shared, me) = (&*self.shared, self.worker_id);
        let lock = self.locks.iter_mut().find(|(own, _)| *own == key);
        lock.is_none_or(|(_, lock)| lock.acquire(shared, me, until, now))
    }

    /// Leaves what came of a fetch: its answer, or that it failed.
    pub(super) fn publish(&mut self, key: FetchKey, answer: Option<&HttpReply>, now: Instant) {
        let fetch = key.fetch();
        let Some(standing) = fetch.schedule(self).map(record_of) else {
            return;
        };
        let etag = fetch.etag(self).to_owned();
        let long =
            |reply: &&HttpReply| ["etag", "cache-control"].iter().any(|name| is_long(&reply.head, name));
        if fetch.kind().counts_long_headers {
            self.dropped_headers.add(u64::from(answer.as_ref().is_some_and(long)));
        }
        let shared = &*self.shared;
        let lock = self.locks.iter_mut().find(|(own, _)| *own == key);
        let mut lost = false;
        // When somebody else has written meanwhile, this fetch took longer than its lock was its
        // own: theirs counts.
        let _ = lock.is_none_or(|(_, lock)| {
            lock.publish(shared, now, |record| {
                let old = std::mem::replace(record, standing);
                let unchanged = answer.is_some_and(|reply| reply.status == Some(304));
                if let Some(HttpReply { head, body: Some(body), .. }) = answer.filter(|_| !unchanged) {
                    record.body = fetch.shared_body(body);
                    record.etag = header_bytes(head, "etag");
                    record.cache_control = header_bytes(head, "cache-control");
                    return;
                }
                // What is unchanged is good from this fetch on, if it is what the provider spoke
                // of: another may have put an older one there, or destroyed it. What failed leaves
                // the one before.
                lost = unchanged && old.etag != etag;
                if lost {
                    return;
                }
                record.start = if unchanged { record.start } else { old.start };
                (record.body, record.etag, record.cache_control) = (old.body, old.etag, old.cache_control);
                // RFC 9111 section 4.3.4: what it says of itself now counts for what was kept.
                let said_now = answer.filter(|reply| reply.head.first("cache-control").is_some());
                if let Some(reply) = said_now {
                    record.cache_control = header_bytes(&reply.head, "cache-control");
                }
            })
        });
        // The whole set is asked for next time, or no worker would have it from another until the
        // provider changes it.
        if lost {
            fetch.forget_etag(self);
        }
    }

    /// The records of everything that is fetched, by name.
    pub fn records(&self) -> impl Iterator<Item = (FetchKey, &str)> {
        self.locks.iter().map(|(key, lock)| (*key, lock.name()))
    }

    /// This worker is gone: whatever it was about to fetch is another's to fetch.
    pub fn retire(&mut self, now: Instant) {
        let mut running = self.fetch_keys();
        running.retain(|key| key.fetch().schedule(self).is_some_and(Schedule::in_flight));
        for key in running {
            self.publish(key, None, now);
        }
    }

    /// Takes the tokens out of the records that no configuration of this worker uses any more:
    /// Envoy forgets no record. What another worker still uses it has in its own memory. One that
    /// has never had the token, such as the instance on which Envoy tries a configuration, leaves
    /// the record to those that have.
    pub fn remove_records(&mut self, is_used: impl Fn(&str) -> bool, now: Now) {
        let mut locks = std::mem::take(&mut self.locks);
        for (key, lock) in &mut locks {
            let state = key.fetch().token().and_then(|token| token.state(self));
            let has = state.is_some_and(|state| state.lease.last_value().is_some());
            if has && !is_used(lock.name()) {
                lock.poll(&*self.shared, self.worker_id, now);
                if lock.held_by_other_until(now.instant).is_none() {
                    lock.publish(&*self.shared, now.instant, |record| *record = Record::default());
                }
            }
        }
        self.locks = locks;
    }

    /// Whether another worker fetches this.
    pub(super) fn is_locked_by_other(&self, key: FetchKey, now: Instant) -> bool {
        self.lock(key).is_some_and(|lock| lock.held_by_other_until(now).is_some())
    }

    /// When to look at the board again, while another worker fetches this.
    pub(super) fn next_poll(&self, key: FetchKey, now: Instant, waited: bool) -> Option<Instant> {
        let lock = self.lock(key)?;
        let look = lock.polled_at() + if waited { POLL_BUSY } else { POLL_IDLE };
        Some(lock.held_by_other_until(now)?.min(look))
    }

    /// The name of the record: a fingerprint of all that decides what is fetched. So a new
    /// configuration finds what is still good for it, and a changed credential does not.
    pub(super) fn record_name(&self, key: FetchKey) -> String {
        let mut hash = Sha256::new();
        for part in key.fetch().identity(self) {
            // Lengths first, so that no two lists of parts run into the same text.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        format!("m2m_auth.{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
    }

    fn lock(&self, key: FetchKey) -> Option<&FetchLock> {
        self.locks.iter().find(|(own, _)| *own == key).map(|(_, lock)| lock)
    }
}

/// How the fetching of something stands, as a record without a body.
fn record_of(schedule: &Schedule) -> Record {
    let backoff = schedule.backoff();
    Record {
        start: schedule.fetched_at().unwrap_or_default(),
        failures: backoff.failures,
        costly_failures: backoff.costly_failures,
        not_before: backoff.not_before,
        urgent_not_before: backoff.urgent_not_before,
        retry_after_until: backoff.retry_after_until,
        refresh_requested_at: schedule.refresh_requested_at().unwrap_or_default(),
        ..Record::default()
    }
}

/// What another worker has left, as if the provider had answered it here.
fn reply_of(record: &Record) -> HttpReply {
    let fields = [("etag", &record.etag), ("cache-control", &record.cache_control)];
    let head = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    HttpReply { status: Some(200), head, body: Some(record.body.clone()), ..HttpReply::default() }
}

fn is_long(head: &MessageHead, name: &str) -> bool {
    head.first(name).is_some_and(|value| value.len() > MAX_HEADER_BYTES)
}

/// What an answer says of itself; what is longer than any sound one is nothing.
fn header_bytes(head: &MessageHead, name: &str) -> Vec<u8> {
    head.first(name).filter(|_| !is_long(head, name)).unwrap_or_default().to_vec()
}
