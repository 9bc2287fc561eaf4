//! Entries of the flow tables.
//!
//! A flow has two: one for each direction, keyed by the tuple as it stands on
//! the wire before weir rewrites it. The value says what the tuple becomes.
//! The key of the other entry is always `entry.to(&key).reversed()`.
//!
//! A flow does not begin here, but among the new ones (see [`crate::new_flow`]),
//! which are looked at in the same terms. It is established when both sides have
//! spoken: when its TCP handshake is complete, when the client of a UDP flow goes
//! on after an answer. If it is established and lives on, it moves to the tables.
//!
//! The tables reject no entry. A full one evicts the least recently used entry, of either direction. Of a flow that goes on, the
//! other direction makes it anew within a tick. A flow of which both are
//! forgotten is known again with its client's next packet: adopted, and steered
//! by the weights of that moment; what its endpoint says before that passes as
//! it is. The agent clears away flows that have ended, so that this happens
//! only where more flows live than there is room for.

use bytemuck::{Pod, Zeroable};

use crate::address::{Address, Tuple, V4, V6};
use crate::checksum::fold;

/// Both sides have spoken.
pub const ESTABLISHED: u16 = 1;
/// A FIN was seen from the client.
pub const FIN_CLIENT: u16 = 2;
/// A FIN was seen from the endpoint.
pub const FIN_ENDPOINT: u16 = 4;
/// A RST was seen, and no packet of the client since.
pub const RESET: u16 = 8;
/// A packet of the endpoint was seen.
pub const ANSWERED: u16 = 16;
/// The flow was first seen in its middle: the start of its handshake is not known.
pub const ADOPTED: u16 = 32;
/// The end of the flow was counted.
pub const ENDED: u16 = 64;
/// [`Entry::sequence`] is known (TCP); always set for UDP.
pub const SYNCED: u16 = 128;
/// Another flow with the tuple may be among the new ones: the client's next one,
/// which takes its place when its handshake is complete. Of the forward direction
/// alone: its packets are not ordinary ones then.
pub const CONTESTED: u16 = 256;
/// Of TCP: the client has sent data.
pub const ASKED: u16 = 512;
/// Of TCP: the endpoint has sent data.
pub const REPLIED: u16 = 1024;
/// Of TCP: it was counted that nobody answered the client's SYN.
pub const UNANSWERED: u16 = 2048;
/// It was counted that an ICMP error said, before anybody answered, that the endpoint cannot be
/// reached.
pub const UNREACHABLE: u16 = 4096;
/// Its packets may go past the node's stack: its first one could, and no rule of the stack's has
/// seen half of it. One that began in the stack stays there.
pub const PAST: u16 = 8192;
/// Any of these and a SYN starts a new flow.
pub const CLOSING: u16 = FIN_CLIENT | FIN_ENDPOINT | RESET;

/// From client to endpoint; found at ingress.
pub const FORWARD: u8 = 0;
/// From endpoint to client; found at egress.
pub const REPLY: u8 = 1;
/// As FORWARD, of a flow whose client is the endpoint itself: its source
/// becomes the VIP.
pub const FORWARD_HAIRPIN: u8 = 2;
/// The way back of a FORWARD_HAIRPIN; found at ingress.
pub const REPLY_HAIRPIN: u8 = 3;

/// Whether packets of that direction come from the client.
#[inline(always)]
pub const fn is_forward(direction: u8) -> bool {
    direction & 1 == 0
}

/// The direction of the other entry of the flow.
#[inline(always)]
pub const fn opposite(direction: u8) -> u8 {
    direction ^ 1
}

/// Whether both sides have closed the flow, or one has reset it.
#[inline(always)]
pub const fn is_closed(state: u16) -> bool {
    const BOTH: u16 = FIN_CLIENT | FIN_ENDPOINT;
    state & RESET != 0 || state & BOTH == BOTH
}

/// How far behind the number that is known a sequence number may be.
const BEHIND: u32 = 1 << 16;
/// How far before the number that is known a sequence number may be. More than
/// the window of most connections; a guess is right once in about 4,000 times.
const REACH: u32 = 1 << 20;
/// The known number is written anew when a packet is that far before it, so
/// that not every packet writes.
const STRIDE: u32 = 1 << 17;

/// Whether a TCP segment belongs to the flow of which `known` is
/// [`Entry::sequence`]: only then may its FIN or RST close the flow.
#[inline(always)]
pub const fn in_window(sequence: u32, known: u32) -> bool {
    sequence.wrapping_sub(known).wrapping_add(BEHIND) < BEHIND + REACH
}

/// Whether the sequence number of a segment is to be noted.
#[inline(always)]
pub const fn to_note(sequence: u32, known: u32) -> bool {
    sequence.wrapping_sub(known).wrapping_sub(STRIDE) < REACH - STRIDE
}

/// Whether `acknowledged` confirms the SYN whose next number is `expected`, and
/// perhaps data that came with or soon after it.
#[inline(always)]
pub const fn confirms(acknowledged: u32, expected: u32) -> bool {
    acknowledged.wrapping_sub(expected) < BEHIND
}

