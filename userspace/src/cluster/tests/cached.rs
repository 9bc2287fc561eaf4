//! What is known without a server.

use super::*;

async fn with_service() -> Case {
    let mut case = Case::new(timing()).await;
    case.fake.define(ISTIO, "v1", "virtualservices", "VirtualService");
    case.fake.put(SERVICES, service("web", "10.96.0.1"));
    case.fake.put(SERVICES, service("old", "10.96.0.2"));
    case.fake.put(ROUTES, route("web", "web"));
    case.next().await;
    assert_eq!(case.completes, 1);
    case
}

#[tokio::test]
async fn an_agent_that_starts_without_the_server_knows_what_was_there() {
    let mut case = with_service().await;
    case.fake.halt().await;
    let cached = case.restart().await.unwrap();
    assert!(cached.complete && cached.rejected.is_empty() && cached.deleted.is_empty());
    let all = ["Service shop/old", "Service shop/web", "VirtualService shop/web"];
    assert_eq!(case.names(), all);
    case.nothing().await;
    assert!(case.follower.cached().is_none(), "it was told");
    assert!(case.health.stale_since().is_some());
    assert_eq!(case.health.view().kinds["services"].objects, 2);
    // Meanwhile things were deleted, and a kind as a whole.
    case.fake.delete(SERVICES, "shop/old");
    case.fake.put(SERVICES, service("new", "10.96.0.3"));
    case.fake.undefine(ISTIO, "virtualservices");
    case.fake.resume().await;
    case.next().await;
    assert_eq!((case.completes, case.names()), (1, vec!["Service shop/new", "Service shop/web"]));
}

#[tokio::test]
async fn what_is_as_it_was_is_the_same_document_after_a_restart() {
    let mut case = with_service().await;
    case.restart().await.unwrap();
    let cached = Arc::clone(&case.documents["Service shop/web"]);
    case.next().await;
    assert_eq!(case.completes, 1);
    let document = &case.documents["Service shop/web"];
    assert!(Arc::ptr_eq(&cached, document), "nothing follows from it");
}

#[tokio::test]
async fn changes_are_in_the_cache_soon_without_an_end_that_was_wished() {
    let mut case = with_service().await;
    case.fake.put(SERVICES, service("late", "10.96.0.3"));
    case.until(|case| case.has("Service shop/late")).await;
    let path = cache(&case.directory);
    let is_there = |_: &Case| std::fs::read_to_string(&path).is_ok_and(|t| t.contains("late"));
    case.eventually("written", is_there).await;
}

#[tokio::test]
async fn a_document_that_became_wrong_is_cached_as_it_was() {
    let mut case = with_service().await;
    let mut wrong = service("web", "10.96.0.1");
    wrong["spec"]["clusterIPs"] = json!(["10.96.0.1", "nonsense"]);
    case.fake.put(SERVICES, wrong);
    case.until(|case| case.rejected.contains_key("Service shop/web")).await;
    case.fake.halt().await;
    case.restart().await.unwrap();
    assert!(case.has("Service shop/web"));
    // It is still wrong.
    case.fake.resume().await;
    case.until(|case| case.completes == 1).await;
    assert!(case.has("Service shop/web") && case.rejected.contains_key("Service shop/web"));
}

#[tokio::test]
async fn a_cache_that_is_damaged_is_quarantined_and_shown() {
    let mut case = with_service().await;
    let path = cache(&case.directory);
    case.eventually("written", |_| path.exists()).await;
    // The end writes it once more.
    case.restart().await.unwrap();
    std::fs::write(&path, "{\"format\":1").unwrap();
    let health = Arc::<Health>::default();
    case.follower = Follower::with(
        &config(&case.directory),
        Some(path.clone()),
        Arc::clone(&health),
        case.timing,
    );
    assert!(case.follower.cached().is_none());
    let error = health.view().cache_error.unwrap();
    assert!(error.contains("quarantined as cluster.json.damaged"), "{error}");
    case.health = health;
    case.next().await;
    assert_eq!((case.completes, case.documents.len()), (1, 3));
    case.eventually("written again", |case| {
        path.exists() && case.health.view().cache_error.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_cache_of_another_cluster_is_not_used_once_the_server_says_so() {
    let mut case = with_service().await;
    case.fake.halt().await;
    case.restart().await.unwrap();
    {
        let mut inner = case.fake.lock();
        inner.uid = "cluster-2".into();
        // Of the other cluster nothing is told but by its absence.
        inner.delete_quietly(SERVICES, "shop/old");
        inner.delete_quietly(ROUTES, "shop/web");
    }
    assert_eq!(case.documents.len(), 3);
    case.fake.resume().await;
    case.until(|case| case.completes == 1).await;
    assert_eq!(case.names(), ["Service shop/web"]);
}

#[tokio::test]
async fn a_kind_that_is_forbidden_after_a_restart_keeps_what_was_cached() {
    let mut case = with_service().await;
    let forbidden = (403, "no".to_owned());
    case.fake.lock().errors.insert("list virtualservices".into(), forbidden);
    case.restart().await.unwrap();
    case.fake.put(SERVICES, service("new", "10.96.0.3"));
    case.until(|case| case.has("Service shop/new")).await;
    assert!(case.has("VirtualService shop/web"));
    assert_eq!(case.completes, 0);
}
