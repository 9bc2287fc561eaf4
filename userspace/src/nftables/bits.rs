//! Bytes of which some bits are known.

use std::cmp::Ordering;

/// Three answers to a question about packets of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Of every packet.
    Yes,
    /// Of none.
    No,
    /// Of some, or nobody knows.
    Maybe,
}

impl Answer {
    /// The answer to the opposite question.
    pub const fn inverted(self, invert: bool) -> Self {
        match (self, invert) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            (answer, _) => answer,
        }
    }

    /// What is known where two things have to be so.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// A run of bytes; both halves are of one length. Bits of `value` that are not known are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits<'a> {
    /// What is known.
    pub value: &'a [u8],
    /// Which bits are.
    pub known: &'a [u8],
}

impl Bits<'_> {
    /// Whether all are known.
    pub fn are_known(&self) -> bool {
        self.known.iter().all(|&known| known == 0xff)
    }

    /// Whether it is these bytes.
    pub fn equal(&self, bytes: &[u8]) -> Answer {
        let pairs = self.value.iter().zip(self.known).zip(bytes);
        if self.value.len() != bytes.len() {
            return Answer::Maybe;
        }
        if pairs.into_iter().any(|((value, known), byte)| value != &(byte & known)) {
            return Answer::No;
        }
        if self.are_known() { Answer::Yes } else { Answer::Maybe }
    }

    /// Whether it comes before these bytes, in the order of memcmp; `least` and `most` are the
    /// first and the last that it may be.
    pub fn is_below(&self, bytes: &[u8]) -> Answer {
        if self.most().as_slice().cmp(bytes) == Ordering::Less {
            Answer::Yes
        } else if self.value.cmp(bytes) == Ordering::Less {
            Answer::Maybe
        } else {
            Answer::No
        }
    }

    /// As [`Bits::is_below`], the other way round.
    pub fn is_above(&self, bytes: &[u8]) -> Answer {
        if self.value.cmp(bytes) == Ordering::Greater {
            Answer::Yes
        } else if self.most().as_slice().cmp(bytes) == Ordering::Greater {
            Answer::Maybe
        } else {
            Answer::No
        }
    }

    /// Whether it is in a range, ends included.
    pub fn is_within(&self, low: &[u8], high: &[u8]) -> Answer {
        let (not_below, not_above) =
            (self.is_below(low).inverted(true), self.is_above(high).inverted(true));
        not_below.and(not_above)
    }

    fn most(&self) -> Vec<u8> {
        self.value.iter().zip(self.known).map(|(value, known)| value | !known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that these bits may be, of two bytes.
    fn all(bits: &Bits<'_>) -> Vec<[u8; 2]> {
        let fits = |bytes: &[u8; 2]| {
            bytes.iter().zip(bits.value).zip(bits.known).all(|((b, v), k)| b & k == *v)
        };
        (0..=u16::MAX).map(u16::to_be_bytes).filter(fits).collect()
    }

    fn expected(all: &[[u8; 2]], holds: impl Fn(&[u8]) -> bool) -> Answer {
        let yes = all.iter().filter(|bytes| holds(*bytes)).count();
        match yes {
            0 => Answer::No,
            yes if yes == all.len() => Answer::Yes,
            _ => Answer::Maybe,
        }
    }

    #[test]
    fn answers_are_those_of_all_values_that_the_bits_may_have() {
        let bytes = [[0, 0], [0, 1], [0x0a, 0x10], [0x0a, 0xff], [0x80, 0], [0xff, 0xff]];
        for known in [[0, 0], [0xff, 0xff], [0xff, 0], [0x0f, 0xf0], [0x80, 1], [0, 0xff]] {
            for value in bytes {
                let value = [value[0] & known[0], value[1] & known[1]];
                let bits = Bits { value: &value, known: &known };
                let all = all(&bits);
                for one in bytes {
                    let what = format!("{bits:?} and {one:?}");
                    assert_eq!(bits.equal(&one), expected(&all, |b| b == one), "{what}");
                    assert_eq!(bits.is_below(&one), expected(&all, |b| b < &one[..]), "{what}");
                    assert_eq!(bits.is_above(&one), expected(&all, |b| b > &one[..]), "{what}");
                    for high in bytes {
                        let exact = expected(&all, |b| b >= &one[..] && b <= &high[..]);
                        let found = bits.is_within(&one, &high);
                        // Two halves that may be are not always one that may be.
                        assert!(
                            found == exact || found == Answer::Maybe,
                            "{what}, {high:?}: {found:?}, not {exact:?}"
                        );
                    }
                }
            }
        }
        assert_eq!(Bits { value: &[1], known: &[0xff] }.equal(&[1, 2]), Answer::Maybe);
    }
}
