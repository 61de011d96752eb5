//! A witness: looks at a cluster's members every 50 ms, and at the end says how many were away at once,
//! how often the leader changed, and in which order Pods were made. It keeps the addresses for clients that write
//! and watch meanwhile.

use super::cluster::{Cluster, endpoints};
use super::say::say;
use super::writer::{Options, Receipt, Writers};
use etcd_client::TlsOptions;
use kube::ResourceExt as _;
use quorate::api::EtcdClusterStatus;
use quorate::etcd::{EtcdError, MemberClient, MemberId, MemberStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const EVERY: Duration = Duration::from_millis(50);
/// A member from which nothing at all is heard for this long counts as away. A process that is gone says so at
/// once, by a refused connection or by its Pod; this is for one that hangs. Twice what an answer took at most
/// (0.74 s, two tests at a time and a compiler beside them on two cores), and less than a restart takes.
const SILENCE: Duration = Duration::from_millis(1500);

/// Of three members with one away, a proposal commits in every such span: it is an election and a client that looks for
/// another member, on a busy machine. A quorum that is away takes longer to come back.
const COMMITS_WITHIN: Duration = Duration::from_secs(8);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many members there were.
    pub members: usize,
    /// The most voters that were away at once, and who they were.
    pub away: BTreeSet<String>,
    /// Each leader with its term, once.
    pub leaders: BTreeSet<(u64, MemberId)>,
    /// Members in the order in which Pods of theirs appeared, the first ones left out.
    pub made: Vec<String>,
    /// The actions of `status.progress` in order, each with its member.
    pub progress: Vec<(String, String)>,
    /// The longest plan in the status.
    pub steps: Vec<String>,
    /// Who led when the cluster was first looked at.
    pub first_leader: Option<String>,
    pub looks: u64,
}

impl Seen {
    pub fn leader_changes(&self) -> usize {
        // By term: a member's Status may name the new leader a moment before the new term.
        let terms: std::collections::BTreeSet<_> = self.leaders.iter().map(|(term, _)| *term).collect();
        terms.len().saturating_sub(1)
    }

    /// Never two voters away.
    pub fn assert_one_away_at_a_time(&self) {
        assert!(self.looks > 10, "the witness hardly looked: {self:?}");
        assert!(self.away.len() <= 1, "away at once: {:?}", self.away);
    }
}

/// Looks until it is asked what it saw.
pub struct Sampler {
    seen: Arc<Mutex<Seen>>,
    endpoints: watch::Receiver<Vec<String>>,
    tls: Option<TlsOptions>,
    task: JoinHandle<()>,
}

/// What a member said last, and when; nothing where it did not answer.
type Said = Arc<Mutex<Option<(Instant, Option<MemberStatus>)>>>;

