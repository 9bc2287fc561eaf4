//! Rates as text, for lines and for the screen.

use super::SubsetRates;

/// What [`cells`] are, and whether they are numbers.
pub const COLUMNS: [(&str, bool); 13] = [
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
    ("FLOWS", true),
];

/// A subset, as the cells of a line.
pub fn cells(of: &SubsetRates) -> [String; 13] {
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
