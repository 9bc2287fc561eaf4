//! How long things take, per flow: which packets begin and end a measured time, and the
//! histograms that times are counted in.
//!
//! A time is measured between packets as they pass the node, in units of 1024 ns: programs shift
//! the kernel's clock, and do not divide. What is kept per flow is two points in time
//! ([`FlowTimes`]), modulo 2^32 units (73 minutes).
//!
//! Buckets are those of HdrHistogram: as wide as a unit at first, then 2^n in each factor of two.

use bytemuck::{Pod, Zeroable};

use crate::flow::{ADOPTED, ANSWERED, ENDED, ESTABLISHED, REPLIED};
use crate::map::Signal;
use crate::parse::SYN;
use crate::signals::Signals;
use crate::tcp::Side;

/// Nanoseconds in a unit, as a power of two.
pub const UNIT_SHIFT: u32 = 10;

/// What is known of a flow's times, beside its element among the new flows. A point in time is in
/// units, and 0 if it is not known.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct FlowTimes {
    /// When its first packet came.
    pub begun: u32,
    /// When its client had last sent what an answer is due to: what completed the handshake, or the first
    /// data.
    pub asked: u32,
}

/// A point in time that is known: 0 stands for none.
#[inline(always)]
pub const fn known(units: u32) -> u32 {
    if units == 0 { 1 } else { units }
}

/// Units since a point in time; None if that is not known.
#[inline(always)]
pub const fn since(then: u32, now: u32) -> Option<u64> {
    if then == 0 { None } else { Some(now.wrapping_sub(then) as u64) }
}

/// From so many ticks on, the life of a flow is told by ticks: what is kept in units wraps around.
pub const LONG_LIFE: u32 = 2048;

/// What is measured.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// From the client's first SYN to the endpoint's.
    Handshake,
    /// From what the client asked to the first data of the endpoint; of UDP, from the flow's first
    /// datagram to the first answer.
    Reply,
    /// From a flow's first packet to the one that ended it.
    Life,
}

/// Buckets of [`SubsetTimes::handshake`] and [`SubsetTimes::reply`]: eight in each factor of two,
/// up to 2^27 units (137 s).
pub const FINE: usize = 200;
/// Buckets of [`SubsetTimes::life`]: four in each factor of two, up to 2^41 units (26 days).
pub const COARSE: usize = 160;
/// See [`FINE`].
const FINE_BITS: u32 = 3;
/// See [`COARSE`].
const COARSE_BITS: u32 = 2;

/// Times of a subset's flows, in HISTOGRAMS: sums in units, and how many there were in each
/// bucket. The last bucket has all that is longer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct SubsetTimes {
    /// By [`Measured`].
    pub sums: [u64; 3],
    /// See [`Measured::Handshake`].
    pub handshake: [u64; FINE],
    /// See [`Measured::Reply`].
    pub reply: [u64; FINE],
    /// See [`Measured::Life`].
    pub life: [u64; COARSE],
}

impl SubsetTimes {
    /// Nothing was measured.
    pub const ZERO: Self =
        Self { sums: [0; 3], handshake: [0; FINE], reply: [0; FINE], life: [0; COARSE] };

    /// How many times there were in each bucket.
    pub fn buckets(&self, measured: Measured) -> &[u64] {
        match measured {
            Measured::Handshake => &self.handshake,
            Measured::Reply => &self.reply,
            Measured::Life => &self.life,
        }
    }

    /// The sum of all times, in units.
    pub fn sum(&self, measured: Measured) -> u64 {
        self.sums[measured as usize]
    }

    /// How many times there were.
    pub fn count(&self, measured: Measured) -> u64 {
        self.buckets(measured).iter().sum()
    }

    /// The time in units that is longer than that part of all, 0 to 1, or as long: the middle of its bucket. None
    /// if there was none.
    pub fn quantile(&self, measured: Measured, part: f64) -> Option<u64> {
        let count = self.count(measured);
        let mut left = ((count as f64 * part) as u64).min(count.checked_sub(1)?);
        let bucket = self.buckets(measured).iter().position(|&times| {
            let is_here = left < times;
            left = left.saturating_sub(times);
            is_here
        })?;
        Some((measured.least(bucket) + measured.least(bucket + 1)) / 2)
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        self.each(other, u64::wrapping_add);
    }

