//! Messages about tables, chains, rules and sets. Numbers are those of
//! linux/netfilter/nf_tables.h.

use super::expression::{Expression, Verdict, verdict};
use super::family::Family;
use super::ruleset::{Chain, Hook, Place, Rule, Table};
use super::set::{Data, Element, SetKind};
use crate::netlink::{attribute, attributes, encode, text, word};

/// NFNL_SUBSYS_NFTABLES.
const NFTABLES: u16 = 10 << 8;
/// NFT_MSG_GETTABLE.
pub const GET_TABLES: u16 = NFTABLES | 1;
/// NFT_MSG_GETCHAIN.
pub const GET_CHAINS: u16 = NFTABLES | 4;
/// NFT_MSG_GETRULE.
pub const GET_RULES: u16 = NFTABLES | 7;
/// NFT_MSG_GETSET.
pub const GET_SETS: u16 = NFTABLES | 10;
/// NFT_MSG_GETSETELEM.
pub const GET_ELEMENTS: u16 = NFTABLES | 13;
/// NFT_MSG_GETGEN.
pub const GET_GENERATION: u16 = NFTABLES | 16;
/// NFT_MSG_GETFLOWTABLE.
pub const GET_FLOWTABLES: u16 = NFTABLES | 23;

/// Before the attributes: family, version, resource id.
pub const HEADER: usize = 4;

/// What asks for all of a kind, whatever the family.
pub const ALL: [u8; HEADER] = [0; HEADER];

/// What asks for the elements of a set.
pub fn elements_of(place: &Place, set: &str) -> Vec<u8> {
    let mut request = vec![place.family.0, 0, 0, 0];
    for (kind, name) in [(1, place.table.as_str()), (2, set)] {
        request.extend(encode(kind, &[name.as_bytes(), &[0]].concat()));
    }
    request
}

fn place(message: &[u8]) -> Option<Place> {
    let family = Family(*message.first()?);
    Some(Place { family, table: attribute(message.get(HEADER..)?, 1).map(text)? })
}

/// The number of changes that there were, in an answer to [`GET_GENERATION`].
pub fn generation(message: &[u8]) -> Option<u32> {
    attribute(message.get(HEADER..)?, 1).and_then(word)
}

/// A table. None, here and below, of a malformed message.
pub fn table(message: &[u8]) -> Option<Table> {
    const DORMANT: u32 = 1;
    let Place { family, table } = place(message)?;
    let flags = attribute(message.get(HEADER..)?, 2).and_then(word)?;
    Some(Table::new(family, table, flags & DORMANT != 0))
}

/// A chain, without its rules.
pub fn chain(message: &[u8]) -> Option<(Place, Chain)> {
    /// NFTA_CHAIN_USERDATA.
    const LAST: u16 = 12;
    let attributes = message.get(HEADER..)?;
    let of = |kind| attribute(attributes, kind);
    let is_known = self::attributes(attributes).all(|(kind, _)| kind <= LAST);
    let hook = match of(4) {
        None => None,
        Some(hook) => Some(Hook {
            point: attribute(hook, 1).and_then(word)?,
            priority: attribute(hook, 2).and_then(word)?.cast_signed(),
            kind: of(7).map(text).unwrap_or_default(),
            policy: match of(5).and_then(word) {
                _ if !is_known => Verdict::Other(u32::MAX),
                Some(0) => Verdict::Drop,
                Some(1) | None => Verdict::Accept,
                Some(other) => Verdict::Other(other),
            },
        }),
    };
    Some((place(message)?, Chain { name: of(3).map(text)?, hook, rules: Vec::new() }))
}

