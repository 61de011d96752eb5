//! A Pod that tries something out once on a member's node, before the member is touched: the target image, so that
//! one that is missing or does not run costs nothing and the pull is not part of a member's downtime; or the volume
//! of a member, for data that the target would not start on.

use super::container::{CONTAINER, DATA_DIR, MOUNT, VOLUME, container_security};
use super::data::volume_of;
use super::metadata::annotations;
use super::pod::pod_security;
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
pub(super) const ETCDUTL: &str = "/usr/local/bin/etcdutl";

/// `etcd --version` from the revision's image, on this node; or `etcdutl check v2store` on the volume of a member
/// that runs there, mounted read-only.
pub fn pod(
    namespace: &str,
    cluster: &str,
    new: &NewProbe,
    revision: &Revision,
    owner: OwnerReference,
) -> Pod {
    let pod_labels = labels::of_component(cluster, labels::COMPONENT_PROBE);
    // Those of members too: by one of them they may be left out of what is injected into other Pods.
    let mut annotations = annotations(&revision.template).cloned().unwrap_or_default();
    annotations.extend([
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
            // As a member: a namespace or an image may want another user, and who wrote the files may read them.
            security_context: Some(template.security_context.unwrap_or_else(pod_security)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, NAMESPACE, UID, member, owner, rendered};
    use crate::cluster::objects::checks::{found_by, violations};
    use crate::cluster::observation::Ownership;
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn probe(said: &str, tries: Tries) -> Pod {
        let revision = rendered(&format!("{{version: 3.6.16, {said}}}"));
        let new = NewProbe { node: "node-1".to_owned(), revision: revision.name.clone(), tries };
        super::pod(NAMESPACE, NAME, &new, &revision, owner())
    }

    fn volume() -> Tries {
        Tries::Volume(member(1))
    }

    #[rstest]
    #[case::image(
        Tries::Image,
        json!({ "command": ["/usr/local/bin/etcd"], "args": ["--version"], "volumes": null, "mounts": null })
    )]
    #[case::volume(
        volume(),
        json!({
            "command": ["/usr/local/bin/etcdutl"],
            "args": ["check", "v2store", "--data-dir", "/var/lib/etcd/data"],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-db-1", "readOnly": true } }],
            "mounts": [{ "name": "data", "mountPath": "/var/lib/etcd", "readOnly": true }],
        })
    )]
    fn runs_once_on_the_node_and_writes_nothing(#[case] tries: Tries, #[case] wanted: Value) {
        let spec = probe("", tries).spec.unwrap();
        assert_eq!(
            (spec.node_name.as_deref(), spec.restart_policy.as_deref()),
            (Some("node-1"), Some("Never"))
        );
        assert_eq!((spec.containers.len(), spec.init_containers), (1, None));
        let container = &spec.containers[0];
        let runs = json!({ "command": container.command, "args": container.args, "volumes": spec.volumes,
            "mounts": container.volume_mounts });
        assert_eq!(runs, wanted);
        assert_eq!(json!(container.security_context)["readOnlyRootFilesystem"], json!(true));
        assert_eq!(container.termination_message_policy.as_deref(), Some("FallbackToLogsOnError"));
    }

    #[rstest]
    #[case(Tries::Image)]
    #[case(volume())]
    fn passes_pod_security_restricted(#[case] tries: Tries) {
        let spec = probe("", tries).spec.unwrap();
        assert_eq!(violations(&spec), [""; 0]);
        assert_eq!(
            (spec.enable_service_links, spec.automount_service_account_token),
            (Some(false), Some(false))
        );
    }

    #[rstest]
    #[case(Tries::Image)]
    #[case(volume())]
    fn what_lets_a_member_run_there_lets_its_probe_run(#[case] tries: Tries) {
        let said = "image: {repository: m/etcd, pullPolicy: Always, pullSecrets: [{name: pull}]},
            pod: {serviceAccountName: etcd, runtimeClassName: kata, securityContext: {runAsUser: 7}}";
        let members = json!(rendered(&format!("{{version: 3.6.16, {said}}}")).template);
        let probe = json!(probe(said, tries));
        for field in [
            "/spec/containers/0/image",
            "/spec/containers/0/imagePullPolicy",
            "/spec/imagePullSecrets",
            "/spec/serviceAccountName",
            "/spec/runtimeClassName",
            "/spec/securityContext",
        ] {
            assert!(members.pointer(field).is_some(), "{field}");
            assert_eq!(probe.pointer(field), members.pointer(field), "{field}");
        }
    }

    /// A volume is not to be held where its member may not be; whether an image can be had, a taint does not say.
    #[rstest]
    #[case::image(Tries::Image, json!([{ "operator": "Exists" }]))]
    #[case::volume(volume(), json!([{ "key": "etcd" }]))]
    fn tolerates(#[case] tries: Tries, #[case] wanted: Value) {
        assert_eq!(
            json!(probe("pod: {tolerations: [{key: etcd}]}", tries).spec.unwrap().tolerations),
            wanted
        );
    }

    /// A WAL is read as a whole, which takes what it takes a member; `etcd --version` takes next to nothing.
    #[rstest]
    #[case::image("", Tries::Image, json!({ "cpu": "1", "memory": "256Mi" }))]
    #[case::image_of_large_members(LARGE, Tries::Image, json!({ "cpu": "1", "memory": "256Mi" }))]
    #[case::volume("", volume(), Value::Null)]
    #[case::volume_of_a_large_member(LARGE, volume(), json!({ "memory": "8Gi" }))]
    fn asks_for_little_and_may_take(#[case] said: &str, #[case] tries: Tries, #[case] limits: Value) {
        let resources = probe(said, tries).spec.unwrap().containers.remove(0).resources.unwrap();
        assert_eq!(json!(resources.requests), json!({ "cpu": "10m", "memory": "32Mi" }));
        assert_eq!(json!(resources.limits), limits);
    }

    const LARGE: &str = "pod: {resources: {requests: {cpu: 4, memory: 8Gi}, limits: {memory: 8Gi}}}";

    #[rstest]
    #[case(Tries::Image)]
    #[case(volume())]
    fn is_the_clusters_own_and_nobody_takes_it_for_a_member(#[case] tries: Tries) {
        let pod = probe("", tries.clone());
        assert_eq!(Ownership::of_owned(&pod.metadata, UID, NAME), Ownership::Ours);
        assert_eq!(
            json!(pod.labels()),
            json!({
                "app.kubernetes.io/name": "etcd",
                "app.kubernetes.io/component": "probe",
                "app.kubernetes.io/managed-by": "quorate",
                "quorate.dev/cluster": "db",
            })
        );
        assert_eq!(found_by(&pod), [""; 0]);
        assert_eq!(pod.namespace().as_deref(), Some(NAMESPACE));
        assert_eq!(pod.annotations()[labels::REVISION], rendered("version: 3.6.16").name);
        assert_eq!(pod.annotations()[labels::PROBE_VERSION], "3.6.16");
        assert_eq!(super::tries(&pod, NAME), tries, "what it tries is read back");
    }

    /// A second attempt finds the first, and nothing else.
    #[test]
    fn what_is_tried_where_has_one_name() {
        let new = |node: &str, revision: &str, tries| NewProbe {
            node: node.to_owned(),
            revision: revision.to_owned(),
            tries,
        };
        let all = [
            new("node-1", "db-1", Tries::Image),
            new("node-2", "db-1", Tries::Image),
            new("node-1", "db-2", Tries::Image),
            new("node-1", "db-1", Tries::Volume(member(1))),
            new("node-1", "db-1", Tries::Volume(member(2))),
        ];
        let names: std::collections::BTreeSet<String> =
            all.iter().chain(&all).map(|new| name(NAME, new)).collect();
        assert_eq!(names.len(), all.len());
        let longest = name(&"c".repeat(45), &all[0]);
        assert!(longest.len() < 64, "{longest} is also the Pod's host name");
    }
}
