//! Pinned maps that have another name by now. A name is no part of a layout: what is in
//! them stays, and so do the programs that run on them.

use std::fs;
use std::path::Path;

use probe_common::map::ABI_VERSION;

use super::object::{ObjectError, meta};
use super::{Pins, PinsError};

/// Names of maps of the current layout as they were, and as they are.
const RENAMED: [(&str, &str); 4] = [
    ("YOUNG_V4", "NEW_FLOWS_V4"),
    ("YOUNG_V6", "NEW_FLOWS_V6"),
    ("YOUNG_SETS_V4", "NEW_SETS_V4"),
    ("YOUNG_SETS_V6", "NEW_SETS_V6"),
];

/// Gives the maps that an earlier build has pinned the names that this one looks for. Those of
/// an earlier layout keep theirs: by these, the programs of that layout find them.
pub(super) fn rename(pins: &Pins) -> Result<(), ObjectError> {
    for maps in pins.of_maps() {
        let path = maps.join("META");
        if path.exists() && meta(&path)?.abi_version == ABI_VERSION {
            rename_in(&maps)?;
        }
    }
    Ok(())
}

fn rename_in(maps: &Path) -> Result<(), PinsError> {
    for (before, now) in RENAMED {
        let (before, now) = (maps.join(before), maps.join(now));
        if before.exists() && !now.exists() {
            fs::rename(&before, &now)
                .map_err(|source| PinsError::Io { path: before.clone(), source })?;
        }
    }
    Ok(())
}
