//! Plans of splits, and what becomes of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{endpoints, names};
use crate::model::{
    Affinity, Family, Name, ServiceAddress, Split, SplitError, SplitSettings, Subset,
    derived_subset,
};
use crate::resource::Labels;
use crate::resource::core::{Port, Service};
use crate::resource::document::Document;
use crate::resource::identity::Id;
use crate::resource::outcome::{Condition, WeightField};
use crate::resource::set::View;
use crate::source::{FieldPath, Problem};

/// What a unit resolves to.
#[derive(Debug, Clone, Default)]
pub(in crate::resource) struct Outcome {
    pub splits: Vec<Planned>,
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
    pub conditions: Vec<Condition>,
}

/// A split, or one that cannot be.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Planned {
    pub name: Name,
    /// Claimed, even by one that cannot be: what else would get its connections?
    pub address: ServiceAddress,
    /// None if what is wrong with it is among the problems.
    pub split: Option<Arc<Split>>,
    pub rank: Rank,
    /// What is to be said if it is the one that has its address.
    pub notes: Vec<Problem>,
    /// The documents that it is made of.
    pub sources: BTreeSet<Id>,
    /// Where its name and address are.
    pub document: Id,
    pub address_at: FieldPath,
    /// Where the weights of its subsets are written, if somebody asks; see [`View`].
    pub weights: Vec<WeightField>,
}

/// Who has a service address that several want: the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::resource) enum Rank {
    Written,
    Gateway,
    Routed,
    /// Balanced over all endpoints, for want of a route.
    Plain,
}

/// How connections are divided, whatever the address family.
pub(super) struct Plan<'a> {
    pub shares: Vec<Share<'a>>,
    pub affinity: Affinity,
    /// How long live flows keep an endpoint that was removed; None for the default.
    pub drain_seconds: Option<u64>,
    pub rank: Rank,
    /// The documents that say so.
    pub sources: BTreeSet<Id>,
}

/// A subset to be.
pub(super) struct Share<'a> {
    /// Candidates, see [`names::subsets`].
    pub names: Vec<String>,
    pub weight: u32,
    /// Where its connections go; None rejects them, unless endpoints are written.
    pub target: Option<Target<'a>>,
    /// The endpoints that are written beside it, of both families.
    pub written: Option<&'a BTreeSet<SocketAddr>>,
    /// Where it is written.
    pub document: &'a Document,
    pub at: FieldPath,
    /// Where its weight is; None if nobody wrote one.
    pub weight_at: Option<FieldPath>,
}

/// The endpoints of a service's port that have the labels.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub document: &'a Document,
    pub service: &'a Service,
    pub port: &'a Port,
    pub labels: Option<&'a Labels>,
}

/// The one subset of a split that rejects everything.
pub(super) const NONE: &str = "none";

impl<'a> Share<'a> {
    /// One that rejects everything.
    pub(super) fn reject(document: &'a Document, at: FieldPath) -> Self {
        Self {
            names: vec![NONE.to_owned()],
            weight: 1,
            target: None,
            written: None,
            document,
            at,
            weight_at: None,
        }
    }
}

/// The candidates for the name of a share that goes to a service, or a subset of it.
pub(super) fn share_names(subset: Option<&Name>, target: &Target<'_>) -> Vec<String> {
    let (host, port) = (&target.service.host, target.port.number);
    match subset {
        Some(subset) => vec![
            subset.to_string(),
            format!("{subset}.{}", host.service()),
            format!("{subset}.{}", host.short()),
            format!("{subset}.{}.{port}", host.short()),
        ],
        None => vec![
            host.service().to_owned(),
            host.short().to_owned(),
            format!("{}.{port}", host.short()),
        ],
    }
}

/// Names of what is addressed.
pub(super) struct Addressed<'a> {
    pub document: &'a Document,
    /// The splits' name, but for the suffixes of addresses.
    pub base: String,
    pub addresses: Vec<(std::net::IpAddr, FieldPath)>,
    pub port: u16,
    pub protocol: crate::model::Protocol,
}

