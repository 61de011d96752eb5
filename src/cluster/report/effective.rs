//! What is in force where the spec leaves it to defaults, read from the very objects that are made of it.

use crate::api::{EffectiveStatus, ResourceAmount, Resources, Retention};
use crate::cluster::objects::support;
use crate::cluster::observation::Observation;
use crate::cluster::revision::{self, Revision};
use crate::cluster::spec::{self, Desired};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Nothing where the flags of the spec are refused.
pub(super) fn of(world: &Observation, desired: &Desired) -> Option<EffectiveStatus> {
    let cluster = &world.cluster;
    // A stored rendering wins over today's defaults, here as for the members.
    let stored = revision::at(world, desired, desired.version).ok()?;
    let quota = stored.quota_bytes().unwrap_or(desired.quota_bytes);
    let Revision { image, heartbeat_ms, election_timeout_ms, template, .. } = Arc::unwrap_or_clone(stored);
    let pod = template.spec.unwrap_or_default();
    let container = pod.containers.into_iter().next().unwrap_or_default();
    let service =
        support::client(&cluster.namespace, &cluster.name, &cluster.spec, OwnerReference::default());
    let has_volumes = !spec::keeps_data_in_pods(&cluster.spec);
    let policy = |retain| if retain { Retention::Retain } else { Retention::Delete };
    Some(EffectiveStatus {
        replicas: i32::try_from(desired.replicas).ok(),
        paused: Some(cluster.spec.paused.unwrap_or(false)),
        image,
        image_pull_policy: container.image_pull_policy,
        quota_backend_bytes: i64::try_from(quota).unwrap_or(i64::MAX),
        heartbeat_interval: Some(written(Duration::from_millis(heartbeat_ms))),
        election_timeout: Some(written(Duration::from_millis(election_timeout_ms))),
        storage_size: desired.storage_size.as_str().to_owned(),
        storage_class_name: spec::storage_class(&cluster.spec).map(str::to_owned),
        when_deleted: has_volumes.then(|| policy(!spec::deletes_volumes(&cluster.spec))),
        when_scaled: has_volumes.then(|| policy(spec::keeps_volumes_when_scaled(&cluster.spec))),
        rollout_paused: Some(desired.rollout_paused),
        quarantine: has_volumes.then(|| written(desired.quarantine)),
        heal_mode: Some(desired.heal_mode),
        node_lost_after: Some(written(desired.node_lost_after)),
        defragmentation: Some(desired.defragmentation),
        resources: container.resources.map(resources),
        security_context: pod.security_context,
        affinity: pod.affinity,
        topology_spread_constraints: pod.topology_spread_constraints.unwrap_or_default(),
        termination_grace_period_seconds: pod.termination_grace_period_seconds,
        client_service_type: service.stamped().spec.and_then(|spec| spec.type_),
        member_deadline: written(desired.member_deadline),
        allow_downtime: Some(desired.allow_downtime),
        hops: Some(desired.hops),
        approval: Some(desired.approval),
    })
}

fn resources(of: ResourceRequirements) -> Resources {
    let amounts = |map: Option<BTreeMap<String, Quantity>>| {
        let amount = |Quantity(text)| ResourceAmount(IntOrString::String(text));
        map.into_iter().flatten().map(|(name, quantity)| (name, amount(quantity))).collect()
    };
    Resources { requests: amounts(of.requests), limits: amounts(of.limits) }
}

