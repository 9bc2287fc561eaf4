//! What is in a directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

/// The names in a directory.
pub fn names(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Opens a regular file of a directory for reading. Symbolic links are followed
/// within the directory, and nowhere else. None if it is a directory.
///
/// Not by openat2 alone: a sandbox that lets nobody make setuid files hides that.
pub fn open_beneath(directory: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // To open a FIFO would wait for who writes to it.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = directory.open_with(name, &options).map_err(|error| match error.kind() {
        // Not the system says that.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a symbolic link that is absolute or leads out of the directory is not followed",
        ),
        _ => error,
    })?;
    let file = file.into_std();
    match file.metadata()? {
        found if found.is_file() => Ok(Some(file)),
        found if found.is_dir() => Ok(None),
        _ => Err(io::Error::other("not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_directory_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("resources.d");
        fs::create_dir_all(path.join("..1")).unwrap();
        fs::write(root.path().join("secret"), "secret").unwrap();
        fs::write(path.join("..1/a"), "a").unwrap();
        symlink("..1", path.join("..data")).unwrap();
        symlink("..data/a", path.join("a")).unwrap();
        symlink("../secret", path.join("relative")).unwrap();
        symlink(root.path().join("secret"), path.join("absolute")).unwrap();
        symlink("../resources.d/..1/a", path.join("out-and-in")).unwrap();
        symlink("..", path.join("..out")).unwrap();
        symlink("..out/secret", path.join("by-directory")).unwrap();
        symlink("/proc/self/cwd/../../etc/passwd", path.join("magic")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        symlink("missing", path.join("dangling")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let directory = Dir::from_std_file(File::open(&path).unwrap());
        let open = |name: &str| open_beneath(&directory, name.as_ref());
        let text = io::read_to_string(open("a").unwrap().expect("a file")).unwrap();
        assert_eq!(text, "a");
        assert!(open("..data").unwrap().is_none(), "a directory");
        for name in ["relative", "absolute", "out-and-in", "by-directory", "magic"] {
            let error = open(name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
        }
        assert_eq!(open("loop").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(open("dangling").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(open("fifo").unwrap_err().to_string(), "not a regular file");
        assert_eq!(names(&directory).unwrap().len(), 12);
    }
}
