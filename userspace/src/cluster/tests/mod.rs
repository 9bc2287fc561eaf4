//! Followers and a server that is made up.

mod cached;
mod edits;
mod fake;
mod kinds;
mod listing;
mod outage;
mod positions;
mod tracking;
mod watching;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::timing::Timing;
use super::{Follower, Health, Standing};
use crate::config::{Kubernetes, Mode, Reports};
use crate::desired::{Batch, Positions, Rejected};
use crate::resource::{Document, Policy};
use fake::Fake;

const SERVICES: &str = "/api/v1/services";
const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const ISTIO: &str = "networking.istio.io";
const ROUTES: &str = "/apis/networking.istio.io/v1/virtualservices";
const RULES: &str = "/apis/networking.istio.io/v1/destinationrules";

/// Patience of tests with what should come.
const PATIENCE: Duration = Duration::from_secs(20);

/// As `Timing::default`, and some hundred times as fast.
fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        connect: ms(500),
        answer: ms(2_000),
        silence: ms(60_000),
        heartbeat: ms(60_000),
        watch: ms(290_000),
        first_pause: ms(40),
        longest_pause: ms(300),
        gather: ms(5),
        collect: ms(10),
        catch_up: ms(100),
        first_hold: ms(20_000),
        hold: ms(2_000),
        longest_hold: ms(10_000),
        short_hold: ms(2_000),
        discovery: [ms(10), ms(50), ms(200)],
        undefined: ms(200),
        linger: ms(100),
        positions: ms(60_000),
        cache: ms(20),
    }
}

/// A follower, and what it told.
struct Case {
    fake: Fake,
    directory: tempfile::TempDir,
    timing: Timing,
    health: Arc<Health>,
    follower: Follower,
    documents: BTreeMap<String, Arc<Document>>,
    rejected: BTreeMap<String, String>,
    completes: usize,
    batches: usize,
    positions: Positions,
}

fn config(directory: &tempfile::TempDir) -> Kubernetes {
    let kubeconfig = Some(directory.path().join("kubeconfig"));
    Kubernetes {
        kubeconfig,
        mode: Mode::default(),
        policy: Policy::default(),
        reports: Reports::default(),
    }
}

fn cache(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("state/cluster.json")
}

fn write_kubeconfig(directory: &tempfile::TempDir, fake: &Fake, token: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\n\
         users: [{{name: u, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        fake.address
    );
    std::fs::write(directory.path().join("kubeconfig"), text).unwrap();
}

impl Case {
    async fn new(timing: Timing) -> Self {
        let fake = Fake::start().await;
        let directory = tempfile::tempdir().unwrap();
        write_kubeconfig(&directory, &fake, "t");
        let health = Arc::<Health>::default();
        let follower = Follower::with(
            &config(&directory),
            Some(cache(&directory)),
            Arc::clone(&health),
            timing,
        );
        let (documents, rejected) = (BTreeMap::new(), BTreeMap::new());
        Self {
            fake,
            directory,
            timing,
            health,
            follower,
            documents,
            rejected,
            completes: 0,
            batches: 0,
            positions: Positions::new(),
        }
    }

    /// Another agent in its place, which knows what is in the directory.
    async fn restart(&mut self) -> Option<Batch> {
        let health = Arc::<Health>::default();
        let (config, cache) = (config(&self.directory), cache(&self.directory));
        // The cache is written when the one before has ended.
        let nobody = Follower::with(&config, None, Arc::clone(&health), self.timing);
        std::mem::replace(&mut self.follower, nobody).stop().await;
        self.follower = Follower::with(&config, Some(cache), Arc::clone(&health), self.timing);
        self.health = health;
        self.completes = 0;
        self.documents.clear();
        self.rejected.clear();
        let cached = self.follower.cached();
        if let Some(batch) = cached.clone() {
            self.apply(batch);
            self.completes = 0;
        }
        cached
    }

    fn apply(&mut self, batch: Batch) {
        let Batch { put, rejected, deleted, complete, positions } = batch;
        self.positions = positions.unwrap_or_default();
        self.batches += 1;
        if complete {
            self.completes += 1;
            let is_named = |id: &String| {
                put.iter().any(|one| one.id().to_string() == *id)
                    || rejected.iter().any(|one| one.id.to_string() == *id)
            };
            self.documents.retain(|id, _| is_named(id));
            self.rejected.clear();
        }
        for id in deleted {
            self.documents.remove(&id.to_string());
            self.rejected.remove(&id.to_string());
        }
        for document in put {
            self.rejected.remove(&document.id().to_string());
            self.documents.insert(document.id().to_string(), document);
        }
        for Rejected { id, problems, .. } in rejected {
            self.rejected.insert(id.to_string(), problems[0].to_string());
        }
    }

    async fn next(&mut self) {
        let batch = timeout(PATIENCE, self.follower.next()).await;
        let batch = batch.unwrap_or_else(|_| {
            panic!("nothing is told; known: {:?}; {:#?}", self.names(), self.health.view())
        });
        self.apply(batch);
    }

    /// Takes batches until that is so.
    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.next().await;
        }
    }

    /// Nothing is told for a while.
    async fn nothing(&mut self) {
        if let Ok(batch) = timeout(Duration::from_millis(400), self.follower.next()).await {
            panic!("{batch:#?}");
        }
    }

    fn names(&self) -> Vec<&str> {
        self.documents.keys().map(String::as_str).collect()
    }

    fn has(&self, id: &str) -> bool {
        self.documents.contains_key(id)
    }

    fn standing(&self, what: &str) -> Standing {
        self.health.view().kinds[what].standing.clone()
    }

    /// Takes batches for as long as that is not so.
    async fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "not {what}: {:#?}", self.health.view());
            if let Ok(batch) = timeout(Duration::from_millis(10), self.follower.next()).await {
                self.apply(batch);
            }
        }
    }
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("u-{name}"),
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    })
}

fn slice(name: &str, service: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    })
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"team": "a"}}})
}

fn route(name: &str, host: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "hosts": [host],
            "tcp": [{"route": [{"destination": {"host": host}, "weight": 100}]}],
        },
    })
}

fn rule(name: &str, host: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"host": host, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
    })
}

fn pod(name: &str) -> Value {
    json!({"metadata": {
        "name": name, "namespace": "shop", "uid": format!("u-{name}"), "labels": {"version": "v1"},
        "annotations": {"noise": "x"}, "ownerReferences": [{"name": "rs"}],
    }})
}
