//! Builds the eBPF object that the agent carries.

use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace");
    for part in ["probe-ebpf", "probe-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    let built = xtask::toolchain::find()
        .and_then(|found| xtask::ebpf::build(&found, root, &out.join("ebpf")))
        .and_then(|object| Ok(std::fs::copy(object, out.join("weir-ebpf"))?));
    if let Err(error) = built {
        // Not a panic, whose message would be lost in a page of backtrace.
        println!("cargo::error={}", format!("{error:#}").replace('\n', " | "));
    }
}
