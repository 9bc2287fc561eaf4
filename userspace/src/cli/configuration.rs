//! The man page of `agent.yaml`, of what its template says.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::generated::{SECTION, list};
use crate::config::{DEFAULT_FILE, Setting, described};

/// The section of the manual: file formats.
pub(super) const FILES_SECTION: &str = "5";
/// What the page is called.
pub(super) const TITLE: &str = "agent.yaml";

/// What is written most often.
const EXAMPLE: &str = "interfaces:\n- match: eth0\n- match: \"veth-*\"\n  forward: tc\n\
                       metrics: 0.0.0.0:9464\naccess: {operators: netops, viewers: adm}";

/// The page, as roff.
pub(super) fn page() -> String {
    let (intro, settings) = described();
    let mut roff = Roff::new();
    let source = concat!("weir ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [TITLE, FILES_SECTION, "", source, "weir"]);
    roff.control("SH", ["NAME"]).text([roman("agent.yaml - the configuration of the weir agent")]);
    roff.control("SH", ["SYNOPSIS"]).text([bold(DEFAULT_FILE)]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(intro)]);
    roff.control("PP", []).text([roman(
        "YAML, one document. A mistake in it is told with its line and field, and ends the agent \
         before it has changed anything.",
    )]);
    roff.control("SH", ["SETTINGS"]);
    settings.iter().for_each(|setting| entry(&mut roff, setting));
    roff.control("SH", ["EXAMPLE"]).control("RS", ["4"]).control("EX", []);
    EXAMPLE.lines().for_each(|line| _ = roff.text([roman(line)]));
    roff.control("EE", []).control("RE", []);
    list(&mut roff, "FILES", &[(DEFAULT_FILE, "The one that the packaged service reads.")]);
    roff.control("SH", ["SEE ALSO"]).text([bold("weir-agent"), roman(format!("({SECTION})"))]);
    roff.to_roff()
}

fn entry(roff: &mut Roff, Setting { path, default, text, terms }: &Setting) {
    let mut head: Vec<Inline> = vec![bold(path)];
    if let Some(default) = default {
        head.extend([roman(" (default "), bold(default), roman(")")]);
    }
    roff.control("TP", []).text(head).text([roman(text)]);
    if terms.is_empty() {
        return;
    }
    roff.control("RS", []);
    for (term, meaning) in terms {
        roff.control("TP", []).text([bold(term)]).text([roman(meaning)]);
    }
    roff.control("RE", []);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::AgentConfig;

    /// What may be written at a place, by the message about what may not: the keys of a mapping.
    fn keys(at: &str) -> Vec<String> {
        // `a.b[].c` as `a: {b: [{c: {?: 1}}]}`.
        let mut text = "'?': 1".to_owned();
        for part in at.split('.').rev().filter(|part| !part.is_empty()) {
            text = match part.strip_suffix("[]") {
                Some(list) => format!("{list}: [{{{text}}}]"),
                None => format!("{part}: {{{text}}}"),
            };
        }
        let Err(found) = AgentConfig::parse("f", &format!("{{{text}}}")) else { return Vec::new() };
        let said = found.iter().map(ToString::to_string);
        let Some(said) = said.into_iter().find(|text| text.contains("unknown field `?`")) else {
            return Vec::new();
        };
        let (_, expected) = said.split_once("expected ").expect("what is known is listed");
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// All settings that are understood.
    fn all(at: &str, found: &mut BTreeSet<String>) {
        for key in keys(at) {
            let path = if at.is_empty() { key } else { format!("{at}.{key}") };
            all(&path, found);
            all(&format!("{path}[]"), found);
            found.insert(path);
        }
    }

    #[test]
    fn the_page_explains_every_setting_that_is_understood() {
        let mut known = BTreeSet::new();
        all("", &mut known);
        for path in ["flows.tcpIdle", "interfaces[].match", "kubernetes.mode", "access.viewers"] {
            assert!(known.contains(path), "{path} is not among {known:?}");
        }
        let page = page();
        let settings = page.split(".SH SETTINGS").nth(1).expect("settings");
        for path in known {
            let entry = format!(".TP\n\\fB{}\\fR", path.replace('-', "\\-"));
            assert!(settings.contains(&entry), "{path} is not in\n{page}");
        }
    }

    #[test]
    fn the_example_is_understood() {
        let example = EXAMPLE.replace("netops", "0").replace("adm", "1");
        assert!(AgentConfig::parse("f", &example).is_ok());
    }
}
