//! The closed list of words with which the operator says what it does, waits for and refuses.
//! The same word is the reason of a condition, the reason of an Event, the field of a log line, the
//! label of a metric and a heading of `docs/refusals.md`, which is generated from this table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a code asks of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Something was done, or is true. Nobody needs to act.
    News,
    /// Blocks nothing, and somebody should know of it: in `status.warnings`.
    Warning,
    /// Expected to pass by itself: `Reconciling`, and `Stalled` once its deadline has passed.
    Wait,
    /// Needs a person: `Stalled` at once.
    Refusal,
}

macro_rules! codes {
    ($( $severity:ident $name:ident: $meaning:literal, $remedy:literal; )+) => {
        /// A stable word of the operator. See [`Severity`] for what it asks of the reader.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        pub enum Code {
            $( #[doc = $meaning] $name, )+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Code] = &[$( Code::$name, )+];

            /// The word itself.
            pub const fn as_str(self) -> &'static str {
                match self { $( Code::$name => stringify!($name), )+ }
            }

            /// Whether a person must act.
            pub const fn severity(self) -> Severity {
                match self { $( Code::$name => Severity::$severity, )+ }
            }

            /// One sentence: what it means.
            pub const fn meaning(self) -> &'static str {
                match self { $( Code::$name => $meaning, )+ }
            }

            /// One sentence: what to do, in general. Messages carry the remedy for the case at hand.
            pub const fn remedy(self) -> &'static str {
                match self { $( Code::$name => $remedy, )+ }
            }
        }
    };
}

