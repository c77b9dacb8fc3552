//! An issuer's key set: how it is asked for, and who waits for it.

use super::adoption::{Adopted, FetchResult, adopt_record, fetched, finish_lease};
use super::fetch::{Fetch, FetchKind, Finish};
use super::issuer_state::IssuerState;
use super::key_set::{Keys, max_age, parsed};
use super::{FetchId, FetchKey, IssuerKeys, IssuerMetadata, LookupError, Store};
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::refusal::Refusal;
use crate::jose::jwk::KeySet;
use crate::oauth::client_assertion::Signer;
use crate::oauth::discovery;
use crate::oauth::fetch::FetchError;
use crate::policy::IssuerId;
use crate::rng::Rng;
use crate::store::lease::{Availability, Lease, Schedule};
use crate::store::shared_record::Record;
use crate::time::{Instant, Now};
use std::rc::Rc;
use std::time::Duration;

static KIND: FetchKind = FetchKind {
    label: "jwks",
    description: "keys of issuer",
    refusal: Refusal::JwksUnavailable,
    logs_success: true,
    counts_long_headers: true,
};

/// What a key set is served as: RFC 7517 section 8.5.1 has a type of its own, and Kubernetes
/// answers 406 to clients that do not accept it; most others serve `application/json`.
const KEY_SET: &str = "application/jwk-set+json, application/json";

/// The least time between two fetches of a key set for the sake of unknown names. A request with a
/// new key waits that long at most, which is less than a request waits by default; a flood of
/// made-up names costs one fetch per interval.
const UNKNOWN_KID_INTERVAL: Duration = Duration::from_secs(3);

impl IssuerKeys {
    /// Those of an issuer, if a rule needs them and they are not given.
    pub(super) fn of(issuer: &IssuerState) -> Option<Self> {
        (issuer.policy.verifies && issuer.policy.jwks.is_none()).then_some(Self(issuer.id))
    }

    fn lease<'s>(&self, store: &'s Store) -> Option<&'s Lease<Keys>> {
        store.issuer(self.0).map(|issuer| &issuer.keys)
    }
}

impl Fetch for IssuerKeys {
    fn kind(&self) -> &'static FetchKind {
        &KIND
    }

    fn owner<'s>(&self, store: &'s Store) -> &'s str {
        store.issuer_name(self.0)
    }

    fn schedule<'s>(&self, store: &'s Store) -> Option<&'s Schedule> {
        self.lease(store).map(|lease| &**lease)
    }

    fn schedule_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Schedule> {
        store.issuer_mut(self.0).map(|issuer| &mut *issuer.keys)
    }

    fn not_before(&self, store: &Store, now: Instant) -> Option<Instant> {
        store.issuer(self.0)?.jwks_uri(now).map(|_| Instant::default())
    }

    fn cluster<'s>(&self, store: &'s Store, now: Instant) -> Option<&'s str> {
        store.issuer(self.0)?.jwks_uri(now).map(|endpoint| endpoint.cluster.as_str())
    }

    fn call(&self, store: &Store, now: Now, _signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        let issuer = store.issuer(self.0)?;
        let endpoint = issuer.jwks_uri(now.instant)?;
        let etag = issuer.keys.last_value().and_then(|keys| keys.etag_of(endpoint)).map(str::to_owned);
        let mut call = discovery::get(endpoint.clone(), KEY_SET, issuer.policy.timeout);
        call.headers.extend(etag.map(|etag| ("if-none-match", etag)));
        Some(Ok(call))
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
        let read = issuer.read_keys(reply, now.instant, rng);
        let finish = |lease: &mut Lease<Keys>| finish_lease(lease, fetch.attempt, now.instant, read, rng);
        issuer.change_keys(now.instant, finish).map(Finish::Done)
    }

    fn queue_key(&self) -> FetchKey {
        FetchKey::Keys(*self)
    }

    fn discovered_by(&self, store: &Store) -> Option<IssuerId> {
        store.issuer(self.0)?.policy.jwks_uri.is_none().then_some(self.0)
    }

    fn identity<'s>(&self, store: &'s Store) -> Vec<&'s [u8]> {
        let issuer = store.issuer(self.0).into_iter().flat_map(IssuerState::identity);
        std::iter::once(&b"keys"[..]).chain(issuer).collect()
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
        let read = issuer.read_keys(reply, now, rng);
        issuer.change_keys(now, |lease| adopt_record(lease, record, read, now))
    }

    fn etag<'s>(&self, store: &'s Store) -> &'s [u8] {
        self.lease(store).and_then(|lease| lease.last_value()).map_or(&[], Keys::etag)
    }

    fn forget_etag(&self, store: &mut Store) {
        let keys = store.issuer_mut(self.0).and_then(|issuer| issuer.keys.last_value_mut());
        keys.map(Keys::forget_etag).unwrap_or_default();
    }
}

