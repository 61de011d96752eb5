//! `EtcdCluster`: what users say.
//!
//! Defaults live in code, so that the spec is never written by us; the one exception is `replicas`,
//! without whose default in the schema the `/scale` subresource answers 500.
//! Rules that can never be right for any cluster are CEL rules here; what depends on the running
//! cluster is refused by the planner.

use super::reserved::{CLIENT_SERVICE_ANNOTATIONS, CLIENT_SERVICE_LABELS};
use super::{
    Duration, EtcdClusterStatus, HealSpec, MaintenanceSpec, PodSpec, Quantity, RecoverySpec, RolloutSpec,
    TlsSpec,
};
use k8s_openapi::api::core::v1::LocalObjectReference;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An etcd cluster. Change `spec.version` and every member is replaced, one at a time, each verified
/// through etcd's own API before the next.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "quorate.dev",
    version = "v1alpha1",
    kind = "EtcdCluster",
    plural = "etcdclusters",
    shortname = "etcd",
    category = "quorate",
    namespaced,
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    doc = "An etcd cluster. Change spec.version and every member is replaced, one at a time, each verified through etcd's own API before the next.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Available", type_ = "string", json_path = r#".status.conditions[?(@.type=="Available")].status"#),
    printcolumn(name = "Members", type_ = "string", json_path = ".status.membersReady"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.targetVersion"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 45 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name becomes part of DNS names: at most 45 lower-case letters, digits and dashes, beginning with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.storage) || !has(self.storage.emptyDir) || self.replicas >= 3")
        .message("spec.storage.emptyDir needs spec.replicas of 3 or more: one member alone could never be restarted without the loss of all data"),
    validation = Rule::new("(has(self.storage) && has(self.storage.emptyDir)) == (has(oldSelf.storage) && has(oldSelf.storage.emptyDir))")
        .message("spec.storage.emptyDir cannot be added or removed later; make another EtcdCluster and move the data")
)]
pub struct EtcdClusterSpec {
    /// The etcd version to run, e.g. `3.6.16`; a leading `v` is fine. Changing it replaces every
    /// member, one at a time. `status.plan` shows the way before it is gone.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(r"self.matches('^v?(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)$')")
        .message("must be the number of a release, e.g. 3.6.16: no tag such as latest, no pre-release, all three parts"))]
    pub version: String,

    /// How many members: 1, 3, 5 or 7. An even number tolerates no more failures than one less. Changing it adds or
    /// removes members one at a time: each new one joins as a learner, and gets its vote once it is in sync.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self in [1, 3, 5, 7]")
        .message("spec.replicas must be 1, 3, 5 or 7: an even number of members tolerates no more failures than one less"))]
    pub replicas: i32,

    /// Touch nothing and only report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// Where the etcd image comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,

    /// The volume of each member. Absent means 8Gi of the default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,

    /// Settings of etcd itself. Changing any replaces every member, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSpec>,

    /// Fields of the members' Pods. Changing any but labels and annotations replaces every member, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSpec>,

    /// Fields of the cluster's Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesSpec>,

    /// Encryption between members and with clients, where both sides show a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,

    /// Refuse to delete this EtcdCluster. The chart's `ValidatingAdmissionPolicy` enforces it, with or without a running
    /// operator. Deleting its namespace waits for it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,

    /// How changes are rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,

    /// How members are healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal: Option<HealSpec>,

    /// What is done for the databases while members run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,

    /// Make a cluster that has lost its quorum for good anew from one member, as `status.quorumLoss` offers it. What only
    /// the others knew is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoverySpec>,

    /// The Kubernetes control plane that relies on this etcd, for advice in `status.warnings`. It changes
    /// nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSpec>,
}

const fn three() -> i32 {
    3
}

/// Where the etcd image comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// The repository without a tag; a registry with a port is fine. Default
    /// `gcr.io/etcd-development/etcd`. The tag is `v` and the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('://') && self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.]*(:[0-9]+/|/))?[-a-z0-9._/]*$')")
        .message("spec.image.repository is a repository without scheme, tag or digest, e.g. registry.example:5000/etcd; tags and digests go to spec.image.overrides"))]
    pub repository: Option<String>,

    /// When the kubelet pulls the image. Default `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,

    /// Secrets with registry credentials, in the cluster's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<LocalObjectReference>,

    /// Tag or digest for single versions, where they are not `v` and the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub overrides: Vec<ImageOverride>,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// Tag or digest of the image of one version.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tag) || has(self.digest)").message("an entry of spec.image.overrides names a tag, a digest or both"))]
pub struct ImageOverride {
    /// The version that this is about, e.g. `3.6.16`.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(r"self.matches('^v?(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)$')")
        .message("must be the number of a release, e.g. 3.6.16: no tag such as latest, no pre-release, all three parts"))]
    pub version: String,
    /// The tag, instead of `v` and the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*$')")
        .message("must be a tag alone, e.g. v3.6.16"))]
    pub tag: Option<String>,
    /// The digest, e.g. `sha256:…`. It wins over the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[a-f0-9]{64}$')")
        .message("must be sha256: and 64 hexadecimal digits"))]
    pub digest: Option<String>,
}

/// The volume of each member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.emptyDir) || !(has(self.storageClassName) || has(self.retentionPolicy) || has(self.quarantine))")
    .message("with spec.storage.emptyDir there are no volumes: remove storageClassName, retentionPolicy and quarantine from spec.storage"))]
