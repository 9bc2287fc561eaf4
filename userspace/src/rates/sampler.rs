//! Samples of the agent's counters, one after another.

use super::{Sample, rates};
use crate::api::types::{StatsQuery, StatsView};
use crate::api::{Client, ClientError};

/// Asks the agent again and again.
#[derive(Debug)]
pub struct Sampler {
    client: Client,
    query: StatsQuery,
    before: Option<StatsView>,
}

impl Sampler {
    /// Of all splits, or of one.
    pub fn new(client: Client, split: Option<String>) -> Self {
        let query = StatsQuery { split, ..StatsQuery::default() };
        Self { client, query, before: None }
    }

    /// What happened since the last sample; the first one has no rates.
    pub async fn sample(&mut self) -> Result<Sample, ClientError> {
        let now = self.client.stats(&self.query).await?;
        let sample = rates(self.before.as_ref(), &now);
        self.before = Some(now);
        Ok(sample)
    }
}
