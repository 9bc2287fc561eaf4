//! A service under a flood: clients whose flows live, invented ones, and what is sent in the name
//! of either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use probe_common::address::{Address, Tuple};
use probe_common::flow::{CLOSING, Entry, in_window, is_forward};
use weir::explain::words;
use weir::model::{Protocol, Split};
use weir_tests::flood::{Client, Generator, Target, Wave};
use weir_tests::packet::{ACK, Packet, SYN, checksums_ok, tuple};

use super::{Cast, Hook, Node, Verdict};

/// Addresses of clients with flows that live before the flood, and ports of each.
pub const LIVE: [u32; 2] = [5, 1000];
/// Sequence number behind a client's SYN.
pub const FIRST_CLIENT: u32 = 1000;
/// The same of an endpoint.
pub const FIRST_ENDPOINT: u32 = 5000;

/// The client of a cast, with another last word of its address, and another port.
pub fn client(cast: &Cast, host: u32, port: u16) -> SocketAddr {
    let ip: IpAddr = match cast.client.ip() {
        IpAddr::V4(_) => Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 113, 0)) + host).into(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, e, f, (host >> 16) as u16, host as u16).into()
        }
    };
    SocketAddr::new(ip, port)
}

/// The first of all clients with live flows.
pub fn first_live(cast: &Cast) -> SocketAddr {
    client(cast, 1, 1024)
}

/// The first of all invented clients, which have 2^24 addresses and all ports but 0.
pub fn first_invented(cast: &Cast) -> SocketAddr {
    let ip: IpAddr = match cast.client.ip() {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 0).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 0).into(),
    };
    SocketAddr::new(ip, 1)
}

/// A wave, and from which side it comes.
pub type Part = (Client, Wave);

/// Invented clients: how many addresses, and ports of each.
pub type Clients = [u32; 2];
/// So many that hardly one comes twice.
pub const COUNTLESS: Clients = [1 << 24, 65_535];

/// From invented clients to the service.
pub fn invented(cast: &Cast, protocol: Protocol, clients: Clients, flags: u8, ack: u32) -> Part {
    let packet = packet(protocol, first_invented(cast), cast.vip).flags(flags).ack(ack);
    (Client::Source, Wave::new(&packet.build(), Client::Source, clients[0], clients[1]))
}

/// What the endpoint says to these.
pub fn answer(cast: &Cast, protocol: Protocol, clients: Clients, flags: u8) -> Part {
    let packet = packet(protocol, cast.v2[0], first_invented(cast)).flags(flags).seq(1).ack(2);
    (Client::Destination, Wave::new(&packet.build(), Client::Destination, clients[0], clients[1]))
}

/// In the name of clients with live flows, or of their endpoint. Numbers are drawn, from all that
/// are out of the window, or from all.
pub fn guessed(cast: &Cast, from: Client, flags: u8, out_of_window: bool) -> Part {
    let (live, [addresses, ports]) = (first_live(cast), LIVE);
    let (packet, known) = match from {
        Client::Source => (Packet::tcp(live, cast.vip), FIRST_CLIENT),
        Client::Destination => (Packet::tcp(cast.v1[0], live), FIRST_ENDPOINT),
    };
    let wave = Wave::new(&packet.flags(flags).build(), from, addresses, ports);
    if !out_of_window {
        return (from, wave.sequences(0, u32::MAX));
    }
    let (ahead, behind) = (known + (2 << 20), known.wrapping_sub(2 << 20));
    assert!(!in_window(ahead, known) && !in_window(behind, known));
    (from, wave.sequences(ahead, behind.wrapping_sub(ahead)))
}

pub fn packet(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to),
        Protocol::Udp => Packet::udp(from, to).payload(b"twelve bytes"),
    }
}

/// A client's flow up to its first data; each step can be taken by itself.
pub struct Flow {
    pub client: SocketAddr,
    pub endpoint: Option<SocketAddr>,
}

