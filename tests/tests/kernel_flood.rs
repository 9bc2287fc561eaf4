//! Floods of packets that nobody honest sends, while connections live and are made.
//!
//! Half a million packets of each kind, unless WEIR_FLOOD_PACKETS says another number:
//! `cargo xtask stress floods` sends ten million.

mod kernel;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kernel::cpus::stay_on_cpu;
use kernel::stage::{
    COUNTLESS, Census, Clients, FIRST_CLIENT, FIRST_ENDPOINT, Flow, Part, Sender, Stage, aim,
    answer, client, guessed, invented, reviews,
};
use kernel::{Cast, Hook, Node, casts, settings};
use probe_common::reason::Reason;
use weir::datapath::{Settings, new_flows};
use weir::model::Protocol;
use weir_tests::flood::{Client, Generator};
use weir_tests::packet::{ACK, FIN, RST, SYN};

/// Packets of a flood: fifteen times the room for new flows.
const PACKETS: u32 = 500_000;
/// Packets of each wave of a flood between two packets of an honest client, at most, and between
/// its packet and what the endpoint says to it: a millisecond, if a million come in a second.
const STEP: u32 = 1000;
/// Live flows that go on in each step: half of all do, at least once in the shortest flood.
const GO_ON: u32 = 16;
/// After so many steps, another honest client begins.
const BEGIN: u32 = 10;
/// What an honest client's round trip takes, in steps; each has one of these.
const ROUND_TRIPS: [u32; 4] = [1, 3, 10, 30];
/// Steps that an honest client is under way, at most.
const LONGEST: u32 = 2 * (30 + 2);

/// What a number that is in the window of a live flow by chance makes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hits {
    /// There is none.
    None,
    /// It looks as if it were about to end, until its client goes on.
    Undone,
    /// The same, and after that.
    Lasting,
}

/// A flood.
struct Kind {
    name: &'static str,
    /// Of the flood, and of the flows that live meanwhile.
    protocol: Protocol,
    /// Sent in turn, some of each.
    waves: fn(&Cast) -> Vec<Part>,
    hits: Hits,
    /// Invented clients whose flows come to live, as nobody can tell them from honest ones.
    come_to_live: u32,
}

const fn kind(name: &'static str, protocol: Protocol, waves: fn(&Cast) -> Vec<Part>) -> Kind {
    Kind { name, protocol, waves, hits: Hits::None, come_to_live: 0 }
}

/// Addresses and ports of clients that come again and again, few enough for the table.
const FEW: Clients = [16, 1024];
/// The same, of more than there is room for.
const MANY: Clients = [128, 1024];

