//! Label and annotation keys on the objects of a cluster. They are API: dashboards, `NetworkPolicy`
//! selectors and people's scripts rely on them.
//!
//! `app.kubernetes.io/instance` is not among them on purpose: Argo CD tracks objects by it and may
//! prune what carries it.

use super::MemberRole;
use std::collections::BTreeMap;

/// `etcd` on everything that belongs to a cluster.
pub const NAME: &str = "app.kubernetes.io/name";
/// What the object is: `member`, `image-probe`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Always `quorate`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The name of the `EtcdCluster`.
pub const CLUSTER: &str = "quorate.dev/cluster";
/// The name of the member.
pub const MEMBER: &str = "quorate.dev/member";
/// `voter` or `learner`; the disruption budget counts voters.
pub const ROLE: &str = "quorate.dev/role";

/// Value of [`COMPONENT`] on members' Pods and volumes.
pub const COMPONENT_MEMBER: &str = "member";
/// Value of [`COMPONENT`] on Pods that try an image out before a member is touched.
pub const COMPONENT_PROBE: &str = "probe";
/// Value of [`COMPONENT`] on the Pods that make a cluster anew from one member.
pub const COMPONENT_RECOVERY: &str = "recovery";
/// Value of [`COMPONENT`] on the Secrets with certificates and keys.
pub const COMPONENT_CERTIFICATE: &str = "certificate";
/// Value of [`ROLE`] on members that count for quorum.
pub const ROLE_VOTER: &str = "voter";
/// Value of [`ROLE`] on members that are joining: they have no vote yet.
pub const ROLE_LEARNER: &str = "learner";

/// On a Pod: the `ControllerRevision` that it was rendered from.
pub const REVISION: &str = "quorate.dev/revision";
/// On a Pod: `--initial-cluster`, read by the kubelet at each start of the container.
pub const INITIAL_CLUSTER: &str = "quorate.dev/initial-cluster";
/// On a Pod: `--initial-cluster-state`.
pub const INITIAL_CLUSTER_STATE: &str = "quorate.dev/initial-cluster-state";
/// On a Pod: `--initial-cluster-token`.
pub const INITIAL_CLUSTER_TOKEN: &str = "quorate.dev/initial-cluster-token";

/// On a Pod that keeps its member's data, as a scheduling gate: it is not started yet, and is what a volume claim is
/// elsewhere. What is written on volume claims stands on these Pods.
pub const GATE: &str = "quorate.dev/start";

/// On a volume claim: the bootstrap that it was made for, as JSON, until the cluster has formed.
pub const BOOTSTRAP: &str = "quorate.dev/bootstrap";
/// On a volume claim: the id of the etcd cluster whose data it holds, in hexadecimal.
pub const CLUSTER_ID: &str = "quorate.dev/cluster-id";
/// On a volume claim: the id of the member whose data it holds, in hexadecimal.
pub const MEMBER_ID: &str = "quorate.dev/member-id";
/// On a volume claim: all voters by name, as last seen. A new `EtcdCluster` adopts by it.
pub const VOTERS: &str = "quorate.dev/voters";
/// On a volume claim: the highest number that a member of the cluster ever had.
pub const LAST_MEMBER_NUMBER: &str = "quorate.dev/last-member-number";
/// On a volume claim: the revision that the member's next Pod is made from. Written before the Pod.
pub const ASSIGNED: &str = "quorate.dev/assigned";
/// On a volume claim, while the cluster forms: the UID of the first Pod that was made from the assigned revision. With
/// another one, the one before may have run and left its data behind. Once one was seen to run, it says [`HAS_RUN`].
pub const FIRST_POD: &str = "quorate.dev/first-pod";
/// In the place of a UID: the volume has been used, whatever becomes of the Pods that stand there later.
pub const HAS_RUN: &str = "has-run";
/// On a volume claim: the last revision with which the member passed its gate; what is put back.
pub const GOOD: &str = "quorate.dev/good";
/// On a volume claim: the newest etcd version that was seen to serve this data.
pub const OPENED: &str = "quorate.dev/opened";
/// On a volume claim: from where on the member's raft snapshots are counted, as JSON.
pub const SNAPSHOT_BASE: &str = "quorate.dev/snapshot-base";
/// On a volume claim: `true` once a raft snapshot was taken since entries of etcd's v2 API can have been
/// written last, so that 3.7 can read the data.
pub const FREE_OF_V2_ENTRIES: &str = "quorate.dev/free-of-v2-entries";

/// On a volume claim: `Enabled` where its member talks TLS. The member list in its data has the scheme of its peers.
pub const TLS: &str = "quorate.dev/tls";

/// On a volume claim, as a label: its member is no member any more, and the volume is kept aside. The value says why.
pub const SET_ASIDE: &str = "quorate.dev/set-aside";
/// Value of [`SET_ASIDE`]: kept as `storage.retentionPolicy.whenScaled` says, or because nobody said why its member went.
pub const SET_ASIDE_RETAINED: &str = "retained";
/// Value of [`SET_ASIDE`]: of a member that was replaced; deleted after `storage.quarantine`.
pub const SET_ASIDE_QUARANTINED: &str = "quarantined";
/// On a volume claim that is set aside: since when, as RFC 3339 writes it.
pub const SET_ASIDE_SINCE: &str = "quorate.dev/set-aside-since";

/// On Services and the disruption budget: a digest of what was applied.
pub const APPLIED: &str = "quorate.dev/applied";

/// On a probe Pod: the image that it tries out, and the version that the image must say.
pub const PROBE_VERSION: &str = "quorate.dev/probe-version";
/// On a probe Pod that looks into a volume: the member whose volume it is.
pub const PROBE_MEMBER: &str = "quorate.dev/probe-member";
/// On a volume claim: the loss of the quorum that its member is being forced for; gone once it was.
pub const RECOVERING: &str = "quorate.dev/recovering";
/// On a Pod of a recovery: the loss of the quorum that it ends.
pub const INCIDENT: &str = "quorate.dev/incident";
/// On a Pod of a recovery: `copy` or `force`.
pub const STAGE: &str = "quorate.dev/recovery-stage";
/// On an `EtcdCluster`: the hash of the plan that a person approves.
pub const APPROVE: &str = "quorate.dev/approve";

/// On an `EtcdCluster`: the member that is to be replaced by a new one. Done when that name is gone.
pub const REPLACE: &str = "quorate.dev/replace";

/// On an `EtcdCluster`: removes the volumes before the object goes (`whenDeleted: Delete`).
pub const FINALIZER: &str = "quorate.dev/delete-volumes";

/// The value of [`ROLE`].
pub const fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => ROLE_VOTER,
        MemberRole::Learner => ROLE_LEARNER,
    }
}

/// The labels that every object of the cluster carries.
pub fn of_cluster(cluster: &str) -> BTreeMap<String, String> {
    [(NAME, "etcd"), (MANAGED_BY, "quorate"), (CLUSTER, cluster)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The same with what the object is.
pub fn of_component(cluster: &str, component: &str) -> BTreeMap<String, String> {
    let mut labels = of_cluster(cluster);
    labels.insert(COMPONENT.to_owned(), component.to_owned());
    labels
}

/// The selector that finds every object of the cluster.
pub fn selector_of_cluster(cluster: &str) -> String {
    format!("{MANAGED_BY}=quorate,{CLUSTER}={cluster}")
}
