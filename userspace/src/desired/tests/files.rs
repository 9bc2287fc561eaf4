//! Files with mistakes: what is right takes effect, what is wrong changes nothing.

use super::{World, document, split};
use crate::resource::Files;
use crate::source::Problem;

#[test]
fn a_document_in_two_files_stays_what_it_was() {
    let mut world = World::default();
    let (one, other) = ([split("a", 1, 1)], [split("a", 2, 2)]);
    world.load(&[("/etc/m", &one)]);
    for (name, at) in [("/etc/b", "/etc/b:3"), ("/etc/z", "/etc/z:3")] {
        let mut files: [(&str, &[String]); 2] = [("/etc/m", &one), (name, &other)];
        files.sort();
        world.load(&files);
        let complaint =
            format!("{at}: metadata.name: split \"a\" is defined twice (first at /etc/m:3)");
        assert_eq!((world.complaints(), world.now_has("a")), (vec![complaint], "v1=1 v2=1".into()));
    }
    world.load(&[("/etc/b", &other)]);
    assert_eq!((world.complaints(), world.now_has("a")), (vec![], "v1=2 v2=2".into()));
}

#[test]
fn a_mistake_in_a_file_holds_up_nothing_else() {
    let mut world = World::with(&[split("a", 1, 1), split("b", 1, 1), split("c", 1, 1)]);
    world.weights("b", &[("v1", 3)]).unwrap();
    let bad = split("b", 2, 2).replace("weight: 2", "weight: -2");
    for restart in [false, true] {
        let files = [split("a", 5, 5), bad.clone(), split("d", 1, 1)];
        if restart {
            world.restart(&files)
        } else {
            world.files(&files)
        };
        assert_eq!(world.complaints().len(), 2, "{:?}", world.complaints());
        let now = ["a", "b", "d"].map(|name| world.now_has(name));
        assert_eq!(now, ["v1=5 v2=5", "v1=3 v2=1", "v1=1 v2=1"], "{restart}");
        assert_eq!(world.persisted.override_of("b").unwrap().weights.to_string(), "v1=3 v2=1");
    }
    // Whether c was meant to go is not known, since the agent started with a mistake.
    assert_eq!(world.now_has("c"), "none");
    world.files(&[split("a", 5, 5), split("b", 4, 4)]);
    let now = ["a", "b", "d"].map(|name| world.now_has(name));
    assert_eq!(now, ["v1=5 v2=5", "v1=4 v2=4", "none"]);
}

#[test]
fn a_file_that_is_blank_when_the_agent_starts_is_a_mistake_and_ends_nothing() {
    let mut world = World::with(&[split("a", 1, 1)]);
    for blank in ["", "# soon\n---\n"] {
        world.restart(&[blank.to_owned()]);
        let complaints = world.complaints();
        assert!(complaints.len() == 1 && complaints[0].contains("no document is in it: write"));
        assert_eq!(world.now_has("a"), "v1=1 v2=1", "it may be in there in a moment");
    }
    world.files(&[split("b", 1, 1)]);
    assert_eq!(world.complaints(), Vec::<String>::new());
    assert_eq!(["a", "b"].map(|name| world.now_has(name)), ["none", "v1=1 v2=1"]);
    world.load_files(&Files::of([("/etc/f", split("b", 1, 1)), ("/etc/g", String::new())]));
    assert!(world.complaints()[0].starts_with("/etc/g: no document is in it: write"));
}