impl Flow {
    pub fn new(client: SocketAddr) -> Self {
        Self { client, endpoint: None }
    }

    /// The client's first packet.
    pub fn open(&mut self, stage: &mut Stage<'_>) {
        self.endpoint = Some(stage.forward(self.client, SYN, FIRST_CLIENT - 1, 0));
    }

    /// The endpoint's first one.
    pub fn accept(&self, stage: &mut Stage<'_>) {
        stage.reply(self.endpoint.expect("opened"), self.client, SYN | ACK, FIRST_ENDPOINT - 1);
    }

    /// The client goes on.
    pub fn go_on(&self, stage: &mut Stage<'_>) {
        let to = stage.forward(self.client, ACK, FIRST_CLIENT, FIRST_ENDPOINT);
        assert_eq!(Some(to), self.endpoint, "{}: {} moved", stage.what, self.client);
    }

    /// So does the endpoint.
    pub fn answer(&self, stage: &mut Stage<'_>) {
        stage.reply(self.endpoint.expect("opened"), self.client, ACK, FIRST_ENDPOINT);
    }
}

/// A node, and what is sent through it.
pub struct Stage<'a> {
    pub node: &'a mut Node,
    pub cast: &'a Cast,
    pub hook: Hook,
    pub protocol: Protocol,
    pub split: Split,
    pub what: String,
}

impl Stage<'_> {
    /// Where a packet of a client goes.
    pub fn forward(&mut self, from: SocketAddr, flags: u8, sequence: u32, ack: u32) -> SocketAddr {
        let packet = packet(self.protocol, from, self.cast.vip);
        let frame = packet.flags(flags).seq(sequence).ack(ack).build();
        tuple(self.node.pass(self.hook, &frame)).expect("a tuple").destination
    }

    /// An endpoint's packet, which the client must get from the service.
    pub fn reply(&mut self, from: SocketAddr, to: SocketAddr, flags: u8, sequence: u32) {
        let packet = packet(self.protocol, from, to).flags(flags).seq(sequence).ack(FIRST_CLIENT);
        let seen = tuple(self.node.pass(Hook::Reply, &packet.build())).expect("a tuple");
        assert_eq!((seen.source, seen.destination), (self.cast.vip, to), "{}", self.what);
    }

    /// New flows so far.
    pub fn flows(&mut self) -> u64 {
        self.node.subset(&self.split, "v2").stats.flows
    }

    /// Packets to and from endpoints so far.
    pub fn steered(&mut self) -> u64 {
        let split = self.split.clone();
        let of = |at| {
            let stats = self.node.endpoint(&split, at);
            stats.forward_packets + stats.reply_packets
        };
        [self.cast.v1[0], self.cast.v2[0]].map(of).into_iter().sum()
    }

    /// Opens a live flow from each of these clients. All go to v1; flows after them go to v2.
    pub fn live(&mut self) -> Vec<Flow> {
        let [addresses, ports] = LIVE;
        let all = (0..addresses).flat_map(|host| (0..ports).map(move |port| (host, port)));
        let mut flows: Vec<Flow> =
            all.map(|(host, n)| Flow::new(client(self.cast, 1 + host, 1024 + n as u16))).collect();
        for flow in &mut flows {
            flow.open(self);
            flow.accept(self);
            flow.go_on(self);
            assert_eq!(flow.endpoint, Some(self.cast.v1[0]));
        }
        self.node.let_pass(1);
        flows.iter().for_each(|flow| flow.go_on(self));
        assert_eq!(self.node.entries(), [2 * flows.len(), 0], "{}", self.what);
        // Those of odd ports have said nothing for half of the time that they may.
        let idle = if self.protocol == Protocol::Tcp { 3600 } else { 1800 };
        let age = |port: u16, seen: &mut u32| *seen = seen.wrapping_sub(idle * u32::from(port % 2));
        // The same of both directions.
        let client_port = |sport: u16, dport: u16| u16::from_be(sport).max(u16::from_be(dport));
        self.node.each_v4(|key, e| age(client_port(key.sport, key.dport), &mut e.seen));
        self.node.each_v6(|key, e| age(client_port(key.sport, key.dport), &mut e.seen));
        self.split = reviews(self.node, self.cast, self.protocol, [0, 1]);
        flows
    }

    /// Flows that look as if they were about to end.
    pub fn closing(&mut self) -> usize {
        let mut count = 0;
        let mut look = |state: u16| count += usize::from(state & CLOSING != 0);
        self.node.each_v4(|_, entry| look(entry.state));
        self.node.each_v6(|_, entry| look(entry.state));
        count
    }

    /// Entries of the flow tables, by whose they are.
    pub fn census(&mut self) -> Census {
        // The word of an address that tells hosts of a network apart.
        let last = if self.cast.vip.is_ipv4() { 0 } else { 3 };
        let network = |mut address: [u32; 4]| {
            address[last] &= 0xff00_0000_u32.to_be();
            address
        };
        let live: Vec<_> =
            (1..=LIVE[0]).map(|host| words(client(self.cast, host, 0).ip())).collect();
        let invented = network(words(first_invented(self.cast).ip()));
        let mut census = Census::default();
        let mut look = |client: [u32; 4]| {
            let whose = if live.contains(&client) {
                &mut census.live
            } else if network(client) == invented {
                &mut census.invented
            } else {
                &mut census.honest
            };
            *whose += 1;
        };
        self.node.each_v4(|key, entry| look(client_of(key, entry)));
        self.node.each_v6(|key, entry| look(client_of(key, entry)));
        census
    }
}

