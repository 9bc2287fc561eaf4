//! The fate of a packet.

use std::net::IpAddr;

use super::flows::{Flow, From, Key};
use super::quote::{Quote, key, quote};
use super::sight::{ICMP, ICMPV6, Packet, Sight, TCP, be32, look};
use super::tcp::{Connection, RST, Segment};
use super::{Follow, Model, Side, siblings};

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it came.
    Untouched,
    /// It goes on with other addresses and ports.
    Rewritten(Packet, Key),
    /// A fragment without ports: it goes on with other addresses.
    Following(Packet, [IpAddr; 2]),
    /// An ICMP error: it goes on with these addresses, about a packet with others.
    Translated(Packet, Quote, [IpAddr; 2], Key),
    /// It is refused.
    Refused(Packet, Refusal),
    /// Nobody is told.
    Dropped,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Who sent it is told.
    Sender,
    /// The client is told that its connection is over, in the name of the service.
    Receiver(Key),
}

/// What matters of a TCP header.
fn segment(frame: &[u8], packet: &Packet) -> Option<Segment> {
    (packet.protocol == TCP).then_some(())?;
    Some(Segment {
        flags: frame[packet.l4 + 13],
        seq: be32(frame, packet.l4 + 4)?,
        ack: be32(frame, packet.l4 + 8)?,
    })
}

/// Whether an address is that of one host, to which an answer may be sent (RFC 1122, section
/// 3.2.2; RFC 4443, section 2.4).
fn is_one_host(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() || broadcast)
}

impl Model {
    /// Decides on a packet, and notes it.
    ///
    /// A source port that had to be changed is any free one: it is taken from what came out of the
    /// program.
    pub fn decide(&mut self, side: Side, frame: &[u8], came_out: &[u8]) -> Fate {
        let packet = match look(frame) {
            Sight::Foreign => return Fate::Untouched,
            Sight::Broken => {
                self.count("pass_unparsed");
                return Fate::Untouched;
            }
            Sight::Packet(packet) => packet,
        };
        if !packet.has_transport() {
            return self.later_fragment(side, packet);
        }
        if matches!(packet.protocol, ICMP | ICMPV6) {
            return self.error(side, frame, packet);
        }
        let Some(key) = key(frame, &packet) else { return Fate::Untouched };
        let fate = self.packet(side, frame, packet, key, came_out);
        if let Fate::Rewritten(_, to) = fate {
            let (source, destination) = (to.source.ip(), to.destination.ip());
            self.remember(&packet, Follow { side, source, destination });
        }
        fate
    }

    /// The flow of packets like this on this side.
    fn flow(&self, side: Side, key: &Key) -> Option<(&Flow, From)> {
        let (flow, from) = self.flows.find(key)?;
        // Both directions of a flow from an endpoint to itself come from outside.
        let there =
            if from == From::Client || flow.hairpin() { Side::Ingress } else { Side::Egress };
        (side == there).then_some((flow, from))
    }

    fn later_fragment(&mut self, side: Side, packet: Packet) -> Fate {
        let known = siblings(&packet).and_then(|key| self.fragments.get(&key));
        let behind_others = packet.fragment.is_some_and(|fragment| fragment.behind_others);
        match known {
            Some(follow) if follow.side == side && !behind_others => {
                Fate::Following(packet, [follow.source, follow.destination])
            }
            _ => Fate::Untouched,
        }
    }

    fn error(&mut self, side: Side, frame: &[u8], packet: Packet) -> Fate {
        let Some(quote) = quote(frame, &packet) else { return Fate::Untouched };
        // The error goes the way of the packets that answer the quoted one.
        let Some((flow, from)) = self.flow(side, &quote.key.reversed()) else {
            return Fate::Untouched;
        };
        if packet.destination != quote.key.source.ip() {
            return Fate::Untouched;
        }
        // The quoted packet as its sender knows it.
        let about = flow.becomes(from).reversed();
        let named = |ip: IpAddr| {
            if ip == quote.key.destination.ip() { about.destination.ip() } else { ip }
        };
        let ends = [named(packet.source), about.source.ip()];
        self.count("icmp_translated");
        Fate::Translated(packet, quote, ends, about)
    }

