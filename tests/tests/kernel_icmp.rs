//! ICMP errors about steered packets: what comes out of the programs is, byte
//! for byte, the error that its receiver would have got without weir between.

mod kernel;

use std::net::{IpAddr, SocketAddr};

use kernel::talk::Talk;
use kernel::{Cast, FORWARD, Hook, Node, TCP_IDLE, Verdict, casts, socket, split, with_port};
use probe_common::fragment::LIFETIME;
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{ACK, Ext, FIN, Packet, RST, SYN, checksums_ok, make_partial, tuple};

/// Types and codes, and the second word of the header.
const KINDS_V4: &[([u8; 2], [u8; 4])] = &[
    ([3, 0], [0; 4]),
    ([3, 1], [0; 4]),
    ([3, 3], [0; 4]),
    // Fragmentation needed, and the MTU (RFC 1191).
    ([3, 4], [0, 0, 0x05, 0x14]),
    ([3, 13], [0; 4]),
    ([11, 0], [0; 4]),
    ([12, 0], [9, 0, 0, 0]),
];
const KINDS_V6: &[([u8; 2], [u8; 4])] = &[
    ([1, 0], [0; 4]),
    ([1, 4], [0; 4]),
    // Too big, and the MTU (RFC 4443).
    ([2, 0], [0, 0, 0x05, 0x14]),
    ([3, 0], [0; 4]),
    ([4, 1], [0, 0, 0, 6]),
];

fn kinds(cast: &Cast) -> &'static [([u8; 2], [u8; 4])] {
    if cast.vip.is_ipv4() { KINDS_V4 } else { KINDS_V6 }
}

fn too_big(cast: &Cast) -> ([u8; 2], [u8; 4]) {
    if cast.vip.is_ipv4() { KINDS_V4[3] } else { KINDS_V6[2] }
}

/// A router on the way, of the family of `like`.
fn router(like: SocketAddr) -> IpAddr {
    socket(if like.is_ipv4() { "192.0.2.254:0" } else { "[2001:db8:fe::1]:0" }).ip()
}

/// A shape: the one thing that it changes, of the quoted packet or of the error.
struct Shape {
    name: &'static str,
    quoted: fn(Packet) -> Packet,
    /// The frame of the quoted packet.
    frame: fn(&Packet) -> Vec<u8>,
    error: fn(IcmpError) -> IcmpError,
    /// Bytes that are quoted behind the IP header of the quoted packet.
    bytes: usize,
    /// Which types of errors have it.
    of: fn(u8) -> bool,
}

const PLAIN: Shape = Shape {
    name: "plain",
    quoted: |p| p,
    frame: Packet::build,
    error: |e| e,
    bytes: 60,
    of: |_| true,
};
/// A quote that was padded, with labels behind it.
const LABELS: Shape = Shape { name: "labels of MPLS", error: IcmpError::mpls, ..PLAIN };

const COMMON: &[Shape] = &[
    PLAIN,
    Shape { name: "the least that is quoted", bytes: 8, ..PLAIN },
    Shape { name: "all but the checksum of TCP", bytes: 16, ..PLAIN },
    Shape { name: "the checksum of TCP just so", bytes: 18, ..PLAIN },
    Shape { name: "a whole long packet", bytes: 1200, quoted: |p| p.payload(&[7; 1100]), ..PLAIN },
    Shape { name: "an odd number of bytes", bytes: 27, ..PLAIN },
    Shape { name: "the last hop of the quoted packet", quoted: |p| p.ttl(1), ..PLAIN },
    Shape { name: "a VLAN tag", error: |e| e.vlan(7), ..PLAIN },
    Shape { name: "bytes behind the packet", bytes: 8, error: |e| e.trailer(30), ..PLAIN },
    Shape {
        name: "the first of several fragments is quoted",
        frame: |p| p.clone().payload(&[7; 300]).build_fragments(64).swap_remove(0),
        ..PLAIN
    },
    Shape {
        name: "that fragment holds but half of a TCP header",
        frame: |p| p.clone().payload(&[7; 300]).build_fragments(8).swap_remove(0),
        bytes: 8,
        ..PLAIN
    },
];

/// Types that can be extended (RFC 4884), except where the second word is all taken.
const V4_EXTENDED: fn(u8) -> bool = |kind| matches!(kind, 3 | 11 | 12);
const V6_EXTENDED: fn(u8) -> bool = |kind| matches!(kind, 1 | 3);

