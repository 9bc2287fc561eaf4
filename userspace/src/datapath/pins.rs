//! Where maps and links outlive the agent: a directory on bpffs.
//!
//! `maps/NAME` are the maps; `links/INDEX-HOOK` the attachments of interfaces,
//! by interface index. (bpffs takes no name with a dot.) `next/NAME` are maps
//! that take the place of those in `maps`, while flows go over to them, and
//! `former/NAME` those whose place was taken.
//!
//! Everybody may make directories on a bpffs that is mounted as usual. So this
//! one is used only if nobody else can change it, and holds pins, no symbolic
//! links: to pin, open or remove then reaches nothing else.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::directory::{names, trusted};

/// Of directories that are made.
const PRIVATE: u32 = 0o700;
/// Of maps.
const MAPS: &str = "maps";
/// Of maps that are to take their place.
const NEXT: &str = "next";
/// Of maps whose place was taken.
const FORMER: &str = "former";
/// Of attachments.
const LINKS: &str = "links";

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

/// Opens a subdirectory, not along a link.
fn sub(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

fn kind(directory: &File, name: &OsStr) -> io::Result<FileType> {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(found.st_mode))
}

/// Makes a subdirectory if it is not there, and checks that it holds only pins.
fn pins_in(directory: &File, name: &str) -> io::Result<()> {
    match mkdirat(directory, name, Mode::from_raw_mode(PRIVATE)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = sub(directory, name)?;
    for name in names(&found)? {
        if kind(&found, &name)? != FileType::RegularFile {
            let name = name.display();
            return Err(io::Error::other(format!("{name} there is no pin; remove it")));
        }
    }
    Ok(())
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
            at(dir, trusted(dir, Some(PRIVATE)))?;
        }
        if !is_bpffs(mountpoint) {
            mount(Some("bpf"), mountpoint, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|source| PinsError::Mount {
                    path: mountpoint.to_owned(),
                    source: source.into(),
                })?;
        }
        let pins = Self::of(dir);
        let directory = at(dir, trusted(dir, Some(PRIVATE)))?;
        for name in [MAPS, LINKS] {
            at(&dir.join(name), pins_in(&directory, name))?;
        }
        Ok(pins)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the maps are.
    pub fn maps(&self) -> PathBuf {
        self.dir.join(MAPS)
    }

    /// Where those are that are to take their place.
    pub fn next(&self) -> PathBuf {
        self.dir.join(NEXT)
    }

    /// Makes an empty directory for maps that are to take the others' place.
    pub fn make_next(&self) -> Result<(), PinsError> {
        self.remove_maps(NEXT)?;
        let directory = at(&self.dir, trusted(&self.dir, Some(PRIVATE)))?;
        at(&self.next(), pins_in(&directory, NEXT))
    }

    /// The directories of maps: what is there may be of any generation.
    pub(super) fn of_maps(&self) -> [PathBuf; 3] {
        [MAPS, NEXT, FORMER].map(|name| self.dir.join(name))
    }

    /// Removes the maps that were to take the others' place.
    pub fn remove_next(&self) -> Result<(), PinsError> {
        self.remove_maps(NEXT)
    }

    /// Has the next maps take the place of the maps. Where this is interrupted, it
    /// is done when it is called again.
    pub fn promote_next(&self) -> Result<(), PinsError> {
        let (maps, next, former) = (self.maps(), self.next(), self.dir.join(FORMER));
        if fs::symlink_metadata(&next).is_ok() {
            if fs::symlink_metadata(&maps).is_ok() {
                self.remove_maps(FORMER)?;
                at(&maps, fs::rename(&maps, former))?;
            }
            at(&next, fs::rename(&next, maps))?;
        }
        self.remove_maps(FORMER)
    }

    /// Whether maps are about to take the others' place, or to be removed since
    /// theirs was taken.
    pub fn are_in_transition(&self) -> bool {
        [NEXT, FORMER].iter().any(|name| fs::symlink_metadata(self.dir.join(name)).is_ok())
    }

    fn remove_maps(&self, name: &str) -> Result<(), PinsError> {
        let path = self.dir.join(name);
        let directory = match trusted(&self.dir, None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            directory => at(&self.dir, directory)?,
        };
        match kind(&directory, OsStr::new(name)) {
            Ok(FileType::Directory) => at(&path, remove_below(&directory, OsStr::new(name))),
            _ => Ok(()),
        }
    }

    fn links(&self) -> PathBuf {
        self.dir.join(LINKS)
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
        let open = trusted(&self.dir, None).and_then(|directory| sub(&directory, LINKS));
        let names = match open.and_then(names) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            // A link: nothing of ours.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            names => at(&dir, names)?,
        };
        let mut found = Vec::new();
        for name in names {
            let parts = name.to_str().and_then(|name| name.split_once('-'));
            found.extend(parts.and_then(|(index, hook)| Some((index.parse().ok()?, hook.into()))));
        }
        found.sort();
        Ok(found)
    }

    /// Whether maps are pinned.
    pub fn are_there(&self) -> bool {
        fs::symlink_metadata(self.map("META")).is_ok()
    }

    /// Removes all pins: attachments end, maps are freed when the last program
    /// that uses them is. The directory stays, as does a lock on it.
    pub fn clear(&self) -> Result<(), PinsError> {
        let directory = match trusted(&self.dir, None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            directory => at(&self.dir, directory)?,
        };
        // Links first: no program runs on maps that are half gone.
        for path in [self.links(), self.next(), self.maps(), self.dir.join(FORMER)] {
            let name = path.file_name().unwrap_or_default();
            match kind(&directory, name) {
                Ok(FileType::Directory) => at(&path, remove_below(&directory, name))?,
                // Of links, not what they lead to.
                _ => continue,
            }
        }
        at(&self.dir, remove_files(&directory))
    }

    /// [`Pins::clear`], and removes the directory.
    pub fn remove(&self) -> Result<(), PinsError> {
        self.clear()?;
        match fs::remove_dir(&self.dir) {
            // A mount point of its own stays; so does the directory that is all that a
            // sandbox lets the agent write to.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ResourceBusy
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            result => at(&self.dir, result),
        }
    }
}

