//! What is on the node.

use std::io;
use std::path::Path;

use super::{Firewall, Obstacle, nfnetlink};
use crate::netlink::{Netlink, attribute, number};
use crate::nftables::{self, Family};

/// Looks for obstacles in a network namespace.
pub struct Survey {
    /// None where the kernel does not have it, or has not loaded it: nobody uses nftables then.
    netfilter: Option<Netlink>,
    /// None where the kernel has no IPsec.
    ipsec: Option<Netlink>,
    /// The kernel lists what is at its hooks.
    listed: bool,
    /// Chains that have hooks, and of which generation: there may be thousands that have none.
    chains: Option<(u32, Vec<Obstacle>)>,
}

impl Survey {
    /// Of the network namespace of the calling thread, which is the one that
    /// has to look.
    pub fn new() -> io::Result<Self> {
        let netfilter = netfilter()?;
        let ipsec = Netlink::open(libc::NETLINK_XFRM).ok();
        Ok(Self { netfilter, ipsec, listed: false, chains: None })
    }

    /// Whether the last look saw whatever is at the hooks of IPv4 and IPv6, BPF
    /// programs included.
    pub fn knows_all_hooks(&self) -> bool {
        self.listed
    }

    /// How many changes of nftables there have been; None where nobody uses it.
    pub fn generation(&mut self) -> io::Result<Option<u32>> {
        self.netfilter.as_mut().map(nftables::generation).transpose().or_else(missing)
    }

    /// nftables' rules.
    pub fn firewall(&mut self) -> io::Result<Firewall> {
        let read = self.netfilter.as_mut().map(Firewall::read).transpose().or_else(missing)?;
        Ok(read.unwrap_or_else(Firewall::none))
    }

    /// The chains of nftables that have hooks.
    fn chains(&mut self) -> io::Result<Vec<Obstacle>> {
        let generation = self.generation()?;
        let (Some(generation), Some(netfilter)) = (generation, &mut self.netfilter) else {
            return Ok(Vec::new());
        };
        if self.chains.as_ref().is_none_or(|(known, _)| *known != generation) {
            // Should it change meanwhile, it is another one when it is looked next.
            self.chains = Some((generation, nfnetlink::chains(netfilter)?));
        }
        Ok(self.chains.iter().flat_map(|(_, chains)| chains.clone()).collect())
    }

    /// Everything that there is, whether it bars or not; apart from BPF programs, and from what
    /// nftables' rules say.
    pub fn look(&mut self) -> io::Result<Vec<Obstacle>> {
        // Not simply tried again: each time, the kernel would run modprobe.
        if self.netfilter.is_none() && Path::new("/sys/module/nfnetlink").exists() {
            self.netfilter = netfilter()?;
        }
        let mut found = Vec::new();
        self.listed = false;
        if let Some(netfilter) = &mut self.netfilter {
            let hooks = nfnetlink::hooks(netfilter)?;
            self.listed = hooks.is_some();
            found.extend(hooks.unwrap_or_default());
        }
        // Those of devices are not in the list of hooks.
        found.extend(self.chains()?);
        // What translates is not in the list of hooks by itself; where there is no list, those who
        // use hooks have to be asked in any case, one by one.
        found.extend(legacy_tables(Family::IPV4, "/proc/self/net/ip_tables_names")?);
        found.extend(legacy_tables(Family::IPV6, "/proc/self/net/ip6_tables_names")?);
        if !self.listed {
            found.extend(ipvs("/proc/self/net/ip_vs")?);
        }
        if let Some(ipsec) = &mut self.ipsec {
            found.push(Obstacle::IpsecPolicies(policies(ipsec)?));
        }
        Ok(found)
    }
}

/// None if the kernel does not have nftables at all.
fn missing<T>(error: io::Error) -> io::Result<Option<T>> {
    if nfnetlink::is_missing(&error) { Ok(None) } else { Err(error) }
}

fn netfilter() -> io::Result<Option<Netlink>> {
    match Netlink::open(libc::NETLINK_NETFILTER) {
        Ok(netlink) => Ok(Some(netlink)),
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file's text; None if what it is about is not in the kernel.
fn optional(path: &str) -> io::Result<Option<String>> {
    // That of the thread's namespace, which need not be the process's.
    let path = path.replacen("self", "thread-self", 1);
    match std::fs::read_to_string(Path::new(&path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn legacy_tables(family: Family, path: &str) -> io::Result<Vec<Obstacle>> {
    let text = optional(path)?.unwrap_or_default();
    let table = |name: &str| Obstacle::LegacyTable { family, name: name.to_owned() };
    Ok(text.lines().map(table).collect())
}

/// The file has three lines of titles.
fn ipvs(path: &str) -> io::Result<Option<Obstacle>> {
    let services = optional(path)?.is_some_and(|text| text.lines().count() > 3);
    Ok(services.then_some(Obstacle::Ipvs))
}

/// Policies, those of sockets included.
fn policies(netlink: &mut Netlink) -> io::Result<u32> {
    const XFRM_MSG_GETSPDINFO: u16 = 0x25;
    const XFRMA_SPD_INFO: u16 = 1;
    let answer = netlink.ask(XFRM_MSG_GETSPDINFO, &[0; 4])?;
    let info = attribute(answer.get(4..).unwrap_or_default(), XFRMA_SPD_INFO);
    let info = info.ok_or_else(|| io::Error::other("no number of IPsec policies"))?;
    // In, out, forward; the same of sockets.
    let counts = info.chunks_exact(4).take(6).filter_map(number);
    Ok(counts.map(i32::unsigned_abs).sum())
}
