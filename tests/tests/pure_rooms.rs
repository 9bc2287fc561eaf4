//! Who may depend on whom among the rooms of user space, which are its top-level modules.
//!
//! [`ROOMS`] is the one list: the sources keep to it, ARCHITECTURE.md's table says the same, and
//! there is no circle in it. Tests of a room (files `tests.rs`, folders `tests`, and all that is
//! declared `#[cfg(test)]`) may use any room, since nothing else is built with them.

#[path = "rooms/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imports::Import;

/// Each room, and the rooms that it may use. No room is named twice, and none may use more than
/// it does.
const ROOMS: &[(&str, &[&str])] = &[
    ("access", &[]),
    (
        "agent",
        &[
            "api",
            "cluster",
            "config",
            "conntrack",
            "datapath",
            "ethtool",
            "explain",
            "fast_path",
            "files",
            "interfaces",
            "metrics",
            "model",
            "netlink",
            "nftables",
            "plan",
            "privilege",
            "rates",
            "resource",
            "source",
            "store",
            "desired",
        ],
    ),
    ("api", &["access", "directory", "http", "model", "resource", "source", "desired"]),
    (
        "cli",
        &[
            "agent",
            "api",
            "cluster",
            "config",
            "controller",
            "doctor",
            "explain",
            "files",
            "model",
            "rates",
            "resource",
            "source",
            "top",
            "desired",
        ],
    ),
    ("cluster", &["config", "directory", "model", "resource", "source", "desired"]),
    ("config", &["access", "files", "resource", "source"]),
    ("conntrack", &["netlink"]),
    ("controller", &["cluster", "config", "desired", "metrics", "model", "resource"]),
    ("datapath", &["conntrack", "directory", "explain", "model", "plan"]),
    ("directory", &[]),
    (
        "doctor",
        &[
            "access",
            "api",
            "config",
            "conntrack",
            "datapath",
            "ethtool",
            "fast_path",
            "files",
            "model",
            "rates",
        ],
    ),
    ("ethtool", &[]),
    ("explain", &["model", "table"]),
    ("fast_path", &["config", "netlink", "nftables"]),
    ("files", &["directory", "model", "resource", "source"]),
    ("http", &[]),
    ("interfaces", &[]),
    ("metrics", &["http", "model"]),
    ("model", &[]),
    ("netlink", &[]),
    ("nftables", &["netlink"]),
    ("plan", &["explain", "model", "table"]),
    ("privilege", &["config", "fast_path"]),
    ("rates", &["api", "model"]),
    ("resource", &["model", "source"]),
    ("source", &["model"]),
    ("store", &["directory", "desired"]),
    ("table", &[]),
    ("top", &["api", "rates"]),
    ("desired", &["model", "resource", "source", "table"]),
];

/// Rooms that are tests as a whole.
const OF_TESTS: &[&str] = &["histories"];

/// Rooms that know no file, no clock, no network and no kernel.
const PURE: &[&str] = &["explain", "model", "plan", "resource", "source", "table", "desired"];

/// What pure rooms do not use, by how its path begins.
const IMPURE: &[&str] = &[
    "aya",
    "cap_std",
    "kube",
    "libc",
    "nix",
    "notify",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::path",
    "std::process",
    "std::thread",
    "tokio",
];

/// Crates that few rooms use, and which rooms these are.
const CRATES: &[(&str, &[&str])] = &[
    ("aya", &["datapath"]),
    ("aya_log", &["datapath"]),
    ("aya_obj", &["datapath"]),
    ("axum", &["api", "http", "metrics"]),
    ("cap_std", &["directory", "files"]),
    ("clap", &["cli"]),
    ("crossterm", &["cli", "top"]),
    ("kube", &["cluster"]),
    ("ratatui", &["top"]),
    ("rustix", &["access", "api", "datapath", "directory"]),
    ("serde_yaml", &["cli", "resource", "source"]),
];

fn at_root(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each room of the sources, with what it imports.
fn sources() -> BTreeMap<String, Vec<Import>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    imports::of_rooms(&root.join("userspace/src"))
}

/// The rows of ARCHITECTURE.md's table of rooms whose crate is `userspace`: room to what it may
/// use.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = at_root("ARCHITECTURE.md");
    let (_, rooms) = text.split_once("\n## Rooms\n").expect("a section of rooms");
    let (rooms, _) = rooms.split_once("\n## ").expect("a section after it");
    let rows = rooms.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, room, _, uses] = cells[..] else { panic!("not four cells: {row}") };
        let Some(room) = room.strip_prefix('`').and_then(|room| room.strip_suffix('`')) else {
            continue;
        };
        let uses: BTreeSet<String> = match uses {
            "nothing" => BTreeSet::new(),
            uses => uses.split(", ").map(|name| name.trim_matches('`').to_owned()).collect(),
        };
        assert!(found.insert(room.to_owned(), uses).is_none(), "{room} has two rows");
    }
    found
}

