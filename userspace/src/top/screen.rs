//! How the view looks.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::app::{Aim, App, Proposal};
use super::columns::{Column, Mark, fitting};
use super::sheet;
use crate::api::types::ChangeView;
use crate::rates::{Sample, SplitRates, SubsetRates};

/// With colours or without.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// Colours, unless NO_COLOR is set to anything (no-color.org).
    pub fn of_environment() -> Self {
        let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: !set }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme) {
    let rows = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(2)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(title(app), head);
    match &app.sample {
        Some(sample) if app.sheet.is_some() => {
            let columns = fitting(&all(sample), usize::from(body.width));
            let lines = sheet::lines(app, &columns, usize::from(body.height));
            frame.render_widget(Paragraph::new(lines), body);
        }
        Some(sample) => splits(frame, body, app, sample, theme),
        None => frame.render_widget(Paragraph::new("waiting for the agent ..."), body),
    }
    frame.render_widget(Paragraph::new(vec![message(app, theme), keys(app)]), foot);
    if let Some(proposal) = &app.proposal {
        ask(frame, body, proposal, app.overtaken(), theme);
    }
}

fn title(app: &App) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let every = humantime::format_duration(app.interval);
    let text = match &app.sample {
        Some(Sample { time, open_flows_age, splits }) => {
            let plural = if splits.len() == 1 { "" } else { "s" };
            let open = open_flows_age.map(|age| format!(", OPEN counted {age}s ago"));
            let open = open.unwrap_or_default();
            format!("  {} split{plural}, every {every}, at {time}{open}", splits.len())
        }
        None => format!("  every {every}"),
    };
    Line::from(vec![Span::styled("weir top", bold), Span::raw(text)])
}

/// The last thing to tell.
fn message(app: &App, theme: Theme) -> Line<'static> {
    let bad = theme.coloured(Color::Red);
    if let Some(error) = &app.error {
        return Line::styled(format!("no new numbers: {error}"), bad);
    }
    match &app.notice {
        Some(notice) if notice.good => {
            Line::styled(notice.text.clone(), theme.coloured(Color::Green))
        }
        Some(notice) => Line::styled(notice.text.clone(), bad),
        None => Line::default(),
    }
}

fn keys(app: &App) -> Line<'static> {
    let text = if app.proposal.is_some() {
        match app.overtaken() {
            None => format!("+/- {} points more or less   Enter do it   Esc leave it", app.step),
            Some(_) => "Esc leave it".to_owned(),
        }
    } else if app.sheet.is_some() {
        let (all, room) = app.sheet_lines.get();
        let more = if all > room { "up, down more   " } else { "" };
        format!("{more}Esc back to the splits   q quit")
    } else {
        format!("+/- shift by {}  s step  u undo  e endpoints  h history  ? help  q quit", app.step)
    };
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn all(sample: &Sample) -> Vec<&SubsetRates> {
    sample.splits.iter().flat_map(|split| &split.subsets).collect()
}

/// The splits, as far as there is room; the selected subset is always in sight.
fn splits(frame: &mut Frame<'_>, area: Rect, app: &App, sample: &Sample, theme: Theme) {
    let columns = fitting(&all(sample), usize::from(area.width));
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let titles: Vec<Span<'_>> =
        columns.iter().map(|(column, width)| Span::raw(column.head(*width))).collect();
    let underlined = Style::new().add_modifier(Modifier::UNDERLINED);
    frame.render_widget(Line::from(titles).style(underlined), head);

    let selected = app.selected().map(|(split, subset)| (&split.name, &subset.subset));
    let (mut lines, mut focus) = (Vec::new(), 0);
    for split in &sample.splits {
        lines.push(split_line(split));
        for subset in &split.subsets {
            let mut line = subset_line(subset, &columns, theme);
            if selected == Some((&split.name, &subset.subset)) {
                focus = lines.len();
                line = line.style(Style::new().add_modifier(Modifier::REVERSED));
            }
            lines.push(line);
        }
    }
    let above = scroll(lines.len(), focus, usize::from(body.height));
    let seen: Vec<Line<'_>> = lines.into_iter().skip(above).collect();
    frame.render_widget(Paragraph::new(seen), body);
}

