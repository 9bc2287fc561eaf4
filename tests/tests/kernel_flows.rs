//! Flows over their life, under BPF_PROG_TEST_RUN: what ends them, what does
//! not, and what is counted.

mod kernel;

use std::net::SocketAddr;

use kernel::{Cast, FORWARD, Hook, Node, TCP_IDLE, UDP_IDLE, Verdict, casts, split, with_port};
use probe_common::map::SubsetStats;
use probe_common::reason::Reason;
use weir::datapath::Settings;
use weir::explain::explain;
use weir::model::{Affinity, Protocol, Split};
use weir_tests::packet::{ACK, FIN, Packet, RST, Rng, SYN, checksums_ok, tuple};

/// Where a frame that came out goes.
#[track_caller]
fn destination(out: &[u8]) -> SocketAddr {
    assert!(checksums_ok(out), "checksum of {out:02x?}");
    tuple(out).expect("a tuple").destination
}

/// A client and an endpoint that talk through a node.
struct Talk<'a> {
    node: Node,
    cast: &'a Cast,
    hook: Hook,
    protocol: Protocol,
    split: Split,
}

/// Sequence numbers of the first byte behind the SYN.
const CLIENT: u32 = 0xffff_fff0;
const ENDPOINT: u32 = 5000;

impl<'a> Talk<'a> {
    /// All flows go to v1, until [`Talk::shift`].
    fn new(cast: &'a Cast, hook: Hook, protocol: Protocol) -> Self {
        let mut node = Node::new();
        let split = node.reviews(cast, protocol, [1, 0]);
        Self { node, cast, hook, protocol, split }
    }

    /// All new flows go to v2 from now on.
    fn shift(&mut self) {
        self.split = self.node.reviews(self.cast, self.protocol, [0, 1]);
    }

    /// The client sends; where it goes.
    fn send(&mut self, change: impl Fn(Packet) -> Packet) -> SocketAddr {
        let base = match self.protocol {
            Protocol::Tcp => {
                Packet::tcp(self.cast.client, self.cast.vip).flags(ACK).seq(CLIENT).ack(ENDPOINT)
            }
            Protocol::Udp => Packet::udp(self.cast.client, self.cast.vip).payload(b"question"),
        };
        destination(self.node.pass(self.hook, &change(base).build()))
    }

    fn syn(&mut self) -> SocketAddr {
        self.send(|p| p.flags(SYN).seq(CLIENT.wrapping_sub(1)).ack(0))
    }

    /// The endpoint sends; the client gets it from the service.
    fn reply(&mut self, from: SocketAddr, change: impl Fn(Packet) -> Packet) {
        let base = match self.protocol {
            Protocol::Tcp => {
                Packet::tcp(from, self.cast.client).flags(ACK).seq(ENDPOINT).ack(CLIENT)
            }
            Protocol::Udp => Packet::udp(from, self.cast.client).payload(b"answer"),
        };
        let out = self.node.pass(Hook::Reply, &change(base).build());
        let seen = tuple(out).expect("a tuple");
        assert_eq!((seen.source, seen.destination), (self.cast.vip, self.cast.client), "reply");
        assert!(checksums_ok(out), "checksum of a reply");
    }

    fn syn_ack(&mut self, from: SocketAddr) {
        self.reply(from, |p| p.flags(SYN | ACK).seq(ENDPOINT - 1));
    }

    /// Opens a flow and has both sides speak; its endpoint.
    fn open(&mut self) -> SocketAddr {
        let endpoint = self.first();
        if self.protocol == Protocol::Tcp {
            self.syn_ack(endpoint);
        } else {
            self.reply(endpoint, |p| p);
        }
        assert_eq!(self.send(|p| p), endpoint, "the packet that completes the handshake");
        assert_eq!(self.node.entries(), [2, 0], "a live flow");
        endpoint
    }

    /// What may be the first packet of a flow.
    fn first(&mut self) -> SocketAddr {
        match self.protocol {
            Protocol::Tcp => self.syn(),
            Protocol::Udp => self.send(|p| p),
        }
    }

    fn subset(&mut self, name: &str) -> SubsetStats {
        let split = self.split.clone();
        self.node.subset(&split, name)
    }
}

