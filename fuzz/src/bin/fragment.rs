//! Fragments: those that the model tells to belong together have the same key, and the fragments
//! that follow from a first one are found under its key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::fragment::{FragmentKey, Fragments};
use probe_common::parse::{Parse, ethernet};
use weir_fuzz::ip_of;
use weir_fuzz::model::sight::{Packet, Sight, look};

fn agrees<A: Address>(key: &FragmentKey<A>, packet: &Packet) {
    let fragment = packet.fragment.expect("a fragment");
    assert_eq!((ip_of(key.src), ip_of(key.dst)), (packet.source, packet.destination));
    let (id, protocol) = match packet.source.is_ipv4() {
        true => (u32::from(u16::from_be(key.id as u16)), u32::from(packet.protocol)),
        false => (u32::from_be(key.id), 0),
    };
    assert_eq!((id, key.protocol), (fragment.id, protocol));
}

/// Makes a later fragment of a first one; where the fragment header is the first extension header.
fn later(frame: &[u8], packet: &Packet) -> Option<Vec<u8>> {
    let mut later = frame.to_vec();
    let at = if packet.source.is_ipv4() {
        packet.l3 + 7
    } else {
        (frame[packet.l3 + 6] == 44 && packet.l4 == packet.l3 + 48).then_some(packet.l3 + 43)?
    };
    later[at] |= 0x08;
    Some(later)
}

fn check<A: Fragments + Parse>(frame: &[u8], l3: usize) {
    let Sight::Packet(packet) = look(frame) else { return };
    let Some(fragment) = packet.fragment else { return };
    if !packet.has_transport() {
        match A::later(frame, l3) {
            Some(key) => agrees(&key, &packet),
            None => assert!(fragment.behind_others, "{packet:?}"),
        }
        return;
    }
    let Ok(headers) = A::parse(frame, l3) else { return };
    if !headers.first {
        return;
    }
    let mut tuple = Tuple::<A>::empty();
    tuple.load(frame, &headers).expect("ports");
    let key = A::first(frame, &headers, [tuple.src, tuple.dst]).expect("a first fragment");
    agrees(&key, &packet);
    if let Some(other) = later(frame, &packet) {
        assert!(A::later(&other[..], l3) == Some(key), "{packet:?}");
    }
}

fuzz_target!(|frame: &[u8]| {
    match ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => check::<V4>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => check::<V6>(frame, l3),
        _ => {}
    }
});
