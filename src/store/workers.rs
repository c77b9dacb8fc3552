//! One fetch per process: what this worker reads off the board, and what it leaves there for the others.

use super::{Keys, Read, Store, Want};
use crate::discovery::Clusters;
use crate::io::{Dice, Head, Instant, Now, Reply};
use crate::lease::{Backoff, Lease};
use crate::oauth::answer;
use crate::policy::Issuer;
use crate::share::{MAX_SAID_BYTES, Record, Seat};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long another worker's fetch may take before this one looks again, while requests wait for it: a loopback fetch takes
/// no longer, and a look costs a microsecond.
const LOOK_BUSY: Duration = Duration::from_millis(5);

/// The same while nobody waits.
const LOOK_IDLE: Duration = Duration::from_secs(1);

/// What a record brought.
enum Adopted {
    /// A value, and the news of it.
    Value(String),
    /// Another worker's failure, or its end.
    Backoff,
}

impl Store {
    /// Reads what other workers have left; tells what has changed, and the news of it if it is good.
    pub fn look(&mut self, now: Now, dice: &mut Dice) -> Vec<(Want, Option<String>)> {
        let mut seats = std::mem::take(&mut self.seats);
        let mut changed = Vec::new();
        for (want, seat) in &mut seats {
            if let Some(record) = seat.look(&*self.board, self.me, now) {
                match self.adopt(*want, &record, now.instant, dice) {
                    Some(Adopted::Value(news)) => changed.push((*want, Some(news))),
                    Some(Adopted::Backoff) => changed.push((*want, None)),
                    None => {}
                }
            }
        }
        self.seats = seats;
        changed
    }

    /// Takes over what another worker has fetched, or how it failed. None when there is nothing new in it.
    fn adopt(&mut self, want: Want, record: &Record, now: Instant, dice: &mut Dice) -> Option<Adopted> {
        let fields = [("etag", &record.etag), ("cache-control", &record.cache_control)];
        let head = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let reply = Reply { status: Some(200), head, body: Some(record.body.clone()), ..Reply::default() };
        match want {
            Want::Metadata(id) => {
                let read = self.read_metadata(id, &reply, dice);
                let state = self.issuers.get_mut(id.0)?;
                let adopted = take_over(&mut state.metadata, record, read, now);
                if adopted.is_some() {
                    state.moved_until = Instant::default();
                }
                adopted
            }
            Want::Keys(id) => {
                let read = self.read_keys(id, &reply, now, dice);
                let state = self.issuers.get_mut(id.0)?;
                state.change_keys(now, |lease| take_over(lease, record, read, now))
            }
            Want::Token(_) | Want::Exchanged(..) => {
                let read = self.read_token(want, &reply, 0, dice);
                self.token_state_mut(want)?.change(|lease| take_over(lease, record, read, now))
            }
            // What is fetched for one caller's token has no record.
            Want::Introspection(..) => None,
        }
    }

    /// Takes the seat of a fetch that is about to begin; false when another worker has it.
    pub(super) fn take_seat(&mut self, want: Want, now: Instant) -> bool {
        // As long as the fetch may take, until its lease counts it as lost.
        let until = now + self.longest(want, now);
        let (board, me) = (&*self.board, self.me);
        let seat = self.seats.iter_mut().find(|(own, _)| *own == want);
        seat.is_none_or(|(_, seat)| seat.take(board, me, until, now))
    }