pub struct StorageSpec {
    /// Size of each member's volume. Default `8Gi`. It should be twice the quota at least: a defragmentation writes a second
    /// copy. A larger one is given to the volumes that there are, where their StorageClass lets them grow; and so is the
    /// quota that follows from it. None is ever made smaller. With `emptyDir` it is the limit at which the kubelet evicts a
    /// Pod: every member is exchanged for one with another limit, and the quota may be half of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// The StorageClass. Absent means the cluster's default. With another one every member is exchanged, one at a time, for a
    /// new one on a volume of that class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<RetentionPolicy>,
    /// How long the volume of a member that was replaced is kept, with the label `quorate.dev/set-aside: quarantined`. Default
    /// `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Duration>,
    /// Keep each member's data in its Pod, on its node's own disk or in memory, and have no volumes. A member that loses its
    /// Pod is replaced by a new one, and each change that needs a restart, and each change of the size, exchanges every member
    /// for a new one, one at a time, through a learner. All Pods gone, as after all nodes were rebooted together with their
    /// Pods evicted, is all data gone: for what can be made again from elsewhere only. Three members at least; it cannot be
    /// changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// Data in the members' Pods. The size of each is limited by `spec.storage.size`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// `Memory` keeps the data in memory, which counts towards the limit of the Pod's memory. Absent means the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
}

/// What a Pod's own volume is made of. `Memory` is that of the node: it counts towards the limit of the Pod's memory, and a node
/// that reboots loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    /// The memory of the node.
    Memory,
}

/// What becomes of the volumes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// When the `EtcdCluster` is deleted. Default `Retain`: a new one of the same name gets the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_deleted: Option<Retention>,
    /// When a member is removed because spec.replicas was lowered. Default `Delete`. A volume that is kept has the label
    /// `quorate.dev/set-aside`; no member gets it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_scaled: Option<Retention>,
}

/// Whether volumes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They are kept.
    Retain,
    /// They are deleted, and the data with them.
    Delete,
}

/// Settings of etcd itself.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdSpec {
    /// The size at which the database refuses writes. Default: a little less than half of the volume (a
    /// defragmentation writes a second copy), at most `8Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_backend_bytes: Option<Quantity>,
    /// Raft entries between two snapshots on disk. Default: etcd's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub snapshot_count: Option<i64>,
    /// How often the leader says that it lives. Default `100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Duration>,
    /// How long a follower waits for the leader before it asks for votes: at least five heartbeats.
    /// Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election_timeout: Option<Duration>,
    /// Automatic compaction of old revisions. Off by default: kube-apiserver compacts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction: Option<AutoCompaction>,
    /// Feature gates of etcd, e.g. `InitialCorruptCheck: true`. Members on 3.5 get the flag that the gate
    /// was there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(g, g.size() <= 64 && g.matches('^[A-Z][A-Za-z0-9]*$'))")
        .message("spec.etcd.featureGates takes names of feature gates, e.g. InitialCorruptCheck: true"))]
    pub feature_gates: BTreeMap<String, bool>,
    /// Other flags of etcd without their dashes, e.g. `max-txn-ops: "256"`. They are rendered for the version
    /// that a member is about to run: `experimental-` flags under the names, or as the feature gates, that they
    /// have there. Flags that the operator itself sets are refused, and those that the version does not know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(f, f.size() <= 64 && f.matches('^[a-z][a-z0-9-]*$') && self[f].size() <= 1024)")
        .message("spec.etcd.extraArgs takes flag names without dashes in front, e.g. max-txn-ops: \"256\", and values of at most 1024 characters"))]
    pub extra_args: BTreeMap<String, String>,
}

/// Automatic compaction of old revisions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'Revision' ? self.retention.matches('^[1-9][0-9]*$') : self.retention.matches('^([0-9]+(ms|s|m|h))+$')")
    .message("spec.etcd.autoCompaction.retention is a duration such as 1h for mode Periodic, a number of revisions for mode Revision"))]
pub struct AutoCompaction {
    /// By age or by number of revisions.
    pub mode: AutoCompactionMode,
    /// `1h` keeps an hour (`Periodic`); `1000` keeps a thousand revisions (`Revision`).
    #[schemars(length(min = 1, max = 24))]
    pub retention: String,
}

/// By what old revisions are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoCompactionMode {
    /// By age.
    Periodic,
    /// By number.
    Revision,
}

/// Fields of the cluster's Services.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicesSpec {
    /// The Service for clients, `<cluster>-client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientServiceSpec>,
    /// IP families of both Services. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
}

/// The Service for clients.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientServiceSpec {
    /// Default `ClusterIP`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations, e.g. for a load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = CLIENT_SERVICE_ANNOTATIONS.rule())]
    pub annotations: BTreeMap<String, String>,
    /// Labels besides the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = CLIENT_SERVICE_LABELS.rule())]
    pub labels: BTreeMap<String, String>,
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From inside the cluster.
    ClusterIP,
    /// Through a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// IP families of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where the cluster has them.
    PreferDualStack,
    /// Two, or an error.
    RequireDualStack,
}

/// The Kubernetes control plane that relies on an etcd cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesSpec {
    /// Its version, e.g. `1.34`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(r"self.matches('^v?1[.](0|[1-9][0-9]*)([.][0-9A-Za-z.+-]+)?$')")
        .message("spec.kubernetes.version is a version of Kubernetes, e.g. 1.34"))]
    pub version: Option<String>,
}
