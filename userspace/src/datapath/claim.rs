//! One writer: who holds the claim on a directory of pins may change what is
//! pinned there, and nobody else.
//!
//! It is a lock (flock) on the directory itself, so it is the same by whatever
//! path the directory is reached, and the kernel lets go of it when its holder
//! ends, however that ends. Two writers would take each other's endpoint ids
//! for free ones, and steer connections of one service to another's endpoints.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData};
use probe_common::map::Meta;

use super::{Pins, PinsError, network};
use crate::directory::trusted;

/// What ends the names of pins that are programs, of kernels without TCX.
const NOT_LINKS: &str = "-clsact";

/// The right to change what is pinned in a directory; kept until it is dropped.
#[derive(Debug)]
pub struct Claim {
    pins: Pins,
    /// Holds the lock.
    _directory: File,
}

/// Why a directory of pins is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It cannot be made or opened.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// It is somebody else's.
    #[error(
        "{holder} uses the maps that are pinned in {}, and two at a time would overwrite each \
         other's splits: stop it first (systemctl stop weir{}), or name another directory as \
         `bpffs` in agent.yaml", .dir.display(), .holder.how_to_end()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// What is pinned there works in another network namespace.
    #[error(
        "what is pinned in {} steers in another network namespace, where interfaces of the same \
         numbers are others: name another directory as `bpffs` in agent.yaml for this one, or run \
         `weir unload` there first (nsenter --net=FILE weir unload; if that namespace is gone, \
         rm -r {})", .0.display(), .0.display()
    )]
    Elsewhere(PathBuf),
}

/// Who holds a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, if it is to be seen from here.
    pub process: Option<u32>,
}

impl Holder {
    fn how_to_end(&self) -> String {
        self.process.map_or_else(String::new, |process| format!(", or kill {process}"))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }?;
        let name = |process| fs::read_to_string(format!("/proc/{process}/comm")).ok();
        match self.process.and_then(name) {
            Some(name) => write!(f, " ({})", name.trim_end()),
            None => Ok(()),
        }
    }
}

impl Claim {
    /// Claims a directory, which is made if it is not there.
    pub fn make(dir: &Path) -> Result<Self, ClaimError> {
        loop {
            let pins = Pins::make(dir)?;
            if let Some(claim) = Self::of(pins)? {
                // Whoever had it before may have removed what is below.
                Pins::make(dir)?;
                return Ok(claim);
            }
        }
    }

    /// Claims a directory if it is there.
    pub fn existing(dir: &Path) -> Result<Option<Self>, ClaimError> {
        if !dir.exists() {
            return Ok(None);
        }
        Self::of(Pins::of(dir))
    }

    /// The directory.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// None if the directory was removed meanwhile.
    fn of(pins: Pins) -> Result<Option<Self>, ClaimError> {
        let dir = pins.dir().to_owned();
        let failed = |source| PinsError::Io { path: dir.clone(), source };
        let directory = match trusted(&dir, None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            directory => directory.map_err(failed)?,
        };
        let own = identity(&directory).map_err(failed)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
                let holder = Holder { process: holder(&locks, own) };
                return Err(ClaimError::Held { dir, holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        match trusted(&dir, None).and_then(|file| identity(&file)) {
            Ok(found) if found == own => {}
            _ => return Ok(None),
        }
        let claim = Self { pins, _directory: directory };
        if claim.works_elsewhere() { Err(ClaimError::Elsewhere(dir)) } else { Ok(Some(claim)) }
    }

    /// Whether what is pinned is at interfaces of another network namespace. Where
    /// that has gone, so have the interfaces.
    fn works_elsewhere(&self) -> bool {
        let Some(made_in) = made_in(&self.pins).filter(|&network| network != 0) else {
            return false;
        };
        let here = network::own();
        here != 0 && here != made_in && is_in_force(&self.pins)
    }
}

/// The network namespace that the maps were made in. Whatever else is wrong with
/// them is told when they are adopted.
fn made_in(pins: &Pins) -> Option<u64> {
    let meta = MapData::from_pin(pins.map("META")).ok()?;
    let meta: Array<MapData, Meta> = aya::maps::Map::Array(meta).try_into().ok()?;
    Some(meta.get(&0, 0).ok()?.network)
}

/// Whether any attachment is at an interface. Of a pinned program that cannot be told.
fn is_in_force(pins: &Pins) -> bool {
    let attached = pins.attached().unwrap_or_default();
    attached.into_iter().any(|(index, hook)| {
        hook.ends_with(NOT_LINKS)
            || network::interface_of(&pins.link(index, &hook)).map_or(true, |at| at != 0)
    })
}

/// Device and inode.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino()))
}

/// The process that has a lock (flock) on a file, by the text of `/proc/locks`.
fn holder(locks: &str, (device, inode): (u64, u64)) -> Option<u32> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 17386 00:27:25464 0 EOF
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, at, ..] = words[..] else { return None };
        // 0 or less: it is not to be seen from here.
        process.parse().ok().filter(|&process| at == file && process > 0)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory as on bpffs.
    fn directory() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("weir");
        fs::create_dir_all(dir.join("maps")).unwrap();
        (root, dir)
    }

    fn claim(dir: &Path) -> Result<Option<Claim>, ClaimError> {
        Claim::existing(dir)
    }

    #[test]
    fn a_directory_is_claimed_once_by_whatever_path() {
        let (root, dir) = directory();
        symlink(&dir, root.path().join("link")).unwrap();
        let first = claim(&dir).unwrap().unwrap();
        for path in ["weir", "link", "weir/maps/..", "./weir/."] {
            let error = claim(&root.path().join(path)).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, ClaimError::Held { .. }), "{path}: {said}");
            let own = format!("process {} (", std::process::id());
            assert!(said.starts_with(&own), "{path}: {said}");
            assert!(said.contains(&format!("or kill {}", std::process::id())), "{path}: {said}");
        }
        drop(first);
        assert!(claim(&dir).unwrap().is_some());
    }

    #[test]
    fn a_claim_outlives_the_pins_and_not_the_directory() {
        let (_root, dir) = directory();
        let first = claim(&dir).unwrap().unwrap();
        first.pins().clear().unwrap();
        assert!(dir.exists() && !dir.join("maps").exists());
        assert!(claim(&dir).is_err(), "it is still claimed");
        first.pins().remove().unwrap();
        assert!(claim(&dir).unwrap().is_none(), "there is nothing to claim");
        fs::create_dir(&dir).unwrap();
        assert!(claim(&dir).unwrap().is_some(), "another directory of that name");
    }

    #[test]
    fn the_holder_is_found_among_the_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:27:25464 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 00:27:2546 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 00:27:25464 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 00:27:25464 0 EOF\n";
        assert_eq!(holder(locks, (libc::makedev(0, 0x27), 25464)), Some(14));
        assert_eq!(holder(locks, (libc::makedev(1, 0x27), 25464)), None);
        let hidden = "3: FLOCK  ADVISORY  WRITE -1 00:27:25464 0 EOF\n";
        assert_eq!(holder(hidden, (libc::makedev(0, 0x27), 25464)), None);
    }
}
