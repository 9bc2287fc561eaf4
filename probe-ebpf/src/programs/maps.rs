//! All maps and load-time constants.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray};
use probe_common::address::{Tuple, V4, V6};
use probe_common::filter;
use probe_common::flow::Entry;
use probe_common::fragment::{Fragment, FragmentKey};
use probe_common::map;
use probe_common::map::{
    CHUNK, Endpoint, EndpointSignals, EndpointStats, Identity, IdentityKey, Meta, ServiceKey,
    Split, SubsetErrors, SubsetSignals, SubsetStats,
};
use probe_common::new_flow::{NewFlow, Set};
use probe_common::reason::Reason;
use probe_common::times::{FlowTimes, SubsetTimes};

use super::values::{Budget, First, Note, Route, Sought};

/// Packets of a family that may come in fragments at a time: 8192, two entries each.
const FRAGMENTS: u32 = 2 * 8192;

// Sizes marked "agent" are set from its configuration when the object is loaded.

/// Live flows over IPv4, two entries each; see [`probe_common::flow`]. Agent.
#[map]
pub static FLOWS_V4: LruHashMap<Tuple<V4>, Entry<V4>> = LruHashMap::with_max_entries(1024, 0);
/// Live flows over IPv6. Agent.
#[map]
pub static FLOWS_V6: LruHashMap<Tuple<V6>, Entry<V6>> = LruHashMap::with_max_entries(1024, 0);
/// New flows over IPv4, an element each; see [`probe_common::new_flow`]. Agent.
///
/// User space maps the arrays of new flows into memory to sweep them. Such arrays begin at the
/// border of a page: elements over IPv4 lie in one cache line each, and so do sets.
#[map]
pub static NEW_FLOWS_V4: Array<NewFlow<V4>> = Array::with_max_entries(8, BPF_F_MMAPABLE);
/// The same over IPv6. Agent.
#[map]
pub static NEW_FLOWS_V6: Array<NewFlow<V6>> = Array::with_max_entries(8, BPF_F_MMAPABLE);
/// What is known of sets of these over IPv4. Agent.
#[map]
pub static NEW_SETS_V4: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The same over IPv6. Agent.
#[map]
pub static NEW_SETS_V6: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Times of these flows over IPv4, by the place of their elements. Agent.
#[map]
pub static FLOW_TIMES_V4: Array<FlowTimes> = Array::with_max_entries(8, 0);
/// The same over IPv6. Agent.
#[map]
pub static FLOW_TIMES_V6: Array<FlowTimes> = Array::with_max_entries(8, 0);
/// The tuple whose new flow over IPv4 is looked for; not pinned.
#[map]
pub static SOUGHT_V4: PerCpuArray<Sought<V4>> = PerCpuArray::with_max_entries(1, 0);
/// The same over IPv6.
#[map]
pub static SOUGHT_V6: PerCpuArray<Sought<V6>> = PerCpuArray::with_max_entries(1, 0);
/// Where a new flow over IPv4 is put together; not pinned.
#[map]
pub static NEW_SCRATCH_V4: PerCpuArray<NewFlow<V4>> = PerCpuArray::with_max_entries(1, 0);
/// The same over IPv6.
#[map]
pub static NEW_SCRATCH_V6: PerCpuArray<NewFlow<V6>> = PerCpuArray::with_max_entries(1, 0);
/// What was made of the first fragments of packets over IPv4, for a moment. The
/// least recently used ones go.
#[map]
pub static FRAGMENTS_V4: LruHashMap<FragmentKey<V4>, Fragment<V4>> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
/// The same over IPv6.
#[map]
pub static FRAGMENTS_V6: LruHashMap<FragmentKey<V6>, Fragment<V6>> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
/// Where an entry of FRAGMENTS_V4 is put together; not pinned.
#[map]
pub static FIRST_FRAGMENT_V4: PerCpuArray<First<V4>> = PerCpuArray::with_max_entries(1, 0);
/// The same of FRAGMENTS_V6.
#[map]
pub static FIRST_FRAGMENT_V6: PerCpuArray<First<V6>> = PerCpuArray::with_max_entries(1, 0);
/// Bits for (VIP, port); see [`filter`].
#[map]
pub static SERVICE_FILTER: Array<u64> = Array::with_max_entries(filter::WORDS, 0);
/// Bits for (endpoint address, port).
#[map]
pub static ENDPOINT_FILTER: Array<u64> = Array::with_max_entries(filter::WORDS, 0);
/// Service address to split id. Agent.
#[map]
pub static SERVICES: HashMap<ServiceKey, u32> = HashMap::with_max_entries(1024, 0);
/// Service addresses whose other ports are answered, as keys without port and protocol. Agent.
#[map]
pub static ADDRESSES: HashMap<ServiceKey, u32> = HashMap::with_max_entries(1024, 0);
/// Split id to the version in force: an index into SPLITS. Agent.
#[map]
pub static ACTIVE: Array<u32> = Array::with_max_entries(1024, 0);
/// Versions of splits, two for each id. Agent.
#[map]
pub static SPLITS: Array<Split> = Array::with_max_entries(2048, 0);
/// Maglev tables, in chunks of endpoint ids. Agent.
#[map]
pub static TABLES: Array<[u32; CHUNK]> = Array::with_max_entries(8192, 0);
/// Endpoint id to address. Agent.
#[map]
pub static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(8192, 0);
/// Counters by endpoint id. Agent.
#[map]
pub static ENDPOINT_STATS: PerCpuArray<EndpointStats> = PerCpuArray::with_max_entries(8192, 0);
/// The subset that has an index now: an id, see [`map::SUBSET_INDEX`]. Agent.
#[map]
pub static SUBSET_IDS: Array<u32> = Array::with_max_entries(16384, 0);
/// Counters by the index of a subset id. Agent.
#[map]
pub static SUBSET_STATS: PerCpuArray<SubsetStats> = PerCpuArray::with_max_entries(16384, 0);
/// What became of flows, by the index of a subset id. Agent.
#[map]
pub static SUBSET_SIGNALS: PerCpuArray<SubsetSignals> = PerCpuArray::with_max_entries(16384, 0);
/// What ICMP said of flows, by the index of a subset id. Agent.
#[map]
pub static SUBSET_ERRORS: PerCpuArray<SubsetErrors> = PerCpuArray::with_max_entries(16384, 0);
/// What became of flows, by endpoint id. Agent.
#[map]
pub static ENDPOINT_SIGNALS: PerCpuArray<EndpointSignals> = PerCpuArray::with_max_entries(8192, 0);
/// Which of the histograms a subset has, counted from 1, by the index of its id; 0 for none. Agent.
#[map]
pub static SUBSET_HISTOGRAMS: Array<u32> = Array::with_max_entries(16384, 0);
/// Histograms of subsets, each of them 2^[`histogram_shift`] times, for groups of CPUs. Agent.
#[map]
pub static HISTOGRAMS: Array<SubsetTimes> = Array::with_max_entries(1, 0);
/// Counters by [`Reason`].
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);
/// What numbers stand for; no program uses it. Agent.
#[map]
pub static IDENTITIES: HashMap<IdentityKey, Identity> =
    HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
