//! A node of one size, and how a packet is measured on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use weir_tests::packet::{ACK, Packet, tuple};

use super::axis::{Axis, PORT};
use crate::packet::driver::{Driver, Hook};
use crate::packet::node::{Node, Program};
use crate::packet::scene::{Kind, PAYLOAD, Scene};

/// New flows of one measurement. The table of pending flows has room for more.
const BLOCK: u32 = 4_000;
/// Packets of one measurement of flows that are established.
const PACKETS: u32 = 100_000;
/// Packets to destinations that are no service address.
const OTHERS: u32 = 10_000;
/// Coprime to all numbers of flows, so that flows take turns in an order that has nothing to do
/// with where their entries are.
const STRIDE: u64 = 611_953;

/// Packets that the driver has of a subject at a time, at most.
pub fn packets(axis: Axis, size: u32, rounds: u32) -> u32 {
    let kinds = if Case::NewToOne.belongs_to(axis) { 2 } else { 1 };
    OTHERS + axis.live(size) + (kinds * rounds + 1) * 3 * BLOCK
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Packets to many destinations that are no service address, with the services' port.
    NonSplit,
    /// Packets of one live flow.
    One,
    /// Packets of all live flows in turn.
    All,
    /// First packets of flows to one of the splits.
    NewToOne,
    /// First packets of flows to all splits in turn.
    New,
}

impl Case {
    pub const ALL: [Self; 5] = [Self::NonSplit, Self::One, Self::All, Self::NewToOne, Self::New];

    pub fn name(self) -> &'static str {
        match self {
            Self::NonSplit => "non-split",
            Self::One => "established, one flow",
            Self::All => "established, all in turn",
            Self::NewToOne => "new flow (SYN), to one split",
            Self::New => "new flow (SYN)",
        }
    }

    /// Whether it says something that the others do not.
    pub fn belongs_to(self, axis: Axis) -> bool {
        self != Self::NewToOne || axis == Axis::Splits
    }
}

/// A flow: its split's position, and the number of its client.
#[derive(Clone, Copy)]
struct Flow {
    split: usize,
    client: u32,
}

/// New flows in the driver: the packets of their handshakes, kind by kind.
struct Block {
    /// The last of them.
    last: (Flow, SocketAddr),
    syn: Range<u32>,
    syn_ack: Range<u32>,
    ack: Range<u32>,
}

/// Nanoseconds per packet.
pub struct Sample {
    pub total: f64,
    /// Of the empty program.
    pub empty: f64,
}

/// A node with splits and live flows.
pub struct Subject {
    node: Node,
    scenes: Vec<Scene>,
    non_split: Range<u32>,
    /// Of the live flows, in another order than they came.
    all: Range<u32>,
    last: (Flow, SocketAddr),
    /// By round.
    to_one: Vec<Block>,
    new: Vec<Block>,
}

impl Subject {
    /// With packets for so many rounds.
    pub fn new(driver: &mut Driver, axis: Axis, size: u32, rounds: u32) -> Result<Self> {
        let scenes = axis.splits(size)?.into_iter();
        // The other split of a scene is not used.
        let scenes = scenes.map(|split| Scene { v6: false, sixteen: split.clone(), two: split });
        let scenes: Vec<Scene> = scenes.collect();
        let [mut node, mut scout] = [node(axis, &scenes)?, node(axis, &scenes)?];

        let flow = |client| Flow { split: client as usize % scenes.len(), client };
        let live = axis.live(size);
        let flows: Vec<Flow> = (0..live).map(flow).collect();
        let endpoints = establish(driver, &mut node, &scenes, &flows)?;
        let shuffled = (0..u64::from(live)).map(|n| (n * STRIDE % u64::from(live)) as usize);
        let shuffled: Vec<_> = shuffled.map(|at| (flows[at], endpoints[at])).collect();
        let packets =
            shuffled.iter().map(|&(flow, endpoint)| packet(&scenes, Kind::Ack, flow, endpoint));
        let all = driver.add(packets)?;
        let last = shuffled[(PACKETS - 1) as usize % shuffled.len()];

        let mut block = |number: u32, flow: &dyn Fn(u32) -> Flow| {
            let first = live + number * BLOCK;
            let flows: Vec<Flow> = (first..first + BLOCK).map(flow).collect();
            // Each node gives a flow the same endpoint.
            let endpoints = steer(driver, &mut scout, &scenes, &flows)?;
            Block::new(driver, &scenes, &flows, &endpoints)
        };
        let one = |client| Flow { split: 0, client };
        let to_one = if Case::NewToOne.belongs_to(axis) { rounds } else { 0 };
        let to_one = (0..to_one).map(|round| block(2 * round, &one)).collect::<Result<_>>()?;
        let new = (0..rounds).map(|round| block(2 * round + 1, &flow)).collect::<Result<_>>()?;
        let non_split = driver.add((0..OTHERS).map(other))?;
        Ok(Self { node, scenes, non_split, all, last, to_one, new })
    }

