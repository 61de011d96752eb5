//! Kubernetes objects read as facts. Pure.

use crate::api::{Quantity, labels};
use crate::cluster::names::MemberName;
use crate::cluster::objects::container::CONTAINER;
use crate::cluster::objects::data::data_in_pod;
use crate::cluster::observation::{ClaimFacts, ClusterFacts, ContainerFacts, Ownership, PodFacts, SetAside};
use crate::cluster::wire::Wire;
use crate::etcd::MemberId;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// A Pod under a member's name.
pub(super) fn pod(pod: &Pod, cluster: &ClusterFacts) -> PodFacts {
    let annotation = |key: &str| pod.annotations().get(key).cloned().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let condition = |kind: &str| -> Option<&PodCondition> {
        status?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
    };
    PodFacts {
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        ownership: Ownership::of_owned(&pod.metadata, &cluster.uid, &cluster.name),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        revision: annotation(labels::REVISION),
        // The guard is an initial cluster of only itself.
        unguarded: annotation(labels::INITIAL_CLUSTER_STATE) == "new"
            || annotation(labels::INITIAL_CLUSTER).contains(','),
        told: annotation(labels::INITIAL_CLUSTER)
            .split(',')
            .filter_map(|entry| MemberName::parse(&cluster.name, entry.split_once('=')?.0))
            .collect(),
        learner: pod.labels().get(labels::ROLE).is_some_and(|role| role == labels::ROLE_LEARNER),
        ip: status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()),
        node: spec.and_then(|spec| spec.node_name.clone()),
        on_node_since: condition("PodScheduled")
            .filter(|condition| condition.status == "True")
            .and_then(|condition| Some(condition.last_transition_time.as_ref()?.0)),
        image: spec
            .and_then(|spec| {
                spec.containers.iter().find(|container| container.name == CONTAINER)?.image.clone()
            })
            .unwrap_or_default(),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        ended: matches!(phase, "Failed" | "Succeeded"),
        unschedulable: condition("PodScheduled")
            .filter(|condition| {
                condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
            })
            .map(|condition| condition.message.clone().unwrap_or_default()),
        container: container(pod),
    }
}

/// The etcd container, or the one container of a probe.
pub(super) fn container(pod: &Pod) -> ContainerFacts {
    let status: Option<&ContainerStatus> = pod.status.as_ref().and_then(|status| {
        status.container_statuses.as_ref()?.iter().find(|status| status.name == CONTAINER)
    });
    let Some(status) = status else { return ContainerFacts::default() };
    let state = status.state.clone().unwrap_or_default();
    let before = status.last_state.clone().and_then(|last| last.terminated);
    let has_run = before.is_some() || status.restart_count > 0;
    let ended = state.terminated.or(before);
    // Of a container that never ran the kubelet says, as its Pod goes, that it ended with 137 (`TerminatePod` of
    // https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/status/status_manager.go).
    let ended = ended.filter(|ended| has_run || ended.started_at.is_some());
    // `OOMKilled` tells more than `CrashLoopBackOff`.
    let why_ended = ended.as_ref().and_then(|ended| ended.reason.clone()).filter(|reason| reason != "Error");
    ContainerFacts {
        waiting: state.waiting.map(|waiting| {
            let (reason, message) =
                without_back_off(waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default());
            (why_ended.filter(|_| reason == "CrashLoopBackOff").unwrap_or(reason), message)
        }),
        running_since: state.running.and_then(|running| running.started_at).map(|time| time.0),
        restarts: status.restart_count,
        exit_code: ended.as_ref().map(|ended| ended.exit_code),
        last_words: ended.and_then(|ended| ended.message).filter(|message| !message.is_empty()),
        // In its log only.
        came_to: 0,
    }
}

/// Why the one container of a probe has ended, where the kubelet has a word of its own for it, as `OOMKilled`.
pub(super) fn why_ended(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses.first()?.state.as_ref()?.terminated.as_ref()?;
    ended.reason.clone().filter(|reason| reason != "Error")
}

/// A pull that fails is `ErrImagePull` and `ImagePullBackOff` in turn, with the same cause: told as one,
/// so that the status is not written at each turn.
fn without_back_off(reason: String, message: String) -> (String, String) {
    match message.split_once("ErrImagePull: ") {
        Some((_, cause)) if reason == "ImagePullBackOff" => ("ErrImagePull".to_owned(), cause.to_owned()),
        _ => (reason, message),
    }
}

/// Why the kubelet turned a Pod away or ended it.
pub(super) fn why_rejected(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or("no reason given");
    let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    format!("{reason}: {message}").trim_end_matches([':', ' ']).to_owned()
}

