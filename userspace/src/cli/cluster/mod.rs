//! Commands about a cluster: they look at its objects as agents do, and change the one that
//! divides a split, for all nodes.

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};

use super::answers::Answer;
use super::args::{
    ClusterArgs, Expected, ExplainArgs, GetArgs, HistoryArgs, Output, Resource, RollbackArgs,
    WeightsArgs,
};
use super::shifted::{self, Shifted};
use super::{EXIT_DONE, amounts, render, show};
use crate::api::types::{CandidateView, ChangeView, ExplainView, SplitView};
use crate::cluster::{Edit, Failure, Note, Picture, Record, Scope, Session, edit};
use crate::desired::Time;
use crate::explain;
use crate::model::{Name, Split};

/// How often a change is tried when the object changes meanwhile, though its weights do not: its
/// status may.
const ATTEMPTS: usize = 4;

/// A cluster that was reached, and where names without a namespace are.
struct Reached {
    session: Session,
    scope: Scope,
    namespace: String,
}

impl Reached {
    async fn open(args: &ClusterArgs, name: &str, endpoints: bool) -> Result<Self> {
        let session = Session::open(args.account()).await.map_err(anyhow::Error::msg)?;
        let namespace = args.namespace.clone().unwrap_or_else(|| session.namespace().to_owned());
        // Any part of a split's name may be its namespace.
        let mut namespaces: BTreeSet<String> = name.split('.').skip(1).map(str::to_owned).collect();
        namespaces.insert(namespace.clone());
        Ok(Self { session, scope: Scope { namespaces, endpoints }, namespace })
    }

    async fn picture(&self) -> Result<Picture> {
        let picture = self.session.picture(&self.scope).await;
        picture.map_err(|failure| anyhow!("the API server: {failure}"))
    }
}

fn find<'a>(picture: &'a Picture, reached: &Reached, name: &str) -> Result<&'a Split> {
    picture.split(name, &reached.namespace).map_err(anyhow::Error::msg)
}

/// What a change is to be, of a split as it is now.
type Wanted<'a> = dyn Fn(&Picture, &Split, &SplitView) -> Result<BTreeMap<String, u32>> + 'a;

/// What is common to changes.
struct Change<'a> {
    name: &'a str,
    args: &'a ClusterArgs,
    expected: &'a Expected,
    cause: &'static str,
    reason: Option<String>,
    dry_run: bool,
}

/// What became of a change.
struct Changed {
    before: SplitView,
    after: SplitView,
    /// None if there was nothing to change.
    edit: Option<Edit>,
    /// Who may take it back.
    controllers: Vec<String>,
}

impl Change<'_> {
    /// Makes it happen, unless somebody was faster.
    async fn make(self, wanted: &Wanted<'_>) -> Result<Changed> {
        let reached = Reached::open(self.args, self.name, false).await?;
        let by = reached.session.who().await;
        let mut attempt = 1;
        let mut first = None;
        loop {
            let picture = reached.picture().await?;
            let split = find(&picture, &reached, self.name)?;
            let before = view::split(&picture, split);
            let generation = before.origin.version;
            if *first.get_or_insert(generation) != generation {
                bail!("somebody was faster: {}", view::now(&before));
            }
            shifted::expected(&before, self.expected)?;
            let weights = wanted(&picture, split, &before)?;
            let note = Note {
                cause: self.cause,
                by: by.clone(),
                reason: self.reason.clone(),
                time: Time::from(SystemTime::now()),
            };
            let controllers = picture.controllers(split.name());
            let Some(edit) = edit(&picture, split, &weights, note).map_err(anyhow::Error::msg)?
            else {
                return Ok(Changed { after: before.clone(), before, edit: None, controllers });
            };
            match reached.session.write(&edit, self.dry_run).await {
                Ok(()) => {
                    let mut after = shifted::proposed(&before, &view::weights(&edit.after))?;
                    after.origin.version = generation + u64::from(!self.dry_run);
                    return Ok(Changed { before, after, edit: Some(edit), controllers });
                }
                Err(Failure::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(Failure::Conflict(_)) => {
                    bail!("{} changes all the time: try again", edit.object)
                }
                Err(failure) => bail!("{}: {failure}", edit.object),
            }
        }
    }
}

