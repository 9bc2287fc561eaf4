//! A change of weights, as operations on the object that has them. Pure: nothing is asked.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::original::Original;
use super::picture::Picture;
use super::record::{self, HISTORY, REASON, Record};
use crate::desired::Time;
use crate::model::{Name, Split, hint};
use crate::resource::{Kind, WeightField};
use crate::source::FieldPath;

/// What is to be written into an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Where the object is.
    pub(super) path: String,
    /// Operations of a JSON patch (RFC 6902); the server rejects them if the object is not what
    /// it was.
    pub(super) operations: Vec<Value>,
    /// The object, for people: `KIND NAMESPACE/NAME`.
    pub object: String,
    /// The split as it is then.
    pub after: Split,
    /// Other splits that change with it, since the same fields divide them.
    pub also: Vec<Name>,
}

/// Why and by whom weights are changed.
#[derive(Debug, Clone)]
pub struct Note {
    /// `weights` or `rollback`.
    pub cause: &'static str,
    /// Who, as the server knows them.
    pub by: Option<String>,
    /// What they say about it.
    pub reason: Option<String>,
    /// When.
    pub time: Time,
}

/// The largest weight that a kind can have.
fn largest(kind: Kind) -> u32 {
    match kind {
        Kind::TcpRoute | Kind::UdpRoute => 1_000_000,
        Kind::VirtualService => i32::MAX.cast_unsigned(),
        _ => u32::MAX,
    }
}

/// The change that gives subsets of a split these weights, the others keeping theirs; `None` if
/// they have them.
///
/// # Errors
///
/// In words: if there is no such subset, or no one field that says its weight.
pub fn edit(
    picture: &Picture,
    split: &Split,
    wanted: &BTreeMap<String, u32>,
    note: Note,
) -> Result<Option<Edit>, String> {
    let name = split.name();
    let mut weights = BTreeMap::new();
    for (subset, weight) in wanted {
        let known = split.subsets().iter().map(|subset| subset.name.as_str());
        let subset = Name::new(subset.as_str())
            .ok()
            .filter(|s| split.subsets().iter().any(|k| k.name == *s));
        let missing = || {
            let typed = wanted.keys().find(|key| known.clone().all(|known| known != key.as_str()));
            let typed = typed.map(String::as_str).unwrap_or_default();
            format!(
                "split \"{name}\": there is no subset \"{typed}\"{}",
                hint(typed, known.clone())
            )
        };
        weights.insert(subset.ok_or_else(missing)?, *weight);
    }
    let after =
        split.with_weights(&weights).map_err(|error| format!("split \"{name}\": {error}"))?;
    let (document, fields) = picture.weights_of(split)?;
    let id = document.id();
    if let [only] = split.subsets() {
        return Err(format!(
            "split \"{name}\" has one subset, \"{}\", which gets all connections: {id} divides nothing",
            only.name
        ));
    }
    let original = picture.original(id).ok_or_else(|| format!("{id} is not there"))?;
    let mut operations = vec![json!({
        "op": "replace", "path": "/metadata/resourceVersion", "value": original.version(),
    })];
    let mut changed = Vec::new();
    for (before, subset) in split.subsets().iter().zip(after.subsets()) {
        if before.weight == subset.weight {
            continue;
        }
        if subset.weight > largest(id.kind) {
            return Err(format!(
                "split \"{name}\": subset \"{}\" would get the weight {}, and a {} can have at most \
                 {}: use rounder percentages, or smaller weights",
                subset.name,
                subset.weight,
                id.kind,
                largest(id.kind)
            ));
        }
        let field = one_field(&fields, &subset.name, name.as_str(), &id.to_string())?;
        operations
            .push(json!({ "op": "add", "path": field.field.pointer(), "value": subset.weight }));
        changed.push(field.clone());
    }
    if changed.is_empty() {
        return Ok(None);
    }
    operations.extend(annotations(original, record(original, split, &after, note)));
    Ok(Some(Edit {
        path: original.path.clone(),
        operations,
        object: id.to_string(),
        also: picture.also_changed(name, &changed),
        after,
    }))
}

/// The one field with a subset's weight.
fn one_field<'a>(
    fields: &'a [WeightField],
    subset: &Name,
    split: &str,
    object: &str,
) -> Result<&'a WeightField, String> {
    let found: Vec<&WeightField> = fields.iter().filter(|field| field.subset == *subset).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("split \"{split}\": {object} says no weight of subset \"{subset}\"")),
        several => {
            let places: Vec<String> = several.iter().map(|f| f.field.to_string()).collect();
            Err(format!(
                "split \"{split}\": subset \"{subset}\" has its weight from several fields of \
                 {object}: {}; change them there",
                places.join(", ")
            ))
        }
    }
}

fn record(original: &Original, split: &Split, after: &Split, note: Note) -> Record {
    Record {
        split: split.name().to_string(),
        // The server counts on with each change of what is asked for.
        generation: original.generation() + 1,
        time: note.time.to_string(),
        cause: note.cause.to_owned(),
        by: note.by,
        reason: note.reason,
        from: record::weights(split),
        to: record::weights(after),
    }
}

/// What keeps a record, and the reason for who looks with kubectl.
fn annotations(original: &Original, record: Record) -> Vec<Value> {
    let at = |key: &str| FieldPath::of("metadata.annotations").key(key).pointer();
    let mut operations = Vec::new();
    if !original.object["metadata"]["annotations"].is_object() {
        operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    match (&record.reason, original.annotation(REASON)) {
        (Some(reason), _) => {
            operations.push(json!({ "op": "add", "path": at(REASON), "value": reason }));
        }
        // That of the change before is not that of this one.
        (None, Some(_)) => operations.push(json!({ "op": "remove", "path": at(REASON) })),
        (None, None) => {}
    }
    let history = record::with(original, record);
    operations.push(json!({ "op": "add", "path": at(HISTORY), "value": history }));
    operations
}
