//! What an interface's driver does for the stack.

use std::io;

use super::super::Offloads;
use crate::ethtool;

/// Of the interface of that name.
pub fn of(interface: &str) -> io::Result<Offloads> {
    Ok(Offloads {
        gro: ethtool::has_gro(interface)?,
        tso: ethtool::has_tso(interface)?,
        checksums: ethtool::has_checksums(interface)?,
        vlans: ethtool::hides_vlans(interface)?,
    })
}
