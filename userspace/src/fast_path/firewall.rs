//! nftables' rules, and what they are to packets that weir steers.

use std::collections::{HashMap, HashSet};
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
    barred: HashMap<Target, Objection>,
    /// What was judged when patience was at its end: nothing more is judged of these rules.
    given_up: Option<Objection>,
}

impl Firewall {
    /// Reads the rules of the socket's network namespace.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn read(netlink: &mut Netlink) -> io::Result<Self> {
        let (generation, ruleset) = read(netlink)?;
        Ok(Self { generation: Some(generation), ruleset, ..Self::none() })
    }

    /// Of a node where nobody uses nftables.
    pub fn none() -> Self {
        Self {
            generation: None,
            ruleset: Ruleset::default(),
            vouched: HashSet::new(),
            barred: HashMap::new(),
            given_up: None,
        }
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
            let before = self.given_up.as_ref().or_else(|| self.barred.get(&target));
            if let Some(found) = before {
                return Some(found.clone());
            }
            if let Some(found) = target.classes().iter().find_map(|class| judge.objection(class)) {
                if judge.is_exhausted() {
                    self.given_up = Some(found.clone());
                }
                self.barred.insert(target, found.clone());
                return Some(found);
            }
            self.vouched.insert(target);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_judged_by_what_comes_to_it_and_what_it_answers() {
        let socket = |text: &str| text.parse().unwrap();
        let target = Target {
            service: socket("203.0.113.10:80"),
            endpoint: socket("192.0.2.1:8080"),
            protocol: 17,
        };
        let found = target.classes().map(|class| {
            assert_eq!((class.family, class.protocol), (Family::IPV4, 17));
            let end = |ip: Option<_>, port: Option<_>| Some(SocketAddr::new(ip?, port?));
            let from = end(class.source, class.source_port);
            let to = end(class.destination, class.destination_port);
            (from, to, class.state, class.is_reply)
        });
        let (service, endpoint) = (Some(target.service), Some(target.endpoint));
        let expected = [
            (None, endpoint, State::New, false),
            (None, endpoint, State::Related, false),
            (None, endpoint, State::Established, false),
            (endpoint, None, State::Established, true),
            (service, None, State::Established, true),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn without_rules_nothing_matters() {
        let socket: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let target = Target { service: socket, endpoint: socket, protocol: 6 };
        assert_eq!(Firewall::none().objection([target]), None);
        assert_eq!(Firewall::none().generation(), None);
    }
}
