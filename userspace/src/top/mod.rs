//! `weir top`: a live view of the splits, in which weights can be shifted.
//!
//! `app` is what is shown and what keys do, `screen` how it looks,
//! `shift` the arithmetic of weights; none of these needs a terminal. This
//! file wires them to one and to the agent.

mod app;
mod columns;
mod screen;
mod sheet;
mod shift;
mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::api::Client;
use crate::api::types::{ChangeView, SplitView};
use crate::rates::{Sample, Sampler};
use app::{Act, Aim, App, Proposal};
use screen::Theme;
pub use sheet::KEYS;
pub use terminal::Screen;

/// The columns of the view, and what they say.
pub fn columns() -> impl Iterator<Item = (&'static str, &'static str)> {
    columns::COLUMNS.iter().map(|column| (column.title, column.help))
}

/// What the agent said.
enum News {
    Sample(Result<Sample, String>),
    Sent(Result<Box<SplitView>, String>),
    History(String, Result<Vec<ChangeView>, String>),
}

/// Shows the view of all splits or of one, until a key or a signal ends it.
pub async fn run(client: Client, split: Option<String>, interval: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut screen = Screen::open()?;
    let theme = Theme::of_environment();
    let mut events = EventStream::new();
    let (tell, mut news) = mpsc::channel(1);
    let mut work = tokio::task::JoinSet::new();
    work.spawn(sample(Sampler::new(client.clone(), split), interval, tell.clone()));
    let mut app = App::new(interval);
    loop {
        screen.terminal().draw(|frame| screen::draw(frame, &app, theme))?;
        let act = tokio::select! {
            _ = terminate.recv() => Act::Quit,
            _ = interrupt.recv() => Act::Quit,
            _ = hang_up.recv() => Act::Quit,
            event = events.next() => match event.context("the terminal is gone")?? {
                Event::Key(key) if key.kind != KeyEventKind::Release => app.key(key),
                // The next draw takes the new size.
                _ => Act::Show,
            },
            Some(news) = news.recv() => {
                match news {
                    News::Sample(sample) => app.take(sample),
                    News::History(split, changes) => app.told(&split, changes),
                    News::Sent(result) => app.sent(result.map(|split| *split)),
                }
                Act::Show
            }
        };
        match act {
            Act::Show => {}
            Act::Quit => return Ok(()),
            Act::Send(proposal) => {
                work.spawn(send(client.clone(), proposal, tell.clone()));
            }
            Act::AskHistory(split) => {
                work.spawn(ask_history(client.clone(), split, tell.clone()));
            }
        }
    }
}

/// Samples again and again. Nobody listens at the end.
async fn sample(mut sampler: Sampler, interval: Duration, tell: mpsc::Sender<News>) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = sampler.sample().await.map_err(|error| error.to_string());
        if tell.send(News::Sample(sample)).await.is_err() {
            return;
        }
    }
}

async fn send(client: Client, proposal: Proposal, tell: mpsc::Sender<News>) {
    let result = match proposal.aim {
        Aim::Shift(..) => client.set_weights(&proposal.split, &proposal.request()).await,
        Aim::Undo => client.rollback(&proposal.split, &proposal.rollback()).await,
    };
    let _ = tell.send(News::Sent(result.map(Box::new).map_err(|error| error.to_string()))).await;
}

async fn ask_history(client: Client, split: String, tell: mpsc::Sender<News>) {
    let changes = client.history(&split).await.map_err(|error| error.to_string());
    let _ = tell.send(News::History(split, changes)).await;
}
