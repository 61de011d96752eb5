//! What the planner says: the plan, its one next step, and why it waits. Plain data.

use super::gates::{Removal, Stop};
use super::hold::Intent;
use crate::api::{Action, FailureStatus, Quantity, StepStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
pub use crate::cluster::objects::pod::NewPod;
use crate::cluster::objects::probe::NewProbe;
use crate::cluster::objects::recovery::NewRecoveryPod;
use crate::cluster::objects::secrets::Holder;
use crate::cluster::observation::{PodFacts, ProbeFacts, RecoveryPod, SnapshotBase};
use crate::cluster::revision::Revision;
use crate::etcd::{Alarm, ClusterId, DowngradeCall, EtcdVersion, MemberId};
use crate::pki::Request;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The whole way from here to the spec. Only `next` is ever carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to do now.
    pub next: Next,
    /// What a person approves; nothing where members are as the spec says, or it is refused.
    pub intent: Option<Intent>,
    /// What a change waits for before it may begin, whatever else is waited for just now.
    pub held: Option<Notice>,
    /// The versions on the way, from the one that runs.
    pub hops: Vec<EtcdVersion>,
    /// What is left of the roll, in order.
    pub steps: Vec<StepStatus>,
    /// Whether the cluster is what its spec says, and every member healthy.
    pub converged: bool,
    /// What the spec asks for and does not get.
    pub refusals: Vec<Notice>,
}

/// What to do now.
#[derive(Clone, Debug)]
pub enum Next {
    /// Carry out this step, then observe again.
    Do(Step),
    /// Do nothing until something changes.
    Wait(Wait),
    /// A refusal stands in the way; see [`Plan::refusals`].
    Refused,
    /// The spec asks to be left alone.
    Paused,
    /// There is nothing to do.
    Settled,
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Code, evidence, remedy.
    pub notice: Notice,
    /// The member that is waited for.
    pub member: Option<MemberName>,
    /// What patience is counted on: the same subject without a higher `progress` runs out of it.
    pub subject: String,
    /// Grows while things move. A member that replays a long WAL or receives a snapshot makes progress.
    pub progress: u64,
    /// How long it may last without progress.
    pub deadline: Duration,
    /// Whether it has lasted longer than that: a person should look.
    pub overdue: bool,
    /// Whether somebody else's move is expected within moments, so that a close look pays.
    pub close: bool,
}

/// A certificate to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPair {
    /// The Secret that gets it.
    pub secret: String,
    /// For whom it is.
    pub holder: Holder,
    /// What it says.
    pub request: Request,
    /// The Secret that is there, by its UID and as it was seen; nothing where there is none.
    pub replaces: Option<(String, String)>,
}

