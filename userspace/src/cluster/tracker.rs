//! Follows what a controller looks at: lists and watches as a follower does, and says one thing
//! after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::health::Health;
use super::link::Link;
use super::object::{Key, Object};
use super::served::{Served, Tracked, What};
use super::timing::Timing;
use super::told::{News, Told};
use super::watch::Watcher;
use crate::config::Kubernetes;

/// What may wait to be taken.
const WAITING: usize = 4;

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// An object is there, as JSON that holds what a controller looks at.
    There(Tracked, String),
    /// An object is not there any more: its namespace, if it is in one, and its name.
    Gone(Tracked, String),
    /// All objects of that have been told.
    Listed(Tracked),
}

/// Follows until it is dropped.
pub struct Tracker {
    told: mpsc::Receiver<Told>,
    known: BTreeMap<Tracked, Known>,
    /// What was not taken yet.
    left: VecDeque<Sighting>,
    _tasks: JoinSet<()>,
}

/// Of one collection, the keys of what is there, and those of a list that goes on.
#[derive(Default)]
struct Known {
    there: BTreeSet<Key>,
    listing: Option<BTreeSet<Key>>,
}

impl Tracker {
    /// Begins to follow all of it; needs a runtime. How it goes is in `health`.
    pub fn start(config: &Kubernetes, health: Arc<Health>) -> Self {
        Self::with(config, health, Timing::default(), &Tracked::ALL)
    }

    pub(super) fn with(
        config: &Kubernetes,
        health: Arc<Health>,
        timing: Timing,
        what: &[Tracked],
    ) -> Self {
        let (teller, told) = mpsc::channel(WAITING);
        let kubeconfig = config.kubeconfig.clone();
        let (link, keeper) = Link::new(kubeconfig, timing, Arc::clone(&health), teller.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        for &tracked in what {
            let of = (Served::tracked(tracked), 1);
            let (health, teller) = (Arc::clone(&health), teller.clone());
            tasks.spawn(Watcher::new(of, link.clone(), timing, health, teller).run());
        }
        Self { told, known: BTreeMap::new(), left: VecDeque::new(), _tasks: tasks }
    }

    /// The next thing to say; for as long as nothing changes, it waits. If this is dropped,
    /// nothing is lost.
    pub async fn next(&mut self) -> Sighting {
        loop {
            if let Some(sighting) = self.left.pop_front() {
                return sighting;
            }
            match self.told.recv().await {
                Some(Told::Of(What::Tracked(tracked), _, news)) => self.take(tracked, news),
                Some(_) => {}
                // Its tasks end with it.
                None => std::future::pending().await,
            }
        }
    }

    fn take(&mut self, tracked: Tracked, news: News) {
        let known = self.known.entry(tracked).or_default();
        let mut put = |known: &mut Known, object: Object| {
            known.there.insert(object.key.clone());
            if let Some(listing) = &mut known.listing {
                listing.insert(object.key);
            }
            // What cannot be read says nothing that a controller could look at.
            self.left.extend(object.text.ok().map(|text| Sighting::There(tracked, text)));
        };
        match news {
            News::Listing => known.listing = Some(BTreeSet::new()),
            News::Page(objects) => objects.into_iter().for_each(|object| put(known, object)),
            News::Put(object) => put(known, object),
            News::Listed(_) => {
                let listed = known.listing.take().unwrap_or_default();
                let gone = known.there.difference(&listed).map(ToString::to_string);
                self.left.extend(gone.map(|key| Sighting::Gone(tracked, key)));
                known.there = listed;
                self.left.push_back(Sighting::Listed(tracked));
            }
            News::Deleted(key, _) => {
                known.there.remove(&key);
                self.left.push_back(Sighting::Gone(tracked, key.to_string()));
            }
            News::Resumed | News::At(_) | News::Waiting | News::Failing | News::Missing => {}
        }
    }
}
