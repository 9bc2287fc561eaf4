//! Names that are meant, where somebody typed another.

use std::collections::BTreeSet;

/// How many names are listed where none is near.
const FEW: usize = 8;

/// What to add to the message that there is no such name: the one of `known` that
/// is meant, if one is near, or else all of them, if they are few. Nothing if
/// neither helps.
pub fn hint<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: BTreeSet<&str> = known.into_iter().collect();
    if let Some(meant) = nearest(typed, &known) {
        return format!("; did you mean \"{meant}\"?");
    }
    match known.len() {
        0 => String::new(),
        1..=FEW => {
            let all: Vec<&str> = known.into_iter().collect();
            format!("; there is {}", all.join(", "))
        }
        _ => String::new(),
    }
}

/// The name that differs in case, goes on with another label, or has few other letters:
/// in short names, any letter tells.
fn nearest<'a>(typed: &str, known: &BTreeSet<&'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    let bound = (typed.chars().count() / 3).min(3);
    let distance = |name: &str| {
        let name = name.to_lowercase();
        match name.strip_prefix(&lower) {
            Some("") => 0,
            Some(rest) if !lower.is_empty() && rest.starts_with('.') => 0,
            _ => strsim::damerau_levenshtein(&lower, &name),
        }
    };
    let near = known.iter().map(|name| (distance(name), *name));
    near.filter(|(distance, _)| *distance <= bound).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_one_is_named_or_else_the_few() {
        let known = ["reviews", "ratings", "details.shop"];
        for (typed, expected) in [
            ("review", "; did you mean \"reviews\"?"),
            ("Reviews", "; did you mean \"reviews\"?"),
            ("rveiews", "; did you mean \"reviews\"?"),
            ("details", "; did you mean \"details.shop\"?"),
            ("productpage", "; there is details.shop, ratings, reviews"),
        ] {
            assert_eq!(hint(typed, known), expected, "{typed}");
        }
        assert_eq!(hint("v4", ["v1", "v2"]), "; there is v1, v2");
        assert_eq!(hint("V2", ["v1", "v2"]), "; did you mean \"v2\"?");
        assert_eq!(hint("x", []), "");
        let many: Vec<String> = (10..30).map(|n| format!("split-{n}")).collect();
        assert_eq!(hint("other", many.iter().map(String::as_str)), "");
    }
}
