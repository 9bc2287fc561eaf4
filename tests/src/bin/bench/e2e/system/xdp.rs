//! Plain forwarding with an XDP program on the client-facing interface that does nothing: what
//! XDP itself costs there.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use weir_tests::topology::Topology;

use super::{CLIENT_FACING, Installed, plain};

pub fn install(topology: &Topology) -> Result<Installed> {
    let mut ebpf = Ebpf::load(crate::OBJECT)?;
    let program = ebpf.program_mut("empty_xdp").context("no program empty_xdp")?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    topology.node.run(|| program.attach(CLIENT_FACING, XdpMode::Driver))?;
    let targets = plain::install(topology)?.targets;
    // Its link ends with it.
    Ok(Installed { targets, _keep: Box::new(ebpf) })
}
