//! YAML texts to values, with the place of everything that is wrong.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment as Step;
use serde_yaml::Value;

use super::locate::{MAX_DEPTH, Positions, Segment, positions};
use super::{FieldPath, Position, Problem};

/// The most repeated keys that are reported of a document.
const MAX_DUPLICATES: usize = 32;

/// A document that is not empty.
pub(crate) struct Node<'a> {
    file: &'a str,
    positions: Positions,
    pub(crate) value: Value,
}

/// Where a document is, for what is found out when it is no longer read.
#[derive(Debug, Clone)]
pub(crate) enum Located {
    /// In a file.
    File { file: Arc<str>, positions: Arc<Positions> },
    /// In no file any more: it was applied, and this is what messages call it.
    Applied(Arc<str>),
}

/// Where a document is, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// In a file.
    File {
        /// The file.
        file: Arc<str>,
        /// The line.
        line: usize,
    },
    /// It was applied through the API.
    Applied,
}

impl fmt::Display for Spot {
    /// `FILE:LINE` or `applied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Applied => f.write_str("applied"),
        }
    }
}

impl Located {
    /// Where a field is, or else the innermost parent that exists.
    pub(crate) fn spot(&self, path: &FieldPath) -> Spot {
        match self {
            Self::File { file, positions } => {
                Spot::File { file: Arc::clone(file), line: positions.locate(path).line }
            }
            Self::Applied(_) => Spot::Applied,
        }
    }

    /// A problem of a field.
    pub(crate) fn problem(&self, path: &FieldPath, message: &str) -> Problem {
        match self {
            Self::File { file, positions } => {
                Problem::at(file, positions.locate(path), path, message)
            }
            Self::Applied(name) => Problem::of_field(name, path, message),
        }
    }
}

impl Node<'_> {
    /// Where it is, without what it says.
    pub(crate) fn into_located(self) -> Located {
        Located::File { file: self.file.into(), positions: Arc::new(self.positions) }
    }

    /// Whether there is a field of that path.
    pub(crate) fn has(&self, path: &FieldPath) -> bool {
        self.positions.has(path)
    }

    /// A problem of a field.
    pub(crate) fn problem(&self, path: &FieldPath, message: &str) -> Problem {
        Problem::at(self.file, self.positions.locate(path), path, message)
    }

    /// The document as a `T`.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let path: FieldPath = error.path().iter().filter_map(segment).collect();
            let message = error.inner().to_string();
            let missing = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`'));
            match missing {
                Some(field) => self.problem(&path.key(field), "missing required field"),
                None => {
                    let message = message.replacen("unit value", "null", 1);
                    self.problem(&path, &message.replace("expected i32", "expected an integer"))
                }
            }
        })
    }
}

fn segment(step: &Step) -> Option<Segment> {
    match step {
        Step::Seq { index } => Some(Segment::Index(*index)),
        Step::Map { key } => Some(Segment::Key(key.clone())),
        Step::Enum { .. } | Step::Unknown => None,
    }
}

/// The documents of a text, without the empty ones, and what is no YAML.
pub(crate) fn stream<'a>(file: &'a str, text: &str) -> (Vec<Node<'a>>, Vec<Problem>) {
    let mut nodes = Vec::new();
    let mut problems = Vec::new();
    let mut located = match positions(text) {
        Ok(located) => located.into_iter().peekable(),
        Err(at) => {
            let message = format!("nested too deeply, expected at most {MAX_DEPTH} levels");
            return (nodes, vec![Problem::at(file, at, "", &message)]);
        }
    };
    for document in serde_yaml::Deserializer::from_str(text) {
        let found = located.next();
        let last = located.peek().is_none();
        let positions = found.unwrap_or_default();
        let repeated = positions.duplicates(MAX_DUPLICATES);
        problems.extend(repeated.iter().map(|found| {
            let message = format!("key is defined twice (first on line {})", found.first.line);
            Problem::at(file, found.second, &found.path, &message)
        }));
        match Value::deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) if repeated.is_empty() => nodes.push(Node { file, positions, value }),
            Ok(_) => {}
            Err(error) => {
                let problem = no_yaml(file, &positions, &error);
                if repeated.is_empty() && problems.last() != Some(&problem) {
                    problems.push(problem);
                }
                // After an error in the stream the same one comes for ever; after an alias
                // of nothing, the rest of the document as if it were one.
                if last {
                    break;
                }
            }
        }
    }
    (nodes, problems)
}

fn no_yaml(file: &str, positions: &Positions, error: &serde_yaml::Error) -> Problem {
    let message = error.to_string();
    match error.location() {
        Some(at) => {
            let place = format!(" at line {} column {}", at.line(), at.column());
            let at = Position { line: at.line(), column: at.column() };
            Problem::at(file, at, "", &format!("invalid YAML: {}", message.replacen(&place, "", 1)))
        }
        None => {
            let at = positions.locate(&FieldPath::root());
            Problem::at(file, at, "", &format!("invalid YAML: {message}"))
        }
    }
}
