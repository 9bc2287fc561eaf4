//! The fate of a packet.

use std::net::{IpAddr, SocketAddr};

use weir::model::Split;

use super::fate::{About, Fate, Rejection};
use super::flows::{Flow, From, Key};
use super::quote::{is_redirect, key, quote, redirected};
use super::sight::{ICMP, ICMPV6, Packet, Sight, TCP, UDP, be32, look};
use super::tcp::{Connection, RST, SYN, Segment};
use super::{Follow, Model, Removed, Side, siblings};

/// What matters of a TCP header.
fn segment(frame: &[u8], packet: &Packet) -> Option<Segment> {
    (packet.protocol == TCP).then_some(())?;
    Some(Segment {
        flags: frame[packet.l4 + 13],
        seq: be32(frame, packet.l4 + 4)?,
        ack: be32(frame, packet.l4 + 8)?,
    })
}

/// A packet from the port that the program chose, if it is one that may be chosen.
fn changed_port(taken: Key, sent: Key, hairpin: bool, came_out: &[u8]) -> Option<Key> {
    let Sight::Packet(out) = look(came_out) else { return None };
    let port = key(came_out, &out)?.source.port();
    // Replies to a hairpin's port are found by the filter bit of its service.
    let same_bit = port % 64 == sent.destination.port() % 64;
    (port >= 1024 && (same_bit || !hairpin)).then(|| taken.from(taken.source.ip(), port))
}

/// Whether an address is that of one host, to which an answer may be sent (RFC 1122, section
/// 3.2.2; RFC 4443, section 2.4).
fn is_one_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback()),
    }
}

/// Whether it is an echo request (RFC 792, RFC 4443), whole, in a packet without options.
fn is_ping(frame: &[u8], packet: &Packet) -> bool {
    let kind = if packet.v4() { 8 } else { 128 };
    let whole = packet.fragment.is_none() && packet.end <= frame.len();
    whole && packet.plain && frame[packet.l4..packet.l4 + 2] == [kind, 0]
}

impl Model {
    /// Whether a frame is one of which the specification does not say what it does to its flow:
    /// with a sequence number at the edge of what is within reach.
    #[must_use]
    pub fn leaves_open(&self, side: Side, frame: &[u8]) -> bool {
        let Sight::Packet(packet) = look(frame) else { return false };
        if !packet.has_transport() {
            return false;
        }
        let (Some(segment), Some(key)) = (segment(frame, &packet), key(frame, &packet)) else {
            return false;
        };
        let found = self.flow(side, &key);
        found.is_some_and(|(flow, from)| flow.tcp.leaves_open(from == From::Client, segment))
    }

