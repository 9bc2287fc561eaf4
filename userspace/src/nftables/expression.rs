//! Expressions of rules, as the kernel lists them. Numbers are those of
//! linux/netfilter/nf_tables.h.

use super::registers::Register;
use super::xt;
use crate::netlink::{attribute, attributes, text, word};

/// What a chain does with a packet, or a rule has it do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, to what comes after this hook's chain.
    Accept,
    /// It is dropped.
    Drop,
    /// The next rule.
    Continue,
    /// The next rule, as if this one had not matched.
    Break,
    /// The rules of another chain, and then the next rule.
    Jump(String),
    /// The rules of another chain.
    Goto(String),
    /// Back to the chain that called this one.
    Return,
    /// Something else: a queue, or what is not known.
    Other(u32),
}

/// How a register is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Where in a packet a load begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// At the frame's header.
    Link,
    /// At the IP header.
    Network,
    /// At the TCP or UDP header.
    Transport,
    /// Somewhere else.
    Other(u32),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A verdict.
    Verdict(Verdict),
    /// A constant.
    Immediate {
        /// Where it goes.
        to: Register,
        /// The constant.
        value: Vec<u8>,
    },
    /// Goes on if a register compares so.
    Compare {
        /// What is compared.
        from: Register,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Vec<u8>,
    },
    /// Goes on if a register is in a range, ends included, or outside of it.
    Range {
        /// What is compared.
        from: Register,
        /// Outside.
        inverted: bool,
        /// The first of the range.
        low: Vec<u8>,
        /// The last of it.
        high: Vec<u8>,
    },
    /// `to = from & mask ^ flip`.
    Mask {
        /// What is masked.
        from: Register,
        /// Where it goes.
        to: Register,
        /// Which bits stay.
        mask: Vec<u8>,
        /// Which bits are turned round.
        flip: Vec<u8>,
    },
    /// Each unit of so many bytes, from the machine's order to the wire's or back.
    Swap {
        /// What is changed.
        from: Register,
        /// Where it goes.
        to: Register,
        /// Of how many bytes.
        length: usize,
        /// Bytes of a unit.
        unit: usize,
    },
    /// Bytes of the packet.
    Payload {
        /// From where.
        base: Base,
        /// Behind that.
        offset: usize,
        /// How many.
        length: usize,
        /// Where they go.
        to: Register,
    },
    /// What is known of the packet beside its bytes.
    Meta {
        /// `NFT_META_MARK` and the like.
        key: u32,
        /// Where it goes.
        to: Register,
    },
    /// What connection tracking knows.
    Tracked {
        /// `NFT_CT_STATE` and the like.
        key: u32,
        /// Of which direction.
        direction: Option<u8>,
        /// Where it goes.
        to: Register,
    },
    /// Goes on if a set has an element (or has none); of a map, with its data.
    Lookup {
        /// The set's name.
        set: String,
        /// The key.
        from: Register,
        /// Where data go; inside nothing if that is the verdict.
        to: Option<Option<Register>>,
        /// Has none.
        inverted: bool,
    },
    /// A counter that has no name.
    Counter,
    /// Writes something that is not known; changes nothing, and may not match.
    Unknown {
        /// The name of the expression.
        name: String,
        /// Where it goes.
        to: Option<Register>,
    },
    /// A match of the older iptables.
    Match(xt::Match),
    /// Does something to the packet, or to what others see of it, or is not known.
    Effect {
        /// The name of the expression, and perhaps more of it.
        name: String,
        /// The set that it changes.
        set: Option<String>,
    },
}

/// The attributes that expressions are known to have, by name. One with another is not known.
const KNOWN: &[(&str, u16)] = &[
    ("immediate", 2),
    ("cmp", 3),
    ("range", 4),
    ("bitwise", 8),
    ("byteorder", 5),
    ("payload", 8),
    ("meta", 3),
    ("ct", 4),
    ("lookup", 5),
    ("counter", 3),
    ("match", 3),
    ("exthdr", 7),
    ("fib", 3),
    ("hash", 7),
    ("numgen", 4),
    ("osf", 3),
    ("rt", 2),
    ("socket", 3),
    ("tunnel", 2),
    ("xfrm", 4),
];

