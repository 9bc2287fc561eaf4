//! Loaded programs, attached nowhere, and who takes part in their tests.
// Each test file uses a part of it.
#![allow(dead_code, reason = "shared by several test crates")]

pub mod talk;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{Entry, is_forward};
use probe_common::fragment::{Fragment, FragmentKey};
use probe_common::map::{EndpointStats, SubsetStats};
use probe_common::reason::Reason;
use weir::datapath::{Clock, Datapath as _, Flow, Flows, Idle, Settings};
use weir::explain::words;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir::plan::Op;
use weir_tests::loaded::Loaded;
use weir_tests::packet;

/// The seed of the flow hash.
pub const SEED: u64 = 0x5eed;
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

/// The key of a flow table.
fn tuple<A: Address>(protocol: u8, from: SocketAddr, to: SocketAddr) -> Tuple<A> {
    let address = |socket: SocketAddr| A::from_words(words(socket.ip()));
    let (sport, dport) = (from.port().to_be(), to.port().to_be());
    Tuple { src: address(from), dst: address(to), sport, dport, protocol, zero: [0; 3] }
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
    pub fn new() -> Self {
        Self::with(&settings())
    }

    pub fn with(settings: &Settings) -> Self {
        let loaded = Loaded::new(settings).expect("the object loads (root is needed)");
        Self { loaded, buffer: vec![0; 16 * 1024] }
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

    /// Bytes of kernel memory that all maps have.
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

    /// Entries in FLOWS and in PENDING, of both families.
    pub fn entries(&mut self) -> [usize; 2] {
        let mut counts = [0; 2];
        self.each_v4(|pending, _, _| counts[usize::from(pending)] += 1);
        self.each_v6(|pending, _, _| counts[usize::from(pending)] += 1);
        counts
    }

    /// Makes all entries, and what is known of fragments, older by that many seconds.
    pub fn let_pass(&mut self, seconds: u64) {
        // A tick is at most two seconds and at least half a one.
        let ticks = seconds as u32 * 2;
        self.each_v4(|_, _, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each_v6(|_, _, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each("FRAGMENTS_V4", &mut |_: &FragmentKey<V4>, fragment: &mut Fragment<V4>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
        self.each("FRAGMENTS_V6", &mut |_: &FragmentKey<V6>, fragment: &mut Fragment<V6>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
    }

    /// Shows, and lets change, all entries over IPv4, and whether they are pending.
    pub fn each_v4(&mut self, mut each: impl FnMut(bool, &Tuple<V4>, &mut Entry<V4>)) {
        for (name, pending) in [("FLOWS_V4", false), ("PENDING_V4", true)] {
            self.each(name, &mut |key, entry| each(pending, key, entry));
        }
    }

    /// The same over IPv6.
    pub fn each_v6(&mut self, mut each: impl FnMut(bool, &Tuple<V6>, &mut Entry<V6>)) {
        for (name, pending) in [("FLOWS_V6", false), ("PENDING_V6", true)] {
            self.each(name, &mut |key, entry| each(pending, key, entry));
        }
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

    /// Deletes the pending entries of the flow from `client` to `vip`, whose first packet left
    /// as `out`.
    pub fn forget_one(&mut self, out: packet::Tuple, client: SocketAddr, vip: SocketAddr) {
        let keys = [(client, vip), (out.destination, out.source)];
        for (from, to) in keys {
            let protocol = out.protocol;
            match (from.ip(), to.ip()) {
                (IpAddr::V4(_), IpAddr::V4(_)) => {
                    self.delete::<V4>("PENDING_V4", tuple(protocol, from, to));
                }
                _ => self.delete::<V6>("PENDING_V6", tuple(protocol, from, to)),
            }
        }
    }

    fn delete<A: Address>(&mut self, name: &str, key: Tuple<A>)
    where
        Tuple<A>: aya::Pod,
        Entry<A>: aya::Pod,
    {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a flow table");
        let mut map: HashMap<&mut MapData, Tuple<A>, Entry<A>> = map.try_into().expect("a map");
        map.remove(&key).expect("an entry is deleted");
    }

    /// Loses the entries of the forward direction in FLOWS.
    pub fn lose_one_direction(&mut self) {
        self.remove("FLOWS_V4", |_: &Tuple<V4>, entry: &Entry<V4>| is_forward(entry.direction));
        self.remove("FLOWS_V6", |_: &Tuple<V6>, entry: &Entry<V6>| is_forward(entry.direction));
    }

    /// Deletes all entries.
    pub fn forget(&mut self) {
        for (v4, v6) in [("FLOWS_V4", "FLOWS_V6"), ("PENDING_V4", "PENDING_V6")] {
            self.remove(v4, |_: &Tuple<V4>, _: &Entry<V4>| true);
            self.remove(v6, |_: &Tuple<V6>, _: &Entry<V6>| true);
        }
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
