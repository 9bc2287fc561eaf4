//! What weir's kernel programs and user space share.
#![no_std]

/// The most subsets that a split may have.
pub const MAX_SUBSETS: usize = 16;
