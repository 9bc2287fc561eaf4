//! The interfaces that carry the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aya::programs::TcAttachType;
use tracing::{error, info, warn};

use super::steering::Steering;
use crate::api::types::InterfaceView;
use crate::config::{self, InterfaceMatch};
use crate::datapath::{self, CLSACT_HANDLE, CLSACT_PRIORITY, Forward};
use crate::desired::Time;
use crate::fast_path::{Devices, Filters};
use crate::interfaces::Event;

/// How long it is a reason not to be well that programs were detached.
const LATELY: Duration = Duration::from_secs(60);

/// Which interfaces there are, of those that the configuration matches.
pub(super) struct Interfaces {
    matches: Vec<InterfaceMatch>,
    known: BTreeMap<u32, Known>,
    /// Whether all that are there have been followed once.
    listed: bool,
    /// Why programs could not be taken off others.
    unreleased: Option<String>,
}

struct Known {
    name: String,
    ethernet: bool,
    virtual_device: bool,
    forward: config::Forward,
    /// Whether the configuration has its name, and not only a pattern that fits.
    named: bool,
    /// How the forward direction is attached, or why it is not.
    result: Result<datapath::Mode, Unattached>,
    /// How often somebody else detached programs from it.
    detached: u64,
    /// When that was seen last.
    last_detached: Option<SystemTime>,
}

/// Why programs are not on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unattached {
    /// They should be; it is tried again.
    Failed(String),
    /// It can carry none, and nobody has asked for it by its name.
    PassedOver(String),
}

impl Interfaces {
    pub fn new(matches: Vec<InterfaceMatch>) -> Self {
        Self { matches, known: BTreeMap::new(), listed: false, unreleased: None }
    }

    /// Follows what happened to an interface.
    pub fn follow(&mut self, event: Event, steering: &mut Steering) {
        match event {
            Event::Appeared { index, name, kind, ethernet } => {
                let Some(fit) = self.matches.iter().find(|m| m.matches(&name)) else {
                    // Renamed, or left by an agent that was configured otherwise.
                    self.known.remove(&index);
                    return self.release(index, steering);
                };
                let named = self.matches.iter().any(|one| one.is_name() && one.matches(&name));
                let known = self.known.entry(index).or_insert_with(|| Known {
                    name: String::new(),
                    ethernet,
                    virtual_device: kind.is_some(),
                    forward: fit.forward(),
                    named,
                    result: Err(Unattached::Failed("not attached yet".to_owned())),
                    detached: 0,
                    last_detached: None,
                });
                (known.name, known.forward, known.named) = (name, fit.forward(), named);
                known.attach(index, steering);
            }
            Event::Gone { index } => {
                if let Some(known) = self.known.remove(&index) {
                    info!("{}: gone", known.name);
                }
                self.release(index, steering);
            }
        }
    }

    fn release(&mut self, index: u32, steering: &mut Steering) {
        if let Err(error) = steering.detach(index) {
            // Tried again with all others.
            self.unreleased = Some(format!("interface {index}: {error}"));
        }
    }

    /// Follows a list of all interfaces that are there. Of those that are not, what is known is
    /// forgotten and what is pinned is removed.
    pub fn list(&mut self, events: Vec<Event>, steering: &mut Steering) {
        let there: BTreeSet<u32> = events.iter().map(Event::index).collect();
        events.into_iter().for_each(|event| self.follow(event, steering));
        self.known.retain(|index, _| there.contains(index));
        self.listed = true;
        self.forget_others(steering);
    }

    /// Removes the pins of interfaces that are none of the agent's.
    fn forget_others(&mut self, steering: &mut Steering) {
        let result = steering.pins().attached().map_err(anyhow::Error::from).and_then(|pinned| {
            let others: BTreeSet<u32> = pinned.into_iter().map(|(index, _)| index).collect();
            let mut others = others.into_iter().filter(|index| !self.known.contains_key(index));
            others.try_for_each(|index| {
                steering.detach(index).with_context(|| format!("interface {index}"))
            })
        });
        self.unreleased = result.err().map(|error| format!("{error:#}"));
    }

