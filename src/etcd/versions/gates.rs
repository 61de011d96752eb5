//! Feature gates, and flags that changed their name. Each line is one fact of etcd's own table.

use crate::etcd::{EtcdVersion, Minor};

/// A feature gate of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// The first minor with it.
    pub since: Minor,
    /// The flag that it was before.
    pub flag: Option<&'static str>,
    /// Where that is written.
    pub source: &'static str,
}

impl Gate {
    /// Whether `--feature-gates` of a release knows it.
    pub fn is_known_to(&self, version: EtcdVersion) -> bool {
        version.minor >= self.since
    }
}

const V3_6: Minor = Minor::new(3, 6);
const V3_7: Minor = Minor::new(3, 7);

const fn gate(name: &'static str, since: Minor, flag: Option<&'static str>, source: &'static str) -> Gate {
    Gate { name, since, flag, source }
}

/// The flag that takes gates.
pub const FEATURE_GATES: &str = "feature-gates";

/// The gates of 3.6 and 3.7.
/// <https://github.com/etcd-io/etcd/blob/v3.7.1/server/features/etcd_features.go>
pub const GATES: &[Gate] = &[
    gate("AllAlpha", V3_6, None, "https://etcd.io/docs/v3.6/feature-gates/"),
    gate("AllBeta", V3_6, None, "https://etcd.io/docs/v3.6/feature-gates/"),
    gate(
        "CompactHashCheck",
        V3_6,
        Some("experimental-compact-hash-check-enabled"),
        "https://github.com/etcd-io/etcd/pull/14120",
    ),
    gate("FastLeaseKeepAlive", V3_7, None, "https://github.com/etcd-io/etcd/pull/20589"),
    gate(
        "InitialCorruptCheck",
        V3_6,
        Some("experimental-initial-corrupt-check"),
        "https://github.com/etcd-io/etcd/pull/10524",
    ),
    gate(
        "LeaseCheckpoint",
        V3_6,
        Some("experimental-enable-lease-checkpoint"),
        "https://github.com/etcd-io/etcd/pull/13508",
    ),
    gate(
        "LeaseCheckpointPersist",
        V3_6,
        Some("experimental-enable-lease-checkpoint-persist"),
        "https://github.com/etcd-io/etcd/pull/13508",
    ),
    gate("PriorityRequest", V3_7, None, "https://github.com/etcd-io/etcd/pull/20492"),
    gate("SetMemberLocalAddr", V3_6, None, "https://github.com/etcd-io/etcd/pull/17661"),
    gate(
        "StopGRPCServiceOnDefrag",
        V3_6,
        Some("experimental-stop-grpc-service-on-defrag"),
        "https://github.com/etcd-io/etcd/pull/18279",
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        V3_6,
        Some("experimental-txn-mode-write-with-shared-buffer"),
        "https://github.com/etcd-io/etcd/pull/12896",
    ),
];

/// Flags that lost `experimental-` with 3.6, by their new name. 3.5 knows the old one, 3.6 both, 3.7 the
/// new one. <https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/>
pub const GRADUATED: &[&str] = &[
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

const EXPERIMENTAL: &str = "experimental-";

/// The gate of that name.
pub fn gate_named(name: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.name == name)
}

/// The gate that a flag has become.
pub fn gate_of_flag(flag: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.flag == Some(flag))
}

/// The other spelling of a flag that graduated.
pub fn other_spelling(flag: &str) -> Option<String> {
    match flag.strip_prefix(EXPERIMENTAL) {
        Some(bare) => GRADUATED.contains(&bare).then(|| bare.to_owned()),
        None => GRADUATED.contains(&flag).then(|| format!("{EXPERIMENTAL}{flag}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::known_flags::{groups, is_known};
    use super::*;

    #[test]
    fn every_spelling_is_a_known_flag() {
        for bare in GRADUATED {
            assert!(is_known(bare, V3_6.patch(0)) && is_known(bare, V3_7.patch(0)), "{bare}");
            let old = other_spelling(bare).unwrap();
            assert!(is_known(&old, V3_6.patch(0)) && !is_known(&old, V3_7.patch(0)), "{old}");
        }
        for flag in GATES.iter().filter_map(|gate| gate.flag) {
            assert!(is_known(flag, V3_6.patch(0)) && !is_known(flag, V3_7.patch(0)), "{flag}");
        }
    }

    #[test]
    fn what_was_experimental_has_become_something() {
        let experimental = super::super::KNOWN_FLAGS
            .iter()
            .filter(|group| group.is_known_to(V3_6.patch(0)))
            .flat_map(|group| group.names)
            .filter(|name| name.starts_with(EXPERIMENTAL));
        for flag in experimental {
            assert!(other_spelling(flag).is_some() || gate_of_flag(flag).is_some(), "{flag}");
        }
        assert!(groups("max-learners").next().is_some());
    }
}
