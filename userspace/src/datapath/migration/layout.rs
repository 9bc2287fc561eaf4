//! Layouts of maps that this build can read and write. All goes by way of the
//! current one: an earlier layout is what it becomes, and what becomes it.

use std::path::Path;
use std::sync::Arc;

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use probe_common::address::Address;
use probe_common::flow::Entry;
use probe_common::map::ABI_VERSION;
use probe_common::new_flow::NewFlow;
use probe_common::reason::Reason;

use super::content::Content;
use super::error::MigrationError;
use super::seven;
use super::seven::down::Down;
use super::seven::up::Up;

/// A layout.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// Of this build.
    Current,
    /// The one before, with what becomes of ids.
    Seven(Arc<Up>),
}

/// How values are written in another layout than they are in.
#[derive(Debug)]
pub(super) enum Converter {
    /// As they are.
    Same,
    /// One layout up.
    Up(Arc<Up>),
    /// One layout down.
    Down(Down),
}

impl Converter {
    /// A value of one of [`super::tables::NAMES`]; None if there is nothing to be said.
    pub fn value(&self, map: &str, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Same => Some(value.to_vec()),
            Self::Up(up) => up.value(map, key, value),
            Self::Down(down) => down.value(map, key, value),
        }
    }

    /// What a map has that was not there before.
    pub fn made(&self, map: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Up(up) => up.made(map),
            Self::Same | Self::Down(_) => Vec::new(),
        }
    }
}

impl Layout {
    /// The one of that number, if this build knows it, of maps in a directory that
    /// may be empty yet.
    pub fn of(number: u32, maps: &Path) -> Result<Self, MigrationError> {
        match number {
            _ if number == ABI_VERSION => Ok(Self::Current),
            7 if !maps.join("META").exists() => Ok(Self::Seven(Arc::default())),
            7 => Ok(Self::Seven(Arc::new(Up::of(&Content::read(maps)?)))),
            found => Err(MigrationError::Layout { found }),
        }
    }

    /// How values of this layout, in that directory, are written in another one.
    pub fn converter(&self, to: &Self, maps: &Path) -> Result<Converter, MigrationError> {
        Ok(match (self, to) {
            (Self::Current, Self::Current) | (Self::Seven(_), Self::Seven(_)) => Converter::Same,
            (Self::Seven(up), Self::Current) => Converter::Up(Arc::clone(up)),
            (Self::Current, Self::Seven(_)) => Converter::Down(Down::of(&Content::read(maps)?)),
        })
    }

    /// The name of the tables of new flows, but for the family.
    pub fn new_flows(&self) -> &'static str {
        match self {
            Self::Current => "NEW_FLOWS",
            Self::Seven(_) => "YOUNG",
        }
    }

    /// What an entry of the flow tables is.
    pub fn entry<A: Address>(&self, bytes: &[u8]) -> Option<Entry<A>>
    where
        Entry<A>: Pod,
    {
        let bytes = match self {
            Self::Current => bytes.to_vec(),
            Self::Seven(up) => seven::entry_up(bytes, |endpoint| up.place(endpoint))?,
        };
        (bytes.len() == size_of::<Entry<A>>()).then(|| pod_read_unaligned(&bytes))
    }

    /// A new flow; None if the element is none, or was not written as a whole.
    pub fn new_flow<A: Address>(&self, bytes: &[u8]) -> Option<NewFlow<A>>
    where
        NewFlow<A>: Pod,
    {
        if bytes.len() != size_of::<NewFlow<A>>() {
            return None;
        }
        let mut new_flow: NewFlow<A> = pod_read_unaligned(bytes);
        match self {
            Self::Current => new_flow.is_whole().then_some(new_flow),
            Self::Seven(up) => {
                let whole = new_flow.check == seven::sum(&new_flow);
                (new_flow.endpoint, new_flow.subset) = up.place(new_flow.endpoint);
                new_flow.check = new_flow.sum();
                whole.then_some(new_flow)
            }
        }
    }

    /// An entry as it is written.
    pub fn bytes<A: Address>(&self, entry: &Entry<A>) -> Vec<u8>
    where
        Entry<A>: Pod,
    {
        match self {
            Self::Current => bytes_of(entry).to_vec(),
            Self::Seven(_) => seven::entry_down(bytes_of(entry)),
        }
    }

    /// The id in the next layout of an endpoint that has that one.
    pub fn endpoint(&self, id: u32) -> u32 {
        match self {
            Self::Current => id,
            Self::Seven(up) => up.endpoint(id),
        }
    }

    /// The names of what is counted in REASONS, in order.
    pub fn reasons(&self) -> Vec<&'static str> {
        match self {
            Self::Current => Reason::ALL.iter().map(|reason| reason.name()).collect(),
            Self::Seven(_) => seven::REASONS.to_vec(),
        }
    }

    /// Whether a map means the same in another layout, if it has the same shape.
    pub fn means_as(&self, other: &Self, name: &str) -> bool {
        let up = match (self, other) {
            (Self::Seven(up), Self::Current) | (Self::Current, Self::Seven(up)) => up,
            _ => return true,
        };
        match name {
            "REASONS" => self.reasons() == other.reasons(),
            "ENDPOINT_STATS" => !up.joins(),
            name => !seven::CHANGED.contains(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_in_layout_7_is_counted_still() {
        let now = Layout::Current.reasons();
        for name in seven::REASONS {
            assert!(now.contains(name), "{name} is lost in an upgrade");
        }
    }
}
