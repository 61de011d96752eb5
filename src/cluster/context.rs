//! What the loop holds between two passes over a cluster. All of it may be lost at any moment: what
//! matters is in etcd, in Kubernetes objects, or in the status.

use super::names::MemberName;
use super::observation::{Observation, Patience, Served};
use super::observe::{Classes, Nodes, Secrets, Starts};
use super::plan::{Next, Plan, Step};
use super::report::Outcome;
use crate::etcd::versions::Releases;
use crate::etcd::{Channels, EtcdVersion};
use crate::process::Metrics;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks at the same wait that counts as watching. More than this, and the process was
/// busy or asleep: that time says nothing about the member.
const LONGEST_LOOK: Duration = Duration::from_secs(20);

/// Everything that the loop needs.
pub struct Context {
    /// The Kubernetes client.
    pub client: kube::Client,
    /// Channels to members.
    pub channels: Channels,
    /// What is counted.
    pub metrics: Metrics,
    /// Who reports Events.
    pub reporter: kube::runtime::events::Reporter,
    /// Base URL of the pages that explain codes.
    pub docs_url: Option<String>,
    /// What is known of etcd's releases.
    pub releases: Releases,
    /// The domain of the Kubernetes cluster, e.g. `cluster.local`.
    pub domain: Arc<str>,
    /// What was read of Secrets.
    pub(super) secrets: Secrets,
    /// What was read of nodes.
    pub(super) nodes: Nodes,
    /// What was read of storage classes.
    pub(super) classes: Classes,
    /// How far starts have come.
    pub(super) starts: Starts,
    memories: Mutex<Memories>,
}

/// What is remembered of each cluster.
#[derive(Default)]
struct Memories {
    /// By UID.
    of: HashMap<String, Memory>,
    /// The UID of each cluster by namespace and name, as last seen.
    uids: HashMap<(String, String), String>,
}

/// What is remembered of one cluster.
#[derive(Default)]
struct Memory {
    patience: Patience,
    looked: Option<Instant>,
    failures: u32,
    /// The step of the last pass, and how often it was the same.
    step: Option<&'static str>,
    repeats: u32,
    /// What each ended probe said, by its Pod's UID: a log is read once.
    probes: HashMap<String, Option<EtcdVersion>>,
    /// When each member answered a linearizable read for the last time.
    served: BTreeMap<MemberName, Served>,
}

impl Context {
    /// A context that remembers nothing.
    pub fn new(
        client: kube::Client,
        channels: Channels,
        metrics: Metrics,
        reporter: kube::runtime::events::Reporter,
        docs_url: Option<String>,
        releases: Releases,
        domain: &str,
    ) -> Self {
        Self {
            client,
            channels,
            metrics,
            reporter,
            docs_url,
            releases,
            domain: domain.into(),
            secrets: Secrets::default(),
            nodes: Nodes::default(),
            classes: Classes::default(),
            starts: Starts::default(),
            memories: Mutex::default(),
        }
    }

