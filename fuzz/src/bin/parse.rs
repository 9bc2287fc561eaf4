//! Any bytes: the parser reads none beyond the end, and sees what the model sees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::parse::{NoTuple, Parse, TCP, UDP, destination, ethernet, source};
use probe_common::reason::Reason;
use weir_fuzz::key_of;
use weir_fuzz::model::quote::key;
use weir_fuzz::model::sight::{Sight, look};

fn check<A: Parse + std::fmt::Debug>(frame: &[u8], l3: usize) {
    let (found, seen) = (A::parse(frame, l3), look(frame));
    let headers = match (found, &seen) {
        (Ok(headers), Sight::Packet(packet)) if packet.has_transport() => (headers, packet),
        // Its number is not looked at.
        (Err(NoTuple::Reason(Reason::PassFragment)), Sight::Broken) => return,
        (Err(NoTuple::Reason(Reason::PassFragment)), Sight::Packet(packet)) => {
            return assert!(!packet.has_transport(), "{packet:?}");
        }
        (Err(NoTuple::Other), Sight::Packet(packet)) => {
            return assert!(!matches!(packet.protocol, TCP | UDP), "{packet:?}");
        }
        (
            Err(NoTuple::Other | NoTuple::Reason(Reason::PassUnparsed)),
            Sight::Foreign | Sight::Broken,
        )
        // Behind the route is what cannot be parsed.
        | (Err(NoTuple::Reason(Reason::PassUnparsed)), Sight::Elsewhere) => {
            return;
        }
        (Err(NoTuple::Reason(Reason::PassRouteLeft)), Sight::Elsewhere | Sight::Broken) => return,
        (found, seen) => panic!("parser: {found:?}, model: {seen:?}"),
    };
    let (headers, packet) = headers;
    assert!(matches!(packet.protocol, TCP | UDP), "{packet:?}");
    assert_eq!((headers.l3, headers.l4), (packet.l3, packet.l4));
    assert_eq!((headers.protocol, headers.plain), (packet.protocol, packet.plain));
    let first = packet.fragment.is_some_and(|fragment| fragment.next_to_transport);
    assert_eq!(headers.first, first, "{packet:?}");
    let flags = if packet.protocol == TCP { frame[packet.l4 + 13] } else { 0 };
    assert_eq!(headers.flags, flags);
    let mut tuple = Tuple::<A>::empty();
    tuple.load(frame, &headers).expect("ports");
    assert_eq!(Some(key_of(&tuple)), key(frame, packet));
    let (l3, l4) = (headers.l3, headers.l4);
    assert_eq!(source(frame, l3, l4), Some((tuple.src, tuple.sport)));
    assert_eq!(destination(frame, l3, l4), Some((tuple.dst, tuple.dport)));
}

fuzz_target!(|frame: &[u8]| {
    match ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => check::<V4>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => check::<V6>(frame, l3),
        _ => assert!(!matches!(look(frame), Sight::Packet(_))),
    }
});
