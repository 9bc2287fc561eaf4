//! Topology, servers and agent together.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::agent::{Agent, Setup};
use crate::server::Server;
use crate::topology::{EndpointSpec, Topology};

/// Where each endpoint runs [`Server::tcp`] and [`Server::udp`].
pub const PORT: u16 = 80;
/// Where each endpoint runs [`Server::bulk`].
pub const BULK: u16 = 81;

/// A client, a node with a running agent, and endpoints that say their names.
#[derive(Debug)]
pub struct Scene {
    /// The agent on the node. It ends first.
    pub agent: Agent,
    /// Of each endpoint: TCP, UDP, bulk.
    servers: Vec<[Server; 3]>,
    /// The namespaces.
    pub topology: Topology,
}

impl Scene {
    /// Builds endpoints of these names, with servers for both families, and starts the agent that
    /// `setup` describes.
    ///
    /// # Errors
    ///
    /// Needs root, and the `weir` program to be built.
    pub fn new(endpoints: &[&str], setup: impl FnOnce(&Topology) -> Setup) -> Result<Self> {
        let specs: Vec<_> = endpoints.iter().map(|name| EndpointSpec::new(name)).collect();
        let topology = Topology::new(&specs)?;
        Self::on(topology, setup)
    }

    /// As [`Scene::new`], with a topology that is there.
    ///
    /// # Errors
    ///
    /// As [`Scene::new`].
    pub fn on(topology: Topology, setup: impl FnOnce(&Topology) -> Setup) -> Result<Self> {
        let mut servers = Vec::new();
        for endpoint in &topology.endpoints {
            let at = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            let (ns, name) = (&endpoint.ns, endpoint.name.as_str());
            servers.push([
                Server::tcp(ns, at(PORT), name)?,
                Server::udp(ns, at(PORT), name)?,
                Server::bulk(ns, at(BULK), name)?,
            ]);
        }
        let agent = setup(&topology).start(&topology.node)?;
        Ok(Self { agent, servers, topology })
    }

    /// The endpoints' [`Server::tcp`], in the order of the topology's endpoints.
    pub fn tcp_servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().map(|[tcp, _, _]| tcp)
    }
}
