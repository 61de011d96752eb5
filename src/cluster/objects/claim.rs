//! A member's volume claim. It carries no owner reference: deleting the `EtcdCluster` keeps the data,
//! with or without a running operator.

use crate::api::{BootstrapStatus, Quantity, labels};
use crate::cluster::names::MemberName;
use crate::cluster::wire::Wire;
use crate::etcd::ClusterId;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// For what a volume claim is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For one of the first members; from this revision, where its Pod is its claim.
    Bootstrap(BootstrapStatus, Option<String>),
    /// For a member that joins this cluster, from this revision.
    Join(ClusterId, String),
    /// For a copy of a member's data, kept aside from the beginning, which is now.
    Copy(ClusterId, Timestamp),
}

/// A member's new claim.
pub fn new(
    namespace: &str,
    cluster: &str,
    member: &MemberName,
    size: &Quantity,
    class: Option<&str>,
    purpose: &Purpose,
    wire: Wire,
) -> PersistentVolumeClaim {
    let mut claim_labels = labels::of_component(cluster, labels::COMPONENT_MEMBER);
    claim_labels.insert(labels::MEMBER.to_owned(), member.to_string());
    if let Purpose::Copy(..) = purpose {
        claim_labels.insert(labels::SET_ASIDE.to_owned(), labels::SET_ASIDE_QUARANTINED.to_owned());
    }
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(member.claim()),
            namespace: Some(namespace.to_owned()),
            labels: Some(claim_labels),
            annotations: Some(notes(purpose, wire)),
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

/// What is written on a claim when it is made.
pub fn notes(purpose: &Purpose, wire: Wire) -> BTreeMap<String, String> {
    let notes = match purpose {
        Purpose::Bootstrap(bootstrap, revision) => {
            let revision = revision.as_ref().map(|revision| (labels::ASSIGNED, revision.clone()));
            [(labels::BOOTSTRAP, bootstrap_note(bootstrap))].into_iter().chain(revision).collect()
        }
        Purpose::Join(cluster, revision) => {
            vec![(labels::CLUSTER_ID, cluster.to_string()), (labels::ASSIGNED, revision.clone())]
        }
        Purpose::Copy(cluster, since) => {
            vec![(labels::CLUSTER_ID, cluster.to_string()), (labels::SET_ASIDE_SINCE, since.to_string())]
        }
    };
    let tls = wire.noted().map(|_| (labels::TLS, "Enabled".to_owned()));
    notes.into_iter().chain(tls).map(|(key, note)| (key.to_owned(), note)).collect()
}

/// A bootstrap as it stands in the annotation of a claim.
pub fn bootstrap_note(bootstrap: &BootstrapStatus) -> String {
    serde_json::to_string(bootstrap).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, NAMESPACE, member};
    use crate::cluster::observation::Ownership;
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn bootstrap() -> BootstrapStatus {
        let (version, token) = ("3.6.16".to_owned(), "token".to_owned());
        BootstrapStatus { members: 3, version, token, started: false, tls: None }
    }

    fn claim(class: Option<&str>) -> PersistentVolumeClaim {
        new(
            NAMESPACE,
            NAME,
            &member(1),
            &Quantity::new("9Gi"),
            class,
            &Purpose::Bootstrap(bootstrap(), None),
            Wire::Plain,
        )
    }

    #[rstest]
    #[case::of_the_clusters_default(None, Value::Null)]
    #[case::named(Some("fast"), json!("fast"))]
    fn asks_for_a_volume_of_one_node(#[case] class: Option<&str>, #[case] name: Value) {
        let mut spec = json!(claim(class).spec);
        // An empty name is another wish than none: no volume is made for it.
        assert_eq!(spec.as_object_mut().unwrap().remove("storageClassName").unwrap_or_default(), name);
        let wanted =
            json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "9Gi" } } });
        assert_eq!(spec, wanted);
    }

    #[test]
    fn outlives_its_cluster_and_is_known_by_its_labels() {
        let claim = claim(None);
        assert_eq!((claim.owner_references().len(), claim.finalizers().len()), (0, 0));
        assert_eq!((claim.name_any().as_str(), claim.namespace().as_deref()), ("data-db-1", Some(NAMESPACE)));
        assert_eq!(Ownership::of_claim(&claim.metadata, NAME), Ownership::Ours);
        assert_eq!(
            json!(claim.labels()),
            json!({
                "app.kubernetes.io/name": "etcd",
                "app.kubernetes.io/component": "member",
                "app.kubernetes.io/managed-by": "quorate",
                "quorate.dev/cluster": "db",
                "quorate.dev/member": "db-1",
            })
        );
    }

    /// Else a Pod that comes back would be taken for one that holds data.
    #[test]
    fn of_a_member_that_joins_says_which_cluster_and_from_which_revision() {
        let purpose = Purpose::Join(crate::cluster::fixtures::CLUSTER, "db-1234".to_owned());
        let claim = new(NAMESPACE, NAME, &member(3), &Quantity::new("9Gi"), None, &purpose, Wire::Plain);
        assert_eq!(
            json!(claim.annotations()),
            json!({ "quorate.dev/cluster-id": "c1", "quorate.dev/assigned": "db-1234" })
        );
    }

    /// It is neither assigned nor opened before it holds data.
    #[test]
    fn says_for_which_bootstrap_it_was_made_and_nothing_else() {
        let claim = claim(None);
        let noted: Vec<(&String, BootstrapStatus)> = claim
            .annotations()
            .iter()
            .map(|(key, note)| (key, serde_json::from_str(note).unwrap()))
            .collect();
        assert_eq!(noted, [(&labels::BOOTSTRAP.to_owned(), bootstrap())]);
    }
}
