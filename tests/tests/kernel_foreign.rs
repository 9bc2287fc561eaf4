//! Connections that something else translated before weir steered their service, under
//! BPF_PROG_TEST_RUN: their packets pass, and all others are steered as ever.

mod kernel;

use kernel::talk::destination;
use kernel::{Cast, FORWARD, Hook, Node, Verdict, casts, with_port};
use probe_common::reason::Reason;
use weir::datapath::Clock;
use weir::model::Protocol::{self, Tcp, Udp};
use weir_tests::packet::{ACK, FIN, PSH, Packet, RST, SYN};

/// Longer than any test.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);

fn each(run: impl Fn(Node, &Cast, Hook)) {
    for cast in casts() {
        for hook in FORWARD {
            run(Node::new(), &cast, hook);
        }
    }
}

/// What the client sends from a port.
fn segment(cast: &Cast, port: u16, flags: u8) -> Vec<u8> {
    let client = with_port(cast.client, port);
    Packet::tcp(client, cast.vip).flags(flags).seq(7000).ack(9000).payload(b"bytes").build()
}

fn datagram(cast: &Cast, port: u16) -> Vec<u8> {
    Packet::udp(with_port(cast.client, port), cast.vip).payload(b"question").build()
}

#[track_caller]
fn passes(node: &mut Node, hook: Hook, frame: &[u8], what: &str) {
    let before = node.reason(Reason::PassForeign);
    let (verdict, out) = node.run(hook, frame);
    assert_eq!((verdict, out), (Verdict::Pass, frame), "{what}: untouched");
    let counted = node.reason(Reason::PassForeign) - before;
    assert_eq!(counted, u64::from(hook.counts()), "{what}: counted");
}

/// Whether it goes to an endpoint of the cast.
#[track_caller]
fn is_steered(node: &mut Node, cast: &Cast, hook: Hook, frame: &[u8], what: &str) {
    let before = node.reason(Reason::PassForeign);
    let to = destination(node.pass(hook, frame));
    assert!(cast.v1.contains(&to), "{what}: {to}");
    assert_eq!(node.reason(Reason::PassForeign), before, "{what}");
}

fn own(cast: &Cast) -> u16 {
    cast.client.port()
}

#[test]
fn segments_of_a_connection_of_before_pass_and_others_are_adopted() {
    each(|mut node, cast, hook| {
        node.reviews(cast, Tcp, [1, 0]);
        node.put_foreign(cast, Tcp);
        node.set_takeover(0, true);
        for flags in [ACK, ACK | PSH, ACK | FIN, RST, RST | ACK] {
            passes(&mut node, hook, &segment(cast, own(cast), flags), "of before");
        }
        assert_eq!(node.flows(), [], "{cast} {hook:?}: no flow");
        let other = segment(cast, own(cast) + 1, ACK);
        is_steered(&mut node, cast, hook, &other, "of a flow whose entry was lost");
        assert_eq!(node.reason(Reason::FlowAdopted), 1, "{cast} {hook:?}");
        is_steered(&mut node, cast, hook, &other, "of the flow that was made of it");
    });
}

#[test]
fn a_syn_begins_a_flow_and_what_was_before_is_forgotten() {
    each(|mut node, cast, hook| {
        node.reviews(cast, Tcp, [1, 0]);
        node.put_foreign(cast, Tcp);
        node.set_takeover(0, true);
        let after = segment(cast, own(cast), ACK);
        passes(&mut node, hook, &after, "before");
        let reset = segment(cast, own(cast), SYN | RST);
        node.pass(hook, &reset);
        passes(&mut node, hook, &after, "a RST begins nothing");
        is_steered(&mut node, cast, hook, &segment(cast, own(cast), SYN), "a SYN");
        is_steered(&mut node, cast, hook, &after, "of the flow that it began");
        assert_eq!(node.reason(Reason::FlowAdopted), 0, "{cast} {hook:?}: it was seen to begin");
        // Not because of the flow: where that is forgotten, the connection of before does not
        // come back.
        let split = node.reviews(cast, Tcp, [1, 0]);
        for endpoint in cast.v1 {
            node.set_gone(&split, endpoint, true);
        }
        is_steered_anew(&mut node, cast, hook);
    });
}

