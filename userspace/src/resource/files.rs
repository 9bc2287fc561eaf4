//! Files with documents, as texts with names: no path, no file system.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Documents, read};
use crate::source::Problem;

/// What files say, each by itself.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Those that could be read, in their order.
    pub files: Vec<FileRead>,
    /// Why others could not be.
    pub problems: Vec<Problem>,
    /// The others.
    pub unreadable: BTreeSet<String>,
    /// Whether it is not even known which files there are.
    pub unlisted: bool,
    /// Something that the system has rejected, and may do later without a change of any file.
    pub failed: Option<Problem>,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct FileRead {
    /// What messages call it.
    pub name: String,
    text: String,
    /// What it says.
    pub documents: Arc<Documents>,
}

impl Files {
    /// These files, as pairs of name and text.
    pub fn of<N: Into<String>, T: Into<String>>(files: impl IntoIterator<Item = (N, T)>) -> Self {
        let file = |(name, text): (N, T)| FileRead::new(name.into(), text.into());
        Self { files: files.into_iter().map(file).collect(), ..Self::default() }
    }
}

impl FileRead {
    /// What is written in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing in it but space, comments and marks of documents: it may
    /// have been cut off to be written anew.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.text)
    }

    /// What it says is read.
    pub fn new(name: String, text: String) -> Self {
        let documents = Arc::new(read(&name, &text));
        Self { name, text, documents }
    }
}

/// Whether there is nothing in a text but space, comments and marks of documents.
pub fn is_blank(text: &str) -> bool {
    let says_nothing = |line: &str| {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        line.is_empty() || line.starts_with('#') || ["---", "..."].contains(&line)
    };
    text.lines().all(says_nothing)
}
