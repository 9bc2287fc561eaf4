//! The state directory: what the agent keeps beyond its life.
//!
//! One file, `journal`, of one record a line, each with its checksum. Its
//! first part is what was kept when it was written; to that each transaction
//! is appended and synced before it is acknowledged. When it has doubled, it
//! is written anew beside the old one and renamed over it. So a transaction
//! is a single write of its own size, whatever else is kept, and there is no
//! moment at which the directory holds half of one. Writing it anew goes on beside
//! transactions: what they appended meanwhile is copied before the renaming.
//!
//! What a crash leaves of a record that was being appended has no end of line
//! and is cut off. Any other line which does not fit its checksum is damage:
//! the file is quarantined under another name, and the agent goes on with the
//! lines that are whole. That one line costs only what it holds is what a
//! database in one file does not offer, and why this is none.

mod directory;
mod journal;
mod record;
#[cfg(test)]
mod tests;

pub use journal::{Compacted, Compaction, Notice, Store, StoreError};