/// A rule, and the name of its chain.
pub fn rule(message: &[u8]) -> Option<(Place, String, Rule)> {
    /// NFTA_RULE_CHAIN_ID.
    const LAST: u16 = 11;
    let attributes = message.get(HEADER..)?;
    let of = |kind| attribute(attributes, kind);
    let handle =
        of(3).and_then(|bytes| bytes.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes));
    let list = of(4).unwrap_or_default();
    let mut expressions: Vec<Expression> =
        self::attributes(list).map(|(_, element)| Expression::of(element)).collect();
    if self::attributes(attributes).any(|(kind, _)| kind > LAST) {
        expressions.insert(0, Expression::Effect { name: "unknown".to_owned(), set: None });
    }
    Some((place(message)?, of(2).map(text)?, Rule { handle: handle?, expressions }))
}

/// A set without its elements, and its name.
pub fn set(message: &[u8]) -> Option<(Place, String, SetKind)> {
    /// NFTA_SET_COUNT.
    const LAST: u16 = 20;
    let attributes = message.get(HEADER..)?;
    let of = |kind| attribute(attributes, kind);
    let fields = of(9).and_then(|description| attribute(description, 2)).unwrap_or_default();
    let length = |(_, field)| attribute(field, 1).and_then(word).map(|length| length as usize);
    let kind = SetKind {
        flags: of(3).and_then(word).unwrap_or_default(),
        key_length: of(5).and_then(word)? as usize,
        fields: self::attributes(fields).map(length).collect::<Option<_>>()?,
        is_known: self::attributes(attributes).all(|(kind, _)| kind <= LAST),
    };
    Some((place(message)?, of(2).map(text)?, kind))
}

/// The name of a flowtable, with its table's.
pub fn flowtable(message: &[u8]) -> Option<String> {
    let Place { family, table } = place(message)?;
    let name = attribute(message.get(HEADER..)?, 2).map(text)?;
    Some(format!("{family} {table} {name}"))
}

/// The elements in a message.
pub fn elements(message: &[u8]) -> Option<Vec<Element>> {
    let list = attribute(message.get(HEADER..)?, 3).unwrap_or_default();
    attributes(list).map(|(_, found)| element(found)).collect()
}

