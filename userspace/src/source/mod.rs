//! Documents as they are written: YAML, where things are in it, what is wrong with it
//! ([`Problem`]), and weir's own kind. The kinds of document are known to
//! [`crate::resource`], and files are read by [`crate::files`].

pub mod document;
mod list;
pub mod locate;
mod merge;
mod plain;
pub mod problem;
pub mod ranged;
mod raw;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod traffic_split;
mod yaml;

pub use locate::{FieldPath, Position};
pub(crate) use problem::IN_CLUSTER;
pub use problem::Problem;
pub(crate) use raw::API_VERSION;
pub use raw::KIND;
pub use text::decode;
pub use yaml::Spot;
pub(crate) use yaml::{Located, Node, documents, stream};
