//! The etcd container of a member: its flags, its environment, its probes.

use super::certificates;
use crate::api::{AutoCompactionMode, EtcdClusterSpec, PullPolicy, Resources, labels};
use crate::cluster::names::headless_service;
use crate::cluster::spec::Desired;
use crate::cluster::wire::Wire;
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

pub(super) const ENV_MEMBER: &str = "QUORATE_MEMBER";
const ENV_INITIAL_CLUSTER: &str = "QUORATE_INITIAL_CLUSTER";
const ENV_INITIAL_CLUSTER_STATE: &str = "QUORATE_INITIAL_CLUSTER_STATE";
const ENV_INITIAL_CLUSTER_TOKEN: &str = "QUORATE_INITIAL_CLUSTER_TOKEN";

/// The etcd container of a member, at a version from this image.
#[allow(clippy::too_many_arguments, reason = "all that a rendering is made of")]
pub fn etcd(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    version: EtcdVersion,
    image: &str,
    flags: &BTreeMap<String, String>,
    wire: Wire,
) -> Container {
    let pod = spec.pod.as_ref();
    let mut args = args(namespace, cluster, spec, desired, wire);
    args.extend(certificates::flags(namespace, cluster, version, wire));
    args.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
    let mut volume_mounts =
        vec![VolumeMount { name: VOLUME.to_owned(), mount_path: MOUNT.to_owned(), ..VolumeMount::default() }];
    volume_mounts.extend(certificates::mounts(wire));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(
            pull_policy(spec.image.as_ref().and_then(|image| image.pull_policy)).to_owned(),
        ),
        command: Some(vec![COMMAND.to_owned()]),
        args: Some(args),
        env: Some(env(wire, pod.map(|pod| pod.env.as_slice()).unwrap_or_default())),
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
        volume_mounts: Some(volume_mounts),
        ..Container::default()
    }
}

/// Where other members reach a host.
pub fn peer_url(wire: Wire, host: &str) -> String {
    format!("{}://{host}:{PEER_PORT}", wire.scheme())
}

/// Where clients reach a host.
pub fn client_url(wire: Wire, host: &str) -> String {
    format!("{}://{host}:{CLIENT_PORT}", wire.scheme())
}

fn args(
    namespace: &str,
    cluster: &str,
    spec: &EtcdClusterSpec,
    desired: &Desired,
    wire: Wire,
) -> Vec<String> {
    let host = format!("$({ENV_MEMBER}).{}.{namespace}.svc", headless_service(cluster));
    // Go listens on IPv4 and IPv6 alike for the IPv4 wildcard, and starts where IPv6 is switched off,
    // which it does not for `[::]`.
    let any = "0.0.0.0";
    let scheme = wire.scheme();
    let mut args = vec![
        format!("--name=$({ENV_MEMBER})"),
        format!("--data-dir={DATA_DIR}"),
        format!("--listen-peer-urls={scheme}://{any}:{PEER_PORT}"),
        format!("--listen-client-urls={scheme}://{any}:{CLIENT_PORT}"),
        format!("--listen-metrics-urls=http://{any}:{METRICS_PORT}"),
        format!("--initial-advertise-peer-urls={}", peer_url(wire, &host)),
        format!("--advertise-client-urls={}", client_url(wire, &host)),
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
    args
}

/// The quota that a container was rendered with, in bytes.
pub fn quota_of<'a>(args: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    args.into_iter().find_map(|arg| arg.strip_prefix(QUOTA)?.parse().ok())
}

fn env(wire: Wire, extra: &[EnvVar]) -> Vec<EnvVar> {
    let annotation = |key: &str| format!("metadata.annotations['{key}']");
    [
        (ENV_MEMBER, "metadata.name".to_owned()),
        (ENV_INITIAL_CLUSTER, annotation(labels::INITIAL_CLUSTER)),
        (ENV_INITIAL_CLUSTER_STATE, annotation(labels::INITIAL_CLUSTER_STATE)),
        (ENV_INITIAL_CLUSTER_TOKEN, annotation(labels::INITIAL_CLUSTER_TOKEN)),
    ]
    .into_iter()
    .map(|(name, field_path)| from_field(name, field_path))
    .chain(certificates::for_etcdctl(wire).filter(|own| extra.iter().all(|given| given.name != own.name)))
    .chain(extra.iter().cloned())
    .collect()
}

