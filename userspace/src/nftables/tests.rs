use std::collections::HashMap;

use super::class::{Class, State};
use super::expression::{Base, Comparison, Expression, Verdict};
use super::family::Family;
use super::judge::{Judge, Objection};
use super::registers::Register;
use super::ruleset::{Builder, Chain, Hook, Place, Rule, Ruleset, Table};
use super::set::{Data, Element, SetKind};

const PATIENCE: usize = 1000;

fn class(state: State) -> Class {
    Class {
        family: Family::IPV4,
        protocol: 6,
        source: None,
        source_port: None,
        destination: Some("192.0.2.1".parse().unwrap()),
        destination_port: Some(80),
        state,
        is_reply: false,
    }
}

fn register() -> Register {
    Register::new(1).unwrap()
}

fn load(base: Base, offset: usize, length: usize) -> Expression {
    Expression::Payload { base, offset, length, to: register() }
}

fn equal(value: &[u8]) -> Expression {
    let (from, value) = (register(), value.to_vec());
    Expression::Compare { from, comparison: Comparison::Equal, value }
}

/// Matches all packets of the class, none, or some.
fn yes() -> Vec<Expression> {
    vec![load(Base::Transport, 2, 2), equal(&[0, 80])]
}

fn no() -> Vec<Expression> {
    vec![load(Base::Transport, 2, 2), equal(&[0, 81])]
}

fn maybe() -> Vec<Expression> {
    vec![load(Base::Transport, 0, 2), equal(&[0, 81])]
}

fn ct_new() -> Vec<Expression> {
    vec![
        Expression::Tracked { key: 0, direction: None, to: register() },
        equal(&8_u32.to_ne_bytes()),
    ]
}

fn effect() -> Expression {
    Expression::Effect { name: "log".to_owned(), set: None }
}

fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

fn jump(to: &str) -> Expression {
    verdict(Verdict::Jump(to.to_owned()))
}

fn goto(to: &str) -> Expression {
    verdict(Verdict::Goto(to.to_owned()))
}

fn rule(condition: Vec<Expression>, then: Expression) -> Vec<Expression> {
    condition.into_iter().chain([then]).collect()
}

fn hook(point: u32, priority: i32) -> Hook {
    Hook { point, priority, kind: "filter".to_owned(), policy: Verdict::Accept }
}

fn forward() -> Hook {
    hook(2, 0)
}

/// One table, of these chains.
fn ruleset(hook: Hook, chains: &[(&str, Vec<Vec<Expression>>)]) -> Ruleset {
    of_family(Family::IPV4, hook, chains, Vec::new())
}

fn of_family(
    family: Family,
    hook: Hook,
    chains: &[(&str, Vec<Vec<Expression>>)],
    sets: Vec<(&str, u32, Vec<Element>)>,
) -> Ruleset {
    let mut builder = Builder::default();
    builder.table(Table::new(family, "t".to_owned(), false));
    let place = || Place { family, table: "t".to_owned() };
    for (n, (name, rules)) in chains.iter().enumerate() {
        let hook = (n == 0).then(|| hook.clone());
        builder
            .chain(place(), Chain { name: (*name).to_owned(), hook, rules: Vec::new() })
            .unwrap();
        for (handle, expressions) in (1..).zip(rules) {
            let rule = Rule { handle, expressions: expressions.clone() };
            builder.rule(place(), name, rule).unwrap();
        }
    }
    for (name, flags, elements) in sets {
        let kind = SetKind { flags, key_length: 2, fields: Vec::new(), is_known: true };
        builder.set(place(), name.to_owned(), kind, elements).unwrap();
    }
    builder.finish()
}

fn objection(ruleset: &Ruleset, class: &Class) -> Option<Objection> {
    Judge::new(ruleset, PATIENCE).objection(class)
}

fn bars(ruleset: &Ruleset) -> bool {
    objection(ruleset, &class(State::New)).is_some()
}

#[test]
fn a_rule_matters_unless_no_packet_comes_to_it() {
    let drop = || verdict(Verdict::Drop);
    let accept = || verdict(Verdict::Accept);
    let back = || verdict(Verdict::Return);
    for (what, rules, expected) in [
        ("nothing", vec![], false),
        ("it matches", vec![rule(yes(), drop())], true),
        ("it may match", vec![rule(maybe(), drop())], true),
        ("it does not", vec![rule(no(), drop())], false),
        (
            "an effect before the end of a rule",
            vec![rule(rule(yes(), effect()), no().remove(1))],
            true,
        ),
        ("an effect behind what does not match", vec![rule(no(), effect())], false),
        ("accepted before", vec![rule(yes(), accept()), vec![drop()]], false),
        ("perhaps accepted before", vec![rule(maybe(), accept()), vec![drop()]], true),
        ("not accepted before", vec![rule(no(), accept()), vec![drop()]], true),
        ("returned before", vec![rule(yes(), back()), vec![drop()]], false),
        ("a queue", vec![vec![verdict(Verdict::Other(3))]], true),
        ("a counter", vec![vec![Expression::Counter]], false),
        ("break", vec![vec![verdict(Verdict::Break), drop()]], false),
        ("continue", vec![vec![verdict(Verdict::Continue), drop()]], true),
        ("a chain that is not there", vec![vec![jump("other")]], true),
    ] {
        assert_eq!(bars(&ruleset(forward(), &[("c", rules)])), expected, "{what}");
    }
}

