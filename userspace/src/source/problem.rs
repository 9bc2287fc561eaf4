//! What is wrong with a file, and where.

use std::fmt;

use super::Position;

/// The longest message, in characters. What a file holds is part of messages.
const MAX_MESSAGE: usize = 500;

/// One thing wrong with a file, as `FILE:LINE: FIELD: message, expected ...`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, thiserror::Error)]
pub struct Problem {
    /// The file, as it was named by who asked.
    pub file: String,
    /// The line, from 1. `None` if it is the file as a whole.
    pub line: Option<usize>,
    /// The field, such as `spec.subsets[1].weight`. Empty if it is none.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: &str, message: impl AsRef<str>) -> Self {
        let message = printable(message.as_ref());
        Self { file: file.to_owned(), line: None, field: String::new(), message }
    }

    /// A problem of a field of what is in no file.
    pub fn of_field(what: &str, field: impl fmt::Display, message: &str) -> Self {
        let field = printable(&field.to_string());
        Self { file: what.to_owned(), line: None, field, message: printable(message) }
    }

    /// A problem of a place in a file.
    pub fn at(file: &str, at: Position, field: impl fmt::Display, message: &str) -> Self {
        let field = printable(&field.to_string());
        Self { file: file.to_owned(), line: Some(at.line), field, message: printable(message) }
    }
}

/// What messages call an object of a cluster, before its key. Files of an agent have
/// absolute paths, so none begins like this.
pub(crate) const IN_CLUSTER: &str = "cluster";

impl Problem {
    /// Whether it is of an object of a cluster: whoever wrote that is not the node's operator.
    pub fn is_of_cluster(&self) -> bool {
        let rest = self.file.strip_prefix(IN_CLUSTER);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// One line of bounded length without control characters.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == MAX_MESSAGE {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_editor_of_the_cluster_wrote_is_told_from_the_operators_files() {
        let is_of_cluster = |what: &str| Problem::of_file(what, "no").is_of_cluster();
        assert!(is_of_cluster("cluster VirtualService/shop/web"));
        assert!(is_of_cluster(IN_CLUSTER), "one that does not say what it is");
        assert!(!is_of_cluster("/etc/weir/resources.d/cluster.yaml"));
        assert!(!is_of_cluster("cluster.yaml"));
        assert!(!is_of_cluster("applied TrafficSplit/cluster"));
    }
}
