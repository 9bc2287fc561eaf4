//! A frame and where it is to go: the rewrite of the programs gives what the model gives, keeps a
//! right checksum right, and can be taken back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{Entry, FORWARD, FORWARD_HAIRPIN, Facts, REPLY};
use probe_common::memory::Memory;
use probe_common::parse::{Headers, Parse, ethernet};
use probe_common::rewrite::rewrite;
use weir_fuzz::key_of;
use weir_fuzz::model::fate::Fate;
use weir_fuzz::model::sight::{Sight, look};
use weir_fuzz::packet::checksums_ok;

/// Direction, address and ports that come before the frame.
const WHERE: usize = 1 + 16 + 4;

fn entry<A: Address>(key: &Tuple<A>, to: &Tuple<A>, direction: u8) -> Entry<A> {
    let facts = Facts { endpoint: 0, subset: 0, state: 0, direction, seen: 0, created: 0, sequence: 0 };
    let entry = Entry::new(key, to, &facts);
    assert!(entry.to(key) == *to, "an entry leads elsewhere");
    entry
}

fn rewritten<A: Parse>(
    frame: &[u8],
    headers: &Headers,
    key: &Tuple<A>,
    to: &Tuple<A>,
    direction: u8,
) -> Vec<u8> {
    let memory = Memory::new(frame);
    rewrite(&memory, headers, key, &entry(key, to, direction)).expect("headers that were parsed");
    memory.into_frame()
}

fn check<A: Parse>(
    frame: &[u8],
    headers: &Headers,
    key: &Tuple<A>,
    to: &Tuple<A>,
    direction: u8,
) {
    let Sight::Packet(packet) = look(frame) else { panic!("not a packet to the model") };
    let out = rewritten::<A>(frame, headers, key, to, direction);
    let mut wanted = Vec::new();
    Fate::Rewritten(packet, key_of(to)).render(frame, &mut wanted);
    assert!(out == wanted, "rewritten:\n{out:02x?}\nmodel:\n{wanted:02x?}");
    if checksums_ok(frame) {
        assert!(checksums_ok(&out), "checksum of {out:02x?}");
    }
    if direction != FORWARD_HAIRPIN {
        let mut back = rewritten::<A>(&out, headers, to, key, direction);
        // One of the two zeros of ones' complement becomes the other.
        for at in [headers.l3 + 10, headers.l4 + 6, headers.l4 + 16] {
            if let (Some([0xff, 0xff]), Some(zero @ [0, 0])) =
                (frame.get(at..at + 2), back.get_mut(at..at + 2))
            {
                zero.fill(0xff);
            }
        }
        assert!(back == frame, "there and back:\n{back:02x?}\n{frame:02x?}");
    }
}

fn family<A: Parse>(kind: u8, address: A, ports: [u16; 2], frame: &[u8], l3: usize) {
    let Ok(headers) = A::parse(frame, l3) else { return };
    let mut key = Tuple::<A>::empty();
    key.load(frame, &headers).expect("ports");
    let [sport, dport] = ports;
    let plain = Tuple { sport, dport, ..key };
    let (direction, to) = match kind % 3 {
        0 => (FORWARD, Tuple { dst: address, ..plain }),
        1 => (REPLY, Tuple { src: address, ..plain }),
        _ => (FORWARD_HAIRPIN, Tuple { src: key.dst, dst: address, ..plain }),
    };
    check::<A>(frame, &headers, &key, &to, direction);
}

fuzz_target!(|data: &[u8]| {
    let Some((place, frame)) = data.split_at_checked(WHERE) else { return };
    let word = |at: usize| u32::from_ne_bytes(place[at..at + 4].try_into().expect("four bytes"));
    let words = [1, 5, 9, 13].map(word);
    let ports = [word(17) as u16, (word(17) >> 16) as u16];
    match ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => family(place[0], V4::from_words(words), ports, frame, l3),
        Some((V6::ETHERTYPE, l3)) => family(place[0], V6::from_words(words), ports, frame, l3),
        _ => {}
    }
});