/// A circle in the graph, if there is one: each uses the next, and the last the first.
fn circle<'a>(rooms: &[(&'a str, &[&'a str])]) -> Option<Vec<&'a str>> {
    let mut left: BTreeMap<&str, &[&str]> = rooms.iter().copied().collect();
    loop {
        let before = left.len();
        let known: BTreeSet<&str> = left.keys().copied().collect();
        left.retain(|_, uses| uses.iter().any(|room| known.contains(room)));
        if left.len() == before {
            break;
        }
    }
    // Each room that is left uses another that is left: whoever goes on long enough is in a circle.
    let mut way: Vec<&str> = vec![left.keys().next()?];
    loop {
        let last = way.last().expect("never empty");
        let next = left[last].iter().find(|room| left.contains_key(*room)).expect("see above");
        if let Some(start) = way.iter().position(|room| room == next) {
            return Some(way.split_off(start));
        }
        way.push(next);
    }
}

#[test]
fn rooms_use_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    assert_eq!(allowed.len(), ROOMS.len(), "a room is listed twice");
    let sources = sources();
    let found: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
    let listed = allowed.keys().chain(OF_TESTS).copied().collect();
    assert_eq!(found, listed, "the rooms are not those that are listed");
    let mut wrong = Vec::new();
    for (room, imports) in &sources {
        let Some(allowed) = allowed.get(room.as_str()) else { continue };
        for import in imports {
            let at = format!("userspace/src/{}:{}", import.file, import.line);
            if let Some(used) = import.path.strip_prefix("crate::") {
                if used != room && !allowed.contains(&used) {
                    wrong.push(format!("{at}: `{room}` may not use `{used}`"));
                }
                continue;
            }
            let begins = |name: &str| {
                let rest = import.path.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if PURE.contains(&room.as_str()) && IMPURE.iter().any(|name| begins(name)) {
                wrong.push(format!("{at}: `{room}` is pure and may not use {}", import.path));
            }
            let owned = CRATES.iter().find(|(name, _)| begins(name));
            if owned.is_some_and(|(_, rooms)| !rooms.contains(&room.as_str())) {
                wrong.push(format!("{at}: `{room}` may not use the crate {}", import.path));
            }
        }
        let used: BTreeSet<&str> =
            imports.iter().filter_map(|import| import.path.strip_prefix("crate::")).collect();
        for idle in allowed.iter().filter(|name| !used.contains(*name)) {
            wrong.push(format!("`{room}` may use `{idle}`, and does not: take it off the list"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_documented_table_is_the_one_in_code() {
    let listed: BTreeMap<String, BTreeSet<String>> = ROOMS
        .iter()
        .map(|(room, uses)| ((*room).to_owned(), uses.iter().map(|&u| u.to_owned()).collect()))
        .collect();
    let mut documented = documented();
    for room in OF_TESTS {
        documented.remove(*room).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks {room}"));
    }
    for (room, uses) in &listed {
        assert_eq!(documented.get(room), Some(uses), "ARCHITECTURE.md's row of {room}");
    }
    let unknown: Vec<&String> = documented.keys().filter(|r| !listed.contains_key(*r)).collect();
    assert!(unknown.is_empty(), "ARCHITECTURE.md has rooms that are none: {unknown:?}");
}

#[test]
fn no_rooms_use_each_other_in_a_circle() {
    assert_eq!(circle(ROOMS), None);
    // What would be found.
    let found = circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]);
    assert_eq!(found, Some(vec!["b", "c"]));
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "\
        //! use crate::comment;\n\
        use crate::{a, b::{self, inner::X}, c::*};\n\
        use super::d::Y;\n\
        mod inner { use super::super::e; use super::not_this; }\n\
        fn f() { let _ = crate::g::h(vec![crate::i::J]); \"crate::text\"; }\n\
        #[cfg(test)]\n\
        mod tests { use crate::of_a_test; }\n\
        #[cfg(test)]\n\
        use crate::of_another;\n\
        fn last(x: std::path::PathBuf) { kube::Client::new(); ::aya::Ebpf; x.tokio; }\n";
    let found = imports::of_text("room/mod.rs", text);
    let found: Vec<(usize, &str)> =
        found.iter().map(|import| (import.line, import.path.as_str())).collect();
    let inside: Vec<_> = found.iter().filter(|(_, path)| path.starts_with("crate::")).collect();
    let expected = [(2, "a"), (2, "b"), (2, "c"), (3, "d"), (4, "e"), (5, "g"), (5, "i")];
    let expected = expected.map(|(line, room)| (line, format!("crate::{room}")));
    assert_eq!(inside.len(), expected.len(), "{inside:?}");
    for ((line, path), (expected_line, expected)) in inside.iter().zip(&expected) {
        assert_eq!((line, *path), (expected_line, expected.as_str()));
    }
    for path in ["std::path", "kube::Client", "aya::Ebpf"] {
        assert!(found.contains(&(10, path)), "{path}: {found:?}");
    }
    assert!(!found.iter().any(|(_, path)| path.starts_with("tokio")), "a field is no crate");
}
