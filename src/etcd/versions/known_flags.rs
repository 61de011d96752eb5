//! The flags that etcd's command line knows, by release.
//!
//! A flag that a binary does not know is exit code 2 before anything else happens, so it must be found
//! before a member is touched. The lists are those that the binaries themselves accept; a test runs them.

use crate::etcd::{EtcdVersion, Minor};

/// Flags that came with one release and went with one minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagGroup {
    /// The first release of the table that knows them. What a patch of 3.5 got, 3.6.0 has too.
    pub since: EtcdVersion,
    /// The minor that does not know them any more.
    pub gone: Option<Minor>,
    /// Their names.
    pub names: &'static [&'static str],
    /// Where that is written.
    pub source: &'static str,
}

impl FlagGroup {
    /// Whether a release knows them.
    pub fn is_known_to(&self, version: EtcdVersion) -> bool {
        version >= self.since && self.gone.is_none_or(|gone| version.minor < gone)
    }
}

const fn group(
    since: (u64, u64),
    gone: Option<u64>,
    names: &'static [&'static str],
    source: &'static str,
) -> FlagGroup {
    let gone = match gone {
        Some(minor) => Some(Minor::new(3, minor)),
        None => None,
    };
    FlagGroup { since: EtcdVersion::new(3, since.0, since.1), gone, names, source }
}

