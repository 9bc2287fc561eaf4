//! A loaded object that is attached nowhere.

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

/// Programs and maps.
pub struct Node {
    loaded: Loaded,
    buffer: Vec<u8>,
}

impl Node {
    pub fn new() -> Self {
        let settings = Settings { hash_seed: SEED, ..Settings::default() };
        let loaded = Loaded::new(&settings).expect("the object loads (root is needed)");
        Self { loaded, buffer: vec![0; 4096] }
    }

    pub fn publish(
        &mut self,
        name: &str,
        vip: SocketAddr,
        subsets: &[(&str, u32, &[&str])],
    ) -> Split {
        // The hairpin test speaks UDP to a split of the same address.
        let udp = Protocol::Udp;
        if name == "self" {
            return self.put(name, vip, udp, subsets);
        }
        self.put(name, vip, Protocol::Tcp, subsets)
    }

    pub fn publish_udp(&mut self, name: &str, vip: SocketAddr, subsets: &[(&str, u32, &[&str])]) {
        self.put(name, vip, Protocol::Udp, subsets);
    }

    fn put(
        &mut self,
        name: &str,
        vip: SocketAddr,
        protocol: Protocol,
        subsets: &[(&str, u32, &[&str])],
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
        let split = Split::new(Name::new(name).unwrap(), address, Affinity::None, subsets).unwrap();
        self.loaded.publish(&split, 0).unwrap();
        split
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
