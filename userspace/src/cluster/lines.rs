//! The body of an answer: whole, or line by line as it comes.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::timeout;

use super::failure::{Failure, chain};
use super::health::Health;

/// More than any object has: etcd takes 1.5 MB.
const LONGEST_LINE: usize = 16 << 20;
/// More than any page of a list has.
const LONGEST_PAGE: usize = 512 << 20;
/// What a buffer keeps for the next lines after a long one.
const KEPT: usize = 64 << 10;

/// A body that comes in parts.
pub(super) struct Lines<'a> {
    body: Body,
    health: &'a Health,
    /// What has come and was not given yet, from `given` on.
    buffer: Vec<u8>,
    given: usize,
    /// Up to where there is no end of a line.
    searched: usize,
}

impl<'a> Lines<'a> {
    pub fn new(body: Body, health: &'a Health) -> Self {
        Self { body, health, buffer: Vec::new(), given: 0, searched: 0 }
    }

    /// The next line, without its end; `None` after the last one. If this is dropped, nothing is
    /// lost.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or a line is longer than any object.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let (from, to) = (self.given, self.searched + at);
                self.given = to + 1;
                self.searched = self.given;
                return Ok(Some(&self.buffer[from..to]));
            }
            self.buffer.drain(..self.given);
            self.given = 0;
            self.searched = self.buffer.len();
            if self.buffer.is_empty() {
                self.buffer.shrink_to(KEPT);
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Failure::Rejected("an event that is longer than any object".into()));
            }
            match frame(&mut self.body, self.health).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                // A line without an end is one that was cut off.
                None => return Ok(None),
            }
        }
    }
}

/// All of a body; each of its parts within that time.
///
/// # Errors
///
/// If the connection breaks or falls silent, or the body is longer than `most`.
pub(super) async fn whole(
    mut body: Body,
    (each, most): (Duration, usize),
    health: &Health,
) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    let silent = |_| Failure::Unreachable(format!("silent for {} s", each.as_secs()));
    while let Some(data) = timeout(each, frame(&mut body, health)).await.map_err(silent)?? {
        all.extend_from_slice(&data);
        if all.len() > most.min(LONGEST_PAGE) {
            return Err(Failure::Rejected("an answer that is longer than expected".into()));
        }
    }
    Ok(all)
}

async fn frame(body: &mut Body, health: &Health) -> Result<Option<hyper::body::Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(chain(&error)))?;
        if let Ok(data) = frame.into_data() {
            health.received(data.len());
            return Ok(Some(data));
        }
    }
    Ok(None)
}
