//! Directories that only their owner can change, and what is in them.
//!
//! Whoever can put a file, or a symbolic link, where the agent reads, writes or
//! removes makes it do that elsewhere. So the agent's own directories are only
//! used if nobody else can change what is there ([`trusted`]), and what is in a
//! directory is opened by its name from there, never along a link that leads out
//! ([`open_beneath`]).

mod beneath;
mod trusted;

pub use beneath::{names, open_beneath};
pub use trusted::trusted;
