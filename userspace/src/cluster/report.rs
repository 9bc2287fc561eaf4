//! What an agent reports of its node, as the object `NodeReport` that has the node's name.
//!
//! It says up to where the cluster's objects are in force, and which of them are not: not a list
//! of what is. So its size does not depend on how many splits there are.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::failure::Failure;
use super::served::definition;
use super::writer::{Change, Writer};
use crate::desired::{Deviation, DeviationReason, Positions, Time};
use crate::resource::{Id, Kind};

/// The most objects that are named.
const LONGEST: usize = 64;
/// The longest message, in characters.
const MESSAGE: usize = 256;
/// The most interfaces that are named.
const INTERFACES: usize = 4;
/// The kinds whose objects are reported of: those that have a status.
pub const REPORTED: &[Kind] = &[Kind::TrafficSplit];

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Activity {
    /// It steers by the cluster.
    #[default]
    Steering,
    /// It shows what it would steer.
    Observing,
    /// It was told to take weir out of the kernel.
    Unloaded,
}

/// What an agent reports of its node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it does.
    pub activity: Activity,
    /// The version of weir.
    #[serde(default)]
    pub version: String,
    /// Whether interfaces of the node have weir's programs.
    #[serde(default)]
    pub attached: bool,
    /// Interfaces that should have them and do not, and why.
    #[serde(default)]
    pub failing: Vec<String>,
    /// Of each kind, up to where everything that happened is in force, but for the exceptions.
    #[serde(default)]
    pub in_force: Vec<Watermark>,
    /// Objects that are not in force as they say.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// How many more of these there are: of an object that is not named, nothing is known then.
    #[serde(default)]
    pub more_exceptions: u64,
    /// After how many seconds at most it is renewed.
    pub renewed_every: u64,
}

/// Up to where everything is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watermark {
    /// A kind, as in `trafficsplits.weir.dev`.
    pub resource: String,
    /// A resourceVersion, which is a number.
    pub resource_version: String,
}

/// An object that is not in force as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// A kind, as in `trafficsplits.weir.dev`.
    pub resource: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
}

/// How reports name a kind.
pub fn resource(kind: Kind) -> String {
    definition(kind)
}

/// The namespace and name that an object has in its cluster.
pub fn in_cluster(id: &Id) -> (&str, &str) {
    match id.kind {
        // A namespace has no dot.
        Kind::TrafficSplit => {
            let (name, namespace) = id.name.rsplit_once('.').unwrap_or((&id.name, ""));
            (namespace, name)
        }
        _ => (&id.namespace, &id.name),
    }
}

impl Report {
    /// Says up to where what is reported of is in force, and what is not.
    pub fn state(&mut self, positions: &Positions, deviations: &[Deviation]) {
        let reported = REPORTED.iter().filter_map(|kind| Some((*kind, positions.get(kind)?)));
        let watermark = |(kind, version): (Kind, &u64)| Watermark {
            resource: resource(kind),
            resource_version: version.to_string(),
        };
        self.in_force = reported.map(watermark).collect();
        let exception = |deviation: &Deviation| {
            let (namespace, name) = in_cluster(&deviation.id);
            Exception {
                resource: resource(deviation.id.kind),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                reason: word(deviation.reason),
                message: deviation.message.chars().take(MESSAGE).collect(),
            }
        };
        self.exceptions = deviations.iter().take(LONGEST).map(exception).collect();
        self.more_exceptions = deviations.len().saturating_sub(LONGEST) as u64;
    }

    /// Says which interfaces lack the programs.
    pub fn interfaces(&mut self, attached: bool, failing: impl IntoIterator<Item = String>) {
        self.attached = attached;
        let shown = |line: String| line.chars().take(MESSAGE).collect();
        self.failing = failing.into_iter().take(INTERFACES).map(shown).collect();
    }

    /// Up to where everything of a kind is in force; `None` if that is not known.
    pub fn watermark(&self, kind: Kind) -> Option<u64> {
        let resource = resource(kind);
        let found = self.in_force.iter().find(|watermark| watermark.resource == resource)?;
        found.resource_version.parse().ok()
    }

    /// Whether it says nothing else of what is in force than another, wherever the cluster is by
    /// now: most of what happens there changes nothing.
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        let without = |report: &Self| Self { in_force: Vec::new(), ..report.clone() };
        without(self) == without(other) && self.in_force.len() == other.in_force.len()
    }

    /// Writes it for a node, with the time.
    ///
    /// # Errors
    ///
    /// As [`Writer::change`].
    pub async fn write(&self, writer: &Writer, node: &str, now: Time) -> Result<(), Failure> {
        let path = format!("{REPORTS}/{node}");
        let mut report = serde_json::to_value(self)
            .map_err(|error| Failure::Rejected(format!("a report that is no JSON: {error}")))?;
        report["renewed"] = Value::from(now.to_string());
        let body = json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "NodeReport",
            "metadata": { "name": node },
            "report": report,
        });
        writer.change(Change::Apply("weir-agent"), &path, &body).await.map(drop)
    }
}

/// Where the reports of all nodes are.
pub const REPORTS: &str = "/apis/weir.dev/v1alpha1/nodereports";

fn word(reason: DeviationReason) -> String {
    format!("{reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(name: &str) -> Deviation {
        let id = Id { kind: Kind::TrafficSplit, namespace: String::new(), name: name.into() };
        Deviation { id, reason: DeviationReason::Overridden, message: "x".repeat(999) }
    }

    #[test]
    fn it_names_so_many_exceptions_and_says_how_many_more_there_are() {
        let mut report = Report::default();
        let positions = Positions::from([(Kind::TrafficSplit, 7), (Kind::Service, 9)]);
        let all: Vec<Deviation> = (0..70).map(|n| deviation(&format!("web.{n}.shop"))).collect();
        report.state(&positions, &all);
        assert_eq!((report.exceptions.len(), report.more_exceptions), (64, 6));
        let first = &report.exceptions[0];
        assert_eq!(
            (&*first.namespace, &*first.name, &*first.reason),
            ("shop", "web.0", "Overridden")
        );
        assert_eq!(first.message.len(), 256);
        // Of what has no status, nothing is reported: it changes all the time.
        assert_eq!(report.in_force.len(), 1);
        assert_eq!(report.watermark(Kind::TrafficSplit), Some(7));
        assert_eq!(report.watermark(Kind::Service), None);
        report.state(&positions, &all[..1]);
        assert_eq!((report.exceptions.len(), report.more_exceptions), (1, 0));
    }

    #[test]
    fn a_version_that_is_no_number_is_none() {
        let mut report = Report::default();
        let resource = "trafficsplits.weir.dev".to_owned();
        report.in_force = vec![Watermark { resource, resource_version: "abc".into() }];
        assert_eq!(report.watermark(Kind::TrafficSplit), None);
    }

    #[test]
    fn where_the_cluster_is_makes_no_difference_and_all_else_does() {
        let mut one = Report::default();
        one.state(&Positions::from([(Kind::TrafficSplit, 7)]), &[]);
        let mut other = one.clone();
        other.state(&Positions::from([(Kind::TrafficSplit, 8)]), &[]);
        assert!(one.is_as_good_as(&other));
        other.state(&Positions::from([(Kind::TrafficSplit, 8)]), &[deviation("web.shop")]);
        assert!(!one.is_as_good_as(&other));
        other = Report { attached: true, ..one.clone() };
        assert!(!one.is_as_good_as(&other));
        other.state(&Positions::new(), &[]);
        assert!(!one.is_as_good_as(&Report { attached: false, ..other }));
    }
}