    /// Tries again where attaching or detaching failed.
    pub fn retry(&mut self, steering: &mut Steering) {
        for (&index, known) in &mut self.known {
            if matches!(known.result, Err(Unattached::Failed(_))) {
                known.attach(index, steering);
            }
        }
        if self.listed && self.unreleased.is_some() {
            self.forget_others(steering);
        }
    }

    /// Looks whether the programs are still where they were attached, and attaches them again
    /// where somebody else has detached them.
    ///
    /// # Errors
    ///
    /// If the kernel does not say of one; the others are looked at all the same.
    pub fn verify(&mut self, steering: &mut Steering) -> anyhow::Result<()> {
        let mut result = Ok(());
        for (&index, known) in &mut self.known {
            let Ok(mode) = known.result else { continue };
            match known.detached(index, mode, steering) {
                Ok(places) if places.is_empty() => {}
                Ok(places) => known.attach_again(index, &places.join(" and "), steering),
                Err(error) => result = Err(error).with_context(|| known.name.clone()),
            }
        }
        result
    }

    /// Why programs are still on interfaces that are none of the agent's.
    pub fn unreleased(&self) -> Option<String> {
        self.unreleased.clone()
    }

    /// The names of those that carry programs, or are to.
    pub fn names(&self) -> BTreeSet<String> {
        let carriers = self.known.values().filter(|known| !known.is_passed_over());
        carriers.map(|known| known.name.clone()).collect()
    }

    /// Those from where XDP may send packets on, as far as weir's programs are concerned: where it
    /// runs in the driver of hardware. Elsewhere checksums may be partial, which XDP does not see.
    pub fn xdp_sources(&self) -> BTreeSet<u32> {
        let native = self.known.iter().filter(|(_, known)| known.is_xdp_source());
        native.map(|(&index, _)| index).collect()
    }

    /// Sentences about those from which somebody else has detached programs within the last
    /// minute.
    pub fn lately_detached(&self) -> Vec<String> {
        let is_late = |at: SystemTime| at.elapsed().is_ok_and(|ago| ago < LATELY);
        let late = self.known.values().filter(|known| known.last_detached.is_some_and(is_late));
        let say = |known: &Known| {
            let times = if known.detached == 1 { "once" } else { "repeatedly" };
            format!("{}: somebody else detached the programs {times}", known.name)
        };
        late.map(say).collect()
    }

