//! Revisions: what a member was last rendered from. Pure.
//!
//! A revision's name is a hash of the *inputs that the user controls*, its content the full rendering.
//! A newer operator that renders the same inputs in another way finds the name taken and keeps the
//! stored rendering, so an upgrade of the operator restarts nobody. An admission webhook that rewrites
//! Pods starts no fight either: a Pod is compared by the name of its revision, never by its fields.

use super::names::digest_of;
use super::objects::certificates::wire_of;
use super::objects::container::quota_of;
use super::objects::pod;
use super::observation::Observation;
use super::spec::{self, Desired, image_of};
use super::wire::Wire;
use crate::api::{EtcdClusterSpec, PodSpec, TlsMode, labels};
use crate::etcd::EtcdVersion;
use crate::etcd::versions::{DEFAULT_SNAPSHOT_COUNT, FlagError};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A full rendering of a member, the same for every member of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The name of its `ControllerRevision`.
    #[serde(skip)]
    pub name: String,
    /// The etcd version that it runs.
    pub version: EtcdVersion,
    /// The image.
    pub image: String,
    /// `--heartbeat-interval`, in milliseconds.
    pub heartbeat_ms: u64,
    /// `--election-timeout`, in milliseconds.
    pub election_timeout_ms: u64,
    /// A digest of all inputs but labels and annotations: a Pod of one revision becomes one of another with the same in
    /// place. Empty in what earlier operators stored.
    #[serde(default)]
    pub settings: String,
    /// The Pod, but for what makes it this or that member.
    pub template: PodTemplateSpec,
}

/// The inputs that the user controls. Raw, not with defaults: a changed default is no change of theirs.
#[derive(Serialize)]
struct Inputs<'a> {
    version: EtcdVersion,
    image: &'a str,
    pull_policy: Option<crate::api::PullPolicy>,
    pull_secrets: &'a [k8s_openapi::api::core::v1::LocalObjectReference],
    etcd: Option<&'a crate::api::EtcdSpec>,
    pod: Option<&'a crate::api::PodSpec>,
    restarted_at: Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Where the spec says a size of the volumes and no quota: that follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<u64>,
    /// What the Pod keeps the data in, and its limit, where the Pod does.
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_dir: Option<(&'a crate::api::EmptyDir, Option<&'a crate::api::Quantity>)>,
    /// Whether members talk TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsMode>,
}

/// Renders the members of a cluster at a version: the spec's own, or the one that a member's data is on.
///
/// # Errors
/// A flag that this version would not start with.
pub fn render(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
    wire: Wire,
) -> Result<Revision, FlagError> {
    let image = image_of(spec, version);
    let flags = spec::flags(spec, version)?;
    Ok(Revision {
        name: name(cluster, spec, wire, version),
        version,
        settings: settings(spec, wire, version),
        heartbeat_ms: millis(desired.heartbeat),
        election_timeout_ms: millis(desired.election_timeout),
        template: pod::template(namespace, cluster, spec, desired, version, &image, &flags, wire),
        image,
    })
}

/// The revision that the spec asks for, at this version. Where it is stored the stored rendering wins: a
/// newer operator changes no running member, and finds no fault with its flags.
///
/// # Errors
/// A flag that this version would not start with.
pub fn at(world: &Observation, desired: &Desired, version: EtcdVersion) -> Result<Arc<Revision>, FlagError> {
    of_spec(world, &world.cluster.spec, desired, version)
}

