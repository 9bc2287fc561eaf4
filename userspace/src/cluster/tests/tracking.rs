//! What a controller looks at beside.

use super::fake::Fake;
use super::*;
use crate::cluster::served::Tracked;
use crate::cluster::tracker::{Sighting, Tracker};

const SPLITS: &str = "/apis/weir.dev/v1alpha1/trafficsplits";
const NODES: &str = "/api/v1/nodes";

async fn next(tracker: &mut Tracker) -> Sighting {
    timeout(PATIENCE, tracker.next()).await.expect("something to say")
}

fn split(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": "u", "generation": 3,
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"port": 80},
        "status": {"observedGeneration": 2},
    })
}

#[tokio::test]
async fn what_is_there_what_comes_and_what_goes_is_said_in_its_order() {
    let fake = Fake::start().await;
    fake.define("weir.dev", "v1alpha1", "trafficsplits", "TrafficSplit");
    fake.put(SPLITS, split("web"));
    let version = fake.version();
    let directory = tempfile::tempdir().unwrap();
    write_kubeconfig(&directory, &fake, "t");
    let health = Arc::<Health>::default();
    let what = [Tracked::Splits];
    let mut tracker = Tracker::with(&config(&directory), Arc::clone(&health), timing(), &what);
    let Sighting::There(Tracked::Splits, text) = next(&mut tracker).await else { panic!() };
    // Its status, and not what it says, which is read elsewhere.
    let expected = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "generation": 3,
            "resourceVersion": version.to_string(),
        },
        "status": {"observedGeneration": 2},
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    assert_eq!(next(&mut tracker).await, Sighting::Listed(Tracked::Splits));
    fake.put(SPLITS, split("api"));
    assert!(matches!(next(&mut tracker).await, Sighting::There(Tracked::Splits, _)));
    fake.delete(SPLITS, "shop/web");
    assert_eq!(next(&mut tracker).await, Sighting::Gone(Tracked::Splits, "shop/web".into()));
    // What went while nobody heard of it.
    fake.lock().delete_quietly(SPLITS, "shop/api");
    fake.lock().compact();
    fake.lock().break_watches(SPLITS, 410);
    assert_eq!(next(&mut tracker).await, Sighting::Gone(Tracked::Splits, "shop/api".into()));
    assert_eq!(next(&mut tracker).await, Sighting::Listed(Tracked::Splits));
}

#[tokio::test]
async fn nodes_are_asked_for_by_their_metadata_alone() {
    let fake = Fake::start().await;
    fake.define("", "v1", "nodes", "Node");
    fake.put(NODES, json!({"metadata": {"name": "node-1"}, "spec": {"podCIDR": "x"}}));
    let directory = tempfile::tempdir().unwrap();
    write_kubeconfig(&directory, &fake, "t");
    let what = [Tracked::Nodes];
    let mut tracker = Tracker::with(&config(&directory), Arc::default(), timing(), &what);
    assert!(
        matches!(next(&mut tracker).await, Sighting::There(Tracked::Nodes, text) if text.contains("node-1"))
    );
    let asked = fake.lock().asked.iter().find(|asked| asked.path == NODES).unwrap().accept.clone();
    assert!(asked.contains("PartialObjectMetadataList"), "{asked}");
}
