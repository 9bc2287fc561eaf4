//! Floods of invented packets, while connections live and are made.

mod kernel;

use std::net::{Ipv4Addr, SocketAddr};

use kernel::{Cast, Hook, Node, TCP_IDLE, casts, split, with_port};
use probe_common::flow::{CLOSING, in_window};
use weir::datapath::Settings;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN, set_source, tuple};
use weir_tests::rng::Rng;

/// Connections that live before the flood.
const LIVE: u32 = 5000;
/// Packets of the flood.
const FLOOD: u32 = 1_000_000;
/// One honest connection is made while so many packets of the flood go by.
const HONEST_EVERY: u32 = 10_000;
/// Sequence number behind a client's SYN.
const FIRST: u32 = 1000;

fn live_client(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(203, 0, 113, (n / 1000) as u8 + 1), 1024 + (n % 1000) as u16))
}

fn honest_client(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(203, 0, 113, 100), 1024 + n as u16))
}

/// The steps of a connection up to the first data; each can be taken by itself.
struct Connection {
    client: SocketAddr,
    vip: SocketAddr,
    endpoint: Option<SocketAddr>,
}

impl Connection {
    fn step(&mut self, node: &mut Node, step: u32) {
        let endpoint = self.endpoint;
        let from_client = |flags, seq: u32, ack| {
            Packet::tcp(self.client, self.vip).flags(flags).seq(seq).ack(ack).build()
        };
        match step {
            0 => {
                let out = node.pass(Hook::Tc, &from_client(SYN, FIRST - 1, 0));
                self.endpoint = Some(tuple(out).expect("a tuple").destination);
            }
            1 => {
                let endpoint = endpoint.expect("a SYN before");
                let syn_ack = Packet::tcp(endpoint, self.client).flags(SYN | ACK).seq(4).ack(FIRST);
                let out = node.pass(Hook::Reply, &syn_ack.build());
                assert_eq!(tuple(out).expect("a tuple").source, self.vip, "{}", self.client);
            }
            _ => {
                let out = node.pass(Hook::Tc, &from_client(ACK, FIRST, 5));
                let to = tuple(out).expect("a tuple").destination;
                assert_eq!(Some(to), endpoint, "{}: moved at step {step}", self.client);
            }
        }
    }
}

/// Packets that nobody honest sends.
struct Flood {
    rng: Rng,
    syn: Vec<u8>,
    ack: Vec<u8>,
    datagram: Vec<u8>,
}

impl Flood {
    fn new(cast: &Cast, udp: SocketAddr) -> Self {
        let tcp = Packet::tcp(cast.client, cast.vip);
        Self {
            rng: Rng::new(9),
            syn: tcp.clone().flags(SYN).build(),
            ack: tcp.flags(ACK).build(),
            datagram: Packet::udp(cast.client, udp).payload(b"flood").build(),
        }
    }

    fn invented(&mut self) -> SocketAddr {
        let host = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + self.rng.below(1 << 24) as u32;
        SocketAddr::from((Ipv4Addr::from(host), 1 + self.rng.below(65_535) as u16))
    }

    /// One packet; endpoints answer a tenth of the SYNs.
    fn send(&mut self, node: &mut Node, vip: SocketAddr) {
        let client = self.invented();
        match self.rng.below(10) {
            0..6 => {
                set_source(&mut self.syn, client);
                let to = tuple(node.pass(Hook::Tc, &self.syn)).expect("a tuple").destination;
                if self.rng.below(10) == 0 {
                    let answer = Packet::tcp(to, client).flags(SYN | ACK).seq(1).ack(2).build();
                    node.pass(Hook::Reply, &answer);
                }
            }
            6 => {
                set_source(&mut self.ack, client);
                node.pass(Hook::Tc, &self.ack);
            }
            7 => {
                set_source(&mut self.datagram, client);
                node.pass(Hook::Tc, &self.datagram);
            }
            // The tuple of a live connection, and a number that is not in its window.
            guess => {
                let sequence = self.rng.next_u64() as u32;
                if in_window(sequence, FIRST) {
                    return;
                }
                let client = live_client(self.rng.below(LIVE.into()) as u32);
                let flags = if guess == 8 { RST } else { FIN | ACK };
                let packet = Packet::tcp(client, vip).flags(flags).seq(sequence);
                node.pass(Hook::Tc, &packet.build());
            }
        }
    }
}

#[test]
fn a_flood_neither_moves_nor_evicts_what_lives_and_honest_connections_are_made() {
    let cast = &casts()[0];
    let mut node = Node::with(Settings::default());
    node.reviews(cast, Protocol::Tcp, [1, 0]);
    let udp = with_port(cast.vip, 53);
    let names: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &cast.v1)];
    let affinity = Affinity::None;
    node.publish(&split("names", (udp, Protocol::Udp), affinity, &names));

    let connect = |client| Connection { client, vip: cast.vip, endpoint: None };
    let mut live: Vec<Connection> = (0..LIVE).map(|n| connect(live_client(n))).collect();
    for connection in &mut live {
        (0..3).for_each(|step| connection.step(&mut node, step));
    }
    node.let_pass(1);
    for connection in &mut live {
        connection.step(&mut node, 3);
    }
    assert_eq!(node.entries(), [2 * LIVE as usize, 0]);
    // Half of them have said nothing for most of the time that they may.
    node.each_v4(|key, entry| {
        // The same of both directions.
        if u16::from_be(key.sport ^ key.dport) % 2 == 0 {
            entry.seen = entry.seen.wrapping_sub(TCP_IDLE as u32 / 3);
        }
    });
    node.reviews(cast, Protocol::Tcp, [0, 1]);

    let mut flood = Flood::new(cast, udp);
    let mut honest = 0;
    for n in 0..FLOOD / HONEST_EVERY {
        let mut connection = connect(honest_client(n));
        // Some thousand packets of the flood between any two of its own.
        for step in 0..4 {
            connection.step(&mut node, step);
            for _ in 0..HONEST_EVERY / 4 {
                flood.send(&mut node, cast.vip);
            }
        }
        assert_eq!(connection.endpoint, Some(cast.v2[0]), "connection {n}");
        honest += 1;
    }
    let flows = node.flows();
    let pending = flows.iter().filter(|flow| flow.is_pending()).count();
    println!(
        "{FLOOD} packets of a flood: {} of {LIVE} connections live, {honest} of {honest} new ones \
         made, {pending} flows pending",
        flows.len() - pending - honest,
    );
    assert_eq!(flows.len() - pending, LIVE as usize + honest, "established flows");
    for flow in flows.iter().filter(|flow| !flow.is_pending()) {
        assert!(flow.state & CLOSING == 0, "closed: {flow:?}");
    }
    for connection in &mut live {
        connection.step(&mut node, 3);
    }
}
