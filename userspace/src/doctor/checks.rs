//! The checks: pure functions of facts.

mod outcome;
mod ways;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::access::Need;
use crate::api::types::TroubleView;
use crate::config::DEFAULT_FILE;
use crate::model::counted;

use super::{Agent, Facts, Finding, Interface, Level, Neighbour, NextHop, Offloads, Report};

/// A flow table or map that is fuller than that is a problem.
const FULL: f64 = 0.8;
/// The oldest kernel that has all that weir cannot do without.
const OLDEST: (u32, u32) = (5, 10);
/// From here on, TC programs are links.
const TCX: (u32, u32) = (6, 6);
/// How many of many are named.
const NAMED: usize = 3;

/// What one check found.
#[derive(Default)]
struct Found {
    /// What is so if nothing is wrong.
    fine: String,
    list: Vec<(Level, String, String)>,
}

impl Found {
    fn fine(text: impl Into<String>) -> Self {
        Self { fine: text.into(), list: Vec::new() }
    }

    fn problem(&mut self, text: impl Into<String>, advice: impl Into<String>) {
        self.list.push((Level::Problem, text.into(), advice.into()));
    }

    fn note(&mut self, text: impl Into<String>, advice: impl Into<String>) {
        self.list.push((Level::Note, text.into(), advice.into()));
    }
}

type Check = fn(&Facts) -> Found;

/// All checks, by name.
const ALL: [(&str, Check); 25] = [
    ("config", config),
    ("access", access),
    ("agent", agent),
    ("resources", resources),
    ("cluster", cluster),
    ("kernel", kernel),
    ("jit", jit),
    ("bpffs", bpffs),
    ("interfaces", interfaces),
    ("programs", programs),
    ("forwarding", forwarding),
    ("rp_filter", rp_filter),
    ("offloads", offloads),
    ("routes", routes),
    ("loops", ways::loops),
    ("detours", ways::detours),
    ("own_clients", ways::own_clients),
    ("service_addresses", outcome::service_addresses),
    ("endpoints", outcome::endpoints),
    ("neighbours", outcome::neighbours),
    ("handshakes", outcome::handshakes),
    ("replies", outcome::replies),
    ("versions", outcome::versions),
    ("elsewhere", outcome::elsewhere),
    ("tables", tables),
];

/// The names of all checks.
pub const CHECKS: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < ALL.len() {
        names[at] = ALL[at].0;
        at += 1;
    }
    names
};

/// Runs all checks but those that are ignored.
pub fn examine(facts: &Facts, ignored: &[String]) -> Report {
    let mut findings = Vec::new();
    if let Some((text, advice)) = unfit(facts) {
        let (level, advice) = (Level::Problem, Some(advice));
        return Report {
            problems: 1,
            findings: vec![Finding { check: "agent", level, text, advice }],
        };
    }
    for (check, run) in ALL.into_iter().filter(|(name, _)| ignored.iter().all(|i| i != name)) {
        let Found { fine, list } = run(facts);
        if list.is_empty() {
            findings.push(Finding { check, level: Level::Ok, text: fine, advice: None });
        }
        findings.extend(list.into_iter().map(|(level, text, advice)| Finding {
            check,
            level,
            text,
            advice: Some(advice),
        }));
    }
    let problems = findings.iter().filter(|one| one.level == Level::Problem).count();
    Report { problems, findings }
}

/// Why what was found says nothing about the agent's node, and what to do; None if it does.
fn unfit(facts: &Facts) -> Option<(String, String)> {
    let status = match &facts.agent {
        Agent::Runs(status) => status,
        Agent::Silent(_) => return None,
        Agent::Denied(why) => {
            let advice = "ask as root (sudo weir doctor), or become a member of such a group";
            return Some((why.clone(), advice.to_owned()));
        }
    };
    let (own, agents) = (facts.network_namespace, status.network_namespace);
    if own != 0 && agents != 0 && own != agents {
        let text = "the agent is in another network namespace than this command: nothing here says how its node is";
        let advice = "run it where the agent runs, such as by `ip netns exec NAME weir doctor`, or `nsenter --net -t PID weir doctor` with the agent's PID";
        return Some((text.to_owned(), advice.to_owned()));
    }
    let (file, agents) = (facts.file.as_deref()?, status.config.as_str());
    if agents.is_empty() || file == agents {
        return None;
    }
    let wrong = facts.config.as_ref().err().map(|error| format!(" (which is wrong: {error})"));
    let text = format!(
        "the agent runs with {agents}, and this looks at {file}{}: it says nothing about that agent",
        wrong.unwrap_or_default()
    );
    Some((text, format!("weir doctor --config {agents}")))
}

