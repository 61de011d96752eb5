//! What stands around the members: two Services and the PodDisruptionBudget.

use super::container::{CLIENT_PORT, METRICS_PORT, PEER_PORT};
use super::metadata::{annotations_of, labels_of};
use crate::api::reserved::{CLIENT_SERVICE_ANNOTATIONS, CLIENT_SERVICE_LABELS};
use crate::api::{EtcdClusterSpec, IpFamilyPolicy, ServiceType, labels};
use crate::cluster::names::{client_service, digest_of, disruption_budget, headless_service};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// An object as it should be.
#[derive(Clone, Debug)]
pub struct Wanted<K>(K);

/// An object whose spec can be compared.
pub trait Specified: Serialize + Resource<DynamicType = ()> {
    /// Whether both have the same spec, to the last field.
    fn has_spec_of(&self, other: &Self) -> bool;

    /// What it is created with before all else is applied to it: only what never changes. A field that
    /// was once created stays when it is not applied any more; one that was applied goes.
    #[must_use]
    fn skeleton(&self) -> Self;
}

impl Specified for Service {
    fn has_spec_of(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn skeleton(&self) -> Self {
        let spec = self.spec.as_ref();
        let never_changes = |port: &ServicePort| port.name.as_deref() == Some("client");
        Self {
            metadata: skeleton_of_metadata(&self.metadata),
            spec: Some(ServiceSpec {
                cluster_ip: spec.and_then(|spec| spec.cluster_ip.clone()),
                // Kubernetes takes a headless Service without a selector for one of all IP families.
                selector: spec.and_then(|spec| spec.selector.clone()),
                ports: spec.and_then(|spec| {
                    Some(spec.ports.as_ref()?.iter().filter(|port| never_changes(port)).cloned().collect())
                }),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }
}

impl Specified for PodDisruptionBudget {
    fn has_spec_of(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn skeleton(&self) -> Self {
        Self {
            metadata: skeleton_of_metadata(&self.metadata),
            spec: self.spec.as_ref().map(|spec| PodDisruptionBudgetSpec {
                selector: spec.selector.clone(),
                ..PodDisruptionBudgetSpec::default()
            }),
            status: None,
        }
    }
}

fn member_selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::CLUSTER.to_owned(), cluster.to_owned()),
        (labels::COMPONENT.to_owned(), labels::COMPONENT_MEMBER.to_owned()),
    ])
}

fn voter_selector(cluster: &str) -> BTreeMap<String, String> {
    let mut selector = member_selector(cluster);
    selector.insert(labels::ROLE.to_owned(), labels::ROLE_VOTER.to_owned());
    selector
}

fn service_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn family_policy(spec: &EtcdClusterSpec) -> Option<String> {
    let policy = spec.services.as_ref()?.ip_family_policy?;
    Some(
        match policy {
            IpFamilyPolicy::SingleStack => "SingleStack",
            IpFamilyPolicy::PreferDualStack => "PreferDualStack",
            IpFamilyPolicy::RequireDualStack => "RequireDualStack",
        }
        .to_owned(),
    )
}

/// The Service through which members find each other: not-ready addresses too, since a member must
/// be found before it can become ready.
pub fn headless(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    owner: OwnerReference,
) -> Wanted<Service> {
    Wanted(Service {
        metadata: ObjectMeta {
            name: Some(headless_service(cluster)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels::of_cluster(cluster)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(member_selector(cluster)),
            ip_family_policy: family_policy(spec),
            ports: Some(vec![
                service_port("client", CLIENT_PORT),
                service_port("peer", PEER_PORT),
                service_port("metrics", METRICS_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// The Service for clients: ready members only.
pub fn client(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    owner: OwnerReference,
) -> Wanted<Service> {
    let wanted = spec.services.as_ref().and_then(|services| services.client.clone()).unwrap_or_default();
    let mut service_labels = labels_of(wanted.labels, &CLIENT_SERVICE_LABELS);
    let annotations = annotations_of(wanted.annotations, &CLIENT_SERVICE_ANNOTATIONS);
    service_labels.extend(labels::of_cluster(cluster));
    Wanted(Service {
        metadata: ObjectMeta {
            name: Some(client_service(cluster)),
            namespace: Some(namespace.to_owned()),
            labels: Some(service_labels),
            annotations: Some(annotations).filter(|map| !map.is_empty()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(
                match wanted.type_ {
                    Some(ServiceType::NodePort) => "NodePort",
                    Some(ServiceType::LoadBalancer) => "LoadBalancer",
                    Some(ServiceType::ClusterIP) | None => "ClusterIP",
                }
                .to_owned(),
            ),
            // A learner answers no client.
            selector: Some(voter_selector(cluster)),
            ip_family_policy: family_policy(spec),
            ports: Some(vec![service_port("client", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// How many voters of so many must stay: all but one, and of two both, since two need both for a quorum.
const fn must_stay(voters: usize) -> usize {
    if voters == 2 { 2 } else { voters.saturating_sub(1) }
}

/// The budget that drains and the operator share. An integer `minAvailable`, never `maxUnavailable`:
/// that counts from `spec.replicas` through `/scale`, so an edit 5 → 3 would allow three at once.
pub fn budget(
    namespace: &str,
    cluster: &str,
    voters: usize,
    owner: OwnerReference,
) -> Wanted<PodDisruptionBudget> {
    let selector = voter_selector(cluster);
    Wanted(PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(disruption_budget(cluster)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels::of_cluster(cluster)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(must_stay(voters)).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector { match_labels: Some(selector), match_expressions: None }),
            // A member that is not ready may be evicted: it is what the operator puts back.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

/// The owner is part of it, so that what a killed operator leaves half made is known as its own.
fn skeleton_of_metadata(whole: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: whole.name.clone(),
        namespace: whole.namespace.clone(),
        owner_references: whole.owner_references.clone(),
        ..ObjectMeta::default()
    }
}

impl<K: Specified> Wanted<K> {
    /// The object with a digest of all that it says but for whose it is.
    pub fn stamped(self) -> K {
        let mut object = self.0;
        let owner = object.meta_mut().owner_references.take();
        let digest = digest_of(&object);
        object.annotations_mut().insert(labels::APPLIED.to_owned(), digest);
        object.meta_mut().owner_references = owner;
        object
    }

    /// Whether a live object still says everything that we want it to say. The API server adds defaults,
    /// and others may add fields of their own: only what we set is compared.
    ///
    /// What was applied once and is not wanted any more shows by the digest of the whole.
    pub fn is_said_by(self, live: &K) -> bool {
        if self.is_all_of(live) {
            return true;
        }
        let mut wanted = self.stamped();
        wanted.meta_mut().owner_references = None;
        match (serde_json::to_value(live), serde_json::to_value(wanted)) {
            (Ok(live), Ok(wanted)) => covers(&live, &wanted),
            _ => false,
        }
    }

    /// Whether a live object says this and nothing else, which shows without a digest.
    fn is_all_of(&self, live: &K) -> bool {
        let wanted = &self.0;
        let annotations = live.annotations().iter().filter(|(key, _)| *key != labels::APPLIED);
        live.has_spec_of(wanted)
            && live.labels() == wanted.labels()
            && annotations.eq(wanted.annotations().iter())
    }
}

fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| covers(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> EtcdClusterSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn defaults_and_foreign_fields_are_no_drift() {
        let wanted = client("prod", "db", &spec("version: 3.6.16"), OwnerReference::default());
        let mut live = wanted.clone().stamped();
        live.metadata.uid = Some("x".to_owned());
        live.annotations_mut().insert("theirs".to_owned(), "1".to_owned());
        live.spec.as_mut().unwrap().cluster_ip = Some("10.0.0.1".to_owned());
        assert!(wanted.is_said_by(&live));
    }

    #[test]
    fn a_default_beside_a_field_that_was_taken_away_is_drift() {
        let with = "{version: 3.6.16, services: {client: {labels: {team: a}}}}";
        let mut live = client("prod", "db", &spec(with), OwnerReference::default()).stamped();
        live.spec.as_mut().unwrap().cluster_ip = Some("10.0.0.1".to_owned());
        let wanted = client("prod", "db", &spec("version: 3.6.16"), OwnerReference::default());
        assert!(!wanted.is_said_by(&live));
    }

    #[test]
    fn an_annotation_that_is_not_wanted_any_more_is_drift() {
        let with = "{version: 3.6.16, services: {client: {annotations: {lb: internal}}}}";
        let live = client("prod", "db", &spec(with), OwnerReference::default()).stamped();
        let wanted = client("prod", "db", &spec("version: 3.6.16"), OwnerReference::default());
        assert!(!wanted.is_said_by(&live));
    }

    #[test]
    fn a_skeleton_holds_nothing_that_a_spec_can_change() {
        let small = spec("version: 3.6.16");
        let large = spec(
            "{version: 3.6.16, services: {ipFamilyPolicy: RequireDualStack,
              client: {type: LoadBalancer, annotations: {lb: internal}, labels: {a: b}}}}",
        );
        let owner = || OwnerReference { uid: "u".to_owned(), ..OwnerReference::default() };
        for build in [headless, client] {
            let skeleton = build("prod", "db", &large, owner()).stamped().skeleton();
            assert_eq!(skeleton, build("prod", "db", &small, owner()).stamped().skeleton());
            assert_eq!(skeleton.owner_references()[0].uid, "u");
            assert_eq!(skeleton.spec.as_ref().unwrap().ports.as_ref().unwrap().len(), 1);
            assert!(skeleton.spec.as_ref().unwrap().selector.is_some());
            assert!(
                !build("prod", "db", &small, owner()).is_said_by(&skeleton),
                "what is half made is mended"
            );
        }
        let budgets = [3, 5].map(|voters| budget("prod", "db", voters, owner()).stamped().skeleton());
        assert_eq!(budgets[0], budgets[1]);
        assert_eq!(budgets[0].spec.as_ref().unwrap().min_available, None);
    }

    #[test]
    fn a_changed_selector_is_drift() {
        let wanted = headless("prod", "db", &spec("version: 3.6.16"), OwnerReference::default());
        let mut live = wanted.clone().stamped();
        live.spec.as_mut().unwrap().selector = Some(BTreeMap::from([("app".to_owned(), "other".to_owned())]));
        assert!(!wanted.is_said_by(&live));
    }

    #[test]
    fn the_budget_keeps_all_but_one_voter() {
        let min = |voters| {
            budget("prod", "db", voters, OwnerReference::default()).0.spec.unwrap().min_available.unwrap()
        };
        assert_eq!(min(1), IntOrString::Int(0));
        assert_eq!(min(3), IntOrString::Int(2));
        assert_eq!(min(5), IntOrString::Int(4));
    }
}
