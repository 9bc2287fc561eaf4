//! Numbers for people: summaries, tables, and the document that shows them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

/// A sample in five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub min: f64,
    pub first_quartile: f64,
    pub median: f64,
    pub third_quartile: f64,
    pub max: f64,
}

impl Summary {
    /// Of a sample that is not empty. Between two values, interpolates.
    pub fn of(sample: &[f64]) -> Self {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * (sorted.len() - 1) as f64;
            let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        Self {
            min: quantile(0.0),
            first_quartile: quantile(0.25),
            median: quantile(0.5),
            third_quartile: quantile(0.75),
            max: quantile(1.0),
        }
    }

    /// The same in another unit; `convert` must not turn the order around.
    pub fn map(&self, convert: impl Fn(f64) -> f64) -> Self {
        Self {
            min: convert(self.min),
            first_quartile: convert(self.first_quartile),
            median: convert(self.median),
            third_quartile: convert(self.third_quartile),
            max: convert(self.max),
        }
    }

    /// Median and quartiles, in whole nanoseconds.
    pub fn ns(&self) -> String {
        format!("{:.0} ({:.0} to {:.0})", self.median, self.first_quartile, self.third_quartile)
    }
}

/// A table, which is both readable text and Markdown.
#[derive(Clone, Debug)]
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: AsRef<str>>(title: &str, header: &[S]) -> Self {
        let header = header.iter().map(|cell| cell.as_ref().to_owned()).collect();
        Self { title: title.to_owned(), rows: vec![header] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The first column to the left, numbers to the right.
    pub fn markdown(&self) -> String {
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0).max(3)).collect();
        let mut text = format!("{}\n\n", self.title);
        for (n, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
            if n == 0 {
                let rules = widths.iter().enumerate().map(|(at, &width)| {
                    if at == 0 { "-".repeat(width) } else { "-".repeat(width - 1) + ":" }
                });
                text += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        text
    }
}

/// Replaces what stands in a document between the marks of a section.
pub fn refresh(document: &str, section: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {section} -->\n"), format!("<!-- end {section} -->\n"));
    let parts = document
        .split_once(&begin)
        .and_then(|(before, rest)| rest.split_once(&end).map(|(_, after)| (before, after)));
    let Some((before, after)) = parts else {
        bail!("no lines \"{}\" and \"{}\"", begin.trim_end(), end.trim_end());
    };
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

/// Writes a section into a document, which is made if it is not there.
pub fn write_section(path: &Path, section: &str, text: &str) -> Result<()> {
    let name = path.display();
    let document = match std::fs::read_to_string(path) {
        Ok(document) => document,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("{name}")),
    };
    let document = if document.is_empty() {
        ["packet", "alone", "e2e", "growth", "changes", "control"]
            .map(|s| format!("<!-- bench {s} -->\n<!-- end {s} -->\n"))
            .join("\n")
    } else {
        document
    };
    let document = refresh(&document, section, text).with_context(|| format!("{name}"))?;
    std::fs::write(path, document).with_context(|| format!("{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_values() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]);
        let Summary { min, first_quartile, median, third_quartile, max } = summary;
        assert_eq!([min, first_quartile, median, third_quartile, max], [1.0, 1.75, 2.5, 3.25, 4.0]);
        assert_eq!(Summary::of(&[7.0]).third_quartile, 7.0);
    }

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let document = "# Title\n<!-- bench packet -->\nold\n<!-- end packet -->\nmore\n";
        let once = refresh(document, "packet", "new\n").unwrap();
        assert_eq!(once, "# Title\n<!-- bench packet -->\n\nnew\n\n<!-- end packet -->\nmore\n");
        assert_eq!(refresh(&once, "packet", "new").unwrap(), once);
        assert!(refresh(document, "e2e", "new").unwrap_err().to_string().contains("bench e2e"));
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("Title", &["name", "n"]);
        table.row(["a".to_owned(), "1000".to_owned()]);
        let text = "Title\n\n| name |    n |\n| ---- | ---: |\n| a    | 1000 |\n";
        assert_eq!(table.markdown(), text);
    }
}
