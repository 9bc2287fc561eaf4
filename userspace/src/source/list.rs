//! Lists of documents, as `kubectl get -o yaml` and API servers write them.

use serde_yaml::Value;

/// The field with the documents.
pub(super) const ITEMS: &str = "items";

/// How the names of kinds of list end.
const SUFFIX: &str = "List";

/// Whether a document is a `List`, or a list of one kind, such as `ServiceList`.
pub(super) fn is_list(document: &Value) -> bool {
    let text = |key| document.get(key).and_then(Value::as_str);
    let Some(kind) = text("kind").filter(|_| text("apiVersion").is_some()) else { return false };
    // Some kinds that are no lists are named so.
    kind == SUFFIX || (kind.ends_with(SUFFIX) && document.get(ITEMS).is_some())
}

/// The documents of a list; None if they are no list. What they do not say
/// themselves is as the list of one kind has it, as in what API servers send.
pub(super) fn items(list: &mut Value) -> Option<Vec<Value>> {
    let version = list.get("apiVersion").cloned();
    let kind = list.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix(SUFFIX));
    let kind = kind.filter(|kind| !kind.is_empty()).map(|kind| Value::from(kind.to_owned()));
    let mut items = match list.get_mut(ITEMS).map(std::mem::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Sequence(items)) => items,
        Some(_) => return None,
    };
    if let Some((version, kind)) = version.zip(kind) {
        for item in items.iter_mut().filter_map(Value::as_mapping_mut) {
            item.entry("apiVersion".into()).or_insert_with(|| version.clone());
            item.entry("kind".into()).or_insert_with(|| kind.clone());
        }
    }
    Some(items)
}
