//! Plans executed on a datapath of ordinary maps, which is looked at after
//! every single write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use probe_common::filter;
use probe_common::hash::mix;
use probe_common::map;

use super::*;
use crate::datapath::{Datapath as _, Memory};
use crate::explain::{subset_seed, words};
use crate::model::{Affinity, Name, Protocol, ServiceAddress, Split, SplitSet, Subset};

const CAPACITY: Capacity = Capacity { splits: 64, endpoints: 512, chunks: 512 };

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(n: u8) -> ServiceAddress {
    ServiceAddress { ip: [192, 0, 2, n].into(), port: 80, protocol: Protocol::Tcp }
}

fn endpoint(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 8080))
}

/// Name, weight and endpoints of subsets.
type Subsets<'a> = &'a [(&'a str, u32, &'a [u16])];

fn split(title: &str, vip: u8, subsets: Subsets<'_>) -> Split {
    let subsets = subsets
        .iter()
        .map(|&(title, weight, endpoints)| Subset {
            name: name(title),
            weight,
            endpoints: endpoints.iter().map(|&n| endpoint(n)).collect(),
        })
        .collect();
    Split::new(name(title), address(vip), Affinity::None, subsets)
        .unwrap()
        .with_drain(Duration::from_secs(10))
}

/// Ledger and maps, side by side.
struct Node {
    ledger: Ledger,
    maps: Memory,
    now: u64,
    /// Every version that was in force at some time.
    legal: Vec<Split>,
}

impl Node {
    fn new() -> Self {
        let (ledger, maps) = (Ledger::new(CAPACITY), Memory::default());
        Self { ledger, maps, now: 1000, legal: Vec::new() }
    }

    fn desire(&mut self, splits: &[Split]) -> usize {
        let mut desired = SplitSet::default();
        for split in splits {
            desired.insert(split.clone()).unwrap();
        }
        self.legal.extend_from_slice(splits);
        let change = Change::towards(&desired, &self.ledger);
        let planned = plan(&self.ledger, &change, self.now).unwrap();
        self.execute(planned)
    }

    fn execute(&mut self, plan: Plan) -> usize {
        for op in &plan.ops {
            self.maps.execute(op).unwrap();
            self.every_split_is_whole();
        }
        self.ledger = plan.ledger;
        let sweep = plan.sweep;
        let count = plan.ops.len();
        if !sweep.is_empty() {
            let released = swept(&self.ledger, &sweep, self.now);
            self.execute(released);
        }
        count
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let expired = expire(&self.ledger, self.now);
        self.execute(expired);
    }

    /// What a packet that comes now would see is one of the versions that were
    /// desired: weights, seeds and endpoints of no other, and none that is gone.
    fn every_split_is_whole(&self) {
        for &at in self.maps.services.keys() {
            let found = self.maps.in_force(at).expect("a service leads to a version");
            let seen: BTreeMap<u64, (u32, BTreeSet<SocketAddr>)> = found.subsets
                [..found.count as usize]
                .iter()
                .map(|subset| {
                    let ids: BTreeSet<u32> = self.maps.table(subset).into_iter().collect();
                    let endpoints = ids.iter().map(|id| {
                        let (address, state) = self.maps.endpoints[id];
                        assert_eq!(state, EndpointState::Live, "new flows go to {address}");
                        address
                    });
                    (subset.seed, (subset.weight, endpoints.collect()))
                })
                .collect();
            let as_wanted = |split: &Split| {
                let wanted = split.subsets().iter().map(|subset| {
                    (subset_seed(split, subset), (subset.weight, subset.endpoints.clone()))
                });
                wanted.collect::<BTreeMap<_, _>>() == seen
            };
            assert!(self.legal.iter().any(as_wanted), "half a split is in force: {found:?}");
        }
    }

