//! The node's own forwarding: clients connect to the endpoints, in proportion.

use std::net::SocketAddr;

use anyhow::Result;
use weir_tests::topology::Topology;

use super::{Installed, WEIGHTS, endpoints};
use crate::e2e::server::PORT;

pub fn install(topology: &Topology) -> Result<Installed> {
    let targets = endpoints(topology).into_iter().zip(WEIGHTS).flat_map(|(ip, weight)| {
        std::iter::repeat_n(SocketAddr::new(ip, PORT), weight as usize / 10)
    });
    Ok(Installed { targets: targets.collect(), _keep: Box::new(()) })
}
