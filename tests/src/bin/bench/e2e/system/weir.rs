//! weir: the real agent.

use anyhow::{Result, ensure};
use weir_tests::agent::Setup;
use weir_tests::resource::SplitYaml;
use weir_tests::topology::Topology;

use super::{CLIENT_FACING, Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

/// At TC, past the node's stack: programs on the interfaces of client and endpoints.
pub fn tc(topology: &Topology) -> Result<Installed> {
    install(topology, "tc", "veth-*", true)
}

/// At TC, through the node's stack.
pub fn tc_stack(topology: &Topology) -> Result<Installed> {
    install(topology, "tc", CLIENT_FACING, false)
}

pub fn xdp(topology: &Topology) -> Result<Installed> {
    install(topology, "xdp", CLIENT_FACING, false)
}

fn install(
    topology: &Topology,
    hook: &'static str,
    interfaces: &str,
    fast_path: bool,
) -> Result<Installed> {
    let split = ["v1", "v3"]
        .iter()
        .zip(WEIGHTS)
        .zip(endpoints(topology))
        .fold(SplitYaml::tcp("bench", service()), |split, ((name, weight), ip)| {
            split.subset(name, weight, &[ip], PORT)
        });
    let setting = if fast_path { "auto" } else { "off" };
    let setup = Setup::default().interfaces(&[(interfaces, hook)]).split(&split.text());
    let setup = setup.config(&format!("hashSeed: 0x5eed\nfastPath: {setting}\n"));
    let agent = setup.start(&topology.node)?;
    let status = agent.status()?;
    ensure!(status.fast_path.used == fast_path, "the other way: {:?}", status.fast_path);
    let taken = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
    ensure!(
        taken.is_some_and(|interface| interface.hook == hook && interface.error.is_none()),
        "{CLIENT_FACING} does not have the programs: {status:?}"
    );
    Ok(Installed::service(agent))
}