/// One step. Each is idempotent or carries a precondition, and killing the process after any of them
/// leaves a state from which the next observation goes on.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write a fact into the status, by compare-and-swap, before the act that depends on it.
    Record(Record),
    /// Add or remove the finalizer that deletes the volumes.
    SetFinalizer(bool),
    /// Delete these volumes: of a cluster that goes, or of a member that is none any more.
    DeleteClaims(Vec<MemberName>),
    /// Keep the volume of a member that is none any more aside.
    SetAside {
        /// Whose.
        member: MemberName,
        /// Whether for a while only.
        quarantined: bool,
    },
    /// Take volumes that were set aside for a recovery back: it is not carried out.
    TakeBack(Vec<MemberName>),
    /// Write on the claim of a member that it is the only voter, whatever its data says: a force makes that so.
    LeaveAlone {
        /// Whose.
        member: MemberName,
        /// Its member id.
        id: MemberId,
        /// The cluster's id.
        cluster_id: ClusterId,
        /// The loss that this ends.
        incident: String,
    },
    /// Write on the claim of a member that its data says so too.
    NoteForced(MemberName),
    /// Make a Pod of a recovery, where no Pod of a member stands that was not seen.
    CreateRecoveryPod(NewRecoveryPod),
    /// Remove Pods of a recovery, by name and UID.
    DeleteRecoveryPods(Vec<(String, String)>),
    /// Make or correct Services and the disruption budget, which must keep all but one of so many voters.
    ApplySupport {
        /// Voters that the budget counts.
        voters: usize,
    },
    /// Store a revision.
    StoreRevision(Arc<Revision>),
    /// Make the authority that signs all certificates of the cluster.
    CreateAuthority {
        /// From when on it holds.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
    /// Delete the authority with the data of a cluster that goes.
    DeleteAuthority {
        /// The Secret that is meant.
        uid: String,
    },
    /// Make certificates, or make them anew.
    IssueCertificates(Vec<NewPair>),
    /// Make volume claims.
    CreateClaims {
        /// Whose.
        members: Vec<MemberName>,
        /// For what.
        purpose: Purpose,
    },
    /// Remove a Pod that was to keep its member's data and was never started.
    DiscardPod {
        /// Whose.
        member: MemberName,
        /// The Pod that is meant.
        uid: String,
        /// As it was seen: one that was started since is another matter.
        resource_version: String,
    },
    /// Ask for a larger volume.
    ExpandClaim {
        /// Whose.
        member: MemberName,
        /// How large.
        size: Quantity,
    },
    /// Write on members' claims which revision their next Pods are made from.
    Assign {
        /// Whose claims.
        members: Vec<MemberName>,
        /// The revision.
        revision: String,
        /// Whether no Pod before can have left data behind, so that the next are the first.
        afresh: bool,
    },
    /// Make the Pods of members that have none.
    CreatePods(Vec<NewPod>),
    /// Set the guard on members that have their WAL now.
    Guard(Vec<Guarded>),
    /// Write on the claims what etcd says of their members.
    NoteMembers {
        /// The cluster's id.
        cluster_id: ClusterId,
        /// All voters.
        voters: BTreeMap<MemberName, MemberId>,
        /// The version seen on each.
        opened: BTreeMap<MemberName, EtcdVersion>,
        /// The revision that each passed its gate with.
        good: BTreeMap<MemberName, String>,
    },
    /// Write on every claim of the cluster who its voters are, by etcd's own word.
    NoteVoters {
        /// The cluster's id.
        cluster_id: ClusterId,
        /// All voters.
        voters: BTreeMap<MemberName, MemberId>,
        /// The highest number that a member ever had.
        last_number: u32,
    },
    /// Write on the claims of a bootstrap which Pod, by its UID, was the first that was made for each volume, or that one
    /// has used it.
    NoteFirstPods(BTreeMap<MemberName, String>),
    /// Write on the claims what is known of their members' raft snapshots.
    NoteSnapshots(BTreeMap<MemberName, SnapshotNote>),
    /// Write entries into the raft log that touch no key, so that members take a snapshot.
    Propose {
        /// Through whom.
        through: MemberName,
        /// How many.
        entries: u32,
    },
    /// Remove a Pod that has ended, one that never served during bootstrap, or one of a cluster that is deleted.
    RemovePod {
        /// Whose.
        member: MemberName,
        /// The Pod that is meant.
        uid: String,
        /// As it was when that was decided: one whose container has started since is another matter.
        resource_version: String,
        /// Why.
        reason: String,
    },
    /// Add a learner to the member list.
    AddMember {
        /// Through whom: the leader.
        through: MemberName,
        /// Who, and by that, at which peer URL.
        member: MemberName,
    },
    /// Make a learner that is in sync a voter.
    PromoteMember {
        /// Through whom: the leader.
        through: MemberName,
        /// Who.
        member: MemberName,
        /// Its id.
        id: MemberId,
    },
    /// Remove a member from the list. It can only be built from a proof.
    RemoveMember(Removal),
    /// Say on a Pod that its member votes, so that clients and the disruption budget count it.
    LabelVoter {
        /// Whose.
        member: MemberName,
        /// The Pod that is meant.
        uid: String,
    },
    /// Make the Pod of a claimed member one of another revision that differs in labels and annotations alone: nothing
    /// restarts.
    Relabel {
        /// Whose.
        member: MemberName,
        /// The Pod that is meant.
        uid: String,
        /// As it was seen.
        resource_version: String,
        /// The revision that it is of.
        from: String,
        /// The revision that it is to be of.
        to: String,
    },
    /// Take an alarm back.
    Disarm {
        /// Through whom.
        through: MemberName,
        /// Which.
        alarm: Alarm,
    },
    /// Forget the history of the keys before this revision.
    Compact {
        /// Through whom.
        through: MemberName,
        /// The first that is kept.
        revision: i64,
    },
    /// Give what a claimed member's database does not use back to its disk.
    Defragment {
        /// Whose.
        member: MemberName,
    },
    /// Hand leadership over.
    MoveLeader {
        /// The leader.
        from: MemberName,
        /// Its member id: checked on the channel before the call.
        from_id: MemberId,
        /// Its cluster id: checked too.
        cluster_id: ClusterId,
        /// The voter that takes over.
        to: MemberName,
        /// Its member id.
        to_id: MemberId,
    },
    /// Begin a downgrade job of etcd's, or give one up.
    Downgrade {
        /// Through whom.
        through: MemberName,
        /// What.
        call: DowngradeCall,
    },
    /// Stop a claimed member through the Eviction API. It can only be built from a proof.
    Stop(Stop),
    /// Try something out on nodes.
    CreateProbes(Vec<NewProbe>),
    /// Remove probes that are of no use any more.
    DeleteProbes(Vec<(String, String)>),
    /// Forget revisions that nothing refers to any more.
    DeleteRevisions(Vec<String>),
}

