//! One packet at a time, of every shape: what comes out of the programs is, byte
//! for byte, the packet that somebody would have built who knew the endpoint.

mod kernel;

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, socket, split, with_port};
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{ACK, Ext, FIN, PSH, Packet, SYN, checksums_ok};

/// TCP flags of ECN.
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

type Change = fn(Packet) -> Packet;

/// A shape of packets: the one thing that it changes.
struct Shape {
    name: &'static str,
    change: Change,
    /// What happens to its frame afterwards.
    frame: fn(Vec<u8>) -> Vec<u8>,
}

const fn shape(name: &'static str, change: Change) -> Shape {
    Shape { name, change, frame: |frame| frame }
}

fn exts(packet: Packet, count: usize) -> Packet {
    (0..count).fold(packet, |packet, n| {
        packet.ext(if n == 0 { Ext::HopByHop(1) } else { Ext::DestOpts(1) })
    })
}

const PLAIN: Shape = shape("plain", |p| p);

/// A change of bytes at the end of a frame without payload, of which its checksum knows nothing.
fn at_end<const N: usize>(mut frame: Vec<u8>, before_end: usize, bytes: [u8; N]) -> Vec<u8> {
    let at = frame.len() - before_end;
    frame[at..at + N].copy_from_slice(&bytes);
    frame
}

/// Makes a checksum wrong, by as much whatever it was.
fn spoil(frame: Vec<u8>, field: usize) -> Vec<u8> {
    let sum = u32::from(frame[field]) << 8 | u32::from(frame[field + 1]);
    let sum = sum + 0x1234;
    at(frame, field, ((sum + (sum >> 16)) as u16).to_be_bytes())
}

/// Shapes of either family.
const COMMON: &[Shape] = &[
    PLAIN,
    shape("802.1Q", |p| p.vlan(0x8100, 7)),
    shape("802.1ad", |p| p.vlan(0x88a8, 7)),
    shape("QinQ", |p| p.vlan(0x88a8, 7).vlan(0x8100, 4094)),
    shape("two tags of 802.1Q", |p| p.vlan(0x8100, 7).vlan(0x8100, 8)),
    shape("odd payload", |p| p.payload(b"odd")),
    shape("long payload", |p| p.payload(&[0xa5; 1400])),
    shape("payload of a jumbo frame that XDP takes", |p| p.payload(&[0x5a; 3000])),
    shape("DSCP and ECN", |p| p.dscp_ecn(0xb9)),
    shape("last hop", |p| p.ttl(1)),
    shape("other addresses on the link", |p| p.macs([2, 9, 9, 9, 9, 9], [2, 8, 8, 8, 8, 8])),
    Shape { name: "bytes behind the packet", frame: |f| [f, vec![0xcc; 200]].concat(), ..PLAIN },
    Shape {
        name: "minimum size, padded",
        change: |p| p,
        frame: |mut frame| {
            frame.resize(frame.len().max(60) + 4, 0xcc);
            frame
        },
    },
];

const TCP: &[Shape] = &[
    shape("TCP options", |p| {
        p.tcp_options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7])
    }),
    shape("40 bytes of TCP options", |p| p.tcp_options(&[1; 40])),
    shape("all flags that do not end a flow", |p| p.flags(ACK | PSH | 0x20 | 0x40 | 0x80)),
    shape("high sequence number", |p| p.ack(u32::MAX)),
    shape("congestion was seen (CE), and is echoed (ECE)", |p| p.dscp_ecn(3).flags(ACK | ECE)),
    // What is wrong in TCP is for the endpoint to find out.
    Shape { name: "no flags", change: |p| p.flags(0), ..PLAIN },
    Shape { name: "a header of no words", frame: |f| at_end(f, 8, [0]), ..PLAIN },
    Shape { name: "reserved bits", frame: |f| at_end(f, 8, [0x5e]), ..PLAIN },
    Shape { name: "urgent data", frame: |f| at_end(f, 2, [0, 1]), ..PLAIN },
    Shape {
        name: "a wrong checksum",
        frame: |f| {
            let at = f.len() - 4;
            spoil(f, at)
        },
        ..PLAIN
    },
];

