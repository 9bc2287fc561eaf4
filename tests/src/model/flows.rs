//! Which flows there are.

use std::collections::HashMap;
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
    next: usize,
}

impl Flows {
    /// The flow that such a packet is of.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<(&Flow, From)> {
        let (id, from) = self.keys.get(key)?;
        Some((&self.flows[id], *from))
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, key: &Key) -> Option<(&mut Flow, From)> {
        let (id, from) = self.keys.get(key)?;
        Some((self.flows.get_mut(id)?, *from))
    }

    /// Another flow.
    pub fn insert(&mut self, flow: Flow) {
        let id = self.next;
        self.next += 1;
        self.keys.insert(flow.sent, (id, From::Client));
        self.keys.insert(flow.received.reversed(), (id, From::Endpoint));
        self.flows.insert(id, flow);
    }

    /// One flow less.
    pub fn remove(&mut self, key: &Key) {
        let Some((id, _)) = self.keys.get(key) else { return };
        if let Some(flow) = self.flows.remove(id) {
            self.keys.remove(&flow.sent);
            self.keys.remove(&flow.received.reversed());
        }
    }
}
