//! What the loop holds between two passes over a cluster. All of it may be lost at any moment: what
//! matters is in etcd, in Kubernetes objects, or in the status.

use super::observation::Patience;
use super::observe::Zones;
use super::plan::{Next, Plan, Step};
use super::report::Outcome;
use crate::api::Code;
use crate::etcd::{Channels, EtcdVersion};
use crate::process::Metrics;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// Which zone each node is in.
    pub(super) zones: Zones,
    memories: Mutex<HashMap<String, Memory>>,
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
    /// The last thing that the API server refused, so that it is said once.
    refused: Option<(Code, String)>,
}

impl Context {
    /// A context that remembers nothing.
    pub fn new(
        client: kube::Client,
        channels: Channels,
        metrics: Metrics,
        reporter: kube::runtime::events::Reporter,
        docs_url: Option<String>,
    ) -> Self {
        Self {
            client,
            channels,
            metrics,
            reporter,
            docs_url,
            zones: Zones::default(),
            memories: Mutex::default(),
        }
    }

    fn memories(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, cluster: &str, look: impl FnOnce(&mut Memory) -> R) -> R {
        look(self.memories().entry(cluster.to_owned()).or_default())
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

    /// Counts a failed pass and says how long to wait before the next: exponential, at most half a minute.
    pub fn failed(&self, cluster: &str) -> Duration {
        self.with(cluster, |memory| {
            memory.failures = memory.failures.saturating_add(1);
            Duration::from_millis(200 << memory.failures.min(7)).min(Duration::from_secs(30))
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

    /// Whether this refusal of the API server is another than the last one.
    pub fn is_news(&self, cluster: &str, refused: Option<(Code, &str)>) -> bool {
        self.with(cluster, |memory| {
            let refused = refused.map(|(code, message)| (code, message.to_owned()));
            let news = refused.is_some() && memory.refused != refused;
            memory.refused = refused;
            news
        })
    }

    /// Forgets a cluster that is gone, or forgets its probes when there are none.
    pub fn forget(&self, cluster: &str) {
        self.memories().remove(cluster);
        self.channels.keep_only(cluster, &[]);
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

    const SECOND: Duration = Duration::from_secs(1);

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
