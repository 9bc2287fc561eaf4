//! What comes to a service address and is for no split, with `otherPorts: answer`: pings, and other
//! ports, at TC and XDP.

mod kernel;

use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, settings, with_port};
use probe_common::reason::Reason;
use weir::datapath::Settings;
use weir::model::Protocol;
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{ACK, Packet, RST, SYN, checksums_ok, parse, tuple};

/// A node with the split "reviews" over TCP, which answers what is for no split.
fn node(cast: &Cast) -> Node {
    let mut node = Node::with(&Settings { flows: 1024, other_ports: true, ..settings() });
    node.reviews(cast, Protocol::Tcp, [1, 0]);
    node.answer_at(&[cast.vip.ip()]);
    node
}

/// A ping: so many bytes in all of its ICMP message.
fn ping(cast: &Cast, kind: [u8; 2], bytes: usize) -> Vec<u8> {
    let ping = IcmpError::new(cast.client.ip(), cast.vip.ip(), kind).rest([0x12, 0x34, 0, 7]);
    let quoted = Packet::udp(cast.vip, cast.client).payload(&vec![0xa5; bytes]).build();
    ping.quote(&quoted, bytes).build()
}

fn request(cast: &Cast) -> [u8; 2] {
    [if cast.vip.is_ipv4() { 8 } else { 128 }, 0]
}

#[test]
fn a_ping_is_answered_by_the_service_address() {
    for cast in &casts() {
        for hook in FORWARD {
            let mut node = node(cast);
            for bytes in [40, 600, 1400] {
                let what = format!("{cast} {hook:?} {bytes}");
                let frame = ping(cast, request(cast), bytes);
                let before = node.reason(Reason::AnswerOther);
                let (verdict, out) = node.run(hook, &frame);
                if hook == Hook::XdpVirtual {
                    assert_eq!((verdict, out), (Verdict::Pass, &frame[..]), "{what}: left to TC");
                    continue;
                }
                assert_eq!(verdict, Verdict::Answer, "{what}");
                let (asked, found) = (parse(&frame).unwrap(), parse(out).unwrap());
                assert!(checksums_ok(out), "{what}: {out:02x?}");
                assert_eq!((found.source, found.destination), (cast.vip.ip(), cast.client.ip()));
                let kind = if cast.vip.is_ipv4() { 0 } else { 129 };
                assert_eq!(out[found.l4..found.l4 + 2], [kind, 0], "{what}");
                assert_eq!(out[found.l4 + 4..], frame[asked.l4 + 4..], "{what}: all that was sent");
                assert_eq!((&out[..6], &out[6..12]), (&frame[6..12], &frame[..6]), "{what}");
                assert_eq!(out.len(), frame.len(), "{what}: no longer than the question");
                assert_eq!(node.reason(Reason::AnswerOther), before + 1, "{what}");
            }
        }
    }
}

#[test]
fn other_ports_are_rejected_in_the_name_of_the_service_address() {
    for cast in &casts() {
        let (client, other) = (cast.client, with_port(cast.vip, 22));
        let syn = Packet::tcp(client, other).flags(SYN).build();
        // The split is over TCP.
        let datagram = Packet::udp(client, cast.vip).payload(b"question").build();
        for hook in FORWARD {
            let mut node = node(cast);
            for (frame, tcp) in [(&syn, true), (&datagram, false)] {
                let what = format!("{cast} {hook:?} {tcp}");
                let (verdict, out) = node.run(hook, frame);
                if hook == Hook::XdpVirtual {
                    assert_eq!((verdict, out), (Verdict::Pass, &frame[..]), "{what}: left to TC");
                    continue;
                }
                assert_eq!(verdict, Verdict::Answer, "{what}");
                assert!(checksums_ok(out), "{what}");
                let found = parse(out).unwrap();
                assert_eq!((found.source, found.destination), (cast.vip.ip(), client.ip()));
                if tcp {
                    let ports = tuple(out).unwrap();
                    assert_eq!((ports.source, ports.destination), (other, client), "{what}");
                    assert_eq!(out[found.l4 + 13], RST | ACK, "{what}");
                } else {
                    let kind = if cast.vip.is_ipv4() { [3, 3] } else { [1, 4] };
                    assert_eq!(out[found.l4..found.l4 + 2], kind, "{what}");
                }
            }
            // What is for a split is steered as ever.
            let frame = Packet::tcp(client, cast.vip).flags(SYN).build();
            let to = tuple(node.pass(hook, &frame)).unwrap().destination;
            assert!(cast.v1.contains(&to), "{cast} {hook:?}");
        }
    }
}

#[test]
fn what_may_not_be_answered_is_dropped_and_goes_round_no_more() {
    for cast in &casts() {
        let other = with_port(cast.vip, 22);
        let group = if cast.vip.is_ipv4() { "224.0.0.1" } else { "ff02::1" };
        let nobody = std::net::SocketAddr::new(group.parse().unwrap(), 7);
        let kind = request(cast);
        let frames = [
            Packet::tcp(cast.client, other).flags(RST).build(),
            Packet::tcp(nobody, other).flags(SYN).build(),
            IcmpError::new(nobody.ip(), cast.vip.ip(), kind).rest([0, 1, 0, 2]).build(),
        ];
        for hook in [Hook::Tc, Hook::Xdp] {
            let mut node = node(cast);
            for (n, frame) in (1..).zip(&frames) {
                assert_eq!(node.run(hook, frame).0, Verdict::Drop, "{cast} {hook:?} {n}");
                assert_eq!(node.reason(Reason::RejectSilent), n, "{cast} {hook:?} {n}");
            }
        }
    }
}

#[test]
fn all_else_passes_as_it_came() {
    for cast in &casts() {
        let elsewhere = with_port(cast.v1[0], 22);
        let aside = IcmpError::new(cast.client.ip(), elsewhere.ip(), request(cast)).build();
        let reply = if cast.vip.is_ipv4() { [0, 0] } else { [129, 0] };
        let mut cut_short = ping(cast, request(cast), 100);
        cut_short.truncate(cut_short.len() - 20);
        let frames = [
            Packet::tcp(cast.client, elsewhere).flags(SYN).build(),
            aside,
            ping(cast, reply, 40),
            ping(cast, [request(cast)[0], 1], 40),
            cut_short,
        ];
        for hook in FORWARD {
            let mut node = node(cast);
            for (n, frame) in frames.iter().enumerate() {
                assert!(node.pass(hook, frame) == frame, "{cast} {hook:?} {n}");
            }
            assert_eq!(node.reason(Reason::AnswerOther), 0);
            // Once no split is there any more.
            node.answer_at(&[]);
            let frame = ping(cast, request(cast), 40);
            assert!(node.pass(hook, &frame) == frame, "{cast} {hook:?}");
        }
        // Nor is anything answered that the agent was not told to.
        let mut node = Node::with(&Settings { flows: 1024, ..settings() });
        node.reviews(cast, Protocol::Tcp, [1, 0]);
        node.answer_at(&[cast.vip.ip()]);
        for hook in FORWARD {
            let syn = Packet::tcp(cast.client, with_port(cast.vip, 22)).flags(SYN).build();
            for frame in [ping(cast, request(cast), 40), syn] {
                assert!(node.pass(hook, &frame) == frame, "{cast} {hook:?}");
            }
        }
    }
}
