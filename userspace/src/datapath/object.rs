//! Loading the object.

use std::panic::resume_unwind;
use std::time::Duration;

use aya::maps::{Array, MapData, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use bytemuck::Zeroable;
use probe_common::map::{ABI_VERSION, Meta};
use probe_common::young::WAYS;

use super::features::has_xdp_frags;
use super::{Clock, Pins, PinsError};

/// What is fixed when the object is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Live flows of each address family.
    pub flows: u32,
    /// Splits.
    pub splits: u32,
    /// Endpoints of all splits.
    pub endpoints: u32,
    /// Chunks of Maglev tables, see [`probe_common::map::CHUNK`].
    pub chunks: u32,
    /// After this long without a packet, a SYN starts a new TCP flow.
    pub tcp_idle: Duration,
    /// After this long without a packet, a UDP flow is over.
    pub udp_idle: Duration,
    /// Seed of the flow hash.
    pub hash_seed: u64,
    /// Seed of the sets of young flows, where the maps are new; those that are
    /// pinned have theirs. Who knows it can push out a handshake.
    pub young_seed: u64,
    /// Whether the programs tell rare events, see [`super::KernelLog`].
    pub log_rare: bool,
    /// Whether what comes to a service address and is for no split is answered; see
    /// [`super::Addresses`].
    pub other_ports: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flows: 262_144,
            splits: 1024,
            endpoints: 8192,
            chunks: 8192,
            tcp_idle: Duration::from_secs(7200),
            udp_idle: Duration::from_secs(60),
            hash_seed: 0,
            young_seed: 0,
            log_rare: false,
            other_ports: false,
        }
    }
}

/// Young flows of each address family, beside so many others: a power of two,
/// half as many or somewhat more.
pub fn young_flows(flows: u32) -> u32 {
    (flows / 2).clamp(1024, 1 << 24).next_power_of_two()
}

impl Settings {
    fn young(&self) -> u32 {
        young_flows(self.flows)
    }

    /// What the maps are made for.
    fn meta(&self) -> Meta {
        Meta {
            abi_version: ABI_VERSION,
            tick_shift: Clock::new().shift(),
            flows: self.flows,
            young: self.young(),
            splits: self.splits,
            endpoints: self.endpoints,
            chunks: self.chunks,
            hash_seed: self.hash_seed,
            young_seed: self.young_seed,
            network: super::network::own(),
            ..Zeroable::zeroed()
        }
    }
}

/// Maps that belong to the programs of one agent: what is in them has no
/// layout that the next one would know.
const NOT_PINNED: [&str; 9] = [
    "AYA_LOGS",
    "LOG_NOTES",
    "LOG_BUDGETS",
    "FIRST_FRAGMENT_V4",
    "FIRST_FRAGMENT_V6",
    "NEWCOMER_V4",
    "NEWCOMER_V6",
    "SOUGHT_V4",
    "SOUGHT_V6",
];
/// Bytes of AYA_LOGS while nothing is told: the least that the kernel takes.
const NO_LOG: u32 = 4096;
/// Bytes of AYA_LOGS else: some hundred events.
const LOG: u32 = 1 << 17;

/// The maps of the object that are pinned: all but its read-only data and
/// [`NOT_PINNED`].
fn map_names() -> Result<Vec<String>, ObjectError> {
    let object = aya_obj::Object::parse(super::OBJECT).map_err(aya::EbpfError::ParseError)?;
    let pinned = |name: &String| !name.starts_with('.') && !NOT_PINNED.contains(&name.as_str());
    Ok(object.maps.into_keys().filter(pinned).collect())
}

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object or a map of it.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[from] aya::EbpfError),
    /// A program of it.
    #[error("cannot load program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A program cannot be attached.
    #[error("cannot attach program {name}: {source}")]
    Attach {
        /// Its name.
        name: &'static str,
        /// Why.
        source: super::AttachError,
    },
    /// bpffs.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The map that says what the others are.
    #[error("cannot access map META: {0}")]
    Meta(#[from] MapError),
    /// What is pinned was made for something else.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
}

