//! Frames by who they are addressed to on the link: what a bridge or a macvlan takes past the node
//! is none of weir's business, what comes to the node by one is.

mod fast_path;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fast_path::{DATAGRAMS, LINES, TIMEOUT, setup};
use weir_tests::netns::Netns;
use weir_tests::scene::Scene;
use weir_tests::server::{Server, tcp_identity, udp_identity};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip, set_tx_offload, vips,
};

const BRIDGE_MAC: &str = "02:00:00:00:09:01";
const VRRP_MAC: &str = "00:00:5e:00:01:07";
const POD_MAC: &str = "02:00:00:00:0a:07";
/// Until the agent has seen a change of interfaces, at worst.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that has the service's addresses, as a balancer beside the node may.
struct Beside {
    ns: Netns,
    servers: Vec<Server>,
}

impl Beside {
    fn new(name: &str) -> Self {
        let ns = Netns::new().expect("namespace");
        let own = [VIP_V4.to_string(), VIP_V6.to_string()];
        ns.ip(&own.map(|ip| {
            format!("address add {ip} dev lo{}", if ip.contains(":") { " nodad" } else { "" })
        }))
        .expect("addresses");
        // At the addresses themselves, which are to be the source of answers to datagrams.
        let servers = vips()
            .iter()
            .flat_map(|&vip| {
                let tcp = Server::tcp(&ns, SocketAddr::new(vip, LINES), name);
                let udp = Server::udp(&ns, SocketAddr::new(vip, DATAGRAMS), name);
                [tcp.expect("TCP"), udp.expect("UDP")]
            })
            .collect();
        Self { ns, servers }
    }
}

/// Connects a namespace to the bridge, as its host of that number.
fn plug(node: &Netns, ns: &Netns, number: u8) {
    let port = format!("port-{number}");
    node.ip(&[
        format!("link add {port} type veth peer name {ETH} netns {}", ns.name()),
        format!("link set {port} master br0"),
        format!("link set {port} up"),
    ])
    .expect("port");
    ns.ip(&[
        format!("address add 10.9.0.{number}/24 dev {ETH}"),
        format!("address add 2001:db8:9::{number}/64 dev {ETH} nodad"),
        format!("link set {ETH} up"),
    ])
    .expect("host");
}

/// Sends what goes to the service's addresses by these two hosts.
fn send_by(client: &Netns, hosts: [&str; 2]) {
    let routes: Vec<String> = vips()
        .iter()
        .zip(hosts)
        .map(|(vip, host)| format!("route replace {vip} via {host} dev {ETH}"))
        .collect();
    client.ip(&routes).expect("routes");
}

/// Who answers at the service's addresses, over TCP and UDP.
fn answers(client: &Netns, vip: IpAddr, timeout: Duration) -> [std::io::Result<String>; 2] {
    client.run(|| {
        let tcp = tcp_identity(SocketAddr::new(vip, LINES), timeout);
        [tcp, udp_identity(SocketAddr::new(vip, DATAGRAMS), "x", timeout)]
    })
}

#[track_caller]
fn assert_answers(client: &Netns, expected: &str, what: &str) {
    for vip in vips() {
        for answer in answers(client, vip, TIMEOUT) {
            let answer = answer.unwrap_or_else(|error| panic!("{what}, {vip}: {error}"));
            assert_eq!(answer, expected, "{what}, {vip}");
        }
    }
}

