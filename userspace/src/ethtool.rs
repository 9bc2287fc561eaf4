//! What drivers say of their devices (ethtool(8)'s ioctl).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// From linux/ethtool.h.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether it merges packets that come in.
pub fn has_gro(interface: &str) -> io::Result<bool> {
    Ok(ask(interface, ETHTOOL_GGRO)? != 0)
}

/// Whether it cuts segments of TCP.
pub fn has_tso(interface: &str) -> io::Result<bool> {
    Ok(ask(interface, ETHTOOL_GTSO)? != 0)
}

/// Whether it computes checksums of what is sent.
pub fn has_checksums(interface: &str) -> io::Result<bool> {
    Ok(ask(interface, ETHTOOL_GTXCSUM)? != 0)
}

/// Whether it takes VLAN tags off frames that come in, before XDP sees them.
pub fn hides_vlans(interface: &str) -> io::Result<bool> {
    Ok(ask(interface, ETHTOOL_GFLAGS)? & ETH_FLAG_RXVLAN != 0)
}

fn ask(interface: &str, command: u32) -> io::Result<u32> {
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
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
