//! Documents of Istio, the Gateway API and Kubernetes, from files and applied.

use super::{World, name, split};
use crate::desired::{Cause, Fate};
use crate::model::Key;
use crate::resource::Kind;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\n\
    spec: {clusterIP: 10.96.0.1, ports: [{name: main, port: 80}]}\n";

/// Endpoints of a version.
fn slice(version: &str, ip: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: reviews-{version}, labels: {{kubernetes.io/service-name: reviews, version: {version}}}}}\n\
         addressType: IPv4\nports: [{{name: main, port: 80}}]\nendpoints: [{{addresses: [{ip}]}}]\n"
    )
}

fn rule(versions: &[&str]) -> String {
    let subsets: Vec<String> =
        versions.iter().map(|v| format!("{{name: {v}, labels: {{version: {v}}}}}")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews}}\n\
         spec:\n host: reviews\n subsets: [{}]\n",
        subsets.join(", ")
    )
}

/// Line 6 is the first destination.
fn routes(kind: &str, weights: &[(&str, u32)]) -> String {
    let lines: Vec<String> = weights
        .iter()
        .map(|(v, w)| format!("  - {{destination: {{host: reviews, subset: {v}}}, weight: {w}}}\n"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\n\
         spec: {{hosts: [reviews], {kind}: [{{route: [\n{}]}}]}}\n",
        lines.concat().replace("  - ", "  ").replace("}\n  {", "},\n  {")
    )
}

fn services() -> Vec<String> {
    vec![SERVICE.to_owned(), slice("v1", "10.0.0.1"), slice("v2", "10.0.0.2")]
}

/// With services in a file.
fn world() -> World {
    World::with(&services())
}

const NAME: &str = "reviews.default";

fn key(kind: &str) -> Key {
    Key { kind: kind.into(), namespace: "default".into(), name: "reviews".into() }
}

impl World {
    fn delete_keys(&mut self, keys: &[Key]) -> Result<(), String> {
        let now = self.now();
        let step = self.desired_state.delete(&self.persisted, keys, now);
        self.accept(step).map(|_| ())
    }

    fn source(&self) -> String {
        self.desired_state.source(NAME).expect("a split").to_string()
    }
}

#[test]
fn documents_of_files_and_of_the_api_refer_to_each_other() {
    // What is in the file, and what is applied.
    for (in_file, applied) in [
        (vec![rule(&["v1", "v2"])], vec![routes("tcp", &[("v1", 8), ("v2", 2)])]),
        (vec![], vec![routes("tcp", &[("v1", 8), ("v2", 2)]), rule(&["v1", "v2"])]),
    ] {
        let files = [services(), in_file].concat();
        let mut world = World::with(&files);
        assert_eq!(world.now_has(NAME), "reviews=1");
        world.apply(&applied).unwrap();
        assert_eq!(world.now_has(NAME), "v1=8 v2=2");
        let source = world.source();
        assert!(
            source.starts_with("/etc/f:3 (") && source.contains("VirtualService default/reviews"),
            "{source}"
        );
        let again = world.clone();
        world.restart(&files);
        assert_eq!(world.desired_state.split_set(), again.desired_state.split_set());
        assert_eq!((world.complaints(), world.source()), (vec![], source));
        world.delete_keys(&[key("VirtualService")]).unwrap();
        assert_eq!(world.now_has(NAME), "reviews=1", "plain again");
    }
    // The other way round: the file needs what is applied.
    let mut world = world();
    world.apply(&[rule(&["v1", "v2"])]).unwrap();
    let files = [services(), vec![routes("tcp", &[("v2", 1)])]].concat();
    world.files(&files);
    assert_eq!((world.complaints(), world.now_has(NAME)), (vec![], "v2=1".into()));
    let error = world.delete_keys(&[key("DestinationRule")]).unwrap_err();
    let expected = "nothing is deleted, since then:\n\
        /etc/f:24: spec.tcp[0].route[0].destination.subset: VirtualService default/reviews needs \
        subset \"v2\" of host reviews.default.svc.cluster.local, which has no DestinationRule";
    assert_eq!(error, expected);
    assert_eq!(world.now_has(NAME), "v2=1");
}

#[test]
fn what_does_not_resolve_is_rejected_with_all_of_its_call() {
    let mut world = world();
    world.apply(&[rule(&["v1"]), routes("tcp", &[("v1", 1)])]).unwrap();
    let before = (world.desired_state.split_set().clone(), world.persisted.clone());
    let needs = "VirtualService default/reviews needs subset \"v9\" of host reviews.default.svc.cluster.local";
    for (documents, expected) in [
        (
            vec![split("s", 1, 1), routes("tcp", &[("v9", 1)])],
            format!(
                "x.yaml:11: spec.tcp[0].route[0].destination.subset: {needs}, which DestinationRule \
                 default/reviews (applied) does not have; there is v1"
            ),
        ),
        (
            vec![rule(&["v1", "v2"]), routes("tcp", &[("v9", 1)])],
            format!(
                "x.yaml:12: spec.tcp[0].route[0].destination.subset: {needs}, which DestinationRule \
                 default/reviews (x.yaml:3) does not have; there is v1, v2"
            ),
        ),
        (
            vec![rule(&["v2"])],
            "applied VirtualService/default/reviews: spec.tcp[0].route[0].destination.subset: \
             VirtualService default/reviews needs subset \"v1\" of host \
             reviews.default.svc.cluster.local, which DestinationRule default/reviews (x.yaml:3) \
             does not have; there is v2"
                .to_owned(),
        ),
        (
            vec![routes("tcp", &[("v1", 1)]), routes("tcp", &[("v1", 2)])],
            "x.yaml:10: metadata.name: VirtualService default/reviews is defined twice (first at x.yaml:3)"
                .to_owned(),
        ),
        (
            vec![SERVICE.to_owned()],
            "x.yaml:3: metadata.name: Service default/reviews is already defined at /etc/f:3".to_owned(),
        ),
        (
            vec![routes("tcp", &[("v1", 1)]).replace("weight: 1", "weight: -1")],
            "x.yaml:5: spec.tcp[0].route[0].weight: -1 is out of range, expected an integer from 0 to 2147483647"
                .to_owned(),
        ),
    ] {
        assert_eq!(world.apply(&documents).unwrap_err(), expected);
        assert_eq!((world.desired_state.split_set(), &world.persisted), (&before.0, &before.1), "{expected}");
        assert_eq!(world.complaints(), [] as [&str; 0]);
    }
}

#[test]
fn what_was_wrong_before_is_no_reason_to_reject_something_else() {
    let mut world = world();
    let files = [services(), vec![rule(&["v1"]), routes("tcp", &[("v9", 1)])]].concat();
    world.files(&files);
    assert_eq!(world.complaints().len(), 1);
    assert_eq!(world.now_has(NAME), "reviews=1", "it goes on");
    assert!(world.desired_state.is_held(NAME));
    world.apply(&[split("a", 1, 1)]).unwrap();
    // Of another host with the same documents.
    let other = SERVICE.replace("reviews", "other").replace("10.96.0.1", "10.96.0.2");
    world.apply(&[other]).unwrap();
    assert_eq!(world.complaints().len(), 1);
}

#[test]
fn a_split_whose_documents_no_longer_fit_goes_on_as_it_was() {
    let mut world = world();
    let files = [services(), vec![rule(&["v1", "v2"])]].concat();
    world.files(&files);
    world.apply(&[routes("tcp", &[("v1", 8), ("v2", 2)])]).unwrap();
    world.weights(NAME, &[("v2", 5)]).unwrap();
    for restart in [false, true] {
        // The rule is gone.
        if restart {
            world.restart(&services())
        } else {
            world.files(&services())
        };
        assert_eq!(world.now_has(NAME), "v1=8 v2=5", "{restart}");
        assert!(world.desired_state.is_held(NAME));
        let problems = world.desired_state.problems_of(&name(NAME));
        let expected = "applied VirtualService/default/reviews: \
            spec.tcp[0].route[0].destination.subset: VirtualService default/reviews needs subset \
            \"v1\" of host reviews.default.svc.cluster.local, which has no DestinationRule";
        assert_eq!((problems.len(), problems[0].to_string().as_str()), (2, expected));
    }
    // Its endpoints can still be looked after: once it fits again.
    world.files(&[services(), vec![rule(&["v1", "v2"])]].concat());
    assert_eq!((world.complaints(), world.now_has(NAME)), (vec![], "v1=8 v2=5".into()));
    assert!(!world.desired_state.is_held(NAME));
}

#[test]
fn an_agent_that_starts_beside_a_mistake_balances_nothing_that_was_routed() {
    let good = routes("tcp", &[("v1", 1), ("v2", 0)]);
    let all = |routes: String| [services(), vec![rule(&["v1", "v2"]), routes]].concat();
    for bad in [good.replace("tcp:", "tls: [{}], tcp:"), "[\n".to_owned()] {
        let mut world = world();
        world.files(&all(good.clone()));
        assert_eq!(world.now_has(NAME), "v1=1 v2=0");
        // Without the routes it would be balanced over all endpoints.
        for again in 0..2 {
            if again == 0 {
                world.restart(&all(bad.clone()));
            } else {
                world.files(&[all(bad.clone()), vec![split("a", 5, 5)]].concat());
            }
            assert_eq!(world.now_has(NAME), "v1=1 v2=0", "{again}");
            assert!(world.desired_state.is_held(NAME));
            let said = world.complaints().join("\n");
            let expected = "spec.clusterIP: split \"reviews.default\" goes on as it was when the \
                agent started, since what cannot be read may be part of it";
            assert!(said.contains(expected), "{said}");
        }
        assert_eq!(world.now_has("a"), "v1=5 v2=5");
        // Once all is read, what it says counts.
        world.files(&services());
        assert_eq!((world.complaints(), world.now_has(NAME)), (vec![], "reviews=1".into()));
    }
}

#[test]
fn the_last_good_version_of_a_wrong_document_follows_everything_else() {
    let mut world = world();
    let good = routes("tcp", &[("v1", 1), ("v2", 1)]);
    world.files(&[services(), vec![rule(&["v1", "v2"]), good.clone()]].concat());
    let bad = good.replace("tcp:", "tls: [{}], tcp:");
    let files = vec![
        SERVICE.to_owned(),
        slice("v1", "10.0.0.9"),
        slice("v2", "10.0.0.2"),
        rule(&["v1", "v2"]),
        bad,
    ];
    world.files(&files);
    assert_eq!(world.complaints().len(), 1, "{:?}", world.complaints());
    assert_eq!(world.now_has(NAME), "v1=1 v2=1");
    let split = world.desired_state.split_set().get(NAME).unwrap();
    let endpoints: Vec<String> =
        split.subsets()[0].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["10.0.0.9:80"]);
}

