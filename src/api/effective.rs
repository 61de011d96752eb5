//! `status.effective`: what is in force where the spec leaves it to defaults.

use super::{Approval, DefragmentationMode, HealMode, Hops, Resources, Retention};
use k8s_openapi::api::core::v1::{Affinity, PodSecurityContext, TopologySpreadConstraint};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The values in force: the spec's own where it has one, else the operator's default. Named as the spec's
/// fields are, or as the field of the Pod or Service that they become. Fields of the spec for which
/// the operator has no default are not repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStatus {
    /// How many members are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Whether nothing is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// The image of new members: repository, and tag or digest.
    pub image: String,
    /// When the kubelet pulls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// The quota of the database, in bytes.
    pub quota_backend_bytes: i64,
    /// How often the leader says that it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<String>,
    /// How long a follower waits for the leader before it asks for votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election_timeout: Option<String>,
    /// The size of new volumes.
    pub storage_size: String,
    /// The class of new volumes. Absent: the default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// What becomes of the volumes when the EtcdCluster is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_deleted: Option<Retention>,
    /// What becomes of the volume of a member that is scaled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_scaled: Option<Retention>,
    /// Whether members are only healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_paused: Option<bool>,
    /// How long the volume of a member that was replaced is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// Whether a member whose data is gone is replaced without a person's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_mode: Option<HealMode>,
    /// For how long a member may be away with its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_lost_after: Option<String>,
    /// Whether databases are defragmented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragmentation: Option<DefragmentationMode>,
    /// CPU and memory of the etcd container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The security context of the members' Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "as_in_a_pod")]
    pub security_context: Option<PodSecurityContext>,
    /// The affinity of the members' Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "as_in_a_pod")]
    pub affinity: Option<Affinity>,
    /// How members spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "list_as_in_a_pod")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Seconds that etcd gets to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// The type of the Service for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_service_type: Option<String>,
    /// How long a member may make no progress while the operator watches.
    pub member_deadline: String,
    /// Whether a cluster of one member may change its minor version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_downtime: Option<bool>,
    /// How far one edit of the version may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<Hops>,
    /// Whether a change waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// The spec's schema says what the fields are; here a copy of it would only make the definition longer.
fn as_in_a_pod(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn list_as_in_a_pod(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": as_in_a_pod(generator) })
}