/// How many lines are above the part that is shown: as few as will do for `focus` to be in it.
fn scroll(lines: usize, focus: usize, height: usize) -> usize {
    // With a line more after it, as far as there is one.
    let last = (focus + 2).min(lines);
    last.saturating_sub(height)
}

fn split_line(split: &SplitRates) -> Line<'static> {
    let SplitRates { name, service, version, changed, last_change, .. } = split;
    let since = humantime::format_duration(std::time::Duration::from_secs(*changed));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let who = last_change.as_ref().map(|change| format!(" ago {}", by(change)));
    let who = who.unwrap_or_default();
    let text = format!("  {service}  version {version}, {since}{who}");
    Line::from(vec![Span::styled(name.clone(), bold), Span::raw(text)])
}

/// Who made a change, by what and why.
pub(super) fn by(change: &ChangeView) -> String {
    let by = change.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = change.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("({}{by}{why})", change.cause)
}

fn subset_line(subset: &SubsetRates, columns: &[(Column, usize)], theme: Theme) -> Line<'static> {
    let cell = |(column, width): &(Column, usize)| {
        let style = match (column.mark)(subset) {
            Mark::Plain => Style::new(),
            Mark::Good => theme.coloured(Color::Green),
            Mark::Doubtful => theme.coloured(Color::Yellow),
            Mark::Bad => theme.coloured(Color::Red),
        };
        Span::styled(column.cell(subset, *width), style)
    };
    Line::from(columns.iter().map(cell).collect::<Vec<_>>())
}

/// The weights before and after, in a box.
fn ask(
    frame: &mut Frame<'_>,
    area: Rect,
    proposal: &Proposal,
    overtaken: Option<(u64, Option<&ChangeView>)>,
    theme: Theme,
) {
    let Proposal { split, aim, version, before, after } = proposal;
    let (old, new) = (before.iter().map(|&(_, weight)| weight), after.iter().copied());
    let sum = |weights: &mut dyn Iterator<Item = u32>| weights.map(f64::from).sum::<f64>();
    let (old_sum, new_sum) = (sum(&mut old.clone()), sum(&mut new.clone()));
    let width = before.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let percent = |weight: u32, sum: f64| f64::from(weight) / sum * 100.0;
    let mut lines: Vec<Line<'_>> = before
        .iter()
        .zip(new)
        .map(|((name, old), new)| {
            let (from, to) = (percent(*old, old_sum), percent(new, new_sum));
            Line::raw(format!(
                "{name:<width$}  weight {old} -> {new}  ({from:.2}% -> {to:.2}% of new flows)"
            ))
        })
        .collect();
    lines.push(Line::default());
    match overtaken {
        None => {
            lines
                .push(Line::raw("Open flows stay where they are. Rejected if anybody changes the"));
            lines.push(Line::raw(format!(
                "weights of version {version} before.   Enter do it   Esc leave it"
            )));
        }
        Some((newer, change)) => {
            let by = change.map(by).unwrap_or_default();
            let bad = theme.coloured(Color::Red);
            let said = format!("Overtaken: version {version} is now {newer} {by}.");
            lines.push(Line::styled(said.replace(" .", "."), bad));
            lines.push(Line::raw("Nothing is sent.   Esc leave it, and look again"));
        }
    }
    let title = match aim {
        Aim::Shift(subset, points) => format!(" {split}: {points:+} points for {subset}? "),
        Aim::Undo => format!(" {split}: back to the weights before version {version}? "),
    };
    let wide = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len()) + 4;
    let size = (wide.min(usize::from(area.width)), (lines.len() + 2).min(usize::from(area.height)));
    let place = centred(area, size.0 as u16, size.1 as u16);
    let block = Block::bordered()
        .title(title)
        .border_style(theme.coloured(Color::Yellow))
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).alignment(Alignment::Left).block(block), place);
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (left, above) = ((area.width - width) / 2, (area.height - height) / 2);
    Rect { x: area.x + left, y: area.y + above, width, height }
}
