//! `weir status`, as scripts and people in terminals use it.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, SPLITS, Setup, program};
use weir_tests::netns::Netns;
use weir_tests::tmux::Tmux;

const SPLIT: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: reviews-of-the-whole-shop, namespace: production}
spec:
  address: 203.0.113.10
  port: 9080
  subsets:
  - {name: v1, weight: 90, endpoints: ['198.51.100.11:9080']}
  - {name: v3, weight: 10, endpoints: ['198.51.100.31:9080']}
";

/// A node with an interface that matches, and its agent.
fn start() -> (Agent, Netns) {
    let node = Netns::new().unwrap();
    node.ip(&["link add veth-client type veth peer name other", "link set veth-client up"])
        .unwrap();
    let agent = Setup::default().config("metrics: off\n").split(SPLIT).start(&node).unwrap();
    agent.await_status("it is well", |status| status.health.reasons.is_empty());
    (agent, node)
}

/// Exit code and standard output.
fn said(agent: &Agent, arguments: &[&str]) -> (Option<i32>, String) {
    let output = agent.weir(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Has a command wait for the agent, changes something, and returns its exit code and output.
fn waits(agent: &mut Agent, change: impl FnOnce(&mut Agent)) -> (Option<i32>, String) {
    let mut command = Command::new(program().unwrap());
    command.arg("--socket").arg(agent.socket()).args(["status", "--brief", "--wait"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // It waits by now, or does so a little later: the end is the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None, "it waits");
    change(agent);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn scripts_wait_for_a_verdict_and_are_told_by_the_exit_code() {
    let (mut agent, node) = start();
    assert_eq!(said(&agent, &["status", "--brief"]), (Some(0), "OK\n".into()));
    agent.replace(SPLITS, &SPLIT.replace("port: 9080", "port: 0"));
    agent.await_status("it is seen", |status| !status.last_error.is_empty());
    let (code, text) = said(&agent, &["status", "--brief", "--wait", "--timeout", "300ms"]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.starts_with("DEGRADED: 1 thing in the resources is wrong: "), "{text}");
    assert!(text.contains("splits.yaml:6: spec.port: 0 is out of range"), "{text}");
    let mended = waits(&mut agent, |agent| agent.replace(SPLITS, SPLIT));
    assert_eq!(mended, (Some(0), "OK\n".into()));

    // Counters that are zero are hidden.
    let (_, text) = said(&agent, &["status"]);
    assert!(text.starts_with("OK\n\nagent: ") && !text.contains("reject_no_endpoint"), "{text}");
    let (code, text) = said(&agent, &["status", "--all"]);
    let zero =
        text.lines().any(|line| line.starts_with("reject_no_endpoint") && line.ends_with(" 0"));
    assert!(code == Some(0) && zero, "{text}");

    agent.end(Signal::SIGTERM).unwrap();
    let output = agent.weir(&["status", "--wait", "--timeout", "300ms"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("no agent answers at "), "{error}");
    let started = waits(&mut agent, |agent| agent.start_again(&node).unwrap());
    assert_eq!(started, (Some(0), "OK\n".into()));
}

#[test]
fn tables_end_where_a_terminal_of_80_columns_does() {
    let (agent, _node) = start();
    agent.weights("reviews-of-the-whole-shop.production", &[("v1", 50), ("v3", 50)]).unwrap();
    let tmux = Tmux::start(80, 50).unwrap();
    let weir = format!("{} --socket {}", program().unwrap().display(), agent.socket().display());
    for (number, command, lines) in [
        // A title and two subsets, a gap, and what is said of weights in a line as long as that is.
        (1, "get splits", Some(3)),
        (2, "history reviews-of-the-whole-shop.production", Some(3)),
        (3, "get documents", Some(2)),
        (4, "status", None),
    ] {
        tmux.run(&format!("clear; echo cle''ared {number}"), &format!("cleared {number}"));
        // The screen has lines that are too long twice; a pipe has them whole.
        let shown = tmux.run(&format!("{weir} {command}; echo the e''nd"), "\nthe end");
        let whole = agent.printed(&command.split(' ').collect::<Vec<_>>());
        let title = whole.lines().find(|line| line.contains("  ")).expect("a table");
        let begins = |line: &&str| title.starts_with(line.trim_end_matches('…').trim_end());
        let table = shown.lines().skip_while(|line| line.is_empty() || !begins(line));
        let table: Vec<&str> = table.take(lines.unwrap_or(1)).collect();
        assert_eq!(table.len(), lines.unwrap_or(1), "{command}:\n{shown}");
        println!("{shown}\n");
        for (line, whole) in table.iter().zip(whole.lines().skip_while(|line| *line != title)) {
            let kept = line.strip_suffix('…').unwrap_or(line);
            assert!(line.chars().count() <= 80 && whole.starts_with(kept), "{line}:\n{shown}");
            assert_eq!(kept != *line, whole.chars().count() > 80, "{line}:\n{shown}");
        }
    }
    // What is piped is whole, however wide that is.
    let whole = agent.printed(&["get", "splits"]);
    assert!(whole.lines().any(|line| line.chars().count() > 80) && !whole.contains('…'), "{whole}");
}
