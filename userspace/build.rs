//! Builds the eBPF object that the agent carries.

fn main() {
    xtask::ebpf::build_script(xtask::ebpf::WEIR);
}
