//! New flows: those in which one side has not spoken yet, and all others in
//! their first second.
//!
//! Most connections are short. Entries in the flow tables of [`crate::flow`],
//! which live in LRU hash maps, cost more to make and to remove than all the rest
//! that is done for such a connection; here, a flow is one element of an array,
//! for both of its directions, and to make one is to write it.
//!
//! The array is cut into sets of [`WAYS`] elements. The client's address and port
//! say which set; they are the same in both directions, except in flows with
//! [asymmetric replies](NewFlow::has_asymmetric_reply): these have a second element, under
//! the reply key ([`REPLY_KEY`]), which leads their replies to the first one. What is known of all elements of a set in a word or two is held
//! apart, in a [`Set`] of one cache line.
//!
//! A set that is full gives the place of its oldest flow that is closed or in
//! which one side has not spoken. A flow that lives is never lost: if more than
//! [`MOST_LIVE`] of a set live, the oldest is moved to the flow tables. So a flood
//! of packets from invented addresses evicts what is no flow yet.
//!
//! One CPU at a time writes elements of a set. Readers do not wait: one copies an
//! element, and then sees by [`NewFlow::check`] whether it was written as a whole.

use bytemuck::{Pod, Zeroable};

use crate::address::{Address, Tuple, V4, V6};
use crate::flow::{
    ESTABLISHED, Entry, FORWARD, FORWARD_HAIRPIN, Facts, REPLY, REPLY_HAIRPIN, SYNCED, deltas,
    is_closed,
};
use crate::hash::mix;
use crate::parse::TCP;

/// Elements of a set.
pub const WAYS: usize = 8;

/// Live flows in a full set: the others' places are for handshakes. With six, and
/// 4,000 handshakes at a time in 16,384 sets, one in some millions is evicted.
pub const MOST_LIVE: usize = 2;

/// Rank of a flow in which one side has not spoken yet, and of an element of a reply key.
pub const PENDING: u8 = 1;
/// Rank of a flow that is closed by both sides, or reset.
pub const CLOSED: u8 = 2;
/// Rank of a flow that lives.
pub const LIVE: u8 = 3;

/// [`NewFlow::kind`]: the endpoint is its own client.
pub const HAIRPIN: u8 = 1;
/// [`NewFlow::kind`]: only says where the flow's element is.
pub const REPLY_KEY: u8 = 2;

/// The rank of a flow in that state.
#[inline(always)]
pub const fn rank(state: u16) -> u8 {
    if is_closed(state) {
        CLOSED
    } else if state & ESTABLISHED != 0 {
        LIVE
    } else {
        PENDING
    }
}

/// What is known of the elements of a set.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Set {
    /// [`Home::tag`] of each; 0 for none.
    pub tags: [u32; WAYS],
    /// [`Set::turn`] when each got its rank: the order of their ages.
    pub stamps: [u16; WAYS],
    /// Rank of each: [`PENDING`] and the like.
    pub ranks: [u8; WAYS],
    /// How often an element got a rank.
    pub turn: u16,
    /// Zero.
    pub zero: u16,
    /// CPUs that are about to write elements: one at a time may.
    pub writers: u32,
}

const _: () = assert!(size_of::<Set>() == 64);

/// Where in a set a new element goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which element.
    pub way: usize,
    /// Whether a live flow is there, which must be moved before.
    pub live: bool,
}

impl Set {
    /// The place for a new element: the first one that is free; else, if more than
    /// [`MOST_LIVE`] live, that of the oldest of these; else that of the oldest
    /// which does not live. So there is always room for handshakes.
    #[inline(always)]
    pub fn place(&self) -> Slot {
        let (mut live, mut oldest_live, mut oldest) = (0, 0, 0);
        let mut way = 0;
        while way < WAYS {
            let age = self.turn.wrapping_sub(self.stamps[way]) as u32;
            let worth = age << 3 | way as u32;
            if self.tags[way] == 0 {
                return Slot { way, live: false };
            }
            if self.ranks[way] == LIVE {
                live += 1;
                oldest_live = if worth > oldest_live { worth } else { oldest_live };
            } else {
                oldest = if worth > oldest { worth } else { oldest };
            }
            way += 1;
        }
        let overfull = live > MOST_LIVE;
        let worth = if overfull { oldest_live } else { oldest };
        Slot { way: worth as usize & (WAYS - 1), live: overfull }
    }

    /// Gives an element a rank, as of now.
    #[inline(always)]
    pub fn mark(&mut self, way: usize, rank: u8) {
        self.turn = self.turn.wrapping_add(1);
        self.stamps[way] = self.turn;
        self.ranks[way] = rank;
    }
}

