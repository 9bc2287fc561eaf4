//! What others can do to an attachment.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use crate::flood::OBJECT;
use crate::netns::Netns;

/// Commands of bpf(2).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Detaches the link that is pinned there, which stays, as `bpftool link detach` does.
pub fn detach(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // The parts of `union bpf_attr` that the commands use.
    let mut get = [path.as_ptr() as u64, 0];
    let fd = bpf(BPF_OBJ_GET, &mut get)?;
    // SAFETY: the kernel has just opened it, for nobody else.
    let link = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) };
    let mut detach = [u64::from(link.as_raw_fd().unsigned_abs()).to_le(), 0];
    bpf(BPF_LINK_DETACH, &mut detach).map(drop)
}

/// A program of somebody else at both TC hooks of an interface, which looks at packets and passes
/// them on, until the result is dropped.
pub fn bystander(ns: &Netns, ifname: &str) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    let program = ebpf.program_mut("count_priorities").context("no program that counts")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        ns.run(|| program.attach(ifname, direction))?;
    }
    Ok(ebpf)
}

fn bpf(command: libc::c_long, attributes: &mut [u64; 2]) -> io::Result<libc::c_long> {
    let size = size_of_val(attributes);
    // SAFETY: the pointer is valid for `size` bytes, and the address in it, if there is one, is
    // that of a string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
