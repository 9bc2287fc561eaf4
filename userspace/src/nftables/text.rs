//! Rules as people write them, as near as it takes to find one in `nft list ruleset`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{Base, Comparison, Expression, Verdict};
use super::family::Family;
use super::registers::Register;
use super::ruleset::Rule;
use super::xt;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Address,
    Number,
    Native,
    Name,
    State,
    Plain,
}

/// What a register holds, for people.
#[derive(Debug, Clone)]
struct Held {
    register: Register,
    text: String,
    form: Form,
}

/// The text of a rule of a table of that family.
pub fn of(rule: &Rule, family: Family) -> String {
    let mut held: Vec<Held> = Vec::new();
    let mut words = Vec::new();
    for expression in &rule.expressions {
        let name = |from: Register| {
            let found = held.iter().rev().find(|held| held.register == from);
            found.map_or(("?".to_owned(), Form::Plain), |held| (held.text.clone(), held.form))
        };
        let mut hold = None;
        match expression {
            Expression::Payload { base, offset, length, to } => {
                let (text, form) = field(family, *base, *offset, *length);
                hold = Some((*to, text, form));
            }
            Expression::Meta { key, to } => {
                let (text, form) = meta(*key);
                hold = Some((*to, text, form));
            }
            Expression::Tracked { key, to, .. } => {
                let (text, form) = tracked(*key);
                hold = Some((*to, text, form));
            }
            Expression::Unknown { name, to: Some(to) } => {
                hold = Some((*to, name.clone(), Form::Plain));
            }
            Expression::Immediate { to, value } => {
                hold = Some((*to, written(value, Form::Plain), Form::Plain));
            }
            Expression::Mask { from, to, mask, .. } => {
                let (text, form) = name(*from);
                let text = match form {
                    Form::State => text,
                    _ => format!("{text} & {}", written(mask, form)),
                };
                // Which states are asked for is in the mask.
                let text = match form {
                    Form::State => format!("{text} {}", states(mask)),
                    _ => text,
                };
                hold = Some((*to, text, form));
            }
            Expression::Swap { from, to, .. } => {
                let (text, form) = name(*from);
                hold = Some((*to, text, form));
            }
            Expression::Compare { from, comparison, value } => {
                let (text, form) = name(*from);
                let is_mask = form == Form::State && value.iter().all(|&byte| byte == 0);
                words.push(match (is_mask, comparison) {
                    (true, Comparison::NotEqual) => text,
                    _ => format!("{text} {} {}", sign(*comparison), written(value, form)),
                });
            }
            Expression::Range { from, inverted, low, high } => {
                let (text, form) = name(*from);
                let not = if *inverted { "!= " } else { "" };
                words.push(format!("{text} {not}{}-{}", written(low, form), written(high, form)));
            }
            Expression::Lookup { set, from, to, inverted } => {
                let (text, _) = name(*from);
                let how = match (to, inverted) {
                    (Some(None), _) => "vmap ",
                    (Some(Some(_)), _) => "map ",
                    (None, true) => "!= ",
                    (None, false) => "",
                };
                words.push(format!("{text} {how}@{set}"));
            }
            Expression::Verdict(verdict) => words.push(self::verdict(verdict)),
            Expression::Counter => {}
            Expression::Match(found) => words.extend(xt(found)),
            Expression::Unknown { name, to: None } | Expression::Effect { name, .. } => {
                words.push(name.clone());
            }
        }
        held.extend(hold.map(|(register, text, form)| Held { register, text, form }));
    }
    words.join(" ")
}

