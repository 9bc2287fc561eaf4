//! Whether pinned maps are those that this build would make.

use std::collections::BTreeMap;

use probe_common::map::{ABI_VERSION, Meta};
use probe_common::reason::Reason;

use super::error::MigrationError;
use super::opened::Opened;
use crate::datapath::object::{ObjectError, reasons};
use crate::datapath::shape::{Shape, is_pinned, shapes};
use crate::datapath::{OBJECT, Pins, Settings};

/// What is known of maps.
#[derive(Debug, Clone)]
struct Maps {
    meta: Meta,
    shapes: BTreeMap<String, Shape>,
}

/// In what pinned maps differ from those that are wanted, if they do, and what
/// lives in them can move; an error if it cannot.
pub(in crate::datapath) fn difference(
    settings: &Settings,
    pins: &Pins,
    found: &Meta,
) -> Result<Option<String>, ObjectError> {
    let wanted = wanted(settings)?;
    let mut there = Maps { meta: *found, shapes: BTreeMap::new() };
    for name in wanted.shapes.keys() {
        let path = pins.map(name);
        if path.exists() {
            there.shapes.insert(name.clone(), Opened::at(&path)?.shape);
        }
    }
    Ok(compare(&there, &wanted)?)
}

fn wanted(settings: &Settings) -> Result<Maps, ObjectError> {
    let mut shapes = shapes(OBJECT, settings)?;
    shapes.retain(|name, _| is_pinned(name));
    Ok(Maps { meta: settings.meta(ABI_VERSION), shapes })
}

fn compare(found: &Maps, wanted: &Maps) -> Result<Option<String>, MigrationError> {
    if found.meta.abi_version != wanted.meta.abi_version {
        // Which layouts are known is looked at by who converts them.
        return Ok(Some(format!("they have layout {}", found.meta.abi_version)));
    }
    let other = |what: &str, found: String, wanted: String| MigrationError::Shape {
        what: what.to_owned(),
        found,
        wanted,
    };
    if found.meta.tick_shift != wanted.meta.tick_shift {
        let shifts = [found, wanted].map(|maps| maps.meta.tick_shift.to_string());
        let [found, wanted] = shifts;
        return Err(other("a tick, in jiffies to the power of 2,", found, wanted));
    }
    let mut difference = None;
    for (name, wanted) in &wanted.shapes {
        // One that the build before did not have is made when the programs are loaded.
        let Some(found) = found.shapes.get(name) else { continue };
        if found != wanted {
            if (Shape { entries: wanted.entries, ..*found }) != *wanted {
                return Err(other(name, found.to_string(), wanted.to_string()));
            }
            difference = Some(format!("{name} has {found}, now {wanted}"));
        }
    }
    if !knows_reasons(&found.meta, count(&found.shapes)) {
        difference = Some("they count other reasons".to_owned());
    }
    Ok(difference)
}

fn count(shapes: &BTreeMap<String, Shape>) -> u32 {
    shapes.get("REASONS").map_or(0, |shape| shape.entries)
}

/// Whether REASONS, of so many entries, counts what this build counts there: more may be
/// counted behind that by now.
pub(super) fn knows_reasons(found: &Meta, entries: u32) -> bool {
    let known = Reason::ALL.iter().take(entries as usize).map(|reason| reason.name());
    found.reasons == reasons(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> Maps {
        wanted(&Settings::default()).unwrap()
    }

    #[test]
    fn maps_that_are_as_wanted_are_adopted() {
        assert_eq!(compare(&maps(), &maps()).unwrap(), None);
        let other = wanted(&Settings { hash_seed: 9, new_flow_seed: 8, ..Settings::default() });
        assert_eq!(compare(&other.unwrap(), &maps()).unwrap(), None, "seeds size nothing");
    }

    #[test]
    fn whatever_sizes_or_shapes_a_map_is_compared() {
        type Change = fn(&mut Shape);
        let rejected: [(&str, Change); 4] = [
            ("type", |shape| shape.kind += 1),
            ("key", |shape| shape.key += 4),
            ("value", |shape| shape.value += 8),
            ("flags", |shape| shape.flags ^= 1),
        ];
        let names: Vec<String> = maps().shapes.into_keys().collect();
        assert!(names.len() > 20 && names.iter().any(|name| name == "PEERS"), "{names:?}");
        for name in &names {
            for (what, change) in rejected {
                let mut found = maps();
                change(found.shapes.get_mut(name).unwrap());
                let error = compare(&found, &maps()).unwrap_err().to_string();
                assert!(error.contains(&format!("{name}: ")), "{what} of {name}: {error}");
            }
            let mut found = maps();
            found.shapes.get_mut(name).unwrap().entries += 1;
            match compare(&found, &maps()) {
                Ok(Some(difference)) => assert!(difference.starts_with(name), "{difference}"),
                // More reasons than this build knows.
                Ok(None) => panic!("entries of {name} are not compared"),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    #[test]
    fn what_sizes_do_not_show_is_compared_too() {
        let mut found = maps();
        found.meta.abi_version -= 1;
        assert!(compare(&found, &maps()).unwrap().unwrap().contains("layout"));
        let mut found = maps();
        found.meta.tick_shift += 1;
        assert!(compare(&found, &maps()).is_err());
        let mut found = maps();
        found.meta.reasons ^= 1;
        let difference = compare(&found, &maps()).unwrap();
        assert_eq!(difference.as_deref(), Some("they count other reasons"), "in another order");
    }

    #[test]
    fn maps_that_the_build_before_did_not_have_are_made() {
        let mut found = maps();
        found.shapes.remove("ADDRESSES");
        assert_eq!(compare(&found, &maps()).unwrap(), None);
    }

    /// What an operator can configure, and what a build can add, changes a shape.
    #[test]
    fn each_limit_of_the_configuration_is_compared() {
        let usual = Settings::default();
        let cases = [
            (Settings { flows: usual.flows * 2, ..usual }, "NEW_SETS_V6"),
            (Settings { splits: usual.splits + 1, ..usual }, "SUBSET_STATS"),
            (Settings { endpoints: usual.endpoints + 1, ..usual }, "IDENTITIES"),
            (Settings { chunks: usual.chunks + 1, ..usual }, "TABLES"),
        ];
        for (settings, map) in cases {
            let found = wanted(&settings).unwrap();
            let difference = compare(&found, &maps()).unwrap().unwrap();
            assert!(difference.starts_with(map), "{difference}");
        }
    }

    #[test]
    fn a_build_that_counts_more_reasons_moves_the_counters() {
        let mut found = maps();
        let count = Reason::ALL.len() - 1;
        found.shapes.get_mut("REASONS").unwrap().entries = count as u32;
        found.meta.reasons = reasons(Reason::ALL.iter().take(count).map(|reason| reason.name()));
        assert!(compare(&found, &maps()).unwrap().unwrap().starts_with("REASONS"));
    }
}
