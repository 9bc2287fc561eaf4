//! Clients and endpoints that talk through a node, several at once.

use std::collections::VecDeque;
use std::net::SocketAddr;

use weir::model::Protocol;

use super::damage::damage;
use super::history::{Bench, Sent, Step};
use super::world::{SHAPE_COUNT, client_ip, endpoint_ip, router_ip};
use crate::icmp::IcmpError;
use crate::model::Side;
use crate::packet::{ACK, Ext, FIN, PSH, Packet, RST, SYN, make_partial, parse, tuple};
use crate::rng::Rng;

/// Frames that errors may be about.
const RECENT: usize = 8;

/// A client's conversation with a service.
#[derive(Debug, Clone)]
struct Talk {
    service: usize,
    client: SocketAddr,
    /// The client as its endpoint sees it, and the endpoint.
    there: Option<(SocketAddr, SocketAddr)>,
    /// The next sequence numbers of client and endpoint.
    next: [u32; 2],
    /// How far the handshake is: SYN, SYN-ACK, ACK.
    shaken: u8,
    /// The connection before it, which need not have ended.
    past: Option<Past>,
}

/// What is left of a connection.
#[derive(Debug, Clone, Copy)]
struct Past {
    /// As those of a [`Talk`].
    there: (SocketAddr, SocketAddr),
    next: [u32; 2],
}

/// Makes frames, one after the other.
pub struct Talks {
    rng: Rng,
    talks: Vec<Talk>,
    /// Frames on their way.
    queue: VecDeque<Sent>,
    recent: VecDeque<(Side, Vec<u8>)>,
    addresses: Vec<SocketAddr>,
    packets: u32,
    /// Whether splits change in this history.
    changes: bool,
    /// Whose frame went out last.
    last: Option<usize>,
}

impl Talks {
    /// Conversations that follow from a number.
    #[must_use]
    pub fn new(bench: &Bench, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let changes = rng.below(4) == 0;
        let mut talks = Vec::new();
        let mut addresses = Vec::new();
        // Few services and ports, so that talks meet.
        let services: Vec<usize> =
            (0..3).map(|_| rng.below(bench.services.len() as u64) as usize).collect();
        let first_port = 1024 + rng.below(60_000) as u16;
        for _ in 0..4 + rng.below(8) {
            let service = services[rng.below(3) as usize];
            let vip = bench.services[service].vip;
            let ip = if rng.below(4) == 0 {
                endpoint_ip(vip.is_ipv4(), rng.below(4) as u8)
            } else {
                client_ip(vip.is_ipv4(), rng.below(3) as u8)
            };
            let client = SocketAddr::new(ip, first_port + rng.below(3) as u16);
            addresses.push(client);
            addresses.push(vip);
            addresses.extend(&bench.services[service].endpoints);
            let next = [rng.next_u64() as u32, rng.next_u64() as u32];
            talks.push(Talk { service, client, there: None, next, shaken: 0, past: None });
        }
        let packets = rng.next_u64() as u32;
        let (queue, recent) = (VecDeque::new(), VecDeque::new());
        Self { rng, talks, queue, recent, addresses, packets, changes, last: None }
    }

    /// What happens next.
    pub fn next(&mut self, bench: &Bench) -> Step {
        self.last = None;
        if self.changes && self.rng.below(60) == 0 {
            return self.change(bench);
        }
        if self.queue.is_empty() || self.rng.below(4) == 0 {
            self.speak(bench);
        }
        let at = if self.rng.below(8) == 0 { self.rng.below(self.queue.len() as u64) } else { 0 };
        let mut sent = self.queue.remove(at as usize).expect("a frame");
        if self.rng.below(5) == 0 {
            // Again, later.
            self.queue.push_back(sent.clone());
        }
        if self.rng.below(3) == 0 {
            self.last = None;
            damage(&mut sent.frame, &self.addresses, &mut self.rng);
        }
        Step::Frame(sent)
    }

