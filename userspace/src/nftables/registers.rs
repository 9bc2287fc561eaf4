//! The registers of nftables' machine, as far as what they hold is known.

use super::bits::Bits;

/// 16 words of 4 bytes.
const SIZE: usize = 64;
const WORD: usize = 4;

/// Where a register begins, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(usize);

impl Register {
    /// By its number on the wire: 1 to 4 are of 16 bytes, 8 to 23 of 4. None of what there is
    /// not, and of 0, which holds the verdict.
    pub fn new(number: u32) -> Option<Self> {
        match number as usize {
            number @ 1..=4 => Some(Self((number - 1) * 16)),
            number @ 8..=23 => Some(Self((number - 8) * WORD)),
            _ => None,
        }
    }
}

/// What the registers hold.
#[derive(Debug)]
pub struct Registers {
    value: [u8; SIZE],
    known: [u8; SIZE],
}

impl Registers {
    /// Nothing is known.
    pub fn new() -> Self {
        Self { value: [0; SIZE], known: [0; SIZE] }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Forgets what is there, and behind it, since it is not known how much was written.
    pub fn forget(&mut self, register: Register) {
        self.value[register.0..].fill(0);
        self.known[register.0..].fill(0);
    }

    /// The bytes from there; None past the end.
    pub fn get(&self, register: Register, length: usize) -> Option<Bits<'_>> {
        let range = register.0..register.0.checked_add(length)?;
        Some(Bits { value: self.value.get(range.clone())?, known: self.known.get(range)? })
    }

    /// Writes bytes, and zeros up to the next word. False past the end.
    pub fn set(&mut self, register: Register, value: &[u8], known: &[u8]) -> bool {
        let end = register.0 + value.len();
        let padded = end.next_multiple_of(WORD);
        if padded > SIZE || value.len() != known.len() {
            return false;
        }
        for (n, (value, known)) in value.iter().zip(known).enumerate() {
            self.value[register.0 + n] = value & known;
            self.known[register.0 + n] = *known;
        }
        self.value[end..padded].fill(0);
        self.known[end..padded].fill(0xff);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_registers_share_their_bytes() {
        let mut registers = Registers::new();
        let long = Register::new(2).unwrap();
        let short = Register::new(13).unwrap();
        assert!(registers.set(short, &[1, 2, 3], &[0xff, 0xff, 0x0f]));
        let bits = registers.get(long, 8).unwrap();
        assert_eq!(bits.value, [0, 0, 0, 0, 1, 2, 3, 0]);
        assert_eq!(bits.known, [0, 0, 0, 0, 0xff, 0xff, 0x0f, 0xff]);
        registers.forget(long);
        assert_eq!(registers.get(short, 4).unwrap().known, [0; 4]);
    }

    #[test]
    fn nothing_is_beyond_the_last() {
        let mut registers = Registers::new();
        let last = Register::new(23).unwrap();
        assert!(registers.set(last, &[1; 4], &[0xff; 4]));
        assert!(!registers.set(last, &[1; 5], &[0xff; 5]));
        assert_eq!(registers.get(last, 5), None);
        for number in [0, 5, 7, 24, u32::MAX] {
            assert_eq!(Register::new(number), None, "{number}");
        }
    }
}
