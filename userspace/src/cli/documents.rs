//! Documents and what became of them, as plain text.

use std::fmt::Write as _;

use super::columns::Align::Left;
use super::render::table as aligned;
use crate::api::types::{ConditionView, DocumentView};

/// Documents, a line for each, and what is to be said about them.
pub(super) fn table(documents: &[DocumentView]) -> String {
    let columns =
        [("KIND", Left), ("NAMESPACE", Left), ("NAME", Left), ("SOURCE", Left), ("", Left)];
    let rows: Vec<[String; 5]> = documents
        .iter()
        .map(|document| {
            let object = &document.object;
            let namespace = match object.namespace.as_str() {
                "" => "-",
                namespace => namespace,
            };
            let aside = document.rejected.as_ref();
            [
                object.kind.clone(),
                namespace.to_owned(),
                object.name.clone(),
                document.source.clone(),
                aside.map(|why| format!("not in force: {why}")).unwrap_or_default(),
            ]
        })
        .collect();
    let notes = documents.iter().flat_map(|document| &document.notes);
    aligned(columns, &rows) + &self::notes(notes)
}

/// Routes, a line for each of their conditions.
pub(super) fn routes(documents: &[DocumentView]) -> String {
    let conditions: Vec<&ConditionView> =
        documents.iter().flat_map(|document| &document.conditions).collect();
    let unattached = documents.iter().filter(|document| document.conditions.is_empty());
    let mut text = self::conditions(&conditions);
    for document in unattached {
        // Infallible: a String takes all.
        let _ = writeln!(
            text,
            "{} {}/{} attaches to nothing",
            document.object.kind, document.object.namespace, document.object.name
        );
    }
    text
}

/// Conditions of routes.
pub(super) fn conditions(conditions: &[&ConditionView]) -> String {
    let columns = [
        ("ROUTE", Left),
        ("PARENT", Left),
        ("CONDITION", Left),
        ("STATUS", Left),
        ("REASON", Left),
        ("", Left),
    ];
    let rows: Vec<[String; 6]> = conditions
        .iter()
        .map(|condition| {
            let status = if condition.status { "True" } else { "False" };
            [
                condition.route.clone(),
                condition.parent.clone(),
                condition.kind.clone(),
                status.to_owned(),
                condition.reason.clone(),
                condition.message.clone(),
            ]
        })
        .collect();
    aligned(columns, &rows)
}

/// Notes, after an empty line.
pub(super) fn notes<'a>(notes: impl Iterator<Item = &'a String>) -> String {
    let lines: String = notes.map(|note| format!("note: {note}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}
