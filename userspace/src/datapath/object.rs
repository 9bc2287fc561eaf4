//! Loading the object.

use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};

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
        }
    }
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
}

/// The object, with all its programs in the kernel and attached to nothing.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
}

/// log2 of the jiffies in a tick of about a second, and the length of that tick.
fn tick() -> (u32, Duration) {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec that the call fills.
    let failed = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut resolution) };
    // The coarse clock advances by jiffies. 4 ms is the usual configuration.
    let jiffy = if failed == 0 && resolution.tv_nsec > 0 { resolution.tv_nsec } else { 4_000_000 };
    let jiffy = Duration::from_nanos(jiffy.unsigned_abs());
    let per_second = Duration::from_secs(1).as_nanos() / jiffy.as_nanos();
    let shift = per_second.next_power_of_two().ilog2();
    (shift, jiffy * (1 << shift))
}

impl Object {
    /// The programs for the forward direction at TC, the reply direction at TC,
    /// and the forward direction at XDP on physical and on virtual devices.
    const TC: [&str; 2] = ["weir_tc_forward", "weir_tc_reply"];
    const XDP: [&str; 2] = ["weir_xdp_forward", "weir_xdp_forward_virtual"];

    /// Loads the object and its programs.
    pub fn load(settings: &Settings) -> Result<Self, ObjectError> {
        let (shift, tick) = tick();
        let ticks = |idle: Duration| {
            u32::try_from(idle.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX >> 1)
        };
        let (tcp_idle, udp_idle) = (ticks(settings.tcp_idle), ticks(settings.udp_idle));
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS_V4", settings.flows * 2)
            .map_max_entries("FLOWS_V6", settings.flows * 2)
            .map_max_entries("SERVICES", settings.splits)
            .map_max_entries("ACTIVE", settings.splits)
            .map_max_entries("SPLITS", settings.splits * 2)
            .map_max_entries("SUBSET_STATS", settings.splits * 16)
            .map_max_entries("TABLES", settings.chunks)
            .map_max_entries("ENDPOINTS", settings.endpoints)
            .map_max_entries("ENDPOINT_STATS", settings.endpoints)
            .override_global("HASH_SEED", &settings.hash_seed, true)
            .override_global("TCP_IDLE", &tcp_idle, true)
            .override_global("UDP_IDLE", &udp_idle, true)
            .override_global("TICK_SHIFT", &shift, true)
            .load(super::OBJECT)?;
        for name in Self::TC {
            let program: &mut SchedClassifier = program(&mut ebpf, name)?;
            program.load().map_err(|source| ObjectError::Program { name, source })?;
        }
        for name in Self::XDP {
            let program: &mut Xdp = program(&mut ebpf, name)?;
            program.load().map_err(|source| ObjectError::Program { name, source })?;
        }
        Ok(Self { ebpf })
    }

    /// The loaded object.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

pub(super) fn program<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut P, ObjectError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| ObjectError::Program { name, source: ProgramError::NotLoaded })?;
    program.try_into().map_err(|source| ObjectError::Program { name, source })
}