/// As people write it: `100ms`, `1s`, `300s`.
fn written(span: Duration) -> String {
    match span.subsec_millis() {
        0 => format!("{}s", span.as_secs()),
        _ => format!("{}ms", span.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::healthy;
    use serde_json::json;

    fn effective(yaml: &str) -> EffectiveStatus {
        let world = healthy(yaml);
        of(&world, &spec::parse(&world.cluster.spec).unwrap()).unwrap()
    }

    #[test]
    fn of_volumes_nothing_is_shown_where_there_are_none() {
        let shown = effective("{version: 3.6.16, storage: {size: 2Gi, emptyDir: {}}}");
        assert_eq!((shown.when_deleted, shown.when_scaled, shown.quarantine), (None, None, None));
        assert_eq!(shown.storage_size, "2Gi");
    }

    #[test]
    fn every_default_is_shown() {
        let members = json!({ "matchLabels":
            { "app.kubernetes.io/component": "member", "quorate.dev/cluster": "db" } });
        let spread = |key: &str| {
            json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": members })
        };
        let shown = json!({
            "replicas": 3,
            "paused": false,
            "image": "gcr.io/etcd-development/etcd:v3.6.16",
            "imagePullPolicy": "IfNotPresent",
            "quotaBackendBytes": 3840_i64 << 20,
            "heartbeatInterval": "100ms",
            "electionTimeout": "1s",
            "storageSize": "8Gi",
            "whenDeleted": "Retain",
            "whenScaled": "Delete",
            "rolloutPaused": false,
            "quarantine": "604800s",
            "healMode": "Automatic",
            "resources": { "requests": { "cpu": "100m", "memory": "256Mi" } },
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" } },
            "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": 100, "podAffinityTerm":
                    { "topologyKey": "kubernetes.io/hostname", "labelSelector": members } },
            ] } },
            "topologySpreadConstraints": [
                spread("topology.kubernetes.io/zone"), spread("kubernetes.io/hostname"),
            ],
            "terminationGracePeriodSeconds": 30,
            "clientServiceType": "ClusterIP",
            "memberDeadline": "300s",
            "nodeLostAfter": "300s",
            "defragmentation": "Automatic",
            "allowDowntime": false,
            "hops": "Many",
            "approval": "Automatic",
        });
        assert_eq!(serde_json::to_value(effective("version: 3.6.16")).unwrap(), shown);
    }

    #[test]
    fn what_the_spec_says_is_in_force() {
        let shown = effective(
            "{version: 3.6.16, replicas: 1, paused: true, image: {repository: m/etcd, pullPolicy: Always},
              storage: {size: 2Gi, storageClassName: fast, retentionPolicy: {whenDeleted: Delete}},
              etcd: {quotaBackendBytes: 1Gi, heartbeatInterval: 250ms, electionTimeout: 2s500ms},
              pod: {resources: {requests: {cpu: 2}, limits: {memory: 1Gi}}, terminationGracePeriodSeconds: 60,
                securityContext: {runAsUser: 7}, affinity: {}},
              services: {client: {type: LoadBalancer}}, rollout: {memberDeadline: 90s, allowDowntime: true, hops: Single}}",
        );
        let shown = serde_json::to_value(shown).unwrap();
        for (field, value) in [
            ("replicas", json!(1)),
            ("paused", json!(true)),
            ("image", json!("m/etcd:v3.6.16")),
            ("imagePullPolicy", json!("Always")),
            ("quotaBackendBytes", json!(1 << 30)),
            ("heartbeatInterval", json!("250ms")),
            ("electionTimeout", json!("2500ms")),
            ("storageSize", json!("2Gi")),
            ("storageClassName", json!("fast")),
            ("whenDeleted", json!("Delete")),
            ("resources", json!({ "requests": { "cpu": "2" }, "limits": { "memory": "1Gi" } })),
            ("securityContext", json!({ "runAsUser": 7 })),
            ("affinity", json!({})),
            ("terminationGracePeriodSeconds", json!(60)),
            ("clientServiceType", json!("LoadBalancer")),
            ("memberDeadline", json!("90s")),
            ("allowDowntime", json!(true)),
            ("hops", json!("Single")),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
    }

    /// Else it would be written again at each pass.
    #[test]
    fn it_reads_back_as_it_was_written() {
        let shown = effective("version: 3.6.16");
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<EffectiveStatus>(&text).unwrap(), shown);
    }

    /// A newer operator with other defaults changes nothing of what members were rendered from.
    #[test]
    fn a_stored_rendering_wins_over_the_defaults_of_today() {
        let mut world = healthy("version: 3.6.16");
        let desired = spec::parse(&world.cluster.spec).unwrap();
        for revision in world.revisions.values_mut().map(Arc::make_mut) {
            revision.heartbeat_ms = 50;
            let pod = revision.template.spec.as_mut().unwrap();
            pod.termination_grace_period_seconds = Some(40);
            pod.containers[0].args = Some(vec!["--quota-backend-bytes=7".to_owned()]);
        }
        let shown = of(&world, &desired).unwrap();
        assert_eq!(shown.heartbeat_interval.as_deref(), Some("50ms"));
        assert_eq!(shown.termination_grace_period_seconds, Some(40));
        assert_eq!(shown.quota_backend_bytes, 7);
    }
}
