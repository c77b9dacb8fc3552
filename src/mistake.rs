//! Mistakes in a configuration: where, what stands there, what was expected; all of them, not only the first.
//!
//! [`read`] lets serde find one mistake, takes the offending piece out, and reads again, until the rest is sound. It
//! does not know what a configuration means.

use crate::json;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use std::fmt;

/// One step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a member of an object.
    Name(String),
    /// Into an element of an array.
    Index(usize),
}

/// Where in a configuration something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// The member `name` of what stands here.
    pub fn name(&self, name: &str) -> Self {
        self.step(Step::Name(name.to_owned()))
    }

    /// The element `index` of what stands here.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    fn touches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    if plain { write!(f, "{dot}{name}")? } else { write!(f, "[{name:?}]")? }
                }
            }
        }
        if self.0.is_empty() { f.write_str("configuration") } else { Ok(()) }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub path: Path,
    /// What stands there, and what was expected.
    pub fault: String,
}

impl Mistake {
    /// `fault` stands at `path`.
    pub fn new(path: &Path, fault: impl Into<String>) -> Self {
        Self { path: path.clone(), fault: fault.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.fault)
    }
}

/// What could be read, and what could not.
#[derive(Debug)]
pub struct Read<T> {
    /// Everything that was sound.
    pub value: T,
    /// The mistakes, in the order of the document.
    pub mistakes: Vec<Mistake>,
    removed: Vec<Path>,
}

/// More mistakes than this are not told at once.
const MOST: usize = 50;

/// Reads a document in which every member may be absent.
pub fn read<T: DeserializeOwned>(document: &[u8]) -> Result<Read<T>, Mistake> {
    let root = Path::default();
    let mut json = json::parse(document).map_err(|error| Mistake::new(&root, format!("not JSON: {error}")))?;
    let (mut mistakes, mut removed) = (Vec::new(), Vec::new());
    loop {
        let error = match serde_path_to_error::deserialize(&json) {
            Ok(value) => return Ok(Read { value, mistakes, removed }),
            Err(error) => error,
        };
        let steps: Vec<Step> = error.path().iter().filter_map(step).collect();
        let path = original(&steps, &removed);
        let mistake = Mistake { path: path.clone(), fault: error.into_inner().to_string() };
        if steps.is_empty() || mistakes.len() >= MOST || !remove(&mut json, &steps) {
            return Err(mistake);
        }
        mistakes.push(mistake);
        removed.push(path);
    }
}

impl<T> Read<T> {
    /// Adds the mistakes that a later look found, unless they only follow from what is already known.
    pub fn and_also(self, found: Vec<Mistake>) -> Vec<Mistake> {
        let Self { mut mistakes, removed, .. } = self;
        for mistake in found {
            let path = original(&mistake.path.0, &removed);
            if !removed.iter().any(|gone| gone.touches(&path)) {
                mistakes.push(Mistake { path, ..mistake });
            }
        }
        mistakes
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Map { key } => Some(Step::Name(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// The place in the document as it was written, before elements were taken out of its arrays.
fn original(steps: &[Step], removed: &[Path]) -> Path {
    let mut path = Path::default();
    for step in steps {
        let step = match step {
            Step::Name(_) => step.clone(),
            Step::Index(index) => {
                let mut gone: Vec<usize> = removed.iter().filter_map(|removed| removed.element_of(&path)).collect();
                gone.sort_unstable();
                Step::Index(gone.into_iter().fold(*index, |index, gone| index.saturating_add((gone <= index).into())))
            }
        };
        path.0.push(step);
    }
    path
}

impl Path {
    /// The index, if this is directly an element of `array`.
    fn element_of(&self, array: &Self) -> Option<usize> {
        match self.0.split_last() {
            Some((Step::Index(index), parent)) if parent == array.0 => Some(*index),
            _ => None,
        }
    }
}

fn remove(json: &mut Value, steps: &[Step]) -> bool {
    match (steps, json) {
        ([Step::Name(name)], Value::Object(members)) => members.remove(name).is_some(),
        ([Step::Index(index)], Value::Array(elements)) => {
            let there = *index < elements.len();
            if there {
                elements.remove(*index);
            }
            there
        }
        ([Step::Name(name), rest @ ..], Value::Object(members)) => {
            members.get_mut(name).is_some_and(|value| remove(value, rest))
        }
        ([Step::Index(index), rest @ ..], Value::Array(elements)) => {
            elements.get_mut(*index).is_some_and(|value| remove(value, rest))
        }
        _ => false,
    }
}
