//! When to read the directory again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// How long nothing must have changed.
const QUIET: Duration = Duration::from_millis(30);
/// How long changes that go on can put off the signal.
const LONGEST: Duration = Duration::from_millis(500);

/// Watches a directory: files written, renamed into place, removed, and the
/// `..data` link of a ConfigMap mount replaced. The parent directory is watched
/// too, so the directory may be created later, or replaced.
pub struct Watcher {
    dir: PathBuf,
    inner: notify::RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    /// The directory that is being watched, by device and inode.
    watched: Option<(u64, u64)>,
    /// There was a change of which nobody has been told.
    pending: bool,
}

impl Watcher {
    /// Watches `dir`, whose parent directory must exist. What changes after
    /// this returns is signalled.
    pub fn new(dir: &Path) -> notify::Result<Self> {
        let dir = std::path::absolute(dir).map_err(notify::Error::io)?;
        let (sender, changes) = mpsc::channel(1);
        let mut inner = notify::recommended_watcher(move |event: notify::Result<_>| {
            if event.as_ref().map_or(true, changing) {
                // If it is full, the signal is due anyway.
                _ = sender.try_send(());
            }
        })?;
        if let Some(parent) = dir.parent() {
            inner.watch(parent, RecursiveMode::NonRecursive)?;
        }
        let mut watcher = Self { dir, inner, changes, watched: None, pending: false };
        watcher.follow();
        Ok(watcher)
    }

    /// Waits for a change, and then until 30 ms have passed without another, or
    /// half a second. `None` if there will be no more. Nothing is lost if it is
    /// cancelled. A change elsewhere in the parent directory counts as well.
    pub async fn changed(&mut self) -> Option<()> {
        if !self.pending {
            self.changes.recv().await?;
            self.pending = true;
        }
        let end = Instant::now() + LONGEST;
        // The inner time-out is of one wait, the outer of them all.
        while let Ok(Ok(Some(()))) = timeout_at(end, timeout(QUIET, self.changes.recv())).await {}
        // Before the caller reads it: of later changes it will be told.
        self.follow();
        self.pending = false;
        Some(())
    }

    /// Watches what the path names by now.
    fn follow(&mut self) {
        let found = fs::metadata(&self.dir).ok().map(|meta| (meta.dev(), meta.ino()));
        if found == self.watched {
            return;
        }
        if self.watched.take().is_some() {
            // Fails if the kernel has dropped the watch with the directory.
            _ = self.inner.unwatch(&self.dir);
        }
        if self.inner.watch(&self.dir, RecursiveMode::NonRecursive).is_ok() {
            self.watched = found;
        }
    }
}

/// Whether an event is of a change; reading the files makes events too.
fn changing(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn signalled(watcher: &mut Watcher) -> bool {
        timeout(Duration::from_secs(2), watcher.changed()).await == Ok(Some(()))
    }

    async fn quiet(watcher: &mut Watcher) -> bool {
        timeout(Duration::from_millis(150), watcher.changed()).await.is_err()
    }

    #[tokio::test]
    async fn signals_once_per_change() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("resources.d");
        let mut watcher = Watcher::new(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(signalled(&mut watcher).await, "the directory is created");
        for n in 0..10 {
            fs::write(dir.join(format!("{n}.yaml")), "a").unwrap();
        }
        assert!(signalled(&mut watcher).await, "files are written");
        fs::read_to_string(dir.join("1.yaml")).unwrap();
        fs::read_dir(&dir).unwrap().count();
        assert!(quiet(&mut watcher).await, "files are read");
        fs::write(root.path().join("new"), "b").unwrap();
        fs::rename(root.path().join("new"), dir.join("1.yaml")).unwrap();
        assert!(signalled(&mut watcher).await, "a file is renamed into place");
        fs::remove_file(dir.join("2.yaml")).unwrap();
        assert!(signalled(&mut watcher).await, "a file is removed");
        assert!(quiet(&mut watcher).await, "nothing happens");
    }

    #[tokio::test]
    async fn follows_links_that_are_swapped() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("resources.d");
        fs::create_dir_all(dir.join("..1")).unwrap();
        fs::create_dir_all(dir.join("..2")).unwrap();
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
        let mut watcher = Watcher::new(&dir).unwrap();
        symlink("..2", dir.join("..tmp")).unwrap();
        fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
        assert!(signalled(&mut watcher).await, "..data is swapped");
        fs::rename(&dir, root.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(signalled(&mut watcher).await, "the directory is replaced");
        fs::write(dir.join("b.yaml"), "").unwrap();
        assert!(signalled(&mut watcher).await, "the new one changes");
    }
}
