//! Loaded programs, attached nowhere, and who takes part in their tests.
// Each test file uses a part of it.
#![allow(dead_code, reason = "shared by several test crates")]

pub mod stage;
pub mod talk;

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{Entry, is_forward};
use probe_common::fragment::{Fragment, FragmentKey};
use probe_common::map::{EndpointStats, SubsetStats};
use probe_common::parse::TCP;
use probe_common::reason::Reason;
use probe_common::young::{ALIAS, Home, WAYS, Young};
use weir::datapath::{Clock, Datapath as _, Flow, Flows, Idle, Object, Settings};
use weir::explain::words;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir::plan::Op;
use weir_tests::loaded::Loaded;

/// The seed of the flow hash.
pub const SEED: u64 = 0x5eed;
/// Seed of the sets of young flows in tests.
const YOUNG_SEED: u64 = 0xca5e;
/// Idle limits in seconds; a tick is at least half a second.
pub const TCP_IDLE: u64 = 100;
/// The same of UDP.
pub const UDP_IDLE: u64 = 10;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Forward direction at TC.
    Tc,
    /// Forward direction at XDP of a physical device.
    Xdp,
    /// Forward direction at XDP of a virtual device.
    XdpVirtual,
    /// Reply direction, at TC.
    Reply,
}

/// The hooks of the forward direction.
pub const FORWARD: [Hook; 3] = [Hook::Tc, Hook::Xdp, Hook::XdpVirtual];

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Back out of the interface.
    Answer,
    Drop,
}

impl Hook {
    /// Whether what passes untouched is counted here: at XDP of virtual devices it is not, since
    /// it comes to TC next.
    pub fn counts(self) -> bool {
        self != Self::XdpVirtual
    }

    fn program(self) -> &'static str {
        match self {
            Self::Tc => "weir_tc_forward",
            Self::Xdp => "weir_xdp_forward",
            Self::XdpVirtual => "weir_xdp_forward_virtual",
            Self::Reply => "weir_tc_reply",
        }
    }

    /// What it means that the program returned that.
    pub fn verdict(self, code: u32) -> Verdict {
        match (self, code) {
            // TC_ACT_UNSPEC, TC_ACT_REDIRECT, TC_ACT_SHOT.
            (Self::Tc | Self::Reply, u32::MAX) => Verdict::Pass,
            (Self::Tc | Self::Reply, 7) => Verdict::Answer,
            (Self::Tc | Self::Reply, 2) => Verdict::Drop,
            // XDP_PASS, XDP_TX, XDP_DROP.
            (Self::Xdp | Self::XdpVirtual, 2) => Verdict::Pass,
            (Self::Xdp | Self::XdpVirtual, 3) => Verdict::Answer,
            (Self::Xdp | Self::XdpVirtual, 1) => Verdict::Drop,
            _ => panic!("{self:?} returned {code}"),
        }
    }
}

/// Service address, client and endpoints of v1 (3) and v2 (1), of one family.
pub struct Cast {
    pub vip: SocketAddr,
    pub client: SocketAddr,
    pub v1: [SocketAddr; 3],
    pub v2: [SocketAddr; 1],
}

impl fmt::Display for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.vip.is_ipv4() { "IPv4" } else { "IPv6" })
    }
}

pub fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub fn with_port(mut socket: SocketAddr, port: u16) -> SocketAddr {
    socket.set_port(port);
    socket
}

pub fn casts() -> [Cast; 2] {
    [
        Cast {
            vip: socket("192.0.2.10:9080"),
            client: socket("203.0.113.7:41000"),
            v1: ["198.51.100.11:9080", "198.51.100.12:8081", "198.51.100.13:9080"].map(socket),
            v2: ["198.51.100.31:7000"].map(socket),
        },
        Cast {
            vip: socket("[2001:db8::10]:9080"),
            client: socket("[2001:db8:7::7]:41000"),
            v1: ["[2001:db8:1::11]:9080", "[2001:db8:1::12]:8081", "[2001:db8:1::13]:9080"]
                .map(socket),
            v2: ["[2001:db8:2::31]:7000"].map(socket),
        },
    ]
}

