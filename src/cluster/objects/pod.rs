//! A member's Pod: the template that a revision stores, and the Pod of one member made from it.

use super::container::{self, VOLUME, peer_url};
use crate::api::{EtcdClusterSpec, labels};
use crate::cluster::names::{MemberName, headless_service};
use crate::cluster::spec::Desired;
use crate::etcd::EtcdVersion;
use k8s_openapi::api::core::v1::{
    Affinity, PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm, PodAntiAffinity, PodSecurityContext,
    PodSpec, PodTemplateSpec, SeccompProfile, TopologySpreadConstraint, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// `nonroot` of the distroless images.
const USER: i64 = 65532;
const GRACE_SECONDS: i64 = 30;

/// What etcd is told about membership at a start with an empty volume. Where a WAL exists etcd
/// ignores all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Form a new cluster, together with these.
    New {
        /// All members of the bootstrap.
        members: Vec<MemberName>,
        /// `--initial-cluster-token`: part of the cluster's id.
        token: String,
    },
    /// The guard: an initial cluster of only itself in state `existing`. etcd exits with 1 on an empty
    /// directory, before raft starts, so a wiped volume can neither rejoin under an old member id nor
    /// form a second cluster, with or without a running operator.
    Guard,
}

/// The Pod that every member of the cluster is made from, but for what makes it this or that member.
/// `flags` are the user's own, as this version takes them.
pub fn template(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
    image: &str,
    flags: &BTreeMap<String, String>,
) -> PodTemplateSpec {
    let pod = spec.pod.clone().unwrap_or_default();
    let mut pod_labels = pod.labels;
    pod_labels.extend(labels::of_cluster(cluster));
    pod_labels.insert(labels::COMPONENT.to_owned(), labels::COMPONENT_MEMBER.to_owned());
    let image_spec = spec.image.clone().unwrap_or_default();

    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            subdomain: Some(headless_service(cluster)),
            // A Service named `etcd` would put ETCD_* variables into the environment, which etcd reads as flags.
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            service_account_name: pod.service_account_name,
            termination_grace_period_seconds: Some(
                pod.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS),
            ),
            security_context: Some(pod.security_context.unwrap_or_else(pod_security)),
            affinity: Some(pod.affinity.unwrap_or_else(|| prefer_other_nodes(cluster))),
            topology_spread_constraints: Some(if pod.topology_spread_constraints.is_empty() {
                spread(cluster)
            } else {
                pod.topology_spread_constraints
            }),
            node_selector: Some(pod.node_selector),
            tolerations: Some(pod.tolerations),
            priority_class_name: pod.priority_class_name,
            scheduler_name: pod.scheduler_name,
            runtime_class_name: pod.runtime_class_name,
            image_pull_secrets: Some(image_spec.pull_secrets),
            containers: vec![container::etcd(namespace, cluster, spec, desired, version, image, flags)],
            ..PodSpec::default()
        }),
    }
}

/// The Pod of one member.
pub fn member(
    namespace: &str,
    cluster: &str,
    member: &MemberName,
    revision_name: &str,
    template: &PodTemplateSpec,
    initial: &Initial,
    owner: OwnerReference,
) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut pod_labels = metadata.labels.unwrap_or_default();
    pod_labels.insert(labels::MEMBER.to_owned(), member.to_string());
    pod_labels.insert(labels::ROLE.to_owned(), labels::ROLE_VOTER.to_owned());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(labels::REVISION.to_owned(), revision_name.to_owned());
    annotations.extend(initial_annotations(namespace, member, initial));

    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(member.to_string());
    spec.subdomain = Some(headless_service(cluster));
    spec.volumes.get_or_insert_default().push(volume_of(member, None));

    Pod {
        metadata: ObjectMeta {
            name: Some(member.to_string()),
            namespace: Some(namespace.to_owned()),
            labels: Some(pod_labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// A member's volume.
pub(super) fn volume_of(member: &MemberName, read_only: Option<bool>) -> Volume {
    Volume {
        name: VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: member.claim(),
            read_only,
        }),
        ..Volume::default()
    }
}

/// The annotations that the container's environment reads at each of its starts.
pub fn initial_annotations(
    namespace: &str,
    member: &MemberName,
    initial: &Initial,
) -> BTreeMap<String, String> {
    let entry = |member: &MemberName| format!("{member}={}", peer_url(&member.host(namespace)));
    let (members, state, token) = match initial {
        Initial::New { members, token } => {
            let all: Vec<String> = members.iter().map(entry).collect();
            (all.join(","), "new", token.clone())
        }
        Initial::Guard => (entry(member), "existing", "guard".to_owned()),
    };
    BTreeMap::from([
        (labels::INITIAL_CLUSTER.to_owned(), members),
        (labels::INITIAL_CLUSTER_STATE.to_owned(), state.to_owned()),
        (labels::INITIAL_CLUSTER_TOKEN.to_owned(), token),
    ])
}

/// What the Pod Security Standard `restricted` asks for, and a volume that belongs to etcd.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn members_of(cluster: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([
            (labels::CLUSTER.to_owned(), cluster.to_owned()),
            (labels::COMPONENT.to_owned(), labels::COMPONENT_MEMBER.to_owned()),
        ])),
        match_expressions: None,
    }
}

/// Preferred, not required: a cluster that cannot be spread still runs.
fn prefer_other_nodes(cluster: &str) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(members_of(cluster)),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn spread(cluster: &str) -> Vec<TopologySpreadConstraint> {
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .into_iter()
        .map(|key| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(members_of(cluster)),
            ..TopologySpreadConstraint::default()
        })
        .collect()
}
