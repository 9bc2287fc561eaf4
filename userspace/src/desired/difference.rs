//! What differs between two desired states.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::movement::{between_endpoints, between_subsets, redrawn_endpoints};
use crate::model::{Affinity, Name, ServiceAddress, Split, SplitSet, Subset, total_weight};

/// What differs between two desired states.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// Splits that only the second has.
    pub added: Vec<Name>,
    /// Splits that only the first has.
    pub removed: Vec<Name>,
    /// Splits that are not the same in both.
    pub changed: Vec<SplitDifference>,
    /// The number of those that are.
    pub unchanged: usize,
}

/// What differs between two splits of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitDifference {
    /// Their name.
    pub name: Name,
    /// Both service addresses, if they differ.
    pub address: Option<(ServiceAddress, ServiceAddress)>,
    /// Both affinities, if they differ.
    pub affinity: Option<(Affinity, Affinity)>,
    /// Both drain times, if they differ.
    pub drain: Option<(Duration, Duration)>,
    /// All subsets of either: those of the first in their order, then the others.
    pub subsets: Vec<SubsetDifference>,
    /// Which parts of new flows go to another subset; none if the address differs.
    pub moves: Vec<Move>,
    /// The part of new flows, 0 to 1, that go to another subset or endpoint;
    /// all if the address differs.
    pub moved: f64,
}

/// What differs between two subsets of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetDifference {
    /// Their name.
    pub name: Name,
    /// The weights; None if there is no such subset.
    pub weights: (Option<u32>, Option<u32>),
    /// The shares of new flows, 0 to 1.
    pub shares: (f64, f64),
    /// Endpoints that only the second has.
    pub added: Vec<SocketAddr>,
    /// Endpoints that only the first has.
    pub removed: Vec<SocketAddr>,
    /// The part of the flows which stay in the subset that go to another
    /// endpoint, 0 to 1.
    pub moved: f64,
}

/// A part of new flows that goes to another subset.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The subset that loses it.
    pub from: Name,
    /// The subset that gets it.
    pub to: Name,
    /// How much of all new flows, 0 to 1.
    pub share: f64,
}

impl Difference {
    /// What differs between all splits of two states.
    pub fn between(before: &SplitSet, after: &SplitSet) -> Self {
        let names = before.splits().chain(after.splits()).map(Split::name);
        let names: BTreeSet<&Name> = names.collect();
        let mut difference = Self::default();
        for name in names {
            difference.add(before.get(name.as_str()), after.get(name.as_str()));
        }
        difference
    }

    /// Adds what differs between two splits of one name.
    pub fn add(&mut self, before: Option<&Split>, after: Option<&Split>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(added)) => self.added.push(added.name().clone()),
            (Some(removed), None) => self.removed.push(removed.name().clone()),
            (Some(before), Some(after)) if std::ptr::eq(before, after) || before == after => {
                self.unchanged += 1;
            }
            (Some(before), Some(after)) => {
                self.changed.push(SplitDifference::between(before, after));
            }
        }
    }
}

impl SplitDifference {
    /// What differs between two splits of one name.
    pub fn between(before: &Split, after: &Split) -> Self {
        let pairs = pairs(before, after);
        let address = pair(before.address(), after.address());
        let affinity = pair(before.affinity(), after.affinity());
        let drain = pair(before.drain(), after.drain());
        // The hash of a flow depends on both.
        let redrawn = affinity.is_some();
        let sums = (total_weight(before.subsets()), total_weight(after.subsets()));
        let subsets: Vec<SubsetDifference> =
            pairs.iter().map(|&(a, b)| subset(a, b, sums, redrawn)).collect();
        let moves = match address {
            Some(_) => Vec::new(),
            None => moves(&subsets, redrawn),
        };
        let elsewhere: f64 = moves.iter().map(|m| m.share).sum();
        let inside = subsets.iter().map(|subset| {
            let left: f64 = moves.iter().filter(|m| m.from == subset.name).map(|m| m.share).sum();
            (subset.shares.0 - left).max(0.0) * subset.moved
        });
        let moved =
            if address.is_some() { 1.0 } else { (elsewhere + inside.sum::<f64>()).min(1.0) };
        Self { name: after.name().clone(), address, affinity, drain, subsets, moves, moved }
    }
}