/// Why the maps that another agent left cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// Another layout.
    #[error(
        "the pinned maps have layout {found}, this build has layout {ABI_VERSION}: \
         they cannot be adopted. `weir agent --replace` starts with empty maps: live flows are \
         then steered anew, by today's weights, and those that go to another endpoint than \
         before are reset"
    )]
    Layout {
        /// The layout that was found.
        found: u32,
    },
    /// Another size.
    #[error(
        "the pinned maps were made for {name}: {found}, now it is {wanted}, and maps cannot be \
         resized. Either configure {found}, or `weir agent --replace` starts with empty maps: \
         live flows are then steered anew, by today's weights, and those that go to another \
         endpoint than before are reset"
    )]
    Size {
        /// The key in the agent's configuration.
        name: &'static str,
        /// The size that was found.
        found: u32,
        /// The size that is configured.
        wanted: u32,
    },
}

/// Whether maps that were made as `found` serve where `wanted` is.
pub fn compatible(found: &Meta, wanted: &Meta) -> Result<(), Incompatible> {
    if found.abi_version != wanted.abi_version {
        return Err(Incompatible::Layout { found: found.abi_version });
    }
    let slots = |chunks: u32| chunks.saturating_mul(probe_common::map::CHUNK as u32);
    let sizes = [
        ("flows.max", found.flows, wanted.flows),
        ("limits.splits", found.splits, wanted.splits),
        ("limits.endpoints", found.endpoints, wanted.endpoints),
        ("limits.tableSlots", slots(found.chunks), slots(wanted.chunks)),
    ];
    match sizes.into_iter().find(|(_, found, wanted)| found != wanted) {
        Some((name, found, wanted)) => Err(Incompatible::Size { name, found, wanted }),
        None => Ok(()),
    }
}

