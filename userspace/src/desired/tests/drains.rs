//! Endpoints that are taken out of force, and for how long they stay out.

use super::*;

/// A split of one address with two subsets: v1 with these endpoints, and v2 with one that is its
/// own.
fn document(endpoints: &[&str], v1: u32) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|e| format!("'{e}'")).collect();
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: a}}\n\
         spec: {{address: 10.0.0.9, port: 80,\n subsets: [{{name: v1, weight: {v1}, endpoints: [{}]}}, \
         {{name: v2, weight: 1, endpoints: ['10.1.0.9:80']}}]}}\n",
        endpoints.join(", ")
    )
}

const ONE: &str = "10.1.0.1:80";
const TWO: &str = "10.1.0.2:80";

impl World {
    fn drain(&mut self, endpoint: &str, force: bool) -> Result<Step, String> {
        let now = self.now();
        let guard = DrainGuard { force, ..DrainGuard::default() };
        let step = self.desired_state.drain(&self.persisted, "a", endpoint, guard, now);
        self.accept(step)
    }

    fn undrain(&mut self, endpoint: &str) -> Result<Step, String> {
        let now = self.now();
        let step = self.desired_state.undrain(&self.persisted, "a", endpoint, now);
        self.accept(step)
    }

    /// The endpoints of v1 in force.
    fn v1(&self) -> Vec<String> {
        let split = self.desired_state.split_set().get("a").unwrap();
        split.subsets()[0].endpoints.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn an_endpoint_is_out_over_restarts_until_it_is_put_back() {
    let files = [document(&[ONE, TWO], 9)];
    let mut world = World::with(&files);
    world.weights("a", &[("v2", 7)]).unwrap();
    world.drain("10.1.0.1", false).unwrap();
    assert_eq!(world.v1(), [TWO]);
    // The agent, which finds what runs; the machine; and another definition.
    world.restart(&files);
    assert_eq!(world.v1(), [TWO]);
    // Between the start and the first look at files, what ran counts as defined.
    world.start_again();
    world.files(&["kind: Nonsense\n".to_owned()]);
    assert_eq!(world.v1(), [TWO]);
    world.files(&files);
    world.reboot(&files);
    assert_eq!((world.v1(), world.now_has("a")), (vec![TWO.to_owned()], "v1=9 v2=7".into()));
    let three = "10.1.0.3:80";
    let step = world.files(&[document(&[ONE, TWO, three], 9)]);
    assert_eq!(world.v1(), [TWO, three]);
    let said: Vec<String> = step.events.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["split a: 10.1.0.1:80 gets no new flows, since `weir drain` took it out"]);
    world.undrain(ONE).unwrap();
    assert_eq!(world.v1(), [ONE, TWO, three]);
    assert_eq!(world.persisted.drains().len(), 0);
    let history = world.history("a");
    assert_eq!(history[2], "3 drain: v1=9 v2=7 to v1=9 v2=7");
    assert_eq!(
        world.persisted.changes("a").nth(2).unwrap().endpoint,
        ONE.parse().ok().map(Box::new)
    );
    // What changed the weights last is still what is taken back.
    world.rollback("a", None).unwrap();
    assert_eq!(world.now_has("a"), "v1=9 v2=1");
}

#[test]
fn a_drain_ends_with_the_endpoint_in_the_definition() {
    let mut world = World::with(&[document(&[ONE, TWO], 9)]);
    world.drain(ONE, false).unwrap();
    let step = world.files(&[document(&[TWO], 9)]);
    let said: Vec<String> = step.events.iter().map(ToString::to_string).collect();
    let expected = "split a: its definition does not have 10.1.0.1:80 any more, which `weir drain` \
                    had taken out";
    assert_eq!(said, [expected]);
    world.files(&[document(&[ONE, TWO], 9)]);
    assert_eq!(world.v1(), [ONE, TWO], "it is another one that has the address now");
}

#[test]
fn the_last_endpoint_of_a_weighted_subset_is_taken_out_by_force_alone() {
    let mut world = World::with(&[document(&[ONE, TWO], 3)]);
    world.drain(TWO, false).unwrap();
    let expected = "split \"a\": without 10.1.0.1:80 subset \"v1\" would have no endpoint, and \
                    75.00% of new connections would be rejected: give it weight 0 first \
                    (weir weights a v1=0), or say --force";
    assert_eq!(world.drain(ONE, false).unwrap_err(), expected);
    world.weights("a", &[("v1", 0)]).unwrap();
    world.drain(ONE, false).unwrap();
    world.undrain(ONE).unwrap();
    world.reset("a").unwrap();
    world.drain(ONE, true).unwrap();
    assert_eq!(world.v1(), [] as [&str; 0]);
    // Again, which changes nothing.
    assert_eq!(world.drain(ONE, false).unwrap().transaction.ops, []);
}

#[test]
fn what_is_no_endpoint_is_told_with_what_may_be_meant() {
    let other = "10.1.0.1:81";
    let mut world = World::with(&[document(&[ONE, other], 1)]);
    let error = world.drain("10.1.0.1:82", false).unwrap_err();
    assert!(
        error.starts_with("split \"a\" has no endpoint \"10.1.0.1:82\"; did you mean"),
        "{error}"
    );
    let error = world.drain("10.1.0.1", false).unwrap_err();
    assert!(error.contains("there are more at that address"), "{error}");
    let error = world.undrain(ONE).unwrap_err();
    assert!(error.contains("that `weir drain` took out"), "{error}");
    let now = world.now();
    let error = world
        .desired_state
        .drain(&world.persisted, "b", ONE, DrainGuard::default(), now)
        .unwrap_err();
    assert!(error.to_string().starts_with("there is no split \"b\""), "{error}");
}
