//! The view without a terminal: keys in, screens out.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::app::{Act, App};
use super::screen::{Theme, draw};
use crate::api::types::{
    ChangeView, EndpointSignalsView, EndpointStatsView, PeriodView, Protocol, SignalsView,
    SplitStatsView, StatsView, SubsetStatsView, TimeView, TimesView,
};
use crate::model::{Affinity, SplitSettings};
use crate::rates::{Failing, Failures, Rates, Sample, SplitRates, SubsetRates, rates};

fn subset(name: &str, weight: u32, flows: u64) -> SubsetRates {
    SubsetRates {
        subset: name.into(),
        weight,
        wanted_share: f64::from(weight) / 100.0,
        observed_share: Some(flows as f64 / 1000.0),
        interval: crate::rates::wilson(flows, 1000),
        new_flows_since_change: flows,
        open_flows: Some(12),
        failures: Failures {
            refused: Failing { share: Some(0.0), is_worse: false },
            unanswered: Failing { share: Some(0.0), is_worse: false },
            reset: Failing { share: Some(0.0), is_worse: false },
            rejected: 0,
        },
        handshake: None,
        reply: None,
        endpoints: Vec::new(),
        rates: Some(Rates {
            new_flows_per_second: 25.0,
            bits_per_second: 1.5e9,
            ..Rates::default()
        }),
    }
}

/// From v1=80 v3=20, by alice.
fn change(version: u64) -> ChangeView {
    let weights = |v1, v3| [("v1".to_owned(), v1), ("v3".to_owned(), v3)].into();
    ChangeView {
        version,
        time: "1970-01-01T00:00:00.000Z".into(),
        cause: "weights".into(),
        by: Some("alice".into()),
        reason: Some("canary".into()),
        endpoint: None,
        from: weights(80, 20),
        to: weights(90, 10),
        ended: None,
    }
}

fn split(name: &str, version: u64, subsets: Vec<SubsetRates>) -> SplitRates {
    let service = "203.0.113.10:9080 TCP".to_owned();
    let last_change = Some(change(version));
    SplitRates { name: name.into(), service, version, last_change, changed: 65, subsets }
}

