//! Which groups may connect to a socket, as an access control list of its file.
//!
//! A file has one group, and giving it another takes CAP_CHOWN or membership;
//! a list names any number of groups, and takes nothing but to own the file.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;

/// The attribute that is an access control list (acl(5)).
const ATTRIBUTE: &str = "system.posix_acl_access";
/// `POSIX_ACL_XATTR_VERSION` of Linux's `posix_acl_xattr.h`.
const VERSION: u32 = 2;
/// The id of entries that need none.
const NOBODY: u32 = u32::MAX;
/// Bytes of a list: more than those that are made here have.
const MOST: usize = 4096;
/// Reading and writing; to connect takes writing.
const READ_WRITE: u16 = 6;

/// Tags of entries.
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Lets the file's owner and the members of these groups read and write it, and
/// nobody else. Its mode is 0660 then, and 0600 without groups.
///
/// # Errors
///
/// If the file is not ours, or its file system keeps no lists.
pub fn allow(path: &Path, groups: impl IntoIterator<Item = u32>) -> io::Result<()> {
    let groups: BTreeSet<u32> = groups.into_iter().collect();
    if groups.is_empty() {
        // As it was made.
        return Ok(());
    }
    match lsetxattr(path, ATTRIBUTE, &list(&groups), XattrFlags::empty()) {
        Err(Errno::NOTSUP) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its file system keeps no access control lists, which `access` in agent.yaml needs; \
             put the socket elsewhere, such as below /run",
        )),
        result => Ok(result?),
    }
}

/// Whether a file's permissions are those that [`allow`] gives it.
pub fn allows_just(path: &Path, groups: impl IntoIterator<Item = u32>) -> io::Result<bool> {
    let groups: BTreeSet<u32> = groups.into_iter().collect();
    let mut found = vec![0; MOST];
    match lgetxattr(path, ATTRIBUTE, &mut found) {
        Ok(length) => Ok(!groups.is_empty() && found[..length] == list(&groups)),
        Err(Errno::RANGE) => Ok(false),
        Err(Errno::NODATA | Errno::NOTSUP) => {
            Ok(groups.is_empty() && std::fs::symlink_metadata(path)?.mode() & 0o077 == 0)
        }
        Err(error) => Err(error.into()),
    }
}

/// The list as the kernel takes it: little-endian, entries by tag and id.
fn list(groups: &BTreeSet<u32>) -> Vec<u8> {
    let groups = groups.iter().map(|&gid| (GROUP, READ_WRITE, gid));
    let entries = [(USER_OBJ, READ_WRITE, NOBODY), (GROUP_OBJ, 0, NOBODY)].into_iter();
    let ends = [(MASK, READ_WRITE, NOBODY), (OTHER, 0, NOBODY)];
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries.chain(groups).chain(ends) {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
