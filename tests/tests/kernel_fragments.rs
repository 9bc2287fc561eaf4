//! Fragments of packets: those that come after the first one of their packet go
//! where it went, byte for byte as somebody would have sent them who knew the
//! endpoint; others pass untouched.

mod kernel;

use std::net::SocketAddr;

use kernel::talk::Talk;
use kernel::{Cast, FORWARD, Hook, Node, casts, split, with_port};
use probe_common::fragment::LIFETIME;
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{ACK, Ext, Packet, tuple};

/// Bytes of IP payload in a fragment.
const SIZE: usize = 1480;

fn packet(protocol: Protocol, [from, to]: [SocketAddr; 2], bytes: usize) -> Packet {
    let payload: Vec<u8> = (0..bytes).map(|n| (n * 7 + n / 251) as u8).collect();
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to).flags(ACK).payload(&payload),
        Protocol::Udp => Packet::udp(from, to).payload(&payload),
    }
}

/// A way of packets: hook, ends as they come, ends as they leave.
fn ways(cast: &Cast, endpoint: SocketAddr) -> Vec<(Hook, [SocketAddr; 2], [SocketAddr; 2])> {
    let reply = (Hook::Reply, [endpoint, cast.client], [cast.vip, cast.client]);
    let forward = |hook| (hook, [cast.client, cast.vip], [cast.client, endpoint]);
    FORWARD.map(forward).into_iter().chain([reply]).collect()
}

/// An order of so many fragments: which of them come, one after the other.
type Order = fn(usize) -> Vec<usize>;

const ORDERS: &[(&str, Order)] = &[
    ("in order", |count| (0..count).collect()),
    ("the first one, then the others reversed", |count| {
        [0].into_iter().chain((1..count).rev()).collect()
    }),
    ("each of them twice", |count| (0..count).flat_map(|n| [n, n]).collect()),
    ("all of them, and again", |count| (0..count).chain(0..count).collect()),
    ("one is lost", |count| (0..count).filter(|&n| n != 1).collect()),
    ("the last one first of the others", |count| {
        [0, count - 1].into_iter().chain(1..count - 1).collect()
    }),
];

/// Orders in which some come before the first one, or without it: these pass untouched.
const TOO_EARLY: &[(&str, Order)] = &[
    ("reversed", |count| (0..count).rev().collect()),
    ("the first two exchanged", |count| [1, 0].into_iter().chain(2..count).collect()),
    ("the first one at last", |count| (1..count).chain([0]).collect()),
    ("the first one is lost", |count| (1..count).collect()),
    ("reversed, then all of them again", |count| (0..count).rev().chain(0..count).collect()),
];

#[test]
fn fragments_go_where_the_first_one_of_their_packet_went() {
    let mut ran = 0;
    for cast in &casts() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut talk = Talk::new(cast, Hook::Tc, protocol);
            let endpoint = talk.open();
            let mut id = 0;
            for (hook, from, to) in ways(cast, endpoint) {
                for ((name, order), bytes) in
                    ORDERS.iter().flat_map(|order| [4_000, 60_000].map(|bytes| (order, bytes)))
                {
                    id += 1;
                    let fragments =
                        |ends| packet(protocol, ends, bytes).id(id).build_fragments(SIZE);
                    let (sent, wanted) = (fragments(from), fragments(to));
                    for n in order(sent.len()) {
                        let out = talk.node.pass(hook, &sent[n]);
                        assert!(
                            out == wanted[n],
                            "{cast} {protocol:?} {hook:?} {name}, {bytes} bytes, fragment {n}:\n\
                             {out:02x?}\n{:02x?}",
                            wanted[n]
                        );
                        ran += 1;
                    }
                }
            }
            assert_eq!(talk.node.reason(Reason::PassFragment), 0, "{cast} {protocol:?}");
        }
    }
    println!("{ran} fragments rewritten as wanted");
}

#[test]
fn fragments_before_their_first_one_pass_untouched_and_the_others_follow_it() {
    let (mut followed, mut passed) = (0, 0);
    for cast in &casts() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut talk = Talk::new(cast, Hook::Tc, protocol);
            let endpoint = talk.open();
            let (mut id, mut early, mut counted) = (0, 0, 0);
            for (hook, from, to) in ways(cast, endpoint) {
                for ((name, order), bytes) in
                    TOO_EARLY.iter().flat_map(|order| [4_000, 60_000].map(|bytes| (order, bytes)))
                {
                    id += 1;
                    let fragments =
                        |ends| packet(protocol, ends, bytes).id(id).build_fragments(SIZE);
                    let (sent, wanted) = (fragments(from), fragments(to));
                    let mut known = false;
                    for n in order(sent.len()) {
                        known |= n == 0;
                        let out = talk.node.pass(hook, &sent[n]);
                        let wanted = if known { &wanted[n] } else { &sent[n] };
                        assert!(
                            out == wanted,
                            "{cast} {protocol:?} {hook:?} {name}, {bytes} bytes, fragment {n}"
                        );
                        early += u64::from(!known);
                        counted += u64::from(!known && hook.counts());
                        followed += u64::from(known);
                    }
                }
            }
            assert_eq!(talk.node.reason(Reason::PassFragment), counted, "{cast} {protocol:?}");
            passed += early;
        }
    }
    println!("{followed} fragments followed their first one, {passed} came too early and passed");
}

