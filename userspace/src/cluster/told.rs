//! What the tasks of a follower tell the one that puts it together.

use super::discovery::Discovery;
use super::object::{Key, Object};
use super::served::What;

/// What is told.
pub(super) enum Told {
    /// The server answers, and is of the cluster of this identity, if it says so.
    Reached(Option<String>),
    /// What it serves.
    Discovered(Discovery),
    /// Something of one kind, by the task of this number.
    Of(What, u64, News),
}

/// Events about one kind.
pub(super) enum News {
    /// All there is follows, in pages.
    Listing,
    /// Some of it.
    Page(Vec<Object>),
    /// That was all, at this version; what was not among it is not there any more.
    Listed(String),
    /// What changed since what was told last follows.
    Resumed,
    /// This is there now.
    Put(Object),
    /// This is not there any more, since this version.
    Deleted(Key, String),
    /// Nothing else has happened up to this version.
    At(String),
    /// There is no answer for now.
    Waiting,
    /// The answer is an error that may stay.
    Failing,
    /// There is no such kind, or not any more.
    Missing,
}
