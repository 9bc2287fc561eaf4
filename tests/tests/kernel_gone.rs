//! Flows whose endpoint is gone, under BPF_PROG_TEST_RUN: both sides are told, and nobody else.

mod kernel;

use std::net::{IpAddr, SocketAddr};

use kernel::talk::{CLIENT, ENDPOINT, Talk};
use kernel::{FORWARD, Hook, Node, Verdict, casts, split};
use probe_common::reason::Reason;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{
    ACK, FIN, Packet, RST, SYN, checksums_ok, payload, tcp_flags, tcp_seq_ack, tuple,
};

#[test]
fn packets_of_a_flow_whose_endpoint_is_gone_are_rejected() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        for live in [true, false] {
            let mut talk = Talk::new(cast, hook, Protocol::Tcp);
            let endpoint = if live { talk.open() } else { talk.syn() };
            let split = talk.split.clone();
            talk.node.set_gone(&split, endpoint, true);
            let what = format!("{cast} {hook:?}, live: {live}");

            let data = Packet::tcp(cast.client, cast.vip).flags(ACK).seq(CLIENT).ack(ENDPOINT);
            let (verdict, out) = talk.node.run(hook, &data.payload(b"hello").build());
            assert_eq!(verdict, Verdict::Answer, "{what}");
            assert!(is_reset(out, (cast.vip, cast.client), (ENDPOINT, 0)), "{what}: {out:02x?}");

            let more = Packet::tcp(endpoint, cast.client).flags(ACK).seq(ENDPOINT).ack(CLIENT);
            let (verdict, out) = talk.node.run(Hook::Reply, &more.payload(b"more").build());
            assert_eq!(verdict, Verdict::Pass, "{what}: the client is told");
            let numbers = (ENDPOINT, CLIENT);
            assert!(is_reset(out, (cast.vip, cast.client), numbers), "{what}: {out:02x?}");
            assert_eq!(talk.node.reason(Reason::RejectEndpointGone), 2, "{what}");

            let virtual_frame = Packet::tcp(cast.client, cast.vip).flags(ACK).seq(CLIENT).build();
            let out = talk.node.pass(Hook::XdpVirtual, &virtual_frame);
            assert!(out == virtual_frame, "{what}: left to TC");

            talk.node.forget();
            talk.shift();
            assert_eq!(talk.syn(), cast.v2[0], "{what}: once its entries are deleted");
        }
    }
}

#[test]
fn a_syn_or_a_datagram_on_a_flow_whose_endpoint_is_gone_begins_a_new_one() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        for (protocol, is_new) in
            [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| [(p, false), (p, true)])
        {
            let what = format!("{cast} {hook:?} {protocol:?}, new: {is_new}");
            let mut talk = Talk { is_new, ..Talk::new(cast, hook, protocol) };
            let endpoint = talk.open();
            let old = talk.split.clone();
            talk.shift();
            talk.node.set_gone(&old, endpoint, true);
            if protocol == Protocol::Tcp {
                // That weir has reset the flow makes no difference.
                let data = Packet::tcp(cast.client, cast.vip).flags(ACK).seq(CLIENT).build();
                let wanted = if hook.counts() { Verdict::Answer } else { Verdict::Pass };
                assert_eq!(talk.node.run(hook, &data).0, wanted, "{what}: its own segments");
            }
            assert_eq!(talk.first(), cast.v2[0], "{what}");
            assert_eq!(talk.node.entries(), [0, 1], "{what}: nothing is left of the old flow");
            assert_eq!(talk.node.reason(Reason::FlowReused), 1, "{what}");
            let answer = match protocol {
                Protocol::Tcp => Packet::tcp(endpoint, cast.client).flags(ACK).seq(ENDPOINT),
                Protocol::Udp => Packet::udp(endpoint, cast.client),
            };
            let late = answer.payload(b"late").build();
            assert!(talk.node.pass(Hook::Reply, &late) == late, "{what}: of no known flow");
            assert_eq!(talk.node.reason(Reason::PassReplyUntracked), 1, "{what}");
            talk.is_new = false;
            assert_eq!(talk.open(), cast.v2[0], "{what}: it goes on");
        }
    }
}