/// Something that happens to a flow.
struct Event {
    name: &'static str,
    protocol: Protocol,
    /// Whether the handshake is complete before.
    live: bool,
    happen: fn(&mut Talk<'_>, SocketAddr),
    /// Whether the next SYN (or datagram) is a flow of its own.
    ends: bool,
}

const fn event(
    protocol: Protocol,
    live: bool,
    name: &'static str,
    ends: bool,
    happen: fn(&mut Talk<'_>, SocketAddr),
) -> Event {
    Event { name, protocol, live, happen, ends }
}

const FAR: u32 = 1 << 24;

fn events() -> Vec<Event> {
    use Protocol::{Tcp, Udp};
    vec![
        event(Tcp, false, "nothing: the SYN is sent again", false, |_, _| {}),
        event(Tcp, false, "a SYN-ACK", false, |t, e| t.syn_ack(e)),
        event(Tcp, false, "the endpoint refuses", true, |t, e| {
            t.reply(e, |p| p.flags(RST | ACK).seq(0));
        }),
        event(Tcp, false, "a refusal of another SYN", false, |t, e| {
            t.reply(e, |p| p.flags(RST | ACK).seq(0).ack(CLIENT.wrapping_add(FAR)));
        }),
        event(Tcp, false, "the client gives up", true, |t, e| {
            t.syn_ack(e);
            t.send(|p| p.flags(RST));
        }),
        event(Tcp, false, "a RST with a guessed number", false, |t, e| {
            t.syn_ack(e);
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_add(FAR)));
        }),
        event(Tcp, false, "silence beyond the limit", true, |t, _| t.node.let_pass(TCP_IDLE * 2)),
        event(Tcp, true, "nothing", false, |_, _| {}),
        event(Tcp, true, "data", false, |t, e| {
            t.send(|p| p.payload(b"x"));
            t.reply(e, |p| p.payload(b"y"));
        }),
        event(Tcp, true, "FIN of the client", true, |t, _| _ = t.send(|p| p.flags(FIN | ACK))),
        event(Tcp, true, "FIN of the endpoint", true, |t, e| t.reply(e, |p| p.flags(FIN | ACK))),
        event(Tcp, true, "RST of the client", true, |t, _| _ = t.send(|p| p.flags(RST))),
        event(Tcp, true, "RST of the endpoint", true, |t, e| t.reply(e, |p| p.flags(RST | ACK))),
        event(Tcp, true, "simultaneous close", true, |t, e| {
            t.send(|p| p.flags(FIN | ACK));
            t.reply(e, |p| p.flags(FIN | ACK));
        }),
        event(Tcp, true, "RST of the client, far before the window", false, |t, _| {
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_sub(FAR)));
        }),
        event(Tcp, true, "RST of the client, far behind the window", false, |t, _| {
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_add(FAR)));
        }),
        event(Tcp, true, "FIN of the client, out of the window", false, |t, _| {
            t.send(|p| p.flags(FIN | ACK).seq(CLIENT.wrapping_add(FAR)));
        }),
        event(Tcp, true, "RST of the endpoint, out of the window", false, |t, e| {
            t.reply(e, |p| p.flags(RST).seq(ENDPOINT + FAR));
        }),
        event(Tcp, true, "FIN of the endpoint, out of the window", false, |t, e| {
            t.reply(e, |p| p.flags(FIN | ACK).seq(ENDPOINT + FAR));
        }),
        event(Tcp, true, "numbers out of the window, then a RST there", false, |t, _| {
            t.send(|p| p.seq(CLIENT.wrapping_add(FAR)).payload(b"moves nothing"));
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_add(FAR + 13)));
        }),
        event(Tcp, true, "RST where 64 MB of data have led", true, |t, _| {
            for n in 0..1024 {
                t.send(|p| p.seq(CLIENT.wrapping_add(n << 16)));
            }
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_add(1024 << 16)));
        }),
        event(Tcp, true, "a RST that was a guess: the client goes on", false, |t, _| {
            t.send(|p| p.flags(RST).seq(CLIENT.wrapping_add(1000)));
            t.send(|p| p.payload(b"still here"));
        }),
        event(Tcp, true, "silence beyond the limit", true, |t, _| t.node.let_pass(TCP_IDLE * 2)),
        event(Tcp, true, "silence within the limit", false, |t, _| t.node.let_pass(TCP_IDLE / 5)),
        event(Tcp, true, "a silent client, and an endpoint that is not", false, |t, e| {
            t.node.let_pass(TCP_IDLE * 2);
            t.reply(e, |p| p.payload(b"news"));
        }),
        event(Tcp, true, "keep-alives after an hour each", false, |t, e| {
            for _ in 0..3 {
                t.node.let_pass(3600);
                t.send(|p| p.seq(CLIENT.wrapping_sub(1)));
                t.reply(e, |p| p);
            }
        }),
        event(Udp, false, "nothing", false, |_, _| {}),
        event(Udp, false, "an answer", false, |t, e| t.reply(e, |p| p)),
        event(Udp, false, "silence beyond the limit", true, |t, _| t.node.let_pass(UDP_IDLE * 2)),
        event(Udp, true, "nothing", false, |_, _| {}),
        event(Udp, true, "silence beyond the limit", true, |t, _| t.node.let_pass(UDP_IDLE * 2)),
        event(Udp, true, "silence within the limit", false, |t, _| t.node.let_pass(UDP_IDLE / 5)),
        event(Udp, true, "a silent client, and an endpoint that is not", false, |t, e| {
            t.node.let_pass(UDP_IDLE * 2);
            t.reply(e, |p| p);
        }),
    ]
}

