//! The spec, parsed once into values that cannot be wrong. Pure.
//!
//! The API server's schema refuses most of what is refused here; a schema can be bypassed (an older
//! CRD, a lost validation), and the planner must not depend on it.

use super::notice::Notice;
use super::windows::Window;
use crate::api::qualified;
use crate::api::reserved::{
    CLIENT_SERVICE_ANNOTATIONS, CLIENT_SERVICE_LABELS, POD_ANNOTATIONS, POD_ENV, POD_LABELS, Reserved,
};
use crate::api::{
    Approval, AutoCompaction, AutoCompactionMode, Code, DefragmentationMode, EmptyDir, EtcdClusterSpec,
    HealMode, Hops, Quantity, Retention, RolloutSpec,
};
use crate::etcd::EtcdVersion;
use crate::etcd::versions::{FEATURE_GATES, FlagError, is_owned_flag, translate};
use crate::pki::Names;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const GIB: u64 = 1 << 30;
const DEFAULT_REPOSITORY: &str = "gcr.io/etcd-development/etcd";
const DEFAULT_STORAGE: &str = "8Gi";

/// What the spec asks for, with defaults.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The version to run.
    pub version: EtcdVersion,
    /// How many members.
    pub replicas: u32,
    /// The size of each member's volume.
    pub storage_size: Quantity,
    /// `--quota-backend-bytes`.
    pub quota_bytes: u64,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// How long a member may make no progress.
    pub member_deadline: Duration,
    /// Whether a cluster of one may change its minor.
    pub allow_downtime: bool,
    /// How far one edit of the version may go.
    pub hops: Hops,
    /// Whether members are only healed.
    pub rollout_paused: bool,
    /// Whether a change waits for a person.
    pub approval: Approval,
    /// Whether a member whose data is gone is replaced without a person's word.
    pub heal_mode: HealMode,
    /// Whether databases are defragmented.
    pub defragmentation: DefragmentationMode,
    /// For how long a node may be lost before its member is.
    pub node_lost_after: Duration,
    /// How long the volume of a member that was replaced is kept.
    pub quarantine: Duration,
    /// When a change may begin; at any time where there is none.
    pub windows: Vec<Window>,
}

/// How long certificates hold.
#[derive(Clone, Copy, Debug)]
pub struct CertificateTimes {
    /// For how long a new one does.
    pub duration: Duration,
    /// How long before its end one is made anew; a third of its time where nothing is said.
    pub renew_before: Option<Duration>,
}