/// A volume claim under a member's name. Annotations are hints: one that cannot be read is not there.
pub(super) fn claim(claim: &PersistentVolumeClaim, cluster: &str) -> ClaimFacts {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let condition = |kind: &str| {
        let mut conditions = status?.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    let bytes = |size: KubeQuantity| Quantity::new(size.0).bytes();
    ClaimFacts {
        size: spec
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage").cloned())
            .and_then(bytes),
        capacity: status.and_then(|status| status.capacity.as_ref()?.get("storage").cloned()).and_then(bytes),
        awaits_file_system: condition("FileSystemResizePending").is_some(),
        resize_error: ["ControllerResizeError", "NodeResizeError"]
            .into_iter()
            .find_map(condition)
            .map(|condition| condition.message.clone().unwrap_or_default()),
        class: spec.and_then(|spec| spec.storage_class_name.clone()),
        volume: spec.and_then(|spec| spec.volume_name.clone()),
        ..noted(&claim.metadata, Ownership::of_claim(&claim.metadata, cluster), cluster)
    }
}

/// The Pod of a member that keeps its data in it, as what a volume claim is elsewhere; nothing where this one does not.
pub(super) fn claim_in(pod: &Pod, cluster: &ClusterFacts) -> Option<ClaimFacts> {
    let data = data_in_pod(pod.spec.as_ref()?)?;
    let ownership = Ownership::of_owned(&pod.metadata, &cluster.uid, &cluster.name);
    // Whose it is otherwise is told of the Pod.
    (ownership == Ownership::Ours).then(|| ClaimFacts {
        in_pod: true,
        size: data.size_limit.clone().and_then(|size| Quantity::new(size.0).bytes()),
        ..noted(&pod.metadata, ownership, &cluster.name)
    })
}

/// What is written on what a member keeps its data in.
fn noted(metadata: &ObjectMeta, ownership: Ownership, cluster: &str) -> ClaimFacts {
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key);
    ClaimFacts {
        in_pod: false,
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        ownership,
        deleting: metadata.deletion_timestamp.is_some(),
        cluster_id: annotation(labels::CLUSTER_ID).and_then(|id| id.parse().ok()),
        member_id: annotation(labels::MEMBER_ID).and_then(|id| id.parse().ok()),
        voters: annotation(labels::VOTERS).map(|text| voters(text, cluster)),
        last_number: annotation(labels::LAST_MEMBER_NUMBER).and_then(|number| number.parse().ok()),
        bootstrap: annotation(labels::BOOTSTRAP).and_then(|json| serde_json::from_str(json).ok()),
        wire: annotation(labels::TLS).filter(|note| *note == "Enabled").map_or(Wire::Plain, |_| Wire::Tls),
        assigned: annotation(labels::ASSIGNED).cloned(),
        good: annotation(labels::GOOD).cloned(),
        opened: annotation(labels::OPENED).and_then(|version| version.parse().ok()),
        first_pod: annotation(labels::FIRST_POD).cloned(),
        recovering: annotation(labels::RECOVERING).cloned(),
        snapshot_base: annotation(labels::SNAPSHOT_BASE).and_then(|json| serde_json::from_str(json).ok()),
        free_of_v2_entries: annotation(labels::FREE_OF_V2_ENTRIES).is_some_and(|value| value == "true"),
        size: None,
        capacity: None,
        awaits_file_system: false,
        resize_error: None,
        class: None,
        volume: None,
    }
}

/// A volume claim that is kept aside; nothing where this one is not.
pub(super) fn set_aside(claim: &PersistentVolumeClaim) -> Option<SetAside> {
    let why = claim.labels().get(labels::SET_ASIDE)?;
    let since = claim.annotations().get(labels::SET_ASIDE_SINCE).and_then(|since| since.parse().ok());
    Some(SetAside {
        quarantined: since.filter(|_| why == labels::SET_ASIDE_QUARANTINED),
        uid: claim.uid().unwrap_or_default(),
        deleting: claim.metadata.deletion_timestamp.is_some(),
        cluster_id: claim.annotations().get(labels::CLUSTER_ID).and_then(|id| id.parse().ok()),
    })
}

fn voters(text: &str, cluster: &str) -> BTreeMap<MemberName, MemberId> {
    text.split(',')
        .filter_map(|entry| {
            let (name, id) = entry.split_once('=')?;
            Some((MemberName::parse(cluster, name)?, id.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// What the kubelet says of a container that never ran, as its Pod goes, and of those that did.
    #[rstest]
    #[case::never_ran(
        "{state: {terminated: {exitCode: 137, reason: ContainerStatusUnknown}}, restartCount: 0}",
        None
    )]
    #[case::was_lost(
        "{state: {terminated: {exitCode: 137, reason: ContainerStatusUnknown}}, restartCount: 1}",
        Some(137)
    )]
    #[case::was_lost_as_its_pod_went(
        "{state: {waiting: {reason: ContainerCreating}}, \
          lastState: {terminated: {exitCode: 137, reason: ContainerStatusUnknown}}, restartCount: 0}",
        Some(137)
    )]
    #[case::was_killed(
        "{state: {terminated: {exitCode: 137, startedAt: '2026-01-01T00:00:00Z'}}, restartCount: 0}",
        Some(137)
    )]
    #[case::waits_after_it_ended(
        "{state: {waiting: {reason: CrashLoopBackOff}}, \
          lastState: {terminated: {exitCode: 2, startedAt: '2026-01-01T00:00:00Z'}}, restartCount: 3}",
        Some(2)
    )]
    fn an_exit_code_is_that_of_a_container_that_ran(#[case] status: &str, #[case] code: Option<i32>) {
        let pod = format!(
            "{{status: {{containerStatuses: [{{name: {CONTAINER}, {}}}]}}}}",
            &status[1..status.len() - 1]
        );
        let pod: Pod = serde_saphyr::from_str(&pod).unwrap();
        assert_eq!(container(&pod).exit_code, code);
    }

    #[rstest]
    #[case::bound("{type: PodScheduled, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}", true)]
    #[case::not_yet(
        "{type: PodScheduled, status: 'False', lastTransitionTime: '2026-01-01T00:00:00Z'}",
        false
    )]
    fn a_pod_is_on_its_node_since_it_was_bound(#[case] condition: &str, #[case] is_known: bool) {
        let pod: Pod = serde_saphyr::from_str(&format!("{{status: {{conditions: [{condition}]}}}}")).unwrap();
        let cluster = crate::cluster::fixtures::healthy("{version: 3.6.16}").cluster;
        assert_eq!(super::pod(&pod, &cluster).on_node_since.is_some(), is_known);
    }
}
