//! Waiting for an event instead of for a while: a probe is asked until it answers, or patience ends
//! with a panic.

use std::time::Duration;

/// How long an awaited event may take before the test is called broken. Far longer than anything
/// here takes, as a machine under load is no reason for a red test; only a test that fails waits
/// for so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a probe is asked.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers `Some`, and panics with `what` when [`PATIENCE`] ends.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    try_until(PATIENCE, probe).await.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Asks `probe` until it answers `Some`; `None` when `patience` ends first.
pub async fn try_until<T>(patience: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    tokio::time::timeout(patience, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await
    .ok()
}

/// The moment, for tests on real Envoy that must know how long something took.
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
