//! weir as the benchmark sees it. All that it needs of the loaded object is here.

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use probe_common::map::SubsetStats;
use weir::datapath::Settings;
use weir::model::Split;
use weir_tests::loaded::Loaded;

use super::driver::{Hook, Target};

/// The seed of the flow hash.
pub const SEED: u64 = 0x5eed;

/// A program of weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    TcForward,
    TcReply,
    XdpForward,
    XdpForwardVirtual,
}

impl Program {
    pub const ALL: [Self; 4] =
        [Self::TcForward, Self::TcReply, Self::XdpForward, Self::XdpForwardVirtual];

    /// Its name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcForward => "weir_tc_forward",
            Self::TcReply => "weir_tc_reply",
            Self::XdpForward => "weir_xdp_forward",
            Self::XdpForwardVirtual => "weir_xdp_forward_virtual",
        }
    }

    pub fn hook(self) -> Hook {
        match self {
            Self::TcForward | Self::TcReply => Hook::Tc,
            Self::XdpForward | Self::XdpForwardVirtual => Hook::Xdp,
        }
    }
}

/// Programs and maps, attached nowhere.
pub struct Node {
    loaded: Loaded,
}

impl Node {
    /// Loads the object, with room for that many flows of each family.
    pub fn load(flows: u32) -> Result<Self> {
        Self::with(Settings { flows, ..Settings::default() })
    }

    /// Loads the object with these settings, but the benchmark's own seed.
    pub fn with(settings: Settings) -> Result<Self> {
        Ok(Self { loaded: Loaded::new(&Settings { hash_seed: SEED, ..settings })? })
    }

    /// Puts a split into force.
    pub fn publish(&mut self, split: &Split) -> Result<()> {
        self.loaded.publish(split, 0)
    }

    /// What the programs have counted of a split.
    pub fn flows(&self, split: &Split) -> Result<SubsetStats> {
        self.loaded.flows(split)
    }

    /// A program as the driver takes it.
    pub fn target(&mut self, program: Program) -> Result<Target> {
        Target::new(self.program(program)?, program.hook())
    }

    /// What the kernel knows of a program.
    pub fn info(&mut self, program: Program) -> Result<ProgramInfo> {
        Ok(self.program(program)?.info()?)
    }

    fn program(&mut self, program: Program) -> Result<&aya::programs::Program> {
        let name = program.name();
        self.loaded.object().ebpf().program(name).with_context(|| format!("no program {name}"))
    }
}