/// Parses the spec.
///
/// # Errors
/// Every field that can never work, each with its remedy.
#[allow(clippy::too_many_lines, reason = "field after field, with nothing in common")]
pub fn parse(spec: &EtcdClusterSpec) -> Result<Desired, Vec<Notice>> {
    let mut wrong = Vec::new();
    let mut refuse =
        |message: String, remedy: String| wrong.push(Notice::new(Code::InvalidSpec, message, remedy));

    let version = spec.version.parse::<EtcdVersion>().map_err(|error| {
        refuse(format!("spec.version: {error}"), "set spec.version to a release such as 3.6.16".to_owned());
    });
    if !matches!(spec.replicas, 1 | 3 | 5 | 7) {
        refuse(
            format!("spec.replicas is {}", spec.replicas),
            "set spec.replicas to 1, 3, 5 or 7: an even number tolerates no more failures".to_owned(),
        );
    }

    let storage_size = storage_size(spec);
    let storage_bytes = storage_size.bytes().unwrap_or_default();
    if storage_bytes < 64 << 20 {
        refuse(
            format!("spec.storage.size is {:?}", storage_size.as_str()),
            "set it to a quantity of at least 64Mi, e.g. 8Gi".to_owned(),
        );
    }

    let etcd = spec.etcd.clone().unwrap_or_default();
    let quota_bytes = match &etcd.quota_backend_bytes {
        None => default_quota(storage_bytes),
        Some(quantity) => match quantity.bytes() {
            Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => bytes,
            _ => {
                refuse(
                    format!("spec.etcd.quotaBackendBytes is {:?}", quantity.as_str()),
                    "set it to a quantity such as 4Gi".to_owned(),
                );
                0
            }
        },
    };

    let mut span = |field: &str, value: Option<&crate::api::Duration>, default: Duration| match value {
        None => default,
        Some(text) => text.get().filter(|span| !span.is_zero()).unwrap_or_else(|| {
            refuse(
                format!("{field} is {:?}", text.as_str()),
                format!("set {field} to a duration such as 100ms, 5s or 5m"),
            );
            default
        }),
    };
    let heartbeat =
        span("spec.etcd.heartbeatInterval", etcd.heartbeat_interval.as_ref(), Duration::from_millis(100));
    let election_timeout =
        span("spec.etcd.electionTimeout", etcd.election_timeout.as_ref(), Duration::from_secs(1));
    let rollout = spec.rollout.clone().unwrap_or_default();
    let member_deadline =
        span("spec.rollout.memberDeadline", rollout.member_deadline.as_ref(), Duration::from_mins(5));

    let quarantine = spec.storage.as_ref().and_then(|storage| storage.quarantine.as_ref());
    let quarantine = span("spec.storage.quarantine", quarantine, Duration::from_hours(168));

    let node_lost_after = spec.heal.as_ref().and_then(|heal| heal.node_lost_after.as_ref());
    let node_lost_after = span("spec.heal.nodeLostAfter", node_lost_after, Duration::from_mins(5));

    // etcd itself exits when the timeout is below five heartbeats or above 50 s:
    // https://github.com/etcd-io/etcd/blob/v3.6.16/server/embed/config.go (Validate)
    if election_timeout < heartbeat * 5 || election_timeout > Duration::from_secs(50) {
        refuse(
            format!(
                "spec.etcd.electionTimeout is {}ms with a heartbeat of {}ms; etcd wants at least five heartbeats and at most 50s",
                election_timeout.as_millis(),
                heartbeat.as_millis()
            ),
            format!(
                "set spec.etcd.electionTimeout to {}ms or more, or lower spec.etcd.heartbeatInterval",
                (heartbeat * 10).as_millis()
            ),
        );
    }
    wrong.extend(certificate_times(spec).1);
    let (windows, unreadable) = windows(&rollout);
    wrong.extend(unreadable);
    wrong.extend(etcd.auto_compaction.as_ref().and_then(unreadable_retention));
    wrong.extend(further_names(spec).err());
    wrong.extend(reserved_names(spec));
    wrong.extend(no_labels_or_annotations(spec));
    wrong.extend(nothing_but_pods(spec, storage_bytes, quota_bytes));

    match (version, wrong.is_empty()) {
        (Ok(version), true) => Ok(Desired {
            version,
            replicas: spec.replicas.unsigned_abs(),
            storage_size,
            quota_bytes,
            heartbeat,
            election_timeout,
            member_deadline,
            allow_downtime: rollout.allow_downtime.unwrap_or(false),
            hops: rollout.hops.unwrap_or_default(),
            rollout_paused: rollout.paused.unwrap_or(false),
            approval: rollout.approval.unwrap_or_default(),
            defragmentation: spec
                .maintenance
                .as_ref()
                .and_then(|maintenance| maintenance.defragmentation.as_ref()?.mode)
                .unwrap_or_default(),
            heal_mode: spec.heal.as_ref().and_then(|heal| heal.mode).unwrap_or_default(),
            node_lost_after,
            quarantine,
            windows,
        }),
        _ => Err(wrong),
    }
}

