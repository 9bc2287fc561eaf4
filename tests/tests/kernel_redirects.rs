//! ICMP redirects that the node's stack sends: those that would have clients or endpoints pass by
//! the node do not leave it.

mod kernel;

use std::net::{IpAddr, SocketAddr};

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, split, with_port};
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
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

/// Splits of both protocols.
fn node(cast: &Cast) -> Node {
    let mut node = Node::new();
    let subsets: [(&str, u32, &[SocketAddr]); 2] = [("v1", 1, &cast.v1), ("v2", 1, &cast.v2)];
    for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
        node.publish(&split(name, (cast.vip, protocol), Affinity::None, &subsets));
    }
    node
}

#[test]
fn a_redirect_that_would_have_somebody_pass_by_the_node_does_not_leave_it() {
    for cast in &casts() {
        let mut node = node(cast);
        let mut dropped = 0;
        let mut is_dropped = |node: &mut Node, about: &[u8], bytes, what: &str| {
            let frame = redirect(cast, about, bytes);
            assert_eq!(node.run(Hook::Reply, &frame).0, Verdict::Drop, "{what}");
            dropped += 1;
            assert_eq!(node.reason(Reason::DropRedirect), dropped, "{what}");
        };
        let ways = [Protocol::Tcp, Protocol::Udp].into_iter();
        for (n, (protocol, hook)) in (0..).zip(ways.flat_map(|p| FORWARD.map(|hook| (p, hook)))) {
            let client = with_port(cast.client, 50_000 + n);
            let out = node.pass(hook, &packet(protocol, client, cast.vip).build()).to_vec();
            let endpoint = tuple(&out).expect("a tuple").destination;
            let reply = packet(protocol, endpoint, client).build();
            // What else the endpoint sends to the client takes the same way.
            let other = Packet::udp(with_port(endpoint, 53), with_port(client, 53)).build();
            for (name, about) in
                [("steered", &out), ("a reply", &reply), ("something else of an endpoint", &other)]
            {
                for bytes in [64, 104, 500] {
                    let what = format!("{cast} {protocol:?} {hook:?}: about {name}, {bytes} bytes");
                    is_dropped(&mut node, about, bytes, &what);
                }
            }
        }
        let fragments = Packet::udp(cast.client, cast.vip).payload(&[5; 200]).build_fragments(64);
        for (n, fragment) in fragments.iter().enumerate() {
            let about = node.pass(Hook::Tc, fragment).to_vec();
            is_dropped(&mut node, &about, 104, &format!("{cast}: fragment {n}"));
        }
    }
}

#[test]
fn other_redirects_pass_untouched() {
    for cast in &casts() {
        let mut node = node(cast);
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
        // Those of other routers are theirs, whatever they are about.
        for about in [&out, &Packet::tcp(endpoint, cast.client).build()] {
            let frame = redirect(cast, about, 64);
            assert!(node.run_forwarded(&frame) == (Verdict::Pass, &frame[..]), "{cast}: forwarded");
        }
        // What other routers tell the node is for its stack.
        for hook in FORWARD {
            let frame = redirect(cast, &out, 64);
            assert!(node.pass(hook, &frame) == frame, "{cast} {hook:?}: to the node");
        }
        assert_eq!(node.reason(Reason::DropRedirect), 0, "{cast}");
    }
}
