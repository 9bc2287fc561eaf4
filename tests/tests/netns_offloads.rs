//! Content arrives whole in both directions, whoever computes the checksums.
//!
//! Between veths packets carry checksums that nobody has completed; they are completed where a
//! device without the offload sends them. A wrong update shows only there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use weir_tests::agent::Setup;
use weir_tests::client::{exchange, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{bulk_receive, bulk_send};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip, packets, set_tx_offload,
};

/// Bytes of TCP in each direction; a multiple of nothing.
const BYTES: u64 = 10_000_019;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of TCP in a packet of a link of 1500 bytes.
const SEGMENT: u64 = 1448;
/// Bytes of a datagram of those that are sent at once, and how many.
const PIECE: usize = 1400;
const PIECES: usize = 42;

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
fn check_udp(socket: &UdpSocket) {
    let mut rng = Rng::new(1);
    for size in [0, 1, 2, 3, 17, 512, 1399, 1400].into_iter().chain(1..200) {
        let payload: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
        let answer = exchange(socket, &payload);
        assert_eq!(answer.unwrap_or_else(|e| panic!("UDP, {size} bytes: {e}")), "v1-a");
    }
}

/// 58,800 bytes that are cut into datagrams by whoever must (UDP_SEGMENT): the endpoint gets each,
/// and answers it.
fn check_udp_at_once(socket: &UdpSocket, what: &str) {
    setsockopt(socket, UdpGsoSegment, &(PIECE as i32)).expect("UDP_SEGMENT");
    let pieces: Vec<Vec<u8>> = (0..PIECES).map(|n| vec![n as u8; PIECE]).collect();
    socket.send(&pieces.concat()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut answers = Vec::new();
    let mut buffer = [0; 4096];
    for n in 0..PIECES {
        let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}, answer {n}: {e}"));
        let answer = buffer[..length].strip_prefix(b"v1-a ");
        answers.push(answer.unwrap_or_else(|| panic!("{what}, answer {n}")).to_vec());
    }
    answers.sort_unstable();
    assert!(answers == pieces, "{what}: other datagrams came back");
}

/// Packets that the client sent and received for that many bytes were of 64 kB where that can be,
/// and of a segment where it cannot.
fn assert_large(counts: [u64; 2], hook: &str, off: Off, what: &str) {
    let (least, whole) = (BYTES / (1 << 16), BYTES / SEGMENT);
    let large = counts.map(|count| (least..whole / 4).contains(&count));
    match off {
        // XDP takes no large ones.
        Off::Nowhere => assert_eq!(large, [hook == "tc", true], "{what}: {counts:?} packets"),
        Off::Everywhere => {
            assert!(counts.iter().all(|&count| count >= whole), "{what}: {counts:?} packets");
        }
        Off::OnNode | Off::OnHosts => {}
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
        let now = || packets(&scene.topology.client, ETH).expect("counters");
        for vip in [VIP_V4.into(), VIP_V6.into()] {
            let begun = Instant::now();
            let (tcp, what) = (SocketAddr::new(vip, BULK), format!("{what}, {vip}"));
            let socket = scene.topology.client.run(|| {
                let from = SocketAddr::new(client_ip(vip), 10_000);
                udp_from(from, SocketAddr::new(vip, PORT)).expect("a socket")
            });
            let before = now();
            let send = || bulk_send(tcp, BYTES, TIMEOUT);
            scene.topology.client.run(send).unwrap_or_else(|e| panic!("{what}: {e}"));
            let between = now();
            let receive = || bulk_receive(tcp, BYTES, TIMEOUT);
            scene.topology.client.run(receive).unwrap_or_else(|e| panic!("{what}: {e}"));
            let counts = [between[1] - before[1], now()[0] - between[0]];
            assert_large(counts, hook, off, &what);
            check_udp(&socket);
            if off == Off::Nowhere {
                let before = now()[1];
                check_udp_at_once(&socket, &what);
                let count = now()[1] - before;
                let large = count < PIECES as u64 / 2;
                assert!(large || hook == "xdp", "{what}: {PIECES} datagrams in {count} packets");
            }
            println!(
                "{what}: {BYTES} bytes each way and UDP in {:?}, {counts:?} packets",
                begun.elapsed()
            );
        }
    }
}
