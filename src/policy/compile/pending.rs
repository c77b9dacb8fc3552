//! Compiles the bounds on pending requests.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::policy::PendingRequests;
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const DEFAULTS: PendingRequests =
    PendingRequests { timeout: Duration::from_secs(5), max: 1000, max_bytes: 64 * 1024 * 1024 };

/// The longest `pending_requests.timeout`: callers time out earlier, and longer waits only use
/// memory.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum `pending_requests.max`: each holds its headers, about 2 KB, so these are 20 MB of
/// one worker.
const MAX_REQUESTS: usize = 10_000;

/// The maximum `pending_requests.max_bytes`: the maximum memory of the VM itself. It is host
/// memory, for each worker.
const MAX_BYTES: usize = 1024 * 1024 * 1024;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn pending_requests(&mut self, pending: &config::PendingRequests) -> PendingRequests {
        let path = Path::default().name("pending_requests");
        let bounds = PendingRequests {
            timeout: pending.timeout.map_or(DEFAULTS.timeout, |span| span.0),
            max: pending.max.unwrap_or(DEFAULTS.max),
            max_bytes: pending.max_bytes.unwrap_or(DEFAULTS.max_bytes),
        };
        if bounds.timeout > MAX_TIMEOUT {
            self.duration_error(&path.name("timeout"), bounds.timeout, "at most 60s");
        }
        if bounds.max > MAX_REQUESTS {
            let message = format!("{}, expected at most 10000", bounds.max);
            self.error(&path.name("max"), &message);
        }
        if bounds.max_bytes > MAX_BYTES {
            let message = format!("{}, expected at most 1073741824 (1 GiB)", bounds.max_bytes);
            self.error(&path.name("max_bytes"), &message);
        }
        bounds
    }
}
