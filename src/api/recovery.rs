//! What is said when a quorum is lost, and how a person asks for the cluster to be made anew from one member.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes a cluster that has lost its quorum for good anew from one member. What only the others knew is given up, so every
/// field names what `status.quorumLoss` offers; with anything else nothing is done.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoverySpec {
    /// `status.clusterID`.
    #[serde(rename = "clusterID")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]+$')")
        .message("spec.recovery.clusterID is status.clusterID, in hexadecimal"))]
    pub cluster_id: String,
    /// `status.quorumLoss.incident`. Once that incident is over this asks for nothing any more.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]+$')")
        .message("spec.recovery.incident is status.quorumLoss.incident, in hexadecimal"))]
    pub incident: String,
    /// One of `status.quorumLoss.survivors`: the member whose data becomes the cluster's.
    #[schemars(length(min = 1, max = 63))]
    pub from_member: String,
    /// The revision that this member has. Whatever was written after it is lost.
    #[schemars(range(min = 1))]
    pub survivor_revision: i64,
}

/// A quorum that is lost: from when fewer voters answer than make one until one does again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuorumLossStatus {
    /// Names this loss and no other; `spec.recovery.incident` must say it.
    pub incident: String,
    /// Since when, by the operator's clock.
    pub since: Time,
    /// Voters that are left, and what each knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub survivors: Vec<SurvivorStatus>,
}

impl QuorumLossStatus {
    /// What the voter of this name knows, where it is left.
    pub fn survivor(&self, name: &str) -> Option<&SurvivorStatus> {
        self.survivors.iter().find(|survivor| survivor.member == name)
    }
}

/// A voter that is left when a quorum is lost, and what it knows. Without a quorum nothing is committed, so that it stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SurvivorStatus {
    /// Its name.
    pub member: String,
    /// The revision of the keys that it has.
    pub revision: i64,
    /// The raft index that it has.
    pub raft_index: i64,
    /// So many revisions above its own are known to have been there. Absent where the operator has not watched the cluster
    /// before the loss; then nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<i64>,
    /// When the operator saw it answer a linearizable read for the last time: it has every write that was acknowledged before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_until: Option<Time>,
}

/// The last recovery from one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// The loss that it ended.
    pub incident: String,
    /// The member whose data became the cluster's.
    pub member: String,
    /// The revision that it had.
    pub revision: i64,
    /// When it was begun.
    pub time: Time,
    /// The volume claim with a copy of its data from before, kept until `storage.quarantine` has passed.
    pub copy: String,
}
