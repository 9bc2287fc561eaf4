//! Echo requests (RFC 792, RFC 4443), made the replies to themselves.

use crate::checksum::{fold, update};
use crate::frame::Frame;
use crate::icmp::Errors;
use crate::reject::{HOPS, swap_link};
use crate::translate::refresh;

/// Turns a request, whose IP header is at `l3` and whose ICMP header is at `icmp`, into
/// its reply from `src` to `dst`, with hops as of a packet that is sent anew. A wrong
/// checksum stays wrong. None past the end.
#[inline(always)]
pub fn reply<A: Errors>(
    frame: &impl Frame,
    l3: usize,
    icmp: usize,
    [src, dst]: [A; 2],
) -> Option<()> {
    let addresses = l3 + A::ADDRESSES;
    frame.store(addresses, src)?;
    frame.store(addresses + size_of::<A>(), dst)?;
    // The sum of the addresses is what it was.
    if size_of::<A>() == 16 {
        let [next, _]: [u8; 2] = frame.load(l3 + 6)?;
        frame.store(l3 + 6, [next, HOPS])?;
    } else {
        let old: u16 = frame.load(l3 + 8)?;
        let new = u16::from_ne_bytes([HOPS, old.to_ne_bytes()[1]]);
        frame.store(l3 + 8, new)?;
        refresh(frame, l3 + 10, fold(!old as u64 + new as u64), false)?;
    }
    let [kind, checksum]: [u16; 2] = frame.load(icmp)?;
    let change = fold(!kind as u64 + A::ECHO_REPLY as u64);
    frame.store(icmp, [A::ECHO_REPLY, update(checksum, change)])?;
    swap_link(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{V4, V6};
    use crate::memory::Memory;
    use crate::memory::packet::{self, Family, back, ethernet};

    fn check<A: Family + Errors>([client, vip]: [A; 2], [request, answer]: [u8; 2]) {
        for data in [&b""[..], b"odd", b"0123456789"] {
            let message = |ends, hops, kind| {
                let bytes = packet::icmp(ends, hops, [kind, 0, 0, 7, 0, 9], data);
                ethernet::<A>(bytes)
            };
            let memory = Memory::new(&message([client, vip], 3, request));
            let (icmp, _) = A::echo(&memory, 14).expect("an echo request");
            reply(&memory, 14, icmp, [vip, client]).expect("a whole packet");
            assert_eq!(memory.into_frame(), back(message([vip, client], 64, answer)));
        }
    }

    #[test]
    fn a_request_becomes_its_reply() {
        check([V4(0x0100_000a), V4(0x0a00_02c0)], [8, 0]);
        check([V6([1, 2]), V6([3, 4])], [128, 129]);
    }
}
