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

/// The word of an address and port, and the bits there.
fn position(socket: SocketAddr) -> (u32, u64) {
    let (words, port) = (words(socket.ip()), socket.port().to_be());
    match Family::of(socket.ip()) {
        Family::V4 => filter::position(V4(words[0]), port),
        Family::V6 => filter::position(V6::from_words(words), port),
    }
}

impl FilterBits {
    /// Counts an address; the word and its new bits if that set one.
    pub fn add(&mut self, socket: SocketAddr) -> Option<(u32, u64)> {
        let (word, wanted) = position(socket);
        let counts = self.words.entry(word).or_insert([0; 64]);
        let before = bits(counts);
        for count in counts_of(counts, wanted) {
            *count = count.saturating_add(1);
        }
        let after = bits(counts);
        (after != before).then_some((word, after))
    }

    /// All words that are not zero.
    pub fn words(&self) -> impl Iterator<Item = (u32, u64)> {
        self.words.iter().map(|(&word, counts)| (word, bits(counts))).filter(|&(_, bits)| bits != 0)
    }

    /// Takes back an [`FilterBits::add`]; the word and its new bits if that cleared one.
    pub fn remove(&mut self, socket: SocketAddr) -> Option<(u32, u64)> {
        let (word, wanted) = position(socket);
        let counts = self.words.get_mut(&word)?;
        let before = bits(counts);
        // A count that reached its end is never known to fall to 0 again: the
        // bit stays, which costs a lookup and harms nothing.
        for count in counts_of(counts, wanted).filter(|count| **count < u16::MAX) {
            *count = count.saturating_sub(1);
        }
        let after = bits(counts);
        (after != before).then_some((word, after))
    }
}

/// The counts of those bits.
fn counts_of(counts: &mut [u16; 64], bits: u64) -> impl Iterator<Item = &mut u16> {
    counts.iter_mut().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, count)| count)
}

fn bits(counts: &[u16; 64]) -> u64 {
    counts.iter().enumerate().fold(0, |bits, (at, &count)| bits | u64::from(count > 0) << at)
}
