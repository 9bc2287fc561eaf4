//! What user space alone writes: services, splits, tables, endpoints, names. It is
//! copied while nobody changes it; ids stay, since live flows carry them.

use std::io;
use std::path::Path;

use bytemuck::{Pod, pod_read_unaligned};
use probe_common::map::{
    CHUNK, IDENTITY_ENDPOINT, IDENTITY_SPLIT, IDENTITY_SUBSET, IdentityKey, MAX_SUBSETS, Split,
};

use super::error::{During as _, MigrationError};
use super::opened::Opened;
use crate::datapath::Settings;
use crate::datapath::batch::Put;

/// The number of that type of map.
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// Entries that are read in one system call.
pub(super) const BATCH: usize = 1024;

/// The maps.
pub(super) const NAMES: [&str; 11] = [
    "SERVICE_FILTER",
    "ENDPOINT_FILTER",
    "SERVICES",
    "ADDRESSES",
    "ACTIVE",
    "SPLITS",
    "TABLES",
    "ENDPOINTS",
    "SUBSET_IDS",
    // A histogram that is not there any more, or another's, is given anew.
    "SUBSET_HISTOGRAMS",
    "IDENTITIES",
];

/// Copies all entries of a map. What is behind the end of a smaller array is not
/// in use: see [`Needed`].
pub(super) fn copy(
    from: &Opened,
    to: &Opened,
    convert: impl Fn(&[u8], &[u8]) -> Option<Vec<u8>>,
) -> Result<(), MigrationError> {
    let mut entries = Vec::new();
    let is_array = from.shape.kind == BPF_MAP_TYPE_ARRAY;
    let walked = from.bytes().walk(BATCH, |key, value| {
        // Elements of an array that were never written.
        if !(is_array && value.iter().all(|&byte| byte == 0)) {
            entries.extend(convert(key, value).map(|value| (key.to_vec(), value)));
        }
    });
    walked.during("copy what is in force")?;
    write(to, entries)
}

/// Writes entries, but for those that an array has no element for.
pub(super) fn write(to: &Opened, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), MigrationError> {
    for (key, value) in entries {
        match to.bytes().put(&key, &value, Put::Over) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {}
            written => drop(written.during("copy what is in force")?),
        }
    }
    Ok(())
}

/// The least sizes that hold what is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needed {
    splits: u32,
    endpoints: u32,
    chunks: u32,
}

impl Needed {
    /// By what the maps in a directory say. Numbers that are in use stay, so it is
    /// the highest one that counts.
    pub fn of(maps: &Path) -> Result<Self, MigrationError> {
        let open = |name: &str| Opened::at(&maps.join(name));
        let [identities, active, splits] = ["IDENTITIES", "ACTIVE", "SPLITS"].map(open);
        let (active, splits) = (active?, splits?);
        let (mut needed, mut ids) = (Self::default(), Vec::new());
        let walked = identities?.bytes().walk(BATCH, |key, _| {
            let IdentityKey { kind, id } = pod_read_unaligned(key);
            match kind {
                IDENTITY_SPLIT => ids.push(id),
                IDENTITY_SUBSET => needed.split(id / MAX_SUBSETS as u32),
                IDENTITY_ENDPOINT => needed.endpoints = needed.endpoints.max(id + 1),
                _ => {}
            }
        });
        walked.during("read the names")?;
        for id in ids {
            needed.split(id);
            let index: u32 = read(&active, id)?;
            let split: Split = read(&splits, index)?;
            for subset in &split.subsets[..(split.count as usize).min(MAX_SUBSETS)] {
                if subset.len > 1 {
                    let end = subset.table + subset.len.div_ceil(CHUNK as u32);
                    needed.chunks = needed.chunks.max(end);
                }
            }
        }
        Ok(needed)
    }

    fn split(&mut self, id: u32) {
        self.splits = self.splits.max(id + 1);
    }

    /// An error if these settings are too small for it, and for so many flows.
    pub fn check(&self, settings: &Settings, flows: u32) -> Result<(), MigrationError> {
        let slots = |chunks: u32| chunks.saturating_mul(CHUNK as u32);
        let sizes = [
            ("flows.max", settings.flows, flows),
            ("limits.splits", settings.splits, self.splits),
            ("limits.endpoints", settings.endpoints, self.endpoints),
            ("limits.tableSlots", slots(settings.chunks), slots(self.chunks)),
        ];
        match sizes.into_iter().find(|(_, configured, needed)| configured < needed) {
            Some((name, configured, needed)) => {
                Err(MigrationError::TooSmall { name, configured, needed })
            }
            None => Ok(()),
        }
    }
}

/// The value at an index of an array.
pub(super) fn read<T: Pod>(map: &Opened, index: u32) -> Result<T, MigrationError> {
    let found = map.bytes().get(&index.to_ne_bytes()).during("read a split")?;
    let whole = found.filter(|bytes| bytes.len() == size_of::<T>());
    let missing = || io::Error::other(format!("nothing of that size at {index}"));
    Ok(pod_read_unaligned(&whole.ok_or_else(missing).during("read a split")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_rejected_with_both_numbers() {
        let needed = Needed { splits: 10, endpoints: 20, chunks: 3 };
        let settings =
            Settings { flows: 100, splits: 10, endpoints: 20, chunks: 3, ..Settings::default() };
        assert!(needed.check(&settings, 100).is_ok(), "exactly enough");
        let cases = [
            (
                Settings { flows: 99, ..settings },
                "flows.max: 99 is configured, but what lives needs at least 100",
            ),
            (
                Settings { splits: 9, ..settings },
                "limits.splits: 9 is configured, but what lives needs at least 10",
            ),
            (
                Settings { endpoints: 19, ..settings },
                "limits.endpoints: 19 is configured, but what lives needs at least 20",
            ),
            (
                Settings { chunks: 2, ..settings },
                "limits.tableSlots: 256 is configured, but what lives needs at least 384",
            ),
        ];
        for (settings, expected) in cases {
            let error = needed.check(&settings, 100).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
