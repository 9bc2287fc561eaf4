//! nftables' rules: read over netlink ([`read`]), and judged: whether they matter to packets of
//! a class ([`Judge`]).
//!
//! Messages become types in `message`, `expression` and `xt`; `judge` and `machine` are pure
//! functions of these. Whatever is not understood matters.

mod bits;
mod class;
mod expression;
mod family;
mod judge;
mod machine;
mod message;
mod reader;
mod registers;
mod ruleset;
mod set;
mod text;
mod xt;

pub use class::{Class, State};
pub use family::Family;
pub use judge::{Judge, Objection};
pub use reader::{generation, read};
pub use ruleset::Ruleset;

#[cfg(test)]
mod tests;
