//! Errors in a configuration: path, found value, expected value; all of them, not only the first.
//!
//! [`read`] lets serde find one error, removes the invalid value, and reads again, until the rest
//! is valid. It does not interpret the configuration.

use crate::config::envoy_bytes;
use crate::config::path_deserializer::{self, Path, PathSegment};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The path of the value.
    pub path: Path,
    /// What was found, and what was expected.
    pub message: String,
    /// Paths that could explain it: it is not reported if a value within one of them could not be
    /// read.
    pub explained_by: Vec<Path>,
}

impl ConfigError {
    /// An error with `message` at `path`.
    pub fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.clone(), message: message.into(), explained_by: Vec::new() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The valid part of a document, and the errors in it.
#[derive(Debug)]
pub struct ReadConfig<T> {
    /// The values that are valid.
    pub value: T,
    /// The errors, in the order of the document.
    pub errors: Vec<ConfigError>,
    removed: Vec<Path>,
}

/// The maximum number of errors that are reported at once.
const MAX_ERRORS: usize = 50;

/// Reads a document in which every member may be absent.
pub fn read<T: for<'v> Deserialize<'v>>(document: &[u8]) -> Result<ReadConfig<T>, Vec<ConfigError>> {
    let root = Path::default();
    let mut json = envoy_bytes::read(document)
        .map_err(|error| vec![ConfigError::new(&root, format!("not JSON: {error}"))])?;
    let (mut errors, mut removed) = (Vec::new(), Vec::new());
    loop {
        let (found_path, error) = match path_deserializer::read(&json) {
            Ok(value) => {
                return Ok(ReadConfig { value, errors, removed });
            }
            Err(found) => found,
        };
        let path = original_path(found_path.steps(), &removed);
        // Errors in a value from which something was removed, such as that it is now empty, only
        // follow from the removal.
        if !removed.iter().any(|gone: &Path| gone.is_in(&path)) {
            errors.push(ConfigError::new(&path, error.0));
        }
        if found_path.steps().is_empty()
            || errors.len() >= MAX_ERRORS
            || !remove(&mut json, found_path.steps())
        {
            return Err(errors);
        }
        removed.push(path);
    }
}

impl<T> ReadConfig<T> {
    /// Whether that object, or one that contains it, was removed.
    pub fn was_removed(&self, object: &str) -> bool {
        self.removed.iter().any(|gone| gone.contains(object))
    }

    /// The members that were removed from the object at this dotted path.
    pub fn removed_from(&self, object: &str) -> Vec<String> {
        self.removed.iter().filter_map(|gone| gone.member_of(object)).map(str::to_owned).collect()
    }

    /// Adds errors that were found later, unless they only follow from errors that are already
    /// reported.
    pub fn with_errors(self, found: Vec<ConfigError>) -> Vec<ConfigError> {
        let Self { mut errors, removed, .. } = self;
        for error in found {
            let path = original_path(error.path.steps(), &removed);
            let unless: Vec<Path> =
                error.explained_by.iter().map(|path| original_path(path.steps(), &removed)).collect();
            let explained = |gone: &Path| path.is_in(gone) || unless.iter().any(|path| gone.is_in(path));
            if !removed.iter().any(explained) {
                errors.push(ConfigError { path, ..error });
            }
        }
        errors
    }
}

/// The path in the original document, before elements were removed from its arrays.
fn original_path(steps: &[PathSegment], removed: &[Path]) -> Path {
    let mut path = Path::default();
    for step in steps {
        let step = match step {
            PathSegment::Name(_) => step.clone(),
            PathSegment::Index(index) => {
                let gone =
                    |index: &usize| removed.iter().any(|removed| removed.element_of(&path) == Some(*index));
                // Each removed element moved the later ones forward by one.
                let mut original = *index;
                let mut before = 0;
                while before <= original {
                    original = original.saturating_add(gone(&before).into());
                    before = before.saturating_add(1);
                }
                PathSegment::Index(original)
            }
        };
        path = path.step(step);
    }
    path
}

fn remove(json: &mut Value, steps: &[PathSegment]) -> bool {
    match (steps, json) {
        ([PathSegment::Name(name)], Value::Object(members)) => {
            // The map's own `remove` would add several kilobytes of module.
            let before = members.len();
            for (member, value) in std::mem::take(members) {
                if member != *name {
                    members.insert(member, value);
                }
            }
            members.len() < before
        }
        ([PathSegment::Index(index)], Value::Array(elements)) => {
            let there = *index < elements.len();
            if there {
                elements.remove(*index);
            }
            there
        }
        ([PathSegment::Name(name), rest @ ..], Value::Object(members)) => {
            members.get_mut(name).is_some_and(|value| remove(value, rest))
        }
        ([PathSegment::Index(index), rest @ ..], Value::Array(elements)) => {
            elements.get_mut(*index).is_some_and(|value| remove(value, rest))
        }
        _ => false,
    }
}
