//! What happened to a node: steps that can be taken again, and what must come of each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::filter::is_mistaken;
use super::node::{MACS, Node, Program, fits_tc};
use super::world::{Service, services};
use crate::model::sight::{Sight, look};
use crate::model::{COUNTED, Fate, Model, Outcome, Side, looks_partial};
use crate::packet::checksums_ok;

/// A frame on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Where it is seen.
    pub side: Side,
    /// Whether XDP is that of a virtual device.
    pub virtual_device: bool,
    /// The frame.
    pub frame: Vec<u8>,
    /// What it was before it was damaged.
    pub whole: Vec<u8>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A frame comes by.
    Frame(Sent),
    /// A service takes another shape: its number, and the shape's.
    Shape(usize, usize),
    /// The drain time of a removed endpoint is over, or begins anew: service, endpoint.
    Gone(usize, usize, bool),
    /// What a client sends to a service may be of a connection that something else translates
    /// since before.
    Foreign(usize, SocketAddr),
}

/// How the programs differ from the model, or from each other.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What was expected of whom.
    pub what: String,
    /// The outcome that the model gives, and its frame.
    pub wanted: (Outcome, Vec<u8>),
    /// What there was.
    pub found: (Outcome, Vec<u8>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, found) = (&self.wanted, &self.found);
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  wanted {:?} {}", wanted.0, hex(&wanted.1))?;
        write!(f, "  found  {:?} {}", found.0, hex(&found.1))
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two nodes that see the same, one of them with XDP in the forward direction, and the model.
pub struct Bench {
    tc: Node,
    xdp: Node,
    /// What must be.
    pub model: Model,
    /// All services.
    pub services: Vec<Service>,
    /// The shape of each.
    pub shapes: Vec<usize>,
    /// Service and endpoint.
    pub gone: Vec<(usize, usize)>,
    /// What came out of the last frame.
    pub out: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
    wanted: Vec<u8>,
    /// Frames that were not sent, since the model leaves open what they do.
    pub skipped: u64,
    /// What the nodes had counted before.
    counted: [BTreeMap<String, u64>; 2],
}