fn pair<T: PartialEq>(before: T, after: T) -> Option<(T, T)> {
    (before != after).then_some((before, after))
}

/// The subsets of both splits by name.
fn pairs<'a>(before: &'a Split, after: &'a Split) -> Vec<(Option<&'a Subset>, Option<&'a Subset>)> {
    let find = |split: &'a Split, name: &Name| split.subsets().iter().find(|s| s.name == *name);
    let olds = before.subsets().iter().map(|old| (Some(old), find(after, &old.name)));
    let news = after.subsets().iter().filter(|new| find(before, &new.name).is_none());
    olds.chain(news.map(|new| (None, Some(new)))).collect()
}

fn subset(
    before: Option<&Subset>,
    after: Option<&Subset>,
    sums: (u64, u64),
    redrawn: bool,
) -> SubsetDifference {
    let none = BTreeSet::new();
    let endpoints = |subset: Option<&Subset>| subset.map_or(none.clone(), |s| s.endpoints.clone());
    let (old, new) = (endpoints(before), endpoints(after));
    let share = |subset: Option<&Subset>, sum: u64| {
        subset.map_or(0.0, |subset| f64::from(subset.weight) / sum as f64)
    };
    let moved = if redrawn {
        redrawn_endpoints(&old, &new)
    } else {
        // More endpoints than a table can hold are rejected elsewhere.
        between_endpoints(&old, &new).unwrap_or(1.0)
    };
    let name = before.or(after).map(|subset| subset.name.clone());
    SubsetDifference {
        name: name.expect("a pair has one subset at least"),
        weights: (before.map(|s| s.weight), after.map(|s| s.weight)),
        shares: (share(before, sums.0), share(after, sums.1)),
        added: new.difference(&old).copied().collect(),
        removed: old.difference(&new).copied().collect(),
        moved,
    }
}