/// What is known of a member's raft snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotNote {
    /// Those from here on count.
    CountFrom(SnapshotBase),
    /// One was taken since.
    FreeOfV2Entries,
    /// The cluster version went back: whatever was taken counts no more.
    Forget,
}

/// A member that has its WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Who.
    pub member: MemberName,
    /// Its Pod.
    pub uid: String,
    /// The version that opened the data.
    pub version: EtcdVersion,
}

/// A fact for the status.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The members, version and token of the bootstrap.
    Bootstrap(crate::api::BootstrapStatus),
    /// The cluster has formed.
    Formed(ClusterId),
    /// Volumes of an earlier cluster were taken over.
    Adopted {
        /// Their cluster.
        cluster_id: ClusterId,
        /// The highest number among them.
        last_member_number: u32,
    },
    /// A member is claimed: no other is touched until the claim is released.
    Claim(Claim),
    /// The claimed member is back.
    Release {
        /// Who.
        member: MemberName,
        /// What was done.
        action: Action,
    },
    /// A claim that is of no use any more: nothing was touched under it, nothing brings its member up, or another member
    /// must come first.
    Withdraw {
        /// Who.
        member: MemberName,
    },
}

/// A claim on the one member that may be away.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// What is done.
    pub action: Action,
    /// To whom.
    pub member: MemberName,
    /// The revision that it gets.
    pub revision: String,
    /// The Pod that is replaced.
    pub pod_uid: String,
    /// When.
    pub since: Timestamp,
    /// Why the last revision is given up, when it is.
    pub failure: Option<Box<FailureStatus>>,
    /// Why, where that does not follow from the spec.
    pub why: Option<String>,
}

impl Next {
    /// Ends a claim under which nothing was touched, or that is of no use any more.
    pub(super) fn withdraw(member: &MemberName) -> Self {
        Self::Do(Step::Record(Record::Withdraw { member: member.clone() }))
    }

    /// The step, if there is one to carry out.
    pub const fn step(&self) -> Option<&Step> {
        match self {
            Self::Do(step) => Some(step),
            _ => None,
        }
    }
}

