//! Two agents on one directory of pins: the second one is rejected, and changes nothing.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, Setup, program};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::tcp_identity;
use weir_tests::topology::{Topology, VIP_V4};

fn vip() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), 9080)
}

fn scene() -> Scene {
    Scene::new(&["v1-a"], |topology: &Topology| {
        let ips = topology.ips(&["v1-a"], vip().ip());
        Setup::default().split(&SplitYaml::tcp("reviews", vip()).subset("v1", 1, &ips, PORT).text())
    })
    .unwrap()
}

fn ask(scene: &Scene) -> std::io::Result<String> {
    scene.topology.client.run(|| tcp_identity(vip(), Duration::from_secs(5)))
}

/// The files of another agent, with resources, socket and state of its own, and these pins.
fn another(pins: &Path) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("resources.d")).unwrap();
    let of = |name: &str| root.path().join(name).display().to_string();
    let text = format!(
        "interfaces: [{{match: \"veth-*\"}}]\nresources: {}\nstate: {}\nsocket: {}\nbpffs: {}\n\
         metrics: off\n",
        of("resources.d"),
        of("state"),
        of("sock"),
        pins.display()
    );
    let config = root.path().join("agent.yaml");
    fs::write(&config, text).unwrap();
    (root, config)
}

fn weir(ns: &Netns, arguments: &[&str], config: &Path) -> Output {
    let mut command: Command = ns.command(program().unwrap().to_str().unwrap());
    command.args(arguments).arg("--config").arg(config).output().unwrap()
}

/// What it says of why it does nothing.
#[track_caller]
fn rejected(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    stderr
}

/// All splits that the agent has.
fn splits(agent: &Agent) -> String {
    agent.ask(&["get", "splits", "-o", "json"]).unwrap().replace(char::is_numeric, "")
}

#[test]
fn a_second_agent_on_the_same_pins_is_rejected_and_changes_nothing() {
    let scene = scene();
    let (agent, node) = (&scene.agent, &scene.topology.node);
    assert_eq!(ask(&scene).unwrap(), "v1-a");
    let before = splits(agent);
    let pins = agent.pins().dir();
    let detour = pins.join("maps/../../").join(pins.file_name().unwrap());
    for path in [pins, &detour] {
        let (_root, config) = another(path);
        for arguments in [&["agent"][..], &["agent", "--replace"], &["unload"]] {
            let said = rejected(&weir(node, arguments, &config));
            let pid = agent.pid().unwrap();
            assert!(said.contains(&format!("process {pid} (weir)")), "{arguments:?}: {said}");
            assert!(said.contains("stop it first"), "{arguments:?}: {said}");
        }
    }
    assert_eq!(splits(agent), before, "the first one has what it had");
    assert_eq!(ask(&scene).unwrap(), "v1-a");
}

#[test]
fn pins_are_free_again_when_their_agent_was_killed() {
    let mut scene = scene();
    scene.agent.end(Signal::SIGKILL).unwrap();
    scene.agent.start_again(&scene.topology.node).expect("nobody holds the pins");
    assert_eq!(ask(&scene).unwrap(), "v1-a");
    scene.agent.end(Signal::SIGKILL).unwrap();
    let config = scene.agent.directory().join("agent.yaml");
    let output = weir(&scene.topology.node, &["unload"], &config);
    assert!(output.status.success(), "{output:?}");
    assert!(!scene.agent.pins().dir().exists());
}

#[test]
fn pins_of_another_network_namespace_are_rejected_while_that_is_there() {
    let mut scene = scene();
    scene.agent.end(Signal::SIGTERM).unwrap();
    let elsewhere = Netns::new().unwrap();
    let (_root, config) = another(scene.agent.pins().dir());
    for arguments in [&["agent"][..], &["agent", "--replace"], &["unload"]] {
        let said = rejected(&weir(&elsewhere, arguments, &config));
        assert!(said.contains("steers in another network namespace"), "{arguments:?}: {said}");
        assert!(said.contains("weir unload"), "{arguments:?}: {said}");
    }
    assert_eq!(ask(&scene).unwrap(), "v1-a", "what was there goes on steering");
    scene.agent.start_again(&scene.topology.node).expect("in its own namespace it goes on");
    scene.agent.end(Signal::SIGTERM).unwrap();

    // With the namespace, what is attached there goes.
    let Scene { mut agent, topology, .. } = scene;
    drop(topology);
    // The kernel takes down a namespace in the background.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = agent.start_again(&elsewhere) {
        assert!(Instant::now() < deadline, "the pins are at no interface any more: {error:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