    /// What was measured since it was `before`.
    pub fn since(mut self, before: &Self) -> Self {
        self.each(before, u64::saturating_sub);
        self
    }

    fn each(&mut self, other: &Self, of: fn(u64, u64) -> u64) {
        let own: &mut [u64; NUMBERS] = bytemuck::cast_mut(self);
        let other: &[u64; NUMBERS] = bytemuck::cast_ref(other);
        own.iter_mut().zip(other).for_each(|(own, other)| *own = of(*own, *other));
    }
}

/// Counters in a [`SubsetTimes`].
pub const NUMBERS: usize = size_of::<SubsetTimes>() / size_of::<u64>();

impl Measured {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Handshake, Self::Reply, Self::Life];

    /// Where its buckets begin among the numbers of a [`SubsetTimes`], how many there are, and the
    /// power of two of how many are in a factor of two.
    const fn place(self) -> (usize, usize, u32) {
        match self {
            Self::Handshake => (3, FINE, FINE_BITS),
            Self::Reply => (3 + FINE, FINE, FINE_BITS),
            Self::Life => (3 + 2 * FINE, COARSE, COARSE_BITS),
        }
    }

    /// Which of the numbers of a [`SubsetTimes`] counts a time.
    #[inline(always)]
    pub fn number(self, units: u64) -> usize {
        let (start, count, bits) = self.place();
        let at = bucket(units, bits);
        start + if at < count { at } else { count - 1 }
    }

    /// How many buckets it has.
    pub const fn buckets(self) -> usize {
        self.place().1
    }

    /// The least time of a bucket, in units.
    pub const fn least(self, bucket: usize) -> u64 {
        let (_, _, bits) = self.place();
        let linear = 1 << bits;
        if bucket < linear {
            return bucket as u64;
        }
        let octave = (bucket >> bits) - 1;
        ((linear + (bucket & (linear - 1))) as u64) << octave
    }
}

/// The bucket of a time, with 2^bits buckets in each factor of two.
#[inline(always)]
fn bucket(units: u64, bits: u32) -> usize {
    if units >> bits == 0 {
        return units as usize;
    }
    let octave = 63 - units.leading_zeros();
    let within = (units >> (octave - bits)) & ((1 << bits) - 1);
    ((octave - bits + 1) as usize) << bits | within as usize
}

/// What a packet begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moments(u32);

impl Moments {
    /// [`FlowTimes::asked`] is now.
    const ASKED: u32 = 1 << 8;

    /// Whether a time ends.
    #[inline(always)]
    pub const fn ends(self, measured: Measured) -> bool {
        self.0 >> measured as u32 & 1 != 0
    }

    /// Whether [`FlowTimes::asked`] is to be noted.
    #[inline(always)]
    pub const fn asks(self) -> bool {
        self.0 & Self::ASKED != 0
    }

    /// Whether there is anything to be done.
    #[inline(always)]
    pub const fn any(self) -> bool {
        self.0 != 0
    }

