//! Layouts of maps that this build can read and write. All goes by way of the
//! current one: an earlier layout is what it becomes, and what becomes it.

use std::path::Path;

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use probe_common::address::Address;
use probe_common::flow::Entry;
use probe_common::map::ABI_VERSION;
use probe_common::reason::Reason;
use probe_common::young::Young;

use super::error::MigrationError;

/// Maps that do not mean the same in all layouts.
const CHANGED: [&str; 8] = [
    "FLOWS_V4", "FLOWS_V6", "YOUNG_V4", "YOUNG_V6", "YOUNG_SETS_V4", "YOUNG_SETS_V6", "ENDPOINTS", "IDENTITIES",
];

/// What is known of maps that are converted.
pub(super) struct Context {
    _layout: Layout,
}

/// A layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Of this build.
    Current,
}

impl Layout {
    /// The one of that number, if this build knows it.
    pub fn of(number: u32) -> Option<Self> {
        match number {
            ABI_VERSION => Some(Self::Current),
            _ => None,
        }
    }

    /// What an entry of the flow tables is.
    pub fn entry<A: Address>(self, bytes: &[u8]) -> Option<Entry<A>>
    where
        Entry<A>: Pod,
    {
        (bytes.len() == size_of::<Entry<A>>()).then(|| pod_read_unaligned(bytes))
    }

    /// What an element of the young flows is; it may not be whole.
    pub fn young<A: Address>(self, bytes: &[u8]) -> Option<Young<A>>
    where
        Young<A>: Pod,
    {
        // The kernel begins elements of an array at multiples of eight bytes, and tells
        // the size of values as it was asked for.
        (bytes.len() == size_of::<Young<A>>()).then(|| pod_read_unaligned(bytes))
    }

    /// An entry as it is written.
    pub fn bytes<A: Address>(self, entry: &Entry<A>) -> Vec<u8>
    where
        Entry<A>: Pod,
    {
        bytes_of(entry).to_vec()
    }

    /// Whether a map means the same in another layout, if it has the same shape.
    pub fn means_as(self, other: Self, name: &str) -> bool {
        self == other || !CHANGED.contains(&name) && (name != "REASONS" || self.reasons() == other.reasons())
    }

    /// What has to be known of maps to convert what is in them.
    pub fn context(self, _maps: &Path) -> Result<Context, MigrationError> {
        Ok(Context { _layout: self })
    }

    /// A value of one of [`super::tables::NAMES`] in this layout, of what it is in another one.
    pub fn converted(self, _from: &Context, _name: &str, _key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        Some(value.to_vec())
    }

    /// The names of what is counted in REASONS, in order.
    pub fn reasons(self) -> Vec<&'static str> {
        Reason::ALL.iter().map(|reason| reason.name()).collect()
    }
}
