//! What is seen: lines, bars, and colours on a terminal.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

/// Characters of a full bar.
const BAR: usize = 32;

/// How text looks on a terminal; elsewhere it is plain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    Bold,
    Dim,
    Good,
    Bad,
    Command,
    /// Of the subset with that index.
    Subset(usize),
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Command => "36",
            Self::Subset(at) => ["34", "33", "35", "36"][at % 4],
        }
    }
}

/// The share of a subset: shares are parts of 1.
pub struct Row<'a> {
    pub name: &'a str,
    pub wanted: f64,
    /// None before there are connections.
    pub observed: Option<f64>,
    /// The least and the most that a right split gives.
    pub accepted: (f64, f64),
}

impl Row<'_> {
    /// Whether the observed share is among the accepted ones.
    pub fn good(&self) -> bool {
        let (low, high) = self.accepted;
        self.observed.is_some_and(|observed| (low..=high).contains(&observed))
    }
}

/// Standard output. What cannot be written is left out: the demonstration goes on.
pub struct Screen {
    colours: bool,
    terminal: bool,
}

impl Screen {
    /// Colours on a terminal, unless NO_COLOR is set (no-color.org).
    pub fn new() -> Self {
        let terminal = stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours, terminal }
    }

    /// Text in a style.
    pub fn paint(&self, style: Style, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{}m{text}\x1b[0m", style.code()),
            false => text.to_owned(),
        }
    }

    /// Writes a line.
    pub fn line(&self, text: &str) {
        let _ = writeln!(stdout(), "{text}");
    }

    /// A command, and what is said of it at the right.
    pub fn command(&self, command: &str, remark: &str) {
        let left = format!("$ {command}");
        let gap = 78_usize.saturating_sub(3 + left.chars().count() + remark.chars().count()).max(2);
        let (left, remark) = (self.paint(Style::Command, &left), self.paint(Style::Dim, remark));
        self.line(&format!("   {left}{:gap$}{remark}", ""));
    }

    /// What the columns of [`Screen::rows`] are.
    pub fn heading(&self) {
        let text = format!("       wanted  {:BAR$}  observed   a right split*", "");
        self.line(&self.paint(Style::Dim, &text));
    }

    /// Writes rows with bars. On a terminal, `again` overwrites those that were written last;
    /// elsewhere only the last ones are `fin`al and written at all.
    pub fn rows(&self, rows: &[Row<'_>], again: bool, fin: bool) {
        if !self.terminal && !fin {
            return;
        }
        if self.terminal && again {
            let _ = write!(stdout(), "\x1b[{}A", rows.len());
        }
        for (at, row) in rows.iter().enumerate() {
            let end = if self.terminal { "\x1b[K" } else { "" };
            self.line(&format!("{}{end}", self.row(at, row, fin)));
        }
    }

    fn row(&self, at: usize, row: &Row<'_>, fin: bool) -> String {
        let observed = row.observed.unwrap_or(0.0);
        let (full, rest) = bar(observed);
        let style = if row.good() { Style::Good } else { Style::Bad };
        let verdict = match (fin, row.good()) {
            (false, _) => " ".to_owned(),
            (true, true) => self.paint(style, "✓"),
            (true, false) => self.paint(style, "✗"),
        };
        format!(
            "   {}   {:>3.0} %  {}{}  {:>6.2} %  {}  {verdict}",
            self.paint(Style::Bold, row.name),
            row.wanted * 100.0,
            self.paint(Style::Subset(at), &full),
            self.paint(Style::Dim, &rest),
            observed * 100.0,
            self.paint(Style::Dim, &format!("{:^15}", range(row.accepted))),
        )
    }
}

/// A bar of [`BAR`] characters: the part that is full, to an eighth of a character, and the rest.
fn bar(share: f64) -> (String, String) {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let full = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    let rest = "·".repeat(BAR - full.chars().count());
    (full, rest)
}

fn range((low, high): (f64, f64)) -> String {
    match (low, high) {
        (1.0, _) => "all".to_owned(),
        (_, 0.0) => "none".to_owned(),
        (low, high) => format!("{:.1} – {:.1} %", low * 100.0, high * 100.0),
    }
}

/// Milliseconds, or seconds from one on.
pub fn duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_of_one_length() {
        for share in [0.0, 0.001, 0.25, 0.501, 0.999, 1.0, 1.5] {
            let (full, rest) = bar(share);
            assert_eq!(full.chars().count() + rest.chars().count(), BAR, "{share}");
        }
        assert_eq!(bar(0.0).0, "");
        assert_eq!(bar(1.0).1, "");
        assert_eq!(bar(0.5).0, "█".repeat(BAR / 2));
    }

    #[test]
    fn a_row_says_whether_its_share_is_accepted() {
        let screen = Screen { colours: false, terminal: false };
        let row = |observed| Row { name: "v1", wanted: 0.5, observed, accepted: (0.48, 0.52) };
        let text = screen.row(0, &row(Some(0.5012)), true);
        assert!(text.contains(" 50.12 %") && text.contains("48.0 – 52.0 %"), "{text}");
        assert!(text.ends_with('✓'), "{text}");
        assert!(screen.row(0, &row(Some(0.53)), true).ends_with('✗'));
        assert!(screen.row(0, &row(None), true).ends_with('✗'));
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(123_456), "123,456");
        assert_eq!(thousands(20_000), "20,000");
        assert_eq!(duration(Duration::from_micros(2345)), "2.3 ms");
        assert_eq!(duration(Duration::from_millis(6500)), "6.5 s");
    }
}
