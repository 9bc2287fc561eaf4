//! What `cargo xtask` shares with the build script of `weir`: where the eBPF
//! toolchain is, and how the eBPF object is built; and with tests: where
//! Kubernetes is, what the chart renders, and the image.

pub mod chart;
pub mod cluster;
pub mod ebpf;
pub mod image;
pub mod toolchain;
