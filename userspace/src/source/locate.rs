//! Where the fields of a YAML stream are.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, Span};

use super::merge;

/// A place in a text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl From<Span> for Position {
    fn from(span: Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// An index into a sequence.
    Index(usize),
}

/// A field of a document, such as `spec.subsets[1].weight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of dotted keys, such as `spec.subsets`.
    pub fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Segment::Key(key.to_owned())).collect())
    }

    /// Its steps.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// As a JSON pointer (RFC 6901), such as `/spec/subsets/1/weight`.
    pub fn pointer(&self) -> String {
        let step = |segment: &Segment| match segment {
            Segment::Key(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Index(index) => format!("/{index}"),
        };
        self.0.iter().map(step).collect()
    }

    /// The value of a key below this.
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The item of an index below this.
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        Self(self.0.iter().cloned().chain([segment]).collect())
    }
}

impl FromIterator<Segment> for FieldPath {
    fn from_iter<T: IntoIterator<Item = Segment>>(segments: T) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if n == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key that is in a mapping twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The key's path.
    pub path: FieldPath,
    /// Where the key is first.
    pub first: Position,
    /// Where it is again.
    pub second: Position,
}

/// The positions of one document's fields: of the key for what is in a
/// mapping, of the item for what is in a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    // A tree, so that the size is linear in that of the text, however deep.
    nodes: Vec<(usize, Option<Segment>, Position)>,
    children: HashMap<(usize, Segment), usize>,
    duplicates: Vec<(usize, Position)>,
    /// What anchors are of, and the anchors that aliases name.
    anchors: HashMap<usize, usize>,
    aliases: HashMap<usize, usize>,
}

impl Positions {
    /// Where `path` is, or else the innermost of its parents that exists. What
    /// an alias stands for is where the alias is, and what is merged from
    /// another mapping where that is said.
    pub fn locate(&self, path: &FieldPath) -> Position {
        let mut at = 0;
        for segment in &path.0 {
            match self.child(at, segment) {
                Some(child) => at = child,
                None => {
                    at = self.merged(at, segment).unwrap_or(at);
                    break;
                }
            }
        }
        self.nodes.get(at).map_or(Position { line: 1, column: 1 }, |node| node.2)
    }

    /// The field whose text is at a place, or before it.
    pub fn field(&self, at: Position) -> FieldPath {
        let before = self.nodes.iter().rposition(|&(_, _, place)| place <= at);
        self.path(before.unwrap_or_default())
    }

    fn child(&self, node: usize, segment: &Segment) -> Option<usize> {
        self.children.get(&(node, segment.clone())).copied()
    }

    /// The merge key of a mapping by which it has a key.
    fn merged(&self, mapping: usize, key: &Segment) -> Option<usize> {
        let merge = self.child(mapping, &Segment::Key(merge::KEY.to_owned()))?;
        let mut open = vec![merge];
        let mut seen = HashSet::new();
        while let Some(node) = open.pop() {
            let anchor = self.aliases.get(&node).and_then(|anchor| self.anchors.get(anchor));
            let node = anchor.copied().unwrap_or(node);
            if !seen.insert(node) {
                continue;
            }
            if self.child(node, key).is_some() {
                return Some(merge);
            }
            open.extend(self.child(node, &Segment::Key(merge::KEY.to_owned())));
            open.extend((0..).map_while(|index| self.child(node, &Segment::Index(index))));
        }
        None
    }

    /// The first keys that are in a mapping twice, at most `max`.
    pub fn duplicates(&self, max: usize) -> Vec<Duplicate> {
        let found = self.duplicates.iter().take(max);
        found
            .map(|&(node, second)| Duplicate {
                path: self.path(node),
                first: self.nodes[node].2,
                second,
            })
            .collect()
    }

    fn path(&self, mut node: usize) -> FieldPath {
        let mut segments = Vec::new();
        while node != 0 {
            let (parent, segment, _) = &self.nodes[node];
            segments.extend(segment.clone());
            node = *parent;
        }
        segments.into_iter().rev().collect()
    }

    fn add(&mut self, parent: usize, segment: Option<Segment>, at: Position) -> usize {
        let new = self.nodes.len();
        let mut repeated = None;
        if let Some(segment) = &segment {
            match self.children.entry((parent, segment.clone())) {
                Entry::Occupied(old) => repeated = Some((*old.get(), at)),
                Entry::Vacant(free) => _ = free.insert(new),
            }
        }
        // A repeated key's value is no part of the tree.
        self.duplicates.extend(repeated);
        self.nodes.push((parent, segment, at));
        new
    }
}

