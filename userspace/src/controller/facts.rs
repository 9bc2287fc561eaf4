//! What is known of the cluster beside what is steered by: TrafficSplits as objects, nodes, which
//! of them have Pods, and what their agents report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::judge::Node;
use crate::cluster::{Report, Sighting, Tracked};
use crate::desired::Time;

/// A report is renewed in time if it comes after so many of the pauses that it names, and this.
const RENEWALS: u32 = 2;
const SLACK: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// By namespace and name, with a slash between.
    splits: BTreeMap<String, Split>,
    reports: BTreeMap<String, Reported>,
    nodes: BTreeSet<String>,
    /// The node of each Pod, and how many each node has.
    pods: BTreeMap<String, String>,
    populated: BTreeMap<String, usize>,
    listed: BTreeSet<Tracked>,
}

/// A TrafficSplit as an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells it from one of the same name before or after it.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Its generation.
    pub generation: i64,
    /// A version at which this generation was there already.
    pub since: u64,
    /// Its status as it is.
    pub status: Value,
}

#[derive(Debug)]
struct Reported {
    report: Report,
    /// What its agent wrote as the time of writing: another one is another report.
    renewed: String,
    /// When it was renewed last, by this clock.
    seen: Instant,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    report: Value,
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    generation: i64,
    #[serde(default)]
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
}

impl Facts {
    /// Takes over what was seen, at a time by both clocks.
    pub fn take(&mut self, sighting: Sighting, now: Instant, date: Time) {
        match sighting {
            Sighting::Listed(tracked) => _ = self.listed.insert(tracked),
            Sighting::Gone(Tracked::Splits, key) => _ = self.splits.remove(&key),
            Sighting::Gone(Tracked::Reports, key) => _ = self.reports.remove(&key),
            Sighting::Gone(Tracked::Nodes, key) => _ = self.nodes.remove(&key),
            Sighting::Gone(Tracked::Pods, key) => self.pod(key, None),
            Sighting::There(tracked, text) => {
                // The server's own objects can be read.
                let Ok(object) = serde_json::from_str::<Object>(&text) else { return };
                match tracked {
                    Tracked::Splits => self.split(object),
                    Tracked::Reports => self.report(object, now, date),
                    Tracked::Nodes => _ = self.nodes.insert(object.metadata.name),
                    Tracked::Pods => {
                        let Metadata { namespace, name, .. } = object.metadata;
                        let node = Some(object.spec.node_name).filter(|node| !node.is_empty());
                        self.pod(format!("{namespace}/{name}"), node);
                    }
                }
            }
        }
    }

    /// A TrafficSplit as it is after its status was written.
    pub fn written(&mut self, object: &Value) {
        if let Ok(object) = Object::deserialize(object) {
            self.split(object);
        }
    }

    /// Whether all that there is was seen once.
    pub fn is_complete(&self) -> bool {
        self.listed.len() == Tracked::ALL.len()
    }

    /// All TrafficSplits.
    pub fn splits(&self) -> impl Iterator<Item = &Split> {
        self.splits.values()
    }

    /// The nodes on which splits have to be in force: those that have Pods with a network of
    /// their own, and those whose interfaces have, or should have, weir's programs.
    pub fn required(&self, now: Instant) -> BTreeMap<&str, Node<'_>> {
        let carries =
            |reported: &Reported| reported.report.attached || !reported.report.failing.is_empty();
        let carriers = self
            .reports
            .iter()
            .filter(|(name, reported)| self.nodes.contains(*name) && carries(reported));
        let names = self.populated.keys().chain(carriers.map(|(name, _)| name));
        let node = |name: &str| {
            let reported = self.reports.get(name);
            let is_fresh = reported.is_some_and(|reported| reported.is_fresh(now));
            Node { report: reported.map(|reported| &reported.report), is_fresh }
        };
        names.map(|name| (name.as_str(), node(name))).collect()
    }

    /// When the next report is too old, if none comes.
    pub fn next_stale(&self, now: Instant) -> Option<Instant> {
        let due = self.reports.values().map(Reported::stale_at);
        due.filter(|at| *at > now).min()
    }

    /// Reports of nodes that are no more, and that nobody renews.
    pub fn orphans(&self, now: Instant) -> Vec<String> {
        let orphan = |(name, reported): &(&String, &Reported)| {
            !self.nodes.contains(*name) && !reported.is_fresh(now)
        };
        self.reports.iter().filter(orphan).map(|(name, _)| name.clone()).collect()
    }

    fn split(&mut self, object: Object) {
        let Metadata { namespace, name, uid, generation, resource_version } = object.metadata;
        let status = object.status;
        let version = resource_version.parse::<u64>();
        let key = format!("{namespace}/{name}");
        let known = self.splits.get(&key);
        let same = known.filter(|known| known.uid == uid && known.generation == generation);
        // What a controller saw before this one did.
        let noted = || {
            let is_of_it = status["observedGeneration"].as_i64() == Some(generation);
            let noted = status["observedVersion"].as_str().filter(|_| is_of_it);
            noted.and_then(|version| version.parse::<u64>().ok())
        };
        // What has versions that are no numbers is never known to be anywhere.
        let now = version.unwrap_or(u64::MAX);
        let since = match same {
            Some(known) => known.since,
            None => noted().map_or(now, |noted| noted.min(now)),
        };
        let (version, split_key) = (resource_version, key);
        let split = Split { namespace, name, uid, version, generation, since, status };
        self.splits.insert(split_key, split);
    }

    fn report(&mut self, object: Object, now: Instant, date: Time) {
        let name = object.metadata.name;
        let renewed = object.report["renewed"].as_str().unwrap_or_default().to_owned();
        let Ok(report) = Report::deserialize(&object.report) else {
            // One of a weir to come, perhaps: nothing is known of that node.
            self.reports.remove(&name);
            return;
        };
        let seen = match self.reports.get(&name) {
            Some(known) if known.renewed == renewed => known.seen,
            Some(_) => now,
            // Of the first one that is seen, its own clock tells how old it is.
            None => {
                let age = Time::try_from(renewed.clone()).map(|at| date.since(at));
                now.checked_sub(age.unwrap_or_default()).unwrap_or(now)
            }
        };
        self.reports.insert(name, Reported { report, renewed, seen });
    }

    fn pod(&mut self, key: String, node: Option<String>) {
        let before = match &node {
            Some(node) => self.pods.insert(key, node.clone()),
            None => self.pods.remove(&key),
        };
        if before == node {
            return;
        }
        if let Some(before) = before
            && let Some(count) = self.populated.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.populated.remove(&before);
            }
        }
        if let Some(node) = node {
            *self.populated.entry(node).or_default() += 1;
        }
    }
}

impl Reported {
    fn stale_at(&self) -> Instant {
        let every = Duration::from_secs(self.report.renewed_every.min(86_400));
        self.seen + RENEWALS * every + SLACK
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now < self.stale_at()
    }
}
