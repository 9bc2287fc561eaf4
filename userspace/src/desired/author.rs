//! Who made a change, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most characters of a reason.
const MAX_REASON: usize = 200;

/// Who made a change, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The user, for people: `alice`, or `root (sudo: alice)`.
    pub by: String,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// A reason as it is kept: one line, without space around it; or what is wrong with it.
pub fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let length = text.chars().count();
    if text.is_empty() {
        return Err("a reason is empty, expected text".to_owned());
    }
    if length > MAX_REASON {
        return Err(format!("a reason has {length} characters, at most {MAX_REASON} may be"));
    }
    match text.chars().find(|&c| !is_plain(c)) {
        Some(c) => Err(format!("a reason has the control character {c:?}, expected one line")),
        None => Ok(text.to_owned()),
    }
}

/// Whether a character leaves a line a line, and what is around it in its order: no control
/// character, no separator of lines, and none that turns the direction of text (Unicode Standard
/// Annex 9).
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_some_length() {
        assert_eq!(
            reason(" v3 is slow: p99 2 s, não? "),
            Ok("v3 is slow: p99 2 s, não?".to_owned())
        );
        assert_eq!(reason(&"é".repeat(200)).map(|text| text.len()), Ok(400));
        for (text, says) in [
            ("", "a reason is empty, expected text"),
            (" \t", "a reason is empty, expected text"),
            (&"é".repeat(201), "a reason has 201 characters, at most 200 may be"),
            ("a\nb", "a reason has the control character '\\n', expected one line"),
            ("\u{202e}abc", "a reason has the control character '\\u{202e}', expected one line"),
            ("a\u{1b}[2J", "a reason has the control character '\\u{1b}', expected one line"),
        ] {
            assert_eq!(reason(text), Err(says.to_owned()));
        }
    }

    #[test]
    fn an_author_is_shown_with_the_reason() {
        let by = "root (sudo: alice)".to_owned();
        let author = Author { by, reason: None };
        assert_eq!(author.to_string(), "root (sudo: alice)");
        let author = Author { reason: Some("canary".to_owned()), ..author };
        assert_eq!(author.to_string(), "root (sudo: alice): canary");
    }
}
