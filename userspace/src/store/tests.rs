//! The journal, whole and broken.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::SystemTime;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::desired::{Cause, Change, Object, Op, Override, PersistedState, Transaction};
use crate::model::{Key, Name, Weights};

fn key(name: &str) -> Key {
    Key { kind: "TrafficSplit".into(), namespace: String::new(), name: name.into() }
}

fn put(version: u64, name: &str) -> Op {
    let document = format!(r#"{{"at":{version},"text":"line\n\"é"}}"#);
    Op::Put(Object { key: key(name), version, document })
}

fn weights(v1: u32, v2: u32) -> Weights {
    [("v1", v1), ("v2", v2)].map(|(name, w)| (Name::new(name).unwrap(), w)).into_iter().collect()
}

fn shift(version: u64, name: &str, to: u32) -> Vec<Op> {
    let name = Name::new(name).unwrap();
    let since = SystemTime::UNIX_EPOCH.into();
    let (weights, defined) = (weights(to, 10), weights(1, 10));
    let (from, to) = (defined.clone(), weights.clone());
    let change = Change {
        version,
        time: since,
        cause: Cause::Weights,
        from,
        to,
        ended: None,
        endpoint: None,
        author: None,
    };
    let over = Override { weights, defined, since };
    vec![Op::Override(name.clone(), over), Op::Changed(name, change)]
}

/// A few transactions of all sorts.
fn sample() -> Vec<Transaction> {
    let ops = vec![
        vec![put(1, "a"), put(1, "b"), put(1, "c")],
        shift(2, "a", 7),
        vec![Op::Delete(key("b")), put(3, "d")],
        shift(4, "c", 9),
        vec![Op::Reset(Name::new("c").unwrap())],
    ];
    (1..).zip(ops).map(|(version, ops)| Transaction { version, ops }).collect()
}

fn persisted(transactions: &[Transaction]) -> PersistedState {
    let mut persisted = PersistedState::default();
    transactions.iter().for_each(|transaction| persisted.accept(transaction.clone()));
    persisted
}

fn open(directory: &Path) -> (Store, Vec<Notice>) {
    Store::open(directory).expect("the directory can be opened")
}

/// A directory whose journal has the sample's transactions behind an empty start.
fn written() -> (TempDir, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, notices) = open(directory.path());
    assert_eq!(notices, []);
    sample().into_iter().for_each(|transaction| store.commit(transaction).unwrap());
    let bytes = fs::read(directory.path().join("journal")).unwrap();
    (directory, bytes)
}

