//! Symbolic links and directories that others prepared for the agent.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, Setup};
use weir_tests::netns::Netns;

const SPLIT: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: NAME}
spec:
  address: 203.0.113.10
  port: 80
  subsets:
  - {name: v1, weight: 1, endpoints: []}
";

fn node() -> Netns {
    Netns::new().expect("namespace")
}

fn start(node: &Netns) -> Agent {
    Setup::default().config("metrics: off\n").start(node).expect("agent")
}

/// Why an agent does not start.
fn rejected(agent: &mut Agent, node: &Netns) -> String {
    let error = agent.start_again(node).expect_err("the agent does not start");
    format!("{error:#}")
}

/// A file outside of the agent's directories.
fn precious(agent: &Agent) -> PathBuf {
    let path = agent.directory().join("precious");
    fs::write(&path, "precious").expect("write");
    path
}

#[test]
fn links_in_the_state_directory_are_not_followed() {
    let node = node();
    let mut agent = start(&node);
    agent.end(Signal::SIGTERM).unwrap();
    let (precious, state) = (precious(&agent), agent.directory().join("state"));
    let whole = fs::read(state.join("journal")).expect("journal");
    // Where the journal is read, and where the next one is written.
    symlink(&precious, state.join("journal.new")).unwrap();
    fs::write(state.join("journal"), [whole.as_slice(), b"torn"].concat()).unwrap();
    agent.start_again(&node).expect("the journal is written anew");
    agent.end(Signal::SIGTERM).unwrap();
    assert!(!state.join("journal").is_symlink());
    fs::remove_file(state.join("journal")).unwrap();
    symlink(&precious, state.join("journal")).unwrap();
    let said = rejected(&mut agent, &node);
    assert!(said.contains("it is a symbolic link, and none is followed here"), "{said}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn directories_that_others_can_change_are_rejected() {
    let node = node();
    let mut agent = start(&node);
    agent.end(Signal::SIGTERM).unwrap();
    let state = agent.directory().join("state");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    };
    mode(&state, 0o1777);
    let said = rejected(&mut agent, &node);
    assert!(said.contains(&format!("everybody may write to {}", state.display())), "{said}");
    mode(&state, 0o700);
    chown(&state, Some(64_001), None).unwrap();
    let said = rejected(&mut agent, &node);
    assert!(said.contains(&format!("{} belongs to user 64001", state.display())), "{said}");
    chown(&state, Some(0), None).unwrap();

    // The directory of the socket, as if that were in /tmp.
    mode(agent.directory(), 0o1777);
    let said = rejected(&mut agent, &node);
    assert!(said.contains("cannot listen at"), "{said}");
    assert!(said.contains("everybody may write to"), "{said}");
    mode(agent.directory(), 0o700);

    // A directory on bpffs that somebody made before the agent came.
    let pins = agent.pins().dir().to_owned();
    agent.start_again(&node).unwrap();
    agent.end(Signal::SIGTERM).unwrap();
    chown(&pins, Some(64_001), None).unwrap();
    let said = rejected(&mut agent, &node);
    assert!(said.contains(&format!("{} belongs to user 64001", pins.display())), "{said}");
    chown(&pins, Some(0), None).unwrap();
    agent.start_again(&node).expect("all is as before");
}

#[test]
fn links_among_the_pins_are_not_followed() {
    let node = node();
    let mut agent = start(&node);
    let other = start(&node);
    agent.end(Signal::SIGTERM).unwrap();
    // The maps of another agent.
    let (pins, outside) = (agent.pins().dir().to_owned(), other.pins().dir().to_owned());
    let map = pins.join("maps/SPLITS");
    fs::remove_file(&map).unwrap();
    symlink(outside.join("maps/SPLITS"), &map).unwrap();
    let said = rejected(&mut agent, &node);
    assert!(said.contains("SPLITS there is no pin; remove it"), "{said}");
    fs::remove_dir(pins.join("links")).unwrap();
    symlink(outside.join("links"), pins.join("links")).unwrap();
    let said = rejected(&mut agent, &node);
    assert!(said.contains("cannot use"), "{said}");

    let count = || fs::read_dir(outside.join("maps")).expect("maps").count();
    let before = count();
    let config = agent.directory().join("agent.yaml");
    let config = config.to_str().expect("UTF-8");
    let output = agent.weir(&["unload", "--config", config]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!pins.exists(), "the agent's own pins are gone, links among them");
    assert_eq!(count(), before, "nothing outside is removed");
    assert!(outside.join("links").is_dir());
    other.status().expect("the other agent goes on");
}

#[test]
fn resources_are_read_along_links_within_their_directory_only() {
    let node = node();
    let agent = start(&node);
    let resources = agent.resources();
    let outside = agent.directory().join("outside.yaml");
    fs::write(&outside, SPLIT.replace("NAME", "outside")).unwrap();
    // As Kubernetes mounts a ConfigMap, and puts another version in its place.
    for (version, name) in [("..2024_1", "first"), ("..2024_2", "second")] {
        let data = resources.join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.yaml"), SPLIT.replace("NAME", name)).unwrap();
        symlink(version, resources.join("..data_tmp")).unwrap();
        fs::rename(resources.join("..data_tmp"), resources.join("..data")).unwrap();
        if version == "..2024_1" {
            symlink("..data/a.yaml", resources.join("a.yaml")).unwrap();
        }
        agent.await_status(name, |_| agent.split(name).is_ok());
    }
    symlink("../outside.yaml", resources.join("b.yaml")).unwrap();
    let status = agent.await_status("the link is seen", |status| !status.last_error.is_empty());
    let said = status.last_error.join("\n");
    let expected = "b.yaml: cannot read the file: a symbolic link that is absolute or leads out \
                    of the directory is not followed";
    assert!(said.contains(expected), "{said}");
    assert!(agent.split("outside").is_err(), "it is not in force");
    assert!(agent.split("second").is_ok(), "what was in force stays");
}
