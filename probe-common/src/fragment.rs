//! Fragments of IP packets: which of them belong together.
//!
//! Only the first has ports. What was made of its addresses is remembered for a
//! moment, under what all fragments of a packet have in common.

use crate::address::{Address, V4, V6};
use crate::flow::{Entry, REPLY, opposite};
use crate::frame::Frame;
use crate::parse::{Bytes, FRAGMENT, Headers, Parse, V4Header, V6Header};
use crate::rewrite::addresses;

/// Ticks after which what was remembered no longer counts. The fragments of a
/// packet are sent at once, and the numbers of packets come back: with 16 bits
/// of IPv4, after 65,536 packets between two hosts (RFC 4963).
pub const LIFETIME: u32 = 4;

/// Marks, beside the protocol number in [`FragmentKey::protocol`], the key for
/// errors about fragments: see [`turn`].
const BACK: u32 = 1 << 8;

/// What the fragments of a packet have in common: RFC 791 (section 2.3), RFC
/// 8200 (section 4.5).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification, as on the wire.
    pub id: u32,
    /// Protocol number of IPv4; 0 of IPv6, where it does not count.
    pub protocol: u32,
}

/// What was made of the first fragment of a packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<A> {
    /// [`FragmentKey::tag`] of the key; see [`crate::flow::Entry::tag`].
    pub tag: u32,
    /// Tick of the first fragment.
    pub seen: u32,
    /// Which endpoint it counts for.
    pub endpoint: u32,
    /// See [`crate::flow::Entry::direction`].
    pub direction: u8,
    /// Zero.
    pub zero: u8,
    /// See [`crate::flow::Entry::address_delta`].
    pub address_delta: u16,
    /// See [`crate::flow::Entry::address`].
    pub address: A,
}

const _: () = assert!(size_of::<FragmentKey<V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<V6>>() == 40);
const _: () = assert!(size_of::<Fragment<V4>>() == 20);
const _: () = assert!(size_of::<Fragment<V6>>() == 32);

impl<A: Address> FragmentKey<A> {
    /// Tells torn or foreign values from the one looked for.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        self.src.fold() ^ self.dst.fold().rotate_left(13) ^ self.id ^ self.protocol << 16
    }

    /// The key of errors about a packet with this key: the way that they go.
    #[inline(always)]
    pub fn back(&self) -> Self {
        Self { src: self.dst, dst: self.src, id: self.id, protocol: self.protocol | BACK }
    }
}

impl<A: Address> Fragment<A> {
    /// What is made of a first fragment with that key, in a tick.
    #[inline(always)]
    pub fn new(key: &FragmentKey<A>, entry: &Entry<A>, now: u32) -> Self {
        Self {
            tag: key.tag(),
            seen: now,
            endpoint: entry.endpoint,
            direction: entry.direction,
            zero: 0,
            address_delta: entry.address_delta,
            address: entry.address,
        }
    }

    /// Whether it still counts.
    #[inline(always)]
    pub fn is_fresh(&self, now: u32) -> bool {
        now.wrapping_sub(self.seen) <= LIFETIME
    }

    /// Source and destination of a packet with that key, after the rewrite; as
    /// [`crate::flow::Entry::to`].
    #[inline(always)]
    pub fn ends(&self, key: &FragmentKey<A>) -> [A; 2] {
        let (reply, hairpin) = (self.direction == REPLY, self.direction > REPLY);
        let src = key.src.or(self.address, reply).or(key.dst, hairpin);
        [src, self.address.or(key.dst, reply)]
    }
}

/// Makes of what is remembered of a packet what undoes it: by that, an error
/// about a later fragment, as it left, becomes one about the fragment as it came.
#[inline(always)]
pub fn turn<A: Address>(key: &mut FragmentKey<A>, fragment: &mut Fragment<A>) {
    let (src, dst) = (key.src, key.dst);
    let left = fragment.ends(key);
    [key.dst, key.src] = left;
    key.protocol |= BACK;
    fragment.tag = key.tag();
    fragment.direction = opposite(fragment.direction);
    fragment.address = src.or(dst, fragment.direction == REPLY);
    fragment.address_delta = !fragment.address_delta;
}

/// Sends a fragment with that key, whose IP header is at `l3`, after the first one.
/// None if the packet cannot be changed.
#[inline(always)]
pub fn follow<A: Parse>(
    frame: &impl Frame,
    l3: usize,
    key: &FragmentKey<A>,
    first: &Fragment<A>,
) -> Option<()> {
    let delta = first.address_delta;
    addresses(frame, l3, key.dst, first.direction, first.address, delta)?;
    if size_of::<A>() == 16 {
        // No checksum of its own covers the addresses.
        frame.sum_up(delta);
    }
    Some(())
}

/// A family whose fragments can be told.
pub trait Fragments: Parse {
    /// The key of a packet of which this is the first fragment.
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        ends: [Self; 2],
    ) -> Option<FragmentKey<Self>>;

    /// The key of a packet of which this, with its IP header at `l3`, is another
    /// fragment.
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>>;
}

impl Fragments for V4 {
    #[inline(always)]
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        [src, dst]: [Self; 2],
    ) -> Option<FragmentKey<Self>> {
        let id: u16 = frame.load(headers.l3 + 4)?;
        Some(FragmentKey { src, dst, id: id as u32, protocol: headers.protocol as u32 })
    }

    #[inline(always)]
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>> {
        let ip: V4Header = frame.load(l3)?;
        let [src, dst] = ip.addresses.map(Self);
        Some(FragmentKey { src, dst, id: ip.id as u32, protocol: ip.protocol as u32 })
    }
}

