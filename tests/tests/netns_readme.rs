//! README.md's example, with its addresses, as it is typed.

use std::path::Path;
use std::process::{Command, Stdio};

use weir_tests::agent::program;

#[test]
fn what_the_readme_says_works_as_it_stands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = program().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let mut script = Command::new(root.join("deploy/examples/one-machine.sh"));
    script.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let script = script.spawn().unwrap();
    let pid = script.id();
    let output = script.wait_with_output().unwrap();
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    println!("{said}");
    assert!(output.status.success(), "{said}\n{errors}");
    // Of each sort of command one was found in the text, and tried.
    for command in ["weights reviews v1=50", "explain --from", "rollback", "drain", "doctor"] {
        assert!(said.contains(&format!("$ weir {command}")), "{command}: {said}");
    }
    // Its agent has unloaded, and its namespaces are gone.
    for left in [format!("/sys/fs/bpf/weir-{pid}"), format!("/run/netns/weir-{pid}-node")] {
        assert!(!Path::new(&left).exists(), "{left}");
    }
}
