//! weir: the real agent.

use anyhow::{Result, ensure};
use weir_tests::agent::Setup;
use weir_tests::resource::SplitYaml;
use weir_tests::topology::Topology;

use super::{CLIENT_FACING, Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

pub fn tc(topology: &Topology) -> Result<Installed> {
    install(topology, "tc")
}

pub fn xdp(topology: &Topology) -> Result<Installed> {
    install(topology, "xdp")
}

fn install(topology: &Topology, hook: &'static str) -> Result<Installed> {
    let split = ["v1", "v3"]
        .iter()
        .zip(WEIGHTS)
        .zip(endpoints(topology))
        .fold(SplitYaml::tcp("bench", service()), |split, ((name, weight), ip)| {
            split.subset(name, weight, &[ip], PORT)
        });
    let setup = Setup::default().interfaces(&[(CLIENT_FACING, hook)]).split(&split.text());
    let agent = setup.start(&topology.node)?;
    let status = agent.status()?;
    let taken = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
    ensure!(
        taken.is_some_and(|interface| interface.hook == hook && interface.error.is_none()),
        "{CLIENT_FACING} does not have the programs: {status:?}"
    );
    Ok(Installed::service(agent))
}