#[test]
fn a_tuple_is_a_new_flow_when_its_old_one_is_over_and_only_then() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut talk = Talk::new(cast, hook, protocol);
            for event in events().iter().filter(|event| event.protocol == protocol) {
                let what = format!("{cast} {hook:?} {protocol:?}, {}", event.name);
                talk.node.forget();
                talk.split = talk.node.reviews(cast, protocol, [1, 0]);
                let old = if event.live { talk.open() } else { talk.first() };
                assert!(cast.v1.contains(&old), "{what}: {old}");
                (event.happen)(&mut talk, old);
                talk.shift();
                let now = talk.first();
                let wanted = if event.ends { cast.v2[0] } else { old };
                assert_eq!(now, wanted, "{what}: first packet after it");
                if event.ends {
                    assert_eq!(talk.node.entries()[0], 0, "{what}: the old flow is gone");
                    talk.open();
                    assert_eq!(talk.send(|p| p), cast.v2[0], "{what}: the new flow goes on");
                }
            }
        }
    }
}

#[test]
fn another_syn_before_the_handshake_is_complete_follows_todays_weights() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut talk = Talk::new(cast, hook, Protocol::Tcp);
        let old = talk.syn();
        talk.shift();
        assert_eq!(talk.syn(), old, "{cast} {hook:?}: the same SYN, sent again");
        let other = talk.send(|p| p.flags(SYN).seq(77).ack(0));
        assert_eq!(other, cast.v2[0], "{cast} {hook:?}: a SYN with another number");
    }
}

#[test]
fn a_client_port_used_a_thousand_times_follows_the_weights_each_time() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let mut old = talk.open();
        for n in 0..1000u32 {
            match n % 3 {
                0 => _ = talk.send(|p| p.flags(RST)),
                1 => {
                    talk.send(|p| p.flags(FIN | ACK));
                    talk.reply(old, |p| p.flags(FIN | ACK));
                }
                _ => talk.node.let_pass(TCP_IDLE * 2),
            }
            let weights = if n % 2 == 0 { [0, 1] } else { [1, 0] };
            talk.split = talk.node.reviews(cast, Protocol::Tcp, weights);
            let new = talk.open();
            assert_eq!(cast.v2.contains(&new), n % 2 == 0, "{cast}: connection {n} went to {new}");
            old = new;
        }
        assert_eq!(talk.node.reason(Reason::FlowReused), 1000, "{cast}");
    }
}

#[test]
fn a_flow_that_is_first_seen_in_its_middle_is_adopted() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut talk = Talk::new(cast, hook, Protocol::Tcp);
        talk.split = talk.node.reviews(cast, Protocol::Tcp, [50, 50]);
        let explained = explain(kernel::SEED, &talk.split, cast.client).unwrap().endpoint.unwrap();
        let endpoint = talk.send(|p| p.payload(b"middle"));
        assert_eq!(endpoint, explained, "{cast} {hook:?}");
        assert_eq!(talk.node.reason(Reason::FlowAdopted), 1);
        talk.reply(endpoint, |p| p.payload(b"answer"));
        let weights = if cast.v2.contains(&endpoint) { [1, 0] } else { [0, 1] };
        talk.split = talk.node.reviews(cast, Protocol::Tcp, weights);
        assert_eq!(talk.send(|p| p), endpoint, "{cast} {hook:?}: keeps its endpoint");
        assert_eq!(talk.node.entries(), [2, 0], "{cast} {hook:?}: both sides have spoken");
    }
}

