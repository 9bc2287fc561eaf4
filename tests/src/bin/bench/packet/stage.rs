//! How one measurement is made, and all that has to be there for it.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weir::datapath::Clock;

use super::Size;
use super::cases::{Case, Flows};
use super::driver::{Driver, Hook, Part};
use super::node::{Node, Program};
use super::scene::{Kind, Scene};

/// Flows that are cycled through.
const MANY: u32 = 64_000;
/// Packets of one measurement of established flows.
const PACKETS: u32 = 2 * MANY;
/// Flows that the tables are made for: the agent's default.
const CAPACITY: u32 = 262_144;
/// New flows to each of the two splits: more than the tables hold, so that a flow has left them
/// when its turn comes again.
const NEW: u32 = 640_000;
/// New flows of one measurement. The table of new flows has room for thirty times as many.
const BLOCK: u32 = 4_000;
/// Flows without an answer: as many as there is room for new flows.
const FLOOD: u32 = 131_072;
/// What the driver has of each family, see [`Packets`].
const STORED: u32 = 5 * NEW + FLOOD + MANY;

/// Nanoseconds per packet.
pub struct Sample {
    pub total: f64,
    /// Of the empty program.
    pub empty: f64,
}

/// Where the packets of a family are in the driver, and the endpoints of the flows to the split
/// with two subsets. The first `MANY` of these flows are the established ones.
struct Packets {
    endpoints: Vec<SocketAddr>,
    non_split: Range<u32>,
    reply: Range<u32>,
    syn2: Range<u32>,
    syn16: Range<u32>,
    flood: Range<u32>,
    syn_ack: Range<u32>,
    ack: Range<u32>,
}

impl Packets {
    fn new(driver: &mut Driver, scene: &Scene) -> Result<Self> {
        let endpoints = (0..NEW).map(|n| scene.endpoint(Kind::Syn2, n));
        let endpoints = endpoints.collect::<Result<Vec<_>>>()?;
        let mut add = |kind, count| {
            let flows = (0..count).zip(&endpoints);
            driver.add(flows.map(|(n, &endpoint)| scene.packet(kind, n, endpoint)))
        };
        let (non_split, reply) = (add(Kind::NonSplit, MANY)?, add(Kind::Reply, NEW)?);
        let (syn2, syn16) = (add(Kind::Syn2, NEW)?, add(Kind::Syn16, NEW)?);
        let (syn_ack, ack) = (add(Kind::SynAck, NEW)?, add(Kind::Ack, NEW)?);
        let others = NEW..NEW + FLOOD;
        let flood = driver.add(others.map(|n| scene.packet(Kind::Syn16, n, endpoints[0])))?;
        Ok(Self { endpoints, non_split, reply, syn2, syn16, flood, syn_ack, ack })
    }

    fn of(&self, kind: Kind) -> Range<u32> {
        match kind {
            Kind::NonSplit => self.non_split.clone(),
            Kind::Forward => first(&self.ack, MANY),
            Kind::Reply => first(&self.reply, MANY),
            Kind::Answer => self.reply.clone(),
            Kind::Syn2 => self.syn2.clone(),
            Kind::Syn16 => self.syn16.clone(),
            Kind::SynAck => self.syn_ack.clone(),
            Kind::Ack | Kind::Later => self.ack.clone(),
        }
    }
}

/// Everything that measurements need.
pub struct Stage {
    driver: Driver,
    /// IPv4, IPv6.
    families: Vec<(Scene, Packets)>,
    /// With the established flows.
    steady: Node,
    /// With full tables.
    full: Node,
    /// With empty tables, new in each round.
    empty: Node,
}

