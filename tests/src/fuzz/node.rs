//! The programs and maps of a node, without an interface.

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use probe_common::address::{Tuple, V4, V6};
use probe_common::fragment::{Fragment, FragmentKey};
use probe_common::map::{Interface, MAX_MACS, Takeover, device_mac};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use weir::datapath::{Datapath as _, Flows, Settings};
use weir::model::Split;
use weir::plan::{EndpointState, Op};

use crate::loaded::Loaded;
use crate::model::Outcome;

/// Endpoints that a node has room for.
const ENDPOINTS: u32 = 256;

/// The MAC address that frames are sent to, and the interface's own: programs that are attached
/// nowhere see packets of the loopback interface.
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 2], [0; 6]];

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Forward direction at TC.
    Tc,
    /// Forward direction at XDP of a physical device.
    Xdp,
    /// Forward direction at XDP of a virtual device.
    XdpVirtual,
    /// Reply direction, at TC.
    Reply,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Tc => "weir_tc_forward",
            Self::Xdp => "weir_xdp_forward",
            Self::XdpVirtual => "weir_xdp_forward_virtual",
            Self::Reply => "weir_tc_reply",
        }
    }

    fn is_tc(self) -> bool {
        matches!(self, Self::Tc | Self::Reply)
    }

    fn outcome(self, code: u32) -> Result<Outcome> {
        Ok(match (self.is_tc(), code) {
            // TC_ACT_UNSPEC, XDP_PASS.
            (true, u32::MAX) | (false, 2) => Outcome::Pass,
            // TC_ACT_REDIRECT, XDP_TX.
            (true, 7) | (false, 3) => Outcome::Answer,
            // TC_ACT_SHOT, XDP_DROP.
            (true, 2) | (false, 1) => Outcome::Drop,
            _ => bail!("{self:?} returned {code}"),
        })
    }
}

/// Whether `BPF_PROG_TEST_RUN` of TC takes such a frame: it wants a whole IP header.
#[must_use]
pub fn fits_tc(frame: &[u8]) -> bool {
    let least = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => 15,
    };
    frame.len() >= least
}

/// The programs and maps of a node.
pub struct Node {
    loaded: Loaded,
    flows: Flows,
    ids: Vec<u32>,
    buffer: Vec<u8>,
}

impl Node {
    /// Loads them; needs root. At these addresses, if they are given, what is for no split is
    /// answered.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn new(hash_seed: u64, answers: Option<&[IpAddr]>) -> Result<Self> {
        let settings = Settings {
            flows: 32_768,
            endpoints: ENDPOINTS,
            hash_seed,
            other_ports: answers.is_some(),
            ..Settings::default()
        };
        let mut loaded = Loaded::new(&settings)?;
        let [sent_to, own] = MACS.map(device_mac);
        let mut macs = [own; MAX_MACS];
        macs[0] = sent_to;
        loaded.set_interface(1, &Interface { macs, ..Interface::default() })?;
        loaded.answer_at(answers.unwrap_or_default().iter().copied())?;
        let flows = Flows::new(loaded.object().ebpf())?;
        Ok(Self { loaded, flows, ids: (0..ENDPOINTS).collect(), buffer: vec![0; 4096] })
    }

    /// Puts a split in force.
    ///
    /// # Errors
    ///
    /// If it does not fit.
    pub fn publish(&mut self, split: &Split) -> Result<()> {
        self.loaded.publish(split, 0)?;
        // No program runs now.
        let ledger = self.loaded.ledger_mut();
        ledger.note_grace(ledger.epoch());
        Ok(())
    }

    /// Has the drain time of a removed endpoint pass, or begin anew.
    ///
    /// # Errors
    ///
    /// If the split does not have it.
    pub fn set_gone(&mut self, split: &Split, endpoint: SocketAddr, gone: bool) -> Result<()> {
        let ledger = self.loaded.ledger();
        let found = ledger.endpoint(split.address(), endpoint);
        let (id, _) = found.with_context(|| format!("{endpoint} of {}", split.name()))?;
        let state = if gone { EndpointState::Gone } else { EndpointState::Draining };
        let op = Op::Endpoint { id, address: endpoint, state };
        Ok(self.loaded.kernel().execute(&op)?)
    }

    /// What comes from that client to that service may be of a connection that something else
    /// translates since before.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn put_foreign(
        &mut self,
        protocol: u8,
        client: SocketAddr,
        service: SocketAddr,
    ) -> Result<()> {
        self.loaded.set_takeover(Takeover { tuples: 1, ..Takeover::default() })?;
        self.loaded.put_foreign(protocol, client, service)
    }

    /// Runs a frame through a program; what came out is valid until the next run.
    ///
    /// # Errors
    ///
    /// If the kernel rejects, or the program returns what it never does.
    pub fn run(&mut self, program: Program, frame: &[u8]) -> Result<(Outcome, &[u8])> {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.buffer),
            ..TestRunOptions::default()
        };
        let loaded = self.loaded.object().ebpf().program(program.name()).context("a program")?;
        let result = if program.is_tc() {
            <&SchedClassifier>::try_from(loaded)?.test_run(options)
        } else {
            <&Xdp>::try_from(loaded)?.test_run(options)
        }?;
        Ok((program.outcome(result.return_value)?, &self.buffer[..result.data_size_out as usize]))
    }

    /// Forgets all flows and fragments, and connections of before.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn forget(&mut self) -> Result<()> {
        self.flows.sweep(&self.ids)?;
        self.clear::<Tuple<V4>, u32>("FOREIGN_V4")?;
        self.clear::<Tuple<V6>, u32>("FOREIGN_V6")?;
        self.clear::<FragmentKey<V4>, Fragment<V4>>("FRAGMENTS_V4")?;
        self.clear::<FragmentKey<V6>, Fragment<V6>>("FRAGMENTS_V6")
    }

    fn clear<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> Result<()> {
        let map = self.loaded.object().ebpf().map_mut(name).context("a map of hashes")?;
        let mut map: HashMap<&mut MapData, K, V> = map.try_into()?;
        let keys: Vec<K> = map.keys().collect::<Result<_, _>>()?;
        for key in keys {
            map.remove(&key)?;
        }
        Ok(())
    }

    /// How often each reason was counted.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn reasons(&mut self) -> Result<BTreeMap<String, u64>> {
        Ok(self.loaded.kernel().counters().reasons()?)
    }
}