    /// Measures a case: the empty program and weir's over the same packets. The fate of the last
    /// one is checked, and the counts of flows.
    pub fn measure(&mut self, driver: &mut Driver, case: Case, round: usize) -> Result<Sample> {
        let forward = self.node.target(Program::TcForward)?;
        match case {
            Case::NonSplit => {
                let last = other((PACKETS - 1) % OTHERS);
                let (sample, out) = self.run(driver, self.non_split.clone(), PACKETS, 0, true)?;
                ensure!(out == last, "a packet that is not weir's business was changed");
                Ok(sample)
            }
            Case::One | Case::All => {
                let one = self.all.start..self.all.start + 1;
                let chosen = if case == Case::One { one } else { self.all.clone() };
                let (sample, out) = self.run(driver, chosen, PACKETS, 0, true)?;
                if case == Case::All {
                    check(&self.scenes, Kind::Ack, self.last, &out)?;
                }
                Ok(sample)
            }
            Case::NewToOne | Case::New => {
                let blocks = if case == Case::New { &self.new } else { &self.to_one };
                let block = &blocks[round];
                let [syn, syn_ack, ack] =
                    [&block.syn, &block.syn_ack, &block.ack].map(Range::clone);
                let last = block.last;
                let (sample, out) = self.run(driver, syn, BLOCK, BLOCK, false)?;
                check(&self.scenes, Kind::Syn2, last, &out)?;
                // They leave the table of pending flows.
                let reply = self.node.target(Program::TcReply)?;
                let frame = packet(&self.scenes, Kind::SynAck, last.0, last.1);
                driver.run(&reply, syn_ack, &frame, BLOCK)?;
                driver.run(&forward, ack, &frame, BLOCK)?;
                Ok(sample)
            }
        }
    }

    /// Runs the empty program and weir's on packets, which must make so many new flows. `known`:
    /// whether weir may see the packets before it is measured.
    fn run(
        &mut self,
        driver: &mut Driver,
        packets: Range<u32>,
        count: u32,
        new: u32,
        known: bool,
    ) -> Result<(Sample, Vec<u8>)> {
        let target = self.node.target(Program::TcForward)?;
        let empty = driver.empty(Hook::Tc)?;
        let frame = other(0);
        // Not between the runs: to ask for the counters of thousands of splits leaves little of
        // the packets and tables in the caches.
        let before = flows(&self.node, &self.scenes)?;
        // Caches are as warm as they get, and what is done for a flow once a second is done.
        let warm_up = if known { &target } else { &empty };
        driver.run(warm_up, packets.clone(), &frame, packets.len() as u32)?;
        let base = driver.run(&empty, packets.clone(), &frame, count)?;
        let run = driver.run(&target, packets, &frame, count)?;
        let grown = flows(&self.node, &self.scenes)? - before;
        ensure!(grown == u64::from(new), "{grown} new flows instead of {new}");
        Ok((Sample { total: run.ns, empty: base.ns }, run.frame))
    }
}

