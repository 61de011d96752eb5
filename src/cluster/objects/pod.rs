//! A member's Pod: the template that a revision stores, and the Pod of one member made from it.

use super::certificates;
use super::container::{self, peer_url};
use super::data::{keeps_data, volume_in_pod, volume_of};
use super::metadata::{annotations_of, labels_of};
use crate::api::reserved::{POD_ANNOTATIONS, POD_LABELS};
use crate::api::{EtcdClusterSpec, MemberRole, labels};
use crate::cluster::names::{MemberName, headless_service};
use crate::cluster::spec::{Desired, empty_dir};
use crate::cluster::wire::Wire;
use crate::etcd::EtcdVersion;
use k8s_openapi::api::core::v1::{
    Affinity, Pod, PodAffinityTerm, PodAntiAffinity, PodSchedulingGate, PodSecurityContext, PodSpec,
    PodTemplateSpec, SeccompProfile, TopologySpreadConstraint, WeightedPodAffinityTerm,
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
    /// Join a cluster that is there, as the member that its list has at this address. etcd starts only where this is
    /// exactly the cluster's list.
    Join {
        /// All members in the list, itself among them.
        members: Vec<MemberName>,
    },
    /// The guard: an initial cluster of only itself in state `existing`. etcd exits with 1 on an empty
    /// directory, before raft starts, so a wiped volume can neither rejoin under an old member id nor
    /// form a second cluster, with or without a running operator.
    Guard,
}

/// A Pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    /// Whose.
    pub member: MemberName,
    /// From which revision.
    pub revision: String,
    /// What etcd is told about membership.
    pub initial: Initial,
    /// Whether its member votes.
    pub role: MemberRole,
}

/// The Pod that every member of the cluster is made from, but for what makes it this or that member.
/// `flags` are the user's own, as this version takes them.
#[allow(clippy::too_many_arguments, reason = "all that a rendering is made of")]
pub fn template(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
    image: &str,
    flags: &BTreeMap<String, String>,
    wire: Wire,
) -> PodTemplateSpec {
    let pod = spec.pod.clone().unwrap_or_default();
    let image_spec = spec.image.clone().unwrap_or_default();

    PodTemplateSpec {
        metadata: Some(metadata(cluster, spec)),
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
            containers: vec![container::etcd(namespace, cluster, spec, desired, version, image, flags, wire)],
            volumes: empty_dir(spec).map(|dir| vec![volume_in_pod(dir, desired)]),
            ..PodSpec::default()
        }),
    }
}

/// Labels and annotations that every member of the cluster has.
pub fn metadata(cluster: &str, spec: &EtcdClusterSpec) -> ObjectMeta {
    let pod = spec.pod.clone().unwrap_or_default();
    let mut pod_labels = labels_of(pod.labels, &POD_LABELS);
    pod_labels.extend(labels::of_component(cluster, labels::COMPONENT_MEMBER));
    ObjectMeta {
        labels: Some(pod_labels),
        annotations: Some(annotations_of(pod.annotations, &POD_ANNOTATIONS)),
        ..ObjectMeta::default()
    }
}

