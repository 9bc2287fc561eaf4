//! When to read the directory again.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Metadata};
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long nothing must have changed.
const QUIET: Duration = Duration::from_millis(30);
/// How long changes that go on can put off the signal.
const LONGEST: Duration = Duration::from_millis(500);
/// How often is looked what the kernel does not tell: that something was mounted on the directory,
/// or that a directory above it was replaced; and everything while it cannot be watched.
const PERIOD: Duration = Duration::from_secs(2);

/// Asks the kernel to tell of changes.
type Inotify = fn(mpsc::Sender<()>) -> notify::Result<RecommendedWatcher>;

/// Watches a directory: files written, renamed into place, removed, and the
/// `..data` link of a ConfigMap mount replaced. The parent directory is watched
/// too, so either may be created later, or replaced.
///
/// Where the kernel does not tell of changes, since a limit is reached, they are
/// looked for every two seconds; and so is whether it tells of them by now.
pub struct Watcher {
    dir: PathBuf,
    open: Inotify,
    inner: Option<RecommendedWatcher>,
    sender: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
    /// The parent directory and the directory, if they are being watched, by device and inode.
    watched: [Option<(u64, u64)>; 2],
    /// Why the kernel does not tell of changes, if it does not.
    trouble: Option<String>,
    /// What was seen last while there was trouble.
    seen: Option<u64>,
    /// When to look next.
    next: Instant,
    /// There was a change of which nobody has been told.
    pending: bool,
}

impl Watcher {
    /// Watches `dir`, on a tokio runtime. What changes after this returns is signalled.
    pub fn new(dir: &Path) -> Self {
        Self::with(dir, inotify)
    }

