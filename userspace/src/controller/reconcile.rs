//! Writes what was judged, if it is not what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::facts::{Facts, Split};
use super::judge::{Subject, judge};
use super::resolution::{Resolution, Resolved};
use super::status::{Difference, difference, status};
use crate::cluster::{Change, Failure, REPORTS, Sighting, Writer};
use crate::config::Kubernetes;
use crate::desired::{Batch, Time};
use crate::resource::Kind;

/// Who writes the status, as `managedFields` show it.
const MANAGER: &str = "weir-controller";
/// How long at least lies between two writes of a status of which only the count of nodes differs:
/// every agent hears of each.
const PROGRESS: Duration = Duration::from_secs(5);
/// When a status is written again that did not last.
const IN_VAIN: Duration = Duration::from_secs(60);
/// When it is tried again after a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// How many are written before what is known is looked at anew.
const AT_A_TIME: usize = 50;

/// What is known, and who writes.
pub struct Reconciler {
    facts: Facts,
    resolution: Resolution,
    /// What the objects come to; `None` if it is to be asked for again.
    resolved: Option<BTreeMap<String, Resolved>>,
    writer: Writer,
    /// Until when this controller writes.
    writes: watch::Receiver<Option<Instant>>,
    /// What was written last of each split, by its uid.
    written: HashMap<String, Written>,
    failed: String,
}

/// A status that was written.
struct Written {
    at: Instant,
    status: Value,
}

/// What is to be written of one split.
struct Due {
    split: Split,
    status: Value,
}

impl Reconciler {
    /// One that knows nothing yet.
    pub fn new(
        config: &Kubernetes,
        writer: Writer,
        writes: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            facts: Facts::default(),
            resolution: Resolution::new(config, SystemTime::now().into()),
            resolved: None,
            writer,
            writes,
            written: HashMap::new(),
            failed: String::new(),
        }
    }

    /// Takes over what the cluster says of what is steered.
    pub fn take(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.resolved = None;
        }
        self.resolution.take(batch, SystemTime::now().into());
    }

    /// Takes over what it says beside.
    pub fn see(&mut self, sighting: Sighting) {
        self.facts.take(sighting, Instant::now(), SystemTime::now().into());
    }

    /// Whether all that there is was seen once.
    pub fn is_complete(&self) -> bool {
        self.facts.is_complete() && self.resolution.is_complete()
    }

    /// Judges all, and writes what differs. Returns when that is to be done again though nothing
    /// happens.
    pub async fn reconcile(&mut self) -> Option<Instant> {
        if !self.is_complete() || !self.may_write() {
            return None;
        }
        let (due, later) = self.judge();
        let mut again = later;
        let mut sooner = |at: Instant| again = Some(again.map_or(at, |known| known.min(at)));
        let mut failed = None;
        for (count, due) in due.into_iter().enumerate() {
            if !self.may_write() {
                return None;
            }
            if count == AT_A_TIME {
                sooner(Instant::now());
                break;
            }
            let (uid, status) = (due.split.uid.clone(), due.status.clone());
            match self.write(due).await {
                Ok(()) => {
                    let written = Written { at: Instant::now(), status };
                    self.written.insert(uid, written);
                }
                // What it is by now is going to be seen.
                Err(Failure::Conflict(_) | Failure::Missing) => {}
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        if failed.is_none() {
            failed = self.remove_orphans().await.err();
        }
        let error = failed.map(|failure| failure.to_string()).unwrap_or_default();
        if !error.is_empty() {
            sooner(Instant::now() + AGAIN);
            if error != self.failed {
                warn!("a status is not written: {error}; it is tried again");
            }
        }
        self.failed = error;
        again
    }

    fn may_write(&self) -> bool {
        self.writes.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// What is to be written now, and when there is more.
    fn judge(&mut self) -> (Vec<Due>, Option<Instant>) {
        let (now, kind) = (Instant::now(), Kind::TrafficSplit);
        let date = seconds(SystemTime::now().into());
        let Self { facts, resolution, resolved, written, .. } = self;
        let resolved = resolved.get_or_insert_with(|| resolution.all(kind));
        let nodes = facts.required(now);
        let mut due = Vec::new();
        let mut later = facts.next_stale(now);
        for split in facts.splits() {
            // What became of this generation is not known before.
            if resolution.position(kind).is_none_or(|position| position < split.since) {
                continue;
            }
            let Some(found) = resolved.get(&format!("{}/{}", split.namespace, split.name)) else {
                continue;
            };
            let Split { namespace, name, since, .. } = split;
            let verdict = judge(&Subject { kind, namespace, name, since: *since }, &nodes);
            let status = status(split, found, &verdict, &date);
            let pause = match difference(&status, &split.status) {
                Difference::None => continue,
                Difference::News => Duration::ZERO,
                Difference::Progress => PROGRESS,
            };
            let at = written.get(&split.uid).map_or(now, |before| {
                // It was written, and is not there: the definition of TrafficSplits is another.
                let is_vain = before.status == status;
                before.at + if is_vain { IN_VAIN } else { pause }
            });
            if at > now {
                later = Some(later.map_or(at, |known| known.min(at)));
                continue;
            }
            due.push(Due { split: split.clone(), status });
        }
        if written.len() > 2 * facts.splits().count() {
            let there: BTreeSet<&str> = facts.splits().map(|split| &*split.uid).collect();
            written.retain(|uid, _| there.contains(&**uid));
        }
        (due, later)
    }

    async fn write(&mut self, due: Due) -> Result<(), Failure> {
        let Due { split, status } = due;
        let Split { namespace, name, uid, version, .. } = &split;
        let path =
            format!("/apis/weir.dev/v1alpha1/namespaces/{namespace}/trafficsplits/{name}/status");
        let body = json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "TrafficSplit",
            "metadata": {
                "namespace": namespace, "name": name, "uid": uid, "resourceVersion": version,
            },
            "status": status,
        });
        let object = self.writer.change(Change::Apply(MANAGER), &path, &body).await?;
        self.facts.written(&object);
        Ok(())
    }

    async fn remove_orphans(&self) -> Result<(), Failure> {
        for node in self.facts.orphans(Instant::now()).into_iter().take(AT_A_TIME) {
            let path = format!("{REPORTS}/{node}");
            match self.writer.change(Change::Delete, &path, &json!({})).await {
                Ok(_) => info!("node {node} is no more: its report was deleted"),
                Err(Failure::Missing) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// A time as conditions have it: to the second.
fn seconds(time: Time) -> String {
    let text = time.to_string();
    let whole = text.split_once('.').map(|(whole, _)| format!("{whole}Z"));
    whole.unwrap_or(text)
}
