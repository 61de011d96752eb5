//! What Kubernetes and etcd said just now: facts only, plain data. A member that does not answer is
//! a fact, not an error. Time is a field.

mod asked;
mod recovery;
mod secrets;

pub use asked::is_fragmented;
pub use recovery::{Alone, RecoveryFacts, RecoveryPod, Served, Stage};
pub use secrets::{Presented, SecretFacts};

use super::names::MemberName;
use super::revision::Revision;
use super::wire::Wire;
use crate::api::{BootstrapStatus, EtcdClusterSpec, EtcdClusterStatus};
use crate::api::{GROUP, labels};
use crate::etcd::versions::Releases;
use crate::etcd::{
    ClusterId, EtcdVersion, KvHash, ListedMember, MemberId, MemberStatus, Minor, Snapshots, Standstill,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the planner may know.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was made.
    pub now: Timestamp,
    /// The `EtcdCluster`.
    pub cluster: ClusterFacts,
    /// Pods of members, and whatever else stands under a member's name. Without those that are not to be started yet.
    pub pods: BTreeMap<MemberName, PodFacts>,
    /// Volume claims of members; of those who keep their data in their Pods, these, be they started or not.
    pub claims: BTreeMap<MemberName, ClaimFacts>,
    /// Volume claims that are kept aside: their members are none any more, and their names are not used again.
    pub set_aside: BTreeMap<MemberName, SetAside>,
    /// Stored revisions by name. Each is large, and handed on unchanged.
    pub revisions: BTreeMap<String, Arc<Revision>>,
    /// Stored revisions that carry the cluster's labels and are not its own (left behind by a deletion that
    /// orphans): whose each is.
    pub foreign_revisions: BTreeMap<String, String>,
    /// The headless Service.
    pub headless: Option<Arc<Service>>,
    /// The Service for clients.
    pub client: Option<Arc<Service>>,
    /// The disruption budget.
    pub budget: Option<PodDisruptionBudget>,
    /// Secrets with certificates, by name: those that the cluster has to have, as far as they are there. Read only where it
    /// talks TLS.
    pub secrets: BTreeMap<String, Arc<SecretFacts>>,
    /// The domain of the Kubernetes cluster, e.g. `cluster.local`.
    pub domain: Arc<str>,
    /// Pods that try images out.
    pub probes: Vec<ProbeFacts>,
    /// What a recovery from one member needs to know.
    pub recovery: RecoveryFacts,
    /// Members that this process has seen to answer a linearizable read.
    pub served: BTreeMap<MemberName, Served>,
    /// What each member with an address answered.
    pub answers: BTreeMap<MemberName, Answer>,
    /// The zone of each node that holds a member, nothing where it has none. A node that could not be read
    /// is not in it.
    pub zones: BTreeMap<String, Option<String>>,
    /// Nodes of members with which something is wrong, as far as they may be read. Asked only before a member may be
    /// claimed, and of members that do not answer.
    pub nodes_in_trouble: BTreeMap<String, NodeTrouble>,
    /// The one node on which a member's volume can be used, where there is only one. Asked only of members that do not
    /// answer.
    pub homes: BTreeMap<MemberName, String>,
    /// What the keys of each member hash to, all at one revision. Asked only while members' data are said to differ.
    pub hashes: BTreeMap<MemberName, KvHash>,
    /// etcd's member list, read right after a linearizable read on the same channel; nothing where no
    /// member could give one.
    pub member_list: Option<Vec<ListedMember>>,
    /// Whether a proposal committed just now. Asked only before a claimed member is stopped, and where a learner may wait for
    /// an entry, since it costs one.
    pub proposal: Option<Result<(), String>>,
    /// Whether etcd has a downgrade job enabled.
    pub downgrade_job: DowngradeJob,
    /// Whether a default StorageClass exists; nothing where that may not be read.
    pub default_storage_class: Option<bool>,
    /// Every StorageClass, and whether it lets volumes grow. Asked only while the spec wants other volumes than there are; nothing
    /// where they may not be read.
    pub classes: Option<BTreeMap<String, bool>>,
    /// How long this process has watched the same wait without progress.
    pub patience: Patience,
    /// What is known of etcd's releases.
    pub releases: Releases,
}