/// Some of many, by name.
fn some<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.into_iter().collect();
    let named = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn config(facts: &Facts) -> Found {
    let mut found = Found::fine("the agent's configuration is valid");
    if facts.config.is_ok() && facts.file.is_none() {
        found.note(
            format!("there is no {DEFAULT_FILE}: what follows goes by the defaults"),
            "write one, or name another: `weir doctor --config FILE`",
        );
    }
    if let Err(error) = &facts.config {
        let advice = "mend the file; `weir doctor --config FILE` looks at another one";
        found.problem(error, advice);
    }
    found
}

fn access(facts: &Facts) -> Found {
    let Some(access) = &facts.access else {
        return Found::fine("not known without a configuration");
    };
    let [look, change] = [Need::Look, Need::Change].map(|need| access.who(need));
    let mut found = Found::fine(if look == change {
        format!("{change} may use the API")
    } else {
        format!("{change} may change things, {look} may look")
    });
    if facts.access_in_force == Some(false) {
        found.problem(
            "the permissions of the API's socket are not those that `access` in agent.yaml says",
            "restart the agent: it sets them when it starts",
        );
    }
    found
}

fn agent(facts: &Facts) -> Found {
    match &facts.agent {
        Agent::Runs(status) => {
            let mut found =
                Found::fine(format!("weir {} runs since {}", status.version, status.started));
            for TroubleView { what, error, since } in &status.troubles {
                let text = format!("{what} fails since {since}: {error}");
                found.problem(text, "mend what it says; the agent goes on trying");
            }
            if let Some(error) = &status.takeover.error {
                found.note(
                    format!("connections that others translated before are not known: {error}"),
                    "let the agent ask connection tracking (CAP_NET_ADMIN, nf_conntrack_netlink): \
                     else taking over a service that others served so far cuts its connections",
                );
            }
            found
        }
        Agent::Silent(error) | Agent::Denied(error) => {
            let mut found = Found::default();
            found.problem(
                error,
                "start it (systemctl start weir, or weir agent --config FILE); what it left in \
                 the kernel goes on steering meanwhile, but nothing follows changes",
            );
            found
        }
    }
}

fn resources(facts: &Facts) -> Found {
    let count = counted(facts.splits.len(), "split");
    let are = if facts.splits.len() == 1 { "is" } else { "are" };
    let mut found = Found::fine(format!("{count} {are} in force"));
    let Some(status) = facts.agent.status() else {
        found.fine = format!("{count} {are} in the files");
        return found;
    };
    let wrong = status.last_error.iter().chain(&status.rejected);
    let advice = "mend it there; what was in force before stays so (weir validate FILE)";
    wrong.for_each(|line| found.problem(line, advice));
    found
}

fn cluster(facts: &Facts) -> Found {
    let Some(view) = facts.agent.status().and_then(|status| status.kubernetes.as_ref()) else {
        return Found::fine("the agent follows no cluster");
    };
    let server = view.server.as_deref().unwrap_or("the cluster");
    let objects: u64 = view.kinds.values().map(|kind| kind.objects).sum();
    let mut found = Found::fine(format!("{server} is followed: {objects} objects"));
    for error in &view.errors {
        let advice = match error.contains("forbidden") {
            true => {
                "let the agent's service account do that (a ClusterRole with get, list and watch); what is known goes on meanwhile"
            }
            false => {
                "look at the API server and the way to it; what is known goes on meanwhile, and it is tried again"
            }
        };
        found.problem(error, advice);
    }
    for line in &view.rejected {
        found.note(line, "whoever wrote the object has to mend it; it has no effect");
    }
    found
}

/// Major and minor version.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(facts: &Facts) -> Found {
    let mut found = Found::fine(format!("Linux {}", facts.release));
    match version(&facts.release) {
        Some(version) if version < OLDEST => found.problem(
            format!("Linux {} is older than {}.{}", facts.release, OLDEST.0, OLDEST.1),
            "install a newer kernel: the programs cannot be loaded into this one",
        ),
        Some(version) if version < TCX => found.note(
            format!("Linux {} has no TCX: TC programs are clsact filters", facts.release),
            format!("nothing, if this works; {}.{} replaces programs in place", TCX.0, TCX.1),
        ),
        Some(_) => {}
        None => found.note(format!("\"{}\" is no release of Linux", facts.release), "look at it"),
    }
    let features = facts.agent.status().map(|status| status.features.as_slice());
    let shortcut = facts.agent.status().is_some_and(|status| status.fast_path.used);
    // JIT is a check of its own; without the others there is a way, unless that is the stack's
    // and not taken.
    let wanted = |name: &str| match name {
        "jit" | "tcx" | "xdp-frags" => false,
        "route-mtu" => shortcut,
        _ => true,
    };
    for feature in features.unwrap_or_default().iter().filter(|f| !f.found && wanted(&f.name)) {
        let text = format!("the kernel has no {}: {}", feature.name, feature.note);
        let advice = if feature.name == "route-mtu" {
            "fastPath: auto or off, or a kernel that has it"
        } else {
            "install a kernel that has it"
        };
        found.problem(text, advice);
    }
    found
}

