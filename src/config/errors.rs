//! Errors in a configuration: where, what stands there, what was expected; all of them, not only the first.
//!
//! [`read`] lets serde find one error, takes the offending piece out, and reads again, until the rest is sound. It
//! does not know what a configuration means.

use crate::config::envoy_bytes;
use crate::config::path_deserializer::{self, Path, PathSegment};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub path: Path,
    /// What stands there, and what was expected.
    pub message: String,
    /// Paths that could explain it: it is not reported when something in one of them could not be read.
    pub explained_by: Vec<Path>,
}

impl ConfigError {
    /// `message` stands at `path`.
    pub fn new(path: &Path, fault: impl Into<String>) -> Self {
        Self { path: path.clone(), message: fault.into(), explained_by: Vec::new() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What could be read, and what could not.
#[derive(Debug)]
pub struct ReadConfig<T> {
    /// Everything that was sound.
    pub value: T,
    /// The errors, in the order of the document.
    pub errors: Vec<ConfigError>,
    removed: Vec<Path>,
}

/// No more errors than this are reported at once.
const MAX_ERRORS: usize = 50;

/// Reads a document in which every member may be absent.
pub fn read<T: for<'v> Deserialize<'v>>(document: &[u8]) -> Result<ReadConfig<T>, Vec<ConfigError>> {
    let root = Path::default();
    let mut json = envoy_bytes::read(document)
        .map_err(|error| vec![ConfigError::new(&root, format!("not JSON: {error}"))])?;
    let (mut errors, mut removed) = (Vec::new(), Vec::new());
    loop {
        let (place, fault) = match path_deserializer::read(&json) {
            Ok(value) => {
                return Ok(ReadConfig { value, errors, removed });
            }
            Err(found) => found,
        };
        let path = original_path(place.steps(), &removed);
        // What is wrong with the rest of a value, such as that it is empty now, follows from what was taken out of it.
        if !removed.iter().any(|gone: &Path| gone.is_in(&path)) {
            errors.push(ConfigError::new(&path, fault.0));
        }
        if place.steps().is_empty() || errors.len() >= MAX_ERRORS || !remove(&mut json, place.steps()) {
            return Err(errors);
        }
        removed.push(path);
    }
}

impl<T> ReadConfig<T> {
    /// Whether that object itself, or what it stands in, was taken out.
    pub fn was_removed(&self, object: &str) -> bool {
        self.removed.iter().any(|gone| gone.contains(object))
    }

    /// The members that were taken out of the object at this dotted path.
    pub fn removed_from(&self, object: &str) -> Vec<String> {
        self.removed.iter().filter_map(|gone| gone.member_of(object)).map(str::to_owned).collect()
    }

    /// Adds the errors that a later look found, unless they only follow from what is already known.
    pub fn with_errors(self, found: Vec<ConfigError>) -> Vec<ConfigError> {
        let Self { mut errors, removed, .. } = self;
        for error in found {
            let path = original_path(error.path.steps(), &removed);
            let unless: Vec<Path> =
                error.explained_by.iter().map(|place| original_path(place.steps(), &removed)).collect();
            let explained = |gone: &Path| path.is_in(gone) || unless.iter().any(|place| gone.is_in(place));
            if !removed.iter().any(explained) {
                errors.push(ConfigError { path, ..error });
            }
        }
        errors
    }
}

/// The place in the document as it was written, before elements were taken out of its arrays.
fn original_path(steps: &[PathSegment], removed: &[Path]) -> Path {
    let mut path = Path::default();
    for step in steps {
        let step = match step {
            PathSegment::Name(_) => step.clone(),
            PathSegment::Index(index) => {
                let gone =
                    |index: &usize| removed.iter().any(|removed| removed.element_of(&path) == Some(*index));
                // Each element that is gone moved the later ones forward by one.
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
            // `remove` of a tree costs several kilobytes of module.
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
