//! The whole input path under random and randomly broken texts.
//!
//! `WEIR_FUZZ_SECONDS=600 cargo test -p weir --lib fuzz` goes on for that long.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::documents::GOOD;
use crate::resource::{resolve_all, translate};

/// What stands in for a value or a key.
const PIECES: &[&str] = &[
    "",
    "null",
    "0",
    "-1",
    "1",
    "65535",
    "65536",
    "4294967296",
    "9223372036854775808",
    "1.5",
    "1e400",
    "true",
    "[]",
    "{}",
    "[{}]",
    "{a: b}",
    "\"\"",
    "\"*\"",
    "\"*.a\"",
    "a",
    "A",
    "a.b",
    "-",
    ".",
    "..",
    "10.0.0.1",
    "10.96.0.10",
    "2001:db8::1",
    "\"::\"",
    "0.0.0.0",
    "224.0.0.1",
    "::ffff:10.0.0.1",
    "10.0.0.0/8",
    "reviews",
    "reviews.default.svc.cluster.local",
    "default",
    "other",
    "v1",
    "v2",
    "TCP",
    "UDP",
    "SCTP",
    "HTTP",
    "TLS",
    "Service",
    "Gateway",
    "TCPRoute",
    "STATIC",
    "None",
    "IPv6",
    "&x",
    "*x",
    "!!int a",
    "|",
    "---",
    "metadata",
    "spec",
    "kind",
    "apiVersion",
    "hosts",
    "weight",
    "port",
    "name",
    "labels",
    "\u{0}",
    "\u{feff}",
    "ä",
    "kubernetes.io/service-name: reviews",
    "v1: v1: v1",
    "spec.hosts",
    "spec.hosts[]",
    "- ",
    "  ",
];

/// The texts of a round.
const CASES: u32 = 100;

/// A change of a text.
#[derive(Debug, Clone)]
enum Edit {
    /// Of the word of that number, to a piece.
    Word(usize, usize),
    /// Of the word of one number, to that of another.
    Copy(usize, usize),
    Remove(usize),
    Repeat(usize),
    Indent(usize, bool),
    Insert(usize, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let any = || 0..10_000usize;
    prop_oneof![
        8 => (any(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Word(at, piece)),
        4 => (any(), any()).prop_map(|(at, from)| Edit::Copy(at, from)),
        1 => any().prop_map(Edit::Remove),
        1 => any().prop_map(Edit::Repeat),
        1 => (any(), proptest::bool::ANY).prop_map(|(at, more)| Edit::Indent(at, more)),
        1 => (any(), ".{0,8}").prop_map(|(at, text)| Edit::Insert(at, text)),
    ]
}

/// The places of words: what stands between separators.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inner = !c.is_whitespace() && !matches!(c, ',' | '{' | '}' | '[' | ']');
        match (start, inner) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn apply(text: &mut String, edit: &Edit) {
    let words = words(text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if words.is_empty() || lines.is_empty() {
        return;
    }
    let word = |at: &usize| words[at % words.len()];
    let count = lines.len();
    match edit {
        Edit::Word(at, piece) => {
            let (from, to) = word(at);
            text.replace_range(from..to, PIECES[*piece]);
            return;
        }
        Edit::Copy(at, source) => {
            let (from, to) = word(source);
            let copy = text[from..to].to_owned();
            let (from, to) = word(at);
            text.replace_range(from..to, &copy);
            return;
        }
        Edit::Insert(at, new) => {
            let (from, _) = word(at);
            text.insert_str(from, new);
            return;
        }
        Edit::Remove(at) => _ = lines.remove(at % count),
        Edit::Repeat(at) => lines.insert(at % count, lines[at % count].clone()),
        Edit::Indent(at, true) => lines[at % count].insert(0, ' '),
        Edit::Indent(at, false) => {
            let line = &mut lines[at % count];
            *line = line.strip_prefix(' ').unwrap_or(line).to_owned();
        }
    }
    *text = lines.join("\n");
}

/// Some good documents after some edits; now and then any text at all.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let broken =
        (proptest::collection::vec(0..GOOD.len(), 1..8), proptest::collection::vec(edit(), 0..12))
            .prop_map(|(picked, edits)| {
                let mut text: String =
                    picked.iter().map(|&at| format!("{}\n---\n", GOOD[at].1)).collect();
                edits.iter().for_each(|edit| apply(&mut text, edit));
                text
            });
    let one = prop_oneof![20 => broken, 1 => "[ -~\n\u{e9}]{0,200}", 1 => any::<String>()];
    proptest::collection::vec(one, 1..4)
}

fn check(texts: &[String]) -> Result<(), TestCaseError> {
    let files: Vec<(String, &String)> =
        texts.iter().enumerate().map(|(n, text)| (format!("f{n}"), text)).collect();
    let resolved = resolve_all(&files);
    for found in resolved.problems.iter().chain(&resolved.notes) {
        let file = files.iter().find(|(name, _)| *name == found.file);
        let (_, text) = file.expect("the file of a problem");
        // A parser may find the end of a text on the line after the last one.
        let last = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
        let line = found.line.expect("the line of a problem");
        prop_assert!((1..=last).contains(&line), "{found}: of {last} lines");
        prop_assert!(!found.message.is_empty());
        prop_assert!(!found.to_string().contains(char::is_control), "{found:?}");
    }
    for name in &resolved.failed {
        prop_assert!(!resolved.problems.is_empty(), "{name} failed for no reason");
    }
    for split in resolved.desired.splits() {
        prop_assert!(resolved.provenance.contains_key(split.name()), "{}", split.name());
    }
    let text = translate(&resolved);
    let again = resolve_all(&[("t", &text)]);
    prop_assert_eq!(&again.problems, &Vec::new(), "{}", text);
    prop_assert_eq!(again.desired, resolved.desired, "{}", text);
    Ok(())
}

#[test]
fn no_text_makes_it_panic() {
    let seconds = std::env::var("WEIR_FUZZ_SECONDS").ok();
    let seconds: u64 = seconds.map_or(0, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0_u32;
    loop {
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        if let Err(error) = TestRunner::new(config).run(&texts(), |texts| check(&texts)) {
            panic!("{error}");
        }
        rounds += 1;
        if Instant::now() >= end {
            break;
        }
    }
    println!("{} texts", rounds * CASES);
}
