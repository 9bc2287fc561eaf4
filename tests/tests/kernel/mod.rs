//! A loaded object that is attached nowhere.
#![allow(dead_code, reason = "each test uses a part of this")]

use std::net::SocketAddr;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use weir::datapath::Settings;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir_tests::loaded::Loaded;

/// The seed of the flow hash.
pub const SEED: u64 = 0x5eed;
/// TC_ACT_UNSPEC, as the kernel returns it.
pub const PASS_TC: u32 = u32::MAX;
/// TC_ACT_REDIRECT.
pub const ANSWER_TC: u32 = 7;
/// XDP_PASS.
pub const PASS_XDP: u32 = 2;
/// XDP_TX.
pub const ANSWER_XDP: u32 = 3;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Forward direction at TC.
    Tc,
    /// Forward direction at XDP.
    Xdp,
    /// Reply direction.
    Reply,
}

/// Name, weight and endpoints of subsets.
pub type Subsets<'a> = &'a [(&'a str, u32, &'a [&'a str])];

/// A split of these parts.
pub fn split(
    name: &str,
    vip: SocketAddr,
    protocol: Protocol,
    affinity: Affinity,
    subsets: Subsets<'_>,
) -> Split {
    let address = ServiceAddress { ip: vip.ip(), port: vip.port(), protocol };
    let subsets = subsets
        .iter()
        .map(|(name, weight, endpoints)| Subset {
            name: Name::new(*name).unwrap(),
            weight: *weight,
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        })
        .collect();
    Split::new(Name::new(name).unwrap(), address, affinity, subsets).unwrap()
}

/// Programs and maps.
pub struct Node {
    loaded: Loaded,
    buffer: Vec<u8>,
}

impl Node {
    pub fn new() -> Self {
        Self::with(Settings { hash_seed: SEED, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let loaded = Loaded::new(&settings).expect("the object loads (root is needed)");
        Self { loaded, buffer: vec![0; 4096] }
    }

    /// Puts a TCP split without affinity into force.
    pub fn publish(&mut self, name: &str, vip: SocketAddr, subsets: Subsets<'_>) -> Split {
        self.put(split(name, vip, Protocol::Tcp, Affinity::None, subsets))
    }

    /// Puts a split into force.
    pub fn put(&mut self, split: Split) -> Split {
        self.loaded.publish(&split, 0).unwrap();
        split
    }

    /// What is loaded.
    pub fn loaded(&mut self) -> &mut Loaded {
        &mut self.loaded
    }

    /// How many packets were counted under a reason.
    pub fn counted(&mut self, reason: &str) -> u64 {
        self.loaded.kernel().counters().reasons().unwrap()[reason]
    }

    /// Runs a frame through a program: its verdict, and the frame that came out.
    pub fn run(&mut self, hook: Hook, frame: &[u8]) -> (u32, Vec<u8>) {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.buffer),
            ..TestRunOptions::default()
        };
        let ebpf = self.loaded.object().ebpf();
        let result = match hook {
            Hook::Xdp => {
                let program: &Xdp = ebpf.program("weir_xdp_forward").unwrap().try_into().unwrap();
                program.test_run(options)
            }
            Hook::Tc | Hook::Reply => {
                let name = if hook == Hook::Tc { "weir_tc_forward" } else { "weir_tc_reply" };
                let program: &SchedClassifier = ebpf.program(name).unwrap().try_into().unwrap();
                program.test_run(options)
            }
        };
        let result = result.unwrap_or_else(|error| panic!("{hook:?} {frame:02x?}: {error}"));
        (result.return_value, self.buffer[..result.data_size_out as usize].to_vec())
    }
}
