//! The operator's planner over real etcd: its loop, with processes instead of Pods. What members say is asked by
//! the operator's own code; Kubernetes' side is kept in memory, and never fails.

use crate::harness::{Cluster, reported};
use crate::processes;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use quorate::api::{Code, EtcdClusterSpec, EtcdClusterStatus};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::container::peer_url;
use quorate::cluster::objects::probe::NewProbe;
use quorate::cluster::objects::{pod::Initial, support};
use quorate::cluster::observation::{
    ClaimFacts, ClusterFacts, ContainerFacts, DowngradeJob, Observation, Ownership, Patience, PodFacts,
    ProbeFacts, ProbeState, Tries,
};
use quorate::cluster::observe::{ask_members, client_of};
use quorate::cluster::plan::{NewPod, Next, Plan, SnapshotNote, Step, plan};
use quorate::cluster::report::{Outcome, report};
use quorate::cluster::revision::{Revision, render};
use quorate::cluster::spec::{self, storage_size};
use quorate::etcd::logs::{says_v2_data_was_found, version_in_version_output};
use quorate::etcd::versions::Releases;
use quorate::etcd::{ErrorKind, EtcdVersion, MemberClient};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "etcd";
const NAMESPACE: &str = "default";
const UID: &str = "uid";
/// Flags that say who a member is and where: those of the harness.
const PLACE: [&str; 12] = [
    "name",
    "data-dir",
    "listen-peer-urls",
    "listen-client-urls",
    "listen-metrics-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "heartbeat-interval",
    "election-timeout",
];

/// An `EtcdCluster` whose members are processes.
pub struct Driven {
    pub etcd: Cluster,
    pub spec: EtcdClusterSpec,
    pub status: EtcdClusterStatus,
    /// The arguments that each member was started with, one entry a start.
    pub starts: Vec<(usize, EtcdVersion, Vec<String>)>,
    /// What members are started with beside their revision's flags: they were not always the operator's.
    pub inherited: Vec<String>,
    writes: u64,
    pods: BTreeMap<MemberName, PodFacts>,
    claims: BTreeMap<MemberName, ClaimFacts>,
    revisions: BTreeMap<String, Arc<Revision>>,
    probes: Vec<ProbeFacts>,
    supported: Option<PodDisruptionBudget>,
    patience: Patience,
    looked_at: Instant,
}

/// How the planner came to rest.
#[derive(Debug, PartialEq, Eq)]
pub enum Rest {
    Settled,
    Refused(Vec<Code>),
}

impl Driven {
    pub fn new(yaml: &str) -> Self {
        let spec: EtcdClusterSpec = serde_saphyr::from_str(yaml).unwrap();
        Self {
            etcd: Cluster::unstarted(u8::try_from(spec.replicas).unwrap()),
            spec,
            status: EtcdClusterStatus::default(),
            starts: Vec::new(),
            inherited: Vec::new(),
            writes: 1,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            revisions: BTreeMap::new(),
            probes: Vec::new(),
            supported: None,
            patience: Patience::default(),
            looked_at: Instant::now(),
        }
    }

    /// A cluster of the spec's version that is there already, formed as the planner forms one: but it forms none on
    /// this version. Its claims say all that is noted of a cluster; the status knows nothing of it yet.
    pub async fn found(yaml: &str) -> Self {
        let mut driven = Self::new(yaml);
        let desired = spec::parse(&driven.spec).unwrap();
        let revision = Arc::new(render(NAMESPACE, NAME, &driven.spec, &desired, desired.version).unwrap());
        let name = revision.name.clone();
        let members: Vec<MemberName> = (0..desired.replicas).map(|n| MemberName::new(NAME, n)).collect();
        let initial = Initial::New { members: members.clone(), token: UID.to_owned() };
        let pod = |member: &MemberName| NewPod {
            member: member.clone(),
            revision: name.clone(),
            initial: initial.clone(),
        };
        driven
            .act_all(&[
                Step::StoreRevision(revision),
                Step::CreateClaims(members.clone()),
                Step::Assign { members: members.clone(), revision: name.clone(), afresh: true },
                Step::CreatePods(members.iter().map(pod).collect()),
            ])
            .await;
        driven.etcd.formed(&driven.spec.version).await;

        let mut statuses = BTreeMap::new();
        for member in members {
            let status = driven.etcd.status(number(&member)).await;
            statuses.insert(member, status);
        }
        let note = Step::NoteMembers {
            cluster_id: statuses.values().next().unwrap().cluster_id,
            voters: statuses.iter().map(|(member, status)| (member.clone(), status.member_id)).collect(),
            opened: statuses.iter().map(|(member, status)| (member.clone(), status.version)).collect(),
            good: statuses.keys().map(|member| (member.clone(), name.clone())).collect(),
        };
        driven.act_all(&[note]).await;
        driven
    }

