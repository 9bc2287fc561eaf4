//! Links whose packets have 9,000 bytes: content arrives whole in both directions, and XDP runs in
//! the driver.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_tests::agent::Setup;
use weir_tests::client::udp_from;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{bulk_receive, bulk_send};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip, packets, set_tx_offload,
};

const BYTES: u64 = 10_000_019;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of TCP in a packet of a link of 9,000 bytes.
const SEGMENT: u64 = 8948;

/// Hook of the forward direction, what fastPath is, how the agent must have got the hook, and
/// whether offloads are on: with them segments are larger still, without them of 9,000 bytes.
const CASES: &[(&str, &str, &str, bool)] = &[
    ("tc", "auto", "tcx", true),
    ("tc", "auto", "tcx", false),
    ("tc", "off", "tcx", true),
    ("tc", "off", "tcx", false),
    ("xdp", "auto", "native", true),
    ("xdp", "auto", "native", false),
    ("xdp", "off", "native", true),
    ("xdp", "off", "native", false),
];

fn topology(offloads: bool) -> Topology {
    let topology = Topology::new(&[EndpointSpec::new("v1")]).expect("topology");
    let endpoint = topology.endpoint("v1");
    for (ns, ifname) in [
        (&topology.node, CLIENT_FACING),
        (&topology.node, endpoint.node_ifname.as_str()),
        (&topology.client, ETH),
        (&endpoint.ns, ETH),
    ] {
        ns.ip(&[format!("link set {ifname} mtu 9000")]).expect("an MTU");
        set_tx_offload(ns, ifname, offloads).expect("offloads");
    }
    topology
}

/// Datagrams up to the longest that fits a packet, and back with the name of the server before.
fn check_udp(socket: &UdpSocket, what: &str) {
    let longest = 9000 - 48 - "v1 ".len();
    let mut buffer = vec![0; 1 << 14];
    for size in [1, 1400, 3000, 4096, 6000, longest - 1, longest] {
        let question: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251) as u8).collect();
        socket.send(&question).unwrap_or_else(|e| panic!("{what}, {size} bytes: {e}"));
        let got = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}, {size} bytes: {e}"));
        assert!(buffer[..got].strip_prefix(b"v1 ") == Some(&question), "{what}, {size} bytes");
    }
}

#[test]
fn jumbo_frames_arrive_whole_in_both_directions() {
    for &(hook, fast_path, mode, offloads) in CASES {
        let what = format!("forward at {hook}, fastPath {fast_path}, offloads {offloads}");
        let scene = Scene::on(topology(offloads), |topology| {
            let lines = format!("hashSeed: 0x5eed\nfastPath: {fast_path}\n");
            [IpAddr::from(VIP_V4), VIP_V6.into()].into_iter().fold(
                Setup::default().forward(hook).config(&lines),
                |setup, vip| {
                    let ips = topology.ips(&["v1"], vip);
                    let family = if vip.is_ipv4() { "v4" } else { "v6" };
                    let tcp = SplitYaml::tcp(&format!("tcp-{family}"), SocketAddr::new(vip, BULK));
                    let udp = SplitYaml::udp(&format!("udp-{family}"), SocketAddr::new(vip, PORT));
                    setup
                        .split(&tcp.subset("v1", 1, &ips, BULK).text())
                        .split(&udp.subset("v1", 1, &ips, PORT).text())
                },
            )
        })
        .expect("a scene");
        let status = scene.agent.status().expect("status");
        let found = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
        assert_eq!(found.expect("the client-facing interface").mode, mode, "{what}");
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let what = format!("{what}, {vip}");
            scene.topology.client.run(|| {
                let tcp = SocketAddr::new(vip, BULK);
                let now = || packets(&scene.topology.client, ETH).expect("counters");
                let before = now();
                bulk_send(tcp, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{what}: {e}"));
                let between = now();
                bulk_receive(tcp, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{what}: {e}"));
                let counts = [between[1] - before[1], now()[0] - between[0]];
                // Of 9,000 bytes each, acknowledgements aside, or of up to 64 kB.
                let (least, whole) = (BYTES / (1 << 16), BYTES / SEGMENT);
                let large = counts.map(|count| (least..whole / 2).contains(&count));
                // XDP takes no larger ones.
                let wanted = [offloads && hook == "tc", offloads];
                assert!(large == wanted, "{what}: {counts:?} packets");
                assert!(offloads || counts.iter().all(|&n| n >= whole), "{what}: {counts:?}");
                println!("{what}: {counts:?} packets");
                let from = SocketAddr::new(client_ip(vip), 10_000);
                let socket = udp_from(from, SocketAddr::new(vip, PORT)).expect("a socket");
                check_udp(&socket, &what);
            });
            println!("{what}: {BYTES} bytes each way, datagrams of up to 8,949 bytes");
        }
        // Nothing was cut: no fragment was seen.
        let reasons = scene.agent.status().expect("status").reasons;
        assert_eq!(reasons["pass_fragment"], 0, "{what}");
    }
}
