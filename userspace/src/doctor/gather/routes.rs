//! Where the node would send packets.

use std::collections::HashMap;
use std::net::IpAddr;

use futures_util::StreamExt as _;
use rtnetlink::packet_route::route::{RouteAttribute, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::super::NextHop;
use super::interfaces::Link;

/// Asks the kernel, once for each address.
pub struct Routes {
    handle: Handle,
    names: HashMap<u32, String>,
    known: HashMap<IpAddr, NextHop>,
}

impl Routes {
    /// Of the namespace that `handle` is of.
    pub fn new(handle: Handle, links: &[Link]) -> Self {
        let names = links.iter().map(|link| (link.index, link.name.clone())).collect();
        Self { handle, names, known: HashMap::new() }
    }

    /// Where a packet to that address would go.
    pub async fn to(&mut self, address: IpAddr) -> NextHop {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let route = self.ask(address).await;
        self.known.insert(address, route.clone());
        route
    }

    async fn ask(&self, address: IpAddr) -> NextHop {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, bits);
        let Ok(builder) = builder else { return NextHop::Unknown };
        let answer = self.handle.route().get(builder.build()).execute();
        match std::pin::pin!(answer).next().await {
            Some(Ok(message)) => match message.header.kind {
                RouteType::Local => NextHop::Local,
                RouteType::Unreachable | RouteType::Prohibit | RouteType::BlackHole => {
                    NextHop::None(format!("{:?}", message.header.kind).to_lowercase())
                }
                _ => self.via(&message.attributes),
            },
            Some(Err(rtnetlink::Error::NetlinkError(error))) => {
                NextHop::None(error.to_io().to_string())
            }
            _ => NextHop::Unknown,
        }
    }

    fn via(&self, attributes: &[RouteAttribute]) -> NextHop {
        let index = attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(index),
            _ => None,
        });
        let gateway = attributes
            .iter()
            .any(|one| matches!(one, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
        index
            .and_then(|index| self.names.get(index))
            .map_or(NextHop::Unknown, |name| NextHop::Via { interface: name.clone(), gateway })
    }
}
