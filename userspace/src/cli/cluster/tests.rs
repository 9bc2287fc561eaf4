use super::*;
use crate::model::{Affinity, Protocol, ServiceAddress, Subset};

fn split(subsets: &[&str]) -> Split {
    let address =
        ServiceAddress { ip: "192.0.2.1".parse().unwrap(), port: 80, protocol: Protocol::Tcp };
    let subset = |name: &&str| Subset {
        name: Name::new(*name).unwrap(),
        weight: 1,
        endpoints: BTreeSet::new(),
    };
    let subsets = subsets.iter().map(subset).collect();
    Split::new(Name::of_object("web.shop").unwrap(), address, Affinity::None, subsets).unwrap()
}

fn record(generation: u64, from: &[(&str, u32)], to: &[(&str, u32)]) -> Record {
    let map = |all: &[(&str, u32)]| all.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    Record {
        split: "web.shop".into(),
        generation,
        time: String::new(),
        cause: "weights".into(),
        by: None,
        reason: None,
        from: map(from),
        to: map(to),
    }
}

#[test]
fn a_rollback_goes_to_weights_that_are_known() {
    let known = [
        record(2, &[("a", 1), ("b", 0)], &[("a", 1), ("b", 1)]),
        record(3, &[("a", 1), ("b", 1)], &[("a", 1), ("b", 2)]),
    ];
    let split = split(&["a", "b"]);
    let to = |records: &[Record], split: &Split, to| {
        before(records, split, to)
            .map(|weights| render::weights(&weights))
            .map_err(|error| error.to_string())
    };
    assert_eq!(to(&known, &split, None).unwrap(), "a=1 b=1");
    assert_eq!(to(&known, &split, Some(2)).unwrap(), "a=1 b=1");
    let none = to(&known, &split, Some(7)).unwrap_err();
    assert_eq!(none, "no weights of version 7 are known of split \"web.shop\", only of 2, 3");
    let unknown = to(&[record(3, &[], &[("a", 1), ("b", 2)])], &split, None).unwrap_err();
    assert!(unknown.starts_with("the weights before are not known"), "{unknown}");
    let other = to(&known, &self::split(&["a", "c"]), None).unwrap_err();
    assert_eq!(other, "split \"web.shop\" has other subsets now: it has a c, and had a=1 b=1");
}
