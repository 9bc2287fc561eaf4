//! Loaded programs, attached nowhere, and who takes part in their tests.
// Each test file uses a part of it.
#![allow(dead_code, reason = "shared by several test crates")]

pub mod cpus;
pub mod spare;
pub mod stage;
pub mod tables;
pub mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use aya::maps::{Map, loaded_maps};
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use probe_common::map::{
    EndpointCounters, EndpointSignals, EndpointStats, Interface, MAX_MACS, SubsetCounters,
    Takeover, device_mac,
};
use probe_common::reason::Reason;
use probe_common::times::SubsetTimes;
use spare::Borrowed;
use weir::datapath::{Clock, Datapath as _, Flow, Flows, Idle, Object, Settings};
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir::plan::{EndpointState, Op};
use weir_tests::blank::data;

/// The seed of the flow hash.
pub const SEED: u64 = 0x5eed;
/// Seed of the sets of new flows in tests.
const NEW_FLOW_SEED: u64 = 0xca5e;
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
    let map = data(map).expect("a map of a known type");
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let info = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_else(|| panic!("{path}: {info}"))
}

/// What tests have programs loaded with, unless they say otherwise.
pub fn settings() -> Settings {
    Settings {
        hash_seed: SEED,
        new_flow_seed: NEW_FLOW_SEED,
        tcp_idle: Duration::from_secs(TCP_IDLE),
        udp_idle: Duration::from_secs(UDP_IDLE),
        histograms: 8,
        ..Settings::default()
    }
}

/// Programs and maps.
pub struct Node {
    loaded: Borrowed,
    buffer: Vec<u8>,
}

impl Node {
    /// With tables that are read in no time.
    pub fn new() -> Self {
        Self::with(&Settings { flows: 16_384, ..settings() })
    }

    pub fn with(settings: &Settings) -> Self {
        Self::of(Borrowed::new(settings))
    }

    /// As [`Node::with`], with maps that nobody has used before: of tables that forget, the kernel
    /// keeps lists in an order that depends on what was in them.
    pub fn untouched(settings: &Settings) -> Self {
        Self::of(Borrowed::untouched(settings))
    }

    fn of(loaded: Borrowed) -> Self {
        Self { loaded, buffer: vec![0; 1 << 17] }
    }

    /// Makes all as if the programs had just been loaded.
    pub fn reset(&mut self) {
        self.loaded.reset().expect("maps are made blank");
    }

    /// Of each map that is not blank, how many elements are not.
    pub fn written(&self) -> BTreeMap<String, usize> {
        self.loaded.written().expect("what is in the maps")
    }

    /// Puts a split into force.
    pub fn publish(&mut self, split: &Split) {
        self.loaded.publish(split, 0).unwrap_or_else(|error| panic!("{}: {error:#}", split.name()));
    }

    /// Says to which MAC addresses frames are the node's.
    pub fn set_macs(&mut self, macs: [[u8; 6]; MAX_MACS]) {
        // Programs that are attached nowhere see packets of the loopback interface.
        let known = Interface { macs: macs.map(device_mac), ..Interface::default() };
        self.loaded.set_interface(1, &known).expect("written");
    }

    /// Has what is for no split answered at these addresses.
    pub fn answer_at(&mut self, addresses: &[IpAddr]) {
        self.loaded.answer_at(addresses.iter().copied()).expect("the map takes them");
    }

    /// Has packets of the cast's client pass, as of a connection of before.
    pub fn put_foreign(&mut self, cast: &Cast, protocol: Protocol) {
        let put = self.loaded.put_foreign(protocol.number(), cast.client, cast.vip);
        put.expect("there is room");
    }

    /// Which packets of no known flow may be of connections of before.
    pub fn set_takeover(&mut self, until: u64, tuples: bool) {
        let word = Takeover { until, tuples: tuples.into(), pad: 0 };
        self.loaded.set_takeover(word).expect("the map takes it");
    }

    /// Takes a split out of force.
    pub fn withdraw(&mut self, split: &Split) {
        self.loaded.withdraw(split, 0).unwrap_or_else(|e| panic!("{}: {e:#}", split.name()));
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
        let [program] = self.programs([hook]);
        program
    }

    /// The programs of some hooks.
    pub fn programs<const N: usize>(&mut self, hooks: [Hook; N]) -> [&Program; N] {
        let ebpf = &*self.loaded.object().ebpf();
        hooks.map(|hook| ebpf.program(hook.program()).expect("a program"))
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
        self.run_with(hook, frame, None)
    }

    /// As [`Node::run`] at egress, of a packet that the node forwards: without this, it is one of
    /// its own.
    pub fn run_forwarded(&mut self, frame: &[u8]) -> (Verdict, &[u8]) {
        // `struct __sk_buff` as far as the index of the interface where the packet came in.
        let mut context = [0; 40];
        context[36..].copy_from_slice(&1_u32.to_ne_bytes());
        self.run_with(Hook::Reply, frame, Some(&context))
    }

    fn run_with(&mut self, hook: Hook, frame: &[u8], context: Option<&[u8]>) -> (Verdict, &[u8]) {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.buffer),
            ctx_in: context,
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
    pub fn subset(&mut self, split: &Split, subset: &str) -> SubsetCounters {
        let name = Name::new(subset).unwrap();
        let id = self.loaded.ledger().subset_id(split.name(), &name).expect("in force");
        self.loaded.kernel().counters().subset(id).expect("counters of a subset")
    }

    fn endpoint_id(&self, split: &Split, endpoint: SocketAddr) -> u32 {
        let found = self.loaded.ledger().endpoint(split.address(), endpoint);
        found.unwrap_or_else(|| panic!("{endpoint} is no endpoint of {}", split.name())).0
    }

    /// How long things took of a subset's flows; None if they are not measured.
    pub fn times(&mut self, split: &Split, subset: &str) -> Option<SubsetTimes> {
        let name = Name::new(subset).unwrap();
        let id = self.loaded.ledger().subset_id(split.name(), &name).expect("in force");
        self.loaded.kernel().counters().times(id).expect("times of a subset")
    }

    /// Counters of an endpoint.
    pub fn endpoint(&mut self, split: &Split, endpoint: SocketAddr) -> EndpointStats {
        self.endpoint_counters(split, endpoint).stats
    }

    /// What became of the flows of an endpoint.
    pub fn endpoint_signals(&mut self, split: &Split, endpoint: SocketAddr) -> EndpointSignals {
        self.endpoint_counters(split, endpoint).signals
    }

    fn endpoint_counters(&mut self, split: &Split, endpoint: SocketAddr) -> EndpointCounters {
        let id = self.endpoint_id(split, endpoint);
        self.loaded.kernel().counters().endpoint(id).expect("counters of an endpoint")
    }

    /// Has the drain time of an endpoint pass, or makes it live again.
    pub fn set_gone(&mut self, split: &Split, endpoint: SocketAddr, gone: bool) {
        let state = if gone { EndpointState::Gone } else { EndpointState::Live };
        self.set_state(split, endpoint, state);
    }

    /// Sets what becomes of an endpoint's flows.
    pub fn set_state(&mut self, split: &Split, endpoint: SocketAddr, state: EndpointState) {
        let id = self.endpoint_id(split, endpoint);
        let op = Op::Endpoint { id, address: endpoint, state };
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
}