fn jit(facts: &Facts) -> Found {
    let features = facts.agent.status().map(|status| status.features.as_slice());
    let seen = features.unwrap_or_default().iter().find(|feature| feature.name == "jit");
    let on = seen.map(|feature| feature.found).or(facts.jit.map(|value| value != 0));
    let mut found = Found::fine("programs run as machine code");
    match on {
        Some(true) => {}
        Some(false) => found.problem(
            "programs are interpreted: net.core.bpf_jit_enable is 0",
            "sysctl -w net.core.bpf_jit_enable=1, then restart the agent",
        ),
        None => found.note(
            "whether programs are compiled cannot be told from here without an agent",
            "start the agent",
        ),
    }
    found
}

fn bpffs(facts: &Facts) -> Found {
    let (path, mounted) = &facts.bpffs;
    let mut found = Found::fine(format!("{path} is on a bpffs"));
    if !mounted {
        found.problem(
            format!("{path} is not on a bpffs: programs and maps cannot outlive the agent"),
            "the agent mounts it when it starts and may; else mount -t bpf bpf /sys/fs/bpf",
        );
    }
    found
}

fn interfaces(facts: &Facts) -> Found {
    let names = some(facts.interfaces.iter().map(|interface| interface.name.as_str()));
    let mut found = Found::fine(format!("client-facing: {names}"));
    if facts.interfaces.is_empty() {
        found.problem(
            "no interface matches the configuration: nothing is steered",
            "compare `interfaces` in agent.yaml with `ip link`",
        );
    }
    for (pattern, is_name) in facts.unmatched.iter().filter(|_| !facts.interfaces.is_empty()) {
        let text = format!("`match: {pattern}` in agent.yaml matches no interface");
        let advice = "compare it with `ip link`; an interface that comes later is attached then";
        // One that is named is missed, a pattern may wait.
        if *is_name { found.problem(text, advice) } else { found.note(text, advice) }
    }
    let views = facts.agent.status().map(|status| status.interfaces.as_slice());
    for view in views.unwrap_or_default() {
        if let Some(error) = &view.error {
            let text = format!("{}: the programs are not attached: {error}", view.name);
            found.problem(text, "the agent tries again every 5 seconds; mend what it says");
        }
        if let (Some(at), times) = (&view.last_detached, view.detached) {
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            found.problem(
                format!("{}: somebody else detached the programs {times}, last {at}", view.name),
                "the agent attached them again, but connections are not steered meanwhile: find \
                 who uses `bpftool link detach`, `tc filter del` or removes pins",
            );
        }
    }
    found
}

