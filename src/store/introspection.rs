//! What issuers say of tokens (RFC 7662): one answer for each token, for a short time (RFC 7662
//! section 4).

use super::adoption::{FetchResult, finish_lease, gone};
use super::fetch::{Fetch, FetchKind, Finish};
use super::introspection_cache::{IntrospectionResult, Introspections};
use super::issuer_state::IssuerState;
use super::secret_rotation::SecretRotation;
use super::slots::CacheEntryId;
use super::{FetchId, FetchKey, LookupError, Store, TokenIntrospection};
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::jwt::{self, Caller, TokenError};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, Fetched};
use crate::oauth::secret_file::{FileRef, SecretFiles};
use crate::oauth::{ClientAuth, error_response};
use crate::policy::IssuerId;
use crate::rng::Rng;
use crate::store::lease::{Lease, Schedule};
use crate::time::{Instant, Now};
use std::time::Duration;

static KIND: FetchKind = FetchKind {
    label: "introspection",
    description: "introspection by issuer",
    refusal: Refusal::IntrospectionUnavailable,
    logs_success: false,
    counts_long_headers: false,
};

impl TokenIntrospection {
    /// Those by an issuer that requests wait for.
    pub(super) fn queued(issuer: &IssuerState) -> impl Iterator<Item = Self> {
        let caches = issuer.introspections.iter().map(|own| &own.cache);
        caches.flat_map(|cache| cache.queued().map(|entry| Self(issuer.id, entry)))
    }

    fn lease<'s>(&self, store: &'s Store) -> Option<&'s Lease<IntrospectionResult>> {
        store.issuer(self.0)?.introspections.as_ref()?.cache.cached(self.1)
    }

    fn introspections_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Introspections> {
        store.issuer_mut(self.0)?.introspections.as_mut()
    }
}

impl Fetch for TokenIntrospection {
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
        self.introspections_mut(store)?.cache.cached_mut(self.1).map(|lease| &mut **lease)
    }

    fn not_before(&self, store: &Store, now: Instant) -> Option<Instant> {
        let issuer = store.issuer(self.0)?;
        let turn = issuer.introspections.as_ref()?.cache.not_before(self.1)?;
        issuer.introspection_endpoint(now).map(|_| turn)
    }

    fn cluster<'s>(&self, store: &'s Store, now: Instant) -> Option<&'s str> {
        store.issuer(self.0)?.introspection_endpoint(now).map(|endpoint| endpoint.cluster.as_str())
    }

    #[inline(never)]
    fn call(&self, store: &Store, now: Now, signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        let issuer = store.issuer(self.0)?;
        let (client, timeout) = (issuer.policy.introspection.as_ref()?, issuer.policy.timeout);
        let endpoint = issuer.introspection_endpoint(now.instant)?.clone();
        let introspections = issuer.introspections.as_ref()?;
        let (token, _) = introspections.cache.queued_fetch(self.1)?;
        let secret = introspections.secret_rotation.index();
        if let Some(missing) = store.missing(&self.files(store)) {
            return Some(Err(missing));
        }
        Some(client.call(endpoint, timeout, (token, secret), &store.files, now.unix, signer))
    }

    /// The next secret is tried at once, as for tokens.
    #[inline(never)]
    fn finish(
        &self,
        store: &mut Store,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Finish> {
        let issuer = store.issuer(self.0)?;
        if !issuer.introspections.as_ref()?.cache.cached(self.1)?.is_running(fetch.attempt) {
            return None;
        }
        let client = issuer.policy.introspection.as_ref();
        let file = client.and_then(|client| client.auth.get(fetch.secret)?.file()).cloned();
        let read = issuer.read_introspection(self.1, reply, &store.files, now, rng);
        let read = read.map_err(|failure| store.rejected(file.as_ref(), reply, failure, now));
        let issuer = store.issuer_mut(self.0)?;
        let secrets = issuer.policy.introspection.as_ref()?.auth.len();
        let introspections = issuer.introspections.as_mut()?;
        if error_response::rejects_client(reply) {
            introspections.secret_rotation.advance(fetch.secret, secrets);
            let lease = introspections.cache.cached_mut(self.1)?;
            if let Err(failure) = &read
                && SecretRotation::has_more(lease.secret_retries(), secrets)
            {
                lease.restart_with_next_secret(fetch.attempt);
                let detail = format!("{}; the next secret is tried", failure.detail);
                return Some(Finish::Restarted(FetchError { detail, ..failure.clone() }));
            }
        }
        if matches!(&read, Ok((Fetched { value: Ok(_), .. }, _))) {
            // What fails or is not active keeps nothing of the body.
            introspections.cache.set_size(self.1, reply.body.as_deref().unwrap_or_default().len());
        }
        let lease = introspections.cache.cached_mut(self.1)?;
        finish_lease(lease, fetch.attempt, now.instant, read, rng).map(Finish::Done)
    }

    fn queue_key(&self) -> FetchKey {
        FetchKey::Introspection(Self(self.0, CacheEntryId::default()))
    }

    fn discovered_by(&self, store: &Store) -> Option<IssuerId> {
        store.issuer(self.0)?.policy.introspection_endpoint.is_none().then_some(self.0)
    }

    fn files<'s>(&self, store: &'s Store) -> Vec<&'s FileRef> {
        store.issuer(self.0).map(IssuerState::introspection_files).unwrap_or_default()
    }

    fn secret_index(&self, store: &Store) -> usize {
        let introspections = store.issuer(self.0).and_then(|issuer| issuer.introspections.as_ref());
        introspections.map_or(0, |own| own.secret_rotation.index())
    }

    fn begun(&self, store: &mut Store, now: Instant) {
        if let Some(introspections) = self.introspections_mut(store) {
            introspections.cache.mark_running(self.1, now);
        }
    }

    fn ended(
        &self,
        store: &mut Store,
        failure: Option<&FetchError>,
        status: Option<u16>,
        now: Instant,
        rng: &mut Rng,
    ) {
        if let Some(introspections) = self.introspections_mut(store) {
            introspections.cache.finish(self.1, failure, status, now, rng);
        }
    }

    fn abandon(&self, store: &mut Store) {
        if let Some(introspections) = self.introspections_mut(store) {
            introspections.cache.abandon(self.1);
        }
    }
}

