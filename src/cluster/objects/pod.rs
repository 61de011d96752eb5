//! A member's Pod: the template that a revision stores, and the Pod of one member made from it.

use crate::api::{AutoCompactionMode, EtcdClusterSpec, PullPolicy, Resources, labels};
use crate::cluster::names::{MemberName, headless_service};
use crate::cluster::spec::Desired;
use crate::etcd::EtcdVersion;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TCPSocketAction, TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// Port for clients.
pub const CLIENT_PORT: i32 = 2379;
/// Port for other members.
pub const PEER_PORT: i32 = 2380;
/// Port for probes and metrics: a listener of its own, so that both keep working when clients need
/// certificates.
pub const METRICS_PORT: i32 = 2381;

/// The name of the container in every Pod of a cluster.
pub const CONTAINER: &str = "etcd";
const VOLUME: &str = "data";
const MOUNT: &str = "/var/lib/etcd";
/// A subdirectory: etcd wants it 0700 and its own, and the root of a volume may hold `lost+found`.
const DATA_DIR: &str = "/var/lib/etcd/data";
/// Distroless images have CMD and no ENTRYPOINT, so `args` alone would be run as a program.
const COMMAND: &str = "/usr/local/bin/etcd";
/// `nonroot` of the distroless images.
const USER: i64 = 65532;
const GRACE_SECONDS: i64 = 30;

const ENV_MEMBER: &str = "QUORATE_MEMBER";
const ENV_INITIAL_CLUSTER: &str = "QUORATE_INITIAL_CLUSTER";
const ENV_INITIAL_CLUSTER_STATE: &str = "QUORATE_INITIAL_CLUSTER_STATE";
const ENV_INITIAL_CLUSTER_TOKEN: &str = "QUORATE_INITIAL_CLUSTER_TOKEN";

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
            containers: vec![Container {
                name: CONTAINER.to_owned(),
                image: Some(image.to_owned()),
                image_pull_policy: Some(pull_policy(image_spec.pull_policy).to_owned()),
                command: Some(vec![COMMAND.to_owned()]),
                args: Some(args(namespace, cluster, spec, desired, flags)),
                env: Some(env(pod.env)),
                ports: Some(vec![
                    port("client", CLIENT_PORT),
                    port("peer", PEER_PORT),
                    port("metrics", METRICS_PORT),
                ]),
                resources: Some(resources(pod.resources.as_ref())),
                security_context: Some(container_security()),
                startup_probe: Some(startup_probe()),
                liveness_probe: Some(liveness_probe()),
                readiness_probe: Some(readiness_probe(version)),
                // The last lines of the log are the evidence of a start that failed.
                termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
                volume_mounts: Some(vec![VolumeMount {
                    name: VOLUME.to_owned(),
                    mount_path: MOUNT.to_owned(),
                    ..VolumeMount::default()
                }]),
                ..Container::default()
            }],
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
    spec.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: member.claim(),
            read_only: None,
        }),
        ..Volume::default()
    });

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

/// Where other members reach a host.
pub fn peer_url(host: &str) -> String {
    format!("http://{host}:{PEER_PORT}")
}

/// Where clients reach a host.
pub fn client_url(host: &str) -> String {
    format!("http://{host}:{CLIENT_PORT}")
}

