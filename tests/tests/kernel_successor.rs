//! A client that begins anew on the tuple of a live flow whose endpoint drains, under
//! BPF_PROG_TEST_RUN; and somebody who does so in its name.

mod kernel;

use std::net::SocketAddr;

use kernel::talk::{CLIENT, ENDPOINT, Talk};
use kernel::{Cast, FORWARD, Hook, casts, client_number};
use probe_common::flow::CONTESTED;
use probe_common::reason::Reason;
use weir::model::Protocol::Tcp;
use weir::plan::EndpointState;
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN, tcp_seq_ack, tuple};
use weir_tests::rng::Rng;

/// The number of the SYN with which the client begins anew.
const ANEW: u32 = 77;
/// That of the new endpoint's answer.
const ANSWER: u32 = 0x8000_0000;
/// A handshake takes no longer, in seconds.
const HANDSHAKE: u64 = 64;

/// All hooks for both families; a live flow, which is new or not, of an endpoint that drains;
/// that endpoint. New flows go to v2.
fn each(mut check: impl FnMut(&str, &mut Talk<'_>, SocketAddr)) {
    for cast in &casts() {
        for (hook, is_new) in FORWARD.into_iter().flat_map(|hook| [(hook, false), (hook, true)]) {
            let mut talk = Talk { is_new, ..Talk::new(cast, hook, Tcp) };
            let old = talk.open();
            talk.shift();
            let split = talk.split.clone();
            talk.node.set_state(&split, old, EndpointState::Draining);
            check(&format!("{cast} {hook:?}, new: {is_new}"), &mut talk, old);
        }
    }
}

/// A SYN in the client's name; where it goes.
fn begin(talk: &mut Talk<'_>, seq: u32) -> SocketAddr {
    talk.send(|p| p.flags(SYN).seq(seq).ack(0))
}

/// The new endpoint answers the SYN with that number.
fn answer(talk: &mut Talk<'_>, from: SocketAddr, syn: u32) {
    talk.reply(from, |p| p.flags(SYN | ACK).seq(ANSWER).ack(syn.wrapping_add(1)));
}

/// Whether packets of a client's direction are looked at for another flow's.
fn is_contested(talk: &mut Talk<'_>) -> bool {
    let mut found = false;
    talk.node.each_v4(|_, entry| found |= entry.state & CONTESTED != 0);
    talk.node.each_v6(|_, entry| found |= entry.state & CONTESTED != 0);
    found
}

#[test]
fn a_client_that_begins_anew_is_steered_anew_while_its_old_endpoint_drains() {
    each(|what, talk, old| {
        let new = talk.cast.v2[0];
        assert_eq!(begin(talk, ANEW), new, "{what}: its SYN");
        assert_eq!(begin(talk, ANEW), new, "{what}: its SYN, sent again");
        answer(talk, new, ANEW);
        let confirm = |p: Packet| p.seq(ANEW + 1).ack(ANSWER + 1);
        assert_eq!(talk.send(confirm), new, "{what}: the end of its handshake");
        assert_eq!(talk.node.entries(), [0, 1], "{what}: nothing is left of the old flow");
        assert_eq!(talk.node.reason(Reason::FlowReused), 1, "{what}");
        talk.node.let_pass(1);
        assert_eq!(talk.send(|p| confirm(p).payload(b"data")), new, "{what}: it lives on");
        talk.reply(new, |p| p.seq(ANSWER + 1).ack(ANEW + 5));
        assert_eq!(talk.node.entries(), [2, 0], "{what}");
        let late = Packet::tcp(old, talk.cast.client).flags(ACK).seq(ENDPOINT).build();
        assert!(talk.node.pass(Hook::Reply, &late) == late, "{what}: of no known flow");
        assert_eq!(talk.send(confirm), new, "{what}: after a late packet of the old endpoint");
    });
}

#[test]
fn the_handshake_may_end_with_data_or_a_fin_if_its_ack_was_lost() {
    each(|what, talk, _| {
        let new = talk.cast.v2[0];
        begin(talk, ANEW);
        answer(talk, new, ANEW);
        // Behind data that went with the SYN (Fast Open).
        let to = talk.send(|p| p.flags(FIN | ACK).seq(ANEW + 1400).ack(ANSWER + 1).payload(b"x"));
        assert_eq!(to, new, "{what}");
    });
}

#[test]
fn a_syn_of_any_number_moves_no_live_flow_and_breaks_none_while_its_endpoint_drains() {
    each(|what, talk, old| {
        let (client, new) = (talk.cast.client, talk.cast.v2[0]);
        let mut rng = Rng::new(1);
        for n in 0..40 {
            // Also those of the flow itself.
            let close = CLIENT.wrapping_sub(2).wrapping_add(n % 4);
            let seq = if n % 2 == 0 { close } else { rng.next_u64() as u32 };
            assert_eq!(begin(talk, seq), new, "{what}: SYN {n}");
            answer(talk, new, seq);
            // What the client says to that (RFC 5961, section 4.2), and goes on to say.
            assert_eq!(talk.send(|p| p), old, "{what}: its challenge {n}");
            assert_eq!(talk.send(|p| p.payload(b"data")), old, "{what}: its data {n}");
            talk.reply(old, |p| p.payload(b"data"));
            // What somebody says who has not seen the answer.
            for ack in [ENDPOINT, ANSWER, ANSWER + 2, ANSWER ^ 1 << 31] {
                let to = talk.send(|p| p.seq(seq.wrapping_add(1)).ack(ack));
                assert_eq!(to, old, "{what}: guess {n}, {ack}");
            }
            let reset = talk.send(|p| p.flags(RST | ACK).seq(1 << 30).ack(ANSWER + 1));
            assert_eq!(reset, old, "{what}: a RST {n}");
        }
        assert!(is_contested(talk), "{what}");
        let entries = talk.node.entries();
        assert_eq!(entries, [2, 1], "{what}: the flow, and one handshake beside it");
        talk.node.let_pass(HANDSHAKE * 2);
        assert_eq!(talk.send(|p| p), old, "{what}: when the last handshake came to nothing");
        assert_eq!(talk.node.entries(), [2, 0], "{what}");
        assert!(!is_contested(talk), "{what}: its packets are ordinary ones again");
        let out = Packet::tcp(old, client).flags(ACK).seq(ENDPOINT).ack(CLIENT).build();
        let seen = talk.node.pass(Hook::Reply, &out);
        assert_eq!(tcp_seq_ack(seen), Some((ENDPOINT, CLIENT)), "{what}");
        assert_eq!(tuple(seen).map(|seen| seen.source), Some(talk.cast.vip), "{what}");
    });
}

#[test]
fn a_live_flow_goes_on_when_the_handshake_beside_it_is_pushed_out() {
    each(|what, talk, old| {
        let (client, new) = (talk.cast.client, talk.cast.v2[0]);
        begin(talk, ANEW);
        talk.node.forget_new_flows(client);
        assert_eq!(talk.send(|p| p), old, "{what}");
        assert!(!is_contested(talk), "{what}: its packets are ordinary ones again");
        assert_eq!(begin(talk, ANEW), new, "{what}: the SYN, sent again");
        answer(talk, new, ANEW);
        assert_eq!(talk.send(|p| p.seq(ANEW + 1).ack(ANSWER + 1)), new, "{what}");
    });
}

#[test]
fn the_end_of_the_drain_time_ends_the_live_flow_and_not_the_handshake_beside_it() {
    each(|what, talk, old| {
        let (split, new) = (talk.split.clone(), talk.cast.v2[0]);
        begin(talk, ANEW);
        talk.node.set_gone(&split, old, true);
        assert_eq!(begin(talk, ANEW), new, "{what}: the SYN, sent again");
        answer(talk, new, ANEW);
        assert_eq!(talk.send(|p| p.seq(ANEW + 1).ack(ANSWER + 1)), new, "{what}");
    });
}

#[test]
fn a_handshake_that_a_draining_endpoint_does_not_answer_goes_to_another_one() {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        for answered in [false, true] {
            let mut talk = Talk::new(cast, hook, Tcp);
            let old = talk.syn();
            talk.shift();
            if answered {
                talk.syn_ack(old);
            }
            let split = talk.split.clone();
            talk.node.set_state(&split, old, EndpointState::Draining);
            let wanted = if answered { old } else { cast.v2[0] };
            assert_eq!(talk.syn(), wanted, "{cast} {hook:?}, answered: {answered}");
        }
    }
}

#[test]
fn a_syn_on_a_live_flow_of_a_service_that_is_gone_stays_with_the_flow() {
    each(|what, talk, old| {
        let split = talk.split.clone();
        talk.node.withdraw(&split);
        assert_eq!(begin(talk, ANEW), old, "{what}");
        let other = Packet::tcp(client_number(talk.cast, 1), talk.cast.vip).flags(SYN).build();
        assert!(talk.node.pass(talk.hook, &other) == other, "{what}: no business of weir");
        assert_eq!(talk.send(|p| p), old, "{what}");
    });
}

/// The endpoint knows best what a SYN means, as long as nobody has said that it may be dead.
#[test]
fn a_syn_on_a_live_flow_goes_to_its_endpoint_unless_that_drains() {
    let cast: &Cast = &casts()[0];
    for hook in FORWARD {
        let mut talk = Talk::new(cast, hook, Tcp);
        let old = talk.open();
        talk.shift();
        assert_eq!(begin(&mut talk, ANEW), old, "{hook:?}");
        assert_eq!(talk.node.entries(), [2, 0], "{hook:?}");
    }
}
