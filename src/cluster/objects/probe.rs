//! A Pod that runs the target image once on a node, before a member is touched: an image that is
//! missing or does not run costs nothing, and the pull is not part of a member's downtime.

use super::container::{CONTAINER, container_security};
use super::pod::pod_security;
use crate::api::labels;
use crate::cluster::names::digest;
use crate::cluster::revision::Revision;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// `etcd --version` from the revision's image, on this node.
pub fn pod(namespace: &str, cluster: &str, node: &str, revision: &Revision, owner: OwnerReference) -> Pod {
    let mut pod_labels = labels::of_cluster(cluster);
    pod_labels.insert(labels::COMPONENT.to_owned(), labels::COMPONENT_PROBE.to_owned());
    let template = revision.template.spec.clone().unwrap_or_default();
    let member = template.containers.first().cloned().unwrap_or_default();
    let tiny = BTreeMap::from([
        ("cpu".to_owned(), Quantity("10m".to_owned())),
        ("memory".to_owned(), Quantity("32Mi".to_owned())),
    ]);
    Pod {
        metadata: ObjectMeta {
            name: Some(name(cluster, node, revision)),
            namespace: Some(namespace.to_owned()),
            labels: Some(pod_labels),
            annotations: Some(BTreeMap::from([
                (labels::REVISION.to_owned(), revision.name.clone()),
                (labels::PROBE_VERSION.to_owned(), revision.version.to_string()),
            ])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            // By name and tolerating everything: the member is on this node already, and a cordon or a
            // taint says nothing about whether the image can be had there.
            node_name: Some(node.to_owned()),
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            restart_policy: Some("Never".to_owned()),
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(1),
            service_account_name: template.service_account_name,
            runtime_class_name: template.runtime_class_name,
            image_pull_secrets: template.image_pull_secrets,
            security_context: Some(pod_security()),
            containers: vec![Container {
                name: CONTAINER.to_owned(),
                image: member.image,
                image_pull_policy: member.image_pull_policy,
                command: member.command,
                args: Some(vec!["--version".to_owned()]),
                resources: Some(ResourceRequirements {
                    requests: Some(tiny.clone()),
                    limits: Some(BTreeMap::from([
                        ("cpu".to_owned(), Quantity("1".to_owned())),
                        ("memory".to_owned(), Quantity("256Mi".to_owned())),
                    ])),
                    ..ResourceRequirements::default()
                }),
                security_context: Some(container_security()),
                termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// One name per node and revision, so that a second attempt finds the first.
fn name(cluster: &str, node: &str, revision: &Revision) -> String {
    format!("{cluster}-probe-{}", digest(format!("{node}/{}", revision.name).as_bytes()))
}
