//! Loading the object.

use std::panic::resume_unwind;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, MapData, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use bytemuck::Zeroable;
use probe_common::map::{ABI_VERSION, MAX_SUBSETS, Meta};
use probe_common::new_flow::WAYS;
use probe_common::reason::Reason;

use super::builds::Build;
use super::features::has_xdp_frags;
use super::migration::{self, MigrationError};
use super::renamed;
use super::shape::{is_of_transition, is_pinned, shapes};
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
    /// Subsets whose times are measured.
    pub histograms: u32,
    /// After this long without a packet, a SYN starts a new TCP flow.
    pub tcp_idle: Duration,
    /// After this long without a packet, a UDP flow is over.
    pub udp_idle: Duration,
    /// Seed of the flow hash.
    pub hash_seed: u64,
    /// Seed of the sets of new flows, where the maps are new; those that are
    /// pinned have theirs. Who knows it can compute packets that evict a pending handshake.
    pub new_flow_seed: u64,
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
            histograms: 256,
            tcp_idle: Duration::from_secs(7200),
            udp_idle: Duration::from_secs(60),
            hash_seed: 0,
            new_flow_seed: 0,
            log_rare: false,
            other_ports: false,
        }
    }
}

/// New flows of each address family, beside so many others: a power of two,
/// half as many or somewhat more.
pub fn new_flows(flows: u32) -> u32 {
    (flows / 2).clamp(1024, 1 << 24).next_power_of_two()
}

/// A sum of what the counters by reason count, in order.
pub(super) fn reasons<'a>(names: impl Iterator<Item = &'a str>) -> u32 {
    crc32fast::hash(names.collect::<Vec<_>>().join(" ").as_bytes())
}

impl Settings {
    fn new_flows(&self) -> u32 {
        new_flows(self.flows)
    }

    /// The sizes that maps are given when they are made; all others have theirs in
    /// the object.
    pub(super) fn entries(&self) -> [(&'static str, u32); 28] {
        let sets = self.new_flows() / WAYS as u32;
        [
            ("FLOWS_V4", self.flows * 2),
            ("FLOWS_V6", self.flows * 2),
            ("NEW_FLOWS_V4", self.new_flows()),
            ("NEW_FLOWS_V6", self.new_flows()),
            ("NEW_SETS_V4", sets),
            ("NEW_SETS_V6", sets),
            ("FLOW_TIMES_V4", self.new_flows()),
            ("FLOW_TIMES_V6", self.new_flows()),
            // As earlier builds name them.
            ("YOUNG_V4", self.new_flows()),
            ("YOUNG_V6", self.new_flows()),
            ("YOUNG_SETS_V4", sets),
            ("YOUNG_SETS_V6", sets),
            ("SERVICES", self.splits),
            ("ADDRESSES", self.splits),
            ("ACTIVE", self.splits),
            ("SPLITS", self.splits * 2),
            ("SUBSET_IDS", self.splits * MAX_SUBSETS as u32),
            ("SUBSET_STATS", self.splits * MAX_SUBSETS as u32),
            ("SUBSET_SIGNALS", self.splits * MAX_SUBSETS as u32),
            ("SUBSET_ERRORS", self.splits * MAX_SUBSETS as u32),
            ("SUBSET_HISTOGRAMS", self.splits * MAX_SUBSETS as u32),
            ("HISTOGRAMS", self.histograms << histogram_shift()),
            ("TABLES", self.chunks),
            ("ENDPOINTS", self.endpoints),
            ("ENDPOINT_STATS", self.endpoints),
            ("ENDPOINT_SIGNALS", self.endpoints),
            ("IDENTITIES", self.splits * (MAX_SUBSETS as u32 + 1) + self.endpoints),
            ("AYA_LOGS", if self.log_rare { LOG } else { NO_LOG }),
        ]
    }

    /// These, for maps that were made as `found`.
    pub(super) fn of(self, found: &Meta) -> Self {
        let Meta { flows, splits, endpoints, chunks, hash_seed, new_flow_seed, .. } = *found;
        Self { flows, splits, endpoints, chunks, hash_seed, new_flow_seed, ..self }
    }

    /// What the maps are made for.
    pub(super) fn meta(&self, layout: u32) -> Meta {
        // Layout 7 knew nothing of these.
        let reasons = reasons(Reason::ALL.iter().map(|reason| reason.name()));
        Meta {
            abi_version: layout,
            tick_shift: Clock::new().shift(),
            flows: self.flows,
            new_flows: self.new_flows(),
            splits: self.splits,
            endpoints: self.endpoints,
            chunks: self.chunks,
            hash_seed: self.hash_seed,
            new_flow_seed: self.new_flow_seed,
            reasons: if layout > 7 { reasons } else { 0 },
            network: if layout > 7 { super::network::own() } else { 0 },
            ..Zeroable::zeroed()
        }
    }
}

/// Bytes of AYA_LOGS while nothing is told: the least that the kernel takes.
const NO_LOG: u32 = 4096;
/// Bytes of AYA_LOGS else: some hundred events.
const LOG: u32 = 1 << 17;

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
    /// What is pinned was made for something else, and cannot be taken over.
    #[error(transparent)]
    Migration(#[from] Box<MigrationError>),
}

impl From<MigrationError> for ObjectError {
    fn from(error: MigrationError) -> Self {
        Self::Migration(Box::new(error))
    }
}

/// The program that does what user space cannot do beside running programs.
pub(super) const TRANSFER: &str = "weir_transfer";

/// What an object is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To deal with packets by itself.
    Ordinary,
    /// To do so together with the programs of another generation; see STAGE in
    /// [`probe_common::map`].
    Transitional,
    /// To add to counters, whatever else is in the maps: [`TRANSFER`] alone.
    Counters,
}

