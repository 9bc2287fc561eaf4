//! What is there when a follower comes.

use super::*;

#[tokio::test]
async fn what_is_there_is_told_as_one_complete_batch() {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SLICES, slice("web-1", "web", "10.0.0.1"));
    case.fake.put(NAMESPACES, namespace("shop"));
    case.fake.put(ROUTES, route("web", "web"));
    assert!(case.follower.cached().is_none(), "there was no run before");
    case.next().await;
    assert_eq!((case.completes, case.batches), (1, 1));
    let expected = [
        "EndpointSlice shop/web-1",
        "Namespace shop",
        "Service shop/web",
        "VirtualService shop/web",
    ];
    assert_eq!(case.names(), expected);
    let route = &case.documents["VirtualService shop/web"];
    assert_eq!(route.origin(), crate::resource::Origin::Cluster);
    case.nothing().await;
    case.eventually("followed", |case| {
        case.standing("services") == Standing::Following && case.health.stale_since().is_none()
    })
    .await;
    let view = case.health.view();
    assert!(view.connected && view.complete, "{view:#?}");
    assert_eq!(view.cluster.as_deref(), Some("cluster-1"));
    assert_eq!(view.server, Some(format!("http://{}/", case.fake.address)));
    let routes = &view.kinds["virtualservices.networking.istio.io"];
    assert_eq!(routes.api_version.as_deref(), Some("networking.istio.io/v1"));
    assert_eq!(routes.objects, 1);
    let absent = &view.kinds["tcproutes.gateway.networking.k8s.io"];
    assert_eq!(absent.standing, Standing::NotServed);
    assert_eq!(view.kinds["pods"].standing, Standing::NotNeeded);
    assert!(view.requests["list"] >= 5 && view.bytes > 1_000, "{view:#?}");
    serde_json::to_string(&view).unwrap();
}

#[tokio::test]
async fn requests_ask_for_no_more_than_what_counts() {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "destinationrules", "DestinationRule");
    case.fake.put(RULES, rule("web", "web"));
    case.next().await;
    case.eventually("watched", |case| case.fake.count("watch pods") > 0).await;
    case.eventually("watched", |case| case.fake.count("watch endpointslices") > 0).await;
    let asked = case.fake.lock().asked.clone();
    let version = concat!("weir/", env!("CARGO_PKG_VERSION"));
    assert!(asked.iter().all(|asked| asked.agent == version), "{asked:#?}");
    assert!(asked.iter().all(|asked| asked.token == "Bearer t"));
    let one = |verb: &str| asked.iter().find(|asked| asked.verb() == verb).unwrap();
    let selector = |verb: &str| one(verb).parameters.get("labelSelector").map(String::as_str);
    for verb in ["list", "watch"] {
        let services = selector(&format!("{verb} services"));
        assert_eq!(services, Some("!service.kubernetes.io/service-proxy-name"));
        let slices = selector(&format!("{verb} endpointslices"));
        assert_eq!(slices, Some("!service.kubernetes.io/headless"));
        assert_eq!(selector(&format!("{verb} destinationrules")), None);
    }
    assert_eq!(one("list services").parameters["limit"], "500");
    let watch = &one("watch endpointslices").parameters;
    assert_eq!(watch["allowWatchBookmarks"], "true");
    let seconds: u64 = watch["timeoutSeconds"].parse().unwrap();
    assert!((232..=290).contains(&seconds), "{seconds}");
    for what in ["pods", "customresourcedefinitions"] {
        let list = &one(&format!("list {what}")).accept;
        assert_eq!(list, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        let watch = &one(&format!("watch {what}")).accept;
        assert_eq!(watch, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    }
    assert_eq!(one("watch services").accept, "application/json");
}

#[tokio::test]
async fn a_list_of_many_pages_is_told_whole() {
    let mut case = Case::new(timing()).await;
    for n in 0..1_203 {
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        case.fake.put(SERVICES, service(&format!("s{n}"), &ip));
    }
    case.next().await;
    assert_eq!((case.completes, case.documents.len()), (1, 1_203));
    assert_eq!(case.fake.count("list services"), 3);
}

#[tokio::test]
async fn a_list_whose_pages_are_forgotten_is_read_at_once() {
    let mut case = Case::new(timing()).await;
    for n in 0..700 {
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        case.fake.put(SERVICES, service(&format!("s{n}"), &ip));
    }
    case.fake.lock().forget_pages = 1;
    case.next().await;
    assert_eq!((case.completes, case.documents.len()), (1, 700));
    let asked = case.fake.lock().asked.clone();
    let lists = asked.iter().filter(|asked| asked.verb() == "list services");
    let limits: Vec<_> = lists.map(|asked| asked.parameters.get("limit").cloned()).collect();
    assert_eq!(limits, [Some("500".into()), Some("500".into()), None]);
}

#[tokio::test]
async fn a_kind_that_is_forbidden_is_named_and_holds_up_no_other() {
    let mut case = Case::new(timing()).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    let message = "endpointslices.discovery.k8s.io is forbidden: User \"weir\" cannot list";
    case.fake.lock().errors.insert("list endpointslices".into(), (403, message.into()));
    case.until(|case| case.has("Service shop/web")).await;
    assert_eq!(case.completes, 0, "nobody knows all that there is");
    let error = format!("cannot list endpointslices.discovery.k8s.io: forbidden: {message}");
    assert_eq!(case.standing("endpointslices.discovery.k8s.io"), Standing::Forbidden(error));
    assert!(case.health.stale_since().is_some() && case.health.view().connected);
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.until(|case| case.has("Service shop/more")).await;
    // It is given after all.
    case.fake.lock().errors.clear();
    case.until(|case| case.completes == 1).await;
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
}

#[tokio::test]
async fn a_kind_that_is_being_listed_is_waited_for() {
    let mut case = Case::new(timing()).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SLICES, slice("web-1", "web", "10.0.0.1"));
    case.fake.lock().errors.insert("list endpointslices".into(), (503, "starting".into()));
    let inner = Arc::clone(&case.fake.inner);
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        inner.lock().unwrap().errors.clear();
    });
    case.next().await;
    assert_eq!((case.completes, case.batches), (1, 1), "nothing is told of half of it");
    assert_eq!(case.names(), ["EndpointSlice shop/web-1", "Service shop/web"]);
}