    /// The maps are in the state that the ledger says, and the filters let through
    /// all that they must.
    fn agrees(&self) {
        for known in self.ledger.names() {
            let split = self.ledger.split(known).unwrap();
            assert!(self.maps.in_force(split.address()).is_some(), "{known} is not in force");
            for subset in split.subsets() {
                let id = self.ledger.subset_id(known, &subset.name).unwrap();
                assert_eq!(self.ledger.subset_names(id), Some((known, &subset.name)));
                assert_eq!(self.maps.subset_ids[&map::subset_index(id)], id);
                for &address in &subset.endpoints {
                    let (id, phase) = self.ledger.endpoint(split.address(), address).unwrap();
                    assert_eq!(phase, Phase::Live);
                    assert_eq!(self.maps.endpoints[&id], (address, EndpointState::Live));
                    assert!(self.passes(Side::Endpoint, address), "{address}");
                }
            }
            assert!(self.passes(Side::Service, split.address().socket()), "{known}");
        }
        let named: BTreeSet<_> = self.ledger.names().cloned().collect();
        assert_eq!(self.maps.services.len(), named.len());
    }

    fn passes(&self, side: Side, socket: SocketAddr) -> bool {
        let address = probe_common::address::V4(words(socket.ip())[0]);
        let (word, bits) = filter::position(address, socket.port().to_be());
        self.maps.filters.get(&(side, word)).is_some_and(|set| set & bits == bits)
    }

    fn adopt(&mut self) {
        let (ledger, ops) = adopt(&self.maps.snapshot().unwrap(), CAPACITY, self.now);
        self.ledger = ledger;
        for op in &ops {
            self.maps.execute(op).unwrap();
            self.every_split_is_whole();
        }
    }
}

#[test]
fn the_same_desired_state_twice_is_an_empty_plan() {
    let mut node = Node::new();
    let splits =
        [split("a", 1, &[("v1", 9, &[1, 2, 3]), ("v2", 1, &[4])]), split("b", 2, &[("x", 1, &[])])];
    assert!(node.desire(&splits) > 0);
    assert_eq!(node.desire(&splits), 0);
    node.agrees();
}

#[test]
fn a_change_of_weights_writes_one_version_and_flips_one_word() {
    let mut node = Node::new();
    let before = split("a", 1, &[("v1", 9, &[1, 2, 3]), ("v2", 1, &[4])]);
    let after = split("a", 1, &[("v1", 5, &[1, 2, 3]), ("v2", 5, &[4])]);
    node.desire(std::slice::from_ref(&before));
    let change = Change { put: vec![after.clone().into()], remove: vec![] };
    let planned = plan(&node.ledger, &change, 0).unwrap();
    assert!(
        matches!(planned.ops[..], [Op::Split { .. }, Op::Activate { .. }]),
        "{:?}",
        planned.ops
    );
    node.legal.push(after);
    node.execute(planned);
    // Now the version that is to be written was in force until just now.
    assert!(node.ledger.wants_grace());
    let change = Change { put: vec![before.into()], remove: vec![] };
    let planned = plan(&node.ledger, &change, 0).unwrap();
    assert!(matches!(planned.ops[..], [Op::Grace, Op::Split { .. }, Op::Activate { .. }]));
    node.ledger.note_grace(node.ledger.epoch());
    let planned = plan(&node.ledger, &change, 0).unwrap();
    assert_eq!(planned.ops.len(), 2, "a grace period passed meanwhile");
}

#[test]
fn a_removed_endpoint_drains_then_is_gone_then_its_id_is_free() {
    let mut node = Node::new();
    node.desire(&[split("a", 1, &[("v1", 1, &[1, 2])])]);
    let (id, _) = node.ledger.endpoint(address(1), endpoint(2)).unwrap();
    node.desire(&[split("a", 1, &[("v1", 1, &[1])])]);
    let phase = |node: &Node| node.ledger.endpoint(address(1), endpoint(2));
    assert_eq!(phase(&node), Some((id, Phase::Draining { until: 1010 })));
    node.pass(9);
    assert_eq!(node.maps.endpoints[&id].1, EndpointState::Draining);
    node.pass(1);
    assert_eq!(node.maps.endpoints[&id].1, EndpointState::Gone, "its drain time is over");
    assert!(node.passes(Side::Endpoint, endpoint(2)), "its packets are to be rejected");
    node.pass(LINGER);
    assert_eq!(phase(&node), None);
    assert!(!node.passes(Side::Endpoint, endpoint(2)));
    assert_eq!(node.ledger.used().endpoints, 1);
    node.agrees();
}

