//! Whose turn it is among several secrets: the one that worked comes first, and each fetch tries each once.
//!
//! In: what the provider answered to which one. Out: which one to try, and whether at once. It does not know the secrets.

/// A place in a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SecretRotation {
    index: usize,
}

impl SecretRotation {
    /// The one to try.
    pub(super) fn index(self) -> usize {
        self.index
    }

    /// For the log: which one, unless there is only one.
    pub(super) fn describe(used: usize, of: usize) -> String {
        if of > 1 { format!(", by secret {} of {of}", used.saturating_add(1)) } else { String::new() }
    }

    /// That one was refused: it is the next one's turn, if it was not already. Several fetches may have used it at one time.
    pub(super) fn advance(&mut self, used: usize, of: usize) {
        if used == self.index {
            let next = used.saturating_add(1);
            self.index = if next < of { next } else { 0 };
        }
    }

    /// Whether a fetch that has been made again so often by another secret may be once more.
    pub(super) fn has_more(others: usize, of: usize) -> bool {
        others.saturating_add(1) < of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_refused_is_passed_on_once_whoever_used_it() {
        let mut turn = SecretRotation::default();
        turn.advance(0, 3);
        turn.advance(0, 3);
        assert_eq!(turn.index(), 1, "two fetches had used the first");
        turn.advance(1, 3);
        turn.advance(2, 3);
        assert_eq!(turn.index(), 0, "the next round begins where this one did");
        assert_eq!(
            (SecretRotation::describe(1, 3).as_str(), SecretRotation::describe(0, 1).as_str()),
            (", by secret 2 of 3", "")
        );
    }

    #[test]
    fn each_fetch_tries_each_once() {
        assert!(SecretRotation::has_more(0, 2) && !SecretRotation::has_more(1, 2));
        assert!(
            !SecretRotation::has_more(0, 1) && !SecretRotation::has_more(0, 0),
            "one alone is never tried again at once"
        );
    }
}
