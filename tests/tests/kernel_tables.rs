//! The entries of the flow tables, under BPF_PROG_TEST_RUN: lost, foreign, and in
//! each other's way.

mod kernel;

use std::net::SocketAddr;

use kernel::talk::Talk;
use kernel::{
    Cast, FORWARD, Hook, Node, UDP_IDLE, casts, client_number, settings, split, with_port,
};
use probe_common::filter::same_bit;
use probe_common::reason::Reason;
use weir::datapath::{Clock, Settings};
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN, tuple};

#[test]
fn an_entry_that_was_lost_is_made_anew_by_the_other_direction() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let endpoint = talk.open();
        // Between two ticks: what happens once a tick happens with the next packet.
        talk.node.let_pass(2);
        talk.node.lose_one_direction();
        talk.shift();
        talk.reply(endpoint, |p| p);
        talk.send(|p| p);
        assert_eq!(talk.node.entries(), [2, 0], "{cast}");
        assert_eq!(talk.send(|p| p), endpoint, "{cast}: keeps its endpoint");
    }
}

#[test]
fn an_entry_that_is_made_anew_does_not_beat_a_new_flow_of_the_client() {
    for (cast, protocol) in
        casts().iter().flat_map(|cast| [Protocol::Tcp, Protocol::Udp].map(|p| (cast, p)))
    {
        for hook in FORWARD {
            let what = format!("{cast} {hook:?} {protocol:?}");
            let mut talk = Talk::new(cast, hook, protocol);
            let old = talk.open();
            talk.node.let_pass(2);
            talk.node.lose_one_direction();
            talk.shift();
            let new = talk.first();
            assert_eq!(new, cast.v2[0], "{what}");
            // The old endpoint is not done yet, and has the client's packets sent to it again.
            talk.reply(old, |p| p);
            assert_eq!(talk.node.entries(), [2, 1], "{what}");
            assert_eq!(talk.first(), new, "{what}: the first packet once more");
            match protocol {
                Protocol::Tcp => talk.syn_ack(new),
                Protocol::Udp => talk.reply(new, |p| p),
            }
            for n in 0..3 {
                assert_eq!(talk.send(|p| p), new, "{what}: packet {n}");
                talk.node.let_pass(1);
            }
            assert_eq!(talk.node.entries(), [2, 0], "{what}");
        }
    }
}

#[test]
fn a_client_that_nobody_answers_keeps_its_endpoint_while_others_come_and_go() {
    for cast in &casts() {
        // 1024 places for new flows.
        let node = Node::with(&Settings { flows: 1024, ..settings() });
        let mut talk = Talk::on(node, cast, Hook::Tc, Protocol::Udp);
        let endpoint = talk.first();
        talk.shift();
        for second in 0..12 {
            talk.node.let_pass(1);
            for n in 0..256 {
                let other = client_number(cast, 1 + second * 256 + n);
                let first = Packet::udp(other, cast.vip).payload(b"question").build();
                talk.node.pass(Hook::Tc, &first);
            }
            assert_eq!(talk.send(|p| p), endpoint, "{cast}: after {second} seconds");
        }
    }
}

#[test]
fn an_entry_under_a_foreign_tag_is_not_followed() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        talk.open();
        talk.node.each_v4(|_, entry| entry.tag ^= 1);
        talk.node.each_v6(|_, entry| entry.tag ^= 1);
        talk.shift();
        assert_eq!(talk.send(|p| p), cast.v2[0], "{cast}: as of no known flow");
        assert!(talk.node.reason(Reason::EntryTorn) >= 1, "{cast}");
    }
}

#[test]
fn two_services_with_one_endpoint_keep_their_replies_apart() {
    for (cast, live) in casts().iter().flat_map(|cast| [false, true].map(|live| (cast, live))) {
        let mut node = Node::new();
        let vips = [9080, 9090, 9091].map(|port| with_port(cast.vip, port));
        for (name, vip) in ["one", "two", "three"].iter().zip(vips) {
            let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
            node.publish(&split(name, (vip, Protocol::Tcp), Affinity::None, &subsets));
        }
        let mut seen = Vec::new();
        for vip in vips {
            let syn = Packet::tcp(cast.client, vip).flags(SYN).seq(1).build();
            let there = tuple(node.pass(Hook::Tc, &syn)).expect("a tuple");
            let back = Packet::tcp(there.destination, there.source);
            node.pass(Hook::Reply, &back.clone().flags(SYN | ACK).seq(1).ack(2).build());
            if live {
                let ack = Packet::tcp(cast.client, vip).flags(ACK).seq(2).ack(2).build();
                node.pass(Hook::Tc, &ack);
            }
            assert!(!seen.contains(&there.source), "{cast}: {} twice", there.source);
            seen.push(there.source);
        }
        for (vip, from) in vips.iter().zip(&seen) {
            let reply = Packet::tcp(cast.v2[0], *from).flags(ACK).seq(2).ack(2).payload(b"r");
            let out = node.pass(Hook::Reply, &reply.build());
            let wanted = Packet::tcp(*vip, cast.client).flags(ACK).seq(2).ack(2).payload(b"r");
            assert!(out == wanted.build(), "{cast}, live: {live}, {vip}");
        }
        assert_eq!(node.reason(Reason::FlowPortChanged), 2, "{cast}, live: {live}");
    }
}

