//! What issuers say of tokens (RFC 7662): one answer for each token, for a short time (RFC 7662 section 4).

use super::per_token::PerTokenCache;
use super::responses::{FetchResult, gone};
use super::secret_rotation::SecretRotation;
use super::slots::{CacheEntryId, CachedValue};
use super::{FetchId, FetchKey, FetchOutcome, LookupError, Store, finish_lease};
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::jwt::{self, Caller, TokenError};
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, Fetched};
use crate::oauth::token_response;
use crate::policy::{self, IssuerId};
use crate::rng::Rng;
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::{Instant, Now};
use std::time::Duration;

/// Who calls by that token, or why nobody does.
pub(super) type IntrospectionResult = Result<Caller, TokenError>;

/// The answers of one issuer. With each token goes what its signature has proven already, if it has one.
#[derive(Debug)]
pub(super) struct Introspections {
    pub(super) cache: PerTokenCache<Lease<IntrospectionResult>, Option<Caller>>,
    /// Which of the client's secrets is tried.
    pub(super) secret_rotation: SecretRotation,
}

impl CachedValue for Lease<IntrospectionResult> {
    type Value = IntrospectionResult;

    fn new(pace: RetryPolicy) -> Self {
        Self::new(pace)
    }

    fn lease(&self) -> &Self {
        self
    }

    fn lease_mut(&mut self) -> &mut Self {
        self
    }

    fn is_known(&self) -> bool {
        matches!(self.last_value(), Some(Ok(_)))
    }
}

impl Introspections {
    pub(super) fn of(issuer: &policy::Issuer, pace: RetryPolicy, patience: Duration) -> Option<Self> {
        let per_second = issuer.introspection.as_ref()?.requests_per_second;
        Some(Self {
            cache: PerTokenCache::new(pace, Some(per_second), patience),
            secret_rotation: SecretRotation::default(),
        })
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
        let found = self.introspection_endpoint(issuer, now.instant).is_some();
        let unreachable = (!found).then(|| self.until_metadata(issuer, now.instant, patience));
        let Some(introspections) = self.introspections_mut(issuer) else {
            return Err(LookupError::Unavailable(Duration::from_secs(1)));
        };
        let verdict = introspections.cache.get(token, verified.cloned(), now.instant, |_| false);
        let verdict = verdict.map_err(|not_here| {
            not_here.missing(unreachable, |entry| FetchKey::Introspection(issuer, entry))
        })?;
        // The answer's own time is measured by a clock that does not step; this one may have.
        Ok(verdict.and_then(|caller| {
            if now.unix < caller.accepted_until() { Ok(caller) } else { Err(TokenError::Expired) }
        }))
    }

    pub(super) fn introspections(&self, id: IssuerId) -> Option<&Introspections> {
        self.issuers.get(id.0)?.introspections.as_ref()
    }

    pub(super) fn introspections_mut(&mut self, id: IssuerId) -> Option<&mut Introspections> {
        self.issuers.get_mut(id.0)?.introspections.as_mut()
    }

    /// The tokens that requests wait for.
    pub(super) fn queued_introspections(&self) -> impl Iterator<Item = FetchKey> {
        let of = |id| self.introspections(id).into_iter().map(move |own| (id, own));
        let issuers = (0..self.issuers.len()).map(IssuerId).flat_map(of);
        issuers.flat_map(|(id, own)| own.cache.queued().map(move |entry| FetchKey::Introspection(id, entry)))
    }

    pub(super) fn answer(&self, id: IssuerId, entry: CacheEntryId) -> Option<&Lease<IntrospectionResult>> {
        self.introspections(id)?.cache.cached(entry)
    }

    /// When to look at this fetch again.
    pub(super) fn next_event_of_answer(
        &self,
        id: IssuerId,
        entry: CacheEntryId,
        now: Instant,
    ) -> Option<Instant> {
        let lease = self.answer(id, entry)?;
        if lease.in_flight() {
            return Some(lease.next_event());
        }
        let not_before = self.introspections(id)?.cache.not_before(entry)?;
        self.introspection_endpoint(id, now).map(|_| lease.next_event().max(not_before))
    }

    #[inline(never)]
    pub(super) fn introspection_call(
        &self,
        id: IssuerId,
        entry: CacheEntryId,
        now: Now,
        signer: &mut Signer,
    ) -> Option<Result<HttpCall, FetchError>> {
        let issuer = self.policy.issuers.get(id.0)?;
        let endpoint = self.introspection_endpoint(id, now.instant)?;
        let introspections = self.introspections(id)?;
        let (token, _) = introspections.cache.queued_fetch(entry)?;
        let turn = introspections.secret_rotation.index();
        Some(issuer.introspection.as_ref()?.call(endpoint, issuer.timeout, token, turn, now.unix, signer))
    }

