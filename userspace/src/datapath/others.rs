//! Programs on interfaces that are not weir's.

use std::collections::BTreeSet;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};

use super::Pins;

/// Tells programs of others by the ids of those that are pinned.
#[derive(Debug)]
pub struct Others {
    own: BTreeSet<u32>,
}

impl Others {
    /// All programs are others' but those that are attached by these pins.
    pub fn than(pins: &Pins) -> Self {
        let attached = pins.attached().unwrap_or_default();
        let ids = attached.into_iter().filter_map(|(index, hook)| id(&pins.link(index, &hook)));
        Self { own: ids.collect() }
    }

    /// The names of others' TCX programs on an interface, at ingress and at
    /// egress. None where the kernel has no TCX, or does not tell.
    pub fn at_tc(&self, interface: &str) -> [Vec<String>; 2] {
        [TcAttachType::Ingress, TcAttachType::Egress].map(|direction| {
            let found = SchedClassifier::query_tcx(interface, direction);
            let programs = found.map(|(_, programs)| programs).unwrap_or_default();
            let others = programs.iter().filter(|program| !self.own.contains(&program.id()));
            others.map(name).collect()
        })
    }

    /// The name of the program of that id, if it is another's.
    pub fn program(&self, id: u32) -> Option<String> {
        if self.own.contains(&id) {
            return None;
        }
        let found = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        Some(found.as_ref().map_or_else(|| format!("program {id}"), name))
    }
}

/// The id of the program that a pin attaches, or is.
fn id(pin: &Path) -> Option<u32> {
    let link = PinnedLink::from_pin(pin).ok().and_then(|pinned| FdLink::from(pinned).info().ok());
    match link {
        Some(info) => Some(info.program_id()),
        None => ProgramInfo::from_pin(pin).ok().map(|info| info.id()),
    }
}

fn name(program: &ProgramInfo) -> String {
    match program.name_as_str() {
        Some(name) if !name.is_empty() => format!("{name} (id {})", program.id()),
        _ => format!("program {}", program.id()),
    }
}