#[test]
fn packets_come_back_from_chains_that_were_jumped_to() {
    let drop = || vec![verdict(Verdict::Drop)];
    for (what, first, second, third, expected) in [
        ("jump, and back", jump("d"), vec![], drop(), true),
        (
            "jump, and accepted there",
            jump("d"),
            vec![vec![verdict(Verdict::Accept)]],
            drop(),
            false,
        ),
        ("jump, and returned", jump("d"), vec![vec![verdict(Verdict::Return)]], drop(), true),
        ("goto, and back to the base", goto("d"), vec![], drop(), false),
        (
            "perhaps accepted there",
            jump("d"),
            vec![rule(maybe(), verdict(Verdict::Accept))],
            drop(),
            true,
        ),
        ("dropped there", jump("d"), vec![drop()], vec![Expression::Counter], true),
    ] {
        let chains = [("c", vec![vec![first], third]), ("d", second)];
        assert_eq!(bars(&ruleset(forward(), &chains)), expected, "{what}");
    }
    // A goto's end is the end of the chain that it is in, and not of the one before.
    let chains = [
        ("c", vec![vec![jump("d")], drop()]),
        ("d", vec![vec![goto("e")], vec![verdict(Verdict::Accept)]]),
        ("e", vec![]),
    ];
    assert!(bars(&ruleset(forward(), &chains)));
    let circle = [("c", vec![vec![jump("d")]]), ("d", vec![vec![jump("c")]])];
    assert!(bars(&ruleset(forward(), &circle)), "a circle");
}

#[test]
fn the_policy_counts_if_packets_come_to_it() {
    let closed = || Hook { policy: Verdict::Drop, ..forward() };
    let accept = |condition| rule(condition, verdict(Verdict::Accept));
    let found = objection(&ruleset(closed(), &[("c", vec![])]), &class(State::New)).unwrap();
    assert_eq!(found.to_string(), "ip t c: policy drop");
    assert!(!bars(&ruleset(closed(), &[("c", vec![accept(yes())])])));
    assert!(bars(&ruleset(closed(), &[("c", vec![accept(maybe())])])));
    let chains = [("c", vec![vec![goto("d")]]), ("d", vec![])];
    assert!(bars(&ruleset(closed(), &chains)), "back from a goto");
    let other = Hook { kind: "later".to_owned(), ..forward() };
    assert!(bars(&ruleset(other, &[("c", vec![])])), "a type that is not known");
}

#[test]
fn chains_count_that_packets_of_the_class_come_to() {
    let drop = || vec![("c", vec![vec![verdict(Verdict::Drop)]])];
    let nat = |point| Hook { kind: "nat".to_owned(), ..hook(point, -100) };
    let met = |family, hook, state| {
        objection(&of_family(family, hook, &drop(), Vec::new()), &class(state)).is_some()
    };
    use Family as F;
    use State::{Established, New, Related};
    for (family, point, expected) in [
        (F::IPV4, 0, true),
        (F::IPV4, 1, false),
        (F::IPV4, 2, true),
        (F::IPV4, 3, false),
        (F::IPV4, 4, true),
        (F::INET, 2, true),
        (F::INET, 5, true),
        (F::IPV6, 2, false),
        (F::ARP, 0, false),
        (F::BRIDGE, 2, false),
        (F::NETDEV, 0, true),
        (F::NETDEV, 1, true),
        (F(99), 1, true),
    ] {
        assert_eq!(met(family, hook(point, 0), New), expected, "{family} {point}");
    }
    for (state, expected) in [(New, true), (Related, true), (Established, false)] {
        assert_eq!(met(F::IPV4, nat(0), state), expected, "nat, {state:?}");
    }
    let mut dormant = of_family(F::IPV4, forward(), &drop(), Vec::new());
    dormant.tables[0].is_dormant = true;
    assert!(!bars(&dormant));
}

#[test]
fn the_state_of_a_flow_is_known_behind_connection_tracking() {
    let rules = || vec![("c", vec![rule(ct_new(), verdict(Verdict::Drop))])];
    let met = |family, hook, state| {
        objection(&of_family(family, hook, &rules(), Vec::new()), &class(state)).is_some()
    };
    for (family, hook, expected) in [
        (Family::IPV4, hook(2, -500), false),
        (Family::IPV4, hook(4, 0), false),
        (Family::IPV4, hook(0, -199), false),
        (Family::IPV4, hook(0, -200), true),
        (Family::IPV4, hook(0, -300), true),
        (Family::INET, hook(5, 0), true),
        (Family::NETDEV, hook(0, 0), true),
        (Family::NETDEV, hook(1, 0), true),
    ] {
        let what = format!("{family} {hook:?}");
        assert_eq!(met(family, hook.clone(), State::Established), expected, "{what}");
        assert!(met(family, hook, State::New), "{what}");
    }
}

