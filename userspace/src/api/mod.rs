//! The agent's API: HTTP and JSON over a Unix socket.
//!
//! The agent implements [`Control`] and hands it to [`serve`]; the command
//! line asks through [`Client`]. Both speak the types of [`types`].

mod author;
pub mod client;
mod control;
mod handlers;
#[cfg(test)]
pub(crate) mod kernelless;
mod lines;
pub mod openapi;
pub mod server;
mod socket;
#[cfg(test)]
mod tests;
pub mod types;

pub use client::{Client, ClientError};
pub use control::{Control, Failure, FlowStream, history};
pub use lines::Lines;
pub use server::serve;
pub use socket::SocketFile;

/// Where the agent listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";
