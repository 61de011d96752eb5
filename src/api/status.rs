//! What users are told: the status of an `EtcdCluster`. Sizes and lags are quantised, so that
//! nothing is written while nothing changes.

use super::{CertificateStatus, Code, EffectiveStatus, QuorumLossStatus, RecoveryStatus, TlsMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed state of an etcd cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// The generation of the spec that this status is about; -1 until the operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Members in etcd's member list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The label selector of the members' Pods, for `/scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// etcd's cluster id, in hexadecimal. Set once the cluster has formed.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The lowest version that a member runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version that the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// etcd's cluster version: the lowest minor of all members, which etcd raises by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_version: Option<String>,
    /// The version of the data on disk, known from 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// The name of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Members that are ready out of those wanted, e.g. `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_ready: Option<String>,
    /// The highest member number that was ever used; numbers are never used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_member_number: Option<i32>,
    /// The client URL of each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The members, as `etcdctl member list` and each member's own status show them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// The bootstrap in progress, pinned before its first Pod. Gone once the cluster has formed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapStatus>,
    /// The way from here to the spec. Absent when there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// The step in progress. While a member is claimed here no other is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What the operator refuses to do, why, and the remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalStatus>,
    /// What somebody should know of, and what holds nothing up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningStatus>,
    /// The last member that did not come up with a new revision, and the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureStatus>,
    /// The last member that was replaced by a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_replacement: Option<ReplacementStatus>,
    /// The quorum is lost: who is left, and what each knows. Gone once a quorum answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum_loss: Option<QuorumLossStatus>,
    /// The last time that the cluster was made anew from one member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_recovery: Option<RecoveryStatus>,
    /// What was done to make room in full databases; nothing once the alarm NOSPACE is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomStatus>,
    /// The certificates in use; nothing without TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The values in force where the spec leaves them to defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveStatus>,
    /// `Available`, `Ready`, and while they are true `Reconciling`, `Stalled`, `Paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its name, which is its Pod's name too.
    pub name: String,
    /// etcd's member id, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `Voter` or `Learner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Whether it answers a linearizable read.
    pub ready: bool,
    /// The etcd version that it says it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image of its Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The revision that its Pod was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The node that its Pod runs on, or ran on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The zone of that node, by its label `topology.kubernetes.io/zone`. Absent where the node has none, or
    /// where the operator may not read nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its peer URLs in the member list.
    #[serde(default, rename = "peerURLs", skip_serializing_if = "Vec::is_empty")]
    pub peer_urls: Vec<String>,
    /// Its client URLs in the member list.
    #[serde(default, rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
    /// Size of its database on disk, to two digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size: Option<String>,
    /// Size of the database that is in use, to two digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_in_use: Option<String>,
    /// Raft entries that it is behind the leader; 0 below a thousand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_lag: Option<i64>,
}

/// Whether a member counts for quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// It counts.
    Voter,
    /// It does not yet.
    Learner,
}

/// The bootstrap in progress. It stands on each volume claim too, so that a lost status is no loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapStatus {
    /// How many members form the cluster.
    pub members: i32,
    /// The version that they start on.
    pub version: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Whether a first member may have been started, where members keep their data in their Pods: one that is gone then is
    /// not made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
    /// Whether they talk TLS; absent means plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
}