impl Stage {
    pub fn new() -> Result<Self> {
        let mut driver = Driver::load(2 * STORED, CAPACITY)?;
        let mut families = Vec::new();
        for v6 in [false, true] {
            let scene = Scene::new(v6)?;
            let packets = Packets::new(&mut driver, &scene)?;
            families.push((scene, packets));
        }
        let (scene, packets) = &families[0];
        for (n, &endpoint) in (0..MANY).zip(&packets.endpoints) {
            let both = [Kind::Forward, Kind::Reply].map(|kind| scene.packet(kind, n, endpoint));
            driver.know([&both[0], &both[1]])?;
        }
        let [mut steady, mut full] = [node(&families)?, node(&families)?];
        for (scene, packets) in &families {
            establish(&mut driver, &mut steady, scene, packets)?;
            fill(&mut driver, &mut full, scene, packets)?;
        }
        let empty = node(&families)?;
        Ok(Self { driver, families, steady, full, empty })
    }

    /// Empties what new flows are to find empty.
    pub fn begin_round(&mut self) -> Result<()> {
        self.empty = node(&self.families)?;
        Ok(())
    }

    /// The empty program alone (as `total`), and driven over one packet.
    pub fn floor(&mut self, hook: Hook) -> Result<Sample> {
        let (scene, packets) = &self.families[0];
        let frame = scene.packet(Kind::Forward, 0, packets.endpoints[0]);
        let one = first(&packets.ack, 1);
        let empty = self.driver.empty(hook)?;
        let total = self.driver.floor(hook, &frame, PACKETS)?;
        Ok(Sample { total, empty: self.driver.run(&empty, one, &frame, PACKETS)?.ns })
    }

    /// A program that does a part of a packet's way, and the empty one, driven over one packet or
    /// those of many flows in turn.
    pub fn part(&mut self, part: Part) -> Result<Sample> {
        let (scene, packets) = &self.families[0];
        let frame = scene.packet(Kind::Forward, 0, packets.endpoints[0]);
        let chosen = first(&packets.ack, if matches!(part, Part::LookUpMany) { MANY } else { 1 });
        let (empty, part) = (self.driver.empty(Hook::Tc)?, self.driver.part(part)?);
        self.driver.run(&part, chosen.clone(), &frame, chosen.len() as u32)?;
        let empty = self.driver.run(&empty, chosen.clone(), &frame, PACKETS)?.ns;
        Ok(Sample { total: self.driver.run(&part, chosen, &frame, PACKETS)?.ns, empty })
    }

    /// Measures a case: the empty program and the one in question over the same packets. The
    /// last one's fate is checked, and the counts of flows. The packets of a handshake must be
    /// measured in their order, and all of them, or flows do not get into the tables.
    pub fn measure(&mut self, case: &Case, round: usize) -> Result<Sample> {
        let (scene, packets) = &self.families[usize::from(case.v6)];
        let all = packets.of(case.kind);
        let (node, chosen, count) = match case.flows {
            Flows::One => (&mut self.steady, first(&all, 1), PACKETS),
            Flows::Many => (&mut self.steady, all.clone(), PACKETS),
            Flows::Empty => (&mut self.empty, block(&all, case.hook as u32), BLOCK),
            Flows::Full => (&mut self.full, block(&all, turn(case.hook, round)), BLOCK),
        };
        let target = node.target(case.program())?;
        let empty = self.driver.empty(target.hook)?;
        let last = chosen.start - all.start + (count - 1) % chosen.len() as u32;
        let endpoint = match case.kind {
            Kind::Syn16 => scene.endpoint(case.kind, last)?,
            _ => packets.endpoints[last as usize],
        };
        let frame = scene.packet(case.kind, last, endpoint);

        if case.kind == Kind::Later {
            wait_for_ticks();
        }
        if case.flows == Flows::Full && matches!(case.kind, Kind::Syn2 | Kind::Syn16) {
            // New flows are to find others in their place that may go.
            self.driver.run(&target, packets.flood.clone(), &frame, FLOOD)?;
        }
        // Caches are warm, and what programs do for a flow once a second is done.
        let known = matches!(case.flows, Flows::One | Flows::Many);
        let warm_up = if known { &target } else { &empty };
        self.driver.run(warm_up, chosen.clone(), &frame, chosen.len() as u32)?;
        let base = self.driver.run(&empty, chosen.clone(), &frame, count)?;
        ensure!(base.frame == frame, "the driver does not restore packets");
        let split = scene.split(case.kind);
        let before = node.flows(split)?;
        let run = self.driver.run(&target, chosen, &frame, count)?;
        let after = node.flows(split)?;
        let grown = [after.flows - before.flows, after.completed - before.completed];
        let wanted = match case.kind {
            Kind::Syn2 | Kind::Syn16 => [count.into(), 0],
            Kind::Ack => [0, count.into()],
            _ => [0, 0],
        };
        ensure!(grown == wanted, "new flows, and completed ones: {grown:?} instead of {wanted:?}");
        scene.check(case.kind, last, endpoint, &run.frame)?;
        Ok(Sample { total: run.ns, empty: base.ns })
    }

