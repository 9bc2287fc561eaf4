//! What the server serves of the kinds that weir reads, and in which version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::client::Server;
use super::failure::Failure;
use super::health::Health;
use super::link::Link;
use super::served::Served;
use super::timing::{Backoff, Timing};
use super::told::Told;
use crate::resource::Kind;

/// What is served of each kind that is served at all.
pub(super) type Discovery = BTreeMap<Kind, Served>;

/// When it is asked again.
#[derive(Default)]
pub(super) struct Questions {
    asked: Notify,
    /// Nobody tells when definitions change.
    unaware: AtomicBool,
}

impl Questions {
    /// Something may be served, or not be any more.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Whether changes of definitions are told.
    pub fn aware(&self, aware: bool) {
        self.unaware.store(!aware, Ordering::Relaxed);
    }
}

/// Who asks.
pub(super) struct Finder {
    pub link: Link,
    pub timing: Timing,
    pub health: Arc<Health>,
    pub questions: Arc<Questions>,
    pub to: mpsc::Sender<Told>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
}

impl Finder {
    /// Asks until it is dropped.
    pub async fn run(self) {
        let mut backoff = Backoff::new(&self.timing);
        loop {
            let session = self.link.session().await;
            match find(&session.server).await {
                Ok(found) => {
                    backoff.reset();
                    self.health.discovery(None);
                    if self.to.send(Told::Discovered(found)).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        () = self.until_asked() => {}
                        () = self.link.is_back(&session) => {}
                    }
                }
                Err(failure) => {
                    self.health.discovery(Some(format!("cannot ask what is served: {failure}")));
                    if failure.is_loss() && self.link.lost(&session).await {
                        backoff.reset();
                        continue;
                    }
                    sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// Waits for a reason to ask; then asks some times, since discovery follows a change of
    /// definitions only after a while.
    async fn until_asked(&self) {
        if self.questions.unaware.load(Ordering::Relaxed) {
            let _ = timeout(self.timing.undefined, self.questions.asked.notified()).await;
        } else {
            self.questions.asked.notified().await;
        }
        for pause in self.timing.discovery {
            sleep(pause).await;
            let session = self.link.session().await;
            let Ok(found) = find(&session.server).await else { return };
            if self.to.send(Told::Discovered(found)).await.is_err() {
                return;
            }
        }
    }
}

/// Whether clusters can be without the kind: it is defined by a CustomResourceDefinition.
pub(super) fn is_defined(kind: Kind) -> bool {
    !matches!(kind, Kind::Service | Kind::EndpointSlice | Kind::Pod | Kind::Namespace)
}

pub(super) async fn find(server: &Server) -> Result<Discovery, Failure> {
    let groups: BTreeSet<&str> = Kind::all().map(Kind::group).collect();
    let mut found = Discovery::new();
    for group in groups {
        of_group(server, group, &mut found).await?;
    }
    match Kind::all().find(|kind| !is_defined(*kind) && !found.contains_key(kind)) {
        Some(kind) => Err(Failure::Rejected(format!("the server says that it has no {kind}s"))),
        None => Ok(found),
    }
}

/// The best version of each kind of a group.
async fn of_group(server: &Server, group: &str, to: &mut Discovery) -> Result<(), Failure> {
    let kinds: Vec<Kind> = Kind::all().filter(|kind| kind.group() == group).collect();
    let (root, served) = match group {
        "" => ("/api".to_owned(), vec!["v1".to_owned()]),
        group => {
            let root = format!("/apis/{group}");
            let Some(found) = unless_missing(server.get::<Group>(&root).await)? else {
                return Ok(());
            };
            let versions = found.versions.into_iter().map(|found| found.version).collect();
            (root, versions)
        }
    };
    // The best first. Kinds of a group have theirs in the same order.
    let mut versions: Vec<&str> = Vec::new();
    for version in kinds.iter().flat_map(|kind| kind.versions()) {
        if served.iter().any(|one| one == version) && !versions.contains(version) {
            versions.push(version);
        }
    }
    for version in versions {
        if kinds.iter().all(|kind| to.contains_key(kind)) {
            break;
        }
        let path = format!("{root}/{version}");
        let Some(found) = unless_missing(server.get::<Resources>(&path).await)? else { continue };
        for kind in &kinds {
            let what = Served::of(*kind, version);
            let name = what.what.plural();
            let is_it = |one: &Resource| {
                let can = |verb: &str| one.verbs.iter().any(|own| own == verb);
                one.name == name && one.kind == kind.name() && can("list") && can("watch")
            };
            let reads = kind.versions().contains(&version);
            if reads && !to.contains_key(kind) && found.resources.iter().any(is_it) {
                to.insert(*kind, what);
            }
        }
    }
    Ok(())
}

fn unless_missing<T>(found: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match found {
        Err(Failure::Missing) => Ok(None),
        found => found.map(Some),
    }
}