impl Fragments for V6 {
    /// The fragment header is the last one before the TCP or UDP header: see
    /// [`Headers::first`].
    #[inline(always)]
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        [src, dst]: [Self; 2],
    ) -> Option<FragmentKey<Self>> {
        // The bound is for the verifier.
        let id: u32 = frame.load(headers.l4.wrapping_sub(4) & 0x3fff)?;
        Some(FragmentKey { src, dst, id, protocol: 0 })
    }

    /// Only where the fragment header is the first extension header.
    #[inline(always)]
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>> {
        let ip: V6Header = frame.load(l3)?;
        if ip.next != FRAGMENT {
            return None;
        }
        let [a, b, c, d] = ip.addresses;
        let id: u32 = frame.load(l3 + 44)?;
        Some(FragmentKey { src: Self([a, b]), dst: Self([c, d]), id, protocol: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Tuple;
    use crate::checksum::fold;
    use crate::flow::{FORWARD, FORWARD_HAIRPIN, Facts, REPLY_HAIRPIN};
    use crate::memory::packet::{Family, ethernet};
    use crate::memory::{Memory, sum};

    #[test]
    fn what_undoes_a_rewrite_is_what_the_other_entry_of_the_flow_does() {
        let (client, vip, endpoint) = (V4(1), V4(2), V4(3));
        let tuple = |src, dst| Tuple { src, dst, sport: 0, dport: 0, protocol: 17, zero: [0; 3] };
        for (came, left, direction) in [
            (tuple(client, vip), tuple(client, endpoint), FORWARD),
            (tuple(endpoint, client), tuple(vip, client), REPLY),
            (tuple(endpoint, vip), tuple(vip, endpoint), FORWARD_HAIRPIN),
            (tuple(endpoint, vip), tuple(vip, endpoint), REPLY_HAIRPIN),
        ] {
            let facts = Facts {
                endpoint: 8,
                subset: 4,
                state: 0,
                direction,
                seen: 9,
                created: 0,
                sequence: 0,
            };
            let entry = Entry::new(&came, &left, &facts);
            let mut key = FragmentKey { src: came.src, dst: came.dst, id: 7, protocol: 17 };
            let mut fragment = Fragment::new(&key, &entry, 9);
            turn(&mut key, &mut fragment);
            let quoted = FragmentKey { src: left.src, dst: left.dst, id: 7, protocol: 17 };
            assert_eq!(key, quoted.back(), "direction {direction}");
            let facts = Facts { direction: opposite(direction), ..facts };
            let pair = Entry::new(&left.reversed(), &came.reversed(), &facts);
            assert_eq!(fragment.address, pair.address, "direction {direction}");
            assert_eq!(fragment.direction, pair.direction, "direction {direction}");
            // Equal, or the two zeros of one's complement.
            let difference = fragment.address_delta.abs_diff(pair.address_delta);
            assert!(matches!(difference, 0 | 0xffff), "direction {direction}");
            assert_eq!((fragment.tag, fragment.seen), (key.tag(), 9), "direction {direction}");
        }
    }

    /// A fragment that follows has the addresses of the first one, and its device is told
    /// of what no checksum covers.
    fn follows<A: Family + Fragments>([client, vip, endpoint]: [A; 3]) {
        for (came, left, direction) in [
            ([client, vip], [client, endpoint], FORWARD),
            ([endpoint, client], [vip, client], REPLY),
            ([client, vip], [vip, client], FORWARD_HAIRPIN),
        ] {
            let tuple = |[src, dst]: [A; 2]| Tuple {
                src,
                dst,
                sport: 0,
                dport: 0,
                protocol: 17,
                zero: [0; 3],
            };
            let facts = Facts {
                endpoint: 8,
                subset: 4,
                state: 0,
                direction,
                seen: 9,
                created: 0,
                sequence: 0,
            };
            let entry = Entry::new(&tuple(came), &tuple(left), &facts);
            let frame = |[src, dst]: [A; 2]| {
                let mut packet = src.header(dst, 17, 61, 8);
                packet.extend(*b"the rest");
                ethernet::<A>(packet)
            };
            let [src, dst] = came;
            let key = FragmentKey { src, dst, id: 0, protocol: 17 };
            let first = Fragment::new(&key, &entry, 9);
            let (before, wanted) = (frame(came), frame(left));
            let memory = Memory::new(&before);
            follow(&memory, 14, &key, &first).expect("a whole packet");
            let told = memory.summed();
            assert_eq!(memory.into_frame(), wanted, "direction {direction}");
            let change = sum(&wanted) + u64::from(!fold(sum(&before)));
            let difference = fold(change).abs_diff(told.to_be());
            assert!(matches!(difference, 0 | 0xffff), "direction {direction}, told {told:#x}");
        }
    }

    #[test]
    fn fragments_follow_the_first_one() {
        follows([V4(0x0100_000a), V4(0x0a00_02c0), V4(0x0200_000a)]);
        follows([V6([1, 2]), V6([3, 4]), V6([5, 6])]);
    }

    #[test]
    fn what_is_remembered_does_not_count_for_long() {
        let fragment: Fragment<V4> = Fragment {
            tag: 0,
            seen: u32::MAX - 1,
            endpoint: 0,
            direction: FORWARD,
            zero: 0,
            address_delta: 0,
            address: V4(0),
        };
        assert!(fragment.is_fresh(u32::MAX) && fragment.is_fresh(2));
        assert!(!fragment.is_fresh(3));
    }
}