/// How long certificates hold, and what is wrong with what the spec says of it: then the defaults hold.
pub fn certificate_times(spec: &EtcdClusterSpec) -> (CertificateTimes, Option<Notice>) {
    const DURATION: &str = "spec.tls.certificates.duration";
    const RENEW_BEFORE: &str = "spec.tls.certificates.renewBefore";
    const DEFAULT: Duration = Duration::from_hours(2160);
    /// The kubelet brings a new one to the Pods within a minute or two.
    const SHOWN_WITHIN: Duration = Duration::from_mins(5);
    let said = spec.tls.as_ref().and_then(|tls| tls.certificates.clone()).unwrap_or_default();
    let read = |span: Option<crate::api::Duration>| span.map(|text| text.get().unwrap_or_default());
    let renew_before = read(said.renew_before);
    let duration = read(said.duration).unwrap_or(DEFAULT);
    let refuse = |message: String, remedy: String| Some(Notice::new(Code::InvalidSpec, message, remedy));
    let wrong = if duration < Duration::from_hours(1) {
        refuse(format!("{DURATION} is shorter than 1h"), format!("set {DURATION} to 1h or more, e.g. 2160h"))
    } else if renew_before.is_some_and(|before| before < SHOWN_WITHIN || before + SHOWN_WITHIN > duration) {
        refuse(
            format!("{RENEW_BEFORE} is not between 5m and {DURATION} less 5m"),
            format!("set {RENEW_BEFORE} to a part of {DURATION}, or remove it"),
        )
    } else {
        return (CertificateTimes { duration, renew_before }, None);
    };
    (CertificateTimes { duration: DEFAULT, renew_before: None }, wrong)
}

/// The names and addresses that the spec adds to what members show to clients.
///
/// # Errors
/// The first address that is none.
pub fn further_names(spec: &EtcdClusterSpec) -> Result<Names, Notice> {
    let Some(server) = spec.tls.as_ref().and_then(|tls| tls.server.as_ref()) else {
        return Ok(Names::default());
    };
    let ips = server.ip_addresses.iter().map(|ip| {
        ip.parse().map_err(|_| {
            Notice::new(
                Code::InvalidSpec,
                format!("spec.tls.server.ipAddresses names {ip:?}, which is no IP address"),
                "correct spec.tls.server.ipAddresses; names go to spec.tls.server.dnsNames",
            )
        })
    });
    if let Some(ip) = server.dns_names.iter().find(|name| name.parse::<IpAddr>().is_ok()) {
        return Err(Notice::new(
            Code::InvalidSpec,
            format!("spec.tls.server.dnsNames names {ip:?}, which is an IP address"),
            "move it to spec.tls.server.ipAddresses",
        ));
    }
    Ok(Names { dns: server.dns_names.iter().cloned().collect(), ips: ips.collect::<Result<_, _>>()? })
}

fn unreadable_retention(compaction: &AutoCompaction) -> Option<Notice> {
    let retention = &compaction.retention;
    let fits = match compaction.mode {
        AutoCompactionMode::Periodic => crate::api::Duration::new(retention.clone()).get().is_some(),
        AutoCompactionMode::Revision => retention.parse::<u32>().is_ok_and(|n| n > 0),
    };
    (!fits).then(|| {
        Notice::new(
            Code::InvalidSpec,
            format!("spec.etcd.autoCompaction.retention is {retention:?}"),
            "write a duration such as 1h for mode Periodic, a number for mode Revision",
        )
    })
}

/// The maintenance windows, and what of them cannot be read.
fn windows(rollout: &RolloutSpec) -> (Vec<Window>, Vec<Notice>) {
    let (mut windows, mut wrong) = (Vec::new(), Vec::new());
    for (number, window) in rollout.windows.iter().enumerate() {
        match Window::parse(window) {
            Ok(window) => windows.push(window),
            Err((field, why)) => wrong.push(Notice::new(
                Code::InvalidSpec,
                format!("spec.rollout.windows[{number}].{field}: {why}"),
                format!("correct spec.rollout.windows[{number}].{field}"),
            )),
        }
    }
    (windows, wrong)
}

/// Names and values that the spec gives to objects, with the field that gives them.
type Given<'a> = Vec<(Reserved, &'a BTreeMap<String, String>)>;

fn given_labels(spec: &EtcdClusterSpec) -> Given<'_> {
    let of_pods = spec.pod.iter().map(|pod| (POD_LABELS, &pod.labels));
    let client = spec.services.iter().filter_map(|services| services.client.as_ref());
    of_pods.chain(client.map(|client| (CLIENT_SERVICE_LABELS, &client.labels))).collect()
}