const V4: &[Shape] = &[
    Shape { name: "IPv4 options of the error", error: |e| e.ip_options(&[1; 8]), ..PLAIN },
    Shape { name: "IPv4 options that are quoted", quoted: |p| p.ip_options(&[1; 12]), ..PLAIN },
    Shape { name: "no UDP checksum", quoted: |p| p.zero_checksum(), ..PLAIN },
    Shape {
        name: "576 bytes, as many as RFC 1812 has a router send",
        quoted: |p| p.payload(&[7; 1400]),
        bytes: 576 - 20 - 8 - 20,
        ..PLAIN
    },
    Shape { of: V4_EXTENDED, ..LABELS },
    Shape {
        name: "labels of MPLS behind a long quote",
        quoted: |p| p.payload(&[7; 1400]),
        bytes: 500,
        of: V4_EXTENDED,
        ..LABELS
    },
];

const V6: &[Shape] = &[
    Shape {
        name: "extension headers that are quoted",
        quoted: |p| p.ext(Ext::HopByHop(1)).ext(Ext::AtomicFragment),
        ..PLAIN
    },
    Shape {
        name: "a fragment header of the error",
        error: |e| e.ext(Ext::AtomicFragment),
        ..PLAIN
    },
    Shape {
        name: "as many extension headers of the error as are walked",
        error: |e| (0..5).fold(e.ext(Ext::HopByHop(1)), |e, _| e.ext(Ext::DestOpts(1))),
        ..PLAIN
    },
    Shape {
        name: "long extension headers of both",
        quoted: |p| p.ext(Ext::DestOpts(32)).ext(Ext::DestOpts(32)),
        error: |e| e.ext(Ext::HopByHop(32)).ext(Ext::DestOpts(32)),
        ..PLAIN
    },
    Shape {
        name: "1280 bytes, as many as RFC 4443 has a router send",
        quoted: |p| p.payload(&[7; 1400]),
        bytes: 1280 - 40 - 8 - 40,
        ..PLAIN
    },
    Shape { of: V6_EXTENDED, ..LABELS },
];

fn packet(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to).flags(ACK).seq(0xdead_beef).ack(0x1234_5678),
        Protocol::Udp => Packet::udp(from, to).payload(b"a datagram of some length, or none"),
    }
}

impl Shape {
    /// An error from `sender` about a packet between these.
    fn build(
        &self,
        protocol: Protocol,
        (kind, rest): ([u8; 2], [u8; 4]),
        sender: IpAddr,
        [from, to]: [SocketAddr; 2],
    ) -> Vec<u8> {
        let about = (self.frame)(&(self.quoted)(packet(protocol, from, to)));
        let parsed = weir_tests::packet::parse(&about).expect("a packet");
        let error = IcmpError::new(sender, from.ip(), kind).rest(rest);
        (self.error)(error.quote(&about, parsed.l4 - parsed.l3 + self.bytes)).build()
    }
}

/// A way of an error: the hook, what is quoted, and what it was before.
struct Way {
    hook: Hook,
    quoted: [SocketAddr; 2],
    original: [SocketAddr; 2],
}

fn ways(cast: &Cast, endpoint: SocketAddr) -> Vec<Way> {
    let there = Way {
        hook: Hook::Reply,
        quoted: [cast.client, endpoint],
        original: [cast.client, cast.vip],
    };
    let back =
        |hook| Way { hook, quoted: [cast.vip, cast.client], original: [endpoint, cast.client] };
    [there].into_iter().chain(FORWARD.map(back)).collect()
}

/// What a flow has come to, and how, from its first packet or from the step before.
type Step = (&'static str, fn(&mut Talk<'_>, SocketAddr));

const BEGUN: [Step; 2] = [("pending", |_, _| {}), ("answered", answer)];
/// Where a flow is in which both sides have spoken.
const LIVE: [Step; 2] = [("new", establish), ("in the flow table", grow)];
/// What may come of it there.
const THEN: [Step; 2] =
    [("live", |_, _| {}), ("silent for long", |t, _| t.node.let_pass(10 * TCP_IDLE))];
/// The same of connections alone.
const CLOSED: [Step; 4] = [
    ("closed by the client", |t, _| _ = t.send(|p| p.flags(FIN | ACK))),
    ("closed by the endpoint", |t, e| t.reply(e, |p| p.flags(FIN | ACK))),
    ("closed by both", |t, e| {
        t.send(|p| p.flags(FIN | ACK));
        t.reply(e, |p| p.flags(FIN | ACK));
    }),
    ("reset", |t, _| _ = t.send(|p| p.flags(RST))),
];

