//! What Rust sources import, from their tokens: comments and texts are none, and what a macro is
//! called with counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path that is named somewhere.
pub struct Import {
    /// Below `src`.
    pub file: String,
    pub line: usize,
    /// `crate::ROOM`, or the first two names of any other path.
    pub path: String,
}

/// Each room below `src`, with what it imports but in tests.
pub fn of_rooms(src: &Path) -> BTreeMap<String, Vec<Import>> {
    let mut files = Vec::new();
    collect(src, "", &mut files);
    let mut tests = BTreeSet::new();
    for (file, text) in &files {
        tests.extend(test_modules(text).iter().map(|name| format!("{}{name}", folder(file))));
    }
    let mut rooms: BTreeMap<String, Vec<Import>> = BTreeMap::new();
    for (file, text) in &files {
        if !file.contains('/') && ["lib.rs", "main.rs"].contains(&file.as_str()) {
            continue;
        }
        let room = file.split('/').next().expect("a name").trim_end_matches(".rs");
        let imports = rooms.entry(room.to_owned()).or_default();
        let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let is_of_test = tests.iter().any(|test| {
            module.strip_prefix(test.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        });
        if !is_of_test {
            imports.extend(of_text(file, text));
        }
    }
    rooms
}

/// Where the modules are that `file` declares, below `src`.
fn folder(file: &str) -> String {
    let stem = file.trim_end_matches(".rs");
    let folder = match stem.rsplit_once('/') {
        Some((folder, "mod")) => folder,
        None if stem == "lib" => return String::new(),
        _ => stem,
    };
    format!("{folder}/")
}

fn collect(dir: &Path, below: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        let file = format!("{below}{name}");
        if path.is_dir() {
            collect(&path, &format!("{file}/"), files);
        } else if name.ends_with(".rs") {
            files.push((file, fs::read_to_string(&path).expect("a source")));
        }
    }
}

fn tokens(file: &str, text: &str) -> Vec<TokenTree> {
    let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
    stream.into_iter().collect()
}

/// The modules that are declared `#[cfg(test)] mod NAME;`.
fn test_modules(text: &str) -> Vec<String> {
    let tokens = tokens("a source", text);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let Some(next) = test_item(&tokens, at) {
            let last: Vec<String> =
                tokens[next - 3..next].iter().map(ToString::to_string).collect();
            if let ["mod", name, ";"] = last.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                found.push(name.to_owned());
            }
        }
    }
    found
}

/// Where the item after `#[cfg(test)]` ends, if that is what is at `at`.
fn test_item(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let attribute = |at: usize| {
        let [TokenTree::Punct(mark), TokenTree::Group(group)] = tokens.get(at..at + 2)? else {
            return None;
        };
        (mark.as_char() == '#' && group.delimiter() == Delimiter::Bracket).then_some(group)
    };
    let text = attribute(at)?.stream().to_string();
    if text.split_whitespace().collect::<String>() != "cfg(test)" {
        return None;
    }
    let mut end = at + 2;
    while attribute(end).is_some() {
        end += 2;
    }
    while let Some(token) = tokens.get(end) {
        end += 1;
        match token {
            TokenTree::Punct(mark) if mark.as_char() == ';' => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                // `use a::{...};` ends with its semicolon.
                match tokens.get(end) {
                    Some(TokenTree::Punct(mark)) if mark.as_char() == ';' => {}
                    _ => break,
                }
            }
            _ => {}
        }
    }
    Some(end)
}

/// What a text imports, but in its tests.
pub fn of_text(file: &str, text: &str) -> Vec<Import> {
    // `super` of a room itself is the crate.
    let depth = folder_depth(file);
    let mut found = Vec::new();
    walk(file, &tokens(file, text), depth, &mut found);
    found
}

fn folder_depth(file: &str) -> usize {
    let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
    module.split('/').count()
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Whether `::` is at `at`.
fn colons(tokens: &[TokenTree], at: usize) -> bool {
    let punct = |token: Option<&TokenTree>| match token {
        Some(TokenTree::Punct(mark)) => Some((mark.as_char(), mark.spacing())),
        _ => None,
    };
    punct(tokens.get(at)) == Some((':', Spacing::Joint))
        && punct(tokens.get(at + 1)).is_some_and(|(mark, _)| mark == ':')
}

fn walk(file: &str, tokens: &[TokenTree], depth: usize, found: &mut Vec<Import>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some(next) = test_item(tokens, at) {
            at = next;
            continue;
        }
        match &tokens[at] {
            TokenTree::Group(group) => {
                let is_module = group.delimiter() == Delimiter::Brace
                    && at >= 2
                    && ident(tokens.get(at - 2)).as_deref() == Some("mod");
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                walk(file, &inside, depth + usize::from(is_module), found);
                at += 1;
            }
            TokenTree::Ident(_) => at = path(file, tokens, at, depth, found),
            _ => at += 1,
        }
    }
}

/// Notes the path that begins at `at`; where it has been read to.
fn path(
    file: &str,
    tokens: &[TokenTree],
    at: usize,
    depth: usize,
    found: &mut Vec<Import>,
) -> usize {
    let first = ident(tokens.get(at)).expect("an identifier");
    let line = tokens[at].span().start().line;
    let mut note = |path: String| found.push(Import { file: file.to_owned(), line, path });
    let mut end = at + 1;
    let mut ups = usize::from(first == "super");
    while first == "super"
        && colons(tokens, end)
        && ident(tokens.get(end + 2)).as_deref() == Some("super")
    {
        ups += 1;
        end += 3;
    }
    let is_crate = first == "crate" || (ups > 0 && ups == depth);
    if !colons(tokens, end) {
        if first == "use" && !colons(tokens, at + 2) {
            // `use kube;`
            ident(tokens.get(at + 1)).into_iter().for_each(note);
        }
        return end;
    }
    if let Some(second) = ident(tokens.get(end + 2)) {
        match first.as_str() {
            _ if is_crate => note(format!("crate::{second}")),
            "self" | "super" | "Self" => {}
            first => note(format!("{first}::{second}")),
        }
        end += 3;
        // The rest of the path is what it leads to.
        while colons(tokens, end) && ident(tokens.get(end + 2)).is_some() {
            end += 3;
        }
        return end;
    }
    if let Some(TokenTree::Group(group)) = tokens.get(end + 2) {
        let inside: Vec<TokenTree> = group.stream().into_iter().collect();
        let parts = inside.split(|token| token.to_string() == ",");
        let names = parts.filter_map(|part| ident(part.first()));
        let base = if is_crate { "crate" } else { first.as_str() };
        if is_crate || !["self", "super", "Self"].contains(&base) {
            names.for_each(|name| note(format!("{base}::{name}")));
        }
        return end + 3;
    }
    end
}
