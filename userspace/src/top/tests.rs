//! The view without a terminal: keys in, screens out.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::app::{Act, App};
use super::screen::{Theme, draw};
use crate::rates::{Rates, Sample, SplitRates, SubsetRates};

fn subset(name: &str, weight: u32, flows: u64) -> SubsetRates {
    SubsetRates {
        subset: name.into(),
        weight,
        wanted_share: f64::from(weight) / 100.0,
        observed_share: Some(flows as f64 / 1000.0),
        interval: crate::rates::wilson(flows, 1000),
        new_flows_since_change: flows,
        open_flows: Some(12),
        rates: Some(Rates {
            new_flows_per_second: 25.0,
            bits_per_second: 1.5e9,
            ..Rates::default()
        }),
    }
}

fn split(name: &str, version: u64, subsets: Vec<SubsetRates>) -> SplitRates {
    let service = "203.0.113.10:9080 TCP".to_owned();
    SplitRates { name: name.into(), service, version, changed: 65, subsets }
}

fn sample(version: u64) -> Sample {
    let splits = vec![
        split("ratings", 1, vec![subset("v1", 100, 1000)]),
        split("reviews", version, vec![subset("v1", 90, 905), subset("v3", 10, 95)]),
    ];
    Sample { time: "1970-01-01T00:00:00.000Z".into(), splits }
}

fn app() -> App {
    let mut app = App::new(Duration::from_secs(1));
    app.take(Ok(sample(7)));
    app
}

fn press(app: &mut App, code: KeyCode) -> Act {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, Theme::of_environment())).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn screen_shows_splits_and_subsets() {
    let expected = "\
weir top  2 splits, every 1s, at 1970-01-01T00:00:00.000Z
  SUBSET  WEIGHT   WANTED  OBSERVED   95% INTERVAL  FLOWS/S  OPEN  PKT/S  BIT/S  REJECT/S  REFUSED/S  NOANSWER/S  FLOWS
ratings  203.0.113.10:9080 TCP  version 1, for 1m 5s
  v1         100  100.00%   100.00%  99.62-100.00%       25    12      0  1.50G         0          0           0  1.00k
reviews  203.0.113.10:9080 TCP  version 7, for 1m 5s
  v1          90   90.00%    90.50%   88.52-92.17%       25    12      0  1.50G         0          0           0    905
  v3          10   10.00%     9.50%    7.83-11.48%       25    12      0  1.50G         0          0           0     95


up/down select   +/- shift by 5 points   s other step   q quit";
    assert_eq!(screen(&app(), 130, 10), expected.lines().collect::<Vec<_>>());
}

#[test]
fn selected_subset_stays_in_sight_and_selected() {
    let mut app = app();
    let name =
        |app: &App| app.selected().map(|(s, subset)| (s.name.clone(), subset.subset.clone()));
    let is = |split: &str, subset: &str| Some((split.to_owned(), subset.to_owned()));
    assert_eq!(name(&app), is("ratings", "v1"));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Char('j'));
    assert_eq!(name(&app), is("reviews", "v3"));
    press(&mut app, KeyCode::Down);
    assert_eq!(name(&app), is("reviews", "v3"), "there is none below");
    let low = screen(&app, 130, 6);
    assert!(low[2].starts_with("  v1") && low[3].starts_with("  v3"), "{low:?}");

    // It is the same one when splits come before it, and another one when it is gone.
    let mut more = sample(7);
    more.splits.insert(0, split("a", 1, vec![subset("v1", 100, 1)]));
    app.take(Ok(more));
    assert_eq!(name(&app), is("reviews", "v3"));
    app.take(Ok(Sample { splits: vec![split("a", 1, vec![subset("v9", 100, 1)])], ..sample(7) }));
    assert_eq!(name(&app), is("a", "v9"));
    press(&mut app, KeyCode::Home);
    press(&mut app, KeyCode::PageDown);
    assert_eq!(name(&app), is("a", "v9"));
}

#[test]
fn a_shift_is_shown_and_sent_only_when_it_is_confirmed() {
    let mut app = app();
    press(&mut app, KeyCode::End);
    assert_eq!(press(&mut app, KeyCode::Enter), Act::Show, "there is nothing to confirm");
    for _ in 0..3 {
        assert_eq!(press(&mut app, KeyCode::Char('+')), Act::Show);
    }
    // Somebody is faster, and the view knows it: what was proposed is about what was seen.
    app.take(Ok(sample(8)));
    let shown = screen(&app, 130, 14).join("\n");
    for text in [
        "reviews: +15 points for v3?",
        "v1  weight 90 -> 75  (90.00% -> 75.00% of new flows)",
        "v3  weight 10 -> 25  (10.00% -> 25.00% of new flows)",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    press(&mut app, KeyCode::Up);
    let Act::Send(proposal) = press(&mut app, KeyCode::Enter) else { panic!("{app:?}") };
    let request = proposal.request();
    let weights = |v1, v3| [("v1".to_owned(), v1), ("v3".to_owned(), v3)].into();
    assert_eq!(proposal.split, "reviews");
    assert_eq!((request.weights, request.expect), (weights(75, 25), weights(90, 10)));
    assert_eq!(request.version, Some(7));
    assert_eq!(app.proposal, None);
    app.sent(Err("split \"reviews\" has another version".into()));
    assert!(screen(&app, 130, 14).join("\n").contains("has another version"));

    press(&mut app, KeyCode::Char('-'));
    assert!(app.proposal.is_some());
    press(&mut app, KeyCode::Esc);
    assert_eq!((press(&mut app, KeyCode::Enter), &app.proposal), (Act::Show, &None));
    press(&mut app, KeyCode::Char('+'));
    press(&mut app, KeyCode::Char('-'));
    assert_eq!(app.proposal, None, "there and back");
}

#[test]
fn steps_can_be_chosen_and_nothing_is_proposed_that_changes_nothing() {
    let mut app = app();
    press(&mut app, KeyCode::Char('+'));
    assert_eq!(app.proposal, None, "the only subset has all");
    assert!(screen(&app, 130, 10)[8].contains("cannot get more or less"));
    press(&mut app, KeyCode::Char('s'));
    press(&mut app, KeyCode::End);
    press(&mut app, KeyCode::Char('+'));
    assert_eq!(app.proposal.as_ref().map(|p| p.after.clone()), Some(vec![80, 20]));
    assert_eq!(press(&mut app, KeyCode::Char('q')), Act::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.key(interrupt), Act::Quit);
}

#[test]
fn a_lost_agent_is_told_and_old_numbers_stay() {
    let mut app = App::new(Duration::from_secs(1));
    assert!(screen(&app, 60, 6).join("\n").contains("waiting for the agent"));
    app.take(Ok(sample(7)));
    app.take(Err("no agent answers".into()));
    let shown = screen(&app, 130, 10);
    assert!(shown[8].contains("no new numbers: no agent answers"), "{shown:?}");
    assert!(shown[4].starts_with("reviews"));
    // Any size will do.
    for (width, height) in [(1, 1), (20, 3), (300, 2)] {
        app.proposal = None;
        screen(&app, width, height);
        press(&mut app, KeyCode::End);
        press(&mut app, KeyCode::Char('+'));
        screen(&app, width, height);
    }
}
