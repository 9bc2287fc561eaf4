//! What is generated from the declaration of the arguments: completions for
//! shells, and man pages.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;
use super::completion::VARIABLE;
use super::{configuration, legend};

/// The section of the manual: system administration.
pub(super) const SECTION: &str = "8";

/// What each page says about exit codes.
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed. Standard error says why; where a change was asked for, nothing has changed."),
    ("2", "The command line is wrong. Standard error says where."),
];

/// The files that `weir` and `weir agent` deal with unless told otherwise.
const FILES: &[(&str, &str)] = &[
    ("/etc/weir/agent.yaml", "The configuration of the agent."),
    ("/etc/weir/resources.d/", "Documents. The agent follows what changes there."),
    ("/var/lib/weir/", "What was applied, and the weights that were set."),
    ("/run/weir/weir.sock", "Where the agent answers."),
    ("/sys/fs/bpf/weir/", "Maps and attachments, which outlive the agent."),
];

/// The pages that refer to that of the agent's configuration.
const READ_CONFIGURATION: [&str; 5] =
    ["weir", "weir-agent", "weir-unload", "weir-downgrade", "weir-doctor"];

/// Examples: the page that they are on, what they do, and how.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "weir",
        "Show the splits that the agent steers, with the shares that their subsets get:",
        "weir get splits",
    ),
    ("weir", "Give v3 half of the new flows:", "weir weights reviews v1=50 v3=50"),
    ("weir-agent", "Run the agent by hand:", "weir agent --config /etc/weir/agent.yaml"),
    (
        "weir-unload",
        "Take weir out of the kernel, and have an agent that runs stay idle until it is restarted:",
        "weir unload --yes --reason maintenance",
    ),
    (
        "weir-validate",
        "Check a split before the agent sees it:",
        "weir validate /etc/weir/resources.d/reviews.yaml",
    ),
    (
        "weir-translate",
        "See the traffic splits that Istio's resources become:",
        "weir translate -f reviews-istio.yaml",
    ),
    (
        "weir-diff",
        "See what applying a file would do, and how many flows would move:",
        "weir diff -f reviews.yaml",
    ),
    ("weir-apply", "Apply all documents of a directory, or none of them:", "weir apply -f splits/"),
    (
        "weir-apply",
        "Shift traffic by Istio's resources, unchanged:",
        "weir apply -f virtual-service-reviews-50-v3.yaml",
    ),
    (
        "weir-delete",
        "Delete a split that was applied; its flows drain:",
        "weir delete split/reviews",
    ),
    (
        "weir-delete",
        "Delete the routes that a file describes; the services are then balanced as a whole:",
        "weir delete -f virtual-service-all-v1.yaml",
    ),
    (
        "weir-get",
        "Show a split, with the routes and notes of what it is made of:",
        "weir get reviews.default",
    ),
    ("weir-get-documents", "Show what was applied:", "weir get documents --applied"),
    ("weir-get-routes", "See whether routes are accepted:", "weir get routes"),
    ("weir-history", "Show who changed the weights, when, how and why:", "weir history reviews"),
    ("weir-rollback", "Return to the weights before the last change:", "weir rollback reviews"),
    (
        "weir-weights",
        "Move new flows from v1 to v2. Flows that are open stay where they are:",
        "weir weights reviews v1=80 v2=20",
    ),
    (
        "weir-weights",
        "Give v3 a tenth of all new flows; the others share the rest as before:",
        "weir weights reviews v3=10%",
    ),
    (
        "weir-weights",
        "Change them only if nobody else was faster:",
        "weir weights reviews v1=50 v2=50 --expect v1=80,v2=20",
    ),
    (
        "weir-weights",
        "Say why, for the history and the log:",
        "weir weights reviews v3=10% --reason canary-1.4",
    ),
    (
        "weir-weights",
        "The same for all nodes of a cluster, in the object that divides the split there:",
        "weir weights reviews.shop v3=10% --cluster",
    ),
    (
        "weir-weights",
        "Give the cluster's split other weights on this node alone:",
        "weir weights reviews.shop v3=10% --this-node",
    ),
    (
        "weir-rollback",
        "Return to the weights before in a cluster:",
        "weir rollback reviews.shop --cluster",
    ),
    (
        "weir-history",
        "Show what is known of changes in a cluster:",
        "weir history reviews -n shop --context production",
    ),
    ("weir-get-splits", "Show all splits:", "weir get splits"),
    (
        "weir-get-splits",
        "Show one with all its counters, for a script:",
        "weir get splits reviews -o json",
    ),
    (
        "weir-explain",
        "Ask where a connection of this client would go:",
        "weir explain --from 192.0.2.200:40000 --to 203.0.113.10:9080",
    ),
    ("weir-flows", "Show the flows of a client:", "weir flows --client 192.0.2.200"),
    (
        "weir-flows",
        "Count those that an endpoint still has, for a script:",
        "weir flows --endpoint 198.51.100.11:9080 --state established -o json",
    ),
    ("weir-top", "Watch the subsets of a split, and shift its weights:", "weir top reviews"),
    (
        "weir-watch",
        "See for ten seconds whether the subsets of a split get their shares:",
        "weir watch reviews --count 10",
    ),
    ("weir-doctor", "See what is wrong with this node:", "weir doctor"),
    (
        "weir-doctor",
        "Look at all but the programs of others on the interfaces:",
        "weir doctor --ignore programs",
    ),
    ("weir-status", "See to which interfaces the programs are attached:", "weir status"),
    ("weir-manual", "Read the man pages without installing them:", "weir manual /var/tmp"),
    ("weir-completions", "Complete commands in this bash:", "eval \"$(weir completions bash)\""),
];