fn element(bytes: &[u8]) -> Option<Element> {
    const INTERVAL_END: u32 = 1;
    const CATCH_ALL: u32 = 2;
    /// NFTA_SET_ELEM_EXPR, _OBJREF, _EXPRESSIONS: something is done when it is found.
    const ACTS: [u16; 3] = [7, 9, 11];
    const LAST: u16 = 11;
    let of = |kind| attribute(bytes, kind);
    let value = |kind| of(kind).and_then(|data| attribute(data, 1)).map(<[u8]>::to_vec);
    let flags = of(3).and_then(word).unwrap_or_default();
    let is_catch_all = flags & CATCH_ALL != 0;
    Some(Element {
        key: if is_catch_all { Vec::new() } else { value(1)? },
        key_end: value(10),
        ends: flags & INTERVAL_END != 0,
        is_catch_all,
        data: match of(2) {
            None => Data::None,
            Some(data) => match verdict(data) {
                Some(verdict) => Data::Verdict(verdict),
                None => Data::Value(attribute(data, 1)?.to_vec()),
            },
        },
        acts: flags & !(INTERVAL_END | CATCH_ALL) != 0
            || attributes(bytes).any(|(kind, _)| kind > LAST || ACTS.contains(&kind)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![family, 0, 0, 0], attributes.concat()].concat()
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        encode(kind, &value.to_be_bytes())
    }

    fn of_table(family: Family) -> Place {
        Place { family, table: "t".to_owned() }
    }

    #[test]
    fn chains_are_read_with_their_hooks() {
        let names = [encode(1, b"t\0"), encode(3, b"c\0")].concat();
        let hook = [number(1, 2), number(2, -5_i32 as u32)].concat();
        let base = |more: &[Vec<u8>]| {
            let hook = encode(4 | 1 << 15, &hook);
            chain(&message(
                1,
                &[vec![names.clone(), hook, encode(7, b"nat\0")], more.to_vec()].concat(),
            ))
        };
        let policy = |more: &[Vec<u8>]| base(more).unwrap().1.hook.unwrap().policy;
        let (place, found) = base(&[number(5, 1)]).unwrap();
        assert_eq!(place, of_table(Family::INET));
        let kind = "nat".to_owned();
        let hook = Hook { point: 2, priority: -5, kind, policy: Verdict::Accept };
        assert_eq!((found.name.as_str(), found.hook), ("c", Some(hook)));
        assert_eq!(policy(&[]), Verdict::Accept);
        assert_eq!(policy(&[number(5, 0)]), Verdict::Drop);
        assert!(matches!(policy(&[number(5, 1), number(13, 1)]), Verdict::Other(_)), "unknown");
        let called = chain(&message(2, &[names])).unwrap();
        assert_eq!((called.0, called.1.hook), (of_table(Family::IPV4), None));
        assert!(chain(&[]).is_none());
    }

    #[test]
    fn rules_are_read_with_what_is_not_known_of_them() {
        let names =
            [encode(1, b"t\0"), encode(2, b"c\0"), encode(3, &7_u64.to_be_bytes())].concat();
        let list = encode(
            4,
            &[encode(1, &encode(1, b"counter\0")), encode(1, &encode(1, b"log\0"))].concat(),
        );
        let (place, name, found) = rule(&message(2, &[names.clone(), list])).unwrap();
        assert_eq!((place, name.as_str(), found.handle), (of_table(Family::IPV4), "c", 7));
        let log = Expression::Effect { name: "log".to_owned(), set: None };
        assert_eq!(found.expressions, [Expression::Counter, log]);
        let (_, _, found) = rule(&message(2, &[names, number(12, 0)])).unwrap();
        assert!(matches!(found.expressions[..], [Expression::Effect { .. }]));
    }

    #[test]
    fn sets_are_read_with_the_parts_of_their_keys() {
        let names = [encode(1, b"t\0"), encode(2, b"s\0"), number(3, 4), number(5, 8)].concat();
        let parts = encode(2, &[encode(1, &number(1, 4)), encode(1, &number(1, 2))].concat());
        let (place, name, kind) = set(&message(10, &[names.clone(), encode(9, &parts)])).unwrap();
        assert_eq!((place, name.as_str()), (of_table(Family::IPV6), "s"));
        let expected = SetKind { flags: 4, key_length: 8, fields: vec![4, 2], is_known: true };
        assert_eq!(kind, expected);
        let (_, _, kind) = set(&message(10, &[names, number(21, 0)])).unwrap();
        assert!(!kind.is_known && kind.fields.is_empty());
    }

    #[test]
    fn elements_are_read_with_what_they_lead_to() {
        let key = |kind, key: &[u8]| encode(kind, &encode(1, key));
        let drop = encode(2, &encode(2, &number(1, 0)));
        let list = [
            [key(1, &[1]), key(10, &[2]), drop].concat(),
            [key(1, &[3]), number(3, 1)].concat(),
            [number(3, 2), key(2, &[4])].concat(),
            [key(1, &[5]), encode(11, &[])].concat(),
        ];
        let list: Vec<u8> = list.iter().flat_map(|element| encode(1, element)).collect();
        let found = elements(&message(2, &[encode(3, &list)])).unwrap();
        let plain = |key: &[u8]| Element {
            key: key.to_vec(),
            key_end: None,
            ends: false,
            is_catch_all: false,
            data: Data::None,
            acts: false,
        };
        let expected = [
            Element { key_end: Some(vec![2]), data: Data::Verdict(Verdict::Drop), ..plain(&[1]) },
            Element { ends: true, ..plain(&[3]) },
            Element { is_catch_all: true, data: Data::Value(vec![4]), ..plain(&[]) },
            Element { acts: true, ..plain(&[5]) },
        ];
        assert_eq!(found, expected);
        assert_eq!(elements(&message(2, &[encode(3, &encode(1, &[]))])), None, "without a key");
    }
}