    fn with(dir: &Path, open: Inotify) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let (sender, changes) = mpsc::channel(1);
        let (watched, next) = ([None; 2], Instant::now() + PERIOD);
        let (inner, trouble, seen, pending) = (None, None, None, false);
        let mut watcher =
            Self { dir, open, inner, sender, changes, watched, trouble, seen, next, pending };
        watcher.look();
        watcher
    }

    /// Why changes are looked for every two seconds, instead of being told, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Waits for a change, and then until 30 ms have passed without another, or
    /// half a second. Nothing is lost if it is cancelled. A change elsewhere in the
    /// parent directory counts as well, and so does an end of [`Watcher::trouble`].
    pub async fn changed(&mut self) {
        while !self.pending {
            tokio::select! {
                _ = self.changes.recv() => self.pending = true,
                () = sleep_until(self.next) => {
                    self.next = Instant::now() + PERIOD;
                    self.pending = self.look();
                }
            }
        }
        let end = Instant::now() + LONGEST;
        // The inner time-out is of one wait, the outer of them all.
        while let Ok(Ok(Some(()))) = timeout_at(end, timeout(QUIET, self.changes.recv())).await {}
        // Before the caller reads it: of later changes it will be told.
        self.follow();
        self.pending = false;
    }

    /// Looks what the kernel has not told; whether there was anything.
    fn look(&mut self) -> bool {
        let (watched, was_in_trouble) = (self.watched, self.trouble.is_some());
        self.follow();
        let seen = self.trouble.is_some().then(|| fingerprint(&self.dir));
        let is_new = std::mem::replace(&mut self.seen, seen) != seen;
        is_new || was_in_trouble != self.trouble.is_some() || watched != self.watched
    }

    /// Watches what the paths name by now.
    fn follow(&mut self) {
        self.trouble = self.try_to_follow().err().map(|error| told(&error));
    }

    fn try_to_follow(&mut self) -> notify::Result<()> {
        let inner = match &mut self.inner {
            Some(inner) => inner,
            None => {
                self.watched = [None; 2];
                self.inner.insert((self.open)(self.sender.clone())?)
            }
        };
        let paths = [self.dir.parent(), Some(self.dir.as_path())];
        for (path, watched) in paths.into_iter().zip(&mut self.watched) {
            let Some(path) = path else { continue };
            let found = fs::metadata(path).ok().as_ref().map(identity);
            if found == *watched {
                continue;
            }
            if watched.take().is_some() {
                // Fails if the kernel has dropped the watch with the directory.
                _ = inner.unwatch(path);
            }
            match inner.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => *watched = found,
                // It is not there, and may come.
                Err(_) if found.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Asks the kernel to tell of changes (inotify), which a channel of one place signals.
fn inotify(sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<_>| {
        if event.as_ref().map_or(true, changing) {
            // If it is full, the signal is due anyway.
            _ = sender.try_send(());
        }
    })
}

/// Whether an event is of a change; reading the files makes events too.
fn changing(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Why the kernel does not tell of changes, and what can be done about it.
fn told(error: &notify::Error) -> String {
    let advice = match &error.kind {
        ErrorKind::MaxFilesWatch => "raise the sysctl fs.inotify.max_user_watches",
        ErrorKind::Io(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            "raise the sysctl fs.inotify.max_user_watches"
        }
        ErrorKind::Io(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            "raise the sysctl fs.inotify.max_user_instances, or the agent's limit of open files"
        }
        _ => "",
    };
    let period = PERIOD.as_secs();
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    format!("inotify: {error}; changes are looked for every {period} s instead{advice}")
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// A number that is another one if files were written, made, removed or replaced.
fn fingerprint(dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    files.sort();
    for name in files {
        // Of a link, what it leads to.
        let found = fs::metadata(dir.join(&name)).ok();
        let of = |m: Metadata| (identity(&m), m.size(), m.mtime(), m.mtime_nsec(), m.ctime_nsec());
        (name, found.map(of)).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    async fn signalled(watcher: &mut Watcher) -> bool {
        timeout(Duration::from_secs(5), watcher.changed()).await.is_ok()
    }

    async fn quiet(watcher: &mut Watcher) -> bool {
        timeout(Duration::from_millis(150), watcher.changed()).await.is_err()
    }

    #[tokio::test]
    async fn signals_once_per_change() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("resources.d");
        let mut watcher = Watcher::new(&dir);
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
        assert_eq!(watcher.trouble(), None);
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
        let mut watcher = Watcher::new(&dir);
        symlink("..2", dir.join("..tmp")).unwrap();
        fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
        assert!(signalled(&mut watcher).await, "..data is swapped");
        fs::rename(&dir, root.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(signalled(&mut watcher).await, "the directory is replaced");
        fs::write(dir.join("b.yaml"), "").unwrap();
        assert!(signalled(&mut watcher).await, "the new one changes");
    }

    #[tokio::test]
    async fn a_directory_above_may_come_later_or_be_replaced() {
        let root = tempfile::tempdir().unwrap();
        let above = root.path().join("above");
        let dir = above.join("weir/resources.d");
        let mut watcher = Watcher::new(&dir);
        assert_eq!(watcher.trouble(), None, "it may come");
        for round in 0..2 {
            fs::create_dir_all(&dir).unwrap();
            assert!(signalled(&mut watcher).await, "{round}: it has come");
            fs::write(dir.join("a.yaml"), "").unwrap();
            assert!(signalled(&mut watcher).await, "{round}: it changes");
            // No watch is on this one: the kernel tells nothing.
            fs::rename(&above, root.path().join(round.to_string())).unwrap();
            assert!(signalled(&mut watcher).await, "{round}: it has gone");
        }
    }

    /// Whether a limit is reached.
    static LIMITED: AtomicBool = AtomicBool::new(true);

    fn limited(sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
        if LIMITED.load(Ordering::Relaxed) {
            return Err(notify::Error::io(std::io::Error::from_raw_os_error(libc::EMFILE)));
        }
        inotify(sender)
    }

    #[tokio::test]
    async fn without_inotify_changes_are_looked_for_until_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("resources.d");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a.yaml"), "a").unwrap();
        let mut watcher = Watcher::with(&dir, limited);
        let said = watcher.trouble().unwrap();
        assert!(said.contains("fs.inotify.max_user_instances"), "{said}");
        assert!(timeout(2 * PERIOD, watcher.changed()).await.is_err(), "nothing has changed");
        // Of the same length.
        fs::write(dir.join("a.yaml"), "b").unwrap();
        assert!(signalled(&mut watcher).await, "a file is written");
        fs::write(dir.join("b.yaml"), "b").unwrap();
        assert!(signalled(&mut watcher).await, "a file is made");
        LIMITED.store(false, Ordering::Relaxed);
        assert!(signalled(&mut watcher).await, "what came between is read");
        assert_eq!(watcher.trouble(), None);
        fs::remove_file(dir.join("b.yaml")).unwrap();
        assert!(timeout(PERIOD / 2, watcher.changed()).await.is_ok(), "the kernel tells");
    }

    #[test]
    fn the_limit_that_is_reached_is_named() {
        let io = |number| notify::Error::io(std::io::Error::from_raw_os_error(number));
        for (error, says) in [
            (notify::Error::new(ErrorKind::MaxFilesWatch), "fs.inotify.max_user_watches"),
            (io(libc::ENOSPC), "fs.inotify.max_user_watches"),
            (io(libc::EMFILE), "fs.inotify.max_user_instances"),
            (io(libc::ENOMEM), "every 2 s instead"),
        ] {
            assert!(told(&error).contains(says), "{error}");
        }
    }
}
