//! Which flows there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};

use super::tcp::Connection;

/// A flow as a packet of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The transport protocol.
    pub protocol: u8,
    /// Where the packet comes from.
    pub source: SocketAddr,
    /// Where it goes to.
    pub destination: SocketAddr,
}

impl Key {
    /// That of the packets which go the other way.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }

    /// The same with the source's address and port.
    #[must_use]
    pub fn from(self, ip: IpAddr, port: u16) -> Self {
        Self { source: SocketAddr::new(ip, port), ..self }
    }
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its packets as the client sends them.
    pub sent: Key,
    /// The same as the endpoint gets them.
    pub received: Key,
    /// Its connection.
    pub tcp: Connection,
}

/// From which side a packet of a flow comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Its client.
    Client,
    /// Its endpoint.
    Endpoint,
}

impl Flow {
    /// Whether its endpoint is its client.
    #[must_use]
    pub fn hairpin(&self) -> bool {
        self.sent.source.ip() == self.received.destination.ip()
    }

    /// What a packet of it becomes.
    #[must_use]
    pub fn becomes(&self, from: From) -> Key {
        match from {
            From::Client => self.received,
            From::Endpoint => self.sent.reversed(),
        }
    }
}

/// All flows, found by the packets of either side.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    flows: HashMap<usize, Flow>,
    keys: HashMap<Key, (usize, From)>,
    /// By the client's packets: the flow that is to follow the one which has them.
    successors: HashMap<Key, usize>,
    next: usize,
}

impl Flows {
    /// The flow that such a packet is of; of a client's, the one that has proved to be its.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<(&Flow, From)> {
        let (id, from) = self.keys.get(key)?;
        Some((&self.flows[id], *from))
    }

    /// The connection of such a packet, to be changed.
    pub fn connection(&mut self, key: &Key) -> Option<&mut Connection> {
        let (id, _) = self.keys.get(key)?;
        Some(&mut self.flows.get_mut(id)?.tcp)
    }

    /// The flow that is to follow the one which has a client's packets.
    #[must_use]
    pub fn successor(&self, sent: &Key) -> Option<&Flow> {
        self.flows.get(self.successors.get(sent)?)
    }

    /// Another flow; if its client has one already, it is to follow that.
    pub fn insert(&mut self, flow: Flow) {
        let id = self.next;
        self.next += 1;
        match self.keys.entry(flow.sent) {
            Entry::Occupied(_) => {
                self.successors.insert(flow.sent, id);
            }
            Entry::Vacant(free) => {
                free.insert((id, From::Client));
            }
        }
        self.keys.insert(flow.received.reversed(), (id, From::Endpoint));
        self.flows.insert(id, flow);
    }

    /// One flow less; the one that is to follow it, if any, does.
    pub fn remove(&mut self, key: &Key) {
        if let Some(&(id, _)) = self.keys.get(key) {
            self.remove_by_id(id);
        }
    }

    /// No flow is to follow that of such packets any more.
    pub fn remove_successor(&mut self, sent: &Key) {
        if let Some(&id) = self.successors.get(sent) {
            self.remove_by_id(id);
        }
    }

    fn remove_by_id(&mut self, id: usize) {
        let Some(flow) = self.flows.remove(&id) else { return };
        self.keys.remove(&flow.received.reversed());
        match self.successors.remove(&flow.sent) {
            Some(next) if next != id => {
                self.keys.insert(flow.sent, (next, From::Client));
            }
            Some(_) => {}
            None => {
                self.keys.remove(&flow.sent);
            }
        }
    }
}
