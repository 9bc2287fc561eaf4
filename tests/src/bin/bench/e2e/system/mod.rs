//! The systems that are compared, each a file: how it is set up on a node.

mod nftables;
mod plain;
mod weir;
mod xdp;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use weir_tests::netns::Netns;
use weir_tests::topology::{CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4};

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
    fn service(keep: impl Any + Send + Sync) -> Self {
        Self { targets: vec![service()], _keep: Box::new(keep) }
    }
}

/// A system, and how it is set up.
pub struct System {
    pub name: &'static str,
    install: fn(&Topology) -> Result<Installed>,
}

/// All; the first is what the others are compared with.
pub const ALL: &[System] = &[
    System { name: "plain forwarding", install: plain::install },
    System { name: "nftables numgen", install: nftables::numgen },
    System { name: "nftables jhash", install: nftables::jhash },
    System { name: "weir TC", install: weir::tc },
    System { name: "weir TC, fastPath: off", install: weir::tc_stack },
    System { name: "XDP that only passes", install: xdp::install },
    System { name: "weir XDP", install: weir::xdp },
];

/// Client, node with a system, and servers, in namespaces of their own.
pub struct Path {
    pub system: &'static System,
    installed: Installed,
    servers: Vec<Server>,
    topology: Topology,
    ports: Ports,
}

impl Path {
    pub fn new(system: &'static System) -> Result<Self> {
        let mut path = Self::without_servers(system)?;
        let servers = path.topology.endpoints.iter().zip(0..);
        let servers = servers.map(|(endpoint, identity)| Server::start(&endpoint.ns, identity));
        path.servers = servers.collect::<Result<_>>()?;
        Ok(path)
    }

    pub fn without_servers(system: &'static System) -> Result<Self> {
        let topology = Topology::new(&["v1", "v3"].map(EndpointSpec::new))?;
        let addresses =
            load::sources().map(|address| format!("address add {address}/24 dev {ETH}"));
        topology.client.ip(&addresses.collect::<Vec<_>>())?;
        let installed = (system.install)(&topology).context(system.name)?;
        let servers = Vec::new();
        Ok(Self { system, installed, servers, topology, ports: Ports::default() })
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