#[tokio::test]
async fn what_is_wrong_is_rejected_by_itself_and_the_last_good_one_stays() {
    let mut case = Case::new(timing()).await;
    let wrong = |name: &str| {
        let mut wrong = service(name, "10.96.0.1");
        wrong["spec"]["clusterIPs"] = json!(["nonsense"]);
        wrong["spec"]["clusterIP"] = json!("nonsense");
        wrong
    };
    case.fake.put(SERVICES, wrong("bad"));
    case.fake.put(SERVICES, service("web", "10.96.0.2"));
    case.next().await;
    assert_eq!((case.completes, case.names()), (1, vec!["Service shop/web"]));
    let problem = &case.rejected["Service shop/bad"];
    assert!(problem.starts_with("cluster Service/shop/bad: spec.clusterIPs[0]: "), "{problem}");
    case.fake.put(SERVICES, wrong("web"));
    case.until(|case| case.rejected.contains_key("Service shop/web")).await;
    assert!(case.has("Service shop/web"), "the last good one");
    case.fake.put(SERVICES, service("web", "10.96.0.2"));
    case.until(|case| !case.rejected.contains_key("Service shop/web")).await;
    case.fake.delete(SERVICES, "shop/bad");
    case.until(|case| case.rejected.is_empty()).await;
    assert_eq!(case.names(), ["Service shop/web"]);
}

#[tokio::test]
async fn what_is_nested_more_deeply_than_anything_is_rejected_by_itself() {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    let mut deep = route("deep", "web");
    deep["spec"]["extra"] = (0..200).fold(json!(1), |inner, _| json!([inner]));
    case.fake.put(ROUTES, deep);
    case.fake.put(ROUTES, route("web", "web"));
    case.next().await;
    assert_eq!((case.completes, case.names()), (1, vec!["VirtualService shop/web"]));
    let problem = &case.rejected["VirtualService shop/deep"];
    assert!(problem.contains("recursion limit"), "{problem}");
}

#[tokio::test]
async fn half_a_list_is_not_told_for_as_long_as_more_of_it_comes() {
    let hold = Duration::from_millis(1_500);
    let mut case = Case::new(Timing { first_hold: hold, ..timing() }).await;
    for n in 0..3_000 {
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        case.fake.put(SERVICES, service(&format!("s{n}"), &ip));
    }
    case.fake.put(NAMESPACES, namespace("shop"));
    case.fake.lock().page_pause = Duration::from_millis(500);
    case.next().await;
    assert_eq!((case.completes, case.documents.len()), (1, 3_001));
    // A list of which nothing comes any more is not waited for.
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(ROUTES, route("web", "web"));
    case.fake.lock().errors.insert("list virtualservices".into(), (503, "starting".into()));
    case.fake.put(SERVICES, service("late", "10.98.0.1"));
    case.restart().await;
    case.until(|case| case.has("Service shop/late")).await;
    assert_eq!((case.completes, case.has("Service shop/s7")), (0, true));
}
