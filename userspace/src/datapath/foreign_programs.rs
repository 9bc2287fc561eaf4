//! Programs of others, which packets that are redirected do not meet.

use std::io;

use aya::programs::links::{LinkError, LinkType};
use aya::programs::loaded_links;
use aya_obj::generated::bpf_attach_type::{BPF_TCX_EGRESS, BPF_TCX_INGRESS};

use super::features::has_tcx;

/// The most programs at a hook (BPF_MPROG_MAX).
const MOST: usize = 64;

/// The part of `union bpf_attr` that BPF_PROG_QUERY uses.
#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    hook: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    zero: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The ids of the programs at a TCX hook, in their order. The eBPF library has
/// that, but opens each of the programs, for which an agent with the few
/// capabilities that it needs has no right.
fn at(index: u32, hook: u32) -> io::Result<Vec<u32>> {
    const BPF_PROG_QUERY: libc::c_long = 16;
    if !has_tcx() {
        return Ok(Vec::new());
    }
    let mut programs = vec![0_u32; MOST];
    let mut query = Query {
        ifindex: index,
        hook,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    let pointer: *mut Query = &raw mut query;
    // SAFETY: a struct of that size, and in it a buffer for `count` ids; both live until the end.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, pointer, size_of::<Query>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    programs.truncate(query.count as usize);
    Ok(programs)
}

/// The id of the program that follows ours at the ingress (TCX) of the
/// interface with that index, by the ids of ours. None if ours are not there.
pub fn other_behind(index: u32, ours: &[u32]) -> io::Result<Option<u32>> {
    let programs = at(index, BPF_TCX_INGRESS as u32)?;
    let mut behind = programs.into_iter().skip_while(|id| !ours.contains(id));
    Ok(behind.find(|id| !ours.contains(id)))
}

/// The id of a program other than ours at the interface's ingress (TCX).
pub fn other_at_ingress(index: u32, ours: &[u32]) -> io::Result<Option<u32>> {
    Ok(at(index, BPF_TCX_INGRESS as u32)?.into_iter().find(|id| !ours.contains(id)))
}

/// Whether programs other than ours are at the interface's egress (TCX).
pub fn others_at_egress(index: u32, ours: &[u32]) -> io::Result<bool> {
    Ok(at(index, BPF_TCX_EGRESS as u32)?.iter().any(|id| !ours.contains(id)))
}

/// How many BPF programs are at netfilter's hooks, in all network namespaces.
/// None without CAP_SYS_ADMIN, which it takes to see them.
pub fn netfilter_links() -> Result<Option<usize>, LinkError> {
    let mut count = 0;
    for link in loaded_links() {
        match link.and_then(|link| link.link_type()) {
            Ok(LinkType::Netfilter) => count += 1,
            // Of a kind that came after netfilter's.
            Ok(_) | Err(LinkError::UnknownLinkType(_)) => {}
            // It has just gone.
            Err(LinkError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(LinkError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EPERM) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(count))
}
