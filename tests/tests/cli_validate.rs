//! `weir validate`, and the mistakes of a command line: no agent is needed.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use weir_tests::agent::program;

const GOOD: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata:
  name: reviews
spec:
  address: 192.0.2.10
  port: 9080
  subsets:
  - name: v1
    weight: 90
    endpoints: [\"198.51.100.11:9080\"]
  - name: v2
    weight: 10
    endpoints: [\"198.51.100.21:9080\"]
";

fn weir(directory: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program().expect("weir"));
    command.current_dir(directory).args(arguments);
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What is changed in [`GOOD`], from what to what, and the line that must be said.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("no YAML", "spec:", "spec: ]", "x.yaml:5: invalid YAML: "),
    ("apiVersion", "v1alpha1", "v2", "x.yaml:1: apiVersion: unknown apiVersion \"weir.dev/v2\""),
    ("kind", "TrafficSplit", "Split", "x.yaml:2: kind: unknown kind \"Split\", expected"),
    ("unknown field", "  port:", "  prot: 1\n  port:", "x.yaml:7: spec.prot: unknown field"),
    ("missing field", "  port: 9080\n", "", "x.yaml:5: spec.port: missing required field"),
    ("bad name", "name: reviews", "name: Reviews", "x.yaml:4: metadata.name: "),
    ("bad address", "192.0.2.10", "192.0.2", "x.yaml:6: spec.address: \"192.0.2\" is not an IP"),
    ("multicast", "192.0.2.10", "224.0.0.1", "x.yaml:6: spec.address: 224.0.0.1 is multicast"),
    ("bad port", "9080\n  sub", "0\n  sub", "x.yaml:7: spec.port: "),
    ("port too large", "9080\n  sub", "65536\n  sub", "x.yaml:7: spec.port: "),
    ("negative weight", "weight: 90", "weight: -1", "x.yaml:10: spec.subsets[0].weight: "),
    ("weight too large", "weight: 90", "weight: 4294967296", "x.yaml:10: spec.subsets[0].weight: "),
    ("weight is a word", "weight: 90", "weight: most", "x.yaml:10: spec.subsets[0].weight: "),
    ("duplicate subset", "name: v2", "name: v1", "x.yaml:12: spec.subsets[1].name: subset \"v1\""),
    ("no endpoint", "198.51.100.21:9080", "v2:80", "x.yaml:14: spec.subsets[1].endpoints[0]: "),
    (
        "endpoint of another family",
        "198.51.100.21:9080",
        "[2001:db8::1]:80",
        "x.yaml:14: spec.subsets[1].endpoints[0]: endpoint [2001:db8::1]:80 is IPv6",
    ),
    (
        "endpoint is the service address",
        "198.51.100.21:9080",
        "192.0.2.10:9080",
        "x.yaml:14: spec.subsets[1].endpoints[0]: endpoint 192.0.2.10:9080 is the service",
    ),
];

#[test]
fn good_files_are_valid() {
    let directory = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    write("x.yaml", GOOD).unwrap();
    let other = GOOD.replace("reviews", "ratings").replace("port: 9080", "port: 9081");
    write("y.yaml", &format!("{other}---\n{}", other.replace("ratings", "z").replace("81", "82")))
        .unwrap();
    for (arguments, splits) in [(&["x.yaml"][..], 1), (&["x.yaml", "y.yaml"], 3)] {
        let output = weir(directory.path(), &[&["validate"], arguments].concat());
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout.starts_with(&splits.to_string()), "{splits} splits: {stdout}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_broken_file_is_rejected_with_line_field_and_reason() {
    let directory = tempfile::tempdir().expect("directory");
    for (what, from, to, expected) in BROKEN {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{what}");
        std::fs::write(directory.path().join("x.yaml"), text).expect("write");
        let output = weir(directory.path(), &["validate", "x.yaml"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
        let said =
            stderr.lines().any(|line| line.trim_start_matches("error: ").starts_with(expected));
        assert!(said, "{what}: expected {expected}, found {stderr}");
        assert!(output.stdout.is_empty(), "{what}: {output:?}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let directory = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    write(
        "x.yaml",
        &GOOD.replace("weight: 90", "weight: -1").replace("weight: 10", "weight: 4294967296"),
    )
    .unwrap();
    write("y.yaml", GOOD).unwrap();
    write("z.yaml", &GOOD.replace("reviews", "ratings")).unwrap();
    let output = weir(directory.path(), &["validate", "x.yaml", "y.yaml", "z.yaml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for expected in [
        "x.yaml:10: spec.subsets[0].weight: ",
        "x.yaml:13: spec.subsets[1].weight: ",
        "z.yaml:6: spec.address: service address 192.0.2.10:9080/TCP is already taken by split \
         \"reviews\" (first at y.yaml:6)",
    ] {
        assert!(stderr.contains(expected), "expected {expected}, found {stderr}");
    }
}

#[test]
fn directories_and_standard_input_are_checked_as_well() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("x.yaml"), GOOD).expect("write");
    let output = weir(directory.path(), &["validate", "-f", "."]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), &*stdout), (Some(0), "1 split in 1 file is valid\n"));
    for (text, code, expected) in
        [(GOOD, 0, ""), ("# nothing\n", 1, "<stdin>: no document is in it")]
    {
        let mut command = Command::new(program().expect("weir"));
        command.args(["validate", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().expect("weir");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write");
        let output = child.wait_with_output().expect("weir");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn seventeen_subsets_are_too_many() {
    let directory = tempfile::tempdir().expect("directory");
    let more: String =
        (3..=17).map(|n| format!("  - {{name: v{n}, weight: 1, endpoints: []}}\n")).collect();
    std::fs::write(directory.path().join("x.yaml"), format!("{GOOD}{more}")).expect("write");
    let output = weir(directory.path(), &["validate", "x.yaml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let expected = "x.yaml:29: spec.subsets[16]: a split may have at most 16 subsets, found 17";
    assert!(stderr.contains(expected), "{stderr}");
}

/// The arguments, the exit code, and what is said on standard error.
const LINES: &[(&[&str], i32, &str)] = &[
    (&[], 2, "Usage: weir"),
    (&["nonsense"], 2, "unrecognized subcommand 'nonsense'"),
    (&["validate"], 2, "<FILE|DIR|->"),
    (&["validate", "none.yaml"], 1, "none.yaml: cannot read the file: No such file"),
    (&["validate", "."], 1, "agent.yaml: the configuration of an agent"),
    (&["agent"], 2, "--config"),
    (&["agent", "--config", "none.yaml"], 1, "none.yaml: cannot read the file"),
    (&["agent", "--config", "agent.yaml"], 1, "agent.yaml:2: flows.max: "),
    (&["weights", "reviews"], 2, "<SUBSET=WEIGHT|PERCENT%>"),
    (&["weights", "reviews", "v1"], 2, "expected SUBSET=WEIGHT"),
    (&["weights", "reviews", "v1=-1"], 2, "\"-1\" is not a weight: expected 0 to 4294967295"),
    (&["weights", "reviews", "v1=1", "v1=2"], 2, "subset \"v1\" is given two weights"),
    (&["get", "splits", "-o", "xml"], 2, "invalid value 'xml'"),
    (&["explain", "--from", "192.0.2.1", "--to", "192.0.2.10:80"], 2, "--from"),
];

#[test]
fn exit_codes_are_0_done_1_failed_2_usage() {
    let directory = tempfile::tempdir().expect("directory");
    let config = "interfaces: [{match: \"none-*\"}]\nflows: {max: 1}\n";
    std::fs::write(directory.path().join("agent.yaml"), config).expect("write");
    for (arguments, code, expected) in LINES {
        let output = weir(directory.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: expected {expected}, found {stderr}");
    }
    for arguments in [&["--help"][..], &["--version"], &["weights", "--help"]] {
        let output = weir(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn commands_say_that_no_agent_answers() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("sock");
    // A path without a socket, then a socket that nobody listens at.
    for stale in [false, true] {
        if stale {
            drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        }
        for arguments in [
            &["get", "splits"][..],
            &["status"],
            &["weights", "reviews", "v1=1"],
            &["explain", "--from", "192.0.2.1:1", "--to", "192.0.2.10:80"],
        ] {
            let output = weir(directory.path(), &[&["--socket", "sock"], arguments].concat());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            let expected = "no agent answers at sock: is `weir agent` running?";
            assert!(stderr.contains(expected), "{arguments:?}, stale {stale}: {stderr}");
        }
    }
}

/// As tools write documents: a byte order mark, a list, a merge key, and what a
/// bundle carries beside.
const WRITTEN_BY_TOOLS: &str = "\u{feff}apiVersion: v1
kind: List
items:
- apiVersion: weir.dev/v1alpha1
  kind: TrafficSplit
  metadata: {name: reviews, namespace: shop, labels: {app: reviews}, annotations: {a: b}}
  spec:
    address: 192.0.2.10
    port: 9080
    subsets:
    - &first {name: Blue, weight: 90, endpoints: [\"198.51.100.11:9080\"]}
    - <<: *first
      name: canaryV2
- {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: reviews}}
---
\u{feff}apiVersion: v1
kind: ConfigMap
metadata: {name: reviews}
";

#[test]
fn documents_as_tools_write_them_are_valid() {
    let directory = tempfile::tempdir().expect("directory");
    let write = |text: &[u8]| std::fs::write(directory.path().join("x.yaml"), text).expect("write");
    let validate = || {
        let output = weir(directory.path(), &["validate", "x.yaml"]);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    write(WRITTEN_BY_TOOLS.as_bytes());
    let (code, said, notes) = validate();
    assert_eq!((code, said.as_str()), (Some(0), "1 split in 1 file is valid\n"), "{notes}");
    for note in ["x.yaml:14: items[1].kind: passed over", "x.yaml:17: kind: passed over"] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    write(WRITTEN_BY_TOOLS.replace("weight: 90", "weight: -1").as_bytes());
    let (code, _, errors) = validate();
    for error in [
        "x.yaml:11: items[0].spec.subsets[0].weight: ",
        "x.yaml:12: items[0].spec.subsets[1].weight: ",
    ] {
        assert!(code == Some(1) && errors.contains(error), "{error}: {errors}");
    }
    let utf16: Vec<u8> = WRITTEN_BY_TOOLS.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&utf16);
    let (code, _, errors) = validate();
    assert!(code == Some(1) && errors.contains("x.yaml: UTF-16"), "{errors}");
}
