//! Bytes to text, and texts to parts that can be read by themselves.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The byte order mark of UTF-8 text, which some editors write.
const MARK: char = '\u{feff}';

/// Bytes as text; or what they are instead.
pub fn decode(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("UTF-16 or UTF-32 text by its byte order mark, expected UTF-8");
    }
    if bytes.first() == Some(&0) || bytes.get(1) == Some(&0) {
        return Err("binary, or UTF-16 text, expected UTF-8");
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text")
}

/// A text without the byte order marks with which its documents begin (YAML
/// 1.2.2, section 5.2): one of a file, several where files were put together.
pub(super) fn unmarked(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // Whether the document has not begun yet.
    let mut before = true;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches(MARK);
        let ends = begins(bare) || bare.starts_with("...");
        out.push_str(if before || ends { bare } else { line });
        let rest = if begins(bare) { &bare[3..] } else { bare }.trim();
        let nothing = rest.is_empty() || rest.starts_with(['#', '%']) || rest.starts_with("...");
        before = (before || ends) && nothing;
    }
    Cow::Owned(out)
}

/// A text cut at the lines that begin a document, each part with the number of
/// lines before it. No scalar can have such a line (YAML 1.2.2, section 9.1.4),
/// so each part can be read by itself. Whole, if it may hold directives, which
/// stand before that line, or documents that end in other ways.
pub(super) fn parts(text: &str) -> Vec<(usize, &str)> {
    if let Some(found) = json(text) {
        return found;
    }
    let lines = || text.split_inclusive('\n');
    if lines().any(|line| line.starts_with('%') || line.starts_with("...")) {
        return vec![(0, text)];
    }
    let mut found = Vec::new();
    let (mut start, mut first, mut at) = (0, 0, 0);
    for (number, line) in lines().enumerate() {
        if begins(line) && at > start {
            found.push((first, &text[start..at]));
            (start, first) = (at, number);
        }
        at += line.len();
    }
    found.push((first, &text[start..]));
    found
}

/// Whether a line is one with which a document begins.
fn begins(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The documents of a text that is several of JSON with nothing between them,
/// as `kubectl` reads them; None if it is not.
fn json(text: &str) -> Option<Vec<(usize, &str)>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut found, mut start) = (Vec::new(), 0);
    while let Some(value) = values.next() {
        value.ok()?;
        let end = values.byte_offset();
        let before = text[..start].matches('\n').count();
        found.push((before, &text[start..end]));
        start = end;
    }
    (found.len() > 1).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_another_encoding_is_told() {
        let utf16: Vec<u8> = "a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(decode([&[0xff, 0xfe], &utf16[..]].concat()).unwrap_err().starts_with("UTF-16"));
        assert!(decode(vec![0xfe, 0xff, 0, b'a']).unwrap_err().starts_with("UTF-16"));
        assert!(decode(utf16).unwrap_err().contains("UTF-16"));
        assert_eq!(decode(vec![b'a', 0xff]), Err("not UTF-8 text"));
        assert_eq!(decode("\u{feff}ä".into()), Ok("\u{feff}ä".to_owned()));
    }

    #[test]
    fn marks_are_taken_from_the_beginnings_of_documents_only() {
        for (text, expected) in [
            ("@a: 1\n", "a: 1\n"),
            ("@@a: 1\n", "a: 1\n"),
            ("@# x\n\n@a: 1\n", "# x\n\na: 1\n"),
            ("@---\n@a: 1\n---\r\n# y\r\n@b: 1\r\n", "---\na: 1\n---\r\n# y\r\nb: 1\r\n"),
            ("a: 1\n@---\nb: 1\n", "a: 1\n---\nb: 1\n"),
            ("a: 1\n...\n@b: 1\n", "a: 1\n...\nb: 1\n"),
            ("@%YAML 1.2\n---\n@a: 1\n", "%YAML 1.2\n---\na: 1\n"),
            ("--- {a: 1}\n---\n@{b: 1}\n", "--- {a: 1}\n---\n{b: 1}\n"),
            ("a: |\n  x\n  @y\nb: '@'\n", "a: |\n  x\n  @y\nb: '@'\n"),
        ] {
            let marked = text.replace('@', "\u{feff}");
            assert_eq!(unmarked(&marked), expected.replace('@', "\u{feff}"), "{text}");
        }
    }

    #[test]
    fn values_of_json_one_after_another_are_documents() {
        let text = "{\"a\": 1}\n{\"b\":\n2} {}\n";
        assert_eq!(parts(text), [(0, "{\"a\": 1}"), (0, "\n{\"b\":\n2}"), (2, " {}")]);
        assert_eq!(parts("{a: 1}\n---\n{b: 1}\n").len(), 2);
        assert_eq!(parts("{\"a\": 1}\n").len(), 1);
    }
}