    /// As a number, for global functions.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`Moments::bits`].
    #[inline(always)]
    pub const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// Of a TCP segment which made a flow's state `after` from `before`, with [`ENDED`] if it ended
/// the flow, and said `signals`.
#[inline(always)]
pub fn of_segment(before: u16, after: u16, flags: u8, side: Side, signals: Signals) -> Moments {
    let entered = after & !before;
    let mut bits = 0;
    if entered & ANSWERED != 0 && flags & SYN != 0 && after & ADOPTED == 0 {
        bits |= 1 << Measured::Handshake as u32;
    }
    if signals.has(Signal::Replied) {
        bits |= 1 << Measured::Reply as u32;
    }
    if entered & ENDED != 0 && after & ESTABLISHED != 0 {
        bits |= 1 << Measured::Life as u32;
    }
    let completed = entered & ESTABLISHED != 0 && side as u32 == Side::Client as u32;
    if (completed || signals.has(Signal::Asked)) && after & (REPLIED | ADOPTED) == 0 {
        bits |= Moments::ASKED;
    }
    Moments(bits)
}

/// Of a datagram: the first answer.
#[inline(always)]
pub fn of_datagram(before: u16, after: u16) -> Moments {
    Moments(if after & !before & ANSWERED != 0 { 1 << Measured::Reply as u32 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::ACK;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for measured in Measured::ALL {
            let (start, count, bits) = measured.place();
            let mut before = None;
            for bucket in 0..count {
                let least = measured.least(bucket);
                assert_eq!(measured.number(least), start + bucket, "{measured:?} {least}");
                if let Some(before) = before {
                    assert!(least > before, "{measured:?} {bucket}");
                    assert_eq!(measured.number(least - 1), start + bucket - 1, "{measured:?}");
                    // No wider than what 2^bits in a factor of two makes them.
                    assert!((least - before) << bits <= before.max(1 << bits), "{measured:?}");
                }
                before = Some(least);
            }
            for long in [measured.least(count), u64::MAX] {
                assert_eq!(measured.number(long), start + count - 1, "all that is longer");
            }
        }
    }

    #[test]
    fn histograms_lie_behind_one_another() {
        assert_eq!(Measured::Handshake.number(0), 3);
        assert_eq!(Measured::Reply.number(0), 3 + FINE);
        assert_eq!(Measured::Life.number(u64::MAX), NUMBERS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut times = SubsetTimes::ZERO;
        assert_eq!(times.quantile(Measured::Reply, 0.5), None);
        let numbers: &mut [u64; NUMBERS] = bytemuck::cast_mut(&mut times);
        for units in 1..=1000 {
            numbers[Measured::Reply.number(units)] += 1;
        }
        assert_eq!(times.count(Measured::Reply), 1000);
        for (part, exact) in [(0.0, 1), (0.5, 501), (0.99, 991), (1.0, 1000)] {
            let found = times.quantile(Measured::Reply, part).unwrap();
            assert!(found.abs_diff(exact) * 8 <= exact, "{part}: {found}");
        }
        let double = SubsetTimes { ..times };
        times.add(&double);
        assert_eq!(times.since(&double), double);
    }

    #[test]
    fn a_time_is_known_over_the_end_of_the_clock() {
        assert_eq!(since(0, 5), None);
        assert_eq!(since(known(0), 5), Some(4));
        assert_eq!(since(u32::MAX, 4), Some(5));
    }

    #[test]
    fn packets_begin_and_end_times() {
        let none = Signals::default();
        let ends = |moments: Moments| Measured::ALL.map(|measured| moments.ends(measured));
        let syn_ack = of_segment(0, ANSWERED, SYN | ACK, Side::Endpoint, none);
        assert_eq!((ends(syn_ack), syn_ack.asks()), ([true, false, false], false));
        assert!(!of_segment(ANSWERED, ANSWERED, SYN | ACK, Side::Endpoint, none).any(), "again");
        assert!(!of_segment(ADOPTED, ADOPTED | ANSWERED, SYN, Side::Endpoint, none).any());
        assert!(!of_segment(0, ANSWERED, ACK, Side::Endpoint, none).any(), "no SYN");

        let ack = of_segment(ANSWERED, ANSWERED | ESTABLISHED, ACK, Side::Client, none);
        assert_eq!((ends(ack), ack.asks()), ([false; 3], true), "a server that speaks first");
        let asked = Signals::of(Signal::Asked);
        let data = of_segment(ESTABLISHED, ESTABLISHED, ACK, Side::Client, asked);
        assert!(data.asks());
        let late =
            of_segment(ESTABLISHED | REPLIED, ESTABLISHED | REPLIED, ACK, Side::Client, asked);
        assert!(!late.any(), "the endpoint has spoken: it is another question");

        let replied = Signals::of(Signal::Replied);
        let reply = of_segment(ESTABLISHED, ESTABLISHED | REPLIED, ACK, Side::Endpoint, replied);
        assert_eq!((ends(reply), reply.asks()), ([false, true, false], false));
        let end = of_segment(ESTABLISHED, ESTABLISHED | ENDED, ACK, Side::Client, none);
        assert_eq!(ends(end), [false, false, true]);
        assert!(!of_segment(0, ENDED, ACK, Side::Client, none).any(), "never established");
    }

    #[test]
    fn the_first_answer_of_a_datagram_counts() {
        assert!(of_datagram(0, ANSWERED).ends(Measured::Reply));
        assert!(!of_datagram(ANSWERED, ANSWERED | ESTABLISHED).any());
    }
}