fn args(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    flags: &BTreeMap<String, String>,
) -> Vec<String> {
    let host = format!("$({ENV_MEMBER}).{}.{namespace}.svc", headless_service(cluster));
    // Go listens on IPv4 and IPv6 alike for the IPv4 wildcard, and starts where IPv6 is switched off,
    // which it does not for `[::]`.
    let any = "http://0.0.0.0";
    let mut args = vec![
        format!("--name=$({ENV_MEMBER})"),
        format!("--data-dir={DATA_DIR}"),
        format!("--listen-peer-urls={any}:{PEER_PORT}"),
        format!("--listen-client-urls={any}:{CLIENT_PORT}"),
        format!("--listen-metrics-urls={any}:{METRICS_PORT}"),
        format!("--initial-advertise-peer-urls={}", peer_url(&host)),
        format!("--advertise-client-urls={}", client_url(&host)),
        format!("--initial-cluster=$({ENV_INITIAL_CLUSTER})"),
        format!("--initial-cluster-state=$({ENV_INITIAL_CLUSTER_STATE})"),
        format!("--initial-cluster-token=$({ENV_INITIAL_CLUSTER_TOKEN})"),
        format!("--quota-backend-bytes={}", desired.quota_bytes),
        format!("--heartbeat-interval={}", desired.heartbeat.as_millis()),
        format!("--election-timeout={}", desired.election_timeout.as_millis()),
    ];
    let etcd = spec.etcd.clone().unwrap_or_default();
    if let Some(count) = etcd.snapshot_count {
        args.push(format!("--snapshot-count={count}"));
    }
    if let Some(compaction) = &etcd.auto_compaction {
        let mode = match compaction.mode {
            AutoCompactionMode::Periodic => "periodic",
            AutoCompactionMode::Revision => "revision",
        };
        args.push(format!("--auto-compaction-mode={mode}"));
        args.push(format!("--auto-compaction-retention={}", compaction.retention));
    }
    args.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
    args
}

fn env(extra: Vec<EnvVar>) -> Vec<EnvVar> {
    let annotation = |key: &str| format!("metadata.annotations['{key}']");
    [
        (ENV_MEMBER, "metadata.name".to_owned()),
        (ENV_INITIAL_CLUSTER, annotation(labels::INITIAL_CLUSTER)),
        (ENV_INITIAL_CLUSTER_STATE, annotation(labels::INITIAL_CLUSTER_STATE)),
        (ENV_INITIAL_CLUSTER_TOKEN, annotation(labels::INITIAL_CLUSTER_TOKEN)),
    ]
    .into_iter()
    .map(|(name, field_path)| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path }),
            ..EnvVarSource::default()
        }),
    })
    .chain(extra)
    .collect()
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort { name: Some(name.to_owned()), container_port: number, ..ContainerPort::default() }
}

const fn pull_policy(policy: Option<PullPolicy>) -> &'static str {
    match policy {
        Some(PullPolicy::Always) => "Always",
        Some(PullPolicy::Never) => "Never",
        Some(PullPolicy::IfNotPresent) | None => "IfNotPresent",
    }
}

fn amounts<'a>(of: impl IntoIterator<Item = (&'a str, String)>) -> BTreeMap<String, Quantity> {
    of.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect()
}

fn resources(wanted: Option<&Resources>) -> ResourceRequirements {
    let written = |map: &BTreeMap<String, crate::api::ResourceAmount>| {
        amounts(map.iter().map(|(name, amount)| {
            let text = match &amount.0 {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text.clone(),
            };
            (name.as_str(), text)
        }))
    };
    match wanted {
        None => ResourceRequirements {
            requests: Some(amounts([("cpu", "100m".to_owned()), ("memory", "256Mi".to_owned())])),
            ..ResourceRequirements::default()
        },
        Some(wanted) => ResourceRequirements {
            requests: Some(written(&wanted.requests)),
            limits: Some(written(&wanted.limits)),
            ..ResourceRequirements::default()
        },
    }
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

/// What the Pod Security Standard `restricted` asks of a container, and a root that is not written.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
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

fn tcp_metrics() -> TCPSocketAction {
    TCPSocketAction { host: None, port: IntOrString::Int(METRICS_PORT) }
}

/// Generous: a long WAL is replayed, or a snapshot received, before the port opens.
fn startup_probe() -> Probe {
    Probe {
        tcp_socket: Some(tcp_metrics()),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        failure_threshold: Some(3600),
        ..Probe::default()
    }
}

/// TCP only: `/livez` blocks through a whole defragmentation (10 to 15 s at 1.4 GB), and anything that
/// needs quorum would restart all members when quorum is lost.
fn liveness_probe() -> Probe {
    Probe {
        tcp_socket: Some(tcp_metrics()),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Probe::default()
    }
}

/// `/readyz` came with 3.5.11. NOSPACE does not make a member unready: reads answer, and a load
/// balancer without members would hide what is wrong.
fn readiness_probe(version: EtcdVersion) -> Probe {
    let path = if version < EtcdVersion::new(3, 5, 11) { "/health?exclude=NOSPACE" } else { "/readyz" };
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(METRICS_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(1),
        timeout_seconds: Some(3),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}