/// A variable that the kubelet reads from a field of the Pod at each start.
pub(super) fn from_field(name: &str, field_path: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path }),
            ..EnvVarSource::default()
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::rendered;
    use crate::etcd::versions::is_owned_flag;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn container(said: &str) -> Container {
        rendered(&format!("{{version: 3.6.16, {said}}}")).template.spec.unwrap().containers.remove(0)
    }

    fn args(said: &str) -> Vec<String> {
        container(said).args.unwrap()
    }

    #[test]
    fn etcd_is_started_with_these_flags_and_no_other() {
        let host = "$(QUORATE_MEMBER).db.prod.svc";
        assert_eq!(container("").command.unwrap(), ["/usr/local/bin/etcd"]);
        assert_eq!(
            args(""),
            [
                "--name=$(QUORATE_MEMBER)",
                "--data-dir=/var/lib/etcd/data",
                "--listen-peer-urls=http://0.0.0.0:2380",
                "--listen-client-urls=http://0.0.0.0:2379",
                "--listen-metrics-urls=http://0.0.0.0:2381",
                &format!("--initial-advertise-peer-urls=http://{host}:2380"),
                &format!("--advertise-client-urls=http://{host}:2379"),
                "--initial-cluster=$(QUORATE_INITIAL_CLUSTER)",
                "--initial-cluster-state=$(QUORATE_INITIAL_CLUSTER_STATE)",
                "--initial-cluster-token=$(QUORATE_INITIAL_CLUSTER_TOKEN)",
                "--quota-backend-bytes=4026531840",
                "--heartbeat-interval=100",
                "--election-timeout=1000",
            ]
        );
    }

    #[rstest]
    #[case::quota("quotaBackendBytes: 4Gi", &["--quota-backend-bytes=4294967296"])]
    #[case::timing(
        "heartbeatInterval: 250ms, electionTimeout: 2s500ms",
        &["--heartbeat-interval=250", "--election-timeout=2500"]
    )]
    #[case::snapshots("snapshotCount: 5000", &["--snapshot-count=5000"])]
    #[case::by_age(
        "autoCompaction: {mode: Periodic, retention: 1h}",
        &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1h"]
    )]
    #[case::by_revisions(
        "autoCompaction: {mode: Revision, retention: '1000'}",
        &["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"]
    )]
    #[case::gate("featureGates: {InitialCorruptCheck: true}", &["--feature-gates=InitialCorruptCheck=true"])]
    #[case::ones_own_after_all_others(
        "snapshotCount: 5000, extraArgs: {metrics: extensive, auth-token-ttl: '60'}",
        &["--snapshot-count=5000", "--auth-token-ttl=60", "--metrics=extensive"]
    )]
    fn a_setting_becomes_its_flag(#[case] etcd: &str, #[case] flags: &[&str]) {
        let (before, told) = (args(""), args(&format!("etcd: {{{etcd}}}")));
        let new: Vec<&String> = told.iter().filter(|arg| !before.contains(arg)).collect();
        assert_eq!(new, flags);
    }

    /// Else one of `extraArgs` would stand behind it, and etcd takes the last.
    #[test]
    fn every_flag_of_the_operators_is_kept_from_the_users() {
        let own = "snapshotCount: 5000, autoCompaction: {mode: Periodic, retention: 1h}";
        let told = args(&format!("etcd: {{{own}, extraArgs: {{auth-token-ttl: '60'}}}}"));
        let is_free = |arg: &&String| is_owned_flag(arg[2..].split('=').next().unwrap()).is_none();
        assert_eq!(told.iter().filter(is_free).collect::<Vec<_>>(), ["--auth-token-ttl=60"]);
        assert_eq!(told.last().unwrap(), "--auth-token-ttl=60");
    }

    #[test]
    fn the_quota_is_read_back_from_where_it_was_written() {
        let written = args("etcd: {quotaBackendBytes: 4Gi}");
        assert_eq!(quota_of(written.iter().map(String::as_str)), Some(4 << 30));
        assert_eq!(quota_of(["--name=db-0"]), None);
    }

    #[rstest]
    #[case("3.5.0", "/health?exclude=NOSPACE")]
    #[case("3.5.10", "/health?exclude=NOSPACE")]
    #[case("3.5.11", "/readyz")]
    #[case("3.7.3", "/readyz")]
    fn readiness_asks_what_the_version_knows(#[case] version: &str, #[case] path: &str) {
        let revision = rendered(&format!("version: {version}"));
        let container = &revision.template.spec.unwrap().containers[0];
        assert_eq!(json!(container.readiness_probe)["httpGet"], json!({ "path": path, "port": 2381 }));
    }

    #[rstest]
    #[case("startupProbe", 3600)]
    #[case("livenessProbe", 60)]
    fn only_a_port_that_stays_shut_restarts_a_member(#[case] probe: &str, #[case] seconds: i64) {
        let probe = json!(container(""))[probe].clone();
        let number = |field: &str| probe[field].as_i64().unwrap();
        assert_eq!(number("periodSeconds") * number("failureThreshold"), seconds);
        assert_eq!(probe["tcpSocket"], json!({ "port": 2381 }));
        assert_eq!(probe.get("httpGet").or(probe.get("exec")), None);
    }

    #[rstest]
    #[case::of_the_version("", "gcr.io/etcd-development/etcd:v3.6.16", "IfNotPresent")]
    #[case::mirror("image: {repository: m/etcd, pullPolicy: Always}", "m/etcd:v3.6.16", "Always")]
    #[case::digest(
        "image: {repository: m/etcd, pullPolicy: Never, overrides: [{version: 3.6.16, digest: 'sha256:ab'}]}",
        "m/etcd:v3.6.16@sha256:ab",
        "Never"
    )]
    fn runs_the_image(#[case] said: &str, #[case] image: &str, #[case] policy: &str) {
        let container = container(said);
        assert_eq!(container.image.as_deref(), Some(image));
        assert_eq!(container.image_pull_policy.as_deref(), Some(policy));
    }

    #[rstest]
    #[case::defaults("", json!({ "requests": { "cpu": "100m", "memory": "256Mi" } }))]
    #[case::ones_own(
        "pod: {resources: {requests: {cpu: 2, memory: 1Gi}, limits: {memory: 2Gi}}}",
        json!({ "requests": { "cpu": "2", "memory": "1Gi" }, "limits": { "memory": "2Gi" } })
    )]
    fn has_the_resources(#[case] said: &str, #[case] wanted: Value) {
        assert_eq!(json!(container(said).resources), wanted);
    }

    #[test]
    fn ones_own_variables_stand_behind_the_four_of_the_operator() {
        let env = json!(container("pod: {env: [{name: GOMAXPROCS, value: '2'}]}").env);
        assert_eq!(env[4], json!({ "name": "GOMAXPROCS", "value": "2" }));
    }

    #[test]
    fn only_the_volume_is_written_and_a_failure_leaves_its_words() {
        let container = json!(container(""));
        assert_eq!(container["volumeMounts"], json!([{ "name": "data", "mountPath": "/var/lib/etcd" }]));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], json!(true));
        assert_eq!(container["terminationMessagePolicy"], json!("FallbackToLogsOnError"));
        assert_eq!(
            container["ports"],
            json!([{ "name": "client", "containerPort": 2379 }, { "name": "peer", "containerPort": 2380 },
                { "name": "metrics", "containerPort": 2381 }])
        );
    }
}