const UDP: &[Shape] = &[
    shape("no UDP checksum", |p| p.zero_checksum().payload(b"x")),
    Shape { name: "a length of zero", frame: |f| at_end(f, 4, [0, 0]), ..PLAIN },
    Shape { name: "a length below its header", frame: |f| at_end(f, 4, [0, 7]), ..PLAIN },
    Shape { name: "a length beyond the end", frame: |f| at_end(f, 4, [0xff, 0xff]), ..PLAIN },
];

const V4: &[Shape] = &[
    shape("one IPv4 option", |p| p.ip_options(&[0x94, 4, 0, 0])),
    shape("40 bytes of IPv4 options", |p| p.ip_options(&[1; 40])),
    shape("a record of the route", |p| p.ip_options(&[7, 11, 8, 192, 0, 2, 254, 0, 0, 0, 0])),
    Shape { name: "a length beyond the end", frame: |f| at(f, 16, [0x7f, 0xff]), ..PLAIN },
    shape("a source route at its end", |p| p.ip_options(&[1, 131, 7, 8, 192, 0, 2, 254])),
    shape("a source route behind the end of the options", |p| {
        p.ip_options(&[0, 131, 7, 4, 192, 0, 2, 254])
    }),
    Shape { name: "may be fragmented", frame: |f| at(f, 20, [0, 0]), ..PLAIN },
    Shape { name: "the evil bit (RFC 3514)", frame: |f| at(f, 20, [0x80, 0]), ..PLAIN },
    Shape { name: "a wrong header checksum", frame: |f| spoil(f, 24), ..PLAIN },
];

/// A change of bytes at an offset.
fn at<const N: usize>(mut frame: Vec<u8>, at: usize, bytes: [u8; N]) -> Vec<u8> {
    frame[at..at + N].copy_from_slice(&bytes);
    frame
}

const V6: &[Shape] = &[
    shape("hop-by-hop options", |p| p.ext(Ext::HopByHop(1))),
    shape("256 bytes of destination options", |p| p.ext(Ext::DestOpts(32))),
    shape("a routing header", |p| p.ext(Ext::Routing(0))),
    shape("an atomic fragment", |p| p.ext(Ext::AtomicFragment)),
    shape("as many extension headers as are walked", |p| exts(p, 6)),
    Shape { name: "a length beyond the end", frame: |f| at(f, 18, [0x7f, 0xff]), ..PLAIN },
    shape("segments of which none is left", |p| p.ext(Ext::SegmentRouting(0))),
    Shape { name: "a flow label", frame: |f| at(f, 15, [0x0f, 0xff, 0xff]), ..PLAIN },
];

/// Shapes of the packet that opens a connection.
const OPENING: &[Shape] = &[
    shape("ECN is negotiated (RFC 3168)", |p| p.flags(SYN | ECE | CWR)),
    Shape {
        name: "accurate ECN is negotiated (RFC 9768)",
        change: |p| p.flags(SYN | ECE | CWR),
        frame: |f| at_end(f, 8, [0x51]),
    },
    shape("a cookie is asked for (RFC 7413)", |p| p.tcp_options(&[34, 2])),
    shape("a cookie, and data", |p| {
        p.tcp_options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8]).payload(&[7; 1000])
    }),
    shape("data without a cookie", |p| p.payload(b"early")),
    shape("data and FIN", |p| p.flags(SYN | FIN).payload(b"all of it")),
    shape("all options that are usual, and authentication (RFC 2385)", |p| {
        let md5 = [19, 18, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        p.tcp_options(&[&[2, 4, 5, 0xb4, 4, 2, 3, 3, 7][..], &md5].concat())
    }),
];

fn protocols() -> [(Protocol, &'static [Shape]); 2] {
    [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)]
}

fn packet(protocol: Protocol, from: std::net::SocketAddr, to: std::net::SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to).flags(ACK).seq(2).ack(1001),
        Protocol::Udp => Packet::udp(from, to),
    }
}

