//! Programs that somebody else detaches while the agent runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use nix::net::if_::if_nametoindex;
use weir::api::types::{InterfaceView, StatusView};
use weir::datapath::Settings;
use weir_tests::agent::{Agent, Setup};
use weir_tests::attachment::{bystander, detach};
use weir_tests::loaded::Loaded;
use weir_tests::netns::Netns;
use weir_tests::prometheus::get;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{connect, read_line, tcp_identity};
use weir_tests::topology::{CLIENT_FACING, Topology, VIP_V4};

const TIMEOUT: Duration = Duration::from_secs(5);
const METRICS: &str = "127.0.0.1:9464";

fn vip() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), 9080)
}

fn scene(hook: &'static str) -> Scene {
    let setup = |topology: &Topology| {
        let ips = topology.ips(&["v1-a"], vip().ip());
        let split = SplitYaml::tcp("reviews", vip()).subset("v1", 1, &ips, PORT).text();
        Setup::default().interfaces(&[(CLIENT_FACING, hook), ("veth-ep*", "tc")]).split(&split)
    };
    Scene::new(&["v1-a"], setup).unwrap()
}

/// Where the attachment of the interface to the clients is pinned.
fn pin(scene: &Scene, hook: &str) -> PathBuf {
    let index = scene.topology.node.run(|| if_nametoindex(CLIENT_FACING)).unwrap();
    scene.agent.pins().link(index, hook)
}

fn view(status: &StatusView) -> &InterfaceView {
    let mut found = status.interfaces.iter();
    found.find(|interface| interface.name == CLIENT_FACING).expect(CLIENT_FACING)
}

/// Waits until the agent has seen as many times that programs were detached, and attached them
/// again.
#[track_caller]
fn await_attached_again(agent: &Agent, times: u64) {
    agent.await_status(&format!("attached again {times} times"), |status| {
        let view = view(status);
        view.detached == times && view.error.is_none() && !view.mode.is_empty()
    });
}

fn ready(node: &Netns) -> (u16, String) {
    get(node, METRICS.parse().unwrap(), "/readyz").unwrap()
}

fn series(node: &Netns, name: &str) -> Vec<String> {
    let (_, text) = get(node, METRICS.parse().unwrap(), "/metrics").unwrap();
    let of_interface = format!("interface=\"{CLIENT_FACING}\"");
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&of_interface));
    lines.map(str::to_owned).collect()
}

/// The flow goes on: what is sent comes back.
fn goes_on(scene: &Scene, stream: &mut TcpStream, what: &str) {
    scene.topology.client.run(|| {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(b"x").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{what}: {error}"));
    });
}

#[test]
fn programs_that_somebody_else_detaches_are_attached_again_and_that_is_told() {
    let scene = scene("tc");
    let (client, node) = (&scene.topology.client, &scene.topology.node);
    let mut live = client.run(|| connect(vip(), TIMEOUT)).unwrap();
    client.run(|| read_line(&mut live)).unwrap();
    let [forward, reply] = ["forward", "reply"].map(|hook| pin(&scene, hook));
    type Way<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let ways: [Way<'_>; 4] = [
        ("forward detached", Box::new(|| detach(&forward).unwrap())),
        ("reply detached", Box::new(|| detach(&reply).unwrap())),
        ("a pin removed", Box::new(|| fs::remove_file(&forward).unwrap())),
        (
            "both at once",
            Box::new(|| [&forward, &reply].into_iter().for_each(|p| detach(p).unwrap())),
        ),
    ];
    for (times, (what, take_off)) in (1..).zip(&ways) {
        take_off();
        await_attached_again(&scene.agent, times);
        let answer = client.run(|| tcp_identity(vip(), TIMEOUT));
        assert_eq!(answer.unwrap(), "v1-a", "{what}: a new flow");
        goes_on(&scene, &mut live, what);
    }
    let said = scene.agent.stderr();
    let both = format!(
        "{CLIENT_FACING}: somebody else has detached the programs at TC egress and TC ingress"
    );
    assert!(said.contains(&both), "{said}");
    let output = scene.agent.weir(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("DEGRADED"), "{text}");
    assert!(text.contains("attached again, detached 4 times, last "), "{text}");
    let counted =
        format!("weir_interface_detached_total{{interface=\"{CLIENT_FACING}\",hook=\"tc\"}} 4");
    assert_eq!(series(node, "weir_interface_detached_total"), [counted]);
    assert_eq!(ready(node), (200, "ready\n".to_owned()));
    let others = scene.agent.status().unwrap().interfaces;
    let others = others.iter().filter(|interface| interface.name != CLIENT_FACING);
    assert_eq!(others.map(|interface| interface.detached).sum::<u64>(), 0, "they were left alone");
}