impl Expression {
    /// The expression of an element of NFTA_RULE_EXPRESSIONS.
    pub fn of(element: &[u8]) -> Self {
        let name = attribute(element, 1).map(text).unwrap_or_default();
        let data = attribute(element, 2).unwrap_or_default();
        let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, last)| *last);
        if known.is_some_and(|last| attributes(data).all(|(kind, _)| kind <= last))
            && let Some(expression) = parse(&name, data)
        {
            return expression;
        }
        effect(name, data)
    }
}

/// What is an effect, or is not known.
fn effect(name: String, data: &[u8]) -> Expression {
    const DYNSET_SET_NAME: u16 = 1;
    const TARGET_NAME: u16 = 1;
    let of_set = name == "dynset";
    let set = attribute(data, DYNSET_SET_NAME).filter(|_| of_set).map(text);
    let name = match attribute(data, TARGET_NAME).filter(|_| name == "target").map(text) {
        Some(target) => format!("target {target}"),
        None => name,
    };
    Expression::Effect { name, set }
}

/// None if it is no expression that only looks.
fn parse(name: &str, data: &[u8]) -> Option<Expression> {
    let number = |kind| attribute(data, kind).and_then(word);
    let register = |kind| number(kind).and_then(Register::new);
    let value =
        |kind| attribute(data, kind).and_then(|data| attribute(data, 1)).map(<[u8]>::to_vec);
    let unknown = |to| Some(Expression::Unknown { name: name.to_owned(), to });
    Some(match name {
        "immediate" => match number(1)? {
            0 => Expression::Verdict(verdict(attribute(data, 2)?)?),
            to => Expression::Immediate { to: Register::new(to)?, value: value(2)? },
        },
        "cmp" => Expression::Compare {
            from: register(1)?,
            comparison: comparison(number(2)?)?,
            value: value(3)?,
        },
        "range" => Expression::Range {
            from: register(1)?,
            inverted: [false, true].get(number(2)? as usize).copied()?,
            low: value(3)?,
            high: value(4)?,
        },
        "bitwise" => match number(6).unwrap_or_default() {
            0 => Expression::Mask {
                from: register(1)?,
                to: register(2)?,
                mask: value(4)?,
                flip: value(5)?,
            },
            _ => return unknown(Some(register(2)?)),
        },
        "byteorder" => Expression::Swap {
            from: register(1)?,
            to: register(2)?,
            length: number(4)? as usize,
            unit: number(5)? as usize,
        },
        // With a register that it comes from, it is written to the packet.
        "payload" if attribute(data, 5).is_none() => Expression::Payload {
            base: base(number(2)?),
            offset: number(3)? as usize,
            length: number(4)? as usize,
            to: register(1)?,
        },
        "meta" if attribute(data, 3).is_none() => {
            Expression::Meta { key: number(2)?, to: register(1)? }
        }
        "ct" if attribute(data, 4).is_none() => Expression::Tracked {
            key: number(2)?,
            direction: attribute(data, 3).and_then(|direction| direction.first().copied()),
            to: register(1)?,
        },
        "lookup" => Expression::Lookup {
            set: attribute(data, 1).map(text)?,
            from: register(2)?,
            to: match number(3) {
                None => None,
                Some(0) => Some(None),
                Some(to) => Some(Some(Register::new(to)?)),
            },
            inverted: [false, true].get(number(5).unwrap_or_default() as usize).copied()?,
        },
        "counter" => Expression::Counter,
        "match" => Expression::Match(xt::Match::of(
            attribute(data, 1).map(text)?,
            number(2)?,
            attribute(data, 3)?,
        )?),
        // With a register that it comes from, it is written to the packet; without any, an option
        // is taken out of it.
        "exthdr" if attribute(data, 7).is_none() => return unknown(Some(register(1)?)),
        // The other kind counts: who is asked decides what the next one gets.
        "numgen" if number(3) == Some(1) => return unknown(Some(register(1)?)),
        "fib" | "osf" | "rt" => return unknown(Some(register(1)?)),
        "hash" | "socket" | "tunnel" => return unknown(Some(register(2)?)),
        "xfrm" => return unknown(Some(register(1)?)),
        _ => return None,
    })
}

/// The verdict in an attribute of data.
pub fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = attribute(data, 2)?;
    let chain = || attribute(verdict, 2).map(text);
    let code = attribute(verdict, 1).and_then(word)?;
    Some(match code.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => Verdict::Other(code),
    })
}

fn comparison(number: u32) -> Option<Comparison> {
    const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    ALL.get(number as usize).copied()
}