fn told(
    args: &ClusterArgs,
    output: Output,
    dry_run: bool,
    typed: Vec<(String, amounts::Amount)>,
    changed: Changed,
) -> Result<Answer> {
    let Changed { before, after, edit, controllers } = changed;
    let (name, generation) = (after.name.clone(), after.origin.version);
    let undo = edit.as_ref().filter(|_| !dry_run).map(|_| {
        let what = format!("rollback {name} --expect-version {generation}");
        format!("undo: {}", args.command(&what))
    });
    let text = show(output, &view::view(&after, edit.as_ref()), |view| {
        let flags = args.command("").split_off(if args.by_kubectl { 12 } else { 5 });
        let shifted = Shifted { before, after, typed, dry_run, flags };
        let table =
            if dry_run { String::new() } else { view::table(std::slice::from_ref(view)) + "\n" };
        let mut notes = Vec::new();
        if let Some(edit) = &edit {
            let verb = if dry_run { "would change" } else { "changed" };
            notes.push(format!("{verb} {}; all nodes follow", edit.object));
            if !edit.also.is_empty() {
                let also: Vec<&str> = edit.also.iter().map(Name::as_str).collect();
                notes.push(format!("the same fields divide {}", also.join(", ")));
            }
            if !controllers.is_empty() {
                notes.push(format!(
                    "note: {} writes this object, too, and may take this back",
                    controllers.join(", ")
                ));
            }
        }
        shifted.text_with(&table, notes.into_iter().chain(undo).collect())
    })?;
    Ok((text, EXIT_DONE))
}

/// `weir weights`.
pub(super) async fn weights(args: WeightsArgs) -> Result<Answer> {
    let WeightsArgs { name, weights: typed, dry_run, reason, expected, cluster, output, .. } = args;
    let change = Change {
        name: &name,
        args: &cluster,
        expected: &expected,
        cause: "weights",
        reason,
        dry_run,
    };
    let changed = change.make(&|_, _, before| amounts::resolve(&typed, before)).await?;
    told(&cluster, output, dry_run, typed, changed)
}

/// `weir rollback`.
pub(super) async fn rollback(args: RollbackArgs) -> Result<Answer> {
    let RollbackArgs { name, to, reason, expected, cluster, output, .. } = args;
    let change = Change {
        name: &name,
        args: &cluster,
        expected: &expected,
        cause: "rollback",
        reason,
        dry_run: false,
    };
    let changed =
        change.make(&|picture, split, _| before(&picture.records(split), split, to)).await?;
    told(&cluster, output, false, Vec::new(), changed)
}

/// The weights to go back to.
fn before(records: &[Record], split: &Split, to: Option<u64>) -> Result<BTreeMap<String, u32>> {
    let name = split.name();
    let weights = match to {
        None => records.last().map(|last| last.from.clone()).filter(|from| !from.is_empty()),
        Some(generation) => {
            let record = records.iter().find(|record| record.generation == generation);
            let known: Vec<String> = records.iter().map(|r| r.generation.to_string()).collect();
            let none = || {
                anyhow!(
                    "no weights of version {generation} are known of split \"{name}\", only of {}",
                    known.join(", ")
                )
            };
            Some(record.ok_or_else(none)?.to.clone())
        }
    };
    let weights = weights.ok_or_else(|| {
        anyhow!(
            "the weights before are not known: they are kept of changes by weir alone, and the last \
             one of split \"{name}\" was none; say which you want, by `weir weights`"
        )
    })?;
    let now: BTreeSet<&str> = split.subsets().iter().map(|subset| subset.name.as_str()).collect();
    if !weights.keys().map(String::as_str).eq(now.iter().copied()) {
        bail!(
            "split \"{name}\" has other subsets now: it has {}, and had {}",
            now.into_iter().collect::<Vec<_>>().join(" "),
            render::weights(&weights)
        );
    }
    Ok(weights)
}

