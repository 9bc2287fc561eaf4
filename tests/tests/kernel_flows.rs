//! Flows over their life, under BPF_PROG_TEST_RUN: how they begin, what ends
//! them, and what does not.

mod kernel;

use std::net::SocketAddr;
use std::time::Duration;

use kernel::talk::{CLIENT, ENDPOINT, Talk};
use kernel::{Cast, FORWARD, Hook, Node, TCP_IDLE, UDP_IDLE, casts, settings};
use probe_common::reason::Reason;
use weir::datapath::Settings;
use weir::explain::explain;
use weir::model::Protocol::{self, Tcp, Udp};
use weir_tests::packet::{ACK, FIN, RST, SYN};

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

/// Handshakes that are odd but legal.
fn odd_handshakes() -> Vec<Event> {
    vec![
        event(Tcp, false, "an answer to data in the SYN (Fast Open)", false, |t, e| {
            t.reply(e, |p| p.flags(SYN | ACK).seq(ENDPOINT - 1).ack(CLIENT.wrapping_add(1000)));
            t.send(|p| p.seq(CLIENT.wrapping_add(1000)));
            assert!(t.is_established());
        }),
        event(
            Tcp,
            false,
            "data of the endpoint before the client's ACK (Fast Open)",
            false,
            |t, e| {
                t.reply(e, |p| p.flags(SYN | ACK).seq(ENDPOINT - 1).ack(CLIENT.wrapping_add(1000)));
                t.reply(e, |p| p.ack(CLIENT.wrapping_add(1000)).payload(b"early answer"));
                t.send(|p| p.seq(CLIENT.wrapping_add(1000)).ack(ENDPOINT + 12));
                assert!(t.is_established());
            },
        ),
        event(Tcp, false, "an answer to the SYN alone, and the data again", false, |t, e| {
            t.syn_ack(e);
            t.send(|p| p.payload(&[7; 1000]));
            assert!(t.is_established());
        }),
        event(Tcp, false, "simultaneous open", false, |t, e| {
            t.reply(e, |p| p.flags(SYN).seq(ENDPOINT - 1).ack(0));
            t.send(|p| p.flags(SYN | ACK).seq(CLIENT.wrapping_sub(1)));
            t.syn_ack(e);
            t.send(|p| p.payload(b"x"));
            assert!(t.is_established());
        }),
    ]
}

