//! Floods of packets that nobody honest sends, while connections live and are made.
//!
//! A million packets of each kind, unless WEIR_FLOOD_PACKETS says another number:
//! `cargo xtask stress floods` sends ten million.

mod kernel;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use kernel::{Cast, Hook, Node, Verdict, casts, settings};
use probe_common::flow::{CLOSING, in_window};
use probe_common::reason::Reason;
use weir::datapath::Settings;
use weir::model::{Protocol, Split};
use weir_tests::flood::{Client, Generator, Target, Wave};
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN, checksums_ok, tuple};

/// Packets of a flood: thirty times the room for young flows.
const PACKETS: u32 = 1_000_000;
/// Addresses of clients with flows that live before the flood, and ports of each.
const LIVE: [u32; 2] = [5, 1000];
/// Packets of each wave of a flood between two packets of an honest client, at most, and between
/// its packet and what the endpoint says to it: a millisecond, if a million come in a second.
const STEP: u32 = 1000;
/// After so many steps, another honest client begins.
const BEGIN: u32 = 10;
/// What an honest client's round trip takes, in steps; each has one of these.
const ROUND_TRIPS: [u32; 4] = [1, 3, 10, 30];
/// Steps that an honest client is under way, at most.
const LONGEST: u32 = 2 * (30 + 2);
/// Sequence number behind a client's SYN.
const FIRST_CLIENT: u32 = 1000;
/// The same of an endpoint.
const FIRST_ENDPOINT: u32 = 5000;

/// The client of a cast, with another last word of its address, and another port.
fn client(cast: &Cast, host: u32, port: u16) -> SocketAddr {
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
fn first_live(cast: &Cast) -> SocketAddr {
    client(cast, 1, 1024)
}

/// The first of all invented clients, which have 2^24 addresses and all ports but 0.
fn first_invented(cast: &Cast) -> SocketAddr {
    let ip: IpAddr = match cast.client.ip() {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 0).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 0).into(),
    };
    SocketAddr::new(ip, 1)
}

/// A wave, and from which side it comes.
type Part = (Client, Wave);

/// From invented clients to the service.
fn invented(cast: &Cast, protocol: Protocol, flags: u8) -> Part {
    let packet = packet(protocol, first_invented(cast), cast.vip).flags(flags);
    (Client::Source, Wave::new(&packet.build(), Client::Source, 1 << 24, 65_535))
}

/// What the endpoint says to these.
fn answer(cast: &Cast, protocol: Protocol, flags: u8) -> Part {
    let packet = packet(protocol, cast.v2[0], first_invented(cast)).flags(flags).seq(1).ack(2);
    (Client::Destination, Wave::new(&packet.build(), Client::Destination, 1 << 24, 65_535))
}

/// In the name of clients with live flows, or of their endpoint. Numbers are drawn, from all that
/// are out of the window, or from all.
fn guessed(cast: &Cast, from: Client, flags: u8, out_of_window: bool) -> Part {
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

fn packet(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(from, to),
        Protocol::Udp => Packet::udp(from, to).payload(b"twelve bytes"),
    }
}

/// A flood.
struct Kind {
    name: &'static str,
    /// Of the flood, and of the flows that live meanwhile.
    protocol: Protocol,
    /// Sent in turn, some of each.
    waves: fn(&Cast) -> Vec<Part>,
    /// Whether some numbers are in the window of a live flow, which then looks as if it had ended.
    hits: bool,
}

const fn kind(name: &'static str, protocol: Protocol, waves: fn(&Cast) -> Vec<Part>) -> Kind {
    Kind { name, protocol, waves, hits: false }
}

