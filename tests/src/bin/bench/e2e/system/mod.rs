//! The systems that are compared, each a file: how it is set up on a node.

mod choice;
mod envoy;
mod haproxy;
mod iptables;
mod nftables;
mod nginx;
mod plain;
mod proxy;
pub mod weir;
mod xdp;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use weir_tests::netns::Netns;
use weir_tests::topology::{CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4};

pub use self::choice::Choice;
use super::load::{self, Ports};
use super::server::{PORT, Server};

/// The weights of the two subsets, of one endpoint each.
pub const WEIGHTS: [u32; 2] = [90, 10];

/// What a system leaves on the node, to be kept for as long as it is measured.
pub struct Installed {
    /// What clients connect to, in turn.
    targets: Vec<SocketAddr>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Installed {
    /// A system that serves the service address.
    pub fn service(keep: impl Any + Send + Sync) -> Self {
        Self { targets: vec![service()], _keep: Box::new(keep) }
    }
}

/// A system, and how it is set up.
#[derive(Debug)]
pub struct System {
    /// What options call it.
    pub id: &'static str,
    pub name: &'static str,
    /// Whether packets go all their way in the call that sends them: with a proxy, another
    /// process takes part.
    pub in_kernel: bool,
    install: fn(&Topology) -> Result<Installed>,
}

impl System {
    const fn kernel(
        id: &'static str,
        name: &'static str,
        install: fn(&Topology) -> Result<Installed>,
    ) -> Self {
        Self { id, name, in_kernel: true, install }
    }

    const fn proxy(
        id: &'static str,
        name: &'static str,
        install: fn(&Topology) -> Result<Installed>,
    ) -> Self {
        Self { id, name, in_kernel: false, install }
    }
}

/// All; the first is what the others are compared with.
pub static ALL: [System; 11] = [
    System::kernel("plain", "plain forwarding", plain::install),
    System::kernel("nftables-numgen", "nftables numgen", nftables::numgen),
    System::kernel("nftables-jhash", "nftables jhash", nftables::jhash),
    System::kernel("iptables", "iptables statistic", iptables::statistic),
    System::proxy("haproxy", "HAProxy", haproxy::install),
    System::proxy("nginx", "nginx stream", nginx::install),
    System::proxy("envoy", "Envoy", envoy::install),
    System::kernel("weir-tc", "weir TC", weir::tc),
    System::kernel("weir-tc-stack", "weir TC, fastPath: off", weir::tc_stack),
    System::kernel("xdp-pass", "XDP that only passes", xdp::install),
    System::kernel("weir-xdp", "weir XDP", weir::xdp),
];

/// Client, node with a system, and servers, in namespaces of their own.
pub struct Path {
    /// The system.
    pub name: &'static str,
    installed: Installed,
    servers: Vec<Server>,
    topology: Topology,
    ports: Ports,
}

impl Path {
    pub fn new(system: &System) -> Result<Self> {
        Self::with(system.name, system.install)
    }

    /// A path whose node is set up by `install`.
    pub fn with(
        name: &'static str,
        install: impl FnOnce(&Topology) -> Result<Installed>,
    ) -> Result<Self> {
        let mut path = Self::bare(name, install)?;
        let servers = path.topology.endpoints.iter().zip(0..);
        let servers = servers.map(|(endpoint, identity)| Server::start(&endpoint.ns, identity));
        path.servers = servers.collect::<Result<_>>()?;
        Ok(path)
    }

    pub fn without_servers(system: &System) -> Result<Self> {
        Self::bare(system.name, system.install)
    }

    fn bare(
        name: &'static str,
        install: impl FnOnce(&Topology) -> Result<Installed>,
    ) -> Result<Self> {
        let topology = Topology::new(&["v1", "v3"].map(EndpointSpec::new))?;
        let addresses =
            load::sources().map(|address| format!("address add {address}/24 dev {ETH}"));
        topology.client.ip(&addresses.collect::<Vec<_>>())?;
        let installed = install(&topology).context(name)?;
        Ok(Self { name, installed, servers: Vec::new(), topology, ports: Ports::default() })
    }

    pub fn client(&self) -> &Netns {
        &self.topology.client
    }

    pub fn targets(&self) -> &[SocketAddr] {
        &self.installed.targets
    }

    /// The namespaces of the endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Netns> {
        self.topology.endpoints.iter().map(|endpoint| &endpoint.ns)
    }

    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Bytes that the servers have received in uploads.
    pub fn received(&self) -> u64 {
        self.servers.iter().map(Server::received).sum()
    }
}

/// The service address.
fn service() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), PORT)
}

/// The endpoints, in the order of [`WEIGHTS`].
fn endpoints(topology: &Topology) -> Vec<IpAddr> {
    topology.endpoints.iter().map(|endpoint| endpoint.v4.into()).collect()
}