/// The Pod of one member.
pub fn member(
    namespace: &str,
    cluster: &str,
    new: &NewPod,
    template: &PodTemplateSpec,
    owner: OwnerReference,
) -> Pod {
    let NewPod { member, revision, initial, role } = new;
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut pod_labels = metadata.labels.unwrap_or_default();
    pod_labels.insert(labels::MEMBER.to_owned(), member.to_string());
    pod_labels.insert(labels::ROLE.to_owned(), labels::role(*role).to_owned());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(labels::REVISION.to_owned(), revision.clone());
    let wire = certificates::wire_of(template);
    annotations.extend(initial_annotations(namespace, member, initial, wire));

    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(member.to_string());
    spec.subdomain = Some(headless_service(cluster));
    if !keeps_data(&spec) {
        spec.volumes.get_or_insert_default().push(volume_of(member, None));
    }
    let certificates = certificates::volumes_of(wire, member, &spec);
    spec.volumes.get_or_insert_default().extend(certificates);

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

/// A Pod that keeps its member's data, and is not started before all that it must know is written on it.
pub fn not_yet(
    namespace: &str,
    cluster: &str,
    new: &NewPod,
    template: &PodTemplateSpec,
    notes: BTreeMap<String, String>,
    owner: OwnerReference,
) -> Pod {
    let mut pod = member(namespace, cluster, new, template, owner);
    pod.metadata.annotations.get_or_insert_default().extend(notes);
    pod.spec.get_or_insert_default().scheduling_gates =
        Some(vec![PodSchedulingGate { name: labels::GATE.to_owned() }]);
    pod
}

/// Whether a Pod is not to be started yet.
pub fn is_not_yet(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.into_iter().any(|gate| gate.name == labels::GATE)
}

/// The annotations that the container's environment reads at each of its starts.
pub fn initial_annotations(
    namespace: &str,
    member: &MemberName,
    initial: &Initial,
    wire: Wire,
) -> BTreeMap<String, String> {
    let entry = |member: &MemberName| format!("{member}={}", peer_url(wire, &member.host(namespace)));
    let all = |members: &[MemberName]| members.iter().map(entry).collect::<Vec<_>>().join(",");
    let (members, state, token) = match initial {
        Initial::New { members, token } => (all(members), "new", token.clone()),
        // Where the state is `existing` nothing is made of the token.
        Initial::Join { members } => (all(members), "existing", "join".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, NAMESPACE, UID, member as named, owner, rendered};
    use crate::cluster::objects::checks::{found_by, violations};
    use crate::cluster::observation::Ownership;
    use k8s_openapi::api::core::v1::EnvVar;
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    const PLAIN: &str = "version: 3.6.16";

    fn made(yaml: &str, number: u32, initial: &Initial) -> Pod {
        of_role(yaml, number, initial, MemberRole::Voter)
    }

    fn of_role(yaml: &str, number: u32, initial: &Initial, role: MemberRole) -> Pod {
        let revision = rendered(yaml);
        let new = NewPod { member: named(number), revision: revision.name, initial: initial.clone(), role };
        member(NAMESPACE, NAME, &new, &revision.template, owner())
    }

    fn bootstrap() -> Initial {
        Initial::New { members: (0..3).map(named).collect(), token: "token".to_owned() }
    }

    /// The arguments as the kubelet makes them, at each start of the container.
    fn started_with(pod: &Pod) -> Vec<String> {
        let value = |variable: &EnvVar| -> String {
            let path = variable.value_from.as_ref().unwrap().field_ref.as_ref().unwrap().field_path.as_str();
            let annotation = |path: &'_ str| {
                path.strip_prefix("metadata.annotations['")?.strip_suffix("']").map(str::to_owned)
            };
            annotation(path).map_or_else(
                || {
                    assert_eq!(path, "metadata.name");
                    pod.name_any()
                },
                |key| pod.annotations()[&key].clone(),
            )
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let resolve = |arg: &String| {
            container.env.iter().flatten().fold(arg.clone(), |arg, variable| {
                arg.replace(&format!("$({})", variable.name), &value(variable))
            })
        };
        container.args.iter().flatten().map(resolve).collect()
    }

    #[rstest]
    #[case::at_the_bootstrap(
        &bootstrap(),
        "new",
        "db-0=http://db-0.db.prod.svc:2380,db-1=http://db-1.db.prod.svc:2380,db-2=http://db-2.db.prod.svc:2380",
        "token"
    )]
    #[case::as_it_joins(
        &Initial::Join { members: [0, 1].map(named).to_vec() },
        "existing",
        "db-0=http://db-0.db.prod.svc:2380,db-1=http://db-1.db.prod.svc:2380",
        "join"
    )]
    #[case::ever_after(&Initial::Guard, "existing", "db-1=http://db-1.db.prod.svc:2380", "guard")]
    fn etcd_is_told_who_it_is_and_with_whom_it_begins(
        #[case] initial: &Initial,
        #[case] state: &str,
        #[case] members: &str,
        #[case] token: &str,
    ) {
        let args = started_with(&made(PLAIN, 1, initial));
        for flag in [
            "--name=db-1".to_owned(),
            format!("--initial-cluster={members}"),
            format!("--initial-cluster-state={state}"),
            format!("--initial-cluster-token={token}"),
            // Of the same words as its entry above, or etcd does not start.
            "--initial-advertise-peer-urls=http://db-1.db.prod.svc:2380".to_owned(),
            "--advertise-client-urls=http://db-1.db.prod.svc:2379".to_owned(),
        ] {
            assert!(args.contains(&flag), "{flag} is not among {args:?}");
        }
    }

    #[test]
    fn a_pod_of_the_bootstrap_is_guarded_from_its_next_start_on() {
        let mut pod = made(PLAIN, 1, &bootstrap());
        pod.annotations_mut().extend(initial_annotations(NAMESPACE, &named(1), &Initial::Guard, Wire::Plain));
        assert_eq!(started_with(&pod), started_with(&made(PLAIN, 1, &Initial::Guard)));
    }

    #[test]
    fn it_is_found_under_the_name_that_it_advertises() {
        let pod = made(PLAIN, 1, &Initial::Guard);
        let spec = pod.spec.as_ref().unwrap();
        let [host, subdomain] = [&spec.hostname, &spec.subdomain].map(|part| part.clone().unwrap());
        assert_eq!(format!("{host}.{subdomain}.{NAMESPACE}.svc"), named(1).host(NAMESPACE));
        assert_eq!((pod.name_any(), pod.namespace().as_deref()), (host, Some(NAMESPACE)));
    }

    /// Two processes on one volume, or one on another's, would be two under one member id.
    #[rstest]
    #[case(0)]
    #[case(2)]
    fn one_process_has_the_volume_of_its_own_name(#[case] number: u32) {
        let spec = made(PLAIN, number, &Initial::Guard).spec.unwrap();
        let claim = json!({ "claimName": format!("data-db-{number}") });
        assert_eq!(json!(spec.volumes), json!([{ "name": "data", "persistentVolumeClaim": claim }]));
        assert_eq!((spec.containers.len(), spec.init_containers), (1, None));
    }

    #[test]
    fn it_is_known_as_the_clusters_own_and_by_its_revision() {
        let pod = made(PLAIN, 1, &Initial::Guard);
        assert_eq!(Ownership::of_owned(&pod.metadata, UID, NAME), Ownership::Ours);
        assert_eq!(pod.owner_references(), [owner()]);
        assert_eq!(pod.annotations()[labels::REVISION], rendered(PLAIN).name);
        assert_eq!(
            json!(pod.labels()),
            json!({
                "app.kubernetes.io/name": "etcd",
                "app.kubernetes.io/component": "member",
                "app.kubernetes.io/managed-by": "quorate",
                "quorate.dev/cluster": "db",
                "quorate.dev/member": "db-1",
                "quorate.dev/role": "voter",
            })
        );
        assert_eq!(found_by(&pod), ["headless Service", "client Service", "budget"]);
    }

    /// Clients get no answer from it, and it counts for no quorum.
    #[test]
    fn a_learner_is_found_by_its_peers_only() {
        let pod = of_role(PLAIN, 1, &Initial::Guard, MemberRole::Learner);
        assert_eq!(found_by(&pod), ["headless Service"]);
    }

    #[test]
    fn it_passes_pod_security_restricted() {
        assert_eq!(violations(&made(PLAIN, 1, &bootstrap()).spec.unwrap()), [""; 0]);
    }

    fn spread_over(key: &str) -> Value {
        let members = json!({ "app.kubernetes.io/component": "member", "quorate.dev/cluster": "db" });
        json!({ "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": members } })
    }

    #[rstest]
    #[case::variables_of_services("pod: {}", "/spec/enableServiceLinks", json!(false))]
    #[case::token("pod: {serviceAccountName: etcd}", "/spec/automountServiceAccountToken", json!(false))]
    #[case::owner_of_the_volume("pod: {}", "/spec/securityContext/fsGroup", json!(65532))]
    #[case::large_volume("pod: {}", "/spec/securityContext/fsGroupChangePolicy", json!("OnRootMismatch"))]
    #[case::grace("pod: {}", "/spec/terminationGracePeriodSeconds", json!(30))]
    #[case::more_grace(
        "pod: {terminationGracePeriodSeconds: 90}", "/spec/terminationGracePeriodSeconds", json!(90)
    )]
    #[case::other_nodes(
        "pod: {}",
        "/spec/affinity",
        json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100,
            "podAffinityTerm": { "topologyKey": "kubernetes.io/hostname",
                "labelSelector": spread_over("")["labelSelector"] } }] } })
    )]
    #[case::affinity("pod: {affinity: {}}", "/spec/affinity", json!({}))]
    #[case::zones_and_nodes(
        "pod: {}",
        "/spec/topologySpreadConstraints",
        json!([spread_over("topology.kubernetes.io/zone"), spread_over("kubernetes.io/hostname")])
    )]
    #[case::spread(
        "pod: {topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]}",
        "/spec/topologySpreadConstraints",
        json!([{ "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" }])
    )]
    #[case::nodes("pod: {nodeSelector: {disk: ssd}}", "/spec/nodeSelector", json!({ "disk": "ssd" }))]
    #[case::taints("pod: {tolerations: [{key: etcd}]}", "/spec/tolerations", json!([{ "key": "etcd" }]))]
    #[case::priority("pod: {priorityClassName: high}", "/spec/priorityClassName", json!("high"))]
    #[case::account("pod: {serviceAccountName: etcd}", "/spec/serviceAccountName", json!("etcd"))]
    #[case::scheduler("pod: {schedulerName: own}", "/spec/schedulerName", json!("own"))]
    #[case::runtime("pod: {runtimeClassName: kata}", "/spec/runtimeClassName", json!("kata"))]
    #[case::user("pod: {securityContext: {runAsUser: 7}}", "/spec/securityContext", json!({ "runAsUser": 7 }))]
    #[case::label("pod: {labels: {team: a}}", "/metadata/labels/team", json!("a"))]
    #[case::annotation("pod: {annotations: {scrape: 'no'}}", "/metadata/annotations/scrape", json!("no"))]
    #[case::registry("image: {pullSecrets: [{name: pull}]}", "/spec/imagePullSecrets", json!([{ "name": "pull" }]))]
    fn a_pod_is_what_the_spec_says_and_safe_where_it_says_nothing(
        #[case] said: &str,
        #[case] field: &str,
        #[case] value: Value,
    ) {
        let pod = json!(made(&format!("{{version: 3.6.16, {said}}}"), 1, &Initial::Guard));
        assert_eq!(pod.pointer(field), Some(&value));
    }
}