/// The object, with all its programs in the kernel and attached to nothing.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// The programs for the forward direction and the reply direction at TC.
    const TC: [&str; 2] = ["weir_tc_forward", "weir_tc_reply"];

    /// The program for the forward direction at XDP, on physical or on virtual
    /// devices, which the running kernel can have.
    pub(super) fn xdp(virtual_device: bool) -> &'static str {
        match (has_xdp_frags(), virtual_device) {
            (true, false) => "weir_xdp_forward",
            (true, true) => "weir_xdp_forward_virtual",
            (false, false) => "weir_xdp_forward_linear",
            (false, true) => "weir_xdp_forward_virtual_linear",
        }
    }

    /// The names of the programs that are loaded into the running kernel: those
    /// of XDP are in the object twice, for older kernels and for newer ones.
    pub fn programs() -> impl Iterator<Item = &'static str> {
        Self::TC.into_iter().chain([false, true].map(Self::xdp))
    }

    /// Loads the object and its programs, with maps of its own.
    pub fn load(settings: &Settings) -> Result<Self, ObjectError> {
        Self::load_with(settings, None)
    }

    /// Loads the object and its programs, with the pinned maps; pins new maps
    /// if there are none.
    pub fn load_pinned(settings: &Settings, pins: &Pins) -> Result<Self, ObjectError> {
        let mut settings = *settings;
        if pins.are_there() {
            let found: Array<MapData, Meta> =
                aya::maps::Map::Array(MapData::from_pin(pins.map("META"))?).try_into()?;
            let found = found.get(&0, 0)?;
            if found.abi_version == 0 {
                // Its agent ended before they were complete; nothing was attached yet.
                pins.clear()?;
                Pins::make(pins.dir())?;
            } else {
                compatible(&found, &settings.meta())?;
                settings.young_seed = found.young_seed;
            }
        }
        Self::load_with(&settings, Some(pins))
    }

    fn load_with(settings: &Settings, pins: Option<&Pins>) -> Result<Self, ObjectError> {
        let clock = Clock::new();
        let tcp_idle = clock.ticks(settings.tcp_idle);
        let udp_idle = clock.ticks(settings.udp_idle);
        let names = match pins {
            Some(_) => map_names()?,
            None => Vec::new(),
        };
        let young_sets = settings.young() / WAYS as u32;
        let mut loader = EbpfLoader::new();
        if let Some(pins) = pins {
            for name in &names {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut ebpf = loader
            .map_max_entries("FLOWS_V4", settings.flows * 2)
            .map_max_entries("FLOWS_V6", settings.flows * 2)
            .map_max_entries("YOUNG_V4", settings.young())
            .map_max_entries("YOUNG_V6", settings.young())
            .map_max_entries("YOUNG_SETS_V4", young_sets)
            .map_max_entries("YOUNG_SETS_V6", young_sets)
            .map_max_entries("SERVICES", settings.splits)
            .map_max_entries("ADDRESSES", settings.splits)
            .map_max_entries("ACTIVE", settings.splits)
            .map_max_entries("SPLITS", settings.splits * 2)
            .map_max_entries("SUBSET_IDS", settings.splits * 16)
            .map_max_entries("SUBSET_STATS", settings.splits * 16)
            .map_max_entries("TABLES", settings.chunks)
            .map_max_entries("ENDPOINTS", settings.endpoints)
            .map_max_entries("ENDPOINT_STATS", settings.endpoints)
            .map_max_entries("IDENTITIES", settings.splits * 17 + settings.endpoints)
            .override_global("HASH_SEED", &settings.hash_seed, true)
            .override_global("YOUNG_SEED", &settings.young_seed, true)
            .override_global("TCP_IDLE", &tcp_idle, true)
            .override_global("UDP_IDLE", &udp_idle, true)
            .override_global("TICK_SHIFT", &clock.shift(), true)
            .override_global("YOUNG_MASK", &(young_sets - 1), true)
            .override_global("LOG_RARE", &u32::from(settings.log_rare), true)
            .override_global("OTHER_PORTS", &u32::from(settings.other_ports), true)
            .override_global("XDP_FRAGS", &u32::from(has_xdp_frags()), true)
            .map_max_entries("AYA_LOGS", if settings.log_rare { LOG } else { NO_LOG })
            .load(super::OBJECT)?;
        Self::load_programs(&mut ebpf)?;
        if let Some(map) = ebpf.map_mut("META") {
            let mut meta: Array<&mut MapData, Meta> = map.try_into()?;
            meta.set(0, settings.meta(), 0)?;
        }
        Ok(Self { ebpf })
    }

    /// Has the kernel verify the programs, which takes most of the time of a
    /// start: all at once, as CPUs allow.
    fn load_programs(ebpf: &mut Ebpf) -> Result<(), ObjectError> {
        let names: Vec<_> = Self::programs().collect();
        let programs = ebpf.programs_mut().filter_map(|(name, program)| {
            names.iter().find(|wanted| **wanted == name).map(|name| (*name, program))
        });
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                programs.map(|(name, program)| (name, scope.spawn(|| load(program)))).collect();
            for (name, thread) in threads {
                let loaded = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                loaded.map_err(|source| ObjectError::Program { name, source })?;
            }
            Ok(())
        })
    }

    /// The ids of its programs at TC.
    pub fn tc_programs(&self) -> Vec<u32> {
        let info = |name| self.ebpf.program(name)?.info().ok();
        Self::TC.iter().filter_map(|name| info(name)).map(|info| info.id()).collect()
    }

    /// Whether the kernel has made machine code of all programs.
    pub fn is_jitted(&self) -> bool {
        let info = |name| self.ebpf.program(name).map(|program| program.info());
        Self::programs().all(|name| matches!(info(name), Some(Ok(info)) if info.size_jitted() > 0))
    }

    /// The loaded object.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

pub(super) fn program<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut P, ObjectError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| ObjectError::Program { name, source: ProgramError::NotLoaded })?;
    program.try_into().map_err(|source| ObjectError::Program { name, source })
}
