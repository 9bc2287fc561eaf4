//! What became of a route of the Gateway API.

use super::gateway::{attach, backend, owner};
use super::plan::Outcome;
use crate::resource::document::{Body, Document};
use crate::resource::gateway::{GatewayRoute, ParentRef};
use crate::resource::outcome::{Condition, ConditionType, Reason};
use crate::resource::set::View;
use crate::source::FieldPath;

/// The conditions of a route, for each of its parents.
pub(in crate::resource) fn resolve(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::Route(route) = &document.body else { return out };
    if route.parents.is_empty() {
        let message = "no effect: without parentRefs it attaches to nothing";
        out.notes.push(document.problem(&FieldPath::of("spec"), message));
    }
    for reference in route.backends.iter().filter(|reference| reference.weight > 0) {
        // The one thing that is wrong with a Service that is there.
        if let Err((Reason::UnsupportedValue, why)) = backend(view, document, route, reference) {
            out.problems.push(document.problem(&reference.at, &why));
        }
    }
    let resolved = resolved(view, document, route);
    for reference in &route.parents {
        let accepted = accepted(view, document, route, reference);
        if accepted.0 != Reason::Accepted {
            let message = format!("{}: {}", accepted.0, accepted.1);
            out.notes.push(document.problem(&reference.at, &message));
        }
        let condition = |kind, (reason, message): (Reason, String)| Condition {
            route: document.id.clone(),
            parent: parent(reference),
            kind,
            status: matches!(reason, Reason::Accepted | Reason::ResolvedRefs),
            reason,
            message,
        };
        out.conditions.push(condition(ConditionType::Accepted, accepted));
        out.conditions.push(condition(ConditionType::ResolvedRefs, resolved.clone()));
    }
    out
}

/// A parent as people name it.
fn parent(reference: &ParentRef) -> String {
    let mut text = match reference.id() {
        Some(id) => id.to_string(),
        None => reference.name.clone(),
    };
    if let Some(section) = &reference.section {
        text += &format!(" {section}");
    }
    if let Some(port) = reference.port {
        text += &format!(" port {port}");
    }
    text
}

fn accepted(
    view: &View<'_>,
    document: &Document,
    route: &GatewayRoute,
    reference: &ParentRef,
) -> (Reason, String) {
    let (parent, places) = match attach(view, document, route, reference) {
        Ok(attached) => attached,
        Err(rejection) => return rejection,
    };
    let mut others = Vec::new();
    for place in places {
        match owner(view, parent, place) {
            Some(owner) if owner.id == document.id => return (Reason::Accepted, String::new()),
            Some(owner) => others.push(owner),
            None => {}
        }
    }
    let older = others.first().map(ToString::to_string).unwrap_or_default();
    (Reason::Conflicted, format!("{parent} already has {older} there, which comes first"))
}

/// The first reference that is in vain decides.
fn resolved(view: &View<'_>, document: &Document, route: &GatewayRoute) -> (Reason, String) {
    let mut rejections =
        route.backends.iter().filter_map(|r| backend(view, document, route, r).err());
    rejections.next().unwrap_or((Reason::ResolvedRefs, String::new()))
}