fn given_annotations(spec: &EtcdClusterSpec) -> Given<'_> {
    let of_pods = spec.pod.iter().map(|pod| (POD_ANNOTATIONS, &pod.annotations));
    let client = spec.services.iter().filter_map(|services| services.client.as_ref());
    of_pods.chain(client.map(|client| (CLIENT_SERVICE_ANNOTATIONS, &client.annotations))).collect()
}

/// Names that the operator keeps for itself, where the spec sets one.
fn reserved_names(spec: &EtcdClusterSpec) -> Vec<Notice> {
    let (labels, annotations) = (given_labels(spec), given_annotations(spec));
    let of_objects = labels.iter().chain(&annotations);
    let of_objects = of_objects.map(|(reserved, given)| (*reserved, reserved.first_of(given.keys())));
    let env = spec.pod.iter().flat_map(|pod| &pod.env).map(|variable| &variable.name);
    let names = of_objects.chain([(POD_ENV, POD_ENV.first_of(env))]);
    let names = names.filter_map(|(reserved, taken)| {
        let message = format!("{} (it sets {})", reserved.message(), taken?);
        Some(Notice::new(Code::InvalidSpec, message, format!("in {}, {}", reserved.field, reserved.remedy)))
    });
    let flags = spec.etcd.iter().flat_map(|etcd| etcd.extra_args.keys()).filter_map(|flag| {
        Some(Notice::new(
            Code::InvalidSpec,
            format!("spec.etcd.extraArgs names {flag}, which is not free: {}", is_owned_flag(flag)?),
            format!("remove {flag} from spec.etcd.extraArgs"),
        ))
    });
    names.chain(flags).collect()
}

/// Labels and annotations that Kubernetes would refuse with each object that carries them.
fn no_labels_or_annotations(spec: &EtcdClusterSpec) -> Vec<Notice> {
    let none_of_labels = given_labels(spec).into_iter().filter_map(|(reserved, all)| {
        Some((reserved.field, all.iter().find_map(|(name, value)| qualified::no_label(name, value))?))
    });
    let none_of_annotations = given_annotations(spec).into_iter().filter_map(|(reserved, all)| {
        let too_much = || (!qualified::fit_on_an_object(all)).then(|| "is larger than 240 KiB".to_owned());
        Some((reserved.field, all.keys().find_map(|name| qualified::no_annotation(name)).or_else(too_much)?))
    });
    none_of_labels
        .chain(none_of_annotations)
        .map(|(field, why)| {
            Notice::new(Code::InvalidSpec, format!("{field}: {why}"), format!("correct {field}"))
        })
        .collect()
}

/// The quota that follows from the size which the spec says of the volumes; nothing where it says none, or a quota.
pub fn quota_of_the_volume(spec: &EtcdClusterSpec) -> Option<u64> {
    let is_said = spec.etcd.as_ref().is_some_and(|etcd| etcd.quota_backend_bytes.is_some());
    let size = spec.storage.as_ref()?.size.as_ref().filter(|_| !is_said)?;
    size.bytes().map(default_quota)
}

/// A defragmentation writes a second copy of the database, and the WAL wants room: so less than half
/// of the volume, and never more than etcd's own recommended maximum.
/// <https://etcd.io/docs/v3.6/dev-guide/limit/#storage-size-limit>
fn default_quota(storage_bytes: u64) -> u64 {
    let room = storage_bytes.saturating_sub(GIB / 2).max(storage_bytes / 4) / 2;
    room.min(8 * GIB) >> 20 << 20
}