    pub fn size(&mut self, program: Program) -> Result<Size> {
        let info = self.steady.info(program)?;
        Ok(Size {
            program: program.name(),
            verified_instructions: info.verified_instruction_count(),
            translated_bytes: info.size_translated(),
            machine_code_bytes: info.size_jitted(),
        })
    }
}

/// A node with the splits of both families in force.
fn node(families: &[(Scene, Packets)]) -> Result<Node> {
    let mut node = Node::load(CAPACITY)?;
    for (scene, _) in families {
        node.publish(&scene.two)?;
        node.publish(&scene.sixteen)?;
    }
    Ok(node)
}

fn first(range: &Range<u32>, count: u32) -> Range<u32> {
    range.start..range.start + count
}

fn block(range: &Range<u32>, at: u32) -> Range<u32> {
    let start = range.start + at * BLOCK;
    start..start + BLOCK
}

/// Which block a round's new flows are, into full tables: those of TC and XDP by turns.
fn turn(hook: Hook, round: usize) -> u32 {
    (2 * round as u32 + hook as u32) % (NEW / BLOCK)
}

/// Until flows are in another tick of the programs than they were.
fn wait_for_ticks() {
    let clock = Clock::new();
    let from = clock.now();
    while clock.now().wrapping_sub(from) < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes connections through the programs, has them move to the flow tables, and checks each
/// packet of each.
fn establish(driver: &mut Driver, node: &mut Node, scene: &Scene, packets: &Packets) -> Result<()> {
    let forward = node.target(Program::TcForward)?;
    let reply = node.target(Program::TcReply)?;
    let xdp = node.target(Program::XdpForward)?;
    let handshake = [(&forward, Kind::Syn2), (&reply, Kind::SynAck), (&forward, Kind::Ack)];
    let later = [(&forward, Kind::Forward), (&reply, Kind::Reply), (&xdp, Kind::Forward)];
    for steps in [handshake, later] {
        for n in 0..MANY {
            for (target, kind) in steps {
                let endpoint = packets.endpoints[n as usize];
                let out = driver.once(target, &scene.packet(kind, n, endpoint));
                let out = out.with_context(|| format!("{}, flow {n}", kind.name()))?;
                scene.check(kind, n, endpoint, &out)?;
            }
        }
        wait_for_ticks();
    }
    Ok(())
}

/// Fills the tables, in the order in which the rounds go on: new flows that live and have no
/// room any more move to the flow tables.
fn fill(driver: &mut Driver, node: &mut Node, scene: &Scene, packets: &Packets) -> Result<()> {
    let forward = node.target(Program::TcForward)?;
    let reply = node.target(Program::TcReply)?;
    for at in 0..NEW / BLOCK {
        let steps = [(&forward, Kind::Syn2), (&reply, Kind::SynAck), (&forward, Kind::Ack)];
        for (target, kind) in steps {
            let frame = scene.packet(kind, 0, packets.endpoints[0]);
            driver.run(target, block(&packets.of(kind), at), &frame, BLOCK)?;
        }
    }
    let flows = node.flows(&scene.two)?;
    // Blocks of handshakes at a time are many for a table full of live flows: some get lost.
    ensure!(flows.completed > u64::from(NEW - NEW / 100), "{} of {NEW} flows", flows.completed);
    Ok(())
}
