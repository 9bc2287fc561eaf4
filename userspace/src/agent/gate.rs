//! Who may open the way past the node's stack, and to which endpoints: what is opened for some is
//! open to all, so a change that brings others has them judged before, or the way shut.

use std::net::SocketAddr;
use std::time::Duration;

use crate::datapath::{DatapathError, FastPath, Pins};
use crate::fast_path::{Firewall, Target};
use crate::model::{ServiceAddress, Split};
use crate::nftables::Objection;
use crate::plan::{Change, Ledger};

/// The way, with what was read of nftables' rules. For `fastPath: auto` alone.
pub(super) struct Gate {
    fast_path: FastPath,
    /// None before they were read.
    firewall: Option<Firewall>,
}

impl Gate {
    /// Of the pinned maps.
    pub fn new(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self { fast_path: FastPath::pinned(pins)?, firewall: None })
    }

    /// Takes what the rules are now.
    pub fn set_firewall(&mut self, firewall: Firewall) {
        self.firewall = Some(firewall);
    }

    /// Shuts the way if rules may matter to packets to endpoints that a change brings, or if these
    /// are not known. To be called before the change.
    pub fn admit(&mut self, change: &Change) -> Result<(), DatapathError> {
        let targets = change.put.iter().flat_map(|split| targets_of(split));
        let matters = match &mut self.firewall {
            Some(firewall) => firewall.objection(targets).is_some(),
            None => targets.count() > 0,
        };
        if matters { self.fast_path.close() } else { Ok(()) }
    }

    /// What of the rules may matter to packets to endpoints of the ledger.
    pub fn objection(&mut self, ledger: &Ledger) -> Option<Objection> {
        let firewall = self.firewall.as_mut()?;
        firewall.objection(targets(ledger))
    }

    /// The flowtables that there are.
    pub fn flowtables(&self) -> Vec<String> {
        self.firewall.as_ref().map(|firewall| firewall.flowtables().to_vec()).unwrap_or_default()
    }

    /// Opens the way for so long, unless rules may matter; whether it did.
    pub fn open_for(
        &mut self,
        time: Duration,
        tracked: bool,
        ledger: &Ledger,
    ) -> Result<bool, DatapathError> {
        let harmless = self.firewall.is_some() && self.objection(ledger).is_none();
        if harmless {
            self.fast_path.open_for(time, tracked)?
        } else {
            self.fast_path.close()?
        }
        Ok(harmless)
    }
}

/// Where flows may go to.
pub(super) fn targets(ledger: &Ledger) -> impl Iterator<Item = Target> {
    ledger.targets().map(|(service, endpoint)| target(service, endpoint))
}

fn targets_of(split: &Split) -> impl Iterator<Item = Target> {
    let endpoints = split.subsets().iter().flat_map(|subset| &subset.endpoints);
    endpoints.map(|&endpoint| target(split.address(), endpoint))
}

fn target(service: ServiceAddress, endpoint: SocketAddr) -> Target {
    Target { service: service.socket(), endpoint, protocol: service.protocol.number() }
}
