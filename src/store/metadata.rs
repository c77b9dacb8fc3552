//! An issuer's metadata document: at either of its locations, and at both if need be.

use super::adoption::{Adopted, FetchResult, adopt_record, fetched, finish_lease, gone};
use super::fetch::{Fetch, FetchKind, Finish};
use super::issuer_state::IssuerState;
use super::{FetchId, FetchKey, IssuerMetadata, Store};
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::oauth::discovery::{self, Metadata};
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::rng::Rng;
use crate::store::lease::{Attempt, Schedule};
use crate::store::shared_record::Record;
use crate::time::{Instant, Now};
use std::time::Duration;

static KIND: FetchKind = FetchKind {
    label: "metadata",
    description: "metadata of issuer",
    refusal: Refusal::JwksUnavailable,
    logs_success: true,
    counts_long_headers: true,
};

/// Metadata changes when a provider is rebuilt; an hour is what most clients take.
const METADATA_REFRESH: Duration = Duration::from_secs(3600);

impl IssuerMetadata {
    /// That of an issuer, if something of it has to be discovered.
    pub(super) fn of(issuer: &IssuerState) -> Option<Self> {
        issuer.policy.discovery.as_ref().map(|_| Self(issuer.id))
    }
}

impl Fetch for IssuerMetadata {
    fn kind(&self) -> &'static FetchKind {
        &KIND
    }

    fn owner<'s>(&self, store: &'s Store) -> &'s str {
        store.issuer_name(self.0)
    }

    fn schedule<'s>(&self, store: &'s Store) -> Option<&'s Schedule> {
        store.issuer(self.0).map(|issuer| &*issuer.metadata)
    }

    fn schedule_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Schedule> {
        store.issuer_mut(self.0).map(|issuer| &mut *issuer.metadata)
    }

    fn not_before(&self, _store: &Store, _now: Instant) -> Option<Instant> {
        Some(Instant::default())
    }

    fn cluster<'s>(&self, store: &'s Store, _now: Instant) -> Option<&'s str> {
        store.issuer(self.0)?.policy.discovery.as_ref().map(|discovery| discovery.cluster.as_str())
    }

    fn call(&self, store: &Store, _now: Now, _signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        let issuer = store.issuer(self.0)?;
        Some(Ok(issuer.policy.discovery.as_ref()?.call(issuer.metadata_location)))
    }

    fn finish(
        &self,
        store: &mut Store,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Finish> {
        let issuer = store.issuer_mut(self.0)?;
        let read = issuer.read_metadata(reply, rng);
        if let Some(failure) = issuer.other_location(fetch.attempt, reply, read.as_ref().err()) {
            return Some(Finish::Restarted(failure));
        }
        let result = finish_lease(&mut issuer.metadata, fetch.attempt, now.instant, read, rng)?;
        issuer.moved_until = Instant::default();
        Some(Finish::Done(result))
    }

    fn queue_key(&self) -> FetchKey {
        FetchKey::Metadata(*self)
    }

    fn identity<'s>(&self, store: &'s Store) -> Vec<&'s [u8]> {
        let issuer = store.issuer(self.0).into_iter().flat_map(IssuerState::identity);
        std::iter::once(&b"metadata"[..]).chain(issuer).collect()
    }

    fn adopt(
        &self,
        store: &mut Store,
        record: &Record,
        reply: &HttpReply,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Adopted> {
        let issuer = store.issuer_mut(self.0)?;
        let read = issuer.read_metadata(reply, rng);
        let adopted = adopt_record(&mut issuer.metadata, record, read, now)?;
        issuer.moved_until = Instant::default();
        Some(adopted)
    }
}

impl IssuerState {
    fn read_metadata(&self, reply: &HttpReply, rng: &mut Rng) -> FetchResult<Metadata> {
        let metadata = self.policy.discovery.as_ref().ok_or_else(gone)?.read(reply)?;
        Ok((fetched(metadata, METADATA_REFRESH, Duration::MAX, rng), "endpoints found".to_owned()))
    }

    /// The metadata is not where it was asked for: the other location is asked at once, if it was
    /// not yet in this round.
    fn other_location(
        &mut self,
        attempt: Attempt,
        reply: &HttpReply,
        failure: Option<&FetchError>,
    ) -> Option<FetchError> {
        let failure = failure.filter(|_| discovery::is_not_found(reply) && self.metadata.is_running(attempt));
        let asked_other = std::mem::take(&mut self.tried_other_location);
        let failure = failure?;
        self.metadata_location = self.metadata_location.other();
        if asked_other || !self.metadata.restart(attempt) {
            return None;
        }
        self.tried_other_location = true;
        let detail = format!("{}; the other location is asked", failure.detail);
        Some(FetchError::new(FetchErrorKind::NotFound, detail))
    }
}