fn element(port: u16, data: Data) -> Element {
    Element {
        key: port.to_be_bytes().to_vec(),
        key_end: None,
        ends: false,
        is_catch_all: false,
        data,
        acts: false,
    }
}

#[test]
fn a_map_of_verdicts_has_the_verdict_that_is_found() {
    let drop = |port| element(port, Data::Verdict(Verdict::Drop));
    let accept = |port| element(port, Data::Verdict(Verdict::Accept));
    let lookup = |offset| {
        let to = Some(None);
        let look =
            Expression::Lookup { set: "m".to_owned(), from: register(), to, inverted: false };
        vec![load(Base::Transport, offset, 2), look]
    };
    let (source, destination) = (0, 2);
    const TIMEOUT: u32 = 0x10;
    for (what, offset, flags, elements, last, expected) in [
        ("another's", destination, 0, vec![drop(81)], false, false),
        ("ours", destination, 0, vec![drop(81), drop(80)], false, true),
        ("ours, accepted", destination, 0, vec![accept(80), drop(81)], true, false),
        ("none, and on", destination, 0, vec![accept(81)], true, true),
        ("perhaps", source, 0, vec![drop(81)], false, true),
        ("perhaps accepted", source, 0, vec![accept(81)], true, true),
        ("it runs out", destination, TIMEOUT, vec![drop(81)], false, true),
        ("it runs out and was accepted", destination, TIMEOUT, vec![accept(80)], true, true),
        ("no verdict", destination, 0, vec![element(80, Data::None)], false, true),
    ] {
        let last: &[Expression] = if last { &[verdict(Verdict::Drop)] } else { &[] };
        let chains = [("c", vec![lookup(offset), last.to_vec()])];
        let found = of_family(Family::IPV4, forward(), &chains, vec![("m", flags, elements)]);
        assert_eq!(bars(&found), expected, "{what}");
    }
    let chains = [("c", vec![rule(lookup(destination), effect())])];
    let on = element(80, Data::Verdict(Verdict::Continue));
    assert!(bars(&of_family(Family::IPV4, forward(), &chains, vec![("m", 0, vec![on])])));
    assert!(bars(&ruleset(forward(), &chains)), "no map");
}

#[test]
fn nothing_is_sure_of_a_set_that_rules_write_to() {
    let look =
        Expression::Lookup { set: "s".to_owned(), from: register(), to: None, inverted: false };
    let matches = vec![load(Base::Transport, 2, 2), look, verdict(Verdict::Drop)];
    let writes = Expression::Effect { name: "dynset".to_owned(), set: Some("s".to_owned()) };
    let with = |rules| {
        bars(&of_family(Family::IPV4, forward(), &[("c", rules)], vec![("s", 0, Vec::new())]))
    };
    assert!(!with(vec![matches.clone()]));
    assert!(with(vec![matches, rule(no(), writes)]));
}

#[test]
fn values_of_maps_are_known_as_far_as_they_agree() {
    let to = Register::new(2).unwrap();
    let chains = |expected: &[u8]| {
        let look = Expression::Lookup {
            set: "m".to_owned(),
            from: register(),
            to: Some(Some(to)),
            inverted: false,
        };
        let value = expected.to_vec();
        let compare = Expression::Compare { from: to, comparison: Comparison::Equal, value };
        [("c", vec![vec![load(Base::Transport, 0, 2), look, compare, verdict(Verdict::Drop)]])]
    };
    let values: HashMap<u16, Vec<u8>> = HashMap::from([(1, vec![5, 6]), (2, vec![5, 7])]);
    let elements = || values.iter().map(|(key, value)| element(*key, Data::Value(value.clone())));
    for (expected, matters) in [([5, 6], true), ([5, 8], false), ([4, 6], false)] {
        let sets = vec![("m", 0, elements().collect())];
        let found = of_family(Family::IPV4, forward(), &chains(&expected), sets);
        assert_eq!(bars(&found), matters, "{expected:?}");
    }
}

#[test]
fn what_takes_too_long_is_not_harmless() {
    let rules = ruleset(forward(), &[("c", vec![yes(); 10])]);
    assert_eq!(Judge::new(&rules, 1000).objection(&class(State::New)), None);
    let found = Judge::new(&rules, 20).objection(&class(State::New)).unwrap();
    assert!(found.text.contains("too many rules"), "{found}");
    // Patience is for all classes together.
    let mut judge = Judge::new(&rules, 50);
    assert_eq!(judge.objection(&class(State::New)), None);
    assert!(judge.objection(&class(State::New)).is_some());
}

#[test]
fn chains_that_are_called_again_are_not_looked_at_again() {
    let names: Vec<String> = (0..15).map(|n| format!("c{n}")).collect();
    let twice = |n: usize| match names.get(n + 1) {
        Some(next) => vec![rule(maybe(), jump(next)), rule(maybe(), jump(next))],
        None => vec![],
    };
    let chains: Vec<(&str, Vec<Vec<Expression>>)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), twice(n))).collect();
    assert!(!bars(&ruleset(forward(), &chains)));
}
