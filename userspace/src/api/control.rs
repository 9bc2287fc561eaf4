//! What the API needs of an agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use super::types::{
    ApplyView, ChangeView, DocumentView, ExplainRequest, ExplainView, FlowQuery, FlowView,
    SplitView, StatsQuery, StatsView, StatusView,
};
use crate::desired::{Author, DrainGuard, Guard, PersistedState, Rejection};
use crate::model::{self, Key, Name, Split, SplitSet};
use crate::resource::Declarations;

/// Why the agent does not do what it was asked for. Each has a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What was asked for makes no sense (status 400).
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing (status 404).
    #[error("{0}")]
    NotFound(String),
    /// It makes sense, but not in the agent's present state (status 409).
    #[error("{0}")]
    Conflict(String),
    /// The agent tried and failed (status 500).
    #[error("{0}")]
    Internal(String),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::Problems(_) | Rejection::Invalid(_) => Self::Invalid(message),
            Rejection::NotFound(_) => Self::NotFound(message),
            Rejection::Conflict(_) => Self::Conflict(message),
        }
    }
}

/// The last changes of a split's weights, oldest first.
pub fn history(
    desired: &SplitSet,
    persisted: &PersistedState,
    split: &str,
) -> Result<Vec<ChangeView>, Failure> {
    let changes: Vec<ChangeView> = persisted.changes(split).map(ChangeView::from).collect();
    if changes.is_empty() {
        let (gone, there) = (persisted.splits(), desired.splits().map(Split::name));
        let hint = model::hint(split, gone.chain(there).map(Name::as_str));
        return Err(Failure::NotFound(format!("there was no split \"{split}\"{hint}")));
    }
    Ok(changes)
}

/// Flows, some at a time. Nothing is read from the flow tables while nobody asks for the next.
pub type FlowStream = BoxStream<'static, Result<Vec<FlowView>, Failure>>;

/// What the API can do to an agent. A method that changes something returns
/// when the change is in force and would survive a power cut.
pub trait Control: Send + Sync + 'static {
    /// All splits, by name.
    fn splits(&self) -> impl Future<Output = Result<Vec<SplitView>, Failure>> + Send;

    /// The split of that name.
    fn split(&self, name: String) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// The documents of files and those that were applied, by kind, namespace and name.
    fn documents(&self) -> impl Future<Output = Result<Vec<DocumentView>, Failure>> + Send;

    /// Applies documents, all or none; with `dry_run` only says what that
    /// would do. See [`crate::desired::DesiredState::apply`].
    fn apply(
        &self,
        documents: Declarations,
        dry_run: bool,
        author: Author,
    ) -> impl Future<Output = Result<ApplyView, Failure>> + Send;

    /// Deletes applied objects, all or none; with `dry_run` only says what that
    /// would do. See [`crate::desired::DesiredState::delete`].
    fn delete(
        &self,
        objects: Vec<Key>,
        dry_run: bool,
        author: Author,
    ) -> impl Future<Output = Result<ApplyView, Failure>> + Send;

    /// Overrides weights of a split, and returns it as it is then. See
    /// [`crate::desired::DesiredState::set_weights`].
    fn set_weights(
        &self,
        name: String,
        weights: BTreeMap<Name, u32>,
        guard: Guard,
        author: Author,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// Ends the override of a split's weights, and returns it as it is then.
    /// See [`crate::desired::DesiredState::reset`].
    fn reset_weights(
        &self,
        name: String,
        guard: Guard,
        author: Author,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// Goes back to weights of before, and returns the split as it is then.
    /// See [`crate::desired::DesiredState::rollback`].
    fn rollback(
        &self,
        name: String,
        to: Option<u64>,
        guard: Guard,
        author: Author,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// Takes an endpoint out of a split, and returns that as it is then. See
    /// [`crate::desired::DesiredState::drain`].
    fn drain(
        &self,
        name: String,
        endpoint: String,
        guard: DrainGuard,
        author: Author,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// Puts an endpoint back, and returns the split as it is then. See
    /// [`crate::desired::DesiredState::undrain`].
    fn undrain(
        &self,
        name: String,
        endpoint: String,
        author: Author,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;

    /// The last changes of a split's weights, oldest first. There may be some
    /// of a split that is gone.
    fn history(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Vec<ChangeView>, Failure>> + Send;

    /// Where a new flow would go.
    fn explain(
        &self,
        request: ExplainRequest,
    ) -> impl Future<Output = Result<ExplainView, Failure>> + Send;

    /// The flows in the flow tables.
    fn flows(
        self: Arc<Self>,
        query: FlowQuery,
    ) -> impl Future<Output = Result<FlowStream, Failure>> + Send;

    /// What the programs have counted, of all splits or of one.
    fn stats(
        self: Arc<Self>,
        query: StatsQuery,
    ) -> impl Future<Output = Result<StatsView, Failure>> + Send;

    /// Has the agent take weir out of the kernel, and be idle from then on; returns before that.
    fn unload(&self, author: Author) -> impl Future<Output = Result<(), Failure>> + Send;

    /// How the agent is.
    fn status(&self) -> impl Future<Output = Result<StatusView, Failure>> + Send;
}
