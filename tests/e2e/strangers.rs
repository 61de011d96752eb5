//! Others' objects, others' rules, others' namespaces.

use crate::support::cluster::{condition, is_ready, spec};
use crate::support::{FORMED_WITHIN, SAID_WITHIN, run, until};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::runtime::events::Reporter;
use kube::{Api, ResourceExt as _};
use quorate::api::{Code, ConditionType, EtcdCluster, find_condition};
use quorate::cluster::context::Context;
use quorate::cluster::plan::{Step, plan};
use quorate::cluster::{act, observe};
use quorate::etcd::Channels;
use quorate::etcd::versions::Releases;
use quorate::process::Metrics;
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
fn a_service_that_somebody_makes_between_the_look_and_the_act_is_not_taken_over() {
    run("overtaken", async |space| {
        let cluster = space.cluster("etcd");
        cluster.create(spec("3.5.10", 3)).await;
        let reporter = Reporter { controller: "quorate".to_owned(), instance: None };
        let (channels, releases) = (Channels::default(), Releases::default());
        let ctx = Context::new(
            space.client.clone(),
            channels,
            Metrics::new(),
            reporter,
            None,
            releases,
            "cluster.local",
        );
        let look =
            async || Box::pin(observe::observe(&ctx, &space.namespace, "etcd")).await.unwrap().unwrap();
        let step = Step::ApplySupport { voters: 3 };
        let services = space.api::<Service>();

        let looked = look().await;
        let theirs: Service = create(
            &services,
            json!({ "metadata": { "name": "etcd" }, "spec": { "ports": [{ "port": 80 }] } }),
        )
        .await;
        act::act(&ctx, &looked, &step).await.unwrap();
        assert_eq!(services.get("etcd").await.unwrap(), theirs, "one that was not there yet");
        assert_eq!(plan(&look().await).refusals[0].code, Code::ForeignObject);

        services.delete("etcd", &DeleteParams::default()).await.unwrap();
        act::act(&ctx, &look().await, &step).await.unwrap();
        let looked = look().await;
        assert!(plan(&looked).refusals.is_empty());
        let uid = looked.cluster.uid.clone();
        for ours in [looked.headless.as_ref().unwrap(), looked.client.as_ref().unwrap()] {
            assert_eq!(ours.owner_references()[0].uid, uid);
        }
        assert_ne!(
            plan(&looked).next.step().map(Step::name),
            Some(step.name()),
            "they say all that they should"
        );

        services.delete("etcd", &DeleteParams::default()).await.unwrap();
        act::act(&ctx, &looked, &step).await.unwrap();
        assert!(services.get_opt("etcd").await.unwrap().is_none(), "one that went away");
        let theirs: Service = create(
            &services,
            json!({ "metadata": { "name": "etcd" }, "spec": { "ports": [{ "port": 80 }] } }),
        )
        .await;
        act::act(&ctx, &looked, &step).await.unwrap();
        assert_eq!(services.get("etcd").await.unwrap(), theirs, "one under the name of ours");
    });
}

#[test]
fn what_a_deletion_orphans_is_named_and_once_it_is_removed_the_data_is_taken_over() {
    run("orphans", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 1)).await;
        let orphan =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        let clusters = cluster.api::<EtcdCluster>();
        clusters.delete("etcd", &orphan).await.unwrap();
        until("the EtcdCluster is gone", SAID_WITHIN, async || {
            clusters.get_opt("etcd").await.unwrap().is_none().then_some(())
        })
        .await;
        let pods = cluster.pod_uids().await;
        assert_eq!(pods.len(), 1, "the Pod stays");

        cluster.create(spec("3.5.10", 1)).await;
        cluster.stalled("ForeignObject", SAID_WITHIN).await;
        assert_eq!(cluster.pod_uids().await, pods, "and is not touched");
        let refusals = cluster.status().await.refusals;
        for kind in ["Pod", "Service", "PodDisruptionBudget", "ControllerRevision"] {
            assert!(
                refusals.iter().any(|refusal| refusal.message.contains(kind)),
                "no {kind} in {refusals:?}"
            );
        }
        let kinds = "pod,service,poddisruptionbudget,controllerrevision";
        let removed = std::process::Command::new("kubectl")
            .args(["-n", &space.namespace, "delete", kinds, "-l", "quorate.dev/cluster=etcd"])
            .output()
            .unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
        cluster.ready(FORMED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
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
fn a_storage_class_that_nobody_has_is_a_wait_in_the_schedulers_words() {
    run("unknown-class", async |space| {
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
