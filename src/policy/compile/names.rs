//! Names in the configuration, and references to them.

use super::Compiler;
use crate::config::errors;
use crate::config::path_deserializer::Path;
use crate::config::{self, Config};
use std::rc::Rc;

/// Declared names, which other settings reference.
pub(super) struct DeclaredNames {
    declared: Vec<String>,
    /// Names with a reported error: a reference to them is not a further error.
    invalid: Vec<String>,
    /// Whether the names themselves could not be read.
    unreadable: bool,
}

impl DeclaredNames {
    pub(super) fn of<'n>(
        read: &errors::ReadConfig<Config>,
        object: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Self {
        let (invalid, unreadable) = (read.removed_from(object), read.was_removed(object));
        Self { declared: known.map(str::to_owned).collect(), invalid, unreadable }
    }

    /// The index of a name, or the error if it is not declared.
    pub(super) fn index_of(&self, name: Option<&str>, kind: &str) -> Result<usize, Option<String>> {
        if let Some(index) = name.and_then(|name| self.declared.iter().position(|known| known == name)) {
            return Ok(index);
        }
        let reported =
            self.unreadable || name.is_some_and(|name| self.invalid.iter().any(|invalid| invalid == name));
        Err((!reported).then(|| {
            let found = name.map_or_else(|| "missing".to_owned(), |name| format!("{name:?} is not {kind}"));
            let known = self.declared.join(", ").replace(|c: char| c.is_ascii_control(), "?");
            format!("{found}, expected one of: {known}")
        }))
    }
}

impl Compiler<'_> {
    /// Checks that the configured names of rules differ.
    #[inline(never)]
    pub(super) fn check_distinct<'n>(&mut self, path: &Path, names: impl Iterator<Item = Option<&'n str>>) {
        let mut seen = Vec::new();
        for (index, name) in names.enumerate() {
            if let Some(name) = name.filter(|name| seen.contains(name)) {
                let message = format!("duplicate name {name:?}, expected distinct names");
                self.error(&path.index(index).name("name"), &message);
            }
            seen.extend(name);
        }
    }
}

/// The names of all rules: configured, or derived from the match.
#[inline(never)]
pub(super) fn rule_names<'n>(
    rules: impl Iterator<Item = (Option<&'n str>, &'n config::Match)>,
) -> Vec<Rc<str>> {
    let rules: Vec<_> = rules.collect();
    let mut taken: Vec<Rc<str>> = rules.iter().filter_map(|(name, _)| *name).map(Into::into).collect();
    let mut names = Vec::new();
    for (name, matches) in rules {
        let name = name.map_or_else(|| distinct(match_name(matches), &taken), Into::into);
        taken.push(Rc::clone(&name));
        names.push(name);
    }
    names
}

/// The longest derived name, in characters.
const DERIVED_NAME_CHARS: usize = 100;

/// A name derived from the rule's match, `GET /orders/**`, so that it does not change when another
/// rule is inserted before it.
fn match_name(matches: &config::Match) -> String {
    let config::Match { host, path, path_prefix, path_template, methods, headers, cluster } = matches;
    let below = path_prefix.as_deref().map(|prefix| format!("{}/**", prefix.trim_end_matches('/')));
    let path = path.as_deref().or(path_template.as_deref()).or(below.as_deref()).unwrap_or_default();
    let resource = format!("{}{path}", host.as_deref().unwrap_or_default());
    let mut parts = vec![methods.join(","), resource];
    parts.extend(cluster.as_ref().map(|cluster| format!("cluster:{cluster}")));
    parts.extend(headers.iter().map(|(name, _)| format!("header:{name}")));
    parts.retain(|part| !part.is_empty());
    let name = if parts.is_empty() { "any".to_owned() } else { parts.join(" ") };
    name.chars().filter(|c| !c.is_control()).take(DERIVED_NAME_CHARS).collect()
}

/// Rules with the same match are numbered: `any`, `any #2`.
fn distinct(name: String, taken: &[Rc<str>]) -> Rc<str> {
    let numbered = (2..).map(|number| format!("{name} #{number}"));
    let mut available = std::iter::once(name.clone())
        .chain(numbered)
        .filter(|name| !taken.iter().any(|other| **other == **name));
    available.next().unwrap_or(name).into()
}
