//! What a call changes or would change, as plain text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::documents;
use super::render::share;
use crate::api::types::{
    ApplyView, DifferenceView, FateView, SplitDifferenceView, SubsetDifferenceView,
};
use crate::model::{Key, SplitSettings};

/// What became of objects, and how many flows move.
pub(super) fn apply(view: &ApplyView) -> String {
    let mut text = String::new();
    let would = if view.dry_run { "would be " } else { "" };
    for object in &view.objects {
        let fate = match object.fate {
            FateView::Created => "created",
            FateView::Changed => "changed",
            FateView::Deleted => "deleted",
            FateView::Unchanged => continue,
        };
        let key = Key::from(object.object.clone());
        let _ = writeln!(text, "{key} {would}{fate}");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&difference(&view.difference));
    text.push_str(&documents::notes(view.notes.iter()));
    for event in &view.events {
        let _ = writeln!(text, "{event}");
    }
    text
}

fn difference(difference: &DifferenceView) -> String {
    let mut text = String::new();
    let DifferenceView { added, removed, changed, unchanged } = difference;
    for name in added {
        let _ = writeln!(text, "+ {name}");
    }
    for name in removed {
        let _ = writeln!(text, "- {name}");
    }
    for split in changed {
        split_difference(split, &mut text);
    }
    let (added, removed, changed) = (added.len(), removed.len(), changed.len());
    let _ = writeln!(
        text,
        "Splits: {added} added, {changed} changed, {removed} removed, {unchanged} unchanged."
    );
    text
}

fn split_difference(split: &SplitDifferenceView, text: &mut String) {
    let moved = share(Some(split.moved));
    let _ = writeln!(text, "~ {}: {moved} of new flows go elsewhere; live ones stay", split.name);
    if let Some([old, new]) = &split.address {
        let _ = writeln!(text, "    address {old} -> {new}");
    }
    if let Some(both) = split.settings {
        let [old, new] = both.map(fields);
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let [old, new] = [&old, &new].map(|of| of.get(name).map_or("none", String::as_str));
            if old != new {
                let _ = writeln!(text, "    {name} {old} -> {new}");
            }
        }
    }
    for subset in &split.subsets {
        subset_difference(subset, text);
    }
    for part in &split.moves {
        let _ = writeln!(text, "    {} -> {}: {}", part.from, part.to, share(Some(part.share)));
    }
}

/// Settings by name, as a document has them; one that is not set is not there.
fn fields(settings: SplitSettings) -> BTreeMap<String, String> {
    let plain = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    };
    match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => {
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn subset_difference(subset: &SubsetDifferenceView, text: &mut String) {
    let weight = |weight: Option<u32>| weight.map_or("none".to_owned(), |w| w.to_string());
    let name = &subset.name;
    if subset.weight_before != subset.weight_after {
        let (old, new) = (weight(subset.weight_before), weight(subset.weight_after));
        let shares = (share(Some(subset.share_before)), share(Some(subset.share_after)));
        let _ = writeln!(text, "    {name}: weight {old} -> {new} ({} -> {})", shares.0, shares.1);
    }
    for endpoint in &subset.endpoints_added {
        let _ = writeln!(text, "    {name}: + {endpoint}");
    }
    for endpoint in &subset.endpoints_removed {
        let _ = writeln!(text, "    {name}: - {endpoint}");
    }
    let stays = subset.weight_before.is_some() && subset.weight_after.is_some();
    if stays && subset.moved_between_endpoints > 0.0 {
        let moved = share(Some(subset.moved_between_endpoints));
        let _ = writeln!(text, "    {name}: {moved} of its flows change endpoint");
    }
}
