//! What is on the screen, and what keys do to it; no terminal is needed.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::shift::shift;
use crate::api::types::{SplitView, WeightsRequest};
use crate::rates::{Sample, SplitRates, SubsetRates};

/// Steps of a shift, in percentage points.
const STEPS: [i32; 4] = [1, 5, 10, 25];
/// How far a page goes.
const PAGE: isize = 10;

/// The state of the view.
#[derive(Debug)]
pub struct App {
    /// The last sample.
    pub sample: Option<Sample>,
    /// Why there is none newer.
    pub error: Option<String>,
    /// What became of the last shift.
    pub notice: Option<Notice>,
    /// What waits for a confirmation.
    pub proposal: Option<Proposal>,
    /// The time between two samples.
    pub interval: Duration,
    /// The step of a shift, in percentage points.
    pub step: i32,
    /// Split and subset.
    selected: Option<(String, String)>,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether it went well.
    pub good: bool,
    /// The text.
    pub text: String,
}

/// Other weights for a split, seen before they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The split.
    pub split: String,
    /// The subset that gets more or less.
    pub subset: String,
    /// How many percentage points more.
    pub points: i32,
    /// The version of the split that was seen.
    pub version: u64,
    /// Names and weights of all subsets, as they were seen.
    pub before: Vec<(String, u32)>,
    /// The weights that they are to have.
    pub after: Vec<u32>,
}

impl Proposal {
    /// What to send: if anybody was faster, it is rejected.
    pub fn request(&self) -> WeightsRequest {
        let names = self.before.iter().map(|(name, _)| name.clone());
        WeightsRequest {
            weights: names.zip(self.after.iter().copied()).collect(),
            expect: self.before.iter().cloned().collect(),
            version: Some(self.version),
        }
    }

    fn with(self, points: i32) -> Self {
        let at = self.before.iter().position(|(name, _)| *name == self.subset);
        let weights: Vec<u32> = self.before.iter().map(|&(_, weight)| weight).collect();
        let after = at.map_or_else(|| weights.clone(), |at| shift(&weights, at, points));
        Self { points, after, ..self }
    }

    fn changes_nothing(&self) -> bool {
        self.before.iter().map(|(_, weight)| weight).eq(&self.after)
    }
}

/// What is to be done after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to show what is.
    Show,
    /// The end.
    Quit,
    /// Send these weights.
    Send(Proposal),
}

impl App {
    /// With nothing to show yet.
    pub fn new(interval: Duration) -> Self {
        Self {
            sample: None,
            error: None,
            notice: None,
            proposal: None,
            interval,
            step: 5,
            selected: None,
        }
    }

    /// Shows a sample, or why there is none.
    pub fn take(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => {
                (self.sample, self.error) = (Some(sample), None);
                if self.selected().is_none() {
                    self.selected = self.names().into_iter().next();
                }
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Notes what became of a shift.
    pub fn sent(&mut self, result: Result<SplitView, String>) {
        self.notice = Some(match result {
            Ok(split) => {
                let weights = split.subsets.iter().map(|s| format!("{}={}", s.name, s.weight));
                let weights = weights.collect::<Vec<_>>().join(" ");
                let (name, version) = (&split.name, split.origin.version);
                Notice { good: true, text: format!("{name}: {weights} (version {version})") }
            }
            Err(error) => Notice { good: false, text: error },
        });
    }

    /// The subset that is selected, and its split.
    pub fn selected(&self) -> Option<(&SplitRates, &SubsetRates)> {
        let (split, subset) = self.selected.as_ref()?;
        let split = self.sample.as_ref()?.splits.iter().find(|s| s.name == *split)?;
        Some((split, split.subsets.iter().find(|s| s.subset == *subset)?))
    }

    /// Split and subset of each line that can be selected.
    fn names(&self) -> Vec<(String, String)> {
        let splits = self.sample.iter().flat_map(|sample| &sample.splits);
        splits
            .flat_map(|s| s.subsets.iter().map(|subset| (s.name.clone(), subset.subset.clone())))
            .collect()
    }

    /// Does what a key says.
    pub fn key(&mut self, key: KeyEvent) -> Act {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Act::Quit,
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('+' | '=') | KeyCode::Right => self.propose(self.step),
            KeyCode::Char('-') | KeyCode::Left => self.propose(-self.step),
            KeyCode::Esc | KeyCode::Char('n') => self.proposal = None,
            KeyCode::Enter | KeyCode::Char('y') => {
                if let Some(proposal) = self.proposal.take() {
                    return Act::Send(proposal);
                }
            }
            // What is proposed stays in sight until it is answered.
            _ if self.proposal.is_some() => {}
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-PAGE),
            KeyCode::PageDown => self.move_by(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            KeyCode::Char('s') => {
                let at = STEPS.iter().position(|&step| step == self.step).unwrap_or(0);
                self.step = STEPS[(at + 1) % STEPS.len()];
            }
            _ => {}
        }
        Act::Show
    }

    fn move_by(&mut self, lines: isize) {
        let names = self.names();
        let at = names.iter().position(|name| Some(name) == self.selected.as_ref()).unwrap_or(0);
        let last = names.len().saturating_sub(1);
        self.selected = names.into_iter().nth(at.saturating_add_signed(lines).min(last));
    }

    /// Proposes to shift by so many points more than is proposed.
    fn propose(&mut self, points: i32) {
        self.notice = None;
        let proposal = match self.proposal.take() {
            Some(proposal) => {
                let sum = (proposal.points + points).clamp(-100, 100);
                proposal.with(sum)
            }
            None => match self.selected() {
                None => return,
                Some((split, subset)) => Proposal {
                    split: split.name.clone(),
                    subset: subset.subset.clone(),
                    points: 0,
                    version: split.version,
                    before: split.subsets.iter().map(|s| (s.subset.clone(), s.weight)).collect(),
                    after: Vec::new(),
                }
                .with(points),
            },
        };
        if proposal.points == 0 {
            return;
        }
        if proposal.changes_nothing() {
            let (split, subset) = (&proposal.split, &proposal.subset);
            let text = format!("{split}: {subset} cannot get more or less than that");
            self.notice = Some(Notice { good: false, text });
            return;
        }
        self.proposal = Some(proposal);
    }
}
