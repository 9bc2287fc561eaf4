//! What is measured, and how one measurement is made.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Result, ensure};

use super::Size;
use super::driver::{Driver, Hook, Target};
use super::node::{Node, Program};
use super::scene::{Kind, Scene};

/// Flows that are cycled through.
const MANY: u32 = 64_000;
/// Packets of one measurement of established flows.
const PACKETS: u32 = 2 * MANY;
/// Flows that the flow table is made for: the agent's default.
const CAPACITY: u32 = 262_144;
/// New flows to each of the two splits. Those to both are more than the table holds, so that a
/// flow has left it when its turn comes again.
const NEW: u32 = 200_000;
/// Connections that are made at the same time.
const AT_ONCE: usize = 4000;
/// New flows of one measurement.
const BLOCK: u32 = 20_000;

/// Which flows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flows {
    /// One, over and over.
    One,
    /// Many, in turn.
    Many,
    /// New ones only, into a table with room.
    Empty,
    /// New ones only, into a full table.
    Full,
}

impl Flows {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "64,000 in turn",
            Self::Empty => "into an empty table",
            Self::Full => "into a full table",
        }
    }
}

/// One line of the result.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub v6: bool,
    pub program: Program,
    pub kind: Kind,
    pub flows: Flows,
}

impl Case {
    pub fn all() -> Vec<Self> {
        use Flows::{Empty, Full, Many, One};
        let mut cases = Vec::new();
        for v6 in [false, true] {
            for program in [Program::TcForward, Program::XdpForward] {
                let mut add = |program, kind, flows: [Flows; 2]| {
                    cases.extend(flows.map(|flows| Self { v6, program, kind, flows }));
                };
                add(program, Kind::NonSplit, [One, Many]);
                add(program, Kind::Forward, [One, Many]);
                if program == Program::TcForward {
                    add(Program::TcReply, Kind::Reply, [One, Many]);
                }
                add(program, Kind::New2, [Empty, Full]);
                add(program, Kind::New16, [Empty, Full]);
            }
        }
        cases
    }

    /// The most nanoseconds that it should take.
    pub fn aim(&self) -> Option<f64> {
        match (self.kind, self.flows) {
            (Kind::NonSplit, _) => Some(15.0),
            (Kind::Forward | Kind::Reply, Flows::One) => Some(80.0),
            (Kind::Forward | Kind::Reply, _) => Some(160.0),
            (_, Flows::Full) => Some(700.0),
            _ => None,
        }
    }
}

/// Nanoseconds per packet.
pub struct Sample {
    pub total: f64,
    /// Of the empty program.
    pub empty: f64,
}

/// Where the packets of a family are in the driver.
struct Packets {
    non_split: Range<u32>,
    forward: Range<u32>,
    reply: Range<u32>,
    new2: Range<u32>,
    new16: Range<u32>,
    /// Of the established flows.
    endpoints: Vec<SocketAddr>,
}

