//! ICMP redirects that the node's stack sends: those that would have clients or endpoints pass by
//! the node do not leave it.

mod kernel;

use std::net::{IpAddr, SocketAddr};

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, with_port};
use probe_common::reason::Reason;
use weir::model::Protocol;
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{Packet, tuple};

/// The node, and a router on its link.
fn node_and_router(cast: &Cast) -> [IpAddr; 2] {
    let texts =
        if cast.vip.is_ipv4() { ["203.0.113.1", "203.0.113.2"] } else { ["fe80::1", "fe80::2"] };
    texts.map(|text| text.parse().expect("an address"))
}

fn packet(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to),
        Protocol::Udp => Packet::udp(from, to),
    }
}

/// A redirect about a packet, to who sent it.
fn redirect(cast: &Cast, about: &[u8], bytes: usize) -> Vec<u8> {
    let [node, router] = node_and_router(cast);
    let sender = weir_tests::packet::parse(about).expect("a packet").source;
    IcmpError::redirect(node, sender, router, about, bytes).build()
}

#[test]
fn a_redirect_about_a_steered_packet_or_to_an_endpoint_does_not_leave_the_node() {
    for cast in &casts() {
        for (protocol, hook) in
            [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| FORWARD.map(|hook| (p, hook)))
        {
            let mut node = Node::new();
            node.reviews(cast, protocol, [1, 1]);
            let out = node.pass(hook, &packet(protocol, cast.client, cast.vip).build()).to_vec();
            let endpoint = tuple(&out).expect("a tuple").destination;
            let reply = packet(protocol, endpoint, cast.client).build();
            // What else the endpoint sends to the client takes the same way.
            let other = Packet::udp(with_port(endpoint, 53), with_port(cast.client, 53)).build();
            let mut dropped = 0;
            for (what, about) in
                [("steered", &out), ("a reply", &reply), ("something else of an endpoint", &other)]
            {
                for bytes in [64, 104, 500] {
                    let frame = redirect(cast, about, bytes);
                    let what = format!("{cast} {protocol:?} {hook:?}: about {what}, {bytes} bytes");
                    assert_eq!(node.run(Hook::Reply, &frame).0, Verdict::Drop, "{what}");
                    dropped += 1;
                    assert_eq!(node.reason(Reason::DropRedirect), dropped, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_redirect_about_a_later_fragment_of_a_steered_packet_does_not_leave_either() {
    for cast in &casts() {
        let mut node = Node::new();
        node.reviews(cast, Protocol::Udp, [1, 0]);
        let fragments = Packet::udp(cast.client, cast.vip).payload(&[5; 200]).build_fragments(64);
        let out: Vec<_> = fragments.iter().map(|f| node.pass(Hook::Tc, f).to_vec()).collect();
        for (n, about) in out.iter().enumerate() {
            let frame = redirect(cast, about, 104);
            assert_eq!(node.run(Hook::Reply, &frame).0, Verdict::Drop, "{cast}: fragment {n}");
        }
    }
}

#[test]
fn other_redirects_pass_untouched() {
    for cast in &casts() {
        let mut node = Node::new();
        node.reviews(cast, Protocol::Tcp, [1, 1]);
        let out = node.pass(Hook::Tc, &Packet::tcp(cast.client, cast.vip).build()).to_vec();
        let endpoint = tuple(&out).expect("a tuple").destination;
        let elsewhere = with_port(kernel::client_number(cast, 99), 80);
        for (what, about) in [
            ("a connection to somebody else", Packet::tcp(cast.client, elsewhere)),
            ("one to an endpoint itself", Packet::tcp(with_port(cast.client, 50_000), endpoint)),
        ] {
            let frame = redirect(cast, &about.build(), 64);
            assert!(node.pass(Hook::Reply, &frame) == frame, "{cast}: {what}");
        }
        // What other routers tell the node is for its stack.
        for hook in FORWARD {
            let frame = redirect(cast, &out, 64);
            assert!(node.pass(hook, &frame) == frame, "{cast} {hook:?}: to the node");
        }
        assert_eq!(node.reason(Reason::DropRedirect), 0, "{cast}");
    }
}
