//! The stack that the programs need, as the oldest kernel counts it.
//!
//! A verifier adds up the stack of all functions that are active at once, each rounded up to 32
//! bytes (`check_max_stack_depth`; newer kernels, with machine code, round to 16), and rejects more
//! than 512. What the kernel at hand accepts may be too much for an older one.

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use weir::datapath::OBJECT;

const LIMIT: usize = 512;
const UNIT: usize = 32;
/// The frame pointer.
const FP: u8 = 10;

/// A function of the object.
#[derive(Default)]
struct Function {
    /// Bytes of stack.
    stack: usize,
    /// Where the functions that it calls are.
    calls: Vec<Place>,
    name: String,
}

/// Section and offset.
type Place = (usize, u64);

/// An instruction (RFC 9669, section 3).
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    offset: i16,
    imm: i32,
}

impl Instruction {
    fn of(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            dst: bytes[1] & 0xf,
            src: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            imm: i32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")),
        }
    }

    /// The register whose address it loads from or stores to.
    fn base(&self) -> Option<u8> {
        match self.code & 7 {
            1 => Some(self.src),
            2 | 3 => Some(self.dst),
            _ => None,
        }
    }
}

const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
/// In `src` of a call: to a function of the object, and not a helper.
const TO_FUNCTION: u8 = 1;

/// Reads the instructions of a function; `called` says where a call at an offset leads, by
/// relocation.
fn read(code: &[u8], place: Place, called: impl Fn(u64) -> Option<Place>) -> Function {
    let mut function = Function::default();
    // Which registers have the frame pointer.
    let mut copies = [false; 16];
    let mut at = 0;
    while at < code.len() {
        let instruction = Instruction::of(&code[at..]);
        let Instruction { code: operation, dst, src, offset, imm } = instruction;
        if instruction.base() == Some(FP) {
            function.stack = function.stack.max(offset.unsigned_abs().into());
        }
        if operation == ADD && copies[dst as usize] {
            function.stack = function.stack.max(imm.unsigned_abs() as usize);
        }
        if operation == CALL && src == TO_FUNCTION {
            let here = place.1 + at as u64;
            let beside = (place.0, here.wrapping_add_signed((i64::from(imm) + 1) * 8));
            function.calls.push(called(here).unwrap_or(beside));
        }
        if matches!(operation & 7, 0 | 1 | 4 | 7) {
            copies[dst as usize] = operation == MOVE && src == FP;
        }
        at += if operation == LOAD_WIDE { 16 } else { 8 };
    }
    function
}

fn functions() -> BTreeMap<Place, Function> {
    let file = object::File::parse(OBJECT).expect("an ELF file");
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let index = symbol.section_index().expect("a section");
        let section = file.section_by_index(index).expect("the section");
        let code = section.data_range(symbol.address(), symbol.size()).expect("its data");
        let relocations: BTreeMap<_, _> = section.relocations().collect();
        let called = |at: u64| {
            let RelocationTarget::Symbol(target) = relocations.get(&at)?.target() else {
                return None;
            };
            let target = file.symbol_by_index(target).expect("a symbol");
            let beside = (Instruction::of(&section.data().ok()?[at as usize..]).imm + 1) * 8;
            let offset = match target.kind() {
                // The section, and in the instruction how far from its start.
                SymbolKind::Section => beside as u64,
                _ => target.address(),
            };
            Some((target.section_index().expect("a section").0, offset))
        };
        let place = (index.0, symbol.address());
        let function = read(code.expect("in the section"), place, called);
        let name = symbol.name().expect("a name").to_owned();
        functions.insert(place, Function { name, ..function });
    }
    functions
}

/// The chain of calls from a function that needs most, and how much that is.
fn deepest(functions: &BTreeMap<Place, Function>, from: Place) -> (usize, Vec<String>) {
    let function = functions.get(&from).unwrap_or_else(|| panic!("no function at {from:?}"));
    let below = function.calls.iter().map(|&call| deepest(functions, call)).max();
    let (below, names) = below.unwrap_or_default();
    let mut chain = vec![format!("{} {}", function.name, function.stack)];
    chain.extend(names);
    (below + function.stack.max(1).next_multiple_of(UNIT), chain)
}

#[test]
fn every_chain_of_calls_has_the_stack_that_it_needs_on_linux_5_10() {
    let functions = functions();
    let (most, chain) =
        functions.keys().map(|&place| deepest(&functions, place)).max().expect("functions");
    assert!(most <= LIMIT, "{most} bytes: {}", chain.join(", "));
    // It does see calls, and stack.
    assert!(chain.len() > 2 && most > LIMIT / 2, "{most} bytes: {}", chain.join(", "));
    println!("at most {most} bytes: {}", chain.join(", "));
}
