//! Rates as text, for lines and for the screen.

use super::SubsetRates;
use crate::api::types::TimeView;

/// What [`cells`] are, and whether they are numbers.
pub const COLUMNS: [(&str, bool); 15] = [
    ("SUBSET", false),
    ("WEIGHT", true),
    ("WANTED", true),
    ("OBSERVED", true),
    ("95% INTERVAL", true),
    ("FLOWS/S", true),
    ("OPEN", true),
    ("PKT/S", true),
    ("BIT/S", true),
    ("REJECT/S", true),
    ("REFUSED/S", true),
    ("NOANSWER/S", true),
    ("SYN P50/99", true),
    ("REPLY P50/99", true),
    ("FLOWS", true),
];

/// A subset, as the cells of a line.
pub fn cells(of: &SubsetRates) -> [String; 15] {
    let rate =
        |rate: fn(&super::Rates) -> f64| of.rates.as_ref().map_or_else(dash, |r| short(rate(r)));
    [
        of.subset.clone(),
        of.weight.to_string(),
        percent(of.wanted_share),
        of.observed_share.map_or_else(dash, percent),
        of.interval
            .map_or_else(dash, |[low, high]| format!("{:.2}-{}", low * 100.0, percent(high))),
        rate(|r| r.new_flows_per_second),
        of.open_flows.map_or_else(dash, |flows| short(flows as f64)),
        rate(|r| r.packets_per_second),
        rate(|r| r.bits_per_second),
        rate(|r| r.rejected_per_second),
        rate(|r| r.refused_per_second),
        rate(|r| r.unanswered_per_second),
        of.handshake.as_ref().map_or_else(dash, times),
        of.reply.as_ref().map_or_else(dash, times),
        short(of.new_flows_since_change as f64),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// Per cent with two digits.
pub fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// What half of all took at most, and 99 % of them, in one unit: `0.21/1.9ms`.
pub fn times(time: &TimeView) -> String {
    let units = [("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (p50, p99) = (time.p50_nanos as f64, time.p99_nanos as f64);
    let fitting = units.iter().find(|(_, nanos)| p99 / nanos < 999.5);
    let (unit, nanos) = fitting.unwrap_or(&units[2]);
    let number = |value: f64| match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 0.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    format!("{}/{}{unit}", number(p50 / nanos), number(p99 / nanos))
}

/// A number with about three digits that count: 0, 0.25, 12.3, 999, 1.50k, 20.1M.
pub fn short(number: f64) -> String {
    // What is rounded to 1000 is the next unit's.
    const FULL: f64 = 999.5;
    let mut value = number;
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P"] {
        if value < FULL {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let whole = unit.is_empty() && value.fract() == 0.0;
    let digits = if whole || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_unit() {
        for (p50, p99, text) in [
            (1_000, 5_000, "1.0/5.0us"),
            (210_000, 1_900_000, "0.21/1.9ms"),
            (12_000_000, 999_000_000, "12/999ms"),
            (1_000_000, 3_020_000_000, "0.00/3.0s"),
            (31_000_000_000, 2_000_000_000_000, "31/2000s"),
        ] {
            let time = TimeView { p50_nanos: p50, p99_nanos: p99, ..TimeView::default() };
            assert_eq!(times(&time), text);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (7.0, "7"),
            (12.345, "12.3"),
            (99.96, "100"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1500.0, "1.50k"),
            (20_100_000.0, "20.1M"),
            (123_456_789_000.0, "123G"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