/// Value of a flow table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<A> {
    /// [`Tuple::tag`] of the key. A preallocated table reuses an entry at once,
    /// also under a reader's hands; a reader that finds the wrong tag after it
    /// copied the value knows that. First field, since the kernel fills values
    /// from the front.
    pub tag: u32,
    /// Tick of the last packet, as it was last noted (see [`crate::map::Meta`]).
    pub seen: u32,
    /// Which endpoint it counts for.
    pub endpoint: u32,
    /// The subset that it was steered to, for which it counts as long as it lives.
    pub subset: u32,
    /// [`ESTABLISHED`] and the like.
    pub state: u16,
    /// [`FORWARD`] and the like.
    pub direction: u8,
    /// Zero.
    pub zero: u8,
    /// Checksum delta of the addresses (IPv4 header; TCP and UDP pseudo-header).
    pub address_delta: u16,
    /// Checksum delta of the ports.
    pub port_delta: u16,
    /// Source port of the rewritten packet, wire order.
    pub sport: u16,
    /// Destination port of the rewritten packet, wire order.
    pub dport: u16,
    /// Tick of the flow's first packet.
    pub created: u32,
    /// TCP: a sequence number of this direction, host order, not far behind the
    /// latest (see [`in_window`]). Until the flow is established: the one after the SYN.
    pub sequence: u32,
    /// A point in time, see [`crate::times`], or 0 if it is not known. In the entry of the forward
    /// direction: when the flow's first packet came. In that of the reply direction: when its
    /// client had last asked.
    pub time: u32,
    /// The address that the rewrite puts in: the new destination, or for
    /// [`REPLY`] the new source; see [`Entry::to`].
    pub address: A,
}

const _: () = assert!(size_of::<Entry<V4>>() == 44);
const _: () = assert!(size_of::<Entry<V6>>() == 56);

/// Checksum deltas of addresses and of ports, for a packet which becomes `to`.
#[inline(always)]
pub fn deltas<A: Address>(from: &Tuple<A>, to: &Tuple<A>) -> [u16; 2] {
    let addresses = to.src.sum() + to.dst.sum() + from.src.sum_not() + from.dst.sum_not();
    let ports = to.sport as u64 + to.dport as u64 + !from.sport as u64 + !from.dport as u64;
    [fold(addresses), fold(ports)]
}

/// What two entries of a flow have in common, or is given when they are made.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// See [`Entry::endpoint`].
    pub endpoint: u32,
    /// See [`Entry::subset`].
    pub subset: u32,
    /// See [`Entry::state`].
    pub state: u16,
    /// See [`Entry::direction`].
    pub direction: u8,
    /// Now; see [`Entry::seen`].
    pub seen: u32,
    /// See [`Entry::created`].
    pub created: u32,
    /// See [`Entry::sequence`].
    pub sequence: u32,
}

impl<A: Address> Entry<A> {
    /// An entry which makes `to` of `key`, with the deltas of that rewrite.
    #[inline(always)]
    pub fn new(key: &Tuple<A>, to: &Tuple<A>, facts: &Facts) -> Self {
        let [address_delta, port_delta] = deltas(key, to);
        Self {
            tag: key.tag(),
            seen: facts.seen,
            endpoint: facts.endpoint,
            subset: facts.subset,
            state: facts.state,
            direction: facts.direction,
            zero: 0,
            address_delta,
            port_delta,
            sport: to.sport,
            dport: to.dport,
            created: facts.created,
            sequence: facts.sequence,
            time: 0,
            address: to.dst.or(to.src, facts.direction == REPLY),
        }
    }

    /// What the tuple becomes. Of a hairpin flow, both directions go from the
    /// VIP, which is where both came to.
    #[inline(always)]
    pub fn to(&self, key: &Tuple<A>) -> Tuple<A> {
        let (reply, hairpin) = (self.direction == REPLY, self.direction >= FORWARD_HAIRPIN);
        let src = key.src.or(self.address, reply).or(key.dst, hairpin);
        let dst = self.address.or(key.dst, reply);
        Tuple { src, dst, sport: self.sport, dport: self.dport, ..*key }
    }
}

// SAFETY: repr(C), every field is Pod, and the asserts above exclude padding.
unsafe impl Zeroable for Entry<V4> {}
// SAFETY: as above.
unsafe impl Zeroable for Entry<V6> {}
// SAFETY: as above.
unsafe impl Pod for Entry<V4> {}
// SAFETY: as above.
unsafe impl Pod for Entry<V6> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_wrap_around() {
        for known in [0, 5, 1 << 31, u32::MAX - 5] {
            let at = |offset: i64| (i64::from(known) + offset) as u32;
            for (offset, inside) in [
                (-65_537, false),
                (-65_536, true),
                (0, true),
                (1_048_575, true),
                (1_048_576, false),
            ] {
                assert_eq!(in_window(at(offset), known), inside, "{offset} from {known}");
            }
            for (offset, noted) in
                [(-1, false), (131_071, false), (131_072, true), (1_048_576, false)]
            {
                assert_eq!(to_note(at(offset), known), noted, "{offset} from {known}");
            }
            assert!(confirms(known, known) && !confirms(at(-1), known));
        }
    }

    #[test]
    fn an_entry_leads_to_its_pair_and_back() {
        let key = Tuple { src: V4(1), dst: V4(2), sport: 3, dport: 4, protocol: 6, zero: [0; 3] };
        let plain = Tuple { dst: V4(5), dport: 6, ..key };
        let hairpin = Tuple { src: V4(2), dst: V4(1), sport: 7, ..key };
        for (to, direction) in [(plain, FORWARD), (hairpin, FORWARD_HAIRPIN)] {
            let facts = Facts {
                endpoint: 8,
                subset: 4,
                state: 0,
                direction,
                seen: 0,
                created: 0,
                sequence: 0,
            };
            let entry = Entry::new(&key, &to, &facts);
            assert_eq!(entry.to(&key), to, "direction {direction}");
            let pair_key = to.reversed();
            let facts = Facts { direction: opposite(direction), ..facts };
            let pair = Entry::new(&pair_key, &key.reversed(), &facts);
            assert_eq!(pair.to(&pair_key), key.reversed(), "opposite of {direction}");
        }
    }
}
