//! The API's socket: its file, and who may connect.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, Stat, chmodat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::access::{Access, acl};
use crate::directory::trusted;

/// Of its directory, if there is none: who may connect says the socket itself.
const DIRECTORY: u32 = 0o755;

/// The file of a socket, which is removed on drop if it is still there.
#[derive(Debug)]
pub struct SocketFile {
    directory: File,
    name: OsString,
    /// Device and inode.
    file: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, where those may connect that the policy names, and
    /// nobody else. Makes the directory if there is none. A socket which nobody
    /// listens at (its agent died) is replaced; anything else that is there,
    /// another agent's socket above all, is an error.
    ///
    /// The socket is bound and its permissions are set under another name, then
    /// it is moved into place: at no time can anyone else connect.
    pub fn bind(path: &Path, access: &Access) -> io::Result<(UnixListener, Self)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = trusted(parent.unwrap_or(Path::new(".")), Some(DIRECTORY))?;
        check_free(&directory, &name, path)?;
        let private = OsString::from(format!(".{}", std::process::id()));
        match unlinkat(&directory, &private, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::bind(below(&directory, &private))?;
        let ready = listener
            .set_nonblocking(true)
            .and_then(|()| Ok(chmodat(&directory, &private, OWNER_ONLY, AtFlags::empty())?))
            .and_then(|()| acl::allow(&below(&directory, &private), access.groups()))
            .and_then(|()| Ok(statat(&directory, &private, AtFlags::SYMLINK_NOFOLLOW)?))
            .and_then(|found| {
                renameat(&directory, &private, &directory, &name)?;
                Ok(found)
            });
        match ready {
            Ok(found) => Ok((listener, Self { directory, name, file: id(&found) })),
            Err(error) => {
                // The first error is the one worth telling.
                let _ = unlinkat(&directory, &private, AtFlags::empty());
                Err(error)
            }
        }
    }
}

const OWNER_ONLY: Mode = Mode::from_raw_mode(0o600);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        // Another agent's may be there by now.
        if found.is_ok_and(|found| id(&found) == self.file)
            && let Err(error) = unlinkat(&self.directory, &self.name, AtFlags::empty())
        {
            tracing::warn!("cannot remove the API's socket: {error}");
        }
    }
}

fn id(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// A path to a file of a directory that is open, wherever that is by now; and
/// short, since the path of a socket may have 107 bytes only.
fn below(directory: &File, name: &OsString) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

/// Whether the name is free, or that of a socket which nobody listens at.
fn check_free(directory: &File, name: &OsString, path: &Path) -> io::Result<()> {
    let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        let message = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(below(directory, name)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let message = format!("another agent listens at {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
    }
}
