//! An HTTP/1 server for clients of all kinds: slow, silent, deaf and hostile ones
//! cost memory and time that are bounded, and never keep others waiting.
//!
//! A connection takes one request after the other, where the server keeps it (`idle` of
//! [`RequestLimits`]). There are a limit of connections; when all are taken, a new client gets the
//! place of one that keeps the server waiting, or that is idle (`quota`). A request is judged by its head, then read whole, within
//! bounds of size and time, and only then answered.

mod bounds;
mod connection;
mod quota;
mod server;

pub use bounds::{Handler, Rejection, RequestLimits};
pub use quota::QuotaOwner;
pub use server::{Listen, serve};