codes! {
    News Converged: "The cluster is what its spec says, and every member is healthy.", "Nothing to do.";
    News Serving: "A linearizable read answers and writes are accepted.", "Nothing to do.";
    News Paused: "spec.paused is true: the operator reports and touches nothing.", "Set spec.paused to false to go on.";
    News ClusterFormed: "All members of a new cluster found each other; its id is recorded.", "Nothing to do.";
    News ClusterAdopted: "Volumes of an earlier EtcdCluster of this name were taken over, with their data.", "Nothing to do.";
    News MemberCreated: "A member's Pod was created.", "Nothing to do.";
    News MemberStopped: "A member's Pod was evicted so that it can be replaced.", "Nothing to do.";
    News LeaderMoved: "Leadership was handed to another voter before its holder is stopped.", "Nothing to do.";
    News DowngradeBegun: "A downgrade job was enabled: etcd lowers the cluster version.", "Nothing to do.";
    News DowngradeCancelled: "A downgrade job that does not lead where the spec does was cancelled, whoever began it.", "Nothing to do; to go down a minor, set spec.version.";
    News MemberUpdated: "A replaced member passed every gate after its start.", "Nothing to do.";
    News MemberPutBack: "A member did not come up with its new revision; its last good one runs again.", "Read status.lastFailure, mend the spec.";
    News MemberAdded: "A learner was added to etcd's member list.", "Nothing to do.";
    News MemberPromoted: "A learner that was in sync with the leader became a voter.", "Nothing to do.";
    News MemberRemoved: "A member was removed from etcd's member list.", "Nothing to do.";
    News RecoveryStarted: "A cluster that has lost its quorum for good is made anew from one member, as spec.recovery says.", "Nothing to do.";
    News Recovered: "The cluster was made anew from one member; it grows back to its size.", "Remove spec.recovery; it asks for nothing any more.";
    News VolumeExpanded: "A member's volume was asked to grow, as spec.storage.size says.", "Nothing to do.";
    News ReplacementStarted: "A member is replaced by a new one: its data is gone, or somebody asked for it.", "Nothing to do.";
    News RolloutStarted: "A change that needs restarts has begun.", "Watch status.progress.";
    News RolloutCompleted: "Every member runs what the spec says.", "Nothing to do.";
    News SupportApplied: "The Services or the disruption budget were brought in line with the spec.", "Nothing to do.";
    News CertificatesIssued: "Certificates were made, or made anew before their end. No member is restarted for that.", "Nothing to do.";
    News CertificatesCurrent: "Every certificate holds.", "Nothing to do.";
    News Deleting: "The EtcdCluster is being deleted.", "Nothing to do; volumes stay unless retentionPolicy.whenDeleted is Delete. Data in Pods (storage.emptyDir) goes.";
    News VolumesDeleted: "Volume claims were deleted, as storage.retentionPolicy says: with the cluster, or with a member that was removed.", "Nothing to do.";
    News AlarmDisarmed: "An alarm of etcd was taken back, since what it was about is over: writes are accepted again.", "Nothing to do.";
    News MemberDefragmented: "A member's database was defragmented: what it did not use is given back to its disk.", "Nothing to do.";
    News HistoryCompacted: "After the alarm NOSPACE the history of the keys was compacted: only their present values are kept. Watches that lagged behind begin anew.", "Look for what filled the database; raise spec.etcd.quotaBackendBytes where it is to be that large.";
    News VolumeSetAside: "The volume claim of a member that was removed is kept aside.", "Delete it once nobody needs what is on it: kubectl delete pvc -l quorate.dev/cluster=NAME,quorate.dev/set-aside=retained.";

    Warning KnownBugs: "The release that the spec asks for has known bugs that a later patch has not.", "Go to the patch that the message names.";
    Warning VersionSkew: "etcd does not fit the control plane that spec.kubernetes.version names.", "Choose an etcd version that fits; docs/versions.md has the table.";

    Warning NotSpread: "One node, or one zone, holds so many members that its loss is the loss of the quorum.", "Add nodes or zones that members may run on, then exchange a member by the annotation quorate.dev/replace.";

    Warning CertificateEnding: "A certificate has ended, or comes to its end and was not made anew, or a member still shows an old one.", "Look for AuthorityLost in status.refusals, and at what the message names.";

    Wait Bootstrapping: "The first members are starting together.", "Wait; status.progress says for which member.";
    Wait MemberStarting: "A member's Pod is being made or is starting.", "Wait; if it stays, look at the Pod named in the message.";
    Wait MemberDown: "A member does not answer.", "Look at the Pod and its log; no other member is touched meanwhile.";
    Wait MemberStopping: "A member's Pod is going away.", "Wait; if it stays, look at its node.";
    Wait MemberJoining: "A new member is a learner: it receives the data and has no vote yet.", "Wait; if it stays, look at the Pod named in the message.";
    Wait MembershipPending: "etcd takes no change of its members just now.", "Wait; after any restart etcd wants its members to have been connected for 5 s.";
    Wait MemberBehind: "A member has not yet applied what the leader has committed.", "Wait; a slow disk or network shows here.";
    Wait ImageProbing: "The target image is tried out on each node before a member is touched.", "Wait; if it stays, check the image name and the registry.";
    Wait ImageUnavailable: "The target image cannot be pulled, or does not run, on a node that holds a member.", "Check spec.version, spec.image and the registry. No member was touched; setting spec.version back is always possible.";
    Wait PodRefused: "The API server refuses a Pod: quota, Pod Security or an admission policy.", "Do what the API server's message says.";
    Wait StepRefused: "The API server or a member answers a step with a no.", "Do what the message says; the step is tried again, less and less often.";
    Wait PodUnschedulable: "No node can take a Pod.", "Look for a node that is cordoned or full (`kubectl get nodes`), or mend the scheduling fields under spec.pod.";
    Wait LeaderMoving: "Leadership is being handed to another voter.", "Wait.";
    Wait NoLeader: "The voters do not agree on one leader and one term.", "Wait; look at the network between members.";
    Wait QuorumUnproven: "A linearizable read or a proposal did not succeed just now.", "Wait; nothing is touched until quorum is proven.";
    Wait QuorumLost: "Fewer than a quorum of the voters answer.", "Bring the missing members' nodes or volumes back.";
    Wait Recovering: "The cluster is made anew from one member, as spec.recovery says.", "Wait; if it stays, look at the Pod that the message names. Before the member is on its own, removing spec.recovery takes all back.";
    Wait MembershipUnexpected: "The member list is not what it should be: a name is missing, or there is a learner.", "Compare with `etcdctl member list`; finish or undo the change that left it.";
    Wait AnotherDisturbance: "Another member is away or going away, by whomever's hand; a node of a member is cordoned or not ready; or what a step rested on was changed in the same moment.", "Wait until the member is back and the node has been drained, or `kubectl uncordon` it.";
    Wait DatabaseNearQuota: "A member's database is close to its quota, and a version change waits for room.", "Compact and defragment it, or raise spec.etcd.quotaBackendBytes.";
    Wait DisruptionBudget: "The PodDisruptionBudget allows no eviction just now.", "Wait; look at `kubectl get pdb`.";
    Wait Soaking: "The first member of a minor hop is watched for a moment.", "Wait.";
    Wait SnapshotPending: "Every member must take a raft snapshot before a hop to 3.7; entries that touch no key are proposed until it does.", "Wait; some 10,000 entries take seconds.";
    Wait ClusterVersionPending: "All members run the new version; etcd has not raised the cluster version yet.", "Wait a few seconds.";
    Wait DowngradePending: "A downgrade job is enabled: etcd lowers the cluster version, or has not ended the job yet.", "Wait a few seconds.";
    Wait PreviousClusterTerminating: "Pods of an earlier EtcdCluster of this name are still going away.", "Wait.";
    Wait VolumesDeleting: "The cluster's volumes are being deleted.", "Wait.";
    Wait VolumeGrowing: "A volume is made larger, as spec.storage.size says; one at a time.", "Wait; if it stays, `kubectl describe pvc` shows what the volume's driver says.";
    Wait ApprovalPending: "spec.rollout.approval is Manual, and nobody has approved the plan in status.plan yet. No member is touched.", "Look at status.plan, then set the annotation quorate.dev/approve to its hash.";
    Wait OutsideWindow: "No window of spec.rollout.windows is open; no change begins before one is.", "Wait, or change spec.rollout.windows.";
    Wait RolloutPaused: "spec.rollout.paused is true: members are healed, and nothing of them is changed.", "Set spec.rollout.paused to false to go on.";
    Wait AlarmActive: "An etcd alarm is set; no version change begins under it.", "See the alarm with `etcdctl alarm list`, cure it, then `etcdctl alarm disarm`.";
    Wait Defragmenting: "A member's database is defragmented: it serves nobody meanwhile, some seconds for each GiB.", "Wait.";
    Wait NoSpace: "The database has reached its quota (NOSPACE): reads answer, writes are refused.", "Delete keys, or raise spec.etcd.quotaBackendBytes. With maintenance.defragmentation.mode Disabled also compact, defragment and `etcdctl alarm disarm`.";
    Wait Corrupt: "A member's data differs from the others' (CORRUPT): reads answer, writes are refused.", "Find the member with `etcdctl endpoint hashkv --cluster`; touch nothing else before.";

    Refusal InvalidSpec: "A field of the spec has a value that can never work.", "Correct the field that the message names.";
    Refusal VersionUnsupported: "The table of versions does not know this version.", "Choose a version that the message names.";
    Refusal ReleaseRefused: "The release is one to avoid: it is known to lose data or not to start.", "Choose a version that the message names; docs/versions.md lists the releases to avoid.";
    Refusal FlagUnsupported: "A flag or a feature gate is not one that the version would start with.", "Correct or remove what the message names; docs/versions.md lists the flags by version.";
    Refusal MinorSkipped: "The change would skip a minor version, which etcd does not support.", "Go through each minor in turn.";
    Refusal DowngradeUnsupported: "etcd cannot be brought from the minor that runs to the older one that the spec asks for.", "Set spec.version back to the minor that runs.";
    Refusal FloorNotMet: "A member runs a patch that is too old to begin this hop.", "Go to the patch that the message names first.";
    Refusal DowntimeNotAllowed: "A single member cannot change its minor without downtime and without a canary.", "Set spec.rollout.allowDowntime to true.";
    Refusal StorageChangeUnsupported: "The volumes cannot become what spec.storage says: they never shrink, grow only where their StorageClass allows it, and are neither given up for spec.storage.emptyDir nor made for members that had none.", "Set spec.storage back, allow expansion in the StorageClass, or exchange the members by quorate.dev/replace.";
    Refusal ElectionTimeoutConflict: "The new heartbeat is not below an election timeout in force; the roll would never settle.", "Raise electionTimeout first, in a roll of its own.";
    Refusal ForeignObject: "An object of a name that the cluster needs belongs to somebody else.", "Rename the cluster, or remove the object.";
    Refusal NoStorageClass: "No default StorageClass exists, and the spec names none.", "Set spec.storage.storageClassName, or mark a StorageClass as default.";
    Refusal MemberFailed: "A member did not come up with the new revision in time; its last good one was put back.", "Read status.lastFailure and change the spec.";
    Refusal ImageVersionMismatch: "The image runs another etcd version than the spec says.", "Correct spec.version or spec.image.";
    Refusal V2DataFound: "A volume holds data that was written through etcd's v2 API; 3.6 does not start on it.", "Set spec.version back. If nobody needs that data, let 3.6 start over it with spec.etcd.extraArgs v2-deprecation=write-only-skip-check.";
    Wait V2DataUnknown: "Whether a volume holds data of etcd's v2 API, on which 3.6 does not start, is not known.", "Look at the probe's Pod, named in the message; delete it to try again.";
    Refusal MemberDataLost: "A member has lost its data: its volume or Pod is missing, empty or damaged, or on a node that is lost. Starting it empty would break raft, and it is not replaced by itself.", "Bring back what it lost, or set the annotation quorate.dev/replace to the member's name.";
    Refusal MembersDiffer: "Members' data differ (CORRUPT): reads answer, writes are refused. It cannot be told whose is wrong, or nobody may be replaced by itself, so nothing is touched.", "Compare them with `etcdctl endpoint hashkv --cluster`; set the annotation quorate.dev/replace to the member that is wrong, then `etcdctl alarm disarm`.";
    Refusal RecoveryNeeded: "Fewer than a quorum of the voters have their data: by itself the cluster does not come back.", "Bring back what they lost. Only if that is impossible, say spec.recovery as status.quorumLoss offers it: what the survivor does not know is lost. With spec.storage.emptyDir, save what a member that runs has, and make another EtcdCluster from it.";
    Refusal RecoveryRefused: "spec.recovery cannot be carried out.", "Do what the message says; nothing was touched.";
    Refusal RecoveryStuck: "A recovery has begun, and cannot go on by itself.", "Do what the message says; the volumes that it has set aside are kept.";
    Refusal AuthorityLost: "The certificate authority (CA) that signs the cluster's certificates is gone or cannot be used. Members go on with the certificates that they have, until these end.", "Bring the Secret back as it was, e.g. from a backup.";
    Refusal TlsModeChange: "spec.tls.mode asks members that run to talk something else than they do.", "Set spec.tls.mode back, or make another EtcdCluster and move the data.";
    Refusal AllMembersLost: "Every member's data is gone. No empty cluster is made in its place.", "Restore a backup into a new EtcdCluster.";
    Refusal VolumesIncomplete: "Fewer than a quorum of the earlier cluster's volumes are there.", "Bring the missing volumes back, or choose another name.";
    Refusal VolumesDisagree: "The volumes of this name come from different clusters.", "Move the volumes that do not belong away, or choose another name.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