#[test]
fn what_was_committed_is_found_again() {
    let (directory, _) = written();
    let (store, notices) = open(directory.path());
    assert_eq!((store.persisted(), notices.as_slice()), (&persisted(&sample()), [].as_slice()));
    let journal = fs::metadata(directory.path().join("journal")).unwrap();
    assert_eq!(journal.mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_journal_cut_at_any_byte_holds_whole_transactions() {
    let (directory, bytes) = written();
    let file = directory.path().join("journal");
    for length in 0..bytes.len() {
        fs::write(&file, &bytes[..length]).unwrap();
        let (mut store, notices) = open(directory.path());
        // Two lines, the format and the version, are no transaction of the sample.
        let lines = bytes[..length].iter().filter(|&&byte| byte == b'\n').count();
        let whole = lines.saturating_sub(2);
        assert_eq!(*store.persisted(), persisted(&sample()[..whole]), "cut at {length}");
        let torn =
            length - bytes[..length].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let expected = (torn > 0).then(|| Notice::Torn { file: file.clone(), bytes: torn });
        assert_eq!(notices, Vec::from_iter(expected), "cut at {length}");
        if length % 16 != 0 {
            continue;
        }
        // It goes on as if nothing had been.
        sample()[whole..].iter().for_each(|t| store.commit(t.clone()).unwrap());
        drop(store);
        let (store, notices) = open(directory.path());
        assert_eq!((store.persisted(), notices.as_slice()), (&persisted(&sample()), [].as_slice()));
    }
}

#[test]
fn a_changed_byte_costs_its_line_only() {
    let (directory, bytes) = written();
    let file = directory.path().join("journal");
    let mut line = 1;
    for at in 0..bytes.len() {
        let end = bytes[at] == b'\n';
        // Each takes three syncs: all ends of lines, and of the rest a part.
        if !end && at % 7 != 0 {
            continue;
        }
        let mut broken = bytes.clone();
        broken[at] ^= 1 << (at % 8);
        fs::write(&file, &broken).unwrap();
        let (store, notices) = open(directory.path());
        let [Notice::Damaged { lines, aside, .. }] = notices.as_slice() else {
            panic!("byte {at}: {notices:?}")
        };
        assert!(lines.contains(&line), "byte {at} of line {line}: {lines:?}");
        // A line whose end is gone takes the next one with it, except the last.
        let whole = end && at + 1 == bytes.len();
        let lost = if whole { 0..0 } else { line..line + 1 + usize::from(end) };
        let sample: Vec<Transaction> = sample();
        let rest = (3..).zip(&sample).filter(|(n, _)| !lost.contains(n)).map(|(_, t)| t.clone());
        let mut expected = persisted(&Vec::from_iter(rest));
        let version = store.persisted().version();
        assert!(version >= 5, "byte {at}: version {version} was given before");
        expected.accept(Transaction { version, ops: Vec::new() });
        assert_eq!(*store.persisted(), expected, "byte {at} of line {line}");
        assert_eq!(fs::read(aside).unwrap(), broken, "what was there is quarantined");
        drop(store);
        assert_eq!(open(directory.path()).1, [], "byte {at}: the new journal is good");
        fs::remove_file(aside).unwrap();
        line += usize::from(end);
    }
}

#[test]
fn damaged_files_are_all_quarantined_and_named() {
    let (directory, bytes) = written();
    for n in 1..=2 {
        let mut broken = bytes.clone();
        // In the second of lines 1 to 7.
        broken[25] ^= 1;
        fs::write(directory.path().join("journal"), &broken).unwrap();
        let said = open(directory.path()).1[0].to_string();
        let path = directory.path().join("journal").display().to_string();
        let expected = format!(
            "{path} is damaged at line 2; it was moved to {path}.damaged-{n}, the rest was loaded"
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn a_journal_of_another_version_is_left_alone() {
    for (line, says) in [
        (r#"{"format":2}"#, ":1: not understood, perhaps written by a newer weir: it has format 2"),
        (r#"{"lease":{}}"#, "unknown variant `lease`"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal");
        let text = format!("{:08x} {line}\n", crc32fast::hash(line.as_bytes()));
        fs::write(&file, &text).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_has_one_user() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    drop(store);
    open(directory.path());
}

#[test]
fn symbolic_links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").unwrap();
    // In the place of the next journal: replaced. In that of the journal: rejected.
    symlink(&target, directory.path().join("journal.new")).unwrap();
    drop(open(directory.path()));
    let journal = directory.path().join("journal");
    fs::remove_file(&journal).unwrap();
    symlink(&target, &journal).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open {}: ", journal.display())), "{error}");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    Store::open(directory.path()).expect_err("a directory is no journal");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_failed_write_is_not_kept_and_does_not_last() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    let sample = sample();
    store.commit(sample[0].clone()).unwrap();
    store.break_journal();
    let error = store.commit(sample[1].clone()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");
    assert_eq!(*store.persisted(), persisted(&sample[..1]));
    store.commit(sample[2].clone()).expect("a new journal is begun");
    let expected = persisted(&[sample[0].clone(), sample[2].clone()]);
    assert_eq!(*store.persisted(), expected);
    drop(store);
    let (store, notices) = open(directory.path());
    assert_eq!((store.persisted(), notices.as_slice()), (&expected, [].as_slice()));
}

#[test]
fn a_journal_that_has_grown_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open_with(directory.path(), 4096).unwrap();
    let mut largest = 0;
    for version in 1..=600 {
        let ops = shift(version, "a", version as u32);
        store.commit(Transaction { version, ops }).unwrap();
        store.compact_if_grown().unwrap();
        largest = largest.max(store.size());
        let size = fs::metadata(directory.path().join("journal")).unwrap().len();
        assert_eq!(store.size(), size, "version {version}");
    }
    // The last hundred changes are less than 200 bytes each.
    assert!(largest < 2 * 100 * 200 + 4096, "{largest} bytes");
    let persisted = store.persisted().clone();
    drop(store);
    assert_eq!(*open(directory.path()).0.persisted(), persisted);
}

#[test]
fn what_is_committed_while_the_journal_is_written_anew_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open_with(directory.path(), 1).unwrap();
    let sample = sample();
    store.commit(sample[0].clone()).unwrap();
    let compaction = store.compaction().expect("it has grown");
    store.commit(sample[1].clone()).unwrap();
    let compacted = compaction.write().unwrap();
    store.commit(sample[2].clone()).unwrap();
    store.replace(compacted).unwrap();
    store.commit(sample[3].clone()).unwrap();
    // One that comes late: the journal was replaced meanwhile.
    let late = store.compaction().map(|compaction| compaction.write().unwrap());
    store.compact_if_grown().unwrap();
    store.commit(sample[4].clone()).unwrap();
    late.into_iter().for_each(|late| store.replace(late).unwrap());
    assert_eq!(*store.persisted(), persisted(&sample));
    let size = fs::metadata(directory.path().join("journal")).unwrap().len();
    assert_eq!(store.size(), size);
    drop(store);
    let (store, notices) = open(directory.path());
    assert_eq!((store.persisted(), notices.as_slice()), (&persisted(&sample), [].as_slice()));
}

fn op(version: u64) -> impl Strategy<Value = Vec<Op>> {
    (0..4, 0..6u32).prop_map(move |(what, n)| {
        let name = format!("s{n}");
        match what {
            0 => vec![put(version, &name), put(version, "x")],
            1 => vec![Op::Delete(key(&name))],
            2 => shift(version, &name, n),
            _ => vec![Op::Reset(Name::new(name).unwrap())],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_transactions_survive_compaction_and_reopening(
        ops in prop::collection::vec((1..2u64).prop_flat_map(op), 0..60),
        reopen in prop::collection::vec(any::<bool>(), 60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open_with(directory.path(), 600).unwrap();
        let mut expected = PersistedState::default();
        for ((version, ops), reopen) in (1..).zip(ops).zip(reopen) {
            let transaction = Transaction { version, ops };
            expected.accept(transaction.clone());
            // It goes on beside the transaction, if there is something to do.
            let compaction = store.compaction();
            store.commit(transaction).unwrap();
            if let Some(compaction) = compaction {
                store.replace(compaction.write().unwrap()).unwrap();
            }
            if reopen {
                drop(store);
                let notices;
                (store, notices) = Store::open_with(directory.path(), 600).unwrap();
                prop_assert_eq!(notices, vec![]);
            }
            prop_assert_eq!(store.persisted(), &expected);
        }
    }
}
