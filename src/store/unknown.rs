//! Key names that a fetch did not bring.

use crate::io::Instant;
use std::time::Duration;

/// Names that are not asked for again for a while.
#[derive(Debug, Default)]
pub(super) struct Unknown(Vec<(String, Instant)>);

/// Names that are remembered; of more, the latest.
const MOST: usize = 256;

/// How long a name stays unknown without asking again: longer than a flood likes, shorter than a provider's replicas
/// disagree.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

impl Unknown {
    /// A fetch did not bring this name.
    pub(super) fn remember(&mut self, name: &str, now: Instant) {
        self.0.retain(|(own, until)| now < *until && own != name);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push((name.to_owned(), now + UNKNOWN_FOR));
    }

    /// Whether asking for this name again would be in vain.
    pub(super) fn holds(&self, name: &str, now: Instant) -> bool {
        self.0.iter().any(|(own, until)| own == name && now < *until)
    }

    /// There are other keys now.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
