//! The most that waiting may take.

use super::Compiler;
use crate::config;
use crate::located::Path;
use crate::policy::Waiting;
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const WAITING: Waiting = Waiting { timeout: Duration::from_secs(5), requests: 1000, bytes: 64 * 1024 * 1024 };

/// The longest `waiting.timeout`: callers give up before, and who is held longer only fills the lines.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The most `waiting.requests`: each holds its headers, some 2 KB, so that these are 20 MB of one worker.
const MAX_REQUESTS: usize = 10_000;

/// The most `waiting.max_bytes`: as much as the VM itself may have. It is memory of the host, for each worker.
const MAX_BYTES: usize = 1024 * 1024 * 1024;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn waiting(&mut self, waiting: &config::Waiting) -> Waiting {
        let path = Path::default().name("waiting");
        let bounds = Waiting {
            timeout: waiting.timeout.map_or(WAITING.timeout, |span| span.0),
            requests: waiting.requests.unwrap_or(WAITING.requests),
            bytes: waiting.max_bytes.unwrap_or(WAITING.bytes),
        };
        if bounds.timeout > MAX_TIMEOUT {
            self.wrong(&path.name("timeout"), "above 60s, expected at most 60s: callers give up before");
        }
        if bounds.requests > MAX_REQUESTS {
            let fault = format!(
                "{}, expected at most 10000: each waiting request holds its headers",
                bounds.requests
            );
            self.wrong(&path.name("requests"), &fault);
        }
        if bounds.bytes > MAX_BYTES {
            let fault = format!(
                "{}, expected at most 1073741824 (1 GiB): each worker may hold so much of bodies",
                bounds.bytes
            );
            self.wrong(&path.name("max_bytes"), &fault);
        }
        bounds
    }
}
