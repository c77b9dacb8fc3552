//! Tokens that are had in exchange for a caller's own (RFC 8693): one for each subject token.

use super::per_token::{CacheMiss, PerTokenCache};
use super::slots::{CacheEntryId, CachedValue};
use super::token_state::TokenState;
use super::{FetchKey, IssuedToken, LookupError, Store};
use crate::http::message::Service;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::CredentialId;
use crate::rng::Rng;
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::{Instant, Now};
use std::time::Duration;

/// The token that is exchanged.
#[derive(Clone, Copy)]
pub struct ExchangeSubject<'a> {
    /// As it stands in the request.
    pub token: &'a str,
    /// When it ends, in seconds since 1970, if that is known.
    pub expires_at: Option<u64>,
}

/// The exchanged tokens of one credential, by subject token: all other inputs are the credential's, and do not change. With
/// each goes when the subject token ends.
pub(super) type Exchanges = PerTokenCache<Exchange, Option<u64>>;

/// What was had for one subject token.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) state: TokenState,
    /// The provider does not exchange this one, and is not asked again until then.
    denied: Option<(FetchErrorKind, Instant)>,
}

/// How long a subject token that was denied is not asked for again: a client that tries it in a loop costs the provider little, and
/// one that is given the right meanwhile has its token soon.
const DENIED_FOR: Duration = Duration::from_secs(5);

impl CachedValue for Exchange {
    type Value = IssuedToken;

    fn new(pace: RetryPolicy) -> Self {
        Self { state: TokenState::new(pace), denied: None }
    }

    fn lease(&self) -> &Lease<IssuedToken> {
        &self.state.lease
    }

    fn lease_mut(&mut self) -> &mut Lease<IssuedToken> {
        &mut self.state.lease
    }

    fn denied(&self, now: Instant) -> Option<FetchErrorKind> {
        self.denied.filter(|(_, until)| now < *until).map(|(cause, _)| cause)
    }

    fn is_known(&self) -> bool {
        self.state.lease.last_value().is_some()
    }
}

impl Store {
    /// The token that the credential gets in exchange for this one; `held_for` as for its own.
    pub fn exchanged(
        &mut self,
        credential: CredentialId,
        subject: ExchangeSubject<'_>,
        now: Now,
        patience: Duration,
        service: Service,
    ) -> Result<IssuedToken, LookupError> {
        let unreachable = self.until_token_endpoint(credential, now.instant, patience);
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(LookupError::Unavailable(Duration::from_secs(1)));
        };
        let is_refused =
            |own: &Exchange| !patience.is_zero() && own.state.is_being_replaced(service, now.instant);
        let found = state.exchanges.get(subject.token, subject.expires_at, now.instant, is_refused);
        found
            .map_err(|not_here| not_here.missing(unreachable, |entry| FetchKey::Exchanged(credential, entry)))
    }

    /// The subject token of an exchange, and how long it is still good.
    pub(super) fn subject(&self, want: FetchKey, unix: u64) -> Option<(&str, Option<Duration>)> {
        let FetchKey::Exchanged(id, entry) = want else { return None };
        let (token, ends) = self.credentials.get(id.0)?.exchanges.queued_fetch(entry)?;
        Some((token, ends.map(|ends| Duration::from_secs(ends.saturating_sub(unix)))))
    }

    /// A fetch for one token ended; the others are no concern of this.
    pub(super) fn finish_exchange(
        &mut self,
        want: FetchKey,
        failure: Option<&FetchError>,
        status: Option<u16>,
        now: Instant,
        dice: &mut Rng,
    ) {
        if let FetchKey::Introspection(id, entry) = want
            && let Some(introspections) = self.introspections_mut(id)
        {
            introspections.cache.finish(entry, failure, status, now, dice);
        }
        let Some(exchanges) = self.exchanges(want) else { return };
        let FetchKey::Exchanged(_, entry) = want else { return };
        let cause = failure.map(|failure| failure.kind);
        let denied = cause.filter(|cause| matches!(cause, FetchErrorKind::Subject | FetchErrorKind::Denied));
        if let Some(exchange) = exchanges.cached_mut(entry) {
            exchange.denied = denied.map(|cause| (cause, now + DENIED_FOR));
        }
        exchanges.finish(entry, failure, status, now, dice);
    }

    pub(super) fn exchanges(&mut self, want: FetchKey) -> Option<&mut Exchanges> {
        let FetchKey::Exchanged(id, _) = want else { return None };
        self.credentials.get_mut(id.0).map(|state| &mut state.exchanges)
    }
}

impl CacheMiss {
    /// For a request: `unreachable` is what the fetches wait for themselves.
    pub(super) fn missing(
        self,
        unreachable: Option<LookupError>,
        want: impl FnOnce(CacheEntryId) -> FetchKey,
    ) -> LookupError {
        match (self, unreachable) {
            (Self::Denied(cause), _) => LookupError::Denied(cause),
            (Self::Full, _) => LookupError::Full,
            (Self::Failing(wait), _) => LookupError::Unavailable(wait),
            (Self::Queued(_), Some(missing)) => missing,
            (Self::Queued(entry), None) => LookupError::Wait(want(entry)),
        }
    }
}
