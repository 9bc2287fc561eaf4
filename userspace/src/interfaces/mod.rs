//! The node's network interfaces.

mod watch;

pub use watch::{Event, Watch};
