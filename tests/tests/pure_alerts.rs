//! Alerts: that each of the rules is documented, and tried both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_yaml::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_sequence().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text")).to_owned()
}

/// The alerts that there are, and the severity of each.
fn alerts() -> BTreeMap<String, String> {
    let rules = yaml("../deploy/prometheus/weir.rules.yaml");
    let all = list(&rules, "groups").flat_map(|group| list(group, "rules"));
    let alerts = all.filter(|rule| rule.get("alert").is_some());
    alerts.map(|rule| (text(&rule["alert"]), text(&rule["labels"]["severity"]))).collect()
}

#[test]
fn each_alert_is_documented_with_its_severity() {
    let docs = read("../docs/metrics.md");
    let (_, table) = docs.split_once("| alert | severity | when |").expect("the table of alerts");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    let told: BTreeMap<String, String> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let mut cell = || cells.next().unwrap_or_default().trim_matches('`').to_owned();
            (cell(), cell())
        })
        .collect();
    assert_eq!(told, alerts());
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let cases = yaml("rules.test.yaml");
    let cases: Vec<&Value> =
        list(&cases, "tests").flat_map(|test| list(test, "alert_rule_test")).collect();
    let of = |fires: bool| -> BTreeSet<String> {
        let is_so = |case: &&&Value| (list(case, "exp_alerts").count() > 0) == fires;
        cases.iter().filter(is_so).map(|case| text(&case["alertname"])).collect()
    };
    let all: BTreeSet<String> = alerts().into_keys().collect();
    assert!(all.len() > 5, "{all:?}");
    assert_eq!(of(true), all, "fires");
    assert_eq!(of(false), all, "is silent");
}
