//! Kinds that come and go.

use super::*;

#[tokio::test]
async fn a_kind_whose_definition_comes_is_followed_and_goes_with_it() {
    let mut case = Case::new(timing()).await;
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    let what = "virtualservices.networking.istio.io";
    assert_eq!(case.standing(what), Standing::NotServed);
    case.eventually("watched", |case| case.fake.count("watch customresourcedefinitions") > 0).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(ROUTES, route("web", "web"));
    case.until(|case| case.has("VirtualService shop/web")).await;
    case.fake.undefine(ISTIO, "virtualservices");
    case.until(|case| !case.has("VirtualService shop/web")).await;
    case.eventually("gone", |case| case.standing(what) == Standing::NotServed).await;
    assert!(case.has("Service shop/web"));
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(ROUTES, route("other", "web"));
    case.until(|case| case.has("VirtualService shop/other")).await;
    assert_eq!(case.completes, 1);
}

#[tokio::test]
async fn a_kind_that_is_not_served_for_a_while_keeps_what_is_known() {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(ROUTES, route("web", "web"));
    case.next().await;
    assert!(case.has("VirtualService shop/web"));
    let served = {
        let mut inner = case.fake.lock();
        let served = inner.take_served(ISTIO);
        inner.end_watches(ROUTES);
        served
    };
    let what = "virtualservices.networking.istio.io";
    case.eventually("failing", |case| case.standing(what).name() == "failing").await;
    sleep(Duration::from_millis(400)).await;
    case.nothing().await;
    assert!(case.has("VirtualService shop/web"), "its definition is there");
    case.fake.lock().give_served(served);
    case.fake.put(ROUTES, route("more", "web"));
    case.until(|case| case.has("VirtualService shop/more")).await;
    case.eventually("following", |case| case.standing(what) == Standing::Following).await;
}

#[tokio::test]
async fn the_best_version_that_is_served_is_the_one_that_is_read() {
    let mut case = Case::new(timing()).await;
    for version in ["v1alpha3", "v1beta1", "v2"] {
        case.fake.define(ISTIO, version, "virtualservices", "VirtualService");
    }
    case.fake.put(&ROUTES.replace("/v1/", "/v1beta1/"), route("web", "web"));
    case.next().await;
    assert_eq!(case.names(), ["VirtualService shop/web"]);
    // Somebody upgrades.
    case.fake.put(ROUTES, route("web", "web"));
    case.fake.put(ROUTES, route("new", "web"));
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.until(|case| case.has("VirtualService shop/new")).await;
    assert!(case.has("VirtualService shop/web"));
    let view = case.health.view();
    let version = view.kinds["virtualservices.networking.istio.io"].api_version.clone();
    assert_eq!(version.as_deref(), Some("networking.istio.io/v1"));
}

#[tokio::test]
async fn pods_are_followed_only_while_something_selects_by_labels() {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "destinationrules", "DestinationRule");
    case.fake.put(PODS, pod("web-1"));
    case.next().await;
    case.nothing().await;
    assert_eq!((case.fake.count("list pods"), case.names()), (0, vec![]));
    case.batches = 0;
    case.fake.put(RULES, rule("web", "web"));
    case.next().await;
    let both = ["DestinationRule shop/web", "Pod shop/web-1"];
    assert_eq!(case.names(), both, "subsets without their pods would be empty");
    case.fake.put(PODS, pod("web-2"));
    case.until(|case| case.has("Pod shop/web-2")).await;
    // Noise of pods.
    let mut noise = pod("web-2");
    noise["metadata"]["annotations"] = json!({"noise": "y"});
    case.fake.put(PODS, noise);
    case.nothing().await;
    case.fake.delete(RULES, "shop/web");
    case.until(|case| case.names().is_empty()).await;
    let watches = case.fake.count("watch pods");
    case.fake.put(PODS, pod("web-3"));
    case.nothing().await;
    assert_eq!(case.fake.count("watch pods"), watches);
    assert_eq!(case.standing("pods"), Standing::NotNeeded);
}

#[tokio::test]
async fn definitions_that_may_not_be_read_are_asked_for_in_another_way() {
    let mut case = Case::new(timing()).await;
    let forbidden = (403, "no".to_owned());
    case.fake.lock().errors.insert("list customresourcedefinitions".into(), forbidden);
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.next().await;
    assert_eq!(case.completes, 1);
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(ROUTES, route("web", "web"));
    case.until(|case| case.has("VirtualService shop/web")).await;
    case.fake.undefine(ISTIO, "virtualservices");
    case.until(|case| !case.has("VirtualService shop/web")).await;
    let what = "customresourcedefinitions.apiextensions.k8s.io";
    // It is asked for again and again, and is being listed in between.
    case.eventually("forbidden", |case| case.standing(what).name() == "forbidden").await;
    case.eventually("fresh", |case| case.health.stale_since().is_none()).await;
}
