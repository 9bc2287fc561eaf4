//! Entries of the flow tables, as programs read and delete them.

use probe_common::address::{Address, Tuple};
use probe_common::flow::{Entry, REPLY};

use super::family::{Family, Table};

/// A copy of the entry for `key`; None if it was replaced while it was read.
#[inline(always)]
pub fn read<A: Address>(slot: *const Entry<A>, key: &Tuple<A>) -> Option<Entry<A>> {
    // SAFETY: an entry of a table; it may be replaced meanwhile, which the tag shows.
    let entry = unsafe { slot.read_volatile() };
    // SAFETY: as above. Read after the copy, since it is what a replacement writes first.
    let tag = unsafe { (&raw const (*slot).tag).read_volatile() };
    (tag == key.tag()).then_some(entry)
}

/// Whether the hook is where packets with that entry are rewritten.
#[inline(always)]
pub fn is_here<A: Address, const INGRESS: bool>(entry: &Entry<A>) -> bool {
    goes_here::<INGRESS>(entry.direction)
}

/// Whether the hook is where packets of that direction are rewritten.
#[inline(always)]
pub fn goes_here<const INGRESS: bool>(direction: u8) -> bool {
    (direction == REPLY) != INGRESS
}

/// Deletes the entries of a flow: that of `key`, and its pair, unless another
/// flow has that.
#[inline(always)]
pub fn forget<A: Family>(table: &Table<A>, key: &Tuple<A>, pair: &Tuple<A>) {
    if let Some(other) = table.get_ptr(pair)
        // SAFETY: an entry of the table; a torn read costs at most a stray entry.
        && unsafe { (*other).to(pair) } == key.reversed()
    {
        let _ = table.remove(pair);
    }
    let _ = table.remove(key);
}