/// Who puts them together decides about those that overlap; all of them go to one endpoint.
#[test]
fn fragments_that_overlap_go_the_same_way() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Udp);
        let endpoint = talk.open();
        for (hook, from, to) in ways(cast, endpoint) {
            for (name, other) in
                [("shorter ones", 800), ("longer ones", 2000), ("tiny ones", 8), ("the same", SIZE)]
            {
                let cut =
                    |ends, size| packet(Protocol::Udp, ends, 4_000).id(9).build_fragments(size);
                let [sent, wanted] = [from, to].map(|ends| {
                    let mut all = cut(ends, SIZE);
                    all.splice(1..1, cut(ends, other));
                    all
                });
                for (n, (sent, wanted)) in sent.iter().zip(wanted).enumerate() {
                    let out = talk.node.pass(hook, sent);
                    assert!(out == wanted, "{cast} {hook:?} {name}, fragment {n}");
                }
            }
        }
    }
}

/// The number of a packet tells it from others between the same two addresses only for a while
/// (RFC 4963): the newest packet has it.
#[test]
fn a_number_that_comes_back_belongs_to_the_newest_packet() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        node.reviews(cast, Protocol::Udp, [50, 50]);
        let mut endpoints = std::collections::BTreeSet::new();
        for n in 0..1_000u16 {
            // Ports in turn, each a flow; one number for all.
            let client = with_port(cast.client, 20_000 + n % 100);
            let cut = |to| packet(Protocol::Udp, [client, to], 4_000).id(7).build_fragments(SIZE);
            let sent = cut(cast.vip);
            let to = tuple(node.pass(hook, &sent[0])).expect("a tuple").destination;
            endpoints.insert(to);
            for (at, wanted) in cut(to).iter().enumerate().skip(1) {
                let out = node.pass(hook, &sent[at]);
                assert!(out == wanted, "{cast} {hook:?} packet {n}, fragment {at}");
            }
        }
        assert_eq!(endpoints.len(), 4, "{cast} {hook:?}: flows to all endpoints");
        assert_eq!(node.reason(Reason::PassFragment), 0, "{cast} {hook:?}");
    }
}

/// Entries of the table of each family.
const TABLE: usize = 16_384;

#[test]
fn more_packets_in_fragments_than_the_table_holds_are_never_sent_to_a_wrong_endpoint() {
    const PACKETS: u32 = 40_000;
    for cast in &casts() {
        let mut node = Node::new();
        node.reviews(cast, Protocol::Udp, [50, 50]);
        let cut = |n: u32, to| {
            // Many clients, so that the numbers are not all that differs.
            let client = kernel::client_number(cast, (n % 1_000) as u16);
            packet(Protocol::Udp, [client, to], 1_500).id(n / 1_000).build_fragments(SIZE)
        };
        let mut to = Vec::new();
        for n in 0..PACKETS {
            let hook = FORWARD[n as usize % FORWARD.len()];
            let first = &cut(n, cast.vip)[0];
            to.push(tuple(node.pass(hook, first)).expect("a tuple").destination);
        }
        let held: usize = node.fragments().iter().sum();
        assert!(held <= TABLE, "{cast}: {held} entries");
        let mut followed = 0;
        for (n, &to) in (0..).zip(&to) {
            let sent = &cut(n, cast.vip)[1];
            let out = node.pass(Hook::Tc, sent);
            if out != sent.as_slice() {
                assert!(out == cut(n, to)[1], "{cast}: packet {n} went to a wrong endpoint");
                followed += 1;
            }
        }
        let passed = node.reason(Reason::PassFragment);
        assert_eq!(passed + followed, u64::from(PACKETS), "{cast}: each followed or was counted");
        // A packet has two entries. The table may lose some of its newest, too, but not many.
        let room = TABLE as u64 / 2;
        assert!(followed <= room && followed > room / 2, "{cast}: {followed} followed");
        println!("{cast}: {PACKETS} packets, {held} entries, {followed} followed, {passed} passed");
    }
}

/// Fragments of many packets come in turn, a fragment of each: those of each, as sent and as they
/// must leave.
fn alternate(node: &mut Node, hook: Hook, packets: &[[Vec<Vec<u8>>; 2]], what: &str) {
    for n in 0..packets[0][0].len() {
        for [sent, wanted] in packets {
            assert!(node.pass(hook, &sent[n]) == wanted[n], "{what}, {hook:?}, fragment {n}");
        }
    }
}