/// The flags of `spec.etcd.extraArgs` and `spec.etcd.featureGates`, as a version takes them.
///
/// # Errors
/// The first flag or gate that the version would not start with.
pub fn flags(spec: &EtcdClusterSpec, version: EtcdVersion) -> Result<BTreeMap<String, String>, FlagError> {
    let Some(etcd) = &spec.etcd else { return Ok(BTreeMap::new()) };
    let mut args = etcd.extra_args.clone();
    if !etcd.feature_gates.is_empty() {
        let mut gates: Vec<String> = args.get(FEATURE_GATES).cloned().into_iter().collect();
        gates.extend(etcd.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")));
        args.insert(FEATURE_GATES.to_owned(), gates.join(","));
    }
    translate(&args, version)
}

/// The image of a version.
pub fn image_of(spec: &EtcdClusterSpec, version: EtcdVersion) -> String {
    let image = spec.image.clone().unwrap_or_default();
    let repository = image.repository.as_deref().unwrap_or(DEFAULT_REPOSITORY);
    let chosen = image.overrides.iter().find(|over| over.version.parse::<EtcdVersion>() == Ok(version));
    let tag = chosen.and_then(|over| over.tag.clone()).unwrap_or_else(|| format!("v{version}"));
    match chosen.and_then(|over| over.digest.as_deref()) {
        Some(digest) => format!("{repository}:{tag}@{digest}"),
        None => format!("{repository}:{tag}"),
    }
}

/// The size of new volumes.
pub fn storage_size(spec: &EtcdClusterSpec) -> Quantity {
    let size = spec.storage.as_ref().and_then(|storage| storage.size.clone());
    size.unwrap_or_else(|| Quantity::new(DEFAULT_STORAGE))
}

/// Whether members keep their data in their Pods, and have no volumes.
pub fn keeps_data_in_pods(spec: &EtcdClusterSpec) -> bool {
    empty_dir(spec).is_some()
}

/// What members keep their data in, where that is in their Pods.
pub fn empty_dir(spec: &EtcdClusterSpec) -> Option<&EmptyDir> {
    spec.storage.as_ref()?.empty_dir.as_ref()
}

/// Fields that say something of volumes, where there are none; and a single member, which could not be replaced.
fn nothing_but_pods(spec: &EtcdClusterSpec, limit: u64, quota: u64) -> Vec<Notice> {
    let Some(storage) = spec.storage.as_ref().filter(|storage| storage.empty_dir.is_some()) else {
        return Vec::new();
    };
    let of_volumes = [
        ("storageClassName", storage.storage_class_name.is_some()),
        ("retentionPolicy", storage.retention_policy.is_some()),
        ("quarantine", storage.quarantine.is_some()),
    ];
    let said = of_volumes.into_iter().filter(|(_, is_said)| *is_said).map(|(field, _)| {
        Notice::new(
            Code::InvalidSpec,
            format!("spec.storage.{field} is set, and with spec.storage.emptyDir there are no volumes"),
            format!("remove spec.storage.{field}"),
        )
    });
    let alone = (spec.replicas == 1).then(|| {
        Notice::new(
            Code::InvalidSpec,
            "spec.replicas is 1 with spec.storage.emptyDir: one member could never be restarted without the loss of all data",
            "set spec.replicas to 3 or more, or make an EtcdCluster without spec.storage.emptyDir",
        )
    });
    let too_much = (quota > limit / 2).then(|| {
        Notice::new(
            Code::InvalidSpec,
            format!(
                "spec.etcd.quotaBackendBytes is more than half of spec.storage.size, at which the kubelet evicts a Pod with its \
                 data (emptyDir): {quota} of {limit} bytes"
            ),
            "lower spec.etcd.quotaBackendBytes, or raise spec.storage.size",
        )
    });
    said.chain(alone).chain(too_much).collect()
}

/// Whether the volumes go with the `EtcdCluster`.
pub fn deletes_volumes(spec: &EtcdClusterSpec) -> bool {
    let policy = spec.storage.as_ref().and_then(|storage| storage.retention_policy.as_ref());
    policy.and_then(|policy| policy.when_deleted) == Some(Retention::Delete)
}

/// Whether the volume of a member that is scaled in is kept.
pub fn keeps_volumes_when_scaled(spec: &EtcdClusterSpec) -> bool {
    let policy = spec.storage.as_ref().and_then(|storage| storage.retention_policy.as_ref());
    policy.and_then(|policy| policy.when_scaled) == Some(Retention::Retain)
}

/// The class of new volumes; nothing means the default one.
pub fn storage_class(spec: &EtcdClusterSpec) -> Option<&str> {
    spec.storage.as_ref()?.storage_class_name.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn spec(yaml: &str) -> EtcdClusterSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn defaults_are_safe() {
        let desired = parse(&spec("version: 3.6.16")).unwrap();
        assert_eq!(desired.replicas, 3);
        assert_eq!(desired.quota_bytes, (8 * GIB - GIB / 2) / 2);
        assert_eq!(desired.election_timeout, Duration::from_secs(1));
        assert_eq!(desired.member_deadline, Duration::from_mins(5));
        assert!(!desired.allow_downtime);
    }

    #[rstest]
    #[case("{version: latest}", "spec.version")]
    #[case("{version: 3.6.0-rc.1}", "pre-release")]
    #[case("{version: 3.6.16, replicas: 2}", "spec.replicas")]
    #[case("{version: 3.6.16, replicas: -1}", "spec.replicas")]
    #[case("{version: 3.6.16, storage: {size: lots}}", "spec.storage.size")]
    #[case("{version: 3.6.16, etcd: {quotaBackendBytes: 0}}", "quotaBackendBytes")]
    #[case("{version: 3.6.16, etcd: {heartbeatInterval: 1s}}", "electionTimeout")]
    #[case("{version: 3.6.16, etcd: {electionTimeout: 2m}}", "electionTimeout")]
    #[case("{version: 3.6.16, etcd: {extraArgs: {data-dir: /tmp}}}", "data-dir")]
    #[case("{version: 3.6.16, etcd: {autoCompaction: {mode: Revision, retention: 1h}}}", "autoCompaction")]
    #[case("{version: 3.6.16, rollout: {memberDeadline: 0s}}", "memberDeadline")]
    #[case("{version: 3.6.16, replicas: 1, storage: {emptyDir: {}}}", "spec.replicas")]
    #[case("{version: 3.6.16, storage: {emptyDir: {}, storageClassName: fast}}", "storageClassName")]
    #[case("{version: 3.6.16, storage: {emptyDir: {}, retentionPolicy: {}}}", "retentionPolicy")]
    #[case("{version: 3.6.16, storage: {emptyDir: {medium: Memory}, quarantine: 1h}}", "quarantine")]
    #[case(
        "{version: 3.6.16, storage: {emptyDir: {}, size: 2Gi}, etcd: {quotaBackendBytes: 2Gi}}",
        "quotaBackendBytes"
    )]
    #[case("{version: 3.6.16, pod: {labels: {team: the best}}}", "spec.pod.labels")]
    #[case("{version: 3.6.16, pod: {annotations: {a note: x}}}", "spec.pod.annotations")]
    #[case("{version: 3.6.16, services: {client: {labels: {/a: x}}}}", "spec.services.client.labels")]
    #[case(
        "{version: 3.6.16, services: {client: {annotations: {a/b/c: x}}}}",
        "spec.services.client.annotations"
    )]
    #[case("{version: 3.6.16, rollout: {windows: [{schedule: daily, duration: 4h}]}}", "windows[0].schedule")]
    #[case(
        "{version: 3.6.16, rollout: {windows: [{schedule: '0 2 * * *', duration: 4h, timeZone: Mars}]}}",
        "windows[0].timeZone"
    )]
    #[case("{version: 3.6.16, pod: {labels: {quorate.dev/role: x}}}", "spec.pod.labels")]
    #[case("{version: 3.6.16, pod: {labels: {app.kubernetes.io/name: x}}}", "app.kubernetes.io/name")]
    #[case("{version: 3.6.16, pod: {annotations: {quorate.dev/revision: x}}}", "spec.pod.annotations")]
    #[case("{version: 3.6.16, pod: {env: [{name: A, value: b}, {name: ETCD_NAME, value: x}]}}", "ETCD_NAME")]
    #[case("{version: 3.6.16, pod: {env: [{name: QUORATE_MEMBER, value: x}]}}", "spec.pod.env")]
    #[case(
        "{version: 3.6.16, services: {client: {labels: {quorate.dev/x: y}}}}",
        "spec.services.client.labels"
    )]
    #[case(
        "{version: 3.6.16, services: {client: {annotations: {quorate.dev/applied: y}}}}",
        "quorate.dev/applied"
    )]
    fn refuses_and_names_the_field(#[case] yaml: &str, #[case] names: &str) {
        let refusals = parse(&spec(yaml)).unwrap_err();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(refusals[0].code, Code::InvalidSpec);
        assert!(refusals[0].message.contains(names), "{:?}", refusals[0]);
        assert!(!refusals[0].remedy.is_empty());
    }

    #[test]
    fn names_of_ones_own_are_free() {
        let own = "{version: 3.6.16, pod: {labels: {example.org/quorate.dev: x}, env: [{name: GOMAXPROCS, value: '2'}],
            annotations: {app.kubernetes.io/x: y}}, services: {client: {annotations: {lb: internal}}}}";
        assert!(parse(&spec(own)).is_ok());
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(parse(&spec("{version: x, replicas: 0}")).unwrap_err().len(), 2);
    }

    #[rstest]
    #[case("{version: 3.6.16}", "3.6.16", "")]
    #[case(
        "{version: 3.5.35, etcd: {featureGates: {InitialCorruptCheck: true}}}",
        "3.5.35",
        "experimental-initial-corrupt-check=true"
    )]
    #[case(
        "{version: 3.7.3, etcd: {featureGates: {InitialCorruptCheck: true, LeaseCheckpoint: false}}}",
        "3.7.3",
        "feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=false"
    )]
    #[case(
        "{version: 3.6.16, etcd: {featureGates: {LeaseCheckpoint: true}, \
        extraArgs: {feature-gates: 'InitialCorruptCheck=true', experimental-stop-grpc-service-on-defrag: 'true'}}}",
        "3.6.16",
        "feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=true,StopGRPCServiceOnDefrag=true"
    )]
    #[case(
        "{version: 3.7.3, etcd: {extraArgs: {experimental-corrupt-check-time: 1h, max-txn-ops: '256'}}}",
        "3.7.3",
        "corrupt-check-time=1h max-txn-ops=256"
    )]
    fn flags_are_those_of_the_version(#[case] yaml: &str, #[case] version: &str, #[case] wanted: &str) {
        let flags = flags(&spec(yaml), version.parse().unwrap()).unwrap();
        let text: Vec<String> = flags.iter().map(|(flag, value)| format!("{flag}={value}")).collect();
        assert_eq!(text.join(" "), wanted);
    }

    #[test]
    fn one_gate_in_two_places_must_be_the_same() {
        let yaml = "{version: 3.7.3, etcd: {featureGates: {LeaseCheckpoint: true}, \
                    extraArgs: {feature-gates: 'LeaseCheckpoint=false'}}}";
        assert!(flags(&spec(yaml), EtcdVersion::new(3, 7, 3)).is_err());
    }

    #[rstest]
    #[case("{version: 3.6.16}", "gcr.io/etcd-development/etcd:v3.6.16")]
    #[case("{version: 3.6.16, image: {repository: 'mirror:5000/etcd'}}", "mirror:5000/etcd:v3.6.16")]
    #[case(
        "{version: 3.6.16, image: {repository: r/etcd, overrides: [{version: v3.6.16, tag: 3.6.16-0}]}}",
        "r/etcd:3.6.16-0"
    )]
    #[case(
        "{version: 3.6.16, image: {repository: r/etcd, overrides: [{version: 3.6.16, digest: 'sha256:ab'}]}}",
        "r/etcd:v3.6.16@sha256:ab"
    )]
    #[case(
        "{version: 3.6.16, image: {repository: r/etcd, overrides: [{version: 3.5.9, tag: x}]}}",
        "r/etcd:v3.6.16"
    )]
    fn chooses_the_image(#[case] yaml: &str, #[case] image: &str) {
        assert_eq!(image_of(&spec(yaml), EtcdVersion::new(3, 6, 16)), image);
    }

    #[rstest]
    #[case(8 * GIB, 3840 << 20)]
    #[case(64 * GIB, 8 * GIB)]
    #[case(GIB, 256 << 20)]
    #[case(256 << 20, 32 << 20)]
    fn the_default_quota_leaves_room_for_a_second_copy(#[case] volume: u64, #[case] quota: u64) {
        assert_eq!(default_quota(volume), quota);
    }
}
