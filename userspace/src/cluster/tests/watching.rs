//! What changes.

use super::*;

async fn with_service(timing: Timing) -> Case {
    let mut case = Case::new(timing).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SLICES, slice("web-1", "web", "10.0.0.1"));
    case.next().await;
    assert_eq!(case.completes, 1);
    case.eventually("watched", |case| case.standing("services") == Standing::Following).await;
    case.eventually("watched", |case| {
        case.standing("endpointslices.discovery.k8s.io") == Standing::Following
    })
    .await;
    case
}

#[tokio::test]
async fn changes_are_told_and_what_comes_together_is_told_at_once() {
    let mut case = with_service(timing()).await;
    case.batches = 0;
    case.fake.put(SERVICES, service("a", "10.96.0.2"));
    case.fake.put(SERVICES, service("b", "10.96.0.3"));
    case.fake.delete(SERVICES, "shop/web");
    case.until(|case| !case.has("Service shop/web")).await;
    let expected = ["EndpointSlice shop/web-1", "Service shop/a", "Service shop/b"];
    assert_eq!((case.batches, case.names()), (1, expected.to_vec()));
}

#[tokio::test]
async fn an_object_that_comes_and_goes_and_comes_again_is_there() {
    let mut case = with_service(timing()).await;
    case.fake.delete(SERVICES, "shop/web");
    case.fake.put(SERVICES, service("web", "10.96.0.9"));
    case.fake.put(SERVICES, service("short", "10.96.0.8"));
    case.fake.delete(SERVICES, "shop/short");
    case.fake.put(SERVICES, service("last", "10.96.0.7"));
    case.until(|case| case.has("Service shop/last")).await;
    assert!(case.has("Service shop/web") && !case.has("Service shop/short"));
}

