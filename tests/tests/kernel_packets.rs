//! A table of packets through the loaded programs: what comes out is, byte for
//! byte, what a builder makes that knows nothing of weir. Needs root.

mod kernel;

use std::net::SocketAddr;

use kernel::{ANSWER_TC, ANSWER_XDP, Hook, Node, PASS_TC, PASS_XDP, SEED, split};
use weir::datapath::Settings;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{ACK, Ext, FIN, Packet, RST, SYN, checksums_ok, tuple};

const HOOKS: [(Hook, u32); 2] = [(Hook::Tc, PASS_TC), (Hook::Xdp, PASS_XDP)];

/// Client, service address and the only endpoint, of one family and protocol.
#[derive(Debug, Clone, Copy)]
struct Cast {
    protocol: Protocol,
    client: SocketAddr,
    vip: SocketAddr,
    endpoint: SocketAddr,
}

fn casts() -> Vec<Cast> {
    let mut casts = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for [client, vip, endpoint] in [
            ["203.0.113.7:41000", "192.0.2.10:9080", "198.51.100.11:8081"],
            ["[2001:db8:7::7]:41000", "[2001:db8::10]:9080", "[2001:db8:1::11]:8081"],
        ] {
            let [client, vip, endpoint] = [client, vip, endpoint].map(|s| s.parse().unwrap());
            casts.push(Cast { protocol, client, vip, endpoint });
        }
    }
    casts
}

impl Cast {
    fn node(&self) -> Node {
        self.node_with(Settings { hash_seed: SEED, flows: 1024, ..Settings::default() })
    }

    fn node_with(&self, settings: Settings) -> Node {
        let mut node = Node::with(settings);
        let endpoint = self.endpoint.to_string();
        node.put(split("one", self.vip, self.protocol, Affinity::None, &[("v1", 1, &[&endpoint])]));
        node
    }

    /// The same with another port of the client.
    fn with_port(mut self, port: u16) -> Self {
        self.client.set_port(port);
        self
    }

    fn packet(&self, source: SocketAddr, destination: SocketAddr) -> Packet {
        match self.protocol {
            Protocol::Tcp => Packet::tcp(source, destination).flags(SYN).seq(100),
            Protocol::Udp => Packet::udp(source, destination),
        }
        .payload(b"sixteen bytes in")
    }

    fn v6(&self) -> bool {
        self.vip.is_ipv6()
    }
}

/// What a case applies to.
#[derive(Clone, Copy, PartialEq)]
enum Only {
    All,
    V4,
    V6,
    Tcp,
    UdpV4,
}

impl Only {
    fn fits(self, cast: &Cast) -> bool {
        match self {
            Self::All => true,
            Self::V4 => !cast.v6(),
            Self::V6 => cast.v6(),
            Self::Tcp => cast.protocol == Protocol::Tcp,
            Self::UdpV4 => cast.protocol == Protocol::Udp && !cast.v6(),
        }
    }
}

/// The one thing that a case changes in a packet.
type Change = fn(Packet) -> Packet;

const STEERED: &[(&str, Only, Change)] = &[
    ("nothing", Only::All, |p| p),
    ("no payload: a frame of minimum size", Only::All, |p| p.payload(b"")),
    ("an odd payload", Only::All, |p| p.payload(b"odd")),
    ("a long payload", Only::All, |p| p.payload(&[0xa5; 1200])),
    ("an 802.1Q tag", Only::All, |p| p.vlan(0x8100, 7)),
    ("two tags (QinQ)", Only::All, |p| p.vlan(0x88a8, 5).vlan(0x8100, 7)),
    ("IPv4 options", Only::V4, |p| p.ip_options(&[1, 1, 1, 1])),
    ("all the IPv4 options that fit", Only::V4, |p| p.ip_options(&[1; 40])),
    ("hop-by-hop options", Only::V6, |p| p.ext(Ext::HopByHop(1))),
    ("long destination options", Only::V6, |p| p.ext(Ext::DestOpts(8))),
    ("a routing header", Only::V6, |p| p.ext(Ext::Routing)),
    ("an atomic fragment", Only::V6, |p| p.ext(Ext::AtomicFragment)),
    ("as many extension headers as are walked", Only::V6, |p| {
        (0..6).fold(p.ext(Ext::HopByHop(1)), |p, n| if n < 5 { p.ext(Ext::DestOpts(1)) } else { p })
    }),
    ("TCP options", Only::Tcp, |p| p.tcp_options(&[2, 4, 5, 0xb4, 1, 1, 1, 0])),
    ("ECN bits", Only::All, |p| p.dscp_ecn(3)),
    ("a TTL of 1", Only::All, |p| p.ttl(1)),
    ("no UDP checksum", Only::UdpV4, Packet::zero_checksum),
];

