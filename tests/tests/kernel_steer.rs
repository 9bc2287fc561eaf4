//! The loaded programs under BPF_PROG_TEST_RUN: the same packets through TC
//! and XDP, over IPv4 and IPv6. Needs root; attaches nothing.

mod kernel;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kernel::{ANSWER_TC, ANSWER_XDP, Hook, Node, PASS_TC, PASS_XDP, Subsets, split};
use weir::datapath::{Clock, Flows};
use weir::explain::explain;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{
    ACK, FIN, Packet, RST, Rng, SYN, checksums_ok, mutate, payload, tcp_flags, tcp_seq_ack, tuple,
};

const HOOKS: [Hook; 2] = [Hook::Tc, Hook::Xdp];

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Service address, client and endpoints of v1 (3) and v2 (1), per family.
struct Cast {
    vip: SocketAddr,
    client: SocketAddr,
    v1: [&'static str; 3],
    v2: [&'static str; 1],
}

fn casts() -> [Cast; 2] {
    [
        Cast {
            vip: socket("192.0.2.10:9080"),
            client: socket("203.0.113.7:41000"),
            v1: ["198.51.100.11:9080", "198.51.100.12:8081", "198.51.100.13:9080"],
            v2: ["198.51.100.31:7000"],
        },
        Cast {
            vip: socket("[2001:db8::10]:9080"),
            client: socket("[2001:db8:7::7]:41000"),
            v1: ["[2001:db8:1::11]:9080", "[2001:db8:1::12]:8081", "[2001:db8:1::13]:9080"],
            v2: ["[2001:db8:2::31]:7000"],
        },
    ]
}

fn with_port(mut socket: SocketAddr, port: u16) -> SocketAddr {
    socket.set_port(port);
    socket
}

#[test]
fn kernel_and_user_space_choose_alike() {
    for cast in casts() {
        let mut node = Node::new();
        let split =
            node.publish("reviews", cast.vip, &[("v1", 80, &cast.v1), ("v2", 20, &cast.v2)]);
        let mut rng = Rng::new(1);
        for n in 0..100_000u32 {
            let port = 1 + rng.below(65_535) as u16;
            let client = with_port(cast.client, port);
            let frame = Packet::tcp(client, cast.vip).flags(SYN).seq(n).build();
            let wanted = explain(kernel::SEED, &split, client).unwrap().endpoint.unwrap();
            for (hook, pass) in [(Hook::Tc, PASS_TC), (Hook::Xdp, PASS_XDP)] {
                let (verdict, out) = node.run(hook, &frame);
                assert_eq!(verdict, pass);
                let seen = tuple(&out).unwrap().destination;
                assert_eq!(seen, wanted, "{hook:?}, flow {n} from {client}");
            }
        }
    }
}

#[test]
fn a_flow_keeps_its_endpoint_when_weights_change_and_replies_come_from_the_vip() {
    for (cast, hook) in casts().iter().flat_map(|c| HOOKS.map(|h| (c, h))) {
        let mut node = Node::new();
        node.publish("reviews", cast.vip, &[("v1", 1, &cast.v1), ("v2", 0, &cast.v2)]);
        let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
        let endpoint = tuple(&node.run(hook, &syn).1).unwrap().destination;
        node.publish("reviews", cast.vip, &[("v1", 0, &cast.v1), ("v2", 1, &cast.v2)]);

        let data = Packet::tcp(cast.client, cast.vip).flags(ACK).payload(b"odd").build();
        let (_, out) = node.run(hook, &data);
        assert_eq!(tuple(&out).unwrap().destination, endpoint, "{hook:?}");
        assert!(checksums_ok(&out), "{hook:?} forward");
        assert_eq!(payload(&out), Some(&b"odd"[..]));

        let reply = Packet::tcp(endpoint, cast.client).flags(ACK).payload(b"reply").build();
        let (_, out) = node.run(Hook::Reply, &reply);
        let seen = tuple(&out).unwrap();
        assert_eq!((seen.source, seen.destination), (cast.vip, cast.client), "{hook:?}");
        assert!(checksums_ok(&out), "{hook:?} reply");

        // The end of the flow, seen from the endpoint, makes its port new.
        node.run(Hook::Reply, &Packet::tcp(endpoint, cast.client).flags(FIN | ACK).build());
        let again = tuple(&node.run(hook, &syn).1).unwrap().destination;
        assert_eq!(again, socket(cast.v2[0]), "{hook:?}: a SYN after FIN follows today's weights");
    }
}

#[test]
fn two_services_with_one_endpoint_keep_their_replies_apart() {
    for cast in casts() {
        let mut node = Node::new();
        let other = with_port(cast.vip, 9090);
        node.publish("one", cast.vip, &[("v1", 1, &cast.v2)]);
        node.publish("two", other, &[("v1", 1, &cast.v2)]);
        for vip in [cast.vip, other] {
            let (_, out) = node.run(Hook::Tc, &Packet::tcp(cast.client, vip).flags(SYN).build());
            assert!(checksums_ok(&out));
            let there = tuple(&out).unwrap();
            let back = Packet::tcp(there.destination, there.source).flags(SYN | ACK).build();
            let (_, out) = node.run(Hook::Reply, &back);
            let seen = tuple(&out).unwrap();
            assert_eq!((seen.source, seen.destination), (vip, cast.client));
            assert!(checksums_ok(&out));
        }
    }
}

#[test]
fn an_endpoint_that_is_its_own_client_gets_its_replies() {
    for cast in casts() {
        let mut node = Node::new();
        let subsets: Subsets<'_> = &[("v1", 1, &cast.v2)];
        node.put(split("self", cast.vip, Protocol::Udp, Affinity::None, subsets));
        let client = with_port(socket(cast.v2[0]), 45_001);
        let (_, out) = node.run(Hook::Tc, &Packet::udp(client, cast.vip).payload(b"q").build());
        let there = tuple(&out).unwrap();
        assert_eq!(there.source.ip(), cast.vip.ip(), "the source is not the endpoint itself");
        assert!(checksums_ok(&out));
        let back = Packet::udp(there.destination, there.source).payload(b"a").build();
        let (_, out) = node.run(Hook::Tc, &back);
        let seen = tuple(&out).unwrap();
        assert_eq!((seen.source, seen.destination), (cast.vip, client));
        assert!(checksums_ok(&out));
    }
}

#[test]
fn flow_entries_carry_the_tick_that_user_space_reckons() {
    let clock = Clock::new();
    for cast in casts() {
        let mut node = Node::new();
        node.publish("reviews", cast.vip, &[("v1", 1, &cast.v1)]);
        let before = clock.now();
        node.run(Hook::Tc, &Packet::tcp(cast.client, cast.vip).flags(SYN).build());
        // Jiffies do not begin exactly when the clock does.
        let (low, high) = (before.wrapping_sub(1), clock.now().wrapping_add(1));
        let flows = Flows::new(node.loaded().object().ebpf()).expect("the tables");
        let mut found = Vec::new();
        flows.walk(|flow| found.push(flow)).expect("a walk");
        let [flow] = found[..] else { panic!("one flow, not {found:?}") };
        assert_eq!((flow.client, flow.service), (cast.client, cast.vip));
        for tick in [flow.seen, flow.created] {
            let within = tick.wrapping_sub(low) <= high.wrapping_sub(low);
            assert!(within, "tick {tick} is not from {low} to {high}");
        }
    }
}

#[test]
fn a_subset_without_endpoints_rejects_its_flows() {
    for cast in casts() {
        let mut node = Node::new();
        node.publish("empty", cast.vip, &[("v1", 1, &[])]);
        let udp = with_port(cast.vip, 53);
        node.put(split("names", udp, Protocol::Udp, Affinity::None, &[("v1", 1, &[])]));
        let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).seq(7).payload(b"fast").build();
        let datagram = Packet::udp(cast.client, udp).payload(b"query").build();
        for (hook, answer) in [(Hook::Tc, ANSWER_TC), (Hook::Xdp, ANSWER_XDP)] {
            let (verdict, out) = node.run(hook, &syn);
            assert_eq!(verdict, answer, "{hook:?}");
            let seen = tuple(&out).unwrap();
            assert_eq!((seen.source, seen.destination), (cast.vip, cast.client));
            assert_eq!(tcp_flags(&out), Some(RST | ACK));
            assert_eq!(tcp_seq_ack(&out), Some((0, 7 + 4 + 1)), "{hook:?}");
            assert!(checksums_ok(&out), "{hook:?} RST");

            let (verdict, out) = node.run(hook, &datagram);
            assert_eq!(verdict, answer, "{hook:?}");
            assert!(checksums_ok(&out), "{hook:?} port unreachable");
        }
    }
}

#[test]
fn frames_that_are_no_business_of_weir_pass_bit_for_bit() {
    let mut node = Node::new();
    let cast = &casts()[0];
    node.publish("reviews", cast.vip, &[("v1", 80, &cast.v1), ("v2", 20, &cast.v2)]);
    let other = socket("192.0.2.99:9080");
    let mut rng = Rng::new(2);
    let seeds = [
        Packet::tcp(cast.client, other).flags(ACK).payload(b"tcp").build(),
        Packet::udp(cast.client, other).payload(b"udp").build(),
        Packet::tcp(casts()[1].client, casts()[1].vip).flags(SYN).vlan(0x8100, 7).build(),
    ];
    let mut addresses = BTreeSet::new();
    for n in 0..1_000_000usize {
        let mut frame = seeds[n % seeds.len()].clone();
        mutate(&mut frame, &mut rng);
        // What TEST_RUN takes at both hooks; and a frame that the mutation addressed
        // to the split is not part of this claim.
        frame.resize(frame.len().max(64), 0);
        let destined = frame.windows(6).any(|w| w == [192, 0, 2, 10, 0x23, 0x78]);
        if destined || frame.windows(4).any(|w| w == [192, 0, 2, 10]) {
            continue;
        }
        addresses.insert(n % seeds.len());
        for (hook, pass) in [(Hook::Tc, PASS_TC), (Hook::Xdp, PASS_XDP)] {
            let (verdict, out) = node.run(hook, &frame);
            assert_eq!(verdict, pass, "{hook:?} {frame:02x?}");
            assert!(out == frame, "{hook:?} changed {frame:02x?} to {out:02x?}");
        }
    }
    assert_eq!(addresses.len(), seeds.len());
}
