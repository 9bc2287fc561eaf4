//! Frames by their MAC address: what is another host's, or a group's, is none of weir's business.

mod kernel;

use std::net::SocketAddr;

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, split};
use probe_common::map::MAX_MACS;
use weir::model::{Affinity, Protocol};
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{Packet, tuple};

/// The interface's own address, and those of what it is below of.
const OWN: [[u8; 6]; MAX_MACS] =
    [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [0, 0, 0x5e, 0, 1, 7], [0, 0, 0x5e, 0, 2, 7]];
/// A neighbour's, one that differs in its last bit, and one in its first.
const OTHERS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2]];
const GROUPS: [[u8; 6]; 3] = [[255; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];

fn opening(protocol: Protocol, cast: &Cast) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(cast.client, cast.vip),
        Protocol::Udp => Packet::udp(cast.client, cast.vip),
    }
}

/// All packets to a service, of which some are no flow's, to that address on the link.
fn frames(protocol: Protocol, cast: &Cast, mac: [u8; 6]) -> Vec<Vec<u8>> {
    let packet = opening(protocol, cast).macs([2, 0, 0, 0, 0, 1], mac);
    let plain = packet.build();
    let vlan = packet.clone().vlan(0x8100, 7).build();
    let mut frames = packet.payload(&[7; 200]).build_fragments(64);
    frames.extend([plain, vlan]);
    frames
}

#[test]
fn what_is_not_addressed_to_the_node_is_untouched_and_begins_nothing() {
    for cast in &casts() {
        for (protocol, hook) in
            [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| FORWARD.map(|hook| (p, hook)))
        {
            let mut node = Node::new();
            node.set_macs(OWN);
            node.reviews(cast, protocol, [1, 1]);
            for mac in OTHERS.into_iter().chain(GROUPS) {
                let before = node.reasons();
                for frame in frames(protocol, cast, mac) {
                    let what = format!("{cast} {protocol:?} {hook:?} to {mac:02x?}");
                    assert!(node.pass(hook, &frame) == frame, "{what}");
                }
                assert_eq!(node.reasons(), before, "{cast} {hook:?}: nothing is counted");
            }
            assert_eq!(node.entries(), [0, 0], "{cast} {protocol:?} {hook:?}: nothing begins");
            for mac in OWN {
                let frame = opening(protocol, cast).macs([2, 0, 0, 0, 0, 1], mac).build();
                let to = tuple(node.pass(hook, &frame)).expect("a tuple").destination;
                assert_ne!(to, cast.vip, "{cast} {protocol:?} {hook:?} to {mac:02x?}");
            }
        }
    }
}

#[test]
fn another_hosts_frame_is_not_refused_in_the_name_of_the_service() {
    for cast in &casts() {
        for (protocol, hook) in [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .flat_map(|p| [Hook::Tc, Hook::Xdp].map(|hook| (p, hook)))
        {
            let mut node = Node::new();
            node.set_macs(OWN);
            let nobody: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &[])];
            node.publish(&split("empty", (cast.vip, protocol), Affinity::None, &nobody));
            let frame = |mac| opening(protocol, cast).macs([2, 0, 0, 0, 0, 1], mac).build();
            for mac in OTHERS.into_iter().chain(GROUPS) {
                let what = format!("{cast} {protocol:?} {hook:?} to {mac:02x?}");
                assert!(node.pass(hook, &frame(mac)) == frame(mac), "{what}");
            }
            assert_eq!(node.run(hook, &frame(OWN[0])).0, Verdict::Answer, "{cast} {hook:?}");
        }
    }
}

#[test]
fn an_error_about_a_flow_is_translated_only_if_it_is_the_nodes() {
    for cast in &casts() {
        for hook in FORWARD {
            let mut node = Node::new();
            node.reviews(cast, Protocol::Udp, [1, 0]);
            node.set_macs(OWN);
            let out = node.pass(hook, &Packet::udp(cast.client, cast.vip).build()).to_vec();
            let endpoint = tuple(&out).expect("a tuple").destination;
            let reply = Packet::udp(endpoint, cast.client).build();
            let reply = node.pass(Hook::Reply, &reply).to_vec();
            let kind = if cast.vip.is_ipv4() { [3, 3] } else { [1, 4] };
            let error = IcmpError::new(cast.client.ip(), cast.vip.ip(), kind);
            let error = error.quote(&reply, 48).build();
            let mut others = error.clone();
            others[..6].copy_from_slice(&OTHERS[0]);
            assert!(node.pass(hook, &others) == others, "{cast} {hook:?}: another host's");
            assert!(node.pass(hook, &error) != error, "{cast} {hook:?}: the node's");
        }
    }
}

#[test]
fn where_nothing_is_known_of_the_interface_all_but_groups_is_steered() {
    for cast in &casts() {
        for hook in FORWARD {
            let mut node = Node::new();
            node.reviews(cast, Protocol::Tcp, [1, 1]);
            for mac in OTHERS.into_iter().chain(GROUPS) {
                let frame = opening(Protocol::Tcp, cast).macs([2, 0, 0, 0, 0, 1], mac).build();
                let steered = node.pass(hook, &frame) != frame;
                assert_eq!(steered, !GROUPS.contains(&mac), "{cast} {hook:?} to {mac:02x?}");
            }
        }
    }
}