/// What an agent must know of maps that it finds; no program uses it.
#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);
/// What is to be told of the packet that is under way; not pinned.
#[map]
pub static LOG_NOTES: PerCpuArray<Note> = PerCpuArray::with_max_entries(1, 0);
/// What was told in this tick, by [`Reason`]; not pinned.
#[map]
pub static LOG_BUDGETS: Array<Budget> = Array::with_max_entries(Reason::ALL.len() as u32, 0);

/// Until when packets may go past the node's stack, in jiffies: 0 for never.
#[map]
pub static FAST_PATH: Array<u64> = Array::with_max_entries(1, 0);
/// A bit for each interface whose peer, in another network namespace, may be
/// handed packets without it; see [`map::PEER_WORDS`].
#[map]
pub static PEERS: Array<u64> = Array::with_max_entries(map::PEER_WORDS, 0);
/// What XDP has to know of each interface; see [`map::DEVICES`].
#[map]
pub static DEVICES: Array<u64> = Array::with_max_entries(map::DEVICES, 0);
/// What is known of each interface; see [`map::Interface`].
#[map]
pub static INTERFACES: Array<map::Interface> = Array::with_max_entries(map::INTERFACES, 0);
/// The route of the packet at hand, from when it is looked up until the packet
/// is sent. Programs on a CPU do not preempt each other.
#[map]
pub static ROUTE: PerCpuArray<Route> = PerCpuArray::with_max_entries(1, 0);