impl Step {
    /// Removes these probes.
    pub fn delete_probes<'a>(probes: impl Iterator<Item = &'a ProbeFacts>) -> Self {
        Self::DeleteProbes(probes.map(|probe| (probe.pod.clone(), probe.uid.clone())).collect())
    }

    /// Removes these Pods of a recovery.
    pub fn delete_recovery_pods<'a>(pods: impl Iterator<Item = &'a RecoveryPod>) -> Self {
        Self::DeleteRecoveryPods(pods.map(|pod| (pod.name.clone(), pod.facts.uid.clone())).collect())
    }

    /// A Pod that has ended is made again.
    pub(super) fn remove_ended(member: &MemberName, pod: &PodFacts) -> Self {
        Self::remove(member, pod, "it has ended and the kubelet does not start it again")
    }

    /// Removes a Pod, as it was observed.
    pub fn remove(member: &MemberName, pod: &PodFacts, reason: &str) -> Self {
        Self::RemovePod {
            member: member.clone(),
            uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
            reason: reason.to_owned(),
        }
    }

    /// The step's name, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Record(Record::Bootstrap(_)) => "RecordBootstrap",
            Self::Record(Record::Formed(_)) => "RecordFormed",
            Self::Record(Record::Adopted { .. }) => "RecordAdopted",
            Self::Record(Record::Claim(_)) => "Claim",
            Self::Record(Record::Release { .. }) => "Release",
            Self::Record(Record::Withdraw { .. }) => "Withdraw",
            Self::SetFinalizer(_) => "SetFinalizer",
            Self::DeleteClaims(_) => "DeleteClaims",
            Self::ApplySupport { .. } => "ApplySupport",
            Self::StoreRevision(_) => "StoreRevision",
            Self::SetAside { .. } => "SetAside",
            Self::TakeBack(_) => "TakeBack",
            Self::LeaveAlone { .. } => "LeaveAlone",
            Self::NoteForced(_) => "NoteForced",
            Self::CreateRecoveryPod(_) => "CreateRecoveryPod",
            Self::DeleteRecoveryPods(_) => "DeleteRecoveryPods",
            Self::CreateAuthority { .. } => "CreateAuthority",
            Self::DeleteAuthority { .. } => "DeleteAuthority",
            Self::IssueCertificates(_) => "IssueCertificates",
            Self::CreateClaims { .. } => "CreateClaims",
            Self::DiscardPod { .. } => "DiscardPod",
            Self::ExpandClaim { .. } => "ExpandClaim",
            Self::Assign { .. } => "Assign",
            Self::CreatePods(_) => "CreatePods",
            Self::Guard(_) => "Guard",
            Self::NoteMembers { .. } => "NoteMembers",
            Self::NoteVoters { .. } => "NoteVoters",
            Self::NoteFirstPods(_) => "NoteFirstPods",
            Self::NoteSnapshots(_) => "NoteSnapshots",
            Self::Propose { .. } => "Propose",
            Self::RemovePod { .. } => "RemovePod",
            Self::AddMember { .. } => "AddMember",
            Self::PromoteMember { .. } => "PromoteMember",
            Self::RemoveMember(_) => "RemoveMember",
            Self::LabelVoter { .. } => "LabelVoter",
            Self::Relabel { .. } => "Relabel",
            Self::Disarm { .. } => "Disarm",
            Self::Compact { .. } => "Compact",
            Self::Defragment { .. } => "Defragment",
            Self::MoveLeader { .. } => "MoveLeader",
            Self::Downgrade { call: DowngradeCall::Enable(_), .. } => "EnableDowngrade",
            Self::Downgrade { call: DowngradeCall::Cancel, .. } => "CancelDowngrade",
            Self::Stop(_) => "Stop",
            Self::CreateProbes(_) => "CreateProbes",
            Self::DeleteProbes(_) => "DeleteProbes",
            Self::DeleteRevisions(_) => "DeleteRevisions",
        }
    }
}
