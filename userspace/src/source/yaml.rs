//! YAML texts to values, with the place of everything that is wrong.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment as Step;
use serde_yaml::Value;

use super::locate::{MAX_DEPTH, Positions, Segment, positions};
use super::plain::{NO_TEXT, plain};
use super::text::{escapes_of_json, parts, unmarked};
use super::{FieldPath, Position, Problem, list, merge};

/// The most repeated keys that are reported of a document.
const MAX_DUPLICATES: usize = 32;

/// A document that is not empty.
pub(crate) struct Node<'a> {
    file: &'a str,
    places: Places,
    pub(crate) value: Value,
}

/// Where the fields of a document are: found out when something is wrong with
/// one, as that takes longer than all the rest.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The text that the document is in, alone or with others.
    text: Arc<str>,
    /// How many lines are before it in the file.
    before: usize,
    /// Which of its documents.
    index: usize,
    /// Which part of the document: the root, but for an item of a list.
    base: FieldPath,
    found: Arc<OnceLock<Positions>>,
}

/// Texts of more bytes are searched once.
const LONG: usize = 1 << 16;

impl Places {
    fn find(&self) -> &Positions {
        let find = || positions(&self.text).ok()?.into_iter().nth(self.index);
        self.found.get_or_init(|| find().unwrap_or_default())
    }

    fn locate(&self, path: &FieldPath) -> Position {
        let at = self.find().locate(&self.path(path));
        Position { line: at.line + self.before, ..at }
    }

    /// The path of a field in the whole document.
    fn path(&self, path: &FieldPath) -> FieldPath {
        self.base.segments().iter().chain(path.segments()).cloned().collect()
    }

    /// The same, to be kept: short texts are searched again when they have to be.
    fn persisted(self) -> Self {
        // Items of a list share what was found.
        if self.text.len() > LONG || self.base != FieldPath::root() {
            self.find();
            return self;
        }
        Self { found: Arc::default(), ..self }
    }
}

/// Where a document is, for what is found out when it is no longer read.
#[derive(Debug, Clone)]
pub(crate) enum Located {
    /// In a file.
    File { file: Arc<str>, places: Places },
    /// In no file any more: it was applied, and this is what messages call it.
    Applied(Arc<str>),
    /// In a cluster's API server, and this is what messages call it.
    Cluster(Arc<str>),
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
    /// It is in a cluster's API server.
    Cluster,
}

impl fmt::Display for Spot {
    /// `FILE:LINE`, `applied` or `cluster`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Applied => f.write_str("applied"),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

impl Located {
    /// Where a field is, or else the innermost parent that exists.
    pub(crate) fn spot(&self, path: &FieldPath) -> Spot {
        match self {
            Self::File { file, places } => {
                // Not found for good: who asks once seldom asks again.
                let line = places.clone().locate(path).line;
                Spot::File { file: Arc::clone(file), line }
            }
            Self::Applied(_) => Spot::Applied,
            Self::Cluster(_) => Spot::Cluster,
        }
    }

    /// A problem of a field.
    pub(crate) fn problem(&self, path: &FieldPath, message: &str) -> Problem {
        match self {
            Self::File { file, places } => {
                Problem::at(file, places.clone().locate(path), places.path(path), message)
            }
            Self::Applied(name) | Self::Cluster(name) => Problem::of_field(name, path, message),
        }
    }
}

impl<'a> Node<'a> {
    /// Whether it is a list of documents.
    fn is_list(&self) -> bool {
        list::is_list(&self.value)
    }

    /// The items of a list, each a document of its own; or what is wrong with them.
    fn items(mut self) -> Result<Vec<Node<'a>>, Problem> {
        let at = FieldPath::of(list::ITEMS);
        let no = |node: &Self| node.problem(&at, "not a list, expected the documents");
        let items = list::items(&mut self.value).ok_or_else(|| no(&self))?;
        let item = |(index, value)| {
            let base = self.places.path(&at.index(index));
            Node { file: self.file, places: Places { base, ..self.places.clone() }, value }
        };
        Ok(items.into_iter().enumerate().map(item).collect())
    }

    /// Where it is, without what it says.
    pub(crate) fn into_located(self) -> Located {
        Located::File { file: self.file.into(), places: self.places.persisted() }
    }

    /// Whether there is a field of that path.
    pub(crate) fn has(&self, path: &FieldPath) -> bool {
        let step = |value, segment: &Segment| match segment {
            Segment::Key(key) => Value::get(value, key.as_str()),
            Segment::Index(index) => Value::get(value, *index),
        };
        path.segments().iter().try_fold(&self.value, step).is_some()
    }