fn base(number: u32) -> Base {
    match number {
        0 => Base::Link,
        1 => Base::Network,
        2 => Base::Transport,
        number => Base::Other(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::encode;

    fn number(kind: u16, value: u32) -> Vec<u8> {
        encode(kind, &value.to_be_bytes())
    }

    fn data(kind: u16, value: &[u8]) -> Vec<u8> {
        encode(kind, &encode(1, value))
    }

    fn of(name: &[u8], attributes: &[Vec<u8>]) -> Expression {
        Expression::of(&[encode(1, name), encode(2, &attributes.concat())].concat())
    }

    fn effect_of(name: &str) -> Expression {
        Expression::Effect { name: name.to_owned(), set: None }
    }

    #[test]
    fn what_only_looks_is_told_from_what_changes() {
        let to = Register::new(1).unwrap();
        let meta = |attributes: &[Vec<u8>]| of(b"meta\0", attributes);
        assert_eq!(meta(&[number(1, 1), number(2, 3)]), Expression::Meta { key: 3, to });
        assert_eq!(meta(&[number(2, 3), number(3, 1)]), effect_of("meta"));
        let load = [number(1, 1), number(2, 1), number(3, 16), number(4, 4)];
        let expected = Expression::Payload { base: Base::Network, offset: 16, length: 4, to };
        assert_eq!(of(b"payload\0", &load), expected);
        let store = [number(5, 1), number(2, 1), number(3, 16), number(4, 4)];
        assert_eq!(of(b"payload\0", &store), effect_of("payload"));
        let ct = of(b"ct\0", &[number(1, 1), number(2, 0)]);
        assert_eq!(ct, Expression::Tracked { key: 0, direction: None, to });
        assert_eq!(of(b"ct\0", &[number(4, 1), number(2, 3)]), effect_of("ct"));
        assert_eq!(of(b"counter\0", &[]), Expression::Counter);
        for name in ["log", "limit", "quota", "masq", "nat", "queue", "flow_offload", "later"] {
            assert_eq!(of(format!("{name}\0").as_bytes(), &[]), effect_of(name));
        }
        let numgen = |kind| of(b"numgen\0", &[number(1, 1), number(2, 2), number(3, kind)]);
        assert_eq!(numgen(0), effect_of("numgen"));
        assert!(matches!(numgen(1), Expression::Unknown { to: Some(_), .. }));
        assert_eq!(of(b"target\0", &[encode(1, b"MARK\0")]), effect_of("target MARK"));
        let added = of(b"dynset\0", &[encode(1, b"seen\0")]);
        let set = Some("seen".to_owned());
        assert_eq!(added, Expression::Effect { name: "dynset".to_owned(), set });
    }

    #[test]
    fn what_has_more_than_is_known_is_not_known() {
        let cmp = [number(1, 1), number(2, 0), data(3, &[7])];
        let known = of(b"cmp\0", &cmp);
        let from = Register::new(1).unwrap();
        let comparison = Comparison::Equal;
        assert_eq!(known, Expression::Compare { from, comparison, value: vec![7] });
        assert_eq!(of(b"cmp\0", &[&cmp[..], &[number(4, 1)]].concat()), effect_of("cmp"));
        assert_eq!(of(b"cmp\0", &cmp[..2]), effect_of("cmp"), "with less");
        assert_eq!(of(b"cmp\0", &[number(1, 1), number(2, 6), data(3, &[7])]), effect_of("cmp"));
        assert_eq!(Expression::of(&[]), effect_of(""));
    }

    #[test]
    fn verdicts_are_read_with_their_chains() {
        let of_code = |code: i32| {
            let chain = encode(2, b"c\0");
            let inside = [encode(1, &code.to_be_bytes()), chain].concat();
            of(b"immediate\0", &[number(1, 0), encode(2, &encode(2, &inside))])
        };
        for (code, verdict) in [
            (0, Verdict::Drop),
            (1, Verdict::Accept),
            (-1, Verdict::Continue),
            (-2, Verdict::Break),
            (-3, Verdict::Jump("c".to_owned())),
            (-4, Verdict::Goto("c".to_owned())),
            (-5, Verdict::Return),
            (3, Verdict::Other(3)),
            (0x10003, Verdict::Other(0x10003)),
        ] {
            assert_eq!(of_code(code), Expression::Verdict(verdict), "{code}");
        }
    }
}
