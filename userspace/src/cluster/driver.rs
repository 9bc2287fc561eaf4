//! Puts together what the tasks of a follower tell: which kinds are followed, what is known, and
//! when it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::discovery::{Discovery, Finder, Questions};
use super::followed::{Followed, Phase};
use super::health::{Health, Standing};
use super::keeping::Keeping;
use super::known::Known;
use super::link::Link;
use super::object::Object;
use super::objects::Objects;
use super::pending::Pending;
use super::served::{Served, What, definition};
use super::start::Start;
use super::timing::Timing;
use super::told::{News, Told};
use super::watch::Watcher;
use crate::desired::Batch;
use crate::resource::Kind;

/// After how many objects others have their turn.
const AT_A_TIME: usize = 32;
/// What may wait to be put together: pages of lists, above all.
const WAITING: usize = 4;

/// Who puts it together.
pub(super) struct Driver {
    link: Link,
    timing: Timing,
    health: Arc<Health>,
    questions: Arc<Questions>,
    tasks: JoinSet<()>,
    told: mpsc::Receiver<Told>,
    /// For tasks to come.
    teller: mpsc::Sender<Told>,
    out: mpsc::Sender<Batch>,
    keeping: Keeping,
    objects: Objects,
    pending: Pending,
    known: Known,
    followed: BTreeMap<What, Followed>,
    /// What is served, as far as it is known.
    found: Option<Discovery>,
    /// The definitions that there are of kinds that weir reads; and those of a list that goes on.
    defined: BTreeSet<String>,
    listing: BTreeSet<String>,
    /// Which cluster it is, as far as it is known.
    cluster: Option<String>,
    /// When the first kind was listed.
    first_listed: Option<Instant>,
    /// Whether all that there is was told.
    complete: bool,
    /// When something was told last.
    told_last: Option<Instant>,
    /// Whether Pods are to be followed; and since when nothing needs them any more.
    pods: bool,
    pods_idle: Option<Instant>,
}

