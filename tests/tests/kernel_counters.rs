//! What the programs count, under BPF_PROG_TEST_RUN.

mod kernel;

use std::collections::BTreeMap;

use kernel::talk::{CLIENT, Talk};
use kernel::{FORWARD, Hook, Node, casts, with_port};
use probe_common::map::{MAX_MACS, SubsetSignals, SubsetStats};
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
fn what_becomes_of_tcp_flows_is_counted_once_for_each() {
    let hooks = FORWARD.map(|hook| [(hook, true), (hook, false)]);
    for (cast, (hook, is_new)) in
        casts().iter().flat_map(|cast| hooks.concat().into_iter().map(move |of| (cast, of)))
    {
        let mut talk = Talk::new(cast, hook, Protocol::Tcp);
        talk.is_new = is_new;
        let mut wanted = SubsetSignals::default();
        let what = format!("{cast} {hook:?}, new: {is_new}");

        // Sent again at once, and after long, twice; then the endpoint's, too.
        let endpoint = talk.syn();
        talk.syn();
        wanted.syn_retransmits += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: sent again");
        talk.node.begin_earlier(1);
        talk.syn();
        wanted.syn_retransmits += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: not for long");
        talk.node.begin_earlier(2);
        talk.syn();
        talk.syn();
        (wanted.syn_retransmits, wanted.unanswered) = (4, 1);
        assert_eq!(talk.signals("v1"), wanted, "{what}: no answer for long");
        talk.syn_ack(endpoint);
        talk.syn_ack(endpoint);
        wanted.syn_ack_retransmits += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: the answer sent again");

        // Data of both sides, and a FIN of each.
        talk.node.forget();
        let endpoint = talk.open();
        talk.send(|p| p.seq(CLIENT.wrapping_add(1 << 30)).payload(b"not of the flow"));
        talk.reply(endpoint, |p| p);
        assert_eq!(talk.signals("v1"), wanted, "{what}: no data yet");
        for _ in 0..2 {
            talk.send(|p| p.payload(b"question"));
        }
        wanted.asked += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: asked");
        for _ in 0..2 {
            talk.reply(endpoint, |p| p.payload(b"answer"));
        }
        wanted.replied += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: replied");
        talk.reply(endpoint, |p| p.flags(FIN | ACK));
        talk.send(|p| p.flags(FIN | ACK));
        wanted.ended_by_fin += 1;
        assert_eq!(talk.signals("v1"), wanted, "{what}: ended");
        talk.reply(endpoint, |p| p.flags(RST | ACK));
        assert_eq!(talk.signals("v1"), wanted, "{what}: a flow ends once");

        // Reset by the endpoint, soon and later, before and after data, after a FIN; by the client.
        let mut reset = |age, data: bool, fin: bool, by_client: bool| {
            talk.node.forget();
            let endpoint = talk.open();
            talk.node.begin_earlier(age);
            if data {
                talk.reply(endpoint, |p| p.payload(b"greeting"));
            }
            if fin {
                talk.send(|p| p.flags(FIN | ACK));
            }
            if by_client {
                talk.send(|p| p.flags(RST));
            } else {
                talk.reply(endpoint, |p| p.flags(RST | ACK));
            }
            talk.signals("v1")
        };
        (wanted.reset_before_reply, wanted.early_resets) = (1, 1);
        assert_eq!(reset(0, false, false, false), wanted, "{what}: reset at once");
        wanted.reset_before_reply += 1;
        assert_eq!(reset(20, false, false, false), wanted, "{what}: reset later");
        wanted.reset_before_reply += 1;
        assert_eq!(reset(0, false, true, false), wanted, "{what}: reset after a FIN");
        wanted.replied += 1;
        (wanted.reset_after_reply, wanted.early_resets) = (1, 2);
        assert_eq!(reset(0, true, false, false), wanted, "{what}: reset after data");
        wanted.reset_by_client += 1;
        assert_eq!(reset(0, false, false, true), wanted, "{what}: reset by the client");
        assert_eq!(talk.signals("v2"), SubsetSignals::default(), "{what}: v2");
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

/// Cases of one file use the same programs, one after the other.
#[test]
fn programs_that_are_used_again_find_nothing_of_the_case_before() {
    let mut node = Node::new();
    for (cast, family) in casts().iter().zip(["V4", "V6"]) {
        assert_eq!(node.written(), BTreeMap::new(), "{cast}: loaded, or used before");
        let mut talk = Talk::on(node, cast, Hook::Tc, Protocol::Udp);
        talk.open();
        // To the split's other version.
        talk.shift();
        node = talk.node;
        for fragment in Packet::udp(cast.client, cast.vip).payload(&[5; 200]).build_fragments(64) {
            node.pass(Hook::Tc, &fragment);
        }
        for n in 0..100 {
            let first = Packet::udp(with_port(cast.client, 50_000 + n), cast.vip);
            node.pass(Hook::Xdp, &first.payload(b"question").build());
        }
        // Of no flow.
        let reply = Packet::tcp(cast.v1[0], with_port(cast.client, 999)).flags(ACK).build();
        node.pass(Hook::Reply, &reply);
        node.answer_at(&[cast.vip.ip()]);
        node.set_macs([[2, 0, 0, 0, 0, 1]; MAX_MACS]);
        let written = node.written();
        let of_family = ["FLOWS", "NEW_FLOWS", "NEW_SETS", "FRAGMENTS", "FIRST_FRAGMENT"];
        let of_family = of_family.map(|name| format!("{name}_{family}"));
        let splits = ["SERVICES", "ACTIVE", "SPLITS", "TABLES", "ENDPOINTS", "SUBSET_IDS"];
        let filters = ["SERVICE_FILTER", "ENDPOINT_FILTER", "ADDRESSES", "INTERFACES"];
        let others = ["ENDPOINT_STATS", "SUBSET_STATS", "REASONS", "IDENTITIES"];
        let needed = splits.iter().chain(&filters).chain(&others).copied();
        for name in needed.chain(of_family.iter().map(String::as_str)) {
            assert!(written.contains_key(name), "{cast}: {name} is not used here: {written:?}");
        }
        node.reset();
        assert_eq!(node.written(), BTreeMap::new(), "{cast}: of the case before");
        // What was a live flow is a new one, and the first.
        let mut talk = Talk::on(node, cast, Hook::Tc, Protocol::Udp);
        talk.shift();
        assert_eq!(talk.open(), cast.v2[0], "{cast}");
        assert_eq!(talk.subset("v2").flows, 1, "{cast}");
        node = talk.node;
        node.reset();
    }
}
