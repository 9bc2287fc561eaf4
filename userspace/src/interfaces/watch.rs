//! Which interfaces there are, and which come and go (rtnetlink).

use std::collections::BTreeMap;
use std::io;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// What happened to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It exists: when the watch begins, when it is made, and again when it is renamed.
    Appeared {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// What made it, as `ip -d link` says: "veth", "bridge" ... None for a physical one.
        kind: Option<String>,
        /// Whether its frames begin with an Ethernet header.
        ethernet: bool,
    },
    /// It was deleted, or moved to another network namespace.
    Gone {
        /// The index that it had.
        index: u32,
    },
}

impl Event {
    /// The index of the interface.
    pub fn index(&self) -> u32 {
        match *self {
            Self::Appeared { index, .. } | Self::Gone { index } => index,
        }
    }
}

/// A watch on the interfaces of a network namespace: those that exist, then a
/// stream of [`Event`]s.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::UnboundedReceiver<io::Result<Event>>,
    listed: oneshot::Receiver<Vec<Event>>,
    /// Ends its tasks when dropped.
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Watches the network namespace of the calling thread. Call it on a tokio
    /// runtime.
    pub fn start() -> io::Result<Self> {
        // The subscription precedes the listing, so that nothing falls between them.
        let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Link])?;
        let (sender, events) = mpsc::unbounded_channel();
        let (first, listed) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        tasks.spawn(async move {
            let mut known = Known::default();
            let mut listed = list(&handle).await;
            let mut first = Some(first);
            loop {
                let events = match listed {
                    Ok(links) => known.replace(links),
                    Err(error) => return send_error(&sender, error),
                };
                match first.take() {
                    // If the receiver is gone, so is the task soon.
                    Some(first) => _ = first.send(events),
                    None => send(&sender, events),
                }
                // Until messages were lost, and the list is needed again.
                loop {
                    let Some((message, _)) = messages.next().await else {
                        let error = io::Error::other("the netlink socket was closed");
                        return send_error(&sender, error);
                    };
                    match message.payload {
                        NetlinkPayload::InnerMessage(message) => {
                            send(&sender, known.update(message));
                        }
                        NetlinkPayload::Overrun(_) => break,
                        _ => {}
                    }
                }
                listed = list(&handle).await;
            }
        });
        Ok(Self { events, listed, _tasks: tasks })
    }

    /// The interfaces that exist when the watch begins. Call it once, and first.
    pub async fn listed(&mut self) -> io::Result<Vec<Event>> {
        match (&mut self.listed).await {
            Ok(events) => Ok(events),
            Err(_) => match self.events.recv().await {
                Some(Err(error)) => Err(error),
                _ => Err(io::Error::other("the interfaces were listed before")),
            },
        }
    }

    /// The next event. After an error there are no more: None. Safe to cancel.
    pub async fn next(&mut self) -> Option<io::Result<Event>> {
        self.events.recv().await
    }
}

type Sender = mpsc::UnboundedSender<io::Result<Event>>;

/// If the receiver is gone, so is the task soon.
fn send(sender: &Sender, events: impl IntoIterator<Item = Event>) {
    for event in events {
        let _ = sender.send(Ok(event));
    }
}

fn send_error(sender: &Sender, error: io::Error) {
    let _ = sender.send(Err(error));
}

/// All interfaces.
async fn list(handle: &Handle) -> io::Result<Vec<Link>> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(io::Error::other)?;
    Ok(links.into_iter().filter_map(Link::of).collect())
}

/// What [`Event::Appeared`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    index: u32,
    name: String,
    kind: Option<String>,
    ethernet: bool,
}

impl Link {
    /// None for messages about something else, such as a bridge's port.
    fn of(message: LinkMessage) -> Option<Self> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let (mut name, mut kind) = (None, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(found) => name = Some(found),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(found) = info {
                            kind = Some(found.to_string());
                        }
                    }
                }
                _ => {}
            }
        }
        let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        Some(Self { index: message.header.index, name: name?, kind, ethernet })
    }

    fn appeared(self) -> Event {
        let Self { index, name, kind, ethernet } = self;
        Event::Appeared { index, name, kind, ethernet }
    }
}

/// The interfaces that were told of: the kernel repeats itself with each change of a flag.
#[derive(Debug, Default)]
struct Known(BTreeMap<u32, Link>);

impl Known {
    /// What follows from a list of all interfaces.
    fn replace(&mut self, links: Vec<Link>) -> Vec<Event> {
        let mut events: Vec<Event> = self
            .0
            .keys()
            .filter(|&&index| links.iter().all(|link| link.index != index))
            .map(|&index| Event::Gone { index })
            .collect();
        self.0.retain(|index, _| links.iter().any(|link| link.index == *index));
        events.extend(links.into_iter().filter_map(|link| self.insert(link)));
        events
    }

    /// What follows from a message.
    fn update(&mut self, message: RouteNetlinkMessage) -> Option<Event> {
        match message {
            RouteNetlinkMessage::NewLink(message) => self.insert(Link::of(message)?),
            RouteNetlinkMessage::DelLink(message) => {
                // The kernel reports a port that leaves its bridge as a deleted link of that family.
                let index = Link::of(message)?.index;
                self.0.remove(&index).map(|_| Event::Gone { index })
            }
            _ => None,
        }
    }

    fn insert(&mut self, link: Link) -> Option<Event> {
        let before = self.0.insert(link.index, link.clone());
        (before.as_ref() != Some(&link)).then(|| link.appeared())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u32, name: &str) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let kind = rtnetlink::packet_route::link::InfoKind::Veth;
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        message
    }

    fn veth(index: u32, name: &str) -> Event {
        Event::Appeared { index, name: name.into(), kind: Some("veth".into()), ethernet: true }
    }

    fn links(messages: &[LinkMessage]) -> Vec<Link> {
        messages.iter().cloned().filter_map(Link::of).collect()
    }

    #[test]
    fn only_news_are_told() {
        use RouteNetlinkMessage::{DelLink, NewLink};
        let mut known = Known::default();
        let first = known.replace(links(&[message(1, "a"), message(2, "b")]));
        assert_eq!(first, [veth(1, "a"), veth(2, "b")]);
        assert_eq!(known.update(NewLink(message(1, "a"))), None, "a flag changed");
        assert_eq!(known.update(NewLink(message(1, "c"))), Some(veth(1, "c")), "renamed");

        let mut port = message(2, "b");
        port.header.interface_family = AddressFamily::Bridge;
        assert_eq!(known.update(NewLink(port.clone())), None, "joined a bridge");
        assert_eq!(known.update(DelLink(port)), None, "left the bridge");
        assert_eq!(known.update(DelLink(message(2, "b"))), Some(Event::Gone { index: 2 }));
        assert_eq!(known.update(DelLink(message(2, "b"))), None);

        let again = known.replace(links(&[message(3, "d")]));
        assert_eq!(again, [Event::Gone { index: 1 }, veth(3, "d")], "after lost messages");
    }

    #[tokio::test]
    async fn the_loopback_interface_is_seen() {
        let mut watch = Watch::start().unwrap();
        let events = watch.listed().await.unwrap();
        let lo = Event::Appeared { index: 1, name: "lo".into(), kind: None, ethernet: false };
        assert!(events.contains(&lo), "{events:?}");
    }
}
