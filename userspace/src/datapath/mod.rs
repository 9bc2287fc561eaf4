//! The kernel side as user space sees it: the loaded object and its maps.
//!
//! Mechanism only: what is to be in the maps is decided elsewhere.

mod counters;
mod hooks;
mod object;
mod publish;

pub use counters::Counters;
pub use hooks::{Forward, Mode, attach};
pub use object::{Object, ObjectError, Settings};
pub use publish::{PublishError, Publisher};

/// The eBPF object that this build carries.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf"));