#[test]
fn a_flow_whose_client_alone_goes_on_keeps_its_replies() {
    for cast in &casts() {
        let mut node = Node::new();
        let [one, two] = [9080, 9090].map(|port| with_port(cast.vip, port));
        for (name, vip) in [("one", one), ("two", two)] {
            let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
            node.publish(&split(name, (vip, Protocol::Udp), Affinity::None, &subsets));
        }
        let sent = |to| Packet::udp(cast.client, to).payload(b"sample").build();
        let answer = Packet::udp(cast.v2[0], cast.client).payload(b"answer").build();
        node.pass(Hook::Tc, &sent(one));
        node.pass(Hook::Reply, &answer);
        for _ in 0..4 {
            // Each time less than the limit by some ticks, should some pass meanwhile.
            node.let_pass(UDP_IDLE / 3);
            node.pass(Hook::Tc, &sent(one));
        }
        assert_eq!(node.entries(), [2, 0], "{cast}");
        let there = tuple(node.pass(Hook::Tc, &sent(two))).expect("a tuple");
        assert_ne!(there.source, cast.client, "{cast}: another port for the other service");
        let out = node.pass(Hook::Reply, &answer);
        assert!(out == Packet::udp(one, cast.client).payload(b"answer").build(), "{cast}");
    }
}

/// What happens to a connection before its client port is used for another service with the same
/// endpoint, and whether its replies go on to be its own.
const BEFORE: &[(&str, u8, u8, bool)] = &[
    ("nothing", ACK, ACK, true),
    ("its client has sent all it has", FIN | ACK, ACK, true),
    ("its endpoint has sent all it has", ACK, FIN | ACK, true),
    ("both have sent all they have", FIN | ACK, FIN | ACK, false),
    ("its endpoint has reset it", ACK, RST, false),
];

#[test]
fn a_connection_closed_by_one_side_alone_keeps_its_replies() {
    for (cast, (what, client, endpoint, keeps)) in
        casts().iter().flat_map(|cast| BEFORE.iter().map(move |case| (cast, *case)))
    {
        let mut node = Node::new();
        let [one, two] = [9080, 9090].map(|port| with_port(cast.vip, port));
        for (name, vip) in [("one", one), ("two", two)] {
            let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
            node.publish(&split(name, (vip, Protocol::Tcp), Affinity::None, &subsets));
        }
        let sent = |to, flags| Packet::tcp(cast.client, to).flags(flags).seq(2).ack(2).build();
        let reply = |flags| Packet::tcp(cast.v2[0], cast.client).flags(flags).seq(2).ack(2).build();
        node.pass(Hook::Tc, &Packet::tcp(cast.client, one).flags(SYN).seq(1).build());
        let accepted = Packet::tcp(cast.v2[0], cast.client).flags(SYN | ACK).seq(1).ack(2);
        node.pass(Hook::Reply, &accepted.build());
        node.pass(Hook::Tc, &sent(one, ACK));
        node.pass(Hook::Tc, &sent(one, client));
        node.pass(Hook::Reply, &reply(endpoint));

        let there = tuple(node.pass(Hook::Tc, &Packet::tcp(cast.client, two).build())).unwrap();
        assert_eq!(there.source != cast.client, keeps, "{cast}, {what}: the other one's port");
        let back = tuple(node.pass(Hook::Reply, &reply(ACK))).expect("a tuple");
        let service = if keeps { one } else { two };
        assert_eq!((back.source, back.destination), (service, cast.client), "{cast}, {what}");
    }
}

#[test]
fn an_endpoint_that_is_its_own_client_gets_its_replies() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let client = with_port(cast.v2[0], 45_001);
        for round in 0..3 {
            let question = Packet::udp(client, cast.vip).payload(b"q").build();
            let there = tuple(node.pass(hook, &question)).expect("a tuple");
            assert_eq!(there.destination, cast.v2[0]);
            assert_eq!(there.source.ip(), cast.vip.ip(), "{cast} {hook:?}: not from itself");
            let answer = Packet::udp(there.destination, there.source).payload(b"a").build();
            let out = node.pass(hook, &answer);
            let wanted = Packet::udp(cast.vip, client).payload(b"a").build();
            assert!(out == wanted, "{cast} {hook:?}, round {round}");
        }
        assert_eq!(node.entries(), [2, 0], "{cast} {hook:?}: it needs entries of its own");
    }
}

