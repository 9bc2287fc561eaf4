//! What lies over the splits: help, endpoints, history; as lines.

use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::app::{App, Sheet};
use super::columns::Column;
use super::screen::by;
use crate::api::types::ChangeView;
use crate::rates::{EndpointRates, SplitRates, short};

/// What keys do.
pub const KEYS: [(&str, &str); 9] = [
    ("up, down", "select a subset, or move a list; also k j, PgUp PgDn, Home End"),
    ("+ -", "propose a shift of new flows to the subset, or from it"),
    ("s", "another step of shifts: 1, 5, 10 or 25 percentage points"),
    ("Enter", "send what is proposed; if anybody was faster, it is rejected"),
    ("u", "propose the weights before the split's last change"),
    ("e", "the endpoints of the split"),
    ("h", "its changes: who, when, why"),
    ("Esc", "leave what is proposed or lies over the splits"),
    ("q", "the end"),
];

/// The lines of the sheet that lies over the splits, as far as there is room for them; help is about
/// these columns.
pub fn lines(app: &App, columns: &[(Column, usize)], room: usize) -> Vec<Line<'static>> {
    let lines = match &app.sheet {
        None => Vec::new(),
        Some(Sheet::Help) => help(columns),
        Some(Sheet::Endpoints) => {
            app.selected().map(|(split, _)| endpoints(split)).unwrap_or_default()
        }
        Some(Sheet::History(split, None)) => vec![Line::raw(format!("{split}: asking ..."))],
        Some(Sheet::History(split, Some(Err(error)))) => {
            vec![Line::raw(format!("{split}: {error}"))]
        }
        Some(Sheet::History(split, Some(Ok(changes)))) => history(split, changes),
    };
    app.sheet_lines.set((lines.len(), room));
    let above = app.above.min(lines.len().saturating_sub(room));
    lines.into_iter().skip(above).take(room).collect()
}

fn title(text: String) -> Line<'static> {
    Line::styled(text, Style::new().add_modifier(Modifier::UNDERLINED))
}

/// What keys do, and what is in the columns that are shown.
fn help(columns: &[(Column, usize)]) -> Vec<Line<'static>> {
    let keys = KEYS.iter().map(|(key, does)| Line::raw(format!("  {key:<13}{does}")));
    let columns = columns
        .iter()
        .map(|(column, _)| Line::raw(format!("  {:<13}{}", column.title, column.help)));
    let worse = "  !            worse than the other subsets together, beyond chance (p < 0.001)";
    columns.chain([Line::raw(worse)]).chain(keys).collect()
}

fn endpoints(split: &SplitRates) -> Vec<Line<'static>> {
    let head = format!(
        "  {:<8}{:<22}{:<8}{:>6}{:>6}{:>7}{:>8}{:>7}{:>6}",
        "SUBSET", "ENDPOINT", "PHASE", "NEW/S", "OPEN", "FLOWS", "REFUSED", "NO ANS", "RESET"
    );
    let mut lines = vec![Line::raw(format!("  {}: its endpoints", split.name)), title(head)];
    for subset in &split.subsets {
        for endpoint in &subset.endpoints {
            let EndpointRates { address, phase, new_flows, refused, unanswered, reset, .. } =
                endpoint;
            let rate = endpoint.new_flows_per_second.map_or_else(|| "-".to_owned(), short);
            let open = endpoint.open_flows.map_or_else(|| "-".to_owned(), |n| short(n as f64));
            let address = address.to_string();
            let [flows, refused, unanswered, reset] =
                [new_flows, refused, unanswered, reset].map(|&n| short(n as f64));
            lines.push(Line::raw(format!(
                "  {:<8}{address:<22}{phase:<8}{rate:>6}{open:>6}{flows:>7}{refused:>8}\
                 {unanswered:>7}{reset:>6}",
                subset.subset,
            )));
        }
    }
    lines
}

/// The last change first.
fn history(split: &str, changes: &[ChangeView]) -> Vec<Line<'static>> {
    let mut lines = vec![title(format!("  {split}: its changes, the last one first"))];
    for change in changes.iter().rev() {
        let to: Vec<String> = change.to.iter().map(|(name, w)| format!("{name}={w}")).collect();
        let endpoint = change.endpoint.map(|endpoint| format!(" {endpoint}")).unwrap_or_default();
        lines.push(Line::raw(format!(
            "  {:>4}  {}  {}  {}{endpoint}",
            change.version,
            change.time,
            to.join(" "),
            by(change),
        )));
    }
    lines
}