fn events() -> Vec<Event> {
    vec![
        event(Tcp, false, "nothing: the SYN is sent again", false, |_, _| {}),
        event(Tcp, false, "a SYN-ACK", false, |t, e| t.syn_ack(e)),
        event(Tcp, false, "the endpoint rejects", true, |t, e| {
            t.reply(e, |p| p.flags(RST | ACK).seq(0));
        }),
        event(Tcp, false, "a rejection of another SYN", false, |t, e| {
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
        event(Tcp, false, "an ACK of another number than the endpoint's", false, |t, e| {
            t.syn_ack(e);
            for other in [ENDPOINT.wrapping_sub(1), ENDPOINT + FAR, 0] {
                t.send(|p| p.ack(other));
                assert!(!t.is_established(), "who acknowledges {other} has not seen the SYN-ACK");
            }
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
        event(Tcp, true, "a packet after silence beyond the limit", false, |t, e| {
            t.node.let_pass(TCP_IDLE * 2);
            t.shift();
            assert_eq!(t.send(|p| p.payload(b"x")), e, "goes on");
        }),
        event(Tcp, true, "a silent client, and an endpoint that is not", false, |t, e| {
            t.node.let_pass(TCP_IDLE * 2);
            t.reply(e, |p| p.payload(b"news"));
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
fn a_tuple_over_ipv4_is_a_new_flow_when_its_old_one_is_over_and_only_then() {
    check_events(&casts()[0]);
}

#[test]
fn a_tuple_over_ipv6_is_a_new_flow_when_its_old_one_is_over_and_only_then() {
    check_events(&casts()[1]);
}

fn check_events(cast: &Cast) {
    for hook in FORWARD {
        for (protocol, is_new) in [(Tcp, false), (Tcp, true), (Udp, false), (Udp, true)] {
            let mut talk = Talk { is_new, ..Talk::new(cast, hook, protocol) };
            for event in
                events().iter().chain(&odd_handshakes()).filter(|event| event.protocol == protocol)
            {
                let what = format!("{cast} {hook:?} {protocol:?}, new: {is_new}, {}", event.name);
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
        let mut talk = Talk::new(cast, hook, Tcp);
        let old = talk.syn();
        talk.shift();
        assert_eq!(talk.syn(), old, "{cast} {hook:?}: the same SYN, sent again");
        let other = talk.send(|p| p.flags(SYN).seq(77).ack(0));
        assert_eq!(other, cast.v2[0], "{cast} {hook:?}: a SYN with another number");
    }
}

/// As many as the kernel's keep-alives of old, at the idle limit that is the default.
#[test]
fn a_flow_whose_keep_alives_come_an_hour_apart_keeps_its_endpoint_and_is_not_swept() {
    let hour = Duration::from_secs(3600);
    let settings = Settings { tcp_idle: Settings::default().tcp_idle, flows: 1024, ..settings() };
    assert_eq!(settings.tcp_idle, 2 * hour, "the default");
    for (cast, hook) in
        casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|hook| (cast, hook)))
    {
        let what = format!("{cast} {hook:?}");
        let mut talk = Talk::on(Node::with(&settings), cast, hook, Tcp);
        let endpoint = talk.open();
        talk.shift();
        for n in 0..3 {
            talk.node.let_time_pass(hour);
            let to = talk.send(|p| p.seq(CLIENT.wrapping_sub(1)));
            assert_eq!(to, endpoint, "{what}: keep-alive {n}");
            talk.reply(endpoint, |p| p);
            assert_eq!(talk.node.reason(Reason::FlowAdopted), 0, "{what}: keep-alive {n}");
        }
        talk.node.let_time_pass(hour);
        // A SYN of a forger, or of a client that lost its memory, is no new flow yet.
        assert_eq!(talk.syn(), endpoint, "{what}: a SYN within the limit");
        assert_eq!(talk.node.sweep_ended(&settings), 0, "{what}: entries that are swept");
        assert_eq!(talk.send(|p| p), endpoint, "{what}: after the agent has swept");
    }
}

#[test]
fn a_flow_that_is_first_seen_in_its_middle_is_adopted() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let mut talk = Talk::new(cast, hook, Tcp);
        talk.split = talk.node.reviews(cast, Tcp, [50, 50]);
        let explained = explain(kernel::SEED, &talk.split, cast.client).unwrap().endpoint.unwrap();
        let endpoint = talk.send(|p| p.payload(b"middle"));
        assert_eq!(endpoint, explained, "{cast} {hook:?}");
        assert_eq!(talk.node.reason(Reason::FlowAdopted), 1);
        talk.reply(endpoint, |p| p.payload(b"answer"));
        let weights = if cast.v2.contains(&endpoint) { [1, 0] } else { [0, 1] };
        talk.split = talk.node.reviews(cast, Tcp, weights);
        assert_eq!(talk.send(|p| p), endpoint, "{cast} {hook:?}: keeps its endpoint");
        assert_eq!(talk.node.entries(), [0, 1], "{cast} {hook:?}");
        talk.node.let_pass(1);
        assert_eq!(talk.send(|p| p), endpoint, "{cast} {hook:?}: and lives on");
        assert_eq!(talk.node.entries(), [2, 0], "{cast} {hook:?}: both sides have spoken");
    }
}

#[test]
fn a_reset_of_no_known_flow_leaves_no_entry() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        for flags in [RST, RST | ACK, RST | SYN, RST | SYN | ACK | FIN] {
            let mut talk = Talk::new(cast, hook, Tcp);
            let to = talk.send(|p| p.flags(flags));
            assert!(cast.v1.contains(&to), "{cast} {hook:?} {flags:#x}: {to}");
            assert_eq!(talk.node.entries(), [0, 0], "{cast} {hook:?} {flags:#x}");
            let counted = talk.node.reason(Reason::PassNoFlowReset);
            assert_eq!(counted, 1, "{cast} {hook:?} {flags:#x}");
        }
    }
}
