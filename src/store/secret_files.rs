//! Secrets that are read from files: each one anew before it is used.
//!
//! A file is read when a fetch that needs it is due, and never on its own account. What was read is
//! used for a moment, so that many fetches at one time read it once. A read that failed counts for
//! a moment too: the fetches that need the file end with it, and their own schedules say when to
//! try again.

use super::adoption::finish_lease;
use super::fetch::{Fetch, FetchKind, Finish};
use super::secret_rotation::SecretRotation;
use super::{FetchId, FetchKey, FileRead, Store};
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::refusal::Refusal;
use crate::oauth::ClientAuth;
use crate::oauth::client_assertion::Signer;
use crate::oauth::discovery;
use crate::oauth::fetch::{FetchError, Fetched};
use crate::oauth::secret_file::{FileContent, FileRef, SecretFiles, not_there};
use crate::policy::{self, SecretFileId};
use crate::rng::Rng;
use crate::store::lease::{Lease, RetryPolicy, Schedule};
use crate::time::{Instant, Now};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

static KIND: FetchKind = FetchKind {
    label: "secret",
    description: "secret",
    refusal: Refusal::OutboundTokenUnavailable,
    logs_success: false,
    counts_long_headers: false,
};

/// How long what was read is used: the file is at most this much newer.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// The pause between two reads of a file, whatever came of the first: reading costs no provider
/// anything.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// How long one read may take: the file is in the same process.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// `Accept` of a read.
const ANY: &str = "*/*";

/// What is known of one file.
#[derive(Debug)]
pub(super) struct FileState {
    id: SecretFileId,
    policy: Rc<policy::SecretFile>,
    lease: Lease<FileContent>,
    /// What it contained before.
    previous: Option<FileContent>,
    /// When the last read failed, and why; `None` if it did not.
    failure: Option<(Instant, FetchError)>,
    /// The provider did not take the content: it is read anew before the next use.
    doubted: bool,
}

/// All files of the policy.
#[derive(Debug)]
pub(super) struct FileStates(Vec<FileState>);

impl FileStates {
    pub(super) fn of(policy: &policy::Policy) -> Self {
        let retry_policy = RetryPolicy {
            min_interval: READ_INTERVAL,
            base: READ_INTERVAL,
            cap: READ_INTERVAL,
            max_gap: READ_INTERVAL,
            unreachable_cap: READ_INTERVAL,
            config_base: READ_INTERVAL,
            config_cap: READ_INTERVAL,
            config_urgent: READ_INTERVAL,
            retry_after_cap: Duration::ZERO,
            timeout: READ_TIMEOUT,
            recovery_timeout: READ_TIMEOUT,
        };
        let state = |(id, file): (SecretFileId, &Rc<policy::SecretFile>)| FileState {
            id,
            policy: Rc::clone(file),
            lease: Lease::new(retry_policy),
            previous: None,
            failure: None,
            doubted: false,
        };
        Self(policy.file_ids().zip(&policy.files).map(state).collect())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = FetchKey> {
        self.0.iter().map(|file| FetchKey::File(FileRead(file.id)))
    }

    fn of_ref(&self, file: &FileRef) -> Option<&FileState> {
        self.0.get(file.index)
    }
}

impl SecretFiles for FileStates {
    fn content(&self, file: &FileRef) -> Option<&FileContent> {
        self.of_ref(file)?.lease.last_value()
    }

    fn previous(&self, file: &FileRef) -> Option<&FileContent> {
        self.of_ref(file)?.previous.as_ref()
    }
}

impl FileState {
    /// Whether the file was read just now, with whatever result.
    fn is_settled(&self, now: Instant) -> bool {
        let is_fresh = !self.doubted && self.lease.has_value(now);
        let failed = |(at, why): &(Instant, FetchError)| now < *at + READ_INTERVAL && !why.no_connection;
        is_fresh || self.failure.as_ref().is_some_and(failed)
    }

    /// How long until the next read, if the listener could not be reached. What needs the file is
    /// not attempted: the failure says nothing about the file, and other workers can reach it.
    fn unreachable_for(&self, now: Instant) -> Option<Duration> {
        self.failure.as_ref().filter(|(_, why)| why.no_connection)?;
        Some(self.lease.next_event().since(now).max(READ_INTERVAL))
    }
}

impl FileRead {
    fn state<'s>(&self, store: &'s Store) -> Option<&'s FileState> {
        store.files.0.get(self.0.index()).filter(|file| file.id == self.0)
    }

    fn state_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut FileState> {
        store.files.0.get_mut(self.0.index()).filter(|file| file.id == self.0)
    }
}

