//! More flows than there is room for, under BPF_PROG_TEST_RUN: what is still true when the table
//! of live flows is full, and how flows that have ended leave it.
//!
//! The table never rejects a flow. It forgets the one that was silent for longest, which may live;
//! that one is steered anew with its next packet, by the pure function and the weights of that
//! moment, and until then its endpoint's packets pass as they are.

mod kernel;

use std::net::SocketAddr;
use std::time::Duration;

use kernel::talk::{CLIENT, ENDPOINT, destination};
use kernel::{Cast, FORWARD, Hook, Node, SEED, casts, client_number, settings, with_port};
use probe_common::reason::Reason;
use weir::datapath::{Settings, full_flows};
use weir::explain::explain;
use weir::model::{Protocol, Split};
use weir_tests::packet::{ACK, FIN, Packet, SYN, checksums_ok, tuple};

/// Flows for which there is room.
const ROOM: u32 = 1024;
/// Flows that there are.
const FLOWS: u16 = 3000;
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// A node, and many clients of its service.
struct Many<'a> {
    node: Node,
    cast: &'a Cast,
    hook: Hook,
    protocol: Protocol,
    split: Split,
}

impl<'a> Many<'a> {
    fn new(node: Node, cast: &'a Cast, hook: Hook, protocol: Protocol, weights: [u32; 2]) -> Self {
        let mut node = node;
        let split = node.reviews(cast, protocol, weights);
        Self { node, cast, hook, protocol, split }
    }

    fn client(&self, n: u16) -> SocketAddr {
        with_port(client_number(self.cast, n / 1000), 1024 + n)
    }

    fn packet(&self, from: SocketAddr, to: SocketAddr) -> Packet {
        match self.protocol {
            Protocol::Tcp => Packet::tcp(from, to),
            Protocol::Udp => Packet::udp(from, to).payload(b"x"),
        }
    }

    /// Client `n` sends; where it goes.
    fn send(&mut self, n: u16, flags: u8, sequence: u32) -> SocketAddr {
        let packet = self.packet(self.client(n), self.cast.vip).flags(flags).seq(sequence);
        destination(self.node.pass(self.hook, &packet.ack(ENDPOINT).build()))
    }

    fn go_on(&mut self, n: u16) -> SocketAddr {
        self.send(n, ACK, CLIENT)
    }

    /// An endpoint sends to client `n`; whom that takes it for.
    fn reply(&mut self, n: u16, from: SocketAddr, flags: u8, sequence: u32) -> SocketAddr {
        let packet = self.packet(from, self.client(n)).flags(flags).seq(sequence).ack(CLIENT);
        let out = self.node.pass(Hook::Reply, &packet.build());
        assert!(checksums_ok(out), "checksum of {out:02x?}");
        tuple(out).expect("a tuple").source
    }

    /// Opens flow `n`; its endpoint.
    fn open(&mut self, n: u16) -> SocketAddr {
        let what = format!("{} {:?} {}, flow {n}", self.cast, self.hook, self.protocol);
        let endpoint = self.send(n, SYN, CLIENT.wrapping_sub(1));
        let explained = explain(SEED, &self.split, self.client(n)).unwrap().endpoint.unwrap();
        assert_eq!(endpoint, explained, "{what}: its first packet");
        let first = self.reply(n, endpoint, SYN | ACK, ENDPOINT - 1);
        assert_eq!(first, self.cast.vip, "{what}: the first reply");
        assert_eq!(self.go_on(n), endpoint, "{what}: its second packet");
        assert_eq!(
            self.reply(n, endpoint, ACK, ENDPOINT),
            self.cast.vip,
            "{what}: the second reply"
        );
        // Both directions have been used alike.
        assert_eq!(self.go_on(n), endpoint, "{what}: its third packet");
        endpoint
    }

    /// New flows so far, in both subsets.
    fn flows(&mut self) -> u64 {
        let split = self.split.clone();
        ["v1", "v2"].map(|subset| self.node.subset(&split, subset).stats.flows).iter().sum()
    }
}