fn remove_below(directory: &File, name: &OsStr) -> io::Result<()> {
    remove_files(&sub(directory, &name.to_string_lossy())?)?;
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is in a directory and is no directory.
fn remove_files(directory: &File) -> io::Result<()> {
    for name in names(directory)? {
        if kind(directory, &name)? != FileType::Directory {
            unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory of pins as on bpffs, of ordinary files; and a file outside.
    fn tree() -> (tempfile::TempDir, Pins, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (dir, outside) = (root.path().join("weir"), root.path().join("outside"));
        for path in [dir.join(MAPS), dir.join(LINKS), outside.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(dir.join("maps/META"), "").unwrap();
        fs::write(dir.join("links/7-reply"), "").unwrap();
        fs::write(outside.join("8-reply"), "precious").unwrap();
        (root, Pins::of(&dir), outside)
    }

    #[test]
    fn all_pins_are_removed() {
        let (_root, pins, outside) = tree();
        assert!(pins.are_there());
        assert_eq!(pins.attached().unwrap(), [(7, "reply".to_owned())]);
        pins.remove().unwrap();
        assert!(!pins.dir().exists() && outside.exists());
        pins.remove().unwrap();
    }

    #[test]
    fn what_links_lead_to_is_not_removed() {
        let (_root, pins, outside) = tree();
        fs::remove_dir_all(pins.links()).unwrap();
        symlink(&outside, pins.links()).unwrap();
        symlink(outside.join("8-reply"), pins.map("SPLITS")).unwrap();
        assert_eq!(pins.attached().unwrap(), [], "nothing outside is taken for an attachment");
        pins.remove().unwrap();
        assert!(!pins.dir().exists());
        assert_eq!(fs::read_to_string(outside.join("8-reply")).unwrap(), "precious");
    }

    #[test]
    fn links_are_no_pins() {
        let (_root, pins, outside) = tree();
        let directory = trusted(pins.dir(), None).unwrap();
        pins_in(&directory, MAPS).unwrap();
        symlink(outside.join("8-reply"), pins.map("SPLITS")).unwrap();
        let error = pins_in(&directory, MAPS).unwrap_err().to_string();
        assert_eq!(error, "SPLITS there is no pin; remove it");
        fs::remove_dir_all(pins.links()).unwrap();
        symlink(&outside, pins.links()).unwrap();
        assert_eq!(pins_in(&directory, LINKS).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