/// 1 while replies that enter the node are looked at which a program will see leave; else 0.
#[map]
pub static ENTERING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Tuples over IPv4, from client to service, of connections that the node's connection tracking
/// translated before weir steered them: they pass. Values are zones of that, for user space.
/// Agent; a SYN that begins a flow takes its tuple out.
#[map]
pub static FOREIGN_V4: HashMap<Tuple<V4>, u32> =
    HashMap::with_max_entries(map::FOREIGN, BPF_F_NO_PREALLOC);
/// The same over IPv6.
#[map]
pub static FOREIGN_V6: HashMap<Tuple<V6>, u32> =
    HashMap::with_max_entries(map::FOREIGN, BPF_F_NO_PREALLOC);
/// Whether there are such tuples, or may be others. Agent.
#[map]
pub static TAKEOVER: Array<map::Takeover> = Array::with_max_entries(1, 0);

/// Which generation has the say, see [`map::STAGE_OWN`]; read by programs that are loaded as
/// transitional, and pinned with their maps.
#[map]
pub static STAGE: Array<u32> = Array::with_max_entries(1, 0);
/// The other generation's programs at TC; see [`super::generations`].
#[map]
pub static OTHER_TC: ProgramArray = ProgramArray::with_max_entries(2, 0);
/// The other generation's programs at XDP.
#[map]
pub static OTHER_XDP: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Seed of the flow hash.
#[unsafe(no_mangle)]
static HASH_SEED: u64 = 0;
/// Seed of what says in which set a new flow is: nobody else shall know that.
#[unsafe(no_mangle)]
static NEW_FLOW_SEED: u64 = 0;
/// Ticks after which a silent TCP flow is idle.
#[unsafe(no_mangle)]
static TCP_IDLE: u32 = 7200;
/// Ticks after which a silent UDP flow is over.
#[unsafe(no_mangle)]
static UDP_IDLE: u32 = 60;
/// A tick is 2^TICK_SHIFT jiffies: about a second.
#[unsafe(no_mangle)]
static TICK_SHIFT: u32 = 8;
/// The number of sets of new flows, less one: a power of two.
#[unsafe(no_mangle)]
static NEW_FLOW_MASK: u32 = 0;
/// Whether rare events are told to the agent.
#[unsafe(no_mangle)]
static LOG_RARE: u32 = 0;
/// Whether the kernel has packets in several buffers at XDP.
#[unsafe(no_mangle)]
static XDP_FRAGS: u32 = 0;
/// Whether what comes to a service address and is for no split is answered.
#[unsafe(no_mangle)]
static OTHER_PORTS: u32 = 0;
/// log2 of how often each histogram is there.
#[unsafe(no_mangle)]
static HISTOGRAM_SHIFT: u32 = 0;
/// A tick, in units of times.
#[unsafe(no_mangle)]
static TICK_UNITS: u64 = 1_000_000;

/// Whether another generation of programs and maps is there as well.
#[unsafe(no_mangle)]
static TRANSITIONAL: u32 = 0;

macro_rules! constant {
    ($(#[$doc:meta])* $function:ident, $static:ident, $type:ty) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $function() -> $type {
            // SAFETY: a valid static; volatile since the loader sets its value.
            unsafe { core::ptr::read_volatile(&raw const $static) }
        }
    };
}
constant!(/// Seed of the flow hash.
    hash_seed, HASH_SEED, u64);
constant!(/// Seed of the sets of new flows.
    new_flow_seed, NEW_FLOW_SEED, u64);
constant!(/// Ticks after which a silent TCP flow is idle.
    tcp_idle, TCP_IDLE, u32);
constant!(/// Ticks after which a silent UDP flow is over.
    udp_idle, UDP_IDLE, u32);
constant!(/// log2 of jiffies in a tick.
    tick_shift, TICK_SHIFT, u32);
constant!(/// What reduces a hash to the number of a set of new flows.
    new_flow_mask, NEW_FLOW_MASK, u32);
constant!(/// Whether rare events are told to the agent.
    log_rare, LOG_RARE, u32);
constant!(/// Whether the kernel has packets in several buffers at XDP.
    xdp_frags, XDP_FRAGS, u32);
constant!(/// Whether what comes to a service address and is for no split is answered.
    other_ports, OTHER_PORTS, u32);
constant!(/// log2 of how often each histogram is there.
    histogram_shift, HISTOGRAM_SHIFT, u32);
constant!(/// A tick, in units of times.
    tick_units, TICK_UNITS, u64);

constant!(/// Whether another generation of programs and maps is there as well.
    transitional, TRANSITIONAL, u32);