    fn memories(&self) -> MutexGuard<'_, Memories> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, cluster: &str, look: impl FnOnce(&mut Memory) -> R) -> R {
        look(self.memories().of.entry(cluster.to_owned()).or_default())
    }

    /// How long the present wait of a cluster has lasted.
    pub fn patience(&self, cluster: &str) -> Patience {
        self.with(cluster, |memory| memory.patience.clone())
    }

    /// Takes note of what was planned: patience grows while the same wait makes no progress, and begins
    /// anew with another wait or with progress. Says how often the same step was taken in a row.
    #[allow(
        clippy::disallowed_methods,
        reason = "patience counts only the time in which this process watched"
    )]
    pub fn watched(&self, cluster: &str, plan: &Plan, outcome: &Outcome) -> u32 {
        let now = Instant::now();
        self.with(cluster, |memory| {
            let since = memory.looked.replace(now).map_or(Duration::ZERO, |before| now - before);
            memory.failures = 0;
            memory.patience = match &plan.next {
                Next::Wait(wait) => {
                    memory.patience.after(&wait.subject, wait.progress, since.min(LONGEST_LOOK))
                }
                Next::Do(step) if outcome.refused.is_some() => {
                    memory.patience.after(&Patience::subject_of_refused(step), 0, since.min(LONGEST_LOOK))
                }
                _ => Patience::default(),
            };
            let step = plan.next.step().map(Step::name);
            memory.repeats = if step.is_some() && step == memory.step { memory.repeats + 1 } else { 0 };
            memory.step = step;
            memory.repeats
        })
    }

    /// How often in a row this step was taken before.
    pub fn times_in_a_row(&self, cluster: &str, step: &Step) -> u32 {
        self.with(cluster, |memory| if memory.step == Some(step.name()) { memory.repeats + 1 } else { 0 })
    }

    /// Counts a failed pass and says how long to wait before the next: exponential, at most half a minute.
    pub fn failed(&self, namespace: &str, name: &str, cluster: &str) -> Duration {
        self.seen(namespace, name, cluster);
        self.with(cluster, |memory| {
            memory.failures = memory.failures.saturating_add(1);
            Duration::from_millis(200 << memory.failures.min(7)).min(Duration::from_secs(30))
        })
    }

    /// When each member answered a linearizable read for the last time, this look among them.
    pub fn served(&self, world: &Observation) -> BTreeMap<MemberName, Served> {
        let witnesses = world.answers.iter().filter(|(member, _)| world.is_witness(member));
        let now = witnesses.filter_map(|(member, answer)| {
            let revision = answer.status()?.revision;
            Some((member.clone(), Served { at: world.now, revision }))
        });
        self.with(&world.cluster.uid, |memory| {
            memory.served.extend(now);
            memory.served.clone()
        })
    }

    /// What an ended probe said, if its log was read.
    pub fn probe_said(&self, cluster: &str, uid: &str) -> Option<Option<EtcdVersion>> {
        self.with(cluster, |memory| memory.probes.get(uid).copied())
    }

    /// Keeps what an ended probe said.
    pub fn keep_probe(&self, cluster: &str, uid: &str, said: Option<EtcdVersion>) {
        self.with(cluster, |memory| memory.probes.insert(uid.to_owned(), said));
    }

    /// A cluster was seen. What is remembered belongs to its UID: another one under the same name begins
    /// with nothing, and what was remembered of the one before is forgotten.
    pub fn seen(&self, namespace: &str, name: &str, uid: &str) {
        let before = {
            let mut memories = self.memories();
            let before = memories.uids.insert((namespace.to_owned(), name.to_owned()), uid.to_owned());
            let before = before.filter(|before| before != uid);
            if let Some(before) = &before {
                memories.of.remove(before);
            }
            before
        };
        if let Some(before) = before {
            self.channels.forget(&before);
        }
    }

    /// Forgets the cluster of this name: it is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.metrics.forget(namespace, name);
        let uid = {
            let mut memories = self.memories();
            let uid = memories.uids.remove(&(namespace.to_owned(), name.to_owned()));
            if let Some(uid) = &uid {
                memories.of.remove(uid);
            }
            uid
        };
        if let Some(uid) = uid {
            self.channels.forget(&uid);
        }
    }
}

impl Patience {
    /// What patience is counted on while the API server answers a step with a no.
    pub fn subject_of_refused(step: &Step) -> String {
        format!("refused/{}", step.name())
    }

    /// Patience after another look at a wait.
    #[must_use]
    pub fn after(&self, subject: &str, progress: u64, elapsed: Duration) -> Self {
        let same = self.subject == subject && progress <= self.best;
        Self {
            subject: subject.to_owned(),
            best: if same { self.best } else { progress },
            without_progress: if same { self.without_progress + elapsed } else { Duration::ZERO },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use kube::runtime::events::Reporter;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_cluster_made_again_under_its_name_begins_with_nothing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (service, _mock) = tower_test::mock::pair::<http::Request<Body>, http::Response<Body>>();
        let reporter = Reporter { controller: "quorate".to_owned(), instance: None };
        let client = kube::Client::new(service, "default");
        let (channels, releases) = (Channels::default(), Releases::default());
        let ctx = Context::new(client, channels, Metrics::new(), reporter, None, releases, "cluster.local");
        let failures = |uid: &str| ctx.memories().of.get(uid).map(|memory| memory.failures);

        ctx.seen("prod", "db", "first");
        let soon = ctx.failed("prod", "db", "first");
        assert!(ctx.failed("prod", "db", "first") > soon);
        ctx.seen("test", "db", "elsewhere");
        ctx.failed("test", "db", "elsewhere");
        ctx.seen("prod", "db", "first");
        assert_eq!(failures("first"), Some(2), "the same is no other");

        ctx.seen("prod", "db", "second");
        assert_eq!((failures("first"), failures("second")), (None, None));
        assert_eq!(ctx.failed("prod", "db", "second"), soon);
        ctx.forget("prod", "db");
        assert_eq!((failures("second"), failures("elsewhere")), (None, Some(1)));
        assert_eq!(ctx.memories().uids.len(), 1);
    }

    #[test]
    fn patience_grows_while_nothing_moves() {
        let patience = Patience::default().after("m", 5, SECOND).after("m", 5, SECOND).after("m", 4, SECOND);
        assert_eq!(patience.without_progress, SECOND * 2);
    }

    #[test]
    fn progress_and_another_subject_begin_anew() {
        let patience = Patience::default().after("m", 5, SECOND).after("m", 5, SECOND);
        assert_eq!(patience.after("m", 6, SECOND).without_progress, Duration::ZERO);
        assert_eq!(patience.after("n", 5, SECOND).without_progress, Duration::ZERO);
    }
}
