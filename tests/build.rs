//! Builds the eBPF object that drives weir's programs in the benchmark.

fn main() {
    xtask::ebpf::build_script(xtask::ebpf::BENCH);
}
