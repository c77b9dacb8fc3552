//! Key names that a fetch did not bring.

use crate::metrics::Tally;
use crate::time::Instant;
use std::time::Duration;

/// Names that are not asked for again for a while.
#[derive(Debug, Default)]
pub(super) struct UnknownKids {
    names: Vec<(String, Instant)>,
    /// Names that were dropped before their time was up.
    pub(super) dropped: Tally,
}

/// Names that are remembered; of more, the latest. Some 20 KB, and more than a provider has in a
/// year of rotations: a client that sends more makes them up, and costs a fetch per interval
/// (`UNKNOWN_KID_INTERVAL`) whether they are remembered or not.
const MOST: usize = 256;

/// How long a name stays unknown without asking again: longer than a flood likes, shorter than a
/// provider's replicas disagree.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

impl UnknownKids {
    /// A fetch did not bring this name.
    pub(super) fn remember(&mut self, name: &str, now: Instant) {
        self.names.retain(|(own, until)| now < *until && own != name);
        if self.names.len() >= MOST {
            self.names.remove(0);
            self.dropped.add(1);
        }
        self.names.push((name.to_owned(), now + UNKNOWN_FOR));
    }

    /// Whether asking for this name again would be in vain.
    pub(super) fn contains(&self, name: &str, now: Instant) -> bool {
        self.names.iter().any(|(own, until)| own == name && now < *until)
    }

    /// There are other keys now.
    pub(super) fn clear(&mut self) {
        self.names.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_names_than_there_is_room_for_the_latest_are_remembered() {
        let (mut unknown, now) = (UnknownKids::default(), Instant::default());
        for number in 0..300 {
            unknown.remember(&number.to_string(), now);
        }
        assert!(!unknown.contains("43", now) && unknown.contains("44", now) && unknown.contains("299", now));
        assert_eq!(unknown.dropped.take(), 44);
    }
}