/// All places of a flow in its life, from its first packet on.
fn lives(protocol: Protocol) -> Vec<[Step; 2]> {
    let closed = if protocol == Protocol::Tcp { &CLOSED[..] } else { &[] };
    let then: Vec<Step> = THEN.iter().chain(closed).copied().collect();
    let live = LIVE.iter().flat_map(|&live| then.iter().map(move |&then| [live, then]));
    BEGUN.iter().map(|&begun| [begun, THEN[0]]).chain(live).collect()
}

fn answer(talk: &mut Talk<'_>, endpoint: SocketAddr) {
    match talk.protocol {
        Protocol::Tcp => talk.syn_ack(endpoint),
        Protocol::Udp => talk.reply(endpoint, |p| p),
    }
}

fn establish(talk: &mut Talk<'_>, endpoint: SocketAddr) {
    answer(talk, endpoint);
    assert_eq!(talk.send(|p| p), endpoint);
    assert!(talk.is_established());
    assert_eq!(talk.node.entries(), [0, 1], "a new flow");
}

fn grow(talk: &mut Talk<'_>, endpoint: SocketAddr) {
    establish(talk, endpoint);
    talk.node.let_pass(1);
    assert_eq!(talk.send(|p| p), endpoint);
    assert_eq!(talk.node.entries(), [2, 0], "in the flow table");
}

#[test]
fn errors_are_about_the_packet_that_their_receiver_sent() {
    let mut ran = 0;
    for cast in &casts() {
        let mut node = Node::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for [(place, come), (life, then)] in lives(protocol) {
                node.forget();
                let mut talk = Talk::on(node, cast, Hook::Tc, protocol);
                let endpoint = talk.first();
                come(&mut talk, endpoint);
                then(&mut talk, endpoint);
                let entries = talk.node.entries();
                let own = if cast.vip.is_ipv4() { V4 } else { V6 };
                for shape in COMMON.iter().chain(own) {
                    for (way, kind) in ways(cast, endpoint)
                        .iter()
                        .flat_map(|w| kinds(cast).iter().map(move |k| (w, *k)))
                        .filter(|(_, kind)| (shape.of)(kind.0[0]))
                    {
                        // A router has one name; who the packet was for, that which the sender knows.
                        let [from_router, from_peer] = [
                            (router(cast.vip), router(cast.vip)),
                            (way.quoted[1].ip(), way.original[1].ip()),
                        ];
                        for (sender, known_as) in [from_router, from_peer] {
                            let sent = shape.build(protocol, kind, sender, way.quoted);
                            let wanted = shape.build(protocol, kind, known_as, way.original);
                            assert!(checksums_ok(&sent) && checksums_ok(&wanted));
                            let out = talk.node.pass(way.hook, &sent);
                            assert!(
                                out == wanted,
                                "{cast} {protocol:?} {}, {kind:?} from {sender}, {place}, {life}, {:?}:\n\
                                 {out:02x?}\n{wanted:02x?}",
                                shape.name,
                                way.hook
                            );
                            ran += 1;
                        }
                    }
                }
                assert_eq!(talk.node.entries(), entries, "an error changes no entry");
                assert_eq!(talk.node.reason(Reason::PassIcmpUntracked), 0);
                node = talk.node;
            }
        }
    }
    println!("{ran} errors translated as wanted");
}

/// An endpoint that is reached at one address and answers from another one that is an
/// endpoint's, too, as a host with two addresses may.
#[test]
fn an_error_from_another_endpoint_is_the_services_own() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Udp);
        let other = kernel::client_number(cast, 77);
        let other = with_port(other, cast.v2[0].port());
        let subsets: [(&str, u32, &[SocketAddr]); 2] = [("v1", 1, &cast.v2), ("v2", 0, &[other])];
        let split = split("reviews", (cast.vip, Protocol::Udp), Affinity::None, &subsets);
        talk.node.publish(&split);
        let endpoint = talk.open();
        assert_eq!(endpoint, cast.v2[0], "{cast}");
        let [quoted, original] = [endpoint, cast.vip].map(|to| [cast.client, to]);
        let build = |sender, ends| PLAIN.build(Protocol::Udp, too_big(cast), sender, ends);
        for (sender, known_as) in
            [(other.ip(), cast.vip.ip()), (router(cast.vip), router(cast.vip))]
        {
            let out = talk.node.pass(Hook::Reply, &build(sender, quoted));
            assert!(out == build(known_as, original), "{cast} from {sender}: {out:02x?}");
        }
    }
}

