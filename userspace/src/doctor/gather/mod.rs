//! Looks at the node.

mod interfaces;
mod offloads;
mod outcome;
mod routes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{Agent, Endpoint, Facts, NextHop, Split};
use crate::access::acl;
use crate::api::types::{SplitView, StatusView};
use crate::api::{Client, ClientError};
use crate::config::{AgentConfig, DEFAULT_FILE, OtherPorts};
use crate::datapath;
use crate::fast_path::{self, Devices};
use crate::files;

use interfaces::Link;

/// Where maps are pinned unless the configuration says otherwise.
const PINS: &str = "/sys/fs/bpf/weir";

/// The facts of the network namespace of the calling thread, of the agent that
/// `client` asks, and of its configuration.
///
/// # Errors
///
/// If there is no netlink.
pub async fn gather(client: &Client, config: &Path) -> anyhow::Result<Facts> {
    let agent = match client.status().await {
        Ok(status) => Agent::Runs(Box::new(status)),
        Err(error @ ClientError::Denied(_)) => Agent::Denied(error.to_string()),
        Err(error) => Agent::Silent(error.to_string()),
    };
    let is_missing = config == Path::new(DEFAULT_FILE) && !config.exists();
    // The agent's own, where nobody named another one.
    let of_agent = agent.status().map(|status| Path::new(&status.config));
    let of_agent = of_agent.filter(|file| is_missing && !file.as_os_str().is_empty());
    let is_missing = is_missing && of_agent.is_none();
    let named = of_agent.unwrap_or(config);
    let config = AgentConfig::load(named);
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let pins = config.as_ref().map_or(Path::new(PINS), |config| config.bpffs.as_path());
    let links = interfaces::links(&handle).await?;
    let wanted = interfaces::wanted(&links, config.as_ref().ok(), agent.status());
    let client_links = client_links(&links, &wanted);
    let mut interfaces = Vec::new();
    for (link, xdp) in wanted {
        interfaces.push(interfaces::facts(&handle, link, xdp, pins).await);
    }
    let mut splits = splits(client, config.as_ref().ok(), agent.status()).await;
    let mut routes = routes::Routes::new(handle.clone(), &links);
    for split in &mut splits {
        split.route = routes.to(split.address).await;
        for endpoint in &mut split.endpoints {
            endpoint.route = routes.to(endpoint.address.ip()).await;
        }
    }
    let stats = match agent.status() {
        Some(_) => outcome::stats(client).await,
        None => None,
    };
    let waiting = outcome::waiting(client, &mut routes).await;
    let release = nix::sys::utsname::uname();
    Ok(Facts {
        release: release.map(|r| r.release().to_string_lossy().into_owned()).unwrap_or_default(),
        bpffs: (pins.display().to_string(), is_bpffs(pins)),
        jit: sysctl("core/bpf_jit_enable"),
        forward_v4: sysctl("ipv4/ip_forward").map(|value: u32| value != 0),
        forward_v6: sysctl("ipv6/conf/all/forwarding").map(|value: u32| value != 0),
        answers: config.as_ref().ok().map(|config| config.other_ports == OtherPorts::Answer),
        access_in_force: config
            .as_ref()
            .ok()
            .and_then(|config| acl::allows_just(&config.socket, config.access.groups()).ok()),
        access: config.as_ref().ok().map(|config| config.access.clone()),
        file: match &config {
            Ok(config) => Some(config.file.display().to_string()),
            // A broken one is still another one than the agent's, or is not.
            Err(_) => (!is_missing).then(|| whole(named).display().to_string()),
        },
        network_namespace: datapath::own_network(),
        config: match config {
            Err(_) if is_missing => Ok(()),
            Err(ref problems) => {
                Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Ok(_) => Ok(()),
        },
        carriers: carriers(agent.status()),
        unmatched: unmatched(&links, config.as_ref().ok()),
        neighbours: outcome::neighbours(&handle).await,
        proxied: outcome::proxied(&handle).await,
        elsewhere: outcome::elsewhere(stats.as_ref()),
        drops: if waiting.is_empty() { Vec::new() } else { outcome::drops() },
        stats,
        waiting,
        interfaces,
        links: client_links,
        splits,
        agent,
    })
}

/// A path without symbolic links, where it leads anywhere.
fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The interfaces with programs.
fn carriers(status: Option<&StatusView>) -> BTreeSet<String> {
    let all = status.iter().flat_map(|status| &status.interfaces);
    all.filter(|view| !view.mode.is_empty()).map(|view| view.name.clone()).collect()
}

/// Entries of `interfaces` that match none.
fn unmatched(links: &[Link], config: Option<&AgentConfig>) -> Vec<(String, bool)> {
    let entries = config.iter().flat_map(|config| &config.interfaces);
    let lost = entries.filter(|entry| links.iter().all(|link| !entry.matches(&link.name)));
    lost.map(|entry| (entry.pattern().to_owned(), entry.is_name())).collect()
}

/// The links that clients share with other hosts; none if the kernel does not say.
fn client_links(links: &[Link], wanted: &[(&Link, bool)]) -> BTreeSet<String> {
    let devices = Devices::new().and_then(|mut devices| devices.links()).unwrap_or_default();
    let carriers = wanted.iter().map(|(link, _)| link.index).collect();
    let found = fast_path::client_links(&devices, &carriers);
    links.iter().filter(|link| found.contains(&link.index)).map(|link| link.name.clone()).collect()
}

/// A network sysctl of this namespace.
fn sysctl<T: FromStr>(key: &str) -> Option<T> {
    std::fs::read_to_string(format!("/proc/sys/net/{key}")).ok()?.trim().parse().ok()
}

/// Whether a directory, or the one in which it will be made, is on a bpffs.
fn is_bpffs(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists());
    let found = there.and_then(|path| statfs(path).ok());
    found.is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// The splits that the agent steers, or without it those of its files.
async fn splits(
    client: &Client,
    config: Option<&AgentConfig>,
    status: Option<&StatusView>,
) -> Vec<Split> {
    if status.is_some() {
        return client.splits().await.unwrap_or_default().into_iter().map(of_agent).collect();
    }
    let Some(config) = config else { return Vec::new() };
    let resolved = files::load_all(&config.resources);
    resolved.desired.splits().map(of_file).collect()
}

fn of_agent(view: SplitView) -> Split {
    let endpoints = view.subsets.iter().flat_map(|subset| {
        subset.endpoints.iter().map(|endpoint| (subset.name.clone(), endpoint.address))
    });
    Split { endpoints: endpoints.map(endpoint).collect(), ..bare(view.name, view.address) }
}

fn of_file(split: &crate::model::Split) -> Split {
    let endpoints = split.subsets().iter().flat_map(|subset| {
        subset.endpoints.iter().map(|&address| (subset.name.to_string(), address))
    });
    let bare = bare(split.name().to_string(), split.address().ip);
    Split { endpoints: endpoints.map(endpoint).collect(), ..bare }
}

fn bare(name: String, address: std::net::IpAddr) -> Split {
    Split { name, address, route: NextHop::Unknown, endpoints: Vec::new() }
}

fn endpoint((subset, address): (String, std::net::SocketAddr)) -> Endpoint {
    Endpoint { subset, address, route: NextHop::Unknown }
}