    /// Leaves what came of a fetch: its answer, or that it failed.
    pub(super) fn leave_seat(&mut self, want: Want, answer: Option<&Reply>, now: Instant) {
        let Some(standing) = self.standing(want) else {
            return;
        };
        let etag = match want {
            Want::Keys(id) => {
                self.issuers.get(id.0).and_then(|state| state.keys.held()).map_or(&[][..], Keys::etag)
            }
            _ => &[],
        };
        let long = |reply: &&Reply| ["etag", "cache-control"].iter().any(|name| is_long(&reply.head, name));
        self.unsaid.add(u64::from(answer.as_ref().is_some_and(long)));
        let board = &*self.board;
        let seat = self.seats.iter_mut().find(|(own, _)| *own == want);
        let mut lost = false;
        // When somebody else has written meanwhile, this fetch took longer than its seat was its own: theirs counts.
        let _ = seat.is_none_or(|(_, seat)| {
            seat.leave(board, now, |record| {
                let old = std::mem::replace(record, standing);
                let unchanged = answer.is_some_and(|reply| reply.status == Some(304));
                if let Some(Reply { head, body: Some(body), .. }) = answer.filter(|_| !unchanged) {
                    // What the provider says beside the token, others have no use for.
                    let is_token = want.credential().is_some();
                    record.body = if is_token { answer::essence(body) } else { body.clone() };
                    record.etag = said(head, "etag");
                    record.cache_control = said(head, "cache-control");
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
                    record.cache_control = said(&reply.head, "cache-control");
                }
            })
        });
        // The whole set is asked for next time, or no worker would have it from another until the provider changes it.
        if let (true, Want::Keys(id)) = (lost, want) {
            let held = self.issuers.get_mut(id.0).and_then(|state| state.keys.held_mut());
            held.map(Keys::forget_etag).unwrap_or_default();
        }
    }

    /// The records of everything that is fetched, by name.
    pub fn records(&self) -> impl Iterator<Item = (Want, &str)> {
        self.seats.iter().map(|(want, seat)| (*want, seat.name()))
    }

    /// This worker is gone: whatever it was about to fetch is another's to fetch.
    pub fn retire(&mut self, now: Instant) {
        let running: Vec<Want> = self.wants().filter(|want| self.in_flight(*want)).collect();
        for want in running {
            self.leave_seat(want, None, now);
        }
    }

    /// Takes the tokens out of the records that no configuration of this worker uses any more: Envoy forgets no record. What
    /// another worker still uses it has in its own memory. One that has never had the token, such as the instance on which Envoy
    /// tries a configuration, leaves the record to those that have.
    pub fn vacate(&mut self, is_used: impl Fn(&str) -> bool, now: Now) {
        let mut seats = std::mem::take(&mut self.seats);
        for (want, seat) in &mut seats {
            let has = self.token_state(*want).is_some_and(|state| state.lease.held().is_some());
            if has && !is_used(seat.name()) {
                seat.look(&*self.board, self.me, now);
                if seat.taken(now.instant).is_none() {
                    seat.leave(&*self.board, now.instant, |record| *record = Record::default());
                }
            }
        }
        self.seats = seats;
    }

    /// Whether another worker fetches this.
    pub(super) fn is_taken(&self, want: Want, now: Instant) -> bool {
        self.seat(want).is_some_and(|seat| seat.taken(now).is_some())
    }

    /// When to look at the board again, while another worker fetches this.
    pub(super) fn next_look(&self, want: Want, now: Instant, waited: bool) -> Option<Instant> {
        let seat = self.seat(want)?;
        let look = seat.looked_at() + if waited { LOOK_BUSY } else { LOOK_IDLE };
        Some(seat.taken(now)?.min(look))
    }