#[test]
fn an_override_of_routed_weights_lasts_until_their_own_change() {
    let mut world = world();
    world.apply(&[rule(&["v1", "v2"]), routes("http", &[("v1", 8), ("v2", 2)])]).unwrap();
    world.weights(NAME, &[("v1", 1)]).unwrap();
    let more = [SERVICE.to_owned(), slice("v1", "10.0.0.1"), slice("v2", "10.0.0.3")];
    world.files(&more);
    assert_eq!(world.now_has(NAME), "v1=1 v2=2", "other endpoints");
    world.apply(&[rule(&["v1", "v2", "v3"])]).unwrap();
    assert_eq!(world.now_has(NAME), "v1=1 v2=2", "another rule");
    let step = world.apply(&[routes("http", &[("v1", 7), ("v2", 3)])]).unwrap();
    assert_eq!(step.events.len(), 1);
    assert_eq!(world.now_has(NAME), "v1=7 v2=3");
    world.rollback(NAME, None).unwrap();
    assert_eq!(world.now_has(NAME), "v1=1 v2=2");
    world.delete_keys(&[key("VirtualService")]).unwrap();
    let expected = [
        "1 file: - to reviews=1",
        "2 apply: reviews=1 to v1=8 v2=2",
        "3 weights: v1=8 v2=2 to v1=1 v2=2",
        "5 apply: v1=1 v2=2 to v1=7 v2=3",
        "6 rollback: v1=7 v2=3 to v1=1 v2=2",
        "7 delete: v1=1 v2=2 to reviews=1",
    ];
    assert_eq!(world.history(NAME), expected);
}