/// The same of another spec than the cluster's own.
///
/// # Errors
/// A flag that this version would not start with.
pub fn of_spec(
    world: &Observation,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
) -> Result<Arc<Revision>, FlagError> {
    let cluster = &world.cluster;
    let wire = world.wire();
    let wanted = name(&cluster.name, spec, wire, version);
    if let Some(stored) = world.revisions.get(&wanted) {
        return Ok(Arc::clone(stored));
    }
    let settings = settings(spec, wire, version);
    if let Some(like) = world.revisions.values().find(|stored| stored.settings == settings) {
        // Only labels and annotations are new: what the members run stays as it was rendered.
        let mut template = like.template.clone();
        template.metadata = Some(pod::metadata(&cluster.name, spec));
        return Ok(Arc::new(Revision { name: wanted, template, ..Revision::clone(like) }));
    }
    render(&cluster.namespace, &cluster.name, spec, desired, version, wire).map(Arc::new)
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An empty struct says no more than an absent one.
fn given<T: Default + PartialEq>(part: Option<&T>) -> Option<&T> {
    part.filter(|part| **part != T::default())
}

/// The name of what [`render`] makes, which is enough to find out whether it is stored.
pub fn name(cluster: &str, spec: &EtcdClusterSpec, wire: Wire, version: EtcdVersion) -> String {
    format!("{cluster}-{}", digest_of_inputs(spec, wire, version, given(spec.pod.as_ref())))
}

/// The same of all that restarts a member.
fn settings(spec: &EtcdClusterSpec, wire: Wire, version: EtcdVersion) -> String {
    let pod =
        spec.pod.clone().map(|pod| PodSpec { labels: BTreeMap::new(), annotations: BTreeMap::new(), ..pod });
    digest_of_inputs(spec, wire, version, given(pod.as_ref()))
}

fn digest_of_inputs(
    spec: &EtcdClusterSpec,
    wire: Wire,
    version: EtcdVersion,
    pod: Option<&PodSpec>,
) -> String {
    let inputs = Inputs {
        version,
        image: &image_of(spec, version),
        pull_policy: spec.image.as_ref().and_then(|image| image.pull_policy),
        pull_secrets: spec.image.as_ref().map(|image| image.pull_secrets.as_slice()).unwrap_or_default(),
        etcd: given(spec.etcd.as_ref()),
        pod,
        restarted_at: spec.rollout.as_ref().and_then(|rollout| rollout.restarted_at.as_ref()),
        quota: spec::quota_of_the_volume(spec),
        empty_dir: spec::empty_dir(spec)
            .map(|dir| (dir, spec.storage.as_ref().and_then(|it| it.size.as_ref()))),
        tls: wire.noted(),
    };
    digest_of(&inputs)
}

impl Revision {
    /// Whether a Pod of this one becomes one of the other in place: nothing differs but labels and annotations.
    pub fn differs_in_metadata_alone(&self, other: &Self) -> bool {
        !self.settings.is_empty() && self.settings == other.settings && self.name != other.name
    }

    /// What etcd is started with, but for what makes it this or that member.
    pub fn args(&self) -> impl Iterator<Item = &str> {
        let containers = self.template.spec.iter().flat_map(|spec| &spec.containers);
        containers.flat_map(|container| container.args.iter().flatten()).map(String::as_str)
    }

    /// The size at which its database refuses writes, in bytes.
    pub fn quota_bytes(&self) -> Option<u64> {
        quota_of(self.args())
    }

    /// Raft entries between two snapshots on disk.
    pub fn snapshot_count(&self) -> u64 {
        let given = self.args().find_map(|arg| arg.strip_prefix("--snapshot-count=")?.parse().ok());
        given.unwrap_or(DEFAULT_SNAPSHOT_COUNT)
    }

    /// Whether it starts over data of the v2 API, which somebody has decided.
    pub fn skips_the_check_for_v2_data(&self) -> bool {
        self.args().any(|arg| arg == "--v2-deprecation=write-only-skip-check")
    }

    /// What its members talk.
    pub fn wire(&self) -> Wire {
        wire_of(&self.template)
    }

    /// The object that stores it, owned by the cluster.
    pub fn to_object(&self, namespace: &str, cluster: &str, owner: OwnerReference) -> ControllerRevision {
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels::of_cluster(cluster)),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            data: serde_json::to_value(self).ok().map(RawExtension),
            revision: 1,
        }
    }

    /// Reads a stored one; nothing where the object holds none.
    pub fn from_object(object: &ControllerRevision) -> Option<Self> {
        let mut revision: Self = serde_json::from_value(object.data.as_ref()?.0.clone()).ok()?;
        revision.name = object.metadata.name.clone()?;
        Some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::rendered;
    use rstest::rstest;

    const BASE: &str = "{version: 3.6.16, etcd: {extraArgs: {max-txn-ops: '256'}}}";

    #[rstest]
    #[case::a_leading_v("{version: v3.6.16, etcd: {extraArgs: {max-txn-ops: '256'}}}")]
    #[case::an_empty_struct("{version: 3.6.16, image: {}, pod: {}, etcd: {extraArgs: {max-txn-ops: '256'}}}")]
    #[case::replicas("{version: 3.6.16, replicas: 5, etcd: {extraArgs: {max-txn-ops: '256'}}}")]
    #[case::paused("{version: 3.6.16, paused: true, etcd: {extraArgs: {max-txn-ops: '256'}}}")]
    #[case::storage_class(
        "{version: 3.6.16, storage: {storageClassName: fast}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    #[case::deadline(
        "{version: 3.6.16, rollout: {memberDeadline: 1m}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    fn restarts_nobody(#[case] yaml: &str) {
        assert_eq!(rendered(yaml).name, rendered(BASE).name);
    }

    #[rstest]
    #[case::version("{version: 3.6.15, etcd: {extraArgs: {max-txn-ops: '256'}}}")]
    #[case::flag("{version: 3.6.16, etcd: {extraArgs: {max-txn-ops: '512'}}}")]
    #[case::repository(
        "{version: 3.6.16, image: {repository: m/etcd}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    #[case::a_quota_that_follows_the_volume(
        "{version: 3.6.16, storage: {size: 9Gi}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    #[case::resources(
        "{version: 3.6.16, pod: {resources: {requests: {cpu: 1}}}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    #[case::data_in_pods(
        "{version: 3.6.16, storage: {emptyDir: {}}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    #[case::restart(
        "{version: 3.6.16, rollout: {restartedAt: '2026-11-24T00:00:00Z'}, etcd: {extraArgs: {max-txn-ops: '256'}}}"
    )]
    fn rolls(#[case] yaml: &str) {
        assert_ne!(rendered(yaml).name, rendered(BASE).name);
    }

    /// A name that changes restarts every member of every cluster at the operator's next upgrade.
    #[rstest]
    #[case("version: 3.5.9", "db-617666f511")]
    #[case(BASE, "db-56ef289c94")]
    #[case(
        "{version: 3.6.16, etcd: {extraArgs: {experimental-corrupt-check-time: 1h, v2-deprecation: write-only,
          experimental-initial-corrupt-check: 'true'}}}",
        "db-9db0d424e5"
    )]
    #[case(
        "{version: 3.6.16, etcd: {extraArgs: {feature-gates: 'InitialCorruptCheck=true,CompactHashCheck=true'}}}",
        "db-284b4f16af"
    )]
    #[case(
        "{version: 3.6.16, etcd: {quotaBackendBytes: 4Gi, snapshotCount: 5000, heartbeatInterval: 200ms,
          electionTimeout: 2s, autoCompaction: {mode: Periodic, retention: 1h},
          extraArgs: {metrics: extensive, max-wals: '7'}}}",
        "db-5b942c5703"
    )]
    fn names_stay_as_they_are(#[case] yaml: &str, #[case] name: &str) {
        assert_eq!(rendered(yaml).name, name);
    }

    #[test]
    fn flags_are_those_of_the_version() {
        let args = |yaml: &str| rendered(yaml).args().collect::<Vec<_>>().join(" ");
        let old = args("{version: 3.5.35, etcd: {extraArgs: {corrupt-check-time: 1h}}}");
        assert!(old.ends_with("--experimental-corrupt-check-time=1h"), "{old}");
        let new = args("{version: 3.7.3, etcd: {extraArgs: {experimental-initial-corrupt-check: 'true'}}}");
        assert!(new.ends_with("--feature-gates=InitialCorruptCheck=true"), "{new}");
    }

    #[test]
    fn survives_its_storage() {
        let revision = rendered(BASE);
        let object = revision.to_object("prod", "db", OwnerReference::default());
        assert_eq!(Revision::from_object(&object), Some(revision));
    }
}