impl Role {
    /// Whether an object that is loaded for this takes the pinned map of that name.
    fn pins(self, name: &str) -> bool {
        match self {
            Self::Ordinary => is_pinned(name),
            Self::Transitional => is_pinned(name) || is_of_transition(name),
            Self::Counters => COUNTERS.contains(&name),
        }
    }
}

/// Maps of counters of which each CPU has its own.
pub(super) const COUNTERS: [&str; 6] = [
    "ENDPOINT_STATS",
    "ENDPOINT_SIGNALS",
    "SUBSET_STATS",
    "SUBSET_SIGNALS",
    "SUBSET_ERRORS",
    "REASONS",
];

/// How often each histogram is there, as a power of two: CPUs that share one get into each other's
/// way, and with one for each, a node of many would need much memory.
pub(super) fn histogram_shift() -> u32 {
    let cpus = aya::util::nr_cpus().unwrap_or(1);
    cpus.next_power_of_two().ilog2().min(3)
}

/// What is said of maps in the META that is pinned there.
pub(super) fn meta(path: &Path) -> Result<Meta, ObjectError> {
    let found: Array<MapData, Meta> = aya::maps::Map::Array(MapData::from_pin(path)?).try_into()?;
    Ok(found.get(&0, 0)?)
}

/// The object, with all its programs in the kernel and attached to nothing.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// The programs for the forward direction and the reply direction at TC.
    pub(super) const TC: [&'static str; 2] = ["weir_tc_forward", "weir_tc_reply"];

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
        let mut object = Self::load_of(Build::current(), settings, None, Role::Ordinary)?;
        object.complete(settings, ABI_VERSION)?;
        Ok(object)
    }

    /// Loads the object and its programs, with the pinned maps; pins new maps
    /// if there are none, and moves what lives to new ones where these maps were
    /// made for another layout or for other sizes.
    pub fn load_pinned(settings: &Settings, pins: &Pins) -> Result<Self, ObjectError> {
        let mut settings = *settings;
        renamed::rename(pins)?;
        migration::resume(&settings, pins)?;
        if pins.are_there() {
            let found = meta(&pins.map("META"))?;
            if found.abi_version == 0 {
                // Its agent ended before they were complete; nothing was attached yet.
                pins.clear()?;
                Pins::make(pins.dir())?;
            } else {
                settings.new_flow_seed = found.new_flow_seed;
                if let Some(difference) = migration::difference(&settings, pins, &found)? {
                    return Ok(migration::upgrade(&settings, pins, &found, &difference)?);
                }
            }
        }
        let current = Build::current();
        let mut object = Self::load_of(current, &settings, Some(&pins.maps()), Role::Ordinary)?;
        object.complete(&settings, ABI_VERSION)?;
        Ok(object)
    }

    /// Loads a build's object and its programs, on the maps that are pinned in a
    /// directory, and pins there those that are missing. Their META is not written.
    pub(super) fn load_of(
        build: &Build,
        settings: &Settings,
        maps: Option<&Path>,
        role: Role,
    ) -> Result<Self, ObjectError> {
        let clock = Clock::new();
        let tcp_idle = clock.ticks(settings.tcp_idle);
        let udp_idle = clock.ticks(settings.udp_idle);
        let shift = clock.shift();
        let new_flow_mask = settings.new_flows() / WAYS as u32 - 1;
        let (log_rare, frags) = (u32::from(settings.log_rare), u32::from(has_xdp_frags()));
        let other_ports = u32::from(settings.other_ports);
        let transitional = u32::from(role == Role::Transitional);
        let names: Vec<_> = shapes(build.object(), settings)?.into_keys().collect();
        let mut loader = EbpfLoader::new();
        if let Some(maps) = maps {
            // Of counters that a layout does not have, nothing is there to be added to.
            let is_needed = |name: &String| role != Role::Counters || maps.join(name).exists();
            for name in names.iter().filter(|name| role.pins(name) && is_needed(name)) {
                loader.map_pin_path(name, maps.join(name));
            }
        }
        for (name, entries) in settings.entries() {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader
            .override_global("HASH_SEED", &settings.hash_seed, true)
            .override_global("NEW_FLOW_SEED", &settings.new_flow_seed, build.is_current())
            .override_global("YOUNG_SEED", &settings.new_flow_seed, !build.is_current())
            .override_global("TCP_IDLE", &tcp_idle, true)
            .override_global("UDP_IDLE", &udp_idle, true)
            .override_global("TICK_SHIFT", &shift, true)
            .override_global("NEW_FLOW_MASK", &new_flow_mask, build.is_current())
            .override_global("YOUNG_MASK", &new_flow_mask, !build.is_current())
            .override_global("LOG_RARE", &log_rare, true)
            .override_global("XDP_FRAGS", &frags, true)
            // Earlier layouts have none of these.
            .override_global("OTHER_PORTS", &other_ports, build.is_current())
            .override_global("HISTOGRAM_SHIFT", &histogram_shift(), build.is_current())
            .override_global("TICK_UNITS", &clock.tick_units(), build.is_current())
            .override_global("TRANSITIONAL", &transitional, build.is_current())
            .load(build.object())?;
        match role {
            Role::Counters => load_program(&mut ebpf, TRANSFER)?,
            _ => Self::load_programs(&mut ebpf)?,
        }
        Ok(Self { ebpf })
    }

    /// Loads the program that adds to the counters that are pinned in a directory.
    pub(super) fn load_transfer(settings: &Settings, maps: &Path) -> Result<Self, ObjectError> {
        // No flow is looked for: the least tables will do.
        let least =
            Settings { flows: 1, splits: 1, endpoints: 1, chunks: 1, histograms: 1, ..*settings };
        Self::load_of(Build::current(), &least, Some(maps), Role::Counters)
    }

    /// Says in META what the maps are: from now on they may be adopted.
    pub(super) fn complete(&mut self, settings: &Settings, layout: u32) -> Result<(), ObjectError> {
        if let Some(map) = self.ebpf.map_mut("META") {
            let mut meta: Array<&mut MapData, Meta> = map.try_into()?;
            meta.set(0, settings.meta(layout), 0)?;
        }
        Ok(())
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

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), ObjectError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded);
    program.and_then(load).map_err(|source| ObjectError::Program { name, source })
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
