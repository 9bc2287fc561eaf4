//! What is kept of changes of weights, in annotations of the object that has them; and what the
//! server notes of others, who keep nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::original::Original;
use crate::model::{Split, Weights};

/// Who has written what weir writes, as the server notes it.
pub(super) const MANAGER: &str = "weir";
/// The annotation with the last changes.
pub(super) const HISTORY: &str = "weir.dev/weights-history";
/// The annotation with why the last change was made.
pub(super) const REASON: &str = "weir.dev/reason";
/// How many changes are kept.
const MOST: usize = 10;
/// The most bytes that they take.
const MOST_BYTES: usize = 16 << 10;

/// A change of the weights of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The split: an object can divide several.
    pub split: String,
    /// The generation of the object that has them.
    pub generation: u64,
    /// When, as in RFC 3339.
    pub time: String,
    /// What made it: `weights` or `rollback`; `cluster` if it was not weir.
    pub cause: String,
    /// Who, as the server knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The weights before; empty if they are not known.
    pub from: BTreeMap<String, u32>,
    /// The weights after.
    pub to: BTreeMap<String, u32>,
}

/// The weights of a split.
pub(super) fn weights(split: &Split) -> BTreeMap<String, u32> {
    Weights::of(split).iter().map(|(name, weight)| (name.to_string(), weight)).collect()
}

fn kept(original: &Original) -> Vec<Record> {
    // What somebody else has written there is nothing.
    let text = original.annotation(HISTORY).unwrap_or("[]");
    serde_json::from_str(text).unwrap_or_default()
}

/// All that is known, the oldest first. The last one has the weights that are there now.
pub(super) fn all(original: &Original, split: &Split) -> Vec<Record> {
    let mut all = kept(original);
    all.retain(|record| record.split == split.name().as_str());
    let now = weights(split);
    if all.last().is_none_or(|last| last.to != now) {
        let writer = writers(original).into_iter().max_by(|a, b| a.time.cmp(&b.time));
        all.push(Record {
            split: split.name().to_string(),
            generation: original.generation(),
            time: writer.as_ref().map(|writer| writer.time.clone()).unwrap_or_default(),
            cause: "cluster".to_owned(),
            by: writer.map(|writer| writer.name),
            reason: None,
            from: all.last().map(|last| last.to.clone()).unwrap_or_default(),
            to: now,
        });
    }
    all
}

/// The annotation with one more change.
pub(super) fn with(original: &Original, record: Record) -> String {
    let mut all = kept(original);
    all.push(record);
    let excess = all.len().saturating_sub(MOST);
    all.drain(..excess);
    loop {
        // Infallible: texts and numbers.
        let text = serde_json::to_string(&all).unwrap_or_default();
        if text.len() <= MOST_BYTES || all.is_empty() {
            return text;
        }
        all.remove(0);
    }
}

/// Who wrote some of an object's specification, and when.
struct Writer {
    name: String,
    time: String,
}

fn writers(original: &Original) -> Vec<Writer> {
    let entries = original.object["metadata"]["managedFields"].as_array();
    let writer = |entry: &Value| {
        entry["fieldsV1"].get("f:spec")?;
        let name = entry["manager"].as_str()?.to_owned();
        Some(Writer { name, time: entry["time"].as_str().unwrap_or_default().to_owned() })
    };
    entries.into_iter().flatten().filter_map(writer).collect()
}

/// Who writes it, but for weir and what people type.
pub(super) fn controllers(original: &Original) -> Vec<String> {
    let mut names: Vec<String> = writers(original).into_iter().map(|writer| writer.name).collect();
    names.retain(|name| name != MANAGER && !name.starts_with("kubectl"));
    names.sort();
    names.dedup();
    names
}