/// Where a flow is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// Which set, before it is reduced to their number.
    pub set: u32,
    /// Tells the elements of a set from one another; not 0.
    pub tag: u32,
}

impl Home {
    /// Of flows of a client's port; `port` in wire order.
    #[inline(always)]
    pub fn new<A: Address>(seed: u64, client: A, port: u16, protocol: u8) -> Self {
        let hash = mix(client.absorb(seed) ^ ((port as u64) << 8 | protocol as u64));
        Self { set: hash as u32, tag: (hash >> 32) as u32 | 1 }
    }
}

/// A new flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow<A> {
    /// [`NewFlow::sum`] of what never changes; 0 for none.
    pub check: u32,
    /// Which endpoint it counts for.
    pub endpoint: u32,
    /// The client's address.
    pub client: A,
    /// The service's address.
    pub service: A,
    /// The endpoint's address.
    pub address: A,
    /// The client's port, wire order.
    pub client_port: u16,
    /// The service's port, wire order.
    pub service_port: u16,
    /// The endpoint's port, wire order.
    pub endpoint_port: u16,
    /// The client's port as the endpoint sees it, wire order.
    pub reply_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`HAIRPIN`], [`REPLY_KEY`].
    pub kind: u8,
    /// See [`Entry::state`]; [`SYNCED`] is of the endpoint's side.
    pub state: u16,
    /// See [`Entry::created`].
    pub created: u32,
    /// Tick of the last packet, as it was last noted.
    pub seen: u32,
    /// See [`Entry::sequence`]: of the client's side, of the endpoint's.
    pub sequences: [u32; 2],
    /// Checksum deltas of addresses and ports of the forward direction; see
    /// [`Entry::address_delta`].
    pub forward: [u16; 2],
    /// The same of the reply direction.
    pub reply: [u16; 2],
    /// See [`Entry::subset`].
    pub subset: u32,
}

const _: () = assert!(size_of::<NewFlow<V4>>() == 60);
const _: () = assert!(size_of::<NewFlow<V6>>() == 96);

impl<A: Address> NewFlow<A> {
    /// A new flow with these tuples of the client's and of the endpoint's packets.
    /// `facts` are those of the forward direction.
    #[inline(always)]
    pub fn new(key: &Tuple<A>, reply_key: &Tuple<A>, facts: &Facts) -> Self {
        // What an endpoint's side of a TCP flow counts is not known yet.
        let unspoken = if key.protocol == TCP { SYNCED } else { 0 };
        let mut new_flow = Self {
            check: 0,
            endpoint: facts.endpoint,
            client: key.src,
            service: key.dst,
            address: reply_key.src,
            client_port: key.sport,
            service_port: key.dport,
            endpoint_port: reply_key.sport,
            reply_port: reply_key.dport,
            protocol: key.protocol,
            kind: if facts.direction == FORWARD_HAIRPIN { HAIRPIN } else { 0 },
            state: facts.state & !unspoken,
            created: facts.created,
            seen: facts.seen,
            sequences: [facts.sequence, 0],
            forward: deltas(key, &reply_key.reversed()),
            reply: deltas(reply_key, &key.reversed()),
            subset: facts.subset,
        };
        new_flow.check = new_flow.sum();
        new_flow
    }

    /// Has the endpoint see another port (in wire order) than the client's.
    #[inline(always)]
    pub fn change_port(&mut self, port: u16) {
        self.reply_port = port;
        let (key, reply_key) = (self.forward_key(), self.reply_key());
        self.forward = deltas(&key, &reply_key.reversed());
        self.reply = deltas(&reply_key, &key.reversed());
        self.check = self.sum();
    }

    /// A sum of what never changes, not 0. Two flows that were written over each
    /// other give another one but for one time in 2^32.
    #[inline(always)]
    pub fn sum(&self) -> u32 {
        let ports = (self.client_port as u64) << 48
            | (self.service_port as u64) << 32
            | (self.endpoint_port as u64) << 16
            | self.reply_port as u64;
        let rest = ((self.endpoint ^ self.subset.rotate_left(16)) as u64) << 32
            | self.created as u64 ^ (self.protocol as u64) << 24 ^ (self.kind as u64) << 16;
        let [client, service, address] =
            [self.client, self.service, self.address].map(|address| address.fold() as u64);
        let addresses = (client | service << 32) ^ address.rotate_left(16);
        let sum = mix(addresses ^ ports.rotate_left(21) ^ rest.rotate_left(43));
        (sum >> 32) as u32 | 1
    }

