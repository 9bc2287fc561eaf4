//! What the commented file says of each setting that is installed as `agent.yaml`.

/// The file: what is commented out is the default.
pub const TEMPLATE: &str = include_str!("../../../deploy/agent.yaml");

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where it is written, such as `flows.max` or `interfaces[].match`.
    pub path: String,
    /// Its default, as it is written; None where it has to be said, or has settings below.
    pub default: Option<String>,
    /// What it is for.
    pub text: String,
    /// Its values, or settings below it, and what each means.
    pub terms: Vec<(String, String)>,
}

/// What the file says first, and its settings in order.
pub fn described() -> (String, Vec<Setting>) {
    let mut settings = Vec::new();
    let (intro, rest) = TEMPLATE.split_once("\n\n").unwrap_or((TEMPLATE, ""));
    let (intro, _) = prose(&intro.lines().map(uncommented).collect::<Vec<_>>());
    for block in rest.split("\n\n") {
        let (mut said, mut above) = (Vec::new(), String::new());
        for written in block.lines() {
            let line = uncommented(written);
            let Some((indent, key, value)) = setting(line) else {
                said.push(line);
                continue;
            };
            let path = match indent.chars().next() {
                None => {
                    above = format!("{key}.");
                    key.to_owned()
                }
                Some('-') => {
                    above = format!("{}[].", above.trim_end_matches('.'));
                    format!("{above}{key}")
                }
                Some(_) => format!("{above}{key}"),
            };
            let default = (line != written && !value.is_empty()).then(|| value.to_owned());
            let (text, terms) = prose(&std::mem::take(&mut said));
            settings.push(Setting { path, default, text, terms });
        }
    }
    (intro, settings)
}

/// A line without what makes it a comment, if it is a setting that is commented out.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(text) if !text.starts_with(' ') || text.starts_with("  ") => text,
        _ => line,
    }
}

/// Indentation, key and value of a line that is no prose.
fn setting(line: &str) -> Option<(&str, &str, &str)> {
    let text = line.trim_start_matches([' ', '-']);
    let indent = &line[..line.len() - text.len()];
    let (key, value) = text.split_once(':')?;
    (!text.starts_with('#')).then(|| (indent, key, value.trim()))
}

/// Lines of prose as one text, and what is said of its terms: a line that begins with a word and a
/// colon begins one.
fn prose(lines: &[&str]) -> (String, Vec<(String, String)>) {
    let (mut text, mut terms) = (String::new(), Vec::<(String, String)>::new());
    for line in lines {
        let line = line.trim_start().trim_start_matches('#').trim();
        let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic() || c == '.');
        match line.split_once(": ").filter(|(word, _)| is_word(word)) {
            Some((word, said)) => terms.push((word.to_owned(), said.to_owned())),
            None => {
                let to = terms.last_mut().map_or(&mut text, |(_, said)| said);
                if !to.is_empty() {
                    to.push(' ');
                }
                to.push_str(line);
            }
        }
    }
    (text, terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_their_place_default_and_meaning() {
        let (intro, settings) = described();
        assert!(intro.starts_with("The configuration of the weir agent. "), "{intro}");
        let of = |path: &str| {
            let found = settings.iter().find(|setting| setting.path == path);
            found.unwrap_or_else(|| panic!("{path} is not in {settings:#?}"))
        };
        let default = |path: &str| of(path).default.as_deref();
        assert_eq!(default("interfaces[].match"), None, "it has to be chosen");
        assert_eq!(default("resources"), Some("/etc/weir/resources.d"));
        assert_eq!((default("flows"), default("flows.tcpIdle")), (None, Some("2h")));
        assert!(of("flows.max").text.contains("forgets the flow"), "{:?}", of("flows.max"));
        let terms: Vec<&str> = of("fastPath").terms.iter().map(|(term, _)| &**term).collect();
        assert_eq!(terms, ["auto", "on", "off"]);
        let auto = &of("fastPath").terms[0].1;
        assert!(auto.ends_with("`weir status` says what that is."), "lines go together: {auto}");
        let silent: Vec<&Setting> = settings.iter().filter(|s| s.text.is_empty()).collect();
        assert!(silent.is_empty(), "{silent:#?}");
    }
}