    async fn act_all(&mut self, steps: &[Step]) {
        let world = Box::pin(self.observe()).await;
        for step in steps {
            Box::pin(self.act(&world, step)).await;
        }
    }

    /// Goes on until there is nothing to do, or a refusal stands in the way.
    pub async fn rest(&mut self, limit: Duration) -> Rest {
        self.until("it rests", limit, |_, plan| match plan.next {
            Next::Settled => Some(Rest::Settled),
            Next::Refused => Some(Rest::Refused(plan.refusals.iter().map(|refusal| refusal.code).collect())),
            _ => None,
        })
        .await
    }

    /// Goes on until `done` has something to say of the members and the plan.
    pub async fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Observation, &Plan) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            let world = self.observe().await;
            let plan = plan(&world);
            if let Some(said) = done(&world, &plan) {
                return said;
            }
            assert!(
                began.elapsed() < limit,
                "not within {limit:?}: {what}; {:?} {:?}",
                plan.next,
                plan.refusals
            );
            let waits = match &plan.next {
                Next::Do(step) => {
                    self.act(&world, step).await;
                    false
                }
                _ => true,
            };
            self.patience = match &plan.next {
                Next::Wait(wait) => {
                    self.patience.after(&wait.subject, wait.progress, self.looked_at.elapsed())
                }
                _ => Patience::default(),
            };
            self.looked_at = Instant::now();
            let status = report(&world, &plan, &Outcome::default(), None).status;
            if status != self.status {
                (self.status, self.writes) = (status, self.writes + 1);
            }
            if waits {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn observe(&mut self) -> Observation {
        for (member, pod) in &mut self.pods {
            let n = number(member);
            pod.container.exit_code = self.etcd.exit_code(n);
            if pod.container.exit_code.is_some() {
                pod.container.running_since = None;
                let log = self.etcd.log(n);
                let lines: Vec<&str> = log.lines().collect();
                pod.container.last_words = Some(lines[lines.len().saturating_sub(10)..].join("\n"));
            }
        }
        let supported = self.supported.is_some();
        let service = |build: fn(&str, &str, &EtcdClusterSpec, OwnerReference) -> _| {
            supported.then(|| Arc::new(support::Wanted::stamped(build(NAMESPACE, NAME, &self.spec, owner()))))
        };
        let mut world = Observation {
            now: now(),
            cluster: ClusterFacts {
                namespace: NAMESPACE.to_owned(),
                name: NAME.to_owned(),
                uid: UID.to_owned(),
                generation: 1,
                resource_version: self.writes.to_string(),
                deleting: false,
                finalizer: false,
                approve: None,
                spec: self.spec.clone(),
                status: self.status.clone(),
            },
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            revisions: self.revisions.clone(),
            foreign_revisions: BTreeMap::new(),
            headless: service(support::headless),
            client: service(support::client),
            budget: self.supported.clone(),
            probes: self.probes.clone(),
            answers: BTreeMap::new(),
            zones: BTreeMap::new(),
            nodes_in_trouble: BTreeMap::new(),
            member_list: None,
            proposal: None,
            downgrade_job: DowngradeJob::Unknown,
            default_storage_class: Some(true),
            patience: self.patience.clone(),
            releases: Releases::default(),
        };
        ask_members(&self.etcd.channels, &mut world).await;
        // Members live at addresses here, where Pods have names.
        for listed in world.member_list.iter_mut().flatten() {
            if let Some(member) = MemberName::parse(NAME, &listed.name)
                && listed.peer_urls == [self.etcd.peer_url(number(&member))]
            {
                listed.peer_urls = vec![peer_url(&member.host(NAMESPACE))];
            }
        }
        for (member, pod) in &mut self.pods {
            pod.ready = world.answers.get(member).is_some_and(|answer| answer.read.is_ok());
            if let Some(seen) = world.pods.get_mut(member) {
                seen.ready = pod.ready;
            }
        }
        world
    }

    fn client(&self, world: &Observation, member: &MemberName) -> MemberClient {
        client_of(&self.etcd.channels, world, member, &self.pods[member]).unwrap()
    }

    /// Runs what a probe runs.
    fn probe(&self, new: &NewProbe) -> ProbeState {
        let etcd = processes::etcd(&self.revisions[&new.revision].version.to_string());
        match &new.tries {
            Tries::Image => {
                let output = Command::new(etcd).arg("--version").output().unwrap();
                ProbeState::Said(version_in_version_output(&String::from_utf8(output.stdout).unwrap()))
            }
            Tries::Volume(member) => {
                let dir = self.etcd.data_dir(usize::try_from(member.number()).unwrap());
                let output = Command::new(etcd.with_file_name("etcdutl"))
                    .args(["check", "v2store", "--data-dir"])
                    .arg(dir)
                    .output()
                    .unwrap();
                let words = String::from_utf8(output.stderr).unwrap();
                match output.status.success() {
                    true => ProbeState::FoundNothing,
                    false if says_v2_data_was_found(&words) => ProbeState::Found(words),
                    false => ProbeState::Failed(words),
                }
            }
        }
    }

    async fn act(&mut self, world: &Observation, step: &Step) {
        let identity = |member: &MemberName| world.answers[member].status().unwrap().identity();
        match step {
            Step::StoreRevision(revision) => {
                self.revisions.insert(revision.name.clone(), revision.clone());
            }
            Step::DeleteRevisions(names) => self.revisions.retain(|name, _| !names.contains(name)),
            Step::CreateClaims(members) => {
                for member in members {
                    self.claims.insert(member.clone(), self.new_claim(member));
                }
            }
            Step::Assign { members, revision, .. } => {
                for member in members {
                    self.claims.get_mut(member).unwrap().assigned = Some(revision.clone());
                }
            }
            Step::CreatePods(pods) => pods.iter().for_each(|pod| self.start(pod)),
            Step::Guard(members) => {
                for guarded in members {
                    self.pods.get_mut(&guarded.member).unwrap().bootstraps = false;
                    self.claims.get_mut(&guarded.member).unwrap().opened = Some(guarded.version);
                }
            }
            Step::NoteMembers { cluster_id, voters, opened, good } => {
                for member in opened.keys().chain(good.keys()) {
                    let claim = self.claims.get_mut(member).unwrap();
                    claim.cluster_id = Some(*cluster_id);
                    claim.member_id = voters.get(member).copied();
                    claim.voters = Some(voters.clone());
                    claim.opened = opened.get(member).copied().or(claim.opened);
                    claim.good = good.get(member).cloned().or(claim.good.take());
                    claim.bootstrap = None;
                    claim.first_pod = None;
                }
            }
            Step::NoteFirstPods(first) => {
                for (member, uid) in first {
                    self.claims.get_mut(member).unwrap().first_pod = Some(uid.clone());
                }
            }
            Step::NoteSnapshots(notes) => {
                for (member, note) in notes {
                    let claim = self.claims.get_mut(member).unwrap();
                    claim.free_of_v2_entries = matches!(note, SnapshotNote::FreeOfV2Entries);
                    claim.snapshot_base = match note {
                        SnapshotNote::CountFrom(base) => Some(base.clone()),
                        _ => None,
                    };
                }
            }
            Step::ApplySupport { voters } => {
                let mut budget = support::budget(NAMESPACE, NAME, *voters, owner()).stamped();
                budget.status =
                    Some(PodDisruptionBudgetStatus { disruptions_allowed: 1, ..Default::default() });
                self.supported = Some(budget);
            }
            // The answer of a member may be a no: what became of it is seen at the next look.
            Step::Propose { through, entries } => {
                let _ = self.client(world, through).propose(identity(through), *entries).await;
            }
            Step::MoveLeader { from, to_id, .. } => {
                let _ = self.client(world, from).move_leader(identity(from), *to_id).await;
            }
            Step::Downgrade { through, call } => {
                let _ = self.client(world, through).downgrade(identity(through), *call).await;
            }
            Step::Stop(proven) => self.stop(proven.member()).await,
            Step::RemovePod { member, .. } => self.stop(member).await,
            Step::CreateProbes(probes) => {
                for new in probes {
                    let state = self.probe(new);
                    let name = format!("probe-{}", self.probes.len());
                    let NewProbe { node, revision, tries } = new.clone();
                    self.probes.push(ProbeFacts {
                        pod: name.clone(),
                        uid: name,
                        node,
                        revision,
                        tries,
                        state,
                    });
                }
            }
            Step::DeleteProbes(gone) => {
                self.probes.retain(|probe| !gone.iter().any(|(pod, _)| *pod == probe.pod));
            }
            // Written with the report.
            Step::Record(_) => {}
            Step::SetFinalizer(_) | Step::DeleteClaims(_) => panic!("nothing is deleted here: {step:?}"),
        }
    }

    fn new_claim(&self, member: &MemberName) -> ClaimFacts {
        ClaimFacts {
            uid: format!("claim-{member}"),
            ownership: Ownership::Ours,
            deleting: false,
            cluster_id: None,
            member_id: None,
            voters: None,
            bootstrap: self.status.bootstrap.clone(),
            assigned: None,
            good: None,
            opened: None,
            first_pod: None,
            snapshot_base: None,
            free_of_v2_entries: false,
            size: storage_size(&self.spec).bytes(),
            class: None,
        }
    }

    fn start(&mut self, new: &NewPod) {
        let n = number(&new.member);
        let revision = self.revisions[&new.revision].clone();
        self.writes += 1;
        let flags: Vec<String> =
            revision.args().filter(|arg| !is_of_the_place(arg)).map(str::to_owned).collect();
        self.etcd.extra_args = [flags.clone(), self.inherited.clone()].concat();
        let version = revision.version.to_string();
        match &new.initial {
            Initial::New { .. } => self.etcd.start(n, &version),
            Initial::Guard => self.etcd.start_guarded(n, &version),
        }
        self.starts.push((n, revision.version, flags));
        let pod = PodFacts {
            uid: format!("pod-{}", self.writes),
            resource_version: String::new(),
            ownership: Ownership::Ours,
            deleting: false,
            revision: new.revision.clone(),
            bootstraps: matches!(new.initial, Initial::New { .. }),
            ip: Some(self.etcd.ip(n)),
            node: Some(format!("node-{n}")),
            image: revision.image.clone(),
            ready: false,
            ended: false,
            unschedulable: None,
            container: ContainerFacts { running_since: Some(now()), ..ContainerFacts::default() },
        };
        self.pods.insert(new.member.clone(), pod);
    }

    async fn stop(&mut self, member: &MemberName) {
        if self.etcd.exit_code(number(member)).is_none() {
            self.etcd.stop(number(member)).await;
        }
        self.pods.remove(member);
    }

    /// Ends a member and starts it again as it was, as the kubelet does after a crash.
    pub fn crash(&mut self, n: usize) {
        let member = MemberName::new(NAME, u32::try_from(n).unwrap());
        self.etcd.kill(n);
        let version = self.revisions[&self.pods[&member].revision].version.to_string();
        self.etcd.start_guarded(n, &version);
    }

    /// The process of each member.
    pub fn pids(&self) -> Vec<Option<u32>> {
        (0..self.etcd.size()).map(|n| self.etcd.pid(n)).collect()
    }

    /// Asserts that every member runs this version in a cluster of its minor, and nothing is left of the way.
    pub async fn assert_runs(&self, version: &str) {
        let version = reported(version);
        for n in 0..self.etcd.size() {
            let (status, versions) =
                (self.etcd.status(n).await, self.etcd.client(n).versions().await.unwrap());
            assert_eq!(versions.server, version);
            assert_eq!(versions.cluster, Some(version.minor));
            assert_eq!(status.downgrade, None);
        }
        match self.etcd.client(0).has_downgrade_job(version.minor).await {
            Ok(job) => assert!(!job),
            // There is no such call before 3.5.
            Err(error) => {
                assert!(version.minor < reported("3.5.0").minor, "{error}");
                assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{error}");
            }
        }
    }
}

fn number(member: &MemberName) -> usize {
    usize::try_from(member.number()).unwrap()
}

fn is_of_the_place(arg: &str) -> bool {
    let flag = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
    PLACE.contains(&flag)
}

fn owner() -> OwnerReference {
    OwnerReference { uid: UID.to_owned(), controller: Some(true), ..OwnerReference::default() }
}

fn now() -> Timestamp {
    Timestamp::now()
}