    /// Whether it was written as a whole.
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.check == self.sum()
    }

    /// Whether its replies do not have the client's port and address: the
    /// endpoint sees another port, or is the client itself.
    #[inline(always)]
    pub fn has_asymmetric_reply(&self) -> bool {
        self.kind & HAIRPIN != 0 || self.reply_port != self.client_port
    }

    /// The tuple of the client's packets.
    #[inline(always)]
    pub fn forward_key(&self) -> Tuple<A> {
        Tuple {
            src: self.client,
            dst: self.service,
            sport: self.client_port,
            dport: self.service_port,
            protocol: self.protocol,
            zero: [0; 3],
        }
    }

    /// The tuple of the endpoint's packets.
    #[inline(always)]
    pub fn reply_key(&self) -> Tuple<A> {
        Tuple {
            src: self.address,
            dst: self.client.or(self.service, self.kind & HAIRPIN != 0),
            sport: self.endpoint_port,
            dport: self.reply_port,
            protocol: self.protocol,
            zero: [0; 3],
        }
    }

    /// The entry that packets of a direction find in the flow tables, or would find; without its
    /// time, which is beside the element (see [`crate::times::FlowTimes`]).
    #[inline(always)]
    pub fn entry(&self, reply: bool) -> Entry<A> {
        self.entry_with(reply, 0)
    }

    /// The same with its time.
    #[inline(always)]
    pub fn entry_with(&self, reply: bool, time: u32) -> Entry<A> {
        let hairpin = self.kind & HAIRPIN != 0;
        let direction = match (reply, hairpin) {
            (false, false) => FORWARD,
            (true, false) => REPLY,
            (false, true) => FORWARD_HAIRPIN,
            (true, true) => REPLY_HAIRPIN,
        };
        let [address_delta, port_delta] = if reply { self.reply } else { self.forward };
        Entry {
            tag: if reply { self.reply_key().tag() } else { self.forward_key().tag() },
            seen: self.seen,
            endpoint: self.endpoint,
            subset: self.subset,
            // What a client counts is known from its first packet.
            state: if reply { self.state } else { self.state | SYNCED },
            direction,
            zero: 0,
            address_delta,
            port_delta,
            sport: if reply { self.service_port } else { self.reply_port },
            dport: if reply { self.client_port } else { self.endpoint_port },
            created: self.created,
            sequence: self.sequences[reply as usize],
            time,
            address: self
                .address
                .or(self.service, direction == REPLY)
                .or(self.client, direction == REPLY_HAIRPIN),
        }
    }
}