#[test]
fn each_packet_is_rewritten_and_nothing_else_of_it_is_changed() {
    let mut checked = 0;
    for cast in casts() {
        let mut node = cast.node();
        for (hook, pass) in HOOKS {
            for (n, (name, only, change)) in (1..).zip(STEERED) {
                if !only.fits(&cast) {
                    continue;
                }
                let cast = cast.with_port(1000 * (1 + hook as u16) + n);
                let what = format!("{hook:?}, {cast:?}, {name}");
                let forward = change(cast.packet(cast.client, cast.vip)).build();
                let wanted = change(cast.packet(cast.client, cast.endpoint)).build();
                let (verdict, out) = node.run(hook, &forward);
                assert_eq!(verdict, pass, "{what}");
                assert!(out == wanted, "{what}:\n{out:02x?}\n{wanted:02x?}");
                // Once more, now that the flow is known.
                assert!(node.run(hook, &forward).1 == wanted, "{what}: again");

                let answer = |p: Packet| {
                    if cast.protocol == Protocol::Tcp { p.flags(SYN | ACK).ack(117) } else { p }
                };
                let reply = answer(change(cast.packet(cast.endpoint, cast.client))).build();
                let wanted = answer(change(cast.packet(cast.vip, cast.client))).build();
                let (verdict, out) = node.run(Hook::Reply, &reply);
                assert_eq!(verdict, PASS_TC, "{what}: reply");
                assert!(out == wanted, "{what}: reply\n{out:02x?}\n{wanted:02x?}");
                checked += 4;
            }
        }
    }
    println!("{checked} packets came out as they must");
}

/// Frames that weir does not steer, and the reason under which it counts them.
fn passed(cast: &Cast) -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let packet = cast.packet(cast.client, cast.vip);
    let whole = packet.build();
    let l3 = 14;
    let mut frames = Vec::new();
    let large = packet.clone().payload(&[7; 600]).build_fragments(256);
    frames.push(("a later fragment", large[1].clone(), Some("pass_fragment")));
    let mut other = cast.packet(cast.client, SocketAddr::new(cast.vip.ip(), 9081)).build();
    frames.push(("another port", other.clone(), None));
    other = cast.packet(cast.vip, cast.client).build();
    frames.push(("from the service address", other, None));
    let mut sctp = whole.clone();
    sctp[l3 + if cast.v6() { 6 } else { 9 }] = 132;
    frames.push(("SCTP", sctp, None));
    let cut = whole[..l3 + if cast.v6() { 44 } else { 24 }].to_vec();
    // What is cut off is so in the frame, which has 64 bytes at least to be run.
    frames.push(("a truncated header", cut, Some("pass_unparsed")));
    let mut version = whole.clone();
    version[l3] = (version[l3] & 15) | 0x50;
    frames.push(("IP version 5", version, Some("pass_unparsed")));
    let mut lying = whole;
    let at = l3 + if cast.v6() { 4 } else { 2 };
    lying[at..at + 2].copy_from_slice(&(if cast.v6() { 4u16 } else { 24 }).to_be_bytes());
    frames.push(("a total length that ends in the header", lying, Some("pass_unparsed")));
    if cast.v6() {
        let chain = (0..7).fold(packet, |p, _| p.ext(Ext::DestOpts(1))).build();
        frames.push(("one extension header more than is walked", chain, Some("pass_unparsed")));
    } else {
        let mut ihl = packet.build();
        ihl[l3] = 0x44;
        frames.push(("a header length of 16", ihl, Some("pass_unparsed")));
    }
    frames
}

#[test]
fn what_is_not_steered_passes_untouched_and_is_counted() {
    for cast in casts() {
        let mut node = cast.node();
        for (hook, pass) in HOOKS {
            for (name, frame, reason) in passed(&cast) {
                let what = format!("{hook:?}, {cast:?}, {name}");
                let before = reason.map(|reason| node.counted(reason));
                let (verdict, out) = node.run(hook, &frame);
                assert_eq!(verdict, pass, "{what}");
                assert!(out == frame, "{what}: changed");
                let after = reason.map(|reason| node.counted(reason));
                assert_eq!(after, before.map(|before| before + 1), "{what}: {reason:?}");
            }
        }
    }
}

/// Where a packet of the client goes.
fn destination(node: &mut Node, hook: Hook, packet: Packet) -> SocketAddr {
    tuple(&node.run(hook, &packet.build()).1).unwrap().destination
}

/// What ends a flow, as packets of client (true) and endpoint.
const ENDS: &[(&str, &[(bool, u8)])] = &[
    ("a FIN of the client", &[(true, FIN | ACK)]),
    ("a FIN of the endpoint", &[(false, FIN | ACK)]),
    ("a RST of the client", &[(true, RST)]),
    ("a RST of the endpoint", &[(false, RST | ACK)]),
];

