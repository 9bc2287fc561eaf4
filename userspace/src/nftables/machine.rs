//! What a rule does with packets of a class: nftables' machine, on what is known of them.

use super::bits::{Answer, Bits};
use super::class::{Class, Piece};
use super::expression::{Comparison, Expression, Verdict};
use super::family::Family;
use super::registers::{Register, Registers};
use super::ruleset::{Rule, Table};
use super::set::Data;
use super::xt;

/// Where a packet is.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    /// What it is.
    pub class: &'a Class,
    /// The table whose chain it meets.
    pub table: &'a Table,
    /// Connection tracking has seen it before.
    pub is_tracked: bool,
}

/// What a rule does.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// It has a verdict, any of these; or packets go on to the next rule.
    Verdicts {
        /// The verdicts that it may have.
        verdicts: Vec<&'a Verdict>,
        /// Packets may go on to the next rule.
        goes_on: bool,
    },
    /// It may do this to a packet, or for it, which matters to somebody.
    Matters(String),
}

/// Runs a rule; `effort` grows with the steps that it takes.
pub fn run<'a>(
    rule: &'a Rule,
    spot: Spot<'a>,
    registers: &mut Registers,
    effort: &mut usize,
) -> Deed<'a> {
    registers.clear();
    let mut is_sure = true;
    for (n, expression) in rule.expressions.iter().enumerate() {
        *effort += 1;
        let answer = match expression {
            Expression::Verdict(Verdict::Break) => Answer::No,
            Expression::Verdict(Verdict::Continue) => Answer::Yes,
            Expression::Verdict(verdict) => {
                return Deed::Verdicts { verdicts: vec![verdict], goes_on: !is_sure };
            }
            Expression::Effect { name, .. } => return Deed::Matters(name.clone()),
            Expression::Lookup { set, from, to, inverted } => {
                let Some(key_of) = spot.table.sets.get(set) else {
                    return Deed::Matters(format!("lookup in {set}, which is not there"));
                };
                let Some(key) = registers.get(*from, key_of.key_length()) else {
                    return Deed::Matters(format!("lookup in {set} by no key"));
                };
                let found = key_of.find(key);
                *effort += found.effort;
                if found.acts {
                    return Deed::Matters(format!("lookup in {set}, which does something"));
                }
                let answer = found.answer().inverted(*inverted);
                match to {
                    _ if answer == Answer::No => {}
                    None => {}
                    Some(None) => {
                        let is_last = n + 1 == rule.expressions.len();
                        return decided(&found.data, is_sure && answer == Answer::Yes, is_last)
                            .unwrap_or_else(|| Deed::Matters(format!("a verdict of {set}")));
                    }
                    Some(Some(register)) => join(registers, *register, &found.data),
                }
                answer
            }
            other => match look(other, spot, registers) {
                Some(answer) => answer,
                None => return Deed::Matters("what is not understood".to_owned()),
            },
        };
        match answer {
            Answer::Yes => {}
            Answer::Maybe => is_sure = false,
            Answer::No => return Deed::Verdicts { verdicts: Vec::new(), goes_on: true },
        }
    }
    Deed::Verdicts { verdicts: Vec::new(), goes_on: true }
}

/// The verdicts of what was found in a map of verdicts. None if there is one that is not known,
/// or one that has the rule go on.
fn decided<'a>(found: &[&'a Data], is_sure: bool, is_last: bool) -> Option<Deed<'a>> {
    let mut deed = Some((Vec::new(), !is_sure));
    for data in found {
        deed = match (data, deed) {
            (Data::Verdict(Verdict::Break), Some((verdicts, _))) => Some((verdicts, true)),
            (Data::Verdict(Verdict::Continue), Some((verdicts, _))) if is_last => {
                Some((verdicts, true))
            }
            (Data::Verdict(Verdict::Continue) | Data::None | Data::Value(_), _) => None,
            (Data::Verdict(verdict), Some((mut verdicts, goes_on))) => {
                verdicts.push(verdict);
                Some((verdicts, goes_on))
            }
            (_, None) => None,
        };
    }
    deed.map(|(verdicts, goes_on)| Deed::Verdicts { verdicts, goes_on })
}

/// Writes what any of these may be.
fn join(registers: &mut Registers, to: Register, found: &[&Data]) {
    registers.forget(to);
    let values: Option<Vec<&Vec<u8>>> = found
        .iter()
        .map(|data| match data {
            Data::Value(value) => Some(value),
            _ => None,
        })
        .collect();
    let Some([first, rest @ ..]) = values.as_deref() else { return };
    if rest.iter().any(|value| value.len() != first.len()) {
        return;
    }
    let mut known = vec![0xff; first.len()];
    for value in rest {
        for (n, known) in known.iter_mut().enumerate() {
            *known &= !(value[n] ^ first[n]);
        }
    }
    registers.set(to, first, &known);
}

