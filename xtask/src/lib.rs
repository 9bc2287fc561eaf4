//! What `cargo xtask` shares with the build script of `weir`: where the eBPF
//! toolchain is, and how the eBPF object is built; and with tests: where
//! Kubernetes is.

pub mod cluster;
pub mod ebpf;
pub mod toolchain;