/// Two subsets, of which only the first or only the second has a weight.
fn shift(node: &mut Node, cast: &Cast, to_second: bool) -> [SocketAddr; 2] {
    let second = SocketAddr::new(cast.endpoint.ip(), 7000);
    let (first, other) = (cast.endpoint.to_string(), second.to_string());
    let weights = if to_second { [0, 1] } else { [1, 0] };
    let subsets: kernel::Subsets<'_> =
        &[("v1", weights[0], &[&first]), ("v2", weights[1], &[&other])];
    node.put(split("one", cast.vip, cast.protocol, Affinity::None, subsets));
    [cast.endpoint, second]
}

/// The handshake of a connection to the endpoint.
fn handshake(node: &mut Node, cast: &Cast, hook: Hook) {
    let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).seq(100).build();
    node.run(hook, &syn);
    let answer = Packet::tcp(cast.endpoint, cast.client).flags(SYN | ACK).seq(500).ack(101);
    node.run(Hook::Reply, &answer.build());
    node.run(hook, &Packet::tcp(cast.client, cast.vip).flags(ACK).seq(101).ack(501).build());
}

#[test]
fn a_syn_after_the_end_of_a_flow_is_a_new_flow() {
    for cast in casts().into_iter().filter(|cast| cast.protocol == Protocol::Tcp) {
        let mut node = cast.node();
        for (hook, _) in HOOKS {
            for (n, (name, packets)) in (1..).zip(ENDS) {
                let cast = cast.with_port(1000 * (1 + hook as u16) + n);
                let what = format!("{hook:?}, {cast:?}, {name}");
                let reused = node.counted("flow_reused");
                shift(&mut node, &cast, false);
                handshake(&mut node, &cast, hook);
                let [first, second] = shift(&mut node, &cast, true);
                let data = || Packet::tcp(cast.client, cast.vip).flags(ACK).seq(101).ack(501);
                assert_eq!(destination(&mut node, hook, data()), first, "{what}: it lives");
                for &(client, flags) in *packets {
                    if client {
                        node.run(hook, &data().flags(flags).build());
                    } else {
                        let end = Packet::tcp(cast.endpoint, cast.client).flags(flags);
                        node.run(Hook::Reply, &end.seq(501).ack(101).build());
                    }
                }
                let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).seq(90_000);
                assert_eq!(destination(&mut node, hook, syn), second, "{what}: a new flow");
                assert!(node.counted("flow_reused") > reused, "{what}");
            }
        }
    }
}

#[test]
fn a_reset_outside_the_window_does_not_end_a_flow() {
    for cast in casts().into_iter().filter(|cast| cast.protocol == Protocol::Tcp) {
        let mut node = cast.node();
        for (hook, _) in HOOKS {
            for flags in [RST, FIN | ACK] {
                let cast = cast.with_port(1000 * (1 + hook as u16) + u16::from(flags));
                shift(&mut node, &cast, false);
                handshake(&mut node, &cast, hook);
                let [first, _] = shift(&mut node, &cast, true);
                let guess =
                    Packet::tcp(cast.client, cast.vip).flags(flags).seq(0x4000_0000).ack(501);
                node.run(hook, &guess.build());
                let data = Packet::tcp(cast.client, cast.vip).flags(ACK).seq(101).ack(501);
                assert_eq!(
                    destination(&mut node, hook, data),
                    first,
                    "{hook:?}, {cast:?}, {flags}"
                );
            }
        }
    }
}

#[test]
fn an_idle_flow_is_over() {
    let idle = std::time::Duration::from_secs(1);
    for cast in casts() {
        let settings = Settings {
            hash_seed: SEED,
            flows: 1024,
            tcp_idle: idle,
            udp_idle: idle,
            ..Settings::default()
        };
        let mut node = cast.node_with(settings);
        shift(&mut node, &cast, false);
        if cast.protocol == Protocol::Tcp {
            handshake(&mut node, &cast, Hook::Tc);
        } else {
            node.run(Hook::Tc, &cast.packet(cast.client, cast.vip).build());
            node.run(Hook::Reply, &cast.packet(cast.endpoint, cast.client).build());
            node.run(Hook::Tc, &cast.packet(cast.client, cast.vip).build());
        }
        let [first, second] = shift(&mut node, &cast, true);
        if cast.protocol == Protocol::Udp {
            let packet = cast.packet(cast.client, cast.vip);
            assert_eq!(destination(&mut node, Hook::Tc, packet), first, "{cast:?}: it lives");
        }
        std::thread::sleep(std::time::Duration::from_millis(4500));
        // A SYN; for UDP, any packet.
        let packet = cast.packet(cast.client, cast.vip);
        assert_eq!(destination(&mut node, Hook::Tc, packet), second, "{cast:?}: a new flow");
    }
}