/// A node quotes a packet whose checksum was left to hardware as it is. Nobody can check a
/// checksum that is quoted, so it is not looked at which kind it is; the error's own stays right.
#[test]
fn an_error_about_a_packet_with_a_partial_checksum_is_right_itself() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let endpoint = talk.open();
        for way in ways(cast, endpoint) {
            let mut about = packet(Protocol::Tcp, way.quoted[0], way.quoted[1]).build();
            make_partial(&mut about);
            let (kind, rest) = too_big(cast);
            let error = IcmpError::new(router(cast.vip), way.quoted[0].ip(), kind).rest(rest);
            let out = talk.node.pass(way.hook, &error.quote(&about, 200).build());
            assert!(checksums_ok(out), "{cast} {:?}: {out:02x?}", way.hook);
        }
        assert_eq!(talk.node.reason(Reason::IcmpTranslated), ways(cast, endpoint).len() as u64);
    }
}

/// The checksum of an error keeps right whatever it was: two bytes of a quoted payload give it
/// each of its values.
#[test]
fn every_value_of_the_checksum_of_an_error_stays_right() {
    let casts = casts();
    let both = |cast| [Protocol::Tcp, Protocol::Udp].map(|protocol| (cast, protocol));
    for (cast, protocol) in casts.iter().flat_map(both) {
        let mut talk = Talk::new(cast, Hook::Tc, protocol);
        let endpoint = talk.open();
        let ways = ways(cast, endpoint);
        for n in 0..=u16::MAX {
            let way = &ways[usize::from(n) % ways.len()];
            let build = |[from, to]: [SocketAddr; 2]| {
                let about = packet(protocol, from, to).payload(&n.to_be_bytes()).build();
                let (kind, rest) = too_big(cast);
                IcmpError::new(router(cast.vip), from.ip(), kind)
                    .rest(rest)
                    .quote(&about, 90)
                    .build()
            };
            let out = talk.node.pass(way.hook, &build(way.quoted));
            assert!(checksums_ok(out), "{cast} {protocol:?} {:?} {n}: {out:02x?}", way.hook);
            assert!(out == build(way.original), "{cast} {protocol:?} {:?} {n}", way.hook);
        }
    }
}

#[test]
fn an_error_about_a_flow_whose_port_was_changed_names_the_ports_of_both_sides() {
    for cast in &casts() {
        let mut node = Node::new();
        let vips = [9080, 9090].map(|port| with_port(cast.vip, port));
        for (name, vip) in ["one", "two"].iter().zip(vips) {
            let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
            node.publish(&split(name, (vip, Protocol::Tcp), Affinity::None, &subsets));
        }
        for (n, vip) in vips.into_iter().enumerate() {
            let syn = Packet::tcp(cast.client, vip).flags(SYN).seq(1).build();
            let there = tuple(node.pass(Hook::Tc, &syn)).expect("a tuple");
            assert_eq!(there.source == cast.client, n == 0, "the second port is changed");
            let ways = [
                (Hook::Reply, [there.source, there.destination], [cast.client, vip]),
                (Hook::Tc, [vip, cast.client], [there.destination, there.source]),
            ];
            for (hook, quoted, original) in ways {
                let build =
                    |ends| PLAIN.build(Protocol::Tcp, too_big(cast), router(cast.vip), ends);
                let out = node.pass(hook, &build(quoted));
                assert!(out == build(original), "{cast} {hook:?} flow {n}: {out:02x?}");
            }
        }
    }
}

#[test]
fn an_endpoint_that_is_its_own_client_gets_errors_of_both_sides() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let (client, endpoint) = (with_port(cast.v2[0], 45_001), cast.v2[0]);
        let question = Packet::udp(client, cast.vip).payload(b"q").build();
        let there = tuple(node.pass(hook, &question)).expect("a tuple");
        let ways = [
            ([there.source, endpoint], [client, cast.vip]),
            ([cast.vip, client], [endpoint, there.source]),
        ];
        for (quoted, original) in ways {
            let senders =
                [(router(cast.vip), router(cast.vip)), (quoted[1].ip(), original[1].ip())];
            for (sender, known_as) in senders {
                let kind = too_big(cast);
                let out = node.pass(hook, &PLAIN.build(Protocol::Udp, kind, sender, quoted));
                let wanted = PLAIN.build(Protocol::Udp, kind, known_as, original);
                assert!(out == wanted, "{cast} {hook:?} from {sender}:\n{out:02x?}\n{wanted:02x?}");
            }
        }
    }
}