#[test]
fn fragments_of_many_flows_may_alternate_in_both_directions() {
    let mut ran = 0;
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        node.reviews(cast, Protocol::Udp, [50, 50]);
        for bytes in [4_000, 60_000] {
            let what = format!("{cast}, {bytes} bytes");
            let cut = |n: u16, ends| {
                let whole = packet(Protocol::Udp, ends, bytes);
                whole.id(bytes as u32 + u32::from(n)).build_fragments(SIZE)
            };
            let mut there = Vec::new();
            let mut back = Vec::new();
            for n in 0..20 {
                let client = with_port(cast.client, 20_000 + n);
                let sent = cut(n, [client, cast.vip]);
                // The first packet of a flow may be one that is cut.
                let to = tuple(node.pass(hook, &sent[0])).expect("a tuple").destination;
                there.push([sent, cut(n, [client, to])]);
                back.push([cut(n, [to, client]), cut(n, [cast.vip, client])]);
            }
            alternate(&mut node, hook, &there, &what);
            alternate(&mut node, Hook::Reply, &back, &what);
            ran += there.iter().chain(&back).map(|[sent, _]| sent.len()).sum::<usize>();
        }
        assert_eq!(node.reason(Reason::PassFragment), 0, "{cast} {hook:?}");
    }
    println!("{ran} fragments in turn rewritten as wanted");
}

#[test]
fn fragments_of_no_known_packet_pass_untouched_and_are_counted() {
    for cast in &casts() {
        for (at, hook) in [Hook::Tc, Hook::Xdp, Hook::Reply].into_iter().enumerate() {
            let mut talk = Talk::new(cast, Hook::Tc, Protocol::Udp);
            let endpoint = talk.open();
            let (_, [from, to], _) =
                ways(cast, endpoint).into_iter().find(|way| way.0 == hook).expect("a way");
            let whole = packet(Protocol::Udp, [from, to], 4_000);
            let known = whole.clone().id(1).build_fragments(SIZE);
            let later = |packet: Packet| packet.build_fragments(SIZE).swap_remove(1);
            // Each differs in one thing from those that follow `known`.
            let mut others = vec![
                ("another number", later(whole.clone().id(2))),
                ("another address", {
                    let other = kernel::client_number(cast, at as u16);
                    let ends = if hook == Hook::Reply { [from, other] } else { [other, to] };
                    later(packet(Protocol::Udp, ends, 4_000).id(1))
                }),
            ];
            if cast.vip.is_ipv4() {
                let other = later(packet(Protocol::Tcp, [from, to], 4_000).id(1));
                others.push(("another protocol", other));
            } else {
                others.push((
                    "behind other headers",
                    later(whole.clone().ext(Ext::HopByHop(1)).id(1)),
                ));
            }
            let mut counted = 0;
            let mut passes = |node: &mut Node, name: &str, frame: &[u8]| {
                assert!(node.pass(hook, frame) == frame, "{cast} {hook:?} {name}");
                counted += 1;
                assert_eq!(node.reason(Reason::PassFragment), counted, "{cast} {hook:?} {name}");
            };
            passes(&mut talk.node, "before the first one", &known[1]);
            assert!(talk.node.pass(hook, &known[0]) != known[0], "{cast} {hook:?}: steered");
            for (name, frame) in &others {
                passes(&mut talk.node, name, frame);
            }
            // No business of weir: not even counted.
            let reversed = later(packet(Protocol::Udp, [to, from], 4_000).id(1));
            assert!(talk.node.pass(hook, &reversed) == reversed, "{cast} {hook:?}: reversed");
            assert!(talk.node.pass(hook, &known[1]) != known[1], "{cast} {hook:?}: follows");
            talk.node.let_pass(2 * u64::from(LIFETIME));
            passes(&mut talk.node, "long after the first one", &known[1]);
        }
    }
}

#[test]
fn an_endpoint_that_is_its_own_client_may_send_fragments() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let (client, endpoint) = (with_port(cast.v2[0], 45_001), cast.v2[0]);
        let cut = |from, to| packet(Protocol::Udp, [from, to], 4_000).build_fragments(SIZE);
        let sent = cut(client, cast.vip);
        let there = tuple(node.pass(hook, &sent[0])).expect("a tuple");
        let ways = [
            ("there", sent, cut(there.source, endpoint)),
            ("back", cut(endpoint, there.source), cut(cast.vip, client)),
        ];
        for (way, sent, wanted) in ways {
            for (n, (sent, wanted)) in sent.iter().zip(wanted).enumerate() {
                assert!(node.pass(hook, sent) == wanted, "{cast} {hook:?}: {way}, fragment {n}");
            }
        }
    }
}

#[test]
fn fragments_are_counted_for_their_endpoint() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Udp);
        let endpoint = talk.open();
        let split = talk.split.clone();
        let before = talk.node.endpoint(&split, endpoint);
        let sent = packet(Protocol::Udp, [cast.client, cast.vip], 4_000).build_fragments(SIZE);
        for fragment in &sent {
            talk.node.pass(Hook::Tc, fragment);
        }
        let after = talk.node.endpoint(&split, endpoint);
        let bytes: usize = sent.iter().map(Vec::len).sum();
        assert_eq!(after.forward_packets - before.forward_packets, sent.len() as u64, "{cast}");
        assert_eq!(after.forward_bytes - before.forward_bytes, bytes as u64, "{cast}");
    }
}