    /// An answer came, or there will be none: `read` is what it brings. The next secret is tried at once, as for tokens.
    #[inline(never)]
    pub(super) fn finish_introspection(
        &mut self,
        ticket: FetchId,
        reply: &HttpReply,
        now: Now,
        dice: &mut Rng,
    ) -> Option<FetchOutcome> {
        let FetchId { key: want, attempt, secret } = ticket;
        let FetchKey::Introspection(id, entry) = want else { return None };
        if !self.answer(id, entry)?.is_running(attempt) {
            return None;
        }
        let read = self.read_introspection(id, entry, reply, now, dice);
        let ways = self.policy.issuers.get(id.0)?.introspection.as_ref()?.auth.len();
        let introspections = self.introspections_mut(id)?;
        if token_response::rejects_client(reply) {
            introspections.secret_rotation.advance(secret, ways);
            let lease = introspections.cache.cached_mut(entry)?;
            if let Err(failure) = &read
                && SecretRotation::has_more(lease.secret_retries(), ways)
            {
                lease.restart_with_next_secret(attempt);
                let detail = format!("{}; the next secret is tried", failure.detail);
                return Some(FetchOutcome {
                    key: want,
                    result: Err(FetchError { detail, ..failure.clone() }),
                });
            }
        }
        if matches!(&read, Ok((Fetched { value: Ok(_), .. }, _))) {
            // What fails or is not active keeps nothing of the body.
            introspections.cache.set_size(entry, reply.body.as_deref().unwrap_or_default().len());
        }
        let result = finish_lease(introspections.cache.cached_mut(entry)?, attempt, now.instant, read, dice)?;
        self.finish_exchange(want, result.as_ref().err(), reply.status, now.instant, dice);
        Some(FetchOutcome { key: want, result })
    }

    /// A fetch ended without an answer.
    #[inline(never)]
    pub(super) fn fail_introspection(
        &mut self,
        ticket: FetchId,
        failure: FetchError,
        now: Instant,
        dice: &mut Rng,
    ) -> Option<FetchOutcome> {
        let FetchKey::Introspection(id, entry) = ticket.key else { return None };
        let lease = self.introspections_mut(id)?.cache.cached_mut(entry)?;
        let result = finish_lease(lease, ticket.attempt, now, Err(failure), dice)?;
        self.finish_exchange(ticket.key, result.as_ref().err(), None, now, dice);
        Some(FetchOutcome { key: ticket.key, result })
    }

    /// Whether the answer to this never came.
    pub(super) fn lost_introspection(
        &mut self,
        id: IssuerId,
        entry: CacheEntryId,
        now: Instant,
        dice: &mut Rng,
    ) -> bool {
        let answers = self.introspections_mut(id).map(|introspections| &mut introspections.cache);
        let lease = answers.and_then(|answers| answers.cached_mut(entry));
        lease.is_some_and(|lease| lease.in_flight() && lease.give_up_lost(now, dice))
    }

    fn read_introspection(
        &self,
        id: IssuerId,
        entry: CacheEntryId,
        reply: &HttpReply,
        now: Now,
        dice: &mut Rng,
    ) -> FetchResult<IntrospectionResult> {
        let issuer = self.policy.issuers.get(id.0).ok_or_else(gone)?;
        let introspection = issuer.introspection.as_ref().ok_or_else(gone)?;
        let asking = self.introspections(id).and_then(|own| own.cache.queued_fetch(entry));
        let (token, verified) = asking.ok_or_else(gone)?;
        let members = introspection.read(reply, token)?;
        let verdict = jwt::introspected(members, verified.as_ref(), &issuer.profile, now.unix);
        let (renew_after, end_after) = match &verdict {
            Ok(caller) => {
                let left = Duration::from_secs(caller.accepted_until().saturating_sub(now.unix));
                let end = introspection.cache.min(left);
                // At 80 % of its time, less up to a tenth of it, in the background: who is revoked is found out, and who is
                // not does not wait.
                ((end / 5 * 4).saturating_sub(dice.duration_up_to(end / 10)), end)
            }
            Err(_) => (introspection.negative_cache, introspection.negative_cache),
        };
        Ok((Fetched { value: verdict, renew_after, end_after }, "an answer about a token".to_owned()))
    }
}
