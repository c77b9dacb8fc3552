//! What an answer brings a lease: one of the provider, or one that another worker has left.

use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::rng::Rng;
use crate::store::lease::{Attempt, Backoff, Lease, Schedule};
use crate::store::shared_record::Record;
use crate::time::Instant;
use std::time::Duration;

/// What a reply brings, and the news for the log.
pub(super) type FetchResult<T> = Result<(Fetched<T>, String), FetchError>;

/// What a record brought.
pub(super) enum Adopted {
    /// A value, and the news of it.
    Value(String),
    /// Another worker's failure, or its end.
    Backoff,
}

/// The policy has no such thing; nobody asks for it.
pub(super) fn gone() -> FetchError {
    FetchError::new(FetchErrorKind::Configuration, "not configured")
}

/// Renewed after `refresh`, less up to a tenth of it, so that workers and proxies do not ask in
/// step.
pub(super) fn fetched<T>(value: T, refresh: Duration, end_after: Duration, rng: &mut Rng) -> Fetched<T> {
    Fetched { value, renew_after: refresh.saturating_sub(rng.duration_up_to(refresh / 10)), end_after }
}

/// Ends a fetch with what its response brings; returns the log line, or the error.
pub(super) fn finish_lease<T>(
    lease: &mut Lease<T>,
    attempt: Attempt,
    now: Instant,
    read: FetchResult<T>,
    rng: &mut Rng,
) -> Option<Result<String, FetchError>> {
    let (outcome, line) = match read {
        Ok((fresh, news)) => (Ok(fresh), Ok(news)),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    lease.finish(attempt, now, outcome, rng).then_some(line)
}

/// What a record says, for a lease. A body that cannot be read, or has not come yet, changes
/// nothing but the backoff.
pub(super) fn adopt_record<T>(
    lease: &mut Lease<T>,
    record: &Record,
    read: FetchResult<T>,
    now: Instant,
) -> Option<Adopted> {
    let news = read.ok().and_then(|(fresh, news)| lease.adopt(record.start, fresh).then_some(news));
    let failed = adopt_backoff(lease, record, now);
    news.map(Adopted::Value).or_else(|| failed.then_some(Adopted::Backoff))
}

/// The backoff of the worker that wrote the record holds here too. Whether that one has failed more
/// or less often.
fn adopt_backoff(schedule: &mut Schedule, record: &Record, now: Instant) -> bool {
    let Record { failures, costly_failures, not_before, urgent_not_before, retry_after_until, .. } = *record;
    let changed = failures != schedule.failures();
    let requested_at = Some(record.refresh_requested_at).filter(|at| *at > Instant::default());
    let backoff = Backoff { failures, costly_failures, not_before, urgent_not_before, retry_after_until };
    schedule.adopt_backoff(backoff, requested_at, now);
    changed
}
