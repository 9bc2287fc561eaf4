//! The filters' bits, counted: addresses share bits.

use std::net::SocketAddr;

use imbl::HashMap;
use probe_common::address::{Address as _, V4, V6};
use probe_common::filter;

use crate::explain::words;
use crate::model::Family;

/// How many addresses want each bit of a filter.
#[derive(Debug, Clone, Default)]
pub(super) struct FilterBits {
    words: HashMap<u32, [u16; 64]>,
}

/// The word of an address and port, and the number of the bit in it.
fn position(socket: SocketAddr) -> (u32, usize) {
    let (words, port) = (words(socket.ip()), socket.port().to_be());
    let (word, bit) = match Family::of(socket.ip()) {
        Family::V4 => filter::position(V4(words[0]), port),
        Family::V6 => filter::position(V6::from_words(words), port),
    };
    (word, bit.trailing_zeros() as usize)
}

impl FilterBits {
    /// Counts an address; the word and its new bits if that set one.
    pub fn add(&mut self, socket: SocketAddr) -> Option<(u32, u64)> {
        let (word, bit) = position(socket);
        let counts = self.words.entry(word).or_insert([0; 64]);
        counts[bit] = counts[bit].saturating_add(1);
        (counts[bit] == 1).then(|| (word, bits(counts)))
    }

    /// All words that are not zero.
    pub fn words(&self) -> impl Iterator<Item = (u32, u64)> {
        self.words.iter().map(|(&word, counts)| (word, bits(counts))).filter(|&(_, bits)| bits != 0)
    }

    /// Takes back an [`FilterBits::add`]; the word and its new bits if that cleared one.
    pub fn remove(&mut self, socket: SocketAddr) -> Option<(u32, u64)> {
        let (word, bit) = position(socket);
        let counts = self.words.get_mut(&word)?;
        // A count that reached its end is never known to fall to 0 again: the
        // bit stays, which costs a lookup and harms nothing.
        if counts[bit] == 0 || counts[bit] == u16::MAX {
            return None;
        }
        counts[bit] -= 1;
        (counts[bit] == 0).then(|| (word, bits(counts)))
    }
}

fn bits(counts: &[u16; 64]) -> u64 {
    counts.iter().enumerate().fold(0, |bits, (at, &count)| bits | u64::from(count > 0) << at)
}
