//! What an interface's driver does for the stack (ethtool(8)'s ioctl).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::super::Offloads;

// From linux/ethtool.h.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGRO: u32 = 0x2b;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Of the interface of that name.
pub fn of(interface: &str) -> io::Result<Offloads> {
    Ok(Offloads {
        gro: ask(interface, ETHTOOL_GGRO)?,
        tso: ask(interface, ETHTOOL_GTSO)?,
        checksums: ask(interface, ETHTOOL_GTXCSUM)?,
    })
}

fn ask(interface: &str, command: u32) -> io::Result<bool> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value { command, data: 0 };
    let mut name = [0; libc::IFNAMSIZ];
    let bytes = interface.as_bytes();
    if bytes.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, &from) in name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let data: *mut Value = &mut value;
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data.cast() },
    };
    // SAFETY: SIOCETHTOOL reads the request and writes to the value that it points to, whose
    // size the command says; both live until it returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data != 0) }
}