impl Block {
    fn new(
        driver: &mut Driver,
        scenes: &[Scene],
        flows: &[Flow],
        endpoints: &[SocketAddr],
    ) -> Result<Self> {
        let mut add = |kind| {
            let each = flows.iter().zip(endpoints);
            driver.add(each.map(|(&flow, &endpoint)| packet(scenes, kind, flow, endpoint)))
        };
        let [syn, syn_ack, ack] = [Kind::Syn2, Kind::SynAck, Kind::Ack].map(&mut add);
        let last = flows.last().copied().zip(endpoints.last().copied()).context("no flows")?;
        Ok(Self { last, syn: syn?, syn_ack: syn_ack?, ack: ack? })
    }
}

fn node(axis: Axis, scenes: &[Scene]) -> Result<Node> {
    let mut node = Node::with(axis.settings())?;
    for scene in scenes {
        node.publish(&scene.two)?;
    }
    Ok(node)
}

/// New flows that the programs have counted.
fn flows(node: &Node, scenes: &[Scene]) -> Result<u64> {
    scenes.iter().map(|scene| Ok(node.flows(&scene.two)?.flows)).sum()
}

fn packet(scenes: &[Scene], kind: Kind, flow: Flow, endpoint: SocketAddr) -> Vec<u8> {
    scenes[flow.split].packet(kind, flow.client, endpoint)
}

fn check(
    scenes: &[Scene],
    kind: Kind,
    (flow, endpoint): (Flow, SocketAddr),
    out: &[u8],
) -> Result<()> {
    scenes[flow.split].check(kind, flow.client, endpoint, out)
}

/// A packet that is no business of weir's.
fn other(n: u32) -> Vec<u8> {
    let from = SocketAddr::from((Ipv4Addr::new(10, 7, 0, 1), 40_000));
    let to = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 1)) + n);
    Packet::tcp(from, SocketAddr::from((to, PORT))).flags(ACK).payload(&PAYLOAD).build()
}

/// Sends the first packets of flows, and tells where they went.
fn steer(
    driver: &mut Driver,
    node: &mut Node,
    scenes: &[Scene],
    flows: &[Flow],
) -> Result<Vec<SocketAddr>> {
    let target = node.target(Program::TcForward)?;
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut endpoints = Vec::with_capacity(flows.len());
    for &flow in flows {
        let out = driver.once(&target, &packet(scenes, Kind::Syn2, flow, nobody))?;
        let to = tuple(&out).context("not even a TCP packet came out")?.destination;
        let mut subsets = scenes[flow.split].two.subsets().iter();
        ensure!(subsets.any(|s| s.endpoints.contains(&to)), "{to} is no endpoint of the split");
        endpoints.push(to);
    }
    Ok(endpoints)
}

/// Makes connections through the programs.
fn establish(
    driver: &mut Driver,
    node: &mut Node,
    scenes: &[Scene],
    flows: &[Flow],
) -> Result<Vec<SocketAddr>> {
    let (forward, reply) = (node.target(Program::TcForward)?, node.target(Program::TcReply)?);
    let mut all = Vec::with_capacity(flows.len());
    // No more at once than the table of pending flows holds.
    for flows in flows.chunks(BLOCK as usize) {
        let endpoints = steer(driver, node, scenes, flows)?;
        let mark = driver.mark();
        let block = Block::new(driver, scenes, flows, &endpoints)?;
        let frame = packet(scenes, Kind::Ack, block.last.0, block.last.1);
        let count = flows.len() as u32;
        driver.run(&reply, block.syn_ack, &frame, count)?;
        let out = driver.run(&forward, block.ack, &frame, count)?.frame;
        check(scenes, Kind::Ack, block.last, &out)?;
        driver.forget(mark);
        all.extend(endpoints);
    }
    Ok(all)
}