/// An expression that only looks: whether the rule goes on. None if it cannot be.
fn look(expression: &Expression, spot: Spot<'_>, registers: &mut Registers) -> Option<Answer> {
    Some(match expression {
        Expression::Counter => Answer::Yes,
        Expression::Immediate { to, value } => return load(registers, *to, &Piece::known(value)),
        Expression::Compare { from, comparison, value } => {
            compare(registers.get(*from, value.len())?, *comparison, value)
        }
        Expression::Range { from, inverted, low, high } => {
            registers.get(*from, low.len())?.is_within(low, high).inverted(*inverted)
        }
        Expression::Mask { from, to, mask, flip } => {
            let bits = registers.get(*from, mask.len()).filter(|_| flip.len() == mask.len())?;
            let piece = masked(bits, mask, flip);
            return load(registers, *to, &piece);
        }
        Expression::Swap { from, to, length, unit } => {
            let piece = swapped(registers.get(*from, *length)?, *unit)?;
            return load(registers, *to, &piece);
        }
        Expression::Payload { base, offset, length, to } => {
            return load(registers, *to, &spot.class.piece(*base, *offset, *length));
        }
        Expression::Meta { key, to } => match meta(*key, spot) {
            Some(piece) => return load(registers, *to, &piece),
            None => unknown(registers, *to),
        },
        Expression::Tracked { key, direction, to } => match tracked(*key, *direction, spot) {
            Some(piece) => return load(registers, *to, &piece),
            None => unknown(registers, *to),
        },
        Expression::Unknown { to, .. } => match to {
            Some(to) => unknown(registers, *to),
            None => Answer::Maybe,
        },
        Expression::Match(found) => xt_match(found, spot),
        Expression::Verdict(_) | Expression::Lookup { .. } | Expression::Effect { .. } => {
            return None;
        }
    })
}

fn load(registers: &mut Registers, to: Register, piece: &Piece) -> Option<Answer> {
    // A load that fails leaves the register as it was, and the rule.
    let fits = registers.set(to, &piece.value, &piece.known);
    let answer = if piece.is_there { Answer::Yes } else { Answer::Maybe };
    fits.then_some(answer)
}

fn unknown(registers: &mut Registers, to: Register) -> Answer {
    registers.forget(to);
    Answer::Maybe
}

fn compare(bits: Bits<'_>, comparison: Comparison, value: &[u8]) -> Answer {
    match comparison {
        Comparison::Equal => bits.equal(value),
        Comparison::NotEqual => bits.equal(value).inverted(true),
        Comparison::Less => bits.is_below(value),
        Comparison::GreaterOrEqual => bits.is_below(value).inverted(true),
        Comparison::Greater => bits.is_above(value),
        Comparison::LessOrEqual => bits.is_above(value).inverted(true),
    }
}

fn masked(bits: Bits<'_>, mask: &[u8], flip: &[u8]) -> Piece {
    let mut piece = Piece { value: Vec::new(), known: Vec::new(), is_there: true };
    for (n, (value, known)) in bits.value.iter().zip(bits.known).enumerate() {
        // What is masked is 0, whatever it was.
        piece.known.push(known | !mask[n]);
        piece.value.push((value & mask[n]) ^ flip[n]);
    }
    piece
}

/// On machines whose order is the wire's, this changes nothing.
fn swapped(bits: Bits<'_>, unit: usize) -> Option<Piece> {
    let mut piece =
        Piece { value: bits.value.to_vec(), known: bits.known.to_vec(), is_there: true };
    if ![2, 4, 8].contains(&unit) || !piece.value.len().is_multiple_of(unit) {
        return None;
    }
    if cfg!(target_endian = "little") {
        for bytes in [&mut piece.value, &mut piece.known] {
            bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        }
    }
    Some(piece)
}

/// None if it is not known, or may not be there.
fn meta(key: u32, spot: Spot<'_>) -> Option<Piece> {
    const PROTOCOL: u32 = 1;
    const MARK: u32 = 3;
    const NFPROTO: u32 = 15;
    const L4PROTO: u32 = 16;
    let class = spot.class;
    match key {
        PROTOCOL => Some(Piece::known(&class.ethertype())),
        MARK => Some(Piece::known(&[0; 4])),
        // There it is the hook's.
        NFPROTO if spot.table.family == Family::NETDEV => None,
        NFPROTO => Some(Piece::known(&[class.family.0])),
        L4PROTO => Some(Piece::known(&[class.protocol])),
        _ => None,
    }
}

/// None if it is not known, or may not be there.
fn tracked(key: u32, direction: Option<u8>, spot: Spot<'_>) -> Option<Piece> {
    const STATE: u32 = 0;
    const DIRECTION: u32 = 1;
    const STATUS: u32 = 2;
    /// IPS_SRC_NAT and IPS_DST_NAT.
    const TRANSLATED: u32 = 0x30;
    if !spot.is_tracked || direction.is_some() {
        return None;
    }
    match key {
        STATE => Some(Piece::known(&u32::from(spot.class.state.bit()).to_ne_bytes())),
        DIRECTION => Some(Piece::known(&[u8::from(spot.class.is_reply)])),
        STATUS => Some(Piece {
            value: vec![0; 4],
            known: TRANSLATED.to_ne_bytes().to_vec(),
            is_there: true,
        }),
        _ => None,
    }
}

fn xt_match(found: &xt::Match, spot: Spot<'_>) -> Answer {
    let (answer, and_more) = match found {
        xt::Match::Comment => (Answer::Yes, false),
        xt::Match::State { .. } if !spot.is_tracked => (Answer::Maybe, false),
        xt::Match::State { states, inverted, and_more } => {
            let is_of = states & u16::from(spot.class.state.bit()) != 0;
            (Answer::from(is_of != *inverted), *and_more)
        }
        xt::Match::Mark { mark, mask: _, inverted } => {
            (Answer::from((*mark == 0) != *inverted), false)
        }
        xt::Match::Ports { protocol, .. } if *protocol != spot.class.protocol => {
            (Answer::Maybe, false)
        }
        xt::Match::Ports { protocol: _, source, destination, and_more } => {
            let source = source.has(spot.class.source_port);
            (source.and(destination.has(spot.class.destination_port)), *and_more)
        }
        xt::Match::Unknown(_) => (Answer::Maybe, false),
    };
    if and_more { answer.and(Answer::Maybe) } else { answer }
}
