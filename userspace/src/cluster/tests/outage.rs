//! A server that is away.

use super::*;

#[tokio::test]
async fn all_kinds_go_on_as_soon_as_the_server_is_back() {
    let mut case = Case::new(Timing { longest_pause: Duration::from_secs(2), ..timing() }).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SERVICES, service("old", "10.96.0.2"));
    case.fake.put(SLICES, slice("web-1", "web", "10.0.0.1"));
    case.next().await;
    let before = case.names().join(",");
    case.fake.halt().await;
    case.eventually("stale", |case| !case.health.view().connected).await;
    let view = case.health.view();
    assert!(view.stale_since.is_some() && view.error.as_ref().unwrap().contains("no answer"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(case.names().join(","), before, "everything goes on");
    {
        let mut inner = case.fake.lock();
        inner.delete_quietly(SERVICES, "shop/old");
        inner.put_quietly(SERVICES, service("new", "10.96.0.3"));
        inner.put_quietly(SLICES, slice("web-1", "web", "10.0.0.9"));
        inner.put_quietly(ROUTES, route("web", "web"));
        inner.compact();
        inner.asked.clear();
    }
    case.fake.resume().await;
    case.eventually("reached", |case| case.health.view().connected).await;
    let reached = Instant::now();
    case.batches = 0;
    case.until(|case| case.has("VirtualService shop/web")).await;
    let expected = [
        "EndpointSlice shop/web-1",
        "Service shop/new",
        "Service shop/web",
        "VirtualService shop/web",
    ];
    assert_eq!((case.names(), case.batches), (expected.to_vec(), 1), "without a flap");
    assert!(reached.elapsed() < Duration::from_millis(1_500), "{:?}", reached.elapsed());
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
    assert_eq!((case.health.view().outages, case.completes), (1, 1));
}

#[tokio::test]
async fn one_connection_of_an_agent_asks_for_a_server_that_is_away() {
    let mut case = Case::new(timing()).await;
    case.next().await;
    case.fake.halt().await;
    case.eventually("stale", |case| !case.health.view().connected).await;
    sleep(Duration::from_millis(600)).await;
    let requests = |case: &Case| case.health.view().requests.values().sum::<u64>();
    let before = requests(&case);
    sleep(Duration::from_millis(1_200)).await;
    let more = requests(&case) - before;
    // Pauses are from 150 to 300 ms long.
    assert!((3..=9).contains(&more), "{more} requests");
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_or_wrong_is_named_and_tried_again() {
    let mut case = Case::new(timing()).await;
    let path = case.directory.path().join("kubeconfig");
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    let named = |case: &Case, what: &str| {
        let error = case.health.view().error.unwrap_or_default();
        error.contains(&path.display().to_string()) && error.contains(what)
    };
    case.eventually("missing", |case| named(case, "No such file")).await;
    std::fs::write(&path, "clusters: 7").unwrap();
    case.eventually("wrong", |case| named(case, "parse")).await;
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    case.until(|case| case.completes == 1).await;
    assert!(case.has("Service shop/web"));
}

#[tokio::test]
async fn credentials_that_are_taken_no_more_are_read_again() {
    let mut case = Case::new(timing()).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    {
        let mut inner = case.fake.lock();
        inner.token = Some("t2".into());
        inner.end_watches(SERVICES);
    }
    case.eventually("told", |case| {
        case.health.view().error.unwrap_or_default() == "not authenticated: Unauthorized"
    })
    .await;
    write_kubeconfig(&case.directory, &case.fake, "t2");
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.until(|case| case.has("Service shop/more")).await;
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
}

#[tokio::test]
async fn another_cluster_at_the_same_address_is_told_as_a_whole() {
    let mut case = Case::new(timing()).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SLICES, slice("web-1", "web", "10.0.0.1"));
    case.next().await;
    case.fake.halt().await;
    case.eventually("stale", |case| !case.health.view().connected).await;
    {
        let mut inner = case.fake.lock();
        inner.uid = "cluster-2".into();
        inner.delete_quietly(SERVICES, "shop/web");
        inner.put_quietly(SERVICES, service("theirs", "10.96.0.7"));
    }
    case.fake.resume().await;
    case.until(|case| case.completes == 2).await;
    assert_eq!(case.names(), ["EndpointSlice shop/web-1", "Service shop/theirs"]);
    assert_eq!(case.health.view().cluster.as_deref(), Some("cluster-2"));
}
