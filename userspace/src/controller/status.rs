//! The status of a TrafficSplit: a pure function of what is known, and of the status before.

use serde_json::{Value, json};

use super::facts::Split;
use super::judge::Verdict;
use super::resolution::{Resolved, Subset};
use crate::desired::DeviationReason;

/// The most of a message, in characters.
const MESSAGE: usize = 1_024;

/// A condition to be.
struct Condition {
    kind: &'static str,
    status: bool,
    reason: String,
    message: String,
}

/// The status that a split should have, at a time in RFC 3339. A condition keeps the time of its
/// last transition for as long as its status stays.
pub fn status(split: &Split, resolved: &Resolved, verdict: &Verdict, now: &str) -> Value {
    let conditions = conditions(resolved, verdict);
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|Condition { kind, status, reason, message }| {
            let status = if status { "True" } else { "False" };
            let before = condition(&split.status, kind);
            let since = before.filter(|before| before["status"] == status);
            let since = since.and_then(|before| before["lastTransitionTime"].as_str());
            json!({
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message.chars().take(MESSAGE).collect::<String>(),
                "observedGeneration": split.generation,
                "lastTransitionTime": since.unwrap_or(now),
            })
        })
        .collect();
    let subset = |subset: &Subset| {
        let Subset { name, weight, endpoints, .. } = subset;
        json!({ "name": name.as_str(), "weight": weight, "endpoints": endpoints })
    };
    json!({
        "observedGeneration": split.generation,
        "observedVersion": split.since.to_string(),
        "conditions": conditions,
        "subsets": resolved.subsets.iter().map(subset).collect::<Vec<_>>(),
        "nodes": { "ready": verdict.ready, "total": verdict.total },
    })
}

/// How much a status differs from the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is the same, but for conditions of others.
    None,
    /// How many nodes have it, and which have not.
    Progress,
    /// What somebody may wait for.
    News,
}

/// How much a status differs from the one that is there.
pub fn difference(now: &Value, before: &Value) -> Difference {
    let kinds = ["Accepted", "ResolvedRefs", "Programmed"];
    let is_same = |of: &str, keys: &[&str]| match (condition(now, of), condition(before, of)) {
        (Some(now), Some(before)) => keys.iter().all(|key| now[*key] == before[*key]),
        (now, before) => now.is_none() && before.is_none(),
    };
    let essence = ["status", "reason", "observedGeneration", "lastTransitionTime"];
    let fields = ["observedGeneration", "observedVersion", "subsets"];
    let has_news = fields.iter().any(|field| now[*field] != before[*field])
        || kinds.iter().any(|kind| !is_same(kind, &essence))
        || kinds[..2].iter().any(|kind| !is_same(kind, &["message"]));
    if has_news {
        return Difference::News;
    }
    let is_progress = now["nodes"] != before["nodes"] || !is_same(kinds[2], &["message"]);
    if is_progress { Difference::Progress } else { Difference::None }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn conditions(resolved: &Resolved, verdict: &Verdict) -> [Condition; 3] {
    let accepted = match &resolved.deviation {
        None => Condition {
            kind: "Accepted",
            status: true,
            reason: "Accepted".to_owned(),
            message: "it can be steered by".to_owned(),
        },
        Some(deviation) => Condition {
            kind: "Accepted",
            status: false,
            reason: match deviation.reason {
                DeviationReason::Rejected => "Invalid".to_owned(),
                other => format!("{other:?}"),
            },
            message: deviation.message.clone(),
        },
    };
    let programmed = if accepted.status {
        let in_force = verdict.is_in_force();
        let reason = match (in_force, verdict.total) {
            (true, _) => "Programmed",
            (_, 0) => "NoNodes",
            _ => "NotInForce",
        };
        let message = verdict.to_string();
        Condition { kind: "Programmed", status: in_force, reason: reason.to_owned(), message }
    } else {
        let reason = "NotAccepted".to_owned();
        let message = format!("not accepted: {}", accepted.message);
        Condition { kind: "Programmed", status: false, reason, message }
    };
    let refs = refs(resolved, accepted.status);
    [accepted, refs, programmed]
}

fn refs(resolved: &Resolved, is_accepted: bool) -> Condition {
    let (kind, no) = ("ResolvedRefs", false);
    if resolved.subsets.is_empty() && !is_accepted {
        let (reason, message) = ("NotAccepted".to_owned(), "nothing was resolved".to_owned());
        return Condition { kind, status: no, reason, message };
    }
    let empty = resolved.subsets.iter().filter(|one| one.weight > 0 && one.endpoints == 0);
    let empty: Vec<String> = empty
        .map(|one| format!("{} ({:.2} % of new connections)", one.name, one.share * 100.0))
        .collect();
    if empty.is_empty() {
        let message = "all subsets that have a share have endpoints".to_owned();
        return Condition { kind, status: true, reason: "ResolvedRefs".to_owned(), message };
    }
    let message = format!(
        "without endpoints, so that their share is rejected: subset {}",
        empty.join(", subset ")
    );
    Condition { kind, status: no, reason: "NoEndpoints".to_owned(), message }
}
