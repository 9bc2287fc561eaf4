//! nftables' rules, and what they are to packets that weir steers.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use crate::netlink::Netlink;
use crate::nftables::{Class, Family, Judge, Objection, Ruleset, State, read};

/// How many steps all endpoints together may take to be judged: some tenths of a second.
const PATIENCE: usize = 5_000_000;

/// Where packets of a service may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The service's address.
    pub service: SocketAddr,
    /// An endpoint's.
    pub endpoint: SocketAddr,
    /// The IP protocol number.
    pub protocol: u8,
}

impl Target {
    /// What the stack would see of the flows to it, from anybody: a flow's first packets, what
    /// follows, and answers, as they come in and as they leave.
    fn classes(&self) -> [Class; 5] {
        let forward = |state| Class {
            family: if self.endpoint.is_ipv4() { Family::IPV4 } else { Family::IPV6 },
            protocol: self.protocol,
            source: None,
            source_port: None,
            destination: Some(self.endpoint.ip()),
            destination_port: Some(self.endpoint.port()),
            state,
            is_reply: false,
        };
        let reply = |from: SocketAddr| Class {
            source: Some(from.ip()),
            source_port: Some(from.port()),
            destination: None,
            destination_port: None,
            is_reply: true,
            ..forward(State::Established)
        };
        [
            forward(State::New),
            forward(State::Related),
            forward(State::Established),
            reply(self.endpoint),
            // Where no program sees it leave, it gets the service's address where it comes in.
            reply(self.service),
        ]
    }
}

/// Rules as they were at some moment, and the endpoints to which they do not matter.
#[derive(Debug)]
pub struct Firewall {
    generation: Option<u32>,
    ruleset: Ruleset,
    vouched: HashSet<Target>,
}

impl Firewall {
    /// Reads the rules of the socket's network namespace.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn read(netlink: &mut Netlink) -> io::Result<Self> {
        let (generation, ruleset) = read(netlink)?;
        Ok(Self { generation: Some(generation), ruleset, vouched: HashSet::new() })
    }

    /// Of a node where nobody uses nftables.
    pub fn none() -> Self {
        Self { generation: None, ruleset: Ruleset::default(), vouched: HashSet::new() }
    }

    /// Of which generation they are (see [`crate::nftables::generation`]); None where there are none.
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Names of flowtables, which see packets before any chain.
    pub fn flowtables(&self) -> &[String] {
        &self.ruleset.flowtables
    }

    /// What of the rules may matter to packets of these; None if nothing does. Targets that were
    /// judged before cost nothing.
    pub fn objection(&mut self, targets: impl IntoIterator<Item = Target>) -> Option<Objection> {
        let mut judge = Judge::new(&self.ruleset, PATIENCE);
        for target in targets {
            if self.vouched.contains(&target) {
                continue;
            }
            if let Some(found) = target.classes().iter().find_map(|class| judge.objection(class)) {
                return Some(found);
            }
            self.vouched.insert(target);
        }
        None
    }
}