    /// For status.
    pub fn views(&self) -> Vec<InterfaceView> {
        let view = |(&index, known): (&u32, &Known)| InterfaceView {
            name: known.name.clone(),
            index,
            hook: known.hook().to_owned(),
            mode: known.result.as_ref().map_or("", |mode| mode.name()).to_owned(),
            error: known.error().map(str::to_owned),
            detached: known.detached,
            last_detached: known.last_detached.map(|at| Time::from(at).to_string()),
            passed_over: match &known.result {
                Err(Unattached::PassedOver(why)) => Some(why.clone()),
                _ => None,
            },
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

    /// Where programs are attached no more, though nobody here has detached them.
    fn detached(
        &self,
        index: u32,
        mode: datapath::Mode,
        steering: &Steering,
    ) -> io::Result<Vec<&'static str>> {
        let how = (self.forward(), mode);
        let places = datapath::detached(steering.pins(), index, how, |at| has_filter(index, at))?;
        // With an interface that has just gone or become another, they went, too.
        let name = nix::net::if_::if_indextoname(index).ok();
        let is_there = name.is_some_and(|name| name.to_bytes() == self.name.as_bytes());
        Ok(if is_there { places } else { Vec::new() })
    }

    /// Whether the programs are there, perhaps of an agent before this one.
    fn is_attached(&self, index: u32, steering: &Steering) -> bool {
        use datapath::Mode::{Generic, Native, Tcx};
        let (forward, pins) = (self.forward(), steering.pins());
        let modes: &[_] = if forward == Forward::Tc { &[Tcx] } else { &[Native, Generic] };
        modes.iter().any(|&mode| {
            let detached =
                datapath::detached(pins, index, (forward, mode), |at| has_filter(index, at));
            detached.is_ok_and(|places| places.is_empty())
        })
    }

    fn attach_again(&mut self, index: u32, places: &str, steering: &mut Steering) {
        warn!("{}: somebody else has detached the programs at {places}", self.name);
        self.detached += 1;
        self.last_detached = Some(SystemTime::now());
        self.result = Err(Unattached::Failed(format!("detached at {places}")));
        self.attach(index, steering);
    }

    fn forward(&self) -> Forward {
        match self.forward {
            config::Forward::Tc => Forward::Tc,
            config::Forward::Xdp => Forward::Xdp { virtual_device: self.virtual_device },
        }
    }

    fn attach(&mut self, index: u32, steering: &mut Steering) {
        let forward = self.forward();
        let interface = datapath::Interface { index, name: &self.name };
        let failed = |error: String| Err(Unattached::Failed(error));
        let result = if !self.ethernet {
            let why = "not an Ethernet interface".to_owned();
            if self.named { failed(why) } else { Err(Unattached::PassedOver(why)) }
        } else if !datapath::has_tcx() && has_ingress_qdisc(index) {
            let why = "its qdisc ingress is where clsact has to be, which weir needs before Linux \
                       6.6";
            failed(why.to_owned())
        } else {
            let is_new = self.result.is_err() && !self.is_attached(index, steering);
            let result = steering.attach(interface, forward, is_new);
            result.or_else(|error| failed(format!("{:#}", anyhow::Error::from(error))))
        };
        let (name, hook) = (&self.name, self.hook());
        match &result {
            Ok(mode) => info!("{name}: forward at {hook} ({})", mode.name()),
            // Said once, not with each attempt.
            Err(same) if self.result.as_ref().err() == Some(same) => {}
            Err(Unattached::Failed(error)) => error!("{name}: {error}; it is tried again"),
            Err(Unattached::PassedOver(why)) => info!("{name}: passed over: {why}"),
        }
        self.result = result;
    }

    fn error(&self) -> Option<&str> {
        match &self.result {
            Err(Unattached::Failed(error)) => Some(error),
            _ => None,
        }
    }

    fn is_passed_over(&self) -> bool {
        matches!(self.result, Err(Unattached::PassedOver(_)))
    }
}

/// Whether weir's clsact filter is at a hook of an interface.
fn has_filter(index: u32, at: TcAttachType) -> io::Result<bool> {
    let mut devices = Devices::new()?;
    let filters = match at {
        TcAttachType::Egress => devices.egress_filters(index),
        _ => devices.ingress_filters(index),
    };
    Ok(filters?.iter().any(|filter| filter.is_at(CLSACT_PRIORITY, CLSACT_HANDLE)))
}

/// Whether an interface has the classic qdisc, which has no egress, and where
/// the kernel takes filters for egress to ingress. If that cannot be told,
/// attaching has a try.
fn has_ingress_qdisc(index: u32) -> bool {
    let devices = Devices::new().and_then(|mut devices| devices.list()).unwrap_or_default();
    devices.get(&index).is_some_and(|device| device.filters == Some(Filters::Ingress))
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
            (Xdp, false, Err(Unattached::Failed("rejected".to_owned())), false),
            (Tc, false, Ok(Mode::Tcx), false),
        ] {
            let what = format!("{forward:?}, {virtual_device}, {result:?}");
            let name = "eth0".to_owned();
            let (ethernet, named) = (true, false);
            let (detached, last_detached) = (0, None);
            let known = Known {
                name,
                ethernet,
                virtual_device,
                forward,
                named,
                result,
                detached,
                last_detached,
            };
            let mut interfaces = Interfaces::new(Vec::new());
            interfaces.known.insert(7, known);
            assert_eq!(interfaces.xdp_sources().contains(&7), expected, "{what}");
        }
    }
}
