//! Content arrives whole in both directions, whoever computes the checksums.
//!
//! Between veths packets carry checksums that nobody has completed; they are completed where a
//! device without the offload sends them. A wrong update shows only there.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_tests::agent::Setup;
use weir_tests::client::{exchange, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{bulk_receive, bulk_send};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip, set_tx_offload,
};

/// Bytes of TCP in each direction; a multiple of nothing.
const BYTES: u64 = 10_000_019;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where offloads are off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Off {
    Nowhere,
    Everywhere,
    OnNode,
    OnHosts,
}

/// Hook of the forward direction, what fastPath is, how the agent must have got the hook, and
/// where offloads are off.
const CASES: &[(&str, &str, &str, Off)] = &[
    ("tc", "auto", "tcx", Off::Nowhere),
    ("tc", "auto", "tcx", Off::Everywhere),
    ("tc", "auto", "tcx", Off::OnNode),
    ("tc", "auto", "tcx", Off::OnHosts),
    ("tc", "off", "tcx", Off::Nowhere),
    ("tc", "off", "tcx", Off::Everywhere),
    ("tc", "off", "tcx", Off::OnNode),
    ("tc", "off", "tcx", Off::OnHosts),
    ("xdp", "off", "native", Off::Nowhere),
    ("xdp", "off", "native", Off::Everywhere),
    ("xdp", "off", "native", Off::OnNode),
    ("xdp", "off", "native", Off::OnHosts),
    // Only replies go past the stack.
    ("xdp", "auto", "native", Off::Nowhere),
    ("xdp", "auto", "native", Off::Everywhere),
];

fn topology(off: Off) -> Topology {
    let topology = Topology::new(&[EndpointSpec::new("v1-a")]).expect("topology");
    let endpoint = topology.endpoint("v1-a");
    let node = matches!(off, Off::Everywhere | Off::OnNode);
    let hosts = matches!(off, Off::Everywhere | Off::OnHosts);
    for (ns, ifname, off) in [
        (&topology.node, CLIENT_FACING, node),
        (&topology.node, endpoint.node_ifname.as_str(), node),
        (&topology.client, ETH, hosts),
        (&endpoint.ns, ETH, hosts),
    ] {
        set_tx_offload(ns, ifname, !off).expect("offloads");
    }
    topology
}

/// The service addresses: TCP at the first port, UDP at the second.
fn setup(topology: &Topology, hook: &'static str, fast_path: &str) -> Setup {
    let lines = format!("hashSeed: 0x5eed\nfastPath: {fast_path}\n");
    [VIP_V4.into(), VIP_V6.into()].into_iter().fold(
        Setup::default().forward(hook).config(&lines),
        |setup, vip: IpAddr| {
            let ips = topology.ips(&["v1-a"], vip);
            let family = if vip.is_ipv4() { "v4" } else { "v6" };
            let tcp = SplitYaml::tcp(&format!("tcp-{family}"), SocketAddr::new(vip, BULK));
            let udp = SplitYaml::udp(&format!("udp-{family}"), SocketAddr::new(vip, PORT));
            setup
                .split(&tcp.subset("v1", 1, &ips, BULK).text())
                .split(&udp.subset("v1", 1, &ips, PORT).text())
        },
    )
}

/// Datagrams of odd and even sizes, up to the largest of which the answer is not fragmented.
fn check_udp(client: SocketAddr, vip: SocketAddr) {
    let socket = udp_from(client, vip).expect("socket");
    let mut rng = Rng::new(1);
    for size in [0, 1, 2, 3, 17, 512, 1399, 1400].into_iter().chain(1..200) {
        let payload: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
        let answer = exchange(&socket, &payload);
        assert_eq!(answer.unwrap_or_else(|e| panic!("UDP, {size} bytes: {e}")), "v1-a");
    }
}

#[test]
fn content_arrives_whole_in_both_directions() {
    for &(hook, fast_path, mode, off) in CASES {
        let what = format!("forward at {hook}, fastPath {fast_path}, offloads off: {off:?}");
        let scene = Scene::on(topology(off), |topology| setup(topology, hook, fast_path)).unwrap();
        let status = scene.agent.status().unwrap();
        let found = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
        assert_eq!(found.expect("the client-facing interface").mode, mode, "{what}");
        for vip in [VIP_V4.into(), VIP_V6.into()] {
            let begun = Instant::now();
            let tcp = SocketAddr::new(vip, BULK);
            scene.topology.client.run(|| {
                bulk_send(tcp, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{what}, {vip}: {e}"));
                bulk_receive(tcp, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{what}, {vip}: {e}"));
                check_udp(SocketAddr::new(client_ip(vip), 10_000), SocketAddr::new(vip, PORT));
            });
            println!("{what}, {vip}: {BYTES} bytes each way and UDP in {:?}", begun.elapsed());
        }
    }
}