/// The names of the programs at a hook, in their order.
fn in_line(node: &Netns, direction: TcAttachType) -> Vec<String> {
    let (_, found) = node.run(|| SchedClassifier::query_tcx(CLIENT_FACING, direction)).unwrap();
    found.iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn others_at_the_same_hooks_see_the_same_addresses_in_both_directions() {
    use TcAttachType::{Egress, Ingress};
    let mut foreign = None;
    // It is there first, as that of a CNI plugin would be.
    let scene = Scene::new(&["v1-a"], |topology| {
        foreign = Some(bystander(&topology.node, CLIENT_FACING).unwrap());
        Setup::default().interfaces(&[(CLIENT_FACING, "tc")])
    });
    let scene = scene.unwrap();
    let node = &scene.topology.node;
    let line = |direction| in_line(node, direction).join(" ");
    assert_eq!(line(Ingress), "weir_tc_forward count_prioritie");
    assert_eq!(line(Egress), "count_prioritie weir_tc_reply");
    // Attached again, it is where it was.
    for hook in ["forward", "reply"] {
        detach(&pin(&scene, hook)).unwrap();
    }
    await_attached_again(&scene.agent, 1);
    assert_eq!(line(Ingress), "weir_tc_forward count_prioritie");
    assert_eq!(line(Egress), "count_prioritie weir_tc_reply");
    drop(foreign);
}

#[test]
fn an_agent_whose_programs_cannot_be_attached_again_is_not_ready() {
    let scene = scene("xdp");
    let node = &scene.topology.node;
    let mut loaded = Loaded::new(&Settings { flows: 1024, ..Settings::default() }).unwrap();
    let xdp: &mut Xdp =
        loaded.object().ebpf().program_mut("weir_xdp_forward_virtual").unwrap().try_into().unwrap();
    detach(&pin(&scene, "xdp-native")).unwrap();
    let link = node.run(|| xdp.attach(CLIENT_FACING, XdpMode::Driver)).unwrap();
    let status = scene.agent.await_status("it is seen", |status| view(status).error.is_some());
    println!("{}", view(&status).error.as_deref().unwrap_or_default());
    let (code, reasons) = ready(node);
    assert!(code == 503 && reasons.contains(CLIENT_FACING), "{code}: {reasons}");
    let attached = series(node, "weir_interface_attached");
    assert_eq!(attached.len(), 1, "{attached:?}");
    assert!(attached[0].ends_with("mode=\"\"} 0"), "{attached:?}");
    xdp.detach(link).unwrap();
    await_attached_again(&scene.agent, 1);
    assert_eq!(ready(node), (200, "ready\n".to_owned()));
    let answer = scene.topology.client.run(|| tcp_identity(vip(), TIMEOUT));
    assert_eq!(answer.unwrap(), "v1-a");
}

#[test]
fn maps_whose_pins_are_removed_are_missed_before_the_next_agent_misses_them() {
    let scene = scene("tc");
    fs::remove_file(scene.agent.pins().map("META")).unwrap();
    let what = "keeping the maps for the next agent";
    let status = scene
        .agent
        .await_status(what, |status| status.troubles.iter().any(|trouble| trouble.what == what));
    let text = &status.troubles[0].error;
    assert!(text.starts_with("somebody removed the maps from "), "{text}");
    let answer = scene.topology.client.run(|| tcp_identity(vip(), TIMEOUT));
    assert_eq!(answer.unwrap(), "v1-a", "weir goes on");
}
