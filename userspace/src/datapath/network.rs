//! The network namespace that this process is in, and whether attachments are
//! in force in any.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::batch::bpf;

/// SO_NETNS_COOKIE (Linux 5.14), the same on all architectures that weir is built for.
const SO_NETNS_COOKIE: libc::c_int = 71;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// A number that tells the network namespace of the calling thread from all
/// others since the kernel was booted: its cookie; before Linux 5.14 its inode
/// number, which a later one may have again. 0 if it cannot be known.
pub fn own() -> u64 {
    let inode = || std::fs::metadata("/proc/thread-self/ns/net").map(|found| found.ino());
    cookie().or_else(|_| inode()).unwrap_or(0)
}

fn cookie() -> io::Result<u64> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    let place: *mut u64 = &mut cookie;
    // SAFETY: the socket is open, and `place` has room for the `size` bytes of a cookie.
    let result = unsafe {
        let option = (libc::SOL_SOCKET, SO_NETNS_COOKIE);
        libc::getsockopt(socket.as_raw_fd(), option.0, option.1, place.cast(), &mut size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// The part of `union bpf_attr` that BPF_OBJ_GET uses.
#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of it that BPF_OBJ_GET_INFO_BY_FD uses.
#[repr(C)]
struct Ask {
    fd: u32,
    size: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`, as it is of a link of XDP or TCX.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    interface: u32,
    more: [u32; 15],
}

/// The index of the interface that the link that is pinned there is at, in whatever
/// network namespace; 0 if it is at none any more, since it was detached or the
/// interface is gone.
pub fn interface_of(pin: &Path) -> io::Result<u32> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut get = Get { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path ends with a zero, and lives until the end.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut get) }?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it, for nobody else.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = LinkInfo::default();
    let place: *mut LinkInfo = &mut info;
    let size = size_of::<LinkInfo>() as u32;
    let mut ask = Ask { fd: link.as_raw_fd().unsigned_abs(), size, info: place as u64 };
    // SAFETY: the place has the size that goes with it, and lives until the end.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut ask) }?;
    Ok(info.interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_namespace_is_known_by_a_number_that_stays() {
        assert_ne!(own(), 0);
        assert_eq!(own(), std::thread::spawn(own).join().unwrap());
    }
}
