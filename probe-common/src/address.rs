//! Address families and flow tuples.

use bytemuck::{Pod, Zeroable};

use crate::hash::mix;

/// An IP address of one family. All packet code is generic over this trait,
/// so that there is one path for IPv4 and IPv6.
pub trait Address: Copy + Eq + Pod {
    /// The value of the EtherType field, in host order.
    const ETHERTYPE: u16;
    /// The address as four words, IPv4 in the first; how maps that serve both
    /// families hold it.
    fn words(self) -> [u32; 4];
    /// The inverse of [`Address::words`].
    fn from_words(words: [u32; 4]) -> Self;
    /// Absorbs the address into a hash.
    fn absorb(self, hash: u64) -> u64;
    /// The one's complement sum of the address's 16-bit words, not folded.
    fn sum(self) -> u64;
    /// The same of the bitwise complement of the address.
    fn sum_not(self) -> u64;
    /// Folds the address to a word, for the tag of a flow entry.
    fn fold(self) -> u32;
    /// Whether it can be that of one host: whose packets may be answered (RFC
    /// 1122, section 3.2.2; RFC 4443, section 2.4).
    fn is_host(self) -> bool;
    /// This address, or the other one. By arithmetic: of a choice between two
    /// places in memory, LLVM makes a copy that its BPF back end cannot emit.
    fn or(self, other: Self, use_other: bool) -> Self;
}

/// An IPv4 address, as on the wire.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct V4(pub u32);

/// An IPv6 address, as on the wire; two words, since programs move few large
/// values faster than many small ones.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct V6(pub [u64; 2]);

impl Address for V4 {
    const ETHERTYPE: u16 = 0x0800;

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }

    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        Self(words[0])
    }

    #[inline(always)]
    fn absorb(self, hash: u64) -> u64 {
        mix(hash ^ self.0 as u64)
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn sum_not(self) -> u64 {
        !self.0 as u64
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        // This network, loopback; multicast, reserved, broadcast.
        let first = u32::from_be(self.0) >> 24;
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn or(self, other: Self, use_other: bool) -> Self {
        let mask = (use_other as u32).wrapping_neg();
        Self(self.0 & !mask | other.0 & mask)
    }
}

impl Address for V6 {
    const ETHERTYPE: u16 = 0x86dd;

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        let Self([high, low]) = self;
        [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
    }

    #[inline(always)]
    fn from_words([a, b, c, d]: [u32; 4]) -> Self {
        Self([a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32])
    }

    #[inline(always)]
    fn absorb(self, hash: u64) -> u64 {
        let Self([high, low]) = self;
        mix(mix(hash ^ high) ^ low)
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        let [a, b, c, d] = self.words();
        a as u64 + b as u64 + c as u64 + d as u64
    }

    #[inline(always)]
    fn sum_not(self) -> u64 {
        let Self([high, low]) = self;
        Self([!high, !low]).sum()
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        let Self([high, low]) = self;
        let both = high ^ low.rotate_left(24);
        both as u32 ^ ((both >> 32) as u32).rotate_left(8)
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        let Self([high, low]) = self;
        let multicast = u64::from_be(high) >> 56 == 0xff;
        // Unspecified, loopback.
        !multicast && (high != 0 || u64::from_be(low) > 1)
    }

    #[inline(always)]
    fn or(self, other: Self, use_other: bool) -> Self {
        let mask = (use_other as u64).wrapping_neg();
        let (Self([a, b]), Self([c, d])) = (self, other);
        Self([a & !mask | c & mask, b & !mask | d & mask])
    }
}

/// A flow as one packet of it shows: the key of the flow tables.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, wire order.
    pub sport: u16,
    /// Destination port, wire order.
    pub dport: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero: map keys are compared byte by byte.
    pub zero: [u8; 3],
}

const _: () = assert!(size_of::<Tuple<V4>>() == 16);
const _: () = assert!(size_of::<Tuple<V6>>() == 40);

impl<A: Address> Tuple<A> {
    /// All zeros, to be filled.
    #[inline(always)]
    pub fn empty() -> Self {
        let none = A::zeroed();
        Self { src: none, dst: none, sport: 0, dport: 0, protocol: 0, zero: [0; 3] }
    }

    /// The tuple of the packets that go the other way.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..*self }
    }

    /// Tells torn or foreign entries of a flow table from the one looked for;
    /// see [`crate::flow::Entry::tag`].
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let ports = (self.sport as u32) << 16 | self.dport as u32;
        self.src.fold() ^ self.dst.fold().rotate_left(13) ^ ports ^ (self.protocol as u32) << 8
    }
}

// SAFETY: repr(C), every field is Pod, and the asserts above exclude padding
// for the two address types that exist.
unsafe impl Zeroable for Tuple<V4> {}
// SAFETY: as above.
unsafe impl Zeroable for Tuple<V6> {}
// SAFETY: as above.
unsafe impl Pod for Tuple<V4> {}
// SAFETY: as above.
unsafe impl Pod for Tuple<V6> {}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn packets_from_groups_and_from_nowhere_are_not_from_a_host() {
        let v4 = |text: &str| V4(u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()));
        let v6 = |text: &str| V6(bytemuck::cast(text.parse::<Ipv6Addr>().unwrap().octets()));
        for host in ["1.0.0.0", "10.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255"] {
            assert!(v4(host).is_host(), "{host}");
        }
        for other in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        {
            assert!(!v4(other).is_host(), "{other}");
        }
        for host in ["2001:db8::1", "::2", "1::", "fe80::1", "feff:ffff::1"] {
            assert!(v6(host).is_host(), "{host}");
        }
        for other in ["::", "::1", "ff00::", "ff02::1", "ffff::1"] {
            assert!(!v6(other).is_host(), "{other}");
        }
    }
}