    /// Decides on a packet, and notes it.
    ///
    /// A source port that had to be changed is any free one: it is taken from what came out of the
    /// program.
    pub fn decide(&mut self, side: Side, frame: &[u8], came_out: &[u8]) -> Fate {
        let Sight::Packet(packet) = look(frame) else { return Fate::Untouched };
        if side == Side::Ingress && self.macs.iter().all(|mac| frame[..6] != mac[..]) {
            // Another host's, or many hosts'.
            return Fate::Untouched;
        }
        if !packet.has_transport() {
            return self.later_fragment(side, packet);
        }
        if matches!(packet.protocol, ICMP | ICMPV6) {
            if side == Side::Ingress && is_ping(frame, &packet) && self.answers(&packet) {
                return self.echo(packet);
            }
            return self.error(side, frame, packet);
        }
        let Some(key) = key(frame, &packet) else { return Fate::Untouched };
        let fate = self.packet(side, frame, packet, key, came_out);
        if let Fate::Rewritten(_, to) = fate
            && packet.fragment.is_some_and(|fragment| fragment.next_to_transport)
        {
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
        if side == Side::Egress && is_redirect(frame, &packet) {
            return self.redirect(frame, packet);
        }
        let Some(quote) = quote(frame, &packet) else { return Fate::Untouched };
        if packet.destination != quote.packet.source {
            return Fate::Untouched;
        }
        // The quoted packet as its sender knows it.
        let about = match quote.key {
            Some(key) => self.about_packet(side, key).map(About::Packet),
            None => self.about_fragment(side, &quote.packet).map(About::Fragment),
        };
        let Some(about) = about else { return Fate::Untouched };
        let [sender, receiver] = match about {
            About::Packet(key) => [key.source.ip(), key.destination.ip()],
            About::Fragment(ends) => ends,
        };
        let hidden = packet.source == quote.packet.destination
            || side == Side::Egress && self.is_endpoint(packet.source, quote.key);
        let named = if hidden { receiver } else { packet.source };
        self.count("icmp_translated");
        Fate::Translated(packet, quote, [named, sender], about)
    }

    /// A shorter way for a packet that was steered, or for whoever serves.
    fn redirect(&mut self, frame: &[u8], packet: Packet) -> Fate {
        let receiver = packet.destination;
        let serves = self.splits.iter().any(|((_, vip), split)| {
            let mut endpoints = split.subsets().iter().flat_map(|subset| &subset.endpoints);
            vip.ip() == receiver || endpoints.any(|endpoint| endpoint.ip() == receiver)
        });
        let quoted = redirected(frame, &packet).filter(|quoted| !quoted.elsewhere);
        let steered = quoted.is_some_and(|quoted| match quoted.has_transport() {
            true if matches!(quoted.protocol, TCP | UDP) => key(frame, &quoted)
                .is_some_and(|key| self.about_packet(Side::Egress, key).is_some()),
            true => false,
            false => self.about_fragment(Side::Egress, &quoted).is_some(),
        });
        if !serves && !steered {
            return Fate::Untouched;
        }
        self.count("drop_redirect");
        Fate::Dropped
    }

    /// The error goes the way of the packets that answer the quoted one.
    fn about_packet(&self, side: Side, quoted: Key) -> Option<Key> {
        let (flow, from) = self.flow(side, &quoted.reversed())?;
        Some(flow.becomes(from).reversed())
    }

    /// The ends of a later fragment when it came.
    fn about_fragment(&self, side: Side, quoted: &Packet) -> Option<[IpAddr; 2]> {
        let from = self.turned.get(&siblings(quoted)?)?;
        let behind_others = quoted.fragment.is_some_and(|fragment| fragment.behind_others);
        (from.side == side && !behind_others).then_some([from.source, from.destination])
    }

    /// Whether an address is an endpoint's, at the port to which a packet was sent.
    fn is_endpoint(&self, ip: IpAddr, quoted: Option<Key>) -> bool {
        let Some(key) = quoted else { return false };
        let socket = SocketAddr::new(ip, key.destination.port());
        let mut subsets = self.splits.values().flat_map(Split::subsets);
        subsets.any(|subset| subset.endpoints.contains(&socket))
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
            Some((flow, From::Endpoint)) => self.of_endpoint(packet, &flow, segment),
            Some((flow, From::Client)) => {
                if self.is_expired(&flow, segment) {
                    self.flows.remove(&key);
                    // Perhaps it is of the flow that was to follow.
                    return self.packet(side, frame, packet, key, came_out);
                }
                match segment {
                    Some(segment) if flow.tcp.is_live() => {
                        self.of_successor(packet, &flow, segment, came_out)
                    }
                    _ => None,
                }
                .unwrap_or_else(|| self.of_client(packet, &flow, segment))
            }
            None if side == Side::Ingress => self.first(packet, key, segment, came_out),
            None => Fate::Untouched,
        }
    }

    fn removed(&self, flow: &Flow) -> Option<Removed> {
        let (sent, endpoint) = (flow.sent, flow.received.destination);
        self.removed.get(&(sent.protocol, sent.destination, endpoint)).copied()
    }

    fn is_gone(&self, flow: &Flow) -> bool {
        self.removed(flow) == Some(Removed::Gone)
    }

    /// Whether a packet of its client shows that a flow is over.
    fn is_expired(&self, flow: &Flow, segment: Option<Segment>) -> bool {
        let Some(segment) = segment else { return self.is_gone(flow) };
        if !segment.opens() {
            return false;
        }
        // A handshake that nobody has answered is no flow that would go on.
        let idle = !flow.tcp.is_live() && flow.tcp.is_silent();
        let hopeless = idle && self.removed(flow) == Some(Removed::Draining);
        flow.tcp.gives_way_to(segment) || hopeless || (segment.opens_alone() && self.is_gone(flow))
    }

    /// A segment of a live connection's client, or of the one that is to follow it. None if it is
    /// the former's.
    fn of_successor(
        &mut self,
        packet: Packet,
        flow: &Flow,
        segment: Segment,
        came_out: &[u8],
    ) -> Option<Fate> {
        let key = flow.sent;
        let next = self.flows.successor(&key).cloned();
        if segment.opens_alone() && self.removed(flow) == Some(Removed::Draining) {
            return self.follow(packet, next, key, segment, came_out);
        }
        let next = next?;
        if next.tcp.began_with(segment) {
            return self.follow(packet, Some(next), key, segment, came_out);
        }
        next.tcp.is_proved_by(segment).then(|| {
            self.flows.remove(&key);
            self.of_client(packet, &next, Some(segment))
        })
    }

