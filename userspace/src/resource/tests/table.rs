//! `docs/resources.md` and the list of fields.

use crate::resource::identity::HEADERS;
use crate::resource::markdown;
use crate::resource::table::fields;

/// Where the generated half begins.
const MARK: &str = "<!-- generated from userspace/src/resource/table: do not edit below -->\n";

/// With `WEIR_WRITE_DOCS=1` this writes the file.
#[test]
fn the_document_has_the_tables_of_the_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/resources.md");
    let text = std::fs::read_to_string(path).expect("docs/resources.md");
    let (written, found) = text.split_once(MARK).expect("the mark in docs/resources.md");
    let expected = format!("\n{}", markdown());
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{written}{MARK}{expected}")).expect("docs/resources.md");
    } else {
        assert!(found == expected, "run this test with WEIR_WRITE_DOCS=1 to write {path} anew");
    }
}

#[test]
fn every_field_is_listed_once_and_none_below_another() {
    for header in HEADERS {
        let Some(fields) = fields(header.kind) else { continue };
        for (at, field) in fields.iter().enumerate() {
            let own = field.path.trim_end_matches("[]");
            for other in fields[..at].iter().chain(&fields[at + 1..]) {
                let below = other.path.strip_prefix(own);
                let below =
                    below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
                assert!(!below, "{}: {} and {}", header.name, field.path, other.path);
            }
        }
    }
}
