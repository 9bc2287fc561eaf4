//! The programs of a physical device on a pair of veths, whose checksums the sender computes: no
//! configuration attaches them there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aya::maps::{Array, MapData};
use aya::programs::xdp::XdpMode;
use aya::programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunOptions, Xdp};
use nix::net::if_::if_nametoindex;
use probe_common::map::FAST_PATH_TRACKED;
use weir::datapath::Settings;
use weir::fast_path::{Devices, Drivers, xdp_devices};
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir_tests::loaded::Loaded;
use weir_tests::topology::{CLIENT_FACING, ETH, EndpointSpec, Topology, set_tx_offload};

/// XDP's and TC's program of a client-facing interface.
const XDP: &str = "weir_xdp_forward";
const REPLY: &str = "weir_tc_reply";

/// A node whose client-facing interface carries the programs, and one endpoint.
pub struct PhysicalNode {
    pub loaded: Loaded,
    pub topology: Topology,
}

impl PhysicalNode {
    pub fn new() -> Self {
        let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
        // Physical devices have no partial checksums.
        set_tx_offload(&topology.client, ETH, false).expect("offloads");
        let settings = Settings { flows: 1024, ..Settings::default() };
        let mut loaded = Loaded::new(&settings).expect("the object loads (root is needed)");
        let ebpf = loaded.object().ebpf();
        let reply: &mut SchedClassifier =
            ebpf.program_mut(REPLY).expect("a program").try_into().expect("of TC");
        topology.node.run(|| reply.attach(CLIENT_FACING, TcAttachType::Egress)).expect("attached");
        let forward: &mut Xdp =
            ebpf.program_mut(XDP).expect("a program").try_into().expect("of XDP");
        topology.node.run(|| forward.attach(CLIENT_FACING, XdpMode::Driver)).expect("attached");
        let mut node = Self { loaded, topology };
        node.set_gro(true);
        node.open(true);
        node.look();
        node
    }

    /// Puts a split into force, with one endpoint.
    pub fn publish(&mut self, name: &str, (vip, protocol): (SocketAddr, Protocol), to: SocketAddr) {
        let address = ServiceAddress { ip: vip.ip(), port: vip.port(), protocol };
        let subset = Subset { name: Name::new("v1").unwrap(), weight: 1, endpoints: [to].into() };
        let name = Name::new(name).unwrap();
        let split = Split::new(name, address, Affinity::None, vec![subset]).expect("a split");
        self.loaded.publish(&split, 0).expect("it fits");
    }

    pub fn endpoint(&self, like: IpAddr) -> IpAddr {
        self.topology.endpoint("a").ip(like)
    }

    /// The node's interface towards the endpoint.
    pub fn target(&self) -> String {
        self.topology.endpoint("a").node_ifname.clone()
    }

    /// Whether that interface can be given packets: on a veth, its peer has to merge them.
    pub fn set_gro(&self, on: bool) {
        let state = if on { "on" } else { "off" };
        let ns = &self.topology.endpoint("a").ns;
        ns.output("ethtool", &["-K", ETH, "gro", state]).expect("ethtool");
    }

    pub fn index(&self, name: &str) -> u32 {
        self.topology.node.run(|| if_nametoindex(name)).expect("an interface")
    }

    pub fn mac(&self, name: &str) -> [u8; 6] {
        self.topology.node.run(|| mac(name))
    }

    fn map(&mut self, name: &str) -> Array<&mut MapData, u64> {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a map");
        map.try_into().expect("an array of words")
    }

    pub fn open(&mut self, on: bool) {
        // Nothing in this stack keeps account of flows.
        let until = if on { !FAST_PATH_TRACKED } else { 0 };
        self.map("FAST_PATH").set(0, until, 0).expect("written");
    }

    /// Looks at the interfaces, as the agent does; what was found.
    pub fn look(&mut self) -> BTreeMap<u32, u64> {
        let source = self.index(CLIENT_FACING);
        let words = self.topology.node.run(|| {
            let devices = Devices::new().and_then(|mut devices| devices.list()).expect("a list");
            let drivers = Drivers::new().and_then(|mut drivers| drivers.list()).expect("a list");
            xdp_devices(&devices, &drivers, |index| index == source, |_| false)
        });
        for name in [CLIENT_FACING.to_owned(), self.target()] {
            let index = self.index(&name);
            self.set_device(&name, words.get(&index).copied().unwrap_or_default());
        }
        words
    }

    pub fn set_device(&mut self, name: &str, word: u64) {
        let index = self.index(name);
        self.map("DEVICES").set(index, word, 0).expect("written");
    }

    pub fn reasons(&mut self) -> BTreeMap<String, u64> {
        self.loaded.kernel().counters().reasons().expect("reasons")
    }

    /// Runs a frame through the program at XDP as if it had come in from the client: what the
    /// program returned, and the frame.
    pub fn forward(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        // `struct xdp_md`.
        let context = [0, frame.len() as u32, 0, self.index(CLIENT_FACING), 0, 0];
        let context = context.map(u32::to_ne_bytes).concat();
        let mut out = vec![0; frame.len() + 256];
        let program = self.loaded.object().ebpf().program(XDP).expect("a program");
        let program: &Xdp = program.try_into().expect("of XDP");
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.topology.node.run(|| program.test_run(options)).expect("a run");
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Runs a frame through the program for replies, which must let it go on.
    pub fn reply(&mut self, frame: &[u8]) {
        let program = self.loaded.object().ebpf().program(REPLY).expect("a program");
        let program: &SchedClassifier = program.try_into().expect("of TC");
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = program.test_run(options).expect("a run");
        assert_eq!(result.return_value, u32::MAX, "TC_ACT_UNSPEC");
    }
}

/// Of an interface of the calling thread's namespace.
pub fn mac(name: &str) -> [u8; 6] {
    let devices = Devices::new().and_then(|mut devices| devices.list()).expect("a list");
    devices.into_values().find(|device| device.name == name).expect("an interface").mac
}