#[test]
fn a_reset_of_no_known_flow_leaves_no_entry() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut talk = Talk::new(cast, hook, Protocol::Tcp);
        let to = talk.send(|p| p.flags(RST));
        assert!(cast.v1.contains(&to), "{cast} {hook:?}: {to}");
        assert_eq!(talk.node.entries(), [0, 0], "{cast} {hook:?}");
        assert_eq!(talk.node.reason(Reason::PassNoFlowReset), 1, "{cast} {hook:?}");
    }
}

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
fn an_entry_under_a_foreign_tag_is_not_followed() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        talk.open();
        talk.node.each_v4(|_, _, entry| entry.tag ^= 1);
        talk.node.each_v6(|_, _, entry| entry.tag ^= 1);
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
        assert_eq!(node.entries(), [2, 0], "{cast} {hook:?}");
    }
}

#[test]
fn with_affinity_all_flows_of_a_client_go_to_one_endpoint() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 2] = [("v1", 50, &cast.v1), ("v2", 50, &cast.v2)];
        let affine = (cast.vip, Protocol::Tcp);
        let reviews = split("reviews", affine, Affinity::ClientIp, &subsets);
        node.publish(&reviews);
        let mut rng = Rng::new(7);
        let mut of_v2 = 0;
        for n in 0..100u16 {
            let client = client_number(cast, n);
            let wanted = explain(kernel::SEED, &reviews, client).unwrap().endpoint.unwrap();
            for _ in 0..20 {
                let client = with_port(client, 1 + rng.below(65_535) as u16);
                let syn = Packet::tcp(client, cast.vip).flags(SYN).build();
                assert_eq!(destination(node.pass(hook, &syn)), wanted, "{cast} {hook:?} {client}");
            }
            of_v2 += u32::from(cast.v2.contains(&wanted));
        }
        assert!((10..90).contains(&of_v2), "{cast} {hook:?}: {of_v2} of 100 clients on v2");
    }
}

/// Clients of many addresses.
fn client_number(cast: &Cast, n: u16) -> SocketAddr {
    let mut client = cast.client;
    match &mut client {
        SocketAddr::V4(v4) => {
            v4.set_ip((u32::from(std::net::Ipv4Addr::new(10, 7, 0, 0)) + u32::from(n)).into())
        }
        SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, _] = v6.ip().segments();
            v6.set_ip(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, n));
        }
    }
    client
}

#[test]
fn handshakes_and_ends_are_counted_by_subset() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut talk = Talk::new(cast, hook, Protocol::Tcp);
        let mut wanted = SubsetStats::default();
        // Not answered, and sent again.
        talk.syn();
        let endpoint = talk.syn();
        wanted.flows += 1;
        assert_eq!(talk.subset("v1"), wanted, "{cast} {hook:?}: not answered");
        // Refused, and refused again.
        talk.reply(endpoint, |p| p.flags(RST | ACK).seq(0));
        talk.reply(endpoint, |p| p.flags(RST | ACK).seq(0));
        wanted.refused += 1;
        assert_eq!(talk.subset("v1"), wanted, "{cast} {hook:?}: refused");
        // Completed; closed by both sides after 20 seconds.
        talk.node.forget();
        let endpoint = talk.open();
        wanted.flows += 1;
        wanted.completed += 1;
        assert_eq!(talk.subset("v1"), wanted, "{cast} {hook:?}: completed");
        talk.node.each_v4(|_, _, entry| entry.created = entry.created.wrapping_sub(20));
        talk.node.each_v6(|_, _, entry| entry.created = entry.created.wrapping_sub(20));
        talk.send(|p| p.flags(FIN | ACK));
        assert_eq!(talk.subset("v1"), wanted, "{cast} {hook:?}: half closed");
        talk.reply(endpoint, |p| p.flags(FIN | ACK));
        wanted.ended += 1;
        let ticks = talk.subset("v1").ended_ticks;
        assert!((20..=22).contains(&ticks), "{cast} {hook:?}: {ticks} ticks");
        wanted.ended_ticks = ticks;
        talk.send(|p| p.seq(CLIENT.wrapping_add(1)));
        talk.send(|p| p.flags(RST));
        assert_eq!(talk.subset("v1"), wanted, "{cast} {hook:?}: an end is counted once");
        // Reset by the endpoint.
        let endpoint = talk.open();
        talk.reply(endpoint, |p| p.flags(RST | ACK));
        let now = talk.subset("v1");
        assert_eq!(
            (now.flows, now.completed, now.refused, now.ended),
            (3, 2, 1, 2),
            "{cast} {hook:?}"
        );
        assert_eq!(talk.subset("v2"), SubsetStats::default(), "{cast} {hook:?}: v2");
    }
}

