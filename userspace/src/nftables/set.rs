//! Sets and maps, and what may be found in them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::bits::{Answer, Bits};
use super::expression::Verdict;

/// What a set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetKind {
    /// `NFT_SET_INTERVAL` and the like.
    pub flags: u32,
    /// How long a key is.
    pub key_length: usize,
    /// How long the parts of a key are, if it has several; each begins at a word of 4 bytes.
    pub fields: Vec<usize>,
    /// All that its message says is known.
    pub is_known: bool,
}

impl SetKind {
    const INTERVAL: u32 = 0x4;
    const TIMEOUT: u32 = 0x10;
    const EVAL: u32 = 0x20;

    /// Packets or time change it.
    fn is_volatile(&self) -> bool {
        self.flags & (Self::TIMEOUT | Self::EVAL) != 0
    }
}

/// What an element of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing: the set is no map.
    None,
    /// A verdict.
    Verdict(Verdict),
    /// Bytes.
    Value(Vec<u8>),
}

/// An element, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key, or where its range begins.
    pub key: Vec<u8>,
    /// Where its range ends, of keys that have several parts.
    pub key_end: Option<Vec<u8>>,
    /// The range before it ends here.
    pub ends: bool,
    /// It stands for all keys that no other has.
    pub is_catch_all: bool,
    /// What it leads to.
    pub data: Data,
    /// It does something when it is found.
    pub acts: bool,
}

/// Part of a key that is known, and which elements have it.
type Index = HashMap<Vec<u8>, Vec<usize>>;

/// A set or a map.
#[derive(Debug)]
pub struct Set {
    kind: SetKind,
    is_volatile: bool,
    /// What is in it is known.
    is_known: bool,
    acts: bool,
    /// The first and the last key of each element; of an ordinary set they are the same.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    data: Vec<Data>,
    catch_all: Option<Data>,
    /// By which bits of the key are known.
    indices: RefCell<HashMap<Vec<u8>, Index>>,
}

/// What a look-up may find.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Any of these.
    pub data: Vec<&'a Data>,
    /// Or nothing.
    pub may_miss: bool,
    /// Something is done when it is found.
    pub acts: bool,
    /// How many elements were looked at.
    pub effort: usize,
}

impl Found<'_> {
    /// Whether anything is found.
    pub fn answer(&self) -> Answer {
        match (self.data.is_empty(), self.may_miss) {
            (true, _) => Answer::No,
            (false, false) => Answer::Yes,
            (false, true) => Answer::Maybe,
        }
    }
}

impl Set {
    /// With these elements.
    pub fn new(kind: SetKind, elements: Vec<Element>) -> Self {
        let mut set = Self {
            is_volatile: kind.is_volatile(),
            is_known: kind.is_known,
            acts: false,
            kind,
            ranges: Vec::new(),
            data: Vec::new(),
            catch_all: None,
            indices: RefCell::default(),
        };
        set.fill(elements);
        set
    }

    /// Packets change it.
    pub fn become_volatile(&mut self) {
        self.is_volatile = true;
    }

    fn fill(&mut self, elements: Vec<Element>) {
        self.acts |= elements.iter().any(|element| element.acts);
        let (catch_all, mut elements): (Vec<_>, Vec<_>) =
            elements.into_iter().partition(|element| element.is_catch_all);
        self.catch_all = catch_all.into_iter().next().map(|element| element.data);
        let length = self.kind.key_length;
        self.is_known &= elements.iter().all(|element| element.key.len() == length);
        if self.kind.flags & SetKind::INTERVAL == 0 || !self.kind.fields.is_empty() {
            for element in elements {
                let end = element.key_end.unwrap_or_else(|| element.key.clone());
                self.is_known &= end.len() == length && !element.ends;
                self.push(element.key, end, element.data);
            }
            return;
        }
        self.is_known &= elements.iter().all(|element| element.key_end.is_none());
        // Where one range ends and the next begins, the end comes first.
        elements.sort_by(|a, b| a.key.cmp(&b.key).then(b.ends.cmp(&a.ends)));
        let mut open: Option<Element> = None;
        for element in elements {
            match (open.take(), element.ends) {
                (Some(begun), true) => self.push(begun.key, before(element.key), begun.data),
                (None, false) => open = Some(element),
                (None, true) => {}
                (Some(_), false) => {
                    self.is_known = false;
                    open = Some(element);
                }
            }
        }
        if let Some(begun) = open {
            self.push(begun.key, vec![0xff; length], begun.data);
        }
    }

    fn push(&mut self, low: Vec<u8>, high: Vec<u8>, data: Data) {
        self.ranges.push((low, high));
        self.data.push(data);
    }

    /// How long keys are.
    pub fn key_length(&self) -> usize {
        self.kind.key_length
    }

