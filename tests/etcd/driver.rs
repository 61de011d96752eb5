//! The operator's planner over real etcd: its loop, with processes instead of Pods. What members say is asked by
//! the operator's own code; Kubernetes' side is kept in memory, and never fails.

mod act;
mod recovery;

use crate::harness::{Cluster, reported};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use quorate::api::{BootstrapStatus, Code, EtcdClusterSpec, EtcdClusterStatus, MemberRole};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::claim::Purpose;
use quorate::cluster::objects::container::peer_url;
use quorate::cluster::objects::{pod::Initial, support};
use quorate::cluster::observation::{
    ClaimFacts, ClusterFacts, DowngradeJob, Observation, Patience, PodFacts, ProbeFacts, RecoveryPod, Served,
    SetAside,
};
use quorate::cluster::observe::{ask_members, client_of};
use quorate::cluster::plan::{NewPod, Next, Plan, Step, plan};
use quorate::cluster::report::{Outcome, report};
use quorate::cluster::revision::{Revision, render};
use quorate::cluster::spec;
use quorate::cluster::wire::Wire;
use quorate::etcd::versions::Releases;
use quorate::etcd::{ErrorKind, EtcdError, EtcdVersion, MemberClient};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "etcd";
const NAMESPACE: &str = "default";
const UID: &str = "uid";