#[test]
fn many_connections_of_an_endpoint_to_itself_are_made_at_a_time_and_again() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Tcp), Affinity::None, &subsets));
        // There are a thousand ports for their replies: those of one round serve another.
        for round in 0..40u16 {
            let ports = 10_000 + 100 * round..10_100 + 100 * round;
            let clients: Vec<SocketAddr> = ports.map(|port| with_port(cast.v2[0], port)).collect();
            let what = format!("{cast} {hook:?}, round {round}");
            connect_to_itself(&mut node, cast, hook, &clients, &what);
        }
    }
}

#[test]
fn a_connection_of_an_endpoint_to_itself_gets_its_replies_after_one_that_was_reset() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2)];
        node.publish(&split("self", (cast.vip, Protocol::Tcp), Affinity::None, &subsets));
        let reply_port = |port: u16| same_bit(port.to_be(), cast.vip.port().to_be(), 0);
        let first = 10_000;
        let second = (first + 1..).find(|&port| reply_port(port) == reply_port(first));
        let clients = [first, second.expect("one of 1008")].map(|port| with_port(cast.v2[0], port));
        let [first, second] = clients.map(|client| {
            move |flags, seq| Packet::tcp(client, cast.vip).flags(flags).seq(seq).build()
        });
        node.pass(hook, &first(SYN, 1));
        node.pass(hook, &first(RST, 2));
        let there = tuple(node.pass(hook, &second(SYN, 1))).expect("a tuple");
        let back = Packet::tcp(there.destination, there.source).flags(SYN | ACK).seq(1).ack(2);
        let back = tuple(node.pass(hook, &back.build())).expect("a tuple");
        assert_eq!((back.source, back.destination), (cast.vip, clients[1]), "{cast} {hook:?}");
    }
}

/// Such a client's packets would be taken for replies to the other connection.
#[test]
fn a_connection_of_an_endpoint_to_itself_gets_no_port_of_a_client_at_its_own_port() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v2[..1])];
        node.publish(&split("self", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let endpoint = cast.v2[0];
        let service = cast.vip.port().to_be();
        let draws_the_service = |&port: &u16| same_bit(port.to_be(), service, 0) == service;
        let port = (10_000..).find(draws_the_service).expect("one of 1008");
        let [first, second] = [endpoint, with_port(endpoint, port)].map(|client| {
            let packet = Packet::udp(client, cast.vip).build();
            tuple(node.pass(hook, &packet)).expect("a tuple")
        });
        let what = format!("{cast} {hook:?}");
        assert_eq!([first.destination, second.destination], [endpoint; 2], "{what}");
        assert_ne!(second.source, cast.vip, "{what}");
        for (client, there) in [(endpoint, first), (with_port(endpoint, port), second)] {
            let reply = Packet::udp(there.destination, there.source).build();
            let back = tuple(node.pass(hook, &reply)).expect("a tuple");
            assert_eq!((back.source, back.destination), (cast.vip, client), "{what}");
        }
    }
}

/// Makes connections from an endpoint to itself, all at a time, and closes them.
fn connect_to_itself(node: &mut Node, cast: &Cast, hook: Hook, clients: &[SocketAddr], what: &str) {
    let mut sources = Vec::new();
    for &client in clients {
        let syn = Packet::tcp(client, cast.vip).flags(SYN).seq(1).build();
        let there = tuple(node.pass(hook, &syn)).expect("a tuple");
        assert_eq!(there.destination, cast.v2[0]);
        assert!(!sources.contains(&there.source), "{what}: {} twice", there.source);
        sources.push(there.source);
    }
    for (replies, sends, seq) in [(SYN | ACK, ACK, 1), (ACK, ACK, 2), (FIN | ACK, FIN | ACK, 2)] {
        for (&client, &source) in clients.iter().zip(&sources) {
            let reply = |from, to| Packet::tcp(from, to).flags(replies).seq(seq).ack(2).build();
            let out = node.pass(hook, &reply(cast.v2[0], source));
            assert!(out == reply(cast.vip, client), "{what}: reply to {client}, {replies:#x}");
            let sent = |from, to| Packet::tcp(from, to).flags(sends).seq(2).ack(2).build();
            let out = node.pass(hook, &sent(client, cast.vip));
            assert!(out == sent(source, cast.v2[0]), "{what}: from {client}, {sends:#x}");
        }
    }
}

#[test]
fn flow_entries_carry_the_tick_that_user_space_computes() {
    let clock = Clock::new();
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let before = clock.now();
        talk.syn();
        // Jiffies do not begin exactly when the clock does.
        let (low, high) = (before.wrapping_sub(1), clock.now().wrapping_add(1));
        let found = talk.node.flows();
        let [flow] = found[..] else { panic!("one flow, not {found:?}") };
        assert_eq!((flow.client, flow.service), (cast.client, cast.vip));
        for tick in [flow.seen, flow.created] {
            let within = tick.wrapping_sub(low) <= high.wrapping_sub(low);
            assert!(within, "{cast}: tick {tick} is not from {low} to {high}");
        }
    }
}