    /// What a look-up of a key may find.
    pub fn find(&self, key: Bits<'_>) -> Found<'_> {
        if !self.is_known {
            return Found { data: vec![&Data::None], may_miss: true, acts: true, effort: 1 };
        }
        if self.is_volatile {
            return Found {
                // Also what is there no more: a set without any may have some.
                data: if self.data.is_empty() && self.catch_all.is_none() {
                    vec![&Data::None]
                } else {
                    self.data.iter().chain(&self.catch_all).collect()
                },
                may_miss: true,
                acts: self.acts,
                effort: self.data.len(),
            };
        }
        let (numbers, is_sure, effort) = self.candidates(key);
        let mut found = Found {
            data: numbers.iter().map(|&number| &self.data[number]).collect(),
            may_miss: !is_sure,
            acts: false,
            effort,
        };
        if found.answer() != Answer::Yes {
            found.data.extend(&self.catch_all);
            found.may_miss &= self.catch_all.is_none();
        }
        found.acts = self.acts && !found.data.is_empty();
        found
    }

    /// The elements that may have the key, and whether one of them does for sure.
    fn candidates(&self, key: Bits<'_>) -> (Vec<usize>, bool, usize) {
        let fields = &self.kind.fields;
        let is_exact = self.kind.flags & SetKind::INTERVAL == 0;
        if is_exact {
            let mut indices = self.indices.borrow_mut();
            let index = match indices.get(key.known) {
                Some(index) => index,
                None => indices.entry(key.known.to_vec()).or_insert(self.index(key.known)),
            };
            let numbers = index.get(key.value).cloned().unwrap_or_default();
            let effort = numbers.len() + 1;
            return (numbers, key.are_known(), effort);
        }
        if fields.is_empty() && key.are_known() {
            // Ranges do not overlap, and are in order.
            let after = self.ranges.partition_point(|(low, _)| low.as_slice() <= key.value);
            let hit = after.checked_sub(1).filter(|&n| key.value <= self.ranges[n].1.as_slice());
            return (hit.into_iter().collect(), true, 1);
        }
        let (mut numbers, mut is_sure) = (Vec::new(), key.are_known());
        for (number, (low, high)) in self.ranges.iter().enumerate() {
            let answer = within(key, low, high, fields);
            // Parts of a key may be in several elements, of which the kernel takes one.
            if answer != Answer::No {
                numbers.push(number);
            }
            is_sure |= answer == Answer::Yes;
        }
        (numbers, is_sure, self.ranges.len())
    }

    /// Which elements there are for what may be known of a key.
    fn index(&self, known: &[u8]) -> Index {
        let mut index = Index::new();
        for (number, (key, _)) in self.ranges.iter().enumerate() {
            let part = key.iter().zip(known).map(|(byte, known)| byte & known).collect();
            index.entry(part).or_default().push(number);
        }
        index
    }
}

/// The key before a key.
fn before(mut key: Vec<u8>) -> Vec<u8> {
    for byte in key.iter_mut().rev() {
        let borrows = *byte == 0;
        *byte = byte.wrapping_sub(1);
        if !borrows {
            break;
        }
    }
    key
}

/// Whether a key is in a range, or each part of it in its own.
fn within(key: Bits<'_>, low: &[u8], high: &[u8], fields: &[usize]) -> Answer {
    let whole = [key.value.len()];
    let fields = if fields.is_empty() { &whole } else { fields };
    let (mut at, mut answer) = (0, Answer::Yes);
    for &length in fields {
        let range = at..at + length;
        let parts = (key.value.get(range.clone()), key.known.get(range.clone()));
        let ends = (low.get(range.clone()), high.get(range));
        let ((Some(value), Some(known)), (Some(low), Some(high))) = (parts, ends) else {
            return Answer::Maybe;
        };
        answer = answer.and(Bits { value, known }.is_within(low, high));
        at += length.next_multiple_of(4);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(flags: u32, key_length: usize, fields: &[usize]) -> SetKind {
        SetKind { flags, key_length, fields: fields.to_vec(), is_known: true }
    }

    fn element(key: &[u8]) -> Element {
        Element {
            key: key.to_vec(),
            key_end: None,
            ends: false,
            is_catch_all: false,
            data: Data::Value(key.to_vec()),
            acts: false,
        }
    }

    fn answer(set: &Set, value: &[u8], known: &[u8]) -> (Answer, usize) {
        let found = set.find(Bits { value, known });
        (found.answer(), found.data.len())
    }

    #[test]
    fn a_key_is_found_by_what_is_known_of_it() {
        let keys: [&[u8]; 3] = [&[1, 1], &[1, 2], &[2, 1]];
        let set = Set::new(kind(0, 2, &[]), keys.iter().map(|key| element(key)).collect());
        for (value, known, expected) in [
            (&[1, 2], &[0xff, 0xff], (Answer::Yes, 1)),
            (&[2, 2], &[0xff, 0xff], (Answer::No, 0)),
            (&[1, 0], &[0xff, 0], (Answer::Maybe, 2)),
            (&[3, 0], &[0xff, 0], (Answer::No, 0)),
            (&[0, 0], &[0, 0], (Answer::Maybe, 3)),
        ] {
            assert_eq!(answer(&set, value, known), expected, "{value:?} {known:?}");
        }
    }

    #[test]
    fn ranges_end_before_the_end_that_is_listed() {
        let end = |key: &[u8]| Element { ends: true, ..element(key) };
        // As the kernel lists them: from the last to the first, and an end before the first.
        let elements = vec![
            element(&[0xf0, 0]),
            end(&[2, 0]),
            element(&[1, 5]),
            end(&[1, 5]),
            element(&[1, 0]),
            end(&[0, 0]),
        ];
        let set = Set::new(kind(SetKind::INTERVAL, 2, &[]), elements);
        for (value, expected) in [
            ([0, 0xff], (Answer::No, 0)),
            ([1, 0], (Answer::Yes, 1)),
            ([1, 4], (Answer::Yes, 1)),
            ([1, 5], (Answer::Yes, 1)),
            ([1, 0xff], (Answer::Yes, 1)),
            ([2, 0], (Answer::No, 0)),
            ([0xff, 0xff], (Answer::Yes, 1)),
        ] {
            assert_eq!(answer(&set, &value, &[0xff; 2]), expected, "{value:?}");
        }
        assert_eq!(
            set.find(Bits { value: &[1, 5], known: &[0xff; 2] }).data,
            [&Data::Value(vec![1, 5])]
        );
        assert_eq!(answer(&set, &[0, 0], &[0xff, 0]), (Answer::No, 0));
        assert_eq!(answer(&set, &[1, 0], &[0xff, 0]), (Answer::Maybe, 2));
        assert_eq!(answer(&set, &[0xf0, 0], &[0xf0, 0]), (Answer::Yes, 1));
        let two =
            Set::new(kind(SetKind::INTERVAL, 2, &[]), vec![element(&[1, 0]), element(&[2, 0])]);
        assert!(two.find(Bits { value: &[1, 0], known: &[0xff; 2] }).acts, "one that does not end");
    }

    #[test]
    fn parts_of_a_key_are_in_ranges_of_their_own() {
        let both = Element {
            key_end: Some(vec![3, 0, 0, 0, 9, 9, 0, 0]),
            ..element(&[1, 0, 0, 0, 8, 0, 0, 0])
        };
        let set = Set::new(kind(SetKind::INTERVAL, 8, &[1, 2]), vec![both]);
        for (value, expected) in [
            ([2, 0, 0, 0, 8, 0xff, 0, 0], (Answer::Yes, 1)),
            ([2, 0, 0, 0, 9, 10, 0, 0], (Answer::No, 0)),
            ([4, 0, 0, 0, 9, 0, 0, 0], (Answer::No, 0)),
        ] {
            assert_eq!(answer(&set, &value, &[0xff; 8]), expected, "{value:?}");
        }
        let known = [0xff, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&set, &[2, 0, 0, 0, 0, 0, 0, 0], &known), (Answer::Maybe, 1));
        assert_eq!(answer(&set, &[4, 0, 0, 0, 0, 0, 0, 0], &known), (Answer::No, 0));
    }

    #[test]
    fn one_element_may_stand_for_all_others() {
        let all = Element { is_catch_all: true, key: Vec::new(), ..element(&[9]) };
        let set = Set::new(kind(0, 1, &[]), vec![element(&[1]), all]);
        assert_eq!(set.find(Bits { value: &[1], known: &[0xff] }).data, [&Data::Value(vec![1])]);
        assert_eq!(set.find(Bits { value: &[2], known: &[0xff] }).data, [&Data::Value(vec![9])]);
        assert_eq!(answer(&set, &[2], &[0xff]), (Answer::Yes, 1));
        assert_eq!(answer(&set, &[0], &[0]), (Answer::Yes, 2));
    }

    #[test]
    fn nothing_is_sure_of_what_packets_or_time_change() {
        for flags in [SetKind::TIMEOUT, SetKind::EVAL] {
            let set = Set::new(kind(flags, 1, &[]), vec![element(&[1])]);
            assert_eq!(answer(&set, &[1], &[0xff]), (Answer::Maybe, 1), "{flags:#x}");
            assert_eq!(answer(&set, &[2], &[0xff]), (Answer::Maybe, 1), "{flags:#x}");
        }
        let mut set = Set::new(kind(0, 1, &[]), Vec::new());
        assert_eq!(answer(&set, &[2], &[0xff]), (Answer::No, 0));
        set.become_volatile();
        assert_eq!(answer(&set, &[2], &[0xff]), (Answer::Maybe, 1));
    }

    #[test]
    fn what_acts_does_so_where_it_is_found() {
        let set = Set::new(kind(0, 1, &[]), vec![Element { acts: true, ..element(&[1]) }]);
        let acts = |value| set.find(Bits { value: &[value], known: &[0xff] }).acts;
        assert!(acts(1));
        assert!(!acts(2));
    }
}
