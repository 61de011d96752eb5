//! A member's volume claim. It carries no owner reference: deleting the `EtcdCluster` keeps the data,
//! with or without a running operator.

use crate::api::{BootstrapStatus, Quantity, labels};
use crate::cluster::names::MemberName;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The claim of a member of a new cluster.
pub fn new(
    namespace: &str,
    cluster: &str,
    member: &MemberName,
    size: &Quantity,
    class: Option<&str>,
    bootstrap: &BootstrapStatus,
) -> PersistentVolumeClaim {
    let mut claim_labels = labels::of_cluster(cluster);
    claim_labels.insert(labels::COMPONENT.to_owned(), labels::COMPONENT_MEMBER.to_owned());
    claim_labels.insert(labels::MEMBER.to_owned(), member.to_string());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(member.claim()),
            namespace: Some(namespace.to_owned()),
            labels: Some(claim_labels),
            annotations: Some(BTreeMap::from([(
                labels::BOOTSTRAP.to_owned(),
                serde_json::to_string(bootstrap).unwrap_or_default(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: class.map(str::to_owned),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    KubeQuantity(size.as_str().to_owned()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
