//! Merge keys (`<<: *x`), as YAML 1.1 has them and `kubectl` reads them.

use serde_yaml::{Mapping, Value};

use super::FieldPath;
use super::locate::Segment;

/// What is written in place of a key.
pub(super) const KEY: &str = "<<";

/// What is said of what cannot be merged.
pub(super) const EXPECTED: &str = "nothing to merge, expected a mapping or a list of mappings";

/// Puts the keys of each mapping that is merged into another one there, but for
/// those that the other one has itself; of several that are merged, the first
/// that has a key counts. `Err` is where something cannot be merged.
pub(super) fn resolve(value: &mut Value) -> Result<(), FieldPath> {
    let found = resolve_below(value);
    found.map_err(|reversed| reversed.into_iter().rev().collect())
}

/// `Err` is the path, the innermost step first: it is put together only if there is one.
fn resolve_below(value: &mut Value) -> Result<(), Vec<Segment>> {
    match value {
        Value::Mapping(mapping) => {
            // What is merged may merge others itself.
            for (key, value) in mapping.iter_mut() {
                let name = || Segment::Key(key.as_str().unwrap_or_default().to_owned());
                resolve_below(value).map_err(|path| with(path, name()))?;
            }
            match mapping.shift_remove(KEY) {
                Some(merged) => merge(mapping, merged),
                None => Ok(()),
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve_below(item).map_err(|path| with(path, Segment::Index(index)))?;
            }
            Ok(())
        }
        Value::Tagged(tagged) => resolve_below(&mut tagged.value),
        _ => Ok(()),
    }
}

fn with(mut path: Vec<Segment>, outer: Segment) -> Vec<Segment> {
    path.push(outer);
    path
}

fn merge(into: &mut Mapping, merged: Value) -> Result<(), Vec<Segment>> {
    let all = match merged {
        Value::Sequence(items) => items,
        one => vec![one],
    };
    for one in all {
        let Value::Mapping(one) = one else { return Err(vec![Segment::Key(KEY.to_owned())]) };
        for (key, value) in one {
            into.entry(key).or_insert(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str) -> Result<String, String> {
        let mut value: Value = serde_yaml::from_str(text).unwrap();
        resolve(&mut value).map_err(|path| path.to_string())?;
        Ok(serde_json::to_string(&value["r"]).unwrap())
    }

    #[test]
    fn own_keys_come_first_and_earlier_mappings_before_later_ones() {
        let base = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\n";
        for (text, expected) in [
            ("r: {<<: *a, y: 3}", r#"{"y":3,"x":1}"#),
            ("r: {y: 3, <<: *a}", r#"{"y":3,"x":1}"#),
            ("r: {<<: [*a, *b]}", r#"{"x":1,"y":1,"z":2}"#),
            ("r: {<<: [*b, {w: 0}]}", r#"{"y":2,"z":2,"w":0}"#),
            ("c: &c {<<: *a, w: 0}\nr: {<<: *c}", r#"{"w":0,"x":1,"y":1}"#),
            ("r: {<<: {<<: *a}}", r#"{"x":1,"y":1}"#),
            ("r: [{<<: *a}]", r#"[{"x":1,"y":1}]"#),
            ("r: {<<: []}", "{}"),
        ] {
            let found = merged(&format!("{base}{text}\n"));
            assert_eq!(found, Ok(expected.to_owned()), "{text}");
        }
        for (text, path) in [
            ("r: {<<: 1}", "r.<<"),
            ("r: {<<: [[*a]]}", "r.<<"),
            ("r: [{}, {s: {<<: null}}]", "r[1].s.<<"),
        ] {
            assert_eq!(merged(&format!("{base}{text}\n")), Err(path.to_owned()), "{text}");
        }
    }
}
