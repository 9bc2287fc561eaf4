//! What a follower begins with: what was known when the agent ended.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::cache::{Cache, Held};
use super::health::Health;
use super::object::Object;
use super::objects::Objects;
use super::served::What;
use super::timing::Timing;

/// What it begins with.
pub(super) struct Start {
    pub kubeconfig: Option<PathBuf>,
    pub timing: Timing,
    pub health: Arc<Health>,
    pub cache: Option<Cache>,
    /// Which cluster the objects are of, if that was known.
    pub cluster: Option<String>,
    pub objects: Objects,
}

impl Start {
    /// Reads what was known; whether there was anything.
    pub fn read(
        kubeconfig: Option<PathBuf>,
        path: Option<PathBuf>,
        (timing, health): (Timing, Arc<Health>),
    ) -> (Self, bool) {
        let cache = path.map(Cache::new);
        let read = cache.as_ref().map_or(Ok(None), Cache::read);
        let held = read.unwrap_or_else(|error| {
            health.cache(Some(error));
            None
        });
        let is_there = held.is_some();
        let Held { cluster, texts } = held.unwrap_or_default();
        let mut objects = Objects::default();
        let count = texts.len();
        for text in texts {
            match Object::of_text(&text) {
                Some((kind, key)) => objects.restore(kind, key, text),
                None => warn!("cluster: an object of the cache is none that this build reads"),
            }
        }
        for kind in crate::resource::Kind::all() {
            health.objects(What::Kind(kind), objects.count(kind));
        }
        if is_there {
            info!("cluster: {count} objects are known from the last run");
        }
        (Self { kubeconfig, timing, health, cache, cluster, objects }, is_there)
    }
}
