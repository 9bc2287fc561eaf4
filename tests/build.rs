//! Builds the eBPF objects that drive weir's programs in the benchmark, and that flood them.

fn main() {
    xtask::ebpf::build_script(xtask::ebpf::BENCH);
    xtask::ebpf::build_script(xtask::ebpf::FLOOD);
}