fn field(family: Family, base: Base, offset: usize, length: usize) -> (String, Form) {
    let names: HashMap<(usize, usize), &str> = match (base, family) {
        (Base::Transport, _) => HashMap::from([((0, 2), "th sport"), ((2, 2), "th dport")]),
        _ => HashMap::new(),
    };
    if let Some(name) = names.get(&(offset, length)) {
        return ((*name).to_owned(), Form::Number);
    }
    match (base, offset, length) {
        (Base::Network, 12, 1..=4) => ("ip saddr".to_owned(), Form::Address),
        (Base::Network, 16, 1..=4) => ("ip daddr".to_owned(), Form::Address),
        (Base::Network, 8, 5..=16) => ("ip6 saddr".to_owned(), Form::Address),
        (Base::Network, 24, 5..=16) => ("ip6 daddr".to_owned(), Form::Address),
        (Base::Network, 9, 1) => ("ip protocol".to_owned(), Form::Number),
        _ => (format!("@{base:?},{},{}", offset * 8, length * 8).to_lowercase(), Form::Plain),
    }
}

fn meta(key: u32) -> (String, Form) {
    let (name, form) = match key {
        1 => ("protocol", Form::Number),
        3 => ("mark", Form::Native),
        4 => ("iif", Form::Native),
        5 => ("oif", Form::Native),
        6 => ("iifname", Form::Name),
        7 => ("oifname", Form::Name),
        15 => ("nfproto", Form::Number),
        16 => ("l4proto", Form::Number),
        _ => return (format!("meta {key}"), Form::Plain),
    };
    let bare = ["iif", "oif", "iifname", "oifname"].contains(&name);
    (if bare { name.to_owned() } else { format!("meta {name}") }, form)
}

fn tracked(key: u32) -> (String, Form) {
    let (name, form) = match key {
        0 => ("state", Form::State),
        1 => ("direction", Form::Number),
        2 => ("status", Form::Native),
        3 => ("mark", Form::Native),
        _ => return (format!("ct {key}"), Form::Plain),
    };
    (format!("ct {name}"), form)
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "==",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn states(mask: &[u8]) -> String {
    const NAMES: [(u32, &str); 5] =
        [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
    let mask = mask.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let names: Vec<&str> =
        NAMES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
    names.join(",")
}

fn written(value: &[u8], form: Form) -> String {
    match form {
        Form::Address => {
            if let Ok(bytes) = <[u8; 4]>::try_from(value) {
                return Ipv4Addr::from(bytes).to_string();
            }
            if let Ok(bytes) = <[u8; 16]>::try_from(value) {
                return Ipv6Addr::from(bytes).to_string();
            }
            // Of a prefix that ends with a byte, no more is compared.
            if value.len() < 4 {
                let mut bytes = [0; 4];
                bytes[..value.len()].copy_from_slice(value);
                return format!("{}/{}", Ipv4Addr::from(bytes), value.len() * 8);
            }
        }
        Form::Number if value.len() <= 2 => {
            return value.iter().fold(0_u16, |sum, byte| sum << 8 | u16::from(*byte)).to_string();
        }
        Form::Native => {
            if let Ok(bytes) = <[u8; 4]>::try_from(value) {
                return format!("{:#x}", u32::from_ne_bytes(bytes));
            }
        }
        Form::State => return states(value),
        Form::Name => {
            let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
            let more = if end == value.len() { "*" } else { "" };
            return format!("\"{}{more}\"", value[..end].escape_ascii());
        }
        Form::Number | Form::Plain => {}
    }
    let digits: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{}", digits.concat())
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Break => "break".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Other(code) => format!("verdict {code}"),
    }
}

/// None of one that says nothing.
fn xt(found: &xt::Match) -> Option<String> {
    let not = |inverted: &bool| if *inverted { "! " } else { "" };
    Some(match found {
        xt::Match::Comment => return None,
        xt::Match::State { states: mask, inverted, .. } => {
            format!("{}ct state {}", not(inverted), states(&u32::from(*mask).to_ne_bytes()))
        }
        xt::Match::Mark { mark, mask, inverted } => {
            format!("{}mark {mark:#x}/{mask:#x}", not(inverted))
        }
        xt::Match::Ports { source, destination, .. } => {
            let ends = |range: &xt::PortRange| {
                format!("{}{}-{}", not(&range.inverted), range.low, range.high)
            };
            format!("sport {} dport {}", ends(source), ends(destination))
        }
        xt::Match::Unknown(name) => format!("xt match {name}"),
    })
}
