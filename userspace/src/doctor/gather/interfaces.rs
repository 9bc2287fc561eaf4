//! The client-facing interfaces, and what is on them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp};
use rtnetlink::packet_route::tc::TcAttribute;

use super::super::{Filter, Interface};
use super::{offloads, sysctl};
use crate::api::types::StatusView;
use crate::config::{AgentConfig, Forward};
use crate::datapath::{CLSACT_PRIORITY, Others, Pins};

/// An interface of the node.
#[derive(Debug, Clone)]
pub struct Link {
    pub index: u32,
    pub name: String,
    kind: Option<String>,
    ethernet: bool,
    /// The ids of its XDP programs.
    xdp: BTreeSet<u32>,
}

/// All interfaces.
pub async fn links(handle: &Handle) -> io::Result<Vec<Link>> {
    let messages: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(io::Error::other)?;
    Ok(messages.into_iter().filter_map(link).collect())
}

fn link(message: LinkMessage) -> Option<Link> {
    let (mut name, mut kind, mut xdp) = (None, None, BTreeSet::new());
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(found) => {
                xdp.extend(found.into_iter().filter_map(|one| match one {
                    LinkXdp::ProgId(id)
                    | LinkXdp::DrvProgId(id)
                    | LinkXdp::SkbProgId(id)
                    | LinkXdp::HwProgId(id) => Some(id),
                    _ => None,
                }))
            }
            _ => {}
        }
    }
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    Some(Link { index: message.header.index, name: name?, kind, ethernet, xdp })
}

/// Those that the agent has, or without it those that its configuration
/// matches; and whether their forward direction is at XDP.
pub fn wanted<'a>(
    links: &'a [Link],
    config: Option<&AgentConfig>,
    status: Option<&StatusView>,
) -> Vec<(&'a Link, bool)> {
    let xdp = |link: &Link| match (status, config) {
        (Some(status), _) => {
            let mut carriers = status.interfaces.iter().filter(|view| view.passed_over.is_none());
            let found = carriers.find(|view| view.index == link.index);
            found.map(|view| view.hook == "xdp")
        }
        (None, Some(_)) if !link.ethernet => None,
        (None, Some(config)) => config.forward_for(&link.name).map(|f| f == Forward::Xdp),
        (None, None) => None,
    };
    links.iter().filter_map(|link| Some((link, xdp(link)?))).collect()
}

/// What is to be known of an interface.
pub async fn facts(handle: &Handle, link: &Link, xdp: bool, pins: &Path) -> Interface {
    let name = &link.name;
    let own = |key: &str| sysctl(&format!("ipv4/conf/{name}/{key}"));
    let all: Option<u32> = sysctl("ipv4/conf/all/rp_filter");
    Interface {
        name: name.clone(),
        kind: link.kind.clone(),
        xdp,
        rp_filter: own("rp_filter").max(all),
        proxy_arp: proxy_arp(name),
        forwards: own("forwarding").map(|value: u32| value != 0),
        others: others(handle, link, &Others::than(&Pins::of(pins))).await,
        offloads: offloads::of(name).ok(),
    }
}

/// Whether the node answers ARP requests at an interface for addresses that are elsewhere, or even
/// on that link.
fn proxy_arp(name: &str) -> Option<bool> {
    let on = |key: &str| sysctl::<u32>(&format!("ipv4/conf/{name}/{key}")).map(|value| value != 0);
    // That of all counts, too.
    let all = sysctl::<u32>("ipv4/conf/all/proxy_arp").is_some_and(|value| value != 0);
    Some(all || on("proxy_arp")? || on("proxy_arp_pvlan")?)
}

async fn others(handle: &Handle, link: &Link, others: &Others) -> Vec<Filter> {
    let at = |hook, names: Vec<String>| names.into_iter().map(move |name| Filter { hook, name });
    let xdp = link.xdp.iter().filter_map(|&id| others.program(id)).collect();
    let [ingress, egress] = others.at_tc(&link.name);
    let mut found: Vec<Filter> = at("XDP", xdp).collect();
    for (hook, tcx, out) in [("TC ingress", ingress, false), ("TC egress", egress, true)] {
        found.extend(at(hook, tcx));
        found.extend(at(hook, filters(handle, link.index, out).await));
    }
    found
}

/// The kinds of the filters of a clsact queueing discipline that are not weir's.
async fn filters(handle: &Handle, index: u32, egress: bool) -> Vec<String> {
    let request = handle.traffic_filter(index.cast_signed()).get();
    let request = if egress { request.egress() } else { request.ingress() };
    let mut messages = std::pin::pin!(request.execute());
    let mut kinds = BTreeSet::new();
    // Without such a discipline there is an error, and no filter.
    while let Some(Ok(message)) = messages.next().await {
        let priority = message.header.info >> 16;
        let kind = message.attributes.into_iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        });
        if priority != u32::from(CLSACT_PRIORITY) && priority != 0 {
            kinds.extend(kind.map(|kind| format!("a {kind} filter of priority {priority}")));
        }
    }
    kinds.into_iter().collect()
}
