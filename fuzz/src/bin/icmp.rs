//! ICMP errors: what they quote is what the model finds in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::fragment::Fragments;
use probe_common::icmp::{Errors, Quote};
use probe_common::parse::{UDP, ethernet};
use weir_fuzz::key_of;
use weir_fuzz::model::quote::{self as model, quote};
use weir_fuzz::model::sight::{ICMP, ICMPV6, Sight, look};

fn behind_others(quote: &model::Quote) -> bool {
    quote.key.is_none() && quote.packet.fragment.is_some_and(|fragment| fragment.behind_others)
}

fn check<A: Errors + Fragments + std::fmt::Debug>(frame: &[u8], l3: usize) {
    let seen = look(frame);
    if seen == Sight::Elsewhere {
        // Nobody looks at what it says.
        return;
    }
    let wanted = match seen {
        Sight::Packet(packet)
            if packet.has_transport() && matches!(packet.protocol, ICMP | ICMPV6) =>
        {
            quote(frame, &packet).map(|quote| (packet, quote))
        }
        _ => None,
    };
    let found = Quote::find::<A>(frame, l3).and_then(|found| {
        let mut tuple = Tuple::<A>::empty();
        if !found.later {
            tuple.load(frame, &found.inner)?;
        }
        Some((found, tuple))
    });
    // Later fragments behind other extension headers are left alone: where they end does not count.
    if found.is_some_and(|(found, _)| found.later && A::later(frame, found.inner.l3).is_none())
        || wanted.is_some_and(|(_, quote)| behind_others(&quote))
    {
        return;
    }
    let ((found, tuple), (packet, quote)) = match (found, wanted) {
        (Some(found), Some(wanted)) => (found, wanted),
        (None, None) => return,
        (found, wanted) => panic!("found: {found:?}, model: {wanted:?}"),
    };
    assert_eq!((found.l3, found.icmp, found.end), (packet.l3, packet.l4, packet.end));
    assert_eq!((found.inner.l3, found.inner.l4), (quote.packet.l3, quote.packet.l4));
    assert_eq!(found.later, quote.key.is_none());
    let Some(key) = quote.key else { return };
    assert_eq!(key_of(&tuple), key);
    let checksum = quote.packet.l4 + if quote.packet.protocol == UDP { 6 } else { 16 };
    assert_eq!(found.checksum(), (checksum + 2 <= packet.end).then_some(checksum));
}

fuzz_target!(|frame: &[u8]| {
    match ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => check::<V4>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => check::<V6>(frame, l3),
        _ => {}
    }
});
