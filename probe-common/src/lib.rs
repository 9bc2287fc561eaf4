//! What weir's kernel programs and user space share.
//!
//! * [`map`]: keys and values of the BPF maps, and [`map::ABI_VERSION`];
//! * [`hash`] and [`choose`]: the flow hash and the choice of a subset, so
//!   that user space computes what the kernel computes;
//! * [`flow`] and [`new_flow`]: flow entries, and flows in their first second;
//! * [`parse`]: the packet parser, over any source of bytes;
//! * [`tcp`]: how segments change the state of a flow; [`signals`]: what they say of it;
//!   [`times`]: how long that takes, and histograms of it; [`fate`]: all of these together;
//! * [`frame`]: what is needed of a frame that is changed: kernel programs have
//!   it at their hooks, tests in memory;
//! * [`rewrite`], [`reject`], [`translate`], [`echo`]: what is made of packets,
//!   over such a frame;
//! * [`fragment`]: which fragments belong together, and how they follow the first;
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
pub mod echo;
pub mod fate;
pub mod filter;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod hash;
pub mod icmp;
pub mod map;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod new_flow;
pub mod parse;
pub mod reason;
pub mod reject;
pub mod rewrite;
pub mod signals;
pub mod tcp;
pub mod times;
pub mod translate;

pub use map::MAX_SUBSETS;
