//! One fetch per process: what this worker reads off the board, and what it leaves there for the others.

use super::responses::FetchResult;
use super::{FetchKey, Keys, Store};
use crate::http::message::{HttpReply, MessageHead};
use crate::oauth::discovery::EndpointClusters;
use crate::oauth::token_response;
use crate::policy::Issuer;
use crate::rng::Rng;
use crate::store::lease::{Backoff, Lease};
use crate::store::shared_record::{FetchLock, MAX_HEADER_BYTES, Record};
use crate::time::{Instant, Now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long another worker's fetch may take before this one looks again, while requests wait for it: a loopback fetch takes
/// no longer, and a look costs a microsecond.
const POLL_BUSY: Duration = Duration::from_millis(5);

/// The same while nobody waits.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// What a record brought.
enum Adopted {
    /// A value, and the news of it.
    Value(String),
    /// Another worker's failure, or its end.
    Backoff,
}

impl Store {
    /// Adopts what other workers have left; returns what has changed, with its log line if it is good.
    pub fn poll(&mut self, now: Now, dice: &mut Rng) -> Vec<(FetchKey, Option<String>)> {
        let mut seats = std::mem::take(&mut self.locks);
        let mut changed = Vec::new();
        for (want, seat) in &mut seats {
            if let Some(record) = seat.poll(&*self.shared, self.worker_id, now) {
                match self.adopt(*want, &record, now.instant, dice) {
                    Some(Adopted::Value(news)) => changed.push((*want, Some(news))),
                    Some(Adopted::Backoff) => changed.push((*want, None)),
                    None => {}
                }
            }
        }
        self.locks = seats;
        changed
    }

    /// Takes over what another worker has fetched, or how it failed. None when there is nothing new in it.
    fn adopt(&mut self, want: FetchKey, record: &Record, now: Instant, dice: &mut Rng) -> Option<Adopted> {
        let fields = [("etag", &record.etag), ("cache-control", &record.cache_control)];
        let head = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let reply =
            HttpReply { status: Some(200), head, body: Some(record.body.clone()), ..HttpReply::default() };
        match want {
            FetchKey::Metadata(id) => {
                let read = self.read_metadata(id, &reply, dice);
                let state = self.issuers.get_mut(id.0)?;
                let adopted = adopt_record(&mut state.metadata, record, read, now);
                if adopted.is_some() {
                    state.moved_until = Instant::default();
                }
                adopted
            }
            FetchKey::Keys(id) => {
                let read = self.read_keys(id, &reply, now, dice);
                let state = self.issuers.get_mut(id.0)?;
                state.change_keys(now, |lease| adopt_record(lease, record, read, now))
            }
            FetchKey::Token(_) | FetchKey::Exchanged(..) => {
                let read = self.read_token(want, &reply, 0, dice);
                self.token_state_mut(want)?.update(|lease| adopt_record(lease, record, read, now))
            }
            // What is fetched for one caller's token has no record.
            FetchKey::Introspection(..) => None,
        }
    }

    /// Takes the seat of a fetch that is about to begin; false when another worker has it.
    pub(super) fn acquire_lock(&mut self, want: FetchKey, now: Instant) -> bool {
        // As long as the fetch may take, until its lease counts it as lost.
        let until = now + self.longest(want, now);
        let (board, me) = (&*self.shared, self.worker_id);
        let seat = self.locks.iter_mut().find(|(own, _)| *own == want);
        seat.is_none_or(|(_, seat)| seat.acquire(board, me, until, now))
    }

    /// Leaves what came of a fetch: its answer, or that it failed.
    pub(super) fn publish(&mut self, want: FetchKey, answer: Option<&HttpReply>, now: Instant) {
        let Some(standing) = self.lease_record(want) else {
            return;
        };
        let etag = match want {
            FetchKey::Keys(id) => {
                self.issuers.get(id.0).and_then(|state| state.keys.last_value()).map_or(&[][..], Keys::etag)
            }
            _ => &[],
        };
        let long =
            |reply: &&HttpReply| ["etag", "cache-control"].iter().any(|name| is_long(&reply.head, name));
        self.dropped_headers.add(u64::from(answer.as_ref().is_some_and(long)));
        let board = &*self.shared;
        let seat = self.locks.iter_mut().find(|(own, _)| *own == want);
        let mut lost = false;
        // When somebody else has written meanwhile, this fetch took longer than its seat was its own: theirs counts.
        let _ = seat.is_none_or(|(_, seat)| {
            seat.publish(board, now, |record| {
                let old = std::mem::replace(record, standing);
                let unchanged = answer.is_some_and(|reply| reply.status == Some(304));
                if let Some(HttpReply { head, body: Some(body), .. }) = answer.filter(|_| !unchanged) {
                    // What the provider says beside the token, others have no use for.
                    let is_token = want.credential().is_some();
                    record.body = if is_token { token_response::minimal_body(body) } else { body.clone() };
                    record.etag = header_bytes(head, "etag");
                    record.cache_control = header_bytes(head, "cache-control");
                    return;
                }
                // What is unchanged is good from this fetch on, if it is what the provider spoke of: another may have put an
                // older one there, or destroyed it. What failed leaves the one before.
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
        // The whole set is asked for next time, or no worker would have it from another until the provider changes it.
        if let (true, FetchKey::Keys(id)) = (lost, want) {
            let held = self.issuers.get_mut(id.0).and_then(|state| state.keys.last_value_mut());
            held.map(Keys::forget_etag).unwrap_or_default();
        }
    }

    /// The records of everything that is fetched, by name.
    pub fn records(&self) -> impl Iterator<Item = (FetchKey, &str)> {
        self.locks.iter().map(|(want, seat)| (*want, seat.name()))
    }

    /// This worker is gone: whatever it was about to fetch is another's to fetch.
    pub fn retire(&mut self, now: Instant) {
        let running: Vec<FetchKey> = self.fetch_keys().filter(|want| self.in_flight(*want)).collect();
        for want in running {
            self.publish(want, None, now);
        }
    }

    /// Takes the tokens out of the records that no configuration of this worker uses any more: Envoy forgets no record. What
    /// another worker still uses it has in its own memory. One that has never had the token, such as the instance on which Envoy
    /// tries a configuration, leaves the record to those that have.
    pub fn remove_records(&mut self, is_used: impl Fn(&str) -> bool, now: Now) {
        let mut seats = std::mem::take(&mut self.locks);
        for (want, seat) in &mut seats {
            let has = self.token_state(*want).is_some_and(|state| state.lease.last_value().is_some());
            if has && !is_used(seat.name()) {
                seat.poll(&*self.shared, self.worker_id, now);
                if seat.held_by_other_until(now.instant).is_none() {
                    seat.publish(&*self.shared, now.instant, |record| *record = Record::default());
                }
            }
        }
        self.locks = seats;
    }

    /// Whether another worker fetches this.
    pub(super) fn is_locked_by_other(&self, want: FetchKey, now: Instant) -> bool {
        self.lock(want).is_some_and(|seat| seat.held_by_other_until(now).is_some())
    }

    /// When to look at the board again, while another worker fetches this.
    pub(super) fn next_poll(&self, want: FetchKey, now: Instant, waited: bool) -> Option<Instant> {
        let seat = self.lock(want)?;
        let look = seat.polled_at() + if waited { POLL_BUSY } else { POLL_IDLE };
        Some(seat.held_by_other_until(now)?.min(look))
    }

    /// The name of the record: a fingerprint of all that decides what is fetched. So a new configuration finds what is still
    /// good for it, and a changed credential does not.
    pub(super) fn record_name(&self, want: FetchKey) -> String {
        let mut parts: Vec<&[u8]> = Vec::new();
        match want {
            FetchKey::Introspection(..) => {}
            FetchKey::Metadata(id) => {
                parts.push(b"metadata");
                parts.extend(self.policy.issuers.get(id.0).into_iter().flat_map(identity));
            }
            FetchKey::Keys(id) => {
                parts.push(b"keys");
                parts.extend(self.policy.issuers.get(id.0).into_iter().flat_map(identity));
            }
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => {
                let credential = self.policy.credentials.get(id.0);
                let issuer = credential.and_then(|credential| self.policy.issuers.get(credential.issuer.0));
                parts.push(b"token");
                parts.extend(issuer.into_iter().flat_map(identity));
                parts.extend(credential.into_iter().flat_map(|credential| credential.grant.fingerprint()));
                // A bound token is of no use to a worker with another key, and no other worker has this one.
                let key = self
                    .dpop_nonces
                    .thumbprint()
                    .into_iter()
                    .filter(|_| credential.is_some_and(|own| own.grant.dpop_bound));
                parts.extend(key.flat_map(|thumbprint| [&b"bound"[..], thumbprint.as_bytes()]));
            }
        }
        let mut hash = Sha256::new();
        for part in parts {
            // Lengths first, so that no two lists of parts run into the same text.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        format!("m2m_auth.{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
    }

    fn longest(&self, want: FetchKey, now: Instant) -> Duration {
        let timeout = match want {
            FetchKey::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.longest_fetch(now)),
            FetchKey::Keys(id) => self.issuers.get(id.0).map(|state| state.keys.longest_fetch(now)),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => {
                self.token_state(want).map(|state| state.lease.longest_fetch(now))
            }
            FetchKey::Introspection(id, entry) => {
                self.answer(id, entry).map(|lease| lease.longest_fetch(now))
            }
        };
        timeout.unwrap_or_default()
    }

    fn lock(&self, want: FetchKey) -> Option<&FetchLock> {
        self.locks.iter().find(|(own, _)| *own == want).map(|(_, seat)| seat)
    }

    /// How the fetching of this stands, as a record without a body.
    fn lease_record(&self, want: FetchKey) -> Option<Record> {
        fn of<T>(lease: &Lease<T>) -> Record {
            let Backoff {
                failures,
                costly_failures: burdens,
                not_before,
                urgent_not_before: urgent,
                retry_after_until: asked_until,
            } = lease.backoff();
            Record {
                start: lease.fetched_at().unwrap_or_default(),
                failures,
                costly_failures: burdens,
                not_before,
                urgent_not_before: urgent,
                retry_after_until: asked_until,
                refresh_requested_at: lease.refresh_requested_at().unwrap_or_default(),
                ..Record::default()
            }
        }
        Some(match want {
            FetchKey::Metadata(id) => of(&self.issuers.get(id.0)?.metadata),
            FetchKey::Keys(id) => of(&self.issuers.get(id.0)?.keys),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => of(&self.token_state(want)?.lease),
            FetchKey::Introspection(..) => return None,
        })
    }
}

/// Where an issuer's things are fetched, and what is believed of the answers.
fn identity(issuer: &Issuer) -> Vec<&[u8]> {
    let mut parts: Vec<&str> = issuer.profile.names.iter().map(|name| name.iss.as_str()).collect();
    for endpoint in [&issuer.jwks_uri, &issuer.token_endpoint, &issuer.introspection_endpoint] {
        parts.push(if endpoint.is_some() { "given" } else { "found" });
        parts.extend(
            endpoint.iter().flat_map(|own| [own.cluster.as_str(), own.scheme, &own.authority, &own.path]),
        );
    }
    if let Some(discovery) = &issuer.discovery {
        parts.extend([discovery.cluster.as_str(), if discovery.for_keys { "keys" } else { "" }]);
        parts.push(if discovery.for_tokens { "tokens" } else { "" });
        parts.push(if discovery.for_introspection { "introspection" } else { "" });
        parts.push(if discovery.mtls_endpoints.tokens { "tokens by certificate" } else { "" });
        parts.push(if discovery.mtls_endpoints.introspection { "introspection by certificate" } else { "" });
        let EndpointClusters { keys, tokens, introspection } = &discovery.clusters;
        parts.extend([keys.as_str(), tokens, introspection]);
        parts.extend(discovery.allowed_hosts.iter().map(String::as_str));
    }
    parts.into_iter().map(str::as_bytes).collect()
}

fn is_long(head: &MessageHead, name: &str) -> bool {
    head.first(name).is_some_and(|value| value.len() > MAX_HEADER_BYTES)
}

/// What an answer says of itself; what is longer than any sound one is nothing.
fn header_bytes(head: &MessageHead, name: &str) -> Vec<u8> {
    head.first(name).filter(|_| !is_long(head, name)).unwrap_or_default().to_vec()
}

/// What a record says, for a lease. A body that cannot be read, or has not come yet, changes nothing but the backoff.
fn adopt_record<T>(
    lease: &mut Lease<T>,
    record: &Record,
    read: FetchResult<T>,
    now: Instant,
) -> Option<Adopted> {
    let news = read.ok().and_then(|(fresh, news)| lease.adopt(record.start, fresh).then_some(news));
    let failed = record.failures != lease.failures();
    let doubted_at = Some(record.refresh_requested_at).filter(|at| *at > Instant::default());
    let Record {
        failures,
        costly_failures: burdens,
        not_before,
        urgent_not_before: urgent,
        retry_after_until: asked_until,
        ..
    } = *record;
    lease.adopt_backoff(
        Backoff {
            failures,
            costly_failures: burdens,
            not_before,
            urgent_not_before: urgent,
            retry_after_until: asked_until,
        },
        doubted_at,
        now,
    );
    news.map(Adopted::Value).or_else(|| failed.then_some(Adopted::Backoff))
}