impl Packets {
    fn of(&self, kind: Kind) -> Range<u32> {
        match kind {
            Kind::NonSplit => self.non_split.clone(),
            Kind::Forward => self.forward.clone(),
            Kind::Reply | Kind::SynAck => self.reply.clone(),
            Kind::New2 => self.new2.clone(),
            Kind::New16 => self.new16.clone(),
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
    /// With a full table.
    full: Node,
    /// With an empty table, new in each round.
    empty: Node,
}

impl Stage {
    pub fn new() -> Result<Self> {
        let mut driver = Driver::load(2 * (3 * MANY + 2 * NEW))?;
        let scenes = [Scene::new(false)?, Scene::new(true)?];
        let (mut steady, mut full) = (node(&scenes)?, node(&scenes)?);
        let empty = node(&scenes)?;
        let mut families = Vec::new();
        for scene in scenes {
            let endpoints = establish(&mut driver, &mut steady, &scene)?;
            let mut add = |kind, count| {
                let endpoint = |n| endpoints.get(n as usize).copied().unwrap_or(endpoints[0]);
                driver.add((0..count).map(|n| scene.packet(kind, n, endpoint(n))))
            };
            let packets = Packets {
                non_split: add(Kind::NonSplit, MANY)?,
                forward: add(Kind::Forward, MANY)?,
                reply: add(Kind::Reply, MANY)?,
                new2: add(Kind::New2, NEW)?,
                new16: add(Kind::New16, NEW)?,
                endpoints,
            };
            fill(&mut driver, &mut full, &scene, &packets)?;
            families.push((scene, packets));
        }
        Ok(Self { driver, families, steady, full, empty })
    }

    /// Empties what new flows are to find empty.
    pub fn begin_round(&mut self) -> Result<()> {
        let mut node = Node::load(CAPACITY)?;
        for (scene, _) in &self.families {
            node.publish(&scene.two)?;
            node.publish(&scene.sixteen)?;
        }
        self.empty = node;
        Ok(())
    }

    /// The empty program alone (as `total`), and driven over one packet.
    pub fn floor(&mut self, hook: Hook) -> Result<Sample> {
        let (scene, packets) = &self.families[0];
        let frame = scene.packet(Kind::Forward, 0, packets.endpoints[0]);
        let one = first(&packets.forward, 1);
        let empty = self.driver.empty(hook)?;
        let total = self.driver.floor(hook, &frame, PACKETS)?;
        Ok(Sample { total, empty: self.driver.run(&empty, one, &frame, PACKETS)?.ns })
    }

    /// Measures a case: the empty program and the one in question over the same packets. The
    /// last one's fate is checked.
    pub fn measure(&mut self, case: &Case, round: usize) -> Result<Sample> {
        let (scene, packets) = &self.families[usize::from(case.v6)];
        let all = packets.of(case.kind);
        let (node, chosen, count) = match case.flows {
            Flows::One => (&mut self.steady, first(&all, 1), PACKETS),
            Flows::Many => (&mut self.steady, all.clone(), PACKETS),
            Flows::Empty => (&mut self.empty, block(&all, case.program.hook(), 0), BLOCK),
            Flows::Full => (&mut self.full, block(&all, case.program.hook(), round), BLOCK),
        };
        let target = node.target(case.program)?;
        let empty = self.driver.empty(target.hook)?;
        let endpoint = |n: u32| match case.kind {
            Kind::New2 | Kind::New16 => scene.endpoint(case.kind, n),
            _ => Ok(packets.endpoints[n as usize]),
        };
        let last = chosen.start - all.start + (count - 1) % chosen.len() as u32;
        let endpoint = endpoint(last)?;
        let frame = scene.packet(case.kind, last, endpoint);

        // Caches are warm, and what programs do for a flow once a second is done.
        let new = matches!(case.kind, Kind::New2 | Kind::New16);
        let warm_up = if new { &empty } else { &target };
        self.driver.run(warm_up, chosen.clone(), &frame, chosen.len() as u32)?;
        let base = self.driver.run(&empty, chosen.clone(), &frame, count)?;
        ensure!(base.frame == frame, "the driver does not restore packets");
        let before = node.steered(scene.split(case.kind))?;
        let run = self.driver.run(&target, chosen, &frame, count)?;
        let steered = node.steered(scene.split(case.kind))? - before;
        ensure!(steered == if new { count.into() } else { 0 }, "{steered} new flows");
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
fn node(scenes: &[Scene]) -> Result<Node> {
    let mut node = Node::load(CAPACITY)?;
    for scene in scenes {
        node.publish(&scene.two)?;
        node.publish(&scene.sixteen)?;
    }
    Ok(node)
}

fn first(range: &Range<u32>, count: u32) -> Range<u32> {
    range.start..range.start + count
}

/// The new flows of a round: those of TC and XDP by turns.
fn block(range: &Range<u32>, hook: Hook, round: usize) -> Range<u32> {
    let at = (2 * round as u32 + hook as u32) % (NEW / BLOCK);
    let start = range.start + at * BLOCK;
    start..start + BLOCK
}

/// Makes connections through the programs, and checks each packet of each. Their endpoints.
fn establish(driver: &mut Driver, node: &mut Node, scene: &Scene) -> Result<Vec<SocketAddr>> {
    let target = |node: &mut Node, program| -> Result<Target> { node.target(program) };
    let [forward, reply] = [target(node, Program::TcForward)?, target(node, Program::TcReply)?];
    let xdp = target(node, Program::XdpForward)?;
    let rest = [
        (&reply, Kind::SynAck),
        (&forward, Kind::Forward),
        (&reply, Kind::Reply),
        (&xdp, Kind::Forward),
    ];
    let mut endpoints = Vec::new();
    // Some at a time, so that the table of pending flows holds them.
    for first in (0..MANY).step_by(AT_ONCE) {
        let flows = first..MANY.min(first + AT_ONCE as u32);
        for n in flows.clone() {
            let out = driver.once(&forward, &scene.packet(Kind::New2, n, scene.client(n)))?;
            let endpoint = scene.endpoint(Kind::New2, n)?;
            scene.check(Kind::New2, n, endpoint, &out)?;
            endpoints.push(endpoint);
        }
        for (target, kind) in rest {
            for n in flows.clone() {
                let endpoint = endpoints[n as usize];
                let out = driver.once(target, &scene.packet(kind, n, endpoint))?;
                scene.check(kind, n, endpoint, &out)?;
            }
        }
    }
    Ok(endpoints)
}

/// Fills a flow table, in the order in which the rounds go on.
fn fill(driver: &mut Driver, node: &mut Node, scene: &Scene, packets: &Packets) -> Result<()> {
    let target = node.target(Program::TcForward)?;
    for (round, hook) in (0..).flat_map(|round| Hook::ALL.map(|hook| (round, hook))) {
        if round * 2 * BLOCK as usize >= NEW as usize {
            break;
        }
        for kind in [Kind::New2, Kind::New16] {
            let frame = scene.packet(kind, 0, packets.endpoints[0]);
            driver.run(&target, block(&packets.of(kind), hook, round), &frame, BLOCK)?;
        }
    }
    for kind in [Kind::New2, Kind::New16] {
        let steered = node.steered(scene.split(kind))?;
        ensure!(steered == u64::from(NEW), "{steered} new flows instead of {NEW}");
    }
    Ok(())
}