    fn change(&mut self, bench: &Bench) -> Step {
        let talk = self.rng.below(self.talks.len() as u64) as usize;
        let (service, client) = (self.talks[talk].service, self.talks[talk].client);
        if self.rng.below(4) == 0 {
            return Step::Foreign(service, client);
        }
        if self.rng.below(2) == 0 {
            return Step::Shape(service, self.rng.below(SHAPE_COUNT) as usize);
        }
        let endpoint = self.rng.below(bench.services[service].endpoints.len() as u64) as usize;
        let address = bench.services[service].endpoints[endpoint];
        let shape = bench.shapes[service];
        if bench.services[service].endpoints_in(shape).any(|other| other == address) {
            // Only what has drained is gone.
            return Step::Shape(service, self.rng.below(SHAPE_COUNT) as usize);
        }
        let gone = !bench.gone.contains(&(service, endpoint));
        Step::Gone(service, endpoint, gone)
    }

    /// A frame went by, and this came out.
    pub fn learn(&mut self, sent: &Sent, out: &[u8]) {
        if sent.frame != sent.whole || parse(out).is_none() {
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((sent.side, out.to_vec()));
        let (Some(before), Some(after)) = (tuple(&sent.frame), tuple(out)) else { return };
        if sent.side == Side::Egress || before.destination == after.destination {
            return;
        }
        for talk in &mut self.talks {
            // Other services have other addresses.
            if talk.client == before.source && before.destination != talk.client {
                talk.there = Some((after.source, after.destination));
            }
        }
    }

    fn speak(&mut self, bench: &Bench) {
        let which = self.rng.below(self.talks.len() as u64) as usize;
        if self.rng.below(8) == 0 && !self.recent.is_empty() {
            return self.complain();
        }
        if self.rng.below(6) == 0
            && let Some(past) = self.talks[which].past
        {
            return self.go_on(which, past, bench);
        }
        let talk = self.talks[which].clone();
        let vip = bench.services[talk.service].vip;
        if self.rng.below(24) == 0 {
            return self.stray(talk.client, vip);
        }
        let tcp = bench.services[talk.service].protocol == Protocol::Tcp;
        let answer = talk.there.filter(|_| match talk.shaken {
            0 if tcp => self.rng.below(16) == 0,
            1 if tcp => self.rng.below(8) > 0,
            2 if tcp => self.rng.below(8) == 0,
            _ => self.rng.below(2) == 0,
        });
        let (from, to) = match answer {
            Some((client, endpoint)) => (endpoint, client),
            None => (talk.client, vip),
        };
        let speaker = usize::from(answer.is_some());
        let packet = if tcp {
            self.segment(which, speaker, Packet::tcp(from, to))
        } else {
            Packet::udp(from, to)
        };
        let hairpin = answer.is_some_and(|(client, _)| client.ip() == vip.ip());
        let side = if answer.is_some() && !hairpin { Side::Egress } else { Side::Ingress };
        self.shape(packet, side, vip.is_ipv4());
    }

    /// Something to a service's address that is for no split: a ping, or another port.
    fn stray(&mut self, client: SocketAddr, vip: SocketAddr) {
        let rng = &mut self.rng;
        if rng.below(2) == 0 {
            let kind = [if vip.is_ipv4() { 8 } else { 128 }, 0];
            let rest = [0, 7, 0, rng.below(256) as u8];
            let ping = IcmpError::new(client.ip(), vip.ip(), kind).rest(rest);
            let frame = ping.trailer(rng.below(40) as usize).build();
            let (side, virtual_device) = (Side::Ingress, rng.below(2) == 0);
            self.queue.push_back(Sent { side, virtual_device, whole: frame.clone(), frame });
            return;
        }
        let to = SocketAddr::new(vip.ip(), rng.below(1024) as u16);
        let packet = if rng.below(2) == 0 {
            let flags = [SYN, ACK, RST, FIN | ACK][rng.below(4) as usize];
            Packet::tcp(client, to).flags(flags).seq(7).ack(8)
        } else {
            Packet::udp(client, to)
        };
        self.shape(packet, Side::Ingress, vip.is_ipv4());
    }

    /// A segment of a connection whose client, or somebody in its name, has begun another one.
    fn go_on(&mut self, which: usize, past: Past, bench: &Bench) {
        let talk = &self.talks[which];
        let vip = bench.services[talk.service].vip;
        let Past { there: (client, endpoint), next } = past;
        let of_endpoint = self.rng.below(2) == 0;
        let (from, to) = if of_endpoint { (endpoint, client) } else { (talk.client, vip) };
        let flags = match self.rng.below(8) {
            0 => RST,
            1 => FIN | ACK,
            2 => SYN | ACK,
            _ => ACK,
        };
        let speaker = usize::from(of_endpoint);
        let (seq, ack) = (next[speaker], next[1 - speaker]);
        let packet = Packet::tcp(from, to).flags(flags).seq(seq).ack(ack);
        let hairpin = of_endpoint && client.ip() == vip.ip();
        let side = if of_endpoint && !hairpin { Side::Egress } else { Side::Ingress };
        self.shape(packet, side, vip.is_ipv4());
    }

    /// Flags and numbers of a TCP segment.
    fn segment(&mut self, which: usize, speaker: usize, packet: Packet) -> Packet {
        let rng = &mut self.rng;
        let talk = &mut self.talks[which];
        // Who is steered anew begins more often.
        let odd = rng.below(if self.changes { 12 } else { 16 });
        let flags = match (odd, talk.shaken, speaker) {
            (0, ..) => rng.next_u64() as u8,
            (1, ..) => RST | if rng.below(2) == 0 { ACK } else { 0 },
            (2, ..) => FIN | ACK,
            (3, _, 0) | (_, 0, 0) => SYN,
            (_, 1, 1) => SYN | ACK,
            _ => ACK | if rng.below(2) == 0 { PSH } else { 0 },
        };
        if flags & SYN != 0 && speaker == 0 {
            talk.shaken = 1;
            if rng.below(4) > 0
                && let Some(there) = talk.there
            {
                // Another connection.
                talk.past = Some(Past { there, next: talk.next });
                talk.next[0] = rng.next_u64() as u32;
            }
        } else if (flags & SYN != 0 && speaker == 1) || (talk.shaken == 2 && speaker == 0) {
            talk.shaken += 1;
        }
        let syn = u32::from(flags & SYN != 0);
        let mut seq = talk.next[speaker].wrapping_sub(syn);
        let mut ack = talk.next[1 - speaker];
        match rng.below(16) {
            0 => seq = seq.wrapping_add(rng.below(1 << 21) as u32).wrapping_sub(1 << 20),
            1 => seq = rng.next_u64() as u32,
            2 => ack = ack.wrapping_add(rng.below(1 << 18) as u32).wrapping_sub(1 << 17),
            3 => {
                talk.next[speaker] = seq.wrapping_add(rng.below(1 << 18) as u32);
                seq = talk.next[speaker];
            }
            _ => {}
        }
        if flags & ACK == 0 && rng.below(4) > 0 {
            ack = 0;
        }
        packet.flags(flags).seq(seq).ack(ack)
    }

    /// Options, extension headers, tags, payload; whole or in fragments.
    fn shape(&mut self, mut packet: Packet, side: Side, v4: bool) {
        let rng = &mut self.rng;
        let length = match rng.below(8) {
            0 => rng.below(1200),
            1 => 0,
            _ => rng.below(40),
        };
        let payload: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
        self.packets = self.packets.wrapping_add(1);
        packet = packet.payload(&payload).id(self.packets);
        if rng.below(8) == 0 {
            for _ in 0..=rng.below(3) {
                packet = packet.vlan([0x8100, 0x88a8][rng.below(2) as usize], 7);
            }
        }
        if rng.below(6) == 0 {
            packet = packet.ttl(rng.below(4) as u8).dscp_ecn(rng.next_u64() as u8);
        }
        if rng.below(6) == 0 && v4 {
            packet = packet.ip_options(&[1; 40][..rng.below(41) as usize]);
        }
        if rng.below(24) == 0 && v4 {
            // Behind padding, a source route that has come so far.
            let [kind, pointer] = [[131, 137][rng.below(2) as usize], 4 * rng.below(5) as u8];
            let padding = rng.below(4) as usize;
            packet = packet.ip_options(
                &[&[1; 4][..padding], &[kind, 11, pointer], &[192, 0, 2, 9, 10, 0, 0, 1]].concat(),
            );
        }
        if rng.below(4) == 0 && !v4 {
            let most = if rng.below(4) == 0 { 8 } else { 3 };
            for _ in 0..rng.below(most) {
                packet = packet.ext(match rng.below(6) {
                    0 => Ext::HopByHop(1 + rng.below(2) as u8),
                    1 => Ext::DestOpts(1 + rng.below(3) as u8),
                    2 => Ext::Routing(0),
                    3 => Ext::Routing(rng.below(2) as u8),
                    4 => [Ext::HomeAddress, Ext::DestOpts(3)][usize::from(rng.below(4) > 0)],
                    _ => Ext::AtomicFragment,
                });
            }
        }
        if rng.below(8) == 0 {
            packet = packet.tcp_options(&[1; 40][..rng.below(41) as usize]);
        }
        if rng.below(8) == 0 {
            packet = packet.zero_checksum();
        }
        let frames = if rng.below(8) == 0 {
            packet.build_fragments(24 + rng.below(400) as usize)
        } else {
            let mut frame = packet.build();
            if rng.below(16) == 0 {
                make_partial(&mut frame);
            }
            vec![frame]
        };
        for frame in frames {
            let virtual_device = rng.below(2) == 0;
            self.queue.push_back(Sent { side, virtual_device, whole: frame.clone(), frame });
        }
    }

    /// An ICMP error about something that came out.
    fn complain(&mut self) {
        let rng = &mut self.rng;
        let (side, about) = &self.recent[rng.below(self.recent.len() as u64) as usize];
        let parsed = parse(about).expect("only such are kept");
        let v4 = parsed.source.is_ipv4();
        let kinds: &[[u8; 2]] = if v4 {
            &[[3, 0], [3, 1], [3, 3], [3, 4], [11, 0], [12, 0], [5, 0], [4, 0], [8, 0], [0, 0]]
        } else {
            &[[1, 0], [1, 4], [2, 0], [3, 0], [4, 1], [128, 0], [135, 0], [100, 0]]
        };
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let sender = if rng.below(2) == 0 { router_ip(v4) } else { parsed.destination };
        let header = parsed.l4 - parsed.l3;
        let bytes = header + if rng.below(3) == 0 { rng.below(40) as usize } else { 64 };
        let mut error = if rng.below(8) == 0 {
            IcmpError::redirect(sender, parsed.source, router_ip(v4), about, bytes)
        } else {
            let error = IcmpError::new(sender, parsed.source, kind).rest([0, 0, 5, 0x14]);
            error.quote(about, bytes)
        };
        if rng.below(8) == 0 {
            error = error.vlan(5).trailer(rng.below(40) as usize);
        }
        if rng.below(8) == 0 && v4 {
            error = error.ip_options(&[1; 8]);
        }
        let frame = error.build();
        // It goes the other way.
        let side = match (side, rng.below(8)) {
            (Side::Ingress, 0) | (Side::Egress, 1..) => Side::Ingress,
            _ => Side::Egress,
        };
        let virtual_device = rng.below(2) == 0;
        self.queue.push_back(Sent { side, virtual_device, whole: frame.clone(), frame });
    }
}
