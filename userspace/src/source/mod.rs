//! Where the desired state comes from: a directory of YAML files.
//!
//! [`resolve`] is the core: file names and texts in, [`crate::model::Desired`]
//! or every [`Problem`] out. Only [`load`] reads the file system, and
//! [`watch`] tells when to read again.

pub mod document;
pub mod load;
pub mod locate;
pub mod problem;
pub mod ranged;
mod raw;
#[cfg(test)]
mod tests;
pub mod watch;
mod yaml;

pub use document::{Declared, Place, declarations, key, keys, resolve};
pub use load::{MAX_FILE_SIZE, list, load, load_declarations, read};
pub use locate::{FieldPath, Position};
pub use problem::Problem;
pub use raw::KIND;
pub use watch::Watcher;
pub(crate) use yaml::{Node, stream};
