//! What the agent may do to its node, once it has started: no more than it
//! needs to go on.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};

use crate::config::FastPath;
use crate::fast_path::Survey;

/// Why privileges cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Of capabilities.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// Of what may be gained.
    #[error("cannot give up to gain privileges: {0}")]
    Gains(#[from] nix::Error),
}

/// The capabilities that an agent needs which has started.
///
/// - CAP_BPF: to use the programs and maps that are loaded (before Linux 6.x,
///   any use takes it where unprivileged users may not use bpf);
/// - CAP_NET_ADMIN: to attach the programs to interfaces that come, and to ask
///   what is at TCX hooks and in netfilter;
/// - CAP_SYS_ADMIN only if the way past the stack depends on programs at
///   netfilter's hooks, and the kernel lists these in no other way.
///
/// Not CAP_PERFMON, which loading takes; nor any to get at files of others.
pub fn needed(fast_path: FastPath, hooks_are_listed: bool) -> CapsHashSet {
    let mut needed = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
    if fast_path == FastPath::Auto && !hooks_are_listed {
        needed.insert(Capability::CAP_SYS_ADMIN);
    }
    needed
}

/// Whether the kernel lists what is at netfilter's hooks. If it cannot be asked,
/// no capability helps.
pub fn hooks_are_listed() -> bool {
    let listed = Survey::new().and_then(|mut survey| {
        survey.look()?;
        Ok(survey.knows_all_hooks())
    });
    listed.unwrap_or(true)
}

/// Gives up all capabilities of this thread but these, and to gain any again.
/// Threads that it starts from now on have no more; so this comes before any
/// other is started. What is left.
pub fn keep_only(needed: &CapsHashSet) -> Result<HeldCapabilities, PrivilegeError> {
    let has = caps::read(None, CapSet::Permitted)?;
    let held: CapsHashSet = has.intersection(needed).copied().collect();
    // The bounding set takes CAP_SETPCAP to change. Who has been given few capabilities, as by
    // systemd, has a bounding set of no more.
    if has.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&held) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &held)?;
    caps::set(None, CapSet::Permitted, &held)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(HeldCapabilities(held))
}

/// The capabilities that are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCapabilities(CapsHashSet);

impl fmt::Display for HeldCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        names.sort();
        f.write_str(&if names.is_empty() { "none".to_owned() } else { names.join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_links_is_kept_only_where_it_is_used() {
        let names = |fast_path, listed| HeldCapabilities(needed(fast_path, listed)).to_string();
        for (fast_path, listed, more) in [
            (FastPath::Auto, true, ""),
            (FastPath::Auto, false, " CAP_SYS_ADMIN"),
            (FastPath::On, false, ""),
            (FastPath::Off, false, ""),
        ] {
            let expected = format!("CAP_BPF CAP_NET_ADMIN{more}");
            assert_eq!(names(fast_path, listed), expected, "{fast_path:?} {listed}");
        }
    }
}