/// A sequence or mapping whose end is still to come.
enum Open {
    Sequence { node: usize, next: usize },
    Mapping { node: usize, value: Option<usize> },
}

/// The deepest nesting. No document of weir's has a fifth of it.
pub const MAX_DEPTH: usize = 64;

/// The positions of each document of a stream, up to the first error in it;
/// `Err` is where it is nested deeper than [`MAX_DEPTH`].
pub fn positions(text: &str) -> Result<Vec<Positions>, Position> {
    let mut documents = Vec::new();
    let mut current = Positions::default();
    let mut open: Vec<Open> = Vec::new();
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        let at = Position::from(span);
        if open.len() > MAX_DEPTH {
            return Err(at);
        }
        let key = match &event {
            Event::DocumentStart(_) => {
                current = Positions::default();
                open.clear();
                continue;
            }
            Event::DocumentEnd => {
                documents.push(std::mem::take(&mut current));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            Event::Scalar(text, ..) => Some(Segment::Key(text.to_string())),
            Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..) => None,
            Event::Nothing | Event::StreamStart | Event::StreamEnd => continue,
        };
        let node = match open.last_mut() {
            None => current.add(0, None, at),
            Some(Open::Sequence { node, next }) => {
                *next += 1;
                current.add(*node, Some(Segment::Index(*next - 1)), at)
            }
            Some(Open::Mapping { node, value }) => match value.take() {
                Some(value) => value,
                None => *value.insert(current.add(*node, key, at)),
            },
        };
        match &event {
            Event::Alias(anchor) => _ = current.aliases.insert(node, *anchor),
            // 0 is none.
            Event::Scalar(_, _, anchor @ 1.., _)
            | Event::SequenceStart(anchor @ 1.., _)
            | Event::MappingStart(anchor @ 1.., _) => _ = current.anchors.insert(*anchor, node),
            _ => {}
        }
        match event {
            Event::SequenceStart(..) => open.push(Open::Sequence { node, next: 0 }),
            Event::MappingStart(..) => open.push(Open::Mapping { node, value: None }),
            _ => {}
        }
    }
    if !current.nodes.is_empty() {
        documents.push(current);
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_in_each_document() {
        let text =
            "a:\n  b: [1,\n   2]\n---\n# x\na:\n- c: 1\n  d: &x\n    e: 2\n- *x\n? [1, 2]\n: f\n";
        let found = positions(text).unwrap();
        assert_eq!(found.len(), 2);
        let at = |doc: usize, path: FieldPath| {
            let at = found[doc].locate(&path);
            (at.line, at.column)
        };
        assert_eq!(at(0, FieldPath::of("a.b")), (2, 3));
        assert_eq!(at(0, FieldPath::of("a.b").index(1)), (3, 4));
        assert_eq!(at(1, FieldPath::of("a").index(0).key("d").key("e")), (9, 5));
        assert_eq!(at(1, FieldPath::of("a").index(1).key("e")), (10, 3), "the alias");
        assert_eq!(at(1, FieldPath::of("a").index(9)), (6, 1), "its parent");
    }

    #[test]
    fn a_place_is_in_a_field() {
        let found = &positions("a:\n  b: [1,\n   2]\nc: 3\n").unwrap()[0];
        for (line, column, field) in
            [(2, 6, "a.b"), (2, 8, "a.b[0]"), (3, 4, "a.b[1]"), (4, 4, "c"), (9, 1, "c")]
        {
            assert_eq!(found.field(Position { line, column }).to_string(), field);
        }
    }

    #[test]
    fn what_is_merged_is_where_that_is_said() {
        let text = "a: &a\n  x: {y: 1}\nb: &b\n  <<: *a\nc:\n  <<: [*b, {z: 1}]\n  w: 1\n";
        let found = positions(text).unwrap();
        for (path, line) in
            [("c.x", 6), ("c.x.y", 6), ("c.z", 6), ("c.w", 7), ("c.none", 5), ("b.x", 4)]
        {
            assert_eq!(found[0].locate(&FieldPath::of(path)).line, line, "{path}");
        }
    }

    #[test]
    fn deep_and_wide_texts_take_linear_time() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(positions(&deep), Err(Position { line: 1, column: 66 }));
        _ = positions(&"[".repeat(200_000));
        _ = positions(&format!("{}: [{}]", "k".repeat(100), "1,".repeat(200_000)));
    }
}
