//! The names that an operator gives, and references to them.

use super::Compiler;
use crate::config::Config;
use crate::config::errors;
use crate::config::path_deserializer::Path;
use std::rc::Rc;

/// Names that others may refer to.
pub(super) struct DeclaredNames {
    declared: Vec<String>,
    /// Names whose own error has been reported: a reference to them is no further error.
    invalid: Vec<String>,
    /// Not even the names could be read.
    unreadable: bool,
}

impl DeclaredNames {
    pub(super) fn of<'n>(
        read: &errors::ReadConfig<Config>,
        object: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Self {
        let (broken, lost) = (read.removed_from(object), read.was_removed(object));
        Self { declared: known.map(str::to_owned).collect(), invalid: broken, unreadable: lost }
    }

    /// The place of a name, or what is wrong with it.
    pub(super) fn index_of(&self, name: Option<&str>, kind: &str) -> Result<usize, Option<String>> {
        if let Some(place) = name.and_then(|name| self.declared.iter().position(|known| known == name)) {
            return Ok(place);
        }
        let told =
            self.unreadable || name.is_some_and(|name| self.invalid.iter().any(|broken| broken == name));
        Err((!told).then(|| {
            let found = name.map_or_else(|| "missing".to_owned(), |name| format!("{name:?} is not {kind}"));
            let known = self.declared.join(", ").replace(|c: char| c.is_ascii_control(), "?");
            format!("{found}, expected one of: {known}")
        }))
    }
}

impl Compiler<'_> {
    /// Names that the operator gave, or that follow from positions.
    #[inline(never)]
    pub(super) fn check_distinct<'n>(&mut self, path: &Path, names: impl Iterator<Item = Option<&'n str>>) {
        let mut seen: Vec<(Rc<str>, bool)> = Vec::new();
        for (index, written) in names.enumerate() {
            let name = rule_name(written, index);
            let twice =
                seen.iter().find(|(known, _)| *known == name).map(|(_, given)| *given && written.is_some());
            // A position is not what it was once a rule before it could not be read.
            let unless = if twice == Some(true) { Vec::new() } else { vec![path.clone()] };
            if twice.is_some() {
                let fault = format!("{name:?} twice, expected distinct names");
                self.error_unless(unless, &path.index(index).name("name"), &fault);
            }
            seen.push((name, written.is_some()));
        }
    }
}

/// A rule's name, which its position gives it if the operator does not.
pub(super) fn rule_name(name: Option<&str>, index: usize) -> Rc<str> {
    name.map_or_else(|| format!("rule-{index}").into(), Into::into)
}
