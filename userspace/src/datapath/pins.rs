//! Where maps and links outlive the agent: a directory on bpffs.
//!
//! `maps/NAME` are the maps; `links/INDEX-HOOK` the attachments of interfaces,
//! by interface index. (bpffs takes no name with a dot.)

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// A directory on bpffs.
#[derive(Debug, Clone)]
pub struct Pins {
    dir: PathBuf,
}

/// Why there is no such directory.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// It cannot be made, listed or removed.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no bpffs, and none can be mounted there.
    #[error("cannot mount bpffs on {}: {source}", .path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, PinsError> {
    result.map_err(|source| PinsError::Io { path: path.to_owned(), source })
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

impl Pins {
    /// The directory, as it is; nothing is made.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory, made if it is not there. Where it does not lie on a
    /// bpffs, one is mounted: on `/sys/fs/bpf` if it is below that, else on the
    /// directory itself.
    pub fn make(dir: &Path) -> Result<Self, PinsError> {
        let usual = Path::new("/sys/fs/bpf");
        let mountpoint = if dir.starts_with(usual) { usual } else { dir };
        if mountpoint != usual {
            at(dir, fs::create_dir_all(dir))?;
        }
        if !is_bpffs(mountpoint) {
            let none: Option<&str> = None;
            mount(Some("bpf"), mountpoint, Some("bpf"), MsFlags::empty(), none).map_err(
                |source| PinsError::Mount { path: mountpoint.to_owned(), source: source.into() },
            )?;
        }
        let pins = Self::of(dir);
        for sub in [pins.maps(), pins.links()] {
            at(&sub, fs::create_dir_all(&sub))?;
        }
        Ok(pins)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn maps(&self) -> PathBuf {
        self.dir.join("maps")
    }

    fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where an attachment is pinned.
    pub fn link(&self, index: u32, hook: &str) -> PathBuf {
        self.links().join(format!("{index}-{hook}"))
    }

    /// The attachments: interface index and hook.
    pub fn attached(&self) -> Result<Vec<(u32, String)>, PinsError> {
        let dir = self.links();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => at(&dir, entries)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = at(&dir, entry)?.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('-'));
            found.extend(parts.and_then(|(index, hook)| Some((index.parse().ok()?, hook.into()))));
        }
        found.sort();
        Ok(found)
    }

    /// Whether maps are pinned.
    pub fn are_there(&self) -> bool {
        self.map("META").exists()
    }

    /// Removes all pins, and the directory: attachments end, maps are freed
    /// when the last program that uses them is.
    pub fn remove(&self) -> Result<(), PinsError> {
        // Links first: no program runs on maps that are half gone.
        for dir in [self.links(), self.maps(), self.dir.clone()] {
            match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return at(&dir, Err(error)),
                Ok(entries) => {
                    for entry in entries {
                        let path = at(&dir, entry)?.path();
                        if !path.is_dir() {
                            at(&path, fs::remove_file(&path))?;
                        }
                    }
                }
            }
            match fs::remove_dir(&dir) {
                // A mount point of its own stays; so does the directory that is all that a
                // sandbox lets the agent write to.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem
                    ) => {}
                result => at(&dir, result)?,
            }
        }
        Ok(())
    }
}
