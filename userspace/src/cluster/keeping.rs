//! When the cache is written: not with every change, and off the tasks that follow.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cache::{Cache, Held};
use super::timing::Timing;

/// What a disk takes in a second without being worn: a large cluster, in which something changes
/// all the time, is written less often.
const BYTES_PER_SECOND: usize = 1 << 20;

/// Who writes it.
pub(super) struct Keeping {
    /// `None` keeps nothing.
    cache: Option<Cache>,
    timing: Timing,
    /// Whether something has changed that was not begun to be written.
    is_due: bool,
    /// The earliest time of the next write.
    next: Instant,
    pause: Duration,
    writing: Option<JoinHandle<Result<(), String>>>,
}

impl Keeping {
    pub fn new(cache: Option<Cache>, timing: Timing) -> Self {
        let (next, pause) = (Instant::now(), timing.cache);
        Self { cache, timing, is_due: false, next, pause, writing: None }
    }

    /// Something is not as it was written.
    pub fn changed(&mut self) {
        self.is_due = self.cache.is_some();
    }

    /// When it is to be written; `None` if there is nothing to write, or it is being written.
    pub fn due(&self) -> Option<Instant> {
        (self.is_due && self.writing.is_none()).then_some(self.next)
    }

    /// Begins to write it.
    pub fn begin(&mut self, cluster: Option<String>, texts: Vec<Arc<str>>) {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let seconds = u64::try_from(bytes / BYTES_PER_SECOND).unwrap_or(u64::MAX);
        self.pause = self.timing.cache.max(Duration::from_secs(seconds));
        self.is_due = false;
        let Some(cache) = self.cache.clone() else { return };
        let write = move || cache.write(&Held { cluster, texts });
        self.writing = Some(tokio::task::spawn_blocking(write));
    }

    /// Returns when it was written, and whether it was. If this is dropped, nothing is lost.
    pub async fn ended(&mut self) -> Result<(), String> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let ended = writing.await.unwrap_or_else(|error| Err(error.to_string()));
        self.writing = None;
        self.next = Instant::now() + self.pause;
        self.is_due |= ended.is_err();
        ended
    }

    /// Writes what is left, if something is.
    pub async fn finish(
        mut self,
        cluster: Option<String>,
        texts: Vec<Arc<str>>,
    ) -> Result<(), String> {
        if self.writing.is_some() {
            self.ended().await?;
        }
        if self.is_due {
            self.begin(cluster, texts);
            self.ended().await?;
        }
        Ok(())
    }
}
