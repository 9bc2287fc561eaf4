//! Diagrams, as SVG on white ground. Bars and lines are medians, whiskers are quartiles.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::Summary;

/// A diagram for a document.
pub struct Figure {
    /// Of its file, without `.svg`.
    pub name: &'static str,
    /// What it shows, for those who cannot see it.
    pub caption: String,
    pub svg: String,
}

/// Horizontal bars, one for each name.
pub struct Bars {
    pub title: String,
    pub unit: &'static str,
    pub values: Vec<Summary>,
    /// A line that all are compared with.
    pub reference: Option<f64>,
    /// Digits after the point.
    pub digits: usize,
}

/// Lines over a logarithmic axis.
pub struct Lines {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub series: Vec<Series>,
}

/// A line.
pub struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, Summary)>,
}

/// Panels side by side.
const COLUMNS: usize = 2;
/// Of a panel, in pixels.
const WIDTH: u32 = 460;
const FONT: &str = "sans-serif";
/// Of series and bars; they differ in lightness, too.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(120, 60, 120),
    RGBColor(204, 140, 0),
    RGBColor(110, 110, 110),
];
const BASE: RGBColor = RGBColor(110, 110, 110);
const PEER: RGBColor = RGBColor(150, 190, 220);
const OWN: RGBColor = RGBColor(0, 114, 178);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Panels of bars. The first name is the base; those of weir stand out.
pub fn bars(names: &[&str], panels: &[Bars]) -> Result<String> {
    let height = 70 + 24 * u32::try_from(names.len())?;
    draw(panels, height, |panel, area| bar_panel(names, panel, area))
}

/// Panels of lines.
pub fn lines(panels: &[Lines]) -> Result<String> {
    draw(panels, 340, line_panel)
}

fn draw<P>(
    panels: &[P],
    height: u32,
    each: impl Fn(&P, &Area<'_>) -> Result<()>,
) -> Result<String> {
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (WIDTH * COLUMNS as u32, height * u32::try_from(rows)?);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((rows, COLUMNS))) {
            each(panel, &area)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// An error of the library, whose type borrows.
fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn bar_panel(names: &[&str], panel: &Bars, area: &Area<'_>) -> Result<()> {
    let count = names.len();
    let most = panel.values.iter().map(|value| value.third_quartile).fold(0.0, f64::max);
    let most = most.max(panel.reference.unwrap_or(0.0)) * 1.25;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())
        .map_err(drawing)?;
    // The first on top.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => {
            names.get(count - 1 - at).map_or_else(String::new, |name| (*name).to_owned())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(count)
        .y_label_formatter(&name)
        .x_desc(panel.unit)
        .x_labels(6)
        .x_label_formatter(&|value| short(*value))
        .x_max_light_lines(0)
        .label_style((FONT, 12))
        .draw()
        .map_err(drawing)?;
    for (at, value) in panel.values.iter().enumerate() {
        let row = count - 1 - at;
        let color = match names[at] {
            _ if at == 0 => BASE,
            name if name.starts_with("weir") => OWN,
            _ => PEER,
        };
        let corners =
            [(0.0, SegmentValue::Exact(row)), (value.median, SegmentValue::Exact(row + 1))];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar]).map_err(drawing)?;
        let middle = SegmentValue::CenterOf(row);
        let [low, high] = [value.first_quartile, value.third_quartile];
        let whisker = vec![(low, middle.clone()), (high, middle.clone())];
        chart.draw_series([PathElement::new(whisker, BLACK.stroke_width(2))]).map_err(drawing)?;
        let text = format!("{:.*}", panel.digits, value.median);
        let centered = TextStyle::from((FONT, 11)).pos(Pos::new(HPos::Left, VPos::Center));
        let place = (high.max(value.median) + most * 0.01, middle);
        chart.draw_series([Text::new(text, place, centered)]).map_err(drawing)?;
    }
    if let Some(reference) = panel.reference {
        let ends =
            vec![(reference, SegmentValue::Exact(0)), (reference, SegmentValue::Exact(count))];
        chart.draw_series([PathElement::new(ends, BLACK)]).map_err(drawing)?;
    }
    Ok(())
}

fn line_panel(panel: &Lines, area: &Area<'_>) -> Result<()> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let last = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let most = points().map(|(_, y)| y.third_quartile).fold(0.0, f64::max) * 1.35;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(56)
        // Whiskers at the ends are inside.
        .build_cartesian_2d((least / 1.3..last * 1.3).log_scale(), 0.0..most)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_label_formatter(&|x| counted(*x))
        .y_label_formatter(&|y| short(*y))
        .label_style((FONT, 12))
        .max_light_lines(0)
        .draw()
        .map_err(drawing)?;
    for (series, color) in panel.series.iter().zip(COLORS) {
        let medians = series.points.iter().map(|(x, y)| (*x, y.median));
        chart
            .draw_series(LineSeries::new(medians, color.stroke_width(2)))
            .map_err(drawing)?
            .label(series.name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2))
            });
        let whiskers = series.points.iter().map(|(x, y)| {
            let (low, high) = (y.first_quartile, y.third_quartile);
            ErrorBar::new_vertical(*x, low, y.median, high, color.filled(), 6)
        });
        chart.draw_series(whiskers).map_err(drawing)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 11))
        .draw()
        .map_err(drawing)?;
    Ok(())
}

/// A value, without zeros that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of things, shortly.
fn counted(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.0}M", n / 1e6),
        n if n >= 1e3 => format!("{:.0}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_value_is_in_the_diagram() {
        let summary = |value: f64| Summary::of(&[value * 0.9, value, value * 1.2]);
        let panel = Bars {
            title: "Speed".to_owned(),
            unit: "ratio",
            values: vec![summary(1.0), summary(0.875)],
            reference: Some(1.0),
            digits: 3,
        };
        let svg = bars(&["plain", "weir TC"], &[panel]).unwrap();
        for text in ["Speed", "ratio", "plain", "weir TC", "1.000", "0.875"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        let points = vec![(1.0, summary(40.0)), (10_000.0, summary(60.0))];
        let panel = Lines {
            title: "Growth".to_owned(),
            x: "splits",
            y: "ns",
            series: vec![Series { name: "new flow", points }],
        };
        let svg = lines(&[panel]).unwrap();
        for text in ["Growth", "splits", "new flow", "10k"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }
}