    /// A problem of a field.
    pub(crate) fn problem(&self, path: &FieldPath, message: &str) -> Problem {
        Problem::at(self.file, self.places.locate(path), self.places.path(path), message)
    }

    /// The document as a `T`.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // The path is followed only if there is something to say about it.
        if let Ok(typed) = T::deserialize(&self.value) {
            return Ok(typed);
        }
        let mut value = self.value.clone();
        whole(&mut value);
        serde_path_to_error::deserialize(&value).map_err(|error| {
            let path: FieldPath = error.path().iter().filter_map(segment).collect();
            let message = error.inner().to_string();
            let missing = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`'));
            match missing {
                Some(field) => self.problem(&path.key(field), "missing required field"),
                None => {
                    let choices = self.choices::<T>(&path).filter(|_| message.contains(NO_TEXT));
                    let choices = choices.as_deref().unwrap_or("a string");
                    self.problem(&path, &plain(&message.replacen(NO_TEXT, choices, 1)))
                }
            }
        })
    }

    /// The texts that a field of a `T` takes: what is said if it has one that none takes.
    fn choices<T: DeserializeOwned>(&self, path: &FieldPath) -> Option<String> {
        let mut value = self.value.clone();
        let step = |value, segment: &Segment| match segment {
            Segment::Key(key) => Value::get_mut(value, key.as_str()),
            Segment::Index(index) => Value::get_mut(value, *index),
        };
        *path.segments().iter().try_fold(&mut value, step)? = Value::String(String::new());
        let error = serde_path_to_error::deserialize::<_, T>(&value).err()?;
        let same: FieldPath = error.path().iter().filter_map(segment).collect();
        let message = error.inner().to_string();
        let (_, expected) = message.split_once(", expected ").filter(|_| same == *path)?;
        Some(expected.to_owned())
    }
}

fn segment(step: &Step) -> Option<Segment> {
    match step {
        Step::Seq { index } => Some(Segment::Index(*index)),
        Step::Map { key } => Some(Segment::Key(key.clone())),
        Step::Enum { .. } | Step::Unknown => None,
    }
}

/// The documents of a text, without the empty ones and with the items of lists
/// in place of the lists; and what is no YAML.
pub(crate) fn documents<'a>(file: &'a str, text: &str) -> (Vec<Node<'a>>, Vec<Problem>) {
    let (nodes, mut problems) = stream(file, text);
    let mut open: Vec<Node<'_>> = nodes.into_iter().rev().collect();
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        if !node.is_list() {
            found.push(node);
            continue;
        }
        match node.items() {
            // Lists may hold lists.
            Ok(items) => open.extend(items.into_iter().rev()),
            Err(problem) => problems.push(problem),
        }
    }
    (found, problems)
}

/// The documents of a text as they are written, without the empty ones, and what is no YAML.
pub(crate) fn stream<'a>(file: &'a str, text: &str) -> (Vec<Node<'a>>, Vec<Problem>) {
    let mut nodes = Vec::new();
    let mut problems = Vec::new();
    let text = unmarked(text);
    for (before, part) in parts(&escapes_of_json(&text)) {
        let part = Part { file, text: part.into(), before };
        match part.documents() {
            Some(values) => nodes.extend(part.nodes(values)),
            None => {
                let (good, found) = part.examined();
                nodes.extend(good);
                problems.extend(found);
            }
        }
    }
    (nodes, problems)
}

/// A part of a file.
struct Part<'a> {
    file: &'a str,
    text: Arc<str>,
    before: usize,
}

impl<'a> Part<'a> {
    /// Its documents, if nothing is wrong with them.
    fn documents(&self) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&self.text) {
            // A key that is there twice is an error here.
            let mut value = Value::deserialize(document).ok()?;
            if !is_flat(&value, MAX_DEPTH) || merge::resolve(&mut value).is_err() {
                return None;
            }
            values.push(value);
        }
        Some(values)
    }

    fn places(&self, index: usize) -> Places {
        let (text, before) = (Arc::clone(&self.text), self.before);
        Places { text, before, index, base: FieldPath::root(), found: Arc::default() }
    }

    fn nodes(&self, values: Vec<Value>) -> impl Iterator<Item = Node<'a>> {
        let values = values.into_iter().enumerate().filter(|(_, value)| !value.is_null());
        values.map(|(index, value)| Node { file: self.file, places: self.places(index), value })
    }

    /// Its documents, and what is wrong with others.
    fn examined(&self) -> (Vec<Node<'a>>, Vec<Problem>) {
        let mut nodes = Vec::new();
        let mut problems = Vec::new();
        let at = |at: Position, field: &FieldPath, message: &str| {
            let at = Position { line: at.line + self.before, ..at };
            Problem::at(self.file, at, field, message)
        };
        let root = FieldPath::root();
        let mut located = match positions(&self.text) {
            Ok(located) => located.into_iter().peekable(),
            Err(deep) => {
                let message = format!("nested too deeply, expected at most {MAX_DEPTH} levels");
                return (nodes, vec![at(deep, &root, &message)]);
            }
        };
        for (index, document) in serde_yaml::Deserializer::from_str(&self.text).enumerate() {
            let positions = located.next().unwrap_or_default();
            let last = located.peek().is_none();
            let repeated = positions.duplicates(MAX_DUPLICATES);
            problems.extend(repeated.iter().map(|found| {
                let first = found.first.line + self.before;
                let message = format!("key is defined twice (first on line {first})");
                at(found.second, &found.path, &message)
            }));
            match Value::deserialize(document) {
                Ok(Value::Null) => {}
                Ok(mut value) if repeated.is_empty() => match merge::resolve(&mut value) {
                    Ok(()) => {
                        let found = Arc::new(OnceLock::from(positions));
                        let places = Places { found, ..self.places(index) };
                        nodes.push(Node { file: self.file, places, value });
                    }
                    Err(path) => {
                        problems.push(at(positions.locate(&path), &path, merge::EXPECTED));
                    }
                },
                Ok(_) => {}
                Err(error) => {
                    let (place, path, message) = no_yaml(&self.text, &positions, &error);
                    let problem = at(place, &path, &message);
                    if repeated.is_empty() && problems.last() != Some(&problem) {
                        problems.push(problem);
                    }
                    // After an error in the stream the same one comes for ever; after an
                    // alias of nothing, the rest of the document as if it were one.
                    if last {
                        break;
                    }
                }
            }
        }
        (nodes, problems)
    }
}

/// Floating point numbers beyond this do not tell all integers apart.
const MAX_WHOLE: f64 = (1_u64 << 53) as f64;

/// Makes integers of floating point numbers that are whole, as `kubectl` does when it makes
/// JSON of YAML: of `80.0` and `8e1`, 80.
fn whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(float) = float.filter(|x| x.fract() == 0.0 && x.abs() <= MAX_WHOLE) {
                *value = Value::from(float as i64);
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(whole),
        Value::Mapping(entries) => entries.values_mut().for_each(whole),
        Value::Tagged(tagged) => whole(&mut tagged.value),
        _ => {}
    }
}

/// Whether a value is nested so deep at most.
fn is_flat(value: &Value, levels: usize) -> bool {
    let inner = levels.checked_sub(1);
    let below = |value: &Value| inner.is_some_and(|inner| is_flat(value, inner));
    match value {
        Value::Sequence(items) => inner.is_some() && items.iter().all(below),
        Value::Mapping(entries) => {
            inner.is_some() && entries.iter().all(|(key, value)| below(key) && below(value))
        }
        Value::Tagged(tagged) => is_flat(&tagged.value, levels),
        _ => true,
    }
}

/// Where a text is no YAML, and why.
fn no_yaml(
    text: &str,
    positions: &Positions,
    error: &serde_yaml::Error,
) -> (Position, FieldPath, String) {
    let message = error.to_string();
    let root = FieldPath::root();
    let Some(at) = error.location() else {
        return (positions.locate(&root), root, format!("invalid YAML: {message}"));
    };
    let place = format!(" at line {} column {}", at.line(), at.column());
    let message = message.replacen(&place, "", 1);
    let at = Position { line: at.line(), column: at.column() };
    if let Some(number) = too_large(&message) {
        let message = format!("{number} is out of range, expected an integer of at most 64 bits");
        return (at, positions.field(at), message);
    }
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let unfit = message.starts_with("found character that cannot start any token");
    let what = match line.chars().nth(at.column - 1).filter(|_| unfit) {
        Some('\t') => TAB.to_owned(),
        Some(other) => {
            format!("nothing can begin with `{other}`, expected the value in quotes")
        }
        None if message.starts_with("found a tab character") => TAB.to_owned(),
        None => message,
    };
    (at, root, format!("invalid YAML: {what}"))
}

/// What is said of a tab where the indentation is.
const TAB: &str = "a tab, expected spaces: YAML is indented by these alone";

/// The integer that a message says is larger than the reader takes.
fn too_large(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("integer `")?;
    let (number, rest) = rest.split_once('`')?;
    rest.starts_with(" as ").then_some(number)
}
