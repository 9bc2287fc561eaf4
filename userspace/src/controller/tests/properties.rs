//! Whatever happens in whatever order: nothing is said to be in force that is not.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::{exception, subject, upto};
use crate::cluster::{Activity, Report};
use crate::controller::judge::{Node, judge};

/// What is true of a node, and what its agent has reported of it.
#[derive(Debug, Clone)]
struct Told {
    version: u64,
    steering: bool,
    attached: bool,
    excepted: bool,
    fresh: bool,
    reported: bool,
}

impl Told {
    fn report(&self) -> Report {
        Report {
            activity: if self.steering { Activity::Steering } else { Activity::Observing },
            attached: self.attached,
            exceptions: self.excepted.then(|| exception("shop", "web")).into_iter().collect(),
            ..upto(self.version)
        }
    }

    fn has(&self, since: u64) -> bool {
        let Self { version, steering, attached, excepted, fresh, reported } = *self;
        reported && fresh && steering && attached && !excepted && version >= since
    }
}

fn told() -> impl Strategy<Value = Told> {
    let often = || prop::bool::weighted(0.95);
    (8..12_u64, often(), often(), often(), often(), often()).prop_map(
        |(version, steering, attached, right, fresh, reported)| Told {
            version,
            steering,
            attached,
            excepted: !right,
            fresh,
            reported,
        },
    )
}

proptest! {
    #[test]
    fn it_is_in_force_only_if_every_required_node_has_said_so(
        told in prop::collection::vec(told(), 0..6),
        since in 8..12_u64,
    ) {
        let names: Vec<String> = (0..told.len()).map(|n| format!("n{n}")).collect();
        let reports: Vec<Report> = told.iter().map(Told::report).collect();
        let nodes: BTreeMap<&str, Node<'_>> = (0..told.len())
            .map(|n| {
                let report = told[n].reported.then_some(&reports[n]);
                (names[n].as_str(), Node { report, is_fresh: told[n].fresh })
            })
            .collect();
        let verdict = judge(&subject(since), &nodes);
        let ready = told.iter().filter(|told| told.has(since)).count();
        prop_assert_eq!((verdict.ready, verdict.total), (ready, told.len()));
        prop_assert_eq!(verdict.is_in_force(), !told.is_empty() && ready == told.len());
        prop_assert_eq!(verdict.lagging.len(), told.len() - ready);
    }

    /// Events of one object and of agents that follow it with delays, as a controller sees them:
    /// whenever it says that the newest generation it knows is in force, all agents have it.
    #[test]
    fn a_controller_that_sees_everything_late_is_never_too_early(
        steps in prop::collection::vec((0..4_usize, 0..3_usize), 1..60),
    ) {
        let mut world = super::World { now: Instant::now(), ..super::World::of(&["a", "b"]) };
        let names = ["a", "b"];
        // The versions at which generations came, what each agent has in force, and the next one.
        let (mut generations, mut in_force) = (vec![100_u64], [100_u64, 100]);
        let mut version = 100;
        let mut generation = 1;
        world.split(100, 1, serde_json::Value::Null);
        for (what, which) in steps {
            match what {
                // A change, which the controller sees at once or after another one.
                0 => {
                    version += 10;
                    generations.push(version);
                    generation += 1;
                    if which != 0 {
                        world.split(version, generation, serde_json::Value::Null);
                    }
                }
                // Something else happens to the object.
                1 => {
                    version += 10;
                    world.split(version, generation, serde_json::Value::Null);
                }
                // An agent puts what there is into force, and may report it.
                2 => {
                    let agent = which % 2;
                    in_force[agent] = version;
                    world.report(names[agent], &upto(version));
                }
                // One reports again what it has.
                _ => world.report(names[which % 2], &upto(in_force[which % 2])),
            }
            let known = world.facts.splits().next().unwrap();
            let came = generations[usize::try_from(known.generation).unwrap() - 1];
            let is_everywhere = in_force.iter().all(|has| *has >= came);
            if world.verdict(known.since).is_in_force() {
                prop_assert!(is_everywhere, "{known:?} {in_force:?} {generations:?}");
            }
        }
    }
}