fn kinds() -> Vec<Kind> {
    use Client::{Destination, Source};
    use Protocol::{Tcp, Udp};
    vec![
        kind("SYNs", Tcp, |c| vec![invented(c, Tcp, SYN)]),
        kind("SYNs, and the endpoint's SYN-ACKs", Tcp, |c| {
            vec![invented(c, Tcp, SYN), answer(c, Tcp, SYN | ACK)]
        }),
        kind("SYNs, and the endpoint's RSTs", Tcp, |c| {
            vec![invented(c, Tcp, SYN), answer(c, Tcp, RST | ACK)]
        }),
        kind("segments of no flow", Tcp, |c| vec![invented(c, Tcp, ACK)]),
        kind("segments of no flow, and the endpoint's RSTs", Tcp, |c| {
            vec![invented(c, Tcp, ACK), answer(c, Tcp, RST)]
        }),
        kind("RSTs of no flow", Tcp, |c| vec![invented(c, Tcp, RST)]),
        kind("FINs of no flow", Tcp, |c| vec![invented(c, Tcp, FIN | ACK)]),
        kind("datagrams", Udp, |c| vec![invented(c, Udp, 0)]),
        kind("datagrams, and the endpoint's answers", Udp, |c| {
            vec![invented(c, Udp, 0), answer(c, Udp, 0)]
        }),
        kind("RSTs as if of live clients", Tcp, |c| vec![guessed(c, Source, RST, true)]),
        kind("FINs as if of live clients", Tcp, |c| vec![guessed(c, Source, FIN | ACK, true)]),
        kind("RSTs as if of their endpoint", Tcp, |c| vec![guessed(c, Destination, RST, true)]),
        kind("FINs as if of their endpoint", Tcp, |c| {
            vec![guessed(c, Destination, FIN | ACK, true)]
        }),
        Kind {
            hits: true,
            ..kind("RSTs as if of live clients, of any number", Tcp, |c| {
                vec![guessed(c, Source, RST, false)]
            })
        },
        kind("SYNs as if of live clients", Tcp, |c| vec![guessed(c, Source, SYN, true)]),
    ]
}

/// A client's flow up to its first data; each step can be taken by itself.
struct Flow {
    client: SocketAddr,
    endpoint: Option<SocketAddr>,
}

impl Flow {
    fn new(client: SocketAddr) -> Self {
        Self { client, endpoint: None }
    }

    /// The client's first packet.
    fn open(&mut self, stage: &mut Stage<'_>) {
        self.endpoint = Some(stage.forward(self.client, SYN, FIRST_CLIENT - 1, 0));
    }

    /// The endpoint's first one.
    fn accept(&self, stage: &mut Stage<'_>) {
        stage.reply(self.endpoint.expect("opened"), self.client, SYN | ACK, FIRST_ENDPOINT - 1);
    }

    /// The client goes on.
    fn go_on(&self, stage: &mut Stage<'_>) {
        let to = stage.forward(self.client, ACK, FIRST_CLIENT, FIRST_ENDPOINT);
        assert_eq!(Some(to), self.endpoint, "{}: {} moved", stage.what, self.client);
    }

    /// So does the endpoint.
    fn answer(&self, stage: &mut Stage<'_>) {
        stage.reply(self.endpoint.expect("opened"), self.client, ACK, FIRST_ENDPOINT);
    }
}

/// A node, and what is sent through it.
struct Stage<'a> {
    node: &'a mut Node,
    cast: &'a Cast,
    hook: Hook,
    protocol: Protocol,
    split: Split,
    what: String,
}

impl Stage<'_> {
    /// Where a packet of a client goes.
    fn forward(&mut self, from: SocketAddr, flags: u8, sequence: u32, ack: u32) -> SocketAddr {
        let packet = packet(self.protocol, from, self.cast.vip);
        let frame = packet.flags(flags).seq(sequence).ack(ack).build();
        tuple(self.node.pass(self.hook, &frame)).expect("a tuple").destination
    }

    /// An endpoint's packet, which the client must get from the service.
    fn reply(&mut self, from: SocketAddr, to: SocketAddr, flags: u8, sequence: u32) {
        let packet = packet(self.protocol, from, to).flags(flags).seq(sequence).ack(FIRST_CLIENT);
        let seen = tuple(self.node.pass(Hook::Reply, &packet.build())).expect("a tuple");
        assert_eq!((seen.source, seen.destination), (self.cast.vip, to), "{}", self.what);
    }

    /// New flows so far.
    fn flows(&mut self) -> u64 {
        self.node.subset(&self.split, "v2").flows
    }

    /// Opens a live flow from each of these clients. All go to v1; flows after them go to v2.
    fn live(&mut self) -> Vec<Flow> {
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
    fn closing(&mut self) -> usize {
        let mut count = 0;
        let mut look = |state: u16| count += usize::from(state & CLOSING != 0);
        self.node.each_v4(|_, entry| look(entry.state));
        self.node.each_v6(|_, entry| look(entry.state));
        count
    }
}