/// The way from here to the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// The hash of what is intended: what members become, from which versions, over which hops. With
    /// `rollout.approval: Manual` the annotation `quorate.dev/approve` must name it. It stays until the plan ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Whether it was approved; absent where nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// What members become in the end: the name of a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<String>,
    /// How many members there are in the end, where that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What the volumes become, where that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The versions on the way, e.g. `["3.5.9", "3.5.10"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<String>,
    /// What is done, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
}

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// What is done.
    pub action: Action,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// What it becomes: a version, or the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Start the first members together.
    Bootstrap,
    /// Take the volumes of an earlier cluster over.
    Adopt,
    /// Make the Pod of a member again.
    StartMember,
    /// Try the image out on every node that holds a member.
    ProbeImage,
    /// Look on every member's volume for data of etcd's v2 API.
    ProbeVolumes,
    /// Stop the member and start it with its new revision.
    ReplaceMember,
    /// Hand leadership over, then replace the member.
    ReplaceLeader,
    /// Give the member's Pod its new labels and annotations, in place: nothing restarts.
    RelabelMember,
    /// Stop the member and start it with its last good revision; in place, where that differs in labels and annotations alone.
    PutBack,
    /// Wait until etcd has raised the cluster version.
    AwaitClusterVersion,
    /// Start the member once on the next minor: on its own it refuses to start, because its data remembers a
    /// downgrade job that was cancelled.
    ClearDowngrade,
    /// Begin a downgrade job of etcd's: it lowers the cluster version and migrates each member's data.
    EnableDowngrade,
    /// Wait until etcd has lowered the cluster version, or has ended the job.
    AwaitDowngrade,
    /// Have every member take a raft snapshot, so that 3.7 can read its data.
    TakeSnapshots,
    /// Add a learner, start it, and make it a voter once it is in sync.
    AddMember,
    /// Remove the member from etcd, then its Pod and its volume claim.
    RemoveMember,
    /// Remove a member that is replaced: its data is gone, or its replacement votes. Its volume is kept aside.
    RetireMember,
    /// Give what the member's database does not use back to its disk.
    Defragment,
    /// Make the member's volume larger.
    ExpandVolume,
    /// Stop the member and start it again as it was: its volume has grown, and its file system grows when it is mounted anew.
    RestartMember,
    /// Make the cluster anew from this member, whose quorum is lost for good.
    Recover,
    /// Delete the cluster's volumes.
    DeleteVolumes,
}

impl Action {
    /// Whether it is done to one member under a claim: that member may be away.
    pub const fn is_claim(self) -> bool {
        matches!(
            self,
            Self::ReplaceMember
                | Self::ReplaceLeader
                | Self::RelabelMember
                | Self::PutBack
                | Self::ClearDowngrade
                | Self::RestartMember
                | Self::AddMember
                | Self::RemoveMember
                | Self::RetireMember
                | Self::Defragment
                | Self::Recover
        )
    }

    /// Whether the claimed member gets a revision by it.
    pub const fn gives_a_revision(self) -> bool {
        self.is_claim() && !self.changes_the_list() && !matches!(self, Self::Defragment | Self::Recover)
    }

    /// Whether it adds an entry to etcd's member list, or removes one.
    pub const fn changes_the_list(self) -> bool {
        matches!(self, Self::AddMember | Self::RemoveMember | Self::RetireMember)
    }

    /// Whether it removes an entry of etcd's member list.
    pub const fn removes(self) -> bool {
        matches!(self, Self::RemoveMember | Self::RetireMember)
    }

    /// Whether a claimed member gets what the spec asks for, so that an edit of it may change the claim.
    pub const fn follows_the_spec(self) -> bool {
        matches!(self, Self::ReplaceMember | Self::ReplaceLeader | Self::RelabelMember)
    }
}

/// What was done to make room in full databases, since the alarm NOSPACE was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoomStatus {
    /// The revision up to which the history of the keys was forgotten.
    pub revision: i64,
    /// When.
    pub time: Time,
    /// Members that were defragmented since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub defragmented: Vec<String>,
}

/// The step in progress, and the claim on the one member that may be away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Which step of the roll this is, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// How many steps the roll has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<i32>,
    /// What is being done.
    pub action: Action,
    /// The member that is claimed, or that is waited for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// The revision that it gets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The UID of the Pod that is replaced. Once it is gone, the member has been stopped.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// What is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Why, where that does not follow from the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when the member is claimed.
    pub since: Time,
    /// How long it may make no progress while the operator watches, e.g. `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusalStatus {
    /// Its stable word.
    pub code: Code,
    /// The evidence, with numbers.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarningStatus {
    /// Its stable word.
    pub code: Code,
    /// What is, and what would be better.
    pub message: String,
}

/// A member that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacementStatus {
    /// The member that is gone.
    pub member: String,
    /// When that was begun.
    pub time: Time,
    /// Whether the cluster has been Ready for an hour since. Until then no other member is replaced by itself.
    pub settled: bool,
}

/// A member that did not come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// The member.
    pub member: String,
    /// The revision that failed. It is not tried again; another one is.
    pub revision: String,
    /// The version that it should have run.
    pub version: String,
    /// What the kubelet says of the container, e.g. `CrashLoopBackOff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The exit code of the container's last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last lines of the container's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// When it was given up.
    pub time: Time,
}
