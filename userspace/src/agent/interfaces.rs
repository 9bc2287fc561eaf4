//! The interfaces that carry the programs.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info};

use super::steering::Steering;
use crate::api::types::InterfaceView;
use crate::config::{self, InterfaceMatch};
use crate::datapath::{self, Forward};
use crate::fast_path::{Devices, Filters};
use crate::interfaces::Event;

/// Which interfaces there are, of those that the configuration matches.
pub(super) struct Interfaces {
    matches: Vec<InterfaceMatch>,
    known: BTreeMap<u32, Known>,
}

struct Known {
    name: String,
    ethernet: bool,
    virtual_device: bool,
    forward: config::Forward,
    /// How the forward direction is attached, or why it is not.
    result: Result<datapath::Mode, String>,
}

impl Interfaces {
    pub fn new(matches: Vec<InterfaceMatch>) -> Self {
        Self { matches, known: BTreeMap::new() }
    }

    /// Follows what happened to an interface.
    pub fn follow(&mut self, event: Event, steering: &mut Steering) {
        match event {
            Event::Appeared { index, name, kind, ethernet } => {
                let Some(fit) = self.matches.iter().find(|m| m.matches(&name)) else {
                    // Renamed, or left by an agent that was configured otherwise.
                    self.known.remove(&index);
                    return release(index, steering);
                };
                let known = self.known.entry(index).or_insert_with(|| Known {
                    name: String::new(),
                    ethernet,
                    virtual_device: kind.is_some(),
                    forward: fit.forward(),
                    result: Err("not attached yet".to_owned()),
                });
                (known.name, known.forward) = (name, fit.forward());
                known.attach(index, steering);
            }
            Event::Gone { index } => {
                if let Some(known) = self.known.remove(&index) {
                    info!("{}: gone", known.name);
                }
                release(index, steering);
            }
        }
    }

    /// Removes pins of interfaces that are not there. Call it when all that
    /// are there have been followed.
    pub fn forget_others(&self, steering: &mut Steering) {
        let pinned = steering.pins().attached().unwrap_or_default();
        for (index, _) in pinned {
            if !self.known.contains_key(&index) {
                release(index, steering);
            }
        }
    }

    /// Tries again where attaching failed; whether any is left.
    pub fn retry(&mut self, steering: &mut Steering) -> bool {
        let failed = self.known.iter_mut().filter(|(_, known)| known.result.is_err());
        failed.fold(false, |left, (&index, known)| {
            known.attach(index, steering);
            left || known.result.is_err()
        })
    }

    /// Those from where XDP may send packets on, as far as weir's programs are concerned: where it
    /// runs in the driver of hardware. Elsewhere checksums may be partial, which XDP does not see.
    pub fn xdp_sources(&self) -> BTreeSet<u32> {
        let native = self.known.iter().filter(|(_, known)| known.is_xdp_source());
        native.map(|(&index, _)| index).collect()
    }

    /// For status.
    pub fn views(&self) -> Vec<InterfaceView> {
        let view = |(&index, known): (&u32, &Known)| InterfaceView {
            name: known.name.clone(),
            index,
            hook: known.hook().to_owned(),
            mode: known.result.as_ref().map_or("", |mode| mode.name()).to_owned(),
            error: known.result.as_ref().err().cloned(),
        };
        self.known.iter().map(view).collect()
    }
}

impl Known {
    fn is_xdp_source(&self) -> bool {
        let native = self.result == Ok(datapath::Mode::Native);
        self.forward == config::Forward::Xdp && !self.virtual_device && native
    }

    fn hook(&self) -> &'static str {
        match self.forward {
            config::Forward::Tc => "tc",
            config::Forward::Xdp => "xdp",
        }
    }

    fn attach(&mut self, index: u32, steering: &mut Steering) {
        let forward = match self.forward {
            config::Forward::Tc => Forward::Tc,
            config::Forward::Xdp => Forward::Xdp { virtual_device: self.virtual_device },
        };
        let interface = datapath::Interface { index, name: &self.name };
        let result = if !self.ethernet {
            Err("not an Ethernet interface".to_owned())
        } else if !datapath::has_tcx() && has_ingress_qdisc(index) {
            Err("its qdisc ingress is where clsact has to be, which weir needs before Linux 6.6"
                .to_owned())
        } else {
            steering.attach(interface, forward).map_err(|e| format!("{:#}", anyhow::Error::from(e)))
        };
        let (name, hook) = (&self.name, self.hook());
        match &result {
            Ok(mode) => info!("{name}: forward at {hook} ({})", mode.name()),
            // Said once, not with each attempt.
            Err(error) if self.result.as_ref().err() != Some(error) => error!("{name}: {error}"),
            Err(_) => {}
        }
        self.result = result;
    }
}

/// Whether an interface has the classic qdisc, which has no egress, and where
/// the kernel takes filters for egress to ingress. If that cannot be told,
/// attaching has a try.
fn has_ingress_qdisc(index: u32) -> bool {
    let devices = Devices::new().and_then(|mut devices| devices.list()).unwrap_or_default();
    devices.get(&index).is_some_and(|device| device.filters == Some(Filters::Ingress))
}

fn release(index: u32, steering: &mut Steering) {
    if let Err(error) = steering.detach(index) {
        error!("interface {index}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Mode;

    #[test]
    fn packets_go_on_from_xdp_only_where_it_runs_in_the_driver_of_hardware() {
        use config::Forward::{Tc, Xdp};
        for (forward, virtual_device, result, expected) in [
            (Xdp, false, Ok(Mode::Native), true),
            (Xdp, true, Ok(Mode::Native), false),
            (Xdp, false, Ok(Mode::Generic), false),
            (Xdp, false, Err("refused".to_owned()), false),
            (Tc, false, Ok(Mode::Tcx), false),
        ] {
            let what = format!("{forward:?}, {virtual_device}, {result:?}");
            let name = "eth0".to_owned();
            let known = Known { name, ethernet: true, virtual_device, forward, result };
            let mut interfaces = Interfaces::new(Vec::new());
            interfaces.known.insert(7, known);
            assert_eq!(interfaces.xdp_sources().contains(&7), expected, "{what}");
        }
    }
}
