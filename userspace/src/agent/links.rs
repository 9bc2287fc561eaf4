//! Follows the network interfaces for as long as the agent runs: a watch that
//! fails is begun anew, with a list of what is there by then.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::state::State;
use super::troubles::Work;
use crate::interfaces::Watch;

/// Follows until it is dropped. `tried` is notified when the interfaces have been
/// listed, or could not be.
pub(super) async fn follow(state: Arc<State>, tried: Arc<Notify>) {
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = watch(&state, &tried, &mut backoff).await;
        state.troubles.note(Work::Interfaces, Some(format!("{error:#}")));
        tried.notify_one();
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn watch(
    state: &State,
    tried: &Notify,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible> {
    let mut watch = Watch::start().context("cannot ask for them")?;
    state.list_interfaces(watch.listed().await.context("cannot list them")?);
    state.troubles.note(Work::Interfaces, None);
    backoff.reset();
    tried.notify_one();
    while let Some(event) = watch.next().await {
        state.follow(event?);
    }
    bail!("there are no more events")
}
