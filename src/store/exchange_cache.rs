//! The tokens that one credential has got in exchange for others.

use super::IssuedToken;
use super::per_token::PerTokenCache;
use super::slots::CachedValue;
use super::token_state::TokenState;
use crate::oauth::fetch::FetchErrorKind;
use crate::secret::AccessToken;
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::Instant;

/// The exchanged tokens of one credential, by subject token: all other inputs are the credential's,
/// and do not change.
pub(super) type Exchanges = PerTokenCache<Exchange, SentSubject>;

/// The subject token as it is sent.
#[derive(Debug)]
pub(super) struct SentSubject {
    /// When it ends, in seconds since 1970, if that is known.
    pub(super) expires_at: Option<u64>,
    /// The token that is sent instead of the request's own: the one that was had for it before.
    pub(super) instead: Option<AccessToken>,
}

/// What was had for one subject token.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) state: TokenState,
    /// The provider does not exchange this one, and is not asked again until then.
    pub(super) denied: Option<(FetchErrorKind, Instant)>,
}

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