/// Who is steered by the node is answered by the endpoint, who is not by a server beside it.
/// Without programs at the bridge itself, those at its ports have to know what is to the bridge.
fn check(hook: &'static str, at_bridge: bool) {
    let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
    let (node, client) = (&topology.node, &topology.client);
    let (near, other, pod) = (Netns::new().expect("namespace"), Beside::new("b"), Beside::new("b"));
    node.ip(&[
        "link add br0 type bridge".to_owned(),
        format!("link set br0 address {BRIDGE_MAC}"),
        "address add 10.9.0.1/24 dev br0".to_owned(),
        "address add 2001:db8:9::1/64 dev br0 nodad".to_owned(),
        "link set br0 up".to_owned(),
        format!("link add vrrp link {CLIENT_FACING} address {VRRP_MAC} type macvlan mode bridge"),
        "link set vrrp up".to_owned(),
        format!("link add pod0 link {CLIENT_FACING} address {POD_MAC} type macvlan mode bridge"),
        format!("link set pod0 netns {}", pod.ns.name()),
    ])
    .expect("bridge and macvlans");
    plug(node, &near, 2);
    plug(node, &other.ns, 3);
    // Answers of a macvlan to who is behind its parent.
    let back: Vec<String> = [VIP_V4.into(), IpAddr::from(VIP_V6)]
        .map(|vip| format!("route add {} dev pod0", client_ip(vip)))
        .into();
    pod.ns.ip(&["link set pod0 up"]).expect("up");
    pod.ns.ip(&back).expect("routes");
    // Hosts that are there by their MAC addresses alone.
    for (ends, mac) in
        [(["192.0.2.9", "2001:db8:2::9"], VRRP_MAC), (["192.0.2.8", "2001:db8:2::8"], POD_MAC)]
    {
        let neighbours =
            ends.map(|ip| format!("neigh add {ip} lladdr {mac} dev {ETH} nud permanent"));
        client.ip(&neighbours).expect("neighbours");
    }
    let mut forward = vec![("veth-*", hook), ("port-*", hook)];
    forward.extend(at_bridge.then_some(("br0", "tc")));
    let scene = Scene::on(topology, |t| setup(t, "auto").interfaces(&forward)).expect("scene");
    let (node, client) = (&scene.topology.node, &scene.topology.client);
    if hook == "xdp" {
        // Of a partial checksum XDP would leave the packet to TC.
        for host in [client, &near] {
            set_tx_offload(host, ETH, false).expect("offloads");
        }
    }
    let served = || scene.tcp_servers().map(Server::served).sum::<u64>();

    let by_node = ["10.9.0.1", "2001:db8:9::1"];
    send_by(&near, by_node);
    assert_answers(&near, "a", &format!("{hook}: to the bridge's address"));
    let before = served();
    send_by(&near, ["10.9.0.3", "2001:db8:9::3"]);
    assert_answers(&near, "b", &format!("{hook}: bridged"));
    node.ip(&["link set br0 promisc on"]).expect("promiscuous");
    assert_answers(&near, "b", &format!("{hook}: bridged, and seen by the bridge"));
    assert_eq!(served(), before, "{hook}: nothing bridged comes to the endpoint");
    let asked: u64 = other.servers.iter().map(Server::served).sum();
    assert_eq!(asked, 8, "{hook}: each asked once");

    send_by(client, ["192.0.2.9", "2001:db8:2::9"]);
    assert_answers(client, "a", &format!("{hook}: to a macvlan of the node"));
    send_by(client, ["192.0.2.8", "2001:db8:2::8"]);
    assert_answers(client, "b", &format!("{hook}: to a macvlan of a pod"));

    // The bridge gets another address, while the agent runs.
    node.ip(&["link set br0 address 02:00:00:00:09:77"]).expect("address");
    near.ip(&[format!("neigh flush dev {ETH}")]).expect("flush");
    send_by(&near, by_node);
    let deadline = Instant::now() + PATIENCE;
    for vip in vips() {
        let follows = || {
            answers(&near, vip, Duration::from_secs(1))
                .iter()
                .all(|a| matches!(a, Ok(a) if a == "a"))
        };
        while !follows() {
            assert!(Instant::now() < deadline, "{hook}, {vip}: to the bridge's new address");
        }
    }
}

#[test]
fn what_the_node_only_bridges_passes_untouched_at_tc() {
    check("tc", true);
}

#[test]
fn what_the_node_only_bridges_passes_untouched_at_xdp() {
    check("xdp", true);
}

#[test]
fn what_is_to_the_bridge_is_steered_at_tc_of_its_ports() {
    check("tc", false);
}

#[test]
fn what_is_to_the_bridge_is_steered_at_xdp_of_its_ports() {
    check("xdp", false);
}
