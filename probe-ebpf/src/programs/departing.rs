//! Frames that can go past the node's stack.

use probe_common::reason::Reason;

use super::hook::Hook;

/// A frame that can go past the stack.
pub trait Departing: Hook {
    /// An error for what the stack has to deal with, wherever it goes: frames that are
    /// not to the MAC address of the interface, and the like.
    fn require_usual(&self) -> Result<(), Reason>;
    /// The interface where it came in.
    fn ifindex(&self) -> u32;
    /// Bytes of data in each segment that it is to be cut into; 0 if in none.
    fn segment(&self) -> u32;
}
