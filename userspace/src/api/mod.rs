//! The agent's API: HTTP and JSON over a Unix socket.
//!
//! The agent implements [`Control`] and hands it to [`serve`]; the command
//! line asks through [`Client`]. Both speak the types of [`types`].

pub mod client;
pub mod server;
pub mod types;

pub use client::{Client, ClientError};
pub use server::{Control, Failure, bind, serve};

/// Where the agent listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";
