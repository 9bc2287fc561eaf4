//! Plain text in aligned columns, all at once or as it comes.

use std::fmt::Write as _;

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
/// the columns to the right.
#[derive(Debug)]
pub(crate) struct Columns<const N: usize> {
    columns: [(&'static str, Align); N],
    widths: [usize; N],
    begun: bool,
}

impl<const N: usize> Columns<N> {
    /// Columns of these titles.
    pub fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, widths: columns.map(|(title, _)| title.chars().count()), begun: false }
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
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