    /// The name of the record: a fingerprint of all that decides what is fetched. So a new configuration finds what is still
    /// good for it, and a changed credential does not.
    pub(super) fn name(&self, want: Want) -> String {
        let mut parts: Vec<&[u8]> = Vec::new();
        match want {
            Want::Introspection(..) => {}
            Want::Metadata(id) => {
                parts.push(b"metadata");
                parts.extend(self.policy.issuers.get(id.0).into_iter().flat_map(place));
            }
            Want::Keys(id) => {
                parts.push(b"keys");
                parts.extend(self.policy.issuers.get(id.0).into_iter().flat_map(place));
            }
            Want::Token(id) | Want::Exchanged(id, _) => {
                let credential = self.policy.credentials.get(id.0);
                let issuer = credential.and_then(|credential| self.policy.issuers.get(credential.issuer.0));
                parts.push(b"token");
                parts.extend(issuer.into_iter().flat_map(place));
                parts.extend(credential.into_iter().flat_map(|credential| credential.grant.fingerprint()));
                // A bound token is of no use to a worker with another key, and no other worker has this one.
                let key = self
                    .proofs
                    .thumbprint()
                    .into_iter()
                    .filter(|_| credential.is_some_and(|own| own.grant.bound));
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

    fn longest(&self, want: Want, now: Instant) -> Duration {
        let timeout = match want {
            Want::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.longest_fetch(now)),
            Want::Keys(id) => self.issuers.get(id.0).map(|state| state.keys.longest_fetch(now)),
            Want::Token(_) | Want::Exchanged(..) => {
                self.token_state(want).map(|state| state.lease.longest_fetch(now))
            }
            Want::Introspection(id, entry) => self.answer(id, entry).map(|lease| lease.longest_fetch(now)),
        };
        timeout.unwrap_or_default()
    }

    fn seat(&self, want: Want) -> Option<&Seat> {
        self.seats.iter().find(|(own, _)| *own == want).map(|(_, seat)| seat)
    }

    /// How the fetching of this stands, as a record without a body.
    fn standing(&self, want: Want) -> Option<Record> {
        fn of<T>(lease: &Lease<T>) -> Record {
            let Backoff { failures, burdens, not_before, urgent, asked_until } = lease.backoff();
            Record {
                start: lease.fetched_at().unwrap_or_default(),
                failures,
                burdens,
                not_before,
                urgent,
                asked_until,
                doubted_at: lease.doubted_at().unwrap_or_default(),
                ..Record::default()
            }
        }
        Some(match want {
            Want::Metadata(id) => of(&self.issuers.get(id.0)?.metadata),
            Want::Keys(id) => of(&self.issuers.get(id.0)?.keys),
            Want::Token(_) | Want::Exchanged(..) => of(&self.token_state(want)?.lease),
            Want::Introspection(..) => return None,
        })
    }
}

/// Where an issuer's things are fetched, and what is believed of the answers.
fn place(issuer: &Issuer) -> Vec<&[u8]> {
    let mut parts: Vec<&str> = issuer.expect.names.iter().map(|name| name.iss.as_str()).collect();
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
        parts.push(if discovery.by_certificate.tokens { "tokens by certificate" } else { "" });
        parts.push(if discovery.by_certificate.introspection { "introspection by certificate" } else { "" });
        let Clusters { keys, tokens, introspection } = &discovery.clusters;
        parts.extend([keys.as_str(), tokens, introspection]);
        parts.extend(discovery.allowed_hosts.iter().map(String::as_str));
    }
    parts.into_iter().map(str::as_bytes).collect()
}

fn is_long(head: &Head, name: &str) -> bool {
    head.first(name).is_some_and(|value| value.len() > MAX_SAID_BYTES)
}

/// What an answer says of itself; what is longer than any sound one is nothing.
fn said(head: &Head, name: &str) -> Vec<u8> {
    head.first(name).filter(|_| !is_long(head, name)).unwrap_or_default().to_vec()
}

/// What a record says, for a lease. A body that cannot be read, or has not come yet, changes nothing but the backoff.
fn take_over<T>(lease: &mut Lease<T>, record: &Record, read: Read<T>, now: Instant) -> Option<Adopted> {
    let news = read.ok().and_then(|(fresh, news)| lease.learn(record.start, fresh).then_some(news));
    let failed = record.failures != lease.failures();
    let doubted_at = Some(record.doubted_at).filter(|at| *at > Instant::default());
    let Record { failures, burdens, not_before, urgent, asked_until, .. } = *record;
    lease.heed(Backoff { failures, burdens, not_before, urgent, asked_until }, doubted_at, now);
    news.map(Adopted::Value).or_else(|| failed.then_some(Adopted::Backoff))
}
