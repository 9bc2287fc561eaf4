//! Interfaces that come and go, and what an agent that ends leaves on them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use probe_common::map::Meta;
use weir_tests::agent::{Agent, Setup, program};
use weir_tests::netns::Netns;
use weir_tests::prometheus::get;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{connect, read_line, tcp_identity};
use weir_tests::topology::{CLIENT_FACING, ETH, NODE_V4, Topology, VIP_V4};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Where the agent serves metrics unless it is told otherwise.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

fn vip() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), 9080)
}

fn setup(topology: &Topology) -> Setup {
    let ips = topology.ips(&["v1-a"], vip().ip());
    Setup::default().split(&SplitYaml::tcp("reviews", vip()).subset("v1", 1, &ips, PORT).text())
}

fn ask(client: &Netns) -> std::io::Result<String> {
    client.run(|| tcp_identity(vip(), TIMEOUT))
}

/// Waits until the agent has programs on the one interface of that name.
#[track_caller]
fn await_attached(agent: &Agent, ifname: &str, hook: &str) {
    agent.await_status(ifname, |status| {
        let mut found = status.interfaces.iter().filter(|interface| interface.name == ifname);
        let good = found.next().is_some_and(|i| i.error.is_none() && i.hook == hook);
        good && found.next().is_none()
    });
}