/// The flags of 3.5, 3.6 and 3.7.
pub const KNOWN_FLAGS: &[FlagGroup] = &[
    group(
        (5, 0),
        None,
        &[
            "advertise-client-urls",
            "auth-token",
            "auth-token-ttl",
            "auto-compaction-mode",
            "auto-compaction-retention",
            "auto-tls",
            "backend-batch-interval",
            "backend-batch-limit",
            "backend-bbolt-freelist-type",
            "bcrypt-cost",
            "cert-file",
            "cipher-suites",
            "client-cert-allowed-hostname",
            "client-cert-auth",
            "client-cert-file",
            "client-crl-file",
            "client-key-file",
            "cors",
            "data-dir",
            "discovery-fallback",
            "discovery-srv",
            "discovery-srv-name",
            "election-timeout",
            "enable-grpc-gateway",
            "enable-log-rotation",
            "enable-pprof",
            "force-new-cluster",
            "grpc-keepalive-interval",
            "grpc-keepalive-min-time",
            "grpc-keepalive-timeout",
            "heartbeat-interval",
            "host-whitelist",
            "initial-advertise-peer-urls",
            "initial-cluster",
            "initial-cluster-state",
            "initial-cluster-token",
            "initial-election-tick-advance",
            "key-file",
            "listen-client-urls",
            "listen-metrics-urls",
            "listen-peer-urls",
            "log-level",
            "log-outputs",
            "log-rotation-config-json",
            "logger",
            "max-request-bytes",
            "max-snapshots",
            "max-txn-ops",
            "max-wals",
            "metrics",
            "name",
            "peer-auto-tls",
            "peer-cert-allowed-cn",
            "peer-cert-allowed-hostname",
            "peer-cert-file",
            "peer-client-cert-auth",
            "peer-client-cert-file",
            "peer-client-key-file",
            "peer-crl-file",
            "peer-key-file",
            "peer-trusted-ca-file",
            "pre-vote",
            "quota-backend-bytes",
            "raft-read-timeout",
            "raft-write-timeout",
            "self-signed-cert-validity",
            "snapshot-count",
            "socket-reuse-address",
            "socket-reuse-port",
            "strict-reconfig-check",
            "trusted-ca-file",
            "unsafe-no-fsync",
            "v2-deprecation",
            "wal-dir",
        ],
        "https://github.com/etcd-io/etcd/blob/v3.7.1/server/embed/config.go",
    ),
    // Accepted, and without any effect.
    group(
        (5, 0),
        None,
        &[
            "cluster-active-size",
            "cluster-remove-delay",
            "cluster-sync-interval",
            "config",
            "force",
            "max-result-buffer",
            "max-retry-attempts",
            "peer-election-timeout",
            "peer-heartbeat-interval",
            "retry-interval",
            "snapshot",
            "v",
            "vv",
        ],
        "https://github.com/etcd-io/etcd/blob/v3.7.1/server/etcdmain/config.go",
    ),
    group(
        (5, 5),
        None,
        &["max-concurrent-streams"],
        "https://github.com/etcd-io/etcd/blob/v3.5.5/server/etcdmain/config.go",
    ),
    group(
        (5, 8),
        None,
        &["listen-client-http-urls", "tls-max-version", "tls-min-version"],
        "https://github.com/etcd-io/etcd/blob/v3.5.8/server/etcdmain/config.go",
    ),
    group(
        (5, 0),
        Some(7),
        &[
            "discovery",
            "discovery-proxy",
            "experimental-bootstrap-defrag-threshold-megabytes",
            "experimental-compaction-batch-limit",
            "experimental-corrupt-check-time",
            "experimental-distributed-tracing-address",
            "experimental-distributed-tracing-instance-id",
            "experimental-distributed-tracing-service-name",
            "experimental-downgrade-check-time",
            "experimental-enable-distributed-tracing",
            "experimental-enable-lease-checkpoint",
            "experimental-initial-corrupt-check",
            "experimental-memory-mlock",
            "experimental-peer-skip-client-san-verification",
            "experimental-txn-mode-write-with-shared-buffer",
            "experimental-warning-apply-duration",
            "experimental-watch-progress-notify-interval",
        ],
        "https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/",
    ),
    group(
        (5, 2),
        Some(7),
        &["experimental-enable-lease-checkpoint-persist"],
        "https://github.com/etcd-io/etcd/blob/v3.5.2/server/etcdmain/config.go",
    ),
    group(
        (5, 5),
        Some(7),
        &["experimental-compact-hash-check-enabled", "experimental-compact-hash-check-time"],
        "https://github.com/etcd-io/etcd/blob/v3.5.5/server/etcdmain/config.go",
    ),
    group(
        (5, 11),
        Some(7),
        &["experimental-distributed-tracing-sampling-rate"],
        "https://github.com/etcd-io/etcd/blob/v3.5.11/server/etcdmain/config.go",
    ),
    group(
        (5, 14),
        Some(7),
        &["experimental-snapshot-catchup-entries", "experimental-stop-grpc-service-on-defrag"],
        "https://github.com/etcd-io/etcd/blob/v3.5.14/server/etcdmain/config.go",
    ),
    group(
        (5, 16),
        Some(7),
        &["experimental-compaction-sleep-interval"],
        "https://github.com/etcd-io/etcd/blob/v3.5.16/server/etcdmain/config.go",
    ),
    group(
        (6, 0),
        None,
        &[
            "bootstrap-defrag-threshold-megabytes",
            "compact-hash-check-time",
            "compaction-batch-limit",
            "compaction-sleep-interval",
            "corrupt-check-time",
            "discovery-cacert",
            "discovery-cert",
            "discovery-dial-timeout",
            "discovery-endpoints",
            "discovery-insecure-skip-tls-verify",
            "discovery-insecure-transport",
            "discovery-keepalive-time",
            "discovery-keepalive-timeout",
            "discovery-key",
            "discovery-password",
            "discovery-request-timeout",
            "discovery-token",
            "discovery-user",
            "distributed-tracing-address",
            "distributed-tracing-instance-id",
            "distributed-tracing-sampling-rate",
            "distributed-tracing-service-name",
            "downgrade-check-time",
            "enable-distributed-tracing",
            "feature-gates",
            "log-format",
            "max-learners",
            "memory-mlock",
            "peer-skip-client-san-verification",
            "snapshot-catchup-entries",
            "warning-apply-duration",
            "warning-unary-request-duration",
            "watch-progress-notify-interval",
        ],
        "https://etcd.io/docs/v3.6/downgrades/downgrade_3_6/",
    ),
    group(
        (5, 0),
        Some(6),
        &[
            "enable-v2",
            "experimental-enable-v2v3",
            "proxy",
            "proxy-dial-timeout",
            "proxy-failure-wait",
            "proxy-read-timeout",
            "proxy-refresh-interval",
            "proxy-write-timeout",
        ],
        "https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/",
    ),
    group(
        (6, 0),
        Some(7),
        &["experimental-warning-unary-request-duration"],
        "https://github.com/etcd-io/etcd/pull/14414",
    ),
];

/// Whether a release knows a flag.
pub fn is_known(flag: &str, version: EtcdVersion) -> bool {
    groups(flag).any(|group| group.is_known_to(version))
}

/// The groups that a flag is in; none where no release of the table knows it.
pub fn groups(flag: &str) -> impl Iterator<Item = &'static FlagGroup> {
    KNOWN_FLAGS.iter().filter(move |group| group.names.contains(&flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_flag_stands_once() {
        let all: Vec<_> = KNOWN_FLAGS.iter().flat_map(|group| group.names).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn owned_flags_are_flags() {
        for (flag, _) in super::super::OWNED_FLAGS {
            // etcd's own way to its configuration, which is no flag of a running member.
            assert!(*flag == "config-file" || groups(flag).next().is_some(), "{flag}");
        }
    }
}
