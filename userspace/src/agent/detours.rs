//! Endpoints whose answers to some clients go round the node.
//!
//! Who is on the clients' own link answers clients there directly, in its own name, and they reject
//! that. The node never sees such an answer, so it can mend nothing: it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::types::DetourView;
use crate::fast_path::{Devices, client_links, on_link};
use crate::model::SplitSet;
use crate::netlink::Netlink;

/// Routes are looked up again after that: the kernel is asked once for each endpoint.
const VALID: Duration = Duration::from_secs(10);
/// How many endpoints of a link are named.
const NAMED: usize = 16;

/// What was found last.
#[derive(Default)]
pub(super) struct Detours(Mutex<Option<Found>>);

struct Found {
    at: Instant,
    desired: Arc<SplitSet>,
    carriers: BTreeSet<u32>,
    views: Vec<DetourView>,
}

impl Detours {
    /// Which endpoints these are, by link. `carriers` are the interfaces where clients' packets are
    /// steered.
    ///
    /// # Errors
    ///
    /// If the kernel does not say what interfaces there are.
    pub fn of(
        &self,
        desired: &Arc<SplitSet>,
        carriers: BTreeSet<u32>,
    ) -> io::Result<Vec<DetourView>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |found: &&Found| {
            Arc::ptr_eq(&found.desired, desired)
                && found.carriers == carriers
                && found.at.elapsed() < VALID
        };
        if let Some(found) = known.as_ref().filter(same) {
            return Ok(found.views.clone());
        }
        let views = look(desired, &carriers)?;
        let (at, desired) = (Instant::now(), Arc::clone(desired));
        *known = Some(Found { at, desired, carriers, views: views.clone() });
        Ok(views)
    }
}

fn look(desired: &SplitSet, carriers: &BTreeSet<u32>) -> io::Result<Vec<DetourView>> {
    let devices = Devices::new()?.links()?;
    let links: BTreeMap<u32, String> = client_links(&devices, carriers)
        .into_iter()
        .filter_map(|index| Some((index, devices.get(&index)?.name.clone())))
        .collect();
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let mut routes = Netlink::open(libc::NETLINK_ROUTE)?;
    // One that has no route has other troubles.
    Ok(find(desired, &links, |ip| on_link(&mut routes, ip).ok().flatten()))
}

/// `link_of` says on which interface's link an address is, if it is on one.
fn find(
    desired: &SplitSet,
    links: &BTreeMap<u32, String>,
    mut link_of: impl FnMut(IpAddr) -> Option<u32>,
) -> Vec<DetourView> {
    let mut known = BTreeMap::<IpAddr, Option<u32>>::new();
    let mut told = BTreeSet::<SocketAddr>::new();
    let mut found = BTreeMap::<u32, DetourView>::new();
    for split in desired.splits() {
        for subset in split.subsets() {
            for &endpoint in &subset.endpoints {
                let link = *known.entry(endpoint.ip()).or_insert_with(|| link_of(endpoint.ip()));
                let Some((&index, name)) = link.and_then(|link| links.get_key_value(&link)) else {
                    continue;
                };
                if !told.insert(endpoint) {
                    continue;
                }
                let view = found.entry(index).or_insert_with(|| DetourView {
                    interface: name.clone(),
                    count: 0,
                    endpoints: Vec::new(),
                });
                view.count += 1;
                if view.endpoints.len() < NAMED {
                    let line = format!("{endpoint} ({}, {})", split.name(), subset.name);
                    view.endpoints.push(line);
                }
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> SplitSet {
        let text = |name: &str, port: u16, endpoints: &str| {
            format!(
                "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: {name}}}\n\
                 spec:\n  address: 203.0.113.10\n  port: {port}\n  subsets:\n  \
                 - {{name: v1, weight: 1, endpoints: [{endpoints}]}}\n"
            )
        };
        let many: Vec<String> = (1..=20).map(|n| format!("\"192.0.3.{n}:80\"")).collect();
        let text = [
            text("a", 80, "\"192.0.2.5:80\", \"10.1.1.2:80\""),
            text("b", 81, "\"192.0.2.5:80\""),
            text("c", 82, &many.join(", ")),
        ];
        crate::source::resolve(&[("x.yaml", text.join("---\n"))]).unwrap()
    }

    #[test]
    fn endpoints_on_links_of_clients_are_named_once_and_not_all_of_many() {
        let names = BTreeMap::from([(2, "eth0".to_owned()), (4, "eth1".to_owned())]);
        let mut asked = 0;
        let found = find(&desired(), &names, |ip| {
            asked += 1;
            match ip.to_string() {
                ip if ip.starts_with("192.0.2.") => Some(2),
                ip if ip.starts_with("192.0.3.") => Some(4),
                _ => Some(3),
            }
        });
        assert_eq!(asked, 22, "once for each address");
        let [eth0, eth1] = &found[..] else { panic!("{found:?}") };
        let expected = DetourView {
            interface: "eth0".into(),
            count: 1,
            endpoints: vec!["192.0.2.5:80 (a, v1)".into()],
        };
        assert_eq!(*eth0, expected);
        assert_eq!(
            (eth1.interface.as_str(), eth1.count, eth1.endpoints.len()),
            ("eth1", 20, NAMED)
        );
    }

    #[test]
    fn the_kernel_is_asked_again_after_a_change_alone() {
        let detours = Detours::default();
        let (desired, carriers) = (Arc::new(desired()), BTreeSet::from([1]));
        detours.of(&desired, carriers.clone()).unwrap();
        let at = |detours: &Detours| detours.0.lock().unwrap().as_ref().map(|found| found.at);
        let first = at(&detours);
        detours.of(&desired, carriers.clone()).unwrap();
        assert_eq!(at(&detours), first, "nothing has changed");
        detours.of(&desired, BTreeSet::new()).unwrap();
        let second = at(&detours);
        assert_ne!(second, first, "other interfaces");
        detours.of(&Arc::new(SplitSet::clone(&desired)), BTreeSet::new()).unwrap();
        assert_ne!(at(&detours), second, "other splits");
    }
}