/// The `EtcdCluster` as read live.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The version at which it was read: every claim is a compare-and-swap against it.
    pub resource_version: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it carries our finalizer.
    pub finalizer: bool,
    /// The plan that a person approves, by its hash.
    pub approve: Option<String>,
    /// The member that a person wants to be replaced.
    pub replace: Option<String>,
    /// Its spec.
    pub spec: EtcdClusterSpec,
    /// Its status, as last written.
    pub status: EtcdClusterStatus,
}

impl ClusterFacts {
    /// Whether a member may be about to be claimed: there is a plan or a new spec, and nobody is claimed.
    pub fn may_claim_a_member(&self) -> bool {
        let status = &self.status;
        let is_claimed = status.progress.as_ref().is_some_and(|progress| progress.action.is_claim());
        let is_new = status.observed_generation != Some(self.generation);
        status.cluster_id.is_some() && !is_claimed && (is_new || status.plan.is_some())
    }
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeTrouble {
    /// Nothing new is scheduled there, and what runs there may be about to be drained.
    Cordoned,
    /// Its kubelet is silent or says no: what is stopped there may not stop, nor come back.
    NotReady,
    /// A person says by a taint that it is shut down: nothing runs there.
    OutOfService,
    /// There is no such node any more: nothing runs there.
    Gone,
}

impl NodeTrouble {
    /// Whether what is to run there cannot come up.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::Cordoned)
    }
}

impl fmt::Display for NodeTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cordoned => "cordoned",
            Self::NotReady => "not ready",
            Self::OutOfService => "out of service",
            Self::Gone => "gone",
        })
    }
}

/// To whom an object belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To this `EtcdCluster`.
    Ours,
    /// To an `EtcdCluster` of this name with another UID, which is being deleted.
    EarlierCluster,
    /// To somebody else; who, as far as it can be told.
    Foreign(String),
}

impl Ownership {
    /// Whose an object is that has an owner.
    pub fn of_owned(metadata: &ObjectMeta, uid: &str, cluster: &str) -> Self {
        let controller =
            metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        match controller {
            Some(owner) if owner.uid == uid => Self::Ours,
            // Other operators have a kind of this name too.
            Some(owner)
                if owner.kind == "EtcdCluster"
                    && owner.name == cluster
                    && owner.api_version.starts_with(GROUP) =>
            {
                Self::EarlierCluster
            }
            Some(owner) => Self::Foreign(format!("belongs to {} {}", owner.kind, owner.name)),
            None => Self::Foreign("has no owner that this operator knows".to_owned()),
        }
    }

    /// Whose a volume claim is: it has no owner, only labels.
    pub fn of_claim(metadata: &ObjectMeta, cluster: &str) -> Self {
        let label = |key: &str| metadata.labels.as_ref()?.get(key).map(String::as_str);
        if label(labels::MANAGED_BY) == Some("quorate") && label(labels::CLUSTER) == Some(cluster) {
            Self::Ours
        } else {
            Self::Foreign("has no owner that this operator knows".to_owned())
        }
    }
}

/// A Pod under a member's name.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each as the API server says it")]
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Its UID.
    pub uid: String,
    /// Changes with anything about it.
    pub resource_version: String,
    /// To whom it belongs.
    pub ownership: Ownership,
    /// Whether it carries a deletionTimestamp: it counts as away even while it still answers.
    pub deleting: bool,
    /// The revision that it was made from.
    pub revision: String,
    /// Whether its annotations still tell etcd to form a cluster, or to join one, where its volume is empty.
    pub unguarded: bool,
    /// Who it was told the members are, for a start with an empty volume.
    pub told: BTreeSet<MemberName>,
    /// Whether its label says that it has no vote yet.
    pub learner: bool,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its node.
    pub node: Option<String>,
    /// Since when it has one, by the API server's clock.
    pub on_node_since: Option<Timestamp>,
    /// Its image, as it stands in the spec now (an admission webhook may have rewritten it).
    pub image: String,
    /// Whether its readiness probe passes.
    pub ready: bool,
    /// Whether it has ended (phase Failed or Succeeded) and the kubelet will not start it again.
    pub ended: bool,
    /// Why no node takes it, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// Its etcd container.
    pub container: ContainerFacts,
}

