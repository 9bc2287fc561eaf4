//! Builds the eBPF object that the agent carries.

use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace");
    for part in ["probe-ebpf", "probe-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    let built = xtask::toolchain::find()
        .and_then(|found| xtask::ebpf::build(&found, root, &target(&out)))
        .and_then(|object| Ok(std::fs::copy(object, out.join("weir-ebpf"))?));
    if let Err(error) = built {
        // Instead of a panic or a failing status, for which cargo would print
        // all that this program said.
        for line in format!("{error:#}").lines().filter(|line| !line.trim().is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// A target directory of the object's own, since this package's is locked by
/// the cargo that runs this; one for all profiles, since the object is the same.
fn target(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let profile = out.ancestors().nth(2).filter(|dir| dir.ends_with("build"));
    let target = profile.and_then(|build| build.ancestors().nth(2));
    target.unwrap_or(out).join("ebpf")
}
