//! The lease by which one of several controllers writes, as an object of the cluster.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::election::{DURATION, EVERY, Election, Move, Record};
use crate::cluster::{Change, Failure, Writer};
use crate::desired::Time;

/// How long the last word may take.
const LAST: Duration = Duration::from_secs(2);

/// Which object it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Place {
    fn all(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.all(), self.name)
    }
}

/// One who holds it or would.
pub struct Candidate {
    place: Place,
    writer: Writer,
    election: Election,
    until: watch::Sender<Option<Instant>>,
}

impl Candidate {
    /// One of that name; and until when it writes.
    pub fn new(
        place: Place,
        identity: String,
        writer: Writer,
    ) -> (Self, watch::Receiver<Option<Instant>>) {
        let (until, writes) = watch::channel(None);
        (Self { place, writer, election: Election::new(identity), until }, writes)
    }

    /// Holds the lease when nobody else does, until it is told to stop; then gives it back.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut failed = String::new();
        loop {
            match self.turn().await {
                Ok(()) => failed.clear(),
                Err(failure) => {
                    let error = failure.to_string();
                    if error != failed {
                        warn!("lease {}: {error}; it is tried again", self.place.name);
                    }
                    failed = error;
                }
            }
            self.tell();
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = &mut stop => break,
            }
        }
        // Before it is given back, nobody writes any more.
        let held = self.until.send_replace(None).is_some();
        if held {
            let given = timeout(LAST, self.give_back()).await;
            match given {
                Ok(Ok(())) => info!("lease {}: given back", self.place.name),
                _ => {
                    warn!("lease {}: not given back, others wait until it is over", self.place.name)
                }
            }
        }
    }

    fn tell(&mut self) {
        let until = self.election.writes_until();
        let before = self.until.send_replace(until);
        let identity = self.election.identity();
        match (before.is_some(), until.is_some()) {
            (false, true) => info!("lease {}: held by {identity}, which writes", self.place.name),
            (true, false) => info!("lease {}: {identity} writes no more", self.place.name),
            _ => {}
        }
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        let found = match self.writer.get(&self.place.path()).await {
            Ok(found) => Some(found),
            Err(Failure::Missing) => None,
            Err(failure) => return Err(failure),
        };
        let record = found.as_ref().map(record);
        let sent = Instant::now();
        let next = self.election.look(record, sent);
        let (how, path, lease) = match (next, found) {
            (Move::Wait, _) => return Ok(()),
            (Move::Create, _) | (_, None) => (Change::Create, self.place.all(), self.made()),
            (next, Some(found)) => {
                (Change::Replace, self.place.path(), self.held(found, next == Move::Take))
            }
        };
        match self.writer.change(how, &path, &lease).await {
            Ok(_) => self.election.won(sent),
            // Somebody else was faster.
            Err(Failure::Conflict(_)) => self.election.lost(),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn made(&self) -> Value {
        let Place { namespace, name } = &self.place;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "leaseTransitions": -1 },
        });
        self.held(lease, true)
    }

    /// The lease as it is when it is held from now on.
    fn held(&self, mut lease: Value, is_taken: bool) -> Value {
        let spec = &mut lease["spec"];
        let now = micro_time();
        if is_taken {
            let count = spec["leaseTransitions"].as_i64().unwrap_or(0);
            spec["leaseTransitions"] = (count + 1).into();
            spec["acquireTime"] = now.clone().into();
        }
        spec["holderIdentity"] = self.election.identity().into();
        spec["leaseDurationSeconds"] = DURATION.as_secs().into();
        spec["renewTime"] = now.into();
        lease
    }

    async fn give_back(&self) -> Result<(), Failure> {
        let mut lease = self.writer.get(&self.place.path()).await?;
        if lease["spec"]["holderIdentity"] != self.election.identity() {
            return Ok(());
        }
        lease["spec"]["holderIdentity"] = "".into();
        lease["spec"]["leaseDurationSeconds"] = 1.into();
        lease["spec"]["renewTime"] = micro_time().into();
        self.writer.change(Change::Replace, &self.place.path(), &lease).await.map(drop)
    }
}

fn record(lease: &Value) -> Record {
    let spec = &lease["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or(0);
    Record {
        holder: text(&spec["holderIdentity"]),
        version: text(&lease["metadata"]["resourceVersion"]),
        duration: Duration::from_secs(seconds),
    }
}

/// As the API writes times of leases: to the microsecond.
fn micro_time() -> String {
    let now = Time::from(std::time::SystemTime::now()).to_string();
    now.strip_suffix('Z').map_or(now.clone(), |time| format!("{time}000Z"))
}