/// A node with a flow that both sides have agreed to, new or not; its endpoint.
fn with_flow(cast: &Cast, protocol: Protocol, is_new: bool) -> (Node, std::net::SocketAddr) {
    let mut node = Node::new();
    node.reviews(cast, protocol, [80, 20]);
    let first = match protocol {
        Protocol::Tcp => Packet::tcp(cast.client, cast.vip).flags(SYN).seq(1),
        Protocol::Udp => Packet::udp(cast.client, cast.vip),
    };
    let out = node.pass(Hook::Tc, &first.build());
    let endpoint = weir_tests::packet::tuple(out).expect("a tuple").destination;
    let answer = match protocol {
        Protocol::Tcp => Packet::tcp(endpoint, cast.client).flags(SYN | ACK).seq(1000).ack(2),
        Protocol::Udp => Packet::udp(endpoint, cast.client),
    };
    node.pass(Hook::Reply, &answer.build());
    node.pass(Hook::Tc, &packet(protocol, cast.client, cast.vip).build());
    if !is_new {
        node.let_pass(1);
        node.pass(Hook::Tc, &packet(protocol, cast.client, cast.vip).build());
        assert_eq!(node.entries(), [2, 0], "{cast} {protocol:?}: a live flow");
    }
    (node, endpoint)
}

#[test]
fn packets_of_every_shape_are_rewritten_in_both_directions() {
    let mut ran = 0;
    for cast in casts() {
        let family = if cast.vip.is_ipv4() { V4 } else { V6 };
        for ((protocol, own), is_new) in
            protocols().into_iter().flat_map(|p| [(p, false), (p, true)])
        {
            let (mut node, endpoint) = with_flow(&cast, protocol, is_new);
            for shape in COMMON.iter().chain(own).chain(family) {
                let build = |from, to| {
                    let mut packet = packet(protocol, from, to);
                    if from == endpoint || from == cast.vip {
                        packet = packet.seq(1001).ack(2);
                    }
                    (shape.frame)((shape.change)(packet).build())
                };
                let (sent, wanted) = (build(cast.client, cast.vip), build(cast.client, endpoint));
                for hook in FORWARD {
                    let out = node.pass(hook, &sent);
                    assert!(
                        out == wanted,
                        "{cast} {protocol:?} {}, new: {is_new}, {hook:?}:\n{out:02x?}\n{wanted:02x?}",
                        shape.name
                    );
                    ran += 1;
                }
                let (sent, wanted) = (build(endpoint, cast.client), build(cast.vip, cast.client));
                let out = node.pass(Hook::Reply, &sent);
                assert!(
                    out == wanted,
                    "{cast} {protocol:?} {}, new: {is_new}, reply:\n{out:02x?}\n{wanted:02x?}",
                    shape.name
                );
                ran += 1;
            }
            let [entries, new_flows] = node.entries();
            assert_eq!(entries / 2 + new_flows, 1, "{cast} {protocol:?}: still one flow");
        }
    }
    println!("{ran} packets rewritten as wanted");
}

#[test]
fn first_packets_of_every_shape_are_steered() {
    for cast in casts() {
        let family = if cast.vip.is_ipv4() { V4 } else { V6 };
        for (protocol, own) in protocols() {
            for hook in FORWARD {
                let mut node = Node::new();
                node.reviews(&cast, protocol, [80, 20]);
                let opening = if protocol == Protocol::Tcp { OPENING } else { &[] };
                let shapes = COMMON.iter().chain(own).chain(family).chain(opening);
                for (n, shape) in (20_000..).zip(shapes) {
                    let client = with_port(cast.client, n);
                    let build = |to| {
                        let packet = packet(protocol, client, to);
                        let packet =
                            if protocol == Protocol::Tcp { packet.flags(SYN) } else { packet };
                        (shape.frame)((shape.change)(packet).build())
                    };
                    let out = node.pass(hook, &build(cast.vip));
                    let mut endpoints = cast.v1.iter().chain(&cast.v2);
                    assert!(
                        endpoints.any(|&to| out == build(to)),
                        "{cast} {protocol:?} {}, {hook:?}: {out:02x?}",
                        shape.name
                    );
                }
            }
        }
    }
}

