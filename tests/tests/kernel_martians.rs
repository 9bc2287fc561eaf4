//! Packets from addresses that no host has: they are steered as any, for the node's stack to
//! judge, but nobody answers them.

mod kernel;

use std::net::SocketAddr;

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, split, with_port};
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{Packet, SYN, tuple};

/// Addresses that are no host's; the last one is a host's that nobody would expect.
const V4: [&str; 6] =
    ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"];
const V6: [&str; 5] = ["::", "::1", "ff02::1", "ff0e::1:2", "fe80::1"];

/// Client, and whether a rejection may be sent to it.
fn cases(cast: &Cast) -> Vec<(SocketAddr, bool)> {
    let sources: &[&str] = if cast.vip.is_ipv4() { &V4 } else { &V6 };
    let sources = sources.iter().enumerate().map(|(n, ip)| {
        let ip = ip.parse().expect("an address");
        (SocketAddr::new(ip, cast.client.port()), n == sources.len() - 1)
    });
    sources.chain([(cast.client, true)]).collect()
}

fn opening(protocol: Protocol, client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let packet = match protocol {
        Protocol::Tcp => Packet::tcp(client, to).flags(SYN),
        Protocol::Udp => Packet::udp(client, to).payload(b"question"),
    };
    packet.build()
}

#[test]
fn what_may_not_be_answered_is_dropped_where_it_would_be_rejected() {
    for cast in &casts() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut node = Node::new();
            let nobody: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &[])];
            node.publish(&split("empty", (cast.vip, protocol), Affinity::None, &nobody));
            for (client, answered) in cases(cast) {
                for hook in [Hook::Tc, Hook::Xdp] {
                    let what = format!("{cast} {protocol:?} {hook:?}, {client}");
                    let reasons = [Reason::RejectSilent, Reason::RejectNoEndpoint];
                    let before = reasons.map(|reason| node.reason(reason));
                    let frame = opening(protocol, client, cast.vip);
                    let (verdict, _) = node.run(hook, &frame);
                    let wanted = if answered { Verdict::Answer } else { Verdict::Drop };
                    assert_eq!(verdict, wanted, "{what}");
                    let after = reasons.map(|reason| node.reason(reason));
                    let counted = [0, 1].map(|n| after[n] - before[n]);
                    assert_eq!(counted, [u64::from(!answered), u64::from(answered)], "{what}");
                }
                // Left to TC.
                let frame = opening(protocol, client, cast.vip);
                assert!(node.pass(Hook::XdpVirtual, &frame) == frame, "{cast} {client}");
            }
        }
    }
}

#[test]
fn all_that_is_addressed_to_a_service_is_steered_for_the_stack_to_judge() {
    for cast in &casts() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for hook in FORWARD {
                let mut node = Node::new();
                node.reviews(cast, protocol, [1, 0]);
                for (n, (client, _)) in (0..).zip(cases(cast)) {
                    let client = with_port(client, 30_000 + n);
                    let out = node.pass(hook, &opening(protocol, client, cast.vip));
                    let to = tuple(out).expect("a tuple").destination;
                    assert!(cast.v1.contains(&to), "{cast} {hook:?} {client}: {to}");
                    assert!(
                        out == opening(protocol, client, to),
                        "{cast} {protocol:?} {hook:?} {client}"
                    );
                }
            }
        }
    }
}
