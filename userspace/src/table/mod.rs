//! Tables that the kernel programs look flows up in: pure builders.

pub mod maglev;
mod runs;

pub use runs::Runs;