/// An `EtcdCluster` whose members are processes.
pub struct Driven {
    pub etcd: Cluster,
    pub spec: EtcdClusterSpec,
    pub status: EtcdClusterStatus,
    /// The arguments that each member was started with, one entry a start.
    pub starts: Vec<(usize, EtcdVersion, Vec<String>)>,
    /// What members are started with beside their revision's flags: they were not always the operator's.
    pub inherited: Vec<String>,
    /// What etcd did not take at once of changes of its members.
    pub not_yet: Vec<EtcdError>,
    /// The member that a person wants to be replaced.
    pub replace: Option<String>,
    /// How far the clock is ahead.
    pub ahead: Duration,
    /// Who was seen to serve, as an operator remembers that has watched.
    served: BTreeMap<MemberName, Served>,
    aside: BTreeMap<MemberName, ClaimFacts>,
    recovery: Vec<RecoveryPod>,
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
            not_yet: Vec::new(),
            replace: None,
            ahead: Duration::ZERO,
            served: BTreeMap::new(),
            aside: BTreeMap::new(),
            recovery: Vec::new(),
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
        let revision =
            Arc::new(render(NAMESPACE, NAME, &driven.spec, &desired, desired.version, Wire::Plain).unwrap());
        let name = revision.name.clone();
        let members: Vec<MemberName> = (0..desired.replicas).map(|n| MemberName::new(NAME, n)).collect();
        let initial = Initial::New { members: members.clone(), token: UID.to_owned() };
        let pod = |member: &MemberName| NewPod {
            member: member.clone(),
            revision: name.clone(),
            initial: initial.clone(),
            role: MemberRole::Voter,
        };
        driven
            .act_all(&[
                Step::StoreRevision(revision),
                Step::CreateClaims {
                    members: members.clone(),
                    purpose: Purpose::Bootstrap(
                        BootstrapStatus {
                            members: i32::try_from(members.len()).unwrap(),
                            version: desired.version.to_string(),
                            token: UID.to_owned(),
                            started: true,
                            tls: None,
                        },
                        Some(name.clone()),
                    ),
                },
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
                // What ended once ends again, as a kubelet would find out.
                pod.container.restarts = 3;
                let log = self.etcd.log(n);
                let lines: Vec<&str> = log.lines().collect();
                pod.container.last_words = Some(lines[lines.len().saturating_sub(120)..].join("\n"));
            }
        }
        let supported = self.supported.is_some();
        let service = |build: fn(&str, &str, &EtcdClusterSpec, OwnerReference) -> _| {
            supported.then(|| Arc::new(support::Wanted::stamped(build(NAMESPACE, NAME, &self.spec, owner()))))
        };
        let mut world = Observation {
            now: now() + self.ahead,
            cluster: ClusterFacts {
                namespace: NAMESPACE.to_owned(),
                name: NAME.to_owned(),
                uid: UID.to_owned(),
                generation: 1,
                resource_version: self.writes.to_string(),
                deleting: false,
                finalizer: false,
                approve: None,
                replace: self.replace.clone(),
                spec: self.spec.clone(),
                status: self.status.clone(),
            },
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            set_aside: self.aside.iter().map(|(member, claim)| (member.clone(), set_aside(claim))).collect(),
            revisions: self.revisions.clone(),
            foreign_revisions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            domain: "cluster.local".into(),
            headless: service(support::headless),
            client: service(support::client),
            budget: self.supported.clone(),
            probes: self.probes.clone(),
            answers: BTreeMap::new(),
            zones: BTreeMap::new(),
            nodes_in_trouble: BTreeMap::new(),
            homes: BTreeMap::new(),
            hashes: BTreeMap::new(),
            recovery: self.what_a_recovery_needs(),
            served: self.served.clone(),
            member_list: None,
            proposal: None,
            downgrade_job: DowngradeJob::Unknown,
            default_storage_class: Some(true),
            classes: None,
            patience: self.patience.clone(),
            releases: Releases::default(),
        };
        ask_members(&self.etcd.channels, &mut world).await;
        self.ask_the_forced(&mut world).await;
        self.remember_who_serves(&world);
        world.served.clone_from(&self.served);
        // Members live at addresses here, where Pods have names.
        for listed in world.member_list.iter_mut().flatten() {
            if let Some(n) = (0..self.etcd.size()).find(|n| listed.peer_urls == [self.etcd.peer_url(*n)]) {
                let member = MemberName::new(NAME, u32::try_from(n).unwrap());
                listed.peer_urls = vec![peer_url(Wire::Plain, &member.host(NAMESPACE))];
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

    /// Ends a member and starts it again as it was, as the kubelet does after a crash.
    pub fn crash(&mut self, n: usize) {
        let member = MemberName::new(NAME, u32::try_from(n).unwrap());
        self.etcd.kill(n);
        let version = self.revisions[&self.pods[&member].revision].version.to_string();
        self.etcd.start_guarded(n, &version);
    }

    /// The Pod of a member goes, and where that keeps its data, this too.
    pub async fn lose_pod(&mut self, n: usize) {
        self.stop(&MemberName::new(NAME, u32::try_from(n).unwrap())).await;
    }

    /// The process of each member.
    pub fn pids(&self) -> Vec<Option<u32>> {
        (0..self.etcd.size()).map(|n| self.etcd.pid(n)).collect()
    }

    /// Asserts that every member runs this version in a cluster of its minor, and nothing is left of the way.
    pub async fn assert_runs(&self, version: &str) {
        let version = reported(version);
        for n in self.etcd.present() {
            let (status, versions) =
                (self.etcd.status(n).await, self.etcd.client(n).versions().await.unwrap());
            assert_eq!(versions.server, version);
            assert_eq!(versions.cluster, Some(version.minor));
            assert_eq!(status.downgrade, None);
        }
        match self.etcd.client(self.etcd.present()[0]).has_downgrade_job(version.minor).await {
            Ok(job) => assert!(!job),
            // There is no such call before 3.5.
            Err(error) => {
                assert!(version.minor < reported("3.5.0").minor, "{error}");
                assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{error}");
            }
        }
    }
}

fn set_aside(claim: &ClaimFacts) -> SetAside {
    let ClaimFacts { uid, deleting, cluster_id, .. } = claim.clone();
    SetAside { uid, deleting, cluster_id, quarantined: Some(now()) }
}

fn number(member: &MemberName) -> usize {
    usize::try_from(member.number()).unwrap()
}

fn owner() -> OwnerReference {
    OwnerReference { uid: UID.to_owned(), controller: Some(true), ..OwnerReference::default() }
}

fn now() -> Timestamp {
    Timestamp::now()
}