/// The split, each subset with one endpoint.
fn reviews(node: &mut Node, cast: &Cast, protocol: Protocol, weights: [u32; 2]) -> Split {
    let subsets: [(&str, u32, &[SocketAddr]); 2] =
        [("v1", weights[0], &cast.v1[..1]), ("v2", weights[1], &cast.v2)];
    let affinity = weir::model::Affinity::None;
    let split = kernel::split("reviews", (cast.vip, protocol), affinity, &subsets);
    node.publish(&split);
    split
}

/// An honest client, what it does next, and when.
struct Honest {
    flow: Flow,
    round_trip: u32,
    next: usize,
    at: u32,
}

/// Honest clients, one after the other.
#[derive(Default)]
struct Crowd {
    under_way: VecDeque<Honest>,
    made: u32,
    /// By round trip: how many there were, and of how many the handshake was pushed out before
    /// its end.
    pushed: [[u32; 2]; ROUND_TRIPS.len()],
}

impl Crowd {
    fn begin(&mut self, cast: &Cast, at: u32) {
        let begun: u32 = self.pushed.iter().map(|[all, _]| all).sum();
        let flow = Flow::new(client(cast, 100 + begun / 50_000, 1024 + (begun % 50_000) as u16));
        let round_trip = begun as usize % ROUND_TRIPS.len();
        self.pushed[round_trip][0] += 1;
        let round_trip = ROUND_TRIPS[round_trip];
        self.under_way.push_back(Honest { flow, round_trip, next: 0, at });
    }

    /// Has all whose time has come do their next step.
    fn step(&mut self, stage: &mut Stage<'_>, now: u32) {
        for _ in 0..self.under_way.len() {
            let mut one = self.under_way.pop_front().expect("counted");
            if one.at > now {
                self.under_way.push_back(one);
                continue;
            }
            match one.next {
                0 => one.flow.open(stage),
                1 => one.flow.accept(stage),
                2 => {
                    let before = stage.flows();
                    one.flow.go_on(stage);
                    let kind = ROUND_TRIPS.iter().position(|&trip| trip == one.round_trip);
                    // A flow that is unknown counts as a new one.
                    self.pushed[kind.expect("one of them")][1] += (stage.flows() - before) as u32;
                }
                3 => one.flow.answer(stage),
                _ => {
                    one.flow.go_on(stage);
                    assert_eq!(one.flow.endpoint, Some(stage.cast.v2[0]), "{}", stage.what);
                    self.made += 1;
                    continue;
                }
            }
            // The endpoint's step is a millisecond after the client's.
            one.at = now + if one.next.is_multiple_of(2) { 1 } else { one.round_trip };
            one.next += 1;
            self.under_way.push_back(one);
        }
    }
}

/// What a flood needs to be sent.
struct Sender<'a> {
    generator: &'a mut Generator,
    /// Forward and reply.
    targets: [Target; 2],
    parts: Vec<Part>,
}

impl Sender<'_> {
    /// Sends some packets of each wave; how many these are.
    fn send(&mut self, stage: &Stage<'_>, count: u32) -> u32 {
        for (from, wave) in &mut self.parts {
            let (target, hook) = match from {
                Client::Source => (self.targets[0], stage.hook),
                Client::Destination => (self.targets[1], Hook::Reply),
            };
            let (code, out) = self.generator.send(target, wave, count).expect("a flood");
            assert_eq!(hook.verdict(code), Verdict::Pass, "{}", stage.what);
            assert!(checksums_ok(out), "{}: checksum of {out:02x?}", stage.what);
        }
        count * self.parts.len() as u32
    }
}

fn packets() -> u32 {
    let Ok(told) = std::env::var("WEIR_FLOOD_PACKETS") else { return PACKETS };
    told.parse().unwrap_or_else(|error| panic!("WEIR_FLOOD_PACKETS={told}: {error}"))
}

