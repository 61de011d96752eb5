//! The baseline: what a careful person writes by hand. Its Pods are rendered by Quorate's own code, so that
//! image, flags, probes, resources, security and spreading are the same; only who replaces them differs.

use crate::contender::NAME;
use anyhow::anyhow;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, Service, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use quorate::api::{EtcdClusterSpec, labels};
use quorate::cluster::names::{MemberName, headless_service};
use quorate::cluster::objects::pod::{Initial, initial_annotations, template};
use quorate::cluster::objects::support;
use quorate::cluster::spec::{Desired, image_of, parse, storage_size};
use quorate::cluster::wire::Wire;
use std::collections::BTreeMap;

/// The headless Service through which members find each other.
pub fn service(namespace: &str, spec: &EtcdClusterSpec) -> Service {
    let mut service = support::headless(namespace, NAME, spec, OwnerReference::default()).stamped();
    service.metadata.owner_references = None;
    service
}

/// Three Pods, started all at once, replaced one after the other.
pub fn statefulset(namespace: &str, spec: &EtcdClusterSpec) -> anyhow::Result<StatefulSet> {
    let desired = desired(spec)?;
    let flags = quorate::cluster::spec::flags(spec, desired.version)?;
    let mut template =
        template(namespace, NAME, spec, &desired, desired.version, &image(spec)?, &flags, Wire::Plain);
    // Where etcd's bootstrap flags come from. They are the same for all Pods, and stay: etcd ignores them
    // once there is data.
    let members: Vec<MemberName> =
        (0..desired.replicas).map(|number| MemberName::new(NAME, number)).collect();
    let new = Initial::New { members: members.clone(), token: "bench".to_owned() };
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.extend(initial_annotations(namespace, &members[0], &new, Wire::Plain));

    let selector = [(labels::CLUSTER, NAME), (labels::COMPONENT, labels::COMPONENT_MEMBER)];
    let selector: BTreeMap<_, _> = selector.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Ok(StatefulSet {
        metadata: named(NAME),
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(desired.replicas).ok(),
            service_name: Some(headless_service(NAME)),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".to_owned()),
                when_scaled: None,
            }),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            template,
            volume_claim_templates: Some(vec![claim(spec)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    })
}

/// The image of the spec's version.
pub fn image(spec: &EtcdClusterSpec) -> anyhow::Result<String> {
    Ok(image_of(spec, desired(spec)?.version))
}

fn desired(spec: &EtcdClusterSpec) -> anyhow::Result<Desired> {
    parse(spec).map_err(|wrong| anyhow!("{wrong:?}"))
}

fn claim(spec: &EtcdClusterSpec) -> PersistentVolumeClaim {
    let size = Quantity(storage_size(spec).as_str().to_owned());
    PersistentVolumeClaim {
        metadata: named("data"),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}