/// Where zsh loads the script as the function `_weir`, it does so at the first Tab, which is to
/// complete something, too.
const ZSH_AT_ONCE: &[u8] = b"
if [[ $funcstack[1] == _weir ]]; then
    _clap_dynamic_completer_weir \"$@\"
fi
";

/// Writes what a shell is to load: it asks `weir` for completions, which asks the agent.
pub fn completions(shell: Shell, out: &mut impl Write) -> Result<()> {
    let shells = Shells::builtins();
    let script = shells.completer(&shell.to_string());
    let script = script.with_context(|| format!("there are no completions for {shell}"))?;
    let mut text = Vec::new();
    script.write_registration(VARIABLE, "weir", "weir", "weir", &mut text)?;
    if shell == Shell::Zsh {
        text.extend_from_slice(ZSH_AT_ONCE);
    }
    match out.write_all(&text).and_then(|()| out.flush()) {
        // The reader has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes a man page for `weir`, one for each of its commands, and one for the agent's
/// configuration, into a directory.
pub fn manual(directory: &Path) -> Result<()> {
    let path = directory.join(format!("{}.{}", configuration::TITLE, configuration::FILES_SECTION));
    let written = std::fs::write(&path, configuration::page());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    // `weir help` is no command that needs a page.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, directory)
}

fn write_pages(command: &clap::Command, directory: &Path) -> Result<()> {
    let path = directory.join(format!("{}.{SECTION}", title(command)));
    let page = page(command).and_then(|page| std::fs::write(&path, page));
    page.with_context(|| format!("cannot write {}", path.display()))?;
    command.get_subcommands().try_for_each(|sub| write_pages(sub, directory))
}

/// What the page of a command is called, such as `weir-get-splits`.
fn title(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of a command, as roff.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let title = title(command);
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(concat!("weir ", env!("CARGO_PKG_VERSION")))
        .manual("weir");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    for (what, entries) in legend::of(title) {
        list(&mut roff, what, &entries);
    }
    list(&mut roff, "EXIT STATUS", EXIT_STATUS);
    if ["weir", "weir-agent"].contains(&title) {
        list(&mut roff, "FILES", FILES);
    }
    examples(&mut roff, title);
    see_also(&mut roff, title);
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn see_also(roff: &mut Roff, title: &str) {
    let mut pages = Vec::new();
    if title != "weir" {
        pages.extend([bold("weir"), roman(format!("({SECTION})"))]);
    }
    if READ_CONFIGURATION.contains(&title) {
        let comma = if pages.is_empty() { "" } else { ", " };
        let section = configuration::FILES_SECTION;
        pages.extend([roman(comma), bold(configuration::TITLE), roman(format!("({section})"))]);
    }
    if !pages.is_empty() {
        roff.control("SH", ["SEE ALSO"]).text(pages);
    }
}

pub(super) fn list(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (what, text) in entries {
        roff.control("TP", []).text([bold(*what)]).text([roman(*text)]);
    }
}

fn examples(roff: &mut Roff, title: &str) {
    let mut of_command = EXAMPLES.iter().filter(|(of, ..)| *of == title).peekable();
    if of_command.peek().is_some() {
        roff.control("SH", ["EXAMPLES"]);
    }
    for (_, text, line) in of_command {
        roff.control("PP", []).text([roman(*text)]);
        roff.control("RS", ["4"]).control("EX", []).text([roman(*line)]);
        roff.control("EE", []).control("RE", []);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_commands_that_are_understood() {
        for (of, _, line) in EXAMPLES {
            // What a shell would do with it.
            let line = line.strip_prefix("eval \"$(").map_or(*line, |rest| &rest[..rest.len() - 2]);
            let words: Vec<&str> = line.split(' ').collect();
            let parsed = <Cli as clap::Parser>::try_parse_from(&words).and_then(Cli::checked);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            let named = (1..=words.len()).any(|count| words[..count].join("-") == *of);
            assert!(named, "{line} is no example of {of}");
        }
    }

    #[test]
    fn each_command_has_a_page_with_its_arguments_and_exit_codes() {
        let directory = tempfile::tempdir().unwrap();
        manual(directory.path()).unwrap();
        let page = |name: &str| {
            let path = directory.path().join(format!("{name}.{SECTION}"));
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let main = page("weir");
        assert!(page("weir-get").contains("weir\\-get\\-splits(8)"), "commands below others too");
        assert!(page("weir-get-splits").contains("\\-\\-output"));
        for command in Cli::command().get_subcommands() {
            let name = format!("weir-{}", command.get_name());
            // roff writes a hyphen that is to be a minus as \-.
            let escaped = name.replace('-', "\\-");
            assert!(main.contains(&format!("{escaped}({SECTION})")), "weir refers to {name}");
            let text = page(&name);
            assert!(text.contains(&format!("{escaped} \\- ")), "{name} says what it is");
            assert!(text.contains(".SH \"EXIT STATUS\""), "{name} tells exit codes");
            let own = command.get_arguments().filter_map(clap::Arg::get_long);
            for long in own {
                let long = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(text.contains(&long), "{name} explains {long}");
            }
        }
    }

    #[test]
    fn pages_explain_each_column_and_key() {
        let directory = tempfile::tempdir().unwrap();
        manual(directory.path()).unwrap();
        let page = |name: &str| {
            std::fs::read_to_string(directory.path().join(format!("{name}.{SECTION}"))).unwrap()
        };
        let top = page("weir-top");
        for text in [".SH COLUMNS", ".SH KEYS", "NO ANS", "propose the weights before"] {
            assert!(top.contains(text), "{text} is not in {top}");
        }
        for (name, column) in [
            ("weir-watch", "NOANSWER/S"),
            ("weir-flows", "IDLE"),
            ("weir-history", "CAUSE"),
            ("weir-get-splits", "DEFINED"),
            ("weir-get", "OBSERVED"),
        ] {
            assert!(page(name).contains(&format!("\\fB{column}\\fR")), "{name}: {column}");
        }
    }

    #[test]
    fn each_shell_gets_a_script_that_asks_weir() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut text = Vec::new();
            completions(shell, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(VARIABLE) && text.contains("weir"), "{shell}: {text}");
        }
    }
}
