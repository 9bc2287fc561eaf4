//! Layouts of maps that this build can read and write. All goes by way of the
//! current one: an earlier layout is what it becomes, and what becomes it.

use std::collections::BTreeMap;
use std::path::Path;

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use probe_common::address::Address;
use probe_common::flow::Entry;
use probe_common::map::{ABI_VERSION, CHUNK, MAX_SUBSETS, Split};
use probe_common::reason::Reason;
use probe_common::young::Young;

use super::error::{During as _, MigrationError};
use super::opened::Opened;
use super::seven::{self, Names};
use super::tables;

/// A layout.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// Of this build.
    Current,
    /// The one before, with the subsets of its endpoints, by their numbers.
    Seven(BTreeMap<u32, u32>),
}

impl Layout {
    /// The one of that number, if this build knows it, of maps in a directory that
    /// may be empty yet.
    pub fn of(number: u32, maps: &Path) -> Result<Self, MigrationError> {
        match number {
            _ if number == ABI_VERSION => Ok(Self::Current),
            7 => {
                let (path, mut subsets) = (maps.join("ENDPOINTS"), BTreeMap::new());
                if path.exists() {
                    let walked = Opened::at(&path)?.bytes().walk(tables::BATCH, |key, value| {
                        if let Some(subset) = seven::subset(value).filter(|&subset| subset != 0) {
                            subsets.insert(pod_read_unaligned(key), subset);
                        }
                    });
                    walked.during("read the endpoints")?;
                }
                Ok(Self::Seven(subsets))
            }
            found => Err(MigrationError::Layout { found }),
        }
    }

    fn is_current(&self) -> bool {
        matches!(self, Self::Current)
    }

    fn subset(&self, endpoint: u32) -> u32 {
        match self {
            Self::Current => 0,
            Self::Seven(subsets) => subsets.get(&endpoint).copied().unwrap_or_default(),
        }
    }

    /// What an entry of the flow tables is.
    pub fn entry<A: Address>(&self, bytes: &[u8]) -> Option<Entry<A>>
    where
        Entry<A>: Pod,
    {
        let bytes = match self {
            Self::Current => bytes.to_vec(),
            Self::Seven(_) => seven::entry_up(bytes, |endpoint| self.subset(endpoint))?,
        };
        (bytes.len() == size_of::<Entry<A>>()).then(|| pod_read_unaligned(&bytes))
    }

    /// A young flow; None if the element is none, or was not written as a whole.
    pub fn young<A: Address>(&self, bytes: &[u8]) -> Option<Young<A>>
    where
        Young<A>: Pod,
    {
        if bytes.len() != size_of::<Young<A>>() {
            return None;
        }
        let mut young: Young<A> = pod_read_unaligned(bytes);
        if self.is_current() {
            return young.is_whole().then_some(young);
        }
        let whole = young.check == seven::sum(&young);
        // The last word, which was zero.
        let (subset, end) = (self.subset(young.endpoint), size_of::<Young<A>>());
        bytemuck::bytes_of_mut(&mut young)[end - 4..].copy_from_slice(&subset.to_ne_bytes());
        young.check = young.sum();
        whole.then_some(young)
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

    /// The names of what is counted in REASONS, in order.
    pub fn reasons(&self) -> Vec<&'static str> {
        match self {
            Self::Current => Reason::ALL.iter().map(|reason| reason.name()).collect(),
            Self::Seven(_) => seven::REASONS.to_vec(),
        }
    }

    /// Whether a map means the same in another layout, if it has the same shape.
    pub fn means_as(&self, other: &Self, name: &str) -> bool {
        if self.is_current() == other.is_current() {
            return true;
        }
        !seven::CHANGED.contains(&name) && (name != "REASONS" || self.reasons() == other.reasons())
    }

    /// A value of one of [`super::tables::NAMES`] in this layout, of what it is in
    /// another one; None if there is nothing to be said.
    pub fn converted(
        &self,
        from: &Self,
        names: &Names,
        (map, key, value): (&str, &[u8], &[u8]),
    ) -> Option<Vec<u8>> {
        match (from, self, map) {
            (Self::Seven(_), Self::Current, "ENDPOINTS") => seven::endpoint_up(value),
            (Self::Seven(_), Self::Current, "IDENTITIES") => {
                names.up(pod_read_unaligned(key), value)
            }
            (Self::Current, Self::Seven(_), "ENDPOINTS") => {
                let id: u32 = pod_read_unaligned(key);
                let subset = names.of_endpoints.get(&id).copied().unwrap_or_default();
                Some(seven::endpoint_down(value, subset))
            }
            (Self::Current, Self::Seven(_), "IDENTITIES") => {
                names.down(pod_read_unaligned(key), value)
            }
            _ => Some(value.to_vec()),
        }
    }
}

/// What the numbers in maps stand for.
pub(super) fn names(maps: &Path) -> Result<Names, MigrationError> {
    const STEP: &str = "read the names";
    let open = |name: &str| Opened::at(&maps.join(name));
    let (mut names, mut splits) = (Names::default(), Vec::new());
    let walked = open("IDENTITIES")?.bytes().walk(tables::BATCH, |key, value| {
        let key = pod_read_unaligned(key);
        names.add(key, value);
        if key.kind == probe_common::map::IDENTITY_SPLIT {
            splits.push(key.id);
        }
    });
    walked.during(STEP)?;
    let (active, versions, chunks) = (open("ACTIVE")?, open("SPLITS")?, open("TABLES")?);
    for id in splits {
        let split: Split = tables::read(&versions, tables::read(&active, id)?)?;
        for subset in &split.subsets[..(split.count as usize).min(MAX_SUBSETS)] {
            if subset.len == 1 {
                names.of_endpoints.insert(subset.table, subset.id);
            }
            let count = if subset.len > 1 { subset.len.div_ceil(CHUNK as u32) } else { 0 };
            let mut left = subset.len as usize;
            for chunk in subset.table..subset.table + count {
                let slots: [u32; CHUNK] = tables::read(&chunks, chunk)?;
                let own = slots.iter().take(left);
                names.of_endpoints.extend(own.map(|&endpoint| (endpoint, subset.id)));
                left = left.saturating_sub(CHUNK);
            }
        }
    }
    Ok(names)
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