/// The client of a cast, from another address.
pub fn client_number(cast: &Cast, n: u16) -> SocketAddr {
    let mut client = cast.client;
    match &mut client {
        SocketAddr::V4(v4) => {
            v4.set_ip((u32::from(Ipv4Addr::new(10, 7, 0, 0)) + u32::from(n)).into())
        }
        SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, _] = v6.ip().segments();
            v6.set_ip(Ipv6Addr::new(a, b, c, d, e, f, g, n));
        }
    }
    client
}

/// A split from its parts.
pub fn split(
    name: &str,
    (vip, protocol): (SocketAddr, Protocol),
    affinity: Affinity,
    subsets: &[(&str, u32, &[SocketAddr])],
) -> Split {
    let address = ServiceAddress { ip: vip.ip(), port: vip.port(), protocol };
    let subset = |(name, weight, endpoints): &(&str, u32, &[SocketAddr])| Subset {
        name: Name::new(*name).unwrap(),
        weight: *weight,
        endpoints: endpoints.iter().copied().collect(),
    };
    let subsets = subsets.iter().map(subset).collect();
    Split::new(Name::new(name).unwrap(), address, affinity, subsets).unwrap()
}

/// Bytes of kernel memory that a map has.
fn memory(map: &Map) -> u64 {
    let (Map::Array(map)
    | Map::HashMap(map)
    | Map::LruHashMap(map)
    | Map::PerCpuArray(map)
    | Map::RingBuf(map)) = map
    else {
        panic!("a map of another type: {map:?}");
    };
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let info = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_else(|| panic!("{path}: {info}"))
}

/// What tests have programs loaded with, unless they say otherwise.
pub fn settings() -> Settings {
    Settings {
        hash_seed: SEED,
        young_seed: YOUNG_SEED,
        tcp_idle: Duration::from_secs(TCP_IDLE),
        udp_idle: Duration::from_secs(UDP_IDLE),
        ..Settings::default()
    }
}

/// Programs and maps.
pub struct Node {
    loaded: Loaded,
    buffer: Vec<u8>,
}

impl Node {
    /// With tables that are read in no time.
    pub fn new() -> Self {
        Self::with(&Settings { flows: 16_384, ..settings() })
    }

    pub fn with(settings: &Settings) -> Self {
        let loaded = Loaded::new(settings).expect("the object loads (root is needed)");
        Self { loaded, buffer: vec![0; 1 << 17] }
    }

    /// Puts a split into force.
    pub fn publish(&mut self, split: &Split) {
        self.loaded.publish(split, 0).unwrap_or_else(|error| panic!("{}: {error:#}", split.name()));
    }

    /// The split "reviews" of the cast, with these weights of v1 and v2.
    pub fn reviews(&mut self, cast: &Cast, protocol: Protocol, weights: [u32; 2]) -> Split {
        let subsets: [(&str, u32, &[SocketAddr]); 2] =
            [("v1", weights[0], &cast.v1), ("v2", weights[1], &cast.v2)];
        let split = split("reviews", (cast.vip, protocol), Affinity::None, &subsets);
        self.publish(&split);
        split
    }

    /// The program of a hook.
    pub fn program(&mut self, hook: Hook) -> &Program {
        self.loaded.object().ebpf().program(hook.program()).expect("a program")
    }

    /// The names of all maps that some program uses, as far as the kernel keeps them, and their
    /// flags.
    pub fn map_flags(&mut self) -> Vec<(String, u32)> {
        let ebpf = self.loaded.object().ebpf();
        let mut used = BTreeSet::new();
        for name in Object::programs() {
            let info = ebpf.program(name).expect("a program").info().expect("what is known of it");
            used.extend(info.map_ids().expect("its maps").expect("told since Linux 4.15"));
        }
        // Others on this machine may load and unload objects meanwhile.
        let all = loaded_maps().filter_map(Result::ok).filter(|map| used.contains(&map.id()));
        all.map(|map| (map.name_as_str().expect("UTF-8").to_owned(), map.map_flags())).collect()
    }

