//! Failures that pass: what the agent could not do at once it does later, and says meanwhile.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::{Xdp, XdpMode};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir::datapath::Settings;
use weir_tests::agent::{Agent, SPLITS, Setup};
use weir_tests::loaded::Loaded;
use weir_tests::prometheus::get;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::tcp_identity;
use weir_tests::topology::{CLIENT_FACING, Topology, VIP_V4};

const TIMEOUT: Duration = Duration::from_secs(5);
const METRICS: &str = "127.0.0.1:9464";

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), port)
}

fn split(topology: &Topology, name: &str, port: u16) -> String {
    let ips = topology.ips(&["v1-a"], vip(port).ip());
    SplitYaml::tcp(name, vip(port)).subset("v1", 1, &ips, PORT).text()
}

fn scene(setup: impl FnOnce(Setup) -> Setup) -> Scene {
    Scene::new(&["v1-a"], |t| setup(Setup::default()).split(&split(t, "reviews", 9080))).unwrap()
}

fn ask(scene: &Scene, port: u16) -> std::io::Result<String> {
    scene.topology.client.run(|| tcp_identity(vip(port), TIMEOUT))
}

/// Why that fails for now.
fn trouble(agent: &Agent, what: &str) -> Option<String> {
    let troubles = agent.status().unwrap().troubles;
    troubles.into_iter().find(|one| one.what == what).map(|one| one.error)
}

/// Waits until that fails, and says why.
fn await_trouble(agent: &Agent, what: &str) -> String {
    agent.await_status(what, |status| status.troubles.iter().any(|one| one.what == what));
    trouble(agent, what).unwrap_or_default()
}

fn await_no_trouble(agent: &Agent, what: &str) {
    agent.await_status(what, |status| status.troubles.iter().all(|one| one.what != what));
}

/// A small file system, unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn on(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = Some("size=256k,mode=0700");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options).unwrap();
        Self(path.to_owned())
    }

    /// Leaves no room.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_change_of_files_is_in_force_once_the_state_directory_has_room_again() {
    let mut scene = scene(|setup| setup);
    scene.agent.end(Signal::SIGTERM).unwrap();
    let state = Small::on(&scene.agent.directory().join("state"));
    scene.agent.start_again(&scene.topology.node).unwrap();
    let filler = state.fill();
    // What is kept of a split are its weights: some pages of the journal.
    let many: Vec<String> = (0..200)
        .map(|n| split(&scene.topology, &format!("{:x<60}", format!("s{n}")), 10_000 + n))
        .collect();
    let text = [split(&scene.topology, "reviews", 9081)].into_iter().chain(many);
    scene.agent.replace(SPLITS, &text.collect::<Vec<_>>().join("---\n"));
    let said = await_trouble(&scene.agent, "putting files into force");
    println!("{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!scene.agent.status().unwrap().last_error.is_empty());
    assert_eq!(ask(&scene, 9080).unwrap(), "v1-a", "what was in force stays");
    fs::remove_file(filler).unwrap();
    await_no_trouble(&scene.agent, "putting files into force");
    assert_eq!(ask(&scene, 9081).unwrap(), "v1-a");
    assert_eq!(scene.agent.status().unwrap().last_error, [""; 0]);
    scene.agent.end(Signal::SIGTERM).unwrap();
}

#[test]
fn a_hangup_ends_nothing_and_has_files_read_again() {
    let scene = scene(|setup| setup);
    let pid = Pid::from_raw(scene.agent.pid().unwrap().cast_signed());
    let before = scene.agent.status().unwrap().reloaded.expect("they were read");
    kill(pid, Signal::SIGHUP).unwrap();
    scene.agent.await_status("they are read again", |status| {
        status.reloaded.as_ref().is_some_and(|at| *at > before)
    });
    assert_eq!(ask(&scene, 9080).unwrap(), "v1-a");
    assert!(scene.agent.stderr().contains("SIGHUP: resources are read again"));
}

#[test]
fn metrics_are_served_once_their_port_is_free() {
    let mut scene = scene(|setup| setup);
    let node = &scene.topology.node;
    let address: SocketAddr = METRICS.parse().unwrap();
    scene.agent.end(Signal::SIGTERM).unwrap();
    let taken = node.run(|| TcpListener::bind(address)).unwrap();
    scene.agent.start_again(node).expect("it starts all the same");
    let said = await_trouble(&scene.agent, "serving metrics");
    assert!(said.contains("cannot listen at 127.0.0.1:9464: Address already in use"), "{said}");
    assert_eq!(ask(&scene, 9080).unwrap(), "v1-a");
    drop(taken);
    await_no_trouble(&scene.agent, "serving metrics");
    assert_eq!(get(node, address, "/readyz").unwrap(), (200, "ready\n".to_owned()));
}

#[test]
fn an_interface_that_takes_no_program_for_a_while_gets_it_later() {
    let mut scene = scene(|setup| setup.interfaces(&[(CLIENT_FACING, "xdp")]));
    scene.agent.end(Signal::SIGTERM).unwrap();
    scene.agent.pins().remove().unwrap();
    let node = &scene.topology.node;
    let mut loaded = Loaded::new(&Settings { flows: 1024, ..Settings::default() }).unwrap();
    let xdp: &mut Xdp =
        loaded.object().ebpf().program_mut("weir_xdp_forward_virtual").unwrap().try_into().unwrap();
    let link = node.run(|| xdp.attach(CLIENT_FACING, XdpMode::Driver)).unwrap();
    scene.agent.start_again(node).unwrap();
    let status = scene.agent.status().unwrap();
    let error = status.interfaces[0].error.as_ref().expect("another program is there");
    println!("{error}");
    xdp.detach(link).unwrap();
    scene.agent.await_status("it is attached", |status| status.interfaces[0].error.is_none());
    assert_eq!(ask(&scene, 9080).unwrap(), "v1-a");
}

#[test]
fn what_can_carry_no_programs_is_passed_over_unless_it_was_named() {
    let scene = scene(|setup| setup.interfaces(&[("*", "tc")]));
    let node = &scene.topology.node;
    node.ip(&["tuntap add tun0 mode tun", "link add br0 type bridge", "link set br0 up"]).unwrap();
    let status = scene.agent.await_status("all are known", |status| {
        ["lo", "tun0", "br0"].iter().all(|n| status.interfaces.iter().any(|i| i.name == *n))
    });
    for interface in &status.interfaces {
        let carries = !["lo", "tun0"].contains(&interface.name.as_str());
        assert_eq!(interface.error, None, "{interface:?}");
        assert_eq!(interface.passed_over.is_none(), carries, "{interface:?}");
        assert_eq!(interface.mode.is_empty(), !carries, "{interface:?}");
    }
    let address = METRICS.parse().unwrap();
    assert_eq!(get(node, address, "/readyz").unwrap(), (200, "ready\n".to_owned()));
    let (_, metrics) = get(node, address, "/metrics").unwrap();
    assert!(metrics.contains("interface=\"br0\"") && !metrics.contains("interface=\"lo\""));
    let text = scene.agent.ask(&["status"]).unwrap();
    assert!(text.contains("none: passed over, not an Ethernet interface"), "{text}");
    assert_eq!(ask(&scene, 9080).unwrap(), "v1-a");
}
