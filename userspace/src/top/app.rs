//! What is on the screen, and what keys do to it; no terminal is needed.

use std::cell::Cell;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::shift::shift;
use crate::api::types::{ChangeView, RollbackRequest, SplitView, WeightsRequest};
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
    /// What lies over the splits.
    pub sheet: Option<Sheet>,
    /// How many of the sheet's lines are above what is seen of it.
    pub above: usize,
    /// How many lines there are of the sheet, and room for how many; the last drawing's.
    pub sheet_lines: Cell<(usize, usize)>,
    /// What waits for a confirmation.
    pub proposal: Option<Proposal>,
    /// The time between two samples.
    pub interval: Duration,
    /// The step of a shift, in percentage points.
    pub step: i32,
    /// Split and subset.
    selected: Option<(String, String)>,
}

/// What is shown instead of the splits, until a key ends it.
#[derive(Debug, Clone, PartialEq)]
pub enum Sheet {
    /// What columns and keys mean.
    Help,
    /// The endpoints of the selected split.
    Endpoints,
    /// The changes of a split, once the agent has told them.
    History(String, Option<Result<Vec<ChangeView>, String>>),
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
    /// What for.
    pub aim: Aim,
    /// The version of the split that was seen.
    pub version: u64,
    /// Names and weights of all subsets, as they were seen.
    pub before: Vec<(String, u32)>,
    /// The weights that they are to have.
    pub after: Vec<u32>,
}

/// What other weights are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// This subset gets so many percentage points more.
    Shift(String, i32),
    /// The last change is taken back.
    Undo,
}

impl Proposal {
    /// What to send to take the last change back: if anybody was faster, it is rejected.
    pub fn rollback(&self) -> RollbackRequest {
        let expect = self.before.iter().cloned().collect();
        RollbackRequest { expect, version: Some(self.version), ..RollbackRequest::default() }
    }

    /// What to send: if anybody was faster, it is rejected.
    pub fn request(&self) -> WeightsRequest {
        let names = self.before.iter().map(|(name, _)| name.clone());
        WeightsRequest {
            weights: names.zip(self.after.iter().copied()).collect(),
            expect: self.before.iter().cloned().collect(),
            version: Some(self.version),
            this_node: false,
        }
    }

