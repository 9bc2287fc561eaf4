//! Histories of documents: sites are written down in one form after the other,
//! renamed, joined and taken apart while connections live, agents restart, die and
//! fail. A [`model`] that knows only addresses says what must become of each
//! connection, and what is counted for whom.
//!
//! `WEIR_HISTORIES` is how many there are; `cargo xtask stress documents` takes
//! many.

mod agent;
mod cluster;
mod history;
mod manifest;
mod model;
mod step;

use proptest::test_runner::{Config, TestRunner};

use history::History;

const HISTORIES: u32 = 300;

#[test]
fn a_live_flow_keeps_its_endpoint_through_any_history_of_documents() {
    let histories = std::env::var("WEIR_HISTORIES").ok();
    let cases = histories.map_or(HISTORIES, |text| text.parse().expect("a number of histories"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let seen = std::cell::RefCell::new(history::Seen::default());
    let result = TestRunner::new(config).run(&step::steps(), |steps| {
        let mut history = History::new();
        history.run(&steps)?;
        seen.borrow_mut().add(history.seen());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    println!("{cases} histories: {seen}; differences 0");
    seen.is_enough();
}
