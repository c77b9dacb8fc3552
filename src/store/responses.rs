//! What a provider's response brings.

use super::{FetchKey, IssuedToken, Store};
use crate::dpop;
use crate::http::message::HttpReply;
use crate::oauth::discovery::Metadata;
use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::oauth::token_response;
use crate::policy::IssuerId;
use crate::rng::Rng;
use crate::store::lease::{Attempt, Lease};
use crate::time::Instant;
use std::time::Duration;

/// What a reply brings, and the news for the log.
pub(super) type FetchResult<T> = Result<(Fetched<T>, String), FetchError>;

/// Metadata changes when a provider is rebuilt; an hour is what most clients take.
const METADATA_REFRESH: Duration = Duration::from_secs(3600);

impl Store {
    pub(super) fn read_metadata(
        &self,
        id: IssuerId,
        reply: &HttpReply,
        dice: &mut Rng,
    ) -> FetchResult<Metadata> {
        let discovery = self.policy.issuers.get(id.0).and_then(|issuer| issuer.discovery.as_ref());
        let metadata = discovery.ok_or_else(gone)?.read(reply)?;
        Ok((fetched(metadata, METADATA_REFRESH, Duration::MAX, dice), "endpoints found".to_owned()))
    }

    pub(super) fn read_token(
        &self,
        want: FetchKey,
        reply: &HttpReply,
        unix: u64,
        dice: &mut Rng,
    ) -> FetchResult<IssuedToken> {
        let credential =
            want.credential().and_then(|id| self.policy.credentials.get(id.0)).ok_or_else(gone)?;
        let fresh = credential.grant.read(reply, self.subject(want, unix), dice)?;
        let Fetched { value: token, renew_after, end_after } = fresh;
        let state = want.credential().and_then(|id| self.credentials.get(id.0)).ok_or_else(gone)?;
        state.capped.add(u64::from(token_response::is_capped(end_after)));
        let serial = self.token_state(want).map_or(0, |state| state.serial.wrapping_add(1));
        let digest = credential.grant.dpop_bound.then(|| dpop::digest(token.reveal().as_bytes()).into());
        let news = format!("token acquired, expires in {} s", end_after.as_secs());
        let mark = self.token_hash(token.reveal().as_bytes());
        Ok((
            Fetched {
                value: IssuedToken { token, fetch_key: want, serial, hash: mark, digest },
                renew_after,
                end_after,
            },
            news,
        ))
    }
}

/// The policy has no such thing; nobody asks for it.
pub(super) fn gone() -> FetchError {
    FetchError::new(FetchErrorKind::Configuration, "not configured")
}

/// Renewed after `refresh`, less up to a tenth of it, so that workers and proxies do not ask in step.
pub(super) fn fetched<T>(value: T, refresh: Duration, end_after: Duration, dice: &mut Rng) -> Fetched<T> {
    Fetched { value, renew_after: refresh.saturating_sub(dice.duration_up_to(refresh / 10)), end_after }
}

/// Ends a fetch with what its response brings; returns the log line, or the error.
pub(super) fn finish_lease<T>(
    lease: &mut Lease<T>,
    attempt: Attempt,
    now: Instant,
    read: FetchResult<T>,
    dice: &mut Rng,
) -> Option<Result<String, FetchError>> {
    let (outcome, told) = match read {
        Ok((fresh, news)) => (Ok(fresh), Ok(news)),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    lease.finish(attempt, now, outcome, dice).then_some(told)
}