#[test]
fn applying_says_what_is_noted() {
    let mut world = world();
    let step =
        world.apply(&[rule(&["v1", "v2"]), routes("http", &[("v1", 1), ("v2", 1)])]).unwrap();
    let notes: Vec<String> = step.notes.iter().map(ToString::to_string).collect();
    assert!(
        notes.iter().any(|n| n.starts_with("x.yaml:") && n.contains("connections")),
        "{notes:?}"
    );
    let fates: Vec<Fate> = step.objects.iter().map(|(_, fate)| *fate).collect();
    assert_eq!(fates, [Fate::Created, Fate::Created]);
    let persisted: Vec<String> =
        world.persisted.objects().map(|object| object.key.to_string()).collect();
    assert_eq!(persisted, ["DestinationRule/default/reviews", "VirtualService/default/reviews"]);
    let last = world.persisted.changes(NAME).next_back().unwrap();
    assert_eq!(last.cause, Cause::Apply);
    let notes = world.desired_state.resolver().notes_of(&name(NAME));
    assert!(
        notes.iter().all(|note| note.file.starts_with("applied ") && note.line.is_none()),
        "{notes:?}"
    );
    assert!(!notes.is_empty());
}

#[test]
fn only_what_depends_on_an_applied_document_is_resolved_again() {
    let mut world = world();
    let other = |text: &str| text.replace("reviews", "ratings").replace("10.96.0.1", "10.96.0.2");
    let others: Vec<String> = services().iter().map(|text| other(text)).collect();
    world.files(&[services(), others].concat());
    world.apply(&[rule(&["v1", "v2"]), other(&rule(&["v1"])), split("s", 1, 1)]).unwrap();
    world.apply(&[routes("tcp", &[("v1", 1)])]).unwrap();
    let touched: Vec<String> =
        world.desired_state.resolver().touched().iter().map(ToString::to_string).collect();
    assert_eq!(touched, [NAME]);
}

#[test]
fn every_kind_can_be_applied_and_is_found_again() {
    let mut world = World::default();
    for (kind, text) in crate::resource::GOOD {
        world.apply(&[text.to_string()]).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let count = world.persisted.objects().len();
    assert_eq!(count, crate::resource::GOOD.len());
    let before = world.clone();
    world.restart(&[]);
    assert_eq!(world.desired_state.rejected().len(), 0);
    assert_eq!(world.desired_state.split_set(), before.desired_state.split_set());
    let gateways = world.desired_state.resolver().documents().map(|document| document.id().kind);
    let gateways = gateways.filter(|kind| matches!(kind, Kind::Gateway | Kind::IstioGateway));
    assert_eq!(gateways.count(), 2, "both kinds of Gateway");
    let keys: Vec<Key> = world.persisted.objects().map(|object| object.key.clone()).collect();
    world.delete_keys(&keys).unwrap();
    assert_eq!(world.desired_state.split_set().splits().len(), 0);
}