impl Bench {
    /// Loads all; needs root. The nodes answer what is for no split, or pass it.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn new(answers: bool) -> Result<Self> {
        const SEED: u64 = 0x5eed;
        let services = services();
        let addresses: Vec<IpAddr> = services.iter().map(|service| service.vip.ip()).collect();
        let addresses = answers.then_some(addresses.as_slice());
        let mut model = Model::new(SEED, MACS);
        if answers {
            model.answer_others();
        }
        let mut bench = Self {
            tc: Node::new(SEED, addresses)?,
            xdp: Node::new(SEED, addresses)?,
            model,
            shapes: vec![0; services.len()],
            services,
            gone: Vec::new(),
            out: Vec::new(),
            outcome: Outcome::Pass,
            wanted: Vec::new(),
            skipped: 0,
            counted: [BTreeMap::new(), BTreeMap::new()],
        };
        (0..bench.services.len()).try_for_each(|service| bench.publish(service, 0))?;
        Ok(bench)
    }

    fn publish(&mut self, service: usize, shape: usize) -> Result<()> {
        // What is in force is live.
        for endpoint in 0..self.services[service].endpoints.len() {
            let address = self.services[service].endpoints[endpoint];
            let there = self.services[service].endpoints_in(shape).any(|other| other == address);
            if there && self.gone.contains(&(service, endpoint)) {
                self.set_gone(service, endpoint, false)?;
            }
        }
        let split = self.services[service].split(shape);
        self.tc.publish(&split)?;
        self.xdp.publish(&split)?;
        self.model.publish(&split);
        self.shapes[service] = shape;
        Ok(())
    }

    fn set_gone(&mut self, service: usize, endpoint: usize, gone: bool) -> Result<()> {
        // With all of its endpoints.
        let split = self.services[service].split(0);
        let address = self.services[service].endpoints[endpoint];
        self.tc.set_gone(&split, address, gone)?;
        self.xdp.set_gone(&split, address, gone)?;
        self.model.set_gone(&split, address, gone);
        self.gone.retain(|of| *of != (service, endpoint));
        if gone {
            self.gone.push((service, endpoint));
        }
        Ok(())
    }

    /// Back to no flows, all endpoints, and these shapes.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn reset(&mut self, shapes: &[usize]) -> Result<()> {
        for (service, endpoint) in self.gone.clone() {
            self.set_gone(service, endpoint, false)?;
        }
        for (service, &shape) in shapes.iter().enumerate() {
            if self.shapes[service] != shape {
                self.publish(service, shape)?;
            }
        }
        self.tc.forget()?;
        self.xdp.forget()?;
        self.model.forget();
        self.counted = [self.tc.reasons()?, self.xdp.reasons()?];
        Ok(())
    }

    /// Whether the nodes have counted other reasons than the model.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn check_counts(&mut self) -> Result<Option<Difference>> {
        let now = [("TC", self.tc.reasons()?), ("XDP", self.xdp.reasons()?)];
        for ((node, now), before) in now.iter().zip(&self.counted) {
            for &reason in COUNTED {
                let before = before.get(reason).copied().unwrap_or(0);
                let (found, wanted) = (now[reason] - before, self.model.counted(reason));
                if found != wanted {
                    let what = format!("{node} counted {found} {reason}, not {wanted}; in all:");
                    let nothing = (Outcome::Pass, Vec::new());
                    return Ok(Some(Difference { what, wanted: nothing.clone(), found: nothing }));
                }
            }
        }
        Ok(None)
    }

    /// Takes a step; the difference that it makes.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn take(&mut self, step: &Step) -> Result<Option<Difference>> {
        match step {
            Step::Frame(sent) => self.send(sent),
            Step::Shape(service, shape) => self.publish(*service, *shape).map(|()| None),
            Step::Gone(service, endpoint, gone) => {
                self.set_gone(*service, *endpoint, *gone).map(|()| None)
            }
            Step::Foreign(service, client) => {
                let Service { protocol, vip, .. } = self.services[*service];
                self.tc.put_foreign(protocol.number(), *client, vip)?;
                self.xdp.put_foreign(protocol.number(), *client, vip)?;
                self.model.know_foreign(protocol.number(), *client, vip);
                Ok(None)
            }
        }
    }

    fn send(&mut self, sent: &Sent) -> Result<Option<Difference>> {
        let frame = sent.frame.as_slice();
        if self.model.leaves_open(sent.side, frame)
            || is_mistaken(&self.services, sent.side, frame)
            || is_from_service(&self.services, sent.side, frame)
        {
            self.skipped += 1;
            self.outcome = Outcome::Pass;
            self.out.clear();
            self.out.extend_from_slice(frame);
            return Ok(None);
        }
        let programs = match (sent.side, sent.virtual_device) {
            (Side::Egress, _) => [Program::Reply, Program::Reply],
            (Side::Ingress, false) => [Program::Tc, Program::Xdp],
            (Side::Ingress, true) => [Program::Tc, Program::XdpVirtual],
        };
        let [at_tc, at_xdp] = programs;
        self.out.clear();
        self.outcome = Outcome::Pass;
        let fits_tc = fits_tc(frame);
        if fits_tc {
            let (found, bytes) = self.tc.run(at_tc, frame)?;
            self.out.extend_from_slice(bytes);
            self.outcome = found;
        } else {
            self.out.extend_from_slice(frame);
        }
        let outcome = self.outcome;
        let fate = self.model.decide(sent.side, frame, &self.out);
        if !fits_tc && fate != Fate::Untouched {
            let what = "the model steers what BPF_PROG_TEST_RUN of TC does not take".into();
            let whole = (Outcome::Pass, frame.to_vec());
            return Ok(Some(Difference { what, wanted: whole.clone(), found: whole }));
        }
        let wanted = fate.render(frame, &mut self.wanted);
        let difference = |what: &str, wanted, found: (Outcome, &[u8])| {
            let found = (found.0, found.1.to_vec());
            Ok(Some(Difference { what: what.into(), wanted, found }))
        };
        if !same((wanted, &self.wanted), (outcome, &self.out)) {
            let what = format!("{at_tc:?}: {fate:?}");
            return difference(&what, (wanted, self.wanted.clone()), (outcome, &self.out));
        }
        if checksums_ok(frame) && outcome != Outcome::Drop && !checksums_ok(&self.out) {
            let what = format!("{at_tc:?}: checksums of {fate:?}");
            return difference(&what, (wanted, self.wanted.clone()), (outcome, &self.out));
        }
        if at_xdp == Program::Reply && !fits_tc {
            return Ok(None);
        }
        // What XDP of a virtual device cannot answer itself is left to TC, and so are checksums of
        // which only TC knows whether they are partial: also of what passes untouched, since TC
        // may know from it that a flow is over.
        let unclear = match &fate {
            Fate::Rewritten(packet, _) => looks_partial(frame, packet),
            Fate::Untouched => {
                matches!(look(frame), Sight::Packet(packet) if looks_partial(frame, &packet))
            }
            _ => false,
        };
        let left = at_xdp == Program::XdpVirtual && (wanted != Outcome::Pass || unclear);
        let wanted = if left {
            self.wanted.clear();
            self.wanted.extend_from_slice(frame);
            Outcome::Pass
        } else {
            wanted
        };
        let found = self.xdp.run(at_xdp, frame)?;
        if !same((wanted, &self.wanted), found) {
            let what = format!("{at_xdp:?}: {fate:?}");
            return difference(&what, (wanted, self.wanted.clone()), found);
        }
        if left {
            let found = self.xdp.run(Program::Tc, frame)?;
            if !same((outcome, &self.out), found) {
                let what = format!("Tc behind XdpVirtual: {fate:?}");
                return difference(&what, (outcome, self.out.clone()), found);
            }
        }
        Ok(None)
    }
}

/// Whether a client has the address of a service, as no host has. What an endpoint sends there
/// may be its answer, or be meant for the service.
fn is_from_service(services: &[Service], side: Side, frame: &[u8]) -> bool {
    let Sight::Packet(packet) = look(frame) else { return false };
    side == Side::Ingress && services.iter().any(|service| service.vip.ip() == packet.source)
}

/// Whether two outcomes are the same; of what is dropped, the bytes do not count.
fn same(wanted: (Outcome, &Vec<u8>), found: (Outcome, &[u8])) -> bool {
    wanted.0 == found.0 && (wanted.0 == Outcome::Drop || wanted.1 == found.1)
}