/// A flow that is over since its endpoint is gone begins anew, and not as one of before.
#[track_caller]
fn is_steered_anew(node: &mut Node, cast: &Cast, hook: Hook) {
    let before = node.reason(Reason::PassForeign);
    node.run(hook, &segment(cast, own(cast), SYN));
    node.run(hook, &segment(cast, own(cast), ACK));
    assert_eq!(node.reason(Reason::PassForeign), before, "{cast} {hook:?}");
}

#[test]
fn while_connections_are_read_all_segments_but_syns_pass() {
    let soon = Clock::new().jiffies_in(LONG);
    each(|mut node, cast, hook| {
        node.reviews(cast, Tcp, [1, 0]);
        let known = segment(cast, 50_000, SYN);
        is_steered(&mut node, cast, hook, &known, "a flow of weir's");
        node.set_takeover(soon, false);
        for flags in [ACK, ACK | FIN, RST] {
            passes(&mut node, hook, &segment(cast, own(cast), flags), "of no known flow");
        }
        is_steered(&mut node, cast, hook, &segment(cast, 50_000, ACK), "of a known flow");
        is_steered(&mut node, cast, hook, &segment(cast, 50_001, SYN), "a SYN");
        is_steered(&mut node, cast, hook, &segment(cast, 50_001, ACK), "of what it began");
        // Should nobody say that all is known, that is over by itself.
        node.set_takeover(1, false);
        is_steered(&mut node, cast, hook, &segment(cast, own(cast), ACK), "too late");
    });
}

#[test]
fn datagrams_of_before_pass_and_others_wait_for_nothing() {
    let soon = Clock::new().jiffies_in(LONG);
    each(|mut node, cast, hook| {
        node.reviews(cast, Udp, [1, 0]);
        node.put_foreign(cast, Udp);
        node.set_takeover(soon, true);
        passes(&mut node, hook, &datagram(cast, own(cast)), "of before");
        is_steered(&mut node, cast, hook, &datagram(cast, own(cast) + 1), "another");
        // The entry is of this protocol alone.
        let cases: [(Protocol, Vec<u8>); 1] = [(Tcp, segment(cast, own(cast), ACK))];
        node.set_takeover(0, true);
        for (protocol, frame) in cases {
            let (verdict, out) = node.run(hook, &frame);
            assert_eq!((verdict, out), (Verdict::Pass, &frame[..]), "{protocol}: for no split");
        }
    });
}

#[test]
fn without_a_word_nothing_is_of_before() {
    each(|mut node, cast, hook| {
        node.reviews(cast, Tcp, [1, 0]);
        node.put_foreign(cast, Tcp);
        is_steered(&mut node, cast, hook, &segment(cast, own(cast), ACK), "adopted");
    });
}

#[test]
fn replies_that_are_translated_already_are_none_of_weirs() {
    for cast in casts() {
        let mut node = Node::new();
        node.reviews(&cast, Tcp, [1, 0]);
        node.put_foreign(&cast, Tcp);
        node.set_takeover(0, true);
        let before = node.reasons();
        // As connection tracking makes them before they leave.
        let reply = Packet::tcp(cast.vip, cast.client).flags(ACK).build();
        assert_eq!(node.run(Hook::Reply, &reply), (Verdict::Pass, &reply[..]), "{cast}");
        // And as they enter the node, where replies of weir's flows may be sent past the stack.
        let reply = Packet::tcp(cast.v1[0], cast.client).flags(ACK).build();
        assert_eq!(node.run(Hook::Tc, &reply), (Verdict::Pass, &reply[..]), "{cast}");
        assert_eq!(node.reasons(), before, "{cast}: not counted");
    }
}
