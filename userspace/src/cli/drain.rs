//! `weir drain` and `weir undrain`: endpoints that get no new flows, and what still goes to them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

use super::answers::{Answer, because};
use super::args::{DrainArgs, UndrainArgs};
use super::{EXIT_DONE, render, show};
use crate::api::Client;
use crate::api::types::{
    DrainRequest, DrainedView, DrainingView, FlowQuery, FlowState, Party, SplitView, UndrainRequest,
};
use crate::model::counted;

/// How often it is looked whether flows are left.
const PAUSE: Duration = Duration::from_secs(1);
/// Of how many endpoints that drain flows are listed: the agent reads a whole table for each.
const MOST: usize = 4;

/// Live flows of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub flows: usize,
    /// The age of the oldest, in seconds.
    pub oldest: u64,
}

impl Live {
    fn text(self) -> String {
        match self.flows {
            0 => "no live flow".to_owned(),
            flows => {
                let age = humantime::format_duration(Duration::from_secs(self.oldest));
                format!("{}, the oldest of {age} ago", counted(flows, "live flow"))
            }
        }
    }
}

/// The live flows of an endpoint, now.
async fn live(client: &Client, split: &str, endpoint: SocketAddr) -> Result<Live> {
    let party = Party { ip: endpoint.ip(), port: Some(endpoint.port()) };
    let query =
        FlowQuery { split: Some(split.to_owned()), endpoint: Some(party), ..FlowQuery::default() };
    let mut flows = client.flows(&query).await?;
    let mut live = Live::default();
    while let Some(some) = flows.next().await? {
        let is_live = |state| {
            matches!(state, FlowState::Pending | FlowState::Established | FlowState::Closing)
        };
        for flow in some.iter().filter(|flow| is_live(flow.state)) {
            live.flows += 1;
            live.oldest = live.oldest.max(flow.age_seconds);
        }
    }
    Ok(live)
}

/// What still goes to the endpoints of a split that drain, a line for each.
pub(super) async fn left(client: &Client, split: &SplitView) -> String {
    let mut text = String::new();
    for DrainingView { address, seconds_left, .. } in split.draining.iter().take(MOST) {
        // Of one that is forgotten by now there is nothing to say.
        let Ok(live) = live(client, &split.name, *address).await else { continue };
        let end = humantime::format_duration(Duration::from_secs(*seconds_left));
        text.push_str(&format!("{address}: {}; its drain time ends in {end}\n", live.text()));
    }
    text
}

fn drained<'a>(split: &'a SplitView, typed: &str) -> Option<&'a DrainedView> {
    let of = |drained: &&DrainedView| {
        let address = drained.address;
        address.to_string() == typed
            || address.ip().to_string() == typed.trim_matches(['[', ']'])
            || typed.parse() == Ok(address)
    };
    split.origin.drained.iter().find(of)
}

/// `weir drain`.
pub(super) async fn drain(client: &Client, args: DrainArgs) -> Result<Answer> {
    let DrainArgs { name, endpoint, force, this_node, wait, timeout, reason, output } = args;
    let request = DrainRequest { endpoint: endpoint.clone(), force, this_node };
    let after = because(client, reason.as_deref()).drain(&name, &request).await?;
    let Some(DrainedView { address, .. }) = drained(&after, &endpoint) else {
        bail!("the agent does not say that {endpoint} is out of split \"{name}\"");
    };
    let address = *address;
    let ending = if wait { Some(await_end(client, &name, address, timeout).await?) } else { None };
    let after = if wait { client.split(&name).await? } else { after };
    let text = show(output, &after, |split| {
        let ending = ending.map(|ending| format!("{address}: {ending}\n")).unwrap_or_default();
        format!("{}\n{ending}undo: weir undrain {name} {address}\n", render::split(split))
    })?;
    Ok((text, EXIT_DONE))
}

/// Waits until an endpoint has no live flow any more, or its drain time is over; which of them.
async fn await_end(
    client: &Client,
    split: &str,
    endpoint: SocketAddr,
    timeout: Option<Duration>,
) -> Result<&'static str> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let view = client.split(split).await?;
        if !view.draining.iter().any(|draining| draining.address == endpoint) {
            return Ok("its drain time is over, packets of flows that are left are rejected");
        }
        let live = live(client, split, endpoint).await?;
        if live.flows == 0 {
            return Ok("no live flow is left");
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            bail!("{endpoint} has {}; it goes on draining", live.text());
        }
        sleep(PAUSE).await;
    }
}

/// `weir undrain`.
pub(super) async fn undrain(client: &Client, args: UndrainArgs) -> Result<Answer> {
    let UndrainArgs { name, endpoint, reason, output } = args;
    let request = UndrainRequest { endpoint };
    let after = because(client, reason.as_deref()).undrain(&name, &request).await?;
    Ok((show(output, &after, render::split)?, EXIT_DONE))
}