fn moves(subsets: &[SubsetDifference], redrawn: bool) -> Vec<Move> {
    let (before, after): (Vec<u32>, Vec<u32>) = subsets
        .iter()
        .map(|subset| (subset.weights.0.unwrap_or(0), subset.weights.1.unwrap_or(0)))
        .unzip();
    let mut moves = Vec::new();
    for (i, from) in subsets.iter().enumerate() {
        for (j, to) in subsets.iter().enumerate().filter(|&(j, _)| j != i) {
            let share = if redrawn {
                from.shares.0 * to.shares.1
            } else {
                between_subsets(&before, &after, i, j)
            };
            if share > 0.0 {
                moves.push(Move { from: from.name.clone(), to: to.name.clone(), share });
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::resolve;

    fn desired(splits: &[&str]) -> SplitSet {
        let text: Vec<String> = splits
            .iter()
            .map(|split| {
                let (name, rest) = split.split_once(' ').unwrap();
                format!(
                    "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\n\
                     metadata: {{name: {name}}}\nspec: {{{rest}}}\n"
                )
            })
            .collect();
        resolve(&[("f", text.join("---\n"))]).unwrap()
    }

    fn split(rest: &str) -> SplitSet {
        desired(&[&format!("a address: 10.0.0.1, port: 80, {rest}")])
    }

    fn changed(before: &str, after: &str) -> SplitDifference {
        let mut difference = Difference::between(&split(before), &split(after));
        assert_eq!(difference.changed.len(), 1, "{before} to {after}: {difference:?}");
        difference.changed.remove(0)
    }

    #[test]
    fn splits_come_and_go_and_change() {
        let subsets = "subsets: [{name: v1, weight: 1, endpoints: []}]";
        let s =
            |name: &str, port: u16| format!("{name} address: 10.0.0.1, port: {port}, {subsets}");
        let before = desired(&[&s("a", 1), &s("b", 2), &s("c", 3)]);
        let after = desired(&[&s("b", 2), &s("c", 4), &s("d", 3)]);
        let difference = Difference::between(&before, &after);
        assert_eq!(difference.added, [Name::new("d").unwrap()]);
        assert_eq!(difference.removed, [Name::new("a").unwrap()]);
        assert_eq!(difference.unchanged, 1);
        let c = &difference.changed[0];
        assert_eq!((difference.changed.len(), c.moved, c.moves.len()), (1, 1.0, 0));
        let (old, new) = c.address.unwrap();
        assert_eq!((old.port, new.port), (3, 4));
    }

    #[test]
    fn weights_move_flows_between_subsets() {
        let subsets = |v1: u32, v2: u32| {
            format!(
                "subsets: [{{name: v1, weight: {v1}, endpoints: ['10.1.0.1:1']}}, \
                 {{name: v2, weight: {v2}, endpoints: ['10.1.0.2:1']}}]"
            )
        };
        let found = changed(&subsets(90, 10), &subsets(80, 20));
        let [Move { from, to, share }] = &found.moves[..] else { panic!("{found:?}") };
        assert_eq!((from.as_str(), to.as_str()), ("v1", "v2"));
        assert!((share - 0.1).abs() < 1e-12 && (found.moved - 0.1).abs() < 1e-12, "{found:?}");
        assert_eq!(found.subsets[0].weights, (Some(90), Some(80)));
        assert_eq!(found.subsets[1].shares, (0.1, 0.2));
    }

    #[test]
    fn a_new_subset_takes_its_share_and_a_lost_one_gives_it() {
        let v1 = "{name: v1, weight: 3, endpoints: []}";
        let v2 = "{name: v2, weight: 1, endpoints: ['10.1.0.2:1']}";
        let (one, two) = (format!("subsets: [{v1}]"), format!("subsets: [{v1}, {v2}]"));
        let found = changed(&one, &two);
        assert!((found.moved - 0.25).abs() < 1e-12, "{found:?}");
        assert_eq!(found.subsets[1].weights, (None, Some(1)));
        assert_eq!(found.subsets[1].added.len(), 1);
        let found = changed(&two, &one);
        assert!((found.moved - 0.25).abs() < 1e-12, "{found:?}");
        assert_eq!(found.moves[0].from.as_str(), "v2");
    }

    #[test]
    fn endpoints_count_by_what_stays_in_their_subset() {
        let subsets = |w: u32, endpoint: &str| {
            format!(
                "subsets: [{{name: v1, weight: {w}, endpoints: ['{endpoint}:1']}}, \
                 {{name: v2, weight: 50, endpoints: []}}]"
            )
        };
        // Half of the flows are v1's, and all of them get another endpoint.
        let found = changed(&subsets(50, "10.1.0.1"), &subsets(50, "10.1.0.2"));
        assert!((found.moved - 0.5).abs() < 1e-12 && found.moves.is_empty(), "{found:?}");
        assert_eq!(found.subsets[0].moved, 1.0);
        // All leave v1: what its endpoints are no longer matters.
        let found = changed(&subsets(50, "10.1.0.1"), &subsets(0, "10.1.0.2"));
        assert!((found.moved - 0.5).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn another_affinity_draws_anew() {
        let subsets = "subsets: [{name: v1, weight: 1, endpoints: ['10.1.0.1:1']}, \
                       {name: v2, weight: 3, endpoints: ['10.1.0.2:1']}]";
        let found = changed(subsets, &format!("affinity: ClientIP, {subsets}"));
        assert_eq!(found.affinity, Some((Affinity::None, Affinity::ClientIp)));
        assert!((found.moved - 2.0 * 0.25 * 0.75).abs() < 1e-12, "{found:?}");
    }
}