#[test]
fn segments_that_speak_of_a_connection_begin_none_when_its_endpoint_is_gone() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        for is_new in [true, false] {
            let mut talk = Talk { is_new, ..Talk::new(cast, hook, Protocol::Tcp) };
            let endpoint = talk.open();
            let split = talk.split.clone();
            talk.node.set_gone(&split, endpoint, true);
            let entries = talk.node.entries();
            for flags in [0, ACK, FIN, FIN | ACK, SYN | ACK, SYN | FIN, RST, SYN | RST] {
                let what = format!("{cast} {hook:?} {flags:#x}, new: {is_new}");
                let sent = Packet::tcp(cast.client, cast.vip).flags(flags).seq(CLIENT).build();
                let reset = flags & RST != 0;
                let wanted = if reset { Verdict::Drop } else { Verdict::Answer };
                assert_eq!(talk.node.run(hook, &sent).0, wanted, "{what}");
                assert_eq!(talk.node.entries(), entries, "{what}");
            }
        }
    }
}

#[test]
fn datagrams_of_an_endpoint_that_is_gone_are_dropped_until_the_client_goes_on() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        let mut talk = Talk::new(cast, hook, Protocol::Udp);
        let endpoint = talk.open();
        let split = talk.split.clone();
        talk.node.set_gone(&split, endpoint, true);
        let reply = Packet::udp(endpoint, cast.client).payload(b"late").build();
        assert_eq!(talk.node.run(Hook::Reply, &reply).0, Verdict::Drop, "{cast} {hook:?}");
        assert_eq!(talk.node.reason(Reason::RejectEndpointGone), 1, "{cast} {hook:?}");
        talk.node.set_gone(&split, endpoint, false);
        assert_eq!(talk.send(|p| p), endpoint, "{cast} {hook:?}: it is back");
    }
}

/// Addresses that are not those of one host: whoever got an answer to them would not have asked.
const NOBODY: [&str; 7] =
    ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"];

#[test]
fn what_was_not_sent_by_one_host_is_not_answered() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut node = Node::new();
            let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &[])];
            node.publish(&split("none", (cast.vip, protocol), Affinity::None, &subsets));
            let packet = |from| match protocol {
                Protocol::Tcp => Packet::tcp(from, cast.vip),
                Protocol::Udp => Packet::udp(from, cast.vip),
            };
            let mut frames = Vec::new();
            for ip in NOBODY.map(|ip| ip.parse::<IpAddr>().expect("an address")) {
                if ip.is_ipv4() == cast.vip.is_ipv4() {
                    frames.push(packet(SocketAddr::new(ip, 41_000)).build());
                }
            }
            for frame in &frames {
                let (verdict, _) = node.run(hook, frame);
                assert_eq!(verdict, Verdict::Drop, "{cast} {hook:?} {protocol:?} {frame:02x?}");
            }
            assert_eq!(node.reason(Reason::RejectSilent), frames.len() as u64, "{cast} {hook:?}");
            let (verdict, _) = node.run(hook, &packet(cast.client).build());
            assert_eq!(verdict, Verdict::Answer, "{cast} {hook:?} {protocol:?}: an honest one");
        }
    }
}

/// Whether a frame is a RST between these, with these numbers and nothing more.
fn is_reset(out: &[u8], (from, to): (SocketAddr, SocketAddr), (seq, ack): (u32, u32)) -> bool {
    let flags = tcp_flags(out).unwrap_or(0);
    checksums_ok(out)
        && tuple(out).is_some_and(|t| (t.source, t.destination) == (from, to))
        && flags & !ACK == RST
        && payload(out) == Some(&[])
        && tcp_seq_ack(out) == Some((seq, ack))
}
