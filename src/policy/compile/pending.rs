//! Bounds on pending requests.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::policy::PendingRequests;
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const DEFAULTS: PendingRequests =
    PendingRequests { timeout: Duration::from_secs(5), max: 1000, max_bytes: 64 * 1024 * 1024 };

/// The longest `pending_requests.timeout`: callers give up before, and who is held longer only fills the lines.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The most `pending_requests.max`: each holds its headers, some 2 KB, so that these are 20 MB of one worker.
const MAX_REQUESTS: usize = 10_000;

/// The most `pending_requests.max_bytes`: as much as the VM itself may have. It is memory of the host, for each worker.
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
            self.error(&path.name("timeout"), "above 60s, expected at most 60s: callers give up before");
        }
        if bounds.max > MAX_REQUESTS {
            let fault =
                format!("{}, expected at most 10000: each pending request holds its headers", bounds.max);
            self.error(&path.name("max"), &fault);
        }
        if bounds.max_bytes > MAX_BYTES {
            let fault = format!(
                "{}, expected at most 1073741824 (1 GiB): each worker may hold so much of bodies",
                bounds.max_bytes
            );
            self.error(&path.name("max_bytes"), &fault);
        }
        bounds
    }
}