    fn with(self, subset: String, points: i32) -> Self {
        let at = self.before.iter().position(|(name, _)| *name == subset);
        let weights: Vec<u32> = self.before.iter().map(|&(_, weight)| weight).collect();
        let after = at.map_or_else(|| weights.clone(), |at| shift(&weights, at, points));
        Self { aim: Aim::Shift(subset, points), after, ..self }
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
    /// Ask for the changes of that split.
    AskHistory(String),
}

impl App {
    /// With nothing to show yet.
    pub fn new(interval: Duration) -> Self {
        Self {
            sample: None,
            error: None,
            notice: None,
            sheet: None,
            above: 0,
            sheet_lines: Cell::default(),
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

    /// Takes the changes of a split that were asked for.
    pub fn told(&mut self, split: &str, changes: Result<Vec<ChangeView>, String>) {
        if let Some(Sheet::History(of, known)) = &mut self.sheet
            && of == split
        {
            *known = Some(changes);
        }
    }

    /// The change that came before what is proposed could be confirmed.
    pub fn overtaken(&self) -> Option<(u64, Option<&ChangeView>)> {
        let proposal = self.proposal.as_ref()?;
        let splits = &self.sample.as_ref()?.splits;
        let split = splits.iter().find(|split| split.name == proposal.split)?;
        let newer = split.version != proposal.version;
        newer.then_some((split.version, split.last_change.as_ref()))
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
            // What lies over the splits is looked at, and no more.
            KeyCode::Char('?' | 'e' | 'h') | KeyCode::Esc if self.proposal.is_none() => {
                return self.turn(key.code);
            }
            code if self.sheet.is_some() => self.scroll(lines_of(code)),
            KeyCode::Char('u') => self.propose_undo(),
            KeyCode::Char('+' | '=') | KeyCode::Right => self.propose(self.step),
            KeyCode::Char('-') | KeyCode::Left => self.propose(-self.step),
            KeyCode::Esc | KeyCode::Char('n') => self.proposal = None,
            KeyCode::Enter | KeyCode::Char('y') => {
                if self.overtaken().is_some() {
                    return Act::Show;
                }
                if let Some(proposal) = self.proposal.take() {
                    return Act::Send(proposal);
                }
            }
            // What is proposed stays in sight until it is answered.
            _ if self.proposal.is_some() => {}
            KeyCode::Char('s') => {
                let at = STEPS.iter().position(|&step| step == self.step).unwrap_or(0);
                self.step = STEPS[(at + 1) % STEPS.len()];
            }
            code => self.move_by(lines_of(code)),
        }
        Act::Show
    }

    /// Moves what is seen of the sheet, no further than to its end.
    fn scroll(&mut self, lines: isize) {
        let (all, room) = self.sheet_lines.get();
        self.above = self.above.saturating_add_signed(lines).min(all.saturating_sub(room));
    }

    /// Puts a sheet over the splits, or takes it away.
    fn turn(&mut self, key: KeyCode) -> Act {
        self.above = 0;
        let split = self.selected().map(|(split, _)| split.name.clone());
        let sheet = match (key, split) {
            (KeyCode::Char('?'), _) => Sheet::Help,
            (KeyCode::Char('e'), Some(_)) => Sheet::Endpoints,
            (KeyCode::Char('h'), Some(split)) => Sheet::History(split, None),
            _ => {
                self.sheet = None;
                return Act::Show;
            }
        };
        let kind = std::mem::discriminant(&sheet);
        if self.sheet.as_ref().map(std::mem::discriminant) == Some(kind) {
            self.sheet = None;
            return Act::Show;
        }
        let asks = match &sheet {
            Sheet::History(split, _) => Some(split.clone()),
            Sheet::Help | Sheet::Endpoints => None,
        };
        self.sheet = Some(sheet);
        asks.map_or(Act::Show, Act::AskHistory)
    }

    /// Proposes the weights before the last change.
    fn propose_undo(&mut self) {
        self.notice = None;
        let Some((split, _)) = self.selected() else { return };
        let before: Vec<(String, u32)> =
            split.subsets.iter().map(|s| (s.subset.clone(), s.weight)).collect();
        let from = split.last_change.as_ref().map(|change| &change.from);
        let after = from.and_then(|from| {
            before.iter().map(|(name, _)| from.get(name).copied()).collect::<Option<Vec<u32>>>()
        });
        let (split, version) = (split.name.clone(), split.version);
        let proposal = after.map(|after| Proposal {
            split: split.clone(),
            aim: Aim::Undo,
            version,
            before,
            after,
        });
        match proposal.filter(|proposal| !proposal.changes_nothing()) {
            Some(proposal) => self.proposal = Some(proposal),
            None => {
                let text = format!("{split}: the last change left the weights, or is not known");
                self.notice = Some(Notice { good: false, text });
            }
        }
    }

    fn move_by(&mut self, lines: isize) {
        if lines == 0 {
            return;
        }
        let names = self.names();
        let at = names.iter().position(|name| Some(name) == self.selected.as_ref()).unwrap_or(0);
        let last = names.len().saturating_sub(1);
        self.selected = names.into_iter().nth(at.saturating_add_signed(lines).min(last));
    }

    /// Proposes to shift by so many points more than is proposed.
    fn propose(&mut self, points: i32) {
        self.notice = None;
        let proposal = match self.proposal.take() {
            Some(proposal) => match proposal.aim.clone() {
                Aim::Shift(subset, before) => {
                    proposal.with(subset, (before + points).clamp(-100, 100))
                }
                Aim::Undo => proposal,
            },
            None => match self.selected() {
                None => return,
                Some((split, subset)) => Proposal {
                    split: split.name.clone(),
                    aim: Aim::Undo,
                    version: split.version,
                    before: split.subsets.iter().map(|s| (s.subset.clone(), s.weight)).collect(),
                    after: Vec::new(),
                }
                .with(subset.subset.clone(), points),
            },
        };
        if matches!(proposal.aim, Aim::Shift(_, 0)) {
            return;
        }
        if proposal.changes_nothing() {
            let split = &proposal.split;
            let subset = self.selected().map(|(_, subset)| subset.subset.as_str());
            let subset = subset.unwrap_or("it");
            let text = format!("{split}: {subset} cannot get more or less than that");
            self.notice = Some(Notice { good: false, text });
            return;
        }
        self.proposal = Some(proposal);
    }
}

/// How many lines a key goes down; 0 if it goes nowhere.
fn lines_of(key: KeyCode) -> isize {
    match key {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -PAGE,
        KeyCode::PageDown => PAGE,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => 0,
    }
}