/// The client's address of an entry of either direction.
fn client_of<A: Address>(key: &Tuple<A>, entry: &Entry<A>) -> [u32; 4] {
    if is_forward(entry.direction) { key.src.words() } else { key.dst.words() }
}

/// Entries of the flow tables, two for each flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Of those that lived before the flood.
    pub live: usize,
    /// Of honest clients that came after them.
    pub honest: usize,
    pub invented: usize,
}

/// The split, each subset with one endpoint.
pub fn reviews(node: &mut Node, cast: &Cast, protocol: Protocol, weights: [u32; 2]) -> Split {
    let subsets: [(&str, u32, &[SocketAddr]); 2] =
        [("v1", weights[0], &cast.v1[..1]), ("v2", weights[1], &cast.v2)];
    let affinity = weir::model::Affinity::None;
    let split = super::split("reviews", (cast.vip, protocol), affinity, &subsets);
    node.publish(&split);
    split
}

/// What a flood needs to be sent; nothing of the stage, so that a thread of its own can send it.
pub struct Sender<'a> {
    generator: &'a mut Generator,
    /// Forward and reply.
    targets: [(Hook, Target); 2],
    parts: Vec<Part>,
}

impl<'a> Sender<'a> {
    pub fn new(
        generator: &'a mut Generator,
        targets: [(Hook, Target); 2],
        parts: Vec<Part>,
    ) -> Self {
        Self { generator, targets, parts }
    }

    /// Waves of the flood.
    pub fn waves(&self) -> u32 {
        self.parts.len() as u32
    }

    /// Sends some packets of each wave; how many these are.
    pub fn send(&mut self, what: &str, count: u32) -> u32 {
        for (from, wave) in &mut self.parts {
            let (hook, target) = match from {
                Client::Source => self.targets[0],
                Client::Destination => self.targets[1],
            };
            let (code, out) = self.generator.send(target, wave, count).expect("a flood");
            assert_eq!(hook.verdict(code), Verdict::Pass, "{what}");
            assert!(checksums_ok(out), "{what}: checksum of {out:02x?}");
        }
        count * self.waves()
    }
}

/// What a generator floods: the programs of a hook and of replies.
pub fn aim(generator: &mut Generator, node: &mut Node, hook: Hook) -> [(Hook, Target); 2] {
    [hook, Hook::Reply].map(|hook| (hook, generator.aim(node.program(hook)).expect("a target")))
}
