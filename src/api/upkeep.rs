//! What users say of the operator's own work on a cluster: how it heals, looks after databases, and rolls changes out.

use super::Duration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How members are healed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealSpec {
    /// `Automatic` (the default) replaces a member whose data is gone by a new one, as long as quorum holds, and no second
    /// one before the cluster was Ready for an hour. `Manual` says which member has to be replaced, and waits for the
    /// annotation `quorate.dev/replace` to name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<HealMode>,
    /// For how long, while the operator watches, a member may be away whose node is gone or not ready, before it is
    /// replaced by a new one, where its volume can be used on that node alone. One whose volume can follow comes back on
    /// another node. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_lost_after: Option<Duration>,
}

/// Whether a member is replaced without a person's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HealMode {
    /// It is.
    #[default]
    Automatic,
    /// It waits for the annotation `quorate.dev/replace`.
    Manual,
}

/// What is done for the databases while members run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// What becomes of room in a database that nothing uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragmentation: Option<DefragmentationSpec>,
}

/// What becomes of room in a database that nothing uses.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefragmentationSpec {
    /// `Automatic` (the default) defragments one member at a time, the leader last and never during a roll: where a database
    /// is fragmented, or close to its quota. A member serves nobody meanwhile, some seconds for each GiB. After the alarm
    /// NOSPACE it also compacts the history of the keys where that is needed, and takes the alarm back once there is
    /// room. `Disabled` leaves all that to you.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DefragmentationMode>,
}

/// Whether databases are defragmented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DefragmentationMode {
    /// They are.
    #[default]
    Automatic,
    /// They are not.
    Disabled,
}

/// How changes are rolled out.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// How long a member may make no progress, while the operator watches, before it counts as
    /// failed and its last good revision is put back. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_deadline: Option<Duration>,
    /// A new value restarts every member, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// Whether a cluster of one member may change its minor version, which is downtime and has no
    /// canary. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_downtime: Option<bool>,
    /// `Many` (the default) plans as many hops as the new version needs, one after the other, e.g.
    /// 3.5.9 → 3.5.35 → 3.6.16 → 3.7.3. `Single` refuses a version that is more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<Hops>,
    /// `Automatic` (the default) carries a change out as soon as it is safe. `Manual` shows its plan in
    /// status.plan and touches no member before the annotation `quorate.dev/approve` names the plan's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Heal only: members are brought back, put back and replaced, and none is changed, added or removed for the spec. What
    /// has begun with a member is completed. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Outside of these no change begins; a hop that has begun is completed. None given: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<MaintenanceWindow>,
}

/// Whether a change waits for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// It does not.
    #[default]
    Automatic,
    /// It waits for the annotation `quorate.dev/approve`.
    Manual,
}

/// When changes may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// When it opens: five fields in the format of cron, e.g. `0 2 * * 6`.
    #[schemars(length(max = 100))]
    pub schedule: String,
    /// How long it stays open, e.g. `4h`.
    pub duration: Duration,
    /// The time zone of the schedule, e.g. `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
}

/// How far one edit of `spec.version` may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Hops {
    /// As many hops as it needs.
    #[default]
    Many,
    /// One hop.
    Single,
}
