//! Names that are put together from others.

use probe_common::hash;

/// The longest names that are put together, of a split and of a subset. Both fit
/// into one record of the map IDENTITIES, beside an endpoint.
const MAX_SPLIT: usize = 120;
const MAX_SUBSET: usize = 66;

/// The longest label of a DNS name.
const MAX_LABEL: usize = 63;
/// The domain of the hash, which tells it from those of seeds.
const DOMAIN: u64 = 4;

/// A name of a split that is put together from those of objects, such as
/// SERVICE.NAMESPACE, as a DNS name: what is too long ends in a hash of what it was. It is the same
/// on every node and after every start; that two are shortened to one name is as
/// likely as that two hashes of 64 bits are equal, and is rejected then, as two
/// splits of one name are.
pub fn derived_split(text: &str) -> String {
    derived(text, MAX_SPLIT)
}

/// The same for a subset, such as SUBSET.SERVICE.NAMESPACE.
pub fn derived_subset(text: &str) -> String {
    derived(text, MAX_SUBSET)
}

fn derived(text: &str, max: usize) -> String {
    let label = |label: &str| match label.len() {
        ..=MAX_LABEL => label.to_owned(),
        _ => shortened(label, label, MAX_LABEL, '-'),
    };
    let labels: Vec<String> = text.split('.').map(label).collect();
    let whole = labels.join(".");
    if whole.len() <= max { whole } else { shortened(&whole, text, max, '.') }
}

/// The beginning of a text, with the hash of another one, in `max` bytes. After a
/// dot the hash is a label of its own, so that the one before it gets no longer.
fn shortened(text: &str, hashed: &str, max: usize, before: char) -> String {
    let hash = format!("{before}{:016x}", hash::identity(DOMAIN, hashed.as_bytes()));
    let kept = text.get(..max - hash.len()).unwrap_or_default();
    kept.trim_end_matches(['-', '.']).to_owned() + &hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn what_fits_stays_and_the_rest_is_told_apart_by_a_hash() {
        let full = format!("{}.{}", "a".repeat(63), "b".repeat(56));
        for fits in ["reviews.shop", &full] {
            assert_eq!(derived_split(fits), *fits);
        }
        assert_eq!(derived_subset("Blue.reviews.shop"), "Blue.reviews.shop");
        let long = |end: &str| format!("tcp.{}{end}.default", "a".repeat(70));
        let texts = [long(""), long("b"), format!("{full}x"), format!("{full}y"), "a.".repeat(126)];
        let mut names = std::collections::BTreeSet::new();
        for text in texts.iter().map(|text| text.trim_end_matches('.')) {
            let (split, subset) = (derived_split(text), derived_subset(text));
            for (name, max) in [(&split, MAX_SPLIT), (&subset, MAX_SUBSET)] {
                assert!(name.len() <= max && Name::of_object(name.as_str()).is_ok(), "{name}");
                assert!(name.split('.').all(|label| label.len() <= MAX_LABEL), "{name}");
            }
            names.insert(split);
        }
        assert_eq!(names.len(), texts.len());
        let dashed = format!("{}-{}", "a".repeat(45), "-".repeat(30) + "b");
        let dashed = derived_split(&dashed);
        assert!(Name::of_object(dashed.as_str()).is_ok(), "{dashed}");
    }

    #[test]
    fn a_shortened_name_is_never_another_one() {
        // The seeds of subsets come from it.
        let text = format!("tcp.{}.default", "a".repeat(70));
        let hash = format!("{:016x}", hash::identity(DOMAIN, "a".repeat(70).as_bytes()));
        assert_eq!(derived_split(&text), format!("tcp.{}-{hash}.default", "a".repeat(46)));
    }
}