/// Sends a flood through a node, and says what came of it.
fn flood(stage: &mut Stage<'_>, mut sender: Sender<'_>, kind: &Kind) -> String {
    let live = stage.live();
    let memory = stage.node.memory();
    let (adopted, begun) = (stage.node.reason(Reason::FlowAdopted), Instant::now());
    let (mut crowd, mut sent, mut now) = (Crowd::default(), 0, 0);
    let (all, at_once) = (packets(), STEP * sender.parts.len() as u32);
    while sent < all {
        // All are through when the flood ends.
        if now % BEGIN == 0 && (all - sent) / at_once > LONGEST {
            crowd.begin(stage.cast, now);
        }
        crowd.step(stage, now);
        // Half of the live flows go on, each now and then.
        let active = &live[(2 * now as usize) % live.len()];
        active.answer(stage);
        active.go_on(stage);
        sent += sender.send(stage, STEP);
        now += 1;
    }
    let spent = begun.elapsed();
    assert!(crowd.under_way.is_empty() && crowd.made > 0, "{}: honest clients", stage.what);
    let [entries, _] = stage.node.entries();
    let low = 2 * live.len();
    assert!(entries >= low, "{}: {entries} entries live, not {low}", stage.what);
    let closing = stage.closing();
    assert!(kind.hits || closing == 0, "{}: {closing} entries closing", stage.what);
    let before = stage.flows();
    for (n, flow) in live.iter().enumerate() {
        // Whoever speaks first; but a client that was reset in its name says first that it lives.
        if n % 2 == 0 && !kind.hits {
            flow.answer(stage);
        }
        flow.go_on(stage);
        flow.answer(stage);
    }
    assert_eq!(stage.flows(), before, "{}: live flows were forgotten", stage.what);
    assert_eq!(stage.closing(), 0, "{}: flows that go on are not closing", stage.what);
    assert_eq!(stage.node.memory(), memory, "{}: bytes of maps", stage.what);
    let mut line = format!(
        "{}: {sent} packets in {:.1} s, {closing} entries hit; {} of {} live flows live, {} honest \
         ones made; handshakes pushed out",
        stage.what,
        spent.as_secs_f64(),
        live.len(),
        live.len(),
        crowd.made,
    );
    for (trip, [all, pushed]) in ROUND_TRIPS.iter().zip(crowd.pushed) {
        write!(line, ", in {} packets: {pushed} of {all}", trip * STEP).expect("a string");
    }
    let adopted = stage.node.reason(Reason::FlowAdopted) - adopted;
    write!(line, "; {adopted} adopted, {} KiB of maps", memory >> 10).expect("a string");
    line
}

fn check(cast: &Cast, hook: Hook) {
    let idle = Duration::from_secs(7200);
    let flows = 65_536;
    let mut node = Node::with(&Settings { flows, tcp_idle: idle, udp_idle: idle, ..settings() });
    let mut generator = Generator::load().expect("the generator loads");
    let targets =
        [hook, Hook::Reply].map(|hook| generator.aim(node.program(hook)).expect("a target"));
    for kind in kinds() {
        node.forget();
        let split = reviews(&mut node, cast, kind.protocol, [1, 0]);
        let what = format!("{cast} {hook:?}, {}", kind.name);
        let protocol = kind.protocol;
        let mut stage = Stage { node: &mut node, cast, hook, protocol, split, what };
        let parts = (kind.waves)(cast);
        let sender = Sender { generator: &mut generator, targets, parts };
        println!("{}", flood(&mut stage, sender, &kind));
    }
}

#[test]
fn no_flood_over_ipv4_at_tc_moves_or_evicts_what_lives_or_stops_honest_clients() {
    check(&casts()[0], Hook::Tc);
}

#[test]
fn no_flood_over_ipv6_at_tc_moves_or_evicts_what_lives_or_stops_honest_clients() {
    check(&casts()[1], Hook::Tc);
}

#[test]
fn no_flood_over_ipv4_at_xdp_moves_or_evicts_what_lives_or_stops_honest_clients() {
    check(&casts()[0], Hook::Xdp);
}

#[test]
fn no_flood_over_ipv6_at_xdp_moves_or_evicts_what_lives_or_stops_honest_clients() {
    check(&casts()[1], Hook::Xdp);
}
