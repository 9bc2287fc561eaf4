//! What weir's kernel programs and user space share.
//!
//! * [`map`]: keys and values of the BPF maps, and [`map::ABI_VERSION`];
//! * [`hash`] and [`choose`]: the flow hash and the choice of a subset, so
//!   that user space computes what the kernel computes;
//! * [`flow`] and [`young`]: flow entries, and flows in their first second;
//! * [`parse`]: the packet parser, over any source of bytes;
//! * [`fragment`]: which fragments belong together;
//! * [`icmp`]: what ICMP errors quote;
//! * [`filter`]: the bitmap that turns most packets away;
//! * [`checksum`]: Internet checksum arithmetic (RFC 1071, RFC 1624);
//! * [`reason`]: why packets were not steered, with the names of the counters.
//!
//! Addresses and ports are held as they stand on the wire: an integer here is
//! the native load of big-endian bytes. The BPF target is little-endian
//! (`bpfel`), and so are the nodes that weir supports.
#![no_std]

pub mod address;
pub mod checksum;
pub mod choose;
pub mod filter;
pub mod flow;
pub mod fragment;
pub mod hash;
pub mod icmp;
pub mod map;
pub mod parse;
pub mod reason;
pub mod young;

pub use map::MAX_SUBSETS;
