//! The names that an operator gives, and references to them.

use crate::config::Config;
use crate::mistake;

/// Names that others may refer to.
pub(super) struct Names {
    known: Vec<String>,
    /// Those whose own mistake has been told: a reference to them is not another one.
    broken: Vec<String>,
    /// Not even the names could be read.
    lost: bool,
}

impl Names {
    pub(super) fn of<'n>(
        read: &mistake::Read<Config>,
        object: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Self {
        let (broken, lost) = (read.removed_from(object), read.has_lost(object));
        Self { known: known.map(str::to_owned).collect(), broken, lost }
    }

    /// The place of a name, or what is wrong with it.
    pub(super) fn place(&self, name: Option<&str>, kind: &str) -> Result<usize, Option<String>> {
        if let Some(place) = name.and_then(|name| self.known.iter().position(|known| known == name)) {
            return Ok(place);
        }
        let told = self.lost || name.is_some_and(|name| self.broken.iter().any(|broken| broken == name));
        Err((!told).then(|| {
            let found = name.map_or_else(|| "missing".to_owned(), |name| format!("{name:?} is not {kind}"));
            let known = self.known.join(", ").replace(|c: char| c.is_ascii_control(), "?");
            format!("{found}, expected one of: {known}")
        }))
    }
}
