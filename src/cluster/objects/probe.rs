//! A Pod that tries something out once on a member's node, before the member is touched: the target image, so that
//! one that is missing or does not run costs nothing and the pull is not part of a member's downtime; or the volume
//! of a member, for data that the target would not start on.

use super::container::{CONTAINER, DATA_DIR, MOUNT, VOLUME, container_security};
use super::pod::{pod_security, volume_of};
use crate::api::labels;
use crate::cluster::names::{MemberName, digest};
use crate::cluster::observation::Tries;
use crate::cluster::revision::Revision;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Toleration, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// A probe to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProbe {
    /// Where.
    pub node: String,
    /// Whose image.
    pub revision: String,
    /// What.
    pub tries: Tries,
}

/// In the upstream images beside etcd.
const ETCDUTL: &str = "/usr/local/bin/etcdutl";

/// `etcd --version` from the revision's image, on this node; or `etcdutl check v2store` on the volume of a member
/// that runs there, mounted read-only.
pub fn pod(
    namespace: &str,
    cluster: &str,
    new: &NewProbe,
    revision: &Revision,
    owner: OwnerReference,
) -> Pod {
    let mut pod_labels = labels::of_cluster(cluster);
    pod_labels.insert(labels::COMPONENT.to_owned(), labels::COMPONENT_PROBE.to_owned());
    let mut annotations = BTreeMap::from([
        (labels::REVISION.to_owned(), revision.name.clone()),
        (labels::PROBE_VERSION.to_owned(), revision.version.to_string()),
    ]);
    let template = revision.template.spec.clone().unwrap_or_default();
    let of_members = template.containers.first().cloned().unwrap_or_default();
    let mut container = Container {
        name: CONTAINER.to_owned(),
        image: of_members.image,
        image_pull_policy: of_members.image_pull_policy,
        command: of_members.command,
        args: Some(vec!["--version".to_owned()]),
        resources: of_members.resources,
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    if new.tries == Tries::Image {
        container.resources = Some(resources("256Mi"));
    }
    let mut security = pod_security();
    let mut volumes = None;
    // By name and tolerating everything: the member is on this node already, and a cordon or a taint says nothing
    // about whether the image can be had there.
    let mut tolerations =
        Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]);
    if let Tries::Volume(member) = &new.tries {
        annotations.insert(labels::PROBE_MEMBER.to_owned(), member.to_string());
        look_into_the_volume(&mut container);
        // Not only mounted so: else the kubelet would make the files this Pod's own, by fsGroup or SELinux label, and
        // take them from the member that runs on them.
        volumes = Some(vec![volume_of(member, Some(true))]);
        // Where the member may not be, its volume is not to be held.
        tolerations = template.tolerations;
        // Who may read the files is who wrote them.
        security = template.security_context.unwrap_or(security);
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name(cluster, new)),
            namespace: Some(namespace.to_owned()),
            labels: Some(pod_labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(new.node.clone()),
            tolerations,
            restart_policy: Some("Never".to_owned()),
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(1),
            service_account_name: template.service_account_name,
            runtime_class_name: template.runtime_class_name,
            image_pull_secrets: template.image_pull_secrets,
            security_context: Some(security),
            containers: vec![container],
            volumes,
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// It reads snapshot and WAL while etcd runs, and takes no lock (measured).
fn look_into_the_volume(container: &mut Container) {
    container.command = Some(vec![ETCDUTL.to_owned()]);
    container.args = Some(["check", "v2store", "--data-dir", DATA_DIR].map(str::to_owned).to_vec());
    // The WAL since the last raft snapshot is read as a whole. What that takes nobody knows; the member had it too.
    let limits = container.resources.take().and_then(|own| own.limits);
    container.resources = Some(ResourceRequirements { limits, ..resources("256Mi") });
    container.volume_mounts = Some(vec![VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: MOUNT.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }]);
}

fn resources(memory: &str) -> ResourceRequirements {
    let amounts = |cpu: &str, memory: &str| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ])
    };
    ResourceRequirements {
        requests: Some(amounts("10m", "32Mi")),
        limits: Some(amounts("1", memory)),
        ..ResourceRequirements::default()
    }
}

/// One name per node, revision and what is tried, so that a second attempt finds the first.
fn name(cluster: &str, new: &NewProbe) -> String {
    let NewProbe { node, revision, tries } = new;
    let what = match tries {
        Tries::Image => format!("image/{node}/{revision}"),
        Tries::Volume(member) => format!("volume/{node}/{revision}/{member}"),
    };
    format!("{cluster}-probe-{}", digest(what.as_bytes()))
}

/// What a probe Pod tries, by its annotations.
pub fn tries(pod: &Pod, cluster: &str) -> Tries {
    let member = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::PROBE_MEMBER));
    member.and_then(|member| MemberName::parse(cluster, member)).map_or(Tries::Image, Tries::Volume)
}
