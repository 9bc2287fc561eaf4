//! Completions, in the shells themselves: what a person sees who presses Tab.

use std::process::Command;

use weir_tests::agent::{Agent, Setup};
use weir_tests::netns::Netns;
use weir_tests::tmux::Tmux;

const SPLIT: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: reviews}
spec:
  address: 203.0.113.10
  port: 9080
  subsets:
  - {name: stable, weight: 90, endpoints: ['198.51.100.11:9080']}
  - {name: canary, weight: 10, endpoints: ['192.0.2.31:9080']}
";

/// What is typed before Tab, and the line after it: of weir's own words, and of what the agent
/// knows.
const LINES: [(&str, &str); 6] = [
    ("weir doct", "weir doctor"),
    ("weir doctor --ign", "weir doctor --ignore"),
    ("weir doctor --ignore ver", "weir doctor --ignore versions"),
    ("weir weights rev", "weir weights reviews"),
    ("weir weights reviews can", "weir weights reviews canary="),
    ("weir drain reviews 198", "weir drain reviews 198.51.100.11:9080"),
];

fn agent(node: &Netns) -> Agent {
    Setup::default().config("metrics: off\n").split(SPLIT).start(node).expect("agent")
}

/// Assignments that have a shell find `weir` and the agent.
fn environment(agent: &Agent) -> String {
    let programs = agent.program().parent().expect("a directory").display();
    format!("PATH={programs}:$PATH WEIR_SOCKET={}", agent.socket().display())
}

/// Presses Tab after each line, in a shell in a terminal that has loaded the completions.
fn completes(agent: &Agent, shell: &str, load: &str) {
    let tmux = Tmux::start(100, 24).unwrap();
    tmux.press(&[&format!("{} {shell}", environment(agent)), "Enter"]);
    tmux.run(&format!("{load}; echo loa''ded"), "\nloaded");
    for (number, (typed, completed)) in LINES.into_iter().enumerate() {
        tmux.run(&format!("clear; echo rea''dy {number}"), &format!("ready {number}"));
        tmux.press(&[typed, "Tab"]);
        tmux.await_screen(&format!("{shell}: {typed}"), |screen| {
            screen.lines().any(|line| line.trim_end().ends_with(completed))
        });
        tmux.press(&["C-u"]);
    }
}

#[test]
fn bash_completes_commands_and_what_the_agent_knows() {
    let node = Netns::new().unwrap();
    let agent = agent(&node);
    completes(&agent, "bash --norc --noprofile", "eval \"$(weir completions bash)\"");
}

#[test]
fn zsh_completes_commands_and_what_the_agent_knows() {
    let node = Netns::new().unwrap();
    let agent = agent(&node);
    let loaded = "autoload -Uz compinit; compinit -D -u";
    completes(&agent, "zsh -f", &format!("{loaded}; source <(weir completions zsh)"));
    // As it is installed, where zsh loads it at the first Tab.
    let functions = agent.directory().join("functions");
    std::fs::create_dir(&functions).unwrap();
    std::fs::write(functions.join("_weir"), agent.ask(&["completions", "zsh"]).unwrap()).unwrap();
    completes(&agent, "zsh -f", &format!("fpath=({} $fpath); {loaded}", functions.display()));
}

#[test]
fn fish_completes_commands_and_what_the_agent_knows() {
    let node = Netns::new().unwrap();
    let agent = agent(&node);
    for (typed, completed) in LINES {
        let mut fish = Command::new("fish");
        let line = format!("weir completions fish | source; complete -C '{typed}'");
        fish.args(["--no-config", "-c", &line]).env("WEIR_SOCKET", agent.socket());
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = agent.program().parent().expect("a directory").display();
        fish.env("PATH", format!("{programs}:{path}")).env("HOME", agent.directory());
        let output = fish.output().expect("fish");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // A candidate, and after a tab what it is.
        let word = completed.rsplit(' ').next().unwrap_or_default();
        let found = said.lines().any(|one| one.split('\t').next() == Some(word));
        assert!(found, "{typed}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}
