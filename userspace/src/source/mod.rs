//! Where the desired state comes from: a directory of YAML files.
//!
//! [`resolve_all`] is the core: file names and texts in, splits and every
//! [`Problem`] out, by way of [`crate::resource`], which knows the kinds of
//! document; this module knows YAML, where things are in it, and weir's own
//! kind. Only [`fn@load`] reads the file system, and [`watch`] tells when to read
//! again.

pub mod document;
mod list;
pub mod load;
pub mod locate;
mod merge;
mod plain;
pub mod problem;
pub mod ranged;
mod raw;
#[cfg(test)]
mod tests;
mod text;
pub mod watch;
mod yaml;

pub use load::{
    FileRead, Files, MAX_FILE_SIZE, is_blank, list, load, load_all, load_files, read, read_named,
};
pub use locate::{FieldPath, Position};
pub(crate) use problem::IN_CLUSTER;
pub use problem::Problem;
pub(crate) use raw::API_VERSION;
pub use raw::KIND;
pub use text::decode;
pub use watch::Watcher;
pub use yaml::Spot;
pub(crate) use yaml::{Located, Node, documents, stream};

use crate::model::SplitSet;
pub use crate::resource::resolve_all;

/// What files, as pairs of name and text, want together; or everything that is
/// wrong with them, in the order of the files and lines.
pub fn resolve<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<SplitSet, Vec<Problem>> {
    let resolved = resolve_all(files);
    if resolved.problems.is_empty() { Ok(resolved.desired) } else { Err(resolved.problems) }
}