    fn packet(
        &mut self,
        side: Side,
        frame: &[u8],
        packet: Packet,
        key: Key,
        came_out: &[u8],
    ) -> Fate {
        let segment = segment(frame, &packet);
        let found = self.flow(side, &key).map(|(flow, from)| (flow.clone(), from));
        match found {
            Some((flow, From::Endpoint)) => self.from_endpoint(packet, &flow, segment),
            Some((flow, From::Client)) => {
                let another = segment.is_some_and(|syn| syn.opens() && flow.tcp.gives_way_to(syn));
                if !another {
                    return self.from_client(packet, &flow, segment);
                }
                self.count("flow_reused");
                self.flows.remove(&key);
                self.first(packet, key, segment, came_out)
            }
            None if side == Side::Ingress => self.first(packet, key, segment, came_out),
            None => Fate::Untouched,
        }
    }

    fn is_gone(&self, flow: &Flow) -> bool {
        let (sent, endpoint) = (flow.sent, flow.received.destination);
        self.gone.contains(&(sent.protocol, sent.destination, endpoint))
    }

    fn from_client(&mut self, packet: Packet, flow: &Flow, segment: Option<Segment>) -> Fate {
        if self.is_gone(flow) {
            return self.refuse("reject_endpoint_gone", packet, segment);
        }
        if let (Some(segment), Some((flow, _))) = (segment, self.flows.find_mut(&flow.sent)) {
            flow.tcp.sent(segment);
        }
        Fate::Rewritten(packet, flow.received)
    }

    fn from_endpoint(&mut self, packet: Packet, flow: &Flow, segment: Option<Segment>) -> Fate {
        let to = flow.sent.reversed();
        if self.is_gone(flow) {
            self.count("reject_endpoint_gone");
            return match segment {
                Some(segment) if !segment.has(RST) => Fate::Refused(packet, Refusal::Receiver(to)),
                _ => Fate::Dropped,
            };
        }
        if let (Some(segment), Some((flow, _))) = (segment, self.flows.find_mut(&flow.sent)) {
            flow.tcp.answered(segment);
        }
        Fate::Rewritten(packet, to)
    }

    /// The first packet of a flow, if it is addressed to a split.
    fn first(
        &mut self,
        packet: Packet,
        key: Key,
        segment: Option<Segment>,
        came_out: &[u8],
    ) -> Fate {
        let Some(split) = self.splits.get(&(key.protocol, key.destination)) else {
            return Fate::Untouched;
        };
        let explained = weir::explain::explain(self.hash_seed, split, key.source);
        let Some(endpoint) = explained.and_then(|explained| explained.endpoint) else {
            return self.refuse("reject_no_endpoint", packet, segment);
        };
        if self.gone.contains(&(key.protocol, key.destination, endpoint)) {
            return self.refuse("reject_endpoint_gone", packet, segment);
        }
        let mut received = Key { destination: endpoint, ..key };
        if segment.is_some_and(|segment| segment.has(RST)) {
            self.count("pass_no_flow_reset");
            return Fate::Rewritten(packet, received);
        }
        let hairpin = key.source.ip() == endpoint.ip();
        if hairpin {
            received = received.from(key.destination.ip(), key.source.port());
        }
        if hairpin || self.flows.find(&received.reversed()).is_some() {
            let Some(changed) = self.changed_port(received, key, hairpin, came_out) else {
                return self.refuse("reject_no_port", packet, segment);
            };
            received = changed;
        }
        if segment.is_some_and(|segment| !segment.opens()) {
            self.count("flow_adopted");
        }
        let tcp = segment.map(Connection::of).unwrap_or_default();
        self.flows.insert(Flow { sent: key, received, tcp });
        Fate::Rewritten(packet, received)
    }

    /// The port that the program chose for a flow whose own is taken, if it is free.
    fn changed_port(
        &mut self,
        taken: Key,
        sent: Key,
        hairpin: bool,
        came_out: &[u8],
    ) -> Option<Key> {
        let Sight::Packet(out) = look(came_out) else { return None };
        let port = key(came_out, &out)?.source.port();
        let changed = taken.from(taken.source.ip(), port);
        // Replies to a hairpin's port are found by the filter bit of its service.
        let same_bit = port % 64 == sent.destination.port() % 64;
        let fits = port >= 1024 && (same_bit || !hairpin);
        let free = self.flows.find(&changed.reversed()).is_none();
        if port != sent.source.port() {
            self.count("flow_port_changed");
        }
        (fits && free).then_some(changed)
    }

    /// Refuses a packet that came from outside.
    fn refuse(&mut self, why: &'static str, packet: Packet, segment: Option<Segment>) -> Fate {
        let reset = segment.is_some_and(|segment| segment.has(RST));
        if reset || !is_one_host(packet.source) {
            self.count("reject_silent");
            return Fate::Dropped;
        }
        self.count(why);
        Fate::Refused(packet, Refusal::Sender)
    }
}
