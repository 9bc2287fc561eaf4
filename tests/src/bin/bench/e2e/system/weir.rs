//! weir: the real agent.

use anyhow::{Result, ensure};
use weir_tests::agent::{Agent, Setup};
use weir_tests::resource::SplitYaml;
use weir_tests::topology::Topology;

use super::{CLIENT_FACING, Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

/// The split's name.
pub const SPLIT: &str = "bench";

/// A way of being attached.
pub struct Attached {
    hook: &'static str,
    interfaces: &'static str,
    /// Past the node's stack.
    fast_path: bool,
}

/// At TC, past the node's stack: programs on the interfaces of client and endpoints.
pub const TC: Attached = Attached { hook: "tc", interfaces: "veth-*", fast_path: true };
/// At TC, through the node's stack.
const TC_STACK: Attached = Attached { hook: "tc", interfaces: CLIENT_FACING, fast_path: false };
const XDP: Attached = Attached { hook: "xdp", interfaces: CLIENT_FACING, fast_path: false };

pub fn tc(topology: &Topology) -> Result<Installed> {
    Ok(Installed::service(start(topology, TC, "")?))
}

pub fn tc_stack(topology: &Topology) -> Result<Installed> {
    Ok(Installed::service(start(topology, TC_STACK, "")?))
}

pub fn xdp(topology: &Topology) -> Result<Installed> {
    Ok(Installed::service(start(topology, XDP, "")?))
}

/// Starts the agent, with other splits beside the one that is measured.
pub fn start(topology: &Topology, attached: Attached, others: &str) -> Result<Agent> {
    let Attached { hook, interfaces, fast_path } = attached;
    let split = ["v1", "v3"]
        .iter()
        .zip(WEIGHTS)
        .zip(endpoints(topology))
        .fold(SplitYaml::tcp(SPLIT, service()), |split, ((name, weight), ip)| {
            split.subset(name, weight, &[ip], PORT)
        });
    let setting = if fast_path { "auto" } else { "off" };
    let setup = Setup::default().interfaces(&[(interfaces, hook)]).split(&split.text());
    let setup = setup.config(&format!("hashSeed: 0x5eed\nfastPath: {setting}\n"));
    let setup = if others.is_empty() { setup } else { setup.resource("others.yaml", others) };
    let agent = setup.start(&topology.node)?;
    let status = agent.status()?;
    ensure!(status.fast_path.used == fast_path, "the other way: {:?}", status.fast_path);
    let taken = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
    ensure!(
        taken.is_some_and(|interface| interface.hook == hook && interface.error.is_none()),
        "{CLIENT_FACING} does not have the programs: {status:?}"
    );
    Ok(agent)
}
