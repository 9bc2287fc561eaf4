//! `weir translate`: no agent is needed.

use std::path::Path;
use std::process::{Command, Output};

use weir_tests::agent::program;
use weir_tests::samples::{Sample, Samples};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 192.0.2.10, ports: [{name: http, port: 9080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews, version: v1}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints: [{addresses: [198.51.100.11]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
";

fn weir(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program().expect("weir"));
    command.current_dir(directory).args(arguments);
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn files_become_splits_with_notes_and_the_splits_are_valid() {
    let directory = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let samples = Samples::find();
    write("service.yaml", SERVICE);
    write("rules.yaml", &samples.text(Sample::DestinationRules));
    write("routes.yaml", &samples.text(Sample::Reviews5050));
    let files = ["-f", "service.yaml", "rules.yaml", "-f", "routes.yaml"];
    let (code, splits, notes) = weir(directory.path(), &[&["translate"][..], &files].concat());
    assert_eq!(code, Some(0), "{notes}");
    assert!(splits.contains("# from VirtualService default/reviews (routes.yaml:"), "{splits}");
    assert!(splits.contains("\n  name: reviews.default\n"), "{splits}");
    for note in [
        "note: service.yaml:14: kind: passed over",
        "note: routes.yaml:",
        "has no IPv4 endpoint: its share is rejected",
    ] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    write("splits.yaml", &splits);
    let (code, valid, said) = weir(directory.path(), &["validate", "splits.yaml"]);
    assert_eq!((code, valid.as_str()), (Some(0), "1 split in 1 file is valid\n"));
    let warned = said.lines().all(|line| line.starts_with("warning: ") && line.contains("\"v3\""));
    assert!(warned, "v3 has no endpoint, and nothing else is odd: {said}");
}

#[test]
fn what_is_wrong_ends_with_1_and_nothing_on_standard_output() {
    let directory = tempfile::tempdir().expect("directory");
    let text = Samples::find().text(Sample::ReviewsByHeader);
    std::fs::write(directory.path().join("routes.yaml"), text).unwrap();
    let (code, splits, errors) = weir(directory.path(), &["translate", "-f", "routes.yaml"]);
    assert_eq!((code, splits.as_str()), (Some(1), ""), "{errors}");
    let reason = "spec.http[0].match[0].headers: rejected: layer 4 cannot match HTTP requests";
    assert!(errors.contains("error: routes.yaml:") && errors.contains(reason), "{errors}");
    assert_eq!(weir(directory.path(), &["translate", "-f", "missing.yaml"]).0, Some(1));
    assert_eq!(weir(directory.path(), &["translate", "routes.yaml"]).0, Some(2));
}