impl Fetch for FileRead {
    fn kind(&self) -> &'static FetchKind {
        &KIND
    }

    fn owner<'s>(&self, store: &'s Store) -> &'s str {
        self.state(store).map_or("?", |file| &file.policy.file.name)
    }

    fn schedule<'s>(&self, store: &'s Store) -> Option<&'s Schedule> {
        self.state(store).map(|file| &*file.lease)
    }

    fn schedule_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Schedule> {
        self.state_mut(store).map(|file| &mut *file.lease)
    }

    /// When the first fetch is due that needs it.
    fn not_before(&self, store: &Store, now: Instant) -> Option<Instant> {
        let file = self.state(store)?;
        let index = file.policy.file.index;
        let due = |key: FetchKey| {
            let fetch = key.fetch();
            let schedule = fetch.schedule(store).filter(|schedule| !schedule.in_flight())?;
            fetch.files(store).iter().find(|needed| needed.index == index)?;
            let at = schedule.next_event().max(fetch.not_before(store, now)?);
            (!store.is_locked_by_other(key, now)).then_some(at)
        };
        store.provider_keys().into_iter().filter_map(due).min()
    }

    fn cluster<'s>(&self, store: &'s Store, _now: Instant) -> Option<&'s str> {
        self.state(store).map(|file| file.policy.endpoint.cluster.as_str())
    }

    fn call(&self, store: &Store, _now: Now, _signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        let file = self.state(store)?;
        Some(Ok(discovery::get(file.policy.endpoint.clone(), ANY, READ_TIMEOUT)))
    }

    fn finish(
        &self,
        store: &mut Store,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Finish> {
        let file = self.state_mut(store)?;
        let read = file.policy.form.read(reply);
        let before = file.lease.last_value().filter(|_| read.is_ok()).cloned();
        let read = read.map(|value| {
            let fresh = Fetched { value, renew_after: FRESH_FOR, end_after: FRESH_FOR };
            (fresh, "read".to_owned())
        });
        let result = finish_lease(&mut file.lease, fetch.attempt, now.instant, read, rng)?;
        file.previous = before.or_else(|| file.previous.take());
        Some(Finish::Done(result))
    }

    fn queue_key(&self) -> FetchKey {
        FetchKey::File(*self)
    }

    fn ended(
        &self,
        store: &mut Store,
        failure: Option<&FetchError>,
        _status: Option<u16>,
        now: Instant,
        _rng: &mut Rng,
    ) {
        let Some(file) = self.state_mut(store) else { return };
        file.doubted &= failure.is_some();
        file.failure = failure.map(|failure| (now, failure.clone()));
        if failure.is_some() {
            store.skip(self.0.index());
        }
    }
}

impl Store {
    /// What needs a file.
    pub fn dependents(&self, id: SecretFileId) -> Vec<FetchKey> {
        let mut keys = self.provider_keys();
        keys.retain(|key| key.fetch().files(self).iter().any(|file| file.index == id.index()));
        keys
    }

    /// A file is not there. Where it is one of several secrets, it is the next one's turn.
    fn skip(&mut self, index: usize) {
        let skip = |rotation: &mut SecretRotation, auth: &[ClientAuth]| {
            let used = rotation.index();
            let file = auth.get(used).and_then(ClientAuth::file);
            if file.is_some_and(|file| file.index == index) {
                rotation.advance(used, auth.len());
            }
        };
        for own in &mut self.credentials {
            skip(&mut own.secret_rotation, &own.policy.grant.auth);
        }
        for issuer in &mut self.issuers {
            if let (Some(own), Some(client)) = (&mut issuer.introspections, &issuer.policy.introspection) {
                skip(&mut own.secret_rotation, &client.auth);
            }
        }
    }

    /// Whether all these files were read just now.
    pub(super) fn are_settled(&self, files: &[&FileRef], now: Instant) -> bool {
        let is_settled = |file: &&FileRef| self.files.of_ref(file).is_none_or(|own| own.is_settled(now));
        files.iter().all(is_settled)
    }

    /// How long a request should stay away because the listener of one of these files cannot be
    /// reached.
    pub(super) fn unreachable_for(&self, files: &[&FileRef], now: Instant) -> Option<Duration> {
        files.iter().filter_map(|file| self.files.of_ref(file)?.unreachable_for(now)).max()
    }

    /// Why one of these files is not there, if one is not.
    pub(super) fn missing(&self, files: &[&FileRef]) -> Option<FetchError> {
        files.iter().find_map(|file| {
            let (_, why) = self.files.of_ref(file)?.failure.as_ref()?;
            Some(not_there(file, why))
        })
    }

    /// The provider did not take what this file contained. For the log: how old an assertion is.
    pub(super) fn doubt(&mut self, file: &FileRef, now: Now) -> String {
        let Some(own) = self.files.0.get_mut(file.index) else { return String::new() };
        own.doubted = true;
        let mut text = format!("; {file} is read again");
        if let Some(FileContent::Assertion(_, Some(issued_at))) = own.lease.last_value() {
            let _ = match now.unix.checked_sub(*issued_at) {
                Some(age) => write!(text, ", which was issued {age} s ago"),
                None => write!(text, ", which will be issued in {} s", issued_at.saturating_sub(now.unix)),
            };
        }
        text
    }
}