// SAFETY: repr(C), every field is Pod, and the asserts above exclude padding.
unsafe impl Zeroable for NewFlow<V4> {}
// SAFETY: as above.
unsafe impl Zeroable for NewFlow<V6> {}
// SAFETY: as above.
unsafe impl Pod for NewFlow<V4> {}
// SAFETY: as above.
unsafe impl Pod for NewFlow<V6> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FIN_CLIENT, FIN_ENDPOINT, Facts, RESET, opposite};

    const KEY: Tuple<V4> =
        Tuple { src: V4(1), dst: V4(2), sport: 3, dport: 4, protocol: 6, zero: [0; 3] };

    const PLAIN: Tuple<V4> = Tuple { dst: V4(5), dport: 6, ..KEY };
    const FACTS: Facts = Facts {
        endpoint: 8,
        subset: 4,
        state: SYNCED,
        direction: FORWARD,
        seen: 7,
        created: 6,
        sequence: 5,
    };

    #[test]
    fn a_new_flow_has_the_entries_of_both_directions() {
        let cases = [
            ("plain", PLAIN, FORWARD, false),
            ("with another port", Tuple { sport: 9, ..PLAIN }, FORWARD, true),
            ("hairpin", Tuple { src: V4(2), dst: V4(1), sport: 7, ..KEY }, FORWARD_HAIRPIN, true),
        ];
        for (what, to, direction, asymmetric) in cases {
            let facts = Facts { direction, ..FACTS };
            let new_flow = NewFlow::new(&KEY, &to.reversed(), &facts);
            assert_eq!(new_flow.entry(false), Entry::new(&KEY, &to, &facts), "{what}");
            let facts = Facts { state: 0, sequence: 0, direction: opposite(direction), ..facts };
            let reply = Entry::new(&to.reversed(), &KEY.reversed(), &facts);
            assert_eq!(new_flow.entry(true), reply, "{what}");
            assert_eq!(
                (new_flow.forward_key(), new_flow.reply_key()),
                (KEY, to.reversed()),
                "{what}"
            );
            assert_eq!(new_flow.has_asymmetric_reply(), asymmetric, "{what}");
        }
    }

    #[test]
    fn a_flow_that_was_not_written_as_a_whole_is_seen_as_such() {
        let new_flow = NewFlow::new(&KEY, &PLAIN.reversed(), &FACTS);
        assert!(new_flow.is_whole());
        type Damage = fn(&mut NewFlow<V4>);
        let damaged: [(&str, Damage); 11] = [
            ("client", |flow| flow.client.0 ^= 1 << 31),
            ("service", |flow| flow.service.0 ^= 1),
            ("address", |flow| flow.address.0 ^= 1 << 8),
            ("client's port", |flow| flow.client_port ^= 1 << 15),
            ("service's port", |flow| flow.service_port ^= 1),
            ("endpoint's port", |flow| flow.endpoint_port ^= 1),
            ("reply port", |flow| flow.reply_port ^= 1 << 7),
            ("endpoint", |flow| flow.endpoint ^= 1),
            ("subset", |flow| flow.subset ^= 1),
            ("created", |flow| flow.created ^= 1),
            ("kind", |flow| flow.kind ^= REPLY_KEY),
        ];
        for (what, damage) in damaged {
            let mut other = new_flow;
            damage(&mut other);
            assert!(!other.is_whole(), "{what}");
        }
        let mut lived = new_flow;
        (lived.state, lived.seen, lived.sequences) = (ESTABLISHED, 99, [98, 97]);
        assert!(lived.is_whole(), "what changes is not summed up");
        assert!(!NewFlow::<V4>::zeroed().is_whole(), "an empty element is none");
    }

    #[test]
    fn ranks_follow_the_state() {
        for (state, expected) in [
            (0, PENDING),
            (FIN_CLIENT, PENDING),
            (ESTABLISHED, LIVE),
            (ESTABLISHED | FIN_CLIENT, LIVE),
            (ESTABLISHED | FIN_CLIENT | FIN_ENDPOINT, CLOSED),
            (RESET, CLOSED),
        ] {
            assert_eq!(rank(state), expected, "state {state}");
        }
    }

    #[test]
    fn a_new_flow_takes_a_free_place_or_the_oldest_one() {
        let turn = 5u16;
        // Elements of rank, and of age, which wraps around.
        let set = |elements: [(u8, u16); WAYS]| Set {
            tags: elements.map(|(rank, _)| u32::from(rank != 0)),
            ranks: elements.map(|(rank, _)| rank),
            stamps: elements.map(|(_, age)| turn.wrapping_sub(age)),
            turn,
            zero: 0,
            writers: 0,
        };
        let with = |lives: usize, changes: &[(usize, (u8, u16))]| {
            let mut elements = [(PENDING, 20); WAYS];
            elements[..lives].fill((LIVE, 50));
            for &(way, element) in changes {
                elements[way] = element;
            }
            set(elements)
        };
        let cases = [
            ("the free one", with(8, &[(3, (0, 0)), (4, (PENDING, 60_000))]), 3, false),
            ("the oldest", with(0, &[(6, (CLOSED, 21))]), 6, false),
            ("the oldest", with(1, &[(5, (PENDING, 40_000))]), 5, false),
            ("the oldest that does not live", with(2, &[(7, (PENDING, 21))]), 7, false),
            ("of three that live, the oldest", with(3, &[(2, (LIVE, 51))]), 2, true),
            ("of eight that live, the oldest", with(8, &[(7, (LIVE, 51))]), 7, true),
        ];
        for (what, set, way, live) in cases {
            assert_eq!(set.place(), Slot { way, live }, "{what}");
        }
    }

    #[test]
    fn flows_that_do_not_live_go_in_the_order_in_which_they_came() {
        let mut set = Set::zeroed();
        // More than 2^16, so that the count wraps around.
        for n in 0..70_000 {
            let place = set.place();
            assert_eq!(place, Slot { way: n % WAYS, live: false }, "flow {n}");
            set.tags[place.way] = 1;
            set.mark(place.way, PENDING);
        }
    }

    #[test]
    fn homes_spread_over_sets_and_have_tags() {
        let mut sets = [0u32; 64];
        for port in 0..64_000u16 {
            let home = Home::new(1, V4(0x0100_000a), port.to_be(), 6);
            assert!(home.tag != 0);
            sets[home.set as usize % 64] += 1;
        }
        // 1000 of each expected, standard deviation 31: seven of these on either side.
        assert!(sets.iter().all(|&flows| (780..1220).contains(&flows)), "{sets:?}");
    }
}
