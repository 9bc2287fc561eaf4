//! What is in force in the maps of a generation, as bytes where its layout matters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytemuck::pod_read_unaligned;
use probe_common::map::{CHUNK, IDENTITY_SPLIT, IdentityKey, MAX_SUBSETS, Split, Subset};

use super::error::{During as _, MigrationError};
use super::opened::Opened;
use super::tables::{BATCH, read};

/// What a generation's maps say, as far as it has to be understood to be converted.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// What numbers stand for.
    pub identities: Vec<(IdentityKey, Vec<u8>)>,
    /// Endpoints by their ids: those that are not all zero.
    pub endpoints: BTreeMap<u32, Vec<u8>>,
    /// The version in force of each split that has an identity, by its id.
    pub splits: BTreeMap<u32, Split>,
    /// The endpoint ids in tables of these versions, by first chunk.
    pub tables: BTreeMap<u32, BTreeSet<u32>>,
}

impl Content {
    /// What the maps in a directory say.
    pub fn read(maps: &Path) -> Result<Self, MigrationError> {
        const STEP: &str = "read what is in force";
        let open = |name: &str| Opened::at(&maps.join(name));
        let mut content = Self::default();
        let identities = open("IDENTITIES")?;
        let walked = identities.bytes().walk(BATCH, |key, value| {
            content.identities.push((pod_read_unaligned(key), value.to_vec()));
        });
        walked.during(STEP)?;
        let walked = open("ENDPOINTS")?.bytes().walk(BATCH, |key, value| {
            if value.iter().any(|&byte| byte != 0) {
                content.endpoints.insert(pod_read_unaligned(key), value.to_vec());
            }
        });
        walked.during(STEP)?;
        let (active, versions, chunks) = (open("ACTIVE")?, open("SPLITS")?, open("TABLES")?);
        let splits = content.identities.iter().filter(|(key, _)| key.kind == IDENTITY_SPLIT);
        for id in splits.map(|(key, _)| key.id) {
            content.splits.insert(id, read(&versions, read(&active, id)?)?);
        }
        for subset in content.splits.values().flat_map(subsets).filter(|subset| subset.len > 1) {
            let (mut ids, mut left) = (BTreeSet::new(), subset.len as usize);
            for chunk in subset.table..subset.table + subset.len.div_ceil(CHUNK as u32) {
                let slots: [u32; CHUNK] = read(&chunks, chunk)?;
                ids.extend(slots.iter().take(left));
                left = left.saturating_sub(CHUNK);
            }
            content.tables.insert(subset.table, ids);
        }
        Ok(content)
    }

    /// The endpoint ids of a subset of a split in force.
    pub fn endpoints_of(&self, subset: &Subset) -> BTreeSet<u32> {
        match subset.len {
            0 => BTreeSet::new(),
            1 => BTreeSet::from([subset.table]),
            _ => self.tables.get(&subset.table).cloned().unwrap_or_default(),
        }
    }
}

/// The subsets of a version of a split.
pub(super) fn subsets(split: &Split) -> &[Subset] {
    &split.subsets[..(split.count as usize).min(MAX_SUBSETS)]
}

/// The same, to be changed.
pub(super) fn subsets_mut(split: &mut Split) -> &mut [Subset] {
    &mut split.subsets[..(split.count as usize).min(MAX_SUBSETS)]
}