    /// A SYN that begins the connection which is to follow a live one, or another such one. None if
    /// there is no service to begin it with.
    fn follow(
        &mut self,
        packet: Packet,
        next: Option<Flow>,
        key: Key,
        syn: Segment,
        came_out: &[u8],
    ) -> Option<Fate> {
        if let Some(next) = next {
            if !self.is_expired(&next, Some(syn)) {
                return Some(self.of_client(packet, &next, Some(syn)));
            }
            self.flows.remove_successor(&key);
        }
        self.splits.get(&(key.protocol, key.destination))?;
        Some(self.first(packet, key, Some(syn), came_out))
    }

    fn of_client(&mut self, packet: Packet, flow: &Flow, segment: Option<Segment>) -> Fate {
        if self.is_gone(flow) {
            return self.reject("reject_endpoint_gone", packet, segment);
        }
        let replies = flow.received.reversed();
        if let (Some(segment), Some(tcp)) = (segment, self.flows.connection(&replies)) {
            tcp.sent(segment);
        }
        Fate::Rewritten(packet, flow.received)
    }

    fn of_endpoint(&mut self, packet: Packet, flow: &Flow, segment: Option<Segment>) -> Fate {
        let to = flow.sent.reversed();
        if self.is_gone(flow) {
            if flow.hairpin() {
                // Client and endpoint are one host; it is told as whose packet this was.
                return self.reject("reject_endpoint_gone", packet, segment);
            }
            self.count("reject_endpoint_gone");
            return match segment {
                Some(segment) if !segment.has(RST) && packet.plain => {
                    Fate::Rejected(packet, Rejection::Receiver(to))
                }
                _ => Fate::Dropped,
            };
        }
        let replies = flow.received.reversed();
        if let (Some(segment), Some(tcp)) = (segment, self.flows.connection(&replies)) {
            tcp.answered(segment);
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
            if self.answers(&packet) {
                return self.reject("answer_other", packet, segment);
            }
            return Fate::Untouched;
        };
        let begins = segment.is_some_and(|segment| segment.has(SYN));
        if !begins && self.foreign.contains(&key) {
            return Fate::Untouched;
        }
        let explained = weir::explain::explain(self.hash_seed, split, key.source);
        let Some(endpoint) = explained.and_then(|explained| explained.endpoint) else {
            return self.reject("reject_no_endpoint", packet, segment);
        };
        if segment.is_some_and(|segment| segment.opens()) {
            self.foreign.remove(&key);
        }
        let mut received = Key { destination: endpoint, ..key };
        // No endpoint would take a packet from its own address.
        let hairpin = key.source.ip() == endpoint.ip();
        if hairpin {
            received = received.from(key.destination.ip(), key.source.port());
        }
        let reset = segment.is_some_and(|segment| segment.has(RST));
        if hairpin || (!reset && self.is_taken(&received)) {
            match changed_port(received, key, hairpin, came_out) {
                // Of a RST there will be no replies.
                Some(changed) if reset || !self.is_taken(&changed) => received = changed,
                _ => return self.reject("reject_no_port", packet, segment),
            }
        }
        if reset {
            // Nothing begins with it.
            self.count("pass_no_flow_reset");
            return Fate::Rewritten(packet, received);
        }
        self.flows.remove(&received.reversed());
        if segment.is_some_and(|segment| !segment.has(SYN)) {
            self.count("flow_adopted");
        }
        let tcp = segment.map(Connection::of).unwrap_or_default();
        self.flows.insert(Flow { sent: key, received, tcp });
        Fate::Rewritten(packet, received)
    }

    /// Whether replies to such a packet would be those of another flow, which has not ended.
    fn is_taken(&self, received: &Key) -> bool {
        let other = self.flows.find(&received.reversed());
        other.is_some_and(|(flow, _)| !flow.tcp.has_ended())
    }

    /// Whether what comes to that address and is for no split is answered.
    fn answers(&self, packet: &Packet) -> bool {
        let ip = packet.destination;
        self.answers && self.splits.keys().any(|(_, address)| address.ip() == ip)
    }

    /// Answers a ping.
    fn echo(&mut self, packet: Packet) -> Fate {
        if !is_one_host(packet.source) {
            self.count("reject_silent");
            return Fate::Dropped;
        }
        self.count("answer_other");
        Fate::Echoed(packet)
    }

    /// Rejects a packet that came from outside.
    fn reject(&mut self, why: &'static str, packet: Packet, segment: Option<Segment>) -> Fate {
        let reset = segment.is_some_and(|segment| segment.has(RST));
        if reset || !packet.plain || !is_one_host(packet.source) {
            self.count("reject_silent");
            return Fate::Dropped;
        }
        self.count(why);
        Fate::Rejected(packet, Rejection::Sender)
    }
}