/// Every family, hook and protocol, with a small table.
fn each(weights: [u32; 2], check: impl Fn(&mut Many<'_>, &str)) {
    for (cast, hook) in casts().iter().flat_map(|cast| FORWARD.map(|hook| (cast, hook))) {
        let udp_idle = Duration::from_secs(7200);
        let mut node = Node::untouched(&Settings { flows: ROOM, udp_idle, ..settings() });
        for protocol in PROTOCOLS {
            node.forget();
            let mut many = Many::new(node, cast, hook, protocol, weights);
            check(&mut many, &format!("{cast} {hook:?} {protocol}"));
            node = many.node;
        }
    }
}

#[test]
fn a_full_table_takes_new_flows_and_what_it_forgets_is_delivered_as_before() {
    each([50, 50], |many, what| {
        let endpoints: Vec<SocketAddr> = (0..FLOWS).map(|n| many.open(n)).collect();
        let [live, new_flows] = many.node.entries();
        let room = 2 * ROOM as usize;
        assert!(
            live <= room && new_flows <= ROOM as usize,
            "{what}: {live} entries, {new_flows} new"
        );
        let seen_as_full = full_flows(ROOM.into());
        assert!(live as u64 / 2 >= seen_as_full, "{what}: {live} entries, full at {seen_as_full}");

        // The endpoint of one that is forgotten speaks first: nobody knows whose packet that is.
        // Which ones are forgotten is the kernel's choice.
        let forgotten = (0..FLOWS).find(|&n| {
            let untracked = many.node.reason(Reason::PassReplyUntracked);
            let source = many.reply(n, endpoints[n as usize], ACK, ENDPOINT);
            let counted = many.node.reason(Reason::PassReplyUntracked) - untracked;
            if source == many.cast.vip {
                assert_eq!(counted, 0, "{what}: the reply of flow {n} is known, not counted");
                return false;
            }
            assert_eq!(
                (source, counted),
                (endpoints[n as usize], 1),
                "{what}: flow {n}, untouched"
            );
            true
        });
        assert!(forgotten.is_some(), "{what}: {FLOWS} flows have no room");

        // What is known of one direction makes the other anew once a tick.
        many.node.let_pass(2);
        let before = many.flows();
        for (n, &endpoint) in (0..).zip(&endpoints) {
            assert_eq!(many.go_on(n), endpoint, "{what}: flow {n}, by the weights of its start");
            let source = many.reply(n, endpoint, ACK, ENDPOINT);
            assert_eq!(source, many.cast.vip, "{what}: the reply of flow {n}");
        }
        let anew = many.flows() - before;
        let known = ROOM as usize + new_flows;
        assert!(anew >= u64::from(FLOWS) - known as u64, "{what}: {anew} flows were forgotten");
        println!("{what}: {FLOWS} flows, {live} entries of {room}; {anew} forgotten, none misled");
    });
}

#[test]
fn only_flows_that_a_full_table_has_forgotten_follow_new_weights_and_they_are_counted() {
    each([1, 0], |many, what| {
        (0..FLOWS).for_each(|n| _ = many.open(n));
        many.split = many.node.reviews(many.cast, many.protocol, [0, 1]);
        let (before, adopted) = (many.flows(), many.node.reason(Reason::FlowAdopted));
        let moved: Vec<bool> = (0..FLOWS).map(|n| many.cast.v2.contains(&many.go_on(n))).collect();
        let count = moved.iter().filter(|&&moved| moved).count() as u64;
        assert_eq!(many.flows() - before, count, "{what}: those that moved were unknown");
        if many.protocol == Protocol::Tcp {
            let adopted = many.node.reason(Reason::FlowAdopted) - adopted;
            assert_eq!(adopted, count, "{what}: counted as flow_adopted");
        }
        let kept = u64::from(FLOWS) - count;
        assert!(kept > u64::from(ROOM / 2), "{what}: {kept} flows are known, of {ROOM}");
        println!("{what}: {kept} flows keep their endpoint, {count} were forgotten and moved");
    });
}

#[test]
fn flows_that_have_ended_leave_the_table_and_others_do_not() {
    let idle = Duration::from_secs(1000);
    let settings = Settings { flows: ROOM, tcp_idle: idle, ..settings() };
    for cast in &casts() {
        let mut many = Many::new(Node::untouched(&settings), cast, Hook::Tc, Protocol::Tcp, [1, 0]);
        let endpoints: Vec<SocketAddr> = (0..400).map(|n| many.open(n)).collect();
        let endpoint = |n: u16| endpoints[usize::from(n)];
        let close = |many: &mut Many<'_>, n: u16| {
            many.send(n, FIN | ACK, CLIENT);
            many.reply(n, endpoint(n), FIN | ACK, ENDPOINT);
        };
        // By a hundred: silent for long; only the endpoint goes on; closed a while ago; closed now.
        many.node.let_pass(2100);
        (100..200).for_each(|n| _ = many.reply(n, endpoint(n), ACK, ENDPOINT));
        (200..300).for_each(|n| close(&mut many, n));
        many.node.let_pass(130);
        (100..200).for_each(|n| _ = many.reply(n, endpoint(n), ACK, ENDPOINT));
        (300..400).for_each(|n| close(&mut many, n));
        // Of those that were silent most have stayed new ones; the others have two entries.
        let swept = many.node.sweep_ended(&settings);
        assert!((300..330).contains(&swept), "{cast}: {swept} entries or new flows");
        many.split = many.node.reviews(cast, Protocol::Tcp, [0, 1]);
        for n in 0..400 {
            let known = many.go_on(n) == endpoint(n);
            let stays = (100..200).contains(&n) || n >= 300;
            assert_eq!(known, stays, "{cast}: flow {n}");
        }
    }
}
