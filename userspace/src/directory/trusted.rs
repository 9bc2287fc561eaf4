//! The walk to a directory that nobody else can change.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat, statat,
};
use rustix::io::Errno;

/// The most symbolic links on the way to a directory, as in Linux.
const MAX_LINKS: usize = 40;
/// Of directories that are made on the way.
const ON_THE_WAY: Mode = Mode::from_raw_mode(0o755);
/// Everybody may put files there and remove others'.
const EVERYBODY: u32 = 0o002;
/// Nobody but its owner may remove a file there.
const STICKY: u32 = 0o1000;

/// Opens a directory if nobody but root and the agent's user can change what is
/// in it, or what its path leads to. Symbolic links on the way are followed if
/// they are root's or the agent's. With a mode, what is missing is made.
///
/// # Errors
///
/// `PermissionDenied`, with what to do about it, if somebody else could.
pub fn trusted(path: &Path, make: Option<u32>) -> io::Result<File> {
    let mut walk = Walk::begin(path)?;
    while let Some(name) = walk.next.pop_front() {
        walk.step(&name, make)?;
    }
    let (directory, here) = walk.open.pop().ok_or(io::ErrorKind::NotFound)?;
    unshared(&here, &fstat(&directory)?)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(&directory, ".", flags, Mode::empty())?.into())
}

/// Where a walk is.
struct Walk {
    /// The directories from the root to here, and their paths.
    open: Vec<(OwnedFd, PathBuf)>,
    /// Names that are still to be followed.
    next: VecDeque<OsString>,
    links: usize,
}

impl Walk {
    fn begin(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty())?;
        let mut walk = Self { open: vec![(root, "/".into())], next: VecDeque::new(), links: 0 };
        walk.put(&path);
        Ok(walk)
    }

    /// Goes on with this path, and then with what was left.
    fn put(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.next.push_front(name.to_owned()),
                Component::ParentDir => self.next.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if path.has_root() {
            self.open.truncate(1);
        }
    }

    fn step(&mut self, name: &OsStr, make: Option<u32>) -> io::Result<()> {
        if name == ".." {
            // The root is its own parent.
            self.open.truncate(self.open.len().saturating_sub(1).max(1));
            return Ok(());
        }
        let Some((here, at)) = self.open.last() else { return Err(io::ErrorKind::NotFound.into()) };
        let path = at.join(name);
        let found = match (statat(here, name, AtFlags::SYMLINK_NOFOLLOW), make) {
            (Err(Errno::NOENT), Some(last)) => {
                let mode =
                    if self.next.is_empty() { Mode::from_raw_mode(last) } else { ON_THE_WAY };
                return self.make(name, path, mode);
            }
            (found, _) => found.map_err(|error| told(&path, error.into()))?,
        };
        owned(&path, &found)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(here, name, Vec::new())?;
            self.put(Path::new(&OsString::from_vec(target.into_bytes())));
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(here, name, flags, Mode::empty());
        self.enter(directory.map_err(|error| told(&path, error.into()))?, path)
    }

    fn make(&mut self, name: &OsStr, path: PathBuf, mode: Mode) -> io::Result<()> {
        let Some((here, _)) = self.open.last() else { return Err(io::ErrorKind::NotFound.into()) };
        mkdirat(here, name, mode).map_err(|error| told(&path, error.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(here, name, flags, Mode::empty())?;
        // The mask of modes has taken some.
        fchmod(&directory, mode)?;
        self.enter(directory, path)
    }

    fn enter(&mut self, directory: OwnedFd, path: PathBuf) -> io::Result<()> {
        let found = fstat(&directory)?;
        owned(&path, &found)?;
        // What is ours stays ours where only owners remove.
        if found.st_mode & STICKY == 0 {
            unshared(&path, &found)?;
        }
        self.open.push((directory, path));
        Ok(())
    }
}

/// An error that says where.
fn told(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn owned(path: &Path, found: &Stat) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if found.st_uid == 0 || found.st_uid == own {
        return Ok(());
    }
    let message = format!(
        "{} belongs to user {}, who could put other files in the place of the agent's: choose \
         another directory, or chown it to root",
        path.display(),
        found.st_uid
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

fn unshared(path: &Path, found: &Stat) -> io::Result<()> {
    if found.st_mode & EVERYBODY == 0 {
        return Ok(());
    }
    let message = format!(
        "everybody may write to {}, and so put other files in the place of the agent's: choose \
         another directory, or chmod o-w it",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// Of nobody.
    const SOMEBODY: u32 = 65_534;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn rejected(path: &Path) -> String {
        let error = trusted(path, Some(0o700)).expect_err("it is rejected");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        error.to_string()
    }

    #[test]
    fn what_is_missing_is_made_with_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        assert_eq!(trusted(&path, None).unwrap_err().kind(), io::ErrorKind::NotFound);
        trusted(&path, Some(0o700)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&root.path().join("a")), mode(&path)), (0o755, 0o700));
        trusted(&path, None).unwrap();
    }

    #[test]
    fn what_everybody_may_write_is_rejected() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        fs::create_dir(&path).unwrap();
        for shared in [0o777, 0o1777, 0o702] {
            mode(&path, shared);
            assert!(rejected(&path).starts_with("everybody may write to"), "{shared:o}");
        }
        mode(&path, 0o770);
        trusted(&path, None).unwrap();
        // On the way, it depends on who may rename.
        let below = path.join("below");
        mode(&path, 0o1777);
        trusted(&below, Some(0o700)).unwrap();
        mode(&path, 0o777);
        assert!(rejected(&below).contains("state, and so put"));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(trusted(&file, Some(0o700)).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    /// Needs root.
    #[test]
    fn what_belongs_to_others_is_rejected() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        fs::create_dir(&path).unwrap();
        chown(&path, Some(SOMEBODY), None).unwrap();
        let expected = format!("{} belongs to user 65534", path.display());
        assert!(rejected(&path).starts_with(&expected));
        assert!(rejected(&path.join("below")).starts_with(&expected));
        assert!(!path.join("below").exists(), "nothing is made there");
    }

    /// Needs root.
    #[test]
    fn links_on_the_way_are_followed_only_if_they_are_ours() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink("./x/../real", &link).unwrap();
        fs::create_dir(root.path().join("x")).unwrap();
        trusted(&link.join("below"), Some(0o700)).unwrap();
        assert!(real.join("below").is_dir());
        std::os::unix::fs::lchown(&link, Some(SOMEBODY), None).unwrap();
        assert!(rejected(&link.join("below")).contains("link belongs to user 65534"));
        let (one, other) = (root.path().join("1"), root.path().join("2"));
        symlink(&one, &other).unwrap();
        symlink(&other, &one).unwrap();
        assert_eq!(trusted(&one, None).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
