//! Loops as the oldest kernel takes them.
//!
//! The verifier of Linux 5.10 walks each function depth-first before it looks at what it does
//! (`check_cfg`). A loop may be closed by a jump; if an instruction that is none simply runs on
//! into one that is on the way to it ("back-edge from insn"), the program is rejected, whatever the
//! kernel at hand makes of it. How a compiler lays out a loop may change with any change to it.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use weir::datapath::OBJECT;

/// Bytes of an instruction (RFC 9669, section 3); a wide one has two of them.
const SIZE: usize = 8;

/// Where it may go on after an instruction, and whether that closes a loop in a way that is taken.
fn successors(code: &[u8], at: usize) -> Vec<(usize, bool)> {
    let instruction = &code[at * SIZE..][..SIZE];
    let (class, operation) = (instruction[0] & 7, instruction[0] & 0xf0);
    let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
    let imm = i32::from_le_bytes(instruction[4..8].try_into().expect("four bytes"));
    let jump = |distance: i64| (at as i64 + 1 + distance) as usize;
    match (class, operation) {
        // EXIT.
        (5, 0x90) => Vec::new(),
        // JA, with 16 bits or 32.
        (5, 0x00) => vec![(jump(offset.into()), true)],
        (6, 0x00) => vec![(jump(imm.into()), true)],
        // CALL.
        (5, 0x80) => vec![(at + 1, false)],
        (5 | 6, _) => vec![(at + 1, true), (jump(offset.into()), true)],
        _ => vec![(at + 1, false)],
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    OnTheWay,
    Done,
}

/// The first instruction that runs on into one on the way to it, if any.
fn rejected(code: &[u8]) -> Option<usize> {
    let mut seen = vec![Seen::Not; code.len() / SIZE];
    let mut way = vec![(0, successors(code, 0))];
    seen[0] = Seen::OnTheWay;
    while let Some((at, left)) = way.last_mut() {
        let at = *at;
        if left.is_empty() {
            seen[at] = Seen::Done;
            way.pop();
            continue;
        }
        let (next, is_taken) = left.remove(0);
        match seen[next] {
            Seen::Not => {
                seen[next] = Seen::OnTheWay;
                way.push((next, successors(code, next)));
            }
            Seen::OnTheWay if !is_taken => return Some(at),
            Seen::OnTheWay | Seen::Done => {}
        }
    }
    None
}

#[test]
fn linux_5_10_takes_the_loops_of_every_function() {
    let file = object::File::parse(OBJECT).expect("an ELF file");
    let mut functions = 0;
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let index = symbol.section_index().expect("a section");
        let section = file.section_by_index(index).expect("the section");
        let code = section.data_range(symbol.address(), symbol.size()).expect("its data");
        let name = symbol.name().expect("a name");
        assert_eq!(rejected(code.expect("in the section")), None, "{name}: instruction");
        functions += 1;
    }
    assert!(functions > 100, "{functions} functions");
}

#[test]
fn a_loop_that_is_closed_by_running_on_is_seen() {
    let of = |instructions: &[[u8; SIZE]]| instructions.concat();
    let (add, exit) = ([0x07, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]);
    let jump = |by: i16| {
        let [low, high] = by.to_le_bytes();
        [0x05, 0, low, high, 0, 0, 0, 0]
    };
    let branch = |by: i16| {
        let [low, high] = by.to_le_bytes();
        [0x15, 0, low, high, 0, 0, 0, 0]
    };
    // Its head comes first, and a jump leads back there.
    assert_eq!(rejected(&of(&[branch(2), add, jump(-3), exit])), None);
    // Its head comes last, and its body runs on into it.
    assert_eq!(rejected(&of(&[jump(1), add, branch(-2), exit])), Some(1));
}
