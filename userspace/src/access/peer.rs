//! Who is at the other end of a Unix socket, as it was when they connected.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::socket::{getsockopt, sockopt};

use super::Credentials;

/// The user, the group and the supplementary groups of who connected
/// (SO_PEERCRED, and SO_PEERGROUPS of Linux 4.13).
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Credentials { uid: peer.uid(), gid: peer.gid(), groups: groups(socket)? })
}

fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: a buffer of `length` bytes and that length, which both live until the end.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let error = io::Error::last_os_error();
        let count = length as usize / size_of::<libc::gid_t>();
        match result {
            0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            // Then the length is what it takes.
            _ if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn own_credentials() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = credentials(one.as_fd()).unwrap();
        let mut groups: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let mut found_groups = found.groups.clone();
        found_groups.sort_unstable();
        assert_eq!((found.uid, found.gid, found_groups), (uid, gid, groups));
    }
}
