//! A directory of resource files as `kubectl apply -f` and `delete -f` would leave it.

use std::path::PathBuf;

/// A directory with a file for each object: applying a text writes its
/// documents, each in place of the one of its kind and name, and deleting one
/// removes them.
#[derive(Debug)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// That of a directory that is there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Applies the documents of a text.
    ///
    /// # Panics
    ///
    /// If one is wrong by itself or cannot be written.
    pub fn apply(&self, text: &str) {
        for (path, document) in self.files(text) {
            // Written aside: the agent sees a whole file or none.
            let aside = path.with_extension("new");
            let result =
                std::fs::write(&aside, document).and_then(|()| std::fs::rename(&aside, &path));
            result.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }

    /// Deletes what the documents of a text name.
    ///
    /// # Panics
    ///
    /// If one is wrong by itself or not there.
    pub fn delete(&self, text: &str) {
        for (path, _) in self.files(text) {
            std::fs::remove_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }

    fn files<'a>(&self, text: &'a str) -> Vec<(PathBuf, &'a str)> {
        let mut files = Vec::new();
        for part in text.split_inclusive("---\n") {
            let part = part.strip_suffix("---\n").unwrap_or(part);
            let found = weir::resource::read("a document", part);
            assert!(found.problems.is_empty(), "{:?}", found.problems);
            let ids = found.documents.iter().map(|document| document.id());
            files.extend(ids.map(|id| {
                let name = format!("{} {} {}.yaml", id.kind, id.namespace, id.name);
                (self.0.join(name.replace(' ', "_")), part)
            }));
        }
        files
    }
}