fn programs(facts: &Facts) -> Found {
    if facts.config.is_err() {
        // It says where the pins are, by which weir's own are known.
        return Found::fine("not known without a configuration");
    }
    let mut found = Found::fine("no others on these interfaces");
    for interface in &facts.interfaces {
        for other in &interface.others {
            let (name, hook) = (&interface.name, other.hook);
            found.problem(
                format!("{name}: another program is at {hook}: {}", other.name),
                "what it drops, redirects or rewrites before weir is not steered: see to it that \
                 it lets packets of services pass, and then use --ignore programs",
            );
        }
    }
    found
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn forwarding(facts: &Facts) -> Found {
    let mut found = Found::fine("the node forwards what has to be forwarded");
    let endpoints = || facts.splits.iter().flat_map(|split| &split.endpoints);
    let leaves = |v4: bool| {
        endpoints().any(|one| one.address.is_ipv4() == v4 && one.route != NextHop::Local)
    };
    for (v4, on, key) in [
        (true, facts.forward_v4, "net.ipv4.ip_forward"),
        (false, facts.forward_v6, "net.ipv6.conf.all.forwarding"),
    ] {
        let family = if v4 { "IPv4" } else { "IPv6" };
        if leaves(v4) && on == Some(false) {
            found.problem(
                format!("{key} is 0: the node drops what goes to {family} endpoints elsewhere"),
                format!("sysctl -w {key}=1, and put it into /etc/sysctl.d"),
            );
        }
    }
    let off = |interface: &&Interface| interface.forwards == Some(false);
    if leaves(true) && facts.forward_v4 == Some(true) {
        for Interface { name, .. } in facts.interfaces.iter().filter(off) {
            let key = format!("net.ipv4.conf.{name}.forwarding");
            let text = format!("{key} is 0: what comes in at {name} is not forwarded");
            found.problem(text, format!("sysctl -w {key}=1"));
        }
    }
    found
}

fn rp_filter(facts: &Facts) -> Found {
    let mut found = Found::fine("reverse paths are not filtered strictly");
    for interface in facts.interfaces.iter().filter(|one| one.rp_filter == Some(1)) {
        let name = &interface.name;
        found.problem(
            format!(
                "{name}: reverse paths are filtered strictly: what comes from a client whose \
                 answers leave by another interface is dropped, and so are requests of an \
                 endpoint to its own service"
            ),
            format!(
                "sysctl -w net.ipv4.conf.{name}.rp_filter=2 (loose); if that of `all` is 1, set \
                 it to 0 or 2"
            ),
        );
    }
    found
}

fn offloads(facts: &Facts) -> Found {
    let mut found = Found::fine("nothing that is known to slow down bulk traffic");
    let shortcut = facts.agent.status().is_some_and(|status| status.fast_path.used);
    for interface in &facts.interfaces {
        let name = &interface.name;
        if interface.xdp && interface.kind.as_deref() == Some("veth") {
            found.note(
                format!("{name}: XDP on a veth turns off its peer's TSO: bulk TCP is slow"),
                "forward: tc for this interface",
            );
        }
        let Some(Offloads { gro, tso, checksums, vlans }) = interface.offloads else { continue };
        if interface.xdp && interface.kind.is_none() && vlans && shortcut {
            found.note(
                format!(
                    "{name}: steered packets go through the stack, though the fast path is used: \
                     the device takes VLAN tags off, which XDP does not see"
                ),
                format!("ethtool -K {name} rxvlan off"),
            );
        }
        // What comes from the other end of a veth was never cut.
        let gro = gro || interface.kind.as_deref() == Some("veth");
        let off = [("gro", gro), ("tso", tso), ("tx", checksums)];
        let off: Vec<&str> = off.iter().filter(|(_, on)| !on).map(|&(name, _)| name).collect();
        if !off.is_empty() {
            found.note(
                format!("{name}: off are {}: bulk traffic costs more than it need", off.join(", ")),
                format!("ethtool -K {name} {} on, if the device can", off.join(" on ")),
            );
        }
    }
    found
}

fn routes(facts: &Facts) -> Found {
    let mut found = Found::fine("there is a way to each endpoint");
    let mut lost = BTreeSet::new();
    for split in &facts.splits {
        for endpoint in &split.endpoints {
            if let NextHop::None(why) = &endpoint.route
                && lost.insert(endpoint.address.ip())
            {
                let (address, split, subset) = (endpoint.address, &split.name, &endpoint.subset);
                let ip = address.ip();
                found.problem(
                    format!("no route to endpoint {address} ({split}, {subset}): {why}"),
                    format!("ip route add {ip} via GATEWAY dev INTERFACE"),
                );
            }
        }
    }
    let unrouted = facts.splits.iter().filter(|split| matches!(split.route, NextHop::None(_)));
    let unrouted: BTreeSet<IpAddr> = unrouted.map(|split| split.address).collect();
    for version in ["IPv4", "IPv6"] {
        let of: Vec<String> = unrouted
            .iter()
            .filter(|&&address| family(address) == version)
            .map(ToString::to_string)
            .collect();
        if !of.is_empty() {
            found.note(
                format!("no route to service address {}", some(of.iter().map(String::as_str))),
                "nothing, if clients are routed to this node; packets that are not steered, such \
                 as pings, are answered with \"unreachable\"",
            );
        }
    }
    found
}

fn tables(facts: &Facts) -> Found {
    let Some(status) = facts.agent.status() else {
        return Found::fine("not known without an agent");
    };
    let mut found = Found::fine("none is nearly full");
    let percent = |used: u64, limit: u64| used as f64 / limit as f64 * 100.0;
    let full = |used: u64, limit: u64| used as f64 > limit as f64 * FULL;
    for table in &status.flow_tables {
        let (open, pushing) = (table.open_flows.unwrap_or_default(), table.full_since.is_some());
        if !pushing && !full(open, table.limit) {
            continue;
        }
        let advice = if table.table == "pending" {
            "many handshakes are under way, as in a flood; flows that live are safe"
        } else {
            "raise flows.max (the agent then needs --replace), or lower flows.tcpIdle and udpIdle: \
             when it is full, the flows that were silent for longest are forgotten"
        };
        let (family, name) = (&table.family, &table.table);
        let problem = match &table.full_since {
            Some(since) => format!("the {family} table of {name} flows is full since {since}"),
            None => {
                let percent = percent(open, table.limit);
                format!("the {family} table of {name} flows is {percent:.0} % full")
            }
        };
        found.problem(problem, advice);
    }
    for map in status.maps.iter().filter(|map| full(map.used, map.limit)) {
        found.problem(
            format!("{} of {} {} are taken", map.used, map.limit, map.kind),
            "raise `limits` in agent.yaml (the agent then needs --replace)",
        );
    }
    found
}
