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
    assert!(reached.elapsed() < Duration::from_secs(4), "{:?}", reached.elapsed());
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
    case.eventually("wrong", |case| named(case, "not a kubeconfig in YAML")).await;
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

#[tokio::test]
async fn kinds_that_failed_one_by_one_go_on_with_the_first_that_is_answered() {
    let mut case = Case::new(Timing { longest_pause: Duration::from_secs(60), ..timing() }).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    let kinds = ["services", "namespaces", "endpointslices"];
    let path = [SERVICES, NAMESPACES, SLICES];
    {
        // As a server does whose etcd is away.
        let mut inner = case.fake.lock();
        for (kind, path) in kinds.iter().zip(path) {
            inner.errors.insert(format!("watch {kind}"), (500, "etcdserver: no leader".into()));
            inner.end_watches(path);
        }
    }
    let watches = |case: &Case| kinds.map(|kind| case.fake.count(&format!("watch {kind}")));
    // From then on each waits for a second and more, at times of its own.
    case.eventually("tried", |case| watches(case).iter().all(|count| *count > 7)).await;
    let error = case.standing("services");
    assert!(error.error().unwrap().ends_with("500: etcdserver: no leader"), "{error:?}");
    case.fake.lock().errors.clear();
    let following = |case: &Case| {
        let view = case.health.view();
        let is = |(what, kind): (&String, &crate::cluster::KindHealth)| {
            kinds.iter().any(|kind| what.starts_with(kind)) && kind.standing == Standing::Following
        };
        view.kinds.iter().filter(|one| is(*one)).count()
    };
    case.eventually("answered", |case| following(case) > 0).await;
    let first = Instant::now();
    case.eventually("answered", |case| following(case) == 3).await;
    assert!(first.elapsed() < Duration::from_millis(500), "{:?}", first.elapsed());
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_told_without_its_secrets() {
    let mut case = Case::new(timing()).await;
    let path = case.directory.path().join("kubeconfig");
    for text in [
        "users: [{name: u, user: {token: [s3cr3t]}}]",
        "users:\n- name: u\n  user:\n    token: s3cr3t\n    token: s3cr3t\n",
        "users:\n- name: u\n  user: s3cr3t\n",
        "users:\n- name: u\n  user:\n    token: \"s3cr3t\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let server = super::super::client::configuration(Some(&path));
        let error = server.err().unwrap();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(!error.contains("s3cr3t") && !error.contains('\n'), "{error}");
    }
    case.eventually("shown", |case| case.health.view().error.is_some()).await;
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_away() {
    let timing = Timing { heartbeat: Duration::from_millis(400), ..timing() };
    let mut case = Case::new(timing).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    sleep(Duration::from_millis(1_000)).await;
    assert!(case.health.view().connected, "it answers when it is asked");
    case.fake.lock().silent = true;
    case.fake.lock().deaf = true;
    case.eventually("stale", |case| !case.health.view().connected).await;
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.nothing().await;
    // The watches of before say nothing any more, and are made anew.
    case.fake.lock().silent = false;
    case.fake.lock().deaf = false;
    case.until(|case| case.has("Service shop/more")).await;
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
}