/// A member that is asked again and again, until this is dropped.
struct Voice {
    said: Said,
    task: JoinHandle<()>,
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sampler {
    /// Begins to look. All members must be up.
    pub async fn start(cluster: &Cluster) -> Self {
        let pods = cluster.pods().await;
        let expected: BTreeSet<String> = pods.keys().cloned().collect();
        let seen = Seen { members: pods.len(), ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let (sender, known) = watch::channel(endpoints(pods.values()));
        let task = tokio::spawn(look(cluster.clone(), expected, Arc::clone(&seen), sender));
        Self { seen, endpoints: known, tls: cluster.tls.clone(), task }
    }

    /// Clients that write to the members, and one that watches, under the eyes of this witness.
    pub async fn writers(&self) -> Writers {
        // A proposal that is lost on the way to a leader that is just handing over costs its writer all its patience, for etcd
        // tells nobody. Several that seldom have one under way at the same time show whether the cluster writes.
        let (writers, pause) = (6, Duration::from_millis(50));
        let options = Options { writers, pause, tls: self.tls.clone(), ..Options::default() };
        Writers::start(options, self.endpoints.clone()).await.unwrap()
    }

    pub fn so_far(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// What was seen.
    pub fn stop(self) -> Seen {
        self.task.abort();
        self.so_far()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything that was acknowledged is there, everything that is there was watched, and no revision went back. The
/// receipt, with the longest pause of writes, is said whether the test passes or not.
pub async fn assert_nothing_lost(writers: Writers) -> Receipt {
    let receipt = writers.finish().await.unwrap();
    say(&receipt.line());
    assert!(receipt.tally.acked > 0, "nothing was written");
    assert_eq!(receipt.broken(), [""; 0]);
    receipt
}

/// Carries out a change under writers and a watcher: at most one member is away at a time, and nothing is lost.
pub async fn under_load(cluster: &Cluster, change: impl AsyncFnOnce()) -> Seen {
    let sampler = Sampler::start(cluster).await;
    let writers = sampler.writers().await;
    change().await;
    let receipt = assert_nothing_lost(writers).await;
    let seen = sampler.stop();
    let pause = receipt.tally.longest_gap;
    assert!(seen.members < 3 || pause < COMMITS_WITHIN, "no proposal committed for {pause:?}");
    seen.assert_one_away_at_a_time();
    seen
}

async fn look(
    cluster: Cluster,
    expected: BTreeSet<String>,
    seen: Arc<Mutex<Seen>>,
    sender: watch::Sender<Vec<String>>,
) {
    let mut voices: HashMap<String, Voice> = HashMap::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let (pods, status) = (cluster.pods().await, cluster.status().await);
        sender.send_replace(endpoints(pods.values()));
        voices.retain(|uid, _| pods.values().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
        let mut said = BTreeMap::new();
        for (name, pod) in &pods {
            let uid = pod.uid().unwrap();
            if known.insert(name.clone(), uid.clone()).is_some_and(|before| before != uid) {
                seen.lock().unwrap().made.push(name.clone());
            }
            let Some(client) = cluster.member(pod) else { continue };
            let voice = voices.entry(uid).or_insert_with(|| Voice::of(client));
            if let Some(status) = voice.lately().filter(|_| pod.metadata.deletion_timestamp.is_none()) {
                said.insert(name.clone(), status);
            }
        }
        seen.lock().unwrap().note(&expected, &said, status);
        sleep(EVERY).await;
    }
}

impl Seen {
    fn note(
        &mut self,
        expected: &BTreeSet<String>,
        said: &BTreeMap<String, MemberStatus>,
        status: EtcdClusterStatus,
    ) {
        let away: BTreeSet<String> =
            expected.iter().filter(|name| !said.contains_key(*name)).cloned().collect();
        // The first answers take a moment.
        if self.looks > 0 || away.is_empty() {
            self.looks += 1;
            if away.len() > self.away.len() {
                println!("  away: {away:?}");
                self.away = away;
            }
            self.leaders.extend(said.values().filter_map(|status| Some((status.raft_term, status.leader?))));
            let leader = said.iter().find(|(_, status)| status.leader == Some(status.member_id));
            if self.first_leader.is_none() {
                self.first_leader = leader.map(|(name, _)| name.clone());
            }
        }
        if let Some(progress) = status.progress {
            let now = (format!("{:?}", progress.action), progress.member);
            if self.progress.last() != Some(&now) {
                self.progress.push(now);
            }
        }
        let steps = status.plan.map(|plan| plan.steps).unwrap_or_default();
        if steps.len() > self.steps.len() {
            self.steps = steps.iter().map(|step| format!("{:?}", step.action)).collect();
        }
    }
}

impl Voice {
    fn of(client: MemberClient) -> Self {
        let said = Said::default();
        Self { said: Arc::clone(&said), task: tokio::spawn(listen(client, said)) }
    }

    fn lately(&self) -> Option<MemberStatus> {
        let said = self.said.lock().unwrap();
        said.as_ref().filter(|(at, _)| at.elapsed() < SILENCE).and_then(|(_, status)| status.clone())
    }
}

async fn listen(client: MemberClient, said: Said) {
    loop {
        match client.status().await {
            // Late is not away, see `SILENCE`.
            Err(EtcdError::TimedOut { .. }) => {}
            answer => *said.lock().unwrap() = Some((Instant::now(), answer.ok())),
        }
        sleep(EVERY).await;
    }
}
