//! What an agent steers by, looked at again and again while something happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use weir::api::Client;
use weir::api::types::SplitView;

/// How often is looked.
const POLL: Duration = Duration::from_millis(10);

/// The subsets of all splits: by the split's name, the name, weight and endpoints of each.
pub type Picture = BTreeMap<String, Vec<(String, u32, BTreeSet<SocketAddr>)>>;

/// A thread that looks.
#[derive(Debug)]
pub struct History {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Instant, Picture)>>>,
}

impl History {
    /// Begins to look at an agent, by its socket. While it does not answer, there is nothing to
    /// see.
    ///
    /// # Errors
    ///
    /// Fails if there can be no thread.
    pub fn begin(socket: PathBuf) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let look = move || {
            let client = Client::new(socket);
            let mut seen: Vec<(Instant, Picture)> = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                if let Ok(splits) = runtime.block_on(client.splits()) {
                    let now = picture(&splits);
                    if seen.last().is_none_or(|(_, last)| *last != now) {
                        seen.push((Instant::now(), now));
                    }
                }
                std::thread::sleep(POLL);
            }
            seen
        };
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(look)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// What was seen, each that differs from the one before, and since when.
    ///
    /// # Panics
    ///
    /// If looking panicked.
    #[must_use]
    pub fn end(mut self) -> Vec<(Instant, Picture)> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs until here");
        thread.join().expect("it does not panic")
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The subsets of these splits.
#[must_use]
pub fn picture(splits: &[SplitView]) -> Picture {
    let subset = |subset: &weir::api::types::SubsetView| {
        let endpoints = subset.endpoints.iter().map(|endpoint| endpoint.address);
        (subset.name.clone(), subset.weight, endpoints.collect())
    };
    let of = |split: &SplitView| (split.name.clone(), split.subsets.iter().map(subset).collect());
    splits.iter().map(of).collect()
}
