//! Specs that the schema must refuse and specs that it must accept, as one table: tests/generated asks
//! kube-cel, which is quick; tests/e2e asks a real API server, which is right.

use serde_json::{Value, json};

/// An `EtcdCluster` that must be refused, and words that the refusal must hold: the field and the remedy.
pub struct Refused {
    pub case: &'static str,
    /// What stood before, where the refusal is about the change.
    pub before: Option<Value>,
    pub cluster: Value,
    pub says: &'static [&'static str],
}

/// The smallest `EtcdCluster`, with `spec` on top of its spec.
pub fn cluster(spec: Value) -> Value {
    named("etcd", spec)
}

fn named(name: &str, spec: Value) -> Value {
    let mut whole = json!({ "version": "3.6.16" });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    json!({
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": { "name": name, "namespace": "default" },
        "spec": whole,
    })
}

/// Specs that must be accepted: next to each rule, something that it must let through.
pub fn accepted() -> Vec<(&'static str, Value)> {
    let digest = format!("sha256:{}", "0a".repeat(32));
    vec![
        ("the smallest", cluster(json!({}))),
        ("the longest name", named(&"a".repeat(45), json!({}))),
        ("a name with dashes and digits", named("etcd-7-main", json!({}))),
        ("a leading v", cluster(json!({ "version": "v3.5.9" }))),
        ("two digits in each part", cluster(json!({ "version": "13.15.110" }))),
        ("1 member", cluster(json!({ "replicas": 1 }))),
        ("3 members", cluster(json!({ "replicas": 3 }))),
        ("5 members", cluster(json!({ "replicas": 5 }))),
        ("7 members", cluster(json!({ "replicas": 7 }))),
        ("paused", cluster(json!({ "paused": true }))),
        ("a repository", cluster(json!({ "image": { "repository": "registry.example/mirror/etcd" } }))),
        (
            "a registry with a port",
            cluster(json!({ "image": { "repository": "registry.example:5000/etcd" } })),
        ),
        ("a repository without a registry", cluster(json!({ "image": { "repository": "etcd" } }))),
        ("a registry by address", cluster(json!({ "image": { "repository": "10.0.0.1:5000/a/b/etcd_x" } }))),
        (
            "a pull policy",
            cluster(json!({ "image": { "pullPolicy": "Never", "pullSecrets": [{ "name": "x" }] } })),
        ),
        (
            "a tag",
            cluster(json!({ "image": { "overrides": [{ "version": "3.6.16", "tag": "v3.6.16-1_a" }] } })),
        ),
        (
            "a digest",
            cluster(json!({ "image": { "overrides": [{ "version": "3.6.16", "digest": digest }] } })),
        ),
        ("a size", cluster(json!({ "storage": { "size": "20Gi", "storageClassName": "fast" } }))),
        ("a size in bytes", cluster(json!({ "storage": { "size": "8589934592" } }))),
        (
            "names of a load balancer",
            cluster(json!({ "tls": { "mode": "Enabled", "server": {
                "dnsNames": ["etcd.example.com", "*.example.com"], "ipAddresses": ["192.0.2.7", "2001:db8::7"] } } })),
        ),
        ("data in Pods", cluster(json!({ "storage": { "size": "1Gi", "emptyDir": {} } }))),
        (
            "data in memory",
            cluster(json!({ "replicas": 5, "storage": { "emptyDir": { "medium": "Memory" } } })),
        ),
        ("retention", cluster(json!({ "storage": { "retentionPolicy": { "whenDeleted": "Delete" } } }))),
        ("a quota", cluster(json!({ "etcd": { "quotaBackendBytes": "512Mi", "snapshotCount": 1 } }))),
        (
            "durations",
            cluster(json!({ "etcd": { "heartbeatInterval": "250ms", "electionTimeout": "2s500ms" } })),
        ),
        (
            "compaction by age",
            cluster(json!({ "etcd": { "autoCompaction": { "mode": "Periodic", "retention": "1h30m" } } })),
        ),
        (
            "compaction by number",
            cluster(json!({ "etcd": { "autoCompaction": { "mode": "Revision", "retention": "1000" } } })),
        ),
        (
            "other flags",
            cluster(json!({ "etcd": { "extraArgs": { "max-txn-ops": "256", "log-level": "debug" } } })),
        ),
        ("feature gates", cluster(json!({ "etcd": { "featureGates": { "InitialCorruptCheck": true } } }))),
        ("a control plane", cluster(json!({ "kubernetes": { "version": "v1.34.4" } }))),
        ("a control plane's minor", cluster(json!({ "kubernetes": { "version": "1.34" } }))),
        (
            "labels of one's own",
            cluster(json!({ "pod": { "labels": { "team": "a", "example.org/x": "y" } } })),
        ),
        (
            "annotations of others",
            cluster(json!({ "pod": { "annotations": { "app.kubernetes.io/x": "y" } } })),
        ),
        ("environment", cluster(json!({ "pod": { "env": [{ "name": "GOMAXPROCS", "value": "2" }] } }))),
        (
            "resources",
            cluster(json!({ "pod": { "resources": { "requests": { "cpu": "500m", "memory": "1.5Gi" } } } })),
        ),
        ("the shortest grace", cluster(json!({ "pod": { "terminationGracePeriodSeconds": 30 } }))),
        (
            "Services",
            cluster(json!({
                "services": { "client": { "type": "LoadBalancer", "labels": { "a": "b" }, "annotations": { "lb": "x" } }, "ipFamilyPolicy": "PreferDualStack" }
            })),
        ),
        (
            "a rollout",
            cluster(json!({
                "rollout": { "memberDeadline": "10m", "restartedAt": "2026-11-24T00:00:00Z", "allowDowntime": true }
            })),
        ),
    ]
}

