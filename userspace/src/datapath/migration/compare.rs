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
        let Some(found) = found.shapes.get(name) else {
            return Err(other(name, "missing".to_owned(), wanted.to_string()));
        };
        if found != wanted {
            if (Shape { entries: wanted.entries, ..*found }) != *wanted {
                return Err(other(name, found.to_string(), wanted.to_string()));
            }
            difference = Some(format!("{name} has {found}, now {wanted}"));
        }
    }
    // More may be counted behind what was counted before, and no less.
    let count = found.shapes.get("REASONS").map_or(0, |shape| shape.entries as usize);
    let same = reasons(Reason::ALL.iter().take(count).map(|reason| reason.name()));
    if found.meta.reasons != same {
        let sums = [found, wanted].map(|maps| format!("{:08x}", maps.meta.reasons));
        let [found, wanted] = sums;
        return Err(other("the list of reasons", found, wanted));
    }
    Ok(difference)
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
        let other = wanted(&Settings { hash_seed: 9, young_seed: 8, ..Settings::default() });
        assert_eq!(compare(&other.unwrap(), &maps()).unwrap(), None, "seeds size nothing");
    }

    #[test]
    fn whatever_sizes_or_shapes_a_map_is_compared() {
        type Change = fn(&mut Shape);
        let refused: [(&str, Change); 4] = [
            ("type", |shape| shape.kind += 1),
            ("key", |shape| shape.key += 4),
            ("value", |shape| shape.value += 8),
            ("flags", |shape| shape.flags ^= 1),
        ];
        let names: Vec<String> = maps().shapes.into_keys().collect();
        assert!(names.len() > 20 && names.iter().any(|name| name == "PEERS"), "{names:?}");
        for name in &names {
            for (what, change) in refused {
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
            let mut found = maps();
            found.shapes.remove(name);
            assert!(compare(&found, &maps()).is_err(), "without {name}");
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
        assert!(compare(&found, &maps()).is_err(), "another order of reasons");
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