/// Number of the packets in fragments.
const ID: u32 = 0x1234;

/// Errors about each fragment of a packet between these ends, but the first.
fn about_fragments(
    cast: &Cast,
    protocol: Protocol,
    sender: IpAddr,
    [from, to]: [SocketAddr; 2],
) -> Vec<Vec<u8>> {
    let (kind, rest) = too_big(cast);
    let error = IcmpError::new(sender, from.ip(), kind).rest(rest);
    let fragments = packet(protocol, from, to).id(ID).payload(&[9; 1000]).build_fragments(400);
    fragments[1..].iter().map(|f| error.clone().quote(f, 500).build()).collect()
}

/// Sends the first fragment of a packet of that way.
fn first_fragment(node: &mut Node, hook: Hook, protocol: Protocol, ends: [SocketAddr; 2]) {
    let whole = packet(protocol, ends[0], ends[1]).id(ID).payload(&[9; 1000]);
    node.pass(hook, &whole.build_fragments(400)[0]);
}

#[test]
fn errors_about_later_fragments_are_translated_while_the_first_is_remembered() {
    let mut ran = 0;
    for cast in &casts() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut talk = Talk::new(cast, Hook::Tc, protocol);
            let endpoint = talk.open();
            for way in ways(cast, endpoint) {
                // Packets to the endpoint come at the hooks of the forward direction.
                let hooks: &[Hook] =
                    if way.hook == Hook::Reply { &FORWARD } else { &[Hook::Reply] };
                let [peer, peer_known_as] = [way.quoted[1].ip(), way.original[1].ip()];
                for &hook in hooks {
                    let what = format!("{cast} {protocol:?} {hook:?}, error at {:?}", way.hook);
                    let untracked = |node: &mut Node, name: &str| {
                        let before = node.reason(Reason::PassIcmpUntracked);
                        let frames = about_fragments(cast, protocol, peer, way.quoted);
                        for frame in &frames {
                            assert!(
                                node.pass(way.hook, frame) == frame.as_slice(),
                                "{what}, {name}"
                            );
                        }
                        let after = node.reason(Reason::PassIcmpUntracked);
                        let wanted = if way.hook.counts() { frames.len() } else { 0 };
                        assert_eq!(after - before, wanted as u64, "{what}, {name}");
                    };
                    talk.node.let_pass(2 * u64::from(LIFETIME));
                    untracked(&mut talk.node, "before the first fragment");
                    first_fragment(&mut talk.node, hook, protocol, way.original);
                    let router = router(cast.vip);
                    for (sender, known_as) in [(router, router), (peer, peer_known_as)] {
                        let sent = about_fragments(cast, protocol, sender, way.quoted);
                        let wanted = about_fragments(cast, protocol, known_as, way.original);
                        for (sent, wanted) in sent.iter().zip(wanted) {
                            let out = talk.node.pass(way.hook, sent);
                            assert!(out == wanted, "{what}:\n{out:02x?}\n{wanted:02x?}");
                            ran += 1;
                        }
                    }
                    talk.node.let_pass(2 * u64::from(LIFETIME));
                    untracked(&mut talk.node, "long after the first fragment");
                }
            }
        }
    }
    println!("{ran} errors about later fragments translated as wanted");
}

#[test]
fn an_endpoint_that_is_its_own_client_gets_errors_about_its_fragments() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let (client, endpoint) = (with_port(cast.v2[0], 45_001), cast.v2[0]);
        let whole = packet(Protocol::Udp, client, cast.vip).id(ID).payload(&[9; 1000]);
        let there = tuple(node.pass(hook, &whole.build_fragments(400)[0])).expect("a tuple");
        for (sender, known_as) in
            [(router(cast.vip), router(cast.vip)), (endpoint.ip(), cast.vip.ip())]
        {
            let quoted = [there.source, endpoint];
            let sent = about_fragments(cast, Protocol::Udp, sender, quoted);
            let wanted = about_fragments(cast, Protocol::Udp, known_as, [client, cast.vip]);
            for (sent, wanted) in sent.iter().zip(wanted) {
                let out = node.pass(hook, sent);
                assert!(out == wanted, "{cast} {hook:?} from {sender}:\n{out:02x?}\n{wanted:02x?}");
            }
        }
    }
}

