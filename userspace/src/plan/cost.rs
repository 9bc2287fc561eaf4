//! What a split takes of the maps, to find out what fits before it is planned.

use std::collections::BTreeSet;

use probe_common::map::CHUNK;

use super::{Capacity, Ledger};
use crate::model::{Split, Subset};
use crate::table::maglev;

/// What a split takes beside what its version in force has, which stays until no program reads
/// it any more. At most: tables that stay the same are counted anew.
pub fn cost(ledger: &Ledger, split: &Split) -> Capacity {
    let known = ledger.split(split.name());
    let all: BTreeSet<_> = split.subsets().iter().flat_map(|subset| &subset.endpoints).collect();
    let new = all.iter().filter(|&&&e| ledger.endpoint(split.address(), e).is_none()).count();
    let same = |subset: &Subset| {
        known.is_some_and(|known| {
            known.address() == split.address()
                && known
                    .subsets()
                    .iter()
                    .any(|s| s.name == subset.name && s.endpoints == subset.endpoints)
        })
    };
    let changed = split.subsets().iter().filter(|subset| !same(subset));
    let sizes = changed.filter_map(|subset| maglev::size_for(subset.endpoints.len()));
    let chunks = sizes.filter(|&len| len > 1).map(|len| len.div_ceil(CHUNK as u32)).sum();
    let endpoints = u32::try_from(new).unwrap_or(u32::MAX);
    Capacity { splits: u32::from(known.is_none()), endpoints, chunks }
}
