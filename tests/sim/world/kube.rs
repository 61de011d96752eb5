//! The API server and its controllers: objects with UIDs and versions, garbage collection, evictions
//! under a budget, probes.

use super::catalogue::{self, Image};
use super::{NAME, World};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use quorate::api::{EtcdClusterSpec, EtcdClusterStatus};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::observation::{ClaimFacts, ProbeState, Tries};
use quorate::cluster::revision::Revision;
use quorate::etcd::versions::finds_v2_data;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Cluster {
    pub uid: String,
    pub generation: i64,
    pub resource_version: u64,
    pub deleting: bool,
    pub finalizer: bool,
    /// The annotation by which a person approves a plan.
    pub approve: Option<String>,
    /// The annotation by which a person wants a member replaced.
    pub replace: Option<String>,
    pub spec: EtcdClusterSpec,
    pub status: EtcdClusterStatus,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum State {
    Unscheduled,
    Creating { until: u64 },
    NotPulled,
    Running { since: u64, serves_at: u64 },
    Backoff { until: u64 },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Deletion {
    pub answers_until: u64,
    pub gone_at: u64,
}

#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: String,
    /// The UID of the `EtcdCluster` that owns it; nothing for a foreign Pod.
    pub owner: Option<String>,
    pub deleting: Option<Deletion>,
    pub revision: String,
    pub image: String,
    pub bad_flag: bool,
    /// Whether the kubelet never gets to its container: there is no such runtime class, or volume, or secret.
    pub hangs: bool,
    /// Since when it has a node.
    pub bound_at: u64,
    pub initial: Initial,
    /// Whether its label says that it has no vote.
    pub learner: bool,
    pub node: Option<usize>,
    pub ready: bool,
    pub ended: bool,
    pub restarts: i32,
    pub exit_code: Option<i32>,
    pub last_words: Option<String>,
    /// Raft snapshots that the process which runs has taken.
    pub snapshots: u64,
    /// Whether it has joined a quorum since its start.
    pub joined: bool,
    pub state: State,
}

#[derive(Clone, Debug)]
pub struct Volume {
    pub facts: ClaimFacts,
    /// The UID of the `EtcdCluster` that owns it, where it is a Pod.
    pub owner: Option<String>,
    pub data: Option<super::etcd::Data>,
    /// Whether what is on it cannot be opened.
    pub damaged: bool,
    /// The one node on which it can be used, where there is only one.
    pub home: Option<usize>,
    /// When its driver has made it as large as it is asked to be.
    pub grows_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct StoredRevision {
    pub owner: String,
    pub revision: Arc<Revision>,
}

#[derive(Clone, Debug)]
pub struct Probe {
    pub uid: String,
    pub owner: String,
    pub node: usize,
    pub revision: String,
    pub image: String,
    pub tries: Tries,
    pub done_at: u64,
}

impl Pod {
    /// Changes with what the kubelet says of it.
    pub fn resource_version(&self) -> String {
        let mut hash = DefaultHasher::new();
        (
            &self.deleting,
            self.node,
            &self.revision,
            self.ready,
            self.ended,
            self.restarts,
            self.joined,
            &self.state,
        )
            .hash(&mut hash);
        hash.finish().to_string()
    }
}

impl World {
    pub fn create_cluster(&mut self, spec: EtcdClusterSpec) {
        let uid = self.uid("cluster");
        let resource_version = self.serial();
        self.cluster = Some(Cluster {
            uid,
            generation: 1,
            resource_version,
            deleting: false,
            finalizer: false,
            approve: None,
            replace: None,
            spec,
            status: EtcdClusterStatus::default(),
        });
        self.changed();
    }

    pub fn edit_spec(&mut self, edit: impl FnOnce(&mut EtcdClusterSpec)) {
        let version = self.serial();
        if let Some(cluster) = &mut self.cluster {
            edit(&mut cluster.spec);
            cluster.generation += 1;
            cluster.resource_version = version;
            self.changed();
        }
    }

    /// Writes the status, if it is still at this version: whether it was.
    pub fn write_status(&mut self, at: u64, edit: impl FnOnce(&mut EtcdClusterStatus)) -> bool {
        let version = self.serial();
        let Some(cluster) = &mut self.cluster else { return false };
        if cluster.resource_version != at {
            return false;
        }
        let mut status = cluster.status.clone();
        edit(&mut status);
        if status != cluster.status {
            cluster.status = status;
            cluster.resource_version = version;
            self.writes += 1;
            self.changed();
        }
        true
    }

    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "quorate.dev/v1alpha1".to_owned(),
            kind: "EtcdCluster".to_owned(),
            name: NAME.to_owned(),
            uid: self.cluster.as_ref().map(|cluster| cluster.uid.clone()).unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    /// `kubectl delete etcdcluster`.
    pub fn delete_cluster(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.deleting = true;
        if !cluster.finalizer {
            self.cluster = None;
        }
        self.changed();
    }

    pub fn tick_kubernetes(&mut self) {
        self.collect_garbage();
        self.tick_volumes();
        let gone: Vec<MemberName> = self
            .pods
            .iter()
            .filter(|(_, pod)| {
                pod.deleting.as_ref().is_some_and(|deletion| deletion.gone_at <= self.now)
                    && pod.node.is_none_or(|node| self.node_is_up(node))
            })
            .map(|(member, _)| member.clone())
            .collect();
        // The garbage collector of Pods takes those of a node that is no more.
        let orphaned = self.pods.iter().filter(|(_, pod)| {
            let gone = |node: usize| self.gone.contains(&node);
            pod.node.is_some_and(|node| {
                gone(node) && self.nodes[node].is_some_and(|(since, _)| self.now >= since + 40_000)
            })
        });
        let gone: Vec<MemberName> = orphaned.map(|(member, _)| member.clone()).chain(gone).collect();
        for member in gone {
            self.pods.remove(&member);
            self.say(|| format!("{member}'s Pod is gone"));
            if self.claims.get(&member).is_some_and(|volume| volume.facts.in_pod) {
                self.destroy(&member);
                self.claims.remove(&member);
            }
            self.changed();
        }
        let unused: Vec<MemberName> = self
            .claims
            .iter()
            .filter(|(member, volume)| {
                volume.facts.deleting && !volume.facts.in_pod && !self.is_in_use(member)
            })
            .map(|(member, _)| member.clone())
            .collect();
        for member in unused {
            self.destroy(&member);
            self.claims.remove(&member);
            self.changed();
        }
    }

    /// Whether a Pod has a member's volume, be it one that has ended. One that no node has taken keeps none (`podUsesPVC` of
    /// the controller that protects claims).
    fn is_in_use(&self, member: &MemberName) -> bool {
        let looks_into_it = |probe: &Probe| probe.tries == Tries::Volume(member.clone());
        let recovers = |pod: &super::recovery::RecoveryPod| pod.member == *member;
        self.pods.get(member).is_some_and(|pod| pod.node.is_some())
            || self.probes.values().any(looks_into_it)
            || self.recovery.values().any(recovers)
    }

    /// A member's data is destroyed, by whomever.
    pub fn destroy(&mut self, member: &MemberName) {
        let Some(data) = self.claims.get_mut(member).and_then(|volume| volume.data.take()) else { return };
        if self.rafts.get(&data.cluster_id).is_none_or(|raft| !raft.voters.contains_key(member)) {
            return;
        }
        let left = self
            .claims
            .values()
            .filter_map(|volume| volume.data.as_ref())
            .filter(|left| {
                let raft = &self.rafts[&data.cluster_id];
                left.cluster_id == data.cluster_id && raft.voters.values().any(|id| *id == left.member_id)
            })
            .count();
        if let Some(raft) = self.rafts.get_mut(&data.cluster_id) {
            raft.excused |= left < raft.quorum();
        }
    }

    /// What an owner that is gone has left is deleted.
    fn collect_garbage(&mut self) {
        let owner = self.cluster.as_ref().map(|cluster| cluster.uid.clone());
        let orphan = |of: &str| Some(of) != owner.as_deref();
        let pods: Vec<MemberName> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.deleting.is_none() && pod.owner.as_deref().is_some_and(orphan))
            .map(|(member, _)| member.clone())
            .collect();
        for member in pods {
            self.delete_pod(&member);
        }
        // Pods that were never started.
        let started = &self.pods;
        self.claims.retain(|member, volume| {
            started.contains_key(member) || !volume.owner.as_deref().is_some_and(orphan)
        });
        self.revisions.retain(|_, revision| !orphan(&revision.owner));
        self.probes.retain(|_, probe| !orphan(&probe.owner));
        let kept = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            metadata.owner_references.iter().flatten().all(|reference| !orphan(&reference.uid))
        };
        self.headless = self.headless.take().filter(|service| kept(&service.metadata));
        self.client = self.client.take().filter(|service| kept(&service.metadata));
        self.budget = self.budget.take().filter(|budget| kept(&budget.metadata));
    }

    /// How many ready members the budget lets go just now; all of them while there is none.
    fn disruptions_allowed(&self) -> i32 {
        let healthy =
            self.pods.values().filter(|pod| pod.ready && !pod.learner && pod.deleting.is_none()).count();
        let healthy = i32::try_from(healthy).unwrap();
        match self.budget.as_ref().and_then(|budget| budget.spec.as_ref()?.min_available.clone()) {
            Some(IntOrString::Int(minimum)) => healthy - minimum,
            _ => healthy,
        }
    }

    /// The budget with the status that its controller writes.
    pub fn observed_budget(&self) -> Option<PodDisruptionBudget> {
        let mut budget = self.budget.clone()?;
        budget.status = Some(PodDisruptionBudgetStatus {
            disruptions_allowed: self.disruptions_allowed().max(0),
            ..PodDisruptionBudgetStatus::default()
        });
        Some(budget)
    }

    /// The Eviction API: whether it was granted.
    pub fn evict(&mut self, member: &MemberName, uid: Option<&str>) -> bool {
        let Some(pod) = self.pods.get(member) else { return false };
        if uid.is_some_and(|uid| uid != pod.uid) {
            return false;
        }
        if pod.deleting.is_some() {
            return true;
        }
        // `unhealthyPodEvictionPolicy: AlwaysAllow`: what is not ready may always go.
        if pod.ready && self.disruptions_allowed() < 1 {
            return false;
        }
        self.delete_pod(member);
        true
    }

    /// How a probe ends.
    pub fn probe(&self, probe: &Probe) -> ProbeState {
        if probe.done_at > self.now || !self.node_is_up(probe.node) {
            return ProbeState::Running(None);
        }
        let image = catalogue::image(&probe.image);
        match (image, &probe.tries) {
            (Image::Missing, _) => {
                ProbeState::Running(Some(("ImagePullBackOff".to_owned(), "not found".to_owned())))
            }
            (Image::Broken, _) => ProbeState::Failed("exit code 127: exec format error".to_owned()),
            (Image::Holds(version) | Image::Crashes(version) | Image::Falters(version), Tries::Image) => {
                ProbeState::Said(Some(version))
            }
            (Image::Holds(version) | Image::Crashes(version), Tries::Volume(_))
                if !finds_v2_data(version) =>
            {
                ProbeState::Failed("exit code 1: Error: unknown command \"check\"".to_owned())
            }
            (_, Tries::Volume(member)) if self.data(member).is_some_and(|data| data.of_the_v2_api) => {
                ProbeState::Found("detected custom content in v2store".to_owned())
            }
            (_, Tries::Volume(_)) => ProbeState::FoundNothing,
        }
    }
}