#[tokio::test]
async fn what_does_not_matter_to_steering_is_not_told() {
    let mut case = with_service(timing()).await;
    let mut noise = service("web", "10.96.0.1");
    noise["metadata"]["managedFields"] = json!([{"manager": "another"}]);
    noise["metadata"]["generation"] = json!(7);
    noise["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied": "{}"});
    noise["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    case.fake.put(SERVICES, noise.clone());
    let mut stamped = slice("web-1", "web", "10.0.0.1");
    stamped["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "2030-01-01T00:00:00Z"});
    case.fake.put(SLICES, stamped);
    case.nothing().await;
    let events = |case: &Case, what: &str| case.health.view().kinds[what].events;
    assert_eq!(events(&case, "services") + events(&case, "endpointslices.discovery.k8s.io"), 2);
    noise["metadata"]["labels"] = json!({"weir.dev/steer": "true"});
    case.fake.put(SERVICES, noise);
    case.next().await;
}

#[tokio::test]
async fn a_watch_that_ends_in_time_goes_on_from_the_last_bookmark() {
    let mut case = with_service(timing()).await;
    let lists = case.fake.count("list services");
    case.fake.lock().bookmark(SERVICES);
    let version = case.health.view().kinds["services"].resource_version.clone();
    case.eventually("noted", |case| {
        case.health.view().kinds["services"].resource_version != version
    })
    .await;
    let version = case.health.view().kinds["services"].resource_version.clone().unwrap();
    sleep(case.timing.first_pause * 2).await;
    let watches = case.fake.count("watch services");
    // What happened up to the bookmark is forgotten, and not needed.
    case.fake.lock().end_watches(SERVICES);
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.until(|case| case.has("Service shop/more")).await;
    assert_eq!(case.fake.count("list services"), lists, "it is not listed again");
    let asked = case.fake.lock().asked.clone();
    let all: Vec<_> = asked.iter().filter(|asked| asked.verb() == "watch services").collect();
    assert_eq!(all.len(), watches + 1);
    assert_eq!(all[watches].parameters["resourceVersion"], version);
    assert!(case.health.stale_since().is_none());
}

#[tokio::test]
async fn a_list_after_410_gone_finds_what_was_deleted() {
    for how in ["in an event", "as an answer"] {
        let mut case = with_service(timing()).await;
        sleep(case.timing.first_pause * 2).await;
        {
            let mut inner = case.fake.lock();
            inner.delete_quietly(SERVICES, "shop/web");
            inner.put_quietly(SERVICES, service("new", "10.96.0.2"));
            inner.compact();
            match how {
                "in an event" => inner.break_watches(SERVICES, 410),
                _ => inner.end_watches(SERVICES),
            }
        }
        case.until(|case| case.has("Service shop/new")).await;
        assert_eq!(case.names(), ["EndpointSlice shop/web-1", "Service shop/new"], "{how}");
        assert_eq!((case.completes, case.fake.count("list services")), (1, 2), "{how}");
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_deletes_nothing() {
    let mut case = with_service(timing()).await;
    for n in 0..600 {
        let ip = format!("10.97.{}.{}", n / 250, n % 250 + 1);
        case.fake.put(SERVICES, service(&format!("s{n:03}"), &ip));
    }
    case.until(|case| case.documents.len() == 602).await;
    {
        let mut inner = case.fake.lock();
        inner.compact();
        // Neither the pages that are left, nor all at once.
        inner.forget_pages = usize::MAX;
        inner.errors.insert("watch services".into(), (500, "broken".into()));
        inner.break_watches(SERVICES, 410);
    }
    case.eventually("listed", |case| case.fake.count("list services") > 3).await;
    case.fake.halt().await;
    sleep(Duration::from_millis(200)).await;
    case.nothing().await;
    assert_eq!(case.documents.len(), 602);
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_made_anew() {
    let timing = Timing { silence: Duration::from_millis(300), ..timing() };
    let mut case = with_service(timing).await;
    let lists = case.fake.count("list services");
    // Bookmarks are enough to know that it lives.
    for _ in 0..6 {
        sleep(Duration::from_millis(100)).await;
        case.fake.lock().bookmark(SERVICES);
    }
    let watches = case.fake.count("watch services");
    assert_eq!(watches, 1);
    case.fake.lock().silent = true;
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.eventually("made anew", |case| case.fake.count("watch services") > watches).await;
    assert!(!case.has("Service shop/more"));
    case.fake.lock().silent = false;
    case.until(|case| case.has("Service shop/more")).await;
    // It is asked for the server's version, by a list of one.
    let asked = case.fake.lock().asked.clone();
    let mut probes = asked.iter().filter(|asked| asked.verb() == "list services").skip(lists);
    assert!(probes.all(|asked| asked.parameters["limit"] == "1"));
}

#[tokio::test]
async fn a_server_that_went_back_in_time_is_listed_again() {
    let timing = Timing { silence: Duration::from_millis(300), ..timing() };
    let mut case = with_service(timing).await;
    for n in 2..9 {
        case.fake.put(SERVICES, service(&format!("s{n}"), &format!("10.96.0.{n}")));
    }
    case.until(|case| case.has("Service shop/s8")).await;
    {
        let mut inner = case.fake.lock();
        inner.go_back(50);
        for n in 2..9 {
            inner.delete_quietly(SERVICES, &format!("shop/s{n}"));
        }
    }
    // Watches from a version that is to come say nothing at all.
    case.until(|case| !case.has("Service shop/s8")).await;
    assert_eq!(case.names(), ["EndpointSlice shop/web-1", "Service shop/web"]);
}

#[tokio::test]
async fn a_verb_that_is_taken_away_leaves_what_is_known_in_force() {
    let mut case = with_service(timing()).await;
    {
        let mut inner = case.fake.lock();
        inner.errors.insert("watch services".into(), (403, "no".into()));
        inner.end_watches(SERVICES);
    }
    let is = Standing::Forbidden("cannot watch services: forbidden: no".into());
    case.eventually("told", |case| case.standing("services") == is).await;
    case.fake.put(SLICES, slice("web-2", "web", "10.0.0.2"));
    case.until(|case| case.has("EndpointSlice shop/web-2")).await;
    assert!(case.has("Service shop/web") && case.health.stale_since().is_some());
    case.fake.put(SERVICES, service("more", "10.96.0.2"));
    case.fake.lock().errors.clear();
    case.until(|case| case.has("Service shop/more")).await;
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
    assert_eq!(case.fake.count("list services"), 1, "it is not listed again");
}

#[tokio::test]
async fn a_kind_that_never_says_anything_is_not_asked_again_and_again() {
    let timing = Timing { silence: Duration::from_millis(100), ..timing() };
    let mut case = with_service(timing).await;
    sleep(Duration::from_millis(3_000)).await;
    case.nothing().await;
    // After 100, 200, 400, 800 and 1600 ms.
    let watches = case.fake.count("watch services");
    assert!((4..=6).contains(&watches), "{watches}");
}