impl Store {
    /// What the issuer says of this token. `verified` is what its signature has proven.
    #[inline(never)]
    pub fn introspected(
        &mut self,
        issuer: IssuerId,
        token: &str,
        verified: Option<&Caller>,
        now: Now,
        patience: Duration,
    ) -> Result<Result<Caller, TokenError>, LookupError> {
        let state = self.issuer_mut(issuer).ok_or(LookupError::UNKNOWN)?;
        let Some(introspections) = &mut state.introspections else {
            return Err(LookupError::UNKNOWN);
        };
        let verdict = introspections.cache.get(token, verified.cloned(), now.instant, |_| false);
        let key = |entry| FetchKey::Introspection(TokenIntrospection(issuer, entry));
        let unreachable = |store: &Self| store.until_introspection(issuer, now.instant, patience);
        let verdict = verdict.map_err(|miss| LookupError::of(miss, unreachable(self), key))?;
        // The answer's own time is measured by a clock that does not step; this one may have.
        Ok(verdict.and_then(|caller| {
            if now.unix < caller.accepted_until() { Ok(caller) } else { Err(TokenError::Expired) }
        }))
    }
}

impl Store {
    /// What an introspection by this issuer waits for; none when it may begin.
    fn until_introspection(&self, id: IssuerId, now: Instant, patience: Duration) -> Option<LookupError> {
        let issuer = self.issuer(id)?;
        if issuer.introspection_endpoint(now).is_none() {
            return Some(issuer.until_metadata(now, patience));
        }
        self.unreachable_for(&issuer.introspection_files(), now).map(LookupError::Unavailable)
    }
}

impl IssuerState {
    /// The files that an introspection needs that begins now.
    fn introspection_files(&self) -> Vec<&FileRef> {
        let client = self.policy.introspection.as_ref().zip(self.introspections.as_ref());
        let auth = client.and_then(|(client, own)| client.auth.get(own.secret_rotation.index()));
        auth.and_then(ClientAuth::file).into_iter().collect()
    }

    fn read_introspection(
        &self,
        entry: CacheEntryId,
        reply: &HttpReply,
        files: &dyn SecretFiles,
        now: Now,
        rng: &mut Rng,
    ) -> FetchResult<IntrospectionResult> {
        let client = self.policy.introspection.as_ref().ok_or_else(gone)?;
        let asked = self.introspections.as_ref().and_then(|own| own.cache.queued_fetch(entry));
        let (token, verified) = asked.ok_or_else(gone)?;
        let members = client.read(reply, token, files)?;
        let verdict = jwt::introspected(members, verified.as_ref(), &self.policy.profile, now.unix);
        let (renew_after, end_after) = match &verdict {
            Ok(caller) => {
                let left = Duration::from_secs(caller.accepted_until().saturating_sub(now.unix));
                let end = client.cache.min(left);
                // At 80 % of its time, less up to a tenth of it, in the background: who is revoked
                // is found out, and who is not does not wait.
                ((end / 5 * 4).saturating_sub(rng.duration_up_to(end / 10)), end)
            }
            Err(_) => (client.negative_cache, client.negative_cache),
        };
        Ok((Fetched { value: verdict, renew_after, end_after }, "an answer about a token".to_owned()))
    }
}