    /// Bytes of kernel memory that the maps have which programs alone write.
    pub fn memory(&mut self) -> u64 {
        self.loaded.object().ebpf().maps().map(|(_, map)| memory(map)).sum()
    }

    /// Runs a frame through a program; what came out is valid until the next run.
    pub fn run(&mut self, hook: Hook, frame: &[u8]) -> (Verdict, &[u8]) {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.buffer),
            ..TestRunOptions::default()
        };
        let program = self.loaded.object().ebpf().program(hook.program()).expect("a program");
        let result = match hook {
            Hook::Tc | Hook::Reply => {
                <&SchedClassifier>::try_from(program).unwrap().test_run(options)
            }
            Hook::Xdp | Hook::XdpVirtual => <&Xdp>::try_from(program).unwrap().test_run(options),
        };
        let result = result.unwrap_or_else(|error| panic!("{hook:?} {frame:02x?}: {error}"));
        (hook.verdict(result.return_value), &self.buffer[..result.data_size_out as usize])
    }

    /// As [`Node::run`], of a packet that must go on.
    pub fn pass(&mut self, hook: Hook, frame: &[u8]) -> &[u8] {
        let (verdict, out) = self.run(hook, frame);
        assert_eq!(verdict, Verdict::Pass, "{hook:?} {frame:02x?}");
        out
    }

    /// How often that reason was counted.
    pub fn reason(&mut self, reason: Reason) -> u64 {
        self.reasons().into_iter().find(|(name, _)| *name == reason.name()).expect("a reason").1
    }

    /// All reasons that were counted.
    pub fn reasons(&mut self) -> Vec<(String, u64)> {
        let all = self.loaded.kernel().counters().reasons().expect("reasons");
        all.into_iter().collect()
    }

    /// Counters of a subset.
    pub fn subset(&mut self, split: &Split, subset: &str) -> SubsetStats {
        let name = Name::new(subset).unwrap();
        let id = self.loaded.ledger().subset_id(split.name(), &name).expect("in force");
        self.loaded.kernel().counters().subset(id).expect("counters of a subset")
    }

    fn endpoint_id(&self, split: &Split, endpoint: SocketAddr) -> (u32, u32) {
        let ledger = self.loaded.ledger();
        let found = split.subsets().iter().find_map(|subset| {
            let (id, _) = ledger.endpoint(split.name(), &subset.name, endpoint)?;
            Some((id, ledger.subset_id(split.name(), &subset.name)?))
        });
        found.unwrap_or_else(|| panic!("{endpoint} is no endpoint of {}", split.name()))
    }

    /// Counters of an endpoint.
    pub fn endpoint(&mut self, split: &Split, endpoint: SocketAddr) -> EndpointStats {
        let (id, _) = self.endpoint_id(split, endpoint);
        self.loaded.kernel().counters().endpoint(id).expect("counters of an endpoint")
    }

    /// Has the drain time of an endpoint pass, or makes it live again.
    pub fn set_gone(&mut self, split: &Split, endpoint: SocketAddr, gone: bool) {
        let (id, subset) = self.endpoint_id(split, endpoint);
        let op = Op::Endpoint { id, address: endpoint, subset, gone };
        self.loaded.kernel().execute(&op).expect("endpoint is written");
    }

    /// All flows, as the agent finds them.
    pub fn flows(&mut self) -> Vec<Flow> {
        let flows = Flows::new(self.loaded.object().ebpf()).expect("the tables");
        let mut found = Vec::new();
        flows.walk(|flow| found.push(flow)).expect("a walk");
        found
    }

    /// Clears away what has ended, as the agent does; how many entries that were. The tables cannot
    /// be looked at after that.
    pub fn sweep_ended(&mut self, settings: &Settings) -> usize {
        let clock = Clock::new();
        let idle =
            Idle { tcp: clock.ticks(settings.tcp_idle), udp: clock.ticks(settings.udp_idle) };
        let flows = Flows::new(self.loaded.object().ebpf()).expect("the tables");
        flows.sweep_ended(clock, idle).expect("a sweep").deleted
    }

    /// Entries in the flow tables, two for each flow; and young flows.
    pub fn entries(&mut self) -> [usize; 2] {
        let mut counts = [0; 2];
        self.each_v4(|_, _| counts[0] += 1);
        self.each_v6(|_, _| counts[0] += 1);
        self.each_young(&mut |young| counts[1] += usize::from(young.kind() & ALIAS == 0));
        counts
    }

    /// Makes all flows, and what is known of fragments, older by at least that many seconds.
    pub fn let_pass(&mut self, seconds: u64) {
        // A tick is at most two seconds and at least half a one.
        self.age(seconds as u32 * 2);
    }

    /// Makes them older by just that time, up to a tick.
    pub fn let_time_pass(&mut self, time: Duration) {
        self.age(Clock::new().ticks(time));
    }

    fn age(&mut self, ticks: u32) {
        self.each_v4(|_, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each_v6(|_, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each_young(&mut |young| *young.seen() = young.seen().wrapping_sub(ticks));
        self.each("FRAGMENTS_V4", &mut |_: &FragmentKey<V4>, fragment: &mut Fragment<V4>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
        self.each("FRAGMENTS_V6", &mut |_: &FragmentKey<V6>, fragment: &mut Fragment<V6>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
    }

    /// Has all flows begin that many ticks earlier.
    pub fn begin_earlier(&mut self, ticks: u32) {
        self.each_v4(|_, entry| entry.created = entry.created.wrapping_sub(ticks));
        self.each_v6(|_, entry| entry.created = entry.created.wrapping_sub(ticks));
        self.each_young(&mut |young| young.begin_earlier(ticks));
    }

    /// What is known of fragments: entries, of both families.
    pub fn fragments(&mut self) -> [usize; 2] {
        let mut counts = [0; 2];
        self.each("FRAGMENTS_V4", &mut |_: &FragmentKey<V4>, _: &mut Fragment<V4>| counts[0] += 1);
        self.each("FRAGMENTS_V6", &mut |_: &FragmentKey<V6>, _: &mut Fragment<V6>| counts[1] += 1);
        counts
    }

    /// Shows, and lets change, all entries of the flow table for IPv4.
    pub fn each_v4(&mut self, mut each: impl FnMut(&Tuple<V4>, &mut Entry<V4>)) {
        self.each("FLOWS_V4", &mut each);
    }

    /// The same for IPv6.
    pub fn each_v6(&mut self, mut each: impl FnMut(&Tuple<V6>, &mut Entry<V6>)) {
        self.each("FLOWS_V6", &mut each);
    }

    fn each<K: aya::Pod, V: aya::Pod + PartialEq>(
        &mut self,
        name: &str,
        each: &mut dyn FnMut(&K, &mut V),
    ) {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a flow table");
        let mut map: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
        let keys: Vec<K> = map.keys().collect::<Result<_, _>>().expect("keys");
        for key in keys {
            let Ok(old) = map.get(&key, 0) else { continue };
            let mut new = old;
            each(&key, &mut new);
            if new != old {
                map.insert(key, new, 0).expect("an entry is written");
            }
        }
    }

    /// Shows, and lets change, all young flows and their aliases.
    pub fn each_young(&mut self, each: &mut dyn FnMut(&mut dyn AnyYoung)) {
        let mut see = |young: &mut dyn AnyYoung| {
            if young.is_whole() {
                each(young);
            }
        };
        self.young::<V4>("YOUNG_V4").each(|young| see(young));
        self.young::<V6>("YOUNG_V6").each(|young| see(young));
    }

    fn young<A: Address>(&mut self, name: &str) -> Elements<Young<A>> {
        let map = self.loaded.object().ebpf().map(name).expect("young flows");
        let Map::Array(map) = map else { panic!("{name} is no array") };
        let count = map.info().expect("what the kernel knows of a map").max_entries() as usize;
        Elements::new(map.fd().as_fd(), count)
    }

    /// Forgets the young flows over TCP from `client`.
    pub fn forget_young(&mut self, client: SocketAddr) {
        match client {
            SocketAddr::V4(_) => self.forget_home::<V4>("YOUNG_V4", client),
            SocketAddr::V6(_) => self.forget_home::<V6>("YOUNG_V6", client),
        }
    }

    fn forget_home<A: Address>(&mut self, name: &str, client: SocketAddr) {
        let young = self.young::<A>(name);
        let (address, port) = (A::from_words(words(client.ip())), client.port().to_be());
        let sets = (young.count / WAYS) as u32;
        let set = Home::new(YOUNG_SEED, address, port, TCP).set & (sets - 1);
        young.range(set as usize * WAYS, WAYS, |young| young.check = 0);
    }

    /// Loses the entries of the forward direction in the flow tables.
    pub fn lose_one_direction(&mut self) {
        self.remove("FLOWS_V4", |_: &Tuple<V4>, entry: &Entry<V4>| is_forward(entry.direction));
        self.remove("FLOWS_V6", |_: &Tuple<V6>, entry: &Entry<V6>| is_forward(entry.direction));
    }

    /// Forgets all flows.
    pub fn forget(&mut self) {
        self.remove("FLOWS_V4", |_: &Tuple<V4>, _: &Entry<V4>| true);
        self.remove("FLOWS_V6", |_: &Tuple<V6>, _: &Entry<V6>| true);
        self.each_young(&mut |young| young.forget());
    }

    fn remove<K: aya::Pod, V: aya::Pod>(&mut self, name: &str, which: impl Fn(&K, &V) -> bool) {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a flow table");
        let mut map: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
        let keys: Vec<K> = map.keys().collect::<Result<_, _>>().expect("keys");
        for key in keys {
            if which(&key, &map.get(&key, 0).expect("an entry")) {
                map.remove(&key).expect("an entry is deleted");
            }
        }
    }
}

/// The elements of an array map, in memory that is shared with the kernel.
struct Elements<T> {
    start: *mut u8,
    bytes: usize,
    count: usize,
    of: PhantomData<T>,
}

impl<T> Elements<T> {
    /// The kernel keeps elements at multiples of so many bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    fn new(map: BorrowedFd<'_>, count: usize) -> Self {
        let bytes = (count * Self::STRIDE).next_multiple_of(4096);
        // SAFETY: a new mapping of the whole array, of which nobody knows yet.
        let start = unsafe {
            let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), bytes, protection, shared, map.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Self { start: start.cast(), bytes, count, of: PhantomData }
    }

    fn each(&self, see: impl FnMut(&mut T)) {
        self.range(0, self.count, see);
    }

    fn range(&self, from: usize, count: usize, mut see: impl FnMut(&mut T)) {
        assert!(from + count <= self.count, "{count} elements from {from}, of {}", self.count);
        for at in from..from + count {
            // SAFETY: within the mapping, aligned to eight bytes; no program runs meanwhile.
            see(unsafe { &mut *self.start.add(at * Self::STRIDE).cast::<T>() });
        }
    }
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference into it outlives a call.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A young flow of either family.
pub trait AnyYoung {
    /// See [`Young::is_whole`].
    fn is_whole(&self) -> bool;
    /// See [`Young::kind`].
    fn kind(&self) -> u8;
    /// See [`Young::state`].
    fn state(&self) -> u16;
    /// See [`Young::seen`].
    fn seen(&mut self) -> &mut u32;
    /// Has it begin that many ticks earlier.
    fn begin_earlier(&mut self, ticks: u32);
    /// Makes it none.
    fn forget(&mut self);
}

impl<A: Address> AnyYoung for Young<A> {
    fn is_whole(&self) -> bool {
        Self::is_whole(self)
    }

    fn kind(&self) -> u8 {
        self.kind
    }

    fn state(&self) -> u16 {
        self.state
    }

    fn seen(&mut self) -> &mut u32 {
        &mut self.seen
    }

    fn begin_earlier(&mut self, ticks: u32) {
        self.created = self.created.wrapping_sub(ticks);
        self.check = self.sum();
    }

    fn forget(&mut self) {
        self.check = 0;
    }
}
