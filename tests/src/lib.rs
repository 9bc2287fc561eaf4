//! Test harness of weir.
//!
//! * [`netns`]: network namespaces which go away by themselves.
//! * [`topology`]: client, node and endpoints, wired up and routed.
//! * [`server`]: servers that say who they are, and clients for them.
//! * [`stats`]: does this sample follow these weights?
//! * [`packet`]: frames and checksums, written independently of weir's own code.

pub mod netns;
pub mod packet;
pub mod server;
pub mod stats;
pub mod topology;