#[test]
fn packets_and_bytes_are_counted_by_endpoint_and_direction() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Xdp, Protocol::Udp);
        let endpoint = talk.open();
        let before = talk.node.endpoint(&talk.split.clone(), endpoint);
        for n in 1..=10 {
            talk.send(|p| p.payload(&[0; 100]));
            if n % 2 == 0 {
                talk.reply(endpoint, |p| p.payload(&[0; 50]));
            }
        }
        let after = talk.node.endpoint(&talk.split.clone(), endpoint);
        let headers = if cast.vip.is_ipv4() { 42 } else { 62 };
        assert_eq!(after.flows, 1, "{cast}");
        assert_eq!(after.forward_packets - before.forward_packets, 10, "{cast}");
        assert_eq!(after.forward_bytes - before.forward_bytes, 10 * (headers + 100), "{cast}");
        assert_eq!(after.reply_packets - before.reply_packets, 5, "{cast}");
        assert_eq!(after.reply_bytes - before.reply_bytes, 5 * (headers + 50), "{cast}");
        assert_eq!(talk.subset("v1").completed, 1, "{cast}: answered");
    }
}

#[test]
fn replies_of_no_known_flow_pass_and_are_counted() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Tcp);
        let reply = Packet::tcp(cast.v1[0], with_port(cast.client, 999)).flags(ACK).build();
        assert!(talk.node.pass(Hook::Reply, &reply) == reply, "{cast}");
        assert_eq!(talk.node.reason(Reason::PassReplyUntracked), 1, "{cast}");
    }
}

#[test]
fn a_full_table_delivers_nothing_to_a_wrong_endpoint() {
    for cast in &casts() {
        let mut node = Node::with(Settings { flows: 1024, ..Settings::default() });
        let reviews = node.reviews(cast, Protocol::Tcp, [50, 50]);
        for n in 0..20_000u16 {
            let client = with_port(client_number(cast, n / 1000), 1024 + n);
            let wanted = explain(kernel::SEED, &reviews, client).unwrap().endpoint.unwrap();
            let syn = Packet::tcp(client, cast.vip).flags(SYN).seq(1).build();
            assert_eq!(destination(node.pass(Hook::Tc, &syn)), wanted, "{cast}: SYN {n}");
            let syn_ack = Packet::tcp(wanted, client).flags(SYN | ACK).seq(1).ack(2).build();
            assert_eq!(tuple(node.pass(Hook::Reply, &syn_ack)).unwrap().source, cast.vip, "{n}");
            let ack = Packet::tcp(client, cast.vip).flags(ACK).seq(2).ack(2).build();
            assert_eq!(destination(node.pass(Hook::Tc, &ack)), wanted, "{cast}: ACK {n}");
        }
        let [live, pending] = node.entries();
        println!(
            "{cast}: 20,000 flows through a table for 1024: {live} entries live, {pending} pending"
        );
        assert!(live <= 2048 && pending <= 2048, "{live} {pending}");
    }
}

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
fn datagrams_of_a_flow_whose_endpoint_is_gone_are_rejected() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        let mut talk = Talk::new(cast, hook, Protocol::Udp);
        let endpoint = talk.open();
        let split = talk.split.clone();
        talk.node.set_gone(&split, endpoint, true);
        let sent = Packet::udp(cast.client, cast.vip).payload(b"question").build();
        let (verdict, out) = talk.node.run(hook, &sent);
        assert_eq!(verdict, Verdict::Answer, "{cast} {hook:?}");
        assert!(checksums_ok(out), "{cast} {hook:?}: {out:02x?}");
        let reply = Packet::udp(endpoint, cast.client).payload(b"late").build();
        assert_eq!(talk.node.run(Hook::Reply, &reply).0, Verdict::Drop, "{cast} {hook:?}");
        assert_eq!(talk.node.reason(Reason::RejectEndpointGone), 2, "{cast} {hook:?}");
        talk.node.set_gone(&split, endpoint, false);
        assert_eq!(talk.send(|p| p), endpoint, "{cast} {hook:?}: it is back");
    }
}

/// Whether a frame is a RST between these, with these numbers and nothing more.
fn is_reset(out: &[u8], (from, to): (SocketAddr, SocketAddr), (seq, ack): (u32, u32)) -> bool {
    let flags = weir_tests::packet::tcp_flags(out).unwrap_or(0);
    checksums_ok(out)
        && tuple(out).is_some_and(|t| (t.source, t.destination) == (from, to))
        && flags & !ACK == RST
        && weir_tests::packet::payload(out) == Some(&[])
        && weir_tests::packet::tcp_seq_ack(out) == Some((seq, ack))
}