/// Changes that must be accepted, from the one to the other.
pub fn accepted_changes() -> Vec<(&'static str, Value, Value)> {
    let size = |size: &str| cluster(json!({ "storage": { "size": size } }));
    vec![
        ("a size set for the first time", cluster(json!({})), size("20Gi")),
        ("a size that grows", size("8Gi"), size("9216Mi")),
        // Volumes that have grown are not made smaller; those that could not grow are as they were.
        ("a size that is set back", size("9Gi"), size("8Gi")),
        ("a size that is taken away", size("9Gi"), cluster(json!({}))),
        ("a size that is written otherwise", size("8Gi"), size("8192Mi")),
        ("a version", cluster(json!({ "version": "3.5.9" })), cluster(json!({ "version": "3.5.10" }))),
    ]
}

/// Specs that must be refused.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn refused() -> Vec<Refused> {
    let long = "a".repeat(46);
    let mut all = vec![
        new("a tag for a version", json!({ "version": "latest" }), &["spec.version", "e.g. 3.6.16"]),
        new("a pre-release", json!({ "version": "3.7.0-rc.0" }), &["spec.version", "no pre-release"]),
        new("a build", json!({ "version": "3.6.1+arm" }), &["spec.version"]),
        new("two parts", json!({ "version": "3.6" }), &["spec.version", "all three parts"]),
        new("an empty version", json!({ "version": "" }), &["spec.version"]),
        new("leading zeros", json!({ "version": "3.06.1" }), &["spec.version"]),
        new(
            "a gate with dashes",
            json!({ "etcd": { "featureGates": { "initial-corrupt-check": true } } }),
            &["spec.etcd.featureGates"],
        ),
        new(
            "a control plane without a version",
            json!({ "kubernetes": { "version": "latest" } }),
            &["spec.kubernetes.version", "e.g. 1.34"],
        ),
        new(
            "a cluster id that is none",
            json!({ "recovery": { "clusterID": "etcd", "incident": "1a", "fromMember": "etcd-0", "survivorRevision": 1 } }),
            &["spec.recovery.clusterID", "in hexadecimal"],
        ),
        new(
            "an incident that is none",
            json!({ "recovery": { "clusterID": "1a", "incident": "", "fromMember": "etcd-0", "survivorRevision": 1 } }),
            &["spec.recovery.incident", "status.quorumLoss"],
        ),
        new(
            "a revision that nothing has",
            json!({ "recovery": { "clusterID": "1a", "incident": "1a", "fromMember": "etcd-0", "survivorRevision": 0 } }),
            &["spec.recovery.survivorRevision"],
        ),
        new("no members", json!({ "replicas": 0 }), &["spec.replicas", "1, 3, 5 or 7"]),
        new("2 members", json!({ "replicas": 2 }), &["spec.replicas", "1, 3, 5 or 7"]),
        new("4 members", json!({ "replicas": 4 }), &["spec.replicas", "1, 3, 5 or 7"]),
        new("9 members", json!({ "replicas": 9 }), &["spec.replicas", "1, 3, 5 or 7"]),
        new("-1 members", json!({ "replicas": -1 }), &["spec.replicas", "1, 3, 5 or 7"]),
        Refused {
            case: "a name too long",
            before: None,
            cluster: named(&long, json!({})),
            says: &["metadata.name", "at most 45"],
        },
        Refused {
            case: "a name beginning with a digit",
            before: None,
            cluster: named("3etcd", json!({})),
            says: &["metadata.name", "beginning with a letter"],
        },
        Refused {
            case: "a name with a dot",
            before: None,
            cluster: named("etcd.a", json!({})),
            says: &["metadata.name", "letters, digits and dashes"],
        },
        new(
            "a size that is no quantity",
            json!({ "storage": { "size": "big" } }),
            &["spec.storage.size", "e.g. 8Gi"],
        ),
        new("a size of nothing", json!({ "storage": { "size": "0" } }), &["spec.storage.size", "above zero"]),
        new("a fraction", json!({ "storage": { "size": "1.5Gi" } }), &["spec.storage.size", "whole number"]),
        new(
            "a negative quota",
            json!({ "etcd": { "quotaBackendBytes": "-1Gi" } }),
            &["spec.etcd.quotaBackendBytes", "e.g. 8Gi"],
        ),
        new("no snapshots", json!({ "etcd": { "snapshotCount": 0 } }), &["spec.etcd.snapshotCount", "1"]),
        new(
            "a bare heartbeat",
            json!({ "etcd": { "heartbeatInterval": "100" } }),
            &["spec.etcd.heartbeatInterval", "e.g. 100ms"],
        ),
        new(
            "a timeout in words",
            json!({ "etcd": { "electionTimeout": "soon" } }),
            &["spec.etcd.electionTimeout", "30s"],
        ),
        new(
            "revisions by age",
            json!({ "etcd": { "autoCompaction": { "mode": "Periodic", "retention": "1000" } } }),
            &["spec.etcd.autoCompaction", "duration such as 1h"],
        ),
        new(
            "age by revisions",
            json!({ "etcd": { "autoCompaction": { "mode": "Revision", "retention": "1h" } } }),
            &["spec.etcd.autoCompaction", "number of revisions"],
        ),
        new(
            "another mode",
            json!({ "etcd": { "autoCompaction": { "mode": "periodic", "retention": "1h" } } }),
            &["spec.etcd.autoCompaction.mode", "Periodic"],
        ),
        new(
            "a flag with dashes",
            json!({ "etcd": { "extraArgs": { "--max-txn-ops": "1" } } }),
            &["spec.etcd.extraArgs", "without dashes"],
        ),
        new(
            "a flag in capitals",
            json!({ "etcd": { "extraArgs": { "Debug": "1" } } }),
            &["spec.etcd.extraArgs"],
        ),
        new(
            "a flag too long",
            json!({ "etcd": { "extraArgs": { long.repeat(2): "1" } } }),
            &["spec.etcd.extraArgs"],
        ),
        new(
            "a value too long",
            json!({ "etcd": { "extraArgs": { "a": "1".repeat(1025) } } }),
            &["spec.etcd.extraArgs", "1024"],
        ),
        new(
            "a repository with a tag",
            json!({ "image": { "repository": "registry.example/etcd:v3" } }),
            &["spec.image.repository", "spec.image.overrides"],
        ),
        new(
            "a repository with a scheme",
            json!({ "image": { "repository": "https://registry.example/etcd" } }),
            &["spec.image.repository", "without scheme"],
        ),
        new(
            "a repository with a digest",
            json!({ "image": { "repository": format!("registry.example/etcd@sha256:{}", "a".repeat(64)) } }),
            &["spec.image.repository", "spec.image.overrides"],
        ),
        new("an empty repository", json!({ "image": { "repository": "" } }), &["spec.image.repository"]),
        new(
            "another pull policy",
            json!({ "image": { "pullPolicy": "Sometimes" } }),
            &["spec.image.pullPolicy", "IfNotPresent"],
        ),
        new(
            "an override of nothing",
            json!({ "image": { "overrides": [{ "version": "3.6.16" }] } }),
            &["spec.image.overrides", "a tag, a digest or both"],
        ),
        new(
            "an override of no version",
            json!({ "image": { "overrides": [{ "version": "latest", "tag": "x" }] } }),
            &["spec.image.overrides[0].version", "e.g. 3.6.16"],
        ),
        new(
            "a tag with a colon",
            json!({ "image": { "overrides": [{ "version": "3.6.16", "tag": "a:b" }] } }),
            &["spec.image.overrides[0].tag", "e.g. v3.6.16"],
        ),
        new(
            "half a digest",
            json!({ "image": { "overrides": [{ "version": "3.6.16", "digest": "sha256:ab" }] } }),
            &["spec.image.overrides[0].digest", "64 hexadecimal"],
        ),
        new(
            "the operator's labels",
            json!({ "pod": { "labels": { "quorate.dev/role": "voter" } } }),
            &["spec.pod.labels", "quorate.dev/", "a prefix of your own"],
        ),
        new(
            "well-known labels",
            json!({ "pod": { "labels": { "app.kubernetes.io/name": "x" } } }),
            &["spec.pod.labels", "app.kubernetes.io/"],
        ),
        new(
            "the operator's annotations",
            json!({ "pod": { "annotations": { "quorate.dev/revision": "x" } } }),
            &["spec.pod.annotations", "quorate.dev/", "a prefix of your own"],
        ),
        new(
            "etcd's environment",
            json!({ "pod": { "env": [{ "name": "ETCD_NAME", "value": "x" }] } }),
            &["spec.pod.env", "use spec.etcd"],
        ),
        new(
            "the operator's environment",
            json!({ "pod": { "env": [{ "name": "QUORATE_X", "value": "x" }] } }),
            &["spec.pod.env", "another name"],
        ),
        new(
            "an amount of nonsense",
            json!({ "pod": { "resources": { "limits": { "cpu": "much" } } } }),
            &["spec.pod.resources.limits.cpu"],
        ),
        new(
            "too short a grace",
            json!({ "pod": { "terminationGracePeriodSeconds": 29 } }),
            &["spec.pod.terminationGracePeriodSeconds", "30"],
        ),
        new(
            "the operator's Service labels",
            json!({ "services": { "client": { "labels": { "quorate.dev/cluster": "x" } } } }),
            &["spec.services.client.labels"],
        ),
        new(
            "the operator's Service annotations",
            json!({ "services": { "client": { "annotations": { "quorate.dev/applied": "x" } } } }),
            &["spec.services.client.annotations", "quorate.dev/", "a prefix of your own"],
        ),
        new(
            "another Service type",
            json!({ "services": { "client": { "type": "ExternalName" } } }),
            &["spec.services.client.type", "ClusterIP"],
        ),
        new(
            "one member that keeps its data in its Pod",
            json!({ "replicas": 1, "storage": { "emptyDir": {} } }),
            &["spec.storage.emptyDir needs spec.replicas of 3 or more"],
        ),
        new(
            "a class of volumes that there are none of",
            json!({ "storage": { "emptyDir": {}, "storageClassName": "fast" } }),
            &["spec.storage.emptyDir", "remove storageClassName"],
        ),
        new(
            "a policy for volumes that there are none of",
            json!({ "storage": { "emptyDir": {}, "retentionPolicy": { "whenScaled": "Retain" } } }),
            &["spec.storage.emptyDir", "retentionPolicy"],
        ),
        new(
            "an address among names",
            json!({ "tls": { "server": { "dnsNames": ["https://etcd.example.com"] } } }),
            &["spec.tls.server.dnsNames", "ipAddresses"],
        ),
        new(
            "a name among addresses",
            json!({ "tls": { "server": { "ipAddresses": ["etcd.example.com"] } } }),
            &["spec.tls.server.ipAddresses", "dnsNames"],
        ),
        new(
            "a quarantine for volumes that there are none of",
            json!({ "storage": { "emptyDir": {}, "quarantine": "1h" } }),
            &["spec.storage.emptyDir", "quarantine"],
        ),
        new(
            "another medium",
            json!({ "storage": { "emptyDir": { "medium": "HugePages" } } }),
            &["spec.storage.emptyDir.medium", "Memory"],
        ),
        new(
            "a deadline without unit",
            json!({ "rollout": { "memberDeadline": "5" } }),
            &["spec.rollout.memberDeadline", "5m"],
        ),
    ];
    let size = |size: &str| cluster(json!({ "storage": { "size": size } }));
    all.push(change(
        "a size that becomes nonsense",
        size("8Gi"),
        size("big"),
        &["spec.storage.size", "e.g. 8Gi"],
    ));
    let in_pods = || cluster(json!({ "storage": { "emptyDir": {} } }));
    all.push(change(
        "data that is to be kept in volumes from now on",
        in_pods(),
        cluster(json!({})),
        &["spec.storage.emptyDir cannot be added or removed later", "another EtcdCluster"],
    ));
    all.push(change(
        "data that is to be kept in Pods from now on",
        size("8Gi"),
        in_pods(),
        &["spec.storage.emptyDir cannot be added or removed later", "another EtcdCluster"],
    ));
    for (flag, why) in quorate::etcd::versions::OWNED_FLAGS {
        let spec = json!({ "etcd": { "extraArgs": { *flag: "x" } } });
        all.push(Refused {
            case: flag,
            before: None,
            cluster: cluster(spec),
            says: Box::leak(Box::new(["spec.etcd.extraArgs may not set", *flag, *why])),
        });
    }
    all
}

fn new(case: &'static str, spec: Value, says: &'static [&'static str]) -> Refused {
    Refused { case, before: None, cluster: cluster(spec), says }
}

fn change(case: &'static str, before: Value, after: Value, says: &'static [&'static str]) -> Refused {
    Refused { case, before: Some(before), cluster: after, says }
}
