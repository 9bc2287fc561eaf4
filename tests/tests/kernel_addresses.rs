//! Frames by their MAC address: what is another host's, or a group's, is none of weir's business.

mod kernel;

use std::net::SocketAddr;

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, split, with_port};
use probe_common::map::MAX_MACS;
use weir::model::{Affinity, Protocol};
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{Packet, tuple};

/// The interface's own address, and those of what it is below of.
const OWN: [[u8; 6]; MAX_MACS] =
    [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [0, 0, 0x5e, 0, 1, 7], [0, 0, 0x5e, 0, 2, 7]];
/// A neighbour's, one that differs in its last bit, and one in its first.
const OTHERS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2]];
/// The port of the service without endpoints.
const EMPTY: u16 = 9999;
const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];
/// Who sends the frames.
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUPS: [[u8; 6]; 3] = [[255; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];

fn opening(protocol: Protocol, cast: &Cast) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(cast.client, cast.vip),
        Protocol::Udp => Packet::udp(cast.client, cast.vip),
    }
}

/// Splits of both protocols, and one that has nobody to serve.
fn node(cast: &Cast) -> Node {
    let mut node = Node::new();
    let serving: [(&str, u32, &[SocketAddr]); 2] = [("v1", 1, &cast.v1), ("v2", 1, &cast.v2)];
    let nobody: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &[])];
    for (protocol, name) in PROTOCOLS {
        node.publish(&split(name, (cast.vip, protocol), Affinity::None, &serving));
        let empty = (with_port(cast.vip, EMPTY), protocol);
        node.publish(&split(&format!("{name}-empty"), empty, Affinity::None, &nobody));
    }
    node
}

/// All packets to a service, of which some are no flow's, to that address on the link.
fn frames(protocol: Protocol, cast: &Cast, mac: [u8; 6]) -> Vec<Vec<u8>> {
    let packet = opening(protocol, cast).macs(ROUTER, mac);
    let plain = packet.build();
    let vlan = packet.clone().vlan(0x8100, 7).build();
    let mut frames = packet.payload(&[7; 200]).build_fragments(64);
    frames.extend([plain, vlan]);
    frames
}

/// Each protocol at each hook.
fn ways() -> impl Iterator<Item = (Protocol, Hook)> {
    PROTOCOLS.into_iter().flat_map(|(protocol, _)| FORWARD.map(|hook| (protocol, hook)))
}

fn others() -> impl Iterator<Item = [u8; 6]> {
    OTHERS.into_iter().chain(GROUPS)
}

#[test]
fn what_is_not_addressed_to_the_node_is_none_of_its_business() {
    for cast in &casts() {
        let mut node = node(cast);
        node.set_macs(OWN);
        let before = node.reasons();
        for (protocol, hook) in ways() {
            for mac in others() {
                let what = format!("{cast} {protocol:?} {hook:?} to {mac:02x?}");
                for frame in frames(protocol, cast, mac) {
                    assert!(node.pass(hook, &frame) == frame, "{what}");
                }
                let empty = Cast { vip: with_port(cast.vip, EMPTY), ..*cast };
                let frame = opening(protocol, &empty).macs(ROUTER, mac).build();
                assert!(node.pass(hook, &frame) == frame, "{what}: nobody rejects it");
            }
        }
        assert_eq!(node.reasons(), before, "{cast}: nothing is counted");
        assert_eq!(node.entries(), [0, 0], "{cast}: nothing begins");
        for (protocol, hook) in ways() {
            for mac in OWN {
                let what = format!("{cast} {protocol:?} {hook:?} to {mac:02x?}");
                let frame = opening(protocol, cast).macs(ROUTER, mac).build();
                let to = tuple(node.pass(hook, &frame)).expect("a tuple").destination;
                assert_ne!(to, cast.vip, "{what}");
                let empty = Cast { vip: with_port(cast.vip, EMPTY), ..*cast };
                let frame = opening(protocol, &empty).macs(ROUTER, mac).build();
                let rejected = if hook.counts() { Verdict::Answer } else { Verdict::Pass };
                assert_eq!(node.run(hook, &frame).0, rejected, "{what}");
            }
        }
        errors(&mut node, cast);
        nothing_known(&mut node, cast);
    }
}

/// Errors about a flow are translated if they are the node's.
fn errors(node: &mut Node, cast: &Cast) {
    for (n, hook) in (0..).zip(FORWARD) {
        let client = with_port(cast.client, 50_000 + n);
        let out = node.pass(hook, &Packet::udp(client, cast.vip).build()).to_vec();
        let endpoint = tuple(&out).expect("a tuple").destination;
        let reply = node.pass(Hook::Reply, &Packet::udp(endpoint, client).build()).to_vec();
        let kind = if cast.vip.is_ipv4() { [3, 3] } else { [1, 4] };
        let error = IcmpError::new(client.ip(), cast.vip.ip(), kind).quote(&reply, 48).build();
        let mut others = error.clone();
        others[..6].copy_from_slice(&OTHERS[0]);
        assert!(node.pass(hook, &others) == others, "{cast} {hook:?}: another host's");
        assert!(node.pass(hook, &error) != error, "{cast} {hook:?}: the node's");
    }
}

/// Where nothing is known of the interface, all but frames to groups are steered.
fn nothing_known(node: &mut Node, cast: &Cast) {
    node.set_macs([[0; 6]; MAX_MACS]);
    for hook in FORWARD {
        for mac in others() {
            let frame = opening(Protocol::Tcp, cast).macs(ROUTER, mac).build();
            let steered = node.pass(hook, &frame) != frame;
            assert_eq!(steered, !GROUPS.contains(&mac), "{cast} {hook:?} to {mac:02x?}");
        }
    }
}