impl Driver {
    /// Starts all tasks of a follower; what they come to goes to `out`, until nobody takes it.
    pub fn start(start: Start, out: mpsc::Sender<Batch>) -> Self {
        let Start { kubeconfig, timing, health, cache, cluster, objects } = start;
        let (teller, told) = mpsc::channel(WAITING);
        let (link, keeper) = Link::new(kubeconfig, timing, Arc::clone(&health), teller.clone());
        let questions = Arc::<Questions>::default();
        let finder = Finder {
            link: link.clone(),
            timing,
            health: Arc::clone(&health),
            questions: Arc::clone(&questions),
            to: teller.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        tasks.spawn(finder.run());
        let all = Kind::all().map(What::Kind).chain([What::Definitions]);
        let mut driver = Self {
            link,
            timing,
            health,
            questions,
            tasks,
            told,
            teller,
            out,
            keeping: Keeping::new(cache, timing),
            objects,
            pending: Pending::default(),
            known: Known::default(),
            followed: all.map(|what| (what, Followed::default())).collect(),
            found: None,
            defined: BTreeSet::new(),
            listing: BTreeSet::new(),
            cluster,
            first_listed: None,
            complete: false,
            told_last: None,
            pods: false,
            pods_idle: None,
        };
        driver.look_at_pods();
        driver
    }

    /// Goes on until nobody takes what it comes to.
    pub async fn run(mut self) {
        let out = self.out.clone();
        loop {
            let (due, pods) = (self.due(), self.pods_idle.map(|since| since + self.timing.linger));
            let keep = self.complete.then(|| self.keeping.due()).flatten();
            tokio::select! {
                () = out.closed() => break,
                permit = async { until(due).await; out.reserve().await } => match permit {
                    Ok(permit) => {
                        self.told_last = Some(Instant::now());
                        permit.send(self.batch());
                    }
                    Err(_) => break,
                },
                told = self.told.recv() => if let Some(told) = told {
                    self.take(told).await;
                },
                () = until(pods) => self.leave_pods(),
                () = until(keep) => {
                    self.keeping.begin(self.cluster.clone(), self.objects.texts());
                }
                ended = self.keeping.ended() => self.health.cache(ended.err()),
            }
        }
        if self.complete {
            let ended = self.keeping.finish(self.cluster.clone(), self.objects.texts()).await;
            self.health.cache(ended.err());
        }
    }

    async fn take(&mut self, told: Told) {
        match told {
            Told::Reached(cluster) => self.meet(cluster),
            Told::Discovered(found) => {
                self.found = Some(found);
                self.arrange();
            }
            Told::Of(what, run, news) => {
                if !self.of(what).is_current(run) {
                    return;
                }
                match what {
                    What::Tracked(_) => {}
                    What::Definitions => self.define(news),
                    What::Kind(kind) => {
                        self.news(kind, news).await;
                        self.health.objects(what, self.objects.count(kind));
                        self.look_at_pods();
                    }
                }
            }
        }
    }

    /// The server says which cluster it is of.
    fn meet(&mut self, cluster: Option<String>) {
        let Some(cluster) = cluster else { return };
        match self.cluster.replace(cluster) {
            Some(before) if Some(&before) != self.cluster.as_ref() => {
                warn!(
                    "cluster: this is another one than before; what was known of that is forgotten as soon as all of this one is known"
                );
            }
            _ => return,
        }
        self.objects = Objects::default();
        self.pending = Pending::default();
        self.known = Known::default();
        self.found = None;
        (self.complete, self.first_listed) = (false, None);
        (self.defined, self.pods, self.pods_idle) = (BTreeSet::new(), false, None);
        self.followed.values_mut().for_each(Followed::forget);
        self.health.complete(false);
        self.questions.ask();
    }

    /// Starts and ends the following of kinds, by what is served.
    fn arrange(&mut self) {
        let Some(found) = self.found.clone() else { return };
        if self.of(What::Definitions).served().is_none() {
            self.follow(Served::definitions());
        }
        for kind in Kind::all() {
            let what = What::Kind(kind);
            let served = found.get(&kind);
            self.health.served(what, served.map(|served| served.api_version.as_str()));
            match served {
                Some(_) if kind == Kind::Pod && !self.pods => {
                    self.of(what).stop();
                    self.health.standing(what, Standing::NotNeeded);
                }
                Some(served) => {
                    self.of(what).absent = None;
                    if self.of(what).served() != Some(served) {
                        info!("cluster: following {what} ({})", served.api_version);
                        self.follow(served.clone());
                    }
                }
                None => self.miss(kind),
            }
        }
    }

    /// A kind is not served, for all that discovery says. If some of it is known, that counts only
    /// if its definition is gone as well, since a server that starts may not serve it yet.
    fn miss(&mut self, kind: Kind) {
        let what = What::Kind(kind);
        let is_known = self.objects.count(kind) > 0 || self.of(what).served().is_some();
        let is_defined = self.defined.contains(&definition(kind));
        if self.of(what).absent.is_none() && is_known {
            self.questions.ask();
        }
        let since = *self.of(what).absent.get_or_insert_with(Instant::now);
        let is_gone = match self.of(What::Definitions).phase() {
            Phase::Reconciled => !is_defined,
            Phase::Failing => since.elapsed() >= self.timing.hold,
            Phase::Idle | Phase::Listing | Phase::Waiting => false,
        };
        if is_known && !is_gone {
            return;
        }
        if is_known {
            info!("cluster: {what} is not served any more");
            self.of(what).stop();
            self.known.forget(kind);
            self.objects.drop_kind(kind, &mut self.pending);
            self.health.objects(what, 0);
        }
        self.health.standing(what, Standing::NotServed);
    }

    fn follow(&mut self, served: Served) {
        // Those that were ended.
        while self.tasks.try_join_next().is_some() {}
        let what = served.what;
        let run = self.of(what).next_run();
        let watcher = Watcher::new(
            (served.clone(), run),
            self.link.clone(),
            self.timing,
            Arc::clone(&self.health),
            self.teller.clone(),
        );
        let task = self.tasks.spawn(watcher.run());
        self.of(what).start(served, task);
    }

    /// Events about definitions.
    fn define(&mut self, news: News) {
        let is_read = |object: &Object| {
            let name = object.key.name();
            Kind::all().any(|kind| definition(kind) == name).then(|| name.to_owned())
        };
        let was_failing = self.of(What::Definitions).phase() == Phase::Failing;
        match news {
            News::Listing => self.listing.clear(),
            News::Page(objects) => self.listing.extend(objects.iter().filter_map(is_read)),
            News::Listed(_) => {
                let listed = std::mem::take(&mut self.listing);
                if listed != self.defined || was_failing {
                    self.questions.ask();
                }
                self.defined = listed;
                self.enter(What::Definitions, Phase::Reconciled);
                self.arrange();
            }
            News::Resumed => self.enter(What::Definitions, Phase::Reconciled),
            News::Put(object) => {
                if let Some(name) = is_read(&object) {
                    self.defined.insert(name);
                    self.questions.ask();
                }
            }
            News::Deleted(key, _) => {
                if self.defined.remove(key.name()) {
                    self.questions.ask();
                }
            }
            News::At(_) => {}
            News::Waiting => self.enter(What::Definitions, Phase::Waiting),
            News::Failing | News::Missing => {
                self.enter(What::Definitions, Phase::Failing);
                self.questions.aware(false);
                if !was_failing {
                    self.questions.ask();
                }
            }
        }
        if self.of(What::Definitions).phase() == Phase::Reconciled {
            self.questions.aware(true);
        }
    }

    /// Events about a kind.
    async fn news(&mut self, kind: Kind, news: News) {
        let what = What::Kind(kind);
        match news {
            News::Listing => {
                self.objects.begin(kind);
                self.enter(what, Phase::Listing);
            }
            News::Page(objects) => {
                for (index, object) in objects.into_iter().enumerate() {
                    self.put(kind, object);
                    if index % AT_A_TIME == AT_A_TIME - 1 {
                        yield_now().await;
                    }
                }
                self.of(what).progress();
            }
            News::Listed(version) => {
                self.objects.end(kind, &mut self.pending);
                self.known.reach(kind, &version);
                self.keeping.changed();
                self.first_listed.get_or_insert_with(Instant::now);
                self.enter(what, Phase::Reconciled);
            }
            News::Resumed => self.enter(what, Phase::Reconciled),
            News::Put(object) => {
                let version = object.version.clone();
                self.put(kind, object);
                self.known.reach(kind, &version);
            }
            News::Deleted(key, version) => {
                self.objects.delete(kind, &key, &mut self.pending);
                self.known.reach(kind, &version);
                self.keeping.changed();
            }
            News::At(version) => self.known.reach(kind, &version),
            News::Waiting => self.enter(what, Phase::Waiting),
            News::Failing => self.enter(what, Phase::Failing),
            News::Missing => {
                self.enter(what, Phase::Failing);
                self.questions.ask();
            }
        }
    }

    fn put(&mut self, kind: Kind, object: Object) {
        if self.objects.put(kind, object, &mut self.pending) {
            self.keeping.changed();
        }
    }

    fn enter(&mut self, what: What, phase: Phase) {
        self.of(what).enter(phase);
    }

    fn of(&mut self, what: What) -> &mut Followed {
        self.followed.entry(what).or_default()
    }

    /// Pods are followed while there is something that selects by labels.
    fn look_at_pods(&mut self) {
        let needs = |kind| self.objects.count(kind) > 0;
        if !needs(Kind::DestinationRule) && !needs(Kind::TrafficSplit) {
            if self.pods {
                self.pods_idle.get_or_insert_with(Instant::now);
            }
            return;
        }
        self.pods_idle = None;
        if !self.pods {
            self.pods = true;
            self.arrange();
        }
    }

    fn leave_pods(&mut self) {
        (self.pods, self.pods_idle) = (false, None);
        self.known.forget(Kind::Pod);
        self.objects.drop_kind(Kind::Pod, &mut self.pending);
        self.keeping.changed();
        self.health.objects(What::Kind(Kind::Pod), 0);
        self.arrange();
    }

    /// Whether all that there is is known.
    fn is_complete(&self) -> bool {
        let Some(found) = &self.found else { return false };
        Kind::all().all(|kind| {
            let is_listed =
                || self.followed.get(&What::Kind(kind)).is_some_and(Followed::is_listed);
            match kind {
                Kind::Pod if !self.pods => true,
                kind if found.contains_key(&kind) => is_listed(),
                kind => self.objects.count(kind) == 0,
            }
        })
    }

    /// When what is known is told; `None` if there is nothing to tell, or it has to wait for what
    /// nobody knows.
    fn due(&self) -> Option<Instant> {
        if !self.complete && self.is_complete() {
            return Some(Instant::now());
        }
        let Some(since) = self.pending.since() else {
            let last = self.told_last?;
            return self.known.is_news().then(|| last + self.timing.positions);
        };
        let soon = since + self.timing.gather;
        let soon = self.told_last.map_or(soon, |last| soon.max(last + self.timing.collect));
        if self.complete {
            let held = self.followed.iter().filter(|(what, _)| **what != What::Definitions);
            let held = held.filter_map(|(_, followed)| followed.holds_until(&self.timing));
            return held.chain([soon]).max();
        }
        // What may still come, from the server that has begun to tell.
        let to_come = self.followed.values().filter(|followed| !followed.is_listed());
        let within = self.timing.first_hold;
        match to_come.filter_map(|kind| kind.comes_until(within, &self.timing)).max() {
            Some(_) if self.first_listed.is_none() => None,
            Some(until) => Some(soon.max(until)),
            None => Some(soon),
        }
    }

    /// What is to be told now.
    fn batch(&mut self) -> Batch {
        let mut changes = self.pending.take();
        let positions = Some(self.known.tell());
        if !self.complete && self.is_complete() {
            self.complete = true;
            self.health.complete(true);
            self.keeping.changed();
            return Batch { positions, ..self.objects.batch() };
        }
        changes.positions = positions;
        changes
    }
}

/// Waits until then; forever, if that is never.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
