//! Files of one directory, by names only: no path, no symbolic link leads out of it; and nobody
//! but root and the agent's user can put any there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::directory::trusted;

/// A directory that is open and locked against others of its kind.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    file: File,
}

impl Directory {
    /// Opens it, or makes it with mode 0700. `WouldBlock` if it is open elsewhere.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = trusted(path, Some(0o700))?;
        file.try_lock()?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The path of a file of that name, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a regular file for reading and appending. None if there is none.
    pub fn read(&self, name: &str) -> io::Result<Option<File>> {
        match self.at(name, OFlag::O_RDWR | OFlag::O_APPEND) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                Err(io::Error::other("it is a symbolic link, and none is followed here"))
            }
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(io::Error::other("not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a file of mode 0600 for reading and appending, in place of any that is there.
    pub fn create(&self, name: &str) -> io::Result<File> {
        match unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.at(name, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL)
    }

    fn at(&self, name: &str, flags: OFlag) -> io::Result<File> {
        // O_NONBLOCK: to open a FIFO would wait for who reads from it.
        let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.file, name, flags | always, mode)?.into())
    }

    /// Gives a file another name, at once and in place of what had it.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.file, from, &self.file, to)?)
    }

    /// Gives a file a second name. An error if something has it.
    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(linkat(&self.file, from, &self.file, to, AtFlags::empty())?)
    }

    /// Returns when the names of all files are on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
