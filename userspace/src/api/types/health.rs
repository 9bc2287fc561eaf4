//! Whether an agent does what it is to do, judged from its status.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StatusView;

/// Whether an agent does what it is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it.
    #[default]
    Ok,
    /// Some of it, and the reasons say what not.
    Degraded,
    /// Nothing is steered.
    Failed,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Failed => "FAILED",
        })
    }
}

/// Whether an agent does what it is to do, and why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// In a word.
    pub verdict: Verdict,
    /// Why, a sentence each; none if all is right.
    pub reasons: Vec<String>,
}

impl HealthView {
    /// Judges a status. `also` are sentences about what is not in it: shares of splits that
    /// are rejected for want of an endpoint, and the like.
    pub fn of(status: &StatusView, also: Vec<String>) -> Self {
        let attached = status.interfaces.iter().any(|interface| !interface.mode.is_empty());
        let mut reasons = Vec::new();
        if status.interfaces.iter().all(|interface| interface.passed_over.is_some()) {
            reasons.push("no interface matches `interfaces`: nothing is steered".to_owned());
        }
        for interface in &status.interfaces {
            let error = interface.error.as_ref();
            reasons.extend(error.map(|error| format!("{}: {error}", interface.name)));
        }
        reasons.extend(some(&status.last_error, "in the resources", "is wrong", "are wrong"));
        reasons.extend(some(
            &status.rejected,
            "applied before",
            "is not in force",
            "are not in force",
        ));
        reasons.extend(status.troubles.iter().map(|t| format!("{}: {}", t.what, t.error)));
        if let Some(cluster) = &status.kubernetes {
            reasons.extend(cluster.stale_since.as_ref().map(|since| {
                let error = cluster.errors.first().map_or("it is being listed", String::as_str);
                format!("what is known of the cluster is that of {since}: {error}")
            }));
        }
        let full = status.flow_tables.iter().filter(|table| table.full_since.is_some());
        reasons.extend(full.map(|table| format!("the {} flow table is full", table.family)));
        reasons.extend(also);
        let verdict = match (attached, reasons.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Ok,
            (true, false) => Verdict::Degraded,
        };
        if !attached && reasons.is_empty() {
            reasons.push("weir is at no interface: nothing is steered".to_owned());
        }
        Self { verdict, reasons }
    }
}

/// How many there are, and the first of them.
fn some(lines: &[String], of: &str, one: &str, many: &str) -> Option<String> {
    let first = lines.first()?;
    let (count, verb) = if lines.len() == 1 {
        ("1 thing".to_owned(), one)
    } else {
        (format!("{} things", lines.len()), many)
    };
    Some(format!("{count} {of} {verb}: {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{InterfaceView, TroubleView};

    fn interface(name: &str, mode: &str, error: Option<&str>) -> InterfaceView {
        let error = error.map(str::to_owned);
        let (name, hook, mode) = (name.to_owned(), "tc".to_owned(), mode.to_owned());
        InterfaceView { name, index: 2, hook, mode, error, ..InterfaceView::default() }
    }

    fn judged(change: impl FnOnce(&mut StatusView), rejecting: &[&str]) -> (Verdict, String) {
        let mut status = StatusView {
            interfaces: vec![interface("eth0", "tcx", None)],
            ..StatusView::default()
        };
        change(&mut status);
        let rejecting = rejecting.iter().map(|&text| text.to_owned()).collect();
        let HealthView { verdict, reasons } = HealthView::of(&status, rejecting);
        (verdict, reasons.join("; "))
    }

    #[test]
    fn a_node_that_steers_nothing_has_failed_and_one_that_lacks_something_is_degraded() {
        assert_eq!(judged(|_| {}, &[]), (Verdict::Ok, String::new()));
        let none = "no interface matches `interfaces`: nothing is steered";
        assert_eq!(judged(|s| s.interfaces.clear(), &[]), (Verdict::Failed, none.into()));
        let passed = |status: &mut StatusView| {
            status.interfaces = vec![interface("lo", "", None)];
            status.interfaces[0].passed_over = Some("not an Ethernet interface".into());
        };
        assert_eq!(judged(passed, &[]), (Verdict::Failed, none.into()));
        let broken = |s: &mut StatusView| s.interfaces = vec![interface("eth0", "", Some("busy"))];
        assert_eq!(judged(broken, &[]), (Verdict::Failed, "eth0: busy".into()));
        let partly = |s: &mut StatusView| s.interfaces.push(interface("eth1", "", Some("busy")));
        assert_eq!(judged(partly, &[]), (Verdict::Degraded, "eth1: busy".into()));
        let wrong = |s: &mut StatusView| s.last_error = vec!["a:1: x".into(), "b:2: y".into()];
        let expected = "2 things in the resources are wrong: a:1: x";
        assert_eq!(judged(wrong, &[]), (Verdict::Degraded, expected.into()));
        let trouble =
            TroubleView { what: "metrics".into(), error: "busy".into(), since: "".into() };
        let failing = |s: &mut StatusView| s.troubles = vec![trouble];
        assert_eq!(
            judged(failing, &["no endpoint"]),
            (Verdict::Degraded, "metrics: busy; no endpoint".into())
        );
    }
}
