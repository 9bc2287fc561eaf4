//! What the programs count, under BPF_PROG_TEST_RUN.

mod kernel;

use kernel::talk::{CLIENT, Talk};
use kernel::{FORWARD, Hook, casts, with_port};
use probe_common::map::SubsetStats;
use probe_common::reason::Reason;
use weir::model::Protocol;
use weir_tests::packet::{ACK, FIN, Packet, RST};

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
        talk.node.begin_earlier(20);
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