fn kinds() -> Vec<Kind> {
    use Client::{Destination, Source};
    use Protocol::{Tcp, Udp};
    vec![
        kind("SYNs", Tcp, |c| vec![invented(c, Tcp, COUNTLESS, SYN, 0)]),
        kind("SYNs, and the endpoint's SYN-ACKs", Tcp, |c| {
            vec![invented(c, Tcp, COUNTLESS, SYN, 0), answer(c, Tcp, COUNTLESS, SYN | ACK)]
        }),
        kind("SYNs, and the endpoint's RSTs", Tcp, |c| {
            vec![invented(c, Tcp, COUNTLESS, SYN, 0), answer(c, Tcp, COUNTLESS, RST | ACK)]
        }),
        // Of who saw no SYN-ACK: the endpoint's answers give their numbers as 1.
        kind("SYNs, the endpoint's SYN-ACKs, and ACKs of another number", Tcp, |c| {
            vec![
                invented(c, Tcp, COUNTLESS, SYN, 0),
                answer(c, Tcp, COUNTLESS, SYN | ACK),
                invented(c, Tcp, COUNTLESS, ACK, 0xdead_beef),
            ]
        }),
        kind("segments of no flow", Tcp, |c| vec![invented(c, Tcp, COUNTLESS, ACK, 0)]),
        kind("segments of no flow, and the endpoint's RSTs", Tcp, |c| {
            vec![invented(c, Tcp, COUNTLESS, ACK, 0), answer(c, Tcp, COUNTLESS, RST)]
        }),
        kind("RSTs of no flow", Tcp, |c| vec![invented(c, Tcp, COUNTLESS, RST, 0)]),
        kind("FINs of no flow", Tcp, |c| vec![invented(c, Tcp, COUNTLESS, FIN | ACK, 0)]),
        kind("datagrams", Udp, |c| vec![invented(c, Udp, COUNTLESS, 0, 0)]),
        kind("datagrams, and the endpoint's answers", Udp, |c| {
            vec![invented(c, Udp, COUNTLESS, 0, 0), answer(c, Udp, COUNTLESS, 0)]
        }),
        Kind {
            come_to_live: FEW[0] * FEW[1],
            ..kind("datagrams of clients that come again and again, and answers", Udp, |c| {
                vec![invented(c, Udp, FEW, 0, 0), answer(c, Udp, FEW, 0)]
            })
        },
        kind("RSTs as if of live clients", Tcp, |c| vec![guessed(c, Source, RST, true)]),
        kind("FINs as if of live clients", Tcp, |c| vec![guessed(c, Source, FIN | ACK, true)]),
        kind("RSTs as if of their endpoint", Tcp, |c| vec![guessed(c, Destination, RST, true)]),
        kind("FINs as if of their endpoint", Tcp, |c| {
            vec![guessed(c, Destination, FIN | ACK, true)]
        }),
        Kind {
            hits: Hits::Undone,
            ..kind("RSTs as if of live clients, of any number", Tcp, |c| {
                vec![guessed(c, Source, RST, false)]
            })
        },
        Kind {
            hits: Hits::Lasting,
            ..kind("FINs as if of live clients, of any number", Tcp, |c| {
                vec![guessed(c, Source, FIN | ACK, false)]
            })
        },
        kind("SYNs as if of live clients", Tcp, |c| vec![guessed(c, Source, SYN, true)]),
    ]
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
    /// By round trip: how many there were, and of how many the handshake was evicted before
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

fn packets() -> u32 {
    let Ok(told) = std::env::var("WEIR_FLOOD_PACKETS") else { return PACKETS };
    told.parse().unwrap_or_else(|error| panic!("WEIR_FLOOD_PACKETS={told}: {error}"))
}

/// Sends a flood through a node, and says what came of it.
fn flood(stage: &mut Stage<'_>, mut sender: Sender<'_>, kind: &Kind) -> String {
    let live = stage.live();
    let (adopted, steered) = (stage.node.reason(Reason::FlowAdopted), stage.steered());
    let begun = Instant::now();
    let (mut crowd, mut sent, mut now) = (Crowd::default(), 0, 0);
    let (all, at_once) = (packets(), STEP * sender.waves());
    while sent < all {
        // All are through when the flood ends.
        if now % BEGIN == 0 && (all - sent) / at_once > LONGEST {
            crowd.begin(stage.cast, now);
        }
        crowd.step(stage, now);
        for n in GO_ON * now..GO_ON * (now + 1) {
            let active = &live[(2 * n as usize) % live.len()];
            active.answer(stage);
            active.go_on(stage);
        }
        sent += sender.send(&stage.what, STEP);
        now += 1;
    }
    let spent = begun.elapsed();
    let steered = stage.steered() - steered;
    assert!(steered >= u64::from(sent), "{}: {steered} packets steered", stage.what);
    assert!((GO_ON * now) as usize >= live.len() / 2, "{}: {now} steps", stage.what);
    assert!(crowd.under_way.is_empty() && crowd.made > 0, "{}: honest clients", stage.what);
    let census = assert_only_these_live(stage, &live, crowd.made, kind.come_to_live);
    let closing = stage.closing();
    assert!(kind.hits != Hits::None || closing == 0, "{}: {closing} closing", stage.what);
    assert_live(stage, &live, kind.hits != Hits::None);
    let still = stage.closing();
    let lasting = if kind.hits == Hits::Lasting { closing } else { 0 };
    assert!(still <= lasting, "{}: {still} of those that went on are closing", stage.what);
    let mut line = format!(
        "{}: {sent} packets in {:.1} s, {steered} steered, {closing} entries hit; {} of {} live flows live, {} honest \
         ones made; {} entries of invented clients; handshakes evicted",
        stage.what,
        spent.as_secs_f64(),
        live.len(),
        live.len(),
        crowd.made,
        census.invented,
    );
    for (trip, [all, pushed]) in ROUND_TRIPS.iter().zip(crowd.pushed) {
        write!(line, ", in {} packets: {pushed} of {all}", trip * STEP).expect("a string");
    }
    let adopted = stage.node.reason(Reason::FlowAdopted) - adopted;
    write!(line, "; {adopted} adopted, {} KiB of tables", stage.node.memory() >> 10)
        .expect("a string");
    line
}

/// In the flow tables are all of those that lived before the flood, some of the honest clients
/// that came after them, and no others but so many invented ones at most.
fn assert_only_these_live(
    stage: &mut Stage<'_>,
    live: &[Flow],
    honest: u32,
    invented: u32,
) -> Census {
    let census = stage.census();
    assert_eq!(census.live, 2 * live.len(), "{}: {census:?}", stage.what);
    assert!(census.honest <= 2 * honest as usize, "{}: {census:?}", stage.what);
    assert!(census.invented <= 2 * invented as usize, "{}: {census:?}", stage.what);
    let [entries, elements] = stage.node.entries();
    let room = [2 * FLOWS, new_flows(FLOWS)].map(|room| room as usize);
    assert!(entries <= room[0] && elements <= room[1], "{}: {entries}, {elements}", stage.what);
    census
}

/// All live flows go on as if nothing had happened.
fn assert_live(stage: &mut Stage<'_>, live: &[Flow], client_first: bool) {
    let before = stage.flows();
    for (n, flow) in live.iter().enumerate() {
        // Whoever speaks first; but a client that was reset in its name says first that it lives.
        if n % 2 == 0 && !client_first {
            flow.answer(stage);
        }
        flow.go_on(stage);
        flow.answer(stage);
    }
    assert_eq!(stage.flows(), before, "{}: live flows were forgotten", stage.what);
}

/// Live flows for which there is room.
const FLOWS: u32 = 65_536;

fn node() -> Node {
    let idle = Duration::from_secs(7200);
    Node::untouched(&Settings { flows: FLOWS, tcp_idle: idle, udp_idle: idle, ..settings() })
}

fn check(cast: &Cast, hook: Hook) {
    let mut node = node();
    let mut generator = Generator::load().expect("the generator loads");
    let targets = aim(&mut generator, &mut node, hook);
    for kind in kinds() {
        node.forget();
        let split = reviews(&mut node, cast, kind.protocol, [1, 0]);
        let what = format!("{cast} {hook:?}, {}", kind.name);
        let protocol = kind.protocol;
        let mut stage = Stage { node: &mut node, cast, hook, protocol, split, what };
        let sender = Sender::new(&mut generator, targets, (kind.waves)(cast));
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

/// Of a map: its elements are made when they are written (BPF_F_NO_PREALLOC).
const NO_PREALLOC: u32 = 1;

/// What a flood fills is there from the start: programs take no memory.
#[test]
fn maps_that_programs_use_have_all_of_their_memory_from_the_start() {
    let flags = Node::new().map_flags();
    let needed = [
        "FLOWS_V4",
        "FLOWS_V6",
        "FRAGMENTS_V4",
        "FRAGMENTS_V6",
        "NEW_FLOWS_V4",
        "NEW_FLOWS_V6",
        "SERVICES",
    ];
    assert!(needed.iter().all(|need| flags.iter().any(|(name, _)| name == need)), "{flags:?}");
    // In these, programs write nothing: user space does, and they take out.
    let written =
        flags.iter().filter(|(name, _)| !["FOREIGN_V4", "FOREIGN_V6"].contains(&name.as_str()));
    let grow: Vec<_> = written.filter(|(_, flags)| flags & NO_PREALLOC != 0).collect();
    assert!(grow.is_empty(), "{grow:?} grow");
    println!("{} maps, none of which grows", flags.len());
}

/// Two floods on two CPUs at once, in the name of the same invented clients in the same order, so
/// that both begin the same flows at the same time; live flows go on meanwhile.
#[test]
fn floods_on_two_cpus_at_once_move_and_evict_nothing_that_lives() {
    let casts = casts();
    for (cast, hook) in [(&casts[0], Hook::Tc), (&casts[1], Hook::Xdp)] {
        let what = format!("{cast} {hook:?}, two floods at once");
        let mut node = node();
        let mut generators = [(); 2].map(|()| Generator::load().expect("the generator loads"));
        let protocol = Protocol::Tcp;
        let split = reviews(&mut node, cast, protocol, [1, 0]);
        let targets = generators.each_mut().map(|generator| aim(generator, &mut node, hook));
        let mut stage = Stage { node: &mut node, cast, hook, protocol, split, what: what.clone() };
        let live = stage.live();
        let (all, sent, ended) = (packets(), AtomicU32::new(0), AtomicU32::new(0));
        let waves: [Vec<Part>; 2] = [
            vec![
                invented(cast, protocol, COUNTLESS, SYN, 0),
                answer(cast, protocol, COUNTLESS, SYN | ACK),
            ],
            vec![
                invented(cast, protocol, COUNTLESS, SYN, 0),
                invented(cast, protocol, COUNTLESS, ACK, 0xdead_beef),
            ],
        ];
        let begun = Instant::now();
        let (cpus, went_on) = std::thread::scope(|scope| {
            let (what, sent, ended) = (&what, &sent, &ended);
            let floods = generators.iter_mut().zip(targets).zip(waves).enumerate();
            let floods: Vec<_> = floods
                .map(|(number, ((generator, targets), parts))| {
                    scope.spawn(move || {
                        let _ended = CountOnDrop(ended);
                        let cpu = stay_on_cpu(number);
                        let mut sender = Sender::new(generator, targets, parts);
                        let mut own = 0;
                        while own < all {
                            own += sender.send(what, STEP);
                        }
                        sent.fetch_add(own, Ordering::Relaxed);
                        cpu
                    })
                })
                .collect();
            let mut went_on = 0;
            while ended.load(Ordering::Relaxed) < 2 {
                let active = &live[(2 * went_on) % live.len()];
                active.answer(&mut stage);
                active.go_on(&mut stage);
                went_on += 1;
            }
            let cpus: Vec<_> = floods.into_iter().map(|flood| flood.join().expect(what)).collect();
            (cpus, went_on)
        });
        let spent = begun.elapsed().as_secs_f64();
        assert_only_these_live(&mut stage, &live, 0, 0);
        assert_eq!(stage.closing(), 0, "{what}");
        assert_live(&mut stage, &live, false);
        println!(
            "{what}: {} packets on CPUs {cpus:?} in {spent:.1} s; {went_on} times a live flow went \
             on; {} of {} live",
            sent.into_inner(),
            live.len(),
            live.len()
        );
    }
}

/// Tells that a thread has ended, however.
struct CountOnDrop<'a>(&'a AtomicU32);

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Datagrams prove nothing: clients that come again, and are answered, are as good as honest ones.
/// More of them than there is room for evict flows that were silent for longer, of TCP, too. No
/// packet goes to a wrong endpoint even then, and what is forgotten is counted.
#[test]
fn datagrams_of_more_clients_than_there_is_room_for_mislead_nobody() {
    for cast in &casts() {
        let (hook, protocol) = (Hook::Tc, Protocol::Tcp);
        let what = format!("{cast}, {} clients that come again and again", MANY[0] * MANY[1]);
        let mut node = node();
        let mut generator = Generator::load().expect("the generator loads");
        let targets = aim(&mut generator, &mut node, hook);
        // Datagrams to a service of their own, at the same address and port.
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v2", 1, &cast.v2)];
        let affinity = weir::model::Affinity::None;
        node.publish(&kernel::split("names", (cast.vip, Protocol::Udp), affinity, &subsets));
        let split = reviews(&mut node, cast, protocol, [1, 0]);
        let mut stage = Stage { node: &mut node, cast, hook, protocol, split, what: what.clone() };
        let live = stage.live();
        let parts =
            vec![invented(cast, Protocol::Udp, MANY, 0, 0), answer(cast, Protocol::Udp, MANY, 0)];
        let mut sender = Sender::new(&mut generator, targets, parts);
        // Most of them come three times.
        let mut sent = 0;
        while sent < 2 * packets() {
            sent += sender.send(&what, STEP);
        }
        let census = stage.census();
        let [entries, _] = stage.node.entries();
        assert!(entries <= 2 * FLOWS as usize, "{what}: {entries} entries");
        assert!(census.live < 2 * live.len(), "{what}: {census:?}: that was no flood");
        let (before, adopted) = (stage.flows(), stage.node.reason(Reason::FlowAdopted));
        let mut moved = 0;
        for flow in &live {
            let to = stage.forward(flow.client, ACK, FIRST_CLIENT, FIRST_ENDPOINT);
            assert!([cast.v1[0], cast.v2[0]].contains(&to), "{what}: to {to}");
            moved += u64::from(to == cast.v2[0]);
            stage.reply(to, flow.client, ACK, FIRST_ENDPOINT);
        }
        assert_eq!(stage.flows() - before, moved, "{what}: those that moved were forgotten");
        let adopted = stage.node.reason(Reason::FlowAdopted) - adopted;
        assert_eq!(adopted, moved, "{what}: and were counted");
        for port in 1024..1524 {
            let mut flow = Flow::new(client(cast, 100, port));
            flow.open(&mut stage);
            flow.accept(&mut stage);
            flow.go_on(&mut stage);
            flow.answer(&mut stage);
            assert_eq!(flow.endpoint, Some(cast.v2[0]), "{what}: new connections");
        }
        println!("{what}: {sent} packets, {entries} entries; {moved} of {} forgotten", live.len());
    }
}