impl Store {
    /// Whether the issuer's keys are here, whichever they are.
    pub fn has_keys(&self, issuer: IssuerId, now: Now) -> bool {
        IssuerKeys(issuer).schedule(self).is_some_and(|keys| keys.has_value(now.instant))
    }

    /// The issuer's keys, after looking for `kid` if it is not among them: a request that came at
    /// `since` gets keys that were fetched after that, or keys that hold `kid`.
    pub fn keys(
        &mut self,
        issuer: IssuerId,
        kid: Option<&str>,
        since: Instant,
        now: Now,
    ) -> Result<Rc<KeySet>, LookupError> {
        let patience = self.remaining_wait(since, now.instant);
        let Some(issuer) = self.issuer_mut(issuer) else {
            return Err(LookupError::UNKNOWN);
        };
        if issuer.keys.value(now.instant).is_none() {
            issuer.keys.expedite_retry();
        }
        let keys = match issuer.keys.availability(now.instant, patience) {
            Availability::Ready(keys) => Rc::clone(&keys.set),
            Availability::Unavailable(wait) => return Err(LookupError::Unavailable(wait)),
            Availability::Pending => return Err(issuer.until_keys(now.instant, patience)),
        };
        let Some(name) = kid.filter(|_| issuer.policy.jwks.is_none() && !keys.contains_kid(kid)) else {
            return Ok(keys);
        };
        if issuer.keys.fetched_at() >= Some(since) {
            issuer.unknown_kids.remember(name, now.instant);
            return Ok(keys);
        }
        if issuer.unknown_kids.contains(name, now.instant) {
            return Ok(keys);
        }
        if issuer.keys.failures() > 0 {
            // The provider cannot say whether it knows this key, so neither can we.
            issuer.keys.expedite_retry();
            return Err(LookupError::Unavailable(issuer.keys.next_event().since(now.instant)));
        }
        let last = issuer.keys.fetched_at().unwrap_or_default();
        issuer.keys.refresh_soon(now.instant.max(last + UNKNOWN_KID_INTERVAL));
        Err(LookupError::Wait(FetchKey::Keys(IssuerKeys(issuer.id))))
    }
}

impl IssuerState {
    fn read_keys(&self, reply: &HttpReply, now: Instant, rng: &mut Rng) -> FetchResult<Keys> {
        let endpoint = self.jwks_uri(now);
        let held = self.keys.last_value().filter(|_| reply.status == Some(304));
        // RFC 9110 section 15.4.5: the provider has no others, if it was asked so.
        let (keys, news) = match held.filter(|held| endpoint.is_some_and(|own| held.etag_of(own).is_some())) {
            Some(keys) => (keys.clone(), format!("{} usable keys, unchanged", keys.set.len())),
            None => parsed(reply, endpoint.cloned(), &self.key_limits)?,
        };
        // Never longer than they may be used at all, or there would be none in between.
        let max_stale = self.policy.jwks_max_stale;
        let refresh = self.policy.renew_after(max_age(&reply.head)).min(max_stale);
        Ok((fetched(keys, refresh, max_stale, rng), news))
    }

    /// Whatever changes the keys ends what was verified with those before.
    fn change_keys<R>(&mut self, now: Instant, change: impl FnOnce(&mut Lease<Keys>) -> R) -> R {
        let before = self.keys.value(now).map(|keys| Rc::clone(&keys.set));
        let result = change(&mut self.keys);
        if before.as_ref() != self.keys.value(now).map(|keys| &keys.set) {
            self.verified.clear();
            self.unknown_kids.clear();
        }
        result
    }

    /// The keys are on their way; so may be the metadata that says where they are.
    fn until_keys(&self, now: Instant, patience: Duration) -> LookupError {
        let keys = LookupError::Wait(FetchKey::Keys(IssuerKeys(self.id)));
        if self.policy.jwks_uri.is_some() || self.keys.in_flight() {
            return keys;
        }
        let metadata = FetchKey::Metadata(IssuerMetadata(self.id));
        match self.metadata.availability(now, patience) {
            Availability::Ready(_) => keys,
            Availability::Pending => LookupError::Wait(metadata),
            Availability::Unavailable(wait) => LookupError::Unavailable(wait),
        }
    }
}