/// What XDP gets of a jumbo frame, or of a segment that is to be cut, is in several buffers.
#[test]
fn packets_in_several_buffers_are_rewritten_and_counted_whole_at_xdp() {
    for cast in casts() {
        for (protocol, _) in protocols() {
            let (mut node, endpoint) = with_flow(&cast, protocol, false);
            for (hook, bytes) in [Hook::Xdp, Hook::XdpVirtual]
                .into_iter()
                .flat_map(|hook| [3_000, 5_000, 8_900, 16_000, 60_000].map(|bytes| (hook, bytes)))
            {
                let payload: Vec<u8> = (0..bytes).map(|n| (n * 7 + n / 251) as u8).collect();
                let build = |to| packet(protocol, cast.client, to).payload(&payload).build();
                let split = node.reviews(&cast, protocol, [80, 20]);
                let before = node.endpoint(&split, endpoint).forward_bytes;
                let sent = build(cast.vip);
                let what = format!("{cast} {protocol:?} {hook:?}, {bytes} bytes");
                let out = node.pass(hook, &sent);
                assert_eq!(out.len(), sent.len(), "{what}");
                assert!(out == build(endpoint), "{what}");
                let after = node.endpoint(&split, endpoint).forward_bytes;
                assert_eq!(after - before, sent.len() as u64, "{what}: bytes that are counted");
            }
        }
    }
}

#[test]
fn a_packet_in_several_buffers_can_be_rejected_at_xdp() {
    for cast in casts() {
        for (protocol, _) in protocols() {
            let mut node = Node::new();
            let nobody: [(&str, u32, &[std::net::SocketAddr]); 1] = [("v1", 1, &[])];
            node.publish(&split("empty", (cast.vip, protocol), Affinity::None, &nobody));
            for bytes in [100, 8_900, 60_000] {
                let sent = packet(protocol, cast.client, cast.vip).payload(&vec![5; bytes]).build();
                let (verdict, out) = node.run(Hook::Xdp, &sent);
                let what = format!("{cast} {protocol:?}, {bytes} bytes");
                assert_eq!(verdict, Verdict::Answer, "{what}");
                assert!(checksums_ok(out), "{what}: {out:02x?}");
                let answer = weir_tests::packet::parse(out).expect("a packet");
                assert_eq!(answer.destination, cast.client.ip(), "{what}");
                assert_eq!(answer.end, out.len(), "{what}: nothing is left behind it");
            }
        }
    }
}

/// Incremental updates of a checksum that is right keep it so, whatever it was.
#[test]
fn every_value_of_a_checksum_stays_right() {
    for cast in casts() {
        for (protocol, _) in protocols() {
            let (mut node, endpoint) = with_flow(&cast, protocol, false);
            // Two bytes of payload give the checksum each of its values.
            for payload in (0..=u16::MAX).step_by(if cfg!(debug_assertions) { 97 } else { 1 }) {
                let payload = payload.to_be_bytes();
                let build = |to| packet(protocol, cast.client, to).payload(&payload).build();
                let hook = FORWARD[payload[1] as usize % 2];
                let out = node.pass(hook, &build(cast.vip));
                assert!(
                    checksums_ok(out),
                    "{cast} {protocol:?} {hook:?} {payload:02x?}: {out:02x?}"
                );
                assert!(out == build(endpoint), "{cast} {protocol:?} {hook:?} {payload:02x?}");
            }
        }
    }
}

/// A checksum that a virtual device left to hardware is the folded sum of the pseudo-header. XDP
/// cannot tell it from a complete one that has this value by chance.
#[test]
fn what_xdp_of_a_virtual_device_cannot_tell_is_left_to_tc() {
    for cast in casts() {
        for (protocol, _) in protocols() {
            let (mut node, endpoint) = with_flow(&cast, protocol, false);
            let partial = |to| {
                let mut frame = packet(protocol, cast.client, to).payload(b"later").build();
                weir_tests::packet::make_partial(&mut frame);
                frame
            };
            let out = node.pass(Hook::XdpVirtual, &partial(cast.vip));
            assert!(out == partial(cast.vip), "{cast} {protocol:?}: a partial checksum");
            // Two bytes of payload give a complete checksum each of its values.
            let mut left = 0;
            for payload in 0..=u16::MAX {
                let payload = payload.to_be_bytes();
                let build = |to| packet(protocol, cast.client, to).payload(&payload).build();
                let sent = build(cast.vip);
                let what = format!("{cast} {protocol:?} {payload:02x?}");
                if node.pass(Hook::XdpVirtual, &sent) != build(endpoint) {
                    assert!(node.pass(Hook::XdpVirtual, &sent) == sent, "{what}: untouched");
                    assert!(node.pass(Hook::Tc, &sent) == build(endpoint), "{what}: at TC");
                    left += 1;
                }
            }
            assert!((1..=2).contains(&left), "{cast} {protocol:?}: {left} left to TC");
            assert_eq!(node.reason(Reason::PassUnparsed), 0);
        }
    }
}

