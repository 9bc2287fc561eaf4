//! What `cargo xtask` and the build script of `weir` share: where the eBPF
//! toolchain is, and how the eBPF object is built.

pub mod ebpf;
pub mod toolchain;
