//! Plain text in aligned columns, all at once or as it comes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Align {
    /// To the left.
    Left,
    /// To the right.
    Right,
}

/// Columns two spaces apart, without space at the ends of lines. They are as
/// wide as what was written so far: of rows that come later, wider ones move
/// the columns to the right. On a terminal, lines end at its width.
#[derive(Debug)]
pub(crate) struct Columns<const N: usize> {
    columns: [(&'static str, Align); N],
    widths: [usize; N],
    limit: Option<usize>,
    begun: bool,
}

impl<const N: usize> Columns<N> {
    /// Columns of these titles.
    pub fn new(columns: [(&'static str, Align); N]) -> Self {
        let widths = columns.map(|(title, _)| title.chars().count());
        Self { columns, widths, limit: limit(), begun: false }
    }

    /// The next rows as lines; the first time, after the line of the titles.
    pub fn lines(&mut self, rows: &[[String; N]]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            self.line(&mut text, self.columns.map(|(title, _)| title));
        }
        for row in rows {
            self.line(&mut text, std::array::from_fn(|at| row[at].as_str()));
        }
        text
    }

    fn line(&self, text: &mut String, cells: [&str; N]) {
        let start = text.len();
        for ((cell, width), (_, align)) in cells.into_iter().zip(self.widths).zip(self.columns) {
            if text.len() > start {
                text.push_str("  ");
            }
            // Infallible: a String takes all.
            let _ = match align {
                Align::Left => write!(text, "{cell:<width$}"),
                Align::Right => write!(text, "{cell:>width$}"),
            };
        }
        let line = fitting(text[start..].trim_end(), self.limit).into_owned();
        text.truncate(start);
        text.push_str(&line);
        text.push('\n');
    }
}

/// How wide lines may be: as the terminal, if they go to one.
fn limit() -> Option<usize> {
    let width = || crossterm::terminal::size().ok().map(|(width, _)| usize::from(width));
    std::io::stdout().is_terminal().then(width).flatten().filter(|width| *width > 0)
}

/// A line of at most so many characters, the last of which says if there were more.
fn fitting(line: &str, limit: Option<usize>) -> Cow<'_, str> {
    match limit {
        Some(limit) if line.chars().count() > limit => {
            let kept: String = line.chars().take(limit.saturating_sub(1)).collect();
            Cow::Owned(kept + "…")
        }
        _ => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_the_terminal_does() {
        for (limit, expected) in [(None, "a  bü"), (Some(5), "a  bü"), (Some(4), "a  …")] {
            assert_eq!(fitting("a  bü", limit), expected);
        }
        let mut columns = Columns::new([("A", Align::Left), ("B", Align::Left)]);
        columns.limit = Some(6);
        let rows = [["abc".to_owned(), "defg".to_owned()]];
        assert_eq!(columns.lines(&rows), "A    B\nabc  …\n");
    }

    #[test]
    fn columns_keep_their_width_and_grow() {
        let mut columns = Columns::new([("A", Align::Left), ("B", Align::Right)]);
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(columns.lines(&[row("xx", "1")]), "A   B\nxx  1\n");
        assert_eq!(columns.lines(&[]), "");
        assert_eq!(columns.lines(&[row("x", "10")]), "x   10\n");
        assert_eq!(columns.lines(&[row("x", "")]), "x\n");
    }
}
