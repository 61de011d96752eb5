//! Flags of etcd that belong to the operator.

/// Flags that the operator sets itself, or that would work against it; `spec.etcd.extraArgs` may not
/// name them. The text says why, and where a flag has
/// a field of its own names it.
pub const OWNED_FLAGS: &[(&str, &str)] = &[
    ("host-whitelist", "the operator asks members by their Pod's address"),
    ("name", "the operator names members"),
    ("data-dir", "the operator places the data on the member's volume"),
    ("wal-dir", "the operator places the data on the member's volume"),
    ("config-file", "etcd ignores every flag beside a config file"),
    ("listen-peer-urls", "the operator sets addresses"),
    ("listen-client-urls", "the operator sets addresses"),
    ("listen-client-http-urls", "the operator sets addresses"),
    ("listen-metrics-urls", "probes rely on it"),
    ("initial-advertise-peer-urls", "the operator sets addresses"),
    ("advertise-client-urls", "the operator sets addresses"),
    ("initial-cluster", "the operator decides about membership"),
    ("initial-cluster-state", "the operator decides about membership"),
    ("initial-cluster-token", "the operator decides about membership"),
    ("force-new-cluster", "it would throw the other members away"),
    ("discovery", "the operator decides about membership"),
    ("discovery-srv", "the operator decides about membership"),
    ("discovery-srv-name", "the operator decides about membership"),
    ("discovery-fallback", "the operator decides about membership"),
    ("discovery-proxy", "the operator decides about membership"),
    ("discovery-endpoints", "the operator decides about membership"),
    ("discovery-token", "the operator decides about membership"),
    ("strict-reconfig-check", "it keeps a change of members from losing quorum"),
    ("pre-vote", "it keeps a returning member from disturbing the leader"),
    ("unsafe-no-fsync", "it loses acknowledged writes"),
    ("proxy", "a proxy is no member"),
    ("enable-v2", "the v2 store keeps a cluster from going to 3.6"),
    ("experimental-enable-v2v3", "the v2 store keeps a cluster from going to 3.6"),
    ("logger", "the operator reads etcd's log"),
    ("log-outputs", "the operator reads etcd's log"),
    ("quota-backend-bytes", "use spec.etcd.quotaBackendBytes"),
    ("snapshot-count", "use spec.etcd.snapshotCount"),
    ("heartbeat-interval", "use spec.etcd.heartbeatInterval"),
    ("election-timeout", "use spec.etcd.electionTimeout"),
    ("auto-compaction-mode", "use spec.etcd.autoCompaction"),
    ("auto-compaction-retention", "use spec.etcd.autoCompaction"),
    ("cert-file", "TLS is not a matter of extraArgs"),
    ("key-file", "TLS is not a matter of extraArgs"),
    ("client-cert-file", "TLS is not a matter of extraArgs"),
    ("client-key-file", "TLS is not a matter of extraArgs"),
    ("client-cert-auth", "TLS is not a matter of extraArgs"),
    ("trusted-ca-file", "TLS is not a matter of extraArgs"),
    ("auto-tls", "TLS is not a matter of extraArgs"),
    ("peer-cert-file", "TLS is not a matter of extraArgs"),
    ("peer-key-file", "TLS is not a matter of extraArgs"),
    ("peer-client-cert-file", "TLS is not a matter of extraArgs"),
    ("peer-client-key-file", "TLS is not a matter of extraArgs"),
    ("peer-client-cert-auth", "TLS is not a matter of extraArgs"),
    ("peer-trusted-ca-file", "TLS is not a matter of extraArgs"),
    ("peer-auto-tls", "TLS is not a matter of extraArgs"),
];

/// Why the operator owns a flag, or nothing where it is free.
pub fn is_owned_flag(flag: &str) -> Option<&'static str> {
    OWNED_FLAGS.iter().find(|(name, _)| *name == flag).map(|(_, why)| *why)
}