#[test]
fn a_packet_from_the_middle_of_an_unknown_flow_is_adopted() {
    for cast in casts().into_iter().filter(|cast| cast.protocol == Protocol::Tcp) {
        for (hook, _) in HOOKS {
            let mut node = cast.node();
            shift(&mut node, &cast, false);
            let data = || Packet::tcp(cast.client, cast.vip).flags(ACK).seq(7000).ack(9000);
            let [first, _] = shift(&mut node, &cast, false);
            assert_eq!(destination(&mut node, hook, data()), first);
            assert_eq!(node.counted("flow_adopted"), 1);
            shift(&mut node, &cast, true);
            let reply = Packet::tcp(first, cast.client).flags(ACK).seq(9000).ack(7000).build();
            let out = node.run(Hook::Reply, &reply).1;
            assert_eq!(tuple(&out).unwrap().source, cast.vip, "{hook:?}, {cast:?}: its reply");
            assert!(checksums_ok(&out));
            assert_eq!(
                destination(&mut node, hook, data()),
                first,
                "{hook:?}: it keeps its endpoint"
            );
        }
    }
}

#[test]
fn client_affinity_sends_all_flows_of_a_client_to_one_endpoint() {
    for cast in casts() {
        let mut node = cast.node();
        let ips: Vec<String> =
            (1..=5).map(|n| SocketAddr::new(cast.endpoint.ip(), 7000 + n).to_string()).collect();
        let all: Vec<&str> = ips.iter().map(String::as_str).collect();
        let subsets: kernel::Subsets<'_> = &[("v1", 50, &all[..3]), ("v2", 50, &all[3..])];
        node.put(split("one", cast.vip, cast.protocol, Affinity::ClientIp, subsets));
        let mut reached = std::collections::BTreeSet::new();
        for n in 0..500u16 {
            let client = SocketAddr::new(cast.client.ip(), 10_000 + n);
            reached.insert(destination(&mut node, Hook::Xdp, cast.packet(client, cast.vip)));
        }
        assert_eq!(reached.len(), 1, "{cast:?}: {reached:?}");
    }
}

#[test]
fn packets_of_flows_to_a_gone_endpoint_are_rejected() {
    use weir::datapath::Datapath as _;
    use weir::plan::Op;
    for cast in casts() {
        for (hook, _) in HOOKS {
            let mut node = cast.node();
            if cast.protocol == Protocol::Tcp {
                handshake(&mut node, &cast, hook);
            } else {
                node.run(hook, &cast.packet(cast.client, cast.vip).build());
            }
            let (id, subset) = (0, 0);
            let gone = Op::Endpoint { id, address: cast.endpoint, subset, gone: true };
            node.loaded().kernel().execute(&gone).unwrap();
            let packet = match cast.protocol {
                Protocol::Tcp => Packet::tcp(cast.client, cast.vip).flags(ACK).seq(101).ack(501),
                Protocol::Udp => Packet::udp(cast.client, cast.vip).payload(b"more"),
            };
            let (verdict, out) = node.run(hook, &packet.build());
            let answer = if hook == Hook::Tc { ANSWER_TC } else { ANSWER_XDP };
            assert_eq!(verdict, answer, "{hook:?}, {cast:?}");
            assert!(checksums_ok(&out), "{hook:?}, {cast:?}");
            assert_eq!(node.counted("reject_endpoint_gone"), 1, "{hook:?}, {cast:?}");
        }
    }
}

/// Spoofed SYNs, many times what the tables hold.
#[test]
fn a_flood_of_syns_evicts_no_established_flow() {
    let cast = casts()[0];
    let mut node = cast.node_with(Settings { hash_seed: SEED, flows: 8192, ..Settings::default() });
    let client = |n: u16| SocketAddr::new(cast.client.ip(), 10_000 + n);
    shift(&mut node, &cast, false);
    for n in 0..5000 {
        handshake(&mut node, &Cast { client: client(n), ..cast }, Hook::Xdp);
    }
    let [first, second] = shift(&mut node, &cast, true);
    for n in 0..500_000u32 {
        let spoofed = SocketAddr::from((
            std::net::Ipv4Addr::from(0x0a00_0000 | (n * 7)),
            1024 + (n % 60_000) as u16,
        ));
        let to =
            destination(&mut node, Hook::Xdp, Packet::tcp(spoofed, cast.vip).flags(SYN).seq(n));
        assert_eq!(to, second, "new flows go on to be steered");
    }
    for n in 0..5000 {
        let data = Packet::tcp(client(n), cast.vip).flags(ACK).seq(101).ack(501);
        assert_eq!(destination(&mut node, Hook::Xdp, data), first, "flow {n}");
    }
    assert_eq!(node.counted("flow_adopted"), 0);
}