/// Adds the splits of all addresses.
pub(super) fn realise(
    view: &View<'_>,
    out: &mut Outcome,
    addressed: &Addressed<'_>,
    plan: Result<&Plan<'_>, Rank>,
) {
    let ips: Vec<_> = addressed.addresses.iter().map(|(ip, _)| *ip).collect();
    for (index, (ip, at)) in addressed.addresses.iter().enumerate() {
        let name = match names::split(&addressed.base, &ips, index) {
            Ok(name) => name,
            Err(error) => {
                let message = format!("the name of its split would be wrong: {error}");
                let at = crate::resource::document::name();
                out.problems.push(addressed.document.problem(&at, &message));
                return;
            }
        };
        let address =
            ServiceAddress { ip: *ip, port: addressed.port, protocol: addressed.protocol };
        let mut planned = Planned {
            name: name.clone(),
            address,
            split: None,
            rank: plan.map_or_else(|rank| rank, |plan| plan.rank),
            notes: Vec::new(),
            sources: BTreeSet::from([addressed.document.id.clone()]),
            document: addressed.document.id.clone(),
            address_at: at.clone(),
            weights: Vec::new(),
        };
        if let Ok(plan) = plan {
            planned.sources.extend(plan.sources.iter().cloned());
            match split(view, &mut planned, plan) {
                Ok(split) => planned.split = Some(Arc::new(split)),
                Err((place, message)) => {
                    let own = || (addressed.document, crate::resource::document::name());
                    let (document, at) = place.unwrap_or_else(own);
                    let message = format!("split \"{name}\": {message}");
                    out.problems.push(document.problem(&at, &message));
                }
            }
        }
        out.splits.push(planned);
    }
}

/// What is wrong, and where if it is not the document that is addressed.
type Failure<'a> = (Option<(&'a Document, FieldPath)>, String);

fn split<'a>(
    view: &View<'a>,
    planned: &mut Planned,
    plan: &Plan<'a>,
) -> Result<Split, Failure<'a>> {
    let family = Family::of(planned.address.ip);
    let shares = distinct(&plan.shares);
    let candidates: Vec<&[String]> = shares.iter().map(|(share, _)| &*share.names).collect();
    let place = |share: &Share<'a>| Some((share.document, share.at.clone()));
    let targets: Vec<_> = shares.iter().map(|(share, _)| share.target).collect();
    planned.sources.extend(targets.iter().flatten().map(|target| target.document.id.clone()));
    let endpoints = endpoints::of(view, &targets, family, &mut planned.sources);
    let written = shares.iter().map(|(share, _)| share.written);
    let endpoints = endpoints.into_iter().zip(written).map(|(found, written)| match written {
        Some(all) => all.iter().filter(|one| Family::of(one.ip()) == family).copied().collect(),
        None => found,
    });
    let named = names::subsets(&candidates).into_iter().zip(endpoints);
    let mut subsets: Vec<Subset> = Vec::new();
    for (&(share, weight), (name, endpoints)) in shares.iter().zip(named) {
        let fail = |error: &dyn std::error::Error| (place(share), error.to_string());
        let name = Name::new(derived_subset(&name)).map_err(|error| fail(&error))?;
        let weight = u32::try_from(weight).map_err(|error| fail(&error))?;
        // Of what is written without any, nobody expects one.
        let expects = share.target.is_some() || share.written.is_some_and(|all| !all.is_empty());
        if endpoints.is_empty() && weight > 0 && expects {
            let message = format!(
                "subset \"{name}\" of split \"{}\" has no {family} endpoint: its share is rejected",
                planned.name
            );
            planned.notes.push(share.document.problem(&share.at, &message));
        }
        subsets.push(Subset { name, weight, endpoints });
    }
    if view.tells_weights {
        planned.weights = weight_fields(plan, &shares, &subsets);
    }
    let mut settings = SplitSettings::from(plan.affinity);
    settings.drain_seconds = plan.drain_seconds.unwrap_or(settings.drain_seconds);
    let made = Split::new(planned.name.clone(), planned.address, settings, subsets);
    made.map_err(|error| {
        let of = match &error {
            SplitError::MixedFamilies { subset, .. } | SplitError::SelfReference { subset, .. } => {
                shares.get(*subset)
            }
            _ => shares.first(),
        };
        (of.and_then(|(share, _)| place(share)), error.to_string())
    })
}

/// Where the weights of subsets are written, each of which came of one or several shares.
fn weight_fields(
    plan: &Plan<'_>,
    distinct: &[(&Share<'_>, u64)],
    subsets: &[Subset],
) -> Vec<WeightField> {
    let mut found = Vec::new();
    for ((first, _), subset) in distinct.iter().zip(subsets) {
        for share in plan.shares.iter().filter(|share| share.names == first.names) {
            let Some(field) = share.weight_at.clone() else { continue };
            let (subset, document) = (subset.name.clone(), share.document.id.clone());
            found.push(WeightField { subset, document, field });
        }
    }
    found
}

/// The shares; those of the same endpoints, which are named alike, with the sum of their weights.
fn distinct<'s, 'a>(shares: &'s [Share<'a>]) -> Vec<(&'s Share<'a>, u64)> {
    let mut found: Vec<(&Share<'_>, u64)> = Vec::new();
    for share in shares {
        let weight = u64::from(share.weight);
        match found.iter_mut().find(|(other, _)| other.names == share.names) {
            Some((_, sum)) => *sum += weight,
            None => found.push((share, weight)),
        }
    }
    found
}
