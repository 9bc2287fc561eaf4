//! A client and an endpoint that talk through a node.

use std::net::SocketAddr;

use probe_common::flow::ESTABLISHED;
use probe_common::map::{SubsetSignals, SubsetStats};
use weir::model::{Protocol, Split};
use weir_tests::packet::{ACK, Packet, SYN, checksums_ok, tuple};

use super::{Cast, Hook, Node};

/// Where a frame that came out goes.
#[track_caller]
pub fn destination(out: &[u8]) -> SocketAddr {
    assert!(checksums_ok(out), "checksum of {out:02x?}");
    tuple(out).expect("a tuple").destination
}

/// A client and an endpoint that talk through a node.
pub struct Talk<'a> {
    pub node: Node,
    pub cast: &'a Cast,
    pub hook: Hook,
    pub protocol: Protocol,
    /// The split in force.
    pub split: Split,
    /// Whether flows stay new ones: within a second of their first packet.
    pub is_new: bool,
}

/// Sequence number of the client's first byte behind its SYN.
pub const CLIENT: u32 = 0xffff_fff0;
/// The same of the endpoint.
pub const ENDPOINT: u32 = 5000;

impl<'a> Talk<'a> {
    /// All flows go to v1, until [`Talk::shift`].
    pub fn new(cast: &'a Cast, hook: Hook, protocol: Protocol) -> Self {
        Self::on(Node::new(), cast, hook, protocol)
    }

    /// The same through that node.
    pub fn on(mut node: Node, cast: &'a Cast, hook: Hook, protocol: Protocol) -> Self {
        let split = node.reviews(cast, protocol, [1, 0]);
        Self { node, cast, hook, protocol, split, is_new: false }
    }

    /// All new flows go to v2 from now on.
    pub fn shift(&mut self) {
        self.split = self.node.reviews(self.cast, self.protocol, [0, 1]);
    }

    /// The client sends; where it goes.
    pub fn send(&mut self, change: impl Fn(Packet) -> Packet) -> SocketAddr {
        let base = match self.protocol {
            Protocol::Tcp => {
                Packet::tcp(self.cast.client, self.cast.vip).flags(ACK).seq(CLIENT).ack(ENDPOINT)
            }
            Protocol::Udp => Packet::udp(self.cast.client, self.cast.vip).payload(b"question"),
        };
        destination(self.node.pass(self.hook, &change(base).build()))
    }

    /// The client opens; where its SYN goes.
    pub fn syn(&mut self) -> SocketAddr {
        self.send(|p| p.flags(SYN).seq(CLIENT.wrapping_sub(1)).ack(0))
    }

    /// The endpoint sends; the client gets it from the service.
    pub fn reply(&mut self, from: SocketAddr, change: impl Fn(Packet) -> Packet) {
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

    /// The endpoint accepts.
    pub fn syn_ack(&mut self, from: SocketAddr) {
        self.reply(from, |p| p.flags(SYN | ACK).seq(ENDPOINT - 1));
    }

    /// Opens a flow and has both sides speak, and live on unless it is to stay a new one; its endpoint.
    pub fn open(&mut self) -> SocketAddr {
        let endpoint = self.first();
        if self.protocol == Protocol::Tcp {
            self.syn_ack(endpoint);
        } else {
            self.reply(endpoint, |p| p);
        }
        assert_eq!(self.send(|p| p), endpoint, "the packet that completes the handshake");
        if self.is_new {
            assert_eq!(self.node.entries(), [0, 1], "a new flow");
            return endpoint;
        }
        self.node.let_pass(1);
        assert_eq!(self.send(|p| p), endpoint, "the packet with which it moves");
        assert_eq!(self.node.entries(), [2, 0], "a live flow");
        endpoint
    }

    /// Whether there is one flow, in which both sides have spoken.
    pub fn is_established(&mut self) -> bool {
        let mut states = Vec::new();
        self.node.each_v4(|_, entry| states.push(entry.state));
        self.node.each_v6(|_, entry| states.push(entry.state));
        let grown = states.len() == 2;
        self.node.each_new_flow(&mut |flow| states.push(flow.state()));
        let established = states.iter().all(|state| state & ESTABLISHED != 0);
        established && (states.len() == 1 || states.len() == 2 && grown)
    }

    /// What may be the first packet of a flow.
    pub fn first(&mut self) -> SocketAddr {
        match self.protocol {
            Protocol::Tcp => self.syn(),
            Protocol::Udp => self.send(|p| p),
        }
    }

    /// Counters of a subset.
    pub fn subset(&mut self, name: &str) -> SubsetStats {
        let split = self.split.clone();
        self.node.subset(&split, name).stats
    }

    /// What became of the flows of a subset.
    pub fn signals(&mut self, name: &str) -> SubsetSignals {
        let split = self.split.clone();
        self.node.subset(&split, name).signals
    }
}