/// A container, as the kubelet describes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ContainerFacts {
    /// Why it waits, and the kubelet's message.
    pub waiting: Option<(String, String)>,
    /// Since when it runs.
    pub running_since: Option<Timestamp>,
    /// How often it was started again.
    pub restarts: i32,
    /// The exit code of its last run.
    pub exit_code: Option<i32>,
    /// The end of the log of its last failed run.
    pub last_words: Option<String>,
    /// How many stages of a start its log tells of; looked for only while it runs and does not serve.
    pub came_to: u32,
}

impl ContainerFacts {
    /// For how many seconds it has run without an end.
    pub fn runs_for(&self, now: Timestamp) -> Option<i64> {
        self.running_since.map(|since| now.duration_since(since).as_secs())
    }

    /// Whether it has ever run.
    pub const fn has_run(&self) -> bool {
        self.running_since.is_some() || self.exit_code.is_some() || self.restarts > 0
    }

    /// Whether its last run was ended from outside: by SIGKILL, also for want of memory, or by SIGTERM, on which etcd ends
    /// with 0 once it serves, or with 143 where it is not the first process. It may have opened its data by then. A
    /// SIGTERM before that cannot be told from a flag that etcd does not take: both end with 2.
    pub const fn was_stopped(&self) -> bool {
        matches!(self.exit_code, Some(0 | 137 | 143))
    }
}

/// A volume claim of a member, or the Pod that keeps its data where there are no volumes.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each as the API server says it")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFacts {
    /// Whether it is the member's Pod: with that the data goes.
    pub in_pod: bool,
    /// Its UID.
    pub uid: String,
    /// Changes with anything about it.
    pub resource_version: String,
    /// Whether it carries our labels; a claim has no owner.
    pub ownership: Ownership,
    /// Whether it is being deleted. It stays while a Pod uses it.
    pub deleting: bool,
    /// The cluster whose data it holds.
    pub cluster_id: Option<ClusterId>,
    /// The member whose data it holds.
    pub member_id: Option<MemberId>,
    /// All voters, as last noted.
    pub voters: Option<BTreeMap<MemberName, MemberId>>,
    /// The highest number that a member of the cluster ever had, as last noted.
    pub last_number: Option<u32>,
    /// The bootstrap that it was made for.
    pub bootstrap: Option<BootstrapStatus>,
    /// What its member talks.
    pub wire: Wire,
    /// The revision that the next Pod is made from.
    pub assigned: Option<String>,
    /// The last revision that passed its gate.
    pub good: Option<String>,
    /// The newest version that was seen to serve this data.
    pub opened: Option<EtcdVersion>,
    /// The Pod, by its UID, that was the first one made from the assigned revision, while the cluster forms;
    /// [`HAS_RUN`](crate::api::labels::HAS_RUN) once a Pod was seen to run on this volume.
    pub first_pod: Option<String>,
    /// The loss of the quorum for which its member is being forced.
    pub recovering: Option<String>,
    /// The raft snapshots that its member had taken when they began to matter, until one more was.
    pub snapshot_base: Option<SnapshotBase>,
    /// Whether a raft snapshot was taken since entries of the v2 API can have been written last.
    pub free_of_v2_entries: bool,
    /// The size that it asks for, in bytes.
    pub size: Option<u64>,
    /// The size that its volume has, in bytes.
    pub capacity: Option<u64>,
    /// Whether its volume has grown, and its file system has not yet.
    pub awaits_file_system: bool,
    /// Why it does not grow, in the driver's words.
    pub resize_error: Option<String>,
    /// Its class.
    pub class: Option<String>,
    /// The volume that it is bound to.
    pub volume: Option<String>,
}