/// `weir history`.
pub(super) async fn history(args: HistoryArgs) -> Result<Answer> {
    let HistoryArgs { name, cluster, output } = args;
    let reached = Reached::open(&cluster, &name, false).await?;
    let picture = reached.picture().await?;
    let split = find(&picture, &reached, &name)?;
    let change = |record: Record| ChangeView {
        version: record.generation,
        time: record.time,
        cause: record.cause,
        by: record.by,
        reason: record.reason,
        endpoint: None,
        from: record.from,
        to: record.to,
        ended: None,
    };
    let changes: Vec<ChangeView> = picture.records(split).into_iter().map(change).collect();
    let text = show(output, &changes, |changes| render::history(changes))?;
    Ok((text, EXIT_DONE))
}

/// `weir get`.
pub(super) async fn get(args: GetArgs) -> Result<Answer> {
    let GetArgs { resource, name, cluster, output } = args;
    let (name, cluster, output) = match resource {
        None => (name, cluster, output),
        Some(Resource::Splits { name, cluster, output }) => (name, cluster, output),
        Some(_) => bail!("a cluster has no list of that: use kubectl"),
    };
    let reached = Reached::open(&cluster, name.as_deref().unwrap_or_default(), true).await?;
    let picture = reached.picture().await?;
    let splits: Vec<&Split> = match &name {
        Some(name) => vec![find(&picture, &reached, name)?],
        None => {
            let all = picture.desired_state().split_set().splits();
            // What nothing divides is kube-proxy's.
            all.filter(|split| picture.is_divided(split.name())).collect()
        }
    };
    let views: Vec<view::ClusterSplitView> =
        splits.into_iter().map(|split| view::whole(&view::split(&picture, split))).collect();
    let text = match (&name, views.first()) {
        (Some(_), Some(view)) => {
            show(output, view, |view| view::table(std::slice::from_ref(view)))?
        }
        _ => show(output, &views, |views| view::table(views))?,
    };
    Ok((text, EXIT_DONE))
}

/// `weir explain`.
pub(super) async fn explain(args: ExplainArgs) -> Result<Answer> {
    let ExplainArgs { from, to, protocol, hash_seed, cluster, output } = args;
    let Some(seed) = hash_seed else {
        bail!(
            "agents choose by their hashSeed, which is in their configuration and not in the \
             cluster's objects: expected --hash-seed, 0 if none is configured"
        );
    };
    let reached = Reached::open(&cluster, "", true).await?;
    let picture = reached.picture().await?;
    let mut splits = picture.desired_state().split_set().splits();
    let is_there = |split: &&Split| {
        split.address().socket() == to && split.address().protocol == protocol.into()
    };
    let split =
        splits.find(is_there).ok_or_else(|| anyhow!("{to}/{protocol} is no split's address"))?;
    let found = explain::explain(seed, split, from)
        .ok_or_else(|| anyhow!("{from} and {to} differ in family"))?;
    let candidates = split.subsets().iter().zip(&found.draws).map(|(subset, &draw)| {
        let chosen = subset.name == found.subset.name;
        CandidateView::new(subset.name.as_str(), subset.weight, draw, chosen)
    });
    let explained = ExplainView {
        split: split.name().to_string(),
        subset: found.subset.name.to_string(),
        endpoint: found.endpoint,
        hash: ExplainView::hash_text(found.hash),
        candidates: candidates.collect(),
        note: Some(
            "as the cluster's objects are now: a node may be behind, or have an override"
                .to_owned(),
        ),
    };
    Ok((show(output, &explained, render::explain)?, EXIT_DONE))
}

#[cfg(test)]
mod tests;
