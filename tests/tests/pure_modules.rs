//! The modules of the kernel programs: none imports one that imports it, be it by way of others.
//!
//! Each can then be read, and changed, with what it imports in mind, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Module to modules.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The names of modules that a text speaks of, in imports and in paths; documentation may speak of
/// any.
fn imported(text: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for prefix in ["super::", "crate::programs::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            // `super::{a, b::c}`, or `super::a`.
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split_once('}').expect("a list that ends").0,
                None => rest.split([';', '\n']).next().unwrap_or_default(),
            };
            for name in names.split(',') {
                let word: String = name
                    .trim()
                    .chars()
                    .take_while(|char| char.is_ascii_alphanumeric() || *char == '_')
                    .collect();
                if modules.contains(&word) {
                    found.insert(word);
                }
            }
        }
    }
    found
}

/// A way from a module back to itself.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    fn visit(graph: &Graph, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let at = way.last().expect("a module").clone();
        for next in &graph[&at] {
            if let Some(start) = way.iter().position(|module| module == next) {
                way.drain(..start);
                return true;
            }
            if !done.contains(next) {
                way.push(next.clone());
                if visit(graph, way, done) {
                    return true;
                }
                way.pop();
            }
        }
        done.insert(at);
        false
    }
    let mut done = BTreeSet::new();
    for module in graph.keys() {
        let mut way = vec![module.clone()];
        if !done.contains(module) && visit(graph, &mut way, &mut done) {
            return Some(way);
        }
    }
    None
}

fn graph() -> Graph {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe-ebpf/src/programs");
    let texts: BTreeMap<String, String> = std::fs::read_dir(&directory)
        .expect("the directory of the programs")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a text"))
        })
        .filter(|(name, _)| name != "mod")
        .collect();
    let modules = texts.keys().cloned().collect();
    let of = |(name, text): (&String, &String)| {
        let mut others = imported(text, &modules);
        others.remove(name);
        (name.clone(), others)
    };
    texts.iter().map(of).collect()
}

#[test]
fn no_module_of_the_programs_imports_one_that_imports_it() {
    let graph = graph();
    assert_eq!(cycle(&graph), None);
    // It does see what is imported.
    for (from, to) in [("maps", "values"), ("steps", "icmp"), ("tc", "hook"), ("tc_steps", "steps")]
    {
        assert!(graph[from].contains(to), "{from} imports {to}");
    }
    for lowest in ["values", "verdict", "compiler"] {
        assert!(graph[lowest].is_empty(), "{lowest} imports {:?}", graph[lowest]);
    }
    assert_eq!(graph["maps"], BTreeSet::from(["values".to_owned()]));
}

#[test]
fn a_cycle_is_found_however_it_is_written() {
    let modules = ["a", "b", "c", "d"].map(str::to_owned).into();
    let texts = [
        ("a", "use super::b::{x, y};\nuse super::d;"),
        ("b", "use super::{c, elsewhere};"),
        ("c", "//! See [`super::d`].\nfn f() -> u32 {\n    $crate::programs::a::g()\n}"),
        ("d", "/// As [`super::a`].\nfn h() {}"),
    ];
    let graph: Graph =
        texts.map(|(name, text)| (name.to_owned(), imported(text, &modules))).into_iter().collect();
    let found = cycle(&graph).expect("a cycle");
    assert_eq!(found, ["a", "b", "c"]);
}