fn sample(version: u64) -> Sample {
    let splits = vec![
        split("ratings", 1, vec![subset("v1", 100, 1000)]),
        split("reviews", version, vec![subset("v1", 90, 905), subset("v3", 10, 95)]),
    ];
    Sample { time: "1970-01-01T00:00:00.000Z".into(), open_flows_age: None, splits }
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
  SUBSET  WEIGHT   WANTED  OBSERVED         95%  NEW/S  OPEN  REFUSED  NO ANS  RESET  PKT/S  BIT/S  FLOWS
ratings  203.0.113.10:9080 TCP  version 1, 1m 5s ago (weights by alice: canary)
  v1         100  100.00%   100.00%  99.6-100.0     25    12    0.00%   0.00%  0.00%      0  1.50G  1.00k
reviews  203.0.113.10:9080 TCP  version 7, 1m 5s ago (weights by alice: canary)
  v1          90   90.00%    90.50%   88.5-92.2     25    12    0.00%   0.00%  0.00%      0  1.50G    905
  v3          10   10.00%     9.50%    7.8-11.5     25    12    0.00%   0.00%  0.00%      0  1.50G     95


+/- shift by 5  s step  u undo  e endpoints  h history  ? help  q quit";
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
    let shown = screen(&app, 130, 14).join("\n");
    for text in [
        "reviews: +15 points for v3?",
        "v1  weight 90 -> 75  (90.00% -> 75.00% of new flows)",
        "v3  weight 10 -> 25  (10.00% -> 25.00% of new flows)",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    // Somebody is faster, and the view knows it: what was proposed is about what was seen.
    app.take(Ok(sample(8)));
    let shown = screen(&app, 80, 14).join("\n");
    for text in [
        "reviews: +15 points for v3?",
        "Overtaken: version 7 is now 8 (weights by alice: canary).",
        "Nothing is sent.   Esc leave it",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    assert_eq!(press(&mut app, KeyCode::Enter), Act::Show);
    app.take(Ok(sample(7)));
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

/// What the agent says of a version that fails and of one that does not.
fn counted(name: &str, weight: u32, since_change: PeriodView) -> SubsetStatsView {
    let endpoint = |at: u8, phase: &str| EndpointStatsView {
        address: format!("198.51.100.{at}:9080").parse().unwrap(),
        phase: phase.into(),
        new_flows: since_change.new_flows / 2,
        open_flows: Some(3),
        packets_forward: 0,
        bytes_forward: 0,
        packets_reply: 0,
        bytes_reply: 0,
        signals: EndpointSignalsView {
            completed: since_change.completed / 2,
            refused: since_change.refused / 2,
            ..EndpointSignalsView::default()
        },
    };
    SubsetStatsView {
        name: name.into(),
        weight,
        wanted_share: f64::from(weight) / 100.0,
        new_flows_since_change: since_change.new_flows,
        new_flows: since_change.new_flows,
        completed: since_change.completed,
        refused: since_change.refused,
        since_change,
        open_flows: Some(40),
        endpoints: vec![endpoint(weight as u8, "live"), endpoint(100 + weight as u8, "draining")],
        ..SubsetStatsView::default()
    }
}

fn failing() -> Sample {
    let time = |p50_nanos, p99_nanos, slower| TimeView {
        count: 400,
        p50_nanos,
        p99_nanos,
        slower,
        ..TimeView::default()
    };
    let period = |new_flows, refused, unanswered, reset_after_reply| PeriodView {
        times: Some(TimesView {
            handshake: Some(time(210_000, 1_900_000, refused > 50)),
            reply: Some(time(2_500_000, 31_000_000, false)),
            life: None,
        }),
        seconds: 65,
        new_flows,
        completed: new_flows - refused - unanswered,
        refused,
        signals: SignalsView { reset_after_reply, ..SignalsView::default() },
        ..PeriodView::default()
    };
    let stats = |seconds: u64, subsets| StatsView {
        time: "1970-01-01T00:01:05.000Z".into(),
        uptime_nanos: seconds * 1_000_000_000,
        open_flows_age: Some(4),
        splits: vec![SplitStatsView {
            name: "reviews".into(),
            address: "203.0.113.10".parse().unwrap(),
            port: 9080,
            protocol: Protocol::Tcp,
            settings: SplitSettings::from(Affinity::None),
            version: 7,
            changed: 65,
            last_change: Some(change(7)),
            subsets,
        }],
    };
    let before =
        vec![counted("v1", 90, period(4490, 3, 1, 9)), counted("v3", 10, period(500, 80, 2, 20))];
    let now =
        vec![counted("v1", 90, period(4500, 3, 2, 9)), counted("v3", 10, period(512, 102, 2, 26))];
    rates(Some(&stats(10, before)), &stats(11, now))
}

#[test]
fn a_version_that_fails_its_handshakes_is_marked_in_80_columns() {
    let mut app = App::new(Duration::from_secs(1));
    app.take(Ok(failing()));
    let shown = screen(&app, 80, 24);
    let expected = "\
weir top  1 split, every 1s, at 1970-01-01T00:01:05.000Z, OPEN counted 4s ago
  SUBSET WANTED OBSERVED       95% NEW/S OPEN REFUSED NO ANS  RESET  SYN P50/99
reviews  203.0.113.10:9080 TCP  version 7, 1m 5s ago (weights by alice: canary)
  v1     90.00%   89.78% 88.9-90.6    10   40   0.07%  0.04%  0.20%  0.21/1.9ms
  v3     10.00%   10.22%  9.4-11.1    12   40 19.92%!  0.39% 5.08%! 0.21/1.9ms!";
    println!("{}", shown.join("\n"));
    assert_eq!(shown[..5], expected.lines().collect::<Vec<_>>());
    assert!(shown[23].ends_with("? help  q quit"), "{shown:?}");
    // Where there is less room, failures are still there.
    let narrow = screen(&app, 60, 8);
    let titles: Vec<&str> = narrow[1].split_whitespace().collect();
    assert_eq!(titles[3..7], ["REFUSED", "NO", "ANS", "RESET"]);
    assert!(narrow[4].contains("19.92%!"), "{narrow:?}");
}

#[test]
fn what_lies_over_the_splits_is_shown_and_left() {
    let mut app = App::new(Duration::from_secs(1));
    app.take(Ok(failing()));
    press(&mut app, KeyCode::Char('?'));
    let help = screen(&app, 80, 24).join("\n");
    for text in [
        "NO ANS       neither completed",
        "!            worse than the other",
        "u            propose",
    ] {
        assert!(help.contains(text), "{text} is not in\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    // Where it is longer than the screen, the rest is below, and no line is cut.
    let top = screen(&app, 80, 18);
    assert!(top[1].starts_with("  SUBSET       the version"), "{top:?}");
    assert!(top[17].starts_with("up, down more   Esc back"), "{top:?}");
    for _ in 0..100 {
        press(&mut app, KeyCode::Down);
    }
    let end = screen(&app, 80, 18);
    assert_eq!(end[15], "  q            the end", "{end:?}");
    press(&mut app, KeyCode::Up);
    assert_eq!(screen(&app, 80, 18)[15], end[14], "it went no further than to the end");
    let wide = screen(&app, 200, 40).join("\n");
    let lines = wide.lines().filter(|line| line.starts_with("  "));
    assert!(lines.clone().count() > 20 && lines.clone().all(|l| l.len() <= 80), "{wide}");
    press(&mut app, KeyCode::Home);
    assert_eq!(screen(&app, 80, 18), top);
    // No key shifts what cannot be seen.
    press(&mut app, KeyCode::Char('+'));
    assert_eq!(app.proposal, None);
    press(&mut app, KeyCode::Char('e'));
    let endpoints = screen(&app, 80, 12).join("\n");
    assert!(endpoints.contains("  v3      198.51.100.110:9080   draining"), "{endpoints}");
    assert!(endpoints.contains("  reviews: its endpoints"), "{endpoints}");
    press(&mut app, KeyCode::Char('e'));
    assert!(screen(&app, 80, 12)[1].contains("SUBSET WANTED"));
    assert_eq!(press(&mut app, KeyCode::Char('h')), Act::AskHistory("reviews".into()));
    assert!(screen(&app, 80, 12).join("\n").contains("reviews: asking"));
    app.told("another", Err("no".into()));
    assert!(screen(&app, 80, 12).join("\n").contains("reviews: asking"), "it is of another split");
    app.told("reviews", Ok(vec![change(6), change(7)]));
    let history = screen(&app, 80, 12);
    assert_eq!(
        history[2],
        "     7  1970-01-01T00:00:00.000Z  v1=90 v3=10  (weights by alice: canary)"
    );
    press(&mut app, KeyCode::Esc);
    assert!(screen(&app, 80, 12)[1].contains("SUBSET WANTED"));
}

#[test]
fn the_last_change_is_taken_back_if_it_is_confirmed() {
    let mut app = App::new(Duration::from_secs(1));
    app.take(Ok(failing()));
    press(&mut app, KeyCode::Char('u'));
    let shown = screen(&app, 80, 14).join("\n");
    for text in [
        "reviews: back to the weights before version 7?",
        "v1  weight 90 -> 80  (90.00% -> 80.00% of new flows)",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    // It is no shift, and stays what it is.
    press(&mut app, KeyCode::Char('+'));
    let Act::Send(proposal) = press(&mut app, KeyCode::Enter) else { panic!("{app:?}") };
    let request = proposal.rollback();
    assert_eq!((proposal.aim, request.version, request.to), (super::app::Aim::Undo, Some(7), None));
    assert_eq!(request.expect, [("v1".to_owned(), 90), ("v3".to_owned(), 10)].into());
    // One that took an endpoint out left the weights.
    let mut sample = failing();
    let last = sample.splits[0].last_change.as_mut().unwrap();
    last.from = last.to.clone();
    app.take(Ok(sample));
    press(&mut app, KeyCode::Char('u'));
    assert_eq!(app.proposal, None);
    assert!(screen(&app, 80, 14).join("\n").contains("the last change left the weights"));
}
