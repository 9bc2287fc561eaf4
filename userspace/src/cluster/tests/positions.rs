//! Up to where it is known what there is.

use super::*;
use crate::resource::Kind;

fn often() -> Timing {
    Timing { positions: Duration::from_millis(30), ..timing() }
}

async fn watched(timing: Timing) -> Case {
    let mut case = Case::new(timing).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    case.eventually("watched", |case| case.standing("services") == Standing::Following).await;
    case
}

fn position(case: &Case) -> Option<u64> {
    case.positions.get(&Kind::Service).copied()
}

#[tokio::test]
async fn everything_up_to_a_position_was_told_with_it_or_before() {
    let mut case = watched(often()).await;
    assert!(position(&case) >= Some(101), "{:?}", case.positions);
    let mut came = BTreeMap::new();
    for count in 0..200_u32 {
        let name = format!("s{count}");
        let [high, low] = u16::try_from(count + 2).unwrap().to_be_bytes();
        // An event, a bookmark after it, and one of another kind.
        case.fake.put(SERVICES, service(&name, &format!("10.96.{high}.{low}")));
        came.insert(name, case.fake.version());
        if count % 3 == 0 {
            case.fake.lock().bookmark(SERVICES);
        }
        case.fake.put(NAMESPACES, namespace(&format!("n{count}")));
        if let Ok(batch) = timeout(Duration::from_millis(2), case.follower.next()).await {
            case.apply(batch);
        }
        let position = position(&case).unwrap();
        for (name, version) in &came {
            let is_known = case.has(&format!("Service shop/{name}"));
            assert!(is_known || *version > position, "{name}: {version} of {position}");
        }
    }
    let last = case.fake.version();
    case.eventually("all is told", |case| case.has("Service shop/s199")).await;
    assert!(last > position(&case).unwrap(), "what came last is of another kind");
}

#[tokio::test]
async fn a_bookmark_and_a_deletion_are_told_as_well() {
    let mut case = watched(often()).await;
    case.fake.lock().bookmark(SERVICES);
    let bookmark = case.fake.version();
    case.eventually("the bookmark", |case| position(case) == Some(bookmark)).await;
    case.fake.delete(SERVICES, "shop/web");
    let deleted = case.fake.version();
    case.eventually("the deletion", |case| position(case) == Some(deleted)).await;
    assert!(!case.has("Service shop/web"));
}

#[tokio::test]
async fn a_server_that_went_back_takes_positions_with_it() {
    let mut case = watched(often()).await;
    for _ in 0..20 {
        case.fake.lock().bookmark(SERVICES);
    }
    let ahead = case.fake.version();
    case.eventually("the bookmark", |case| position(case) == Some(ahead)).await;
    case.fake.halt().await;
    case.fake.lock().go_back(90);
    case.fake.lock().put_quietly(SERVICES, service("old", "10.96.0.9"));
    case.fake.resume().await;
    case.eventually("the list", |case| case.has("Service shop/old")).await;
    assert_eq!(position(&case), Some(91));
}
