//! The etcd container of a member: its flags, its environment, its probes.

use crate::api::{AutoCompactionMode, EtcdClusterSpec, PullPolicy, Resources, labels};
use crate::cluster::names::headless_service;
use crate::cluster::spec::Desired;
use crate::etcd::EtcdVersion;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Probe,
    ResourceRequirements, SecurityContext, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
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
/// The name of the volume with the data.
pub const VOLUME: &str = "data";
pub(super) const MOUNT: &str = "/var/lib/etcd";
/// A subdirectory: etcd wants it 0700 and its own, and the root of a volume may hold `lost+found`.
pub(super) const DATA_DIR: &str = "/var/lib/etcd/data";
/// Distroless images have CMD and no ENTRYPOINT, so `args` alone would be run as a program.
const COMMAND: &str = "/usr/local/bin/etcd";

const QUOTA: &str = "--quota-backend-bytes=";

const ENV_MEMBER: &str = "QUORATE_MEMBER";
const ENV_INITIAL_CLUSTER: &str = "QUORATE_INITIAL_CLUSTER";
const ENV_INITIAL_CLUSTER_STATE: &str = "QUORATE_INITIAL_CLUSTER_STATE";
const ENV_INITIAL_CLUSTER_TOKEN: &str = "QUORATE_INITIAL_CLUSTER_TOKEN";

/// The etcd container of a member, at a version from this image.
pub fn etcd(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
    image: &str,
    flags: &BTreeMap<String, String>,
) -> Container {
    let pod = spec.pod.as_ref();
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(
            pull_policy(spec.image.as_ref().and_then(|image| image.pull_policy)).to_owned(),
        ),
        command: Some(vec![COMMAND.to_owned()]),
        args: Some(args(namespace, cluster, spec, desired, flags)),
        env: Some(env(pod.map(|pod| pod.env.clone()).unwrap_or_default())),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ]),
        resources: Some(resources(pod.and_then(|pod| pod.resources.as_ref()))),
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
    }
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
        format!("{QUOTA}{}", desired.quota_bytes),
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

/// The quota that a container was rendered with, in bytes.
pub fn quota_of(args: &[String]) -> Option<u64> {
    args.iter().find_map(|arg| arg.strip_prefix(QUOTA)?.parse().ok())
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

/// What the Pod Security Standard `restricted` asks of a container, and a root that is not written.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
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
