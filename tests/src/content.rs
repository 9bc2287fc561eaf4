//! What bulk transfers carry, so that nothing lost, doubled or swapped goes unnoticed.

use std::sync::OnceLock;

use crate::rng::Rng;

/// A stretch, at least one byte long, of the deterministic content from `offset` on.
///
/// The content repeats after a prime number of bytes, so that a lost, doubled or swapped segment
/// changes it.
#[must_use]
pub fn content(offset: u64) -> &'static [u8] {
    const PERIOD: usize = 65_521;
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut rng = Rng::new(0x7765_6972);
        (0..PERIOD).map(|_| rng.next_u64() as u8).collect()
    });
    &bytes[(offset % PERIOD as u64) as usize..]
}

/// The checksum of the first `length` bytes of [`content`].
#[must_use]
pub fn content_checksum(length: u64) -> u64 {
    let (mut sum, mut done) = (Checksum::default(), 0);
    while done < length {
        let part = content(done);
        let part = &part[..part.len().min((length - done) as usize)];
        sum.update(part);
        done += part.len() as u64;
    }
    sum.finish()
}

/// A fast 64-bit checksum of a stream; how the stream is cut into pieces does not matter.
#[derive(Clone, Debug, Default)]
pub struct Checksum {
    state: u64,
    length: u64,
    pending: [u8; 8],
}

impl Checksum {
    /// Takes in the next bytes of the stream.
    pub fn update(&mut self, mut data: &[u8]) {
        let held = (self.length % 8) as usize;
        self.length += data.len() as u64;
        if held > 0 {
            let take = data.len().min(8 - held);
            self.pending[held..held + take].copy_from_slice(&data[..take]);
            data = &data[take..];
            if held + take < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.pending));
        }
        let (words, rest) = data.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.pending[..rest.len()].copy_from_slice(rest);
    }

    /// The checksum of everything taken in.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        let held = (self.length % 8) as usize;
        self.pending[held..].fill(0);
        self.word(u64::from_le_bytes(self.pending));
        self.word(self.length);
        self.state ^ (self.state >> 29)
    }

    fn word(&mut self, word: u64) {
        let mixed = (self.state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_ignores_how_the_stream_is_cut() {
        let data = &content(0)[..1_000];
        let mut whole = Checksum::default();
        whole.update(data);
        for cut in [1, 3, 7, 8, 9, 64, 999] {
            let mut pieces = Checksum::default();
            data.chunks(cut).for_each(|piece| pieces.update(piece));
            assert_eq!(pieces.finish(), whole.clone().finish(), "pieces of {cut}");
        }
    }

    #[test]
    fn checksum_sees_changes() {
        let sum = |data: &[u8]| {
            let mut sum = Checksum::default();
            sum.update(data);
            sum.finish()
        };
        assert_ne!(sum(b""), sum(b"\0"));
        assert_ne!(sum(b"abcdefgh12345678"), sum(b"12345678abcdefgh"));
        assert_ne!(content_checksum(100_000), content_checksum(100_001));
    }
}