/// Names of the programs on an interface of the node.
fn programs(node: &Netns, ifname: &str) -> Vec<String> {
    let mut names = node.run(|| {
        let at = |attach| SchedClassifier::query_tcx(ifname, attach).expect("query TCX").1;
        let found = at(TcAttachType::Ingress).into_iter().chain(at(TcAttachType::Egress));
        found
            .map(|program| program.name_as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    });
    let link = node.output("ip", &["-d", "link", "show", ifname]).expect("link");
    names.extend(link.contains("prog/xdp").then(|| "xdp".to_owned()));
    let qdisc = node.output("tc", &["qdisc", "show", "dev", ifname]).expect("qdisc");
    names.extend(qdisc.contains("clsact").then(|| "clsact".to_owned()));
    names
}

/// Another client, on a node interface of this name.
fn connect_client(node: &Netns, ifname: &str) -> Netns {
    let client = Netns::new().expect("namespace");
    node.ip(&[
        format!("link add {ifname} type veth peer name {ETH} netns {}", client.name()),
        format!("address add 198.51.100.1/24 dev {ifname}"),
        format!("link set {ifname} up"),
    ])
    .expect("interface");
    client
        .ip(&[
            format!("address add 198.51.100.2/24 dev {ETH}"),
            format!("link set {ETH} up"),
            "route add default via 198.51.100.1".to_owned(),
        ])
        .expect("client");
    client
}

#[test]
fn an_interface_that_appears_later_is_attached() {
    let scene = Scene::new(&["v1-a"], setup).unwrap();
    let late = connect_client(&scene.topology.node, "veth-late");
    await_attached(&scene.agent, "veth-late", "tc");
    assert_eq!(ask(&late).unwrap(), "v1-a");
    assert_eq!(ask(&scene.topology.client).unwrap(), "v1-a");
}

#[test]
fn an_interface_that_does_not_match_is_left_alone_until_it_is_renamed() {
    let scene = Scene::new(&["v1-a"], setup).unwrap();
    let node = &scene.topology.node;
    let other = connect_client(node, "other0");
    // One that matches and comes after it shows that the agent has seen it.
    node.ip(&["link add veth-late type veth peer name peer-late"]).expect("interface");
    await_attached(&scene.agent, "veth-late", "tc");
    assert_eq!(programs(node, "other0"), [""; 0]);
    assert!(scene.agent.status().unwrap().interfaces.iter().all(|i| i.name != "other0"));

    node.ip(&["link set other0 down", "link set other0 name veth-other", "link set veth-other up"])
        .expect("rename");
    await_attached(&scene.agent, "veth-other", "tc");
    assert_eq!(ask(&other).unwrap(), "v1-a");
}

#[test]
fn an_interface_that_is_deleted_and_made_again_works() {
    for hook in ["tc", "xdp"] {
        let scene = Scene::new(&["v1-a"], |t| setup(t).forward(hook)).unwrap();
        let node = &scene.topology.node;
        for round in 0..3 {
            let late = connect_client(node, "veth-late");
            await_attached(&scene.agent, "veth-late", hook);
            assert_eq!(ask(&late).unwrap(), "v1-a", "{hook}, round {round}");
            node.ip(&["link del veth-late"]).expect("delete");
            scene.agent.await_status("it is gone", |status| {
                status.interfaces.iter().all(|interface| interface.name != "veth-late")
            });
        }
    }
}

#[test]
fn the_first_pattern_that_matches_decides() {
    let interfaces = [("veth-client", "xdp"), ("veth-*", "tc")];
    let scene = Scene::new(&["v1-a"], |t| setup(t).interfaces(&interfaces)).unwrap();
    await_attached(&scene.agent, CLIENT_FACING, "xdp");
    await_attached(&scene.agent, "veth-ep1", "tc");
    assert!(programs(&scene.topology.node, CLIENT_FACING).contains(&"xdp".to_owned()));
    assert!(!programs(&scene.topology.node, "veth-ep1").contains(&"xdp".to_owned()));
    assert_eq!(ask(&scene.topology.client).unwrap(), "v1-a");
}

#[test]
fn an_interface_without_ethernet_is_rejected_and_said() {
    let scene = Scene::new(&["v1-a"], |t| {
        setup(t).interfaces(&[("veth-*", "tc"), ("lo", "tc"), ("tun0", "tc")])
    })
    .unwrap();
    scene.topology.node.ip(&["tuntap add tun0 mode tun"]).expect("tun0");
    let status = scene.agent.await_status("both are known", |status| {
        ["lo", "tun0"].iter().all(|name| status.interfaces.iter().any(|i| i.name == *name))
    });
    for interface in &status.interfaces {
        let rejected = ["lo", "tun0"].contains(&interface.name.as_str());
        assert_eq!(interface.error.is_some(), rejected, "{interface:?}");
    }
    assert_eq!(ask(&scene.topology.client).unwrap(), "v1-a");
}

/// How an agent ends: by which signal, and whether that is a success and the programs stay.
type End = (Signal, bool, bool);

/// The argument with which an agent is started, again after each of these ends.
const ENDS: &[(Option<&str>, &[End])] = &[
    (
        None,
        &[
            (Signal::SIGTERM, true, true),
            (Signal::SIGINT, true, true),
            (Signal::SIGKILL, false, true),
        ],
    ),
    (Some("--unload-on-exit"), &[(Signal::SIGTERM, true, false), (Signal::SIGKILL, false, true)]),
];

/// Ends the agent of a scene, looks at what is left, and starts it again.
fn check_end(scene: &mut Scene, hook: &str, (signal, clean, stays): End, what: &str) {
    let (client, node) = (&scene.topology.client, &scene.topology.node);
    assert_eq!(ask(client).unwrap(), "v1-a", "{what}");
    let before = programs(node, CLIENT_FACING);
    assert!(before.contains(&"weir_tc_reply".to_owned()), "{what}: {before:?}");
    assert_eq!(before.contains(&"xdp".to_owned()), hook == "xdp", "{what}");

    let status = scene.agent.end(signal).unwrap();
    assert_eq!(status.success(), clean, "{what}: {status}");
    assert_eq!(scene.agent.socket().exists(), !clean, "{what}: the socket");
    let after = programs(node, CLIENT_FACING);
    let left = if stays { before } else { Vec::new() };
    assert_eq!(after, left, "{what}");
    let answer = client.run(|| tcp_identity(vip(), Duration::from_millis(500)));
    assert_eq!(answer.is_ok(), stays, "{what}: {answer:?}");
    scene.agent.start_again(node).unwrap_or_else(|e| panic!("{what}: {e:#}"));
    assert_eq!(ask(client).unwrap(), "v1-a", "{what}: started again");
}

#[test]
fn the_kernel_steers_without_the_agent_unless_that_was_told_to_unload_it() {
    for hook in ["tc", "xdp"] {
        for &(argument, ends) in ENDS {
            let mut scene = Scene::new(&["v1-a"], |t| {
                let setup = setup(t).forward(hook);
                argument.into_iter().fold(setup, Setup::argument)
            })
            .unwrap();
            for &end in ends {
                let what = format!("{hook}, {argument:?}, {}", end.0);
                check_end(&mut scene, hook, end, &what);
            }
        }
    }
}

/// The seed of the sets of new flows, as the agent's maps have it.
fn new_flow_seed(agent: &Agent) -> u64 {
    let data = MapData::from_pin(agent.pins().map("META")).unwrap();
    let meta: Array<MapData, Meta> = Map::Array(data).try_into().unwrap();
    meta.get(&0, 0).unwrap().new_flow_seed
}

#[test]
fn new_flows_are_where_the_next_agent_looks_and_nobody_else_knows() {
    let mut scenes = [(); 2].map(|()| Scene::new(&["v1-a"], setup).unwrap());
    // Both have the same configuration.
    let [seed, other] = scenes.each_ref().map(|scene| new_flow_seed(&scene.agent));
    assert_ne!(seed, other);
    let scene = &mut scenes[0];
    let mut stream = scene.topology.client.run(|| connect(vip(), TIMEOUT)).unwrap();
    assert_eq!(read_line(&mut stream).unwrap(), "v1-a");
    scene.agent.end(Signal::SIGKILL).unwrap();
    // As a build has pinned them that names them otherwise.
    let pins = scene.agent.pins().clone();
    let renamed = [("YOUNG_V4", "NEW_FLOWS_V4"), ("YOUNG_SETS_V4", "NEW_SETS_V4")];
    let id = |name| MapData::from_pin(pins.map(name)).unwrap().info().unwrap().id();
    let ids = renamed.map(|(_, now)| id(now));
    for (before, now) in renamed {
        std::fs::rename(pins.map(now), pins.map(before)).unwrap();
    }
    scene.agent.start_again(&scene.topology.node).unwrap();
    assert_eq!(renamed.map(|(_, now)| id(now)), ids, "the maps that were there");
    assert!(renamed.iter().all(|(before, _)| !pins.map(before).exists()));
    assert_eq!(new_flow_seed(&scene.agent), seed);
    // The first one after its first second, with which the flow moves on from where it is found.
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let port = format!(":{}", stream.local_addr().unwrap().port());
    let flows = scene.agent.ask(&["flows"]).unwrap();
    assert_eq!(flows.matches(&port).count(), 1, "one flow, not another beside it:\n{flows}");
}

#[test]
fn unload_takes_weir_out_of_the_kernel() {
    let mut scene = Scene::new(&["v1-a"], setup).unwrap();
    let (client, node) = (&scene.topology.client, &scene.topology.node);
    assert_eq!(ask(client).unwrap(), "v1-a");
    scene.agent.end(Signal::SIGKILL).unwrap();
    let config = scene.agent.directory().join("agent.yaml");
    for says in ["weir is out of the kernel", "weir was not in the kernel"] {
        let program = program().expect("weir");
        let mut unload = node.command(program.to_str().expect("UTF-8"));
        let output = unload.arg("unload").arg("--config").arg(&config).output().expect("weir");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), says);
        assert!(!scene.agent.pins().dir().exists());
    }
    assert_eq!(programs(node, CLIENT_FACING), [""; 0]);
    assert!(client.run(|| tcp_identity(vip(), Duration::from_millis(200))).is_err());
}