/// What passes untouched: its name, the frame, and the reason that is counted.
type Untouched = (String, Vec<u8>, Option<Reason>);

fn untouched(cast: &Cast, protocol: Protocol) -> Vec<Untouched> {
    let v4 = cast.vip.is_ipv4();
    let base = || packet(protocol, cast.client, cast.vip).payload(b"0123456789abcdef0123456789");
    let (whole, l3) = (base().build(), 14);
    let mut cases: Vec<Untouched> = Vec::new();
    let mut add = |name: &str, frame: Vec<u8>, reason| cases.push((name.to_owned(), frame, reason));
    let (unparsed, fragment) = (Some(Reason::PassUnparsed), Some(Reason::PassFragment));
    let patched = |at: usize, bytes: &[u8]| {
        let mut frame = whole.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for (n, frame) in base().payload(&[7; 200]).build_fragments(64).into_iter().enumerate().skip(1)
    {
        add(&format!("fragment {n}"), frame, fragment);
    }
    for group in [[255; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        let to = if v4 { ["255.255.255.255", "224.0.0.1"] } else { ["ff02::1", "ff0e::10"] };
        for to in to.map(|ip| std::net::SocketAddr::new(ip.parse().unwrap(), cast.vip.port())) {
            let frame = packet(protocol, cast.client, to).macs([2, 0, 0, 0, 0, 9], group).build();
            add(&format!("to {to}, {group:02x?}"), frame, None);
        }
    }
    add("three tags", base().vlan(0x88a8, 1).vlan(0x8100, 2).vlan(0x8100, 3).build(), None);
    add("ARP", patched(12, &[8, 6]), None);
    add(
        "the other family's EtherType",
        patched(12, if v4 { &[0x86, 0xdd] } else { &[8, 0] }),
        if v4 { unparsed } else { None },
    );
    add("another version", patched(l3, &[if v4 { 0x55 } else { 0x50 }]), unparsed);
    let protocol_at = l3 + if v4 { 9 } else { 6 };
    for other in [1, 2, 47, 50, 58, 132, 136] {
        add(&format!("protocol {other}"), patched(protocol_at, &[other]), None);
    }
    // What the frame has beyond the IP packet is padding, whatever it looks like.
    let l4 = whole.len() - 26 - if protocol == Protocol::Tcp { 20 } else { 8 };
    let padded = |mut frame: Vec<u8>| {
        frame.resize(frame.len() + 60, 0);
        frame
    };
    let length_at = l3 + if v4 { 2 } else { 4 };
    if protocol == Protocol::Tcp {
        let frame = patched(l4 + 12, &[0xf0]);
        add("a TCP header longer than the packet", frame.clone(), unparsed);
        add("a TCP header that ends in padding", padded(frame), unparsed);
        let short = u16::try_from(l4 - l3 - if v4 { 0 } else { 40 } + 23).unwrap();
        let frame = [&whole[..length_at], &short.to_be_bytes(), &whole[length_at + 2..]].concat();
        let mut options = frame.clone();
        options[l4 + 12] = 0x60;
        add("one word of options, and the packet is a byte shorter", options, unparsed);
    }
    add("no length, and not beyond 64 kB", patched(length_at, &[0, 0]), unparsed);
    add("no length, and padding", padded(patched(length_at, &[0, 0])), unparsed);
    let routed = Some(Reason::PassRouteLeft);
    if v4 {
        for (kind, name) in [(131, "loose"), (137, "strict")] {
            for (pointer, hops) in [(4, "two hops"), (8, "a hop")] {
                let route = [1, 1, kind, 11, pointer, 192, 0, 2, 254, 192, 0, 2, 253];
                let frame = base().ip_options(&route).build();
                add(&format!("a {name} source route with {hops} left"), frame, routed);
            }
        }
    } else {
        for (name, ext) in [
            ("a routing header of type 2 with its segment left", Ext::Routing(1)),
            ("a segment left", Ext::SegmentRouting(1)),
            ("all segments left", Ext::SegmentRouting(2)),
            ("a home address", Ext::HomeAddress),
        ] {
            add(name, base().ext(ext).build(), routed);
            add(
                &format!("behind options, {name}"),
                base().ext(Ext::HopByHop(1)).ext(ext).build(),
                routed,
            );
        }
    }
    if v4 {
        for ihl in 0..5 {
            add(&format!("header of {ihl} words"), patched(l3, &[0x40 | ihl]), unparsed);
        }
        for total in [1, 19, 20, 27] {
            add(&format!("length {total}"), patched(l3 + 2, &[0, total]), unparsed);
        }
    } else {
        for payload in [1, 7] {
            add(&format!("payload length {payload}"), patched(l3 + 4, &[0, payload]), unparsed);
        }
        add("one extension header too many", exts(base(), 7).build(), unparsed);
        add(
            "an extension header beyond the end",
            base().ext(Ext::DestOpts(1)).build()[..58].to_vec(),
            unparsed,
        );
    }
    let headers = whole.len() - 26;
    let needed = headers - if protocol == Protocol::Tcp { 2 } else { 0 };
    for length in 14..needed {
        add(&format!("cut to {length} bytes"), whole[..length].to_vec(), unparsed);
    }
    cases
}

#[test]
fn what_cannot_be_steered_passes_untouched_and_is_counted() {
    let mut ran = 0;
    for cast in casts() {
        for (protocol, _) in protocols() {
            let (mut node, _) = with_flow(&cast, protocol, false);
            for (name, frame, reason) in untouched(&cast, protocol) {
                // BPF_PROG_TEST_RUN of TC takes no frame without a whole IP header.
                let short = frame.len() < if cast.vip.is_ipv4() { 34 } else { 54 };
                for hook in FORWARD.into_iter().filter(|&hook| hook != Hook::Tc || !short) {
                    let before = node.reasons();
                    let (verdict, out) = node.run(hook, &frame);
                    let what = format!("{cast} {protocol:?} {name}, {hook:?}");
                    assert_eq!(verdict, Verdict::Pass, "{what}");
                    assert!(out == frame, "{what}: {out:02x?}");
                    let after = node.reasons();
                    let counted: Vec<_> = (after.iter().zip(&before))
                        .filter_map(|(new, old)| (new != old).then_some(new.0.as_str()))
                        .collect();
                    let reason = reason.filter(|_| hook.counts());
                    let wanted: Vec<_> = reason.iter().map(|reason| reason.name()).collect();
                    assert_eq!(counted, wanted, "{what}");
                    ran += 1;
                }
            }
        }
    }
    println!("{ran} packets passed untouched");
}

/// The header is in the first fragment; the others cannot be told.
#[test]
fn first_fragments_go_with_their_flow() {
    for cast in casts() {
        for (protocol, _) in protocols() {
            let (mut node, endpoint) = with_flow(&cast, protocol, false);
            let first = |to| {
                let whole = packet(protocol, cast.client, to).payload(&[3; 400]);
                whole.build_fragments(128).swap_remove(0)
            };
            for hook in FORWARD {
                let out = node.pass(hook, &first(cast.vip));
                assert!(out == first(endpoint), "{cast} {protocol:?} {hook:?}");
            }
        }
    }
}

#[test]
fn another_address_or_port_or_protocol_is_no_business_of_weir() {
    let others = [
        ("192.0.2.11:9080", "[2001:db8::11]:9080"),
        ("192.0.2.10:9081", "[2001:db8::10]:9081"),
        // Shares the filter's bit with the service: the table says no.
        ("192.0.2.10:9144", "[2001:db8::10]:9144"),
    ];
    for (cast, at) in casts().iter().zip([0, 1]) {
        for (protocol, _) in protocols() {
            let mut node = Node::new();
            node.reviews(cast, protocol, [80, 20]);
            let other_protocol =
                if protocol == Protocol::Tcp { Protocol::Udp } else { Protocol::Tcp };
            let mut frames = vec![packet(other_protocol, cast.client, cast.vip).build()];
            for other in others {
                frames.push(packet(protocol, cast.client, socket([other.0, other.1][at])).build());
            }
            for (frame, hook) in frames.iter().flat_map(|f| FORWARD.map(|hook| (f, hook))) {
                assert!(node.pass(hook, frame) == frame.as_slice(), "{cast} {hook:?} {frame:02x?}");
            }
            assert_eq!(node.entries(), [0, 0], "{cast} {protocol:?}");
        }
    }
}