#[test]
fn an_endpoint_that_comes_back_keeps_its_id_while_its_flows_may_live() {
    for (wait, phase) in [(5, "draining"), (12, "gone")] {
        let mut node = Node::new();
        let both = split("a", 1, &[("v1", 1, &[1, 2])]);
        node.desire(std::slice::from_ref(&both));
        let find = |node: &Node| node.ledger.endpoint(address(1), endpoint(2));
        let before = find(&node);
        node.desire(&[split("a", 1, &[("v1", 1, &[1])])]);
        node.pass(wait);
        node.desire(&[both]);
        assert_eq!(find(&node), before, "{phase}");
        node.pass(1000);
        assert_eq!(find(&node), before, "{phase}: the old deadline is void");
        node.agrees();
    }
}

/// The end of drain times, and of what comes after them.
fn let_all_drain(node: &mut Node) {
    for _ in 0..3 {
        node.pass(DAY);
    }
}

#[test]
fn an_endpoint_of_the_service_address_stays_whatever_the_names() {
    const BEFORE: Subsets<'_> = &[("v1", 1, &[1, 2]), ("v2", 1, &[3])];
    let cases: [(&str, &str, Subsets<'_>); 6] = [
        ("subsets renamed", "a", &[("blue", 1, &[1, 2]), ("green", 1, &[3])]),
        ("the split renamed", "b", BEFORE),
        ("an endpoint in another subset", "a", &[("v1", 1, &[1]), ("v2", 1, &[2, 3])]),
        ("subsets joined", "a", &[("all", 1, &[1, 2, 3])]),
        ("names exchanged", "a", &[("v2", 1, &[1, 2]), ("v1", 1, &[3])]),
        ("in two subsets, and more beside", "c", &[("x", 1, &[1, 2, 3, 4]), ("y", 0, &[1])]),
    ];
    for (what, title, subsets) in cases {
        for steps in 1..=2 {
            let mut node = Node::new();
            node.desire(&[split("a", 1, BEFORE)]);
            let find =
                |node: &Node| [1, 2, 3].map(|n| node.ledger.endpoint(address(1), endpoint(n)));
            let before = find(&node);
            assert!(before.iter().all(|found| matches!(found, Some((_, Phase::Live)))));
            if steps == 2 {
                // As when a file is renamed: it goes, and comes back a moment later.
                node.desire(&[]);
                node.pass(1);
            }
            node.desire(&[split(title, 1, subsets)]);
            let_all_drain(&mut node);
            assert_eq!(find(&node), before, "{what}, in {steps} steps");
            node.agrees();
            node.adopt();
            let_all_drain(&mut node);
            assert_eq!(find(&node), before, "{what}, in {steps} steps, adopted");
        }
    }
}

#[test]
fn an_index_of_a_subset_goes_to_another_one_under_another_id() {
    let mut node = Node::new();
    let id = |node: &Node, of: &str| node.ledger.subset_id(&name("a"), &name(of)).unwrap();
    node.desire(&[split("a", 1, &[("v1", 1, &[1])])]);
    let mut seen = BTreeSet::from([id(&node, "v1")]);
    // A slot comes to its turn again, and its generation then is another one.
    for round in 0..100 {
        let title = format!("n{round}");
        node.desire(&[split("a", 1, &[(&title, 1, &[1])])]);
        assert!(seen.insert(id(&node, &title)), "the id of a subset that flows may still carry");
        if round % 10 == 0 {
            node.adopt();
        }
    }
    node.desire(&[]);
    let_all_drain(&mut node);
    node.desire(&[split("a", 1, &[("v1", 1, &[1])])]);
    assert!(seen.insert(id(&node, "v1")), "also after the split was forgotten");
    node.agrees();
}

#[test]
fn an_endpoint_that_leaves_only_one_address_stays_at_the_other() {
    let mut node = Node::new();
    let at = |node: &Node, vip| node.ledger.endpoint(address(vip), endpoint(1));
    node.desire(&[split("a", 1, &[("v1", 1, &[1])]), split("b", 2, &[("v1", 1, &[1])])]);
    node.desire(&[split("a", 1, &[("v1", 1, &[2])]), split("b", 2, &[("v1", 1, &[1])])]);
    assert!(matches!(at(&node, 1), Some((_, Phase::Draining { .. }))));
    let_all_drain(&mut node);
    assert_eq!(at(&node, 1), None);
    assert!(matches!(at(&node, 2), Some((_, Phase::Live))));
    node.agrees();
}

#[test]
fn a_removed_split_lets_new_flows_pass_and_keeps_live_ones() {
    let mut node = Node::new();
    let a = split("a", 1, &[("v1", 1, &[1, 2]), ("v2", 1, &[3])]);
    node.desire(std::slice::from_ref(&a));
    node.desire(&[]);
    assert!(node.maps.services.is_empty());
    assert!(node.passes(Side::Service, address(1).socket()), "live flows are still looked up");
    node.desire(&[a]);
    assert_eq!(node.ledger.used().splits, 1, "it comes back under its id");
    node.agrees();
    node.desire(&[]);
    node.pass(10);
    node.pass(LINGER);
    let used = node.ledger.used();
    node.ledger.note_grace(node.ledger.epoch());
    assert_eq!((used.splits, used.endpoints, node.ledger.used().chunks), (0, 0, 0));
    assert!(node.maps.filters.is_empty() && node.maps.identities.is_empty());
}

#[test]
fn service_addresses_are_swapped_and_handed_over_without_a_gap() {
    let mut node = Node::new();
    let subsets: Subsets<'_> = &[("v1", 1, &[1])];
    node.desire(&[split("a", 1, subsets), split("b", 2, subsets)]);
    let ids = |node: &Node| [1, 2].map(|n| node.maps.services[&address(n)]);
    let before = ids(&node);
    node.desire(&[split("a", 2, subsets), split("b", 1, subsets)]);
    assert_eq!(ids(&node), [before[1], before[0]]);
    let planned = {
        let mut desired = SplitSet::default();
        desired.insert(split("c", 1, subsets)).unwrap();
        node.legal.push(split("c", 1, subsets));
        plan(&node.ledger, &Change::towards(&desired, &node.ledger), node.now).unwrap()
    };
    assert!(!planned.ops.contains(&Op::RemoveService(address(1))), "c takes it from b");
    node.execute(planned);
    node.agrees();
}

#[test]
fn what_does_not_fit_is_rejected_whole() {
    let mut node = Node::new();
    node.ledger = Ledger::new(Capacity { splits: 3, endpoints: 80, chunks: 128 });
    node.desire(&[split("a", 1, &[("v1", 1, &[1])])]);
    let many: Vec<u16> = (0..600).collect();
    let cases: [(Subsets<'_>, &str); 2] = [
        (
            &[("v1", 1, &many[..64]), ("v2", 1, &many[64..81])],
            "limits.endpoints is 80, of which 80 are",
        ),
        (&[("v1", 1, &many[..70])], "limits.tableSlots is 16384, of which 0 are"),
    ];
    for (subsets, expected) in cases {
        let change = Change {
            put: vec![split("ok", 3, &[("v1", 1, &[7])]).into(), split("big", 2, subsets).into()],
            remove: vec![],
        };
        let error = plan(&node.ledger, &change, 0).unwrap_err().to_string();
        assert!(error.contains("\"big\"") && error.contains(expected), "{error}");
    }
    let too_many: Vec<u16> = (0..1025).collect();
    let change =
        Change { put: vec![split("big", 2, &[("v1", 1, &too_many)]).into()], remove: vec![] };
    let error = plan(&node.ledger, &change, 0).unwrap_err().to_string();
    assert_eq!(error, "split \"big\": subset \"v1\" has 1025 endpoints, expected at most 1024");
    node.agrees();
}

/// A random desired state over a few names, addresses and endpoints.
fn random(draw: &mut impl FnMut(u64) -> u64) -> Vec<Split> {
    let mut vips: Vec<u8> = (1..=6).collect();
    let mut splits = Vec::new();
    for title in ["a", "b", "c", "d"] {
        if draw(4) == 0 {
            continue;
        }
        let vip = vips.swap_remove(draw(vips.len() as u64) as usize);
        let mut subsets: Vec<(&str, u32, Vec<u16>)> = Vec::new();
        for subset in ["v1", "v2", "v3", "v4"] {
            if draw(3) > 0 {
                let endpoints = (0..draw(7)).map(|_| draw(30) as u16).collect();
                subsets.push((subset, draw(3) as u32, endpoints));
            }
        }
        subsets.push(("base", 1, vec![1]));
        let borrowed: Vec<(&str, u32, &[u16])> =
            subsets.iter().map(|(n, w, e)| (*n, *w, &e[..])).collect();
        splits.push(split(title, vip, &borrowed));
    }
    splits
}

#[test]
fn thousands_of_changes_leak_nothing_and_never_show_half_a_split() {
    let mut state = 7;
    let mut draw = |bound: u64| {
        state = mix(state + 1);
        (state >> 16) % bound
    };
    let mut node = Node::new();
    for step in 0..400 {
        let splits = random(&mut draw);
        node.legal.clear();
        let in_force: Vec<Split> =
            node.ledger.names().map(|n| node.ledger.split(n).unwrap().clone()).collect();
        node.legal.extend(in_force);
        node.desire(&splits);
        node.agrees();
        assert_eq!(node.desire(&splits), 0, "step {step}");
        match draw(8) {
            0 => node.pass(draw(100)),
            1 => node.adopt(),
            2 => node.ledger.note_grace(node.ledger.epoch()),
            _ => {}
        }
        node.agrees();
    }
    node.desire(&[]);
    let_all_drain(&mut node);
    node.ledger.note_grace(node.ledger.epoch());
    let used = node.ledger.used();
    assert_eq!((used.splits, used.endpoints, used.chunks), (0, 0, 0));
    assert!(node.maps.filters.is_empty(), "{:?}", node.maps.filters);
    assert!(node.maps.identities.is_empty(), "{:?}", node.maps.identities);
}

const DAY: u64 = 86_400;

#[test]
fn an_agent_that_dies_at_any_write_leaves_what_the_next_can_adopt() {
    let before = [
        split("a", 1, &[("v1", 9, &[1, 2, 3]), ("v2", 1, &[4])]),
        split("b", 2, &[("x", 1, &[5])]),
    ];
    let after = [
        split("a", 3, &[("v2", 5, &[4, 6]), ("v3", 5, &[7, 8])]),
        split("c", 2, &[("x", 1, &[5, 9])]),
    ];
    let mut done = false;
    for writes in 0.. {
        let mut node = Node::new();
        node.desire(&before);
        node.legal.extend_from_slice(&after);
        let mut desired = SplitSet::default();
        after.iter().for_each(|split| desired.insert(split.clone()).unwrap());
        let planned = plan(&node.ledger, &Change::towards(&desired, &node.ledger), 1000).unwrap();
        for op in planned.ops.iter().take(writes) {
            node.maps.execute(op).unwrap();
        }
        node.adopt();
        node.desire(&after);
        node.agrees();
        node.desire(&[]);
        for _ in 0..3 {
            node.pass(DAY);
        }
        node.ledger.note_grace(node.ledger.epoch());
        let used = node.ledger.used();
        assert_eq!(
            (used.splits, used.endpoints, used.chunks),
            (0, 0, 0),
            "after {writes} writes {:?} {:?}",
            node.ledger.endpoints,
            node.ledger.deadlines
        );
        assert!(node.maps.filters.is_empty() && node.maps.identities.is_empty(), "{writes}");
        done = writes >= planned.ops.len();
        if done {
            break;
        }
    }
    assert!(done);
}

#[test]
fn adoption_changes_nothing_that_is_in_order() {
    let mut node = Node::new();
    let splits = [split("a", 1, &[("v1", 9, &[1, 2, 3]), ("v2", 1, &[4]), ("v3", 0, &[])])];
    node.desire(&[split("a", 1, &[("v0", 1, &[9]), ("v1", 9, &[1, 2])])]);
    node.desire(&splits);
    let before = node.maps.clone();
    let (id, phase) = node.ledger.endpoint(address(1), endpoint(9)).unwrap();
    let subset = node.ledger.subset_id(&name("a"), &name("v2"));
    node.adopt();
    assert_eq!(node.maps.writes, before.writes, "no repairs");
    assert_eq!(node.desire(&splits), 0);
    assert_eq!(node.ledger.endpoint(address(1), endpoint(9)), Some((id, phase)));
    assert_eq!(node.ledger.subset_id(&name("a"), &name("v2")), subset);
}