#[test]
fn an_agent_that_is_told_to_unload_is_idle_until_it_is_restarted() {
    let mut scene = Scene::new(&["v1-a"], setup).unwrap();
    let (client, node) = (&scene.topology.client, &scene.topology.node);
    assert_eq!(ask(client).unwrap(), "v1-a");

    // Where nobody can answer, that has to be said.
    let output = scene.agent.weir(&["unload"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("has 1 split and") && stderr.contains("--yes"), "{stderr}");
    assert_eq!(ask(client).unwrap(), "v1-a", "nothing has changed");

    // Without --socket: the configuration says where the agent is.
    let config = scene.agent.directory().join("agent.yaml");
    let program = program().expect("weir");
    let mut unload = node.command(program.to_str().expect("UTF-8"));
    unload.args(["unload", "--yes", "--reason", "maintenance", "--config"]).arg(&config);
    let output = unload.env_remove("SUDO_USER").output().expect("weir");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("weir is out of the kernel; the agent is idle"), "{said}");
    assert!(!scene.agent.pins().dir().exists(), "maps and links are gone");
    assert_eq!(programs(node, CLIENT_FACING), [""; 0]);
    assert!(client.run(|| tcp_identity(vip(), Duration::from_millis(200))).is_err());

    // An agent that attached again would have done so within a second.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(programs(node, CLIENT_FACING), [""; 0]);
    let output = scene.agent.weir(&["status", "--brief"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("FAILED: unloaded "), "{said}");
    assert!(said.contains(" by root: maintenance: nothing is steered"), "{said}");
    let (code, why) = get(node, METRICS, "/readyz").unwrap();
    assert!(code == 503 && why.contains("unloaded"), "{code} {why}");
    let (_, metrics) = get(node, METRICS, "/metrics").unwrap();
    assert!(metrics.contains("\nweir_unloaded 1\n"), "{metrics}");
    let error = scene.agent.ask(&["weights", "reviews", "v1=2"]).unwrap_err().to_string();
    assert!(error.contains("unloaded") && error.contains("restarted"), "{error}");
    let again = scene.agent.ask(&["unload"]).unwrap();
    assert!(again.starts_with("weir was not in the kernel: unloaded "), "{again}");

    assert!(scene.agent.end(Signal::SIGTERM).unwrap().success());
    scene.agent.start_again(&scene.topology.node).unwrap();
    assert_eq!(ask(&scene.topology.client).unwrap(), "v1-a", "restarted, it steers");
}

#[test]
fn a_second_agent_with_the_same_socket_is_rejected() {
    let scene = Scene::new(&["v1-a"], setup).unwrap();
    let config = scene.agent.directory().join("agent.yaml");
    let program = program().expect("weir");
    let mut second = scene.topology.node.command(program.to_str().expect("UTF-8"));
    let output = second.arg("agent").arg("--config").arg(config).output().expect("weir");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another agent listens"), "{stderr}");
    assert_eq!(ask(&scene.topology.client).unwrap(), "v1-a", "the first goes on");
}

#[test]
fn traffic_that_is_addressed_to_nobodys_split_passes() {
    let scene = Scene::new(&["v1-a"], setup).unwrap();
    let endpoint = scene.topology.endpoint("v1-a");
    for ip in [IpAddr::from(endpoint.v4), endpoint.v6.into()] {
        let direct = SocketAddr::new(ip, PORT);
        let answer = scene.topology.client.run(|| tcp_identity(direct, TIMEOUT));
        assert_eq!(answer.expect("directly to the endpoint"), "v1-a");
    }
    // The node itself says that nobody listens.
    let node = SocketAddr::new(NODE_V4.into(), vip().port());
    let answer = scene.topology.client.run(|| tcp_identity(node, TIMEOUT));
    assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
}
