//! Others' objects, others' rules, others' namespaces.

use crate::support::cluster::{condition, is_ready, spec};
use crate::support::{FORMED_WITHIN, SAID_WITHIN, run, until};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use quorate::api::{ConditionType, EtcdCluster, find_condition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn objects_of_our_names_that_belong_to_others_are_never_adopted() {
    run("foreign", async |space| {
        let _operator = space.operator();
        let restricted = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" } });
        let pod: Pod = create(
            &space.api(),
            json!({ "metadata": { "name": "etcd-1" }, "spec": {
            "nodeSelector": { "nobody": "has" },
            "containers": [{ "name": "theirs", "image": "theirs", "securityContext": restricted }] } }),
        )
        .await;
        let service: Service = create(
            &space.api(),
            json!({ "metadata": { "name": "etcd" }, "spec": { "selector": { "app": "theirs" }, "ports": [{ "port": 80 }] } }),
        )
        .await;
        let claim: PersistentVolumeClaim = create(
            &space.api(),
            json!({ "metadata": { "name": "data-etcd-2" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }),
        )
        .await;

        let cluster = space.cluster("etcd");
        cluster.create(spec("3.5.10", 3)).await;
        cluster.stalled("ForeignObject", SAID_WITHIN).await;
        let refusals = cluster.status().await.refusals;
        let told = |kind: &str, name: &str| {
            assert!(
                refusals
                    .iter()
                    .any(|refusal| refusal.message.contains(kind) && refusal.message.contains(name)),
                "no {kind} {name} in {refusals:?}"
            );
        };
        told("Pod", "etcd-1");
        told("Service", "etcd");
        told("PersistentVolumeClaim", "data-etcd-2");
        assert!(
            cluster.claims().await.is_empty() && cluster.pods().await.is_empty(),
            "nothing was made beside them"
        );

        let (pods, services, claims) =
            (space.api::<Pod>(), space.api::<Service>(), space.api::<PersistentVolumeClaim>());
        let (pod, service, claim) = (&pod.uid(), &service.resource_version(), &claim.uid());
        let pod_now = pods.get("etcd-1").await.unwrap();
        assert_eq!((&pod_now.uid(), pod_now.labels().len(), pod_now.owner_references().len()), (pod, 0, 0));
        assert_eq!(&services.get("etcd").await.unwrap().resource_version(), service);
        let claim_now = claims.get("data-etcd-2").await.unwrap();
        assert_eq!((&claim_now.uid(), claim_now.labels().len()), (claim, 0));

        let now = DeleteParams::default().grace_period(0);
        pods.delete("etcd-1", &now).await.unwrap();
        services.delete("etcd", &now).await.unwrap();
        claims.delete("data-etcd-2", &now).await.unwrap();
        cluster.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn a_pod_that_the_quota_refuses_is_a_wait_in_the_apis_own_words() {
    run("quota", async |space| {
        let quotas = space.api::<ResourceQuota>();
        let _: ResourceQuota =
            create(&quotas, json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } }))
                .await;
        until("the quota counts", SAID_WITHIN, async || {
            let quota = quotas.get("none").await.unwrap();
            quota.status.and_then(|status| status.hard).map(|_| ())
        })
        .await;
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.create(spec("3.5.10", 1)).await;
        let said = cluster
            .until("PodRefused", SAID_WITHIN, |cluster| {
                condition(cluster, ConditionType::Ready).is_some_and(|ready| ready.reason == "PodRefused")
            })
            .await;
        let ready = condition(&said, ConditionType::Ready).unwrap();
        assert!(ready.message.contains("exceeded quota"), "{}", ready.message);
        let _ = quotas.delete("none", &DeleteParams::default()).await.unwrap();
        cluster.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn a_pod_that_pod_security_refuses_is_a_wait_in_the_apis_own_words() {
    run("pod-security", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 1);
        wanted["pod"]["securityContext"] = json!({ "runAsUser": 0, "runAsNonRoot": false });
        cluster.create(wanted).await;
        let said = cluster
            .until("PodRefused", SAID_WITHIN, |cluster| {
                condition(cluster, ConditionType::Ready).is_some_and(|ready| ready.reason == "PodRefused")
            })
            .await;
        let ready = condition(&said, ConditionType::Ready).unwrap();
        assert!(ready.message.contains("violates PodSecurity"), "{}", ready.message);
        cluster.edit(json!({ "pod": { "securityContext": null } })).await;
        cluster.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn a_pod_that_no_node_can_take_is_a_wait_in_the_schedulers_words() {
    run("unschedulable", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 1);
        wanted["pod"]["nodeSelector"] = json!({ "nobody": "has" });
        wanted["rollout"]["memberDeadline"] = json!("3s");
        cluster.create(wanted).await;
        let message = cluster.stalled("PodUnschedulable", SAID_WITHIN).await;
        assert!(message.contains("nodes are available") && message.contains("spec.pod"), "{message}");
        cluster.edit(json!({ "pod": { "nodeSelector": null } })).await;
        cluster.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn in_a_namespace_that_is_not_watched_nothing_happens() {
    run("not-watched", async |space| {
        let cluster = space.cluster("etcd");
        let created = cluster.create(spec("3.5.10", 1)).await;
        let operator = space.operator_with(&["--leader-elect=false", "--watch-namespaces", "kube-public"]);
        until("the operator works", SAID_WITHIN, async || {
            operator.log().contains("is installed").then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = cluster.get().await;
        assert_eq!(now.resource_version(), created.resource_version());
        assert!(cluster.claims().await.is_empty() && cluster.pods().await.is_empty());
        drop(operator);
        // Where it is watched, it is made.
        let _operator = space.operator();
        cluster.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn a_spec_without_storage_class_says_so_where_there_is_none() {
    run("no-class", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 1);
        wanted["storage"]["storageClassName"] = json!("nobody-has-it");
        wanted["rollout"]["memberDeadline"] = json!("3s");
        cluster.create(wanted).await;
        let message = cluster.stalled("PodUnschedulable", SAID_WITHIN).await;
        assert!(message.contains("PersistentVolumeClaim"), "{message}");
        let other: EtcdCluster = cluster.get().await;
        assert!(!is_ready(&other));
        assert!(find_condition(&other.status.unwrap().conditions, ConditionType::Reconciling).is_none());
    });
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}