#[test]
fn what_cannot_be_read_leaves_everything_of_it() {
    let (a, b, c) = (split("a", 1, 1), split("b", 1, 1), split("c", 1, 1));
    let both = [a.clone(), b.clone()];
    let all: &[(&str, &[String])] = &[("/etc/1", &both), ("/etc/2", std::slice::from_ref(&c))];
    let there = |world: &World| ["a", "b", "c"].map(|name| world.now_has(name) != "none");
    let unreadable = |name: &str| {
        let problem = Problem::of_file(name, "cannot read the file");
        Files { problems: vec![problem], ..Files::default() }
    };
    let cases: [(&str, Files, [bool; 3]); 4] = [
        (
            "one file",
            Files { unreadable: ["/etc/1".to_owned()].into(), ..unreadable("/etc/1") },
            [true, true, false],
        ),
        ("the directory", Files { unlisted: true, ..unreadable("/etc") }, [true, true, true]),
        (
            "a document that does not say what it is",
            Files::of([("/etc/1", format!("{a}---\nkind: TrafficSplit\n")), ("/etc/2", c.clone())]),
            [true, true, true],
        ),
        (
            "no YAML at all",
            Files::of([("/etc/1", "[".to_owned()), ("/etc/2", b.clone())]),
            [true, true, false],
        ),
    ];
    for (what, files, expected) in cases {
        let mut world = World::default();
        world.load(all);
        world.load_files(&files);
        assert!(!world.complaints().is_empty(), "{what}");
        assert_eq!(there(&world), expected, "{what}");
        // An agent that starts then cannot tell what came from which file.
        world.load(all);
        world.start_again();
        world.load_files(&files);
        assert_eq!(there(&world), [true; 3], "{what}");
        assert!(!world.desired_state.was_faultless(), "{what}");
        let sources = ["a", "c"].map(|name| world.desired_state.source(name).unwrap().to_string());
        assert!(
            sources.contains(&"adopted".to_owned()) || what.starts_with("a doc"),
            "{sources:?}"
        );
        world.load(&[("/etc/1", std::slice::from_ref(&a))]);
        assert_eq!(there(&world), [true, false, false], "{what}: once all is right");
        assert!(world.desired_state.was_faultless(), "{what}");
    }
}

#[test]
fn a_file_that_is_cut_off_to_be_written_anew_leaves_everything_of_it() {
    let (both, other) = ([split("a", 90, 10), split("b", 1, 1)], [split("c", 1, 1)]);
    let with = |text: &str| Files::of([("/etc/1", text), ("/etc/2", other[0].as_str())]);
    for blank in ["", "\n \n", "# later\n---\n...\n", "\u{feff}"] {
        let mut world = World::default();
        world.load(&[("/etc/1", &both), ("/etc/2", &other)]);
        world.weights("a", &[("v1", 50)]).unwrap();
        world.load_files(&with(blank));
        let [complaint] = world.complaints().try_into().unwrap();
        assert!(complaint.starts_with("/etc/1: no document is in it any more"), "{complaint}");
        let now = ["a", "b", "c"].map(|name| world.now_has(name));
        assert_eq!(now, ["v1=50 v2=10", "v1=1 v2=1", "v1=1 v2=1"], "{blank:?}");
        // It is written again, or removed.
        world.load(&[("/etc/1", &both), ("/etc/2", &other)]);
        assert_eq!((world.complaints(), world.now_has("a")), (vec![], "v1=50 v2=10".into()));
        world.load_files(&with(blank));
        world.load(&[("/etc/2", &other)]);
        assert_eq!((world.complaints(), world.now_has("a")), (vec![], "none".into()));
    }
    // A list of nothing says so.
    let mut world = World::default();
    world.load(&[("/etc/1", &both), ("/etc/2", &other)]);
    world.load_files(&with("apiVersion: v1\nkind: List\nitems: []\n"));
    assert_eq!((world.complaints(), world.now_has("a")), (vec![], "none".into()));
}

#[test]
fn an_override_outlives_a_reboot_with_a_broken_file() {
    let mut world = World::with(&[split("a", 90, 10)]);
    world.weights("a", &[("v1", 50)]).unwrap();
    world.reboot(&["[".to_owned()]);
    assert_eq!(world.now_has("a"), "none");
    world.files(&[split("a", 90, 10)]);
    assert_eq!(world.now_has("a"), "v1=50 v2=10");
}

#[test]
fn an_address_waits_for_the_split_that_goes_on_to_have_it() {
    let of = |name, address| document(name, address, &[("v1", 1)], 1);
    let mut world = World::with(&[of("a", 1), of("b", 2)]);
    // Both change addresses, but a is wrong otherwise.
    let bad = of("a", 2).replace("weight: 1", "weight: -1");
    for _ in 0..2 {
        world.files(&[bad.clone(), of("b", 1), of("c", 2)]);
        let address =
            |name: &str| world.desired_state.split_set().get(name).map(|s| s.address().to_string());
        assert_eq!(address("a").unwrap(), "10.0.0.1:80/TCP", "as it was");
        let said = world.complaints();
        assert_eq!(address("b").unwrap(), "10.0.0.2:80/TCP", "{said:?}");
        assert_eq!(address("c"), None, "{said:?}");
        assert_eq!(said.len(), 3, "{said:?}");
    }
    let step = world.files(&[of("a", 3), of("b", 1), of("c", 2)]);
    assert_eq!((world.complaints(), step.changes.len()), (vec![], 3));
}