impl ClaimFacts {
    /// Whether its volume is of another class than this one, where one is named.
    pub fn is_of_another_class(&self, wanted: Option<&str>) -> bool {
        wanted.zip(self.class.as_deref()).is_some_and(|(wanted, class)| wanted != class)
    }
}

/// From where on a member's raft snapshots are counted. It stands on the volume: a restart resets the count,
/// and must not be taken for progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotBase {
    /// What its process had taken then.
    #[serde(flatten)]
    pub snapshots: Snapshots,
    /// Its raft index then.
    pub raft_index: u64,
}

/// A volume claim that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The cluster whose data it holds.
    pub cluster_id: Option<ClusterId>,
    /// Since when it is in quarantine; nothing where it is kept for good.
    pub quarantined: Option<Timestamp>,
}

/// Whether etcd has a downgrade job enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DowngradeJob {
    /// Nobody could say.
    #[default]
    Unknown,
    /// None is.
    Absent,
    /// One that leads to this minor is.
    To(Minor),
    /// One is, as VALIDATE tells; to which minor it leads no member of 3.5 says.
    Somewhere,
}

impl DowngradeJob {
    /// Whether one is, wherever it leads.
    pub const fn is_enabled(self) -> bool {
        matches!(self, Self::To(_) | Self::Somewhere)
    }
}

/// What a member answered on its own channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `Maintenance.Status`, or why there is none.
    pub status: Result<MemberStatus, String>,
    /// etcd's cluster version as this member knows it; nothing while undecided or unreadable.
    pub cluster_version: Option<Minor>,
    /// The storage version; nothing before 3.6.
    pub storage_version: Option<Minor>,
    /// Whether a linearizable read through it answered, or why not.
    pub read: Result<(), String>,
    /// What it has on its disk, where it has found no quorum since its start and so serves nobody.
    pub standstill: Option<Standstill>,
    /// How many raft snapshots it took. Asked only where [`Observation::needs_snapshot_counts`].
    pub snapshots: Option<Snapshots>,
    /// The certificates that it showed.
    pub presented: Presented,
}

impl Answer {
    /// Its status, where it answered.
    pub fn status(&self) -> Option<&MemberStatus> {
        self.status.as_ref().ok()
    }

    /// The revision and the raft index that it has, also where it has found no quorum: what it has applied it knows to be
    /// committed.
    pub fn knows(&self) -> Option<(i64, u64)> {
        let said = self.status().map(|status| (status.revision, status.raft_index));
        said.or_else(|| self.standstill.map(|still| (still.revision, still.raft_applied_index)))
    }
}

/// A Pod that tries something out before a member is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFacts {
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// The revision whose image it runs.
    pub revision: String,
    /// What it tries.
    pub tries: Tries,
    /// How far it is.
    pub state: ProbeState,
}

/// What a probe tries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tries {
    /// Whether the image runs on the node, and which etcd it holds.
    Image,
    /// Whether the volume of this member, which runs, holds data of the v2 API.
    Volume(MemberName),
}

/// How far a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// It has not ended; the kubelet's reason and message where it has one.
    Running(Option<(String, String)>),
    /// It ran to its end and said this version, or nothing readable.
    Said(Option<EtcdVersion>),
    /// It looked through the whole volume and found nothing.
    FoundNothing,
    /// What it found, in its own words.
    Found(String),
    /// It ended with an error; exit code and last words.
    Failed(String),
    /// It never ran: the kubelet turned it away, or it was evicted; why.
    Rejected(String),
}

/// How long this process has watched one wait without progress. Only the clock of a process that
/// watched counts: after a restart it begins again, so a wall clock alone never puts anything back.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patience {
    /// What is waited for.
    pub subject: String,
    /// The best progress seen so far.
    pub best: u64,
    /// For how long there was no better.
    pub without_progress: Duration,
}