/// What passes untouched: its name, the hook, the frame, and whether it is counted.
fn untouched(cast: &Cast, endpoint: SocketAddr) -> Vec<(String, Hook, Vec<u8>, bool)> {
    let v4 = cast.vip.is_ipv4();
    let mut cases = Vec::new();
    for way in ways(cast, endpoint) {
        let [from, to] = way.quoted;
        let mut add = |name: &str, frame: Vec<u8>, counted| {
            cases.push((name.to_owned(), way.hook, frame, counted));
        };
        let whole = Packet::tcp(from, to).flags(ACK).payload(&[9; 100]);
        let kind = too_big(cast).0;
        let error = |kind| IcmpError::new(router(cast.vip), from.ip(), kind);
        let about = |frame: &[u8]| error(kind).quote(frame, 64).build();
        // Echo, redirect, source quench, router advertisement, neighbour solicitation.
        let others = if v4 { &[0, 4, 5, 8, 9, 13][..] } else { &[0, 5, 100, 128, 129, 135, 137] };
        for &other in others {
            add(
                &format!("type {other}"),
                error([other, 0]).quote(&whole.build(), 64).build(),
                false,
            );
        }
        let echo = error([if v4 { 8 } else { 128 }, 0]).rest([0, 1, 0, 2]);
        add("echo", echo.build(), false);
        let unknown_port = with_port(cast.client, 999);
        let unknown = if from == cast.client { [unknown_port, to] } else { [from, unknown_port] };
        let unknown = Packet::tcp(unknown[0], unknown[1]).flags(ACK).build();
        add("about no known flow", about(&unknown), true);
        let other_port = if way.hook == Hook::Reply {
            [from, with_port(to, 5)]
        } else {
            [with_port(from, 5), to]
        };
        add("about another port", about(&Packet::tcp(other_port[0], other_port[1]).build()), false);
        let reversed = Packet::tcp(to, from).flags(ACK).build();
        add("about the other direction", about(&reversed), false);
        let elsewhere = IcmpError::new(router(cast.vip), router(cast.vip), kind);
        add("to another address", elsewhere.quote(&whole.build(), 64).build(), true);
        let fragment = &whole.build_fragments(40)[1];
        add("about a fragment of no known packet", about(fragment), true);
        let header = if v4 { 20 } else { 40 };
        for bytes in [0, 1, header - 1, header, header + 7] {
            // What is behind the packet is not quoted.
            let frame = error(kind).quote(&whole.build(), bytes).trailer(40).build();
            add(&format!("{bytes} bytes quoted"), frame, false);
        }
        let mut other_version = about(&whole.build());
        let quote = other_version.len() - 64;
        other_version[quote] = if v4 { 0x65 } else { 0x45 };
        add("another version quoted", other_version, false);
        if v4 {
            let mut other_protocol = about(&whole.build());
            other_protocol[quote + 9] = 1;
            add("about ICMP", other_protocol, false);
        }
    }
    cases
}

#[test]
fn other_icmp_passes_untouched() {
    let mut ran = 0;
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let endpoint = talk.open();
        for (name, hook, mut frame, counted) in untouched(cast, endpoint) {
            // BPF_PROG_TEST_RUN takes no shorter ones.
            frame.resize(frame.len().max(64), 0);
            let what = format!("{cast} {name}, {hook:?}");
            let before = talk.node.reason(Reason::PassIcmpUntracked);
            // The senders are routers beyond the node.
            let (verdict, out) = match hook {
                Hook::Reply => talk.node.run_forwarded(&frame),
                _ => talk.node.run(hook, &frame),
            };
            assert_eq!(verdict, Verdict::Pass, "{what}");
            assert!(out == frame, "{what}:\n{out:02x?}\n{frame:02x?}");
            let after = talk.node.reason(Reason::PassIcmpUntracked);
            assert_eq!(after - before, u64::from(counted && hook.counts()), "{what}");
            ran += 1;
        }
        assert_eq!(talk.node.reason(Reason::IcmpTranslated), 0, "{cast}");
    }
    println!("{ran} messages passed untouched");
}
